//! Holds the simulation against real processes: the same arrivals, other users, and by how much it was wrong.
//!
//! A machine at work is not the idle one on which stations were measured: what it does unlike that one is found from other users' requests, at
//! half the lowest rate and at the highest. The rates between lie between. A virtual machine is not the same from minute to minute (its p99
//! under the same load differed by a fifth): so everything is done in rounds, what is predicted and what is measured in turns.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use refract_client::{Options, Refract};
use refract_loadtest::plot::{Line, Plot};
use refract_plan::Plan;

use super::at_work::AtWork;
use super::trial::{Measured, Trial, average};
use crate::cli;

/// What the prediction is wished to be wrong by at most.
const ERROR_GOAL: f64 = 0.15;
const WARM_UP: Duration = Duration::from_secs(10);
/// Share of requests whose user was never seen before.
const STRANGERS_MAX: f64 = 0.25;
/// With fewer, a load says little about Oracles.
const STRANGERS_MIN: f64 = 0.05;
/// Draws of job sizes that a prediction is averaged over.
const DRAWS: u64 = 16;

/// One of the loads that are predicted: its trials, one a round, and what each measured.
struct Compared<'a> {
    rate: f64,
    trials: Vec<(Trial<'a>, Measured)>,
}

/// What was predicted of a load and what was measured, over all rounds.
struct Held {
    rate: f64,
    requests: usize,
    answered_per_second: (f64, f64),
    /// 101 quantiles each.
    complete_ms: (Vec<f64>, Vec<f64>),
}

