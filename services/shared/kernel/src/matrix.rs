//! Weights, packed once into the one layout that all kernels read.

use std::marker::PhantomData;

use crate::buffer::Buffer;
use crate::error::Error;
use crate::lanes::{LANES, Lanes, versions};
use crate::rows::STEP;

/// Weight rows that lie together.
pub(crate) const PANEL: usize = 16;

/// So wide that sums of products of an unsigned and a signed byte still fit 32 bits.
pub const INPUTS_MAX: usize = 65_536;

/// How the weights of a matrix are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    F32,
    /// Bytes, symmetric, with one scale for each output; activations become bytes too, with one scale for each row.
    #[default]
    Int8,
}

/// `W[outputs × inputs]` and perhaps a bias.
#[derive(Debug)]
pub struct Matrix {
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
    /// Zeros where there is none; whole panels.
    pub(crate) bias: Buffer<f32>,
    pub(crate) weights: Weights,
}

#[derive(Debug)]
pub(crate) enum Weights {
    /// Panels of sixteen outputs: `[panel][input][16]`.
    F32(Buffer<f32>),
    /// Panels of sixteen outputs: `[panel][input / 4][16][4]`, inputs filled up to a multiple of 64 with zeros.
    Int8 {
        data: Buffer<i8>,
        scales: Buffer<f32>,
        /// Of the bytes of each output.
        sums: Buffer<i32>,
    },
}

/// Some outputs of a matrix, as a checkpoint holds them: row-major.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    pub weight: &'a [f32],
    pub bias: Option<&'a [f32]>,
}

/// A matrix that is being packed, a row at a time: what the rows are read from need not be held whole.
#[derive(Debug)]
pub struct Packing {
    matrix: Matrix,
    /// The next output.
    next: usize,
}

impl Packing {
    pub fn new(precision: Precision, inputs: usize, outputs: usize) -> Result<Self, Error> {
        if precision == Precision::Int8 && inputs > INPUTS_MAX {
            return Err(Error::TooWide {
                inputs,
                inputs_max: INPUTS_MAX,
            });
        }
        let panels = outputs.div_ceil(PANEL);
        let weights = match precision {
            Precision::F32 => Weights::F32(Buffer::zeroed(panels * inputs * PANEL)),
            Precision::Int8 => Weights::Int8 {
                data: Buffer::zeroed(panels * inputs.next_multiple_of(STEP) * PANEL),
                scales: Buffer::zeroed(panels * PANEL),
                sums: Buffer::zeroed(panels * PANEL),
            },
        };
        let matrix = Matrix {
            outputs,
            inputs,
            bias: Buffer::zeroed(panels * PANEL),
            weights,
        };
        Ok(Self { matrix, next: 0 })
    }

    /// The next rows, whole ones.
    pub fn push(&mut self, rows: &[f32]) -> Result<(), Error> {
        self.room(rows.len())?;
        for row in rows.chunks_exact(self.matrix.inputs.max(1)) {
            self.matrix.weights.set(self.next, row);
            self.next += 1;
        }
        Ok(())
    }

    /// The next rows, quantised before ([`quantise_weights`]), with the scale of each.
    pub fn push_bytes(&mut self, rows: &[i8], scales: &[f32]) -> Result<(), Error> {
        self.room(rows.len())?;
        let inputs = self.matrix.inputs.max(1);
        check("scales", scales.len(), rows.len() / inputs)?;
        for (row, scale) in rows.chunks_exact(inputs).zip(scales) {
            self.matrix.weights.set_bytes(self.next, row, *scale);
            self.next += 1;
        }
        Ok(())
    }

    /// The bias of the rows that were pushed last, as many as it has numbers.
    pub fn bias(&mut self, bias: &[f32]) -> Result<(), Error> {
        let first = self.next.checked_sub(bias.len()).ok_or(Error::Shape {
            what: "bias",
            got: bias.len(),
            want: self.next,
        })?;
        self.matrix.bias[first..self.next].copy_from_slice(bias);
        Ok(())
    }

    pub fn finish(self) -> Result<Matrix, Error> {
        check("rows", self.next, self.matrix.outputs)?;
        Ok(self.matrix)
    }

