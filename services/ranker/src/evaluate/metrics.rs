//! Hit rate, recall and NDCG from places, by user and by popularity band, with bootstrap intervals.

use std::collections::HashSet;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use refract_domain::Signal;

use super::{Options, Row};
use crate::dataset::Dataset;

const CUTOFFS: [usize; 3] = [10, 20, 50];
/// Whom the served ranker (the first contestant) must beat.
const RIVALS: [&str; 2] = ["item_knn_last5", "item_knn_all"];

/// For one user, per contestant, the places (from 0) of the targets in the full order.
pub(super) struct CaseRanks(pub(super) Vec<Vec<f64>>);

#[derive(Clone, Copy)]
enum Metric {
    HitRate,
    Recall,
    Ndcg,
}

impl Metric {
    const ALL: [Self; 3] = [Self::HitRate, Self::Recall, Self::Ndcg];

    fn name(self) -> &'static str {
        match self {
            Self::HitRate => "hr",
            Self::Recall => "recall",
            Self::Ndcg => "ndcg",
        }
    }

    fn of(self, places: &[f64], cutoff: usize) -> f64 {
        let shown = || places.iter().filter(|p| **p < cutoff as f64);
        match self {
            Self::HitRate => f64::from(shown().next().is_some()),
            Self::Recall => shown().count() as f64 / places.len() as f64,
            Self::Ndcg => {
                let ideal: f64 = (0..places.len().min(cutoff)).map(|p| gain(p as f64)).sum();
                shown().map(|p| gain(*p)).sum::<f64>() / ideal
            }
        }
    }
}

fn gain(place: f64) -> f64 {
    1.0 / (place + 2.0).log2()
}

/// Where the targets stand among the items not seen. Equal scores share the mean of their places, so that a ranker gains
/// nothing by scoring everything alike.
pub(super) fn places(scores: &[f32], targets: &[u32], seen: &HashSet<u32>) -> Vec<f64> {
    let place = |&target: &u32| {
        let own = scores[target as usize];
        let (mut above, mut equal) = (0u32, 0u32);
        for &score in scores {
            above += u32::from(score > own);
            equal += u32::from(score == own);
        }
        for score in seen.iter().map(|&i| scores[i as usize]) {
            above -= u32::from(score > own);
            equal -= u32::from(score == own);
        }
        f64::from(above) + f64::from(equal - 1) / 2.0
    };
    targets.iter().map(place).collect()
}

pub(super) fn rows(split: &str, names: &[&str], cases: &[CaseRanks], options: &Options) -> Vec<Row> {
    let samples = samples(cases.len(), options);
    let mut rows = Vec::new();
    for cutoff in CUTOFFS {
        for metric in Metric::ALL {
            let of = |contestant: usize| -> Vec<f64> {
                cases
                    .iter()
                    .map(|c| metric.of(&c.0[contestant], cutoff))
                    .collect()
            };
            let label = format!("{}@{cutoff}", metric.name());
            for (n, name) in names.iter().enumerate() {
                rows.push(interval(format!("{split}/{name}/{label}"), &of(n), &samples));
            }
            let rivals = RIVALS
                .iter()
                .filter(|_| cutoff == CUTOFFS[0])
                .filter_map(|rival| Some((rival, names.iter().position(|n| n == rival)?)));
            for (name, rival) in rivals {
                let lead: Vec<f64> = of(0)
                    .iter()
                    .zip(of(rival))
                    .map(|(own, other)| own - other)
                    .collect();
                let row = interval(
                    format!("{split}/{}/{label}_lead_over_{name}", names[0]),
                    &lead,
                    &samples,
                );
                let holds = row.low.map(|low| low > 0.0);
                rows.push(Row {
                    goal: Some(0.0),
                    holds,
                    ..row
                });
            }
        }
    }
    rows
}

/// Which users each bootstrap sample draws; shared by all metrics, so that differences are paired.
fn samples(users: usize, options: &Options) -> Vec<Vec<u32>> {
    let mut random = ChaCha8Rng::seed_from_u64(options.seed);
    let mut draw = || (0..users).map(|_| random.random_range(0..users as u32)).collect();
    (0..options.resamples).map(|_| draw()).collect()
}

