//! From what was observed to rows: for people as a table, for programs one JSON object a line.

mod sums;

use std::fmt::Write as _;
use std::io::Write;

use serde::Serialize;

use super::estimate::Estimate;

pub(crate) use sums::metrics;

/// What a metric should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    pub(crate) fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }

    pub(crate) fn value(self) -> f64 {
        match self {
            Self::AtMost(value) | Self::AtLeast(value) => value,
        }
    }
}

/// One metric, before and after the truth gate (`before` is empty where the word has no meaning).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Metric {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) before: Option<Estimate>,
    pub(crate) after: Option<Estimate>,
    /// For `after`.
    pub(crate) goal: Option<Goal>,
}

/// One line of results for programs.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) goal: Option<f64>,
    pub(crate) holds: Option<bool>,
    pub(crate) n: u64,
    pub(crate) low: Option<f64>,
    pub(crate) high: Option<f64>,
}

impl Row {
    /// A value without goal or interval.
    pub(crate) fn plain(name: &str, value: f64, unit: &'static str, n: u64) -> Self {
        Self {
            name: name.to_owned(),
            value,
            unit,
            goal: None,
            holds: None,
            n,
            low: None,
            high: None,
        }
    }

    pub(crate) fn write_json(&self, out: &mut impl Write) -> std::io::Result<()> {
        serde_json::to_writer(&mut *out, self)?;
        writeln!(out)
    }
}

impl Metric {
    fn holds(&self) -> Option<bool> {
        Some(self.goal?.holds(self.after?.value))
    }

    pub(crate) fn write_json(&self, out: &mut impl Write) -> std::io::Result<()> {
        let sides = [("before", self.before, None), ("after", self.after, self.goal)];
        for (side, estimate, goal) in sides {
            let Some(e) = estimate else { continue };
            let name = format!("explanations/{}/{side}", self.name);
            let spread = e.low < e.high;
            let row = Row {
                name,
                value: e.value,
                unit: self.unit,
                goal: goal.map(Goal::value),
                holds: goal.map(|g| g.holds(e.value)),
                n: e.n,
                low: spread.then_some(e.low),
                high: spread.then_some(e.high),
            };
            row.write_json(out)?;
        }
        Ok(())
    }
}

/// All metrics as a table for people.
pub(crate) fn table(metrics: &[Metric]) -> String {
    let number = |unit: &str, value: f64| {
        if unit == "share" {
            format!("{:.2} %", value * 100.0)
        } else {
            format!("{value:.3}")
        }
    };
    let bound = |unit: &str, value: f64| {
        if unit == "share" {
            format!("{:.1}", value * 100.0)
        } else {
            format!("{value:.2}")
        }
    };
    let cell = |unit: &str, estimate: Option<Estimate>| {
        estimate.map_or("–".to_owned(), |e| {
            let spread = if e.low < e.high {
                format!(" [{}, {}]", bound(unit, e.low), bound(unit, e.high))
            } else {
                String::new()
            };
            format!("{}{spread}", number(unit, e.value))
        })
    };
    let mut out = format!(
        "{:<46} {:>24} {:>24} {:>10} {:>6} {:>6}\n",
        "metric (95 % interval)", "before the gate", "after", "goal", "holds", "n"
    );
    for metric in metrics {
        let goal = match metric.goal {
            Some(Goal::AtMost(goal)) => format!("≤ {}", bound(metric.unit, goal)),
            Some(Goal::AtLeast(goal)) => format!("≥ {}", bound(metric.unit, goal)),
            None => String::new(),
        };
        let holds = metric
            .holds()
            .map_or("", |holds| if holds { "yes" } else { "NO" });
        let n = metric.after.or(metric.before).map_or(0, |e| e.n);
        let (before, after) = (cell(metric.unit, metric.before), cell(metric.unit, metric.after));
        writeln!(
            out,
            "{:<46} {before:>24} {after:>24} {goal:>10} {holds:>6} {n:>6}",
            metric.name
        )
        .expect("writing to a string");
    }
    out
}
