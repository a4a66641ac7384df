//! What `refract eval` can be told.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{DataArgs, Part, Precision};

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
    /// Latency and memory of one model, alone in the process: batch 1, 5 beams, at most 150 tokens.
    Speed(EvalSpeed),
    /// One HTML page of tables, plots and examples from what other commands printed with --json.
    Report(EvalReport),
}

#[derive(Debug, Args)]
pub(crate) struct EvalRanker {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Seed for the ranker that is trained for it.
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
    /// Only users of these parts of the split, as `test,dev`: the slot models are trained on `train`.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) part: Vec<Part>,
    /// How many items for each.
    #[arg(long, default_value_t = 2)]
    pub(crate) items: usize,
    /// Print so many explanations at random, to be read.
    #[arg(long, default_value_t = 20)]
    pub(crate) show: usize,
    /// Seed for the users and items that are drawn.
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
    /// Seed for the bootstrap samples.
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
    // Whose catalogue and others' behaviour the texts are read against; the shipped data where the labels are of them.
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// At most so many pairs.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) limit: usize,
    /// Print so many of the worst, and so many without a fault.
    #[arg(long, default_value_t = 5)]
    pub(crate) show: usize,
    /// Bootstrap samples behind each interval.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) resamples: usize,
    /// Seed for the bootstrap samples.
    #[arg(long, default_value_t = 42)]
    pub(crate) seed: u64,
    /// One JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EvalSpeed {
    /// A bundle, or a plain Hugging Face T5 or BART directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) bundle: PathBuf,
    /// Lines `{"text": …}` or `{"ids": […]}`, taken in turns; `eval explanations --prompts` writes a Prism's.
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) prompts: PathBuf,
    #[arg(long, default_value_t = 5)]
    pub(crate) beams: usize,
    #[arg(long, default_value_t = 150)]
    pub(crate) new_tokens_max: usize,
    /// Runs before those that count.
    #[arg(long, default_value_t = 10)]
    pub(crate) warm_up: usize,
    #[arg(long, default_value_t = 100, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub(crate) runs: usize,
    /// Number format of the weights.
    #[arg(long, value_enum, default_value_t = Precision::Auto)]
    pub(crate) dtype: Precision,
    /// Threads of the engine.
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
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
