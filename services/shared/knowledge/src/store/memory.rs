//! A store inside this process: the embedded default. Bounded by entries and by bytes; lost with the process.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use moka::Expiry;
use moka::future::Cache;
use moka::notification::RemovalCause;
use moka::ops::compute::{CompResult, Op};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::era::Era;
use crate::error::Error;
use crate::metrics;
use crate::store::{Health, Store, era_of};

/// What an entry costs besides its own bytes: map, policy and allocation, roughly.
const ENTRY_OVERHEAD_BYTES: u64 = 256;

/// Entries' times are stretched and shrunk by at most half: three times one of them outlives every other.
const ERA_OUTLIVES: u32 = 3;

pub struct MemoryStore {
    entries: Cache<String, Held>,
    health: watch::Sender<Health>,
}

#[derive(Clone)]
struct Held {
    value: Arc<[u8]>,
    /// Checked when read, on the runtime's clock, which tests can pause. moka's own expiry gives the memory back.
    until: Instant,
    ttl: Duration,
    /// Put for an owner, and erased with them; a claim is not.
    is_owned: bool,
}

struct ByTtl;

impl MemoryStore {
    pub fn new(entries_max: u64, bytes_max: u64) -> Self {
        // One capacity holds both bounds: an entry weighs its bytes, but never less than its share of the entries.
        let share = bytes_max.div_ceil(entries_max.max(1));
        let entries = Cache::builder()
            .max_capacity(bytes_max)
            .weigher(move |name: &String, held: &Held| {
                let bytes = name.len() as u64 + held.value.len() as u64 + ENTRY_OVERHEAD_BYTES;
                u32::try_from(bytes.max(share)).unwrap_or(u32::MAX)
            })
            .expire_after(ByTtl)
            .eviction_listener(|_, _, cause| {
                if cause == RemovalCause::Size {
                    metrics::eviction("memory");
                }
            })
            .build();
        metrics::store_up(true);
        Self {
            entries,
            health: watch::Sender::new(Health::Up),
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let held = self.entries.get(name).await;
        Ok(held
            .filter(|held| Instant::now() < held.until)
            .map(|held| held.value.to_vec()))
    }

    async fn put(&self, name: &str, value: Vec<u8>, ttl: Duration) -> Result<(), Error> {
        self.entries.insert(name.to_owned(), held(value, ttl)).await;
        Ok(())
    }

    async fn remove(&self, name: &str) -> Result<(), Error> {
        self.entries.invalidate(name).await;
        Ok(())
    }

    async fn claim(&self, name: &str, ttl: Duration) -> Result<bool, Error> {
        let place = self.entries.entry_by_ref(name);
        let empty = |there: &Held| there.until <= Instant::now();
        let entry = place
            .or_insert_with_if(std::future::ready(held(Vec::new(), ttl)), empty)
            .await;
        Ok(entry.is_fresh())
    }

    async fn era(&self, owner: &str, lasts: Duration) -> Result<Era, Error> {
        let begun = Era::begin();
        let is_over = |there: &Held| there.until <= Instant::now();
        let place = self.entries.entry(era_of(owner));
        let running = place
            .or_insert_with_if(std::future::ready(held(begun.bytes().to_vec(), lasts)), is_over)
            .await;
        let bytes = <[u8; Era::BYTES]>::try_from(&*running.into_value().value);
        Ok(bytes.map_or(begun, Era::of_bytes))
    }

    async fn put_for(
        &self,
        owner: &str,
        era: Era,
        name: &str,
        value: Vec<u8>,
        ttl: Duration,
    ) -> Result<(), Error> {
        let entry = Held {
            is_owned: true,
            ..held(value, ttl)
        };
        self.entries.insert(name.to_owned(), entry).await;
        // After the entry, so that of an erasure at the same time one of the two sees the other.
        let lasting = held(era.bytes().to_vec(), ttl.saturating_mul(ERA_OUTLIVES));
        let outlive = |there: Option<moka::Entry<String, Held>>| {
            let runs = there.is_some_and(|there| {
                let there = there.value();
                *there.value == *lasting.value && Instant::now() < there.until
            });
            std::future::ready(if runs { Op::Put(lasting) } else { Op::Nop })
        };
        let place = self.entries.entry(era_of(owner));
        if !matches!(place.and_compute_with(outlive).await, CompResult::ReplacedWith(_)) {
            self.remove(name).await?;
        }
        Ok(())
    }

    async fn erase(&self, owner: &str) -> Result<u64, Error> {
        self.remove(&era_of(owner)).await?;
        let is_theirs = |name: &str| name.strip_prefix(owner).is_some_and(|rest| rest.starts_with(':'));
        let theirs = self.entries.iter();
        let theirs = theirs.filter(|(name, held)| held.is_owned && is_theirs(name));
        let theirs: Vec<_> = theirs.map(|(name, _)| name).collect();
        for name in &theirs {
            self.entries.invalidate(&**name).await;
        }
        Ok(theirs.len() as u64)
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }
}

fn held(value: Vec<u8>, ttl: Duration) -> Held {
    let ttl = ttl.max(Duration::from_millis(1));
    Held {
        value: value.into(),
        until: Instant::now() + ttl,
        ttl,
        is_owned: false,
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("entries", &self.entries.entry_count())
            .finish_non_exhaustive()
    }
}

impl Expiry<String, Held> for ByTtl {
    fn expire_after_create(&self, _: &String, held: &Held, _: std::time::Instant) -> Option<Duration> {
        Some(held.ttl)
    }

    fn expire_after_update(
        &self,
        _: &String,
        held: &Held,
        _: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(held.ttl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance;

    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_promises_of_a_store() {
        conformance::check(&MemoryStore::new(10_000, 64 << 20)).await;
    }

    #[tokio::test]
    async fn it_holds_no_more_bytes_than_it_may() {
        let store = MemoryStore::new(1_000_000, 100 << 10);
        for n in 0..1_000 {
            store
                .put(&format!("k{n}"), vec![0; 1 << 10], Duration::from_secs(60))
                .await
                .unwrap();
        }
        store.entries.run_pending_tasks().await;
        assert!(store.entries.weighted_size() <= 100 << 10);
        assert!((50..=100).contains(&store.entries.entry_count()), "{store:?}");
    }

    #[tokio::test]
    async fn it_holds_no_more_entries_than_it_may() {
        let store = MemoryStore::new(10, 1 << 20);
        for n in 0..1_000 {
            store
                .put(&format!("k{n}"), vec![0; 8], Duration::from_secs(60))
                .await
                .unwrap();
        }
        store.entries.run_pending_tasks().await;
        assert!((5..=10).contains(&store.entries.entry_count()), "{store:?}");
    }
}
