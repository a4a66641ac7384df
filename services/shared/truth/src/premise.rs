//! What an item is about, as a clause that can stand in a sentence; or nothing, where the data hold no such clause.

use refract_domain::{Evidence, Item};

use crate::text::{DESCRIPTION_CHARS_MAX, clean, fold, looks_like_link, words};
use crate::vocabulary::{Role, Vocabulary};

/// Longest premise, in characters.
pub const PREMISE_CHARS_MAX: usize = 180;
const PREMISE_CHARS_MIN: usize = 16;

/// How a premise fits into a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// "follows a …": stands after the title or "it".
    Verb,
    /// "a clerk robs his own bank": stands after a colon.
    Clause,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Premise {
    /// Without a full stop; lower case at the start unless it begins with a name.
    pub clause: String,
    pub form: Form,
    /// The attribute or the description that it was taken from.
    pub evidence: Evidence,
}

/// Verbs that open a premise after "the film", "it" or the title.
const OPENINGS: &[&str] = &[
    "follows",
    "tells the story of",
    "tells of",
    "centers on",
    "centers around",
    "centres on",
    "revolves around",
    "is about",
    "depicts",
    "chronicles",
    "concerns",
    "focuses on",
    "recounts",
    "explores",
    "portrays",
    "deals with",
];

/// Words that speak of the making of a thing and not of what it is about.
const MAKING: &[&str] = &[
    "directed",
    "director",
    "starring",
    "stars",
    "starred",
    "cast",
    "produced",
    "producer",
    "written",
    "screenplay",
    "released",
    "distributed",
    "premiered",
    "premiere",
    "award",
    "awards",
    "nominated",
    "grossed",
    "office",
    "filmed",
    "shot",
    "remake",
    "sequel",
    "soundtrack",
    "critics",
    "reviews",
    "played",
    "portrayed",
    "plays",
    "budget",
    "studio",
    "studios",
    "novel",
    "adapted",
    "adaptation",
    "adaptions",
    "festival",
    "filming",
    "actors",
    "actor",
    "actress",
    "film",
    "movie",
    "series",
    "installment",
    "writer",
    "filmmaker",
    "filmmakers",
    "voiced",
    "voices",
    "directorial",
    "debut",
    "role",
    "roles",
    "title",
    "based",
    "co",
    "loosely",
    "unrated",
];

/// The premise of an item: from an attribute that holds one, else from a sentence of the description that has a clean one.
pub fn premise(vocabulary: &Vocabulary, item: &Item) -> Option<Premise> {
    let from_attribute = item
        .attributes
        .iter()
        .filter(|(name, _)| vocabulary.role(name) == Role::Premise)
        .find_map(|(name, values)| {
            let value = values.first()?;
            let clause = tidy(value)?;
            let evidence = Evidence::Attribute {
                item: item.id.clone(),
                name: name.clone(),
                value: value.clone(),
            };
            Some(Premise {
                form: form(&clause),
                clause,
                evidence,
            })
        });
    from_attribute.or_else(|| {
        let description = clean(&item.description, DESCRIPTION_CHARS_MAX);
        let evidence = Evidence::Description {
            item: item.id.clone(),
        };
        sentences(&description).into_iter().find_map(|sentence| {
            let clause = from_sentence(sentence, &item.title)?;
            Some(Premise {
                form: Form::Verb,
                clause,
                evidence: evidence.clone(),
            })
        })
    })
}

/// Whether a clause begins with a verb that wants "it" or a title before it.
pub(crate) fn opens_like_verb(clause: &str) -> bool {
    let folded = fold(clause);
    OPENINGS.iter().any(|verb| {
        folded
            .strip_prefix(verb)
            .is_some_and(|rest| rest.starts_with(' '))
    })
}

fn form(clause: &str) -> Form {
    if opens_like_verb(clause) {
        Form::Verb
    } else {
        Form::Clause
    }
}

/// An attribute's text as a clause: one sentence, no full stop, no capital that is only the sentence's.
fn tidy(text: &str) -> Option<String> {
    let cleaned = clean(text, DESCRIPTION_CHARS_MAX);
    let first = sentences(&cleaned).into_iter().next()?;
    let trimmed = first.trim_end_matches(['.', '!', ' ']);
    let length = trimmed.chars().count();
    let usable = (PREMISE_CHARS_MIN..=PREMISE_CHARS_MAX).contains(&length)
        && !looks_like_link(trimmed)
        && !trimmed.contains([
            '‹', '›', '{', '}', '|', '\\', '`', '#', '*', '=', '~', '^', '?', '!', '[', ']', '"', '“', '”',
        ]);
    usable.then(|| lower_start(trimmed))
}

fn lower_start(clause: &str) -> String {
    let words = words(clause);
    let Some(first) = words.first() else {
        return clause.to_owned();
    };
    let all_capitals = clause[first.span.clone()].chars().skip(1).any(char::is_uppercase);
    if !first.capital || all_capitals || !crate::lexicon::is_common(&first.folded) {
        return clause.to_owned();
    }
    let mut chars = clause.chars();
    chars
        .next()
        .map_or_else(String::new, |c| c.to_lowercase().chain(chars).collect())
}

