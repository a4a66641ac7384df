//! Two reports side by side: what became better, what worse.

use crate::report::Report;
use crate::summary::{METRICS, Summary};

/// One figure before and after.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub name: String,
    pub before: f64,
    pub after: f64,
    /// After over before.
    pub ratio: f64,
    /// Worse by more than was allowed.
    pub is_worse: bool,
}

/// Compares the runs at the same rates; `worse_max` is how much worse, as a share, a figure may be.
pub fn compare(before: &Report, after: &Report, worse_max: f64) -> Vec<Change> {
    let mut changes = Vec::new();
    for old in &before.runs {
        let Some(new) = after.runs.iter().find(|new| is_same_rate(old, new)) else {
            continue;
        };
        let mut note = |name: &str, before: f64, after: f64, less_is_better: bool| {
            let ratio = after / before;
            changes.push(Change {
                name: format!("{name}@{:.4}/s", old.intended_per_second),
                before,
                after,
                ratio,
                is_worse: if less_is_better {
                    ratio > 1.0 + worse_max
                } else {
                    ratio < 1.0 - worse_max
                },
            });
        };
        note("good_per_second", old.good_per_second, new.good_per_second, false);
        // The generator's own delay is not the server's.
        for metric in METRICS.into_iter().filter(|metric| *metric != "schedule_delay") {
            for percent in [50, 99] {
                if let (Some(before), Some(after)) =
                    (old.quantile(metric, percent), new.quantile(metric, percent))
                {
                    note(&format!("{metric}_p{percent}_ms"), before, after, true);
                }
            }
        }
    }
    changes
}

/// Drawn arrivals differ a little from the rate that was asked for.
fn is_same_rate(one: &Summary, other: &Summary) -> bool {
    (one.intended_per_second - other.intended_per_second).abs() <= 0.1 * one.intended_per_second
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn what_became_worse_by_more_than_allowed_is_named_and_the_rest_is_not() {
        let before = report(&[(10, 10, 100), (20, 20, 100)]);
        let after = report(&[(10, 10, 115), (15, 20, 50)]);
        let changes = compare(&before, &after, 0.1);
        let worse: Vec<&str> = changes
            .iter()
            .filter(|c| c.is_worse)
            .map(|c| c.name.as_str())
            .collect();
        assert_eq!(
            worse,
            [
                "complete_p50_ms@10.0000/s",
                "complete_p99_ms@10.0000/s",
                "good_per_second@20.0000/s"
            ]
        );
        assert!(compare(&before, &after, 0.3).iter().all(|c| !c.is_worse));
        assert!(
            compare(&before, &report(&[(99, 99, 1)]), 0.1).is_empty(),
            "no common rate"
        );
    }
}
