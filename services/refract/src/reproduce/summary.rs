//! What came of a reproduction: the claims, each as a number beside what was published or promised.

use anyhow::{Context as _, Result};
use refract_bundle::Role;

use super::plan::Plan;
use super::stage::Stages;
use crate::eval::report::{Goal, Row};

/// Published, for FLAN-T5-XXL and BART-Base.
const FASTER: Goal = Goal::AtLeast(24.0);
const SMALLER: Goal = Goal::AtLeast(10.0);

pub(super) fn rows(plan: &Plan<'_>, stages: &Stages) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for student in plan.judged() {
        let stage = student.judgement();
        for name in [
            "teacher/title_hallucination",
            "student/title_hallucination",
            "teacher/attributes_faithful",
            "student/attributes_faithful",
            "teacher/texts_without_fault",
            "student/texts_without_fault",
        ] {
            rows.push(copied(stages, &stage, name, &student.name)?);
        }
        // The claim holds where the whole interval lies above nothing.
        for name in ["noise_filtered", "noise_filtered/by_the_catalogue"] {
            let mut row = copied(stages, &stage, name, &student.name)?;
            (row.goal, row.holds) = (Some(0.0), row.low.map(|low| low > 0.0));
            rows.push(row);
        }
    }
    let timed = plan.timed();
    let value = |stage: &str, name: &str| -> Result<f64> {
        let row = stages.row(stage, &format!("speed/{name}"))?;
        let value = row.and_then(|row| row["value"].as_f64());
        value.with_context(|| format!("the stage {stage} has no {name}"))
    };
    for model in &timed {
        for (name, unit) in [
            ("latency/mean", "ms"),
            ("tokens", "tokens"),
            ("weights", "MiB"),
            ("memory/peak", "MiB"),
        ] {
            let value = value(&model.timing(), name)?;
            rows.push(Row::plain(
                &format!("reproduce/efficiency/{}/{name}", model.name),
                value,
                unit,
                1,
            ));
        }
    }
    if let Some(teacher) = timed.iter().find(|model| model.role == Role::Oracle) {
        for student in timed.iter().filter(|model| model.role == Role::Prism) {
            for (name, of, goal) in [
                ("faster", "latency/mean", Some(FASTER)),
                ("faster_per_token", "time_per_token", None),
                ("less_memory", "memory/peak", Some(SMALLER)),
                ("smaller_weights", "weights", None),
            ] {
                let ratio = value(&teacher.timing(), of)? / value(&student.timing(), of)?;
                let mut row = Row::plain(
                    &format!("reproduce/efficiency/{}/{name}", student.name),
                    ratio,
                    "times",
                    1,
                );
                (row.goal, row.holds) = (goal.map(Goal::value), goal.map(|goal| goal.holds(ratio)));
                rows.push(row);
            }
        }
    }
    Ok(rows)
}

/// A row of a judgement under the student's name.
fn copied(stages: &Stages, stage: &str, name: &str, student: &str) -> Result<Row> {
    let found = stages
        .row(stage, &format!("labels/{name}"))?
        .with_context(|| format!("the stage {stage} has no {name}"))?;
    let number = |key: &str| found[key].as_f64();
    Ok(Row {
        low: number("low"),
        high: number("high"),
        goal: number("goal"),
        holds: found["holds"].as_bool(),
        ..Row::plain(
            &format!("reproduce/{student}/{name}"),
            number("value").unwrap_or(f64::NAN),
            if name.starts_with("noise") {
                "share of texts"
            } else {
                "share"
            },
            found["n"].as_u64().unwrap_or(0),
        )
    })
}
