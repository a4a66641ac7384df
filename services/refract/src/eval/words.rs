//! Words of an English text with their places, and which of them are so plain that a capital at a sentence's start says nothing.

use std::collections::HashSet;
use std::ops::Range;

/// A run of letters and digits, apostrophes inside included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word<'t> {
    pub(crate) text: &'t str,
    /// In bytes.
    pub(crate) span: Range<usize>,
}

impl Word<'_> {
    pub(crate) fn is_capital(&self) -> bool {
        self.text.starts_with(char::is_uppercase)
    }

    pub(crate) fn has_digit(&self) -> bool {
        self.text.contains(|c: char| c.is_ascii_digit())
    }
}

pub(crate) fn words(text: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut start = None;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next_is_word = chars.peek().is_some_and(|(_, n)| n.is_alphanumeric());
        let inside = c.is_alphanumeric() || (start.is_some() && next_is_word && matches!(c, '\'' | '’'));
        if inside {
            start.get_or_insert(at);
        } else if let Some(start) = start.take() {
            words.push(Word {
                text: &text[start..at],
                span: start..at,
            });
        }
    }
    if let Some(start) = start {
        words.push(Word {
            text: &text[start..],
            span: start..text.len(),
        });
    }
    words
}

/// One blank between words, none around them: how titles and values stand in an answer.
pub(crate) fn tidy(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Lower case, the possessive `'s` gone: for looking words up.
pub(crate) fn bare(word: &str) -> String {
    let lower = word.to_lowercase();
    lower
        .strip_suffix("'s")
        .or_else(|| lower.strip_suffix("’s"))
        .map_or(lower.clone(), str::to_owned)
}

/// Words of grammar and of talk about recommendations: never somebody's name where a sentence begins with them.
const GRAMMAR: &str = "a about above across after again against ahead all along alongside also although always am among an and another any anyone \
anything are around as aside at away back because been before behind being below beside besides between beyond both but by can come \
comes could did do does down during each either else enough even ever every everyone few first for found from further get give given \
go goes had has have having he her here hers him his how however i if in instead into is it its itself just keep keeps know last let \
like likes liked liking little look looking made make makes many may me meet meeting might mine mood more moreover most much must my \
name near never new next no nobody none nor not nothing now of off often on once one only onto or other others our out over own people \
perhaps picked quite rather read really right same say see seeing seen set several she should show since so some someone something \
sometimes soon start step steps still such suited take takes than that the their them then there these they thing this those though \
three through to together too toward towards tried try two under until up upon us usual very visited want was watched way we well were \
what whatever when where whereas whether which while who whom whose why will with within without would yet you your yours";

fn grammar() -> HashSet<&'static str> {
    GRAMMAR.split_whitespace().collect()
}

/// Plain words: those of grammar, and those that a catalogue's own prose writes in lower case.
#[derive(Clone, Debug)]
pub(crate) struct PlainWords {
    grammar: HashSet<&'static str>,
    prose: HashSet<String>,
}

impl PlainWords {
    pub(crate) fn of<'t>(prose: impl Iterator<Item = &'t str>) -> Self {
        let mut seen = HashSet::new();
        for text in prose {
            seen.extend(
                words(text)
                    .into_iter()
                    .filter(|w| w.text.chars().all(char::is_lowercase))
                    .map(|w| w.text.to_owned()),
            );
        }
        // What our sentences begin with and descriptions may lack.
        for word in [
            "directed", "director", "films", "film", "fans", "story", "premise", "cast", "history", "genre",
            "series", "source",
        ] {
            seen.insert(word.to_owned());
        }
        Self {
            grammar: grammar(),
            prose: seen,
        }
    }

    /// Takes a word in any case.
    pub(crate) fn is_grammar(&self, word: &str) -> bool {
        self.grammar.contains(bare(word).as_str())
    }

    /// Takes a word in any case.
    pub(crate) fn is_plain(&self, word: &str) -> bool {
        let bare = bare(word);
        self.grammar.contains(bare.as_str()) || self.prose.contains(&bare)
    }
}
