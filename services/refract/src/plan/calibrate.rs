//! Measures a running cluster's stations by asking it: one item alone, and more and more side by side.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use refract_client::{Explained, Options, Refract, Rung, for_user};
use refract_plan::plan::Station;
use refract_plan::{Plan, fit};

/// Requests of each kind that are measured; each asks for another user.
const ASKED: usize = 16;
/// Between two requests, as under a usual load. Asked again at once, a cluster on two cores answered a remembered user in 9 ms; 50 to
/// 200 ms later, with processors asleep and caches cold, in 16.
const PAUSE: Duration = Duration::from_millis(60);
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
    let all =
        |of: fn(&Times) -> &Sample| Sample(measured.iter().flat_map(|times| of(times).0.clone()).collect());
    plan.load.way_ms = all(|times| &times.way).mean();
    // Of requests with several items the mean says how large the request is, and the rest how its items differ.
    plan.load.spread = all(|times| &times.request).spread();
    calibrate(&mut plan.oracle, &measured, |times| &times.oracle);
    calibrate(&mut plan.prism, &measured, |times| &times.prism);
    plan.check()?;
    Ok(rest)
}

/// One station's times, out of what was measured with so many side by side.
fn calibrate(station: &mut Station, measured: &[Times], of: fn(&Times) -> &Jobs) {
    let most = measured
        .last()
        .map(|times| of(times).within())
        .unwrap_or_default();
    station.spread = most.clamp(0.0, 3.0);
    let means = SIDE_BY_SIDE.iter().zip(measured);
    let means: Vec<(usize, f64)> = means.map(|(many, times)| (*many, of(times).mean())).collect();
    fit::curve(station, &means);
}

#[derive(Default)]
struct Times {
    slate: Sample,
    oracle: Jobs,
    found: Sample,
    prism: Jobs,
    /// Of each request, its jobs at the Prisms over what they take on average: how large it is.
    request: Sample,
    /// What the caller waited for and no station had.
    way: Sample,
}

/// Milliseconds.
#[derive(Default)]
struct Sample(Vec<f64>);

/// Milliseconds of the jobs of each request.
#[derive(Default)]
struct Jobs(Vec<Vec<f64>>);

/// Each user once for the Oracle, once more for memory.
async fn times(refract: &Refract, users: &[String], limit: usize) -> Result<Times> {
    let mut times = Times::default();
    for user in users {
        for _ in 0..2 {
            tokio::time::sleep(PAUSE).await;
            let begun = Instant::now();
            let (_, explained, summary) = refract.recommend(&for_user(user, limit)).await?;
            let elapsed = begun.elapsed();
            let items = explained.iter().map(|e| e.explanation.timings.total).max();
            times.slate.note(summary.rank_time);
            let known = summary.rank_time + items.unwrap_or_default();
            times.way.note(elapsed.saturating_sub(known));
            let (mut asked, mut written) = (Vec::new(), Vec::new());
            for Explained { explanation, .. } in explained {
                let timings = &explanation.timings;
                match explanation.grounding.rung {
                    Rung::Fresh => asked.push(ms(timings.consult)),
                    Rung::Cached => times.found.note(timings.consult),
                    _ => continue,
                }
                written.push(ms(timings.total.saturating_sub(timings.consult)));
            }
            times.oracle.note(asked);
            times.prism.note(written);
        }
    }
    ensure!(
        !times.oracle.0.is_empty() && !times.found.0.is_empty(),
        "the cluster explained nothing with knowledge; is its Oracle there, and its memory empty?"
    );
    let mean = times.prism.mean();
    let sizes = times.prism.0.iter().map(|jobs| average(jobs) / mean.max(1e-9));
    times.request = Sample(sizes.collect());
    Ok(times)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Standard deviation over mean.
fn spread(values: &[f64]) -> f64 {
    let mean = average(values);
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len().max(1) as f64;
    (variance.sqrt() / mean.max(1e-9)).clamp(0.0, 3.0)
}

impl Jobs {
    fn note(&mut self, jobs: Vec<f64>) {
        if !jobs.is_empty() {
            self.0.push(jobs);
        }
    }

    fn mean(&self) -> f64 {
        average(&self.0.concat())
    }

    /// How much the jobs of one request differ, on average over the requests.
    fn within(&self) -> f64 {
        let each: Vec<f64> = self
            .0
            .iter()
            .filter(|jobs| jobs.len() > 1)
            .map(|jobs| spread(jobs))
            .collect();
        average(&each)
    }
}

impl Sample {
    fn note(&mut self, time: Duration) {
        self.0.push(ms(time));
    }

    /// Of all: the slow ones are work, too, and a machine that is busy with other things is not measured on.
    fn mean(&self) -> f64 {
        average(&self.0)
    }

    fn spread(&self) -> f64 {
        spread(&self.0)
    }
}
