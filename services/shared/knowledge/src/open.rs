//! Putting the pipeline together, and the handle to what runs in it.

use std::sync::Arc;

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
    Ok((Arc::new(cached), Control { keys, shelf }))
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

    /// Returns when everything queued has been written: on the way out.
    pub async fn flush(&self) {
        self.shelf.flush().await;
    }

    /// Erases what is remembered for one user of one tenant, whatever history, item and revision it was for: here at
    /// once, in the store before this returns; answers to questions already asked are not remembered either. Other
    /// processes may serve what they hold in their first level for another `l1_ttl`. How many entries the store had.
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
