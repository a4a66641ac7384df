//! Means and shares with 95 % intervals, resampled by user: two texts for one user are not two independent cases.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Bootstrap samples behind each interval.
const SAMPLES: usize = 1_000;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// Cases behind the value.
    pub(crate) n: u64,
}

/// Values of cases, kept by user.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cases {
    /// (user, sum, count), users ascending.
    users: Vec<(usize, f64, u64)>,
}

impl Cases {
    pub(crate) fn add(&mut self, user: usize, value: f64) {
        match self.users.last_mut().filter(|last| last.0 == user) {
            Some(last) => {
                last.1 += value;
                last.2 += 1;
            }
            None => self.users.push((user, value, 1)),
        }
    }

    pub(crate) fn add_if(&mut self, user: usize, holds: bool) {
        self.add(user, f64::from(u8::from(holds)));
    }

    /// `None` without cases. A share that is 0 or 1 in every case gets the exact bound for so many users, for resampling sees
    /// no spread there.
    pub(crate) fn estimate(&self, seed: u64) -> Option<Estimate> {
        let (sum, n) = self
            .users
            .iter()
            .fold((0.0, 0), |(sum, n), user| (sum + user.1, n + user.2));
        if n == 0 {
            return None;
        }
        let value = sum / n as f64;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut means: Vec<f64> = (0..SAMPLES)
            .map(|_| {
                let drawn =
                    (0..self.users.len()).map(|_| &self.users[random.random_range(0..self.users.len())]);
                let (sum, n) = drawn.fold((0.0, 0), |(sum, n), user| (sum + user.1, n + user.2));
                sum / n as f64
            })
            .collect();
        means.sort_by(f64::total_cmp);
        let (mut low, mut high) = (means[SAMPLES * 25 / 1000], means[SAMPLES * 975 / 1000 - 1]);
        let bound = 1.0 - 0.025_f64.powf(1.0 / self.users.len() as f64);
        if sum == 0.0 {
            high = bound;
        } else if self.users.iter().all(|user| user.1 == user.2 as f64) {
            low = 1.0 - bound;
        }
        Some(Estimate { value, low, high, n })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_holds_the_value_and_narrows_with_more_users() {
        let share = |users: usize| {
            let mut cases = Cases::default();
            (0..users).for_each(|user| (0..2).for_each(|n| cases.add_if(user, (user + n) % 4 == 0)));
            cases.estimate(1).unwrap()
        };
        let (few, many) = (share(40), share(1_000));
        for estimate in [few, many] {
            assert!(
                estimate.low < estimate.value && estimate.value < estimate.high,
                "{estimate:?}"
            );
        }
        assert!(many.high - many.low < few.high - few.low);
        assert_eq!(share(40), few);
    }

    #[test]
    fn nothing_seen_is_not_nothing_possible() {
        let mut none = Cases::default();
        let mut all = Cases::default();
        for user in 0..500 {
            none.add_if(user, false);
            all.add_if(user, true);
        }
        let (none, all) = (none.estimate(1).unwrap(), all.estimate(1).unwrap());
        assert!(none.low == 0.0 && (0.005..0.009).contains(&none.high));
        assert!(all.high == 1.0 && (0.991..0.995).contains(&all.low));
        assert_eq!(Cases::default().estimate(1), None);
    }
}
