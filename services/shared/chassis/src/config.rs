//! From plain `Config` structs to a running configuration: file, then environment, then flags.
//!
//! ```text
//!  refract.toml            [oracle.queue]  sequences_max = 64
//!  environment             REFRACT_ORACLE__QUEUE__SEQUENCES_MAX=64
//!  flag                    --set oracle.queue.sequences_max=64
//! ```
//!
//! Later sources win, key by key. Keys that no struct knows are refused with the nearest known one, whether or not the
//! struct denies them itself. Values from the environment and from flags are text and are read as the type that the
//! struct wants; lists are written `a,b,c` or as TOML. Durations are written `250ms`: put
//! `#[serde(with = "humantime_serde")]` on the field.
//!
//! An environment variable without a section (no `__`) that names no key is left alone: orchestrators put their own
//! variables beside ours (`REFRACT_ORACLE_SERVICE_HOST`).

mod de;
mod node;
mod render;

use std::fmt;
use std::path::{Path, PathBuf};

use refract_resilience::Unfit;
use serde::de::DeserializeOwned;

pub use render::render;

use node::{Node, Origin};

/// What a process exits with when its configuration is bad (`EX_USAGE`).
pub const EXIT_BAD_CONFIG: u8 = 64;

/// What environment variables of ours begin with.
pub const ENV_PREFIX: &str = "REFRACT_";

/// Names the file, the key and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the configuration file {path}: {source}")]
    File { path: PathBuf, source: std::io::Error },

    #[error("{path} is not TOML: {reason}")]
    Syntax { path: PathBuf, reason: String },

    #[error("{key}: {reason} ({origin})")]
    Key {
        key: String,
        reason: String,
        origin: String,
    },

    #[error("the override {text:?} is not key=value")]
    Override { text: String },

    /// Each value is sound, but they do not fit together.
    #[error("{0}")]
    Unfit(#[from] Unfit),

    #[error("the configuration cannot be written as TOML: {reason}")]
    Render { reason: String },
}

/// Where values come from, weakest first: file, environment, overrides.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    file: Option<PathBuf>,
    environment: Vec<(String, String)>,
    overrides: Vec<String>,
}

impl Sources {
    /// Nothing but the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads this TOML file. It must exist.
    #[must_use]
    pub fn file(mut self, path: impl AsRef<Path>) -> Self {
        self.file = Some(path.as_ref().to_owned());
        self
    }

    /// Takes this process's environment. Variables that are not text cannot be ours.
    #[must_use]
    pub fn process_environment(self) -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        self.environment(std::env::vars_os().filter_map(text))
    }

    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.environment.extend(
            variables
                .into_iter()
                .filter(|(name, _)| name.starts_with(ENV_PREFIX)),
        );
        // The order of an environment means nothing; errors should still be the same each time.
        self.environment.sort();
        self
    }

    /// Adds flags, each `section.key=value`.
    #[must_use]
    pub fn overrides(mut self, overrides: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.overrides.extend(overrides.into_iter().map(Into::into));
        self
    }
}

/// Loads a configuration. `C` should be `#[serde(default)]` as far as it has sensible defaults.
pub fn load<C: DeserializeOwned>(sources: &Sources) -> Result<C, Error> {
    let root = gather(sources)?;
    de::read(root).map_err(|fault| Error::Key {
        key: fault.key(),
        reason: fault.reason,
        origin: fault
            .origin
            .map_or_else(|| "nowhere set".to_owned(), |origin| origin.to_string()),
    })
}

/// Loads a configuration and checks how its limits fit together, before anything binds.
pub fn load_checked<C: DeserializeOwned>(
    sources: &Sources,
    check: impl FnOnce(&C) -> Result<(), Unfit>,
) -> Result<C, Error> {
    let config = load(sources)?;
    check(&config)?;
    Ok(config)
}

/// The exit code for an error that reached `main`: 64 when a bad configuration is anywhere in its chain, else 1.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    let bad = error
        .chain()
        .any(|cause| cause.is::<Error>() || cause.is::<Unfit>());
    if bad { EXIT_BAD_CONFIG } else { 1 }
}

fn gather(sources: &Sources) -> Result<Node, Error> {
    let mut root = Node::table();
    if let Some(path) = &sources.file {
        let text = std::fs::read_to_string(path).map_err(|source| Error::File {
            path: path.clone(),
            source,
        })?;
        root = node::parse_file(path, &text)?;
    }
    for (name, value) in &sources.environment {
        let origin = Origin::Environment(name.clone());
        // REFRACT_SECTION__KEY: two underscores go a section down, one belongs to the name.
        let keys: Vec<_> = name[ENV_PREFIX.len()..]
            .split("__")
            .map(str::to_ascii_lowercase)
            .collect();
        root.set(&keys, value, &origin)?;
    }
    for text in &sources.overrides {
        let split = text.split_once('=').filter(|(key, _)| !key.trim().is_empty());
        let (key, value) = split.ok_or_else(|| Error::Override { text: text.clone() })?;
        let keys: Vec<_> = key.trim().split('.').map(str::to_owned).collect();
        root.set(&keys, value, &Origin::Override(key.trim().to_owned()))?;
    }
    Ok(root)
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "in {}, line {line}", path.display()),
            Self::Environment(name) => write!(f, "from the environment variable {name}"),
            Self::Override(key) => write!(f, "from the override {key}=…"),
        }
    }
}

#[cfg(test)]
mod tests;
