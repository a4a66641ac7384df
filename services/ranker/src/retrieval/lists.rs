//! The best of a part of a catalogue: items in lists of their like, and only the lists that fit a query best are looked at.
//!
//! Lists are what k-means finds among the factors (an inverted file). Within them a [`Sketch`] passes over most items unread, as in an
//! exact pass; so a tenth of the catalogue is a tenth of the time. What is missed lies in lists whose middles fit less well.

use std::collections::BinaryHeap;

use rayon::prelude::*;

use super::{Linear, Scored, Sketch, TopK};
use crate::linear::{Matrix, dot, wide};

/// Rows per list from which its middle is learnt.
const SAMPLES_EACH: usize = 64;
const ROUNDS: usize = 8;
/// So many standard deviations above its middle are the best of a list of some thousand. Of a million vectors without any order, 0.3 of
/// them then hold 95 % of the best 100; by middles alone 82 %.
const DEVIATIONS: f32 = 3.0;

/// A catalogue's items in lists of their like.
#[derive(Clone, Debug)]
pub struct Lists {
    /// `[lists, factors]`
    middles: Matrix,
    /// `[lists]`: how far a list's items lie from its middle in any one direction, as a standard deviation.
    spreads: Vec<f32>,
    /// Where each list ends in `items`.
    ends: Vec<usize>,
    /// Places in the catalogue, list after list.
    items: Vec<u32>,
    /// Of the factors in the order of `items`.
    sketch: Sketch,
}

impl Lists {
    /// As many lists as the root of the items, so that choosing lists and looking at one cost alike. Nothing for a catalogue that gains
    /// nothing by it. Takes seconds for a million items.
    pub fn of(rows: &Matrix) -> Option<Self> {
        Sketch::is_worth_it(rows).then(|| Self::made(rows, (rows.rows() as f64).sqrt() as usize))
    }

    /// `lists` from 1 to the number of rows.
    pub(super) fn made(rows: &Matrix, lists: usize) -> Self {
        let middles = middles(rows, lists);
        let nearest = nearest(&rows.values, &middles);
        let mut items: Vec<u32> = (0..rows.rows() as u32).collect();
        items.sort_by_key(|item| nearest[*item as usize]);
        let mut ends = vec![0; lists];
        nearest.iter().for_each(|list| ends[*list as usize] += 1);
        let mut apart = vec![0.0_f64; lists];
        for (row, list) in rows.values.chunks_exact(rows.columns()).zip(&nearest) {
            let differences = row
                .iter()
                .zip(middles.row(*list as usize))
                .map(|(x, middle)| x - middle);
            apart[*list as usize] += differences.map(|x| f64::from(x * x)).sum::<f64>();
        }
        let in_one_direction = |(apart, count): (f64, &usize)| {
            (apart / (*count).max(1) as f64 / rows.columns() as f64).sqrt() as f32
        };
        let spreads = apart.into_iter().zip(&ends).map(in_one_direction).collect();
        let mut end = 0;
        for each in &mut ends {
            end += *each;
            *each = end;
        }
        let ordered = items.iter().flat_map(|item| rows.row(*item as usize)).copied();
        let ordered = Matrix::new(rows.columns(), ordered.collect());
        Self {
            middles,
            spreads,
            ends,
            sketch: Sketch::made(&ordered),
            items,
        }
    }

