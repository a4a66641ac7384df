//! `refract reproduce`: the published protocol, end to end, on a data set at hand, with the models at hand, and said so.
//!
//! ```text
//!  data ─▶ splits by time ─▶ [labels] teacher, best of n, filter ─▶ labels.jsonl ─▶ [noise] some spoilt ─▶ labels-noisy.jsonl
//!                                                                     │                              │
//!            students:  [alone] as published · [conditioned] with knowledge · [noisy] taught the spoilt labels
//!                                                                     │
//!            held-out users: [judge …] student beside teacher, with intervals ─▶ does the student filter noise?
//!            one device:     [speed …] batch 1, 5 beams, at most 150 tokens ─▶ the efficiency table ─▶ report.html
//! ```
//!
//! Every stage is a command of this program that anybody can run by itself; the page lists them. A stage's results lie in
//! `results/`, and a run that was stopped goes on with the first stage that has none. A stage is another one when its words are, or
//! the data or models that they name; it and those after it are then made anew.

mod noise;
mod plan;
mod prompts;
mod stage;
mod summary;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::cli::{EvalReport, Reproduce};
use crate::digest;
use crate::eval::page;
use plan::Plan;
use stage::Stages;

pub(crate) fn run(args: &Reproduce) -> Result<()> {
    let plan = Plan::of(args)?;
    let mut stages = Stages::open(&args.out)?;
    let labels = plan.labels();

    let made_of = plan.digest_of_label()?;
    set_aside_labels_of_others(&labels, &made_of)?;
    stages.command("labels", plan.label(), &made_of)?;
    let spoilt_from = format!("{} {}", plan.noise_key(), digest::of_file(&labels)?);
    stages.made("noise", &spoilt_from, |_, _| {
        noise::spoil(&labels, &plan.noisy_labels(), args.noise, args.seed)
    })?;
    let start = args.from.as_deref().map(digest::of_model).transpose()?;
    for student in plan.students() {
        let start = start.as_deref().unwrap_or_default();
        stages.training(&student.training(), plan.train(&student), start)?;
    }
    for student in plan.judged() {
        stages.command(&student.judgement(), plan.judge(&student), &student.digest()?)?;
    }
    for model in plan.timed() {
        let prompts = args.out.join(format!("prompts-{}.jsonl", model.name));
        prompts::write(&model, &labels, &prompts)?;
        stages.command(&model.timing(), plan.time(&model, &prompts), &model.digest()?)?;
    }

    let rows = summary::rows(&plan, &stages)?;
    let file = stages.results("summary");
    let mut text = Vec::new();
    rows.iter().try_for_each(|row| row.write_json(&mut text))?;
    std::fs::write(&file, &text).with_context(|| format!("writing {}", file.display()))?;
    let page = report(args, &plan, &stages)?;
    show(args, &stages, &rows, &page)
}

fn report(args: &Reproduce, plan: &Plan, stages: &Stages) -> Result<std::path::PathBuf> {
    let out = args.out.join("report.html");
    let named = |title: &str, stage: &str| format!("{title}={}", stages.results(stage).display());
    let mut results = vec![named("what came of it", "summary"), named("labelling", "labels")];
    for student in plan.judged() {
        results.push(named(&student.title, &student.judgement()));
    }
    for model in plan.timed() {
        results.push(named(&model.title, &model.timing()));
    }
    for student in plan.students() {
        results.push(named(&format!("training, {}", student.name), &student.training()));
    }
    let mut note = plan.notes()?;
    note.push(format!("Made by: {}", stages.told().join(" ; ")));
    page::write(&EvalReport {
        results,
        out: out.clone(),
        title: if args.quick {
            "Reproduction, quick: it shows that everything works, not how well".to_owned()
        } else {
            "Reproduction of the published protocol".to_owned()
        },
        note,
        examples: 8,
    })?;
    Ok(out)
}

fn show(args: &Reproduce, stages: &Stages, rows: &[crate::eval::report::Row], page: &Path) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if args.json {
        for line in stages.rows()? {
            writeln!(out, "{line}")?;
        }
        return Ok(());
    }
    for row in rows {
        let spread = match (row.low, row.high) {
            (Some(low), Some(high)) => format!(" [{low:.4}, {high:.4}]"),
            _ => String::new(),
        };
        let goal = match (row.goal, row.holds) {
            (Some(goal), Some(true)) => format!("   published or promised: {goal}: holds"),
            (Some(goal), Some(false)) => format!("   published or promised: {goal}: DOES NOT HOLD"),
            _ => String::new(),
        };
        writeln!(
            out,
            "{:<58} {:>10.4} {}{spread}{goal}",
            row.name, row.value, row.unit
        )?;
    }
    writeln!(out, "written to {}", page.display())?;
    Ok(())
}

/// Labels of other data or of another teacher make room: a labelling goes on with its own alone. More pairs of the same keep
/// those that there are.
fn set_aside_labels_of_others(labels: &Path, made_of: &str) -> Result<()> {
    let note = labels.with_extension("made-of");
    let said = std::fs::read_to_string(&note).ok();
    if said.is_some_and(|said| said != made_of) {
        for file in [
            labels.to_owned(),
            beside(labels, ".run.json"),
            beside(labels, ".rejected.jsonl"),
        ] {
            let earlier = beside(&file, ".earlier");
            match std::fs::rename(&file, &earlier) {
                Ok(()) => eprintln!(
                    "    {} is of other data or another teacher: now {}",
                    file.display(),
                    earlier.display()
                ),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("moving {} aside", file.display())),
            }
        }
    }
    std::fs::write(&note, made_of).with_context(|| format!("writing {}", note.display()))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_another_teacher_make_room_and_more_of_the_same_keep_them() {
        let dir = tempfile::tempdir().unwrap();
        let labels = dir.path().join("labels.jsonl");
        let run = beside(&labels, ".run.json");
        for file in [&labels, &run] {
            std::fs::write(file, "theirs").unwrap();
        }
        for _ in 0..2 {
            set_aside_labels_of_others(&labels, "one teacher").unwrap();
            assert!(labels.exists() && run.exists());
        }
        set_aside_labels_of_others(&labels, "another").unwrap();
        assert!(!labels.exists() && !run.exists());
        assert!(beside(&labels, ".earlier").exists() && beside(&run, ".earlier").exists());
    }
}
