//! Holds the simulation against real processes: the same arrivals, the same users, and by how much it was wrong.
//!
//! A machine at work is not the idle one on which stations were measured: how much faster or slower its jobs are, and what the caller
//! adds, is found from other users' requests at the highest rate. Rates below lie between that and the idle machine.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use refract_client::{Options, Refract};
use refract_loadtest::plot::{Line, Plot};
use refract_loadtest::summary::Summary;
use refract_plan::Plan;

use super::trial::{AtWork, Trial};
use crate::cli;

/// What the prediction is wished to be wrong by at most.
const ERROR_GOAL: f64 = 0.15;
const WARM_UP: Duration = Duration::from_secs(10);
/// Share of requests whose user was never seen before.
const STRANGERS_MAX: f64 = 0.25;
/// With fewer, a load says little about Oracles.
const STRANGERS_MIN: f64 = 0.05;

/// One machine runs everything (`refract serve all`). `users` are strangers to it.
pub(crate) async fn compare(plan: &Plan, target: &str, users: &[String], args: &cli::Plan) -> Result<()> {
    let rates = &args.rates;
    ensure!(!rates.is_empty(), "name the loads: --rates 5,15,30");
    let mut options = Options::at(target.parse().with_context(|| target.to_owned())?);
    options.attempts_max = 1;
    let doors = (0..4)
        .map(|_| Refract::connect(options.clone()))
        .collect::<Result<Vec<_>, _>>()?;
    let highest = rates.iter().copied().fold(0.0, f64::max);
    // Nobody of one load is remembered in another; in each, the same share of requests is a stranger's.
    let lasting = args.duration.as_secs_f64() * (highest + rates.iter().sum::<f64>());
    let requests = highest * WARM_UP.as_secs_f64() + lasting;
    let strangers = (0.9 * users.len() as f64 / requests).min(STRANGERS_MAX);
    ensure!(
        strangers >= STRANGERS_MIN,
        "{} users are too few strangers for these loads: lower --rates or --duration",
        users.len()
    );
    let mut rest = users;
    let mut load = |plan, rate, length, seed| {
        let trial = Trial::new(plan, rate, length, strangers, rest, seed);
        rest = &rest[trial.users.len()..];
        trial
    };
    // A young process still takes memory: that is no part of how it works.
    load(plan, highest, WARM_UP, args.seed ^ 0x3a43)
        .measure(&doors)
        .await;
    let fitting = load(plan, highest, args.duration, args.seed ^ 0x5eed);
    let measured = fitting.measure(&doors).await;
    let at_work = fitting.fit(&measured);
    if !args.json {
        let AtWork { pace, way_ms } = at_work;
        println!(
            "at {highest}/s a job takes {pace:.2} of what it takes an idle machine, and the way {way_ms:.1} ms for {:.1}",
            plan.load.way_ms
        );
        println!("{:28} {:>12} {:>12} {:>9}", "", "predicted", "measured", "error");
    }
    let mut worst = 0.0f64;
    let mut pairs = Vec::new();
    for rate in rates {
        let trial = load(plan, *rate, args.duration, args.seed);
        let predicted = trial.predict(&at_work.plan(plan, rate / highest));
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
