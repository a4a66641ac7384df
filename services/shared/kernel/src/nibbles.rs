//! Weights of four bits: how they are chosen, how they lie, and their products.
//!
//! A row has one scale; each group of 32 inputs has a share, a whole number of −15..=15; each weight is a whole number of
//! −8..=7. What is meant is scale · share · number, so share · number is a byte: four bits are a shorter spelling of a row of
//! bytes, all sums are integers, and every way of computing them gives the same bits. Tall products spell the bytes out
//! again, a few panels at a time; with few rows, where weights arrive no faster than memory gives them, kernels read the
//! four bits.

use std::marker::PhantomData;

use crate::lanes::{Lanes, versions};
use crate::matrix::PANEL;
use crate::rows::{BLOCK, STEP, TILE};

/// Inputs that have a share of their own.
pub const GROUP: usize = 32;
/// The largest share: times 8, the largest number, it is still a byte.
pub const SHARE_MAX: i8 = 15;
/// Bytes of one group of one panel: of 64-byte lines four, each with two quads of inputs, the second in the high halves.
pub(crate) const GROUP_BYTES: usize = GROUP * PANEL / 2;
/// A stored half is the number plus this, so that it is never negative.
const ZERO: u8 = 8;

/// Groups of a row, filled up to whole steps.
pub(crate) fn groups(inputs: usize) -> usize {
    inputs.div_ceil(STEP) * (STEP / GROUP)
}

/// Writes a row of weights as numbers of −8..=7 with a share for each group, and returns the row's scale; NaN where the row
/// holds NaN or infinity. Scales and shares are searched for the least squared error.
pub fn quantise_nibbles(row: &[f32], numbers: &mut [i8], shares: &mut [i8]) -> f32 {
    debug_assert!(numbers.len() == row.len() && shares.len() == row.len().div_ceil(GROUP));
    if row.iter().any(|x| !x.is_finite()) {
        numbers.fill(0);
        shares.fill(1);
        return f32::NAN;
    }
    let largest = row.iter().fold(0_f32, |m, x| m.max(x.abs()));
    let exact = (largest / f32::from(8 * SHARE_MAX)).max(f32::MIN_POSITIVE);
    // Smaller units cut the row's largest numbers off and tell all others better.
    let mut best = (f32::INFINITY, exact);
    for factor in [1.0, 0.93, 0.86] {
        let scale = (exact * factor).max(f32::MIN_POSITIVE);
        let error: f32 = row
            .chunks(GROUP)
            .map(|group| best_share(group, 1.0 / scale).0)
            .sum();
        // Errors are in units; of a row, they are compared in units of the largest scale.
        if error * factor * factor < best.0 {
            best = (error * factor * factor, scale);
        }
    }
    let scale = best.1;
    for ((group, numbers), share) in row
        .chunks(GROUP)
        .zip(numbers.chunks_mut(GROUP))
        .zip(shares.iter_mut())
    {
        *share = best_share(group, 1.0 / scale).1;
        let inverse = 1.0 / f32::from(*share);
        for (number, x) in numbers.iter_mut().zip(group) {
            *number = nearest(x * (1.0 / scale) * inverse) as i8;
        }
    }
    scale
}

/// The nearest of −8..=7, ties to even, in a way that compiles to vectors; |x| is small.
#[inline(always)]
fn nearest(x: f32) -> f32 {
    // Adding and subtracting 1.5 × 2^23 rounds to an integer.
    const ROUND: f32 = 12_582_912.0;
    ((x + ROUND) - ROUND).clamp(-8.0, 7.0)
}

/// The share with the least squared error, and that error; `unit` is 1 / scale.
fn best_share(group: &[f32], unit: f32) -> (f32, i8) {
    let largest = group
        .iter()
        .fold(0_f32, |m, x| if x.abs() > m.abs() { *x } else { m });
    if largest == 0.0 {
        return (0.0, 1);
    }
    // −8 reaches further than 7, so the share that gives the largest number this sign is tried first.
    let ideal = largest * unit / -8.0;
    let low = (0.75 * ideal.abs()).floor().clamp(1.0, f32::from(SHARE_MAX)) as i8;
    let high = (1.2 * ideal.abs()).ceil().clamp(1.0, f32::from(SHARE_MAX)) as i8;
    let mut best = (f32::INFINITY, 1);
    for size in low..=high {
        for share in [size, -size].map(|s| if ideal < 0.0 { -s } else { s }) {
            let (step, inverse) = (f32::from(share), 1.0 / f32::from(share));
            let mut errors = [0.0_f32; 8];
            for eight in group.chunks(8) {
                for (error, x) in errors.iter_mut().zip(eight) {
                    let x = x * unit;
                    let off = x - nearest(x * inverse) * step;
                    *error += off * off;
                }
            }
            let error = errors.iter().sum();
            if error < best.0 {
                best = (error, share);
            }
        }
    }
    best
}

