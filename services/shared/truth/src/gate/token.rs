//! A sentence as tokens: known stretches, words, marks; and its cutting into statements.

use std::ops::Range;

use super::known::Meaning;
use super::refusal::Refusal;
use crate::premise::Form;
use crate::render::Mention;
use crate::text::{Word, is_invisible, looks_like_link};

use super::SENTENCE_CHARS_MAX;

/// A known stretch of a sentence.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) titles: Vec<usize>,
    pub(super) values: Vec<String>,
    pub(super) label: Option<String>,
    pub(super) plot: bool,
    /// Of a premise given by a slot.
    pub(super) form: Option<Form>,
    /// Given by a slot, not matched.
    pub(super) fixed: bool,
    /// A title that is also a value, beside a word such as "series".
    pub(super) as_value: bool,
}

impl Found {
    pub(super) fn of(meanings: &[Meaning]) -> Self {
        let mut found = Self::default();
        for meaning in meanings {
            match meaning {
                Meaning::Title(n) => found.titles.push(*n),
                Meaning::Value(value) if !found.values.contains(value) => found.values.push(value.clone()),
                Meaning::Label(label) => found.label = Some(label.clone()),
                Meaning::Value(_) => {}
            }
        }
        found
    }

    pub(super) fn is_label_only(&self) -> bool {
        self.label.is_some() && self.titles.is_empty() && self.values.is_empty() && !self.plot
    }

    pub(super) fn reads_as_value(&self) -> bool {
        !self.values.is_empty() && (self.titles.is_empty() || self.as_value)
    }
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Word(Word),
    Found(Found),
    Mark(char),
}

#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) span: Range<usize>,
    pub(super) kind: Kind,
}

impl Token {
    pub(super) fn titles(&self) -> impl Iterator<Item = usize> {
        let titles = match &self.kind {
            Kind::Found(found) => found.titles.as_slice(),
            _ => &[],
        };
        titles.iter().copied()
    }

    pub(super) fn word(&self) -> Option<&Word> {
        match &self.kind {
            Kind::Word(word) => Some(word),
            _ => None,
        }
    }
}

/// Counts of a whole sentence, for number words.
pub(super) struct Sentence {
    pub(super) titles: Vec<usize>,
    pub(super) history: Vec<usize>,
    pub(super) values: usize,
}

impl Sentence {
    pub(super) fn of(tokens: &[Token]) -> Self {
        let mut titles: Vec<usize> = tokens.iter().filter_map(|t| t.titles().next()).collect();
        titles.sort_unstable();
        titles.dedup();
        let history = titles.iter().copied().filter(|n| *n > 0).collect();
        let values = tokens
            .iter()
            .filter(|t| matches!(&t.kind, Kind::Found(f) if f.reads_as_value()))
            .count();
        Self {
            titles,
            history,
            values,
        }
    }
}

/// The values that a sentence names anywhere, folded.
pub(super) fn values_said(tokens: &[Token]) -> Vec<String> {
    tokens
        .iter()
        .filter_map(|token| match &token.kind {
            Kind::Found(found) if found.reads_as_value() => Some(&found.values),
            _ => None,
        })
        .flatten()
        .cloned()
        .collect()
}

/// Statements of a sentence: cut at `;`, at a dash, and at ", and" and its like, but not before one that only says the same of
/// something else (", and so does Heat"): what it says stands in front.
pub(super) fn statements(tokens: &[Token]) -> impl Iterator<Item = &[Token]> {
    let mut cuts = vec![0];
    for (n, token) in tokens.iter().enumerate() {
        let cut = match &token.kind {
            Kind::Mark(';' | '—' | '–') => true,
            Kind::Mark(',') => tokens.get(n + 1).and_then(Token::word).is_some_and(|w| {
                matches!(
                    w.folded.as_str(),
                    "and" | "but" | "while" | "whereas" | "yet" | "so"
                )
            }),
            _ => false,
        };
        if cut && n > 0 && !leans(&tokens[n + 1..]) {
            cuts.push(n + 1);
        }
    }
    cuts.push(tokens.len());
    let pairs: Vec<(usize, usize)> = cuts
        .windows(2)
        .map(|w| (w[0], w[1]))
        .filter(|(a, b)| a < b)
        .collect();
    pairs.into_iter().map(|(from, to)| &tokens[from..to])
}

/// Whether the statement at the start of `tokens` has no content but "so does" or "does too".
fn leans(tokens: &[Token]) -> bool {
    const AUXILIARIES: &[&str] = &[
        "do", "does", "did", "is", "are", "was", "were", "has", "have", "had", "can", "will", "would",
    ];
    const LIKEWISE: &[&str] = &["too", "also", "likewise", "well"];
    let end = tokens.iter().position(|t| matches!(t.kind, Kind::Mark(_)));
    let statement = &tokens[..end.unwrap_or(tokens.len())];
    if statement
        .iter()
        .any(|t| matches!(&t.kind, Kind::Found(f) if f.titles.is_empty()))
    {
        return false;
    }
    let is = |token: &Token, list: &[&str]| token.word().is_some_and(|w| list.contains(&w.folded.as_str()));
    let so_does = statement
        .windows(2)
        .any(|pair| is(&pair[0], &["so", "as"]) && is(&pair[1], AUXILIARIES));
    let does_too = statement.last().is_some_and(|t| is(t, LIKEWISE))
        && statement.iter().rev().skip(1).take(3).any(|t| is(t, AUXILIARIES));
    so_does || does_too
}

/// Length, alphabet, links, the stop at the end.
pub(super) fn bounds(sentence: &str, mentions: &[Mention]) -> Result<(), Refusal> {
    if sentence.chars().count() > SENTENCE_CHARS_MAX {
        return Err(Refusal::TooLong);
    }
    if mentions.iter().any(|m| sentence.get(m.span.clone()).is_none()) {
        return Err(Refusal::Characters);
    }
    let mut free = String::with_capacity(sentence.len());
    for (at, c) in sentence.char_indices() {
        if c.is_control() || is_invisible(c) || matches!(c, '<' | '>' | '{' | '}' | '|' | '\\' | '`') {
            return Err(Refusal::Characters);
        }
        free.push(if mentions.iter().any(|m| m.span.contains(&at)) {
            ' '
        } else {
            c
        });
    }
    if looks_like_link(&free) {
        return Err(Refusal::Link);
    }
    let end = sentence.trim_end_matches(['"', '”', '’', '\'', ')']);
    if !end.ends_with(['.', '!', '?']) {
        return Err(Refusal::Unfinished);
    }
    Ok(())
}
