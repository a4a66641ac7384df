//! An item as the gate and the relations read it: cleaned, folded, cut into words.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use refract_domain::Item;

use crate::lexicon::{genres, is_common};
use crate::premise::{Premise, premise};
use crate::relations::decade;
use crate::text::{
    DESCRIPTION_CHARS_MAX, TITLE_CHARS_MAX, VALUE_CHARS_MAX, Word, clean, fold, sayable, words,
};
use crate::vocabulary::{Role, Thing, Vocabulary, label};

/// Values of one attribute that a text may name.
const VALUES_MAX: usize = 24;

/// One item, read.
#[derive(Debug)]
pub struct Reading {
    item: Arc<Item>,
    thing: Thing,
    premise: Option<Premise>,
    /// Cleaned.
    pub(crate) title: String,
    title_folded: String,
    /// Whether the title may stand in a sentence.
    is_nameable: bool,
    attributes: Vec<Attribute>,
    pub(crate) values: Vec<Held>,
    /// Words of the description, and of premises.
    pub(crate) description: Vec<Word>,
    /// Every word of values and description, singular, for single words of a text; in order.
    stems: Vec<String>,
    /// What a text may name it and its values by.
    pub(crate) phrases: Vec<Phrase>,
    /// Titles and values with a stop inside, or that end like an abbreviation, for cutting sentences.
    pub(crate) stopped: Arc<[String]>,
}

/// An attribute with its values, in the item's order.
#[derive(Debug)]
struct Attribute {
    folded: String,
    role: Role,
    /// None of what is not spoken of.
    values: Vec<Value>,
}

#[derive(Debug)]
struct Value {
    folded: String,
    /// Of a year.
    decade: Option<String>,
}

/// A value of one item that is looked for in others, folded once.
#[derive(Clone, Debug)]
pub struct Sought {
    role: Role,
    attribute: String,
    value: String,
}

impl Sought {
    /// A value in the role that its attribute plays; an attribute that plays none must be of the same name. A decade is found in its years.
    pub fn new(role: Role, attribute: &str, value: &str) -> Self {
        Self {
            role,
            attribute: fold(attribute),
            value: fold(value),
        }
    }

    pub(crate) fn value_folded(&self) -> &str {
        &self.value
    }
}

/// A value that a text may name.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) attribute: String,
    /// The attribute's spoken name.
    pub(crate) label: String,
    pub(crate) role: Role,
    pub(crate) folded: String,
    /// Cleaned; of a year also its decade.
    pub(crate) value: String,
    /// As the item has it (a decade stands for its year).
    pub(crate) original: String,
}

/// A stretch of words that names something of the item.
#[derive(Debug, PartialEq)]
pub(crate) struct Phrase {
    /// [`hashed`] of the first word.
    pub(crate) first: u64,
    /// Folded; at least one.
    pub(crate) words: Vec<String>,
    /// The text must have a capital where this is true.
    pub(crate) capitals: Vec<bool>,
    pub(crate) names: Names,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Names {
    Title,
    /// A value, folded.
    Value(String),
    /// The spoken name of an attribute.
    Label(String),
}

impl Reading {
    pub(crate) fn new(vocabulary: &Vocabulary, item: &Arc<Item>) -> Self {
        let title = clean(&item.title, TITLE_CHARS_MAX);
        let (values, description) = values_and_description(vocabulary, item);
        let mut stems: Vec<String> = values
            .iter()
            .flat_map(|held| words(&held.value))
            .chain(description.iter().cloned())
            .map(|w| stem(&w.folded))
            .collect();
        stems.sort();
        stems.dedup();
        Self {
            thing: vocabulary.thing(item),
            premise: premise(vocabulary, item),
            title_folded: fold(&item.title),
            is_nameable: sayable(&item.title, TITLE_CHARS_MAX).is_some(),
            attributes: attributes(vocabulary, item),
            phrases: phrases(&title, &values),
            stopped: stopped(&title, &values),
            item: Arc::clone(item),
            title,
            values,
            description,
            stems,
        }
    }

    /// What was read; equal to the item that was asked for, perhaps another copy of it.
    pub fn item(&self) -> &Arc<Item> {
        &self.item
    }

    pub fn thing(&self) -> Thing {
        self.thing
    }

    /// What the item is about.
    pub fn premise(&self) -> Option<&Premise> {
        self.premise.as_ref()
    }

    /// The title, folded.
    pub fn title_folded(&self) -> &str {
        &self.title_folded
    }

    /// Whether the title may stand in a sentence.
    pub fn is_nameable(&self) -> bool {
        self.is_nameable
    }

    /// Where the item holds a value: attribute names with the value as the item has it.
    pub fn holdings(&self, sought: &Sought) -> Vec<(&str, &str)> {
        let mut holdings = Vec::new();
        for (read, (name, values)) in self.attributes.iter().zip(&self.item.attributes) {
            if !read.fits(sought) {
                continue;
            }
            let held = read.values.iter().zip(values);
            let held = held.filter(|(value, _)| value.is(sought));
            holdings.extend(held.map(|(_, held)| (name.as_str(), held.as_str())));
        }
        holdings
    }

