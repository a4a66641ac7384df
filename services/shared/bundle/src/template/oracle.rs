//! The prompt of a slot Oracle.

use std::sync::Arc;

use refract_domain::ItemId;
use refract_truth::{Relation, Target, point_of};

use super::Scene;
use crate::facts::words_of;
use crate::manifest::SlotLimits;
use crate::slots::SlotTable;

/// A slot Oracle's prompt before it is cut into ids, with the candidates in the order of the prompt.
#[derive(Clone, Debug)]
pub struct OraclePrompt {
    pub text: String,
    pub table: SlotTable,
    /// Each candidate under the name by which the Oracle chooses it: `c1`, `c2`, …
    pub candidates: Vec<(String, Relation)>,
    pub history_shown: usize,
}

/// Names for candidates that a slot tokenizer holds.
pub const CANDIDATES_MAX: usize = 16;
/// Candidates that a prompt lists, the strongest; weaker ones only hide them.
pub const CANDIDATES_LISTED_MAX: usize = 8;

/// The prompt of a slot Oracle: candidate relations, each with a name and its weight class, strongest first. The Oracle says how many
/// are worth telling and which go together.
///
/// Shuffled candidates were tried: a model of this size had not learnt to compare them after 2,400 steps of 64 (0.40 nats a token;
/// ordered, 0.10 after 400 steps of 32).
/// The Oracle answers with names. Repeating a candidate's own words instead was tried: a model of this size spends its
/// training on copying (0.44 of whole answers right after 2,400 steps) and not on judging.
pub fn oracle_slots(scene: &Scene, limits: &SlotLimits, history_items: usize) -> OraclePrompt {
    let mut table = SlotTable::new(
        *limits,
        Arc::clone(&scene.vocabulary),
        &scene.pair.item,
        scene.thing,
    );
    let surface = |target: &Target| scene.surface(target);
    let mut relations = fitting(scene.relations(), history_items.min(limits.history_max));
    refract_truth::strongest_first(&mut relations);
    let mut candidates = Vec::new();
    let mut listed = Vec::new();
    for relation in relations {
        let point = point_of(&relation);
        for id in &point.history {
            let target = Target::History(id.clone());
            table.slot(&target, &surface(&target));
        }
        if let Some(words) = words_of(&mut table, &point, &surface) {
            let name = format!("c{}", candidates.len() + 1);
            // What is judged by stands beside the name: the class, then the kind.
            listed.push(format!("{name} {} {words}", weight_word(relation.weight)));
            candidates.push((name, relation));
        }
    }
    let list = if listed.is_empty() {
        "none".to_owned()
    } else {
        listed.join(" ; ")
    };
    let history_shown = table.history().count();
    OraclePrompt {
        text: format!("weigh <item> facts {list}"),
        table,
        candidates,
        history_shown,
    }
}

/// The strongest relations whose history items fit into a prompt together.
fn fitting(relations: Vec<Relation>, history_items: usize) -> Vec<Relation> {
    let mut named: Vec<ItemId> = Vec::new();
    let mut kept = Vec::new();
    for relation in relations {
        let new: Vec<ItemId> = relation
            .history
            .iter()
            .map(|item| item.id.clone())
            .filter(|id| !named.contains(id))
            .collect();
        if kept.len() < CANDIDATES_LISTED_MAX && named.len() + new.len() <= history_items {
            named.extend(new);
            kept.push(relation);
        }
    }
    kept
}

/// Five classes of weight, as a word.
pub fn weight_word(weight: f32) -> &'static str {
    ["w0", "w1", "w2", "w3", "w4"][usize::from(refract_truth::class(weight)).min(4)]
}
