//! What can go wrong with the memory. Callers of `consult` never see these: a broken memory is a miss.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A failure of the memory. No variant carries an address, a credential, a key or a value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("knowledge config: {field}: {reason}")]
    Config { field: &'static str, reason: String },

    #[error("knowledge config: {field}: cannot read {}: {source}", path.display())]
    File {
        field: &'static str,
        path: PathBuf,
        source: io::Error,
    },

    /// The pipeline has background tasks (writes, refreshes, reconnecting) and must be opened inside a tokio runtime.
    #[error("the knowledge pipeline must be opened inside a tokio runtime")]
    NoRuntime,

    #[error("store did not answer within {after:?}")]
    StoreTimeout { after: Duration },

    /// Not connected, or given up on after failures; it is being tried again in the background.
    #[error("store is unavailable")]
    StoreUnavailable,

    /// The store answered, with an error of this code (`OOM`, `NOPERM`, …).
    #[error("store refused the command: {code}")]
    StoreRefused { code: String },

    #[error("entry of {bytes} bytes is over the limit of {bytes_max}")]
    EntryTooLarge { bytes: usize, bytes_max: usize },
}

impl Error {
    pub(crate) fn config(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Config {
            field,
            reason: reason.into(),
        }
    }

    /// A closed list, for metric labels.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Config { .. } | Self::File { .. } | Self::NoRuntime => "config",
            Self::StoreTimeout { .. } => "timeout",
            Self::StoreUnavailable => "unavailable",
            Self::StoreRefused { .. } => "refused",
            Self::EntryTooLarge { .. } => "too_large",
        }
    }
}
