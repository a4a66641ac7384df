//! Both levels of the memory as one: entries in, entries out, everything else is a miss.

use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};
use moka::future::Cache;
use moka::notification::RemovalCause;
use refract_domain::{Freshness, Knowledge};
use tokio::time::Instant;

use super::eras::{Eras, Seen};
use super::writer::{Put, Writer};
use crate::clock::Clock;
use crate::codec::Codec;
use crate::config::Config;
use crate::envelope::{self, Corrupt, Times};
use crate::era::Era;
use crate::key::{Key, KeyDigest, Keys};
use crate::metrics;
use crate::revisions::Revisions;
use crate::store::Store;

/// What is remembered about one question.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) knowledge: Knowledge,
    pub(crate) times: Times,
}

#[derive(Debug)]
pub(crate) enum Found {
    Entry(Arc<Entry>),
    Nothing,
    /// There were bytes, but none of ours for this key.
    Corrupt,
    /// The store did not answer.
    Failed,
}

pub(crate) struct Shelf {
    /// Absent if it is turned off.
    first: Option<Cache<KeyDigest, Held>>,
    store: Arc<dyn Store>,
    writer: Writer,
    codec: Codec,
    clock: Clock,
    ttl_soft: Duration,
    ttl_hard: Duration,
    ttl_jitter: f64,
    l1_ttl: Duration,
    entry_bytes_max: usize,
    lease_ttl: Duration,
    eras: Eras,
    /// Owners erased a moment ago by this process, and when that was done.
    erased: Cache<String, Instant>,
    /// When the store was last asked for the revisions and had none.
    asked: Mutex<Option<Instant>>,
    /// When the revisions were last written to the store.
    told: Mutex<Option<Instant>>,
}

#[derive(Clone)]
struct Held {
    entry: Arc<Entry>,
    owner: Option<Arc<str>>,
    until: Instant,
    bytes: u32,
}

/// What was known when a question was asked, so that its answer does not undo an erasure since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    at: Instant,
    /// `None` where the store did not say: then it is given nothing.
    era: Option<Era>,
}

/// A question held for all processes that share the store; given back when it is dropped.
///
/// Nothing in it says whose it is, and no script compares before removing: a lease is only given back while so little of
/// its time has passed that it cannot be another's yet.
pub(super) struct Lease<'a> {
    writer: &'a Writer,
    name: String,
    until: Instant,
}

/// A lease is not given back in the last part of its time: clocks run unequally, and removing takes a while.
const LEASE_MARGIN: f64 = 0.2;

/// Owners whose erasure is kept in mind.
const OWNERS_ERASED_MAX: u64 = 10_000;

/// Clocks of two machines may differ by this much before an entry of the future is refused.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(300);

/// How often a store without revisions is asked for them again.
const REVISIONS_ASKED_EVERY: Duration = Duration::from_secs(1);

