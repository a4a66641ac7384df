//! Titles, names and descriptions in a text: the longest that the catalogue has, ours before others', case by case.

use std::ops::Range;

use super::{Meaning, Mention};
use crate::eval::lexicon::{Lexicon, Surface};
use crate::eval::scene::Scene;
use crate::eval::words::{Word, words};

/// Nouns for what is recommended: a word before one describes it.
const NOUNS: &[&str] = &[
    "film",
    "films",
    "movie",
    "movies",
    "book",
    "books",
    "novel",
    "novels",
    "place",
    "places",
    "restaurant",
    "restaurants",
    "release",
    "releases",
    "album",
    "albums",
    "product",
    "products",
    "title",
    "titles",
    "series",
    "picture",
    "pictures",
];

/// Descriptions that are nouns themselves: "another drama", "two comedies".
const KIND_NOUNS: &[&str] = &[
    "comedy",
    "comedies",
    "drama",
    "dramas",
    "thriller",
    "thrillers",
    "western",
    "westerns",
    "documentary",
    "documentaries",
    "musical",
    "musicals",
    "melodrama",
    "melodramas",
    "satire",
    "satires",
    "mystery",
    "mysteries",
    "noir",
    "noirs",
];

/// Before a noun phrase.
const ARTICLES: &[&str] = &[
    "a", "an", "A", "An", "another", "Another", "more", "further", "these",
];

/// Finds mentions in one text.
pub(super) struct Reader<'r, 't> {
    lexicon: &'r Lexicon,
    scene: &'r Scene,
    text: &'t str,
    words: &'r [Word<'t>],
    /// Whether each word opens a sentence, a clause after a colon or a quotation.
    opens: Vec<bool>,
}

