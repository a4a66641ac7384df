//! Tables of rows that are only looked up.

use crate::buffer::Buffer;
use crate::error::Error;
use crate::matrix::{Precision, check, quantise_weights};
use crate::nibbles::{self, GROUP};

/// Rows that are only looked up: `[rows × width]`.
#[derive(Debug)]
pub struct Table {
    width: usize,
    rows: usize,
    data: TableData,
}

#[derive(Debug)]
enum TableData {
    F32(Buffer<f32>),
    Int8 { data: Buffer<i8>, scales: Buffer<f32> },
}

impl Table {
    pub fn pack(precision: Precision, width: usize, data: &[f32]) -> Result<Self, Error> {
        let rows = data.len().checked_div(width).unwrap_or(0);
        let mut table = Self::zeroed(precision, width, rows);
        check("table", data.len(), rows * width)?;
        table.set(0, data)?;
        Ok(table)
    }

    /// To be filled by [`Self::set`].
    pub fn zeroed(precision: Precision, width: usize, rows: usize) -> Self {
        let data = match precision {
            Precision::F32 => TableData::F32(Buffer::zeroed(rows * width)),
            Precision::Int8 | Precision::Int4 => TableData::Int8 {
                data: Buffer::zeroed(rows * width),
                scales: Buffer::zeroed(rows),
            },
        };
        Self { width, rows, data }
    }

    /// Writes whole rows from row `first` on.
    pub fn set(&mut self, first: usize, rows: &[f32]) -> Result<(), Error> {
        let range = self.range(first, rows.len())?;
        let width = self.width.max(1);
        match &mut self.data {
            TableData::F32(data) => data[range].copy_from_slice(rows),
            TableData::Int8 { data, scales } => {
                let bytes = data[range].chunks_exact_mut(width);
                for ((row, bytes), scale) in rows.chunks_exact(width).zip(bytes).zip(&mut scales[first..]) {
                    *scale = quantise_weights(row, bytes);
                }
            }
        }
        Ok(())
    }

    /// As [`Self::set`], of rows that were quantised before.
    pub fn set_bytes(&mut self, first: usize, rows: &[i8], their: &[f32]) -> Result<(), Error> {
        let range = self.range(first, rows.len())?;
        let width = self.width.max(1);
        check("scales", their.len(), rows.len() / width)?;
        match &mut self.data {
            TableData::F32(data) => {
                let to = data[range].chunks_exact_mut(width);
                for ((to, row), scale) in to.zip(rows.chunks_exact(width)).zip(their) {
                    for (x, byte) in to.iter_mut().zip(row) {
                        *x = f32::from(*byte) * scale;
                    }
                }
            }
            TableData::Int8 { data, scales } => {
                data[range].copy_from_slice(rows);
                scales[first..][..their.len()].copy_from_slice(their);
            }
        }
        Ok(())
    }

    /// As [`Self::set_bytes`], of rows of four bits ([`crate::quantise_nibbles`]).
    pub fn set_nibbles(
        &mut self,
        first: usize,
        rows: &[i8],
        shares: &[i8],
        scales: &[f32],
    ) -> Result<(), Error> {
        let width = self.width.max(1);
        let groups = width.div_ceil(GROUP);
        check("shares", shares.len(), rows.len() / width * groups)?;
        let rows = rows.chunks_exact(width).zip(shares.chunks_exact(groups));
        let bytes: Vec<i8> = rows
            .flat_map(|(row, shares)| nibbles::bytes(row, shares))
            .collect();
        self.set_bytes(first, &bytes, scales)
    }

    fn range(&self, first: usize, numbers: usize) -> Result<std::ops::Range<usize>, Error> {
        let width = self.width.max(1);
        check("table", numbers, numbers / width * width)?;
        let (begin, end) = (first * self.width, first * self.width + numbers);
        if end > self.rows * self.width {
            return Err(Error::Shape {
                what: "table",
                got: end,
                want: self.rows * self.width,
            });
        }
        Ok(begin..end)
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn width(&self) -> usize {
        self.width
    }

    /// Memory held.
    pub fn bytes(&self) -> usize {
        match &self.data {
            TableData::F32(data) => data.bytes(),
            TableData::Int8 { data, scales } => data.bytes() + scales.bytes(),
        }
    }

    pub fn read_row(&self, row: usize, to: &mut [f32]) {
        assert!(
            row < self.rows && to.len() == self.width,
            "this is a bug: no such row"
        );
        let range = row * self.width..(row + 1) * self.width;
        match &self.data {
            TableData::F32(data) => to.copy_from_slice(&data[range]),
            TableData::Int8 { data, scales } => {
                for (x, byte) in to.iter_mut().zip(&data[range]) {
                    *x = f32::from(*byte) * scales[row];
                }
            }
        }
    }
}
