//! One request as the checkers see it: the item, the history, and what others' behaviour really says.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use refract_domain::{Affinity, History, Interaction, Item, ItemId, Signal};
use refract_truth::text::fold;

use super::lexicon::{Family, descriptor, forms};
use super::words::{bare, tidy, words};

/// A thing that a sentence can be about: 0 is the item, the others are the history.
pub(crate) type Place = usize;

#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) item: Arc<Item>,
    pub(crate) title: String,
    /// Newest opinion; of the item itself `None`.
    pub(crate) signal: Option<Signal>,
    values: Vec<Held>,
}

/// One attribute value, in the forms in which texts are compared with it.
#[derive(Clone, Debug)]
struct Held {
    family: Family,
    /// Without accents: a name is the same person with and without them.
    folded: String,
    descriptor: String,
}

impl Subject {
    fn of(item: &Arc<Item>, signal: Option<Signal>) -> Self {
        let speakable =
            |name: &str| Some(Family::of(name)).filter(|f| !matches!(f, Family::Prose | Family::Hidden));
        let values = item
            .attributes
            .iter()
            .filter_map(|(name, values)| Some((speakable(name)?, values)));
        let held = |(family, values): (Family, &Vec<String>)| {
            let held = |v: &String| Held {
                family,
                folded: fold(v),
                descriptor: descriptor(v),
            };
            values.iter().map(held).collect::<Vec<_>>()
        };
        Self {
            item: item.clone(),
            title: tidy(&item.title),
            signal,
            values: values.flat_map(held).collect(),
        }
    }
}

/// Families whose values tie two items closest.
const NAMES: [Family; 4] = [Family::Director, Family::Cast, Family::Author, Family::Series];

/// The request behind a text.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    subjects: Vec<Subject>,
    by_title: HashMap<String, Vec<Place>>,
    affinities: HashMap<ItemId, Affinity>,
    /// Lift of each history item and the item, counted anew from the data.
    lifts: HashMap<ItemId, f32>,
    /// Every word of titles, values and descriptions that the request holds.
    traceable: HashSet<String>,
}

impl Scene {
    pub(crate) fn new(
        item: &Arc<Item>,
        history: &History,
        affinities: &[Affinity],
        lifts: HashMap<ItemId, f32>,
    ) -> Self {
        let mut newest: BTreeMap<usize, &Interaction> = BTreeMap::new();
        let mut met: HashSet<&ItemId> = HashSet::new();
        for (age, interaction) in history.interactions().iter().rev().enumerate() {
            if interaction.item.id != item.id && met.insert(&interaction.item.id) {
                newest.insert(age, interaction);
            }
        }
        let mut subjects = vec![Subject::of(item, None)];
        subjects.extend(newest.values().map(|i| Subject::of(&i.item, Some(i.signal))));
        let mut by_title: HashMap<String, Vec<Place>> = HashMap::new();
        let mut traceable = HashSet::new();
        for (place, subject) in subjects.iter().enumerate() {
            by_title.entry(subject.title.clone()).or_default().push(place);
            let values = subject.item.attributes.values().flatten().map(String::as_str);
            for text in values.chain([subject.title.as_str(), subject.item.description.as_str()]) {
                traceable.extend(words(text).iter().map(|w| bare(w.text)));
            }
        }
        let affinities = affinities.iter().map(|a| (a.item.clone(), a.clone())).collect();
        Self {
            subjects,
            by_title,
            affinities,
            lifts,
            traceable,
        }
    }

    pub(crate) fn subjects(&self) -> &[Subject] {
        &self.subjects
    }

    pub(crate) fn subject(&self, place: Place) -> &Subject {
        &self.subjects[place]
    }

    pub(crate) fn item(&self) -> &Arc<Item> {
        &self.subjects[0].item
    }

    /// The item first, then the newest of the history: a remake shares its title with the original.
    pub(crate) fn titled(&self, title: &str) -> &[Place] {
        self.by_title.get(title).map(Vec::as_slice).unwrap_or_default()
    }

    pub(crate) fn place_of(&self, id: &ItemId) -> Option<Place> {
        self.subjects.iter().position(|s| s.item.id == *id)
    }

    pub(crate) fn is_traceable(&self, word: &str) -> bool {
        self.traceable.contains(&bare(word))
    }

    /// Whether a subject has a value, in a family if one is given. Years hold for their decade, descriptions in any case.
    pub(crate) fn holds(&self, place: Place, value: &str, family: Option<Family>) -> bool {
        let folded = fold(value);
        // Names keep their capitals; what describes is spoken of in lower case.
        let spoken = if value.contains(char::is_uppercase) {
            Vec::new()
        } else {
            forms(value)
        };
        let decade = value
            .strip_suffix('s')
            .filter(|d| d.len() == 4 && d.ends_with('0') && d.bytes().all(|b| b.is_ascii_digit()));
        let has = |held: &Held| {
            let year = held.family == Family::Year && held.folded.len() == 4;
            let in_decade = decade.is_some_and(|d| year && held.folded.starts_with(&d[..3]));
            in_decade || held.folded == folded || spoken.contains(&held.descriptor)
        };
        let held = &self.subjects[place].values;
        held.iter()
            .any(|held| family.is_none_or(|family| family == held.family) && has(held))
    }

    /// Whether anyone in the request has the value.
    pub(crate) fn anyone_holds(&self, value: &str) -> bool {
        (0..self.subjects.len()).any(|place| self.holds(place, value, None))
    }

    /// Whether the item and a history item share a value of a family (of any but the year, if none is given).
    pub(crate) fn shares(&self, place: Place, family: Option<Family>) -> bool {
        let values = self
            .item()
            .attributes
            .iter()
            .map(|(name, values)| (Family::of(name), values));
        let spoken = values.filter(|(of, _)| match family {
            Some(family) => *of == family,
            None => !matches!(of, Family::Prose | Family::Hidden | Family::Year),
        });
        spoken
            .flat_map(|(of, values)| values.iter().map(move |value| (of, value)))
            .any(|(of, value)| {
                let decade = (of == Family::Year)
                    .then(|| value.get(..3).map(|d| format!("{d}0s")))
                    .flatten();
                self.holds(place, value, Some(of)) || decade.is_some_and(|d| self.holds(place, &d, Some(of)))
            })
    }

    /// Whether a value is a person or series of the item and of something that the user liked: what ties two items closest.
    pub(crate) fn is_name_in_common(&self, value: &str) -> bool {
        NAMES.iter().any(|family| {
            self.holds(0, value, Some(*family))
                && self.liked().any(|place| self.holds(place, value, Some(*family)))
        })
    }

    /// Whether there is such a value.
    pub(crate) fn has_name_in_common(&self) -> bool {
        self.liked()
            .any(|place| NAMES.iter().any(|family| self.shares(place, Some(*family))))
    }

    fn liked(&self) -> impl Iterator<Item = Place> {
        self.subjects
            .iter()
            .enumerate()
            .filter(|(_, s)| s.signal == Some(Signal::Liked))
            .map(|(place, _)| place)
    }

    /// Whether people who like the history item like the item more often than chance: said by the ranker, and so in the data.
    pub(crate) fn is_co_liked(&self, place: Place) -> bool {
        let id = &self.subjects[place].item.id;
        let told = self
            .affinities
            .get(id)
            .is_some_and(|a| a.lift.is_finite() && a.lift > 1.0 && a.support > 0);
        told && self.lifts.get(id).is_some_and(|lift| *lift > 1.0)
    }
}
