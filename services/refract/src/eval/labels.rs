//! `refract eval labels`: a student beside its teacher on the same held-out pairs. Does distilling filter the teacher's noise?
//!
//! ```text
//!  label ─▶ the student's prompt ─▶ text, nothing refused ─┐
//!    └──▶ the teacher's text ─────────────────────────────┴─▶ sentences that the request does not support, on each side
//! ```
//!
//! Two judges read both sides alike and know neither's prompt: the truth gate, with the request alone as evidence, and the
//! reader of `eval explanations`, which knows every title and name of the catalogue. Likeness to the teacher is reported too,
//! and rewards imitation, errors included.

mod judge;
mod measure;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use refract_bundle::Role;
use refract_distill::Label;
use refract_domain::{Deadline, ExplainQuery, UserId};
use refract_worker::Worker;
use serde_json::json;

use super::run::filled;
use crate::assets::Assets;
use crate::cli::{self, EvalLabels};
use crate::train::labels::{Passed, knowledge, read};
use judge::{Judge, Side};
use measure::measure;

const ANSWER_MAX: Duration = Duration::from_secs(300);
const IN_FLIGHT_MAX: usize = 32;
const LIKED_SHOWN: usize = 8;
const HISTORY_ITEMS_MAX: usize = 50;

/// One labelled pair with both texts.
struct Case {
    user: String,
    item: String,
    liked: Vec<String>,
    teacher: Side,
    student: Side,
}

pub(crate) async fn run(args: &EvalLabels) -> Result<()> {
    let mut passed = Passed::default();
    let wanted: Vec<&str> = args
        .part
        .iter()
        .map(|part| match part {
            cli::Part::Train => "train",
            cli::Part::Dev => "dev",
            cli::Part::Test => "test",
        })
        .collect();
    let all = read(&args.labels, &mut passed)?;
    let judge = Judge::new(&args.data, &all)?;
    let labels = chosen(all, &wanted, args.limit)?;
    let prism = match &args.prism {
        Some(prism) => prism.clone(),
        None => Assets::find(args.data.assets.as_deref())?.prism(),
    };
    let cases = cases(&prism, &judge, labels).await?;
    let rows = measure("labels", &cases, args.resamples, args.seed);
    let mut out = std::io::stdout().lock();
    if args.json {
        rows.iter().try_for_each(|row| row.write_json(&mut out))?;
        return shown(&cases, args.show)
            .into_iter()
            .try_for_each(|case| Ok(writeln!(out, "{}", sample(case))?));
    }
    writeln!(
        out,
        "{:<40} {:>9} {:>21} {:>7}",
        "measure", "value", "95 % interval", "n"
    )?;
    for row in rows {
        let spread = match (row.low, row.high) {
            (Some(low), Some(high)) => format!("[{low:.4}, {high:.4}]"),
            _ => String::new(),
        };
        writeln!(
            out,
            "{:<40} {:>9.4} {spread:>21} {:>7}",
            row.name, row.value, row.n
        )?;
    }
    for case in shown(&cases, args.show) {
        let mark = |side: &Side| if side.unsupported.is_empty() { " " } else { "!" };
        writeln!(
            out,
            "\n  liked    {}\n  item     {}",
            case.liked.join(" · "),
            case.item
        )?;
        writeln!(out, "{} teacher  {}", mark(&case.teacher), case.teacher.text)?;
        writeln!(out, "{} student  {}", mark(&case.student), case.student.text)?;
    }
    Ok(())
}

/// Labels of these parts, at most so many of them, in the order of their names.
pub(crate) fn chosen(mut labels: Vec<Label>, parts: &[&str], limit: usize) -> Result<Vec<Label>> {
    labels.retain(|label| parts.contains(&label.part.as_str()));
    labels.sort_by(|a, b| a.id.cmp(&b.id));
    labels.truncate(limit);
    if labels.is_empty() {
        bail!(
            "no label is of the part {}: `refract distill --part test` makes some of the test",
            parts.join(", ")
        );
    }
    Ok(labels)
}

/// What the Prism of a bundle writes about each label, beside what the teacher wrote.
async fn cases(prism: &Path, judge: &Judge, labels: Vec<Label>) -> Result<Vec<Case>> {
    let config = refract_worker::Config {
        bundle: prism.to_owned(),
        ..refract_worker::Config::default()
    };
    let open = move || Worker::open(&config, Role::Prism);
    let worker = tokio::task::spawn_blocking(open)
        .await?
        .with_context(|| format!("the Prism's bundle {}", prism.display()))?;
    stream::iter(labels)
        .map(|label| case(&worker, judge, label))
        .buffered(IN_FLIGHT_MAX)
        .try_collect()
        .await
}

