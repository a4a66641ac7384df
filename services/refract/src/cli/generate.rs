//! What `refract generate`, `compare`, `quantize` and `rehearse` can be told.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use refract_engine::{DeviceName, Weights};

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
    #[command(flatten)]
    pub(crate) place: Place,
    /// Lines of JSON `{"ids", "text", "finish_reason", "score"}` (otherwise the text alone).
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where a model lives.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Place {
    /// Devices that hold the model: `cpu`, or `cuda:0,cuda:1` in a build with `--features cuda`. With `serve`, for the roles oracle and
    /// prism only; `serve all` is told by --set.
    #[arg(long, value_name = "DEVICE,…", value_delimiter = ',')]
    pub(crate) devices: Vec<DeviceName>,
    /// Divide a T5 among so many devices (on `cpu`: threads); as many as `--devices` names where absent.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) tensor_parallel: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Precision {
    /// int8 or int4 where the directory was quantised, bf16 on a GPU, else f32.
    Auto,
    /// Exactly what `transformers` writes in f32.
    F32,
    /// A byte a weight, quantised at load: two to three times as fast.
    Int8,
    /// Four bits a weight: half the memory of int8, and less exact.
    Int4,
    Bf16,
}

impl Precision {
    pub(crate) fn weights(self) -> Weights {
        match self {
            Self::Auto => Weights::Auto,
            Self::F32 => Weights::F32,
            Self::Int8 => Weights::Int8,
            Self::Int4 => Weights::Int4,
            Self::Bf16 => Weights::Bf16,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// A model directory in the Hugging Face layout, with or without `bundle.toml` and tokenizer.
    #[arg(long, value_name = "DIR")]
    pub(crate) bundle: PathBuf,
    #[command(flatten)]
    pub(crate) place: Place,
    /// Number format of the weights there.
    #[arg(long, value_enum, default_value_t = Precision::Auto)]
    pub(crate) dtype: Precision,
    /// Prompts, lines `{"text": …}` or `{"ids": […]}`; without it, random ids.
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) input: Option<PathBuf>,
    /// How many random prompts.
    #[arg(long, default_value_t = 16, conflicts_with = "input")]
    pub(crate) prompts: usize,
    /// Tokens to write for each prompt.
    #[arg(long, default_value_t = 32)]
    pub(crate) max_new_tokens: usize,
    /// Seed for the random prompts.
    #[arg(long, default_value_t = 42)]
    pub(crate) seed: u64,
    /// One JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
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

#[derive(Debug, Args)]
pub(crate) struct Rehearse {
    /// A bundle, or a plain Hugging Face T5 or BART directory, that decodes greedily; `phrases.tsv` is written into it.
    #[arg(value_name = "BUNDLE")]
    pub(crate) bundle: PathBuf,
    /// Prompts as they will be asked, lines `{"text": …}` or `{"ids": […]}`: a few hundred at least, of many users.
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) input: PathBuf,
    /// Threads; 0 means as many as there are.
    #[arg(long, default_value_t = 0)]
    pub(crate) threads: usize,
    /// One JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum QuantizeTo {
    /// Symmetric, one scale a row; T5's `wo`, norms, biases and positions stay as they are. Alias `q8_0`.
    #[value(alias = "q8_0")]
    Int8,
    /// Matrices in four bits with a share of the row's scale for each 32 weights; what is only looked up as above. Alias `q4k`.
    #[value(alias = "q4k")]
    Int4,
}
