//! What `refract import` can be told.

use std::path::PathBuf;

use clap::{Args, Subcommand};

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
    /// Seed for the split.
    #[arg(long, default_value_t = 42)]
    pub(crate) seed: u64,
}

/// `1%` or `0.01`.
pub(super) fn share(text: &str) -> Result<f64, String> {
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
