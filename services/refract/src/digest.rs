//! Digests: whether what something was made of is still what it was.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

/// Files of a model's directory that are read whole: what its weights mean.
const MODEL_FILES: [&str; 4] = [
    "bundle.toml",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
];
/// Files of a data set.
const DATA_FILES: [&str; 6] = [
    "dataset.toml",
    "items.jsonl",
    "interactions.csv",
    "users.jsonl",
    "splits.toml",
    "splits.csv",
];

/// Sixteen hex digits for these parts, in this order; where one ends is part of it.
pub(crate) fn of(parts: impl IntoIterator<Item = impl AsRef<[u8]>>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.as_ref().len() as u64).to_le_bytes());
        hash.update(part);
    }
    short(hash)
}

/// Of a file's content.
pub(crate) fn of_file(file: &Path) -> Result<String> {
    let reading = || format!("reading {}", file.display());
    let mut open = File::open(file).with_context(reading)?;
    let (mut hash, mut block) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match open.read(&mut block).with_context(reading)? {
            0 => return Ok(short(hash)),
            read => hash.update(&block[..read]),
        }
    }
}

/// Of a model's directory, be it a bundle or not; of large weights a sample.
pub(crate) fn of_model(dir: &Path) -> Result<String> {
    let weights = refract_bundle::manifest::sampled_revision(dir)?;
    Ok(of([of_those(dir, &MODEL_FILES)?, weights]))
}

/// Of a data set's directory.
pub(crate) fn of_data(dir: &Path) -> Result<String> {
    of_those(dir, &DATA_FILES)
}

/// A file that is not there is told from an empty one.
fn of_those(dir: &Path, names: &[&str]) -> Result<String> {
    let mut parts = Vec::new();
    for name in names {
        let file = dir.join(name);
        match file.metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => parts.push(String::new()),
            _ => parts.push(of_file(&file)?),
        }
    }
    Ok(of(parts))
}

fn short(hash: Sha256) -> String {
    hash.finalize()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
