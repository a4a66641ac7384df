//! Products in f32.

use std::marker::PhantomData;

use crate::lanes::{LANES, Lanes, versions};

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
