//! Which era runs for an owner, as this process last saw it: a slate asks about one user's ten items at once.

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use tokio::time::Instant;

use crate::config::Config;
use crate::era::Era;
use crate::store::Store;

#[derive(Debug)]
pub(super) struct Eras {
    store: Arc<dyn Store>,
    /// Absent if each look asks the store.
    seen: Option<Cache<String, Option<Seen>>>,
    believed: Duration,
    lasts: Duration,
}

/// An era, and when the store was asked for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) era: Era,
    pub(super) at: Instant,
}

/// What was seen is believed for this part of the first level's time, so that most of that time is left to an entry which
/// is held on the strength of it.
const BELIEVED_PART: u32 = 8;

/// Owners whose era is kept in mind.
const OWNERS_MAX: u64 = 10_000;

impl Eras {
    pub(super) fn new(config: &Config, store: Arc<dyn Store>) -> Self {
        let believed = config.l1_ttl / BELIEVED_PART;
        let seen = (!believed.is_zero()).then(|| {
            Cache::builder()
                .max_capacity(OWNERS_MAX)
                .time_to_live(believed)
                .build()
        });
        Self {
            store,
            seen,
            believed,
            lasts: config.ttl_hard,
        }
    }

    /// `None` where the store does not say.
    pub(super) async fn of(&self, owner: &str) -> Option<Seen> {
        let Some(seen) = &self.seen else {
            return self.ask(owner).await;
        };
        let is_old = |seen: &Option<Seen>| seen.is_none_or(|seen| seen.at.elapsed() >= self.believed);
        let entry = seen.entry_by_ref(owner);
        entry
            .or_insert_with_if(self.ask(owner), is_old)
            .await
            .into_value()
    }

    pub(super) async fn forget(&self, owner: &str) {
        if let Some(seen) = &self.seen {
            seen.invalidate(owner).await;
        }
    }

    async fn ask(&self, owner: &str) -> Option<Seen> {
        let at = Instant::now();
        let era = self.store.era(owner, self.lasts).await.ok()?;
        Some(Seen { era, at })
    }
}