/// Where a number lies in its panel: the byte, and by how many bits it is shifted.
#[inline(always)]
pub(crate) fn place(column: usize, input: usize) -> (usize, u32) {
    let (group, within) = (input / GROUP, input % GROUP);
    let (quad, i) = (within / 4, within % 4);
    (
        group * GROUP_BYTES + quad / 2 * 64 + column * 4 + i,
        if quad % 2 == 0 { 0 } else { 4 },
    )
}

/// What a panel holds where nothing has been written: zeros.
pub(crate) const EMPTY: u8 = ZERO | ZERO << 4;

/// The stored half of a number.
#[inline(always)]
pub(crate) fn spelt(number: i8) -> u8 {
    number.wrapping_add(ZERO as i8).cast_unsigned() & 15
}

/// The number that is stored in a byte at a shift.
#[inline(always)]
pub(crate) fn number(byte: u8, shift: u32) -> i8 {
    (byte >> shift & 15).cast_signed() - ZERO as i8
}

/// A row's bytes, share · number.
pub(crate) fn bytes<'a>(row: &'a [i8], shares: &'a [i8]) -> impl Iterator<Item = i8> + 'a {
    row.chunks(GROUP)
        .zip(shares)
        .flat_map(|(group, share)| group.iter().map(move |n| n * share))
}

#[inline(always)]
unsafe fn expand_in<V: Lanes>(
    _: PhantomData<V>,
    from: *const u8,
    shares: *const i8,
    groups: usize,
    to: *mut i8,
) {
    for group in 0..groups {
        let shares = shares.add(group * PANEL).cast::<[i8; PANEL]>().read();
        for line in 0..GROUP_BYTES / 64 {
            let bytes = from
                .add(group * GROUP_BYTES + line * 64)
                .cast::<[u8; 64]>()
                .read();
            let to = to.add((group * (GROUP / 8) + line) * 128);
            let (mut low, mut high) = ([0_i8; 64], [0_i8; 64]);
            for i in 0..64 {
                low[i] = number(bytes[i], 0).wrapping_mul(shares[i / 4]);
                high[i] = number(bytes[i], 4).wrapping_mul(shares[i / 4]);
            }
            to.cast::<[i8; 64]>().write(low);
            to.add(64).cast::<[i8; 64]>().write(high);
        }
    }
}

versions! {
    /// Spells a panel out as bytes, as [`crate::matrix`] lays them.
    ///
    /// # Safety
    /// `from` is good for so many groups of a panel, `shares` for 16 each, `to` for 512 bytes each.
    pub(crate) unsafe fn expand(from: *const u8, shares: *const i8, groups: usize, to: *mut i8) = expand_in
}

/// Writes −8 times the sum of each group of a row's bytes: what the stored halves' 8 too much amounts to.
///
/// # Safety
/// `row` is the row's place in its tiles, all steps of it written; `to` is good for two numbers a step.
pub(crate) unsafe fn group_sums(row: *const i8, steps: usize, to: *mut i32) {
    for step in 0..steps {
        let bytes = row.add(step * TILE).cast::<[i8; STEP]>().read();
        for (i, group) in bytes.chunks_exact(GROUP).enumerate() {
            let sum: i32 = group.iter().map(|b| i32::from(*b)).sum();
            *to.add(step * (STEP / GROUP) + i) = -i32::from(ZERO) * sum;
        }
    }
}

