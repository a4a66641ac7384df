//! Cutting a text: quotations of the item's description, unfilled slots, sentences, points.

use std::ops::Range;

use super::Mention;
use crate::eval::lexicon::{Family, Lexicon};
use crate::eval::scene::Scene;
use crate::eval::words::{Word, words};

/// Words in a row that make a quotation of the item's own description.
pub(super) const QUOTE_WORDS_MIN: usize = 4;

/// Words that say who made a thing: they are never taken for a quotation, for who made it is to be checked.
const MAKING: &[&str] = &[
    "directed", "director", "starring", "stars", "star", "cast", "film", "films", "movie", "written",
    "author", "novel", "book",
];

/// Runs of words that the item's own description or premise has in the same order.
pub(super) fn quotations(scene: &Scene, text: &[Word<'_>]) -> Vec<Range<usize>> {
    let lower = |w: &Word<'_>| w.text.to_lowercase();
    let said: Vec<String> = text.iter().map(lower).collect();
    let item = scene.item();
    let premises = item
        .attributes
        .iter()
        .filter(|(name, _)| Family::of(name) == Family::Prose)
        .flat_map(|(_, values)| values);
    // A premise may say "film"; elsewhere who made a thing is not hidden in a quotation.
    let sources = premises
        .map(|p| (p.as_str(), true))
        .chain([(item.description.as_str(), false)]);
    let mut found: Vec<Range<usize>> = Vec::new();
    for (source, whole) in sources {
        let source: Vec<String> = words(source).iter().map(lower).collect();
        let same = |(a, b): &(&String, &String)| a == b && (whole || !MAKING.contains(&a.as_str()));
        let mut n = 0;
        while n < said.len() {
            let longest = (0..source.len())
                .map(|m| said[n..].iter().zip(&source[m..]).take_while(same).count())
                .max()
                .unwrap_or(0);
            if longest >= QUOTE_WORDS_MIN {
                found.push(text[n].span.start..text[n + longest - 1].span.end);
                n += longest;
            } else {
                n += 1;
            }
        }
    }
    found
}

pub(super) fn slots(text: &str) -> Vec<(Range<usize>, String)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices('<') {
        let name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '/';
        let length = text[at + 1..].chars().take_while(|c| name(*c)).count();
        if length > 0 && length <= 16 && text[at + 1 + length..].starts_with('>') {
            let span = at..at + length + 2;
            found.push((span.clone(), text[span].to_owned()));
        }
    }
    found
}

pub(super) fn sentences(lexicon: &Lexicon, text: &str, mentions: &[Mention]) -> Vec<Range<usize>> {
    let inside = |at: usize| mentions.iter().any(|m| m.span.contains(&at));
    // "… after Moulin Rouge! It …": the title's own mark ends the sentence too, if what follows can begin one.
    let titles_end = |end: usize| {
        let next = words(&text[end..]).first().map(|w| w.text.to_owned());
        mentions.iter().any(|m| m.span.end == end)
            && text[end..].starts_with(' ')
            && next.is_some_and(|next| next.starts_with(char::is_uppercase) && lexicon.plain.is_plain(&next))
    };
    let mut found = Vec::new();
    let mut start = 0;
    for (at, c) in text.char_indices().filter(|(_, c)| matches!(c, '.' | '!' | '?')) {
        let end = at + c.len_utf8();
        let after = text[end..].chars().next();
        let closes = after.is_none_or(|c| c.is_whitespace() || matches!(c, '"' | '”' | ')'));
        // A capital initial with its stop is no end ("F. W.").
        let before: Vec<char> = text[..at].chars().rev().take(2).collect();
        let initial = c == '.'
            && before.first().is_some_and(|c| c.is_uppercase())
            && !before.get(1).is_some_and(|c| c.is_alphanumeric())
            && !mentions.iter().any(|m| m.span.end == at);
        let ends = if inside(at) {
            titles_end(end)
        } else {
            closes && !(initial && after.is_some())
        };
        if ends {
            found.push(start..end);
            start = end;
        }
    }
    if !text[start..].trim().is_empty() {
        found.push(start..text.len());
    }
    found
}

pub(super) fn points(text: &str, sentence: &Range<usize>, mentions: &[Mention]) -> Vec<Range<usize>> {
    const JOINT: &str = ", and ";
    let mut found = Vec::new();
    let mut start = sentence.start;
    for (at, _) in text[sentence.clone()].match_indices(JOINT) {
        let at = sentence.start + at;
        if !mentions.iter().any(|m| m.span.contains(&at)) {
            found.push(start..at);
            start = at + JOINT.len();
        }
    }
    found.push(start..sentence.end);
    found
}

pub(super) fn blanked(
    text: &str,
    span: &Range<usize>,
    mentions: &[Mention],
    quoted: &[Range<usize>],
) -> String {
    let blank = |at: usize| {
        mentions
            .iter()
            .map(|m| &m.span)
            .chain(quoted)
            .any(|s| s.contains(&at))
    };
    let mut out = String::with_capacity(span.len());
    for (at, c) in text[span.clone()].char_indices() {
        // Byte for byte, so that places in the cues are places in the text.
        if blank(span.start + at) || !c.is_ascii() {
            out.extend(std::iter::repeat_n('~', c.len_utf8()));
        } else {
            out.push(c.to_ascii_lowercase());
        }
    }
    out
}
