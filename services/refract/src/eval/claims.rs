//! Whether evidence holds: of an explanation's claims, and of the Oracle's facts. Asks the data, not the gate.

use refract_domain::{Claim, Evidence, Fact, FactKind, Signal};

use super::check::check;
use super::lexicon::{Family, Lexicon};
use super::read::contains_word;
use super::scene::{Place, Scene};
use super::words::{tidy, words};

/// Why a claim or a fact does not stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Unfounded {
    /// The span is not a stretch of the text.
    Span,
    /// Nothing is given for it.
    NoEvidence,
    /// An item that is neither the item nor in the history, or was disliked.
    Item,
    /// A history item that the text does not name.
    NotNamed,
    /// The item has no such value of this attribute.
    Value,
    /// The description does not say it.
    Description,
    /// The data show no such behaviour.
    Affinity,
    /// There is no fact of this number.
    Fact,
    /// The words of a fact say something false.
    Text,
}

/// The claims of `text` that do not stand, with the reason.
pub(crate) fn unfounded_claims(
    scene: &Scene,
    text: &str,
    claims: &[Claim],
    facts: &[Fact],
) -> Vec<Unfounded> {
    let mut found = Vec::new();
    for claim in claims {
        let Some(said) = text
            .get(claim.span.clone())
            .filter(|said| !said.trim().is_empty())
        else {
            found.push(Unfounded::Span);
            continue;
        };
        if claim.evidence.is_empty() {
            found.push(Unfounded::NoEvidence);
        }
        found.extend(claim.evidence.iter().find_map(|evidence| {
            evidence_holds(scene, evidence, facts.len(), Some(said))
                .or_else(|| not_named(scene, evidence, text))
        }));
    }
    found
}

fn not_named(scene: &Scene, evidence: &Evidence, text: &str) -> Option<Unfounded> {
    let Evidence::History { item } = evidence else {
        return None;
    };
    let place = scene.place_of(item)?;
    (!contains_word(text, &scene.subject(place).title)).then_some(Unfounded::NotNamed)
}

fn evidence_holds(scene: &Scene, evidence: &Evidence, facts: usize, said: Option<&str>) -> Option<Unfounded> {
    let usable = |place: &Place| scene.subject(*place).signal != Some(Signal::Disliked);
    let place_of = |id| scene.place_of(id).filter(usable);
    match evidence {
        Evidence::History { item } => place_of(item)
            .is_none_or(|place| place == 0)
            .then_some(Unfounded::Item),
        Evidence::Attribute { item, name, value } => {
            let Some(place) = place_of(item) else {
                return Some(Unfounded::Item);
            };
            let held = scene
                .subject(place)
                .item
                .attributes
                .get(name)
                .is_some_and(|values| values.iter().any(|v| tidy(v) == tidy(value)));
            (!held && !scene.holds(place, value, Some(Family::of(name)))).then_some(Unfounded::Value)
        }
        Evidence::Description { item } => {
            let Some(place) = place_of(item) else {
                return Some(Unfounded::Item);
            };
            let lower = |text: &str| {
                words(text)
                    .iter()
                    .map(|w| w.text.to_lowercase())
                    .collect::<Vec<_>>()
            };
            let description = lower(&scene.subject(place).item.description);
            let told: Vec<String> = said
                .map(lower)
                .unwrap_or_default()
                .into_iter()
                .filter(|w| w.len() > 3)
                .collect();
            let there = told.iter().filter(|word| description.contains(word)).count();
            (description.is_empty() || there * 2 < told.len()).then_some(Unfounded::Description)
        }
        Evidence::Affinity { item } => {
            (!place_of(item).is_some_and(|place| scene.is_co_liked(place))).then_some(Unfounded::Affinity)
        }
        Evidence::Fact { index } => (*index >= facts).then_some(Unfounded::Fact),
    }
}

/// Why a fact of the Oracle is not true of this request; `None` if it is.
pub(crate) fn unfounded_fact(lexicon: &Lexicon, scene: &Scene, fact: &Fact) -> Option<Unfounded> {
    if let Some(reason) = fact
        .evidence
        .iter()
        .find_map(|evidence| evidence_holds(scene, evidence, 0, None))
    {
        return Some(reason);
    }
    let history: Vec<Place> = fact.history_items().filter_map(|id| scene.place_of(id)).collect();
    let reason = match &fact.kind {
        FactKind::Shared { attribute, value } => {
            let family = Family::of(attribute);
            let all = history
                .iter()
                .chain([&0])
                .all(|place| scene.holds(*place, value, Some(family)));
            (history.is_empty() || !all).then_some(Unfounded::Value)
        }
        FactKind::CoLiked { .. } => (history.is_empty()
            || !history.iter().all(|place| scene.is_co_liked(*place)))
        .then_some(Unfounded::Affinity),
        FactKind::Premise => fact.evidence.is_empty().then_some(Unfounded::NoEvidence),
        FactKind::Unrelated | FactKind::Statement => None,
    };
    let sentence = format!("{}.", fact.text.trim_end_matches('.'));
    reason.or_else(|| (!check(lexicon, scene, &sentence).faults.is_empty()).then_some(Unfounded::Text))
}
