//! Which entries an owner has, so that they can be erased: a sorted set beside them, by the time they expire.
//!
//! | name | holds |
//! |---|---|
//! | `<owner>:index` | the rest of each entry's name; outlives them, bounded by `user_entries_max` |
//! | `<owner>:erased` | there while writes that were on their way during an erasure are turned back |
//!
//! Each command is about one name. Whatever order the commands of a writer and an eraser meet in, the entry goes: the
//! writer indexes, writes, and looks for the fence; the eraser sets the fence and then removes what is indexed.

use std::time::Duration;

use futures_util::future::{join_all, try_join};
use redis::Cmd;

use super::{RedisStore, millis};
use crate::clock::Clock;
use crate::error::Error;
use crate::store::Store;

/// Entries' times are stretched and shrunk by at most half: three times one of them outlives every other.
const INDEX_OUTLIVES: u32 = 3;

/// Removals in flight at once.
const REMOVALS_MAX: usize = 32;

fn index_of(owner: &str) -> String {
    format!("{owner}:index")
}

fn fence_of(owner: &str) -> String {
    format!("{owner}:erased")
}

fn command<const N: usize>(words: [&str; N]) -> Cmd {
    let mut command = Cmd::new();
    for word in words {
        command.arg(word);
    }
    command
}

impl RedisStore {
    pub(super) async fn put_indexed(
        &self,
        owner: &str,
        name: &str,
        value: Vec<u8>,
        ttl: Duration,
    ) -> Result<(), Error> {
        let index = index_of(owner);
        let rest = rest_of(owner, name);
        let expires_ms = Clock::system().now_ms().saturating_add(millis(ttl));
        let limit = self.put_timeout;
        let add = command(["ZADD", &index, &expires_ms.to_string(), rest]);
        let _new: u64 = self.run(&index, "zadd", &add, limit).await?;
        let lasts = millis(ttl.saturating_mul(INDEX_OUTLIVES)).to_string();
        let lasting = command(["PEXPIRE", &index, &lasts]);
        let lasting = self.run::<u64>(&index, "pexpire", &lasting, limit);
        let _both = try_join(lasting, self.put(name, value, ttl)).await?;
        let count = command(["ZCARD", &index]);
        let count = self.run::<usize>(&index, "zcard", &count, limit);
        let fence = fence_of(owner);
        let (fence, count) = try_join(self.get(&fence), count).await?;
        if fence.is_some() {
            return self.remove(name).await;
        }
        match count.saturating_sub(self.user_entries_max) {
            0 => Ok(()),
            excess => self.trim(owner, excess).await,
        }
    }

    /// What has expired is only struck out; of what lives, the first to expire are given up.
    async fn trim(&self, owner: &str, excess: usize) -> Result<(), Error> {
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

    pub(super) async fn erase_indexed(&self, owner: &str, fence: Duration) -> Result<u64, Error> {
        let index = index_of(owner);
        self.put(&fence_of(owner), b"1".to_vec(), fence).await?;
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
