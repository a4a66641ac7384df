//! Sums of byte products for up to sixteen rows and one or two panels: one function for each instruction set.
//!
//! All give the same integers. `a` is a block of [`crate::rows::Rows`], `b` a panel of sixteen weight rows in which each
//! line of 64 bytes holds four consecutive inputs of all sixteen; `acc[panel][row][column]` gets rows 0..rows.
//! The two that use the dot product of unsigned and signed bytes want their rows quantised with
//! [`crate::rows::UNSIGNED`], the others with 0.

use crate::rows::{BLOCK, STEP, TILE};

/// What the kernels below are given.
#[derive(Clone, Copy)]
pub(crate) struct Dot {
    pub(crate) a: *const i8,
    pub(crate) rows: usize,
    pub(crate) b: *const i8,
    /// Bytes from one panel to the next.
    pub(crate) panel: usize,
    /// 1 or 2.
    pub(crate) panels: usize,
    /// Inputs, in units of 64.
    pub(crate) steps: usize,
    /// From a line of weights to the one that is asked for meanwhile; 0 where the weights are in the cache.
    pub(crate) ahead: usize,
    /// Sums of the weights, 16 a panel.
    pub(crate) sums: *const i32,
    pub(crate) acc: *mut i32,
}

const SQUARE: usize = BLOCK * BLOCK;
/// Lines of 64 bytes in a step.
const QUADS: usize = STEP / 4;

