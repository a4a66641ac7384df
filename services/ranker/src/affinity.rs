//! How other users' behaviour ties one item to another: who liked both, against what chance would give.

use crate::dataset::Dataset;
use crate::likes::{Likes, SignalWeights};

/// What is worth saying about two items.
#[derive(Clone, Debug, PartialEq)]
pub struct AffinityConfig {
    /// Affinities per item of a slate.
    pub affinities_max: usize,
    /// Users who liked both, at least.
    pub support_min: u32,
    /// Times more often than chance, at least.
    pub lift_min: f32,
    /// Users added to both sides of the ratio: draws a lift that few users support towards 1.
    pub shrinkage: f32,
    /// Newest likes of the history that are looked at, at most 64: bounds the work.
    pub history_likes_max: usize,
    /// Users whose likes are counted, evenly chosen where there are more: bounds memory and work.
    pub users_max: usize,
}

impl Default for AffinityConfig {
    fn default() -> Self {
        Self {
            affinities_max: 5,
            support_min: 3,
            lift_min: 1.5,
            shrinkage: 3.0,
            history_likes_max: 50,
            users_max: 200_000,
        }
    }
}

/// A tie between an item and one of the history.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tie {
    /// The item of the history.
    pub item: u32,
    /// P(both) / (P(a)·P(b)), shrunk towards 1.
    pub lift: f32,
    pub support: u32,
}

/// Who liked what, by item.
#[derive(Debug)]
pub struct Affinities {
    config: AffinityConfig,
    /// Users (renumbered) by item, ascending.
    ends: Vec<usize>,
    users: Vec<u32>,
    users_len: u32,
}

impl Affinities {
    /// Counts the likes of a data set; `None` where there are none.
    pub fn of(dataset: &Dataset, config: AffinityConfig) -> Option<Self> {
        let likes = Likes::of_dataset(dataset, SignalWeights::default()).ok()?;
        let fans: Vec<&Vec<(u32, i64)>> = likes.sequences.iter().filter(|s| !s.is_empty()).collect();
        let stride = fans.len().div_ceil(config.users_max.max(1)).max(1);
        let mut ends = vec![0usize; likes.items];
        for (item, _) in fans.iter().step_by(stride).copied().flatten() {
            ends[*item as usize] += 1;
        }
        let mut total = 0;
        for end in &mut ends {
            total += *end;
            *end = total;
        }
        let mut next: Vec<usize> = (0..ends.len())
            .map(|n| if n == 0 { 0 } else { ends[n - 1] })
            .collect();
        let mut users = vec![0; total];
        let mut users_len = 0;
        for fan in fans.iter().step_by(stride) {
            for (item, _) in fan.iter() {
                users[next[*item as usize]] = users_len;
                next[*item as usize] += 1;
            }
            users_len += 1;
        }
        Some(Self {
            config,
            ends,
            users,
            users_len,
        })
    }

    pub fn config(&self) -> &AffinityConfig {
        &self.config
    }

    /// For each of `items` its ties to the history's likes (newest first), strongest first.
    pub fn ties(&self, items: &[u32], liked: &[u32]) -> Vec<Vec<Tie>> {
        let liked = &liked[..liked
            .len()
            .min(self.config.history_likes_max)
            .min(u64::BITS as usize)];
        // By user, one bit for each of the history's likes that the user shares: every list is walked once.
        let mut shared = vec![0u64; self.users_len as usize];
        for (n, &item) in liked.iter().enumerate() {
            self.fans(item).iter().for_each(|&u| shared[u as usize] |= 1 << n);
        }
        items
            .iter()
            .map(|&item| self.ties_of(item, liked, &shared))
            .collect()
    }

    fn ties_of(&self, item: u32, liked: &[u32], shared: &[u64]) -> Vec<Tie> {
        let fans = self.fans(item);
        let mut supports = vec![0u32; liked.len()];
        for &user in fans {
            let mut bits = shared[user as usize];
            while bits != 0 {
                supports[bits.trailing_zeros() as usize] += 1;
                bits &= bits - 1;
            }
        }
        let tie = |(&other, &support): (&u32, &u32)| {
            if other == item || support < self.config.support_min {
                return None;
            }
            let expected = fans.len() as f32 * self.fans(other).len() as f32 / self.users_len as f32;
            let lift = (support as f32 + self.config.shrinkage) / (expected + self.config.shrinkage);
            (lift >= self.config.lift_min).then_some(Tie {
                item: other,
                lift,
                support,
            })
        };
        let mut ties: Vec<Tie> = liked.iter().zip(&supports).filter_map(tie).collect();
        ties.sort_by(|a, b| {
            b.lift
                .total_cmp(&a.lift)
                .then(b.support.cmp(&a.support))
                .then(a.item.cmp(&b.item))
        });
        ties.truncate(self.config.affinities_max);
        ties
    }

    fn fans(&self, item: u32) -> &[u32] {
        let item = item as usize;
        let begin = if item == 0 { 0 } else { self.ends[item - 1] };
        &self.users[begin..self.ends[item]]
    }
}
