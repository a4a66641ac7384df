//! How much the texts differ among themselves. Both shares fall as a corpus grows: compare only equal numbers of texts.

use std::collections::HashSet;

/// USR: different word sequences over texts. 1 if no text is said twice, 0 of no texts.
pub fn unique_share<S: AsRef<str> + Eq + std::hash::Hash>(texts: &[Vec<S>]) -> f64 {
    let different: HashSet<&Vec<S>> = texts.iter().collect();
    share(different.len(), texts.len())
}

/// Distinct-n: different n-grams over all n-grams of the corpus.
pub fn distinct<S: AsRef<str>>(texts: &[Vec<S>], n: usize) -> f64 {
    let mut different: HashSet<Vec<&str>> = HashSet::new();
    let mut all = 0;
    for run in texts.iter().flat_map(|text| text.windows(n.max(1))) {
        all += 1;
        different.insert(run.iter().map(AsRef::as_ref).collect());
    }
    share(different.len(), all)
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    part as f64 / whole as f64
}
