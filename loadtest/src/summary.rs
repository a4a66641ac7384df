//! From what was seen of each request to figures: quantiles, goodput, schedule delay.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

/// What was seen of one request. Times count from its intended start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Since the run began.
    pub intended: Duration,
    /// How much later than intended it was sent: the generator's fault, not the server's.
    pub delay: Duration,
    pub slate: Option<Duration>,
    pub first_text: Option<Duration>,
    /// Between pieces of text of one item, as they came.
    pub gaps: Vec<Duration>,
    pub items: Vec<Item>,
    /// When the summary came.
    pub end: Option<Duration>,
    /// From when it was sent to the summary, less the Prism's work on the item that ended last: the way, the ranker and memory. Only of
    /// answers in which a model wrote that item.
    pub overhead: Option<Duration>,
    /// `OK`, or what went wrong, from a closed list.
    pub status: &'static str,
}

/// One explained item.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub rung: &'static str,
    pub complete: Duration,
    /// How long the ranker waited for what is remembered of the pair; absent where it was not remembered.
    pub found: Option<Duration>,
    /// From its first piece of text to its end, over the tokens written less one; absent for one token or none.
    pub per_token: Option<Duration>,
}

/// What counts as good, by name: all of them must hold for a request to be good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objectives {
    pub slate: Option<Duration>,
    pub first_text: Option<Duration>,
    pub complete: Option<Duration>,
}

/// The figures of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub seconds: f64,
    pub requests: usize,
    pub intended_per_second: f64,
    /// Requests that ended well, per second of the run.
    pub ok_per_second: f64,
    /// Of those, the ones that met all objectives.
    pub good_per_second: f64,
    pub status: BTreeMap<String, usize>,
    /// Items explained, per second, by rung; and those of good requests.
    pub items_per_second: BTreeMap<String, f64>,
    pub good_items_per_second: BTreeMap<String, f64>,
    /// By metric: 101 values in milliseconds, from the least to the most.
    pub curves_ms: BTreeMap<String, Vec<f64>>,
    /// How many values each curve is made of.
    pub counts: BTreeMap<String, usize>,
}

/// Names of the curves, in the order of a request's life.
pub const METRICS: [&str; 9] = [
    "schedule_delay",
    "slate",
    "first_text",
    "between_texts",
    "per_token",
    "item",
    "complete",
    "overhead",
    "found",
];

impl Objectives {
    /// `slate=50ms`, `first_text=1s` or `complete=3s`.
    pub fn set(&mut self, text: &str) -> Result<()> {
        let (name, limit) = text
            .split_once('=')
            .with_context(|| format!("{text}: write NAME=DURATION"))?;
        let limit = humantime::parse_duration(limit).with_context(|| text.to_owned())?;
        match name {
            "slate" => self.slate = Some(limit),
            "first_text" => self.first_text = Some(limit),
            "complete" => self.complete = Some(limit),
            _ => bail!("{text}: objectives are slate, first_text and complete"),
        }
        Ok(())
    }

    pub fn hold(&self, outcome: &Outcome) -> bool {
        let within = |limit: Option<Duration>, seen: Option<Duration>| {
            limit.is_none_or(|limit| seen.is_some_and(|seen| seen <= limit))
        };
        outcome.status == "OK"
            && within(self.slate, outcome.slate)
            // An answer may have no text at all, and says so; then there is none to wait for.
            && (outcome.first_text.is_none() || within(self.first_text, outcome.first_text))
            && within(self.complete, outcome.end)
    }
}

