//! What is kept of one explanation.

use std::sync::Arc;

use refract_domain::{Item, Rung};

use super::check::{Verdict, check};
use super::lexicon::Lexicon;
use super::run::Edit;
use super::scene::Scene;
use super::wording::{Slip, slips};

/// A text and what was found in it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told {
    pub(crate) text: String,
    pub(crate) verdict: Verdict,
    pub(crate) slips: Vec<Slip>,
}

impl Told {
    pub(crate) fn of(lexicon: &Lexicon, scene: &Scene, text: String) -> Self {
        let own: Vec<&str> = scene
            .subjects()
            .iter()
            .flat_map(|s| {
                std::iter::once(s.title.as_str())
                    .chain(s.item.attributes.values().flatten().map(String::as_str))
            })
            .filter(|own| text.contains(own))
            .collect();
        Self {
            verdict: check(lexicon, scene, &text),
            slips: slips(&text, &own),
            text,
        }
    }
}

/// One user, one item.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    /// The how-manieth user of the run.
    pub(crate) user: usize,
    pub(crate) item: Arc<Item>,
    /// What the user liked last, newest first, for people to read.
    pub(crate) liked: Vec<String>,
    /// The model's first text with its slots filled, nothing refused.
    pub(crate) before: Told,
    /// What a caller gets.
    pub(crate) after: Told,
    pub(crate) rung: Rung,
    pub(crate) claims: usize,
    pub(crate) claims_unfounded: usize,
    /// Whether knowledge that this request supports was there for the first text.
    pub(crate) informed: bool,
    /// Whether the item shares a person or a series with something the user liked.
    pub(crate) has_name_in_common: bool,
    /// Whether such a tie was among the candidates put before the Oracle; for Oracles that are given candidates.
    pub(crate) offered_name_in_common: Option<bool>,
    /// Whether the knowledge has such a tie.
    pub(crate) knows_name_in_common: bool,
    /// Why the gate cut the first text.
    pub(crate) refused: Vec<&'static str>,
    pub(crate) facts: usize,
    pub(crate) facts_unfounded: usize,
    pub(crate) facts_refused: usize,
    /// Measured for a user's first item only.
    pub(crate) ablation: Option<Ablation>,
}

/// The same pair asked otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Ablation {
    /// Without knowledge: what the caller gets, its rung, and the model's own text.
    pub(crate) without: Told,
    pub(crate) without_rung: Rung,
    pub(crate) without_before: Told,
    /// With the knowledge of another user's other item, and the rung that came of it.
    pub(crate) foreign: Option<(Told, Rung)>,
    /// The same item for another user's history.
    pub(crate) other: Option<String>,
    /// For the same history, slightly edited.
    pub(crate) edits: Vec<Edited>,
    /// For the history without the items that the explanation rested on, and whether it still rests on one of them.
    pub(crate) without_reasons: Option<(Told, bool)>,
}

/// An explanation for a history with one edit that should not matter.
#[derive(Clone, Debug)]
pub(crate) struct Edited {
    pub(crate) edit: Edit,
    pub(crate) told: Told,
    /// It rests on the same history items as before.
    pub(crate) same_reasons: bool,
    /// ROUGE-L F of the two texts.
    pub(crate) likeness: f64,
}