    /// Whether [`Reading::holdings`] are any.
    pub fn holds(&self, sought: &Sought) -> bool {
        let mut fitting = self.attributes.iter().filter(|read| read.fits(sought));
        fitting.any(|read| read.values.iter().any(|value| value.is(sought)))
    }

    /// Whether the description has these words in a row.
    pub(crate) fn describes(&self, folded: &str) -> bool {
        let wanted = words(folded);
        !wanted.is_empty()
            && self
                .description
                .windows(wanted.len())
                .any(|w| w.iter().zip(&wanted).all(|(a, b)| a.folded == b.folded))
    }

    /// Whether a genre or theme word is in its data, whatever its ending.
    pub(crate) fn speaks_of(&self, term: &str) -> bool {
        let parts: Vec<String> = words(canonical(term)).iter().map(|w| stem(&w.folded)).collect();
        parts.iter().all(|part| self.stems.binary_search(part).is_ok())
    }

    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        /// A string's or a word's own fields, and what an allocator adds.
        const EACH: usize = 48;
        let item = &self.item;
        let raw: usize = item.title.len()
            + item.description.len()
            + item
                .attributes
                .iter()
                .map(|(name, values)| {
                    name.len() + values.iter().map(|v| v.len() + EACH).sum::<usize>() + EACH
                })
                .sum::<usize>();
        let of_values: usize = self
            .values
            .iter()
            .map(|held| 2 * held.attribute.len() + 3 * held.value.len() + 5 * EACH)
            .sum();
        let of_words: usize = self
            .description
            .iter()
            .map(|w| w.folded.len() + EACH)
            .sum::<usize>()
            + self.stems.iter().map(|s| s.len() + EACH).sum::<usize>()
            + self
                .phrases
                .iter()
                .flat_map(|phrase| &phrase.words)
                .map(|word| word.len() + EACH)
                .sum::<usize>();
        // Folded attributes are about as large as the raw ones.
        size_of::<Self>() + 2 * raw + of_values + of_words
    }
}

impl Attribute {
    fn fits(&self, sought: &Sought) -> bool {
        if sought.role == Role::Other {
            self.folded == sought.attribute
        } else {
            self.role == sought.role
        }
    }
}

impl Value {
    fn is(&self, sought: &Sought) -> bool {
        self.folded == sought.value || self.decade.as_deref() == Some(sought.value.as_str())
    }
}

/// By which phrases are found. Who makes words collide makes them be compared, no more.
pub(crate) fn hashed(word: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    word.hash(&mut hasher);
    hasher.finish()
}

fn attributes(vocabulary: &Vocabulary, item: &Item) -> Vec<Attribute> {
    let read = item.attributes.iter().map(|(name, values)| {
        let role = vocabulary.role(name);
        let spoken = !matches!(role, Role::Premise | Role::Hidden);
        let values = values.iter().filter(|_| spoken).map(|value| {
            let decade = if role == Role::Year { decade(value) } else { None };
            let folded = fold(&clean(value, VALUE_CHARS_MAX));
            Value { folded, decade }
        });
        Attribute {
            folded: fold(name),
            role,
            values: values.collect(),
        }
    });
    read.collect()
}

fn values_and_description(vocabulary: &Vocabulary, item: &Item) -> (Vec<Held>, Vec<Word>) {
    let mut values = Vec::new();
    let mut description = words(&clean(&item.description, DESCRIPTION_CHARS_MAX));
    for (attribute, held) in &item.attributes {
        let role = vocabulary.role(attribute);
        for original in held.iter().take(VALUES_MAX) {
            if role == Role::Premise {
                description.extend(words(&clean(original, DESCRIPTION_CHARS_MAX)));
                continue;
            }
            if role == Role::Hidden {
                continue;
            }
            let value = clean(original, VALUE_CHARS_MAX);
            let decade = if role == Role::Year { decade(&value) } else { None };
            for value in [Some(value), decade].into_iter().flatten() {
                let folded = fold(&value);
                let alike = held.iter().find(|v| fold(&clean(v, VALUE_CHARS_MAX)) == folded);
                let year = || held.iter().find(|v| self::decade(v).is_some_and(|d| d == folded));
                values.push(Held {
                    attribute: attribute.clone(),
                    label: label(attribute),
                    role,
                    original: alike.or_else(year).unwrap_or(original).clone(),
                    folded,
                    value,
                });
            }
        }
    }
    (values, description)
}

