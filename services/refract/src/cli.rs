//! The command line: what can be asked of `refract`, in words that teach.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};

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
    /// Measure a ranker or explanations.
    #[command(subcommand)]
    Eval(Eval),
    /// Generate text with any Hugging Face T5 or BART directory: lines of JSON in, lines of JSON out.
    Generate(Generate),
    /// Write a bundle with weights of one byte: a quarter of the memory, two to three times the speed.
    Quantize(Quantize),
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
    /// Plots of machines, price and memory over the rate.
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Measure the stations of this running cluster, and print the plan with their times.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "validate")]
    pub(crate) calibrate: Option<String>,
    /// Measure this running `refract serve all`, predict the loads of `--rates`, run them, and print the error.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) validate: Option<String>,
    /// Length of each load of `--validate`.
    #[arg(long, default_value = "20s", value_parser = humantime::parse_duration)]
    pub(crate) duration: std::time::Duration,
    #[command(flatten)]
    pub(crate) data: DataArgs,
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
pub(crate) struct Target {
    /// Address of a ranker.
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:7001",
        env = "REFRACT_TARGET"
    )]
    pub(crate) target: String,
    /// Give up after this long.
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = humantime::parse_duration)]
    pub(crate) deadline: std::time::Duration,
    /// TLS: the authorities (PEM) that the ranker's certificate must come from.
    #[arg(long, value_name = "FILE", env = "REFRACT_CA")]
    pub(crate) ca: Option<PathBuf>,
    /// Our own certificate (PEM), where the ranker asks for one.
    #[arg(long, value_name = "FILE", requires_all = ["ca", "key"], env = "REFRACT_CERT")]
    pub(crate) cert: Option<PathBuf>,
    /// Its private key (PEM).
    #[arg(long, value_name = "FILE", requires = "cert", env = "REFRACT_KEY")]
    pub(crate) key: Option<PathBuf>,
    /// The name in the ranker's certificate, where it is not the target's host.
    #[arg(long, value_name = "NAME", requires = "ca", env = "REFRACT_SERVER_NAME")]
    pub(crate) server_name: Option<String>,
    /// A file with the token that says who asks.
    #[arg(long, value_name = "FILE", env = "REFRACT_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

impl Target {
    /// What a client needs to know.
    pub(crate) fn options(&self) -> anyhow::Result<refract_client::Options> {
        let parsed: refract_net::Target = self
            .target
            .parse()
            .with_context(|| format!("--target {}", self.target))?;
        let tls = self.ca.clone().map(|ca_file| refract_net::ClientTls {
            ca_file,
            cert_file: self.cert.clone(),
            key_file: self.key.clone(),
            server_name: self.server_name.clone(),
        });
        let token = self
            .token_file
            .as_deref()
            .map(refract_client::token_from)
            .transpose()?;
        Ok(refract_client::Options {
            tls,
            token,
            deadline: self.deadline,
            propagator: crate::cluster::propagator(),
            ..refract_client::Options::at(parsed)
        })
    }
}

#[derive(Debug, Args)]
pub(crate) struct Recommend {
    #[command(flatten)]
    pub(crate) target: Target,
    /// For whom.
    #[arg(long, value_name = "ID")]
    pub(crate) user: String,
    /// How many items.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) limit: u32,
    /// Only items with this attribute value, e.g. `genre=comedy`; repeat to combine.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Varies the wording.
    #[arg(long, default_value_t = 0)]
    pub(crate) style: u32,
    /// Events as lines of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    #[command(flatten)]
    pub(crate) target: Target,
    /// For whom.
    #[arg(long, value_name = "ID")]
    pub(crate) user: String,
    /// Which items, by id; repeat it.
    #[arg(long = "item", value_name = "ID", required = true)]
    pub(crate) items: Vec<String>,
    /// Varies the wording.
    #[arg(long, default_value_t = 0)]
    pub(crate) style: u32,
    /// Events as lines of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Users {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// At most so many.
    #[arg(long, default_value_t = 40)]
    pub(crate) limit: usize,
    /// Lines of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Import {
    /// A directory with `items.jsonl` and `interactions.csv` (ratings 0–10).
    Films(ImportFilms),
    /// MovieLens 1M or 10M (`ratings.dat`, `movies.dat`) or latest (`ratings.csv`, `movies.csv`).
    Movielens(ImportDir),
    /// The Yelp academic data set (`…business.json`, `…review.json`, perhaps `.gz`).
    Yelp(ImportDir),
    /// Amazon reviews with product metadata, JSON lines, perhaps `.gz`.
    Amazon(ImportAmazon),
    /// CSV, TSV, JSON lines or Parquet, by a mapping that says which column is what.
    Table(ImportTable),
}

