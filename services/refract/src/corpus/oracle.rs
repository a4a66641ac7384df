//! Lines for the Oracle: candidate relations with their weight class, strongest first → the best two or three, in order.
//!
//! Best is what `truth::choose` says: the class of the weight (strength, rarity, recency), a kind once before a kind twice, names before
//! behaviour before genres, the first of equals. All of it can be seen in the prompt.

use std::sync::Arc;

use refract_bundle::FACTS_MAX;
use refract_bundle::template::{Scene, oracle_slots};
use refract_truth::{Relation, Vocabulary, choose};

use super::{Config, Line, Request};

pub(super) fn line(config: &Config, vocabulary: &Arc<Vocabulary>, request: &Request) -> Option<Line> {
    let scene = Scene::new(&request.pair(), &request.history, vocabulary);
    let prompt = oracle_slots(&scene, &config.slots, config.history_items_max);
    let relations: Vec<&Relation> = prompt.candidates.iter().map(|(_, relation)| relation).collect();
    let chosen = choose(&relations, FACTS_MAX);
    let target = if chosen.is_empty() {
        "none".to_owned()
    } else {
        chosen
            .iter()
            .map(|n| prompt.candidates[*n].0.as_str())
            .collect::<Vec<_>>()
            .join(" ; ")
    };
    Some(Line {
        source: prompt.text,
        target,
    })
}
