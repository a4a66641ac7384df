//! Prompts: a pair, its history and perhaps knowledge, as text that a bundle's model was made for. Slot prompts have a file each; the
//! plain one, by a bundle's own template, is here.

mod oracle;
mod prism;
mod scene;

use refract_domain::Item;
use refract_truth::Role;
use refract_truth::text::{DESCRIPTION_CHARS_MAX, TITLE_CHARS_MAX, VALUE_CHARS_MAX, clean, sayable};

use crate::manifest::Template;

pub use oracle::{CANDIDATES_LISTED_MAX, CANDIDATES_MAX, OraclePrompt, oracle_slots, weight_word};
pub use prism::{SlotPrompt, prism_slots};
pub use scene::Scene;

/// Values of one attribute, names above all, that a prompt shows.
const CAST_MAX: usize = 4;

/// A plain prompt with `history_items` of the history and `description_chars` of the description.
pub(crate) fn plain(
    template: &Template,
    scene: &Scene,
    facts: &[String],
    history_items: usize,
    description_chars: usize,
) -> (String, usize) {
    let shown = scene.shown(history_items, &[]);
    let history: Vec<String> = shown
        .iter()
        .map(|named| described(template, scene, named.read.item(), 0))
        .collect();
    let history = if history.is_empty() {
        "none".to_owned()
    } else {
        history.join("; ")
    };
    let mut lines = Vec::new();
    if !template.instruction.is_empty() {
        lines.push(template.instruction.clone());
    }
    lines.push(format!("{} {history}", template.history_label));
    lines.push(format!(
        "{} {}",
        template.item_label,
        described(template, scene, &scene.pair.item, description_chars)
    ));
    if !facts.is_empty() {
        lines.push(format!("{} {}.", template.facts_label, facts.join(". ")));
    }
    lines.push(template.cue.clone());
    (lines.join("\n"), shown.len())
}

/// `Heat (1995; director: Michael Mann; genre: crime, thriller)`.
fn described(template: &Template, scene: &Scene, item: &Item, description_chars: usize) -> String {
    let title = clean(&item.title, TITLE_CHARS_MAX);
    let mut notes = Vec::new();
    let year = item
        .attributes
        .iter()
        .find(|(name, _)| scene.vocabulary.role(name) == Role::Year)
        .and_then(|(_, values)| values.first());
    notes.extend(year.map(|year| clean(year, VALUE_CHARS_MAX)));
    if template.attributes {
        for (name, values) in &item.attributes {
            let role = scene.vocabulary.role(name);
            let values: Vec<String> = values
                .iter()
                .take(CAST_MAX)
                .filter_map(|value| sayable(value, VALUE_CHARS_MAX))
                .collect();
            if !matches!(role, Role::Hidden | Role::Year) && !values.is_empty() {
                notes.push(format!(
                    "{}: {}",
                    refract_truth::vocabulary::label(name),
                    values.join(", ")
                ));
            }
        }
    }
    let mut text = if notes.is_empty() {
        title
    } else {
        format!("{title} ({})", notes.join("; "))
    };
    if description_chars > 0 && !item.description.is_empty() {
        text.push_str(". ");
        text.push_str(&clean(
            &item.description,
            description_chars.min(DESCRIPTION_CHARS_MAX),
        ));
    }
    text
}
