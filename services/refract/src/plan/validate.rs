//! Holds the simulation against real processes: the same arrivals, the same users, and by how much it was wrong.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use refract_client::{Options, Refract};
use refract_loadtest::drive::{self, Load};
use refract_loadtest::schedule::{self, Arrivals};
use refract_loadtest::summary::{Objectives, Summary};
use refract_plan::Plan;
use refract_plan::simulate::{Known, Run, Size, simulate};

use crate::cli;

/// What the prediction is wished to be wrong by at most.
const ERROR_GOAL: f64 = 0.15;

/// One machine runs everything (`refract serve all`). `users` are strangers to it.
pub(crate) async fn compare(plan: &Plan, target: &str, users: &[String], args: &cli::Plan) -> Result<()> {
    let rates = &args.rates;
    ensure!(users.len() >= rates.len(), "too few users are left to load with");
    let mut options = Options::at(target.parse().with_context(|| target.to_owned())?);
    options.attempts_max = 1;
    let doors = (0..4)
        .map(|_| Refract::connect(options.clone()))
        .collect::<Result<Vec<_>, _>>()?;
    let mut worst = 0.0f64;
    if !args.json {
        println!("{:28} {:>12} {:>12} {:>9}", "", "predicted", "measured", "error");
    }
    for (n, rate) in rates.iter().enumerate() {
        // Each load has users of its own, so that nothing of the one before is remembered for it.
        let part = users.len() / rates.len();
        let mine = &users[n * part..(n + 1) * part];
        let length = args.duration;
        let starts = schedule::starts(Arrivals::Poisson, *rate, length, args.seed);
        let askers = schedule::askers(mine, plan.load.zipf, starts.len(), args.seed);
        let run = Run {
            rate: *rate,
            duration: length,
            known: Known::Askers(askers.clone()),
            is_together: true,
            seed: args.seed,
        };
        let one = Size {
            ranker: 1,
            oracle: 1,
            prism: 1,
        };
        let predicted = simulate(plan, one, &run);
        let load = Load {
            users: askers.into_iter().map(|n| mine[n].clone()).collect(),
            starts,
            limit: plan.load.items,
            in_flight_max: 10_000,
        };
        let outcomes = drive::run(&doors, load).await;
        let measured = Summary::of(&outcomes, length, &Objectives::default());
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
                        "goal": format!("<= {ERROR_GOAL}"), "holds": error.abs() <= ERROR_GOAL, "n": outcomes.len(),
                        "predicted": predicted, "measured": measured,
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
        // What is still under way belongs to this load and not to the next.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    if !args.json {
        println!(
            "worst error {:.1} % (goal {:.0} %)",
            100.0 * worst,
            100.0 * ERROR_GOAL
        );
    }
    Ok(())
}
