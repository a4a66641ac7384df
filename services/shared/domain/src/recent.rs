//! What was worked out of a history a moment ago.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::history::History;

/// Something worked out once per history and not once per item of a slate: its digest, its encoded bytes.
///
/// A history is known again by its address: behind an `Arc` it does not change, and its address is not used again while a `Weak` to it
/// lives. Holds the newest `max` and keeps no history alive.
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
}
