//! The front door's configuration. Doc comments are the manual.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How explanations are made (ARCHITECTURE.md, "Three modes").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The Prism writes, conditioned on the Oracle's knowledge where there is some.
    #[default]
    Conditioned,
    /// The Prism writes from history and item alone, as published; no Oracle is asked.
    Alone,
    /// The Oracle's own text is served; for comparing teacher and student.
    Oracle,
}

/// Time and width of the river.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct River {
    pub mode: Mode,
    /// Longest that a request may take where the caller sets no deadline, and the cap on what a caller may ask for.
    #[serde(with = "refract_chassis::duration")]
    pub request_cap: Duration,
    /// Longest that ranking may take.
    #[serde(with = "refract_chassis::duration")]
    pub rank_cap: Duration,
    /// Longest that cache and Oracle may take for one item.
    #[serde(with = "refract_chassis::duration")]
    pub consult_cap: Duration,
    /// Time kept back for the Prism when the Oracle is asked: consulting ends this long before the deadline.
    #[serde(with = "refract_chassis::duration")]
    pub explain_reserve: Duration,
    /// Time kept back for writing and sending a template when no model's text arrives.
    #[serde(with = "refract_chassis::duration")]
    pub answer_margin: Duration,
    /// Items of one request that are consulted and explained side by side.
    pub items_in_flight_max: usize,
    /// Items of the history whose affinity to a slate item is told to the Oracle.
    pub affinities_max: usize,
}

impl Default for River {
    fn default() -> Self {
        Self {
            mode: Mode::Conditioned,
            request_cap: Duration::from_secs(20),
            rank_cap: Duration::from_secs(1),
            consult_cap: Duration::from_secs(8),
            explain_reserve: Duration::from_secs(1),
            answer_margin: Duration::from_millis(20),
            items_in_flight_max: 16,
            affinities_max: 5,
        }
    }
}

impl River {
    /// Relations between the limits; an error names the keys to change.
    pub fn check(&self) -> Result<(), String> {
        if self.items_in_flight_max == 0 {
            return Err("river.items_in_flight_max must be at least 1".into());
        }
        if self.rank_cap > self.request_cap {
            return Err("river.rank_cap is longer than river.request_cap: lower it, ranking is a part of the request".into());
        }
        if self.explain_reserve + self.answer_margin >= self.request_cap {
            return Err("river.explain_reserve and river.answer_margin leave no time within river.request_cap".into());
        }
        Ok(())
    }
}
