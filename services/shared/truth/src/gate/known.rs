//! What a request holds, indexed so that a text can be compared with it: titles, values, descriptions.

use std::collections::HashMap;
use std::sync::Arc;

use refract_domain::{Affinity, Evidence, History, Item, ItemId, Pair, Signal};

use crate::lexicon::{genres, is_common};
use crate::relations::{LIFT_MIN, decade};
use crate::text::{DESCRIPTION_CHARS_MAX, TITLE_CHARS_MAX, VALUE_CHARS_MAX, Word, clean, fold, words};
use crate::vocabulary::{Role, Vocabulary, label};

/// How the user stands to an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Recommended,
    Liked,
    Seen,
    Disliked,
}

/// An item of the request with its words.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) item: Arc<Item>,
    pub(crate) standing: Standing,
    pub(crate) values: Vec<Held>,
    /// Words of the description, and of premises.
    pub(crate) description: Vec<Word>,
    /// Every word of values and description, singular, for single words of a text.
    pub(crate) stems: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) attribute: String,
    pub(crate) role: Role,
    pub(crate) folded: String,
    pub(crate) value: String,
}

/// What a stretch of words may stand for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Meaning {
    Title(usize),
    /// A value, folded.
    Value(String),
    /// The spoken name of an attribute.
    Label(String),
}

#[derive(Debug)]
struct Phrase {
    words: Vec<String>,
    /// The text must have a capital where this is true.
    capitals: Vec<bool>,
    meaning: Meaning,
}

/// What a value is asked to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Need {
    Any,
    Role(Role),
    /// An attribute with this spoken name.
    Label(String),
}

/// The request. Subject 0 is the recommended item.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) subjects: Vec<Subject>,
    pub(crate) affinities: Vec<Affinity>,
    premise: Option<Evidence>,
    index: HashMap<String, Vec<Phrase>>,
    /// Surfaces with a stop inside, or that end like an abbreviation, for cutting sentences.
    pub(crate) stopped: Arc<Vec<String>>,
}

impl Known {
    pub(crate) fn new(vocabulary: &Vocabulary, pair: &Pair, history: &History) -> Self {
        let mut subjects = vec![Subject::new(vocabulary, &pair.item, Standing::Recommended)];
        for interaction in history.interactions().iter().rev() {
            if subjects.iter().skip(1).any(|s| s.item.id == interaction.item.id) {
                continue;
            }
            let standing = match interaction.signal {
                Signal::Liked => Standing::Liked,
                Signal::Seen => Standing::Seen,
                Signal::Disliked => Standing::Disliked,
            };
            subjects.push(Subject::new(vocabulary, &interaction.item, standing));
        }
        let mut known = Self {
            subjects,
            affinities: pair.affinities.clone(),
            premise: crate::premise::premise(vocabulary, &pair.item).map(|premise| premise.evidence),
            index: HashMap::new(),
            stopped: Arc::default(),
        };
        known.build();
        known
    }

