//! The command line: what can be asked of `refract`, in words that teach.

mod ask;
mod distill;
mod eval;
mod generate;
mod import;
mod reproduce;
mod train;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use ask::*;
pub(crate) use distill::*;
pub(crate) use eval::*;
pub(crate) use generate::*;
pub(crate) use import::*;
pub(crate) use reproduce::*;
pub(crate) use train::*;

/// Explained recommendations, served: what to recommend, and why, in one or two true sentences.
#[derive(Debug, Parser)]
#[command(
    name = "refract",
    version,
    max_term_width = 110,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// See it work: three services on loopback, real films, streamed explanations, then the same again from the cache.
    Demo(Demo),
    /// Run services: all of them in one process, or one role of a cluster.
    Serve(Serve),
    /// Ask a running ranker for recommendations with explanations.
    Recommend(Recommend),
    /// Ask a running ranker to explain given items.
    Explain(Explain),
    /// List users of a data set whose tastes are worth trying.
    Users(Users),
    /// Bring a data set into Refract's format.
    #[command(subcommand)]
    Import(Import),
    /// Let a teacher label the pairs of a data set, for `refract train prism --labels`.
    Distill(Distill),
    /// Train a ranker, an Oracle, a Prism, or all that the demo ships.
    #[command(subcommand)]
    Train(Train),
    /// Measure a ranker, explanations, texts, labels or speed, and make a page of results.
    #[command(subcommand)]
    Eval(Eval),
    /// The published protocol end to end on a data set: teacher, students with and without knowledge, noise filter, efficiency.
    Reproduce(Reproduce),
    /// Generate text with any Hugging Face T5 or BART directory: lines of JSON in, lines of JSON out.
    Generate(Generate),
    /// Write a bundle with int8 weights (a quarter of the memory) or int4 (about a seventh).
    Quantize(Quantize),
    /// Write down what a bundle usually says: a fresh service then guesses ahead as well as one that has been at work.
    Rehearse(Rehearse),
    /// Check that a GPU, several devices or other numbers choose the tokens that exact weights on the CPU choose.
    Compare(Compare),
    /// How many machines of each kind for a load, and what they cost: a simulation from measured times.
    Plan(Plan),
    /// Draw the demo's synthetic population again from its taste model (seeded: the same bytes every time).
    Population(Population),
}

#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// What is known and promised (TOML); without it, modest assumptions. `--print` shows every key.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Show the plan in force, and end.
    #[arg(long)]
    pub(crate) print: bool,
    /// Requests a second to plan for.
    #[arg(long, value_delimiter = ',', default_values_t = [10.0, 100.0, 1_000.0, 10_000.0, 100_000.0], value_parser = rate)]
    pub(crate) rates: Vec<f64>,
    /// Plots of machines, price and memory over the rate; with `--validate`, of predicted and measured times.
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Measure the stations of this running cluster, and print the plan with their times.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "validate")]
    pub(crate) calibrate: Option<String>,
    /// Measure this running and idle `refract serve all`, predict the loads of `--rates`, run them, and print the error.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) validate: Option<String>,
    /// Length of each load of `--validate`, in each round.
    #[arg(long, default_value = "20s", value_parser = humantime::parse_duration)]
    pub(crate) duration: std::time::Duration,
    /// Times that `--validate` runs its loads, in turns; a machine is not the same from minute to minute.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Seed for simulated and measured loads.
    #[arg(long, default_value_t = 42)]
    pub(crate) seed: u64,
    /// One JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && (0.001..=1e7).contains(&rate) => Ok(rate),
        _ => Err("must be from 0.001 to 10^7".to_owned()),
    }
}

#[derive(Debug, Args, Clone, Default)]
pub(crate) struct DataArgs {
    /// A data set in Refract's format (see `refract import`); without it, the films shipped with Refract.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Where the shipped data and models are, if not beside the binary.
    #[arg(long, value_name = "DIR", env = "REFRACT_ASSETS", hide_env_values = true)]
    pub(crate) assets: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Whose taste to use; `refract users` lists some.
    #[arg(long, value_name = "ID", conflicts_with = "likes")]
    pub(crate) user: Option<String>,
    /// Your own taste instead: a title you like; repeat it. Near misses are forgiven.
    #[arg(long, value_name = "TITLE", num_args = 1..)]
    pub(crate) likes: Vec<String>,
    /// How many items to recommend.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) limit: u32,
    /// Only items with this attribute value, e.g. `genre=comedy`; repeat to combine.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Varies the wording; the same number gives the same text.
    #[arg(long, default_value_t = 0)]
    pub(crate) style: u32,
    /// Oracle bundle to use instead of the shipped one.
    #[arg(long, value_name = "DIR")]
    pub(crate) oracle: Option<PathBuf>,
    /// Prism bundle to use instead of the shipped one.
    #[arg(long, value_name = "DIR")]
    pub(crate) prism: Option<PathBuf>,
    /// Remember knowledge in this Redis instead of in memory, e.g. `redis://127.0.0.1:6379`.
    #[arg(long, value_name = "URL")]
    pub(crate) redis: Option<String>,
    /// Events as lines of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    All,
    Ranker,
    Oracle,
    Prism,
}

impl Role {
    /// What telemetry calls a process that plays this role.
    pub(crate) fn service(self) -> &'static str {
        match self {
            Self::All => "refract",
            Self::Ranker => "refract-ranker",
            Self::Oracle => "refract-oracle",
            Self::Prism => "refract-prism",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Which role this process plays.
    #[arg(value_enum)]
    pub(crate) role: Role,
    /// Configuration file (TOML). Environment variables `REFRACT_<SECTION>__<KEY>` and `--set` override it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Override one key, e.g. `--set ranker.listen.address=127.0.0.1:7001`; repeat it.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    // Short for `--set oracle.worker.devices=…` (or `prism.…`) and `tensor_parallel`.
    #[command(flatten)]
    pub(crate) place: Place,
    /// Print the configuration in force as TOML and stop.
    #[arg(long)]
    pub(crate) print_config: bool,
    /// Where the shipped data and models are, if not beside the binary.
    #[arg(long, value_name = "DIR", env = "REFRACT_ASSETS", hide_env_values = true)]
    pub(crate) assets: Option<PathBuf>,
    /// Where the configuration names no port, take any free one instead of 7001–7003 and 7101–7103 (see --ready-file).
    #[arg(long)]
    pub(crate) any_port: bool,
    /// Write the bound addresses as one JSON object to this file once everything serves (for scripts; ports may be 0).
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Users {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Maximum number of users to list.
    #[arg(long, default_value_t = 40)]
    pub(crate) limit: usize,
    /// Lines of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Population {
    /// Data directory holding `items.jsonl` and the tastes; rewrites `interactions.csv` and `users.jsonl` there.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Seed for the users and their ratings.
    #[arg(long, default_value_t = 42)]
    pub(crate) seed: u64,
}