#[derive(Debug, Args)]
pub(crate) struct ImportDir {
    /// The directory to read.
    pub(crate) from: PathBuf,
    #[command(flatten)]
    pub(crate) options: ImportOptions,
}

#[derive(Debug, Args)]
pub(crate) struct ImportAmazon {
    /// Reviews, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    pub(crate) reviews: PathBuf,
    /// Product metadata, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata: PathBuf,
    #[command(flatten)]
    pub(crate) options: ImportOptions,
}

#[derive(Debug, Args)]
pub(crate) struct ImportTable {
    /// Which column is what (TOML).
    pub(crate) mapping: PathBuf,
    #[command(flatten)]
    pub(crate) options: ImportOptions,
}

#[derive(Debug, Args)]
pub(crate) struct ImportOptions {
    /// The directory to write; must not exist.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Fail when more than this share of the item lines or interaction rows is bad: `1%` or `0.01`.
    #[arg(long, value_name = "SHARE", default_value = "1%", value_parser = share)]
    pub(crate) bad_rows_max: f64,
    /// Leave out users with fewer interactions.
    #[arg(long, default_value_t = 1)]
    pub(crate) user_interactions_min: usize,
    /// Share of the interactions, the newest, that lie in the test's window.
    #[arg(long, value_name = "SHARE", default_value = "10%", value_parser = share)]
    pub(crate) test_share: f64,
    /// Share of the interactions before them that lie in dev's window.
    #[arg(long, value_name = "SHARE", default_value = "10%", value_parser = share)]
    pub(crate) dev_share: f64,
    /// Share of the users with a like in a window who are held out for it.
    #[arg(long, value_name = "SHARE", default_value = "50%", value_parser = share)]
    pub(crate) held_out_share: f64,
    /// Of the split.
    #[arg(long, default_value_t = 42)]
    pub(crate) seed: u64,
}

