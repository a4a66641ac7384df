//! Items that were read before.
//!
//! A request holds about fifty items, most of which were read for a request before. Reading them all anew took 2 ms for each prompt,
//! twice as long as both models; so a vocabulary keeps what it has read.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use moka::sync::Cache;
use refract_domain::Item;

use crate::reading::Reading;
use crate::vocabulary::Vocabulary;

/// Readings that are kept, the ones used least go first. Clones share them.
#[derive(Clone)]
pub(crate) struct Readings {
    kept: Cache<u64, Arc<Reading>>,
    hashing: RandomState,
}

impl Readings {
    pub(crate) fn holding(bytes: u64) -> Self {
        let weight = |_: &u64, reading: &Arc<Reading>| u32::try_from(reading.bytes()).unwrap_or(u32::MAX);
        Self {
            kept: Cache::builder().max_capacity(bytes).weigher(weight).build(),
            hashing: RandomState::new(),
        }
    }

    /// The item's reading, of exactly this content: an item that has changed, or another one of the same id and title, is read anew.
    pub(crate) fn of(&self, vocabulary: &Vocabulary, item: &Arc<Item>) -> Arc<Reading> {
        let key = self.hashing.hash_one((item.id.as_str(), &item.title));
        let is_same = |kept: &Arc<Reading>| Arc::ptr_eq(kept.item(), item) || kept.item() == item;
        if let Some(kept) = self.kept.get(&key).filter(is_same) {
            return kept;
        }
        let read = Arc::new(Reading::new(vocabulary, item));
        self.kept.insert(key, Arc::clone(&read));
        read
    }
}

/// Says how many and not what: items of a request may be a user's.
impl fmt::Debug for Readings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readings")
            .field("kept", &self.kept.entry_count())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::{Sought, tests::film};
    use crate::vocabulary::Role;

    #[test]
    fn a_copy_of_an_item_is_not_read_again_and_one_that_has_changed_is() {
        let vocabulary = Vocabulary::default();
        let first = vocabulary.read(&film(1, "drama"));
        assert!(Arc::ptr_eq(&first, &vocabulary.read(&film(1, "drama"))));
        let changed = vocabulary.read(&film(1, "comedy"));
        let holds = |read: &Reading, genre| read.holds(&Sought::new(Role::Genre, "genres", genre));
        assert!(holds(&changed, "Comedy") && !holds(&changed, "drama"));
        assert!(holds(&first, "Drama"), "who has it keeps it");
    }

    #[test]
    fn what_is_kept_stays_within_its_bytes() {
        const BYTES: u64 = 100_000;
        let readings = Readings::holding(BYTES);
        for n in 0..500 {
            let read = readings.of(Vocabulary::standard(), &film(n, "drama"));
            assert!((1_000..8_000).contains(&read.bytes()), "{}", read.bytes());
        }
        readings.kept.run_pending_tasks();
        assert!(readings.kept.weighted_size() <= BYTES);
        assert!(readings.kept.entry_count() > 10, "{readings:?}");
    }
}
