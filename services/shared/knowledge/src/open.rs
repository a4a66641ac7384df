//! Putting the pipeline together, and the handle to what runs in it.

use std::sync::Arc;
use std::time::Duration;

use refract_domain::{History, KnowledgeSource, Pair, TenantId, UserId};
use tokio::sync::watch;

use crate::cached::{Cached, Limits, Shelf};
use crate::clock::Clock;
use crate::codec::Codec;
use crate::config::{Config, StoreKind};
use crate::error::Error;
use crate::key::{Keyring, Keys};
use crate::revisions::{CurrentRevisions, Revisions};
use crate::store::{Health, MemoryStore, RedisStore, Store};

/// What a pipeline is made of besides its configuration and its source.
#[derive(Clone, Debug)]
pub struct Parts {
    pub codec: Codec,
    pub store: Arc<dyn Store>,
    pub clock: Clock,
}

/// A cheap handle beside the pipeline: for health, server info and shutdown.
#[derive(Clone, Debug)]
pub struct Control {
    keys: Arc<Keys>,
    shelf: Arc<Shelf>,
    flush_timeout: Duration,
}

/// The memory in front of `inner`, as configured, and its handle. Must be called inside a tokio runtime. Redis may be
/// absent: the pipeline works without it, says so, and uses it as soon as it is there.
pub fn open(
    config: &Config,
    codec: Codec,
    inner: Arc<dyn KnowledgeSource>,
) -> Result<(Arc<dyn KnowledgeSource>, Control), Error> {
    config.check()?;
    tokio::runtime::Handle::try_current().map_err(|_| Error::NoRuntime)?;
    let store: Arc<dyn Store> = match config.store {
        StoreKind::Memory => Arc::new(MemoryStore::new(
            config.memory_entries_max,
            config.memory_bytes_max,
        )),
        StoreKind::Redis => Arc::new(RedisStore::open(&config.redis)?),
    };
    open_with(
        config,
        Parts {
            codec,
            store,
            clock: Clock::system(),
        },
        inner,
    )
}

/// Like [`open`], with a store and a clock from elsewhere.
pub fn open_with(
    config: &Config,
    parts: Parts,
    inner: Arc<dyn KnowledgeSource>,
) -> Result<(Arc<dyn KnowledgeSource>, Control), Error> {
    config.check()?;
    tokio::runtime::Handle::try_current().map_err(|_| Error::NoRuntime)?;
    let ring = match config.read_secret()? {
        Some(secret) => Keyring::new(&*config.key_prefix, secret.expose().as_bytes()),
        // Nothing outside this process will read what this one writes.
        None => Keyring::new(&*config.key_prefix, &rand::random::<[u8; 32]>()),
    };
    let keys = Arc::new(Keys::new(ring, CurrentRevisions::new(config.revisions())));
    let shelf = Arc::new(Shelf::new(config, parts.store, parts.codec, parts.clock));
    let limits = Limits {
        flights_max: config.flights_max,
        lease_wait: config.lease_wait,
        refreshes_max: config.refreshes_max,
        refresh_timeout: config.refresh_timeout,
        refresh_retry: config.refresh_retry,
        ttl_unhelpful: config.ttl_unhelpful,
    };
    let cached = Cached::new(inner, Arc::clone(&keys), Arc::clone(&shelf), limits);
    let control = Control {
        keys,
        shelf,
        flush_timeout: config.flush_timeout,
    };
    Ok((Arc::new(cached), control))
}

impl Control {
    /// Changes with the store's health, for health checks and server info.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.shelf.store().health()
    }

    /// Whether the service is running without its store.
    pub fn is_degraded(&self) -> bool {
        *self.health().borrow() != Health::Up
    }

    /// Tells what the Oracle said about itself outside a consultation.
    pub fn learn(&self, revisions: Revisions) {
        self.shelf.learn(&self.keys, revisions);
    }

    pub fn revisions(&self) -> Option<Arc<Revisions>> {
        self.keys.revisions.get()
    }

    /// Returns when everything queued has been written, or has failed to be.
    pub async fn flush(&self) {
        self.shelf.flush().await;
    }

    /// On the way out, when nobody asks any more: writes what is queued and gives leases back, for no longer than
    /// `flush_timeout`. Whether that was enough.
    pub async fn leave(&self) -> bool {
        let written = tokio::time::timeout(self.flush_timeout, self.flush())
            .await
            .is_ok();
        if !written {
            tracing::warn!(
                flush_timeout = ?self.flush_timeout,
                "the knowledge store was too slow for what was queued: it is asked for again where it is missed"
            );
        }
        written
    }

    /// Erases what is remembered for one user of one tenant, whatever history, item and revision it was for, before this
    /// returns; answers to questions already asked are not remembered either. Other processes may serve what they hold in
    /// their first level for another `l1_ttl`. How many entries the store had; after an error nothing is promised, and
    /// asking again is safe. Entries that the store has lost track of are not counted: they stay its bytes for the rest of
    /// their time, and are found by nobody.
    pub async fn erase(&self, tenant: &TenantId, user: &UserId) -> Result<u64, Error> {
        self.shelf.erase(&self.keys.ring.owner(tenant, user)).await
    }

    /// Forgets what is remembered about one question under the revisions in use, here and in the store.
    pub async fn forget(&self, pair: &Pair, history: &Arc<History>) -> Result<(), Error> {
        match self.keys.revisions.get() {
            Some(revisions) => self.shelf.forget(&self.keys.key(pair, history, &revisions)).await,
            None => Ok(()),
        }
    }
}