    fn room(&self, numbers: usize) -> Result<(), Error> {
        let inputs = self.matrix.inputs.max(1);
        check("weight", numbers, numbers / inputs * inputs)?;
        if self.next + numbers / inputs > self.matrix.outputs {
            return Err(Error::Shape {
                what: "rows",
                got: self.next + numbers / inputs,
                want: self.matrix.outputs,
            });
        }
        Ok(())
    }
}

fn check(what: &'static str, got: usize, want: usize) -> Result<(), Error> {
    if got == want {
        Ok(())
    } else {
        Err(Error::Shape { what, got, want })
    }
}

/// Writes a row of weights as bytes of −127..=127 and returns what one of them is worth; NaN where the row holds NaN or
/// infinity, which makes its whole output NaN instead of disappearing.
pub fn quantise_weights(row: &[f32], to: &mut [i8]) -> f32 {
    if row.iter().any(|x| !x.is_finite()) {
        to.fill(0);
        return f32::NAN;
    }
    let largest = row.iter().fold(0_f32, |m, x| m.max(x.abs()));
    let scale = (largest / 127.0).max(f32::MIN_POSITIVE);
    for (byte, x) in to.iter_mut().zip(row) {
        *byte = (x / scale).round_ties_even().clamp(-127.0, 127.0) as i8;
    }
    scale
}

impl Matrix {
    /// Packs parts, one below the other, into one matrix: products that share their input are done together.
    pub fn pack(precision: Precision, inputs: usize, parts: &[Part<'_>]) -> Result<Self, Error> {
        let rows = |part: &Part<'_>| part.weight.len().checked_div(inputs).unwrap_or(0);
        let mut packing = Packing::new(precision, inputs, parts.iter().map(rows).sum())?;
        for part in parts {
            packing.push(part.weight)?;
            if let Some(bias) = part.bias {
                check("bias", bias.len(), rows(part))?;
                packing.bias(bias)?;
            }
        }
        packing.finish()
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }

    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Memory held.
    pub fn bytes(&self) -> usize {
        let weights = match &self.weights {
            Weights::F32(data) => data.bytes(),
            Weights::Int8 { data, scales, sums } => data.bytes() + scales.bytes() + sums.bytes(),
        };
        self.bias.bytes() + weights
    }

    /// The weights of one output, as products see them: an embedding table that is also the head is held once.
    pub fn read_row(&self, output: usize, to: &mut [f32]) {
        assert!(
            output < self.outputs && to.len() == self.inputs,
            "this is a bug: no such row"
        );
        let (panel, column) = (output / PANEL, output % PANEL);
        match &self.weights {
            Weights::F32(data) => {
                let panel = &data[panel * self.inputs * PANEL..];
                for (i, x) in to.iter_mut().enumerate() {
                    *x = panel[i * PANEL + column];
                }
            }
            Weights::Int8 { data, scales, .. } => {
                let panel = &data[panel * self.inputs.next_multiple_of(STEP) * PANEL..];
                let scale = scales[output];
                for (i, x) in to.iter_mut().enumerate() {
                    *x = f32::from(panel[i / 4 * (4 * PANEL) + column * 4 + i % 4]) * scale;
                }
            }
        }
    }
}

impl Weights {
    fn set(&mut self, output: usize, row: &[f32]) {
        match self {
            Self::F32(data) => set_floats(data, output, row.len(), row.iter().copied()),
            Self::Int8 { .. } => {
                let mut bytes = vec![0; row.len()];
                let scale = quantise_weights(row, &mut bytes);
                self.set_bytes(output, &bytes, scale);
            }
        }
    }

