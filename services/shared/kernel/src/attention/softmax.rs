//! The middle of attention: scores become weights.

use crate::lanes::{LANES, Lanes};

/// Turns `n` scores into e^(score·scale + bias − max); the rest up to `padded` becomes 0. Returns their sum.
#[inline(always)]
pub(super) unsafe fn exponentials<V: Lanes>(
    scores: *mut f32,
    n: usize,
    padded: usize,
    scale: f32,
    bias: Option<*const f32>,
) -> f32 {
    let scale = V::splat(scale);
    let lowest = V::splat(f32::MIN);
    let mut largest = lowest;
    let whole = n - n % LANES;
    let mut i = 0;
    while i < n {
        let mut x = V::load(scores.add(i)).mul(scale);
        if let Some(bias) = bias {
            x = x.add(V::load(bias.add(i)));
        }
        x.store(scores.add(i));
        if i < whole {
            largest = largest.max(x);
        }
        i += LANES;
    }
    let mut max = largest.largest();
    for i in whole..n {
        let x = *scores.add(i);
        // A NaN must not be lost: it becomes the maximum, and then everything.
        max = if x > max || x.is_nan() { x } else { max };
    }
    let max = V::splat(max);
    let mut sum = V::splat(0.0);
    i = 0;
    while i < whole {
        let x = V::load(scores.add(i)).sub(max);
        // The same for the whole vectors, where `max` may have passed over a NaN: exp clamps, x · 0 does not.
        let e = x.exp().add(x.sub(x));
        e.store(scores.add(i));
        sum = sum.add(e);
        i += LANES;
    }
    if whole < n {
        let x = V::load_first(scores.add(whole), n - whole).sub(max);
        let e = x.exp().add(x.sub(x));
        e.store(scores.add(whole));
        for j in n..(whole + LANES).min(padded) {
            *scores.add(j) = 0.0;
        }
        sum = sum.add(V::load_first(scores.add(whole), n - whole));
        i = whole + LANES;
    }
    while i < padded {
        V::splat(0.0).store(scores.add(i));
        i += LANES;
    }
    sum.sum()
}
