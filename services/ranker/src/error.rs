//! What can go wrong with a data set or a ranker's model, in words that say which file to open and where to look.

use std::path::{Path, PathBuf};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of this crate outside a request. Inside one, stations speak `refract_domain::Error`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {}: {source}", .path.display())]
    Read { path: PathBuf, source: std::io::Error },

    #[error("cannot write {}: {source}", .path.display())]
    Write { path: PathBuf, source: std::io::Error },

    /// One place of one data file. Lines and columns count from 1; a CSV column is the number of the field in its row,
    /// a JSON or TOML column a byte of its line.
    #[error("{}:{line}:{column}: {field}: {reason}", .file.display())]
    Malformed {
        file: PathBuf,
        line: u64,
        column: u64,
        field: String,
        reason: String,
    },

    /// More interaction rows were bad than [`crate::dataset::LoadOptions::bad_rows_share_max`] lets pass.
    #[error(
        "{bad} of {rows} rows are bad, more than the share {share_max} that may be skipped; the first: {first}"
    )]
    TooManyBadRows {
        bad: u64,
        rows: u64,
        share_max: f64,
        first: Box<Error>,
    },

    #[error("the data set has no {what}: {reason}")]
    Lacking {
        what: &'static str,
        reason: &'static str,
    },

    /// A value of a hyper-parameter or option that cannot work.
    #[error("invalid {field}: {reason}")]
    Invalid { field: &'static str, reason: String },

    /// A ranker's model that is incomplete, altered or of another schema.
    #[error("model {}: {part}: {reason}", .file.display())]
    Model {
        file: PathBuf,
        part: String,
        reason: String,
    },
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