    fn build(&mut self) {
        let mut phrases: Vec<(String, Meaning, bool)> = Vec::new();
        let mut stopped = Vec::new();
        for (n, subject) in self.subjects.iter().enumerate() {
            let title = clean(&subject.item.title, TITLE_CHARS_MAX);
            for alias in title_aliases(&title) {
                phrases.push((alias, Meaning::Title(n), true));
            }
            stopped.push(title);
            for held in &subject.values {
                let any_case = held.role == Role::Genre;
                phrases.push((held.value.clone(), Meaning::Value(held.folded.clone()), !any_case));
                if held.role.is_name()
                    && let Some(surname) = surname(&held.value)
                {
                    phrases.push((surname, Meaning::Value(held.folded.clone()), true));
                }
                if held.role == Role::Other {
                    phrases.push((
                        label(&held.attribute),
                        Meaning::Label(label(&held.attribute)),
                        false,
                    ));
                }
                stopped.push(held.value.clone());
            }
        }
        for (surface, meaning, cased) in phrases {
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
                words: cut.iter().map(|w| w.folded.clone()).collect(),
                capitals,
                meaning,
            };
            let list = self.index.entry(first.folded.clone()).or_default();
            if !list.iter().any(|p| {
                p.words == phrase.words && p.meaning == phrase.meaning && p.capitals == phrase.capitals
            }) {
                list.push(phrase);
            }
        }
        for list in self.index.values_mut() {
            list.sort_by_key(|phrase| std::cmp::Reverse(phrase.words.len()));
        }
        let inner_stop = |s: &str| {
            s.char_indices()
                .any(|(at, c)| matches!(c, '.' | '!' | '?') && at + 1 < s.len())
        };
        let short_end = |s: &str| s.rsplit(' ').next().is_some_and(|last| last.chars().count() <= 4);
        stopped.retain(|s| inner_stop(s) || short_end(s));
        stopped.sort();
        stopped.dedup();
        self.stopped = Arc::new(stopped);
    }

    /// The longest known stretch at the start of `text`: how many words, and all it may mean.
    pub(crate) fn longest(&self, text: &[&Word], sentence_start: bool) -> Option<(usize, Vec<Meaning>)> {
        let list = self.index.get(&text.first()?.folded)?;
        let mut length = 0;
        let mut meanings = Vec::new();
        for phrase in list {
            if phrase.words.len() < length || phrase.words.len() > text.len() {
                continue;
            }
            let here = &text[..phrase.words.len()];
            let fits = phrase
                .words
                .iter()
                .zip(&phrase.capitals)
                .zip(here)
                .all(|((word, capital), w)| *word == w.folded && (!capital || w.capital || w.has_digit()));
            // "It follows …": a title of one everyday word is not meant at the start of a sentence.
            let everyday = sentence_start && phrase.words.len() == 1 && is_common(&phrase.words[0]);
            if fits && !everyday {
                if phrase.words.len() > length {
                    meanings.clear();
                }
                length = phrase.words.len();
                meanings.push(phrase.meaning.clone());
            }
        }
        (length > 0).then_some((length, meanings))
    }

    /// Length of the stretch at the start of `text` that the item's description has word for word.
    pub(crate) fn quoted(&self, text: &[&Word]) -> usize {
        const QUOTE_WORDS_MIN: usize = 5;
        let description = &self.subjects[0].description;
        let longest = (0..description.len())
            .map(|start| {
                description[start..]
                    .iter()
                    .zip(text)
                    .take_while(|(a, b)| a.folded == b.folded)
                    .count()
            })
            .max()
            .unwrap_or(0);
        if longest >= QUOTE_WORDS_MIN { longest } else { 0 }
    }

    /// Whether an item holds a value as asked; the evidence for it.
    pub(crate) fn holds(&self, subject: usize, value: &str, need: &Need) -> Vec<Evidence> {
        let subject = &self.subjects[subject];
        let mut evidence: Vec<Evidence> = subject
            .values
            .iter()
            .filter(|held| {
                held.folded == value
                    && match need {
                        Need::Any => true,
                        Need::Role(role) => held.role == *role,
                        Need::Label(spoken) => label(&held.attribute) == *spoken,
                    }
            })
            .map(|held| Evidence::Attribute {
                item: subject.item.id.clone(),
                name: held.attribute.clone(),
                value: subject.original(held),
            })
            .collect();
        if evidence.is_empty() && *need == Need::Any && subject.describes(value) {
            evidence.push(Evidence::Description {
                item: subject.item.id.clone(),
            });
        }
        evidence
    }

    /// Evidence that two items have something in common: in one role, or (without one) in any but the year.
    pub(crate) fn common(&self, subject: usize, role: Option<Role>) -> Vec<Evidence> {
        let item = &self.subjects[0];
        let other = &self.subjects[subject];
        let mut evidence = Vec::new();
        for held in &item.values {
            if role.map_or(matches!(held.role, Role::Year | Role::Hidden), |role| {
                held.role != role
            }) {
                continue;
            }
            let shared = other.values.iter().filter(|o| {
                o.folded == held.folded
                    && o.role == held.role
                    && (held.role != Role::Other || label(&o.attribute) == label(&held.attribute))
            });
            for o in shared {
                for (s, h) in [(item, held), (other, o)] {
                    let found = Evidence::Attribute {
                        item: s.item.id.clone(),
                        name: h.attribute.clone(),
                        value: s.original(h),
                    };
                    if !evidence.contains(&found) {
                        evidence.push(found);
                    }
                }
            }
        }
        evidence
    }

    /// Where the item's premise stands.
    pub(crate) fn premise_evidence(&self) -> Evidence {
        let item = self.subjects[0].item.id.clone();
        self.premise.clone().unwrap_or(Evidence::Description { item })
    }

    pub(crate) fn affinity(&self, id: &ItemId) -> Option<&Affinity> {
        self.affinities
            .iter()
            .find(|a| a.item == *id && a.lift >= LIFT_MIN && a.lift.is_finite() && a.support > 0)
    }

    pub(crate) fn subject_of(&self, id: &ItemId) -> Option<usize> {
        // The history's view first: an item that was seen before may be recommended again.
        self.subjects.iter().position(|s| s.item.id == *id)
    }

    pub(crate) fn history_of(&self, id: &ItemId) -> Option<usize> {
        self.subjects
            .iter()
            .skip(1)
            .position(|s| s.item.id == *id)
            .map(|n| n + 1)
    }

    /// Whether a piece of evidence is part of this request.
    pub(crate) fn resolves(&self, evidence: &Evidence) -> bool {
        match evidence {
            Evidence::History { item } => self
                .history_of(item)
                .is_some_and(|n| self.subjects[n].standing != Standing::Disliked),
            Evidence::Attribute { item, name, value } => self.subject_of(item).is_some_and(|n| {
                let subject = &self.subjects[n];
                subject.standing != Standing::Disliked
                    && subject.item.values(name).iter().any(|v| fold(v) == fold(value))
            }),
            Evidence::Description { item } => self
                .subject_of(item)
                .is_some_and(|n| !self.subjects[n].item.description.trim().is_empty()),
            Evidence::Affinity { item } => self.history_of(item).is_some() && self.affinity(item).is_some(),
            Evidence::Fact { .. } => false,
        }
    }
}

