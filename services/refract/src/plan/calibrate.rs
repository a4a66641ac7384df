//! Measures a running cluster's stations by asking it: one item alone, and more and more side by side.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use refract_client::{Explained, Options, Refract, Rung, for_user};
use refract_plan::Plan;
use refract_plan::plan::Station;

/// Requests of each kind that are measured; each asks for another user.
const ASKED: usize = 16;
/// Items side by side: what a job takes beside others is a line through these.
const SIDE_BY_SIDE: [usize; 4] = [1, 2, 4, 8];

/// Writes the stations' times into the plan; gives back the users whom the cluster has not seen.
pub(crate) async fn measure(plan: &mut Plan, target: &str, users: Vec<String>) -> Result<Vec<String>> {
    let needed = SIDE_BY_SIDE.len() * ASKED;
    ensure!(
        users.len() > 2 * needed,
        "the data set has too few users to measure with"
    );
    let mut options = Options::at(target.parse().with_context(|| target.to_owned())?);
    options.deadline = Duration::from_secs(30);
    let refract = Refract::connect(options)?;
    refract
        .server_info()
        .await
        .with_context(|| format!("nobody to measure at {target}"))?;
    // What starts up on the first calls is no part of any later one.
    let (warm, users) = users.split_at(2);
    times(&refract, warm, 1).await?;
    let mut measured = Vec::new();
    for (many, users) in SIDE_BY_SIDE.iter().zip(users.chunks(ASKED)) {
        measured.push(times(&refract, users, *many).await?);
    }
    let rest = users[needed..].to_vec();

    let one = &measured[0];
    plan.ranker.alone_ms = one.slate.mean().max(0.001);
    plan.ranker.each_more_ms = plan.ranker.alone_ms;
    plan.ranker.spread = one.slate.spread();
    plan.memory.lookup_ms = one.found.mean();
    plan.load.way_ms = one.way.mean();
    calibrate(&mut plan.oracle, &measured, |times| &times.oracle);
    calibrate(&mut plan.prism, &measured, |times| &times.prism);
    plan.check()?;
    Ok(rest)
}

/// One station's times, out of what was measured with so many side by side.
fn calibrate(station: &mut Station, measured: &[Times], of: fn(&Times) -> &Sample) {
    let line = SIDE_BY_SIDE
        .iter()
        .zip(measured)
        .map(|(many, times)| (*many as f64 - 1.0, of(times).mean()));
    let (alone_ms, each_more_ms) = fit(&line.collect::<Vec<_>>());
    station.alone_ms = alone_ms.max(0.01);
    station.each_more_ms = each_more_ms.max(0.0);
    station.spread = of(&measured[0]).spread();
}

/// The line through these points with the least squared error relative to each: a tenth too much counts alike anywhere.
fn fit(points: &[(f64, f64)]) -> (f64, f64) {
    let weight = |y: f64| 1.0 / (y * y).max(1e-9);
    let sum = |f: &dyn Fn(f64, f64) -> f64| points.iter().map(|(x, y)| weight(*y) * f(*x, *y)).sum::<f64>();
    let (n, x, y) = (sum(&|_, _| 1.0), sum(&|x, _| x), sum(&|_, y| y));
    let (xx, xy) = (sum(&|x, _| x * x), sum(&|x, y| x * y));
    let slope = (n * xy - x * y) / (n * xx - x * x).max(1e-12);
    ((y - slope * x) / n, slope)
}

#[derive(Default)]
struct Times {
    slate: Sample,
    oracle: Sample,
    found: Sample,
    prism: Sample,
    /// What the caller waited for and no station had.
    way: Sample,
}

/// Milliseconds.
#[derive(Default)]
struct Sample(Vec<f64>);

/// Each user once for the Oracle, once more for memory.
async fn times(refract: &Refract, users: &[String], limit: usize) -> Result<Times> {
    let mut times = Times::default();
    for user in users {
        for _ in 0..2 {
            let begun = Instant::now();
            let (_, explained, summary) = refract.recommend(&for_user(user, limit)).await?;
            times.slate.note(summary.rank_time);
            times.way.note(begun.elapsed().saturating_sub(summary.total_time));
            for Explained { explanation, .. } in explained {
                let timings = &explanation.timings;
                match explanation.grounding.rung {
                    Rung::Fresh => times.oracle.note(timings.consult),
                    Rung::Cached => times.found.note(timings.consult),
                    _ => continue,
                }
                times.prism.note(timings.total.saturating_sub(timings.consult));
            }
        }
    }
    ensure!(
        !times.oracle.0.is_empty() && !times.found.0.is_empty(),
        "the cluster explained nothing with knowledge; is its Oracle there, and its memory empty?"
    );
    Ok(times)
}

impl Sample {
    fn note(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64() * 1e3);
    }

    /// Of all: the slow ones are work, too, and a machine that is busy with other things is not measured on.
    fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len().max(1) as f64
    }

    /// Standard deviation over mean.
    fn spread(&self) -> f64 {
        let mean = self.mean();
        let variance = self.0.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / self.0.len().max(1) as f64;
        (variance.sqrt() / mean.max(1e-9)).clamp(0.0, 3.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_again_and_small_values_count_as_much_as_large_ones() {
        let line = |x: f64| (x, 20.0 + 3.0 * x);
        let (alone, more) = fit(&[line(0.0), line(1.0), line(3.0), line(7.0)]);
        assert!((alone - 20.0).abs() < 1e-9 && (more - 3.0).abs() < 1e-9);
        let (alone, more) = fit(&[(0.0, 10.0), (1.0, 12.0), (3.0, 16.0), (7.0, 48.0)]);
        assert!(
            (alone - 10.0).abs() < 2.0 && (2.0..5.5).contains(&more),
            "{alone} {more}"
        );
    }
}
