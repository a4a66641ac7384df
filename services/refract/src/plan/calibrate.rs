//! Measures a running cluster's stations by asking it: alone, and with many items side by side.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use refract_client::{Explained, Options, Refract, Rung, for_user};
use refract_plan::Plan;

/// Requests of each kind that are measured; each asks for another user.
const ASKED: usize = 16;
/// Items side by side when the slope is measured.
const TOGETHER: usize = 8;

/// Writes the stations' times into the plan; gives back the users whom the cluster has not seen.
pub(crate) async fn measure(plan: &mut Plan, target: &str, users: Vec<String>) -> Result<Vec<String>> {
    ensure!(
        users.len() > 4 * ASKED,
        "the data set has too few users to measure with"
    );
    let mut options = Options::at(target.parse().with_context(|| target.to_owned())?);
    options.deadline = Duration::from_secs(30);
    let refract = Refract::connect(options)?;
    refract
        .server_info()
        .await
        .with_context(|| format!("nobody to measure at {target}"))?;
    let (alone, rest) = users.split_at(ASKED);
    let (together, rest) = rest.split_at(ASKED);
    let one = times(&refract, alone, 1).await?;
    let many = times(&refract, together, TOGETHER).await?;

    plan.ranker.alone_ms = one.slate.middle();
    plan.ranker.each_more_ms = plan.ranker.alone_ms;
    plan.memory.lookup_ms = one.found.middle();
    let more = (TOGETHER - 1) as f64;
    for (station, one, many) in [
        (&mut plan.oracle, &one.oracle, &many.oracle),
        (&mut plan.prism, &one.prism, &many.prism),
    ] {
        station.alone_ms = one.middle().max(0.01);
        station.each_more_ms = ((many.middle() - one.middle()) / more).max(0.0);
        station.spread = one.spread();
    }
    plan.check()?;
    Ok(rest.to_vec())
}

#[derive(Default)]
struct Times {
    slate: Sample,
    oracle: Sample,
    found: Sample,
    prism: Sample,
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
            refract.rank(&for_user(user, limit).rank).await?;
            times.slate.note(begun.elapsed());
            let (_, explained, _) = refract.recommend(&for_user(user, limit)).await?;
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

    /// The mean without the slowest tenth, which is the machine's other work.
    fn middle(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted.truncate((sorted.len() * 9).div_ceil(10).max(1));
        sorted.iter().sum::<f64>() / sorted.len().max(1) as f64
    }

    /// Standard deviation over mean.
    fn spread(&self) -> f64 {
        let mean = self.0.iter().sum::<f64>() / self.0.len().max(1) as f64;
        let variance = self.0.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / self.0.len().max(1) as f64;
        (variance.sqrt() / mean.max(1e-9)).clamp(0.0, 3.0)
    }
}
