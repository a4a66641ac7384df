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
/// That is the tile unit's left operand, and it also gives the other kernels whole cache lines. Numbers past a row's end are
/// zero; rows past the end are left over from before and never read back.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) data: Buffer<i8>,
    pub(crate) scales: Vec<f32>,
    /// For each row and group of inputs, where weights of four bits are read as such ([`crate::nibbles::group_sums`]).
    pub(crate) sums: Vec<i32>,
}

impl Rows {
    pub(crate) fn new() -> Self {
        Self {
            data: Buffer::zeroed(0),
            scales: Vec::new(),
            sums: Vec::new(),
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

/// Writes `n` numbers as bytes of −127..=127, number i at `place(i)` for every i that is a multiple of 16, and zeros behind
/// them up to `end`, a multiple of 16. Returns what one of them is worth; NaN where there is NaN or infinity among them.
///
/// # Safety
/// As [`quantise_row`].
#[inline(always)]
pub(crate) unsafe fn quantise<V: Lanes>(
    x: *const f32,
    n: usize,
    end: usize,
    to: *mut i8,
    flip: i8,
    place: impl Fn(usize) -> usize,
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
    let sound = !unsound.is_nan() && largest > 0.0;
    // Tiny rows: the factor must not be infinite.
    let scale = (largest / 127.0).max(f32::MIN_POSITIVE);
    let factor = V::splat(1.0 / scale);
    let (low, high) = (V::splat(-127.0), V::splat(127.0));
    let mut i = 0;
    while sound && i < n {
        let width = LANES.min(n - i);
        let v = V::load_first(x.add(i), width).mul(factor).max(low).min(high);
        v.store_bytes(to.add(place(i)), flip);
        i += LANES;
    }
    while i < end {
        V::splat(0.0).store_bytes(to.add(place(i)), flip);
        i += LANES;
    }
    match (sound, unsound.is_nan()) {
        (true, _) => scale,
        (false, true) => f32::NAN,
        (false, false) => 0.0,
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
    let place = |i| i / STEP * TILE + i % STEP;
    quantise::<V>(x, n, n.next_multiple_of(STEP), to, flip, place)
}

versions! {
    /// Writes a row as bytes of −127..=127 and returns what one of them is worth; NaN where the row holds NaN or infinity.
    /// `flip` is 0, or [`UNSIGNED`] for bytes that are read as unsigned and mean 128 less.
    ///
    /// # Safety
    /// `x` is good for `n` numbers, `to` for the row's place in its tiles.
    pub(crate) unsafe fn quantise_row(x: *const f32, n: usize, to: *mut i8, flip: i8) -> f32 = quantise_row_in
}