impl Shelf {
    /// Must be called inside a runtime.
    pub(crate) fn new(config: &Config, store: Arc<dyn Store>, codec: Codec, clock: Clock) -> Self {
        let first = (!config.l1_ttl.is_zero()).then(|| {
            let share = config.l1_bytes_max.div_ceil(config.l1_entries_max.max(1));
            Cache::builder()
                .max_capacity(config.l1_bytes_max)
                .weigher(move |_: &KeyDigest, held: &Held| {
                    u32::try_from(share).unwrap_or(u32::MAX).max(held.bytes)
                })
                .time_to_live(config.l1_ttl)
                .eviction_listener(|_, _, cause| {
                    if cause == RemovalCause::Size {
                        metrics::eviction("l1");
                    }
                })
                .build()
        });
        Self {
            first,
            writer: Writer::spawn(Arc::clone(&store), config.writes_queued_max),
            eras: Eras::new(config, Arc::clone(&store)),
            store,
            codec,
            clock,
            ttl_soft: config.ttl_soft,
            ttl_hard: config.ttl_hard,
            ttl_jitter: config.ttl_jitter,
            l1_ttl: config.l1_ttl,
            entry_bytes_max: config.entry_bytes_max,
            lease_ttl: config.lease_ttl,
            erased: Cache::builder()
                .max_capacity(OWNERS_ERASED_MAX)
                .time_to_live(config.erase_fence)
                .build(),
            asked: Mutex::default(),
            told: Mutex::default(),
        }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// What is known about this question, and whether the first level knew it.
    pub(crate) async fn find(&self, key: &Key) -> (Found, bool) {
        if let Some(first) = &self.first
            && let Some(held) = first.get(key.digest()).await
            && Instant::now() < held.until
        {
            return (Found::Entry(held.entry), true);
        }
        (self.find_stored(key).await, false)
    }

    /// What the store knows, whatever the first level says.
    pub(crate) async fn find_stored(&self, key: &Key) -> Found {
        // Side by side; where there is nothing, nobody waits for the era that it would have to be of.
        let entry = pin!(self.store.get(key.name()));
        let era = pin!(self.era(key.owner()));
        let (bytes, running) = match select(entry, era).await {
            Either::Left((Ok(Some(bytes)), era)) => (bytes, era.await),
            Either::Left((Ok(None), _)) => return Found::Nothing,
            Either::Left((Err(_), _)) => return Found::Failed,
            Either::Right((running, entry)) => match entry.await {
                Ok(Some(bytes)) => (bytes, running),
                Ok(None) => return Found::Nothing,
                Err(_) => return Found::Failed,
            },
        };
        let Some(running) = running else {
            return Found::Failed;
        };
        match self.read(key, &bytes) {
            // Of a user who was erased since.
            Ok((era, _)) if era != running.era => Found::Nothing,
            Ok((_, entry)) => {
                let entry = Arc::new(entry);
                match self.hold(key, &entry, bytes.len(), running.at).await {
                    true => Found::Entry(entry),
                    false => Found::Nothing,
                }
            }
            Err(corrupt) => {
                metrics::corrupt(corrupt.reason());
                Found::Corrupt
            }
        }
    }

    /// To be called before a question of theirs goes to the source.
    pub(super) async fn asked(&self, owner: Option<&str>) -> Asked {
        let at = Instant::now();
        let era = self.era(owner).await.map(|seen| seen.era);
        Asked { at, era }
    }

    /// The era that an entry must be of to be found; `None` where the store does not say.
    async fn era(&self, owner: Option<&str>) -> Option<Seen> {
        match owner {
            Some(owner) => self.eras.of(owner).await,
            None => Some(Seen {
                era: Era::NOBODYS,
                at: Instant::now(),
            }),
        }
    }

    /// Holds the question for as long as `ttl`; `None` while another process holds it.
    pub(super) async fn lease(&self, key: &Key, ttl: Duration) -> Result<Option<Lease<'_>>, crate::Error> {
        let name = format!("{}:lease", key.name());
        // Counted from before it was asked for: never longer than the store counts.
        let until = Instant::now() + ttl.mul_f64(1.0 - LEASE_MARGIN);
        let taken = self.store.claim(&name, ttl).await?;
        // Made only if it was taken: dropping one that was not would give back another's.
        Ok(taken.then(|| Lease {
            writer: &self.writer,
            name,
            until,
        }))
    }

    pub(super) fn lease_ttl(&self) -> Duration {
        self.lease_ttl
    }

    /// Into the first level now, into the store when its turn comes.
    pub(super) async fn put(&self, key: &Key, knowledge: &Knowledge, asked: Asked, cost: Duration) {
        let knowledge = Knowledge {
            freshness: Freshness::Fresh,
            ..knowledge.clone()
        };
        let stretch = 1.0 + self.ttl_jitter * (2.0 * rand::random::<f64>() - 1.0);
        let hard = self.ttl_hard.mul_f64(stretch);
        let times = Times {
            created_ms: self.clock.now_ms(),
            soft_ms: millis(self.ttl_soft.mul_f64(stretch)).min(millis(hard)),
            hard_ms: millis(hard),
            cost_ms: u32::try_from(cost.as_millis()).unwrap_or(u32::MAX),
        };
        let era = asked.era.unwrap_or(Era::NOBODYS);
        let value = envelope::seal(key, era, times, &(self.codec.encode)(&knowledge));
        if value.len() > self.entry_bytes_max {
            metrics::write("too_large");
            return;
        }
        let entry = Arc::new(Entry { knowledge, times });
        if !self.hold(key, &entry, value.len(), asked.at).await {
            metrics::write("erased");
            return;
        }
        if asked.era.is_none() {
            metrics::write("failed");
            return;
        }
        self.writer.put(Put {
            owner: key.owner().map(|owner| (owner.to_owned(), era)),
            name: key.name().to_owned(),
            value,
            ttl: hard,
        });
    }

