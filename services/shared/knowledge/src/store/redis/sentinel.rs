//! Which server is the master now: sentinels are asked one after another, as their protocol wants it.
//!
//! Only `SENTINEL GET-MASTER-ADDR-BY-NAME` is used. No `ROLE` is asked of the server itself: a replica that a sentinel
//! with old news still calls master refuses the first write, which loses the connection and asks the next sentinel.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use redis::{Cmd, FromRedisValue};

use super::dial::{Address, Dialer};
use crate::config::RedisConfig;
use crate::error::Error;

pub(super) struct Sentinels {
    sentinels: Dialer,
    seeds: Vec<Address>,
    master_name: String,
    /// The sentinel to be asked first.
    first: AtomicUsize,
    master: Mutex<Option<Address>>,
}

impl Sentinels {
    pub(super) fn new(config: &RedisConfig, servers: &Dialer) -> Result<Self, Error> {
        Ok(Self {
            seeds: servers.seeds()?,
            sentinels: servers.to_sentinels()?,
            master_name: config.sentinel_master.clone().unwrap_or_default(),
            first: AtomicUsize::new(0),
            master: Mutex::default(),
        })
    }

    /// The master that the first sentinel to answer names.
    pub(super) async fn find(&self) -> Result<Address, &'static str> {
        let address = self.ask().await?;
        *self.master.lock().unwrap_or_else(PoisonError::into_inner) = Some(address.clone());
        Ok(address)
    }

    /// Whether the sentinels now name another master than the one last found. No answer is no news.
    pub(super) async fn name_another(&self) -> bool {
        let Ok(named) = self.ask().await else {
            return false;
        };
        let master = self.master.lock().unwrap_or_else(PoisonError::into_inner);
        master.as_ref() != Some(&named)
    }

    /// The last master found was no good: another sentinel may know better.
    pub(super) fn doubt(&self) {
        self.first.fetch_add(1, Ordering::Relaxed);
    }

    async fn ask(&self) -> Result<Address, &'static str> {
        let mut question = Cmd::new();
        question
            .arg("SENTINEL")
            .arg("GET-MASTER-ADDR-BY-NAME")
            .arg(&self.master_name);
        let mut reason = "no sentinel answered";
        let first = self.first.load(Ordering::Relaxed);
        for n in 0..self.seeds.len() {
            let asked = first.wrapping_add(n) % self.seeds.len();
            let answer = match self.sentinels.ask(&self.seeds[asked], &question).await {
                Ok(answer) => answer,
                Err(why) => {
                    reason = why;
                    continue;
                }
            };
            match Option::<(String, u16)>::from_redis_value(answer) {
                Ok(Some((host, port))) => {
                    self.first.store(asked, Ordering::Relaxed);
                    return Ok(Address { host, port });
                }
                Ok(None) => reason = "the sentinels know no master of that name",
                Err(_) => reason = "it is no sentinel",
            }
        }
        Err(reason)
    }
}
