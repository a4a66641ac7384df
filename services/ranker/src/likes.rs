//! What a ranker learns from: who liked (or at least had) which item, in order of time, by user and by item.

use refract_domain::Signal;
use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::interactions::Act;

/// How much each signal counts as evidence of taste.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalWeights {
    pub liked: f32,
    /// Without an opinion known; between 0 (ignored) and 1.
    pub seen: f32,
    /// Evidence against, when a history is served; training ignores dislikes.
    pub disliked: f32,
}

impl Default for SignalWeights {
    fn default() -> Self {
        Self {
            liked: 1.0,
            seen: 0.5,
            disliked: 0.1,
        }
    }
}

impl SignalWeights {
    /// Weight of an observation; negative for evidence against.
    pub(crate) fn of(&self, signal: Signal) -> f32 {
        match signal {
            Signal::Liked => self.liked,
            Signal::Seen => self.seen,
            Signal::Disliked => -self.disliked,
        }
    }
}

/// One interaction as the ranker looks at it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    pub item: u32,
    pub signal: Signal,
}

/// A sparse matrix by rows: `columns` of a row ascend, `weights` go with them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sparse {
    pub(crate) ends: Vec<usize>,
    pub(crate) columns: Vec<u32>,
    pub(crate) weights: Vec<f32>,
}

impl Sparse {
    pub(crate) fn rows(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let begin = if row == 0 { 0 } else { self.ends[row - 1] };
        let range = begin..self.ends[row];
        (&self.columns[range.clone()], &self.weights[range])
    }

    pub(crate) fn from_rows(rows: impl IntoIterator<Item = Vec<(u32, f32)>>) -> Self {
        let mut sparse = Self::default();
        for row in rows {
            for (column, weight) in row {
                sparse.columns.push(column);
                sparse.weights.push(weight);
            }
            sparse.ends.push(sparse.columns.len());
        }
        sparse
    }

    /// Rows of the result ascend, because rows are walked in order.
    pub(crate) fn transposed(&self, columns: usize) -> Self {
        let mut ends = vec![0usize; columns];
        for &column in &self.columns {
            ends[column as usize] += 1;
        }
        let mut total = 0;
        for end in &mut ends {
            total += *end;
            *end = total;
        }
        let mut next: Vec<usize> = (0..columns)
            .map(|c| if c == 0 { 0 } else { ends[c - 1] })
            .collect();
        let mut out = Self {
            ends,
            columns: vec![0; self.columns.len()],
            weights: vec![0.0; self.columns.len()],
        };
        for row in 0..self.rows() {
            let (own, weights) = self.row(row);
            for (&column, &weight) in own.iter().zip(weights) {
                let slot = &mut next[column as usize];
                out.columns[*slot] = row as u32;
                out.weights[*slot] = weight;
                *slot += 1;
            }
        }
        out
    }
}

/// The training data of one fit.
#[derive(Clone, Debug)]
pub(crate) struct Likes {
    pub(crate) items: usize,
    /// User × item, what counts as positive, with its weight; each item once.
    pub(crate) positives: Sparse,
    /// Per user the liked items, oldest first, each once (at its newest time).
    pub(crate) sequences: Vec<DatedItems>,
    pub(crate) newest_at: i64,
}

impl Likes {
    /// `acts` holds each user's acts, oldest first.
    pub(crate) fn new<'a>(
        dataset: &Dataset,
        weights: SignalWeights,
        acts: impl Iterator<Item = &'a [Act]>,
    ) -> Result<Self> {
        let mut sequences = Vec::new();
        let mut newest_at = i64::MIN;
        let rows: Vec<WeighedItems> = acts
            .map(|own| {
                let (row, sequence) = of_user(dataset, weights, own);
                newest_at = own.last().map_or(newest_at, |a| newest_at.max(a.at));
                sequences.push(sequence);
                row
            })
            .collect();
        if sequences.iter().all(Vec::is_empty) {
            return Err(Error::Lacking {
                what: "likes",
                reason: "a ranker learns from interactions that are likes",
            });
        }
        let items = dataset.catalogue().len();
        Ok(Self {
            items,
            positives: Sparse::from_rows(rows),
            sequences,
            newest_at,
        })
    }

    pub(crate) fn of_dataset(dataset: &Dataset, weights: SignalWeights) -> Result<Self> {
        let interactions = dataset.interactions();
        Self::new(
            dataset,
            weights,
            (0..interactions.users_len() as u32).map(|u| interactions.of(u)),
        )
    }

    /// How many users liked each item.
    pub(crate) fn like_counts(&self) -> Vec<u32> {
        let mut counts = vec![0; self.items];
        for &(item, _) in self.sequences.iter().flatten() {
            counts[item as usize] += 1;
        }
        counts
    }
}

/// Items with weights, ascending by item.
type WeighedItems = Vec<(u32, f32)>;
/// Items with times, oldest first.
type DatedItems = Vec<(u32, i64)>;

/// A user's positives by item and liked items by time. Of several acts on one item the newest says what was thought.
fn of_user(dataset: &Dataset, weights: SignalWeights, acts: &[Act]) -> (WeighedItems, DatedItems) {
    let mut row: Vec<(u32, f32)> = Vec::with_capacity(acts.len());
    let mut sequence = Vec::new();
    let mut met = std::collections::HashSet::with_capacity(acts.len());
    for act in acts.iter().rev().filter(|a| met.insert(a.item)) {
        let signal = dataset.signal(act);
        let weight = weights.of(signal);
        if weight > 0.0 {
            row.push((act.item, weight));
        }
        if signal == Signal::Liked {
            sequence.push((act.item, act.at));
        }
    }
    row.sort_unstable_by_key(|(item, _)| *item);
    sequence.reverse();
    (row, sequence)
}
