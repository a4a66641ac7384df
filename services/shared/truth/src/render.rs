//! From parts to a sentence: entities put in their places, with the small niceties of English, and where each stands.

use std::ops::Range;

use refract_domain::ItemId;

use crate::premise::{Form, Premise};
use crate::text::article;
use crate::vocabulary::{Thing, label};

/// What a stretch of text stands for.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// The recommended item's title.
    Item,
    /// The title of a history item.
    History(ItemId),
    /// A value of an attribute of the recommended item (shared with history items or not).
    Value {
        attribute: String,
        value: String,
    },
    /// The item's premise.
    Plot(Premise),
    /// The spoken name of an attribute ("photographer").
    Label {
        attribute: String,
    },
    /// "film", "films", "watched": words that depend on what is recommended. They claim nothing.
    Noun(Thing),
    Nouns(Thing),
    Tried(Thing),
}

/// One part of a sentence.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    Text(String),
    /// A target, and the words that stand for it.
    Mention(Target, String),
}

/// A target in a finished text.
#[derive(Clone, Debug, PartialEq)]
pub struct Mention {
    /// Bytes of the text, on character boundaries.
    pub span: Range<usize>,
    pub target: Target,
}

/// A finished text and what its parts stand for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rendered {
    pub text: String,
    pub mentions: Vec<Mention>,
}

impl Form {
    fn is_clause(self) -> bool {
        self == Self::Clause
    }
}

/// Joins parts: one blank between words, none before punctuation, `a` or `an` by the word that follows, a capital at the
/// start, one full stop after a title that ends in its own.
pub fn render(parts: &[Part]) -> Rendered {
    let mut out = Rendered::default();
    for part in parts {
        match part {
            Part::Text(text) => text.split_whitespace().for_each(|word| push_word(&mut out, word)),
            Part::Mention(target, surface) => match series_of_a_title(parts, target, surface) {
                Some(series) => push_mention(&mut out, target, &series),
                None => push_mention(&mut out, target, surface),
            },
        }
    }
    out
}

/// "Aliens is part of the Alien series, like Alien": a series that is called like a title of the same sentence says what it is.
fn series_of_a_title(parts: &[Part], target: &Target, surface: &str) -> Option<String> {
    let Target::Value { attribute, .. } = target else {
        return None;
    };
    let is_series = matches!(
        label(attribute).as_str(),
        "series" | "franchise" | "universe" | "saga" | "collection"
    );
    let is_title = |part: &Part| matches!(part, Part::Mention(Target::Item | Target::History(_), title) if title == surface);
    let says_it = |part: &Part| matches!(part, Part::Text(text) if text.split_whitespace().any(|w| w.starts_with("series")));
    let article = if surface.starts_with("The ") { "" } else { "the " };
    (is_series && parts.iter().any(is_title) && !parts.iter().any(says_it))
        .then(|| format!("{article}{surface} series"))
}

fn push_word(out: &mut Rendered, word: &str) {
    let punctuation = word.starts_with([',', '.', ';', ':', '!', '?', ')']);
    if punctuation {
        // "… like What's Up, Doc?" ends by itself.
        let ends_itself = out.text.ends_with(['.', '!', '?'])
            && out.mentions.last().is_some_and(|m| m.span.end == out.text.len());
        let word = if ends_itself {
            word.strip_prefix('.').unwrap_or(word)
        } else {
            word
        };
        out.text.push_str(word);
        return;
    }
    fix_article(&mut out.text, word);
    space(&mut out.text);
    if at_start(&out.text) {
        out.text.push_str(&capitalised(word));
    } else {
        out.text.push_str(word);
    }
}

fn push_mention(out: &mut Rendered, target: &Target, surface: &str) {
    if let Target::Noun(_) | Target::Nouns(_) = target {
        let plural = matches!(target, Target::Nouns(_));
        let genre = out
            .mentions
            .last_mut()
            .filter(|m| matches!(m.target, Target::Value { .. }) && m.span.end == out.text.len());
        if let Some(genre) = genre {
            let (form, alone) = before_noun(&out.text[genre.span.clone()], surface, plural);
            out.text.truncate(genre.span.start);
            fix_article(&mut out.text, &form);
            space(&mut out.text);
            let start = out.text.len();
            out.text
                .push_str(&if start == 0 { capitalised(&form) } else { form });
            genre.span = start..out.text.len();
            if alone {
                return;
            }
        }
    }
    fix_article(&mut out.text, surface);
    space(&mut out.text);
    let start = out.text.len();
    let is_title = matches!(target, Target::Item | Target::History(_));
    let keeps_case =
        is_title || matches!(target, Target::Plot(premise) if premise.form.is_clause() && start > 0);
    if at_start(&out.text) && !keeps_case {
        out.text.push_str(&capitalised(surface));
    } else {
        out.text.push_str(surface);
    }
    out.mentions.push(Mention {
        span: start..out.text.len(),
        target: target.clone(),
    });
}

