//! Lines for the Prism: style, item, history and facts → one or two sentences in slots.
//!
//! Two of three lines have facts: mostly the best, in order; sometimes others, so that the student obeys its facts and does not guess what
//! the Oracle would have said. One of three has none (`alone`): the same bundle then serves the rung without knowledge.

use std::sync::Arc;

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use refract_bundle::FACTS_MAX;
use refract_bundle::template::{Scene, SlotPrompt, prism_slots};
use refract_truth::{Gate, Point, Relation, STYLES, Target, Vocabulary, choose, compose, point_of, render};

use super::{Config, Line, Request};

pub(super) fn lines(
    config: &Config,
    vocabulary: &Arc<Vocabulary>,
    place: usize,
    request: &Request,
) -> Vec<Line> {
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed ^ (place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let scene = Scene::new(&request.pair(), &request.history, vocabulary);
    let relations = scene.relations();
    let gate = Gate::new(vocabulary, &scene.pair, &scene.history, None);
    let mut styles: Vec<u32> = (0..STYLES).collect();
    styles.shuffle(&mut rng);
    let styles = styles.into_iter().take(config.styles_per_request);
    styles
        .filter_map(|style| {
            let points = (!rng.random_ratio(1, 3)).then(|| facts(&relations, &mut rng));
            let prompt = prism_slots(
                &scene,
                points.as_deref(),
                style,
                &config.slots,
                config.history_items_max,
            );
            let target = target(&scene, &gate, &prompt, style)?;
            Some(Line {
                source: prompt.text,
                target,
            })
        })
        .collect()
}

/// What the Oracle might have said.
fn facts(relations: &[Relation], rng: &mut ChaCha8Rng) -> Vec<Point> {
    let mut listed: Vec<&Relation> = relations.iter().collect();
    if rng.random_ratio(1, 3) {
        listed.shuffle(rng);
        listed.truncate(rng.random_range(1..=FACTS_MAX));
        return listed.into_iter().map(point_of).collect();
    }
    choose(&listed, FACTS_MAX)
        .into_iter()
        .map(|n| point_of(listed[n]))
        .collect()
}

/// The composed text with slots, if it passes the gate when filled.
fn target(scene: &Scene, gate: &Gate, prompt: &SlotPrompt, style: u32) -> Option<String> {
    let surface = |target: &Target| scene.surface(target);
    let sentences = compose(&scene.matter(), &prompt.points, style, &surface);
    let mut gate = gate.clone();
    let true_all = sentences.iter().all(|parts| {
        let rendered = render(parts);
        gate.check(&rendered.text, &rendered.mentions).is_ok()
    });
    (true_all && !sentences.is_empty())
        .then(|| prompt.table.slotted(&sentences))
        .flatten()
}
