//! Attention in bytes: sixteen positions of one head, how they are held, and what queries make of them.
//!
//! Keys and values are signed bytes with a scale for each position; queries become bytes too, and weights after the softmax
//! become whole numbers of fourteen bits, held as two planes of seven. All sums are integers, so all instruction sets give the
//! same bits.

use crate::lanes::{LANES, Lanes};
use crate::memory::PAGE;
use crate::rows::{UNSIGNED, quantise};

/// Sixteen positions of one head: keys `[dim / 4][16][4]`, values `[4][padded dim][4 positions]`, then for each position the
/// scale of its key, the sum of the key's bytes, and the scale of its value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit {
    dim: usize,
}

/// The largest weight: two planes of 0..=127.
const WEIGHT_MAX: f32 = 16_383.0;
/// Widest head: queries of one are quantised on the stack.
pub const BYTE_HEAD_DIM_MAX: usize = 256;

/// The bits by which bytes are turned over for [`Lanes::dot_signed`].
#[inline(always)]
fn flip<V: Lanes>() -> i8 {
    if V::OFFSET == 0 { 0 } else { UNSIGNED }
}

impl Unit {
    pub(crate) fn new(dim: usize) -> Self {
        Self { dim }
    }

    fn quads(self) -> usize {
        self.dim.div_ceil(4)
    }

    fn padded(self) -> usize {
        self.dim.next_multiple_of(LANES)
    }

    fn values(self) -> usize {
        self.quads() * 4 * PAGE
    }

    fn key_scales(self) -> usize {
        self.values() + PAGE * self.padded()
    }

    fn key_sums(self) -> usize {
        self.key_scales() + 4 * PAGE
    }

    fn value_scales(self) -> usize {
        self.key_sums() + 4 * PAGE
    }

    pub(crate) fn bytes(self) -> usize {
        self.value_scales() + 4 * PAGE
    }

    /// Writes one position.
    ///
    /// # Safety
    /// `to` is good for a unit and aligned to four bytes; `key` and `value` are good for the head's width.
    #[inline(always)]
    pub(crate) unsafe fn write<V: Lanes>(self, to: *mut u8, slot: usize, key: *const f32, value: *const f32) {
        let mut row = [0_i8; BYTE_HEAD_DIM_MAX];
        let scale = quantise::<V>(key, self.dim, self.padded(), row.as_mut_ptr(), 0, |i| i);
        let keys = to.cast::<[i8; 4]>();
        for quad in 0..self.quads() {
            let four = [0, 1, 2, 3].map(|i| row[quad * 4 + i]);
            keys.add(quad * PAGE + slot).write(four);
        }
        let sum: i32 = row[..self.dim].iter().map(|b| i32::from(*b)).sum();
        to.add(self.key_scales()).cast::<f32>().add(slot).write(scale);
        to.add(self.key_sums()).cast::<i32>().add(slot).write(sum);
        let scale = quantise::<V>(value, self.dim, self.padded(), row.as_mut_ptr(), 0, |i| i);
        let values = to.add(self.values() + slot / 4 * (4 * self.padded()) + slot % 4);
        for (i, byte) in row[..self.padded()].iter().enumerate() {
            values.add(4 * i).write(byte.cast_unsigned());
        }
        to.add(self.value_scales()).cast::<f32>().add(slot).write(scale);
    }
}

/// Queries of one head that are answered together.
#[derive(Clone, Copy)]
pub(crate) struct Queries<const R: usize> {
    pub(crate) q: *const f32,
    /// Numbers from one query to the next.
    pub(crate) q_stride: usize,
    pub(crate) out: *mut f32,
    pub(crate) out_stride: usize,
    /// Positions that each sees; the last sees most.
    pub(crate) visible: [usize; R],
    /// Work memory: `[R][columns]`, whole pages of what is seen, then as many for weights.
    pub(crate) scores: *mut f32,
    pub(crate) columns: usize,
}

/// Scores of R queries, before scale, bias and softmax.
///
/// # Safety
/// Units hold what is visible; pointers are good for what [`Queries`] says.
#[inline(always)]
pub(crate) unsafe fn scores<V: Lanes, const R: usize>(
    unit: Unit,
    units: impl Fn(usize) -> *const u8,
    of: &Queries<R>,
) {
    let mut rows = [[0_i8; BYTE_HEAD_DIM_MAX]; R];
    let mut scales = [0.0; R];
    for r in 0..R {
        let q = of.q.add(r * of.q_stride);
        scales[r] = quantise::<V>(
            q,
            unit.dim,
            unit.padded(),
            rows[r].as_mut_ptr(),
            flip::<V>(),
            |i| i,
        );
    }
    let used = of.visible[R - 1].div_ceil(PAGE);
    let offset = V::splat(-(V::OFFSET as f32));
    for page in 0..used {
        let at = units(page);
        let next = units((page + 1).min(used - 1));
        let keys = at.cast::<i8>();
        // Two chains a query, so that one waits less for the last.
        let (mut even, mut odd) = ([V::no_ints(); R], [V::no_ints(); R]);
        let mut quad = 0;
        while quad < unit.quads() {
            V::prefetch(next.add(quad * 4 * PAGE));
            let k = V::load_quads(keys.add(quad * 4 * PAGE));
            for r in 0..R {
                even[r] = V::dot_signed(even[r], rows[r].as_ptr().add(quad * 4), k);
            }
            if quad + 1 < unit.quads() {
                V::prefetch(next.add((quad + 1) * 4 * PAGE));
                let k = V::load_quads(keys.add((quad + 1) * 4 * PAGE));
                for r in 0..R {
                    odd[r] = V::dot_signed(odd[r], rows[r].as_ptr().add(quad * 4 + 4), k);
                }
            }
            quad += 2;
        }
        let key_scales = V::load(at.add(unit.key_scales()).cast());
        let sums = V::load_ints(at.add(unit.key_sums()).cast());
        for r in 0..R {
            // All are integers that f32 holds exactly, so in which order they are added does not matter.
            let sum = V::floats(even[r]).add(V::floats(odd[r]));
            let sum = sums.fma(offset, sum);
            sum.mul(key_scales)
                .mul(V::splat(scales[r]))
                .store(of.scores.add(r * of.columns + page * PAGE));
        }
    }
}

