//! One load on one machine: run for real, and run in the simulation.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use refract_client::Refract;
use refract_loadtest::drive::{self, Load};
use refract_loadtest::schedule::{self, Arrivals};
use refract_loadtest::summary::{Outcome, curve};
use refract_plan::Plan;
use refract_plan::simulate::{Known, Run, Seen, Size, simulate};

/// One load: when who asks.
pub(super) struct Trial<'a> {
    items: usize,
    rate: f64,
    length: Duration,
    seed: u64,
    pub(super) starts: Vec<Duration>,
    /// Numbers into `users`.
    askers: Vec<usize>,
    pub(super) users: &'a [String],
}

/// What was measured of a load: 101 quantiles each, in milliseconds; empty where there was no such request.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub(super) ok_per_second: f64,
    pub(super) complete_ms: Vec<f64>,
    /// Of requests whose knowledge was all remembered, and of those for which an Oracle was asked.
    pub(super) found_ms: Vec<f64>,
    pub(super) asked_ms: Vec<f64>,
}

/// All stations stand on the one machine.
const SHARING: f64 = 1.0;

impl<'a> Trial<'a> {
    /// Every request is a stranger's with the chance `strangers`, from the beginning to the end: drawn by Zipf, nearly all would be in the
    /// first seconds. Takes as many of the users as it needs, the first ones.
    pub(super) fn new(
        items: usize,
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
            items,
            rate,
            length,
            seed,
            starts,
            askers,
            users: &users[..met],
        }
    }

    /// Averaged over so many draws of job sizes: the arrivals are given, the jobs are not known.
    pub(super) fn predict(&self, plan: &Plan, draws: u64) -> Seen {
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
        let all: Vec<Seen> = (0..draws.max(1))
            .map(|draws| simulate(plan, one, &run(draws)))
            .collect();
        Seen {
            answered_per_second: all.iter().map(|seen| seen.answered_per_second).sum::<f64>()
                / all.len() as f64,
            complete_ms: average(all.iter().map(|seen| &seen.complete_ms[..])),
            found_ms: average(all.iter().map(|seen| &seen.found_ms[..])),
            asked_ms: average(all.iter().map(|seen| &seen.asked_ms[..])),
            ..all[0].clone()
        }
    }

    pub(super) async fn measure(&self, doors: &[Refract]) -> Measured {
        let load = Load {
            users: self.askers.iter().map(|n| self.users[*n].clone()).collect(),
            starts: self.starts.clone(),
            limit: self.items,
            in_flight_max: 10_000,
        };
        let outcomes = drive::run(doors, load).await;
        // What is still under way belongs to this load and not to the next.
        tokio::time::sleep(Duration::from_millis(500)).await;
        Measured::of(&outcomes, self.length)
    }
}

impl Measured {
    /// Times count from when a request was sent: what the generator's timer was late is nobody's work.
    fn of(outcomes: &[Outcome], length: Duration) -> Self {
        let (mut found, mut asked) = (Vec::new(), Vec::new());
        for outcome in outcomes.iter().filter(|outcome| outcome.status == "OK") {
            let Some(end) = outcome.end else { continue };
            let took = end.saturating_sub(outcome.delay).as_secs_f64() * 1e3;
            let was_found = outcome.items.iter().all(|item| item.rung == "CACHED");
            if was_found { &mut found } else { &mut asked }.push(took);
        }
        Self {
            ok_per_second: (found.len() + asked.len()) as f64 / length.as_secs_f64(),
            complete_ms: curve(&mut [&found[..], &asked[..]].concat()),
            found_ms: curve(&mut found),
            asked_ms: curve(&mut asked),
        }
    }

    /// Of the same load at several times: quantile by quantile.
    pub(super) fn mean(all: &[Self]) -> Self {
        Self {
            ok_per_second: all.iter().map(|it| it.ok_per_second).sum::<f64>() / all.len().max(1) as f64,
            complete_ms: average(all.iter().map(|it| &it.complete_ms[..])),
            found_ms: average(all.iter().map(|it| &it.found_ms[..])),
            asked_ms: average(all.iter().map(|it| &it.asked_ms[..])),
        }
    }
}

/// Quantile by quantile, of those curves that are there.
pub(super) fn average<'c>(curves: impl Iterator<Item = &'c [f64]>) -> Vec<f64> {
    let mut sum = Vec::new();
    let mut many = 0.0;
    for curve in curves.filter(|curve| !curve.is_empty()) {
        sum.resize(curve.len(), 0.0);
        sum.iter_mut().zip(curve).for_each(|(sum, one)| *sum += one);
        many += 1.0;
    }
    sum.iter_mut().for_each(|sum| *sum /= many);
    sum
}

#[cfg(test)]
mod tests {
    use refract_loadtest::summary::Item;

    use super::*;

    fn answered(rungs: &[&'static str], delay: u64, end: u64, status: &'static str) -> Outcome {
        let ms = Duration::from_millis;
        let item = |rung: &&'static str| Item {
            rung,
            complete: ms(end),
            found: None,
            per_token: None,
        };
        Outcome {
            delay: ms(delay),
            end: Some(ms(end)),
            items: rungs.iter().map(item).collect(),
            status,
            ..Outcome::default()
        }
    }

    #[test]
    fn strangers_are_told_by_an_item_for_which_an_oracle_was_asked_and_failures_are_not_answers() {
        let outcomes = [
            answered(&["CACHED", "CACHED"], 1, 11, "OK"),
            answered(&["CACHED", "FRESH"], 0, 50, "OK"),
            answered(&["CACHED"], 0, 900, "DEADLINE_EXCEEDED"),
        ];
        let measured = Measured::of(&outcomes, Duration::from_secs(2));
        assert_eq!(measured.ok_per_second, 1.0);
        assert_eq!((measured.found_ms[50], measured.asked_ms[50]), (10.0, 50.0));
        assert_eq!(measured.complete_ms[100], 50.0);
    }

    #[test]
    fn a_curve_that_is_not_there_does_not_count_in_the_average() {
        let curves: [&[f64]; 3] = [&[1.0, 2.0], &[], &[3.0, 6.0]];
        assert_eq!(average(curves.into_iter()), [2.0, 4.0]);
    }
}
