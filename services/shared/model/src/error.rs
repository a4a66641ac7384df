//! What can go wrong with a model, each something that a person can act on.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {}: {source}", file.display())]
    Read { file: PathBuf, source: std::io::Error },

    #[error("cannot write {}: {source}", file.display())]
    Write { file: PathBuf, source: std::io::Error },

    #[error("{}: {field}: {reason}", file.display())]
    Config {
        file: PathBuf,
        field: String,
        reason: String,
    },

    /// Neither a T5 nor a BART.
    #[error("{}: model_type {model_type:?} is not supported (supported: t5, mt5, bart)", file.display())]
    Architecture { file: PathBuf, model_type: String },

    /// The numbers of this architecture do not survive this precision.
    #[error("{architecture} cannot run in {dtype}: {reason}")]
    Precision {
        architecture: &'static str,
        dtype: &'static str,
        reason: &'static str,
    },

    /// The file is no readable safetensors file: truncated, overwritten, or of another format.
    #[error("{} is corrupt: {reason}", file.display())]
    Corrupt { file: PathBuf, reason: String },

    /// The names or shapes in the checkpoint are not those of the model that `config.json` describes.
    #[error("{} does not hold the model of its config.json: {}", file.display(), describe(missing, unexpected, misshaped))]
    Tensors {
        file: PathBuf,
        missing: Vec<String>,
        unexpected: Vec<String>,
        misshaped: Vec<String>,
    },

    /// A call says something impossible; `field` names the argument.
    #[error("invalid {field}: {reason}")]
    Input { field: &'static str, reason: String },

    /// The numeric library refused.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    pub(crate) fn input(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Input {
            field,
            reason: reason.into(),
        }
    }
}

/// Names listed in one message; the rest is counted.
const NAMES_MAX: usize = 12;

fn describe(missing: &[String], unexpected: &[String], misshaped: &[String]) -> String {
    let mut parts = Vec::new();
    for (what, names) in [
        ("missing", missing),
        ("unexpected", unexpected),
        ("wrong shape", misshaped),
    ] {
        if names.is_empty() {
            continue;
        }
        let shown = names
            .iter()
            .take(NAMES_MAX)
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        let rest = names.len().saturating_sub(NAMES_MAX);
        let rest = if rest > 0 {
            format!(" and {rest} more")
        } else {
            String::new()
        };
        parts.push(format!("{what} {}: {shown}{rest}", names.len()));
    }
    parts.join("; ")
}
