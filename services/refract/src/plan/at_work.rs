//! What a machine at work does unlike the idle one on which stations were measured, found from loads of other users.
//!
//! Its processors are awake and its caches warm, or it does more beside than its stations know of. Four numbers say so: how long an Oracle's
//! job takes and how long any other, over what they took on the idle machine; what the way to the caller adds; and how much requests
//! differ, for a machine that does many things at once is late for some of them. Strangers' requests tell the first, those whose
//! knowledge was remembered the next two, the slowest tenth of all the last.

use refract_plan::Plan;
use refract_plan::simulate::Seen;

use super::trial::{Measured, Trial};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct AtWork {
    /// What an Oracle's job takes, over what it took there.
    pub(super) asking: f64,
    /// The same of a Prism's and a ranker's.
    pub(super) writing: f64,
    pub(super) way_ms: f64,
    /// How much requests differ in size, as in `load.spread`.
    pub(super) spread: f64,
}

/// Draws that each guess is tried on.
const DRAWS: u64 = 4;
/// Halvings of the interval in which a number lies.
const HALVINGS: u32 = 10;
const PACES: std::ops::Range<f64> = 0.3..3.0;
const SPREADS: std::ops::Range<f64> = 0.0..1.5;
/// Each of the four makes the others a little wrong: they settle soon.
const FITS: usize = 4;
/// Quantiles; the few slowest of a short load say more of chance.
const BULK: std::ops::Range<usize> = 5..96;
const QUICKEST: std::ops::Range<usize> = 5..16;
const SLOWEST: std::ops::Range<usize> = 90..100;

impl AtWork {
    /// With what this load comes out as measured.
    pub(super) fn fit(measured_idle: &Plan, trial: &Trial<'_>, measured: &Measured) -> Self {
        let mut it = Self {
            asking: 1.0,
            writing: 1.0,
            way_ms: measured_idle.load.way_ms,
            spread: measured_idle.load.spread,
        };
        let seen = |it: Self| trial.predict(&it.plan(measured_idle), DRAWS);
        for _ in 0..FITS {
            it.writing = solve(PACES, mean(&measured.found_ms, BULK), |writing| {
                mean(&seen(Self { writing, ..it }).found_ms, BULK)
            });
            it.asking = solve(PACES, mean(&measured.asked_ms, BULK), |asking| {
                mean(&seen(Self { asking, ..it }).asked_ms, BULK)
            });
            it.spread = solve(SPREADS, mean(&measured.complete_ms, SLOWEST), |spread| {
                mean(&seen(Self { spread, ..it }).complete_ms, SLOWEST)
            });
            let Seen { found_ms, .. } = seen(it);
            let late = mean(&measured.found_ms, QUICKEST) - mean(&found_ms, QUICKEST);
            it.way_ms = (it.way_ms + late).max(0.0);
        }
        it
    }

    /// The plan for a machine so at work.
    pub(super) fn plan(self, measured_idle: &Plan) -> Plan {
        let mut plan = measured_idle.clone();
        for (station, pace) in [
            (&mut plan.ranker, self.writing),
            (&mut plan.oracle, self.asking),
            (&mut plan.prism, self.writing),
        ] {
            station.alone_ms *= pace;
            station.each_more_ms *= pace;
        }
        plan.load.way_ms = self.way_ms;
        plan.load.spread = self.spread;
        plan
    }

    /// Of several, found one after another.
    pub(super) fn mean(all: &[Self]) -> Self {
        let of = |value: fn(&Self) -> f64| all.iter().map(value).sum::<f64>() / all.len().max(1) as f64;
        Self {
            asking: of(|it| it.asking),
            writing: of(|it| it.writing),
            way_ms: of(|it| it.way_ms),
            spread: of(|it| it.spread),
        }
    }

    /// Between two loads: 0 is this one, 1 the other.
    pub(super) fn towards(self, other: Self, share: f64) -> Self {
        let between = |from: f64, to: f64| from + (to - from) * share;
        Self {
            asking: between(self.asking, other.asking),
            writing: between(self.writing, other.writing),
            way_ms: between(self.way_ms, other.way_ms),
            spread: between(self.spread, other.spread),
        }
    }
}

/// With which number of `range` `of` comes out as `aim`; `of` grows with it.
fn solve(range: std::ops::Range<f64>, aim: f64, of: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (range.start, range.end);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if of(middle) > aim {
            high = middle;
        } else {
            low = middle;
        }
    }
    f64::midpoint(low, high)
}

/// Of a part of a curve of quantiles.
fn mean(curve: &[f64], part: std::ops::Range<usize>) -> f64 {
    let part = curve.get(part).unwrap_or(curve);
    part.iter().sum::<f64>() / part.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_a_machine_at_work_does_is_found_again_from_what_it_answers() {
        let idle = Plan::default();
        let users: Vec<String> = (0..2_000).map(|n| n.to_string()).collect();
        let real = AtWork {
            asking: 1.6,
            writing: 0.7,
            way_ms: 4.0,
            spread: 0.4,
        };
        let load = |seed| Trial::new(idle.load.items, 4.0, Duration::from_secs(120), 0.2, &users, seed);
        let seen = load(1).predict(&real.plan(&idle), 1);
        let measured = Measured {
            ok_per_second: seen.answered_per_second,
            complete_ms: seen.complete_ms,
            found_ms: seen.found_ms,
            asked_ms: seen.asked_ms,
        };
        let found = AtWork::fit(&idle, &load(1), &measured);
        assert!((found.asking / real.asking - 1.0).abs() < 0.1, "{found:?}");
        assert!((found.writing / real.writing - 1.0).abs() < 0.1, "{found:?}");
        assert!((found.way_ms - real.way_ms).abs() < 2.0, "{found:?}");
        assert!((found.spread - real.spread).abs() < 0.15, "{found:?}");
    }

    #[test]
    fn halfway_between_two_loads_is_halfway_in_everything() {
        let one = AtWork {
            asking: 1.0,
            writing: 2.0,
            way_ms: 3.0,
            spread: 0.1,
        };
        let other = AtWork {
            asking: 2.0,
            writing: 1.0,
            way_ms: 5.0,
            spread: 0.3,
        };
        let (halfway, mean) = (one.towards(other, 0.5), AtWork::mean(&[one, other]));
        assert!((halfway.spread - mean.spread).abs() < 1e-12);
        assert_eq!(
            (halfway.asking, halfway.writing, halfway.way_ms),
            (mean.asking, mean.writing, mean.way_ms)
        );
        assert_eq!(one.towards(other, 0.0), one);
    }
}
