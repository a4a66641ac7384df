//! An erasure that was answered with OK holds: whatever the store has lost, and whoever was reading or writing meanwhile.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use refract_domain::{Freshness, KnowledgeSource, TenantId, UserId};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::scripted::Scripted;
use super::support::{Oracle, Redis, codec, config, context, history, pair, paused_clock, pipeline};
use crate::config::{RedisConfig, StoreKind};
use crate::store::{Health, MemoryStore, RedisStore};
use crate::{Config, Control, Era, Error, Store, open};

type Source = Arc<dyn KnowledgeSource>;

/// A process over a real Redis, with no first level of its own.
fn ranker(redis: &Redis, oracle: &Arc<Oracle>) -> (Source, Control) {
    let config = Config {
        store: StoreKind::Redis,
        redis: RedisConfig {
            url: Some(redis.url()),
            get_timeout: Duration::from_secs(2),
            put_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(2),
            ..RedisConfig::default()
        },
        l1_ttl: Duration::ZERO,
        ..config()
    };
    open(&config, codec(), Arc::clone(oracle) as Source).unwrap()
}

async fn freshness(source: &Source, user: &str, film: &str) -> Freshness {
    let answer = source.consult(&pair(user, film), &history(), &context()).await;
    answer.unwrap().freshness
}

/// Makes the server forget names that end like this, as one that is short of memory does.
async fn evict(redis: &Redis, end: &str) {
    let client = ::redis::Client::open(redis.url().expose()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let names = redis.names().await;
    let names: Vec<_> = names.into_iter().filter(|name| name.ends_with(end)).collect();
    assert!(!names.is_empty(), "nothing ends with {end}");
    let _: () = ::redis::cmd("DEL")
        .arg(names)
        .query_async(&mut connection)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_user_whose_index_was_evicted_is_erased_all_the_same() {
    let Some(redis) = Redis::start() else { return };
    let oracle = Oracle::new(Duration::ZERO);
    let (source, control) = ranker(&redis, &oracle);
    for user in ["ann", "bob"] {
        for film in ["heat", "ronin"] {
            freshness(&source, user, film).await;
        }
    }
    control.flush().await;
    evict(&redis, ":index").await;
    let erased = control.erase(&TenantId::default(), &UserId::new("ann")).await;
    assert_eq!(erased.unwrap(), 0, "what is lost cannot be counted");

    let (source, control) = ranker(&redis, &oracle);
    for film in ["heat", "ronin"] {
        assert_eq!(freshness(&source, "ann", film).await, Freshness::Fresh, "{film}");
        let bobs = freshness(&source, "bob", film).await;
        assert!(matches!(bobs, Freshness::Cached { .. }), "bob is somebody else");
    }
    control.flush().await;
    let again = freshness(&source, "ann", "heat").await;
    assert!(matches!(again, Freshness::Cached { .. }), "and ann may come back");
}

#[tokio::test]
async fn an_evicted_era_is_a_miss_and_the_next_answer_is_remembered() {
    let Some(redis) = Redis::start() else { return };
    let oracle = Oracle::new(Duration::ZERO);
    let (source, control) = ranker(&redis, &oracle);
    freshness(&source, "ann", "heat").await;
    control.flush().await;
    evict(&redis, ":era").await;
    assert_eq!(freshness(&source, "ann", "heat").await, Freshness::Fresh);
    control.flush().await;
    let again = freshness(&source, "ann", "heat").await;
    assert!(matches!(again, Freshness::Cached { .. }));
}

#[tokio::test(start_paused = true)]
async fn an_answer_from_before_an_erasure_is_nowhere_when_the_first_levels_time_is_over() {
    let oracle = Oracle::new(Duration::from_millis(100));
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(10_000, 16 << 20));
    let clock = paused_clock();
    let [(one, writing), (two, erasing)] = [(), ()].map(|()| pipeline(&config(), &store, &clock, &oracle));
    freshness(&one, "first", "film").await;
    freshness(&two, "first", "another film").await;
    let flying = tokio::spawn({
        let one = Arc::clone(&one);
        async move {
            one.consult(&pair("ann", "heat"), &history(), &context())
                .await
                .unwrap()
        }
    });
    sleep(Duration::from_millis(50)).await;
    let (tenant, ann) = (TenantId::default(), UserId::new("ann"));
    erasing.erase(&tenant, &ann).await.unwrap();
    let before = flying.await.unwrap();
    writing.flush().await;
    sleep(config().l1_ttl - Duration::from_millis(50)).await;
    // Where it was asked, and where it would have been found.
    for source in [&one, &two] {
        let answer = source.consult(&pair("ann", "heat"), &history(), &context()).await;
        assert_ne!(answer.unwrap().text, before.text);
    }
}

/// A store whose answers to reads are held back while it is told to.
struct Slow {
    store: MemoryStore,
    held_back: AtomicBool,
    go_on: Notify,
}

impl fmt::Debug for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slow")
    }
}

