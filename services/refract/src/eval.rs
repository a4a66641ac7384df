//! `refract eval`: how good the ranking is, and how true the explanations are.
//!
//! ```text
//!  users ─▶ rank ─▶ consult ─▶ explain ─▶ text ─▶ read (titles, names, points) ─▶ faults ─▶ shares with intervals
//!                                    └──▶ the same text before the gate ─▶ the same reading
//! ```
//!
//! What judges here is written apart from what serves: it knows the whole catalogue, reads finished text, and never asks the
//! truth gate.

mod check;
mod claims;
mod co_likes;
mod estimate;
pub(crate) mod labels;
mod lexicon;
mod observe;
pub(crate) mod page;
mod read;
pub(crate) mod report;
mod run;
mod scene;
mod show;
pub(crate) mod speed;
#[cfg(test)]
mod tests;
pub(crate) mod texts;
mod wording;
mod words;

use std::io::{IsTerminal, Write};

use anyhow::Result;
use indicatif::ProgressBar;
use refract_ranker::Dataset;
use refract_ranker::dataset::LoadOptions;
use refract_ranker::evaluate::{Options, Row, evaluate};

use crate::assets::data_and_ranker;
use crate::cli::{EvalExplanations, EvalRanker};

/// HR, recall and NDCG against popularity and item kNN.
pub(crate) fn ranker(args: &EvalRanker) -> Result<()> {
    let (data, _) = data_and_ranker(&args.data)?;
    let dataset = Dataset::load(&data, &LoadOptions::default())?;
    let options = Options {
        seed: args.seed,
        ..Options::default()
    };
    let bar = if std::io::stderr().is_terminal() {
        ProgressBar::new(0)
    } else {
        ProgressBar::hidden()
    };
    let rows = evaluate(&dataset, &options, |progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
        bar.set_message(progress.stage.as_str());
    })?;
    bar.finish_and_clear();
    let mut out = std::io::stdout().lock();
    if !args.json {
        writeln!(
            out,
            "{:<52} {:>9} {:>19} {:>9} {:>6} {:>7}",
            "metric", "value", "95 % interval", "goal", "holds", "n"
        )?;
    }
    for row in &rows {
        if args.json {
            serde_json::to_writer(&mut out, row)?;
            writeln!(out)?;
        } else {
            writeln!(out, "{}", line(row))?;
        }
    }
    Ok(())
}

fn line(row: &Row) -> String {
    let interval = match (row.low, row.high) {
        (Some(low), Some(high)) => format!("[{low:.4}, {high:.4}]"),
        _ => String::new(),
    };
    let goal = row.goal.map(|goal| format!("{goal:.4}")).unwrap_or_default();
    let holds = row.holds.map_or("", |holds| if holds { "yes" } else { "NO" });
    format!(
        "{:<52} {:>9.4} {interval:>19} {goal:>9} {holds:>6} {:>7}",
        row.name, row.value, row.n
    )
}

/// The truth of explanations over many users, before and after the gate.
pub(crate) async fn explanations(args: &EvalExplanations) -> Result<()> {
    let bench = Box::pin(run::Bench::open(args)).await?;
    let observed = Box::pin(bench.run(args)).await?;
    let metrics = report::metrics(&observed, args.seed);
    let shown = show::draw(&observed, args.show, args.seed);
    let mut out = std::io::stdout().lock();
    if args.json {
        metrics
            .iter()
            .try_for_each(|metric| metric.write_json(&mut out))?;
        for one in shown {
            writeln!(out, "{}", show::json(one))?;
        }
        return Ok(());
    }
    writeln!(out, "{}", report::table(&metrics))?;
    if !shown.is_empty() {
        writeln!(out, "{} explanations at random, to be read:\n", shown.len())?;
        for one in shown {
            writeln!(out, "{}", show::text(one))?;
        }
    }
    write!(out, "{}", show::faulty(&observed))?;
    Ok(())
}
