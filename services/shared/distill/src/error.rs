//! Why a run of labelling cannot begin or go on.

use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("another process is writing {}", path.display())]
    Busy { path: PathBuf },
    /// What stands there was not written by a run of labelling that could go on.
    #[error(
        "{} is there and {} is not: it is not the file of a run that can go on; name another file, or move this one away",
        path.display(), lacks.display()
    )]
    Foreign { path: PathBuf, lacks: PathBuf },
    #[error("{}:{line}: {reason}", path.display())]
    Malformed {
        path: PathBuf,
        line: usize,
        reason: String,
    },
    #[error(
        "{} was begun with another {what} ({was}, now {is}); name another file, or the same {what}",
        path.display()
    )]
    OtherRun {
        path: PathBuf,
        what: &'static str,
        was: String,
        is: String,
    },
    #[error("the teacher will not answer: {reason}")]
    Hopeless { reason: String },
    #[error(
        "{failures} pairs in a row failed, the last because {last}; what was labelled is kept, run again to go on"
    )]
    Failing { failures: usize, last: String },
    #[error("{field}: {reason}")]
    Invalid { field: &'static str, reason: String },
}

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
}
