//! An owner's era, and which entries they have, so that they can be erased: a sorted set beside them, by the time they
//! expire.
//!
//! | name | holds |
//! |---|---|
//! | `<owner>:era` | what their entries are sealed with; outlives them |
//! | `<owner>:index` | the rest of each entry's name; outlives them, bounded by `user_entries_max` |
//!
//! Each command is about one name. The era alone decides what may be found; the index is there to give the memory back.
//! Whatever order the commands of a writer and an eraser meet in, the entry goes: the writer indexes, writes, and looks
//! whether the era runs; the eraser ends the era and then removes what is indexed. A server that makes room for others may
//! lose either: without the index, bytes stay for their time and are not found; without the era, they are not found.

use std::time::Duration;

use futures_util::future::{join_all, join3};
use redis::Cmd;

use super::{RedisStore, millis};
use crate::clock::Clock;
use crate::era::Era;
use crate::error::Error;
use crate::store::{Store, era_of};

/// Entries' times are stretched and shrunk by at most half: three times one of them outlives every other.
const OUTLIVES: u32 = 3;

/// Removals in flight at once.
const REMOVALS_MAX: usize = 32;

/// Another process may begin an era between our look and our own; twice is once too often.
const BEGINNINGS_MAX: usize = 2;

fn index_of(owner: &str) -> String {
    format!("{owner}:index")
}

fn command<const N: usize>(words: [&str; N]) -> Cmd {
    let mut command = Cmd::new();
    for word in words {
        command.arg(word);
    }
    command
}

impl RedisStore {
    pub(super) async fn era_or_begin(&self, owner: &str, lasts: Duration) -> Result<Era, Error> {
        let name = era_of(owner);
        for _ in 0..BEGINNINGS_MAX {
            match self.get(&name).await?.map(<[u8; Era::BYTES]>::try_from) {
                Some(Ok(bytes)) => return Ok(Era::of_bytes(bytes)),
                // Not ours, and in the way.
                Some(Err(_)) => self.remove(&name).await?,
                None => {}
            }
            let begun = Era::begin();
            if self.set_if_empty(&name, begun.bytes(), lasts).await? {
                return Ok(begun);
            }
        }
        Err(Error::StoreUnavailable)
    }

    pub(super) async fn put_indexed(
        &self,
        owner: &str,
        era: Era,
        name: &str,
        value: Vec<u8>,
        ttl: Duration,
    ) -> Result<(), Error> {
        let index = index_of(owner);
        let rest = rest_of(owner, name);
        let expires_ms = Clock::system().now_ms().saturating_add(millis(ttl));
        let add = command(["ZADD", &index, &expires_ms.to_string(), rest]);
        let _new: u64 = self.run(&index, "zadd", &add, self.put_timeout).await?;
        match self.put_under(owner, era, name, value, ttl).await {
            Ok(true) => self.trim(owner).await,
            Ok(false) => self.remove(name).await,
            Err(error) => {
                // A write that timed out may have arrived, and an eraser may have been and gone meanwhile. If it cannot be
                // taken back either, it lies under its era.
                let _ = self.remove(name).await;
                Err(error)
            }
        }
    }

    /// Writes an entry that is indexed already; whether its era ran afterwards.
    async fn put_under(
        &self,
        owner: &str,
        era: Era,
        name: &str,
        value: Vec<u8>,
        ttl: Duration,
    ) -> Result<bool, Error> {
        let (index, era_name) = (index_of(owner), era_of(owner));
        let lasts = millis(ttl.saturating_mul(OUTLIVES)).to_string();
        let lasting = [&index, &era_name].map(|name| {
            let lasting = command(["PEXPIRE", name, &lasts]);
            async move { self.run::<u64>(name, "pexpire", &lasting, self.put_timeout).await }
        });
        let [index_lasts, era_lasts] = lasting;
        let (index_lasts, era_lasts, stored) =
            join3(index_lasts, era_lasts, self.put(name, value, ttl)).await;
        stored.and(index_lasts).and(era_lasts)?;
        let runs = self.get(&era_name).await?;
        Ok(runs.is_some_and(|runs| runs == era.bytes()))
    }

    /// Gives up what an owner has too many of.
    async fn trim(&self, owner: &str) -> Result<(), Error> {
        let index = index_of(owner);
        let count = command(["ZCARD", &index]);
        let count: usize = self.run(&index, "zcard", &count, self.put_timeout).await?;
        match count.saturating_sub(self.user_entries_max) {
            0 => Ok(()),
            excess => self.give_up(owner, excess).await,
        }
    }

    /// What has expired is only struck out; of what lives, the first to expire are given up.
    async fn give_up(&self, owner: &str, excess: usize) -> Result<(), Error> {
        let (index, limit) = (index_of(owner), self.put_timeout);
        let now = Clock::system().now_ms().to_string();
        let expired = command(["ZREMRANGEBYSCORE", &index, "-inf", &now]);
        let struck: usize = self.run(&index, "zremrangebyscore", &expired, limit).await?;
        let excess = excess.saturating_sub(struck);
        if excess == 0 {
            return Ok(());
        }
        let first = command(["ZPOPMIN", &index, &excess.to_string()]);
        let given_up: Vec<(String, f64)> = self.run(&index, "zpopmin", &first, limit).await?;
        let given_up: Vec<String> = given_up.into_iter().map(|(rest, _)| rest).collect();
        self.remove_all(owner, &given_up).await.map(drop)
    }

    pub(super) async fn erase_indexed(&self, owner: &str) -> Result<u64, Error> {
        let index = index_of(owner);
        // First, and by itself enough: what is left behind from here on is never found again.
        self.remove(&era_of(owner)).await?;
        let all = command(["ZRANGE", &index, "0", "-1"]);
        let all: Vec<String> = self.run(&index, "zrange", &all, self.put_timeout).await?;
        let removed = self.remove_all(owner, &all).await?;
        // Last: an erasure that failed half-way is found, and finished, by the next.
        self.remove(&index).await?;
        Ok(removed)
    }

    /// How many of them were there.
    async fn remove_all(&self, owner: &str, rests: &[String]) -> Result<u64, Error> {
        let mut removed = 0;
        for some in rests.chunks(REMOVALS_MAX) {
            let removals = some.iter().map(|rest| async move {
                let name = format!("{owner}:{rest}");
                let removal = command(["UNLINK", &name]);
                self.run::<u64>(&name, "unlink", &removal, self.put_timeout).await
            });
            for outcome in join_all(removals).await {
                removed += outcome?;
            }
        }
        Ok(removed)
    }
}

/// The name without its owner and the colon.
fn rest_of<'a>(owner: &str, name: &'a str) -> &'a str {
    name.strip_prefix(owner)
        .and_then(|rest| rest.strip_prefix(':'))
        .unwrap_or(name)
}
