//! Strict loading: every tensor of the model is in the checkpoint, with its shape, and nothing else is.
//!
//! Headers are read first and compared with the manifest of the architecture; only then is data read, one tensor at a
//! time, so that a wrong directory is refused at once and peak memory is the model plus one tensor. [`crate::quantised`]
//! describes how weights of one byte are stored.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::Metadata;
use serde::Deserialize;

use crate::error::Error;
use crate::parallel::Stretch;
use crate::quantised::SCALE;

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
    /// Signed bytes whose scales have not been found yet.
    Unscaled,
}

/// Some rows of a tensor, in the form they are stored in; a tensor without rows is one.
#[derive(Clone, Copy, Debug)]
pub enum Rows<'a> {
    Floats(&'a [f32]),
    /// −127..=127, with the scale of each row.
    Bytes {
        bytes: &'a [i8],
        scales: &'a [f32],
    },
}

/// Bytes of one tensor that are held at a time where it is read by rows.
const CHUNK_BYTES: usize = 1 << 20;

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
            let numbers = if info.dtype == safetensors::Dtype::I8 {
                Numbers::Unscaled
            } else {
                let dtype = DType::try_from(info.dtype).ok().filter(|d| d.is_float());
                Numbers::Floats(dtype.ok_or_else(|| {
                    corrupt(format!(
                        "tensor {name} has type {:?}; only floating point is supported, and I8 with scales",
                        info.dtype
                    ))
                })?)
            };
            let place = Place {
                file: self.files.len(),
                numbers,
                shape: info.shape.clone(),
                begin: data_begin + info.data_offsets.0 as u64,
                end: data_begin + info.data_offsets.1 as u64,
            };
            // The scales of a tensor are named after it.
            let (base, suffix) = match name.strip_suffix(SCALE) {
                Some(base) => (base, SCALE),
                None => (name.as_str(), ""),
            };
            if self.places.insert(canonical(base) + suffix, place).is_some() {
                return Err(corrupt(format!("tensor {name} occurs twice")));
            }
        }
        self.files.push(file);
        Ok(())
    }

    /// Puts the scales of each tensor of bytes beside it.
    fn join_scales(&mut self) -> Result<(), Error> {
        let names: Vec<String> = self
            .places
            .iter()
            .filter(|(_, p)| matches!(p.numbers, Numbers::Unscaled))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            let scales = self.places.remove(&format!("{name}{SCALE}"));
            let Some(place) = self.places.get_mut(&name) else {
                continue;
            };
            let fits = |s: &Place| {
                matches!(s.numbers, Numbers::Floats(DType::F32))
                    && place.shape.len() == 2
                    && s.shape.first() == place.shape.first()
                    && s.shape.iter().product::<usize>() == place.shape[0]
            };
            match scales.filter(fits) {
                Some(scales) => {
                    place.numbers = Numbers::Bytes {
                        scales: Box::new(scales),
                    }
                }
                None => {
                    let rows = place.shape.first().copied().unwrap_or(0);
                    return Err(Error::Corrupt {
                        file: self.files[place.file].clone(),
                        reason: format!(
                            "tensor {name} is of bytes, and there is no {name}{SCALE} with an F32 for each of its {rows} rows"
                        ),
                    });
                }
            }
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
            _ => false,
        };
        Ok(scales && a.shape == b.shape && self.bytes(a)? == self.bytes(b)?)
    }

    /// Whether any tensor is held in bytes.
    pub(crate) fn is_quantised(&self) -> bool {
        self.places
            .values()
            .any(|p| matches!(p.numbers, Numbers::Bytes { .. }))
    }

    /// Names, shapes and stored types of all tensors, in the order of names; `None` stands for bytes with scales.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (&str, &[usize], Option<DType>)> {
        self.places.iter().map(|(name, place)| {
            let dtype = match &place.numbers {
                Numbers::Floats(dtype) => Some(*dtype),
                Numbers::Bytes { .. } | Numbers::Unscaled => None,
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

    /// Reads of each tensor the stretch that `how` names for it (all where it names none), converted to the type it names.
    pub(crate) fn load(
        &self,
        device: &Device,
        how: impl Fn(&str, &[usize]) -> (DType, Option<Stretch>),
    ) -> Result<HashMap<String, Tensor>, Error> {
        let mut in_order: Vec<(&String, &Place)> = self.places.iter().collect();
        in_order.sort_by_key(|(_, p)| (p.file, p.begin));
        let mut tensors = HashMap::with_capacity(in_order.len());
        for (name, place) in in_order {
            let (dtype, stretch) = how(name, &place.shape);
            let tensor = match stretch {
                Some(stretch) => self.stretch(name, place, &stretch)?,
                None => self.tensor(name, place)?,
            };
            tensors.insert(name.clone(), tensor.to_dtype(dtype)?.to_device(device)?);
        }
        Ok(tensors)
    }

    /// In the type it is stored in; bytes become the numbers that they mean.
    fn tensor(&self, name: &str, place: &Place) -> Result<Tensor, Error> {
        if let Numbers::Floats(dtype) = place.numbers {
            let bytes = self.bytes(place)?;
            return Ok(Tensor::from_raw_buffer(
                &bytes,
                dtype,
                &place.shape,
                &Device::Cpu,
            )?);
        }
        let mut data = Vec::with_capacity(place.shape.iter().product());
        self.rows(name, |rows| {
            rows.push_to(&mut data);
            Ok::<_, Error>(())
        })?;
        Ok(Tensor::from_vec(data, place.shape.as_slice(), &Device::Cpu)?)
    }

    /// A stretch of a matrix, in the type it is stored in; bytes become the numbers that they mean. Reads nothing else.
    fn stretch(&self, name: &str, place: &Place, stretch: &Stretch) -> Result<Tensor, Error> {
        let &[rows, width] = place.shape.as_slice() else {
            return Err(self.corrupt(place, format!("{name} is no matrix, and only one is divided")));
        };
        let (rows, columns) = match stretch.dimension {
            0 => (stretch.range.clone(), 0..width),
            _ => (0..rows, stretch.range.clone()),
        };
        let size = match &place.numbers {
            Numbers::Floats(dtype) => dtype.size_in_bytes(),
            Numbers::Bytes { .. } | Numbers::Unscaled => 1,
        };
        let shape = (rows.len(), columns.len());
        let mut bytes = vec![0; rows.len() * columns.len() * size];
        let (line, row_bytes) = (columns.len() * size, (width * size) as u64);
        let failed = |source| Error::Read {
            file: self.files[place.file].clone(),
            source,
        };
        let mut reader = self.reader(place)?;
        // Whole rows lie together and are read in one go.
        let lines = if columns.len() == width { bytes.len() } else { line };
        for (row, to) in (rows.start as u64..).zip(bytes.chunks_mut(lines.max(1))) {
            let at = place.begin + row * row_bytes + (columns.start * size) as u64;
            reader.seek(SeekFrom::Start(at)).map_err(failed)?;
            reader.read_exact(to).map_err(failed)?;
        }
        match &place.numbers {
            Numbers::Floats(dtype) => {
                let shape = [shape.0, shape.1];
                Ok(Tensor::from_raw_buffer(&bytes, *dtype, &shape, &Device::Cpu)?)
            }
            Numbers::Bytes { scales } => {
                let scales = self.scales(name, scales)?;
                let bytes = self.signed(name, place, &bytes)?;
                let mut data = Vec::with_capacity(bytes.len());
                let meant = Rows::Bytes {
                    bytes: &bytes,
                    scales: &scales[rows],
                };
                meant.push_to(&mut data);
                Ok(Tensor::from_vec(data, shape, &Device::Cpu)?)
            }
            Numbers::Unscaled => Err(self.corrupt(place, format!("{name} is of bytes without scales"))),
        }
    }

    fn place(&self, name: &str) -> Result<&Place, Error> {
        self.places.get(name).ok_or_else(|| Error::Tensors {
            file: self.source.clone(),
            missing: vec![name.to_owned()],
            unexpected: Vec::new(),
            misshaped: Vec::new(),
        })
    }

    /// Hands a tensor over some rows at a time, in order.
    pub(crate) fn rows<E: From<Error>>(
        &self,
        name: &str,
        mut each: impl FnMut(Rows<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let place = self.place(name)?;
        let (rows, width) = match place.shape.as_slice() {
            [rows, width] => (*rows, *width),
            other => (1, other.iter().product()),
        };
        let row_bytes = ((place.end - place.begin) as usize)
            .checked_div(rows)
            .unwrap_or(0);
        let step = CHUNK_BYTES.checked_div(row_bytes).unwrap_or(rows).max(1);
        let scales = match &place.numbers {
            Numbers::Floats(_) => Vec::new(),
            Numbers::Bytes { scales } => self.scales(name, scales)?,
            Numbers::Unscaled => Vec::new(),
        };
        let mut reader = self.reader(place)?;
        let mut buffer = vec![0; row_bytes * step.min(rows)];
        for first in (0..rows).step_by(step) {
            let count = step.min(rows - first);
            let bytes = &mut buffer[..count * row_bytes];
            reader.read_exact(bytes).map_err(|source| Error::Read {
                file: self.files[place.file].clone(),
                source,
            })?;
            match &place.numbers {
                Numbers::Floats(dtype) => {
                    let chunk = Tensor::from_raw_buffer(bytes, *dtype, &[count * width], &Device::Cpu)
                        .and_then(|t| t.to_dtype(DType::F32)?.to_vec1::<f32>())
                        .map_err(Error::from)?;
                    each(Rows::Floats(&chunk))?;
                }
                Numbers::Bytes { .. } | Numbers::Unscaled => {
                    let bytes = self.signed(name, place, bytes)?;
                    each(Rows::Bytes {
                        bytes: &bytes,
                        scales: &scales[first..first + count],
                    })?;
                }
            }
        }
        Ok(())
    }

    fn scales(&self, name: &str, place: &Place) -> Result<Vec<f32>, Error> {
        let bytes = self.bytes(place)?;
        let scales: Vec<f32> = bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect();
        match scales.iter().position(|s| !s.is_finite() || *s <= 0.0) {
            Some(row) => Err(self.corrupt(
                place,
                format!(
                    "{name}{SCALE} of row {row} is {}, not a number above 0",
                    scales[row]
                ),
            )),
            None => Ok(scales),
        }
    }

    fn signed(&self, name: &str, place: &Place, bytes: &[u8]) -> Result<Vec<i8>, Error> {
        let bytes: Vec<i8> = bytes.iter().map(|b| b.cast_signed()).collect();
        if bytes.contains(&i8::MIN) {
            return Err(self.corrupt(place, format!("tensor {name} holds −128; bytes are −127 to 127")));
        }
        Ok(bytes)
    }

    fn corrupt(&self, place: &Place, reason: String) -> Error {
        Error::Corrupt {
            file: self.files[place.file].clone(),
            reason,
        }
    }

    /// The bytes of a tensor as they are stored.
    pub(crate) fn raw(&self, name: &str) -> Result<Vec<u8>, Error> {
        self.bytes(self.place(name)?)
    }

    fn reader(&self, place: &Place) -> Result<File, Error> {
        let file = &self.files[place.file];
        let failed = |source| Error::Read {
            file: file.clone(),
            source,
        };
        let mut reader = File::open(file).map_err(failed)?;
        reader.seek(SeekFrom::Start(place.begin)).map_err(failed)?;
        Ok(reader)
    }

    fn bytes(&self, place: &Place) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; (place.end - place.begin) as usize];
        let read = self.reader(place)?.read_exact(&mut bytes);
        read.map_err(|source| Error::Read {
            file: self.files[place.file].clone(),
            source,
        })?;
        Ok(bytes)
    }
}

impl Rows<'_> {
    /// The numbers that are meant, behind those that are there.
    pub fn push_to(&self, to: &mut Vec<f32>) {
        match self {
            Self::Floats(floats) => to.extend_from_slice(floats),
            Self::Bytes { bytes, scales } => {
                let width = bytes.len().checked_div(scales.len()).unwrap_or(0).max(1);
                for (row, scale) in bytes.chunks_exact(width).zip(*scales) {
                    to.extend(row.iter().map(|b| f32::from(*b) * scale));
                }
            }
        }
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
