//! The numbers of a checkpoint's tensors: whole, a stretch of a matrix, or some rows at a time.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;

use candle_core::{DType, Device, Tensor};

use super::{Checkpoint, Numbers, Place};
use crate::error::Error;
use crate::parallel::Stretch;
use crate::quantised::{GROUP, SCALE, SHARE, part};

/// Some rows of a tensor, in the form they are stored in; a tensor without rows is one.
#[derive(Clone, Copy, Debug)]
pub enum Rows<'a> {
    Floats(&'a [f32]),
    /// −127..=127, with the scale of each row.
    Bytes {
        bytes: &'a [i8],
        scales: &'a [f32],
    },
    /// −8..=7, with the share of each group of a row and the scale of each row ([`crate::quantised`]).
    Nibbles {
        numbers: &'a [i8],
        shares: &'a [i8],
        scales: &'a [f32],
    },
}

/// Bytes of one tensor that are held at a time where it is read by rows.
const CHUNK_BYTES: usize = 1 << 20;

impl Checkpoint {
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
            Numbers::Nibbles { .. } => return self.stretch_of_nibbles(name, rows, columns),
            Numbers::Bytes { .. } | Numbers::Unscaled { .. } => 1,
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
            Numbers::Nibbles { .. } | Numbers::Unscaled { .. } => {
                Err(self.corrupt(place, format!("{name} is of bytes without scales")))
            }
        }
    }

    /// As [`Self::stretch`]: shares of groups do not end where stretches do, so all of them are read, a megabyte at a time.
    fn stretch_of_nibbles(
        &self,
        name: &str,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> Result<Tensor, Error> {
        let (mut data, mut row) = (Vec::with_capacity(rows.len() * columns.len()), 0);
        let width = self.shape(name).and_then(|s| s.last().copied()).unwrap_or(0);
        self.rows(name, |chunk| {
            let mut floats = Vec::new();
            chunk.push_to(&mut floats);
            for numbers in floats.chunks(width.max(1)) {
                if rows.contains(&row) {
                    data.extend_from_slice(&numbers[columns.clone()]);
                }
                row += 1;
            }
            Ok::<_, Error>(())
        })?;
        Ok(Tensor::from_vec(data, (rows.len(), columns.len()), &Device::Cpu)?)
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
            Numbers::Bytes { scales } | Numbers::Nibbles { scales, .. } => self.scales(name, scales)?,
            Numbers::Unscaled { .. } => Vec::new(),
        };
        let shares = match &place.numbers {
            Numbers::Nibbles { shares, .. } => self.shares(name, shares)?,
            _ => Vec::new(),
        };
        let groups = width.div_ceil(GROUP);
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
                Numbers::Nibbles { .. } => {
                    let numbers: Vec<i8> = bytes.iter().flat_map(|b| part(*b)).collect();
                    each(Rows::Nibbles {
                        numbers: &numbers,
                        shares: &shares[first * groups..][..count * groups],
                        scales: &scales[first..first + count],
                    })?;
                }
                Numbers::Bytes { .. } | Numbers::Unscaled { .. } => {
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

    fn shares(&self, name: &str, place: &Place) -> Result<Vec<i8>, Error> {
        let shares: Vec<i8> = self.bytes(place)?.iter().map(|b| b.cast_signed()).collect();
        match shares.iter().find(|s| **s == 0 || !(-15..=15).contains(*s)) {
            Some(share) => Err(self.corrupt(
                place,
                format!("{name}{SHARE} holds {share}; shares are −15 to 15 and not 0"),
            )),
            None => Ok(shares),
        }
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

    pub(super) fn bytes(&self, place: &Place) -> Result<Vec<u8>, Error> {
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
            Self::Nibbles {
                numbers,
                shares,
                scales,
            } => {
                let width = numbers.len().checked_div(scales.len()).unwrap_or(0).max(1);
                let groups = shares.len().checked_div(scales.len()).unwrap_or(0).max(1);
                let rows = numbers.chunks_exact(width).zip(shares.chunks_exact(groups));
                for ((row, shares), scale) in rows.zip(*scales) {
                    for (group, share) in row.chunks(GROUP).zip(shares) {
                        to.extend(group.iter().map(|n| f32::from(n * share) * scale));
                    }
                }
            }
        }
    }
}
