//! `refract distill`: a teacher labels the pairs of a data set, for `refract train prism --labels`.
//!
//! ```text
//!  data set ─▶ splits ─▶ pairs (a user's newest likes, each with the history before it) ─▶ shard ─▶ refract-distill ─▶ labels
//!                                                                        teacher: local bundle, OracleService, chat endpoint
//! ```

mod pairs;
mod teachers;

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use refract_distill::{Ask, Config, Header, Journal, Report, Teacher, columns};
use refract_ranker::Dataset;
use refract_ranker::dataset::LoadOptions;

pub(crate) use pairs::assigned;

use crate::assets::data_and_ranker;
use crate::cli::Distill;
use crate::eval::report::Row;

/// Prompts that an estimate looks at.
const SAMPLE: usize = 200;
/// What one candidate is taken to be long, in tokens, in the lower estimate.
const USUAL_TOKENS: f64 = 45.0;

pub(crate) async fn run(args: &Distill) -> Result<()> {
    if columns::is_parquet(&args.out) {
        columns::check(&journal_of(&args.out), &args.out)?;
    }
    let (data, _) = data_and_ranker(&args.data)?;
    let dataset = Dataset::load(&data, &LoadOptions::default())?;
    let pairs = pairs::Pairs::of(&dataset, &data, args)?;
    let (drawn, users_without) = (pairs.digest.clone(), pairs.users_without);
    let asks: Vec<Ask> = pairs.asks(&dataset, args);
    if asks.is_empty() {
        bail!(
            "{} gives no pair for this shard and these parts: every user needs a like with {} interactions before it",
            data.display(),
            args.history_min
        );
    }
    let teacher = teachers::open(args).await?;
    let config = config(args);
    if args.dry_run {
        return estimate(args, &config, teacher.as_ref(), &asks);
    }
    let who = teacher.identity();
    let header = Header {
        teacher: who.name,
        teacher_revision: who.revision,
        prompt: who.prompt,
        settings: format!("{} gate {}", who.settings, args.gate),
        candidates: config.candidates,
        data: drawn,
        shard: args.shard.to_string(),
    };
    let mut journal = Journal::open(&journal_of(&args.out), &header)?;
    let (all, before) = (asks.len(), journal.done());
    if users_without > 0 {
        eprintln!(
            "{users_without} users have no pair: no like with {} interactions and a like before it",
            args.history_min
        );
    }
    if !args.json && before > 0 {
        eprintln!("going on: {before} pairs are done");
    }
    let bar = bar(all as u64, args.json);
    bar.set_position(before as u64);
    bar.reset_eta();
    let report = refract_distill::distill(asks.into_iter(), teacher, &config, &mut journal, |p| {
        bar.set_position((before + p.labelled + p.rejected + p.failed) as u64);
        bar.set_message(format!("{} refused, {} failed", p.rejected, p.failed));
    })
    .await;
    bar.finish_and_clear();
    let report = report?;
    if columns::is_parquet(&args.out) {
        columns::write(&journal_of(&args.out), &args.out)?;
    }
    say(args, &report, before)?;
    let asked = report.labelled + report.rejected + report.failed;
    if report.failed as f64 > args.failed_max * asked as f64 {
        bail!(
            "{} of {asked} pairs have no answer, more than the share {} of --failed-max; run the same command again to ask them",
            report.failed,
            args.failed_max
        );
    }
    Ok(())
}

/// Where a run keeps what is done: in the file itself, or beside a Parquet file, which is written from it when the run ends.
fn journal_of(out: &Path) -> PathBuf {
    if !columns::is_parquet(out) {
        return out.to_owned();
    }
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(".jsonl");
    out.with_file_name(name)
}

fn config(args: &Distill) -> Config {
    Config {
        candidates: args.candidates,
        gate: args.gate,
        in_flight_max: args.in_flight_max,
        rate_max: args.rate_max,
        attempts_max: args.attempts_max,
        answer_max: args.answer_max,
        ..Config::default()
    }
}

