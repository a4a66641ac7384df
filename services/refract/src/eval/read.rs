//! Reading a text: which titles, values and quotations it holds, and how it divides into sentences and points.

mod cut;
mod mentions;

use std::ops::Range;

use super::lexicon::Lexicon;
use super::scene::{Place, Scene};
use super::words::{Word, words};
use mentions::Reader;

/// A stretch of the text with a meaning.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mention {
    pub(crate) span: Range<usize>,
    pub(crate) surface: String,
    pub(crate) meaning: Meaning,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Meaning {
    /// The title of the item or of history items (several have the same); perhaps a value as well.
    Title(Vec<Place>),
    /// A title of the catalogue that the request does not hold.
    ForeignTitle,
    /// A name, genre, series, decade: true or not is for the checks to say.
    Value,
}

/// A text, read against one request and the whole catalogue.
#[derive(Clone, Debug)]
pub(crate) struct Reading<'t> {
    pub(crate) text: &'t str,
    pub(crate) sentences: Vec<Sentence>,
    /// Capitalised words that the request does not hold anywhere.
    pub(crate) untraceable_words: Vec<String>,
    pub(crate) untraceable_numbers: Vec<String>,
    /// `<p3>`: a slot that nobody filled.
    pub(crate) slots: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Sentence {
    pub(crate) points: Vec<Point>,
}

/// What one ", and" joins to another: one thing said.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    pub(crate) mentions: Vec<Mention>,
    /// Lower case, mentions and quotations blanked to `~`: for cues. Byte `n` is byte `span.start + n` of the text.
    pub(crate) cues: String,
    pub(crate) span: Range<usize>,
    /// Plain words that are neither grammar nor mentions nor quoted.
    pub(crate) content: Vec<String>,
}

impl Point {
    pub(crate) fn has_cue(&self, cues: &[&str]) -> bool {
        cues.iter().any(|cue| contains_word(&self.cues, cue))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Mention> {
        self.mentions.iter().filter(|m| m.meaning == Meaning::Value)
    }
}

/// Whether `cue` stands in `text` between word boundaries.
pub(crate) fn contains_word(text: &str, cue: &str) -> bool {
    find_words(text, cue).next().is_some()
}

pub(crate) fn find_words<'t>(text: &'t str, cue: &'t str) -> impl Iterator<Item = usize> + 't {
    text.match_indices(cue).map(|(at, _)| at).filter(move |at| {
        let before = text[..*at].chars().next_back();
        let after = text[at + cue.len()..].chars().next();
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    })
}

impl Reading<'_> {
    /// The text with `·` for each title, value and quotation.
    pub(crate) fn wording(&self) -> String {
        let mut out = String::new();
        for point in self.sentences.iter().flat_map(|s| &s.points) {
            for c in point.cues.chars() {
                match c {
                    '~' if out.ends_with('·') => {}
                    '~' => out.push('·'),
                    c => out.push(c),
                }
            }
        }
        out.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

pub(crate) fn read<'t>(lexicon: &Lexicon, scene: &Scene, text: &'t str) -> Reading<'t> {
    let all = words(text);
    let mut quoted = cut::quotations(scene, &all);
    let slots = cut::slots(text);
    let reader = Reader::new(lexicon, scene, text, &all);
    let mut mentions = reader.mentions();
    // Titles and names make no quotation by themselves, though a description may begin with them.
    let is_named = |word: &Word<'_>| {
        mentions
            .iter()
            .any(|m| m.span.start <= word.span.start && word.span.end <= m.span.end)
    };
    let own_words = |q: &Range<usize>| {
        all.iter()
            .filter(|w| q.start <= w.span.start && w.span.end <= q.end && !is_named(w))
            .count()
    };
    quoted.retain(|q| own_words(q) >= cut::QUOTE_WORDS_MIN);
    let in_quote = |span: &Range<usize>| quoted.iter().any(|q| q.start <= span.start && span.end <= q.end);
    // Inside a quotation of the description the words are the item's, whatever else they may be.
    mentions.retain(|m| !in_quote(&m.span));
    reader.longer_names_are_no_titles(&mut mentions);
    mentions.extend(reader.descriptors(&mentions, &in_quote));
    mentions.extend(reader.decades(&mentions, &in_quote));
    mentions.sort_by_key(|m| m.span.start);
    let covered = |span: &Range<usize>| {
        in_quote(span)
            || slots.iter().any(|(at, _)| at.contains(&span.start))
            || mentions
                .iter()
                .any(|m| m.span.start <= span.start && span.end <= m.span.end)
    };
    let mut reading = Reading {
        text,
        sentences: Vec::new(),
        untraceable_words: Vec::new(),
        untraceable_numbers: Vec::new(),
        slots: slots.iter().map(|(_, slot)| slot.clone()).collect(),
    };
    for (n, word) in all.iter().enumerate().filter(|(_, word)| !covered(&word.span)) {
        if word.has_digit() {
            if !scene.is_traceable(word.text) {
                reading.untraceable_numbers.push(word.text.to_owned());
            }
        } else if word.is_capital()
            && word.text != "I"
            && !(reader.opens(n) && lexicon.plain.is_plain(word.text))
            && !scene.is_traceable(word.text)
        {
            reading.untraceable_words.push(word.text.to_owned());
        }
    }
    for span in cut::sentences(lexicon, text, &mentions) {
        let points = cut::points(text, &span, &mentions).into_iter().map(|point| {
            let inside = |s: &Range<usize>| point.start <= s.start && s.end <= point.end;
            let content = all.iter().filter(|w| {
                inside(&w.span) && !covered(&w.span) && w.text.len() > 3 && !lexicon.plain.is_grammar(w.text)
            });
            Point {
                mentions: mentions.iter().filter(|m| inside(&m.span)).cloned().collect(),
                cues: cut::blanked(text, &point, &mentions, &quoted),
                content: content.map(|w| w.text.to_lowercase()).collect(),
                span: point,
            }
        });
        reading.sentences.push(Sentence {
            points: points.collect(),
        });
    }
    reading
}