impl<'r, 't> Reader<'r, 't> {
    pub(super) fn new(lexicon: &'r Lexicon, scene: &'r Scene, text: &'t str, words: &'r [Word<'t>]) -> Self {
        Self {
            lexicon,
            scene,
            text,
            words,
            opens: opening_words(text, words),
        }
    }

    /// Whether a capital at this word may be the sentence's only.
    pub(super) fn opens(&self, n: usize) -> bool {
        self.opens[n]
    }

    /// From the left, the longest surface at each word.
    pub(super) fn mentions(&self) -> Vec<Mention> {
        let mut mentions: Vec<Mention> = Vec::new();
        let mut free_from = 0;
        for (n, word) in self.words.iter().enumerate() {
            if word.span.start < free_from {
                continue;
            }
            let found = self.lexicon.at(self.text, word.span.start, self.opens[n]);
            let Some((surface, span)) = self.choose(n, &found) else {
                continue;
            };
            free_from = span.end;
            mentions.push(Mention {
                meaning: self.meaning(surface, &self.text[..span.start]),
                surface: surface.text.clone(),
                span,
            });
        }
        mentions
    }

    fn choose<'l>(
        &self,
        n: usize,
        found: &[(&'l Surface, Range<usize>)],
    ) -> Option<(&'l Surface, Range<usize>)> {
        for (surface, span) in found {
            let ours = self.is_ours(surface);
            let word = &self.words[n];
            if self.opens[n] && surface.is_single_word() {
                let ordinary = if ours {
                    self.lexicon.plain.is_grammar(word.text)
                } else {
                    self.lexicon.plain.is_plain(word.text)
                };
                if ordinary {
                    continue;
                }
            }
            // "1917" is a year unless the request has a title of that name.
            if !ours && surface.is_number() {
                continue;
            }
            if !ours && self.is_made_of_ours(n, span) {
                continue;
            }
            return Some((surface, span.clone()));
        }
        None
    }

    fn is_ours(&self, surface: &Surface) -> bool {
        !self.scene.titled(&surface.text).is_empty()
            || (surface.is_value && self.scene.anyone_holds(&surface.text))
    }

    /// A foreign surface that only looks like one: "Heat and Dust" where the text lists Heat and Dust, "After Earth" where a
    /// sentence begins with "after" and goes on with Earth.
    fn is_made_of_ours(&self, n: usize, span: &Range<usize>) -> bool {
        let ours_at = |at: usize| {
            let found = self.lexicon.at(self.text, at, false);
            found
                .into_iter()
                .filter(|(s, _)| self.is_ours(s))
                .map(|(_, span)| span.end)
                .max()
        };
        let starts = |from: usize| self.words.iter().map(|w| w.span.start).find(|s| *s >= from);
        if let Some(end) = ours_at(span.start).filter(|end| *end < span.end) {
            let rest = &self.text[end..span.end];
            let connector = [", and ", " and ", ", ", ": ", " & "]
                .iter()
                .find(|c| rest.starts_with(**c));
            if let Some(next) = connector.and_then(|c| starts(end + c.len())) {
                return ours_at(next).is_some_and(|end| end >= span.end);
            }
        }
        let mut place = n;
        while self.opens[n] && place + 1 < self.words.len() && self.words[place].span.end < span.end {
            if !self.lexicon.plain.is_plain(self.words[place].text) {
                return false;
            }
            place += 1;
            if ours_at(self.words[place].span.start).is_some_and(|end| end >= span.end) {
                return true;
            }
        }
        false
    }

    fn meaning(&self, surface: &Surface, before: &str) -> Meaning {
        let places = self.scene.titled(&surface.text);
        // "Toy Story" is a film and a series: after "another part of" it is the series.
        let as_value = surface.is_value && self.scene.anyone_holds(&surface.text) && speaks_of_series(before);
        if !places.is_empty() && !as_value {
            Meaning::Title(places.to_vec())
        } else if surface.is_value && (self.scene.anyone_holds(&surface.text) || !surface.is_title) {
            Meaning::Value
        } else {
            Meaning::ForeignTitle
        }
    }

    /// "Moon" before "Bloodgood" is a part of a name, not the film.
    pub(super) fn longer_names_are_no_titles(&self, mentions: &mut Vec<Mention>) {
        let spans: Vec<Range<usize>> = mentions.iter().map(|m| m.span.clone()).collect();
        let loose_capital = |word: &Word<'_>, n: usize| {
            word.is_capital()
                && !(self.opens[n] && self.lexicon.plain.is_plain(word.text))
                && !spans.iter().any(|s| s.contains(&word.span.start))
        };
        mentions.retain(|mention| {
            if mention.meaning != Meaning::ForeignTitle || words(&mention.surface).len() > 1 {
                return true;
            }
            !self.words.iter().enumerate().any(|(n, word)| {
                let gap = if word.span.end <= mention.span.start {
                    &self.text[word.span.end..mention.span.start]
                } else if word.span.start >= mention.span.end {
                    &self.text[mention.span.end..word.span.start]
                } else {
                    return false;
                };
                matches!(gap, " " | "-" | "'s " | "’s ") && loose_capital(word, n)
            })
        });
    }

    /// "a crime film", "another drama", "it is a romance": values in lower case count only where they describe.
    pub(super) fn descriptors(
        &self,
        mentions: &[Mention],
        in_quote: &dyn Fn(&Range<usize>) -> bool,
    ) -> Vec<Mention> {
        let mut found: Vec<Mention> = Vec::new();
        for n in 0..self.words.len() {
            let lower = self.words[n].text.to_lowercase();
            // The phrase ends before "film", or with "drama" itself, or closes a statement that began with an article.
            let (last, article) = match () {
                () if NOUNS.contains(&lower.as_str()) && n > 0 && self.gap(n - 1) == " " => (n - 1, false),
                () if KIND_NOUNS.contains(&lower.as_str()) => (n, false),
                () if self.closes(n) => (n, true),
                () => continue,
            };
            for length in (1..=(last + 1).min(4)).rev() {
                let first = last + 1 - length;
                let span = self.words[first].span.start..self.words[last].span.end;
                let phrase = &self.text[span.clone()];
                let overlaps = |m: &Mention| m.span.start < span.end && span.start < m.span.end;
                let free = !mentions.iter().chain(&found).any(overlaps) && !in_quote(&span);
                let after_article =
                    first > 0 && self.gap(first - 1) == " " && ARTICLES.contains(&self.words[first - 1].text);
                if free && (after_article || !article) && self.lexicon.is_descriptor(phrase) {
                    found.push(Mention {
                        surface: phrase.to_lowercase(),
                        span,
                        meaning: Meaning::Value,
                    });
                    break;
                }
            }
        }
        found
    }

    /// What stands between a word and the next.
    fn gap(&self, n: usize) -> &str {
        let end = self
            .words
            .get(n + 1)
            .map_or(self.text.len(), |next| next.span.start);
        &self.text[self.words[n].span.end..end]
    }

    /// Whether a noun phrase can end with this word.
    fn closes(&self, n: usize) -> bool {
        const AFTER: &[&str] = &[
            "to", "after", "like", "with", "from", "by", "beside", "before", "that", "which", "is", "and",
            "such",
        ];
        self.gap(n) != " "
            || self
                .words
                .get(n + 1)
                .is_none_or(|next| AFTER.contains(&next.text))
    }

    /// `1990s`, and years that somebody of the request has.
    pub(super) fn decades(
        &self,
        mentions: &[Mention],
        in_quote: &dyn Fn(&Range<usize>) -> bool,
    ) -> Vec<Mention> {
        let free = |span: &Range<usize>| {
            !in_quote(span)
                && !mentions
                    .iter()
                    .any(|m| m.span.start < span.end && span.start < m.span.end)
        };
        let year = |text: &str| {
            let digits = text
                .strip_suffix('s')
                .filter(|d| d.ends_with('0'))
                .unwrap_or(text);
            digits.len() == 4
                && digits.bytes().all(|b| b.is_ascii_digit())
                && matches!(digits.as_bytes()[0], b'1' | b'2')
        };
        let candidates = self.words.iter().filter(|w| year(w.text) && free(&w.span));
        candidates
            .filter(|w| self.scene.anyone_holds(w.text) || w.text.ends_with('s'))
            .map(|w| Mention {
                span: w.span.clone(),
                surface: w.text.to_owned(),
                meaning: Meaning::Value,
            })
            .collect()
    }
}

fn speaks_of_series(before: &str) -> bool {
    const PHRASES: [&str; 9] = [
        "part of ",
        "parts of ",
        "more of ",
        "back to ",
        "belong to ",
        "belongs to ",
        "series, ",
        "series ",
        "series: ",
    ];
    let lower = before.to_lowercase();
    let sentence = lower.rsplit(['.', '!', '?']).next().unwrap_or_default();
    let bare = lower.strip_suffix("the ").unwrap_or(&lower);
    PHRASES.iter().any(|phrase| bare.ends_with(phrase))
        || (lower.ends_with(": ") && sentence.contains("series"))
}

fn opening_words(text: &str, words: &[Word<'_>]) -> Vec<bool> {
    let opens = |word: &Word<'_>| {
        let before = text[..word.span.start].trim_end_matches([' ', '"', '“', '‘', '(']);
        before.is_empty() || before.ends_with(['.', '!', '?', ':'])
    };
    words.iter().map(opens).collect()
}
