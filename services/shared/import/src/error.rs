//! What can go wrong with an import as a whole; faults of single rows are counted in the report.

use std::path::{Path, PathBuf};

use crate::report::Notes;

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("{} exists; name a new directory", path.display())]
    Exists { path: PathBuf },
    #[error("{}: none of {} is there", dir.display(), looked_for.join(", "))]
    Absent { dir: PathBuf, looked_for: Vec<String> },
    #[error("{}: there is no column {column:?}; there are {}", file.display(), list(present))]
    Column {
        file: PathBuf,
        column: String,
        present: Vec<String>,
    },
    #[error("{}: {reason}", file.display())]
    Malformed { file: PathBuf, reason: String },
    #[error(
        "{bad} of {read} {what} are bad, more than the share {share_max} of --bad-rows-max; nothing was written. \
         The first:\n  {}", first.join("\n  ")
    )]
    TooManyBad {
        what: &'static str,
        bad: usize,
        read: usize,
        share_max: f64,
        first: Vec<String>,
    },
    #[error("{}: holds no interaction that can be used", file.display())]
    Nothing { file: PathBuf },
    #[error("{field}: {reason}")]
    Invalid { field: &'static str, reason: String },
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Read {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Write {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn malformed(file: &Path, reason: impl Into<String>) -> Self {
        Self::Malformed {
            file: file.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn too_many(
        what: &'static str,
        read: usize,
        bad: usize,
        share_max: f64,
        notes: &[&Notes],
    ) -> Self {
        Self::TooManyBad {
            what,
            bad,
            read,
            share_max,
            first: notes.iter().flat_map(|n| n.examples.clone()).collect(),
        }
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.join(", ")
}
