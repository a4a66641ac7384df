//! Activation functions, and sums and products of equally long vectors.

use std::marker::PhantomData;

use crate::lanes::{LANES, Lanes, versions};

/// What a feed-forward layer does to each number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    #[default]
    Identity,
    Relu,
    /// x Φ(x), by the error function (Abramowitz and Stegun 7.1.26, |ε| ≤ 1.5e-7); absolute error under 1e-6.
    GeluErf,
    /// The tanh approximation of it; absolute error against the formula under 1e-6.
    GeluTanh,
    /// x · sigmoid(1.702 x)
    GeluQuick,
    Silu,
    Tanh,
}

#[inline(always)]
unsafe fn sigmoid<V: Lanes>(x: V) -> V {
    let one = V::splat(1.0);
    one.div(one.add(V::splat(0.0).sub(x).exp()))
}

impl Activation {
    #[inline(always)]
    pub(crate) unsafe fn apply<V: Lanes>(self, x: V) -> V {
        match self {
            Self::Identity => x,
            // NaN must stay: max may drop it, so it is brought back by adding x · 0.
            Self::Relu => x.max(V::splat(0.0)).add(x.mul(V::splat(0.0))),
            Self::GeluErf => {
                let z = x.abs().mul(V::splat(std::f32::consts::FRAC_1_SQRT_2));
                let one = V::splat(1.0);
                let t = one.div(z.fma(V::splat(0.327_591_1), one));
                let mut p = V::splat(1.061_405_4);
                for c in [-1.453_152_1, 1.421_413_8, -0.284_496_74, 0.254_829_6] {
                    p = p.fma(t, V::splat(c));
                }
                let tail = p.mul(t).mul(V::splat(0.0).sub(z.mul(z)).exp());
                let erf = one.sub(tail).with_sign(x);
                let half = x.mul(V::splat(0.5));
                half.fma(erf, half)
            }
            Self::GeluTanh => {
                // ½ (1 + tanh u) = sigmoid(2u)
                let cubic = x.mul(x).fma(V::splat(0.044_715), V::splat(1.0));
                let u = x.mul(cubic).mul(V::splat(1.595_769));
                x.mul(sigmoid(u))
            }
            Self::GeluQuick => x.mul(sigmoid(x.mul(V::splat(1.702)))),
            Self::Silu => x.mul(sigmoid(x)),
            // exp clamps, so NaN is brought back as above.
            Self::Tanh => V::splat(2.0)
                .fma(sigmoid(x.add(x)), V::splat(-1.0))
                .add(x.mul(V::splat(0.0))),
        }
    }
}

#[inline(always)]
unsafe fn activate_in<V: Lanes>(_: PhantomData<V>, how: Activation, x: *mut f32, n: usize) {
    let mut i = 0;
    while i + LANES <= n {
        how.apply(V::load(x.add(i))).store(x.add(i));
        i += LANES;
    }
    if i < n {
        how.apply(V::load_first(x.add(i), n - i))
            .store_first(x.add(i), n - i);
    }
}

versions! {
    /// # Safety
    /// `x` is good for `n` numbers.
    pub(crate) unsafe fn activate(how: Activation, x: *mut f32, n: usize) = activate_in
}

#[inline(always)]
unsafe fn gate_in<V: Lanes>(_: PhantomData<V>, how: Activation, x: *mut f32, by: *const f32, n: usize) {
    let mut i = 0;
    while i < n {
        let width = LANES.min(n - i);
        let y = how
            .apply(V::load_first(x.add(i), width))
            .mul(V::load_first(by.add(i), width));
        y.store_first(x.add(i), width);
        i += width;
    }
}

versions! {
    /// x = how(x) · by
    ///
    /// # Safety
    /// `x` and `by` are good for `n` numbers.
    pub(crate) unsafe fn gate(how: Activation, x: *mut f32, by: *const f32, n: usize) = gate_in
}

#[inline(always)]
unsafe fn add_in<V: Lanes>(_: PhantomData<V>, x: *mut f32, y: *const f32, n: usize) {
    let mut i = 0;
    while i < n {
        let width = LANES.min(n - i);
        V::load_first(x.add(i), width)
            .add(V::load_first(y.add(i), width))
            .store_first(x.add(i), width);
        i += width;
    }
}

versions! {
    /// x += y
    ///
    /// # Safety
    /// `x` and `y` are good for `n` numbers.
    pub(crate) unsafe fn add(x: *mut f32, y: *const f32, n: usize) = add_in
}
