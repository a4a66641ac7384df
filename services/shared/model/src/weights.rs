//! Strict loading: every tensor of the model is in the checkpoint, with its shape, and nothing else is.
//!
//! Headers are read first and compared with the manifest of the architecture; only then is data read, one tensor at a
//! time (`weights/numbers.rs`), so that a wrong directory is refused at once and peak memory is the model plus one tensor.
//! [`crate::quantised`] describes how weights of one byte are stored.

mod numbers;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use candle_core::DType;
use safetensors::tensor::Metadata;
use serde::Deserialize;

use crate::error::Error;
use crate::quantised::{GROUP, SCALE, SHARE};

pub use numbers::Rows;

/// One tensor that an architecture has: name, shape, and how it begins when nothing has been learnt.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) start: Start,
}

/// Initial values, as the reference draws them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    Constant(f64),
    Normal {
        std: f64,
    },
    /// Normal, with one row (padding) at zero.
    Embedding {
        std: f64,
        zero: Option<u32>,
    },
}

impl Entry {
    pub(crate) fn new(name: impl Into<String>, shape: &[usize], start: Start) -> Self {
        Self {
            name: name.into(),
            shape: shape.to_vec(),
            start,
        }
    }

    pub(crate) fn parameters(&self) -> u64 {
        self.shape.iter().map(|n| *n as u64).product()
    }
}

/// Where a tensor lies.
#[derive(Clone, Debug)]
struct Place {
    file: usize,
    numbers: Numbers,
    shape: Vec<usize>,
    /// Bytes from the start of the file.
    begin: u64,
    end: u64,
}

#[derive(Clone, Debug)]
enum Numbers {
    Floats(DType),
    /// Signed bytes; of each row, what one of them is worth.
    Bytes {
        scales: Box<Place>,
    },
    /// Two numbers a byte; what a group's are worth in its row's scale.
    Nibbles {
        shares: Box<Place>,
        scales: Box<Place>,
    },
    /// Signed bytes, or two numbers a byte, whose scales have not been found yet.
    Unscaled {
        nibbles: bool,
    },
}

/// The headers of a checkpoint: one file, or shards with their index.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    files: Vec<PathBuf>,
    /// What an error about names refers to: the file, or the index.
    source: PathBuf,
    places: BTreeMap<String, Place>,
}

/// Header bytes beyond which a file is taken for something else.
const HEADER_BYTES_MAX: u64 = 100_000_000;

impl Checkpoint {
    /// Reads the headers. `canonical` maps a name as stored to the name of the manifest.
    pub(crate) fn open(dir: &Path, canonical: impl Fn(&str) -> String) -> Result<Self, Error> {
        let single = dir.join("model.safetensors");
        let index = dir.join("model.safetensors.index.json");
        let mut checkpoint = Self {
            files: Vec::new(),
            source: single.clone(),
            places: BTreeMap::new(),
        };
        if single.exists() || !index.exists() {
            checkpoint.add(single, None, &canonical)?;
            checkpoint.join_scales()?;
            return Ok(checkpoint);
        }
        let wanted = read_index(&index)?;
        let mut by_file: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (tensor, file) in &wanted {
            by_file.entry(file).or_default().insert(tensor);
        }
        checkpoint.source = index.clone();
        for (file, tensors) in by_file {
            // A shard lies beside its index; anything else is not ours to open.
            if Path::new(file).file_name().is_none_or(|name| name != file) {
                return Err(Error::Corrupt {
                    file: index,
                    reason: format!("shard name {file:?} is not a plain file name"),
                });
            }
            checkpoint.add(dir.join(file), Some(&tensors), &canonical)?;
        }
        checkpoint.join_scales()?;
        Ok(checkpoint)
    }