/// The form of a genre before "film" or "films", and whether it says that already: "a comedy", "romantic films", "a film noir".
fn before_noun(genre: &str, noun: &str, plural: bool) -> (String, bool) {
    const NOUNS: [&str; 9] = [
        "comedy",
        "drama",
        "thriller",
        "western",
        "documentary",
        "musical",
        "melodrama",
        "satire",
        "mystery",
    ];
    const ADJECTIVES: [(&str, &str); 5] = [
        ("biography", "biographical"),
        ("romance", "romantic"),
        ("history", "historical"),
        ("animation", "animated"),
        ("sport", "sports"),
    ];
    let lower = genre.to_lowercase();
    if let Some((_, adjective)) = ADJECTIVES.iter().find(|(noun, _)| *noun == lower) {
        return ((*adjective).to_owned(), false);
    }
    let says_it = lower.split(' ').any(|w| w == noun || format!("{w}s") == noun);
    let is_noun = matches!(noun, "film" | "films")
        && lower
            .split([' ', '-'])
            .next_back()
            .is_some_and(|last| NOUNS.contains(&last));
    match (says_it || is_noun, plural) {
        (true, true) if is_noun => match genre.strip_suffix('y') {
            Some(stem) => (format!("{stem}ies"), true),
            None => (format!("{genre}s"), true),
        },
        (said, _) => (genre.to_owned(), said),
    }
}

fn at_start(text: &str) -> bool {
    text.is_empty()
}

fn space(text: &mut String) {
    if !text.is_empty() && !text.ends_with([' ', '(']) {
        text.push(' ');
    }
}

/// Turns a trailing `a` or `an` into the one that the next word wants.
fn fix_article(text: &mut String, next: &str) {
    let (stem, capital) = match text.rsplit_once(' ') {
        Some((stem, "a" | "an")) => (stem.len() + 1, false),
        None if matches!(text.as_str(), "A" | "An") => (0, true),
        _ => return,
    };
    text.truncate(stem);
    text.push_str(match (article(next), capital) {
        ("an", false) => "an",
        ("an", true) => "An",
        (_, true) => "A",
        (_, false) => "a",
    });
}

fn capitalised(word: &str) -> String {
    let mut chars = word.chars();
    chars
        .next()
        .map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(t: &str) -> Part {
        Part::Text(t.to_owned())
    }

    fn genre(value: &str) -> Part {
        Part::Mention(
            Target::Value {
                attribute: "genre".into(),
                value: value.into(),
            },
            value.into(),
        )
    }

    #[test]
    fn articles_stops_and_capitals_are_put_right() {
        let item = |title: &str| Part::Mention(Target::Item, title.to_owned());
        let noun = Part::Mention(Target::Noun(Thing::Film), "film".into());
        for (parts, expected) in [
            (
                vec![
                    text("like"),
                    item("What's Up, Doc?"),
                    text(", it is a"),
                    genre("action"),
                    noun.clone(),
                    text("."),
                ],
                "Like What's Up, Doc?, it is an action film.",
            ),
            (
                vec![
                    text("a"),
                    genre("animated"),
                    noun.clone(),
                    text(": "),
                    item("R.I.P.D."),
                    text("."),
                ],
                "An animated film: R.I.P.D.",
            ),
            (
                vec![
                    item("Aliens"),
                    text("is part of"),
                    Part::Mention(
                        Target::Value {
                            attribute: "series".into(),
                            value: "Alien".into(),
                        },
                        "Alien".into(),
                    ),
                    text(", like"),
                    Part::Mention(Target::History(ItemId::new("alien")), "Alien".into()),
                    text("."),
                ],
                "Aliens is part of the Alien series, like Alien.",
            ),
            (
                vec![
                    item("eXistenZ"),
                    text("is a"),
                    genre("film noir"),
                    noun,
                    text("."),
                ],
                "eXistenZ is a film noir.",
            ),
        ] {
            let rendered = render(&parts);
            assert_eq!(rendered.text, expected);
            assert!(
                rendered
                    .mentions
                    .iter()
                    .all(|m| rendered.text.is_char_boundary(m.span.end))
            );
        }
    }
}
