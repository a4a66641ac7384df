//! Intervals by resampling whole groups: two texts for one user are not two independent cases.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The middle 95 % of resampled values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

/// Draws as many groups as there are, with repetition, `samples` times; `value` turns the drawn groups into a number.
///
/// The same seed gives the same interval. `None` without groups or samples. Not for USR, Distinct-n and FCR: a group that is
/// drawn twice repeats itself, which those measures would take for want of variety.
pub fn bootstrap<G>(
    groups: &[G],
    samples: usize,
    seed: u64,
    value: impl Fn(&mut dyn Iterator<Item = &G>) -> f64,
) -> Option<Interval> {
    if groups.is_empty() || samples == 0 {
        return None;
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut values: Vec<f64> = (0..samples)
        .map(|_| {
            let mut drawn = (0..groups.len()).map(|_| &groups[random.random_range(0..groups.len())]);
            value(&mut drawn)
        })
        .collect();
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((samples - 1) as f64 * share).round() as usize];
    Some(Interval {
        low: at(0.025),
        high: at(0.975),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(drawn: &mut dyn Iterator<Item = &f64>) -> f64 {
        let (sum, n) = drawn.fold((0.0, 0), |(sum, n), x| (sum + x, n + 1));
        sum / f64::from(n)
    }

    #[test]
    fn an_interval_holds_the_mean_repeats_with_its_seed_and_narrows_with_more_cases() {
        let cases = |n: usize| -> Vec<f64> { (0..n).map(|i| (i % 7) as f64).collect() };
        let (few, many) = (
            bootstrap(&cases(70), 500, 1, mean).unwrap(),
            bootstrap(&cases(7_000), 500, 1, mean).unwrap(),
        );
        for interval in [few, many] {
            assert!(interval.low < 3.0 && 3.0 < interval.high, "{interval:?}");
        }
        assert!(many.high - many.low < (few.high - few.low) / 5.0);
        assert_eq!(bootstrap(&cases(70), 500, 1, mean), Some(few));
        assert_ne!(bootstrap(&cases(70), 500, 2, mean), Some(few));
        assert_eq!(bootstrap(&[], 500, 1, mean), None);
    }
}
