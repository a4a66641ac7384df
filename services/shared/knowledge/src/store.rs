//! Where entries lie. A store keeps bytes under a name for a while and promises nothing more: it may forget.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::era::Era;
use crate::error::Error;

mod memory;
mod redis;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

pub use memory::MemoryStore;
pub use redis::RedisStore;

/// Whether a store answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// The first attempt to reach it is not over.
    Connecting,
    Up,
    /// It is being tried again in the background; until then every command fails at once.
    Down,
}

/// Bytes under a name for a while.
///
/// * A value that was put is found until its time is over, unless it was removed, overwritten, or had to make room.
/// * After its time it is never found.
/// * Every call ends within a time that the store bounds itself; a store that is down fails at once.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error>;

    /// Overwrites. `ttl` is rounded up to a millisecond.
    async fn put(&self, name: &str, value: Vec<u8>, ttl: Duration) -> Result<(), Error>;

    /// Removing what is not there is no error.
    async fn remove(&self, name: &str) -> Result<(), Error>;

    /// Puts something in the empty place for a while; whether the place was empty. Of many who try at once, one succeeds.
    async fn claim(&self, name: &str, ttl: Duration) -> Result<bool, Error>;

    /// The owner's era that runs, else a new one for at least `lasts`. It outlives what is put under it; a store that
    /// loses it nevertheless begins another.
    async fn era(&self, owner: &str, lasts: Duration) -> Result<Era, Error>;

    /// Like `put`, for an entry that [`erase`](Self::erase) finds by its owner. `name` is `owner`, a colon and the rest.
    /// Under an era that is over nothing is kept.
    async fn put_for(
        &self,
        owner: &str,
        era: Era,
        name: &str,
        value: Vec<u8>,
        ttl: Duration,
    ) -> Result<(), Error>;

    /// Ends the owner's era, once and for all, then removes what was put under it. How many entries were found: a store
    /// that has lost track of some keeps their bytes for the rest of their time, under an era that is over.
    async fn erase(&self, owner: &str) -> Result<u64, Error>;

    fn health(&self) -> watch::Receiver<Health>;
}

/// Where an owner's era is kept, beside their entries.
fn era_of(owner: &str) -> String {
    format!("{owner}:era")
}
