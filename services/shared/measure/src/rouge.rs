//! ROUGE of one text against its reference: n-grams in common, and the longest common subsequence. Corpus values are means.

use std::collections::HashSet;

use crate::bleu::grams;

/// Precision, recall and their F; 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prf {
    pub precision: f64,
    pub recall: f64,
    pub f: f64,
}

impl Prf {
    fn of(common: f64, text: f64, reference: f64) -> Self {
        if text == 0.0 || reference == 0.0 {
            return Self::default();
        }
        let (precision, recall) = (common / text, common / reference);
        let f = if common > 0.0 {
            2.0 * precision * recall / (precision + recall)
        } else {
            0.0
        };
        Self { precision, recall, f }
    }
}

/// As the `rouge_score` library: clipped counts, F1.
pub fn rouge_n<S: AsRef<str>>(text: &[S], reference: &[S], n: usize) -> Prf {
    let (ours, theirs) = (grams(text, n), grams(reference, n));
    let common: u64 = ours
        .iter()
        .map(|(gram, count)| (*count).min(theirs.get(gram).copied().unwrap_or(0)))
        .sum();
    let count = |grams: &std::collections::HashMap<_, u64>| grams.values().sum::<u64>() as f64;
    Prf::of(common as f64, count(&ours), count(&theirs))
}

/// As in PETER's evaluation: each n-gram counts once, however often it occurs.
pub fn rouge_n_of_sets<S: AsRef<str>>(text: &[S], reference: &[S], n: usize) -> Prf {
    let set = |words: &[S]| -> HashSet<Vec<String>> {
        words
            .windows(n)
            .map(|run| run.iter().map(|w| w.as_ref().to_owned()).collect())
            .collect()
    };
    let (ours, theirs) = (set(text), set(reference));
    let common = ours.intersection(&theirs).count();
    Prf::of(common as f64, ours.len() as f64, theirs.len() as f64)
}

/// As the `rouge_score` library: longest common subsequence of the whole texts, F1.
pub fn rouge_l<S: AsRef<str>>(text: &[S], reference: &[S]) -> Prf {
    let common = longest_common(text, reference);
    Prf::of(common as f64, text.len() as f64, reference.len() as f64)
}

/// As in PETER's evaluation: F with beta = precision / recall, which leans towards the smaller of the two.
pub fn rouge_l_by_ratio<S: AsRef<str>>(text: &[S], reference: &[S]) -> Prf {
    let plain = rouge_l(text, reference);
    if plain.f == 0.0 {
        return plain;
    }
    let (p, r) = (plain.precision, plain.recall);
    let square = (p / r) * (p / r);
    Prf {
        f: (1.0 + square) * r * p / (r + square * p),
        ..plain
    }
}

fn longest_common<S: AsRef<str>>(a: &[S], b: &[S]) -> usize {
    // One row of the table at a time; `diagonal` is the cell up and left.
    let mut row = vec![0usize; b.len() + 1];
    for x in a {
        let mut diagonal = 0;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if x.as_ref() == y.as_ref() {
                diagonal + 1
            } else {
                above.max(row[j])
            };
            diagonal = above;
        }
    }
    row.last().copied().unwrap_or(0)
}
