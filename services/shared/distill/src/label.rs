//! What a label file holds: lines that train a student by themselves, each saying how it came.

use std::collections::BTreeMap;
use std::sync::Arc;

use refract_domain::{
    Affinity, Evidence, Fact, FactKind, History, Interaction, Item, ItemId, Pair, Signal, TenantId,
    Timestamp, UserId,
};
use refract_measure::quality::Quality;
use serde::{Deserialize, Serialize};

use crate::ask::Ask;

/// One line of a label file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Label {
    /// Names user, item and history.
    pub id: String,
    /// `train`, `dev` or `test`.
    pub part: String,
    pub user: Option<String>,
    pub item: LabelItem,
    /// Oldest first.
    pub history: Vec<LabelItem>,
    /// Others' behaviour that the ranker knew of, as it is told to whoever explains.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub affinities: Vec<LabelAffinity>,
    /// What the teacher stated as facts, where it does: knowledge for a student that reads it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<LabelFact>,
    /// What the student is to write.
    pub text: String,
    pub quality: Told,
    pub provenance: Provenance,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LabelItem {
    pub id: String,
    pub title: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Vec<String>>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Seconds since 1970, of an interaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<i64>,
    /// `liked`, `seen` or `disliked`, of an interaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelAffinity {
    /// An item of the history.
    pub item: String,
    pub lift: f32,
    pub support: u32,
}

/// One statement of a teacher with its kind and evidence, so that any student can be told it as it will be when it serves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LabelFact {
    /// `shared`, `co_liked`, `premise`, `unrelated` or `statement`.
    pub kind: String,
    pub text: String,
    /// Of a shared value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attribute: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Of others' likes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lift: Option<f32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<LabelEvidence>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum LabelEvidence {
    History {
        item: String,
    },
    Attribute {
        item: String,
        name: String,
        value: String,
    },
    Description {
        item: String,
    },
    Affinity {
        item: String,
    },
}

impl LabelFact {
    pub(crate) fn of(fact: &Fact) -> Self {
        let id = |item: &ItemId| item.as_str().to_owned();
        let mut written = Self {
            text: fact.text.clone(),
            evidence: fact
                .evidence
                .iter()
                .filter_map(|evidence| {
                    Some(match evidence {
                        Evidence::History { item } => LabelEvidence::History { item: id(item) },
                        Evidence::Attribute { item, name, value } => LabelEvidence::Attribute {
                            item: id(item),
                            name: name.clone(),
                            value: value.clone(),
                        },
                        Evidence::Description { item } => LabelEvidence::Description { item: id(item) },
                        Evidence::Affinity { item } => LabelEvidence::Affinity { item: id(item) },
                        Evidence::Fact { .. } => return None,
                    })
                })
                .collect(),
            ..Self::default()
        };
        written.kind = match &fact.kind {
            FactKind::Shared { attribute, value } => {
                written.attribute = Some(attribute.clone());
                written.value = Some(value.clone());
                "shared"
            }
            FactKind::CoLiked { lift } => {
                written.lift = Some(*lift);
                "co_liked"
            }
            FactKind::Premise => "premise",
            FactKind::Unrelated => "unrelated",
            FactKind::Statement => "statement",
        }
        .to_owned();
        written
    }

    /// In the domain's words; `None` for a kind that is not known.
    pub fn fact(&self) -> Option<Fact> {
        let kind = match (self.kind.as_str(), &self.attribute, &self.value, self.lift) {
            ("shared", Some(attribute), Some(value), _) => FactKind::Shared {
                attribute: attribute.clone(),
                value: value.clone(),
            },
            ("co_liked", _, _, Some(lift)) => FactKind::CoLiked { lift },
            ("premise", ..) => FactKind::Premise,
            ("unrelated", ..) => FactKind::Unrelated,
            ("statement", ..) => FactKind::Statement,
            _ => return None,
        };
        let id = |item: &String| ItemId::new(item.as_str());
        let evidence = self.evidence.iter().map(|evidence| match evidence {
            LabelEvidence::History { item } => Evidence::History { item: id(item) },
            LabelEvidence::Attribute { item, name, value } => Evidence::Attribute {
                item: id(item),
                name: name.clone(),
                value: value.clone(),
            },
            LabelEvidence::Description { item } => Evidence::Description { item: id(item) },
            LabelEvidence::Affinity { item } => Evidence::Affinity { item: id(item) },
        });
        Some(Fact {
            kind,
            text: self.text.clone(),
            evidence: evidence.collect(),
        })
    }
}