/// One machine runs everything (`refract serve all`). `users` are strangers to it.
pub(crate) async fn compare(plan: &Plan, target: &str, users: &[String], args: &cli::Plan) -> Result<()> {
    ensure!(!args.rates.is_empty(), "name the loads: --rates 5,15,30");
    let highest = args.rates.iter().copied().fold(0.0, f64::max);
    let lowest = args.rates.iter().copied().fold(highest, f64::min) / 2.0;
    let mut options = Options::at(target.parse().with_context(|| target.to_owned())?);
    options.attempts_max = 1;
    let doors = (0..4)
        .map(|_| Refract::connect(options.clone()))
        .collect::<Result<Vec<_>, _>>()?;
    // Nobody of one load is remembered in another; in each, the same share of requests is a stranger's.
    let a_second = lowest + highest + args.rates.iter().sum::<f64>();
    let requests =
        highest * WARM_UP.as_secs_f64() + f64::from(args.rounds) * args.duration.as_secs_f64() * a_second;
    let strangers = (0.9 * users.len() as f64 / requests).min(STRANGERS_MAX);
    ensure!(
        strangers >= STRANGERS_MIN,
        "{} users are too few strangers for these loads: lower --rates, --duration or --rounds",
        users.len()
    );
    let mut rest = users;
    let mut load = |rate, length, seed| {
        let trial = Trial::new(plan.load.items, rate, length, strangers, rest, seed);
        rest = &rest[trial.users.len()..];
        trial
    };
    // A young process still takes memory: that is no part of how it works.
    load(highest, WARM_UP, args.seed ^ 0x3a43).measure(&doors).await;

    let mut ends: [Vec<AtWork>; 2] = Default::default();
    let mut loads: Vec<Compared<'_>> = args
        .rates
        .iter()
        .map(|rate| Compared {
            rate: *rate,
            trials: Vec::new(),
        })
        .collect();
    for round in 0..args.rounds {
        let seed = args.seed.wrapping_add(u64::from(round) << 32);
        for (rate, found) in [lowest, highest].into_iter().zip(&mut ends) {
            say(args, round, &format!("{rate}/s, to learn from"));
            let trial = load(rate, args.duration, seed ^ 0x5eed);
            let measured = trial.measure(&doors).await;
            found.push(AtWork::fit(plan, &trial, &measured));
        }
        for it in &mut loads {
            say(args, round, &format!("{}/s, to compare with", it.rate));
            let trial = load(it.rate, args.duration, seed);
            let measured = trial.measure(&doors).await;
            it.trials.push((trial, measured));
        }
    }

    let [calm, busy] = ends.map(|found| AtWork::mean(&found));
    let held: Vec<Held> = loads
        .iter()
        .map(|it| {
            let share = (it.rate - lowest) / (highest - lowest);
            it.hold(&calm.towards(busy, share).plan(plan))
        })
        .collect();
    if !args.json {
        let idle = &plan.load;
        for (rate, it) in [(lowest, calm), (highest, busy)] {
            println!(
                "at {rate}/s an Oracle's job takes {:.2} of what it takes an idle machine, any other {:.2}, the way {:.1} ms for {:.1}, and \
                 requests differ by {:.2} for {:.2}",
                it.asking, it.writing, it.way_ms, idle.way_ms, it.spread, idle.spread
            );
        }
    }
    show(&held, args.json);
    if let Some(file) = &args.svg {
        std::fs::write(file, plot(&held)).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

impl Compared<'_> {
    fn hold(&self, plan: &Plan) -> Held {
        let predicted: Vec<_> = self
            .trials
            .iter()
            .map(|(trial, _)| trial.predict(plan, DRAWS))
            .collect();
        let measured: Vec<Measured> = self.trials.iter().map(|(_, measured)| measured.clone()).collect();
        let measured = Measured::mean(&measured);
        let answered = predicted.iter().map(|seen| seen.answered_per_second);
        Held {
            rate: self.rate,
            requests: self.trials.iter().map(|(trial, _)| trial.starts.len()).sum(),
            answered_per_second: (
                answered.sum::<f64>() / predicted.len().max(1) as f64,
                measured.ok_per_second,
            ),
            complete_ms: (
                average(predicted.iter().map(|seen| &seen.complete_ms[..])),
                measured.complete_ms,
            ),
        }
    }
}

impl Held {
    /// Name, unit, predicted, measured.
    fn figures(&self) -> [(&'static str, &'static str, f64, f64); 3] {
        let (predicted, measured) = &self.complete_ms;
        let at = |curve: &[f64], percent: usize| curve.get(percent).copied().unwrap_or(f64::NAN);
        let (throughput, answered) = self.answered_per_second;
        [
            ("throughput", "1/s", throughput, answered),
            ("complete_p50", "ms", at(predicted, 50), at(measured, 50)),
            ("complete_p99", "ms", at(predicted, 99), at(measured, 99)),
        ]
    }
}

/// A long wait: says on the side what it is for.
fn say(args: &cli::Plan, round: u32, what: &str) {
    eprintln!("round {} of {}: {what}", round + 1, args.rounds);
}

fn show(held: &[Held], json: bool) {
    if !json {
        println!("{:28} {:>12} {:>12} {:>9}", "", "predicted", "measured", "error");
    }
    let mut worst = 0.0f64;
    for load in held {
        for (name, unit, predicted, measured) in load.figures() {
            let error = predicted / measured - 1.0;
            // Nothing answered is no agreement.
            let off = if error.is_finite() {
                error.abs()
            } else {
                f64::INFINITY
            };
            worst = worst.max(off);
            if json {
                println!(
                    "{}",
                    serde_json::json!({
                        "name": format!("plan.error.{name}@{}/s", load.rate), "value": off, "unit": "share",
                        "goal": format!("<= {ERROR_GOAL}"), "holds": off <= ERROR_GOAL,
                        "n": load.requests, "predicted": predicted, "measured": measured,
                    })
                );
            } else {
                println!(
                    "{:28} {predicted:>9.1} {unit:3} {measured:>8.1} {unit:3} {:>+7.1} %",
                    format!("{name}@{}/s", load.rate),
                    100.0 * error
                );
            }
        }
    }
    if !json {
        println!(
            "worst error {:.1} % (goal {:.0} %)",
            100.0 * worst,
            100.0 * ERROR_GOAL
        );
    }
}

/// Predicted and measured quantiles of each load over each other.
fn plot(held: &[Held]) -> String {
    let line = |name: &str, curve: &[f64]| Line {
        name: name.to_owned(),
        points: curve.iter().enumerate().map(|(n, ms)| (n as f64, *ms)).collect(),
    };
    let plots = held.iter().map(|load| Plot {
        title: format!("all explained, {} requests a second", load.rate),
        x: "percent of requests".to_owned(),
        y: "milliseconds".to_owned(),
        lines: vec![
            line("predicted", &load.complete_ms.0),
            line("measured", &load.complete_ms.1),
        ],
        log_x: false,
        log_y: true,
    });
    super::stacked(&plots.collect::<Vec<_>>())
}
