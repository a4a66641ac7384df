//! Layer norm and root mean square norm of rows.

use std::marker::PhantomData;

use crate::lanes::{LANES, Lanes, versions};

#[inline(always)]
unsafe fn layer_norm_in<V: Lanes>(
    _: PhantomData<V>,
    x: *const f32,
    weight: *const f32,
    bias: *const f32,
    eps: f32,
    y: *mut f32,
    n: usize,
) {
    let whole = n - n % LANES;
    let tail = n - whole;
    let mut sum = V::splat(0.0);
    for i in (0..whole).step_by(LANES) {
        sum = sum.add(V::load(x.add(i)));
    }
    if tail > 0 {
        sum = sum.add(V::load_first(x.add(whole), tail));
    }
    let mean = V::splat(sum.sum() / n as f32);
    let mut squares = V::splat(0.0);
    for i in (0..whole).step_by(LANES) {
        let d = V::load(x.add(i)).sub(mean);
        squares = d.fma(d, squares);
    }
    // What is behind the end of the row must not count, so the tail is added number by number.
    let mut square_sum = squares.sum();
    for i in whole..n {
        let d = *x.add(i) - mean.to_array()[0];
        square_sum = d.mul_add(d, square_sum);
    }
    let scale = V::splat(1.0 / (square_sum / n as f32 + eps).sqrt());
    let mut i = 0;
    while i < n {
        let width = LANES.min(n - i);
        let d = V::load_first(x.add(i), width).sub(mean).mul(scale);
        d.fma(
            V::load_first(weight.add(i), width),
            V::load_first(bias.add(i), width),
        )
        .store_first(y.add(i), width);
        i += width;
    }
}

versions! {
    /// # Safety
    /// All pointers are good for `n` numbers; `y` may be `x`.
    pub(crate) unsafe fn layer_norm(x: *const f32, weight: *const f32, bias: *const f32, eps: f32, y: *mut f32, n: usize) = layer_norm_in
}

#[inline(always)]
unsafe fn rms_norm_in<V: Lanes>(
    _: PhantomData<V>,
    x: *const f32,
    weight: *const f32,
    eps: f32,
    y: *mut f32,
    n: usize,
) {
    let mut squares = V::splat(0.0);
    let mut i = 0;
    while i < n {
        let width = LANES.min(n - i);
        let v = V::load_first(x.add(i), width);
        squares = v.fma(v, squares);
        i += width;
    }
    let scale = V::splat(1.0 / (squares.sum() / n as f32 + eps).sqrt());
    let mut i = 0;
    while i < n {
        let width = LANES.min(n - i);
        V::load_first(x.add(i), width)
            .mul(scale)
            .mul(V::load_first(weight.add(i), width))
            .store_first(y.add(i), width);
        i += width;
    }
}

versions! {
    /// # Safety
    /// All pointers are good for `n` numbers; `y` may be `x`.
    pub(crate) unsafe fn rms_norm(x: *const f32, weight: *const f32, eps: f32, y: *mut f32, n: usize) = rms_norm_in
}
