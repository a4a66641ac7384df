//! The exact best `k` of many scores: dot products block by block, a bounded heap, ties by place in the catalogue.
//!
//! One pass over the catalogue, as fast as memory gives it (`tests/bench/run ranker`): over the factors, or where they are many over
//! a [`Sketch`] of them that leaves few to be read. [`Lists`] look at a part of the catalogue, where the rest may be missed.

mod lists;
mod sketch;

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use rayon::prelude::*;

pub use crate::linear::Matrix;
use crate::linear::{dot, wide};
pub use lists::Lists;
pub use sketch::Sketch;

/// An item (its place in the catalogue) and its score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    pub score: f32,
    pub item: u32,
}

impl Eq for Scored {}

impl Ord for Scored {
    /// Greater is better: the higher score, then the earlier item.
    fn cmp(&self, other: &Self) -> Ordering {
        self.score
            .total_cmp(&other.score)
            .then(other.item.cmp(&self.item))
    }
}

impl PartialOrd for Scored {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Keeps the best `k` of what it is offered.
#[derive(Debug)]
pub(crate) struct TopK {
    k: usize,
    /// The worst kept on top.
    heap: BinaryHeap<Reverse<Scored>>,
}

impl TopK {
    pub(crate) fn new(k: usize) -> Self {
        Self {
            k,
            heap: BinaryHeap::with_capacity(k + 1),
        }
    }

    fn is_full(&self) -> bool {
        self.heap.len() >= self.k
    }

    /// Whether an item whose score is at most this could be kept. What is no number could be anything.
    fn could_want(&self, bound: f32) -> bool {
        self.heap.len() < self.k
            || self
                .heap
                .peek()
                .is_some_and(|worst| bound.partial_cmp(&worst.0.score) != Some(Ordering::Less))
    }

    /// Whether an item with this score would be kept.
    pub(crate) fn wants(&self, scored: Scored) -> bool {
        self.heap.len() < self.k || self.heap.peek().is_some_and(|worst| scored > worst.0)
    }

    pub(crate) fn offer(&mut self, scored: Scored) {
        if self.wants(scored) {
            self.heap.push(Reverse(scored));
            if self.heap.len() > self.k {
                self.heap.pop();
            }
        }
    }

    fn merge(mut self, other: Self) -> Self {
        other.heap.into_iter().for_each(|Reverse(s)| self.offer(s));
        self
    }

    /// Best first.
    pub(crate) fn into_sorted(self) -> Vec<Scored> {
        let mut best: Vec<Scored> = self.heap.into_iter().map(|Reverse(s)| s).collect();
        best.sort_unstable_by(|a, b| b.cmp(a));
        best
    }
}

/// A linear score: `query · row(item) + boost(item)`.
#[derive(Debug)]
pub struct Linear<'a> {
    /// `[items, factors]`
    pub rows: &'a Matrix,
    /// `[factors]`
    pub query: &'a [f32],
    /// By item, ascending; absent means zero.
    pub boosts: &'a [(u32, f32)],
    /// Of `rows`, if there is one: the best are the same, and found sooner.
    pub sketch: Option<&'a Sketch>,
}

/// Rows per block: 4096 scores are 16 KiB, and with factors of 64 a block is 1 MiB, so it streams through the cache.
const BLOCK_ROWS: usize = 4096;
/// Below this many multiplications the threads cost more than they save.
const PARALLEL_MULTIPLICATIONS_MIN: usize = 8_000_000;

