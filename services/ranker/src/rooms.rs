//! Who is let in, and how far. Two rooms, each with a bound: one for items that wait for Oracle and Prism, one for what
//! this process does alone. Slow explanations fill the first, and only a processor that is short fills the second: so a
//! request that cannot be explained still gets its slate (law 2), and an overloaded process still refuses (law 6).

use std::time::Duration;

use refract_domain::Error;
use refract_resilience::admission::{self, Admission, Overloaded, Permit};
use refract_wire::recommend::Explained;

use crate::config::River as Config;

/// The front door's rooms; clones share them.
#[derive(Clone, Debug)]
pub struct Rooms {
    explained: Admission,
    by_rule: Admission,
}

/// Leave to answer one request, held until its last event or until its caller has gone.
#[derive(Debug)]
#[must_use = "the place is given back when this is dropped"]
pub struct Admitted {
    _permit: Permit,
    is_by_rule: bool,
}

impl Rooms {
    pub fn new(config: &Config) -> Self {
        Self {
            explained: Admission::new(config.admission.clone()),
            by_rule: Admission::new(admission::Config {
                cost_max: config.items_by_rule_max,
                cost_min: config.items_by_rule_max,
                // Of a fixed size: nothing in it waits for another station, but for an outside ranker up to `rank_cap`.
                slow_after: Duration::ZERO,
                ..config.admission.clone()
            }),
        }
    }

    /// Room for so many items to be explained, or else by rule alone, or else a refusal that says when to come back: a
    /// queue here would only spend deadlines.
    pub fn admit(&self, items: usize) -> Result<Admitted, Error> {
        let (permit, is_by_rule) = match self.explained.try_acquire(items as u64) {
            Ok(permit) => (Ok(permit), false),
            Err(full) => (self.by_rule.try_acquire(items as u64).map_err(|_| full), true),
        };
        metrics::gauge!("refract_ranker_room_items").set(self.explained.room() as f64);
        metrics::gauge!("refract_ranker_items_in_progress").set(self.explained.in_use() as f64);
        if is_by_rule && permit.is_ok() {
            metrics::counter!("refract_ranker_requests_by_rule_total").increment(1);
        }
        admitted(permit, is_by_rule)
    }

    /// Room to rank and no more. It costs the same for a long slate as for a short one, about what a template does.
    pub fn admit_to_rank(&self) -> Result<Admitted, Error> {
        admitted(self.by_rule.try_acquire(1), true)
    }

    /// How fast items get done says how many there is room for; one that nobody asked to explain says nothing.
    pub fn note(&self, done: &Explained) {
        let took = done.explanation.timings.total;
        if !took.is_zero() {
            self.explained.note(took);
        }
    }

    /// Items in progress, in both rooms.
    pub fn in_use(&self) -> u64 {
        self.explained.in_use() + self.by_rule.in_use()
    }
}

impl Admitted {
    /// Whether there was no room for models: what they would have said is said by rule.
    pub fn is_by_rule(&self) -> bool {
        self.is_by_rule
    }

    /// Lets those who were admitted before go first. Work that never waits would otherwise be done in the turn in which
    /// it was let in, and its room would look empty however short the processor is.
    pub async fn turn(&self) {
        if self.is_by_rule {
            tokio::task::yield_now().await;
        }
    }
}

fn admitted(permit: Result<Permit, Overloaded>, is_by_rule: bool) -> Result<Admitted, Error> {
    match permit {
        Ok(permit) => Ok(Admitted {
            _permit: permit,
            is_by_rule,
        }),
        Err(Overloaded { retry_after }) => {
            metrics::counter!("refract_ranker_requests_shed_total").increment(1);
            Err(Error::Overloaded { retry_after })
        }
    }
}
