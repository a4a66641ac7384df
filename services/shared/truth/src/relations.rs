//! What ties an item to a history: candidate relations with their evidence and a weight by rule.

use std::collections::HashSet;
use std::sync::Arc;

use refract_domain::{Evidence, FactKind, History, Item, ItemId, Pair, Signal};

use crate::premise::Premise;
use crate::reading::{Reading, Sought};
use crate::text::{VALUE_CHARS_MAX, sayable};
use crate::vocabulary::{Role, Vocabulary};

/// Bounds of the search.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Relations that are handed on, best first.
    pub relations_max: usize,
    /// History items that one relation names, newest first.
    pub history_items_max: usize,
    /// Values of one attribute that are looked at, in the catalogue's order.
    pub values_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            relations_max: 12,
            history_items_max: 3,
            values_max: 16,
        }
    }
}

/// Affinities below this lift are chance.
pub const LIFT_MIN: f32 = 1.2;

/// One statement that could be made about an item and a history.
#[derive(Clone, Debug, PartialEq)]
pub struct Relation {
    pub kind: Kind,
    /// The history items it leans on, newest first; empty for what is said of the item alone.
    pub history: Vec<Arc<Item>>,
    /// All of them were liked; otherwise seen, and no opinion may be spoken of.
    pub liked: bool,
    /// By rule: rarer, stronger and more recent is more. About 0.2 (a decade) to 4 (a series, yesterday).
    pub weight: f32,
    pub evidence: Vec<Evidence>,
}

/// What a relation says.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// The item and the history items have this value (of the item's own attribute) in common.
    /// For years the value is a decade: `1990s`.
    Shared {
        role: Role,
        attribute: String,
        value: String,
    },
    /// People who liked the history item liked this one `lift` times more often than chance.
    CoLiked { lift: f32, support: u32 },
    /// What the item is about.
    Premise(Premise),
}

impl Relation {
    pub fn fact_kind(&self) -> FactKind {
        match &self.kind {
            Kind::Shared { attribute, value, .. } => FactKind::Shared {
                attribute: attribute.clone(),
                value: value.clone(),
            },
            Kind::CoLiked { lift, .. } => FactKind::CoLiked { lift: *lift },
            Kind::Premise(_) => FactKind::Premise,
        }
    }

    /// Whether it ties the item to the history (a premise does not).
    pub fn is_link(&self) -> bool {
        !self.history.is_empty()
    }

    /// A person, a series or a source in common with something liked.
    fn is_close(&self) -> bool {
        matches!(&self.kind, Kind::Shared { role, .. }
            if self.liked && (role.is_name() || matches!(role, Role::Series | Role::Source)))
    }

    /// A country or a decade in common: worth a word only where nothing closer is there.
    fn is_weak(&self) -> bool {
        matches!(&self.kind, Kind::Shared { role, .. } if matches!(role, Role::Place | Role::Year))
    }
}

/// The relations between the pair's item and what the user liked (else saw), best first. Disliked items never count.
pub fn relations(pair: &Pair, history: &History) -> Vec<Relation> {
    relations_within(Vocabulary::standard(), &Limits::default(), pair, history)
}

/// [`relations`] with a deployment's vocabulary and bounds.
pub fn relations_within(
    vocabulary: &Vocabulary,
    limits: &Limits,
    pair: &Pair,
    history: &History,
) -> Vec<Relation> {
    let read = vocabulary.read(&pair.item);
    let past = past(vocabulary, pair, &read, history);
    let mut found = Vec::new();
    let mut asked: Vec<Wanted<'_>> = Vec::new();
    for (attribute, values) in &pair.item.attributes {
        let role = vocabulary.role(attribute);
        if matches!(role, Role::Premise | Role::Hidden) {
            continue;
        }
        for value in values.iter().take(limits.values_max) {
            let Some(value) = shared_value(role, value) else {
                continue;
            };
            let wanted = Wanted {
                role,
                attribute,
                sought: Sought::new(role, attribute, &value),
                value,
            };
            if asked.iter().any(|before| before.is_same(&wanted)) {
                continue;
            }
            let Some(relation) = shared(vocabulary, limits, &read, &past, &wanted) else {
                continue;
            };
            found.push(relation);
            asked.push(wanted);
        }
    }
    found.extend(co_liked(limits, pair, &past));
    found.extend(read.premise().cloned().map(|premise| Relation {
        evidence: vec![premise.evidence.clone()],
        kind: Kind::Premise(premise),
        history: Vec::new(),
        liked: true,
        weight: 0.5,
    }));
    if found.iter().any(Relation::is_close) {
        found.retain(|relation| !relation.is_weak());
    }
    found.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    found.truncate(limits.relations_max);
    found
}

/// An item of the past that may be named.
struct Past {
    item: Arc<Item>,
    read: Arc<Reading>,
    liked: bool,
    /// 0 for the newest.
    age: usize,
}

/// What may be named, newest first, each item once with its newest signal. Without the item itself and its namesakes.
fn past(vocabulary: &Vocabulary, pair: &Pair, read: &Reading, history: &History) -> Vec<Past> {
    let mut met: HashSet<&ItemId> = HashSet::new();
    let mut past = Vec::new();
    for interaction in history.interactions().iter().rev() {
        let item = &interaction.item;
        if !met.insert(&item.id) || interaction.signal == Signal::Disliked || item.id == pair.item.id {
            continue;
        }
        let other = vocabulary.read(item);
        if other.is_nameable() && other.title_folded() != read.title_folded() {
            past.push(Past {
                item: Arc::clone(item),
                read: other,
                liked: interaction.signal == Signal::Liked,
                age: past.len(),
            });
        }
    }
    past
}