    fn add(
        &mut self,
        file: PathBuf,
        wanted: Option<&BTreeSet<&str>>,
        canonical: &impl Fn(&str) -> String,
    ) -> Result<(), Error> {
        let (metadata, data_begin) = read_header(&file)?;
        let corrupt = |reason: String| Error::Corrupt {
            file: file.clone(),
            reason,
        };
        let tensors = metadata.tensors();
        if let Some(missing) = wanted.and_then(|w| w.iter().find(|name| !tensors.contains_key(**name))) {
            return Err(corrupt(format!(
                "its index says that it holds {missing}, and it does not"
            )));
        }
        for (name, info) in tensors {
            let mut shape = info.shape.clone();
            let numbers = match (info.dtype, shape.as_mut_slice()) {
                (safetensors::Dtype::I8, _) => Numbers::Unscaled { nibbles: false },
                (safetensors::Dtype::U8, [_, width]) => {
                    *width *= 2;
                    Numbers::Unscaled { nibbles: true }
                }
                (dtype, _) => {
                    let float = DType::try_from(dtype).ok().filter(|d| d.is_float());
                    Numbers::Floats(float.ok_or_else(|| {
                        corrupt(format!(
                            "tensor {name} has type {dtype:?}; only floating point is supported, and I8 and U8 with scales"
                        ))
                    })?)
                }
            };
            let place = Place {
                file: self.files.len(),
                numbers,
                shape,
                begin: data_begin + info.data_offsets.0 as u64,
                end: data_begin + info.data_offsets.1 as u64,
            };
            // Scales and shares of a tensor are named after it.
            let (base, suffix) = [SCALE, SHARE]
                .into_iter()
                .find_map(|end| name.strip_suffix(end).map(|base| (base, end)))
                .unwrap_or((name.as_str(), ""));
            if self.places.insert(canonical(base) + suffix, place).is_some() {
                return Err(corrupt(format!("tensor {name} occurs twice")));
            }
        }
        self.files.push(file);
        Ok(())
    }

    /// Puts the scales of each quantised tensor beside it, and the shares.
    fn join_scales(&mut self) -> Result<(), Error> {
        let names: Vec<(String, bool)> = self
            .places
            .iter()
            .filter_map(|(name, p)| match p.numbers {
                Numbers::Unscaled { nibbles } if !name.ends_with(SHARE) => Some((name.clone(), nibbles)),
                _ => None,
            })
            .collect();
        for (name, nibbles) in names {
            let scales = self.places.remove(&format!("{name}{SCALE}"));
            let shares = self.places.remove(&format!("{name}{SHARE}"));
            let Some(place) = self.places.get_mut(&name) else {
                continue;
            };
            let (rows, width) = match place.shape.as_slice() {
                [rows, width] => (*rows, *width),
                _ => (0, 0),
            };
            let scales = scales.filter(|s| {
                let count = s.shape.iter().product::<usize>();
                matches!(s.numbers, Numbers::Floats(DType::F32)) && rows > 0 && count == rows
            });
            let shares = shares.filter(|s| {
                matches!(s.numbers, Numbers::Unscaled { nibbles: false })
                    && s.shape == [rows, width.div_ceil(GROUP)]
            });
            place.numbers = match (nibbles, scales.map(Box::new), shares.map(Box::new)) {
                (false, Some(scales), None) => Numbers::Bytes { scales },
                (true, Some(scales), Some(shares)) => Numbers::Nibbles { shares, scales },
                _ => {
                    let reason = if nibbles {
                        format!(
                            "tensor {name} has type U8; only floating point is supported, unless there are {name}{SCALE} with an \
                             F32 for each of its {rows} rows and {name}{SHARE} with an I8 for each {GROUP} of its {width} columns"
                        )
                    } else {
                        format!(
                            "tensor {name} is of bytes, and there is no {name}{SCALE} with an F32 for each of its {rows} rows"
                        )
                    };
                    return Err(Error::Corrupt {
                        file: self.files[place.file].clone(),
                        reason,
                    });
                }
            };
        }
        Ok(())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.places.get(name).map(|p| p.shape.as_slice())
    }

