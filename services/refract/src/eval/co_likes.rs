//! Who liked what, counted anew from the interactions: the ranker's word on others' behaviour is not taken for granted.

use refract_domain::{ItemId, Signal};
use refract_ranker::Dataset;

/// Users by item, ascending, newest opinion only.
#[derive(Clone, Debug)]
pub(crate) struct CoLikes {
    fans: Vec<Vec<u32>>,
    /// Users with a like.
    users: usize,
}

impl CoLikes {
    pub(crate) fn of(dataset: &Dataset) -> Self {
        let mut fans: Vec<Vec<u32>> = vec![Vec::new(); dataset.catalogue().len()];
        let mut users = 0;
        for user in 0..dataset.interactions().users_len() as u32 {
            let mut newest: std::collections::BTreeMap<u32, Signal> = std::collections::BTreeMap::new();
            for act in dataset.interactions().of(user) {
                newest.insert(act.item, dataset.signal(act));
            }
            let liked: Vec<u32> = newest
                .into_iter()
                .filter(|(_, signal)| *signal == Signal::Liked)
                .map(|(item, _)| item)
                .collect();
            users += usize::from(!liked.is_empty());
            liked.into_iter().for_each(|item| fans[item as usize].push(user));
        }
        Self { fans, users }
    }

    /// P(both) / (P(a)·P(b)); `None` for unknown items or ones that nobody likes.
    pub(crate) fn lift(&self, dataset: &Dataset, a: &ItemId, b: &ItemId) -> Option<f32> {
        let fans = |id: &ItemId| dataset.catalogue().index_of(id).map(|n| &self.fans[n as usize]);
        let (a, b) = (fans(a)?, fans(b)?);
        if a.is_empty() || b.is_empty() {
            return None;
        }
        let together = a.iter().filter(|user| b.binary_search(user).is_ok()).count();
        Some(together as f32 * self.users as f32 / (a.len() as f32 * b.len() as f32))
    }
}
