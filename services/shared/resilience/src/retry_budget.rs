//! May we try once more: a bucket that failures empty quickly and successes refill slowly (gRFC A6).
//!
//! A single bad replica is retried around; when everything fails, retries stop by themselves after a handful.

use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::limits::{Unfit, ensure};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What a full bucket holds. Each failed attempt takes one token out. Default 10.
    pub tokens_max: f64,
    /// What each success puts back: 0.1 lets retries be at most a tenth of the traffic in the long run. Default 0.1.
    pub tokens_per_success: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tokens_max: 10.0,
            tokens_per_success: 0.1,
        }
    }
}

impl Config {
    pub fn check(&self) -> Result<(), Unfit> {
        ensure(
            self.tokens_max.is_finite() && self.tokens_max >= 0.0,
            "tokens_max",
            "must be a number from 0",
        )?;
        ensure(
            self.tokens_per_success.is_finite() && (0.0..=1.0).contains(&self.tokens_per_success),
            "tokens_per_success",
            "must be from 0 to 1",
        )
    }
}

/// One per target, shared by everyone who calls it.
#[derive(Debug)]
pub struct RetryBudget {
    config: Config,
    tokens: Mutex<f64>,
}

impl RetryBudget {
    /// Starts full.
    pub fn new(config: Config) -> Self {
        Self {
            tokens: Mutex::new(config.tokens_max),
            config,
        }
    }

    /// Whether a failed attempt may be made again now: only while the bucket is more than half full.
    pub fn allows_retry(&self) -> bool {
        *self.lock() > self.config.tokens_max / 2.0
    }

    pub fn on_success(&self) {
        let mut tokens = self.lock();
        *tokens = (*tokens + self.config.tokens_per_success).min(self.config.tokens_max);
    }

    /// Every failed attempt counts, also one that will not be retried.
    pub fn on_failure(&self) {
        let mut tokens = self.lock();
        *tokens = (*tokens - 1.0).max(0.0);
    }

    pub fn tokens(&self) -> f64 {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, f64> {
        self.tokens
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn total_failure_allows_a_handful_of_retries_and_then_none() {
        let budget = RetryBudget::new(Config::default());
        let mut retries = 0;
        for _ in 0..1000 {
            budget.on_failure();
            retries += usize::from(budget.allows_retry());
        }
        assert_eq!(
            retries, 4,
            "5 failures bring 10 tokens down to 5, which is not above half"
        );
    }

    #[test]
    fn successes_bring_retries_back() {
        let budget = RetryBudget::new(Config::default());
        (0..10).for_each(|_| budget.on_failure());
        assert!(!budget.allows_retry());
        (0..60).for_each(|_| budget.on_success());
        assert!(budget.allows_retry());
    }

    proptest! {
        /// In any run, retries that were allowed stay below half a bucket plus a tenth of the successes (and the one
        /// token that is spent while the level is just above half).
        #[test]
        fn retries_never_exceed_the_budget(outcomes in proptest::collection::vec(any::<bool>(), 0..400)) {
            let budget = RetryBudget::new(Config::default());
            let (mut retries, mut successes) = (0.0, 0.0);
            for ok in outcomes {
                if ok {
                    budget.on_success();
                    successes += 1.0;
                } else {
                    budget.on_failure();
                    retries += f64::from(u8::from(budget.allows_retry()));
                }
                prop_assert!((0.0..=10.0).contains(&budget.tokens()));
            }
            prop_assert!(retries <= 5.0 + 0.1 * successes + 1.0);
        }
    }
}
