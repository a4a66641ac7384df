//! What a request holds, indexed so that a text can be compared with it: titles, values, descriptions.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use refract_domain::{Affinity, Evidence, History, ItemId, Pair, Signal};

use crate::lexicon::is_common;
use crate::reading::{Names, Phrase, Reading, hashed};
use crate::relations::LIFT_MIN;
use crate::text::{Word, fold};
use crate::vocabulary::{Role, Vocabulary};

/// Words that stand for something else, so that a title of the same spelling cannot be told from them at the start of a sentence.
const STAND_INS: &[&str] = &[
    "it",
    "he",
    "she",
    "they",
    "we",
    "you",
    "i",
    "this",
    "that",
    "these",
    "those",
    "here",
    "there",
    "who",
    "what",
    "which",
    "one",
    "all",
    "both",
    "each",
    "another",
    "everything",
    "nothing",
    "everyone",
    "nobody",
    "someone",
    "now",
    "then",
    "next",
    "so",
    "only",
    "first",
    "last",
];

/// What a sentence may say of a title in front of them: the verbs of `patterns.rs`, and a few more.
const VERBS_OF_ONE: &[&str] = &[
    "is", "was", "has", "had", "stars", "shares", "comes", "belongs", "brings", "breaks", "features",
    "joins", "keeps", "lets", "starts", "stays", "steps", "takes", "follows", "tells", "offers", "could",
    "would", "may", "might", "also",
];

/// How the user stands to an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Recommended,
    Liked,
    Seen,
    Disliked,
}

/// An item of the request.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) reading: Arc<Reading>,
    pub(crate) standing: Standing,
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
    index: OnceLock<Index>,
}

/// All phrases of all subjects by the hash of their first word. Made for each request, so it deals phrases out by a byte of the hash
/// and sorts nothing.
#[derive(Debug)]
struct Index {
    /// Where each byte's phrases begin, and where the last one's end.
    starts: [u32; 257],
    /// The first word hashed, the subject, the phrase; of each byte by subject, then by phrase.
    phrases: Vec<(u64, u32, u32)>,
}

impl Index {
    fn new(subjects: &[Subject]) -> Self {
        let all = || {
            (0u32..).zip(subjects).flat_map(|(n, subject)| {
                (0u32..)
                    .zip(&subject.phrases)
                    .map(move |(p, phrase)| (phrase.first, n, p))
            })
        };
        let mut starts = [0; 257];
        for (hash, ..) in all() {
            starts[byte(hash) + 1] += 1;
        }
        for i in 1..starts.len() {
            starts[i] += starts[i - 1];
        }
        let mut next = starts;
        let mut phrases = vec![(0, 0, 0); starts[256] as usize];
        for phrase in all() {
            let at = &mut next[byte(phrase.0)];
            phrases[*at as usize] = phrase;
            *at += 1;
        }
        Self { starts, phrases }
    }

    fn with_first(&self, hash: u64) -> impl Iterator<Item = (usize, usize)> {
        let (start, end) = (self.starts[byte(hash)], self.starts[byte(hash) + 1]);
        let of_byte = self.phrases[start as usize..end as usize].iter();
        of_byte
            .filter(move |(first, ..)| *first == hash)
            .map(|&(_, n, p)| (n as usize, p as usize))
    }
}

fn byte(hash: u64) -> usize {
    (hash >> 56) as usize
}

impl Known {
    pub(crate) fn new(vocabulary: &Vocabulary, pair: &Pair, history: &History) -> Self {
        let mut subjects = vec![Subject {
            reading: vocabulary.read(&pair.item),
            standing: Standing::Recommended,
        }];
        let mut met: HashSet<&ItemId> = HashSet::new();
        for interaction in history.interactions().iter().rev() {
            if !met.insert(&interaction.item.id) {
                continue;
            }
            let standing = match interaction.signal {
                Signal::Liked => Standing::Liked,
                Signal::Seen => Standing::Seen,
                Signal::Disliked => Standing::Disliked,
            };
            subjects.push(Subject {
                reading: vocabulary.read(&interaction.item),
                standing,
            });
        }
        Self {
            subjects,
            affinities: pair.affinities.clone(),
            index: OnceLock::new(),
        }
    }

    /// Surfaces whose stops end no sentence.
    pub(crate) fn stopped(&self) -> Vec<Arc<[String]>> {
        let stopped = self.subjects.iter().map(|subject| &subject.stopped);
        stopped
            .filter(|surfaces| !surfaces.is_empty())
            .map(Arc::clone)
            .collect()
    }