/// # Safety
/// The pointers are good for the sizes given.
pub(crate) unsafe fn scalar(d: &Dot) {
    for panel in 0..d.panels {
        let b = d.b.add(panel * d.panel);
        for row in 0..d.rows {
            let mut acc = [0_i32; BLOCK];
            for step in 0..d.steps {
                let a = d.a.add(step * TILE + row * STEP);
                let b = b.add(step * TILE);
                for quad in 0..QUADS {
                    for (column, acc) in acc.iter_mut().enumerate() {
                        for i in 0..4 {
                            let x = i32::from(*a.add(quad * 4 + i));
                            *acc += x * i32::from(*b.add(quad * STEP + column * 4 + i));
                        }
                    }
                }
            }
            d.acc
                .add(panel * SQUARE + row * BLOCK)
                .cast::<[i32; BLOCK]>()
                .write(acc);
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{avx2, avxvnni, vnni};

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! The x86-64 versions.

    use std::arch::x86_64::*;

    use super::{BLOCK, Dot, QUADS, SQUARE, STEP, TILE};

    /// Calls `$f::<R>` for blocks of at most `$most` rows.
    macro_rules! by_rows {
        ($d:ident, $f:ident, $most:literal, [$($n:literal),*]) => {{
            let mut row = 0;
            let mut d = *$d;
            while row < d.rows {
                let rows = (d.rows - row).min($most);
                match rows {
                    $($n => $f::<$n>(&d, row),)*
                    _ => unreachable!("at most {} rows", $most),
                }
                row += rows;
                d.ahead = 0;
            }
        }};
    }

    /// # Safety
    /// AVX2; the pointers are good for the sizes given.
    #[target_feature(enable = "avx2")]
    pub(crate) unsafe fn avx2(d: &Dot) {
        by_rows!(d, avx2_rows, 4, [1, 2, 3, 4]);
    }

    #[target_feature(enable = "avx2")]
    unsafe fn avx2_rows<const R: usize>(d: &Dot, row: usize) {
        let ones = _mm256_set1_epi16(1);
        for panel in 0..d.panels {
            let mut acc = [[_mm256_setzero_si256(); 2]; R];
            for step in 0..d.steps {
                let a = d.a.add(step * TILE + row * STEP);
                let b = d.b.add(panel * d.panel + step * TILE);
                for quad in 0..QUADS {
                    _mm_prefetch::<_MM_HINT_T1>(b.wrapping_add(quad * STEP + d.ahead));
                    let w = [
                        _mm256_load_si256(b.add(quad * STEP).cast()),
                        _mm256_load_si256(b.add(quad * STEP + 32).cast()),
                    ];
                    for r in 0..R {
                        let x = _mm256_set1_epi32(a.add(r * STEP + quad * 4).cast::<i32>().read());
                        // |x| ≤ 127 and |w| ≤ 127, so two products fit 16 bits: the sign of x goes to w.
                        let magnitude = _mm256_abs_epi8(x);
                        for half in 0..2 {
                            let pairs = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(w[half], x));
                            acc[r][half] = _mm256_add_epi32(acc[r][half], _mm256_madd_epi16(pairs, ones));
                        }
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

    /// # Safety
    /// AVX2 and AVX-VNNI; the pointers are good for the sizes given.
    #[target_feature(enable = "avx2,avxvnni")]
    pub(crate) unsafe fn avxvnni(d: &Dot) {
        by_rows!(d, avxvnni_rows, 4, [1, 2, 3, 4]);
    }

    #[target_feature(enable = "avx2,avxvnni")]
    unsafe fn avxvnni_rows<const R: usize>(d: &Dot, row: usize) {
        // The left bytes are 128 too large, so 128 × the sum of weights is taken off.
        for panel in 0..d.panels {
            let sums = d.sums.add(panel * BLOCK).cast::<__m256i>();
            let first = [
                _mm256_slli_epi32::<7>(_mm256_loadu_si256(sums)),
                _mm256_slli_epi32::<7>(_mm256_loadu_si256(sums.add(1))),
            ];
            let first = first.map(|s| _mm256_sub_epi32(_mm256_setzero_si256(), s));
            let mut acc = [first; R];
            for step in 0..d.steps {
                let a = d.a.add(step * TILE + row * STEP);
                let b = d.b.add(panel * d.panel + step * TILE);
                for quad in 0..QUADS {
                    _mm_prefetch::<_MM_HINT_T1>(b.wrapping_add(quad * STEP + d.ahead));
                    let w0 = _mm256_load_si256(b.add(quad * STEP).cast());
                    let w1 = _mm256_load_si256(b.add(quad * STEP + 32).cast());
                    for r in 0..R {
                        let x = _mm256_set1_epi32(a.add(r * STEP + quad * 4).cast::<i32>().read());
                        acc[r][0] = _mm256_dpbusd_avx_epi32(acc[r][0], x, w0);
                        acc[r][1] = _mm256_dpbusd_avx_epi32(acc[r][1], x, w1);
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

    /// # Safety
    /// AVX-512 F and VNNI; the pointers are good for the sizes given.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(crate) unsafe fn vnni(d: &Dot) {
        if d.rows == 1 {
            vnni_single(d);
        } else if d.panels == 2 {
            by_rows!(d, vnni_two, 8, [1, 2, 3, 4, 5, 6, 7, 8]);
        } else {
            by_rows!(d, vnni_one, 8, [1, 2, 3, 4, 5, 6, 7, 8]);
        }
    }

    /// One row, which is as fast as weights arrive: panel after panel, for one stream arrives faster than two, in four chains.
    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn vnni_single(d: &Dot) {
        /// Bytes that are on their way meanwhile.
        const AHEAD: usize = 4096;
        for panel in 0..d.panels {
            let sums = _mm512_loadu_si512(d.sums.add(panel * BLOCK).cast());
            let zero = _mm512_setzero_si512();
            let mut acc = [
                _mm512_sub_epi32(zero, _mm512_slli_epi32::<7>(sums)),
                zero,
                zero,
                zero,
            ];
            let b = d.b.add(panel * d.panel);
            for step in 0..d.steps {
                let (a, b) = (d.a.add(step * TILE), b.add(step * TILE));
                for quad in 0..QUADS {
                    let line = b.add(quad * STEP);
                    _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add(AHEAD));
                    let x = _mm512_set1_epi32(a.add(quad * 4).cast::<i32>().read());
                    acc[quad % 4] = _mm512_dpbusd_epi32(acc[quad % 4], x, _mm512_load_si512(line.cast()));
                }
            }
            let sum = _mm512_add_epi32(_mm512_add_epi32(acc[0], acc[1]), _mm512_add_epi32(acc[2], acc[3]));
            _mm512_storeu_si512(d.acc.add(panel * SQUARE).cast(), sum);
        }
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn vnni_one<const R: usize>(d: &Dot, row: usize) {
        vnni_rows::<R, 1>(d, row);
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn vnni_two<const R: usize>(d: &Dot, row: usize) {
        vnni_rows::<R, 2>(d, row);
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    #[inline]
    unsafe fn vnni_rows<const R: usize, const P: usize>(d: &Dot, row: usize) {
        let mut acc = [[_mm512_setzero_si512(); P]; R];
        for p in 0..P {
            let sums = _mm512_loadu_si512(d.sums.add(p * BLOCK).cast());
            let first = _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32::<7>(sums));
            for acc in &mut acc {
                acc[p] = first;
            }
        }
        for step in 0..d.steps {
            let a = d.a.add(step * TILE + row * STEP);
            let b = d.b.add(step * TILE);
            for quad in 0..QUADS {
                let mut w = [_mm512_setzero_si512(); P];
                for p in 0..P {
                    let line = b.add(p * d.panel + quad * STEP);
                    w[p] = _mm512_load_si512(line.cast());
                    _mm_prefetch::<_MM_HINT_T1>(line.wrapping_add(d.ahead));
                }
                for r in 0..R {
                    let x = _mm512_set1_epi32(a.add(r * STEP + quad * 4).cast::<i32>().read());
                    for p in 0..P {
                        acc[r][p] = _mm512_dpbusd_epi32(acc[r][p], x, w[p]);
                    }
                }
            }
        }
        for r in 0..R {
            for p in 0..P {
                _mm512_storeu_si512(d.acc.add(p * SQUARE + (row + r) * BLOCK).cast(), acc[r][p]);
            }
        }
    }
}