    /// Everything remembered for this owner, here and in the store, and what is still on its way. How many entries the
    /// store had.
    pub(crate) async fn erase(&self, owner: &str) -> Result<u64, crate::Error> {
        let erased = self.store.erase(owner).await;
        // From here on: whoever asked the store before may hold what it said only now.
        self.erased.insert(owner.to_owned(), Instant::now()).await;
        self.eras.forget(owner).await;
        if let Some(first) = &self.first {
            let theirs = first
                .iter()
                .filter(|(_, held)| held.owner.as_deref() == Some(owner))
                .map(|(digest, _)| digest);
            let theirs: Vec<_> = theirs.collect();
            for digest in theirs {
                first.invalidate(&*digest).await;
            }
        }
        erased
    }

    pub(crate) async fn forget(&self, key: &Key) -> Result<(), crate::Error> {
        if let Some(first) = &self.first {
            first.invalidate(key.digest()).await;
        }
        // A write still in the queue would bring it back.
        self.writer.flush().await;
        self.store.remove(key.name()).await
    }

    pub(crate) async fn flush(&self) {
        self.writer.flush().await;
    }

    /// The revisions in use, or those that the store remembers from an earlier life of this deployment: so that a
    /// process that starts while the Oracle is down still finds what it said.
    pub(crate) async fn revisions(&self, keys: &Keys) -> Option<Arc<Revisions>> {
        if let Some(revisions) = keys.revisions.get() {
            return Some(revisions);
        }
        let recently =
            |instant: &Option<Instant>| instant.is_some_and(|at| at.elapsed() < REVISIONS_ASKED_EVERY);
        if recently(&self.asked.lock().unwrap_or_else(PoisonError::into_inner)) {
            return None;
        }
        let key = keys.ring.revisions_key();
        let bytes = self.store.get(key.name()).await.ok()?;
        let remembered = bytes.and_then(|bytes| match envelope::open(&key, &bytes, self.entry_bytes_max) {
            Ok((_, _, body)) => Revisions::decode(body),
            Err(corrupt) => {
                metrics::corrupt(corrupt.reason());
                None
            }
        });
        if remembered.is_none() {
            *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        remembered.map(|revisions| keys.revisions.assume(revisions))
    }

    /// The Oracle's word about itself: used from now on, and remembered at least as long as the entries under it.
    pub(crate) fn learn(&self, keys: &Keys, revisions: Revisions) {
        let news = keys.revisions.learn(revisions.clone());
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if !news && told.is_some_and(|at| at.elapsed() < self.ttl_hard / 4) {
            return;
        }
        *told = Some(Instant::now());
        let ttl = self.ttl_hard * 2;
        let times = Times {
            created_ms: self.clock.now_ms(),
            soft_ms: millis(ttl),
            hard_ms: millis(ttl),
            cost_ms: 0,
        };
        let key = keys.ring.revisions_key();
        let value = envelope::seal(&key, Era::NOBODYS, times, &revisions.encode());
        self.writer.put(Put {
            owner: None,
            name: key.name().to_owned(),
            value,
            ttl,
        });
    }

    fn read(&self, key: &Key, bytes: &[u8]) -> Result<(Era, Entry), Corrupt> {
        let (era, times, body) = envelope::open(key, bytes, self.entry_bytes_max)?;
        if times.created_ms > self.clock.now_ms().saturating_add(millis(CLOCK_SKEW_MAX)) {
            return Err(Corrupt::Future);
        }
        let knowledge = (self.codec.decode)(body).ok_or(Corrupt::Body)?;
        Ok((era, Entry { knowledge, times }))
    }

    /// Puts what was known at `since` into the first level for what is left of its time there; whether its owner has not
    /// been erased after that.
    async fn hold(&self, key: &Key, entry: &Arc<Entry>, bytes: usize, since: Instant) -> bool {
        if let Some(first) = &self.first {
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            let held = Held {
                entry: Arc::clone(entry),
                owner: key.owner().map(Arc::from),
                until: since + self.l1_ttl,
                bytes,
            };
            first.insert(*key.digest(), held).await;
        }
        // After the entry, so that of an erasure at the same time one of the two sees the other.
        let Some(owner) = key.owner() else { return true };
        let stays = self.erased.get(owner).await.is_none_or(|at| at < since);
        if !stays && let Some(first) = &self.first {
            first.invalidate(key.digest()).await;
        }
        stays
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.writer.release(std::mem::take(&mut self.name), self.until);
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
