//! The entry: an instruction set, a pool of threads, and the operations that use them.

use std::marker::PhantomData;

use crate::buffer::Shared;
use crate::elementwise::{self, Activation};
use crate::error::Error;
use crate::floats;
use crate::isa::Isa;
use crate::lanes::{LANES, Lanes, versions};
use crate::matrix::{Matrix, PANEL, Weights};
use crate::nibbles;
use crate::norm;
use crate::pool::Pool;
use crate::products::{Bytes, Reading};
use crate::rows::{BLOCK, Rows, STEP, TILE, quantise_row};

/// Runs operations on vectors, matrices and attention memory.
///
/// Every result is the same, bit for bit, on any instruction set and any number of threads, and a row's result does not
/// depend on the other rows of the call.
#[derive(Debug)]
pub struct Kernels {
    pub(crate) isa: Isa,
    pub(crate) pool: Pool,
}

/// What a product does with its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Finish {
    /// Applied after the bias.
    pub activation: Activation,
    /// Adds to what is there (a residual) instead of replacing it.
    pub add: bool,
}

/// Memory that products use in passing, kept between them.
#[derive(Debug)]
pub struct Scratch {
    rows: Rows,
}

impl Scratch {
    pub fn new() -> Self {
        Self { rows: Rows::new() }
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

/// Numbers below which an operation is not shared out.
const SHARE_MIN: usize = 1 << 14;
/// Multiply-adds of floats below which a product is not shared out: about ten microseconds, what it takes to wake a thread.
pub(crate) const SHARE_WORK_MIN: usize = 1 << 18;

impl Kernels {
    /// `threads` counts the calling one.
    pub fn new(isa: Isa, threads: usize) -> Result<Self, Error> {
        Self::standing_back(isa, threads, 0)
    }

    /// The same, where the threads besides the calling one stand back for others, as [`crate::stand_back`] says.
    pub fn standing_back(isa: Isa, threads: usize, nice: u8) -> Result<Self, Error> {
        Ok(Self {
            isa: isa.checked()?,
            pool: Pool::new(threads, nice)?,
        })
    }

    pub fn isa(&self) -> Isa {
        self.isa
    }

    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Says that no work follows closely, so that threads which wait for some need not stay awake: on a small model they spent a
    /// tenth of a Prism's processor waiting.
    pub fn rest(&self) {
        self.pool.rest();
    }

    /// y = x · Wᵀ + bias, finished as `finish` says. `x` `[m × inputs]`, `y` `[m × outputs]`.
    pub fn multiply(&self, x: &[f32], w: &Matrix, finish: Finish, y: &mut [f32], scratch: &mut Scratch) {
        let m = x.len().checked_div(w.inputs).unwrap_or(0);
        assert_eq!(
            x.len(),
            m * w.inputs,
            "this is a bug: x is no whole number of rows"
        );
        assert_eq!(
            y.len(),
            m * w.outputs,
            "this is a bug: y has another size than the product"
        );
        if m == 0 || w.outputs == 0 {
            return;
        }
        if let Weights::F32(data) = &w.weights {
            return self.multiply_floats(x, m, data, w, finish, y);
        }
        let reading = Reading::of(self.isa, w, m);
        self.quantise(x, m, w.inputs, reading, &mut scratch.rows);
        self.multiply_bytes(&scratch.rows, m, w, reading, finish, y);
    }

    fn quantise(&self, x: &[f32], m: usize, n: usize, reading: Reading, rows: &mut Rows) {
        let (steps, groups) = (n.div_ceil(STEP), nibbles::groups(n));
        rows.reserve(m, steps);
        if reading.nibbles && rows.sums.len() < m * groups {
            rows.sums.resize(m * groups, 0);
        }
        let flip = reading.flip();
        let (data, scales) = (Shared(rows.data.as_mut_ptr()), Shared(rows.scales.as_mut_ptr()));
        let sums = Shared(rows.sums.as_mut_ptr());
        self.share(m, n, |row| {
            let place = row / BLOCK * (steps * TILE) + row % BLOCK * STEP;
            // SAFETY: there is room for m rows and their sums, and each part writes its own row's places.
            unsafe {
                let to = data.get().add(place);
                let scale = quantise_row(reading.isa, x.as_ptr().add(row * n), n, to, flip);
                *scales.get().add(row) = scale;
                if reading.nibbles {
                    nibbles::group_sums(to, steps, sums.get().add(row * groups));
                }
            }
        });
    }

    fn multiply_bytes(
        &self,
        rows: &Rows,
        m: usize,
        w: &Matrix,
        reading: Reading,
        finish: Finish,
        y: &mut [f32],
    ) {
        let panels = w.outputs.div_ceil(PANEL);
        let whole = Bytes::new(rows, m, w, reading, finish, y);
        self.divide(
            m * w.outputs * w.inputs / 4,
            m.div_ceil(2 * BLOCK),
            panels.div_ceil(2),
            |blocks, pairs| {
                let rows = blocks.start * 2 * BLOCK..(blocks.end * 2 * BLOCK).min(m);
                let panels = pairs.start * 2..(pairs.end * 2).min(panels);
                // SAFETY: the pointers are good for the whole product; parts of `divide` do not overlap in `y`.
                unsafe { whole.run(rows, panels) };
            },
        );
    }

    fn multiply_floats(&self, x: &[f32], m: usize, data: &[f32], w: &Matrix, finish: Finish, y: &mut [f32]) {
        /// Rows and panels of one block: its sums fit the first-level cache.
        const ROWS: usize = 12;
        const PANELS: usize = 8;
        let panels = w.outputs.div_ceil(PANEL);
        let (to, n, k) = (Shared(y.as_mut_ptr()), w.outputs, w.inputs);
        self.divide(
            m * n * k,
            m.div_ceil(ROWS),
            panels.div_ceil(PANELS),
            |blocks, groups| {
                let mut sums = [0.0_f32; ROWS * PANELS * PANEL];
                for group in groups {
                    let first = group * PANELS;
                    let count = PANELS.min(panels - first);
                    for block in blocks.clone() {
                        let row = block * ROWS;
                        let rows = ROWS.min(m - row);
                        // SAFETY: x, w and y have the sizes checked by `multiply`; blocks of `y` do not overlap.
                        unsafe {
                            let a = x.as_ptr().add(row * k);
                            let b = data.as_ptr().add(first * k * PANEL);
                            floats::product(
                                self.isa,
                                rows,
                                count,
                                k,
                                a,
                                k,
                                b,
                                PANEL,
                                k * PANEL,
                                sums.as_mut_ptr(),
                                PANELS * PANEL,
                            );
                            for r in 0..rows {
                                let columns = (count * PANEL).min(n - first * PANEL);
                                let bias = w.bias.as_ptr().add(first * PANEL);
                                let to = to.get().add((row + r) * n + first * PANEL);
                                finish_floats(
                                    self.isa,
                                    sums.as_ptr().add(r * PANELS * PANEL),
                                    bias,
                                    columns,
                                    finish,
                                    to,
                                );
                            }
                        }
                    }
                }
            },
        );
    }

    /// Divides a product of blocks of rows and groups of columns among the threads. `work` is in multiply-adds of floats.
    fn divide(
        &self,
        work: usize,
        blocks: usize,
        groups: usize,
        job: impl Fn(std::ops::Range<usize>, std::ops::Range<usize>) + Sync,
    ) {
        let threads = self.threads();
        if threads == 1 || work < SHARE_WORK_MIN {
            return job(0..blocks, 0..groups);
        }
        // Twice as many parts as threads, so that one that is late holds up less.
        let parts = 2 * threads;
        if blocks >= 4 * parts {
            self.pool
                .run(parts, |i| job(part_of(blocks, parts, i), 0..groups));
        } else {
            let parts = parts.min(groups);
            self.pool
                .run(parts, |i| job(0..blocks, part_of(groups, parts, i)));
        }
    }

    /// Calls `job` for each of `m` rows of `n` numbers, shared out where that pays.
    pub(crate) fn share(&self, m: usize, n: usize, job: impl Fn(usize) + Sync) {
        let threads = self.threads();
        if threads == 1 || m * n < SHARE_MIN {
            return (0..m).for_each(job);
        }
        let parts = (2 * threads).min(m);
        self.pool.run(parts, |i| part_of(m, parts, i).for_each(&job));
    }

    /// Each row of `x` `[rows × weight]`, in place.
    pub fn layer_norm(&self, x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
        let n = weight.len();
        assert!(
            n > 0 && bias.len() == n && x.len().is_multiple_of(n),
            "this is a bug: rows of another width"
        );
        let (m, x) = (x.len() / n, Shared(x.as_mut_ptr()));
        self.share(m, n, |row| {
            // SAFETY: rows lie within `x` and apart from each other.
            unsafe {
                let x = x.get().add(row * n);
                norm::layer_norm(self.isa, x, weight.as_ptr(), bias.as_ptr(), eps, x, n);
            }
        });
    }

    /// Each row of `x` `[rows × weight]`, into `y`.
    pub fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
        let n = weight.len();
        assert!(
            n > 0 && x.len().is_multiple_of(n) && y.len() == x.len(),
            "this is a bug: rows of another width"
        );
        let (m, y) = (x.len() / n, Shared(y.as_mut_ptr()));
        self.share(m, n, |row| {
            // SAFETY: rows lie within `x` and `y` and apart from each other.
            unsafe {
                norm::rms_norm(
                    self.isa,
                    x.as_ptr().add(row * n),
                    weight.as_ptr(),
                    eps,
                    y.get().add(row * n),
                    n,
                );
            }
        });
    }

    pub fn activate(&self, activation: Activation, x: &mut [f32]) {
        // SAFETY: the slice is good for its length.
        unsafe { elementwise::activate(self.isa, activation, x.as_mut_ptr(), x.len()) };
    }

    /// Of rows `[gate | linear]` of 2 × `width` in `x`: activation(gate) · linear into `y` `[rows × width]`.
    pub fn gate(&self, activation: Activation, x: &[f32], width: usize, y: &mut [f32]) {
        assert!(
            width > 0 && x.len() == 2 * y.len() && y.len().is_multiple_of(width),
            "this is a bug: rows of another width"
        );
        let (m, y) = (y.len() / width, Shared(y.as_mut_ptr()));
        self.share(m, width, |row| {
            // SAFETY: rows lie within `x` and `y` and apart from each other.
            unsafe {
                let (x, y) = (x.as_ptr().add(row * 2 * width), y.get().add(row * width));
                std::ptr::copy_nonoverlapping(x, y, width);
                elementwise::gate(self.isa, activation, y, x.add(width), width);
            }
        });
    }

    /// x += y
    pub fn add(&self, x: &mut [f32], y: &[f32]) {
        assert_eq!(x.len(), y.len(), "this is a bug: different lengths");
        // SAFETY: both are good for their length.
        unsafe { elementwise::add(self.isa, x.as_mut_ptr(), y.as_ptr(), x.len()) };
    }
}

/// The `i`th of `parts` parts of 0..n, as even as can be.
pub(crate) fn part_of(n: usize, parts: usize, i: usize) -> std::ops::Range<usize> {
    n * i / parts..n * (i + 1) / parts
}

#[inline(always)]
unsafe fn finish_floats_in<V: Lanes>(
    _: PhantomData<V>,
    from: *const f32,
    bias: *const f32,
    n: usize,
    finish: Finish,
    to: *mut f32,
) {
    let mut i = 0;
    while i < n {
        let width = LANES.min(n - i);
        let mut v = finish
            .activation
            .apply(V::load_first(from.add(i), width).add(V::load_first(bias.add(i), width)));
        if finish.add {
            v = v.add(V::load_first(to.add(i), width));
        }
        v.store_first(to.add(i), width);
        i += width;
    }
}

versions! {
    /// # Safety
    /// The pointers are good for `n` numbers.
    unsafe fn finish_floats(from: *const f32, bias: *const f32, n: usize, finish: Finish, to: *mut f32) = finish_floats_in
}
