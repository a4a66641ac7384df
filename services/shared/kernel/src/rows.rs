//! Activations as bytes: each row with its own scale, in the order in which products read them.

use std::marker::PhantomData;

use crate::buffer::Buffer;
use crate::lanes::{LANES, Lanes, versions};

/// Rows of one block; numbers of a row that lie together; bytes of one such tile.
pub(crate) const BLOCK: usize = 16;
pub(crate) const STEP: usize = 64;
pub(crate) const TILE: usize = BLOCK * STEP;

/// Turned over, the top bit adds 128 to a byte.
pub(crate) const UNSIGNED: i8 = i8::MIN;

/// Quantised rows: blocks of 16 rows, in each block tiles of 16 rows × 64 numbers, a row's 64 together.
///
/// That is the tile unit's left operand, and it also gives the other kernels whole cache lines. Rows and numbers past
/// the end are zero or left over from before; they meet zero weights or are never read back.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) data: Buffer<i8>,
    pub(crate) scales: Vec<f32>,
}

impl Rows {
    pub(crate) fn new() -> Self {
        Self {
            data: Buffer::zeroed(0),
            scales: Vec::new(),
        }
    }

    /// Room for so many rows; what was there is lost.
    pub(crate) fn reserve(&mut self, rows: usize, steps: usize) {
        let bytes = rows.div_ceil(BLOCK) * steps * TILE;
        if self.data.len() < bytes {
            self.data = Buffer::zeroed(bytes);
        }
        if self.scales.len() < rows {
            self.scales.resize(rows, 0.0);
        }
    }
}

#[inline(always)]
unsafe fn quantise_row_in<V: Lanes>(
    _: PhantomData<V>,
    x: *const f32,
    n: usize,
    to: *mut i8,
    flip: i8,
) -> f32 {
    let (mut largest, mut unsound) = (V::splat(0.0), V::splat(0.0));
    let mut i = 0;
    while i < n {
        let width = LANES.min(n - i);
        let v = V::load_first(x.add(i), width);
        largest = largest.max(v.abs());
        // NaN and infinity times zero are NaN, which `max` could lose.
        unsound = v.fma(V::splat(0.0), unsound);
        i += width;
    }
    let unsound = unsound.sum();
    let largest = largest.largest();
    if unsound.is_nan() || largest == 0.0 {
        let mut i = 0;
        while i < n {
            V::splat(0.0).store_bytes(to.add(i / STEP * TILE + i % STEP), flip);
            i += LANES;
        }
        return if unsound.is_nan() { f32::NAN } else { 0.0 };
    }
    // Tiny rows: the factor must not be infinite.
    let scale = (largest / 127.0).max(f32::MIN_POSITIVE);
    let factor = V::splat(1.0 / scale);
    let (low, high) = (V::splat(-127.0), V::splat(127.0));
    let mut i = 0;
    while i < n {
        let width = LANES.min(n - i);
        let v = V::load_first(x.add(i), width).mul(factor).max(low).min(high);
        v.store_bytes(to.add(i / STEP * TILE + i % STEP), flip);
        i += LANES;
    }
    scale
}

versions! {
    /// Writes a row as bytes of −127..=127 and returns what one of them is worth; NaN where the row holds NaN or infinity.
    /// `flip` is 0, or [`UNSIGNED`] for bytes that are read as unsigned and mean 128 less.
    ///
    /// # Safety
    /// `x` is good for `n` numbers, `to` for the row's place in its tiles.
    pub(crate) unsafe fn quantise_row(x: *const f32, n: usize, to: *mut i8, flip: i8) -> f32 = quantise_row_in
}
