//! Arithmetic over one line of logits: written so that the compiler vectorises it, and allocation-free.

const LANES: usize = 16;

/// The largest value; `None` where the line cannot be used: a NaN, an infinity upwards, or nothing finite.
///
/// Minus infinity alone is sound: a model may forbid a token by its bias.
pub(crate) fn max_if_sound(line: &[f32]) -> Option<f32> {
    let mut max = [f32::NEG_INFINITY; LANES];
    let mut nan = [0u32; LANES];
    let (chunks, tail) = line.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            let x = chunk[lane];
            max[lane] = if x > max[lane] { x } else { max[lane] };
            nan[lane] |= u32::from(x.is_nan());
        }
    }
    for (lane, x) in tail.iter().enumerate() {
        max[lane] = max[lane].max(*x);
        nan[lane] |= u32::from(x.is_nan());
    }
    let max = max.into_iter().fold(f32::NEG_INFINITY, f32::max);
    (nan.iter().all(|n| *n == 0) && max.is_finite()).then_some(max)
}

/// Turns logits into log-probabilities in place. `false` where the line cannot be used.
#[must_use]
pub(crate) fn log_softmax(line: &mut [f32]) -> bool {
    let Some(max) = max_if_sound(line) else {
        return false;
    };
    let mut sums = [0f32; LANES];
    let (chunks, tail) = line.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            sums[lane] += exp_of_negative(chunk[lane] - max);
        }
    }
    for (lane, x) in tail.iter().enumerate() {
        sums[lane] += exp_of_negative(x - max);
    }
    let log_sum = sums.into_iter().map(f64::from).sum::<f64>().ln() as f32;
    for x in line {
        *x = (*x - max) - log_sum;
    }
    true
}

/// e^x for x ≤ 0, without branches; relative error under 2e-7, and 0 below the smallest normal number.
///
/// Range reduction x = n ln 2 + r with |r| ≤ ln 2 / 2, Taylor to the seventh power in r (remainder r^8/8! < 6e-9),
/// then n into the exponent bits.
#[inline(always)]
fn exp_of_negative(x: f32) -> f32 {
    // Adding and subtracting 1.5 × 2^23 rounds to the nearest integer, which the compiler can vectorise everywhere.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = if x > -87.0 { x } else { -87.0 };
    let rounded = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (clamped - n * LN2_HIGH) - n * LN2_LOW;
    let mut p = 1.0 / 5040.0;
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = p * r + c;
    }
    // The low bits of `rounded` are n; those above are shifted out.
    let scale = f32::from_bits(rounded.to_bits().wrapping_add(127) << 23);
    let y = p * scale;
    if x > -87.0 { y } else { 0.0 }
}

/// The `k` best scores with what they belong to, best first; of equal scores, the one that came first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Best<T> {
    k: usize,
    items: Vec<(f32, T)>,
}

impl<T: Copy> Best<T> {
    pub(crate) fn reset(&mut self, k: usize) {
        self.k = k;
        self.items.clear();
    }

    /// What a score must exceed to be kept. Minus infinity is never kept.
    #[inline]
    pub(crate) fn threshold(&self) -> f32 {
        if self.items.len() < self.k {
            f32::NEG_INFINITY
        } else {
            self.items[self.k - 1].0
        }
    }

    pub(crate) fn offer(&mut self, score: f32, item: T) {
        if self.k == 0 || score.is_nan() || score <= self.threshold() {
            return;
        }
        let at = self.items.partition_point(|(other, _)| *other >= score);
        self.items.truncate(self.k - 1);
        self.items.insert(at, (score, item));
    }

    pub(crate) fn items(&self) -> &[(f32, T)] {
        &self.items
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate_over_its_whole_range() {
        for i in 0..870_000 {
            let x = -(i as f32) / 10_000.0;
            let (got, want) = (f64::from(exp_of_negative(x)), f64::from(x).exp());
            assert!(
                (got - want).abs() <= 2.5e-7 * want + 1e-38,
                "exp({x}) = {got}, not {want}"
            );
        }
        assert_eq!(exp_of_negative(f32::NEG_INFINITY), 0.0);
    }

    #[test]
    fn log_softmax_sums_to_one_and_keeps_forbidden_tokens_forbidden() {
        let mut line: Vec<f32> = (0..1003)
            .map(|i| ((i * 7919) % 1000) as f32 / 37.0 - 10.0)
            .collect();
        line[5] = f32::NEG_INFINITY;
        let max = line.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = line.iter().map(|x| f64::from(x - max).exp()).sum();
        let want: Vec<f64> = line
            .iter()
            .map(|x| f64::from(*x) - f64::from(max) - sum.ln())
            .collect();
        assert!(log_softmax(&mut line));
        for (got, want) in line.iter().zip(want) {
            assert!(
                f64::from(*got) == want || (f64::from(*got) - want).abs() < 1e-5,
                "{got} {want}"
            );
        }
    }

    #[test]
    fn a_line_with_nan_or_infinity_or_nothing_is_unsound() {
        for at in [0, 15, 16, 33] {
            for bad in [f32::NAN, f32::INFINITY] {
                let mut line = vec![1.0; 34];
                line[at] = bad;
                assert_eq!(max_if_sound(&line), None, "{bad} at {at}");
            }
        }
        assert_eq!(max_if_sound(&[f32::NEG_INFINITY; 3]), None);
        assert_eq!(max_if_sound(&[f32::NEG_INFINITY, -2.0]), Some(-2.0));
    }

    #[test]
    fn best_keeps_the_first_of_equals() {
        let mut best = Best::default();
        best.reset(3);
        for (i, score) in [1.0, 3.0, 2.0, 3.0, 2.0, f32::NEG_INFINITY]
            .into_iter()
            .enumerate()
        {
            best.offer(score, i);
        }
        assert_eq!(best.items(), [(3.0, 1), (3.0, 3), (2.0, 2)]);
    }
}