    /// The longest known stretch at the start of `text`: how many words, and all it may mean.
    pub(crate) fn longest(&self, text: &[&Word], sentence_start: bool) -> Option<(usize, Vec<Meaning>)> {
        let first = hashed(&text.first()?.folded);
        let mut length = 0;
        let mut meanings: Vec<Meaning> = Vec::new();
        for (n, phrase) in self.phrases_from(first) {
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
            // "It follows …", "Once you have …": one everyday word at the start of a sentence is no title …
            let everyday = sentence_start && phrase.words.len() == 1 && is_common(&phrase.words[0]);
            // … but in "Seven stars …" and "Drive and Heat share …" nothing else can be meant.
            let everyday = everyday && !(phrase.names == Names::Title && self.is_subject(text));
            if !fits || everyday {
                continue;
            }
            if phrase.words.len() > length {
                meanings.clear();
            }
            length = phrase.words.len();
            let meaning = match &phrase.names {
                Names::Title => Meaning::Title(n),
                Names::Value(folded) => Meaning::Value(folded.clone()),
                Names::Label(spoken) => Meaning::Label(spoken.clone()),
            };
            if !meanings.contains(&meaning) {
                meanings.push(meaning);
            }
        }
        (length > 0).then_some((length, meanings))
    }

    /// Whether the first word does something as only a title does: it is no stand-in, and what follows is a verb of a single thing,
    /// or `and` with another title.
    fn is_subject(&self, text: &[&Word]) -> bool {
        let [first, next, rest @ ..] = text else {
            return false;
        };
        if STAND_INS.contains(&first.folded.as_str()) {
            return false;
        }
        let joined = || {
            next.folded == "and"
                && self
                    .longest(rest, false)
                    .is_some_and(|(_, meanings)| meanings.iter().any(|m| matches!(m, Meaning::Title(_))))
        };
        VERBS_OF_ONE.contains(&next.folded.as_str()) || joined()
    }

    /// Phrases with this first word, with the numbers of their subjects.
    fn phrases_from(&self, first: u64) -> impl Iterator<Item = (usize, &Phrase)> {
        let index = self.index.get_or_init(|| Index::new(&self.subjects));
        let found = index.with_first(first);
        found.map(|(n, p)| (n, &self.subjects[n].phrases[p]))
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
                        Need::Label(spoken) => held.label == *spoken,
                    }
            })
            .map(|held| Evidence::Attribute {
                item: subject.id().clone(),
                name: held.attribute.clone(),
                value: held.original.clone(),
            })
            .collect();
        if evidence.is_empty() && *need == Need::Any && subject.describes(value) {
            evidence.push(Evidence::Description {
                item: subject.id().clone(),
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
                    && (held.role != Role::Other || o.label == held.label)
            });
            for o in shared {
                for (s, h) in [(item, held), (other, o)] {
                    let found = Evidence::Attribute {
                        item: s.id().clone(),
                        name: h.attribute.clone(),
                        value: h.original.clone(),
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
        let item = &self.subjects[0];
        let description = || Evidence::Description {
            item: item.id().clone(),
        };
        item.premise()
            .map_or_else(description, |premise| premise.evidence.clone())
    }

    pub(crate) fn affinity(&self, id: &ItemId) -> Option<&Affinity> {
        self.affinities
            .iter()
            .find(|a| a.item == *id && a.lift >= LIFT_MIN && a.lift.is_finite() && a.support > 0)
    }

    pub(crate) fn subject_of(&self, id: &ItemId) -> Option<usize> {
        // The history's view first: an item that was seen before may be recommended again.
        self.subjects.iter().position(|s| s.id() == id)
    }

    pub(crate) fn history_of(&self, id: &ItemId) -> Option<usize> {
        self.subjects
            .iter()
            .skip(1)
            .position(|s| s.id() == id)
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
                    && subject
                        .item()
                        .values(name)
                        .iter()
                        .any(|v| v == value || fold(v) == fold(value))
            }),
            Evidence::Description { item } => self
                .subject_of(item)
                .is_some_and(|n| !self.subjects[n].item().description.trim().is_empty()),
            Evidence::Affinity { item } => self.history_of(item).is_some() && self.affinity(item).is_some(),
            Evidence::Fact { .. } => false,
        }
    }
}

impl Subject {
    pub(crate) fn id(&self) -> &ItemId {
        &self.reading.item().id
    }
}

impl std::ops::Deref for Subject {
    type Target = Reading;

    fn deref(&self) -> &Reading {
        &self.reading
    }
}
