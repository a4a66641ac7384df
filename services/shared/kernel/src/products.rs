//! Products of bytes: rows that were quantised, times panels of weights of eight or four bits.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;

use crate::buffer::Buffer;
use crate::dot::{self, Dot};
use crate::isa::Isa;
use crate::kernels::Finish;
use crate::lanes::{LANES, Lanes, versions};
use crate::matrix::{Matrix, PANEL, Weights};
use crate::nibbles::{self, GROUP_BYTES, Nibbles};
use crate::rows::{BLOCK, Rows, STEP, TILE, UNSIGNED};

/// Bytes of weights that one sweep over the rows uses: they stay in the second-level cache meanwhile.
const SWEEP_BYTES: usize = 512 << 10;
/// Rows below which the tile unit is not worth setting up.
const TILE_ROWS_MIN: usize = 2;
/// As above, where weights of four bits must be spelt out for it.
const TILE_ROWS_MIN_NIBBLES: usize = 16;
/// Rows up to which VNNI is faster on four bits as such than on bytes spelt out; without it, they are always faster.
const NIBBLE_ROWS_MAX: usize = 32;

/// How weights are read in one product.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) isa: Isa,
    /// Four bits are read as such; otherwise bytes are, spelt out where they are not stored.
    pub(crate) nibbles: bool,
}

impl Reading {
    pub(crate) fn of(isa: Isa, w: &Matrix, rows: usize) -> Self {
        let four = matches!(w.weights, Weights::Int4 { .. });
        let tile_rows_min = if four {
            TILE_ROWS_MIN_NIBBLES
        } else {
            TILE_ROWS_MIN
        };
        let isa = if isa == Isa::Amx && rows < tile_rows_min {
            Isa::Vnni
        } else {
            isa
        };
        let nibbles = match isa {
            Isa::Scalar | Isa::Amx => false,
            Isa::Avx2 => four,
            Isa::AvxVnni | Isa::Vnni => four && rows <= NIBBLE_ROWS_MAX,
        };
        Self { isa, nibbles }
    }

    /// What the kernel wants its rows' bytes to be turned over by.
    pub(crate) fn flip(self) -> i8 {
        if matches!(self.isa, Isa::Vnni | Isa::AvxVnni) && !self.nibbles {
            UNSIGNED
        } else {
            0
        }
    }
}

/// A product of bytes.
#[derive(Clone, Copy)]
pub(crate) struct Bytes<'a> {
    reading: Reading,
    rows: &'a Rows,
    m: usize,
    w: &'a Matrix,
    scales: &'a [f32],
    sums: &'a [i32],
    steps: usize,
    y: *mut f32,
    finish: Finish,
}

// SAFETY: all is shared for reading but `y`, of which [`Bytes::run`] lets each thread write its own part.
unsafe impl Sync for Bytes<'_> {}

/// Sums of two blocks of rows and two panels.
#[repr(C, align(64))]
struct Sums([i32; 4 * BLOCK * BLOCK]);

thread_local! {
    /// Panels of four bits, spelt out.
    static SPELT: RefCell<Buffer<i8>> = RefCell::new(Buffer::zeroed(0));
}

impl<'a> Bytes<'a> {
    pub(crate) fn new(
        rows: &'a Rows,
        m: usize,
        w: &'a Matrix,
        reading: Reading,
        finish: Finish,
        y: &mut [f32],
    ) -> Self {
        let (Weights::Int8 { scales, sums, .. } | Weights::Int4 { scales, sums, .. }) = &w.weights else {
            unreachable!("called for bytes only");
        };
        Self {
            reading,
            rows,
            m,
            w,
            scales,
            sums,
            steps: w.inputs.div_ceil(STEP),
            y: y.as_mut_ptr(),
            finish,
        }
    }

    /// # Safety
    /// `y` is good for the whole product; nobody else writes these rows and panels; the set is available.
    pub(crate) unsafe fn run(&self, rows: Range<usize>, panels: Range<usize>) {
        debug_assert!(rows.end <= self.m && rows.start.is_multiple_of(BLOCK));
        #[cfg(target_arch = "x86_64")]
        let _tiles = if self.reading.isa == Isa::Amx {
            Some(crate::amx::Configured::new())
        } else {
            None
        };
        let sweep = (SWEEP_BYTES / self.panel_bytes()).max(2).next_multiple_of(2);
        let mut first = panels.start;
        while first < panels.end {
            let last = (first + sweep).min(panels.end);
            match &self.w.weights {
                Weights::Int8 { data, .. } => {
                    let at = data.as_ptr().add(first * self.panel_bytes());
                    self.sweep(rows.clone(), first..last, at);
                }
                Weights::Int4 { data, shares, .. } if !self.reading.nibbles => {
                    SPELT.with_borrow_mut(|spelt| {
                        self.spell(data, shares, first..last, spelt);
                        self.sweep(rows.clone(), first..last, spelt.as_ptr());
                    });
                }
                // The pointer is not used.
                _ => self.sweep(rows.clone(), first..last, std::ptr::null()),
            }
            first = last;
        }
    }

    /// Of one panel, spelt out.
    fn panel_bytes(&self) -> usize {
        self.steps * STEP * PANEL
    }

    unsafe fn spell(&self, data: &[u8], shares: &[i8], panels: Range<usize>, to: &mut Buffer<i8>) {
        let bytes = panels.len() * self.panel_bytes();
        if to.len() < bytes {
            *to = Buffer::zeroed(bytes);
        }
        let groups = nibbles::groups(self.w.inputs);
        for (i, panel) in panels.enumerate() {
            nibbles::expand(
                self.reading.isa,
                data.as_ptr().add(panel * groups * GROUP_BYTES),
                shares.as_ptr().add(panel * groups * PANEL),
                groups,
                to.as_mut_ptr().add(i * self.panel_bytes()),
            );
        }
    }

