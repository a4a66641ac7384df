//! What was worked out of a history, or of an item, a moment ago.
//!
//! Both are known again by their addresses: behind an `Arc` neither changes, and an address is not used again while a `Weak` to it lives.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::history::History;
use crate::item::Item;

/// Something worked out once per history and not once per item of a slate: its digest, its encoded bytes.
///
/// Holds the newest `max` and keeps no history alive.
pub struct Recent<T> {
    max: usize,
    kept: Mutex<VecDeque<(Weak<History>, T)>>,
}

impl<T: Clone> Recent<T> {
    /// `max` from 1.
    pub fn holding(max: usize) -> Self {
        Self {
            max: max.max(1),
            kept: Mutex::default(),
        }
    }

    /// What `work` made of this history, now or before. Nobody else waits while it works; two may work at the same time.
    pub fn of(&self, history: &Arc<History>, work: impl FnOnce(&History) -> T) -> T {
        let address = Arc::as_ptr(history);
        let known = {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let known = kept.iter().rev().find(|(history, _)| history.as_ptr() == address);
            known.map(|(_, made)| made.clone())
        };
        known.unwrap_or_else(|| {
            let made = work(history);
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            // What was made of histories that are gone is of no more use.
            kept.retain(|(history, _)| history.strong_count() > 0);
            if kept.len() == self.max {
                kept.pop_front();
            }
            kept.push_back((Arc::downgrade(history), made.clone()));
            made
        })
    }
}

/// Says how many and not what.
impl<T> fmt::Debug for Recent<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("Recent")
            .field("max", &self.max)
            .field("kept", &kept.len())
            .finish()
    }
}

/// Something worked out once per item and not once per request: its digest, its encoded bytes. Items live as long as a catalogue, or as
/// what remembers them from earlier requests; a request holds some fifty.
///
/// Holds at most `max` and keeps no item alive.
pub struct OfItems<T> {
    shard_max: usize,
    shards: [Mutex<Shard<T>>; SHARDS],
}

/// By the item's address.
type Shard<T> = HashMap<usize, (Weak<Item>, T)>;

/// So that requests seldom wait for each other.
const SHARDS: usize = 16;

impl<T: Clone> OfItems<T> {
    /// `max` is rounded up to a multiple of 16.
    pub fn holding(max: usize) -> Self {
        Self {
            shard_max: max.div_ceil(SHARDS).max(1),
            shards: Default::default(),
        }
    }

    /// What `work` made of this item, now or before. Nobody else waits while it works; two may work at the same time.
    pub fn of(&self, item: &Arc<Item>, work: impl FnOnce(&Item) -> T) -> T {
        let address = Arc::as_ptr(item) as usize;
        // Addresses lie the size of an allocation apart, so a few of their bits say little: by their hash they fill all shards.
        let shard =
            &self.shards[BuildHasherDefault::<DefaultHasher>::default().hash_one(address) as usize % SHARDS];
        let known = {
            let kept = shard.lock().unwrap_or_else(PoisonError::into_inner);
            kept.get(&address).map(|(_, made)| made.clone())
        };
        known.unwrap_or_else(|| {
            let made = work(item);
            let mut kept = shard.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() >= self.shard_max {
                kept.retain(|_, (of, _)| of.strong_count() > 0);
            }
            // All alive: what is worked out again costs less than to know which of them was used least.
            if kept.len() >= self.shard_max {
                kept.clear();
            }
            kept.insert(address, (Arc::downgrade(item), made.clone()));
            made
        })
    }

    fn len(&self) -> usize {
        let kept = self.shards.iter();
        kept.map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len())
            .sum()
    }
}

/// Says how many and not what.
impl<T: Clone> fmt::Debug for OfItems<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OfItems")
            .field("max", &(self.shard_max * SHARDS))
            .field("kept", &self.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn work_is_done_once_for_a_history_that_lives_and_the_newest_are_kept() {
        let (recent, worked) = (Recent::holding(2), Cell::new(0));
        let of = |history: &Arc<History>| {
            recent.of(history, |_| {
                worked.set(worked.get() + 1);
                worked.get()
            })
        };
        let [a, b, c] = [0; 3].map(|_| Arc::new(History::default()));
        assert_eq!((of(&a), of(&a), of(&b), of(&a)), (1, 1, 2, 1));
        assert_eq!((of(&c), of(&b)), (3, 2), "a was the oldest");
        assert_eq!(of(&a), 4);
    }

    #[test]
    fn a_history_that_is_gone_is_forgotten_with_what_was_made_of_it() {
        let recent = Recent::holding(8);
        let made = Arc::new(());
        recent.of(&Arc::new(History::default()), |_| Arc::clone(&made));
        let other = Arc::new(History::default());
        recent.of(&other, |_| Arc::new(()));
        assert_eq!(Arc::strong_count(&made), 1);
    }

    fn item(n: usize) -> Arc<Item> {
        Arc::new(Item {
            id: crate::ItemId::new(n.to_string()),
            title: n.to_string(),
            attributes: Default::default(),
            description: String::new(),
        })
    }

    #[test]
    fn work_is_done_once_for_an_item_that_lives_and_anew_for_one_at_the_address_of_one_that_is_gone() {
        let (titles, worked) = (OfItems::holding(64), Cell::new(0));
        let of = |item: &Arc<Item>| {
            titles.of(item, |item| {
                worked.set(worked.get() + 1);
                item.title.clone()
            })
        };
        let (a, b) = (item(1), item(2));
        assert_eq!((of(&a), of(&b), of(&a)), ("1".into(), "2".into(), "1".into()));
        assert_eq!(worked.get(), 2);
        // Allocators like to give the same place again; whether they do or not, each item is told its own title.
        for n in 0..1_000 {
            assert_eq!(of(&item(n)), n.to_string());
        }
    }

    #[test]
    fn what_is_kept_of_items_stays_within_its_bound() {
        let numbers = OfItems::holding(160);
        let items: Vec<Arc<Item>> = (0..2_000).map(item).collect();
        for (n, item) in items.iter().enumerate() {
            assert_eq!(numbers.of(item, |_| n), n);
            assert!(numbers.len() <= 160);
        }
        // Half of the bound finds its places wherever allocations lie.
        let numbers = OfItems::holding(640);
        items[..320].iter().for_each(|item| numbers.of(item, |_| ()));
        assert_eq!(numbers.len(), 320);
    }
}