/// `The film follows a …` and `X is a 1957 film about a …`: the clause, where it is clean.
fn from_sentence(sentence: &str, title: &str) -> Option<String> {
    let sentence = sentence.trim_end_matches(['.', '!', ' ']);
    let subjects = [
        "The film ",
        "The movie ",
        "The story ",
        "The plot ",
        "It ",
        "The book ",
        "The novel ",
        "The series ",
        "The show ",
        "The film's plot ",
        "The film's story ",
        "This film ",
        "Set in the future, it ",
    ];
    let after_subject = subjects
        .iter()
        .find_map(|subject| sentence.strip_prefix(subject))
        .or_else(|| {
            sentence
                .strip_prefix(title)
                .and_then(|rest| rest.strip_prefix(' '))
        });
    let direct = after_subject.and_then(|rest| {
        OPENINGS
            .iter()
            .find(|verb| rest.strip_prefix(**verb).is_some_and(|r| r.starts_with(' ')))
            .map(|_| rest.to_owned())
    });
    let clause = direct.or_else(|| {
        // `… film about a jury that …`, only where the sentence is about the item itself.
        let about_item =
            sentence.starts_with(title) || sentence.starts_with("The film") || sentence.starts_with("It is");
        let (_, rest) = sentence.split_once(" film about ").filter(|_| about_item)?;
        let starts_plainly = ["a ", "an ", "the ", "two ", "three ", "four "]
            .iter()
            .any(|a| rest.starts_with(a));
        starts_plainly.then(|| format!("is about {rest}"))
    })?;
    let length = clause.chars().count();
    let making = words(&clause)
        .iter()
        .any(|w| MAKING.contains(&w.folded.as_str()) || w.has_digit());
    let odd = clause.contains([
        '(', ')', '"', '“', '”', ';', ':', '[', ']', '?', '!', '…', '‹', '›', '/', '*', '—', '–',
    ]) || clause.contains(" - ")
        || clause.ends_with([',', '-'])
        || looks_like_link(&clause);
    // A comma before a name opens a list of people ("…, Jack Dean") or an aside that needs its context.
    let dangling = clause
        .split(", ")
        .skip(1)
        .any(|part| part.starts_with(char::is_uppercase));
    (!making && !odd && !dangling && (PREMISE_CHARS_MIN..=PREMISE_CHARS_MAX).contains(&length))
        .then_some(clause)
}

/// Rough sentences of a description: enough for finding a clause; a wrong cut only loses one.
fn sentences(text: &str) -> Vec<&str> {
    let mut sentences = Vec::new();
    let mut start = 0;
    let bytes = text.as_bytes();
    for (at, c) in text.char_indices() {
        let ends = matches!(c, '.' | '!' | '?') && bytes.get(at + 1).is_none_or(|b| *b == b' ');
        if !ends {
            continue;
        }
        let before = text[start..at].rsplit([' ', '.']).next().unwrap_or_default();
        let abbreviation = c == '.'
            && (before.chars().count() <= 1
                || [
                    "Mr", "Mrs", "Ms", "Dr", "St", "Jr", "Sr", "vs", "Lt", "Col", "Sgt", "Capt",
                ]
                .contains(&before));
        if !abbreviation {
            sentences.push(text[start..=at].trim());
            start = at + 1;
        }
    }
    if !text[start..].trim().is_empty() {
        // What was cut off in mid-sentence is no sentence, unless it is the whole text.
        if start == 0 {
            sentences.push(text[start..].trim());
        }
    }
    sentences
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use refract_domain::ItemId;

    use super::*;

    fn item(title: &str, attribute: Option<(&str, &str)>, description: &str) -> Item {
        let mut attributes = BTreeMap::new();
        if let Some((name, value)) = attribute {
            attributes.insert(name.to_owned(), vec![value.to_owned()]);
        }
        Item {
            id: ItemId::new("x"),
            title: title.to_owned(),
            attributes,
            description: description.to_owned(),
        }
    }

    #[test]
    fn a_clause_is_found_or_nothing() {
        let cases: &[(&str, &str, Option<&str>)] = &[
            ("X", "X is a 1999 American drama film directed by Ann Bee.", None),
            (
                "X",
                "X is a 1999 film. The film follows a widowed father who moves to the coast.",
                Some("follows a widowed father who moves to the coast"),
            ),
            (
                "12 Angry Men",
                "12 Angry Men is a 1957 American film about a jury that cannot agree.",
                Some("is about a jury that cannot agree"),
            ),
            ("X", "The film follows a nurse (Ann Bee) who leaves.", None),
            ("X", "The film follows a nurse and stars Ann Bee.", None),
            ("X", "It was released in 1990.", None),
            ("X", "", None),
        ];
        for (title, description, expected) in cases {
            let found = premise(&Vocabulary::default(), &item(title, None, description)).map(|p| p.clause);
            assert_eq!(found.as_deref(), *expected, "{description}");
        }
    }

    #[test]
    fn an_attribute_comes_first_and_loses_its_capital_and_stop() {
        let found = premise(
            &Vocabulary::default(),
            &item("X", Some(("premise", "A clerk robs his own bank.")), ""),
        )
        .unwrap();
        assert_eq!(
            (found.clause.as_str(), found.form),
            ("a clerk robs his own bank", Form::Clause)
        );
        let found = premise(
            &Vocabulary::default(),
            &item("X", Some(("plot", "Ripley wakes after a long sleep")), ""),
        )
        .unwrap();
        assert_eq!(found.clause, "Ripley wakes after a long sleep");
    }
}
