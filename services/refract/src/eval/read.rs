//! Reading a text: which titles, values and quotations it holds, and how it divides into sentences and points.

use std::ops::Range;

use super::lexicon::{Family, Lexicon, Surface};
use super::scene::{Place, Scene};
use super::words::{Word, words};

/// Words in a row that make a quotation of the item's own description.
const QUOTE_WORDS_MIN: usize = 4;

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
    let mut quoted = quotations(scene, &all);
    let slots = slots(text);
    let reader = Reader {
        lexicon,
        scene,
        text,
        words: &all,
        opens: opening_words(text, &all),
    };
    let mut mentions = reader.mentions();
    // A title is no quotation, though the description may begin with it.
    let is_title = |word: &Word<'_>| {
        mentions.iter().any(|m| {
            matches!(m.meaning, Meaning::Title(_))
                && m.span.start <= word.span.start
                && word.span.end <= m.span.end
        })
    };
    quoted.retain(|q| {
        all.iter()
            .filter(|w| q.start <= w.span.start && w.span.end <= q.end && !is_title(w))
            .count()
            >= QUOTE_WORDS_MIN
    });
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
            && !(reader.opens[n] && lexicon.plain.is_plain(word.text))
            && !scene.is_traceable(word.text)
        {
            reading.untraceable_words.push(word.text.to_owned());
        }
    }
    for span in sentences(lexicon, text, &mentions) {
        let points = points(text, &span, &mentions).into_iter().map(|point| {
            let inside = |s: &Range<usize>| point.start <= s.start && s.end <= point.end;
            let content = all.iter().filter(|w| {
                inside(&w.span) && !covered(&w.span) && w.text.len() > 3 && !lexicon.plain.is_grammar(w.text)
            });
            Point {
                mentions: mentions.iter().filter(|m| inside(&m.span)).cloned().collect(),
                cues: blanked(text, &point, &mentions, &quoted),
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

struct Reader<'r, 't> {
    lexicon: &'r Lexicon,
    scene: &'r Scene,
    text: &'t str,
    words: &'r [Word<'t>],
    /// Whether each word opens a sentence, a clause after a colon or a quotation.
    opens: Vec<bool>,
}

impl Reader<'_, '_> {
    /// From the left, the longest surface at each word.
    fn mentions(&self) -> Vec<Mention> {
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
                meaning: self.meaning(surface),
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

    fn meaning(&self, surface: &Surface) -> Meaning {
        let places = self.scene.titled(&surface.text);
        if !places.is_empty() {
            Meaning::Title(places.to_vec())
        } else if surface.is_value && (self.scene.anyone_holds(&surface.text) || !surface.is_title) {
            Meaning::Value
        } else {
            Meaning::ForeignTitle
        }
    }

    /// "Moon" before "Bloodgood" is a part of a name, not the film.
    fn longer_names_are_no_titles(&self, mentions: &mut Vec<Mention>) {
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

    /// "a crime film", "another drama": values in lower case count only where they describe.
    fn descriptors(&self, mentions: &[Mention], in_quote: &dyn Fn(&Range<usize>) -> bool) -> Vec<Mention> {
        let mut found: Vec<Mention> = Vec::new();
        for (n, noun) in self.words.iter().enumerate() {
            let lower = noun.text.to_lowercase();
            // The phrase ends before "film", or with "drama" itself.
            let last = match () {
                () if NOUNS.contains(&lower.as_str()) && n > 0 => n - 1,
                () if KIND_NOUNS.contains(&lower.as_str()) => n,
                () => continue,
            };
            for length in (1..=(last + 1).min(4)).rev() {
                let span = self.words[last + 1 - length].span.start..self.words[last].span.end;
                let phrase = &self.text[span.clone()];
                let close = last == n || self.text[span.end..noun.span.start] == *" ";
                let overlaps = |m: &Mention| m.span.start < span.end && span.start < m.span.end;
                let free = !mentions.iter().chain(&found).any(overlaps) && !in_quote(&span);
                if close && free && self.lexicon.is_descriptor(phrase) {
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

    /// `1990s`, and years that somebody of the request has.
    fn decades(&self, mentions: &[Mention], in_quote: &dyn Fn(&Range<usize>) -> bool) -> Vec<Mention> {
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

fn opening_words(text: &str, words: &[Word<'_>]) -> Vec<bool> {
    let opens = |word: &Word<'_>| {
        let before = text[..word.span.start].trim_end_matches([' ', '"', '“', '‘', '(']);
        before.is_empty() || before.ends_with(['.', '!', '?', ':'])
    };
    words.iter().map(opens).collect()
}

/// Words that say who made a thing: they are never taken for a quotation, for who made it is to be checked.
const MAKING: &[&str] = &[
    "directed", "director", "starring", "stars", "star", "cast", "film", "films", "movie", "written",
    "author", "novel", "book",
];

/// Runs of words that the item's own description or premise has in the same order.
fn quotations(scene: &Scene, text: &[Word<'_>]) -> Vec<Range<usize>> {
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

fn slots(text: &str) -> Vec<(Range<usize>, String)> {
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

fn sentences(lexicon: &Lexicon, text: &str, mentions: &[Mention]) -> Vec<Range<usize>> {
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

fn points(text: &str, sentence: &Range<usize>, mentions: &[Mention]) -> Vec<Range<usize>> {
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

fn blanked(text: &str, span: &Range<usize>, mentions: &[Mention], quoted: &[Range<usize>]) -> String {
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
