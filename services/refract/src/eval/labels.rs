//! `refract eval labels`: a student beside its teacher on the same held-out pairs. Does distilling filter the teacher's noise?
//!
//! ```text
//!  label ─▶ the student's prompt ─▶ text, nothing refused ─┐
//!    └──▶ the teacher's text ─────────────────────────────┴─▶ sentences that the request does not support, on each side
//! ```
//!
//! The judge is the truth gate, with the request alone as evidence: it reads the two alike, and knows neither's prompt. Likeness
//! to the teacher is reported too, and rewards imitation, errors included.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use refract_bundle::Role;
use refract_distill::{Label, source};
use refract_domain::{Deadline, ExplainQuery, UserId};
use refract_measure::quality::Quality;
use refract_measure::{Bleu, Words, bootstrap, distinct, rouge_l, unique_share, words};
use refract_truth::{Gate, Vocabulary};
use refract_worker::Worker;
use serde_json::json;

use super::report::Row;
use super::run::filled;
use crate::assets::Assets;
use crate::cli::{self, EvalLabels};
use crate::train::labels::{Passed, knowledge, read};

const ANSWER_MAX: Duration = Duration::from_secs(300);
const IN_FLIGHT_MAX: usize = 32;
const LIKED_SHOWN: usize = 8;
const HISTORY_ITEMS_MAX: usize = 50;

/// What was found in one text.
#[derive(Clone, Debug, Default)]
struct Side {
    text: String,
    words: Vec<String>,
    sentences: usize,
    unsupported: Vec<String>,
    names_item: bool,
    names_history: bool,
    score: f64,
}

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
    let mut labels = read(&args.labels, &mut passed)?;
    labels.retain(|label| wanted.contains(&label.part.as_str()));
    labels.sort_by(|a, b| a.id.cmp(&b.id));
    labels.truncate(args.limit);
    if labels.is_empty() {
        bail!(
            "no label is of the part {}: `refract distill --part test` makes some of the test",
            wanted.join(", ")
        );
    }
    let prism = match &args.prism {
        Some(prism) => prism.clone(),
        None => Assets::find(args.assets.as_deref())?.prism(),
    };
    let open = move || {
        let config = refract_worker::Config {
            bundle: prism,
            ..refract_worker::Config::default()
        };
        Worker::open(&config, Role::Prism)
    };
    let worker = tokio::task::spawn_blocking(open)
        .await?
        .context("the Prism's bundle")?;
    let vocabulary = Arc::new(Vocabulary::default());
    let cases: Vec<Case> = stream::iter(labels)
        .map(|label| case(&worker, &vocabulary, label))
        .buffered(IN_FLIGHT_MAX)
        .try_collect()
        .await?;
    let rows = measure(&cases, args.resamples, args.seed);
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

async fn case(worker: &Worker, vocabulary: &Arc<Vocabulary>, label: Label) -> Result<Case> {
    let (pair, history) = label.question();
    let history = Arc::new(history);
    let knowledge = knowledge(&label, vocabulary, &pair, &history, &mut Passed::default());
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
    let side = |text: &str| side(vocabulary, &query, text);
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

fn side(vocabulary: &Vocabulary, query: &ExplainQuery, text: &str) -> Side {
    let mut gate = Gate::new(vocabulary, &query.pair, &query.history, None);
    let mut cutter = gate.sentences();
    let mut sentences = cutter.push(text);
    sentences.extend(cutter.finish());
    let unsupported = sentences
        .iter()
        .filter(|sentence| gate.check(sentence, &[]).is_err())
        .cloned()
        .collect();
    let history = query.history.interactions();
    Side {
        text: text.to_owned(),
        words: words(text, Words::Any),
        sentences: sentences.len(),
        unsupported,
        names_item: text.contains(&query.pair.item.title),
        names_history: history.iter().any(|i| text.contains(&i.item.title)),
        score: Quality::of(text, &source(&query.pair, &query.history, HISTORY_ITEMS_MAX)).score,
    }
}

/// Picks the teacher's side or the student's.
type Of = fn(&Case) -> &Side;

fn measure(cases: &[Case], resamples: usize, seed: u64) -> Vec<Row> {
    let mut users: Vec<(&str, Vec<&Case>)> = Vec::new();
    let mut sorted: Vec<&Case> = cases.iter().collect();
    sorted.sort_by(|a, b| a.user.cmp(&b.user));
    for case in sorted {
        match users.last_mut().filter(|last| last.0 == case.user) {
            Some(last) => last.1.push(case),
            None => users.push((&case.user, vec![case])),
        }
    }
    let n = cases.len() as u64;
    let mut rows = Vec::new();
    // A ratio of sums, so that resampled users weigh by what they have.
    let mut ratio = |name: &str, unit, of: &dyn Fn(&Case) -> (f64, f64)| {
        let value = |groups: &mut dyn Iterator<Item = &(&str, Vec<&Case>)>| {
            let (sum, count) = groups
                .flat_map(|group| group.1.iter())
                .map(|case| of(case))
                .fold((0.0, 0.0), |(s, c), (x, m)| (s + x, c + m));
            if count == 0.0 { 0.0 } else { sum / count }
        };
        let interval = bootstrap(&users, resamples, seed, value);
        let mut row = Row::plain(&format!("labels/{name}"), value(&mut users.iter()), unit, n);
        (row.low, row.high) = (interval.map(|i| i.low), interval.map(|i| i.high));
        rows.push(row);
    };
    let is = |holds: bool| (f64::from(u8::from(holds)), 1.0);
    let sides: [(&str, Of); 2] = [
        ("teacher", |case| &case.teacher),
        ("student", |case| &case.student),
    ];
    for (who, of) in sides {
        ratio(&format!("{who}/unsupported_sentences"), "share", &|case| {
            let side = of(case);
            (side.unsupported.len() as f64, side.sentences as f64)
        });
        ratio(&format!("{who}/texts_without_fault"), "share", &|case| {
            let side = of(case);
            is(side.sentences > 0 && side.unsupported.is_empty())
        });
        ratio(&format!("{who}/names_the_item"), "share", &|case| {
            is(of(case).names_item)
        });
        ratio(&format!("{who}/names_history"), "share", &|case| {
            is(of(case).names_history)
        });
        ratio(&format!("{who}/quality"), "score", &|case| (of(case).score, 1.0));
        ratio(&format!("{who}/length"), "words", &|case| {
            (of(case).words.len() as f64, 1.0)
        });
    }
    // The published claim, as a number: how much fewer texts of the student than of the teacher have a fault, on the same pairs.
    ratio("noise_filtered", "share of texts", &|case| {
        let faulty = |side: &Side| f64::from(u8::from(!side.unsupported.is_empty()));
        (faulty(&case.teacher) - faulty(&case.student), 1.0)
    });
    ratio("student_like_teacher/rouge-l", "share", &|case| {
        (rouge_l(&case.student.words, &case.teacher.words).f, 1.0)
    });
    let mut bleu = Bleu::default();
    cases
        .iter()
        .for_each(|case| bleu += Bleu::of(&case.student.words, &case.teacher.words));
    rows.push(Row::plain(
        "labels/student_like_teacher/bleu-4",
        bleu.score(4),
        "of 100",
        n,
    ));
    for (who, of) in sides {
        let texts: Vec<Vec<String>> = cases.iter().map(|case| of(case).words.clone()).collect();
        for (name, value) in [("usr", unique_share(&texts)), ("distinct-2", distinct(&texts, 2))] {
            rows.push(Row::plain(&format!("labels/{who}/{name}"), value, "share", n));
        }
    }
    rows
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
        let rows = measure(&cases, 200, 1);
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