/// `1%` or `0.01`.
fn share(text: &str) -> Result<f64, String> {
    let (number, divisor) = match text.strip_suffix('%') {
        Some(percent) => (percent, 100.0),
        None => (text, 1.0),
    };
    match number.trim().parse::<f64>() {
        Ok(value) if (0.0..=1.0).contains(&(value / divisor)) => Ok(value / divisor),
        _ => Err("expected a share like 1% or 0.01".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct ImportFilms {
    /// The directory to read.
    pub(crate) from: PathBuf,
    /// The directory to write; must not exist.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Fail when more than this share of interaction rows is bad.
    #[arg(long, value_name = "SHARE", default_value = "1%", value_parser = share)]
    pub(crate) bad_rows_max: f64,
}

#[derive(Debug, Args)]
pub(crate) struct Distill {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Labels, one JSON object a line. An existing file of the same run is gone on with.
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) out: PathBuf,
    /// The teacher: an Oracle bundle or a plain Hugging Face T5 directory. Without any teacher, the shipped Oracle.
    #[arg(long, value_name = "DIR", group = "teacher")]
    pub(crate) oracle: Option<PathBuf>,
    /// The teacher: a running OracleService.
    #[arg(long, value_name = "HOST:PORT", group = "teacher")]
    pub(crate) target: Option<String>,
    /// The teacher: an endpoint with `/chat/completions`, up to and with its `/v1`.
    #[arg(long, value_name = "URL", group = "teacher", requires = "model")]
    pub(crate) endpoint: Option<String>,
    /// The endpoint's name for the model.
    #[arg(long, value_name = "NAME", requires = "endpoint")]
    pub(crate) model: Option<String>,
    /// File with the endpoint's credential.
    #[arg(long, value_name = "FILE", requires = "endpoint")]
    pub(crate) credential_file: Option<PathBuf>,
    /// Parts of the split to label.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "train,dev")]
    pub(crate) part: Vec<Part>,
    /// A user's newest likes, at most so many.
    #[arg(long, default_value_t = 4)]
    pub(crate) pairs_per_user: usize,
    /// Interactions that a history must have.
    #[arg(long, default_value_t = 3)]
    pub(crate) history_min: usize,
    /// At most so many pairs of this shard.
    #[arg(long)]
    pub(crate) limit: Option<usize>,
    /// Label only the I-th of N disjoint shards.
    #[arg(long, value_name = "I/N", default_value = "1/1")]
    pub(crate) shard: refract_distill::Shard,
    /// Candidates of each pair, of which the best is kept.
    #[arg(long, default_value_t = 4, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=16))]
    pub(crate) candidates: usize,
    /// Refuse labels with a sentence that the request does not support; otherwise they are counted.
    #[arg(long)]
    pub(crate) gate: bool,
    /// Tokens of one candidate at most.
    #[arg(long, default_value_t = 150, value_parser = clap::value_parser!(u32).range(1..=512))]
    pub(crate) new_tokens_max: u32,
    #[arg(long, default_value_t = 0.8)]
    pub(crate) temperature: f64,
    #[arg(long, default_value_t = 0.9)]
    pub(crate) top_p: f64,
    /// Pairs in flight: what a killed run loses at most.
    #[arg(long, default_value_t = 16)]
    pub(crate) in_flight_max: usize,
    /// Requests a second, retries included.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) rate_max: Option<f64>,
    /// Tries of one pair.
    #[arg(long, default_value_t = 5)]
    pub(crate) attempts_max: u32,
    /// Give one try up after this long.
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = humantime::parse_duration)]
    pub(crate) answer_max: std::time::Duration,
    /// Fail when more than this share of the pairs has no answer.
    #[arg(long, value_name = "SHARE", default_value = "5%", value_parser = share)]
    pub(crate) failed_max: f64,
    /// Of sampling.
    #[arg(long, default_value_t = 42)]
    pub(crate) seed: u64,
    /// Say how much there is to do and what it would cost, and ask nobody.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Price of a million tokens read, for the estimate.
    #[arg(long, value_name = "PRICE", requires = "price_written")]
    pub(crate) price_prompt: Option<f64>,
    /// Price of a million tokens written.
    #[arg(long, value_name = "PRICE", requires = "price_prompt")]
    pub(crate) price_written: Option<f64>,
    /// Results as lines of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Part {
    Train,
    Dev,
    Test,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Train {
    /// Implicit ALS on a data set's interactions.
    Ranker(TrainRanker),
    /// The small slot Oracle (T5), on a corpus written from a data set.
    Oracle(TrainModel),
    /// A Prism (BART): with --labels a plain-text one, fine-tuned or from scratch; else the small one with slots.
    Prism(TrainPrism),
    /// Remake everything the demo ships: ranker, Oracle and Prism, from the shipped data.
    Demo(TrainDemo),
}

#[derive(Debug, Args)]
pub(crate) struct TrainRanker {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Directory to write the model to.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Seed of the factors' start.
    #[arg(long, default_value_t = 42)]
    pub(crate) seed: u64,
    /// One JSON object at the end.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What the shipped bundles are trained with.
pub(crate) const BATCH: usize = 32;
pub(crate) const LEARNING_RATE: f64 = 2e-3;
pub(crate) const EXAMPLES: usize = 30_000;

#[derive(Debug, Args, Clone)]
pub(crate) struct TrainModel {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Bundle directory to write.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Optimiser steps.
    #[arg(long)]
    pub(crate) steps: Option<usize>,
    /// Examples per step.
    #[arg(long, default_value_t = BATCH)]
    pub(crate) batch: usize,
    /// Peak learning rate.
    #[arg(long, default_value_t = LEARNING_RATE)]
    pub(crate) learning_rate: f64,
    /// Corpus size in examples.
    #[arg(long, default_value_t = EXAMPLES)]
    pub(crate) examples: usize,
    /// Seed of weights, corpus and order.
    #[arg(long, default_value_t = 42)]
    pub(crate) seed: u64,
    /// Stop after this long, at the next checkpoint, and write the best bundle so far.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) time_max: Option<std::time::Duration>,
    /// Threads of the numeric library: more pay only for models larger than these, on idle cores.
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    /// Go on from the checkpoint in `<out>.training`, if there is one.
    #[arg(long)]
    pub(crate) resume: bool,
    /// Lines of JSON instead of a progress bar.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args, Clone)]
pub(crate) struct TrainPrism {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Bundle directory to write.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Optimiser steps; with labels, --epochs of them by default.
    #[arg(long)]
    pub(crate) steps: Option<usize>,
    /// Examples per batch: 32, with labels 16.
    #[arg(long)]
    pub(crate) batch: Option<usize>,
    /// Peak learning rate: 2e-3; with labels 3e-5 from a checkpoint, 1e-3 from scratch.
    #[arg(long)]
    pub(crate) learning_rate: Option<f64>,
    /// Corpus size in examples (without labels).
    #[arg(long, default_value_t = EXAMPLES)]
    pub(crate) examples: usize,
    /// Seed of weights, corpus and order.
    #[arg(long, default_value_t = 42)]
    pub(crate) seed: u64,
    /// Stop after this long, at the next checkpoint, and write the best bundle so far.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) time_max: Option<std::time::Duration>,
    /// Threads of the numeric library.
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    /// Go on from the checkpoint in `<out>.training`, if there is one.
    #[arg(long)]
    pub(crate) resume: bool,
    /// Lines of JSON instead of a progress bar.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) student: Student,
}

impl TrainPrism {
    /// As the slot recipe takes it.
    pub(crate) fn slots(&self) -> TrainModel {
        TrainModel {
            data: self.data.clone(),
            out: self.out.clone(),
            steps: self.steps,
            batch: self.batch.unwrap_or(BATCH),
            learning_rate: self.learning_rate.unwrap_or(LEARNING_RATE),
            examples: self.examples,
            seed: self.seed,
            time_max: self.time_max,
            threads: self.threads,
            resume: self.resume,
            json: self.json,
        }
    }
}

/// What only a run on labels asks for.
#[derive(Debug, Args, Clone)]
#[command(next_help_heading = "With --labels")]
pub(crate) struct Student {
    /// Label files of `refract distill`; several are joined.
    #[arg(long, value_name = "FILE.jsonl", num_args = 1..)]
    pub(crate) labels: Vec<PathBuf>,
    /// A Hugging Face BART directory to fine-tune; without it a small BART and its tokenizer begin from nothing.
    #[arg(long, value_name = "DIR", requires = "labels")]
    pub(crate) from: Option<PathBuf>,
    /// Whether the teacher's facts are in the student's prompt.
    #[arg(long, value_enum, default_value_t = StudentMode::Alone)]
    pub(crate) mode: StudentMode,
    /// Show titles and years only, no attributes (as published).
    #[arg(long)]
    pub(crate) titles_only: bool,
    /// Passes over the labels at most.
    #[arg(long, default_value_t = 25)]
    pub(crate) epochs: usize,
    /// Passes over which the learning rate rises.
    #[arg(long, default_value_t = 3)]
    pub(crate) warm_up_epochs: usize,
    /// Batches of which one step is made.
    #[arg(long, default_value_t = 2, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub(crate) accumulate: usize,
    /// Share of probability spread evenly over the vocabulary.
    #[arg(long, default_value_t = 0.1)]
    pub(crate) smoothing: f64,
    /// Share of activations zeroed; the model's own by default.
    #[arg(long)]
    pub(crate) dropout: Option<f32>,
    /// Stop after so many checks without a better dev loss.
    #[arg(long, default_value_t = 5)]
    pub(crate) patience: usize,
    /// Steps between two checks; an epoch by default.
    #[arg(long)]
    pub(crate) check_every: Option<usize>,
    /// Rows of the gated user and item tables, 64 wide; 0 trains a plain BART, which Hugging Face loads.
    #[arg(long, default_value_t = 0)]
    pub(crate) pair_rows: usize,
    /// Peak learning rate of tables, projection and gate.
    #[arg(long, default_value_t = 5e-4)]
    pub(crate) pair_rate: f64,
    /// Passes in which only tables, projection and gate learn.
    #[arg(long, default_value_t = 3)]
    pub(crate) frozen_epochs: usize,
    /// Width of a model from scratch: a multiple of 32.
    #[arg(long, default_value_t = 192)]
    pub(crate) width: usize,
    /// Layers on each side of a model from scratch.
    #[arg(long, default_value_t = 3)]
    pub(crate) layers: usize,
    /// Ids of a tokenizer from scratch at most.
    #[arg(long, default_value_t = 8_000)]
    pub(crate) vocabulary: usize,
    /// Beams that the bundle is served with.
    #[arg(long, default_value_t = 5)]
    pub(crate) beams: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StudentMode {
    /// History and item, as published.
    Alone,
    /// History, item and facts.
    Conditioned,
}

#[derive(Debug, Args)]
pub(crate) struct TrainDemo {
    /// Directory to write `ranker/`, `oracle/` and `prism/` to.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    #[arg(long, default_value_t = 42)]
    pub(crate) seed: u64,
    /// Go on where an earlier run was stopped.
    #[arg(long)]
    pub(crate) resume: bool,
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Eval {
    /// HR, recall and NDCG against popularity and item kNN, full ranking.
    Ranker(EvalRanker),
    /// Truth of explanations over many users, before and after the gate.
    Explanations(EvalExplanations),
    /// BLEU, ROUGE, variety and features of any texts, from lines of JSON.
    Texts(EvalTexts),
    /// A Prism beside its teacher on the same labelled pairs: whose sentences have evidence?
    Labels(EvalLabels),
    /// One HTML page of tables, plots and examples from what other commands printed with --json.
    Report(EvalReport),
}

#[derive(Debug, Args)]
pub(crate) struct EvalRanker {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    #[arg(long, default_value_t = 42)]
    pub(crate) seed: u64,
    /// One JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EvalExplanations {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Oracle bundle; the shipped one by default.
    #[arg(long, value_name = "DIR")]
    pub(crate) oracle: Option<PathBuf>,
    /// Prism bundle; the shipped one by default.
    #[arg(long, value_name = "DIR")]
    pub(crate) prism: Option<PathBuf>,
    /// How many users, drawn by the seed.
    #[arg(long, default_value_t = 500)]
    pub(crate) users: usize,
    /// How many items for each.
    #[arg(long, default_value_t = 2)]
    pub(crate) items: usize,
    /// Print so many explanations at random, to be read.
    #[arg(long, default_value_t = 20)]
    pub(crate) show: usize,
    #[arg(long, default_value_t = 42)]
    pub(crate) seed: u64,
    /// Also write the Prism's prompts to this file, as lines `{"ids": […]}`.
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) prompts: Option<PathBuf>,
    /// One JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EvalTexts {
    /// Lines `{"text": …}`, perhaps with `id`, `user`, `reference`, `feature`; a bare string is a text.
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) predictions: PathBuf,
    /// Lines `{"text": …}`, matched by `id` where both files have one, else line by line.
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) references: Option<PathBuf>,
    /// The vocabulary of FMR, FCR and DIV, one feature a line.
    #[arg(long, value_name = "FILE")]
    pub(crate) features: Option<PathBuf>,
    /// How texts are cut into words.
    #[arg(long, value_enum, default_value_t = Cut::Any)]
    pub(crate) words: Cut,
    /// Bootstrap samples behind each interval.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) resamples: usize,
    #[arg(long, default_value_t = 42)]
    pub(crate) seed: u64,
    /// One JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EvalLabels {
    /// Label files of `refract distill`.
    #[arg(long, value_name = "FILE.jsonl", num_args = 1.., required = true)]
    pub(crate) labels: Vec<PathBuf>,
    /// Parts of the split to compare on.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "test")]
    pub(crate) part: Vec<Part>,
    /// Prism bundle; the shipped one by default.
    #[arg(long, value_name = "DIR")]
    pub(crate) prism: Option<PathBuf>,
    /// Where the shipped data and models are, if not beside the binary.
    #[arg(long, value_name = "DIR", env = "REFRACT_ASSETS", hide_env_values = true)]
    pub(crate) assets: Option<PathBuf>,
    /// At most so many pairs.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) limit: usize,
    /// Print so many of the worst, and so many without a fault.
    #[arg(long, default_value_t = 5)]
    pub(crate) show: usize,
    /// Bootstrap samples behind each interval.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) resamples: usize,
    #[arg(long, default_value_t = 42)]
    pub(crate) seed: u64,
    /// One JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EvalReport {
    /// What a command printed with --json, perhaps with the name it is to have: `demo=explanations.jsonl`; repeat it. Rows of
    /// the same name stand side by side.
    #[arg(long = "results", value_name = "NAME=FILE.jsonl", required = true, num_args = 1..)]
    pub(crate) results: Vec<String>,
    /// The page.
    #[arg(long, value_name = "FILE.html")]
    pub(crate) out: PathBuf,
    #[arg(long, default_value = "Refract: how true, how good")]
    pub(crate) title: String,
    /// A line about models, data and machine, printed under the title; repeat it.
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Vec<String>,
    /// Examples of each sort.
    #[arg(long, default_value_t = 12)]
    pub(crate) examples: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Cut {
    /// Lower-cased runs of letters and digits of any script.
    Any,
    /// As the `rouge_score` library: lower-cased runs of a–z and 0–9.
    Ascii,
    /// Already cut: at white space, case kept.
    Spaces,
}

#[derive(Debug, Args)]
pub(crate) struct Generate {
    /// A model directory in the Hugging Face layout, with or without `bundle.toml` and tokenizer.
    #[arg(long, value_name = "DIR")]
    pub(crate) bundle: PathBuf,
    /// Lines `{"text": …}` or `{"ids": […]}`; standard input by default.
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) input: Option<PathBuf>,
    /// Beams; 1 is greedy.
    #[arg(long)]
    pub(crate) num_beams: Option<usize>,
    /// Most tokens to write.
    #[arg(long)]
    pub(crate) max_new_tokens: Option<usize>,
    /// Fewest tokens to write before the end is allowed.
    #[arg(long)]
    pub(crate) min_new_tokens: Option<usize>,
    /// Beam scores are divided by length to this power.
    #[arg(long)]
    pub(crate) length_penalty: Option<f32>,
    /// Logits of tokens already written are divided (or multiplied, if negative) by this.
    #[arg(long)]
    pub(crate) repetition_penalty: Option<f32>,
    /// No n-gram of this size twice; 0 is off.
    #[arg(long)]
    pub(crate) no_repeat_ngram_size: Option<usize>,
    /// Number format of the weights.
    #[arg(long, value_enum, default_value_t = Precision::Auto)]
    pub(crate) dtype: Precision,
    /// Threads; 0 means as many as there are. The text does not depend on it.
    #[arg(long, default_value_t = 0)]
    pub(crate) threads: usize,
    /// Lines of JSON `{"ids", "text", "finish_reason", "score"}` (otherwise the text alone).
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Precision {
    /// int8 where the directory was quantised, else f32.
    Auto,
    /// Exactly what `transformers` writes in f32.
    F32,
    /// A byte a weight, quantised at load: two to three times as fast.
    Int8,
    Bf16,
}

#[derive(Debug, Args)]
pub(crate) struct Quantize {
    /// A bundle, or a plain Hugging Face T5 or BART directory.
    #[arg(value_name = "BUNDLE")]
    pub(crate) bundle: PathBuf,
    /// Format of the weights.
    #[arg(long, value_enum, default_value_t = QuantizeTo::Int8)]
    pub(crate) to: QuantizeTo,
    /// The new bundle; must not exist.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Compare with the exact weights on these prompts, lines `{"text": …}` or `{"ids": […]}`.
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) check: Option<PathBuf>,
    /// One JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum QuantizeTo {
    /// Symmetric, one scale a row; T5's `wo`, norms, biases and positions stay as they are.
    Int8,
}

#[derive(Debug, Args)]
pub(crate) struct Population {
    /// Data directory holding `items.jsonl` and the tastes; rewrites `interactions.csv` and `users.jsonl` there.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    #[arg(long, default_value_t = 42)]
    pub(crate) seed: u64,
}
