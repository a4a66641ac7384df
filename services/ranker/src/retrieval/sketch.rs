//! A catalogue's factors in bytes: what most items are passed over by, unread.
//!
//! A pass over a large catalogue takes as long as its factors take to come out of memory. In bytes they are a quarter, and each row's
//! scale and its distance from what it stands for bound its score from above. Only items whose bound could be among the best are
//! scored from the factors themselves, so the best are the same, bit for bit.

use crate::linear::{Matrix, dot, wide};

/// Columns up to which a sum of products keeps within 31 bits: 512 · 127 · 32,767.
const COLUMNS_MAX: usize = 512;
/// Rows below which the factors stay in a processor's cache, and a second copy gains nothing.
const ROWS_MIN: usize = 32_768;

const LANES: usize = 16;
/// Largest byte of a row, and largest number of a query.
const BYTE_MAX: f32 = 127.0;
const QUERY_MAX: f32 = 32_767.0;

/// Row r is about `scales[r] · bytes[r]`, and no farther from it than `rests[r]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Sketch {
    /// A multiple of [`LANES`]; what is past a row's own columns is 0.
    columns: usize,
    /// `[rows, columns]`
    bytes: Vec<i8>,
    /// `[rows]`
    scales: Vec<f32>,
    /// `[rows]`: times the query's length, how much more the score may be.
    rests: Vec<f32>,
}

/// A query in whole numbers of 16 bits.
#[derive(Debug)]
pub(super) struct Asked {
    /// `[columns]`, as wide as products are summed.
    numbers: Vec<i32>,
    scale: f32,
    length: f32,
}

impl Sketch {
    /// Nothing for a catalogue that gains nothing by it, or has too many columns.
    pub fn of(rows: &Matrix) -> Option<Self> {
        Self::is_worth_it(rows).then(|| Self::made(rows))
    }

    pub(super) fn is_worth_it(rows: &Matrix) -> bool {
        rows.rows() >= ROWS_MIN && rows.columns() <= COLUMNS_MAX
    }

    pub(super) fn made(rows: &Matrix) -> Self {
        let own = rows.columns();
        let columns = own.next_multiple_of(LANES);
        let mut sketch = Self {
            columns,
            bytes: vec![0; rows.rows() * columns],
            scales: Vec::with_capacity(rows.rows()),
            rests: Vec::with_capacity(rows.rows()),
        };
        // What a query loses in 16 bits, at most half a step each, and what sums of f32 lose: shares of |row|·|query|.
        let width = own as f32;
        let lost = width.sqrt() / QUERY_MAX + width * f32::EPSILON;
        for (row, bytes) in rows
            .values
            .chunks_exact(own)
            .zip(sketch.bytes.chunks_exact_mut(columns))
        {
            let largest = row.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
            let scale = largest / BYTE_MAX;
            let mut missed = 0.0_f64;
            for (byte, x) in bytes.iter_mut().zip(row) {
                let number = if scale > 0.0 {
                    (x / scale).round().clamp(-BYTE_MAX, BYTE_MAX)
                } else {
                    0.0
                };
                *byte = number as i8;
                missed += f64::from(x - number * scale).powi(2);
            }
            let length = dot(row, row).sqrt();
            sketch.scales.push(scale);
            sketch
                .rests
                .push(missed.sqrt() as f32 * (1.0 + 4.0 * f32::EPSILON) + length * lost);
        }
        sketch
    }

    pub(super) fn ask(&self, query: &[f32]) -> Asked {
        let largest = query.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let scale = largest / QUERY_MAX;
        let mut numbers = vec![0; self.columns];
        if scale > 0.0 {
            for (number, x) in numbers.iter_mut().zip(query) {
                *number = (x / scale).round() as i32;
            }
        }
        Asked {
            numbers,
            scale,
            length: dot(query, query).sqrt(),
        }
    }

    /// For the rows from `first` on, what their products with the query are at most.
    pub(super) fn bounds(&self, asked: &Asked, first: usize, bounds: &mut [f32]) {
        let bytes = self.bytes[first * self.columns..].chunks_exact(self.columns);
        let rows = bytes.zip(&self.scales[first..]).zip(&self.rests[first..]);
        wide(
            #[inline(always)]
            || {
                for (bound, ((bytes, scale), rest)) in bounds.iter_mut().zip(rows) {
                    let about = product(bytes, &asked.numbers) as f32 * (scale * asked.scale);
                    *bound = about + rest * asked.length;
                }
            },
        );
    }
}

#[inline(always)]
fn product(bytes: &[i8], numbers: &[i32]) -> i32 {
    let mut sums = [0_i32; LANES];
    let (bytes, numbers) = (bytes.as_chunks::<LANES>().0, numbers.as_chunks::<LANES>().0);
    for (bytes, numbers) in bytes.iter().zip(numbers) {
        for lane in 0..LANES {
            sums[lane] += i32::from(bytes[lane]) * numbers[lane];
        }
    }
    sums.iter().sum()
}
