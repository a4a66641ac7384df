//! Holds the simulation against real processes: the same arrivals, the same users, and by how much it was wrong.
//!
//! How much stations on one machine slow each other down, and what the caller adds, is no station's own time: both are found from
//! other users' requests at the highest rate, where they tell most, and then all rates are predicted with them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use refract_client::{Options, Refract};
use refract_loadtest::drive::{self, Load};
use refract_loadtest::plot::{Line, Plot};
use refract_loadtest::schedule::{self, Arrivals};
use refract_loadtest::summary::{Objectives, Summary};
use refract_plan::Plan;
use refract_plan::simulate::{Known, Run, Seen, Size, simulate};

use crate::cli;

/// What the prediction is wished to be wrong by at most.
const ERROR_GOAL: f64 = 0.15;

/// One machine runs everything (`refract serve all`). `users` are strangers to it.
pub(crate) async fn compare(plan: &Plan, target: &str, users: &[String], args: &cli::Plan) -> Result<()> {
    let rates = &args.rates;
    ensure!(!rates.is_empty(), "name the loads: --rates 5,15,30");
    let mut options = Options::at(target.parse().with_context(|| target.to_owned())?);
    options.attempts_max = 1;
    let doors = (0..4)
        .map(|_| Refract::connect(options.clone()))
        .collect::<Result<Vec<_>, _>>()?;
    // One share of users for warming up, one for finding the sharing, one for each load, so that nothing is remembered from one
    // to the next.
    let part = users.len() / (rates.len() + 2);
    ensure!(part > 0, "too few users are left to load with");
    let mut parts = users.chunks(part);
    let mut share = || parts.next().unwrap_or_default();
    let highest = rates.iter().copied().fold(0.0, f64::max);
    // A young process still takes memory: that is no part of how it works.
    Trial::new(plan, highest, WARM_UP, share(), args.seed ^ 0x3a43)
        .measure(&doors)
        .await;
    let fitting = Trial::new(plan, highest, args.duration, share(), args.seed ^ 0x5eed);
    let measured = fitting.measure(&doors).await;
    let (plan, sharing) = &fitting.fit(&measured);
    let sharing = *sharing;
    if !args.json {
        println!("sharing {sharing:.2}: what another station at work adds, found at {highest}/s");
        println!("{:28} {:>12} {:>12} {:>9}", "", "predicted", "measured", "error");
    }
    let mut worst = 0.0f64;
    let mut pairs = Vec::new();
    for rate in rates {
        let trial = Trial::new(plan, *rate, args.duration, share(), args.seed);
        let predicted = trial.predict(sharing);
        let measured = trial.measure(&doors).await;
        let seen = |percent| measured.quantile("complete", percent).unwrap_or_default();
        for (name, unit, predicted, measured) in [
            (
                "throughput",
                "1/s",
                predicted.answered_per_second,
                measured.ok_per_second,
            ),
            ("complete_p50", "ms", predicted.complete_ms[50], seen(50)),
            ("complete_p99", "ms", predicted.complete_ms[99], seen(99)),
        ] {
            let error = predicted / measured - 1.0;
            worst = worst.max(error.abs());
            if args.json {
                println!(
                    "{}",
                    serde_json::json!({
                        "name": format!("plan.error.{name}@{rate}/s"), "value": error.abs(), "unit": "share",
                        "goal": format!("<= {ERROR_GOAL}"), "holds": error.abs() <= ERROR_GOAL,
                        "n": trial.starts.len(), "predicted": predicted, "measured": measured,
                    })
                );
            } else {
                println!(
                    "{:28} {predicted:>9.1} {unit:3} {measured:>8.1} {unit:3} {:>+7.1} %",
                    format!("{name}@{rate}/s"),
                    100.0 * error
                );
            }
        }
        pairs.push((*rate, predicted.complete_ms, measured));
    }
    if !args.json {
        println!(
            "worst error {:.1} % (goal {:.0} %)",
            100.0 * worst,
            100.0 * ERROR_GOAL
        );
    }
    if let Some(file) = &args.svg {
        std::fs::write(file, plot(&pairs)).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

const WARM_UP: Duration = Duration::from_secs(10);

/// One load: when who asks.
struct Trial<'a> {
    plan: &'a Plan,
    rate: f64,
    length: Duration,
    seed: u64,
    starts: Vec<Duration>,
    /// Numbers into `users`.
    askers: Vec<usize>,
    users: &'a [String],
}

/// Draws of job sizes that are averaged over: the arrivals are given, the jobs are not known.
const DRAWS: u64 = 16;

/// Halvings of the interval in which the sharing lies.
const HALVINGS: u32 = 12;
const SHARING_MAX: f64 = 4.0;

impl<'a> Trial<'a> {
    fn new(plan: &'a Plan, rate: f64, length: Duration, users: &'a [String], seed: u64) -> Self {
        let starts = schedule::starts(Arrivals::Poisson, rate, length, seed);
        let askers = schedule::askers(users, plan.load.zipf, starts.len(), seed);
        Self {
            plan,
            rate,
            length,
            seed,
            starts,
            askers,
            users,
        }
    }

    /// Quantiles averaged over the draws.
    fn predict(&self, sharing: f64) -> Seen {
        let one = Size {
            ranker: 1,
            oracle: 1,
            prism: 1,
        };
        let run = |draws| Run {
            rate: self.rate,
            duration: self.length,
            known: Known::Askers(self.askers.clone()),
            sharing,
            seed: self.seed,
            draws,
        };
        let mut all = (0..DRAWS).map(|draws| simulate(self.plan, one, &run(draws)));
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

    async fn measure(&self, doors: &[Refract]) -> Summary {
        let load = Load {
            users: self.askers.iter().map(|n| self.users[*n].clone()).collect(),
            starts: self.starts.clone(),
            limit: self.plan.load.items,
            in_flight_max: 10_000,
        };
        let outcomes = drive::run(doors, load).await;
        // What is still under way belongs to this load and not to the next.
        tokio::time::sleep(Duration::from_millis(500)).await;
        Summary::of(&outcomes, self.length, &Objectives::default())
    }

    /// Plan and sharing with which this load comes out as measured: the quickest requests say what the caller itself adds (a
    /// timer that is late, connections, its own share of the processors), the bulk how much stations share.
    fn fit(&self, measured: &Summary) -> (Plan, f64) {
        let measured = measured.curves_ms.get("complete").map_or(&[][..], Vec::as_slice);
        let (mut plan, mut sharing) = (self.plan.clone(), 0.0);
        for _ in 0..FITS {
            let trial = Trial {
                plan: &plan,
                users: self.users,
                starts: self.starts.clone(),
                askers: self.askers.clone(),
                ..*self
            };
            sharing = trial.sharing(mean(measured, BULK));
            let late = mean(measured, QUICKEST) - mean(&trial.predict(sharing).complete_ms, QUICKEST);
            plan.load.way_ms = (plan.load.way_ms + late).max(0.0);
        }
        (plan, sharing)
    }

    /// The sharing with which the mean of the bulk comes out as measured.
    fn sharing(&self, measured_ms: f64) -> f64 {
        let (mut low, mut high) = (0.0, SHARING_MAX);
        for _ in 0..HALVINGS {
            let middle = f64::midpoint(low, high);
            if mean(&self.predict(middle).complete_ms, BULK) > measured_ms {
                high = middle
            } else {
                low = middle
            }
        }
        f64::midpoint(low, high)
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

/// Predicted and measured quantiles of each load over each other.
fn plot(pairs: &[(f64, Vec<f64>, Summary)]) -> String {
    let line = |name: String, curve: &[f64]| Line {
        name,
        points: curve.iter().enumerate().map(|(n, ms)| (n as f64, *ms)).collect(),
    };
    let plots = pairs.iter().map(|(rate, predicted, measured)| Plot {
        title: format!("all explained, {rate} requests a second"),
        x: "percent of requests".to_owned(),
        y: "milliseconds".to_owned(),
        lines: vec![
            line("predicted".to_owned(), predicted),
            line(
                "measured".to_owned(),
                measured.curves_ms.get("complete").map_or(&[][..], Vec::as_slice),
            ),
        ],
        log_x: false,
        log_y: true,
    });
    super::stacked(&plots.collect::<Vec<_>>())
}
