//! What can go wrong with a bundle on disk, or with a prompt made from it.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },

    /// `bundle.toml` says something impossible, or something unknown.
    #[error("{}: {reason}", path.display())]
    Manifest { path: PathBuf, reason: String },

    #[error("{} is missing: a bundle holds config.json, tokenizer.json, model.safetensors (or its shards and their index) and all that its bundle.toml lists", path.display())]
    Missing { path: PathBuf },

    #[error("{} is not the file that the bundle was made with: its SHA-256 is {found}, bundle.toml says {expected}", path.display())]
    Checksum {
        path: PathBuf,
        expected: String,
        found: String,
    },

    #[error("{}: not a usable tokenizer: {reason}", path.display())]
    Tokenizer { path: PathBuf, reason: String },

    /// Even without a history the prompt is too long for the bundle.
    #[error("the prompt needs {tokens} tokens without any history, prompt_tokens_max is {tokens_max}")]
    PromptTooLong { tokens: usize, tokens_max: usize },

    /// The title is empty, or is a link, or has no word in it.
    #[error("the item's title cannot stand in a sentence")]
    Title,

    #[error("this is a bundle for {is}, where {wanted} is needed")]
    Role {
        is: crate::manifest::Role,
        wanted: crate::manifest::Role,
    },
}
