//! How much more often than chance two items are liked by the same users.

use std::collections::HashMap;

use refract_domain::{Affinity, History, ItemId};

/// Users who must have liked both items.
const SUPPORT_MIN: u32 = 3;
/// Likes of one user that are paired; the newest. Bounds the work on heavy users.
const LIKES_MAX: usize = 60;

/// Counts of likes, alone and in pairs.
#[derive(Debug)]
pub(crate) struct CoLikes {
    users: f32,
    single: HashMap<ItemId, u32>,
    both: HashMap<(ItemId, ItemId), u32>,
}

impl CoLikes {
    pub(crate) fn count<'a>(histories: impl Iterator<Item = &'a History>) -> Self {
        let mut counts = Self {
            users: 0.0,
            single: HashMap::new(),
            both: HashMap::new(),
        };
        for history in histories {
            counts.users += 1.0;
            let mut liked: Vec<&ItemId> = history.liked().take(LIKES_MAX).map(|i| &i.item.id).collect();
            liked.sort();
            liked.dedup();
            for (n, a) in liked.iter().enumerate() {
                *counts.single.entry((*a).clone()).or_default() += 1;
                for b in &liked[n + 1..] {
                    *counts.both.entry(((*a).clone(), (*b).clone())).or_default() += 1;
                }
            }
        }
        counts
    }

    /// The history items that go with `item`, strongest first.
    pub(crate) fn affinities(&self, item: &ItemId, history: &History) -> Vec<Affinity> {
        let mut affinities: Vec<Affinity> = history
            .liked()
            .filter_map(|i| self.affinity(item, &i.item.id))
            .collect();
        affinities.sort_by(|a, b| b.lift.total_cmp(&a.lift));
        affinities
    }

    fn affinity(&self, a: &ItemId, b: &ItemId) -> Option<Affinity> {
        let key = if a < b {
            (a.clone(), b.clone())
        } else {
            (b.clone(), a.clone())
        };
        let support = *self.both.get(&key)?;
        if support < SUPPORT_MIN {
            return None;
        }
        let (one, other) = (*self.single.get(a)? as f32, *self.single.get(b)? as f32);
        Some(Affinity {
            item: b.clone(),
            lift: support as f32 * self.users / (one * other),
            support,
        })
    }
}
