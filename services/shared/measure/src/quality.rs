//! Is a teacher's text worth learning from: a cheap score that ranks candidates, and a filter with reasons.
//!
//! Score = 1.8 · overlap + 0.8 · distinct − 1.2 · repeat, where overlap is the share of the text's words that its source has,
//! distinct the share of different words, repeat the rest (the values of the published recipe).

use std::collections::HashSet;
use std::fmt;

use crate::words::{Words, words};

/// What a text must keep to. Doc comments are the manual.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Fewest words. Default 6.
    pub words_min: usize,
    /// Most words. Default 80.
    pub words_max: usize,
    /// Largest share of words said before in the same text. Default 0.55.
    pub repeat_max: f64,
    /// Smallest share of words that the source has too. Default 0.12.
    pub overlap_min: f64,
    /// Smallest score. Default 0.35.
    pub score_min: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            words_min: 6,
            words_max: 80,
            repeat_max: 0.55,
            overlap_min: 0.12,
            score_min: 0.35,
        }
    }
}

/// What was found in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quality {
    pub words: usize,
    pub overlap: f64,
    pub distinct: f64,
    pub repeat: f64,
    pub score: f64,
}

/// Why a text is not kept; a closed list, for reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    TooShort,
    TooLong,
    Repetitive,
    Unrelated,
    LowScore,
}

impl Fault {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooShort => "too_short",
            Self::TooLong => "too_long",
            Self::Repetitive => "repetitive",
            Self::Unrelated => "unrelated_to_its_source",
            Self::LowScore => "low_score",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Quality {
    /// `source` is what the text may draw on (history and item), without the words of an instruction.
    pub fn of(text: &str, source: &str) -> Self {
        let said = words(text, Words::Any);
        if said.is_empty() {
            return Self {
                repeat: 1.0,
                score: -1.2,
                ..Self::default()
            };
        }
        let known: HashSet<String> = words(source, Words::Any).into_iter().collect();
        let share = |part: usize| part as f64 / said.len() as f64;
        let overlap = share(said.iter().filter(|w| known.contains(*w)).count());
        let distinct = share(said.iter().collect::<HashSet<_>>().len());
        let repeat = 1.0 - distinct;
        Self {
            words: said.len(),
            overlap,
            distinct,
            repeat,
            score: 1.8 * overlap + 0.8 * distinct - 1.2 * repeat,
        }
    }

    /// The first thing that is wrong with it.
    pub fn check(&self, config: &Config) -> Result<(), Fault> {
        let faults = [
            (self.words < config.words_min, Fault::TooShort),
            (self.words > config.words_max, Fault::TooLong),
            (self.repeat > config.repeat_max, Fault::Repetitive),
            (self.overlap < config.overlap_min, Fault::Unrelated),
            (self.score < config.score_min, Fault::LowScore),
        ];
        match faults.into_iter().find(|(wrong, _)| *wrong) {
            Some((_, fault)) => Err(fault),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "Heat (1995), Thief (1981). Collateral (2004), director Michael Mann";

    #[test]
    fn a_grounded_sentence_is_kept_and_garbage_is_told_apart() {
        let config = Config::default();
        for (text, expected) in [
            (
                "Michael Mann directed Heat and Thief, and Collateral is his too.",
                Ok(()),
            ),
            ("", Err(Fault::TooShort)),
            ("Great film.", Err(Fault::TooShort)),
            ("Heat heat heat heat heat heat heat heat", Err(Fault::Repetitive)),
            (
                "An uplifting documentary about penguins that everyone loves",
                Err(Fault::Unrelated),
            ),
        ] {
            assert_eq!(Quality::of(text, SOURCE).check(&config), expected, "{text}");
        }
        let long = (0..81).map(|n| format!("w{n} ")).collect::<String>();
        assert_eq!(Quality::of(&long, &long).check(&config), Err(Fault::TooLong));
    }

    #[test]
    fn the_score_is_the_published_sum() {
        // 4 words, 3 different, 2 of the 4 known.
        let quality = Quality::of("heat heat is good", "Heat");
        assert_eq!((quality.words, quality.overlap, quality.distinct), (4, 0.5, 0.75));
        assert!((quality.score - (0.9 + 0.6 - 0.3)).abs() < 1e-12);
    }
}