/// What was found in the chosen text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    pub score: f64,
    pub words: usize,
    pub overlap: f64,
    pub repeat: f64,
    pub sentences: usize,
    /// Sentences that the truth gate refuses, the request alone being its evidence.
    pub sentences_unsupported: usize,
}

/// How a label came to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    pub teacher: String,
    /// Of weights, as far as the teacher tells it.
    pub teacher_revision: String,
    pub prompt: String,
    pub settings: String,
    /// `sampled` (the best of several) or `careful` (the second try).
    pub manner: String,
    pub candidates: usize,
    pub attempts: u32,
    /// Seconds since 1970.
    pub created_at: i64,
    pub refract: String,
}

/// One line of the file of rejections: a pair whose every candidate was refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rejection {
    pub id: String,
    pub reason: String,
    /// The best of the refused.
    pub text: String,
}

impl LabelItem {
    pub fn of(item: &Item) -> Self {
        Self {
            id: item.id.as_str().to_owned(),
            title: item.title.clone(),
            attributes: item.attributes.clone(),
            description: item.description.clone(),
            ..Self::default()
        }
    }

    fn item(&self) -> Item {
        Item {
            id: ItemId::new(self.id.as_str()),
            title: self.title.clone(),
            attributes: self.attributes.clone(),
            description: self.description.clone(),
        }
    }

    /// Without the description: a student's prompt shows titles and attributes of a history.
    fn of_interaction(interaction: &Interaction) -> Self {
        let signal = match interaction.signal {
            Signal::Liked => "liked",
            Signal::Seen => "seen",
            Signal::Disliked => "disliked",
        };
        Self {
            description: String::new(),
            at: Some(interaction.at.0),
            signal: Some(signal.to_owned()),
            ..Self::of(&interaction.item)
        }
    }
}

impl Label {
    /// The pair and the history as a station of the river would be asked about them.
    pub fn question(&self) -> (Pair, History) {
        let interaction = |item: &LabelItem| Interaction {
            item: Arc::new(item.item()),
            at: Timestamp(item.at.unwrap_or(0)),
            signal: match item.signal.as_deref() {
                Some("disliked") => Signal::Disliked,
                Some("seen") => Signal::Seen,
                _ => Signal::Liked,
            },
            rating: None,
            text: None,
        };
        let pair = Pair {
            tenant: TenantId::default(),
            user: self.user.as_ref().map(UserId::new),
            item: Arc::new(self.item.item()),
            affinities: self
                .affinities
                .iter()
                .map(|a| Affinity {
                    item: ItemId::new(a.item.as_str()),
                    lift: a.lift,
                    support: a.support,
                })
                .collect(),
        };
        (pair, History::new(self.history.iter().map(interaction).collect()))
    }

    pub(crate) fn new(
        ask: &Ask,
        id: String,
        facts: &[Fact],
        text: String,
        quality: Told,
        provenance: Provenance,
    ) -> Self {
        let kept = ask.history.interactions();
        let affinities = ask.pair.affinities.iter();
        Self {
            id,
            part: ask.part.clone(),
            user: ask.pair.user.as_ref().map(|user| user.expose().to_owned()),
            item: LabelItem::of(&ask.pair.item),
            affinities: affinities
                .map(|a| LabelAffinity {
                    item: a.item.as_str().to_owned(),
                    lift: a.lift,
                    support: a.support,
                })
                .collect(),
            history: kept.iter().map(LabelItem::of_interaction).collect(),
            facts: facts.iter().map(LabelFact::of).collect(),
            text,
            quality,
            provenance,
        }
    }
}

impl Told {
    pub(crate) fn of(quality: &Quality, sentences: usize, sentences_unsupported: usize) -> Self {
        let round = |x: f64| (x * 1e4).round() / 1e4;
        Self {
            score: round(quality.score),
            words: quality.words,
            overlap: round(quality.overlap),
            repeat: round(quality.repeat),
            sentences,
            sentences_unsupported,
        }
    }
}
