//! The plan: what is known and what is promised. Its doc comments are the manual of `plan.toml`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Error;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    pub load: Load,
    pub memory: Memory,
    pub ranker: Station,
    pub oracle: Station,
    pub prism: Station,
    pub promises: Promises,
}

/// Who asks how often for what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Load {
    /// Items of one request that are explained.
    pub items: usize,
    /// Distinct users; with the items of a slate they make the pairs.
    pub users: u64,
    /// The n-th most frequent user asks with weight 1/n^this.
    pub zipf: f64,
    /// What the way to the caller and back adds to each answer.
    pub way_ms: f64,
    /// Spread of requests: how much all jobs of one are larger or smaller together (a long history makes all its prompts
    /// long), as standard deviation over mean.
    pub spread: f64,
}

/// What is remembered, and for how long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Memory {
    /// Age at which knowledge is asked for again (`ranker.knowledge.ttl_soft`, or the time until a history changes).
    #[serde(with = "humantime_serde")]
    pub age: Duration,
    /// Pairs that there is room for.
    pub pairs: u64,
    /// One look-up, hit or miss.
    pub lookup_ms: f64,
}

/// Machines of one kind. A job that runs beside others takes `alone_ms + each_more_ms × (others)`: measured, so that
/// batching is in it. Jobs above `at_once_max` wait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Station {
    pub alone_ms: f64,
    pub each_more_ms: f64,
    pub at_once_max: usize,
    /// Spread of jobs: their standard deviation over their mean.
    pub spread: f64,
    /// Of one machine, in whatever currency.
    pub price_per_hour: f64,
}

/// What must hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Promises {
    /// 99 of 100 slates within this.
    pub slate_p99_ms: f64,
    /// 99 of 100 answers, all their explanations in, within this.
    pub complete_p99_ms: f64,
    /// Longest that one item waits for the Oracle (`ranker.river.consult_cap`); then it is explained without.
    pub consult_cap_ms: f64,
    /// Share of explanations that may do without the Oracle's knowledge.
    pub without_knowledge_max: f64,
    /// Highest share of its capacity at which a station is run: what is left carries the loss of a node.
    pub busy_max: f64,
}

impl Plan {
    pub fn read(text: &str) -> Result<Self, Error> {
        let plan: Self = toml::from_str(text).map_err(|error| Error::Unreadable(error.to_string()))?;
        plan.check()?;
        Ok(plan)
    }

    pub fn to_text(&self) -> String {
        toml::to_string_pretty(self).unwrap_or_default()
    }

    pub fn check(&self) -> Result<(), Error> {
        let ensure = |holds: bool, key, reason| {
            if holds {
                Ok(())
            } else {
                Err(Error::Unfit { key, reason })
            }
        };
        ensure(self.load.items >= 1, "load.items", "must be at least 1")?;
        ensure(self.load.users >= 1, "load.users", "must be at least 1")?;
        ensure(
            (0.0..=4.0).contains(&self.load.zipf),
            "load.zipf",
            "must be from 0 to 4",
        )?;
        ensure(self.load.way_ms >= 0.0, "load.way_ms", "must not be negative")?;
        ensure(
            (0.0..=3.0).contains(&self.load.spread),
            "load.spread",
            "must be from 0 to 3",
        )?;
        ensure(
            self.memory.lookup_ms >= 0.0,
            "memory.lookup_ms",
            "must not be negative",
        )?;
        for (key, station) in [
            ("ranker", &self.ranker),
            ("oracle", &self.oracle),
            ("prism", &self.prism),
        ] {
            ensure(station.alone_ms > 0.0, key, "alone_ms must be above 0")?;
            ensure(
                station.each_more_ms >= 0.0,
                key,
                "each_more_ms must not be negative",
            )?;
            ensure(station.at_once_max >= 1, key, "at_once_max must be at least 1")?;
            ensure(
                (0.0..=3.0).contains(&station.spread),
                key,
                "spread must be from 0 to 3",
            )?;
            ensure(
                station.price_per_hour >= 0.0,
                key,
                "price_per_hour must not be negative",
            )?;
        }
        ensure(
            self.promises.busy_max > 0.0 && self.promises.busy_max < 1.0,
            "promises.busy_max",
            "must be between 0 and 1: a station without a reserve waits for ever",
        )?;
        ensure(
            (0.0..=1.0).contains(&self.promises.without_knowledge_max),
            "promises.without_knowledge_max",
            "must be from 0 to 1",
        )
    }
}

impl Station {
    /// Jobs a second of one machine that always has enough of them.
    pub fn capacity(&self) -> f64 {
        let full = self.at_once_max as f64;
        // Where more at once is no gain, the best is somewhere below; the curve has its most at an end.
        let at = |b: f64| 1e3 * b / self.takes(b);
        at(full).max(at(1.0))
    }

    /// How long a job takes beside `at_once - 1` others.
    pub fn takes(&self, at_once: f64) -> f64 {
        self.alone_ms + self.each_more_ms * (at_once - 1.0).max(0.0)
    }
}

impl Default for Load {
    fn default() -> Self {
        Self {
            items: 5,
            users: 1_000_000,
            zipf: 0.9,
            way_ms: 0.5,
            spread: 0.2,
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            age: Duration::from_secs(6 * 3600),
            pairs: 50_000_000,
            lookup_ms: 0.5,
        }
    }
}

impl Default for Station {
    /// A small model on a few processor cores. Measure yours: `refract plan --calibrate`.
    fn default() -> Self {
        Self {
            alone_ms: 20.0,
            each_more_ms: 2.0,
            at_once_max: 32,
            spread: 0.4,
            price_per_hour: 1.0,
        }
    }
}

impl Default for Promises {
    fn default() -> Self {
        Self {
            slate_p99_ms: 100.0,
            complete_p99_ms: 2_000.0,
            consult_cap_ms: 1_500.0,
            without_knowledge_max: 0.02,
            busy_max: 0.7,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_survives_its_text_and_impossible_numbers_are_named() {
        let plan = Plan::default();
        assert_eq!(Plan::read(&plan.to_text()).unwrap(), plan);
        for (text, key) in [
            ("[load]\nitems = 0", "load.items"),
            ("[prism]\nalone_ms = 0.0", "prism"),
            ("[promises]\nbusy_max = 1.0", "promises.busy_max"),
            ("[memory]\nage = \"soon\"", "age"),
            ("[lode]", "lode"),
        ] {
            let error = Plan::read(text).expect_err(text).to_string();
            assert!(error.contains(key), "{text}: {error}");
        }
    }

    #[test]
    fn batching_is_worth_what_the_curve_says() {
        let station = Station {
            alone_ms: 100.0,
            each_more_ms: 10.0,
            at_once_max: 11,
            ..Station::default()
        };
        assert_eq!(station.takes(1.0), 100.0);
        assert_eq!(station.takes(11.0), 200.0);
        assert_eq!(station.capacity(), 55.0);
    }
}
