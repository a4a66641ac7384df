//! `refract-load`: one run, a sweep to saturation, a page, a comparison.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use refract_client::{ClientTls, Options, Refract, token_from};
use refract_loadtest::asking::{Askers, Asking};
use refract_loadtest::drive::{self, Load};
use refract_loadtest::report::Report;
use refract_loadtest::schedule::{self, Arrivals};
use refract_loadtest::summary::{Objectives, Summary};
use refract_loadtest::{compare, html};

/// Open-loop load for a Refract front door: every time counts from the intended start.
#[derive(Debug, Parser)]
#[command(name = "refract-load", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One rate.
    Run {
        /// Requests a second.
        #[arg(long, default_value_t = 5.0, value_parser = rate)]
        rate: f64,
        #[command(flatten)]
        how: How,
    },
    /// Rates one after the other, until one is not good any more.
    Sweep {
        /// Requests a second, rising.
        #[arg(long, value_delimiter = ',', default_values_t = [2.0, 4.0, 8.0, 16.0, 32.0, 64.0], value_parser = rate)]
        rates: Vec<f64>,
        #[command(flatten)]
        how: How,
    },
    /// Reports as one HTML page.
    Report {
        /// Files that `run` and `sweep` wrote.
        #[arg(required = true)]
        reports: Vec<PathBuf>,
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Share of good requests below which a run is marked.
        #[arg(long, default_value_t = 0.95)]
        good_share: f64,
    },
    /// What became better and what worse; exits with 1 when something became worse by more than allowed.
    Compare {
        before: PathBuf,
        after: PathBuf,
        /// How much worse a figure may be, as a share.
        #[arg(long, default_value_t = 0.1)]
        worse: f64,
    },
}

#[derive(Debug, Args)]
struct How {
    /// Address of a ranker, or `dns:NAME:PORT` for all behind a name.
    #[arg(long, default_value = "127.0.0.1:7001", env = "REFRACT_TARGET")]
    target: String,
    /// How long requests are begun, at each rate.
    #[arg(long, default_value = "20s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Requests begun before the counting, at the same rate: connections, caches, lazy memory.
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    warm_up: Duration,
    #[arg(long, value_enum, default_value_t = Spacing::Poisson)]
    arrivals: Spacing,
    /// The data set whose users ask. Default: the shipped one.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../services/refract/demo/data"))]
    data: PathBuf,
    /// How often users come back.
    #[arg(long, value_enum, default_value_t)]
    asking: Asking,
    /// By Zipf, the n-th most frequent user asks with weight 1/n^this; 0: all alike.
    #[arg(long, default_value_t = 1.1)]
    zipf: f64,
    /// Items in each request.
    #[arg(long, default_value_t = 3)]
    limit: usize,
    /// The callers' patience.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    deadline: Duration,
    /// Connections; requests take them in turn.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    /// Requests under way at one time; further ones are not sent and count as `NOT_SENT`.
    #[arg(long, default_value_t = 20_000)]
    in_flight_max: usize,
    /// What a good request is: `slate=50ms`, `first_text=1s`, `complete=3s`; repeat it, all must hold.
    #[arg(long = "objective", value_name = "NAME=DURATION")]
    objectives: Vec<String>,
    /// Share of good requests that counts as holding.
    #[arg(long, default_value_t = 0.95)]
    good_share: f64,
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// PEM file with the authorities of the ranker's certificate: turns TLS on.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A file with the token that says who asks.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Name of the report.
    #[arg(long, default_value = "refract")]
    title: String,
    /// What a reader must know: machine, build, other load.
    #[arg(long, default_value = "")]
    note: String,
    /// Write the report here.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Spacing {
    Poisson,
    Even,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("must be a number above 0".to_owned()),
    }
}

fn main() -> ExitCode {
    match work(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(69)
        }
    }
}

