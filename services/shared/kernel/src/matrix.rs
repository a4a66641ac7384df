//! Weights, packed once into the one layout that all kernels read.

use crate::buffer::Buffer;
use crate::error::Error;
use crate::nibbles::{self, GROUP, GROUP_BYTES, quantise_nibbles};
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
    /// Four bits, with a share of the output's scale for each 32 inputs ([`quantise_nibbles`]); activations as for Int8.
    Int4,
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
    /// Panels of sixteen outputs, as [`crate::nibbles`] lays them; inputs filled up as above.
    Int4 {
        data: Buffer<u8>,
        /// `[panel][group][16]`
        shares: Buffer<i8>,
        scales: Buffer<f32>,
        /// Of share · number of each output.
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
    /// Memory that a matrix of this size takes.
    pub fn bytes(precision: Precision, inputs: usize, outputs: usize) -> usize {
        let outputs = outputs.next_multiple_of(PANEL);
        // Scales and sums, and what stands for a bias.
        let (beside, bias) = (8, 4);
        let output = match precision {
            Precision::F32 => 4 * inputs,
            Precision::Int8 => inputs.next_multiple_of(STEP) + beside,
            Precision::Int4 => nibbles::groups(inputs) * (GROUP_BYTES / PANEL + 1) + beside,
        };
        outputs * (output + bias)
    }

    pub fn new(precision: Precision, inputs: usize, outputs: usize) -> Result<Self, Error> {
        if precision != Precision::F32 && inputs > INPUTS_MAX {
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
            Precision::Int4 => {
                let groups = panels * nibbles::groups(inputs);
                let mut data = Buffer::zeroed(groups * GROUP_BYTES);
                data.fill(nibbles::EMPTY);
                Weights::Int4 {
                    data,
                    shares: Buffer::zeroed(groups * PANEL),
                    scales: Buffer::zeroed(panels * PANEL),
                    sums: Buffer::zeroed(panels * PANEL),
                }
            }
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

    /// The next rows, quantised before ([`quantise_nibbles`]): numbers, the shares of each row's groups, and the scales.
    pub fn push_nibbles(&mut self, rows: &[i8], shares: &[i8], scales: &[f32]) -> Result<(), Error> {
        self.room(rows.len())?;
        let inputs = self.matrix.inputs.max(1);
        let groups = inputs.div_ceil(GROUP);
        check("scales", scales.len(), rows.len() / inputs)?;
        check("shares", shares.len(), scales.len() * groups)?;
        let rows = rows.chunks_exact(inputs).zip(shares.chunks_exact(groups));
        for ((row, shares), scale) in rows.zip(scales) {
            self.matrix.weights.set_nibbles(self.next, row, shares, *scale);
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

pub(crate) fn check(what: &'static str, got: usize, want: usize) -> Result<(), Error> {
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
    // Adding and subtracting 1.5 × 2^23 rounds to an integer, ties to even, in a way that compiles to vectors.
    const ROUND: f32 = 12_582_912.0;
    for (byte, x) in to.iter_mut().zip(row) {
        *byte = ((x / scale + ROUND) - ROUND).clamp(-127.0, 127.0) as i8;
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
            Weights::Int4 {
                data,
                shares,
                scales,
                sums,
            } => data.bytes() + shares.bytes() + scales.bytes() + sums.bytes(),
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
            Weights::Int4 {
                data, shares, scales, ..
            } => {
                let groups = nibbles::groups(self.inputs);
                let panel_shares = &shares[panel * groups * PANEL..];
                let panel = &data[panel * groups * GROUP_BYTES..];
                for (i, x) in to.iter_mut().enumerate() {
                    let (byte, shift) = nibbles::place(column, i);
                    let share = panel_shares[i / GROUP * PANEL + column];
                    *x = f32::from(nibbles::number(panel[byte], shift) * share) * scales[output];
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
            Self::Int4 { .. } => {
                let (mut numbers, mut shares) = (vec![0; row.len()], vec![0; row.len().div_ceil(GROUP)]);
                let scale = quantise_nibbles(row, &mut numbers, &mut shares);
                self.set_nibbles(output, &numbers, &shares, scale);
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
                for (quad, four) in row.chunks(4).enumerate() {
                    panel[quad * 4 * PANEL + column * 4..][..four.len()].copy_from_slice(four);
                }
                sums[output] = row.iter().map(|b| i32::from(*b)).sum();
                scales[output] = scale;
            }
            Self::Int4 { .. } => {
                let floats: Vec<f32> = row.iter().map(|b| f32::from(*b) * scale).collect();
                self.set(output, &floats);
            }
        }
    }

    fn set_nibbles(&mut self, output: usize, row: &[i8], row_shares: &[i8], scale: f32) {
        let Self::Int4 {
            data,
            shares,
            scales,
            sums,
        } = self
        else {
            let bytes: Vec<i8> = nibbles::bytes(row, row_shares).collect();
            return self.set_bytes(output, &bytes, scale);
        };
        let (panel, column, groups) = (output / PANEL, output % PANEL, nibbles::groups(row.len()));
        for (group, share) in row_shares.iter().enumerate() {
            shares[(panel * groups + group) * PANEL + column] = *share;
        }
        let panel = &mut data[panel * groups * GROUP_BYTES..];
        for (i, number) in row.iter().enumerate() {
            let (byte, shift) = nibbles::place(column, i);
            panel[byte] = panel[byte] & !(15 << shift) | nibbles::spelt(*number) << shift;
        }
        sums[output] = nibbles::bytes(row, row_shares).map(i32::from).sum();
        scales[output] = scale;
    }
}

fn set_floats(data: &mut [f32], output: usize, inputs: usize, row: impl Iterator<Item = f32>) {
    let panel = &mut data[output / PANEL * inputs * PANEL..];
    for (i, x) in row.enumerate() {
        panel[i * PANEL + output % PANEL] = x;
    }
}