async fn case(worker: &Worker, judge: &Judge, label: Label) -> Result<Case> {
    let (pair, history) = label.question();
    let history = Arc::new(history);
    let knowledge = knowledge(&label, &judge.vocabulary, &pair, &history, &mut Passed::default());
    let query = ExplainQuery {
        pair,
        history,
        knowledge,
        style: 0,
    };
    let prompt = worker
        .bundle()
        .prompt_prism(&query)
        .with_context(|| format!("the prompt of label {}", label.id))?;
    let deadline = Deadline::after(Instant::now(), ANSWER_MAX);
    let user = label.user.as_ref().map(UserId::new);
    let generation = worker
        .generate(&prompt, user.as_ref(), &query.pair.item.id, deadline)
        .with_context(|| format!("asking about label {}", label.id))?;
    let finished = generation
        .collect()
        .await
        .with_context(|| format!("the text for label {}", label.id))?;
    let text = filled(&prompt, &worker.bundle().decode(&finished.ids));
    let scene = judge.scene(&query);
    let side = |text: &str| judge.side(&scene, &query, text);
    Ok(Case {
        user: label.user.clone().unwrap_or_else(|| label.id.clone()),
        item: query.pair.item.title.clone(),
        liked: query
            .history
            .liked()
            .take(LIKED_SHOWN)
            .map(|i| i.item.title.clone())
            .collect(),
        teacher: side(&label.text),
        student: side(&text),
    })
}

/// Those of the student with the most faults first, then as many without, in the order of their names.
fn shown(cases: &[Case], count: usize) -> Vec<&Case> {
    let mut worst: Vec<&Case> = cases
        .iter()
        .filter(|c| !c.student.unsupported.is_empty())
        .collect();
    worst.sort_by_key(|case| std::cmp::Reverse(case.student.unsupported.len()));
    let good = cases.iter().filter(|case| case.student.unsupported.is_empty());
    worst.into_iter().take(count).chain(good.take(count)).collect()
}

fn sample(case: &Case) -> serde_json::Value {
    json!({"sample": {
        "liked": case.liked, "item": case.item, "teacher": case.teacher.text, "student": case.student.text,
        "faults": case.student.unsupported, "teacher_faults": case.teacher.unsupported,
    }})
}

#[cfg(test)]
mod tests {
    use refract_measure::{Words, words};

    use super::*;

    fn case(user: usize, teacher_faults: usize, student_faults: usize) -> Case {
        let side = |faults: usize| Side {
            text: "x".to_owned(),
            words: words("like heat collateral is by michael mann", Words::Any),
            sentences: 2,
            unsupported: vec!["x".to_owned(); faults],
            names_item: true,
            ..Side::default()
        };
        Case {
            user: format!("u{user}"),
            item: "Collateral".to_owned(),
            liked: Vec::new(),
            teacher: side(teacher_faults),
            student: side(student_faults),
        }
    }

    #[test]
    fn the_noise_that_a_student_leaves_out_is_counted_pair_by_pair() {
        // Half the teacher's texts have one bad sentence of two; a tenth of the student's.
        let cases: Vec<Case> = (0..200)
            .map(|n| case(n / 2, n % 2, usize::from(n % 10 == 0)))
            .collect();
        let rows = measure("labels", &cases, 200, 1);
        let row = |name: &str| rows.iter().find(|row| row.name == name).unwrap();
        assert_eq!(row("labels/teacher/unsupported_sentences").value, 0.25);
        assert_eq!(row("labels/student/texts_without_fault").value, 0.9);
        let filtered = row("labels/noise_filtered");
        assert!((filtered.value - 0.4).abs() < 1e-9);
        assert!(filtered.low.unwrap() < 0.4 && filtered.high.unwrap() > 0.4);
        assert!((row("labels/student_like_teacher/bleu-4").value - 100.0).abs() < 1e-9);
        let shown = shown(&cases, 3);
        assert!(shown[..3].iter().all(|case| !case.student.unsupported.is_empty()));
        assert!(shown[3..].iter().all(|case| case.student.unsupported.is_empty()) && shown.len() == 6);
    }
}
