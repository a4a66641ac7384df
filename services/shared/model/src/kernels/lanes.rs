//! Loops over rows of numbers that a compiler can turn into vector instructions.

use std::sync::LazyLock;

/// Partial sums side by side: as many as two AVX2 registers hold. Fixed, so that sums come out alike on every processor.
const LANES: usize = 16;

/// Compiles what is inlined into `work` for the widest instructions at hand, chosen at run time.
#[inline(always)]
pub(super) fn wide<R>(work: impl FnOnce() -> R) -> R {
    static ARCH: LazyLock<pulp::Arch> = LazyLock::new(pulp::Arch::new);
    ARCH.dispatch(work)
}

/// Of numbers that are not NaN; −∞ of none.
#[inline(always)]
pub(super) fn maximum(row: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let (blocks, rest) = row.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for block in blocks {
        lanes
            .iter_mut()
            .zip(block)
            .for_each(|(lane, x)| *lane = larger(*x, *lane));
    }
    lanes
        .iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |a, b| larger(*b, a))
}

#[inline(always)]
pub(super) fn sum(row: &[f32]) -> f32 {
    sum_of(row, row, |x, _| x)
}

/// Sum of e^(x − max).
#[inline(always)]
pub(super) fn exp_sum(row: &[f32], max: f32) -> f32 {
    sum_of(row, row, |x, _| exp(x - max))
}

/// Sum of f(a, b) over two rows of one length.
#[inline(always)]
pub(super) fn sum_of(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut lanes = [0_f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += f(*a, *b);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| f(*a, *b)).sum();
    // Halved again and again: the order in which vector instructions would add them, too.
    let mut n = LANES;
    while n > 1 {
        n /= 2;
        for i in 0..n {
            lanes[i] += lanes[i + n];
        }
    }
    lanes[0] + rest
}

/// e^x within 2·10⁻⁷ of it, relatively; 0 below the smallest normal number, e^88 above it.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LOWEST: f32 = -87.336_54;
    const HIGHEST: f32 = 88.0;
    /// Adding it leaves a whole number in the lower bits of the sum.
    const WHOLE: f32 = 12_582_912.0;
    // ln 2 in two parts, so that what is left of x is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let inside = if x < LOWEST { LOWEST } else { x };
    let inside = if inside > HIGHEST { HIGHEST } else { inside };
    let shifted = inside * std::f32::consts::LOG2_E + WHOLE;
    let n = shifted - WHOLE;
    let r = inside - n * LN_2_HIGH - n * LN_2_LOW; // within ± ln 2 / 2
    // The exponential series up to r⁶ / 720: the next term is below 2·10⁻⁷.
    let series = 1.0
        + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0))))));
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    if x < LOWEST { 0.0 } else { series * power }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_within_two_in_ten_million_wherever_it_is_a_normal_number() {
        for i in -87_336..=88_000 {
            let x = i as f32 / 1_000.0;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 2.5e-7, "e^{x}: {} is {error:e} off", exp(x));
        }
        assert_eq!((exp(0.0), exp(-1e4), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
        assert!(exp(f32::NAN).is_nan(), "what is wrong stays visible");
    }

    #[test]
    fn sums_and_maxima_of_any_length_are_those_of_a_plain_loop() {
        for n in 0..70 {
            let a: Vec<f32> = (0..n).map(|i| ((i * 37) % 101) as f32 - 50.0).collect();
            let b: Vec<f32> = (0..n).map(|i| ((i * 53) % 17) as f32).collect();
            let plain: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
            assert_eq!(wide(|| sum_of(&a, &b, |a, b| a * b)), plain);
            assert_eq!(sum(&a), a.iter().sum::<f32>());
            assert_eq!(maximum(&a), a.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
    }
}
