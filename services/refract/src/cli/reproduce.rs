//! What `refract reproduce` can be told.

use std::path::PathBuf;

use clap::Args;

use super::DataArgs;
use super::import::share;

#[derive(Debug, Args)]
pub(crate) struct Reproduce {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Directory for labels, students, results and the page. What an earlier run finished there is kept.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// A size that runs in minutes and shows that everything works, not how well.
    #[arg(long)]
    pub(crate) quick: bool,
    /// The teacher: an Oracle bundle or a plain Hugging Face T5 directory (FLAN-T5, as published). Without any teacher, the
    /// shipped Oracle.
    #[arg(long, value_name = "DIR", group = "teacher")]
    pub(crate) oracle: Option<PathBuf>,
    /// The teacher: an endpoint with `/chat/completions`. Its speed is not measured: it runs elsewhere.
    #[arg(long, value_name = "URL", group = "teacher", requires = "model")]
    pub(crate) endpoint: Option<String>,
    /// The endpoint's name for the model.
    #[arg(long, value_name = "NAME", requires = "endpoint")]
    pub(crate) model: Option<String>,
    /// File with the endpoint's credential.
    #[arg(long, value_name = "FILE", requires = "endpoint")]
    pub(crate) credential_file: Option<PathBuf>,
    /// A Hugging Face BART directory to fine-tune (BART-Base, as published); without it students begin from nothing.
    #[arg(long, value_name = "DIR")]
    pub(crate) from: Option<PathBuf>,
    /// Pairs to label, over train, dev and test: 8000, with --quick 400.
    #[arg(long)]
    pub(crate) pairs: Option<usize>,
    /// Width of students from scratch, a multiple of 32: 128, with --quick 64.
    #[arg(long)]
    pub(crate) width: Option<usize>,
    /// Layers on each side of students from scratch: 2, with --quick 1.
    #[arg(long)]
    pub(crate) layers: Option<usize>,
    /// Optimiser steps of each student at most; by default 25 epochs, with --quick 60 steps.
    #[arg(long)]
    pub(crate) steps: Option<usize>,
    /// Stop each student's training after this long, at the next checkpoint.
    #[arg(long, value_name = "DURATION")]
    pub(crate) train_time_max: Option<humantime::Duration>,
    /// Share of labels that are spoilt (a sentence of another pair's label is put in) for the test of the noise filter; 0 leaves it out.
    #[arg(long, value_name = "SHARE", default_value = "20%", value_parser = share)]
    pub(crate) noise: f64,
    /// Threads of training and of the engines; every model has as many.
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    /// Seed for sampling, spoilt labels, weights and what is drawn to judge.
    #[arg(long, default_value_t = 42)]
    pub(crate) seed: u64,
    /// All rows of results as lines of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
