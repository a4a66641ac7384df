//! When requests start, and who asks: drawn by a seed, the same every time.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// How requests follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// Independent of each other, as those of many users are.
    Poisson,
    /// At equal distances: the kindest load there is.
    Even,
}

/// Starts from 0 until `duration`, at `rate` a second on average.
pub fn starts(arrivals: Arrivals, rate: f64, duration: Duration, seed: u64) -> Vec<Duration> {
    let mut draw = ChaCha8Rng::seed_from_u64(seed);
    let end = duration.as_secs_f64();
    let mut at = 0.0;
    let mut starts = Vec::new();
    loop {
        at = match arrivals {
            Arrivals::Even => (starts.len() + 1) as f64 / rate,
            // The inverse of the exponential distribution; the argument of the logarithm is never 0.
            Arrivals::Poisson => at - (1.0 - draw.random::<f64>()).ln() / rate,
        };
        if at >= end {
            return starts;
        }
        starts.push(Duration::from_secs_f64(at));
    }
}

/// Draws one of `n` by how often it asks: the k-th with weight `1/k^exponent`; 0 is everybody alike.
#[derive(Clone, Debug)]
pub struct Zipf {
    /// Sums of the weights up to each, the last of them 1.
    upto: Vec<f64>,
}

impl Zipf {
    pub fn new(n: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let mut upto: Vec<f64> = (1..=n.max(1))
            .map(|k| {
                sum += (k as f64).powf(-exponent);
                sum
            })
            .collect();
        upto.iter_mut().for_each(|weight| *weight /= sum);
        Self { upto }
    }

    /// `chance` is uniform in [0, 1).
    pub fn pick(&self, chance: f64) -> usize {
        self.upto
            .partition_point(|upto| *upto <= chance)
            .min(self.upto.len() - 1)
    }

    /// How likely each is, the likeliest first.
    pub fn shares(&self) -> impl Iterator<Item = f64> + '_ {
        let before = std::iter::once(0.0).chain(self.upto.iter().copied());
        self.upto.iter().zip(before).map(|(upto, before)| upto - before)
    }
}

/// Who asks, for each start. Which user is the frequent one is drawn, too, so that it is not always the first by name.
pub fn askers(users: &[String], exponent: f64, starts: usize, seed: u64) -> Vec<usize> {
    let mut draw = ChaCha8Rng::seed_from_u64(seed ^ 0x5eed_0f0f_u64);
    let zipf = Zipf::new(users.len(), exponent);
    let order = shuffled(users.len(), &mut draw);
    (0..starts).map(|_| order[zipf.pick(draw.random())]).collect()
}

/// The numbers below `count` in a drawn order.
pub fn order(count: usize, seed: u64) -> Vec<usize> {
    shuffled(count, &mut ChaCha8Rng::seed_from_u64(seed))
}

fn shuffled(count: usize, draw: &mut ChaCha8Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..order.len()).rev() {
        order.swap(last, draw.random_range(0..=last));
    }
    order
}

/// The users of a data set in Refract's format, in order.
pub fn users(data: &Path) -> Result<Vec<String>> {
    let file = data.join("interactions.csv");
    let shown = file.display();
    let mut reader = csv::Reader::from_path(&file).with_context(|| format!("reading {shown}"))?;
    let column = reader
        .headers()?
        .iter()
        .position(|name| name == "user_id")
        .with_context(|| format!("{shown} has no column user_id"))?;
    let mut users = Vec::new();
    for row in reader.records() {
        let row = row.with_context(|| format!("reading {shown}"))?;
        users.extend(row.get(column).map(str::to_owned));
    }
    users.sort_unstable();
    users.dedup();
    ensure!(!users.is_empty(), "{shown} names no user");
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_come_at_the_rate_asked_and_the_same_for_a_seed() {
        let hundred = Duration::from_secs(100);
        let even = starts(Arrivals::Even, 10.0, hundred, 1);
        assert_eq!(even.len(), 999);
        assert_eq!(even[0], Duration::from_millis(100));
        let poisson = starts(Arrivals::Poisson, 50.0, hundred, 1);
        assert!((4_700..5_300).contains(&poisson.len()), "{}", poisson.len());
        assert!(poisson.is_sorted() && poisson.iter().all(|at| *at < hundred));
        assert_eq!(poisson, starts(Arrivals::Poisson, 50.0, hundred, 1));
        assert_ne!(poisson, starts(Arrivals::Poisson, 50.0, hundred, 2));
        // Gaps of a Poisson process vary as much as they last on average.
        let gaps: Vec<f64> = poisson.windows(2).map(|w| (w[1] - w[0]).as_secs_f64()).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let deviation = (gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        assert!((0.9..1.1).contains(&(deviation / mean)), "{deviation} {mean}");
    }

    #[test]
    fn the_frequent_ask_often_and_everybody_can_be_drawn() {
        let zipf = Zipf::new(4, 1.0);
        let shares: Vec<f64> = zipf.shares().collect();
        for (share, expected) in shares.iter().zip([12.0, 6.0, 4.0, 3.0]) {
            assert!((share - expected / 25.0).abs() < 1e-12, "{shares:?}");
        }
        assert_eq!((zipf.pick(0.0), zipf.pick(0.479), zipf.pick(0.481)), (0, 0, 1));
        assert_eq!(zipf.pick(0.999_999_999), 3);
        assert_eq!(Zipf::new(0, 1.0).pick(0.5), 0);
        let users: Vec<String> = (0..50).map(|n| n.to_string()).collect();
        let drawn = askers(&users, 1.1, 5_000, 7);
        let mut seen = vec![0; 50];
        drawn.iter().for_each(|n| seen[*n] += 1);
        seen.sort_unstable();
        assert!(seen[49] > 3 * seen[40] && seen[0] > 0, "{seen:?}");
        assert_eq!(drawn, askers(&users, 1.1, 5_000, 7));
    }
}