fn bar(pairs: u64, json: bool) -> ProgressBar {
    if json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("labels {wide_bar} {pos}/{len} · {per_sec} · {eta} left · {msg}");
    let bar = ProgressBar::with_draw_target(Some(pairs), ProgressDrawTarget::stderr());
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// What a run would cost, without asking anybody.
fn estimate(args: &Distill, config: &Config, teacher: &dyn Teacher, asks: &[Ask]) -> Result<()> {
    let step = asks.len().div_ceil(SAMPLE).max(1);
    let sample: Vec<u64> = asks
        .iter()
        .step_by(step)
        .map(|ask| teacher.prompt_tokens(ask))
        .collect();
    let pairs = asks.len() as f64;
    let prompt = sample.iter().sum::<u64>() as f64 / sample.len().max(1) as f64 * pairs;
    let candidates = if teacher.has_second_manner() {
        config.candidates as f64
    } else {
        1.0
    };
    let usual = pairs * candidates * USUAL_TOKENS;
    let most = pairs * (candidates + 1.0) * f64::from(args.new_tokens_max);
    let n = asks.len() as u64;
    let mut rows = vec![
        Row::plain("distill/pairs", pairs, "pairs", n),
        Row::plain("distill/prompt_tokens", prompt, "tokens", n),
        Row::plain("distill/written_tokens/usual", usual, "tokens", n),
        Row::plain("distill/written_tokens/most", most, "tokens", n),
    ];
    if let Some(rate) = args.rate_max {
        rows.push(Row::plain("distill/time_at_rate", pairs / rate, "s", n));
    }
    if let (Some(read), Some(written)) = (args.price_prompt, args.price_written) {
        let cost = |tokens: f64| (prompt * read + tokens * written) / 1e6;
        rows.push(Row::plain("distill/cost/usual", cost(usual), "currency", n));
        // Every first try in vain: each prompt is read twice.
        rows.push(Row::plain(
            "distill/cost/most",
            cost(most) + prompt * read / 1e6,
            "currency",
            n,
        ));
    }
    let mut out = std::io::stdout().lock();
    for row in rows {
        if args.json {
            row.write_json(&mut out)?;
        } else {
            writeln!(out, "{:<32} {:>14.2} {}", row.name, row.value, row.unit)?;
        }
    }
    Ok(())
}

fn say(args: &Distill, report: &Report, before: usize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if args.json {
        let asked = (report.labelled + report.rejected + report.failed) as u64;
        let share = |part: usize, whole: usize| part as f64 / (whole as f64).max(1.0);
        for (name, value, unit, n) in [
            ("labelled", report.labelled as f64, "pairs", asked),
            ("rejected", report.rejected as f64, "pairs", asked),
            ("failed", report.failed as f64, "pairs", asked),
            ("retries", report.retries as f64, "tries", asked),
            ("prompt_tokens", report.prompt_tokens as f64, "tokens", asked),
            ("written_tokens", report.written_tokens as f64, "tokens", asked),
            (
                "sentences_unsupported",
                share(report.sentences_unsupported, report.sentences),
                "share",
                report.sentences as u64,
            ),
            ("time", report.seconds, "s", asked),
        ] {
            Row::plain(&format!("distill/{name}"), value, unit, n).write_json(&mut out)?;
        }
        for (kind, counts) in [("rejected", &report.rejections), ("faults", &report.faults)] {
            for (name, count) in counts {
                Row::plain(&format!("distill/{kind}/{name}"), *count as f64, "times", asked)
                    .write_json(&mut out)?;
            }
        }
        return Ok(());
    }
    let counts = |counts: &std::collections::BTreeMap<String, usize>| {
        let said: Vec<String> = counts.iter().map(|(name, n)| format!("{name} {n}")).collect();
        if said.is_empty() {
            String::new()
        } else {
            format!(" ({})", said.join(", "))
        }
    };
    writeln!(
        out,
        "{} labelled ({} by the second, careful try), {} refused{}, {} without an answer; {} done before",
        report.labelled,
        report.labelled_carefully,
        report.rejected,
        counts(&report.rejections),
        report.failed,
        before
    )?;
    writeln!(
        out,
        "{} retries, faults{}; {} tokens read, {} written, {}",
        report.retries,
        counts(&report.faults),
        report.prompt_tokens,
        report.written_tokens,
        humantime::format_duration(Duration::from_secs(report.seconds as u64))
    )?;
    writeln!(
        out,
        "{} of {} sentences of the labels say something that the request does not support",
        report.sentences_unsupported, report.sentences
    )?;
    writeln!(out, "written to {}", args.out.display())?;
    Ok(())
}

/// What all teachers are behind.
type Shared = Arc<dyn Teacher>;