/// A value of the item, looked for in the past.
struct Wanted<'a> {
    role: Role,
    attribute: &'a str,
    value: String,
    sought: Sought,
}

impl Wanted<'_> {
    fn is_same(&self, other: &Self) -> bool {
        self.role == other.role
            && (self.role != Role::Other || self.attribute == other.attribute)
            && self.sought.value_folded() == other.sought.value_folded()
    }

    fn evidence<'r>(&'r self, read: &'r Reading) -> impl Iterator<Item = Evidence> + 'r {
        let holdings = read.holdings(&self.sought);
        holdings.into_iter().map(|(name, value)| Evidence::Attribute {
            item: read.item().id.clone(),
            name: name.to_owned(),
            value: value.to_owned(),
        })
    }
}

/// The form in which a value is shared: years as decades, the rest as it is; `None` for what cannot be said.
fn shared_value(role: Role, value: &str) -> Option<String> {
    match role {
        Role::Year => decade(value),
        _ => sayable(value, VALUE_CHARS_MAX).filter(|v| !crate::lexicon::is_common_phrase(v)),
    }
}

/// `1994` → `1990s`; a decade stays one.
pub fn decade(year: &str) -> Option<String> {
    let digits = year.trim().strip_suffix('s').unwrap_or(year.trim());
    let number: u32 = digits.parse().ok().filter(|_| digits.len() == 4)?;
    (1000..=2999)
        .contains(&number)
        .then(|| format!("{}s", number / 10 * 10))
}

fn shared(
    vocabulary: &Vocabulary,
    limits: &Limits,
    item: &Reading,
    past: &[Past],
    wanted: &Wanted<'_>,
) -> Option<Relation> {
    let holders: Vec<&Past> = past.iter().filter(|p| p.read.holds(&wanted.sought)).collect();
    let role = wanted.role;
    let liked = holders.iter().any(|p| p.liked);
    let holders: Vec<&Past> = holders.into_iter().filter(|p| p.liked == liked).collect();
    let newest = holders.first()?;
    let base = match role {
        Role::Series => 3.2,
        Role::Director | Role::Author | Role::Artist => 2.6,
        Role::Source => 2.4,
        Role::Cast => 2.1,
        Role::Maker => 1.6,
        Role::Genre => 0.3 + 0.7 * vocabulary.genre_rarity(&wanted.value),
        // Most of a catalogue may be of one place.
        Role::Place => 0.3,
        Role::Other => 0.9,
        Role::Year => 0.2,
        Role::Premise | Role::Hidden => return None,
    };
    // Rarity as far as a history shows it: what nearly everything has says little about this item.
    let share = holders.len() as f32 / past.len().max(1) as f32;
    let rarity = if past.len() >= 5 { 1.0 - 0.3 * share } else { 1.0 };
    let named = distinct_titles(&holders, limits.history_items_max);
    let mut evidence: Vec<Evidence> = wanted.evidence(item).collect();
    for past in &named {
        evidence.push(Evidence::History {
            item: past.item.id.clone(),
        });
        evidence.extend(wanted.evidence(&past.read));
    }
    let strength = 1.0 + 0.15 * (holders.len() as f32).ln();
    Some(Relation {
        kind: Kind::Shared {
            role,
            attribute: wanted.attribute.to_owned(),
            value: wanted.value.clone(),
        },
        history: named.iter().map(|p| Arc::clone(&p.item)).collect(),
        liked,
        weight: base * rarity * strength * recency(newest.age, role) * opinion(liked),
        evidence,
    })
}

fn distinct_titles<'a>(holders: &[&'a Past], max: usize) -> Vec<&'a Past> {
    let mut named: Vec<&Past> = Vec::new();
    for past in holders {
        if named.len() < max
            && !named
                .iter()
                .any(|n| n.read.title_folded() == past.read.title_folded())
        {
            named.push(past);
        }
    }
    named
}

fn co_liked(limits: &Limits, pair: &Pair, past: &[Past]) -> Vec<Relation> {
    let mut found: Vec<Relation> = Vec::new();
    for affinity in &pair.affinities {
        let Some(past) = past.iter().find(|p| p.item.id == affinity.item) else {
            continue;
        };
        if !affinity.lift.is_finite() || affinity.lift < LIFT_MIN || affinity.support == 0 {
            continue;
        }
        // Few common users make a lift unsure: shrink it towards chance.
        let trust = affinity.support as f32 / (affinity.support as f32 + 5.0);
        // Capped below a name that was liked: others' behaviour tells that there is a tie, a name tells which.
        let strength = (affinity.lift.ln() * trust).min(2.5);
        found.push(Relation {
            kind: Kind::CoLiked {
                lift: affinity.lift,
                support: affinity.support,
            },
            history: vec![Arc::clone(&past.item)],
            liked: past.liked,
            weight: (0.3 + 0.6 * strength) * recency(past.age, Role::Other) * opinion(past.liked),
            evidence: vec![
                Evidence::History {
                    item: past.item.id.clone(),
                },
                Evidence::Affinity {
                    item: past.item.id.clone(),
                },
            ],
        });
    }
    found.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    found.truncate(limits.history_items_max);
    found
}

/// Recent likes weigh more: 1 for the newest, half of the way to the least after six items. The least is 0.6, and 0.75 for a name or a
/// series, which is remembered.
fn recency(age: usize, role: Role) -> f32 {
    let least = if role.is_name() || role == Role::Series {
        0.75
    } else {
        0.6
    };
    least + (1.0 - least) * 0.5_f32.powf(age as f32 / 6.0)
}

fn opinion(liked: bool) -> f32 {
    if liked { 1.0 } else { 0.5 }
}
