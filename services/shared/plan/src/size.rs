//! The smallest cluster that keeps its promises: enough capacity first, then one machine more wherever jobs wait.

use std::time::Duration;

use serde::Serialize;

use crate::error::Error;
use crate::hits::hit_share;
use crate::plan::{Plan, Promises};
use crate::simulate::{Known, Run, Seen, Size, simulate};

/// Requests that one simulated run aims at: enough for a p99, few enough to try many sizes.
const REQUESTS_AIMED: f64 = 4_000.0;
const SECONDS_MIN: f64 = 20.0;
/// Machines of one pool that are never exceeded.
const NODES_MAX: usize = 100_000;
const TRIES_MAX: usize = 60;

/// What is needed at one rate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Needed {
    pub rate: f64,
    pub ranker: usize,
    pub oracle: usize,
    pub prism: usize,
    pub per_hour: f64,
    /// Of a million requests.
    pub per_million: f64,
    pub hit_share: f64,
    pub slate_p99_ms: f64,
    pub complete_p50_ms: f64,
    pub complete_p99_ms: f64,
    pub without_knowledge_share: f64,
    /// Share of the capacity in use: ranker, Oracle, Prism.
    pub busy: [f64; 3],
}

pub fn size(plan: &Plan, rate: f64, seed: u64) -> Result<Needed, Error> {
    plan.check()?;
    let hits = hit_share(&plan.load, &plan.memory, rate);
    let items = plan.load.items as f64;
    let enough = |jobs: f64, capacity: f64| {
        ((jobs / (capacity * plan.promises.busy_max)).ceil() as usize).clamp(1, NODES_MAX)
    };
    let mut size = Size {
        ranker: enough(rate, plan.ranker.capacity()),
        oracle: enough(rate * items * (1.0 - hits), plan.oracle.capacity()),
        prism: enough(rate * items, plan.prism.capacity()),
    };
    let mut broken = String::new();
    for _ in 0..TRIES_MAX {
        let seen = simulate(plan, size, &run(rate, hits, size, seed));
        let Some((what, pool)) = worst(&plan.promises, &seen) else {
            return Ok(needed(plan, rate, size, hits, &seen));
        };
        what.clone_into(&mut broken);
        // A twentieth more where it hurts: single machines for small pools, not forever for large ones.
        let nodes = match pool {
            0 => &mut size.ranker,
            1 => &mut size.oracle,
            _ => &mut size.prism,
        };
        *nodes += nodes.div_ceil(20);
        if *nodes > NODES_MAX {
            break;
        }
    }
    Err(Error::TooLittle {
        rate,
        nodes_max: NODES_MAX,
        broken,
    })
}

/// Long enough for the p99 of a slice.
fn run(rate: f64, hits: f64, size: Size, seed: u64) -> Run {
    let largest = size.ranker.max(size.oracle).max(size.prism);
    let slice = rate / (largest as f64 / 12.0).max(1.0);
    Run {
        rate,
        duration: Duration::from_secs_f64((REQUESTS_AIMED / slice).clamp(SECONDS_MIN, 3_600.0)),
        known: Known::Share(hits),
        sharing: 0.0,
        seed,
        draws: seed,
    }
}

/// The first promise that does not hold, and the pool to enlarge.
fn worst(promises: &Promises, seen: &Seen) -> Option<(&'static str, usize)> {
    let p99 = |curve: &[f64]| curve.get(99).copied().unwrap_or_default();
    if p99(&seen.slate_ms) > promises.slate_p99_ms {
        return Some(("slate_p99_ms", 0));
    }
    if seen.without_knowledge_share > promises.without_knowledge_max {
        return Some(("without_knowledge_max", 1));
    }
    // Of the two that an explanation passes, the one that is busier.
    (p99(&seen.complete_ms) > promises.complete_p99_ms)
        .then_some(("complete_p99_ms", if seen.busy[1] > seen.busy[2] { 1 } else { 2 }))
}

fn needed(plan: &Plan, rate: f64, size: Size, hits: f64, seen: &Seen) -> Needed {
    let per_hour = size.ranker as f64 * plan.ranker.price_per_hour
        + size.oracle as f64 * plan.oracle.price_per_hour
        + size.prism as f64 * plan.prism.price_per_hour;
    let at = |curve: &[f64], percent: usize| curve.get(percent).copied().unwrap_or_default();
    Needed {
        rate,
        ranker: size.ranker,
        oracle: size.oracle,
        prism: size.prism,
        per_hour,
        per_million: per_hour / (rate * 3_600.0) * 1e6,
        hit_share: hits,
        slate_p99_ms: at(&seen.slate_ms, 99),
        complete_p50_ms: at(&seen.complete_ms, 50),
        complete_p99_ms: at(&seen.complete_ms, 99),
        without_knowledge_share: seen.without_knowledge_share,
        busy: seen.busy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_promises_hold_at_every_rate_up_to_a_hundred_thousand() {
        let mut plan = Plan::default();
        plan.load.users = 200_000_000; // with five items each: 10⁹ pairs
        let mut last = 0.0;
        for rate in [1.0, 100.0, 10_000.0, 100_000.0] {
            let needed = size(&plan, rate, 1).unwrap();
            assert!(needed.slate_p99_ms <= plan.promises.slate_p99_ms, "{needed:?}");
            assert!(
                needed.complete_p99_ms <= plan.promises.complete_p99_ms,
                "{needed:?}"
            );
            assert!(needed.busy.iter().all(|busy| *busy < 0.85), "{needed:?}");
            assert!(needed.per_hour > last, "{needed:?}");
            last = needed.per_hour;
        }
    }

    #[test]
    fn a_promise_that_no_number_of_machines_keeps_is_said_by_name() {
        let mut plan = Plan::default();
        plan.promises.complete_p99_ms = 1.0;
        let error = size(&plan, 10.0, 1).unwrap_err().to_string();
        assert!(error.contains("complete_p99_ms"), "{error}");
    }
}