/// Whether all goals hold.
fn work(command: Command) -> Result<bool> {
    match command {
        Command::Run { rate, how } => measure(&[rate], &how),
        Command::Sweep { rates, how } => measure(&rates, &how),
        Command::Report {
            reports,
            out,
            good_share,
        } => {
            let read: Vec<Report> = reports
                .iter()
                .map(|file| Report::read(file))
                .collect::<Result<_>>()?;
            std::fs::write(&out, html::page(&read, good_share))
                .with_context(|| format!("writing {}", out.display()))?;
            Ok(true)
        }
        Command::Compare { before, after, worse } => {
            let changes = compare::compare(&Report::read(&before)?, &Report::read(&after)?, worse);
            ensure!(!changes.is_empty(), "the two reports have no rate in common");
            for change in &changes {
                println!(
                    "{:42} {:>12.4} {:>12.4} {:>+8.1} % {}",
                    change.name,
                    change.before,
                    change.after,
                    100.0 * (change.ratio - 1.0),
                    if change.is_worse { "WORSE" } else { "" }
                );
            }
            Ok(!changes.iter().any(|change| change.is_worse))
        }
    }
}

/// A few a second: what they make is remembered, and none waits long for another.
const ASKED_BEFORE_EVERY: Duration = Duration::from_millis(250);

fn measure(rates: &[f64], how: &How) -> Result<bool> {
    let mut objectives = Objectives::default();
    how.objectives.iter().try_for_each(|text| objectives.set(text))?;
    let mut askers = Askers::new(schedule::users(&how.data)?, how.asking, how.zipf, how.seed);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut report = Report {
        schema: Report::SCHEMA,
        title: how.title.clone(),
        note: how.note.clone(),
        target: how.target.clone(),
        arrivals: how.arrivals.into(),
        zipf_exponent: how.zipf,
        asking: how.asking,
        limit: how.limit,
        seed: how.seed,
        objectives,
        runs: Vec::new(),
    };
    runtime.block_on(async {
        let doors = doors(how)?;
        doors[0]
            .server_info()
            .await
            .with_context(|| format!("nobody to load at {}", how.target))?;
        let load = |users: Vec<String>, starts| Load {
            users,
            starts,
            limit: how.limit,
            in_flight_max: how.in_flight_max,
        };
        let before = askers.before().to_vec();
        let apart = (0..before.len() as u32).map(|n| n * ASKED_BEFORE_EVERY).collect();
        drive::run(&doors, load(before, apart)).await;
        for rate in rates {
            let mut begin = |length: Duration, seed: u64| {
                let starts = schedule::starts(report.arrivals, *rate, length, seed);
                anyhow::Ok(load(askers.take(starts.len(), seed)?, starts))
            };
            drive::run(&doors, begin(how.warm_up, how.seed ^ 1)?).await;
            let outcomes = drive::run(&doors, begin(how.duration, how.seed)?).await;
            let summary = Summary::of(&outcomes, how.duration, &report.objectives);
            let is_good = summary.good_share() >= how.good_share;
            report.runs.push(summary);
            if !is_good {
                break;
            }
        }
        anyhow::Ok(())
    })?;
    for row in report.rows(how.good_share) {
        let line = if how.json {
            serde_json::to_string(&row)?
        } else {
            row.text()
        };
        println!("{line}");
    }
    if let Some(out) = &how.out {
        report.write(out)?;
    }
    // A sweep looks for the rate that is too much, so finding it is no failure.
    Ok(rates.len() > 1 || report.runs.iter().all(|run| run.good_share() >= how.good_share))
}

fn doors(how: &How) -> Result<Vec<Refract>> {
    let options = Options {
        tls: how.ca.as_ref().map(ClientTls::new),
        token: how.token_file.as_deref().map(token_from).transpose()?,
        deadline: how.deadline,
        // What a server refuses is to be seen, not smoothed.
        attempts_max: 1,
        ..Options::at(
            how.target
                .parse()
                .with_context(|| format!("--target {}", how.target))?,
        )
    };
    (0..how.connections)
        .map(|_| Ok(Refract::connect(options.clone())?))
        .collect()
}

impl From<Spacing> for Arrivals {
    fn from(spacing: Spacing) -> Self {
        match spacing {
            Spacing::Poisson => Self::Poisson,
            Spacing::Even => Self::Even,
        }
    }
}
