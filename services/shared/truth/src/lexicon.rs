//! Words that need no support, and words that do.

use std::collections::HashSet;
use std::sync::OnceLock;

use crate::text::{fold, words};

/// Plain English words that claim nothing about an item: they may open a sentence and are never taken for a title.
const COMMON: &str = include_str!("common.txt");
/// Words for genres, themes and cuisines: said of an item, they must be in its data.
const GENRES: &str = include_str!("genres.txt");

fn set(
    cell: &'static OnceLock<HashSet<&'static str>>,
    text: &'static str,
    by_line: bool,
) -> &'static HashSet<&'static str> {
    cell.get_or_init(|| {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        if by_line {
            lines.map(str::trim).filter(|l| !l.is_empty()).collect()
        } else {
            lines.flat_map(str::split_whitespace).collect()
        }
    })
}

/// Takes a folded word.
pub(crate) fn is_common(word: &str) -> bool {
    static SET: OnceLock<HashSet<&'static str>> = OnceLock::new();
    set(&SET, COMMON, false).contains(word)
}

/// Whether a text is made of common words only and has no capital that would tell it from them.
pub(crate) fn is_common_phrase(text: &str) -> bool {
    let words = words(text);
    words.iter().all(|w| !w.capital && is_common(&w.folded))
}

pub(crate) fn genres() -> &'static HashSet<&'static str> {
    static SET: OnceLock<HashSet<&'static str>> = OnceLock::new();
    set(&SET, GENRES, true)
}

/// Whether a value is a known genre (or several known words), so that it may be written in lower case.
pub(crate) fn is_genre_phrase(text: &str) -> bool {
    let folded = fold(text).replace('-', " ");
    genres().contains(folded.as_str())
        || words(&folded)
            .iter()
            .all(|w| genres().contains(w.folded.as_str()) || is_common(&w.folded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_is_both_common_and_a_genre() {
        assert_eq!(
            genres().iter().filter(|g| is_common(g)).collect::<Vec<_>>(),
            Vec::<&&str>::new()
        );
    }

    #[test]
    fn every_word_of_our_own_sentences_is_common() {
        for pattern in crate::phrase::all_patterns() {
            let text: String = pattern
                .split('{')
                .enumerate()
                .map(|(n, c)| if n == 0 { c } else { c.split_once('}').unwrap().1 })
                .collect::<Vec<_>>()
                .join(" ");
            for word in words(&text) {
                assert!(is_common(&word.folded), "{} in {pattern}", word.folded);
            }
        }
    }
}