/// Mixes values by weights: `scores` holds, for each query, numbers above 0 that add up to one of `sums`, zeros behind what it
/// sees.
///
/// # Safety
/// As [`scores`].
#[inline(always)]
pub(crate) unsafe fn mix<V: Lanes, const R: usize>(
    unit: Unit,
    units: impl Fn(usize) -> *const u8,
    of: &Queries<R>,
    sums: [f32; R],
) {
    // Adding and subtracting 1.5 × 2^23 rounds to an integer.
    const ROUND: f32 = 12_582_912.0;
    let round = V::splat(ROUND);
    let used = of.visible[R - 1].div_ceil(PAGE);
    let columns = used * PAGE;
    // Planes lie behind the scores: `[R][2][columns]` bytes.
    let planes = of.scores.add(R * of.columns).cast::<i8>();
    let mut factors = [0.0; R];
    for r in 0..R {
        let row = of.scores.add(r * of.columns);
        let (mut largest, mut unsound) = (V::splat(0.0), V::splat(0.0));
        for page in 0..used {
            // Behind what is seen there may be anything; it must not count.
            let seen = of.visible[r].saturating_sub(page * PAGE).min(PAGE);
            let scale = V::load_first(units(page).add(unit.value_scales()).cast(), seen);
            let x = V::load(row.add(page * PAGE)).mul(scale);
            x.store(row.add(page * PAGE));
            largest = largest.max(x);
            unsound = x.fma(V::splat(0.0), unsound);
        }
        let largest = largest.largest().max(f32::MIN_POSITIVE);
        let factor = V::splat(WEIGHT_MAX / largest);
        // A value that is no number makes the whole query none.
        factors[r] = largest / WEIGHT_MAX / sums[r] + unsound.sum();
        let (high, low) = (planes.add(2 * r * columns), planes.add((2 * r + 1) * columns));
        for page in 0..used {
            let x = V::load(row.add(page * PAGE))
                .mul(factor)
                .min(V::splat(WEIGHT_MAX));
            let whole = x.add(round).sub(round);
            // Of an integer, the 128s: never halfway between two.
            let shifted = whole.fma(V::splat(1.0 / 128.0), V::splat(-63.5 / 128.0));
            let h = shifted.add(round).sub(round);
            h.store_bytes(high.add(page * PAGE), 0);
            h.fma(V::splat(-128.0), whole)
                .store_bytes(low.add(page * PAGE), 0);
        }
    }
    // As many accumulators as there are registers for.
    let wide = match (V::WIDE, R) {
        (true, 1 | 2) => 4,
        (true, _) | (false, 1) => 2,
        (false, _) => 1,
    };
    let vectors = unit.padded() / LANES;
    let mut vector = 0;
    while vector < vectors {
        let count = wide.min(vectors - vector);
        match count {
            4 => mix_vectors::<V, R, 4>(unit, &units, of, planes, columns, factors, vector),
            2 | 3 => mix_vectors::<V, R, 2>(unit, &units, of, planes, columns, factors, vector),
            _ => mix_vectors::<V, R, 1>(unit, &units, of, planes, columns, factors, vector),
        }
        vector += match count {
            4 => 4,
            2 | 3 => 2,
            _ => 1,
        };
    }
}

#[inline(always)]
unsafe fn mix_vectors<V: Lanes, const R: usize, const W: usize>(
    unit: Unit,
    units: &impl Fn(usize) -> *const u8,
    of: &Queries<R>,
    planes: *const i8,
    columns: usize,
    factors: [f32; R],
    vector: usize,
) {
    let used = columns / PAGE;
    let (mut high, mut low) = ([[V::no_ints(); W]; R], [[V::no_ints(); W]; R]);
    for page in 0..used {
        let at = units(page).add(unit.values() + vector * 4 * LANES);
        let next = units((page + 1).min(used - 1)).add(unit.values() + vector * 4 * LANES);
        let fours = (of.visible[R - 1] - page * PAGE).min(PAGE).div_ceil(4);
        for four in 0..fours {
            let mut v = [V::load_quads(at.cast()); W];
            for (j, v) in v.iter_mut().enumerate() {
                let line = four * 4 * unit.padded() + j * 4 * LANES;
                V::prefetch(next.add(line));
                *v = V::load_quads(at.add(line).cast());
            }
            for r in 0..R {
                let weights = planes.add(2 * r * columns + page * PAGE + four * 4);
                for j in 0..W {
                    high[r][j] = V::dot_unsigned(high[r][j], weights, v[j]);
                    low[r][j] = V::dot_unsigned(low[r][j], weights.add(columns), v[j]);
                }
            }
        }
    }
    for r in 0..R {
        for j in 0..W {
            let at = (vector + j) * LANES;
            V::floats(high[r][j])
                .fma(V::splat(128.0), V::floats(low[r][j]))
                .mul(V::splat(factors[r]))
                .store_first(of.out.add(r * of.out_stride + at), LANES.min(unit.dim - at));
        }
    }
}