fn interval(name: String, values: &[f64], samples: &[Vec<u32>]) -> Row {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let row = Row::plain(name, mean, "ratio", values.len());
    if samples.is_empty() {
        return row;
    }
    let resampled = |s: &Vec<u32>| s.iter().map(|&u| values[u as usize]).sum::<f64>() / values.len() as f64;
    let mut means: Vec<f64> = samples.iter().map(resampled).collect();
    means.sort_by(f64::total_cmp);
    let at = |share: f64| means[((means.len() - 1) as f64 * share).round() as usize];
    Row {
        low: Some(at(0.025)),
        high: Some(at(0.975)),
        ..row
    }
}

/// Items by how many training likes they have: the most liked third of all likes, the next, the rest.
pub(super) struct Bands {
    of_item: Vec<usize>,
}

impl Bands {
    const NAMES: [&'static str; 3] = ["head", "middle", "tail"];

    pub(super) fn new(training: &Dataset) -> Self {
        let mut likes = vec![0u32; training.catalogue().len()];
        for (_, act) in training
            .interactions()
            .iter()
            .filter(|(_, a)| training.signal(a) == Signal::Liked)
        {
            likes[act.item as usize] += 1;
        }
        let mut order: Vec<usize> = (0..likes.len()).collect();
        order.sort_by_key(|&i| (std::cmp::Reverse(likes[i]), i));
        let total: u64 = likes.iter().map(|&n| u64::from(n)).sum();
        let mut before = 0u64;
        let mut of_item = vec![0; likes.len()];
        for item in order {
            of_item[item] = ((before * 3) / total.max(1)).min(2) as usize;
            before += u64::from(likes[item]);
        }
        Self { of_item }
    }

    /// Recall at the first cutoff over all user–item pairs whose item lies in the band.
    pub(super) fn rows<'a>(
        &self,
        split: &str,
        names: &[&str],
        targets: impl Iterator<Item = &'a [u32]>,
        cases: &[CaseRanks],
    ) -> Vec<Row> {
        let cutoff = CUTOFFS[0];
        let mut shown = vec![[0u32; 3]; names.len()];
        let mut pairs = [0u32; 3];
        for (targets, case) in targets.zip(cases) {
            for (t, &target) in targets.iter().enumerate() {
                let band = self.of_item[target as usize];
                pairs[band] += 1;
                for (n, places) in case.0.iter().enumerate() {
                    shown[n][band] += u32::from(places[t] < cutoff as f64);
                }
            }
        }
        let mut rows = Vec::new();
        for (band, name) in Self::NAMES.iter().enumerate().filter(|(b, _)| pairs[*b] > 0) {
            for (n, contestant) in names.iter().enumerate() {
                let value = f64::from(shown[n][band]) / f64::from(pairs[band]);
                let label = format!("{split}/{contestant}/recall@{cutoff}_{name}");
                rows.push(Row::plain(label, value, "ratio", pairs[band] as usize));
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_skip_what_was_seen_and_share_ties() {
        let scores = [5.0, 4.0, 3.0, 3.0, 3.0, 1.0];
        assert_eq!(places(&scores, &[1, 5], &HashSet::from([0])), [0.0, 4.0]);
        assert_eq!(places(&scores, &[3], &HashSet::new()), [3.0]);
        assert_eq!(places(&scores, &[3], &HashSet::from([0, 2])), [1.5]);
    }

    #[test]
    fn metrics_are_those_of_the_books() {
        let places = [0.0, 11.0];
        assert_eq!(Metric::HitRate.of(&places, 10), 1.0);
        assert_eq!(Metric::Recall.of(&places, 10), 0.5);
        assert!((Metric::Ndcg.of(&places, 10) - 1.0 / (1.0 + 1.0 / 3f64.log2())).abs() < 1e-12);
        assert_eq!(Metric::HitRate.of(&[10.0], 10), 0.0);
    }
}