fn phrases(title: &str, values: &[Held]) -> Vec<Phrase> {
    let mut surfaces: Vec<(String, Names, bool)> = title_aliases(title)
        .into_iter()
        .map(|alias| (alias, Names::Title, true))
        .collect();
    for held in values {
        let any_case = held.role == Role::Genre;
        surfaces.push((held.value.clone(), Names::Value(held.folded.clone()), !any_case));
        if held.role.is_name()
            && let Some(surname) = surname(&held.value)
        {
            surfaces.push((surname, Names::Value(held.folded.clone()), true));
        }
        if held.role == Role::Other {
            surfaces.push((held.label.clone(), Names::Label(held.label.clone()), false));
        }
    }
    let mut phrases: Vec<Phrase> = Vec::new();
    for (surface, names, cased) in surfaces {
        let cut = words(&surface);
        let capitals: Vec<bool> = cut
            .iter()
            .map(|w| cased && w.capital && !matches!(w.folded.as_str(), "a" | "an" | "the"))
            .collect();
        // Lower-case everyday words ("good", "you liked") cannot be told from the text around them.
        let tells = capitals.iter().any(|c| *c) || cut.iter().any(|w| !is_common(&w.folded));
        let Some(first) = cut.first().filter(|_| tells) else {
            continue;
        };
        let phrase = Phrase {
            first: hashed(&first.folded),
            words: cut.into_iter().map(|w| w.folded).collect(),
            capitals,
            names,
        };
        if !phrases.contains(&phrase) {
            phrases.push(phrase);
        }
    }
    phrases
}

fn stopped(title: &str, values: &[Held]) -> Arc<[String]> {
    let inner_stop = |s: &str| {
        s.char_indices()
            .any(|(at, c)| matches!(c, '.' | '!' | '?') && at + 1 < s.len())
    };
    let short_end = |s: &str| s.rsplit(' ').next().is_some_and(|last| last.chars().count() <= 4);
    let surfaces = std::iter::once(title).chain(values.iter().map(|held| held.value.as_str()));
    surfaces
        .filter(|s| inner_stop(s) || short_end(s))
        .map(ToOwned::to_owned)
        .collect()
}

fn canonical(term: &str) -> &str {
    match term {
        "sci fi" | "scifi" => "science fiction",
        "romcom" => "romantic comedy",
        other => other,
    }
}

/// The common beginning of a word's forms, by a short table and the plural.
pub(crate) fn stem(word: &str) -> String {
    let stemmed = match word {
        "romantic" | "romances" => "romance",
        "comedies" | "comedic" => "comedy",
        "dramatic" => "drama",
        "animation" => "animated",
        "biopic" | "biographical" => "biography",
        "historical" => "history",
        "satirical" => "satire",
        "wartime" => "war",
        "gangsters" | "mob" | "mafia" => "gangster",
        "spies" => "spy",
        "superheroes" => "superhero",
        "musicals" | "music" => "musical",
        other => other,
    };
    if let Some(stem) = stemmed.strip_suffix("ies").filter(|s| s.len() > 2) {
        return format!("{stem}y");
    }
    match stemmed
        .strip_suffix('s')
        .filter(|s| s.len() > 2 && !s.ends_with('s'))
    {
        Some(stem) => stem.to_owned(),
        None => stemmed.to_owned(),
    }
}

/// A title as people write it: without "(1995)", and with its article in front.
fn title_aliases(title: &str) -> Vec<String> {
    let mut aliases = vec![title.to_owned()];
    let bare = title.rsplit_once(" (").filter(|(_, year)| {
        year.strip_suffix(')')
            .is_some_and(|y| y.len() == 4 && y.bytes().all(|b| b.is_ascii_digit()))
    });
    let bare = bare.map_or(title, |(bare, _)| bare);
    if bare != title {
        aliases.push(bare.to_owned());
    }
    if let Some((rest, article)) = bare.rsplit_once(", ")
        && matches!(article, "The" | "A" | "An")
    {
        aliases.push(format!("{article} {rest}"));
    }
    aliases
}

fn surname(name: &str) -> Option<String> {
    let cut = words(name);
    let last = cut.last().filter(|_| cut.len() > 1)?;
    let surface = &name[last.span.clone()];
    let telling = surface.chars().count() >= 4
        && last.capital
        && !is_common(&last.folded)
        && !genres().contains(last.folded.as_str());
    telling.then(|| surface.to_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use refract_domain::ItemId;

    use super::*;

    pub(crate) fn film(id: usize, genre: &str) -> Arc<Item> {
        let values = |v: &str| vec![v.to_owned()];
        Arc::new(Item {
            id: ItemId::new(id.to_string()),
            title: format!("Film {id}"),
            attributes: [
                ("director".to_owned(), values("F. W. Murnau")),
                ("genre".to_owned(), values(genre)),
                ("year".to_owned(), values("1994")),
            ]
            .into(),
            description: "Two strangers meet on a night train.".to_owned(),
        })
    }

    #[test]
    fn a_vocabulary_with_names_of_its_own_reads_for_itself() {
        let item = film(1, "drama");
        let own = Vocabulary::with([("genre".to_owned(), Role::Hidden)]);
        assert!(!own.read(&item).speaks_of("drama"));
        assert!(Vocabulary::default().read(&item).speaks_of("drama"));
    }

    #[test]
    fn years_hold_their_decade_and_names_are_found_by_their_surname() {
        let read = Vocabulary::default().read(&film(1, "drama"));
        let decade = Sought::new(Role::Year, "year", "1990s");
        assert_eq!(read.holdings(&decade), [("year", "1994")]);
        let named = |words: &[&str]| read.phrases.iter().any(|phrase| phrase.words == words);
        assert!(named(&["murnau"]) && named(&["f", "w", "murnau"]) && named(&["film", "1"]));
    }
}