impl Summary {
    /// `length` is how long requests were begun.
    pub fn of(outcomes: &[Outcome], length: Duration, objectives: &Objectives) -> Self {
        let seconds = length.as_secs_f64();
        let mut status = BTreeMap::new();
        let mut items: BTreeMap<String, usize> = BTreeMap::new();
        let mut good_items: BTreeMap<String, usize> = BTreeMap::new();
        let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        let mut good = 0;
        for outcome in outcomes {
            *status.entry(outcome.status.to_owned()).or_default() += 1;
            let holds = objectives.hold(outcome);
            good += usize::from(holds);
            let mut note = |metric, value: Duration| {
                values.entry(metric).or_default().push(value.as_secs_f64() * 1e3);
            };
            note("schedule_delay", outcome.delay);
            for (metric, value) in [
                ("slate", outcome.slate),
                ("first_text", outcome.first_text),
                ("complete", outcome.end),
                ("overhead", outcome.overhead),
            ] {
                if let Some(value) = value {
                    note(metric, value);
                }
            }
            outcome.gaps.iter().for_each(|gap| note("between_texts", *gap));
            for item in &outcome.items {
                note("item", item.complete);
                if let Some(per_token) = item.per_token {
                    note("per_token", per_token);
                }
                if let Some(found) = item.found {
                    note("found", found);
                }
                *items.entry(item.rung.to_owned()).or_default() += 1;
                *good_items.entry(item.rung.to_owned()).or_default() += usize::from(holds);
            }
        }
        let rate = |count: usize| count as f64 / seconds;
        let rates = |counts: BTreeMap<String, usize>| counts.into_iter().map(|(k, n)| (k, rate(n))).collect();
        let ok = status.get("OK").copied().unwrap_or_default();
        let counts = values.iter().map(|(k, v)| ((*k).to_owned(), v.len())).collect();
        Self {
            seconds,
            requests: outcomes.len(),
            intended_per_second: rate(outcomes.len()),
            ok_per_second: rate(ok),
            good_per_second: rate(good),
            status,
            items_per_second: rates(items),
            good_items_per_second: rates(good_items),
            curves_ms: values
                .into_iter()
                .map(|(k, mut v)| (k.to_owned(), curve(&mut v)))
                .collect(),
            counts,
        }
    }

    /// A quantile in milliseconds, `percent` from 0 to 100.
    pub fn quantile(&self, metric: &str, percent: usize) -> Option<f64> {
        self.curves_ms.get(metric)?.get(percent).copied()
    }

    /// Good requests as a share of those intended.
    pub fn good_share(&self) -> f64 {
        if self.requests == 0 {
            0.0
        } else {
            self.good_per_second / self.intended_per_second
        }
    }
}

/// 101 quantiles by nearest rank: each is a value that was seen, rounded to three decimals.
pub fn curve(values: &mut [f64]) -> Vec<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let Some(last) = values.len().checked_sub(1) else {
        return Vec::new();
    };
    (0..=100)
        .map(|percent| values[(values.len() * percent).div_ceil(100).saturating_sub(1).min(last)])
        .map(|value| (value * 1e3).round() / 1e3)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn answered(slate: u64, first_text: Option<u64>, end: u64, rung: &'static str) -> Outcome {
        Outcome {
            slate: Some(ms(slate)),
            first_text: first_text.map(ms),
            end: Some(ms(end)),
            items: vec![Item {
                rung,
                complete: ms(end),
                found: None,
                per_token: None,
            }],
            status: "OK",
            ..Outcome::default()
        }
    }

    #[test]
    fn quantiles_are_values_that_were_seen() {
        let mut values: Vec<f64> = (1..=1000).rev().map(f64::from).collect();
        let curve = curve(&mut values);
        assert_eq!(
            (curve[0], curve[50], curve[99], curve[100]),
            (1.0, 500.0, 990.0, 1000.0)
        );
        assert_eq!(super::curve(&mut [7.0])[99], 7.0);
        assert!(super::curve(&mut []).is_empty());
    }

    #[test]
    fn goodput_counts_requests_that_met_every_objective_and_names_the_rungs_of_their_items() {
        let mut objectives = Objectives::default();
        for text in ["slate=10ms", "first_text=50ms", "complete=100ms"] {
            objectives.set(text).unwrap();
        }
        let refused = Outcome {
            status: "OVERLOADED",
            ..Outcome::default()
        };
        let outcomes = [
            answered(5, Some(40), 90, "FRESH"),
            answered(5, None, 90, "NONE"),
            answered(20, Some(40), 90, "FRESH"),
            answered(5, Some(60), 90, "CACHED"),
            answered(5, Some(40), 110, "CACHED"),
            refused,
        ];
        let summary = Summary::of(&outcomes, Duration::from_secs(2), &objectives);
        assert_eq!((summary.requests, summary.ok_per_second), (6, 2.5));
        assert_eq!(summary.good_per_second, 1.0);
        assert!((summary.good_share() - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(summary.status["OVERLOADED"], 1);
        assert_eq!(summary.items_per_second["FRESH"], 1.0);
        assert_eq!(summary.good_items_per_second["FRESH"], 0.5);
        assert_eq!(summary.good_items_per_second["CACHED"], 0.0);
        assert_eq!(summary.quantile("slate", 100), Some(20.0));
        assert_eq!(summary.quantile("per_token", 50), None);
    }

    #[test]
    fn objectives_say_what_they_cannot_be() {
        let mut objectives = Objectives::default();
        for text in ["slate", "slate=soon", "speed=1s"] {
            assert!(objectives.set(text).is_err(), "{text}");
        }
    }
}