impl Subject {
    fn new(vocabulary: &Vocabulary, item: &Arc<Item>, standing: Standing) -> Self {
        const VALUES_MAX: usize = 24;
        let mut values = Vec::new();
        let mut description = words(&clean(&item.description, DESCRIPTION_CHARS_MAX));
        for (attribute, held) in &item.attributes {
            let role = vocabulary.role(attribute);
            for value in held.iter().take(VALUES_MAX) {
                if role == Role::Premise {
                    description.extend(words(&clean(value, DESCRIPTION_CHARS_MAX)));
                    continue;
                }
                if role == Role::Hidden {
                    continue;
                }
                let value = clean(value, VALUE_CHARS_MAX);
                let decade = if role == Role::Year { decade(&value) } else { None };
                for value in [Some(value), decade].into_iter().flatten() {
                    values.push(Held {
                        attribute: attribute.clone(),
                        role,
                        folded: fold(&value),
                        value,
                    });
                }
            }
        }
        let mut stems: Vec<String> = values
            .iter()
            .flat_map(|held| words(&held.value))
            .chain(description.iter().cloned())
            .map(|w| stem(&w.folded))
            .collect();
        stems.sort();
        stems.dedup();
        Self {
            item: Arc::clone(item),
            standing,
            values,
            description,
            stems,
        }
    }

    /// The value as the item has it (a decade stands for its year).
    fn original(&self, held: &Held) -> String {
        let values = self.item.values(&held.attribute);
        let exact = values
            .iter()
            .find(|v| fold(&clean(v, VALUE_CHARS_MAX)) == held.folded);
        let found = exact.or_else(|| {
            values
                .iter()
                .find(|v| decade(v).is_some_and(|d| d == held.folded))
        });
        found.cloned().unwrap_or_else(|| held.value.clone())
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
        let parts: Vec<String> = words(&canonical(term)).iter().map(|w| stem(&w.folded)).collect();
        parts.iter().all(|part| self.stems.binary_search(part).is_ok())
    }
}

fn canonical(term: &str) -> String {
    match term {
        "sci fi" | "scifi" => "science fiction".to_owned(),
        "romcom" => "romantic comedy".to_owned(),
        other => other.to_owned(),
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
