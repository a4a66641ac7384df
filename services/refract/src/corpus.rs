//! The training corpus of the slot bundles: a documented, seeded recipe from a catalogue and its interactions.
//!
//! ```text
//!  items, histories ─▶ draw: requests (a history's beginning, an item, co-likes; rare shapes on purpose)
//!      ─▶ oracle: candidate relations ─▶ the best two or three, by `truth::choose`
//!      ─▶ prism:  style, item, history, facts (or none: `alone`) ─▶ one or two sentences, by `truth::compose`
//! ```
//!
//! Every target of a Prism is filled and put through the truth gate first: nothing untrue is taught. The same seed and data
//! give the same lines. Scores on such lines show obedience to facts, not taste: the references are made by rule.

mod colikes;
mod draw;
mod oracle;
mod prism;
mod reshape;

use std::sync::Arc;

use refract_bundle::manifest::SlotLimits;
use refract_domain::{Affinity, History, Item, Pair, TenantId};
use refract_truth::Vocabulary;
use serde::Serialize;

pub(crate) use colikes::CoLikes;
pub(crate) use draw::draw;

/// How a corpus is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    pub(crate) seed: u64,
    pub(crate) slots: SlotLimits,
    /// History items that a prompt shows; the bundle's own limit.
    pub(crate) history_items_max: usize,
    /// Lines that are made from one request, each with another style (Prism only).
    pub(crate) styles_per_request: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 42,
            slots: SlotLimits::default(),
            history_items_max: 10,
            styles_per_request: 2,
        }
    }
}

/// What a model reads and what it is to write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Line {
    pub(crate) source: String,
    pub(crate) target: String,
}

/// One request that could have been asked.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) item: Arc<Item>,
    pub(crate) history: Arc<History>,
    pub(crate) affinities: Vec<Affinity>,
}

impl Request {
    fn pair(&self) -> Pair {
        Pair {
            tenant: TenantId::default(),
            user: None,
            item: Arc::clone(&self.item),
            affinities: self.affinities.clone(),
        }
    }
}

/// Lines for the Oracle, one a request.
pub(crate) fn oracle_lines(config: &Config, requests: &[Request]) -> Vec<Line> {
    let vocabulary = Arc::new(Vocabulary::default());
    requests
        .iter()
        .filter_map(|request| oracle::line(config, &vocabulary, request))
        .collect()
}

/// Lines for the Prism, with knowledge and without.
pub(crate) fn prism_lines(config: &Config, requests: &[Request]) -> Vec<Line> {
    let vocabulary = Arc::new(Vocabulary::default());
    requests
        .iter()
        .enumerate()
        .flat_map(|(n, request)| prism::lines(config, &vocabulary, n, request))
        .collect()
}

#[cfg(test)]
mod tests;