#[async_trait]
impl Store for Slow {
    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let value = self.store.get(name).await;
        if self.held_back.load(Ordering::SeqCst) {
            self.go_on.notified().await;
        }
        value
    }

    async fn put(&self, name: &str, value: Vec<u8>, ttl: Duration) -> Result<(), Error> {
        self.store.put(name, value, ttl).await
    }

    async fn remove(&self, name: &str) -> Result<(), Error> {
        self.store.remove(name).await
    }

    async fn claim(&self, name: &str, ttl: Duration) -> Result<bool, Error> {
        self.store.claim(name, ttl).await
    }

    async fn era(&self, owner: &str, lasts: Duration) -> Result<Era, Error> {
        self.store.era(owner, lasts).await
    }

    async fn put_for(
        &self,
        owner: &str,
        era: Era,
        name: &str,
        value: Vec<u8>,
        ttl: Duration,
    ) -> Result<(), Error> {
        self.store.put_for(owner, era, name, value, ttl).await
    }

    async fn erase(&self, owner: &str) -> Result<u64, Error> {
        self.store.erase(owner).await
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.store.health()
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_read_before_an_erasure_is_neither_served_nor_held_after_it() {
    let oracle = Oracle::new(Duration::ZERO);
    let slow = Arc::new(Slow {
        store: MemoryStore::new(10_000, 16 << 20),
        held_back: AtomicBool::new(false),
        go_on: Notify::new(),
    });
    let store: Arc<dyn Store> = Arc::clone(&slow) as _;
    let clock = paused_clock();
    let [(one, writing), (two, erasing)] = [(), ()].map(|()| pipeline(&config(), &store, &clock, &oracle));
    freshness(&one, "ann", "heat").await;
    freshness(&two, "first", "film").await;
    writing.flush().await;

    slow.held_back.store(true, Ordering::SeqCst);
    let reading = tokio::spawn({
        let two = Arc::clone(&two);
        async move { freshness(&two, "ann", "heat").await }
    });
    sleep(Duration::from_millis(10)).await;
    let (tenant, ann) = (TenantId::default(), UserId::new("ann"));
    assert_eq!(erasing.erase(&tenant, &ann).await.unwrap(), 1);
    sleep(Duration::from_millis(10)).await;
    slow.held_back.store(false, Ordering::SeqCst);
    slow.go_on.notify_one();
    assert_eq!(reading.await.unwrap(), Freshness::Fresh);
}

#[tokio::test]
async fn a_write_that_timed_out_is_taken_back() {
    let silent_to_set = |words: &[String], _: u16| match words[0].as_str() {
        "PING" => Some("+PONG\r\n".to_owned()),
        "SET" => None,
        _ => Some(":1\r\n".to_owned()),
    };
    let server = Scripted::start(silent_to_set).await;
    let store = RedisStore::open(&RedisConfig {
        url: Some(server.url()),
        get_timeout: Duration::from_secs(2),
        put_timeout: Duration::from_millis(100),
        ..RedisConfig::default()
    })
    .unwrap();
    let (owner, name, ttl) = ("x:{t:u}", "x:{t:u}:1", Duration::from_secs(60));
    let written = store.put_for(owner, Era::begin(), name, vec![1], ttl).await;
    assert!(matches!(written, Err(Error::StoreTimeout { .. })), "{written:?}");
    let asked = server.asked();
    let place = |beginning: &str| asked.iter().position(|command| command.starts_with(beginning));
    let (set, unlink) = (place("SET x:{t:u}:1"), place("UNLINK x:{t:u}:1"));
    assert!(set.is_some() && set < unlink, "{asked:?}");
}