/// What the kernels below are given: a block of rows quantised with flip 0, and one or two panels.
#[derive(Clone, Copy)]
pub(crate) struct Nibbles {
    pub(crate) a: *const i8,
    /// For each row of the block and each group, from [`group_sums`].
    pub(crate) a_sums: *const i32,
    pub(crate) rows: usize,
    pub(crate) b: *const u8,
    /// `[panel][group][16]`
    pub(crate) shares: *const i8,
    /// 1 or 2.
    pub(crate) panels: usize,
    pub(crate) groups: usize,
    /// As of [`crate::dot::Dot`].
    pub(crate) ahead: usize,
    /// As of [`crate::dot::Dot`].
    pub(crate) acc: *mut i32,
}

const SQUARE: usize = BLOCK * BLOCK;
/// Lines of 64 bytes in a group.
const LINES: usize = GROUP_BYTES / 64;

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{avx2, vnni};

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! The x86-64 versions. A group's sums fit 16 bits (32 · 8 · 127 = 32 512), so one multiply-add of 16-bit pairs brings
    //! them to their share.

    use std::arch::x86_64::*;

    use super::{BLOCK, GROUP, GROUP_BYTES, LINES, Nibbles, SQUARE, STEP, TILE};

    /// # Safety
    /// AVX-512 F, BW and VNNI; the pointers are good for the sizes given.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    pub(crate) unsafe fn vnni(d: &Nibbles) {
        let (mut row, d) = (0, &mut { *d });
        while row < d.rows {
            let rows = (d.rows - row).min(6);
            match (rows, d.panels) {
                // One stream of weights arrives faster than two.
                (1, 2) => {
                    let second = Nibbles {
                        b: d.b.add(d.groups * GROUP_BYTES),
                        shares: d.shares.add(d.groups * BLOCK),
                        acc: d.acc.add(SQUARE),
                        ..*d
                    };
                    vnni_rows::<1, 1>(d, row);
                    vnni_rows::<1, 1>(&second, row);
                }
                (2, 2) => vnni_rows::<2, 2>(d, row),
                (3, 2) => vnni_rows::<3, 2>(d, row),
                (4, 2) => vnni_rows::<4, 2>(d, row),
                (5, 2) => vnni_rows::<5, 2>(d, row),
                (_, 2) => vnni_rows::<6, 2>(d, row),
                (1, _) => vnni_rows::<1, 1>(d, row),
                (2, _) => vnni_rows::<2, 1>(d, row),
                (3, _) => vnni_rows::<3, 1>(d, row),
                (4, _) => vnni_rows::<4, 1>(d, row),
                (5, _) => vnni_rows::<5, 1>(d, row),
                _ => vnni_rows::<6, 1>(d, row),
            }
            row += rows;
            d.ahead = 0;
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn vnni_rows<const R: usize, const P: usize>(d: &Nibbles, row: usize) {
        let halves = _mm512_set1_epi8(15);
        let low_words = _mm512_set1_epi32(0xffff);
        let panel_bytes = d.groups * GROUP_BYTES;
        let mut acc = [[_mm512_setzero_si512(); P]; R];
        for group in 0..d.groups {
            let a = d.a.add(group / 2 * TILE + row * STEP + group % 2 * GROUP);
            let b = d.b.add(group * GROUP_BYTES);
            // Two chains each, so that one row waits less for the last product.
            let mut even = [[_mm512_setzero_si512(); P]; R];
            let mut odd = [[_mm512_setzero_si512(); P]; R];
            for (r, even) in even.iter_mut().enumerate() {
                let sum = *d.a_sums.add((row + r) * d.groups + group);
                *even = [_mm512_set1_epi32(sum); P];
            }
            for line in 0..LINES {
                let (mut low, mut high) = ([halves; P], [halves; P]);
                for p in 0..P {
                    let at = b.add(p * panel_bytes + line * 64);
                    _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(d.ahead).cast());
                    let both = _mm512_load_si512(at.cast());
                    low[p] = _mm512_and_si512(both, halves);
                    high[p] = _mm512_and_si512(_mm512_srli_epi16::<4>(both), halves);
                }
                for r in 0..R {
                    let x = a.add(r * STEP + line * 8).cast::<i32>();
                    let (first, second) = (_mm512_set1_epi32(x.read()), _mm512_set1_epi32(x.add(1).read()));
                    for p in 0..P {
                        even[r][p] = _mm512_dpbusd_epi32(even[r][p], low[p], first);
                        if R <= 2 {
                            odd[r][p] = _mm512_dpbusd_epi32(odd[r][p], high[p], second);
                        } else {
                            even[r][p] = _mm512_dpbusd_epi32(even[r][p], high[p], second);
                        }
                    }
                }
            }
            for p in 0..P {
                let shares = d.shares.add((p * d.groups + group) * BLOCK);
                let share = _mm512_cvtepi8_epi32(_mm_loadu_si128(shares.cast()));
                let share = _mm512_and_si512(share, low_words);
                for r in 0..R {
                    let sum = if R <= 2 {
                        _mm512_add_epi32(even[r][p], odd[r][p])
                    } else {
                        even[r][p]
                    };
                    acc[r][p] = _mm512_dpwssd_epi32(acc[r][p], sum, share);
                }
            }
        }
        for r in 0..R {
            for p in 0..P {
                _mm512_storeu_si512(d.acc.add(p * SQUARE + (row + r) * BLOCK).cast(), acc[r][p]);
            }
        }
    }

    /// # Safety
    /// AVX2; the pointers are good for the sizes given.
    #[target_feature(enable = "avx2")]
    pub(crate) unsafe fn avx2(d: &Nibbles) {
        let (mut row, d) = (0, &mut { *d });
        while row < d.rows {
            let rows = (d.rows - row).min(3);
            match rows {
                1 => avx2_rows::<1>(d, row),
                2 => avx2_rows::<2>(d, row),
                _ => avx2_rows::<3>(d, row),
            }
            row += rows;
            d.ahead = 0;
        }
    }

    #[target_feature(enable = "avx2")]
    unsafe fn avx2_rows<const R: usize>(d: &Nibbles, row: usize) {
        let halves = _mm256_set1_epi8(15);
        let panel_bytes = d.groups * GROUP_BYTES;
        for panel in 0..d.panels {
            let mut acc = [[_mm256_setzero_si256(); 2]; R];
            for group in 0..d.groups {
                let a = d.a.add(group / 2 * TILE + row * STEP + group % 2 * GROUP);
                let b = d.b.add(panel * panel_bytes + group * GROUP_BYTES);
                // Pairs of inputs in 16 bits: each product of a pair is at most 2 · 15 · 127. The correction goes to the
                // first pair of each column; 16 bits wrap around in between and are right in the end.
                let mut sums = [[_mm256_setzero_si256(); 2]; R];
                for (r, sums) in sums.iter_mut().enumerate() {
                    let sum = *d.a_sums.add((row + r) * d.groups + group);
                    *sums = [_mm256_set1_epi32(sum & 0xffff); 2];
                }
                for line in 0..LINES {
                    _mm_prefetch::<_MM_HINT_T1>(b.wrapping_add(line * 64 + d.ahead).cast());
                    for half in 0..2 {
                        let both = _mm256_load_si256(b.add(line * 64 + half * 32).cast());
                        let low = _mm256_and_si256(both, halves);
                        let high = _mm256_and_si256(_mm256_srli_epi16::<4>(both), halves);
                        for r in 0..R {
                            let x = a.add(r * STEP + line * 8).cast::<i32>();
                            let first = _mm256_maddubs_epi16(low, _mm256_set1_epi32(x.read()));
                            let second = _mm256_maddubs_epi16(high, _mm256_set1_epi32(x.add(1).read()));
                            let pairs = _mm256_add_epi16(first, second);
                            sums[r][half] = _mm256_add_epi16(sums[r][half], pairs);
                        }
                    }
                }
                let shares = d.shares.add((panel * d.groups + group) * BLOCK);
                for half in 0..2 {
                    // The share in both words of its column.
                    let share = _mm256_cvtepi8_epi32(_mm_loadl_epi64(shares.add(half * 8).cast()));
                    let share = _mm256_blend_epi16::<0b1010_1010>(share, _mm256_slli_epi32::<16>(share));
                    for r in 0..R {
                        acc[r][half] =
                            _mm256_add_epi32(acc[r][half], _mm256_madd_epi16(sums[r][half], share));
                    }
                }
            }
            for r in 0..R {
                let to = d.acc.add(panel * SQUARE + (row + r) * BLOCK);
                _mm256_storeu_si256(to.cast(), acc[r][0]);
                _mm256_storeu_si256(to.add(8).cast(), acc[r][1]);
            }
        }
    }
}
