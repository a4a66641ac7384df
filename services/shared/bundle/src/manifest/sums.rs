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
const ENDS_BYTES: u64 = 1 << 20;
/// Bytes that it reads at the beginning, in the middle and at the end of every tensor.
const TENSOR_BYTES: u64 = 4 << 10;
/// Header bytes beyond which a file is not taken for safetensors.
const HEADER_BYTES_MAX: u64 = 100_000_000;

/// A revision for weights that nobody has summed: over each weight file's name, length, first and last MiB, and a few KiB of every
/// tensor, since a fine-tuning may leave both ends of a file as they were. Reading the 45 GB of a large model at every start would
/// be worse; write a `bundle.toml` for the full sum.
pub fn sampled_revision(dir: &Path) -> Result<String, Error> {
    let mut hash = Sha256::new();
    for name in names(dir)?.into_iter().filter(|name| is_weights(name)) {
        let path = dir.join(&name);
        hash.update(name.as_bytes());
        sample(&path, &mut hash).map_err(|source| Error::Io { path, source })?;
    }
    Ok(format!("sampled-{}", &hex::encode(hash.finalize())[..16]))
}

fn sample(path: &Path, hash: &mut Sha256) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    hash.update(length.to_le_bytes());
    let mut take = |file: &mut File, start: u64, bytes: u64| {
        file.seek(SeekFrom::Start(start))?;
        let mut sample = Vec::new();
        file.take(bytes).read_to_end(&mut sample)?;
        hash.update(&sample);
        std::io::Result::Ok(())
    };
    for start in [0, length.saturating_sub(ENDS_BYTES)] {
        take(&mut file, start, ENDS_BYTES)?;
    }
    for (begin, end) in tensors(&mut file, length)? {
        let last = end.saturating_sub(TENSOR_BYTES).max(begin);
        for start in [begin, begin + (last - begin) / 2, last] {
            take(&mut file, start, TENSOR_BYTES.min(end - begin))?;
        }
    }
    Ok(())
}

/// Where the tensors of a safetensors file lie, in their order. A file that is none has no such places: its loading says what is
/// wrong with it.
fn tensors(file: &mut File, length: u64) -> std::io::Result<Vec<(u64, u64)>> {
    let mut size = [0; 8];
    file.seek(SeekFrom::Start(0))?;
    if file.read_exact(&mut size).is_err() {
        return Ok(Vec::new());
    }
    let size = u64::from_le_bytes(size);
    if size > HEADER_BYTES_MAX || size > length - 8 {
        return Ok(Vec::new());
    }
    let mut header = Vec::new();
    file.take(size).read_to_end(&mut header)?;
    let Ok(header) = serde_json::from_slice::<BTreeMap<String, serde_json::Value>>(&header) else {
        return Ok(Vec::new());
    };
    let data = 8 + size;
    let mut places: Vec<(u64, u64)> = header
        .values()
        .filter_map(|tensor| {
            let offsets = tensor.get("data_offsets")?;
            let at = |n: usize| offsets.get(n)?.as_u64()?.checked_add(data);
            Some((at(0)?, at(1)?))
        })
        .filter(|(begin, end)| begin <= end && *end <= length)
        .collect();
    places.sort_unstable();
    Ok(places)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Three tensors, of which only the one in the middle lies beyond both ends' samples.
    fn write(dir: &Path, value: u8, at: usize) -> String {
        const PART: usize = 3 << 20;
        let header = format!(
            "{{\"a\":{{\"dtype\":\"U8\",\"shape\":[{PART}],\"data_offsets\":[0,{PART}]}},\
             \"b\":{{\"dtype\":\"U8\",\"shape\":[{PART}],\"data_offsets\":[{PART},{}]}},\
             \"c\":{{\"dtype\":\"U8\",\"shape\":[{PART}],\"data_offsets\":[{},{}]}}}}",
            2 * PART,
            2 * PART,
            3 * PART
        );
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        let data = bytes.len();
        bytes.resize(data + 3 * PART, 7);
        bytes[data + PART + at..][..1024].fill(value);
        std::fs::write(dir.join("model.safetensors"), bytes).unwrap();
        sampled_revision(dir).unwrap()
    }

    #[test]
    fn a_sampled_revision_changes_with_a_tensor_in_the_middle_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let whole = write(dir.path(), 7, 0);
        assert_eq!(whole, write(dir.path(), 7, 0));
        for at in [0, (3 << 19) - 512, (3 << 20) - 1024] {
            assert_ne!(whole, write(dir.path(), 9, at), "{at}");
        }
    }

    #[test]
    fn a_file_that_is_no_safetensors_has_a_sampled_revision_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let mut all = BTreeMap::new();
        for bytes in [
            &b""[..],
            b"short",
            &[255; 64],
            b"\x02\0\0\0\0\0\0\0{}",
            b"\x02\0\0\0\0\0\0\0??",
        ] {
            std::fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
            all.insert(sampled_revision(dir.path()).unwrap(), bytes);
        }
        assert_eq!(all.len(), 5);
    }
}