    fn set_bytes(&mut self, output: usize, row: &[i8], scale: f32) {
        let (panel, column) = (output / PANEL, output % PANEL);
        match self {
            Self::F32(data) => {
                set_floats(data, output, row.len(), row.iter().map(|b| f32::from(*b) * scale));
            }
            Self::Int8 { data, scales, sums } => {
                let panel = &mut data[panel * row.len().next_multiple_of(STEP) * PANEL..];
                for (i, byte) in row.iter().enumerate() {
                    panel[i / 4 * (4 * PANEL) + column * 4 + i % 4] = *byte;
                }
                sums[output] = row.iter().map(|b| i32::from(*b)).sum();
                scales[output] = scale;
            }
        }
    }
}

fn set_floats(data: &mut [f32], output: usize, inputs: usize, row: impl Iterator<Item = f32>) {
    let panel = &mut data[output / PANEL * inputs * PANEL..];
    for (i, x) in row.enumerate() {
        panel[i * PANEL + output % PANEL] = x;
    }
}

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
            Precision::Int8 => TableData::Int8 {
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

/// A block of a product in f32: `ROWS` rows of `a` times `VECTORS` × 16 columns of `b`.
///
/// Each number is one chain of multiply-adds over `inputs` in order, so it does not depend on the block it is in.
///
/// # Safety
/// Row r of `a` is at `a + r·a_row`; for input i, vector v of `b` is at `b + i·b_input + v·b_vector`; all are good.
#[inline(always)]
pub(crate) unsafe fn block<V: Lanes, const ROWS: usize, const VECTORS: usize>(
    a: *const f32,
    a_row: usize,
    b: *const f32,
    b_input: usize,
    b_vector: usize,
    inputs: usize,
) -> [[V; VECTORS]; ROWS] {
    let mut acc = [[V::splat(0.0); VECTORS]; ROWS];
    for i in 0..inputs {
        let line = b.add(i * b_input);
        let mut w = [V::splat(0.0); VECTORS];
        for (v, w) in w.iter_mut().enumerate() {
            *w = V::load(line.add(v * b_vector));
        }
        for (r, acc) in acc.iter_mut().enumerate() {
            let x = V::splat(*a.add(r * a_row + i));
            for v in 0..VECTORS {
                acc[v] = x.fma(w[v], acc[v]);
            }
        }
    }
    acc
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn rows_times_panels<V: Lanes, const ROWS: usize, const VECTORS: usize>(
    a: *const f32,
    a_row: usize,
    b: *const f32,
    b_input: usize,
    b_vector: usize,
    inputs: usize,
    to: *mut f32,
    to_row: usize,
) {
    let acc = block::<V, ROWS, VECTORS>(a, a_row, b, b_input, b_vector, inputs);
    for (r, acc) in acc.iter().enumerate() {
        for (v, x) in acc.iter().enumerate() {
            x.store(to.add(r * to_row + v * LANES));
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(crate) unsafe fn product_in<V: Lanes>(
    _: PhantomData<V>,
    rows: usize,
    vectors: usize,
    inputs: usize,
    a: *const f32,
    a_row: usize,
    b: *const f32,
    b_input: usize,
    b_vector: usize,
    to: *mut f32,
    to_row: usize,
) {
    let mut v = 0;
    while v < vectors {
        let (b, to) = (b.add(v * b_vector), to.add(v * LANES));
        let wide = match vectors - v {
            4.. if V::WIDE => 4,
            2.. => 2,
            _ => 1,
        };
        let mut r = 0;
        while r < rows {
            let (a, to) = (a.add(r * a_row), to.add(r * to_row));
            // As many accumulators as there are registers for.
            let tall = (rows - r).min(if V::WIDE {
                6
            } else if wide == 2 {
                3
            } else {
                6
            });
            macro_rules! go {
                ($n:literal, $v:literal) => {
                    rows_times_panels::<V, $n, $v>(a, a_row, b, b_input, b_vector, inputs, to, to_row)
                };
            }
            match (tall, wide) {
                (6, 4) => go!(6, 4),
                (5, 4) => go!(5, 4),
                (4, 4) => go!(4, 4),
                (3, 4) => go!(3, 4),
                (2, 4) => go!(2, 4),
                (1, 4) => go!(1, 4),
                (6, 2) => go!(6, 2),
                (5, 2) => go!(5, 2),
                (4, 2) => go!(4, 2),
                (3, 2) => go!(3, 2),
                (2, 2) => go!(2, 2),
                (1, 2) => go!(1, 2),
                (6, _) => go!(6, 1),
                (5, _) => go!(5, 1),
                (4, _) => go!(4, 1),
                (3, _) => go!(3, 1),
                (2, _) => go!(2, 1),
                _ => go!(1, 1),
            }
            r += tall;
        }
        v += wide;
    }
}

versions! {
    /// `to[rows × vectors·16] = a[rows × inputs] · b`, addressed as for [`block`].
    ///
    /// # Safety
    /// The pointers are good for what they address.
    pub(crate) unsafe fn product(
        rows: usize, vectors: usize, inputs: usize, a: *const f32, a_row: usize, b: *const f32, b_input: usize,
        b_vector: usize, to: *mut f32, to_row: usize,
    ) = product_in
}
