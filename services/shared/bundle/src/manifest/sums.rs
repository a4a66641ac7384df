//! What names the content of a bundle's files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::MANIFEST_FILE;
use crate::error::Error;

/// The flat files of a directory, but for the manifest and hidden ones, in order.
pub(super) fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let io = |source| Error::Io {
        path: dir.to_owned(),
        source,
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_file() && name != MANIFEST_FILE && !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

pub(super) fn is_weights(name: &str) -> bool {
    name.ends_with(".safetensors")
}

pub(super) fn revision_of(files: &BTreeMap<String, String>) -> String {
    let mut hash = Sha256::new();
    for (name, sum) in files.iter().filter(|(name, _)| is_weights(name)) {
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update(sum.to_ascii_lowercase().as_bytes());
    }
    hex::encode(hash.finalize())[..16].to_owned()
}

/// Bytes at each end of a weight file that a sampled revision reads.
const SAMPLE_BYTES: u64 = 1 << 20;

/// A revision for weights that nobody has summed: over each weight file's name, length, first and last MiB. Reading the 45 GB of
/// a large model at every start would be worse; write a `bundle.toml` for the full sum.
pub(super) fn sampled_revision(dir: &Path) -> Result<String, Error> {
    let mut hash = Sha256::new();
    for name in names(dir)?.into_iter().filter(|name| is_weights(name)) {
        let path = dir.join(&name);
        let io = |source| Error::Io {
            path: path.clone(),
            source,
        };
        let mut file = File::open(&path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        hash.update(name.as_bytes());
        hash.update(length.to_le_bytes());
        for start in [0, length.saturating_sub(SAMPLE_BYTES)] {
            file.seek(SeekFrom::Start(start)).map_err(io)?;
            let mut sample = Vec::new();
            (&mut file)
                .take(SAMPLE_BYTES)
                .read_to_end(&mut sample)
                .map_err(io)?;
            hash.update(&sample);
        }
    }
    Ok(format!("sampled-{}", &hex::encode(hash.finalize())[..16]))
}

/// SHA-256 of a file in hex, a block at a time.
pub(super) fn sha256(path: &Path) -> Result<String, Error> {
    let io = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(io)?;
    let mut hash = Sha256::new();
    let mut block = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut block).map_err(io)?;
        if read == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&block[..read]);
    }
}