    /// The best `k` that `admits` lets pass among a `share` of the items (0 to 1), best first; looks further while there are fewer than
    /// `k`. Items with a boost are all looked at. With a share of 1 they are the best of all.
    pub fn top_k(
        &self,
        linear: &Linear<'_>,
        share: f32,
        k: usize,
        admits: impl Fn(u32) -> bool,
    ) -> Vec<Scored> {
        let mut top = TopK::new(k);
        let offer = |top: &mut TopK, item: u32, score: f32| {
            let scored = Scored { score, item };
            if top.wants(scored) && admits(item) {
                top.offer(scored);
            }
        };
        let score = |item: u32| dot(linear.query, linear.rows.row(item as usize));
        for &(item, boost) in linear.boosts {
            offer(&mut top, item, score(item) + boost);
        }
        let asked = self.sketch.ask(linear.query);
        let most = (f64::from(share) * self.items.len() as f64).ceil() as usize;
        let (mut looked, mut bounds) = (0, Vec::new());
        let mut order = self.by_fit(linear.query);
        while let Some(list) = order.pop().filter(|_| looked < most || !top.is_full()) {
            let list = list.item as usize;
            let begin = if list == 0 { 0 } else { self.ends[list - 1] };
            let items = &self.items[begin..self.ends[list]];
            looked += items.len();
            bounds.resize(items.len(), 0.0);
            self.sketch.bounds(&asked, begin, &mut bounds);
            for (&item, &bound) in items.iter().zip(&bounds) {
                let is_boosted = || linear.boosts.binary_search_by_key(&item, |b| b.0).is_ok();
                if top.could_want(bound) && !is_boosted() {
                    offer(&mut top, item, score(item));
                }
            }
        }
        top.into_sorted()
    }

    /// Of the best `k` for the factors of so many items, spread over the catalogue, the share that is found among a `share` of the items.
    pub fn recall(&self, linear: &Linear<'_>, share: f32, k: usize, queries: usize) -> f32 {
        let (mut found, mut all) = (0, 0);
        for n in 0..queries {
            let linear = Linear {
                query: linear.rows.row(n * linear.rows.rows() / queries),
                boosts: &[],
                ..*linear
            };
            let best = linear.top_k(k, |_| true);
            let here = self.top_k(&linear, share, k, |_| true);
            all += best.len();
            found += best.iter().filter(|scored| here.contains(scored)).count();
        }
        found as f32 / all.max(1) as f32
    }

    /// Lists with the scores of the best that each may be expected to hold, the greatest on top.
    fn by_fit(&self, query: &[f32]) -> BinaryHeap<Scored> {
        let reach = DEVIATIONS * dot(query, query).sqrt();
        let fit = |list: usize| Scored {
            score: dot(query, self.middles.row(list)) + reach * self.spreads[list],
            item: list as u32,
        };
        wide(
            #[inline(always)]
            || (0..self.middles.rows()).map(fit).collect(),
        )
    }
}

