//! What texts speak of: FMR, FCR and DIV over a vocabulary of features (words or short phrases: "price", "film noir").

use std::collections::{BTreeSet, HashMap};

use crate::words::{Words, words};

/// A vocabulary of features.
#[derive(Clone, Debug)]
pub struct Features {
    how: Words,
    /// By first word: (feature, its words).
    by_first: HashMap<String, Vec<(usize, Vec<String>)>>,
    by_words: HashMap<Vec<String>, usize>,
}

/// The features of one text, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found(BTreeSet<usize>);

impl Features {
    /// Features that are cut into the same words are one; those without words are none.
    pub fn new<S: AsRef<str>>(features: impl IntoIterator<Item = S>, how: Words) -> Self {
        let mut by_words = HashMap::new();
        let mut by_first: HashMap<String, Vec<(usize, Vec<String>)>> = HashMap::new();
        for feature in features {
            let cut = words(feature.as_ref(), how);
            let Some(first) = cut.first().cloned().filter(|_| !by_words.contains_key(&cut)) else {
                continue;
            };
            let id = by_words.len();
            by_words.insert(cut.clone(), id);
            by_first.entry(first).or_default().push((id, cut));
        }
        Self {
            how,
            by_first,
            by_words,
        }
    }

    pub fn len(&self) -> usize {
        self.by_words.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_words.is_empty()
    }

    /// The features that occur in a text as whole words.
    pub fn find<S: AsRef<str>>(&self, text: &[S]) -> Found {
        let starts = |at: usize, feature: &[String]| {
            text.len() >= at + feature.len() && feature.iter().zip(&text[at..]).all(|(f, w)| f == w.as_ref())
        };
        let mut found = BTreeSet::new();
        for (at, word) in text.iter().enumerate() {
            for (id, feature) in self.by_first.get(word.as_ref()).into_iter().flatten() {
                if starts(at, feature) {
                    found.insert(*id);
                }
            }
        }
        Found(found)
    }

    /// Whether a text with these features speaks of `feature`; `None` if the vocabulary lacks it.
    pub fn speaks_of(&self, found: &Found, feature: &str) -> Option<bool> {
        let id = self.by_words.get(&words(feature, self.how))?;
        Some(found.0.contains(id))
    }

    /// FCR: different features over all texts, as a share of the vocabulary.
    pub fn coverage(&self, texts: &[Found]) -> f64 {
        if self.is_empty() {
            return 0.0;
        }
        let spoken: BTreeSet<usize> = texts.iter().flat_map(|t| t.0.iter().copied()).collect();
        spoken.len() as f64 / self.len() as f64
    }

    /// DIV: features that two texts share, mean over all pairs of texts; lower is more varied.
    ///
    /// A feature of `c` texts is shared by c(c−1)/2 pairs, so one pass over the texts is enough.
    pub fn sharing(&self, texts: &[Found]) -> f64 {
        let mut counts: HashMap<usize, u64> = HashMap::new();
        for feature in texts.iter().flat_map(|t| &t.0) {
            *counts.entry(*feature).or_insert(0) += 1;
        }
        let pairs = |n: u64| n * n.saturating_sub(1) / 2;
        let all = pairs(texts.len() as u64);
        if all == 0 {
            return 0.0;
        }
        counts.values().map(|c| pairs(*c)).sum::<u64>() as f64 / all as f64
    }
}
