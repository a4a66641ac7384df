//! A store in Redis or Valkey, shared by all processes of a deployment: one server, a cluster, or a master that
//! sentinels watch.
//!
//! A caller never waits longer than its command's own time-out, and not at all while there is no connection:
//! connecting, reconnecting and probing happen in the background ([`link`]). Only `GET`, `SET … PX`, `UNLINK` and
//! `PING` are used, the sorted-set commands of [`index`], and `CLUSTER SLOTS` in a cluster, so that the access rules
//! can be as narrow. No scripts, and no command about two names: a cluster that moves its slots is not in the way.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::{Cmd, FromRedisValue};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::config::{RedisConfig, RedisMode};
use crate::era::Era;
use crate::error::Error;
use crate::store::{Health, Store};

mod board;
mod breaker;
mod cluster;
mod dial;
mod index;
mod link;
mod sentinel;
mod slots;

use board::Board;
use cluster::Cluster;
use dial::Dialer;
use link::{Link, Server};
use sentinel::Sentinels;

pub struct RedisStore {
    servers: Servers,
    board: Arc<Board>,
    keeper: AbortHandle,
    get_timeout: Duration,
    put_timeout: Duration,
    user_entries_max: usize,
}

enum Servers {
    One(Arc<Link>),
    Cluster(Arc<Cluster>),
}

impl RedisStore {
    /// Returns at once; the first connection is made in the background, and Redis may be absent.
    pub fn open(config: &RedisConfig) -> Result<Self, Error> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let dialer = Dialer::of(config)?;
        let board = Arc::new(Board::new());
        let one = |server| {
            let link = Arc::new(Link::new(server, dialer.clone(), config, Arc::clone(&board)));
            let keeper = runtime.spawn(link::keep(Arc::clone(&link))).abort_handle();
            (Servers::One(link), keeper)
        };
        let (servers, keeper) = match config.mode {
            RedisMode::Standalone => one(Server::At(None)),
            RedisMode::Sentinel => one(Server::Master(Box::new(Sentinels::new(config, &dialer)?))),
            RedisMode::Cluster => {
                let cluster = Arc::new(Cluster::new(config, dialer, Arc::clone(&board))?);
                let keeper = runtime.spawn(cluster::keep(Arc::clone(&cluster)));
                (Servers::Cluster(cluster), keeper.abort_handle())
            }
        };
        Ok(Self {
            servers,
            board,
            keeper,
            get_timeout: config.get_timeout,
            put_timeout: config.put_timeout,
            user_entries_max: config.user_entries_max,
        })
    }

    /// Whether the place was empty.
    async fn set_if_empty(&self, name: &str, value: &[u8], ttl: Duration) -> Result<bool, Error> {
        let mut command = Cmd::new();
        command.arg("SET").arg(name).arg(value).arg("NX");
        command.arg("PX").arg(millis(ttl));
        let taken: Option<String> = self.run(name, "claim", &command, self.get_timeout).await?;
        Ok(taken.is_some())
    }

    /// Runs a command about `name`, wherever that lies.
    async fn run<T: FromRedisValue>(
        &self,
        name: &str,
        label: &'static str,
        command: &Cmd,
        limit: Duration,
    ) -> Result<T, Error> {
        match &self.servers {
            Servers::One(link) => Ok(link.run(label, command, false, limit).await?),
            Servers::Cluster(cluster) => cluster.run(name, label, command, limit).await,
        }
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let mut command = Cmd::new();
        command.arg("GET").arg(name);
        self.run(name, "get", &command, self.get_timeout).await
    }

    async fn put(&self, name: &str, value: Vec<u8>, ttl: Duration) -> Result<(), Error> {
        let mut command = Cmd::new();
        command.arg("SET").arg(name).arg(value).arg("PX").arg(millis(ttl));
        self.run(name, "set", &command, self.put_timeout).await
    }

    async fn remove(&self, name: &str) -> Result<(), Error> {
        let mut command = Cmd::new();
        command.arg("UNLINK").arg(name);
        let _removed: u64 = self.run(name, "unlink", &command, self.put_timeout).await?;
        Ok(())
    }

    async fn claim(&self, name: &str, ttl: Duration) -> Result<bool, Error> {
        self.set_if_empty(name, b"1", ttl).await
    }

    async fn era(&self, owner: &str, lasts: Duration) -> Result<Era, Error> {
        self.era_or_begin(owner, lasts).await
    }

    async fn put_for(
        &self,
        owner: &str,
        era: Era,
        name: &str,
        value: Vec<u8>,
        ttl: Duration,
    ) -> Result<(), Error> {
        self.put_indexed(owner, era, name, value, ttl).await
    }

    async fn erase(&self, owner: &str) -> Result<u64, Error> {
        self.erase_indexed(owner).await
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.board.health()
    }
}

/// Redis knows no time of nothing.
fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX >> 1).max(1)
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("health", &*self.board.health().borrow())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[tokio::test]
    async fn neither_url_nor_password_is_shown() {
        let url = "redis://ann:hush@127.0.0.1:1/0";
        let config = RedisConfig {
            url: Some(Secret::new(url)),
            ..RedisConfig::default()
        };
        let shown = format!("{config:?} {:?}", RedisStore::open(&config).unwrap());
        assert!(!shown.contains("hush") && !shown.contains("ann"), "{shown}");
    }

    #[test]
    fn a_store_outside_a_runtime_is_an_error_and_no_panic() {
        let config = RedisConfig {
            url: Some(Secret::new("redis://127.0.0.1:1")),
            ..RedisConfig::default()
        };
        assert!(matches!(RedisStore::open(&config), Err(Error::NoRuntime)));
    }
}