/// Middles of `lists` groups of rows, by k-means over a sample: the same for the same rows.
fn middles(rows: &Matrix, lists: usize) -> Matrix {
    let d = rows.columns();
    let samples = (lists * SAMPLES_EACH).min(rows.rows());
    // Evenly spread over the catalogue.
    let spread = |count: usize| (0..count).map(move |n| n * rows.rows() / count);
    let taken = |count: usize| -> Vec<f32> { spread(count).flat_map(|row| rows.row(row)).copied().collect() };
    let sample = taken(samples);
    let mut middles = Matrix::new(d, taken(lists));
    for _ in 0..ROUNDS {
        let nearest = nearest(&sample, &middles);
        let (mut sums, mut counts) = (vec![0.0_f64; lists * d], vec![0_u32; lists]);
        for (row, list) in sample.chunks_exact(d).zip(nearest) {
            let list = list as usize;
            counts[list] += 1;
            let sum = &mut sums[list * d..(list + 1) * d];
            sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        for (list, count) in counts.into_iter().enumerate().filter(|(_, count)| *count > 0) {
            let sum = &sums[list * d..(list + 1) * d];
            let middle = middles.row_mut(list).iter_mut();
            middle
                .zip(sum)
                .for_each(|(x, sum)| *x = (sum / f64::from(count)) as f32);
        }
    }
    middles
}

/// For each row of `values`, the middle that is nearest: the first of those.
fn nearest(values: &[f32], middles: &Matrix) -> Vec<u32> {
    let d = middles.columns();
    // |row - middle|² without |row|², halved and turned round.
    let halves: Vec<f32> = (0..middles.rows())
        .map(|list| dot(middles.row(list), middles.row(list)) / 2.0)
        .collect();
    let of_row = |row: &[f32]| {
        wide(
            #[inline(always)]
            || {
                let mut best = (f32::NEG_INFINITY, 0);
                for (list, half) in halves.iter().enumerate() {
                    let near = dot(row, middles.row(list)) - half;
                    if near > best.0 {
                        best = (near, list as u32);
                    }
                }
                best.1
            },
        )
    };
    values.par_chunks_exact(d).map(of_row).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const WIDTH: usize = 8;

    /// Items around a few tastes, as a catalogue's are.
    fn catalogue(seed: u64, items: usize) -> Matrix {
        let mut draw = ChaCha8Rng::seed_from_u64(seed);
        let tastes: Vec<f32> = (0..20 * WIDTH).map(|_| draw.random_range(-1.0..1.0)).collect();
        let mut values = Vec::with_capacity(items * WIDTH);
        for _ in 0..items {
            let taste = draw.random_range(0..20) * WIDTH;
            values.extend(
                tastes[taste..taste + WIDTH]
                    .iter()
                    .map(|x| x + draw.random_range(-0.2..0.2)),
            );
        }
        Matrix::new(WIDTH, values)
    }

    proptest! {
        #[test]
        fn all_of_the_lists_hold_exactly_the_best(
            seed in any::<u64>(), items in 1usize..300, lists in 1usize..20, k in 0usize..40, odd_only in any::<bool>(),
            boosts in prop::collection::btree_map(0u32..300, -2.0f32..2.0, 0..30),
        ) {
            let rows = catalogue(seed, items);
            let boosts: Vec<(u32, f32)> = boosts.into_iter().filter(|(item, _)| (*item as usize) < items).collect();
            let linear = Linear { rows: &rows, query: rows.row(items / 2), boosts: &boosts, sketch: None };
            let admits = |item: u32| !odd_only || item % 2 == 1;
            let found = Lists::made(&rows, lists.min(items)).top_k(&linear, 1.0, k, admits);
            prop_assert_eq!(found, linear.top_k(k, admits));
        }
    }

    #[test]
    fn a_tenth_of_a_catalogue_of_tastes_holds_nearly_all_of_the_best() {
        let rows = catalogue(7, 20_000);
        let lists = Lists::made(&rows, 140);
        let found: usize = (0..50)
            .map(|n| {
                let linear = Linear {
                    rows: &rows,
                    query: rows.row(n * 400),
                    boosts: &[],
                    sketch: None,
                };
                let best: HashSet<u32> = linear.top_k(100, |_| true).iter().map(|s| s.item).collect();
                let found = lists.top_k(&linear, 0.1, 100, |_| true);
                found.iter().filter(|s| best.contains(&s.item)).count()
            })
            .sum();
        assert!(found >= 50 * 98, "{found} of 5,000");
    }

    #[test]
    fn what_has_a_boost_is_found_wherever_it_lies_and_few_that_are_admitted_are_all_found() {
        let rows = catalogue(3, 2_000);
        let lists = Lists::made(&rows, 40);
        let query = rows.row(0).to_vec();
        let linear = Linear {
            rows: &rows,
            query: &query,
            boosts: &[],
            sketch: None,
        };
        let scores = linear.scores();
        let worst = (0..2_000u32)
            .min_by(|a, b| scores[*a as usize].total_cmp(&scores[*b as usize]))
            .unwrap();
        let boosts = [(worst, 1e3)];
        let boosted = Linear {
            boosts: &boosts,
            ..linear
        };
        assert_eq!(lists.top_k(&boosted, 0.01, 10, |_| true)[0].item, worst);
        let rare = |item: u32| item % 500 == 7;
        assert_eq!(lists.top_k(&boosted, 0.01, 10, rare).len(), 4);
    }
}