    /// All rows past some panels, which begin at `w`.
    unsafe fn sweep(&self, rows: Range<usize>, panels: Range<usize>, w: *const i8) {
        let mut acc = Sums([0; 4 * BLOCK * BLOCK]);
        let mut row = rows.start;
        while row < rows.end {
            let count = (rows.end - row).min(2 * BLOCK);
            let mut panel = panels.start;
            while panel < panels.end {
                let wide = (panels.end - panel).min(2);
                if self.reading.nibbles {
                    self.nibble_sums(row, count, panel, wide, &mut acc);
                } else {
                    let w = w.add((panel - panels.start) * self.panel_bytes());
                    self.sums(row, count, panel, wide, w, &mut acc);
                }
                finish_bytes(self.reading.isa, self, row, count, panel, wide, acc.0.as_ptr());
                panel += wide;
            }
            row += count;
        }
    }

    /// `acc[block][panel][row][column]`
    #[inline(always)]
    unsafe fn sums(&self, row: usize, count: usize, panel: usize, wide: usize, b: *const i8, acc: &mut Sums) {
        let block_bytes = self.steps * TILE;
        let a = self.rows.data.as_ptr().add(row / BLOCK * block_bytes);
        let acc = acc.0.as_mut_ptr();
        #[cfg(target_arch = "x86_64")]
        if self.reading.isa == Isa::Amx {
            // With one panel left, it is multiplied twice and the second result is not read.
            let other = if wide == 2 { b.add(self.panel_bytes()) } else { b };
            return if count > BLOCK {
                crate::amx::two_by_two(a, a.add(block_bytes), b, other, self.steps, acc);
            } else {
                crate::amx::one_by_two(a, b, other, self.steps, acc);
            };
        }
        let mut done = 0;
        while done < count {
            let block = done / BLOCK;
            let dot = Dot {
                a: a.add(block * block_bytes),
                rows: (count - done).min(BLOCK),
                b,
                panel: self.panel_bytes(),
                panels: wide,
                steps: self.steps,
                ahead: if row == 0 && done == 0 {
                    wide * self.panel_bytes()
                } else {
                    0
                },
                sums: self.sums.as_ptr().add(panel * PANEL),
                acc: acc.add(block * 2 * BLOCK * BLOCK),
            };
            match self.reading.isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Vnni => dot::vnni(&dot),
                #[cfg(target_arch = "x86_64")]
                Isa::AvxVnni => dot::avxvnni(&dot),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => dot::avx2(&dot),
                _ => dot::scalar(&dot),
            }
            done += BLOCK;
        }
    }

    /// As [`Self::sums`], of four bits.
    #[inline(always)]
    unsafe fn nibble_sums(&self, row: usize, count: usize, panel: usize, wide: usize, acc: &mut Sums) {
        let Weights::Int4 { data, shares, .. } = &self.w.weights else {
            unreachable!("called for four bits only");
        };
        let groups = nibbles::groups(self.w.inputs);
        let mut done = 0;
        while done < count {
            let first = row + done;
            let d = Nibbles {
                a: self.rows.data.as_ptr().add(first / BLOCK * self.steps * TILE),
                a_sums: self.rows.sums.as_ptr().add(first * groups),
                rows: (count - done).min(BLOCK),
                b: data.as_ptr().add(panel * groups * GROUP_BYTES),
                shares: shares.as_ptr().add(panel * groups * PANEL),
                panels: wide,
                groups,
                ahead: if row == 0 && done == 0 {
                    wide * groups * GROUP_BYTES
                } else {
                    0
                },
                acc: acc.0.as_mut_ptr().add(done / BLOCK * 2 * BLOCK * BLOCK),
            };
            match self.reading.isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Vnni => nibbles::vnni(&d),
                #[cfg(target_arch = "x86_64")]
                Isa::AvxVnni | Isa::Avx2 => nibbles::avx2(&d),
                _ => unreachable!("bytes are spelt out for this instruction set"),
            }
            done += BLOCK;
        }
    }
}

#[inline(always)]
unsafe fn finish_bytes_in<V: Lanes>(
    _: PhantomData<V>,
    p: &Bytes<'_>,
    row: usize,
    count: usize,
    panel: usize,
    wide: usize,
    acc: *const i32,
) {
    for i in 0..wide {
        let column = (panel + i) * PANEL;
        let width = LANES.min(p.w.outputs - column);
        let (w_scale, bias) = (
            V::load(p.scales.as_ptr().add(column)),
            V::load(p.w.bias.as_ptr().add(column)),
        );
        for r in 0..count {
            let from = acc.add(((r / BLOCK * 2 + i) * BLOCK + r % BLOCK) * BLOCK);
            let scale = V::splat(*p.rows.scales.as_ptr().add(row + r)).mul(w_scale);
            let mut v = p.finish.activation.apply(V::load_ints(from).fma(scale, bias));
            let to = p.y.add((row + r) * p.w.outputs + column);
            // Where the next panels' sums will go: rows lie so far apart that the processor does not foresee it.
            V::prefetch(to.wrapping_add(wide * LANES).cast());
            if width == LANES {
                if p.finish.add {
                    v = v.add(V::load(to));
                }
                v.store(to);
            } else {
                if p.finish.add {
                    v = v.add(V::load_first(to, width));
                }
                v.store_first(to, width);
            }
        }
    }
}

versions! {
    /// # Safety
    /// As [`Bytes::run`].
    unsafe fn finish_bytes(p: &Bytes<'_>, row: usize, count: usize, panel: usize, wide: usize, acc: *const i32) = finish_bytes_in
}
