//! What `refract distill` can be told.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::DataArgs;
use super::import::share;

#[derive(Debug, Args)]
pub(crate) struct Distill {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Labels: one JSON object a line, or, where the name ends in .parquet, columns (`source`, `text` and more) that pandas and
    /// datasets read; the lines are then kept beside it, in FILE.parquet.jsonl. A run that was stopped is gone on with.
    #[arg(long, value_name = "FILE.jsonl|FILE.parquet")]
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
    /// Label only the I-th of N disjoint shards; `job/N` takes I from a Kubernetes Job's JOB_COMPLETION_INDEX.
    #[arg(long, value_name = "I/N", default_value = "1/1", value_parser = shard)]
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
    /// Temperature of sampling: the higher, the more candidates differ.
    #[arg(long, default_value_t = 0.8)]
    pub(crate) temperature: f64,
    /// Sample from the likeliest tokens that have this share of the probability together.
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
    /// Time limit for one attempt.
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = humantime::parse_duration)]
    pub(crate) answer_max: std::time::Duration,
    /// Fail when more than this share of the pairs has no answer.
    #[arg(long, value_name = "SHARE", default_value = "5%", value_parser = share)]
    pub(crate) failed_max: f64,
    /// Seed for sampling.
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

impl Part {
    pub(crate) fn part(self) -> refract_import::splits::Part {
        match self {
            Self::Train => refract_import::splits::Part::Train,
            Self::Dev => refract_import::splits::Part::Dev,
            Self::Test => refract_import::splits::Part::Test,
        }
    }
}

/// `I/N`, or `job/N` in a pod of an Indexed Job.
fn shard(text: &str) -> Result<refract_distill::Shard, String> {
    refract_distill::Shard::parse(text, std::env::var("JOB_COMPLETION_INDEX").ok().as_deref())
}
