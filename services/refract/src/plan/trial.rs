//! One load on one machine: run for real, run in the simulation, and what of the simulation it says.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use refract_client::Refract;
use refract_loadtest::drive::{self, Load};
use refract_loadtest::schedule::{self, Arrivals};
use refract_loadtest::summary::{Objectives, Summary};
use refract_plan::Plan;
use refract_plan::simulate::{Known, Run, Seen, Size, simulate};

/// One load: when who asks.
pub(super) struct Trial<'a> {
    plan: &'a Plan,
    rate: f64,
    length: Duration,
    seed: u64,
    pub(super) starts: Vec<Duration>,
    /// Numbers into `users`.
    askers: Vec<usize>,
    pub(super) users: &'a [String],
}

/// Draws of job sizes that are averaged over: the arrivals are given, the jobs are not known.
const DRAWS: u64 = 16;

/// All stations stand on the one machine.
const SHARING: f64 = 1.0;

/// What a machine at work does unlike the idle one on which stations were measured: its processors are awake and its caches warm.
#[derive(Clone, Copy, Debug)]
pub(super) struct AtWork {
    /// What a job takes, over what it took there.
    pub(super) pace: f64,
    /// What the way to the caller and back adds.
    pub(super) way_ms: f64,
}

/// Halvings of the interval in which the pace lies.
const HALVINGS: u32 = 12;
const PACES: std::ops::Range<f64> = 0.4..2.5;

impl AtWork {
    /// The plan for a machine that is busy to this share of the load at which `self` was found; 0: idle, as it was measured.
    pub(super) fn plan(self, measured: &Plan, share: f64) -> Plan {
        let mut plan = measured.clone();
        for station in [&mut plan.ranker, &mut plan.oracle, &mut plan.prism] {
            let pace = 1.0 + (self.pace - 1.0) * share;
            station.alone_ms *= pace;
            station.each_more_ms *= pace;
        }
        plan.load.way_ms += (self.way_ms - plan.load.way_ms) * share;
        plan
    }
}

impl<'a> Trial<'a> {
    /// Every request is a stranger's with the chance `strangers`, from the beginning to the end: drawn by Zipf, nearly all would be in the
    /// first seconds. Takes as many of the users as it needs, the first ones.
    pub(super) fn new(
        plan: &'a Plan,
        rate: f64,
        length: Duration,
        strangers: f64,
        users: &'a [String],
        seed: u64,
    ) -> Self {
        let starts = schedule::starts(Arrivals::Poisson, rate, length, seed);
        let mut draw = ChaCha8Rng::seed_from_u64(seed ^ 0x5eed_0f0f);
        let mut met = 0;
        let askers = starts.iter().map(|_| {
            if met == 0 || (met < users.len() && draw.random::<f64>() < strangers) {
                met += 1;
                met - 1
            } else {
                draw.random_range(0..met)
            }
        });
        let askers: Vec<usize> = askers.collect();
        Self {
            plan,
            rate,
            length,
            seed,
            starts,
            askers,
            users: &users[..met],
        }
    }

    /// Quantiles averaged over the draws.
    pub(super) fn predict(&self, plan: &Plan) -> Seen {
        let one = Size {
            ranker: 1,
            oracle: 1,
            prism: 1,
        };
        let run = |draws| Run {
            rate: self.rate,
            duration: self.length,
            known: Known::Askers(self.askers.clone()),
            sharing: SHARING,
            seed: self.seed,
            draws,
        };
        let mut all = (0..DRAWS).map(|draws| simulate(plan, one, &run(draws)));
        let mut sum = all.next().expect("there is a draw");
        for seen in all {
            sum.answered_per_second += seen.answered_per_second;
            for (sum, one) in sum.complete_ms.iter_mut().zip(seen.complete_ms) {
                *sum += one;
            }
        }
        sum.answered_per_second /= DRAWS as f64;
        sum.complete_ms.iter_mut().for_each(|sum| *sum /= DRAWS as f64);
        sum
    }

    /// Times count from when a request was sent: what the generator's timer was late is nobody's work.
    pub(super) async fn measure(&self, doors: &[Refract]) -> Summary {
        let load = Load {
            users: self.askers.iter().map(|n| self.users[*n].clone()).collect(),
            starts: self.starts.clone(),
            limit: self.plan.load.items,
            in_flight_max: 10_000,
        };
        let mut outcomes = drive::run(doors, load).await;
        for outcome in &mut outcomes {
            outcome.end = outcome.end.map(|end| end.saturating_sub(outcome.delay));
        }
        // What is still under way belongs to this load and not to the next.
        tokio::time::sleep(Duration::from_millis(500)).await;
        Summary::of(&outcomes, self.length, &Objectives::default())
    }

    /// With what this load comes out as measured: the quickest requests say what the way adds, the bulk how long jobs take.
    pub(super) fn fit(&self, measured: &Summary) -> AtWork {
        let measured = measured.curves_ms.get("complete").map_or(&[][..], Vec::as_slice);
        let mut at_work = AtWork {
            pace: 1.0,
            way_ms: self.plan.load.way_ms,
        };
        let predicted = |at_work: AtWork| self.predict(&at_work.plan(self.plan, 1.0)).complete_ms;
        for _ in 0..FITS {
            let (mut low, mut high) = (PACES.start, PACES.end);
            for _ in 0..HALVINGS {
                at_work.pace = f64::midpoint(low, high);
                if mean(&predicted(at_work), BULK) > mean(measured, BULK) {
                    high = at_work.pace;
                } else {
                    low = at_work.pace;
                }
            }
            let late = mean(measured, QUICKEST) - mean(&predicted(at_work), QUICKEST);
            at_work.way_ms = (at_work.way_ms + late).max(0.0);
        }
        at_work
    }
}

/// Each of the two makes the other a little wrong: they settle soon.
const FITS: usize = 4;
/// Quantiles; the few slowest of a short load say more of chance.
const BULK: std::ops::Range<usize> = 5..96;
const QUICKEST: std::ops::Range<usize> = 5..16;

/// Of a part of a curve of quantiles.
fn mean(curve: &[f64], part: std::ops::Range<usize>) -> f64 {
    let part = curve.get(part).unwrap_or(curve);
    part.iter().sum::<f64>() / part.len().max(1) as f64
}
