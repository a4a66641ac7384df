//! What `refract train` can be told.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use refract_engine::DeviceName;

use super::DataArgs;
use super::import::share;

#[derive(Debug, Subcommand)]
pub(crate) enum Train {
    /// Implicit ALS on a data set's interactions.
    Ranker(TrainRanker),
    /// The small slot Oracle (T5), on a corpus written from a data set.
    Oracle(TrainModel),
    /// A Prism (BART): with --labels a plain-text one, fine-tuned or from scratch; else the small one with slots.
    Prism(TrainPrism),
    /// How fast this machine trains, on examples of one shape.
    Speed(TrainSpeed),
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

/// What every training of a model is told.
#[derive(Debug, Args, Clone)]
pub(crate) struct TrainRun {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Bundle directory to write.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Optimiser steps; with labels, --epochs of them by default.
    #[arg(long)]
    pub(crate) steps: Option<usize>,
    /// Corpus size in examples (without labels).
    #[arg(long, default_value_t = EXAMPLES)]
    pub(crate) examples: usize,
    /// Seed of weights, corpus and order.
    #[arg(long, default_value_t = 42)]
    pub(crate) seed: u64,
    /// Stop after this long, at the next checkpoint, and write the best bundle so far.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) time_max: Option<std::time::Duration>,
    /// Threads of the numeric library: more pay only for models larger than the shipped ones, on idle cores.
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    #[command(flatten)]
    pub(crate) compute: Compute,
    /// Go on from the checkpoint in `<out>.training`, if there is one; it must be of the same data, settings and seed.
    #[arg(long)]
    pub(crate) resume: bool,
    /// Lines of JSON instead of a progress bar.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where and in what numbers a model learns.
#[derive(Debug, Args, Clone, Copy, Default)]
pub(crate) struct Compute {
    /// `cpu`, or `cuda:N` in a build with `--features cuda`.
    #[arg(long, default_value_t = DeviceName::Cpu)]
    pub(crate) device: DeviceName,
    /// Of products and activations; weights, norms, softmax, loss and optimiser stay in f32. bf16 pays on a GPU.
    #[arg(long, value_enum, default_value_t = Numbers::F32)]
    pub(crate) precision: Numbers,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Numbers {
    #[default]
    F32,
    Bf16,
}

#[derive(Debug, Args, Clone)]
pub(crate) struct TrainModel {
    #[command(flatten)]
    pub(crate) run: TrainRun,
    /// Examples per step.
    #[arg(long, default_value_t = BATCH)]
    pub(crate) batch: usize,
    /// Peak learning rate.
    #[arg(long, default_value_t = LEARNING_RATE)]
    pub(crate) learning_rate: f64,
    /// Stop after so many checks without a better dev loss. The best weights are shipped in any case.
    #[arg(long)]
    pub(crate) patience: Option<usize>,
}

#[derive(Debug, Args, Clone)]
pub(crate) struct TrainPrism {
    #[command(flatten)]
    pub(crate) run: TrainRun,
    /// Examples per batch: 32, with labels 16.
    #[arg(long)]
    pub(crate) batch: Option<usize>,
    /// Peak learning rate: 2e-3; with labels 3e-5 from a checkpoint, 1e-3 from scratch.
    #[arg(long)]
    pub(crate) learning_rate: Option<f64>,
    #[command(flatten)]
    pub(crate) student: Student,
}

impl TrainPrism {
    /// As the slot recipe takes it.
    pub(crate) fn slots(&self) -> TrainModel {
        TrainModel {
            run: self.run.clone(),
            batch: self.batch.unwrap_or(BATCH),
            learning_rate: self.learning_rate.unwrap_or(LEARNING_RATE),
            patience: self.student.patience,
        }
    }
}

/// What only a run on labels asks for.
#[derive(Debug, Args, Clone)]
#[command(next_help_heading = "With --labels")]
pub(crate) struct Student {
    /// Label files of `refract distill`, of either sort; several are joined.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(crate) labels: Vec<PathBuf>,
    /// Fail when more than this share of the labels is of no use: an empty text or history, a text too long.
    #[arg(long, value_name = "SHARE", default_value = "5%", value_parser = share)]
    pub(crate) bad_labels_max: f64,
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
    /// Stop after so many checks without a better dev loss: 5 with labels; without, all steps are taken.
    #[arg(long)]
    pub(crate) patience: Option<usize>,
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
    /// Seed for factors, weights, corpora and order.
    #[arg(long, default_value_t = 42)]
    pub(crate) seed: u64,
    /// Go on where an earlier run was stopped.
    #[arg(long)]
    pub(crate) resume: bool,
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TrainSpeed {
    /// Width of the model, a multiple of 32.
    #[arg(long, default_value_t = 192)]
    pub(crate) width: usize,
    /// Layers on each side.
    #[arg(long, default_value_t = 3)]
    pub(crate) layers: usize,
    #[arg(long, default_value_t = 8_000, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(16..=1_000_000))]
    pub(crate) vocabulary: usize,
    /// Examples of a step.
    #[arg(long, default_value_t = 16)]
    pub(crate) batch: usize,
    /// Tokens that the encoder reads of each.
    #[arg(long, default_value_t = 160)]
    pub(crate) source: usize,
    /// Tokens that the decoder writes of each.
    #[arg(long, default_value_t = 48)]
    pub(crate) target: usize,
    /// Steps before those that count.
    #[arg(long, default_value_t = 3)]
    pub(crate) warm_up: usize,
    #[arg(long, default_value_t = 20, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub(crate) steps: usize,
    #[arg(long, default_value_t = 0.1)]
    pub(crate) dropout: f32,
    #[arg(long, default_value_t = 0.1)]
    pub(crate) smoothing: f64,
    #[arg(long, default_value_t = 1e-3)]
    pub(crate) learning_rate: f64,
    #[command(flatten)]
    pub(crate) compute: Compute,
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    /// Seed for weights and examples.
    #[arg(long, default_value_t = 42)]
    pub(crate) seed: u64,
    /// Write the first weights as a Hugging Face directory, for a peer to begin with.
    #[arg(long, value_name = "DIR")]
    pub(crate) export: Option<PathBuf>,
    /// One JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
}