    /// Gives a tensor another name: a tied tensor of which only an alias was stored.
    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        if let Some(place) = self.places.remove(from) {
            self.places.insert(to.to_owned(), place);
        }
    }

    /// Forgets a tensor that is known to be harmless.
    pub(crate) fn ignore(&mut self, name: &str) {
        self.places.remove(name);
    }

    /// Checks that `alias`, where it is stored, holds the same numbers as `of`, and forgets it.
    pub(crate) fn drop_alias(&mut self, alias: &str, of: &str) -> Result<(), Error> {
        if self.has(alias) && self.has(of) {
            if !self.is_same(alias, of)? {
                let reason = format!("{alias} should repeat {of}, but holds other numbers");
                return Err(Error::Corrupt {
                    file: self.files[self.places[alias].file].clone(),
                    reason,
                });
            }
            self.ignore(alias);
        }
        Ok(())
    }

    pub(crate) fn is_same(&self, a: &str, b: &str) -> Result<bool, Error> {
        let (a, b) = (&self.places[a], &self.places[b]);
        let scales = match (&a.numbers, &b.numbers) {
            (Numbers::Floats(a), Numbers::Floats(b)) => a == b,
            (Numbers::Bytes { scales: a }, Numbers::Bytes { scales: b }) => {
                self.bytes(a)? == self.bytes(b)?
            }
            (Numbers::Nibbles { scales: a, shares: c }, Numbers::Nibbles { scales: b, shares: d }) => {
                self.bytes(a)? == self.bytes(b)? && self.bytes(c)? == self.bytes(d)?
            }
            _ => false,
        };
        Ok(scales && a.shape == b.shape && self.bytes(a)? == self.bytes(b)?)
    }

    /// Whether any tensor is held in bytes or in four bits.
    pub(crate) fn is_quantised(&self) -> bool {
        self.places
            .values()
            .any(|p| !matches!(p.numbers, Numbers::Floats(_)))
    }

    /// Whether any tensor is held in four bits.
    pub(crate) fn has_nibbles(&self) -> bool {
        self.places
            .values()
            .any(|p| matches!(p.numbers, Numbers::Nibbles { .. }))
    }

    /// Whether this tensor is held in bytes; four bits are none.
    pub(crate) fn is_bytes(&self, name: &str) -> bool {
        let place = self.places.get(name);
        place.is_some_and(|p| matches!(p.numbers, Numbers::Bytes { .. }))
    }

    /// Names, shapes and stored types of all tensors, in the order of names; `None` stands for what is quantised.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (&str, &[usize], Option<DType>)> {
        self.places.iter().map(|(name, place)| {
            let dtype = match &place.numbers {
                Numbers::Floats(dtype) => Some(*dtype),
                Numbers::Bytes { .. } | Numbers::Nibbles { .. } | Numbers::Unscaled { .. } => None,
            };
            (name.as_str(), place.shape.as_slice(), dtype)
        })
    }

    /// Compares names and shapes with the manifest.
    pub(crate) fn check(&self, manifest: &[Entry]) -> Result<(), Error> {
        let known: BTreeSet<&str> = manifest.iter().map(|e| e.name.as_str()).collect();
        let unexpected: Vec<String> = self
            .places
            .keys()
            .filter(|n| !known.contains(n.as_str()))
            .cloned()
            .collect();
        let (mut missing, mut misshaped) = (Vec::new(), Vec::new());
        for entry in manifest {
            match self.places.get(&entry.name) {
                None => missing.push(entry.name.clone()),
                Some(place) if place.shape != entry.shape => {
                    misshaped.push(format!(
                        "{} is {:?}, not {:?}",
                        entry.name, place.shape, entry.shape
                    ));
                }
                Some(_) => {}
            }
        }
        if missing.is_empty() && unexpected.is_empty() && misshaped.is_empty() {
            return Ok(());
        }
        Err(Error::Tensors {
            file: self.source.clone(),
            missing,
            unexpected,
            misshaped,
        })
    }
}

fn read_index(index: &Path) -> Result<BTreeMap<String, String>, Error> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = std::fs::read_to_string(index).map_err(|source| Error::Read {
        file: index.to_owned(),
        source,
    })?;
    let parsed: Index = serde_json::from_str(&text).map_err(|e| Error::Corrupt {
        file: index.to_owned(),
        reason: format!("no shard index: {e}"),
    })?;
    Ok(parsed.weight_map)
}

/// The header of a safetensors file and where its data begins; the file is exactly as long as the header says.
fn read_header(file: &Path) -> Result<(Metadata, u64), Error> {
    let failed = |source| Error::Read {
        file: file.to_owned(),
        source,
    };
    let corrupt = |reason: String| Error::Corrupt {
        file: file.to_owned(),
        reason,
    };
    let mut reader = File::open(file).map_err(failed)?;
    let length = reader.metadata().map_err(failed)?.len();
    if length < 8 {
        return Err(corrupt(format!("{length} bytes are too few for a header")));
    }
    let mut size = [0; 8];
    reader.read_exact(&mut size).map_err(failed)?;
    let header_bytes = u64::from_le_bytes(size);
    if header_bytes > HEADER_BYTES_MAX || header_bytes > length - 8 {
        return Err(corrupt(format!(
            "a header of {header_bytes} bytes does not fit a file of {length}"
        )));
    }
    let mut header = vec![0; header_bytes as usize];
    reader.read_exact(&mut header).map_err(failed)?;
    let metadata: Metadata =
        serde_json::from_slice(&header).map_err(|e| corrupt(format!("unreadable header: {e}")))?;
    let data_begin = 8 + header_bytes;
    let expected = data_begin + metadata.data_len() as u64;
    if expected != length {
        return Err(corrupt(format!(
            "it has {length} bytes, but its header speaks of {expected}"
        )));
    }
    Ok((metadata, data_begin))
}
