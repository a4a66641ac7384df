//! Measures a running cluster's stations by asking it: one item alone, and more and more side by side.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::StreamExt as _;
use refract_client::{Event, Explained, Options, Refract, Rung, for_user};
use refract_plan::plan::Station;
use refract_plan::{Plan, fit};

/// Requests of each kind that are measured; each asks for another user. With 16, what one more job adds came out a half larger in one of two
/// calibrations of the same machine.
const ASKED: usize = 40;
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
    // How large jobs are is known from what was written and not from how long it took: times differ by what the machine does beside, too.
    let most = &measured[SIDE_BY_SIDE.len() - 1].tokens;
    plan.load.spread = most.between();
    // What an Oracle writes is not in an answer; it writes about the same pair.
    plan.oracle.spread = most.within();
    plan.prism.spread = most.within();
    calibrate(&mut plan.oracle, &measured, |times| &times.oracle);
    calibrate(&mut plan.prism, &measured, |times| &times.prism);
    plan.check()?;
    Ok(rest)
}

/// One station's times, out of what was measured with so many side by side.
fn calibrate(station: &mut Station, measured: &[Times], of: fn(&Times) -> &Jobs) {
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
    tokens: Jobs,
    /// What the caller waited for and no station had.
    way: Sample,
}

/// Milliseconds.
#[derive(Default)]
struct Sample(Vec<f64>);

/// Of each request, what its jobs took (milliseconds, or tokens).
#[derive(Default)]
struct Jobs(Vec<Vec<f64>>);

/// Each user once for the Oracle, once more for memory.
async fn times(refract: &Refract, users: &[String], limit: usize) -> Result<Times> {
    let mut times = Times::default();
    for user in users {
        for _ in 0..2 {
            tokio::time::sleep(PAUSE).await;
            let begun = Instant::now();
            // As a stream, as the load asks: the way of many small messages is longer than that of one.
            let mut events = refract.stream_recommend(&for_user(user, limit)).await?;
            let (mut explained, mut summary) = (Vec::<Explained>::new(), None);
            while let Some(event) = events.next().await {
                match event? {
                    Event::Explained(it) => explained.push(*it),
                    Event::Summary(it) => summary = Some(it),
                    Event::Slate(_) | Event::Delta { .. } => {}
                }
            }
            let elapsed = begun.elapsed();
            let summary = summary.context("an answer ended without its summary")?;
            let items = explained.iter().map(|e| e.explanation.timings.total).max();
            times.slate.note(summary.rank_time);
            let known = summary.rank_time + items.unwrap_or_default();
            times.way.note(elapsed.saturating_sub(known));
            let (mut asked, mut written, mut tokens) = (Vec::new(), Vec::new(), Vec::new());
            for Explained { explanation, .. } in explained {
                let timings = &explanation.timings;
                match explanation.grounding.rung {
                    Rung::Fresh => asked.push(ms(timings.consult)),
                    Rung::Cached => times.found.note(timings.consult),
                    _ => continue,
                }
                written.push(ms(timings.total.saturating_sub(timings.consult)));
                tokens.push(f64::from(explanation.tokens.generated));
            }
            times.oracle.note(asked);
            times.prism.note(written);
            times.tokens.note(tokens);
        }
    }
    ensure!(
        !times.oracle.0.is_empty() && !times.found.0.is_empty(),
        "the cluster explained nothing with knowledge; is its Oracle there, and its memory empty?"
    );
    Ok(times)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Work differs, but not by this much: what took longer waited for a virtual machine that stood still, once in a hundred requests.
const STALL: f64 = 4.0;

/// With stalls at most so many times the median long.
fn without_stalls(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let most = STALL * sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    values.iter().map(|value| value.min(most)).collect()
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
        average(&without_stalls(&self.0.concat()))
    }

    /// How much the jobs of one request differ, on average over the requests.
    fn within(&self) -> f64 {
        let several = self.0.iter().filter(|jobs| jobs.len() > 1);
        average(&several.map(|jobs| spread(jobs)).collect::<Vec<_>>())
    }

    /// How much requests differ beyond that: of all the variance of their means, what few jobs do not explain.
    fn between(&self) -> f64 {
        let means: Vec<f64> = self.0.iter().map(|jobs| average(jobs)).collect();
        let jobs = self.0.concat().len() as f64 / self.0.len().max(1) as f64;
        let by_chance = self.within().powi(2) / jobs.max(1.0);
        (spread(&means).powi(2) - by_chance).max(0.0).sqrt()
    }
}

impl Sample {
    fn note(&mut self, time: Duration) {
        self.0.push(ms(time));
    }

    fn mean(&self) -> f64 {
        average(&without_stalls(&self.0))
    }

    fn spread(&self) -> f64 {
        spread(&without_stalls(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_few_jobs_explain_is_no_difference_between_requests() {
        // Every request holds the same two jobs: they differ, requests do not.
        let alike = Jobs(vec![vec![1.0, 3.0]; 9]);
        assert!((alike.within() - 0.5).abs() < 1e-9 && alike.between() == 0.0);
        // Requests of one size each: all difference is between them.
        let apart = Jobs(vec![vec![1.0, 1.0], vec![3.0, 3.0]]);
        assert!(apart.within() == 0.0 && (apart.between() - 0.5).abs() < 1e-9);
    }

    #[test]
    fn a_stall_counts_as_a_slow_job_and_not_as_many() {
        let mut times = vec![2.0; 39];
        times.push(400.0);
        assert!((Sample(times).mean() - 2.15).abs() < 1e-9);
        let none: [f64; 0] = [];
        assert_eq!(without_stalls(&none), none);
    }
}
