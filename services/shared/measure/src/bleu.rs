//! BLEU of a corpus with one reference a text: clipped n-gram precisions, geometric mean, brevity penalty, no smoothing.

use std::collections::HashMap;
use std::ops::AddAssign;

/// Longest n-gram that is counted.
pub(crate) const ORDER_MAX: usize = 4;

/// What one pair, or the sum of many, contributes; sums of pairs are the corpus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bleu {
    /// n-grams of the text that its reference has too, clipped to how often it has them.
    matched: [u64; ORDER_MAX],
    total: [u64; ORDER_MAX],
    text_words: u64,
    reference_words: u64,
}

impl Bleu {
    pub fn of<S: AsRef<str>>(text: &[S], reference: &[S]) -> Self {
        let mut bleu = Self {
            text_words: text.len() as u64,
            reference_words: reference.len() as u64,
            ..Self::default()
        };
        for n in 1..=ORDER_MAX {
            let (ours, theirs) = (grams(text, n), grams(reference, n));
            bleu.total[n - 1] = ours.values().sum();
            bleu.matched[n - 1] = ours
                .iter()
                .map(|(gram, count)| (*count).min(theirs.get(gram).copied().unwrap_or(0)))
                .sum();
        }
        bleu
    }

    /// 0 to 100, over n-grams of 1 to `order` words; 0 if any order has no match, as in the reference implementations.
    pub fn score(&self, order: usize) -> f64 {
        let order = order.clamp(1, ORDER_MAX);
        if self.matched[..order].contains(&0) {
            return 0.0;
        }
        let mean_log = (0..order)
            .map(|n| (self.matched[n] as f64 / self.total[n] as f64).ln())
            .sum::<f64>()
            / order as f64;
        let brevity = if self.text_words >= self.reference_words {
            0.0
        } else {
            1.0 - self.reference_words as f64 / self.text_words as f64
        };
        100.0 * (mean_log + brevity).exp()
    }
}

impl AddAssign for Bleu {
    fn add_assign(&mut self, other: Self) {
        for n in 0..ORDER_MAX {
            self.matched[n] += other.matched[n];
            self.total[n] += other.total[n];
        }
        self.text_words += other.text_words;
        self.reference_words += other.reference_words;
    }
}

/// How often each run of `n` words occurs.
pub(crate) fn grams<S: AsRef<str>>(words: &[S], n: usize) -> HashMap<Vec<&str>, u64> {
    let mut counts = HashMap::new();
    for run in words.windows(n) {
        *counts.entry(run.iter().map(AsRef::as_ref).collect()).or_insert(0) += 1;
    }
    counts
}
