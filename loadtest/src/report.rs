//! A report: the runs of one occasion with what they were made of, as one JSON file.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::asking::Asking;
use crate::schedule::Arrivals;
use crate::summary::{Objectives, Summary};

/// Read by `report` and `compare`; another number means another meaning of some field.
const SCHEMA: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub schema: u32,
    pub title: String,
    /// What a reader must know to believe the figures: machine, build, other load.
    pub note: String,
    pub target: String,
    pub arrivals: Arrivals,
    pub zipf_exponent: f64,
    /// Reports written before it was told are by Zipf.
    #[serde(default)]
    pub asking: Asking,
    pub limit: usize,
    pub seed: u64,
    pub objectives: Objectives,
    /// One for a run at one rate; as many as rates for a sweep, in the order of the rates.
    pub runs: Vec<Summary>,
}

/// One line of the result, for people and for programs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub name: String,
    pub value: f64,
    pub unit: &'static str,
    pub goal: Option<String>,
    pub holds: Option<bool>,
    pub n: usize,
}

impl Report {
    pub const SCHEMA: u32 = SCHEMA;

    pub fn read(file: &Path) -> Result<Self> {
        let shown = file.display();
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {shown}"))?;
        let report: Self =
            serde_json::from_str(&text).with_context(|| format!("{shown} is no report of refract-load"))?;
        ensure!(
            report.schema == SCHEMA,
            "{shown} has schema {}, this program reads {SCHEMA}",
            report.schema
        );
        ensure!(!report.runs.is_empty(), "{shown} holds no run");
        Ok(report)
    }

    pub fn write(&self, file: &Path) -> Result<()> {
        std::fs::write(file, serde_json::to_vec(self)?).with_context(|| format!("writing {}", file.display()))
    }

    /// The highest rate, with those below it, at which at least `share` of the requests were good.
    pub fn saturation(&self, share: f64) -> Option<&Summary> {
        self.runs
            .iter()
            .take_while(|run| run.good_share() >= share)
            .last()
    }

    /// What people read first. `share_min` is the goal for good requests.
    pub fn rows(&self, share_min: f64) -> Vec<Row> {
        let mut rows = Vec::new();
        for run in &self.runs {
            let at = |name: &str| format!("load.{name}@{:.4}/s", run.intended_per_second);
            let plain = |name: &str, value, unit, n| Row {
                name: at(name),
                value,
                unit,
                goal: None,
                holds: None,
                n,
            };
            rows.push(plain("ok_per_second", run.ok_per_second, "1/s", run.requests));
            rows.push(Row {
                goal: Some(format!(">= {share_min}")),
                holds: Some(run.good_share() >= share_min),
                ..plain("good_share", run.good_share(), "share", run.requests)
            });
            for (rung, rate) in &run.good_items_per_second {
                rows.push(plain(&format!("goodput.{rung}"), *rate, "items/s", run.requests));
            }
            for metric in crate::summary::METRICS {
                for percent in [50, 95, 99] {
                    if let Some(value) = run.quantile(metric, percent) {
                        rows.push(plain(
                            &format!("{metric}_p{percent}"),
                            value,
                            "ms",
                            run.counts.get(metric).copied().unwrap_or_default(),
                        ));
                    }
                }
            }
            for (status, count) in &run.status {
                rows.push(plain(
                    &format!("status.{status}"),
                    *count as f64,
                    "calls",
                    run.requests,
                ));
            }
        }
        if self.runs.len() > 1 {
            rows.push(Row {
                name: "load.saturation".to_owned(),
                value: self
                    .saturation(share_min)
                    .map_or(0.0, |run| run.intended_per_second),
                unit: "1/s",
                goal: None,
                holds: None,
                n: self.runs.len(),
            });
        }
        rows
    }
}

impl Row {
    pub fn text(&self) -> String {
        let verdict = match self.holds {
            Some(true) => "ok",
            Some(false) => "BROKEN",
            None => "",
        };
        format!(
            "{:42} {:>12.4} {:8} {:10} {verdict}",
            self.name,
            self.value,
            self.unit,
            self.goal.as_deref().unwrap_or_default()
        )
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::summary::Outcome;

    /// Runs of one second each in which `ok` of `of` requests end well, after `ms`.
    pub(crate) fn report(runs: &[(usize, usize, u64)]) -> Report {
        let runs = runs.iter().map(|(ok, of, ms)| {
            let outcomes: Vec<Outcome> = (0..*of)
                .map(|n| Outcome {
                    slate: Some(Duration::from_millis(1)),
                    end: Some(Duration::from_millis(*ms)),
                    status: if n < *ok { "OK" } else { "OVERLOADED" },
                    ..Outcome::default()
                })
                .collect();
            Summary::of(&outcomes, Duration::from_secs(1), &Objectives::default())
        });
        Report {
            schema: SCHEMA,
            title: "a <test>".to_owned(),
            note: String::new(),
            target: "nowhere:1".to_owned(),
            arrivals: Arrivals::Poisson,
            zipf_exponent: 1.1,
            asking: Asking::Zipf,
            limit: 3,
            seed: 1,
            objectives: Objectives::default(),
            runs: runs.collect(),
        }
    }

    #[test]
    fn saturation_is_the_last_rate_before_the_first_bad_one() {
        let sweep = report(&[(10, 10, 5), (20, 20, 9), (10, 40, 80), (80, 80, 99)]);
        assert_eq!(sweep.saturation(0.95).unwrap().requests, 20);
        assert_eq!(report(&[(1, 10, 5)]).saturation(0.95), None);
        let rows = sweep.rows(0.95);
        assert_eq!(rows.last().unwrap().value, 20.0);
        assert!(rows.iter().any(|row| row.holds == Some(false)));
    }

    #[test]
    fn a_report_survives_its_file_and_another_schema_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("r.json");
        let mut made = report(&[(10, 10, 5)]);
        made.write(&file).unwrap();
        assert_eq!(Report::read(&file).unwrap(), made);
        made.schema += 1;
        made.write(&file).unwrap();
        assert!(Report::read(&file).unwrap_err().to_string().contains("schema"));
    }
}
