//! Cutting streamed plain text into sentences, where the stops inside known titles and names do not mislead.

use std::sync::Arc;

/// Longest stretch that is held back while no sentence ends, in bytes; beyond it the stretch is given out as it is (and refused).
const PENDING_BYTES_MAX: usize = 4_096;

const ABBREVIATIONS: &[&str] = &[
    "mr", "mrs", "ms", "dr", "st", "jr", "sr", "vs", "lt", "col", "sgt", "capt", "prof", "no", "vol", "pt",
    "ft",
];

/// Collects text and gives out whole sentences.
#[derive(Clone, Debug)]
pub struct Sentences {
    /// Known titles and values with a stop inside, or a last word that looks like an abbreviation.
    surfaces: Vec<Arc<[String]>>,
    pending: String,
}

impl Sentences {
    pub(crate) fn new(surfaces: Vec<Arc<[String]>>) -> Self {
        Self {
            surfaces,
            pending: String::new(),
        }
    }

    /// Adds text; what comes back are sentences without blanks around them.
    pub fn push(&mut self, delta: &str) -> Vec<String> {
        self.pending.push_str(delta);
        let mut out = Vec::new();
        while let Some(end) = self.boundary() {
            let rest = self.pending.split_off(end);
            let sentence = std::mem::replace(&mut self.pending, rest);
            push_trimmed(&mut out, &sentence);
        }
        if self.pending.len() > PENDING_BYTES_MAX {
            push_trimmed(&mut out, &std::mem::take(&mut self.pending));
        }
        out
    }

    /// What is left when the text has ended.
    pub fn finish(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.pending);
        let trimmed = rest.trim();
        (!trimmed.is_empty()).then(|| trimmed.to_owned())
    }

    /// Where the first sentence ends, once the character after it is known.
    fn boundary(&self) -> Option<usize> {
        let text = self.pending.as_str();
        for (at, c) in text.char_indices() {
            if c == '\n' && !text[..at].trim().is_empty() {
                return Some(at + 1);
            }
            if !matches!(c, '.' | '!' | '?') {
                continue;
            }
            let mut end = at + c.len_utf8();
            while let Some(next) = text[end..]
                .chars()
                .next()
                .filter(|n| matches!(n, '.' | '!' | '?' | '"' | '”' | '’' | '\'' | ')'))
            {
                end += next.len_utf8();
            }
            let after = &text[end..];
            let next = after.trim_start().chars().next()?;
            let begins = after.starts_with(char::is_whitespace)
                && !next.is_lowercase()
                && !matches!(next, ',' | ';' | ':');
            if begins && !(c == '.' && self.is_abbreviation(at)) && !self.inside_surface(at) {
                return Some(end);
            }
        }
        None
    }

    fn is_abbreviation(&self, at: usize) -> bool {
        let before = self.pending[..at]
            .rsplit(|c: char| c.is_whitespace() || matches!(c, '.' | '(' | '"'))
            .next()
            .unwrap_or_default();
        // "The Man from Planet X." ends there.
        if self
            .surfaces
            .iter()
            .flat_map(|surfaces| surfaces.iter())
            .any(|surface| self.pending[..at].ends_with(surface.as_str()))
        {
            return false;
        }
        before.chars().count() <= 1 || ABBREVIATIONS.contains(&before.to_lowercase().as_str())
    }

    /// Whether the stop at `at` is, or may become, part of a known title or name.
    fn inside_surface(&self, at: usize) -> bool {
        self.surfaces
            .iter()
            .flat_map(|surfaces| surfaces.iter())
            .any(|surface| {
                surface
                    .char_indices()
                    .filter(|(_, c)| matches!(c, '.' | '!' | '?'))
                    .any(|(stop, _)| {
                        // The stops at the end of a title may well end the sentence ("When Harry Met Sally... It has …").
                        if surface[stop..].chars().all(|c| matches!(c, '.' | '!' | '?')) || stop > at {
                            return false;
                        }
                        let start = at - stop;
                        let Some(here) = self.pending.get(start..) else {
                            return false;
                        };
                        here.bytes().zip(surface.bytes()).all(|(a, b)| a == b)
                    })
            })
    }
}

fn push_trimmed(out: &mut Vec<String>, sentence: &str) {
    let trimmed = sentence.trim();
    if !trimmed.is_empty() {
        out.push(trimmed.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_inside_titles_and_abbreviations_do_not_cut_however_the_text_is_streamed() {
        let surfaces: Vec<Arc<[String]>> = vec![
            Arc::new(["Good Night. And Good Luck".to_owned()]),
            Arc::new([
                "Mr. & Mrs. Smith".to_owned(),
                "When Harry Met Sally...".to_owned(),
            ]),
            Arc::new(["Once Upon a Time... in Hollywood".to_owned()]),
        ];
        let text = "Like Good Night. And Good Luck, it is by G. Clooney. You liked Mr. & Mrs. Smith! It fits? It has \
             an actor of When Harry Met Sally... It is one more after When Harry Met Sally... and Once Upon a Time... in \
             Hollywood. Yes";
        let expected = [
            "Like Good Night. And Good Luck, it is by G. Clooney.",
            "You liked Mr. & Mrs. Smith!",
            "It fits?",
            "It has an actor of When Harry Met Sally...",
            "It is one more after When Harry Met Sally... and Once Upon a Time... in Hollywood.",
            "Yes",
        ];
        for step in [1, 2, 3, 7, 200] {
            let mut cutter = Sentences::new(surfaces.clone());
            let mut found = Vec::new();
            let chars: Vec<char> = text.chars().collect();
            for chunk in chars.chunks(step) {
                found.extend(cutter.push(&chunk.iter().collect::<String>()));
            }
            found.extend(cutter.finish());
            assert_eq!(found, expected, "step {step}");
        }
    }
}
