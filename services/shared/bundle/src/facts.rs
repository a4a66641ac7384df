//! Between the Oracle's facts, the points of a text, and their words in a slot prompt.

use refract_domain::{Evidence, Fact, FactKind, History, ItemId, Pair, Signal};
use refract_truth::phrase::{self, Matter};
use refract_truth::{Form, Point, PointKind, Reading, Relation, Role, Target, Vocabulary, render};

use crate::slots::SlotTable;

/// The word of a role in a slot prompt.
pub(crate) fn role_word(role: Role) -> &'static str {
    match role {
        Role::Director => "director",
        Role::Cast => "cast",
        Role::Author => "author",
        Role::Artist => "artist",
        Role::Maker => "maker",
        Role::Genre => "genre",
        Role::Series => "series",
        Role::Source => "source",
        Role::Year => "year",
        Role::Place => "place",
        Role::Premise | Role::Other | Role::Hidden => "other",
    }
}

/// Roles that are spoken of by the attribute's own name.
pub(crate) fn needs_label(role: Role) -> bool {
    matches!(
        role,
        Role::Author | Role::Artist | Role::Maker | Role::Place | Role::Other
    )
}

/// A fact as a point, if it is of a kind that slots can carry and leans on this request only.
pub(crate) fn point_of_fact(
    vocabulary: &Vocabulary,
    fact: &Fact,
    item: &Reading,
    history: &History,
) -> Option<Point> {
    let named: Vec<ItemId> = fact.history_items().cloned().collect();
    if !named
        .iter()
        .all(|id| history.find(id).is_some_and(|i| i.signal != Signal::Disliked))
    {
        return None;
    }
    let liked = named
        .iter()
        .all(|id| history.find(id).is_some_and(|i| i.signal == Signal::Liked));
    let kind = match &fact.kind {
        FactKind::Shared { attribute, value } if !named.is_empty() => PointKind::Shared {
            role: vocabulary.role(attribute),
            attribute: attribute.clone(),
            value: value.clone(),
        },
        FactKind::CoLiked { .. } if !named.is_empty() => PointKind::CoLiked,
        FactKind::Premise => PointKind::Premise(item.premise()?.clone()),
        _ => return None,
    };
    Some(Point {
        kind,
        history: named,
        liked,
    })
}

/// A point in the words of a slot prompt; `None` when something in it has no slot.
pub(crate) fn words_of(
    table: &mut SlotTable,
    point: &Point,
    surface: &dyn Fn(&Target) -> String,
) -> Option<String> {
    let mut words = Vec::new();
    match &point.kind {
        PointKind::Shared {
            role,
            attribute,
            value,
        } => {
            words.push(role_word(*role).to_owned());
            if needs_label(*role) {
                let label = Target::Label {
                    attribute: attribute.clone(),
                };
                words.push(table.slot(&label, &surface(&label))?);
            }
            let target = Target::Value {
                attribute: attribute.clone(),
                value: value.clone(),
            };
            words.push(table.slot(&target, &surface(&target))?);
        }
        PointKind::CoLiked => words.push("coliked".to_owned()),
        PointKind::Premise(premise) => {
            let target = Target::Plot(premise.clone());
            words.push("premise".to_owned());
            words.push(form_word(premise.form).to_owned());
            words.push(table.slot(&target, &surface(&target))?);
        }
    }
    if !point.history.is_empty() {
        words.push("of".to_owned());
        for id in &point.history {
            words.push(table.find(&Target::History(id.clone()))?);
        }
        if !point.liked {
            words.push("seen".to_owned());
        }
    }
    Some(words.join(" "))
}

pub(crate) fn form_word(form: Form) -> &'static str {
    match form {
        Form::Verb => "verb",
        Form::Clause => "clause",
    }
}

/// A point as a plain English clause, readable on its own, without a full stop.
pub(crate) fn clause_of(matter: &Matter<'_>, point: &Point, surface: &dyn Fn(&Target) -> String) -> String {
    let parts: Vec<_> = phrase::compose(matter, std::slice::from_ref(point), 0, surface)
        .into_iter()
        .take(1)
        .flatten()
        .collect();
    render(&parts).text.trim_end_matches('.').to_owned()
}

/// The fact that a candidate relation becomes when the Oracle chooses it.
pub(crate) fn fact_of(relation: &Relation, text: String) -> Fact {
    Fact {
        kind: relation.fact_kind(),
        text,
        evidence: relation.evidence.clone(),
    }
}

/// Nothing links the item to the history.
pub(crate) fn unrelated(
    pair: &Pair,
    matter: &Matter<'_>,
    surface: &dyn Fn(&Target) -> String,
) -> Option<Fact> {
    let sentences = phrase::compose(matter, &[], 0, surface);
    let parts: Vec<_> = sentences.into_iter().take(1).flatten().collect();
    if parts.is_empty() {
        return None;
    }
    let evidence = parts
        .iter()
        .filter_map(|part| match part {
            refract_truth::Part::Mention(Target::Value { attribute, value }, _) => {
                Some(Evidence::Attribute {
                    item: pair.item.id.clone(),
                    name: attribute.clone(),
                    value: value.clone(),
                })
            }
            _ => None,
        })
        .collect();
    Some(Fact {
        kind: FactKind::Unrelated,
        text: render(&parts).text.trim_end_matches('.').to_owned(),
        evidence,
    })
}