impl Linear<'_> {
    pub(crate) fn score(&self, item: u32) -> f32 {
        let boost = self
            .boosts
            .binary_search_by_key(&item, |b| b.0)
            .map_or(0.0, |n| self.boosts[n].1);
        dot(self.query, self.rows.row(item as usize)) + boost
    }

    /// Every item's score.
    pub(crate) fn scores(&self) -> Vec<f32> {
        let mut scores = vec![0.0; self.rows.rows()];
        self.fill(0, &mut scores);
        scores
    }

    fn fill(&self, first: usize, scores: &mut [f32]) {
        let d = self.rows.columns();
        let block = &self.rows.values[first * d..(first + scores.len()) * d];
        wide(
            #[inline(always)]
            || {
                for (score, row) in scores.iter_mut().zip(block.chunks_exact(d)) {
                    *score = dot(self.query, row);
                }
            },
        );
        self.boost(first, scores);
    }

    /// Adds the boosts of the items from `first` on.
    fn boost(&self, first: usize, scores: &mut [f32]) {
        let begin = self.boosts.partition_point(|b| (b.0 as usize) < first);
        for &(item, boost) in &self.boosts[begin..] {
            match scores.get_mut(item as usize - first) {
                Some(score) => *score += boost,
                None => break,
            }
        }
    }

    /// The best `k` that `admits` lets pass, best first. `admits` is asked only of items that would be kept.
    pub fn top_k(&self, k: usize, admits: impl Fn(u32) -> bool + Sync) -> Vec<Scored> {
        let blocks = self.rows.rows().div_ceil(BLOCK_ROWS);
        let asked = self.sketch.map(|sketch| (sketch, sketch.ask(self.query)));
        let step = |(mut top, mut scores): (TopK, Vec<f32>), block: usize| {
            let first = block * BLOCK_ROWS;
            scores.resize(BLOCK_ROWS.min(self.rows.rows() - first), 0.0);
            if let Some((sketch, asked)) = &asked {
                sketch.bounds(asked, first, &mut scores);
                self.boost(first, &mut scores);
                for (n, &bound) in scores.iter().enumerate() {
                    let item = (first + n) as u32;
                    if top.could_want(bound) {
                        let score = self.score(item);
                        let scored = Scored { score, item };
                        if top.wants(scored) && admits(item) {
                            top.offer(scored);
                        }
                    }
                }
                return (top, scores);
            }
            self.fill(first, &mut scores);
            for (n, &score) in scores.iter().enumerate() {
                let scored = Scored {
                    score,
                    item: (first + n) as u32,
                };
                if top.wants(scored) && admits(scored.item) {
                    top.offer(scored);
                }
            }
            (top, scores)
        };
        let empty = || (TopK::new(k), Vec::new());
        if self.rows.values.len() < PARALLEL_MULTIPLICATIONS_MIN {
            return (0..blocks).fold(empty(), step).0.into_sorted();
        }
        // The order is total, so the best k are the same however the blocks are shared out.
        let tops = (0..blocks).into_par_iter().fold(empty, step).map(|(top, _)| top);
        tops.reduce(|| TopK::new(k), TopK::merge).into_sorted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    proptest! {
        #[test]
        fn the_best_k_are_those_of_a_full_sort(
            // Few distinct values, so that ties are common.
            rows in prop::collection::vec(prop::collection::vec(-2i8..3, 3), 1..300),
            boosts in prop::collection::btree_map(0u32..300, -2i8..3, 0..40),
            k in 0usize..40, odd_only in any::<bool>(),
        ) {
            let matrix = Matrix::new(3, rows.iter().flatten().map(|&v| f32::from(v)).collect());
            let boosts: Vec<(u32, f32)> =
                boosts.into_iter().filter(|(i, _)| (*i as usize) < rows.len()).map(|(i, b)| (i, f32::from(b))).collect();
            let sketch = Sketch::made(&matrix);
            let linear = Linear { rows: &matrix, query: &[1.0, -1.0, 0.5], boosts: &boosts, sketch: None };
            let admits = |i: u32| !odd_only || i % 2 == 1;
            let mut all: Vec<Scored> = (0..rows.len() as u32)
                .filter(|&i| admits(i)).map(|item| Scored { score: linear.score(item), item }).collect();
            all.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.item.cmp(&b.item)));
            all.truncate(k);
            prop_assert_eq!(&linear.top_k(k, admits), &all);
            let sketched = Linear { sketch: Some(&sketch), ..linear };
            prop_assert_eq!(sketched.top_k(k, admits), all);
        }

        #[test]
        fn a_sketch_changes_nothing_however_uneven_the_numbers_are(
            seed in any::<u64>(), columns in 1usize..70, rows in 1usize..400, k in 1usize..30, spread in 0.0f32..12.0,
        ) {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            // Lengths of rows and sizes of numbers over many orders of magnitude, some rows of zeros.
            let mut number = |_| match random.random_range(0..8) {
                0 => 0.0,
                _ => (random.random::<f32>() - 0.5) * (spread * (random.random::<f32>() - 0.5)).exp(),
            };
            let matrix = Matrix::new(columns, (0..rows * columns).map(&mut number).collect());
            let query: Vec<f32> = (0..columns).map(number).collect();
            let linear = Linear { rows: &matrix, query: &query, boosts: &[], sketch: None };
            let sketch = Sketch::made(&matrix);
            let bounded = Linear { rows: &matrix, query: &query, boosts: &[], sketch: Some(&sketch) };
            prop_assert_eq!(linear.top_k(k, |_| true), bounded.top_k(k, |_| true));
            let mut bounds = vec![0.0; rows];
            sketch.bounds(&sketch.ask(&query), 0, &mut bounds);
            for (item, bound) in bounds.iter().enumerate() {
                prop_assert!(*bound >= linear.score(item as u32), "item {}", item);
            }
        }
    }

    #[test]
    fn many_blocks_on_many_threads_give_the_same_best() {
        let rows = 3 * BLOCK_ROWS + 17;
        let columns = PARALLEL_MULTIPLICATIONS_MIN / rows + 1;
        let value = |n: usize| ((n * 2_654_435_761) % 1_000) as f32 / 1_000.0;
        let matrix = Matrix::new(columns, (0..rows * columns).map(value).collect());
        let query: Vec<f32> = (0..columns).map(|n| value(n + 5) - 0.5).collect();
        let boosts = [(BLOCK_ROWS as u32, 1e3), (rows as u32 - 1, 2e3)];
        let linear = Linear {
            rows: &matrix,
            query: &query,
            boosts: &boosts,
            sketch: None,
        };
        let scores = linear.scores();
        let mut order: Vec<u32> = (0..rows as u32).collect();
        order.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]).then(a.cmp(&b)));
        let best: Vec<u32> = linear.top_k(50, |_| true).iter().map(|s| s.item).collect();
        assert_eq!(best, order[..50]);
        let sketch = Sketch::made(&matrix);
        let sketched = Linear {
            sketch: Some(&sketch),
            ..linear
        };
        let best: Vec<u32> = sketched.top_k(50, |_| true).iter().map(|s| s.item).collect();
        assert_eq!(best, order[..50]);
    }
}
