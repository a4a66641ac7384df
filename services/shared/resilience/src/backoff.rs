//! How long to wait before connecting again: doubling, capped, with jitter downwards.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::{Unfit, ensure};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The first wait. Default 50ms.
    #[serde(with = "humantime_serde")]
    pub first: Duration,
    /// The longest wait; a peer that came back is found within it. Default 800ms.
    #[serde(with = "humantime_serde")]
    pub wait_max: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(50),
            wait_max: Duration::from_millis(800),
        }
    }
}

impl Config {
    pub fn check(&self) -> Result<(), Unfit> {
        ensure(
            !self.first.is_zero(),
            "first",
            "must be longer than zero, or a dead peer is hammered",
        )?;
        ensure(
            self.wait_max >= self.first,
            "wait_max",
            "must not be shorter than first",
        )
    }
}

/// One series of waits. The seed makes the jitter of different clients differ and a test repeatable.
#[derive(Clone, Debug)]
pub struct Backoff {
    config: Config,
    failures: u32,
    seed: u64,
}

impl Backoff {
    pub fn new(config: Config, seed: u64) -> Self {
        Self {
            config,
            failures: 0,
            seed,
        }
    }

    /// The wait after one more failure: between half and all of `first * 2^n`, never above `wait_max`.
    pub fn after_failure(&mut self) -> Duration {
        let doubled = self
            .config
            .first
            .saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1);
        let full = doubled.min(self.config.wait_max);
        full / 2 + (full / 2).mul_f64(self.next_share())
    }

    /// Starts over after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// In [0, 1): splitmix64, plenty for spreading reconnects.
    fn next_share(&mut self) -> f64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn waits_stay_between_half_and_all_of_their_step(seed: u64, first in 1u64..200, factor in 1u32..40, n in 1usize..80) {
            let first = Duration::from_millis(first);
            let config = Config { first, wait_max: first * factor };
            prop_assert!(config.check().is_ok());
            let mut backoff = Backoff::new(config.clone(), seed);
            for step in 0..n {
                let full = first.saturating_mul(1u32.checked_shl(step as u32).unwrap_or(u32::MAX)).min(config.wait_max);
                let wait = backoff.after_failure();
                prop_assert!(wait >= full / 2 && wait <= full, "step {step}: {wait:?} of {full:?}");
            }
            backoff.reset();
            prop_assert!(backoff.after_failure() <= first);
        }
    }

    #[test]
    fn limits_that_do_not_fit_are_named() {
        let zero = Config {
            first: Duration::ZERO,
            ..Config::default()
        };
        assert_eq!(zero.check().unwrap_err().key, "first");
        let upside_down = Config {
            wait_max: Duration::from_millis(1),
            ..Config::default()
        };
        assert_eq!(
            upside_down.check().unwrap_err().within("backoff").key,
            "backoff.wait_max"
        );
    }
}
