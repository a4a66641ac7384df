//! Which entries may be refreshed now: one refresh per entry, few at a time, and a pause after a failure.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::key::KeyDigest;
use crate::metrics;

#[derive(Debug)]
pub(super) struct RefreshGate {
    states: Arc<Mutex<HashMap<KeyDigest, State>>>,
    running: Arc<Semaphore>,
}

#[derive(Debug)]
enum State {
    Running,
    NotBefore(Instant),
}

/// The right to refresh one entry; dropping it gives it back.
pub(super) struct Pass {
    states: Arc<Mutex<HashMap<KeyDigest, State>>>,
    digest: KeyDigest,
    retry_after: Option<Duration>,
    _permit: OwnedSemaphorePermit,
}

impl RefreshGate {
    /// Entries with a running or failed refresh that are kept in mind; the next one beyond has to wait.
    const STATES_MAX: usize = 10_000;

    pub(super) fn new(refreshes_max: usize) -> Self {
        Self {
            states: Arc::default(),
            running: Arc::new(Semaphore::new(refreshes_max)),
        }
    }

    pub(super) fn enter(&self, digest: KeyDigest) -> Option<Pass> {
        let now = Instant::now();
        let mut states = lock(&self.states);
        match states.get(&digest) {
            Some(State::Running) => return None,
            Some(State::NotBefore(instant)) if now < *instant => return None,
            _ => {}
        }
        if states.len() >= Self::STATES_MAX {
            states.retain(|_, state| !matches!(state, State::NotBefore(instant) if *instant <= now));
        }
        let permit = Arc::clone(&self.running).try_acquire_owned().ok();
        let Some(permit) = permit.filter(|_| states.len() < Self::STATES_MAX) else {
            metrics::refresh("refused");
            return None;
        };
        states.insert(digest, State::Running);
        Some(Pass {
            states: Arc::clone(&self.states),
            digest,
            retry_after: None,
            _permit: permit,
        })
    }
}

impl Pass {
    pub(super) fn retry_after(mut self, pause: Duration) {
        self.retry_after = Some(pause);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut states = lock(&self.states);
        match self.retry_after {
            Some(pause) => states.insert(self.digest, State::NotBefore(Instant::now() + pause)),
            None => states.remove(&self.digest),
        };
    }
}

fn lock(states: &Mutex<HashMap<KeyDigest, State>>) -> MutexGuard<'_, HashMap<KeyDigest, State>> {
    states.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_refresh_per_entry_few_at_a_time_and_a_pause_after_a_failure() {
        let gate = RefreshGate::new(2);
        let key = |n| KeyDigest([n; 32]);
        let first = gate.enter(key(1)).unwrap();
        assert!(gate.enter(key(1)).is_none(), "it is running");
        let second = gate.enter(key(2)).unwrap();
        assert!(gate.enter(key(3)).is_none(), "two are running");
        drop(first);
        drop(gate.enter(key(3)).unwrap());
        drop(gate.enter(key(1)).unwrap());

        second.retry_after(Duration::from_secs(5));
        assert!(gate.enter(key(2)).is_none());
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(gate.enter(key(2)).is_some());
    }
}
