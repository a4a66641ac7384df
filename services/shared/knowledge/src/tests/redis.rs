//! The Redis store and the pipeline over a real redis-server that is stopped, killed and lied into.

use std::sync::Arc;
use std::time::Duration;

use refract_domain::{Freshness, KnowledgeSource};
use tokio::time::{sleep, timeout};

use super::support::{Oracle, Redis, codec, config, context, history, pair};
use crate::config::{RedisConfig, StoreKind};
use crate::store::{Health, RedisStore, conformance};
use crate::{Config, Control, Error, Store, open};

/// Generous limits: a busy test machine is not what these tests are about.
fn patient(redis: &Redis) -> RedisConfig {
    RedisConfig {
        url: Some(redis.url()),
        get_timeout: Duration::from_secs(2),
        put_timeout: Duration::from_secs(2),
        connect_timeout: Duration::from_secs(2),
        ping_every: Duration::from_secs(3600),
        ..RedisConfig::default()
    }
}

fn pipeline(redis: RedisConfig, oracle: &Arc<Oracle>) -> (Arc<dyn KnowledgeSource>, Control) {
    let config = Config {
        store: StoreKind::Redis,
        redis,
        l1_ttl: Duration::ZERO,
        ..config()
    };
    open(&config, codec(), Arc::clone(oracle) as Arc<dyn KnowledgeSource>).unwrap()
}

async fn until(control: &Control, wanted: Health) {
    let mut health = control.health();
    let reached = timeout(
        Duration::from_secs(20),
        health.wait_for(|health| *health == wanted),
    )
    .await;
    assert!(reached.is_ok(), "the store never was {wanted:?}");
}

async fn raw(redis: &Redis) -> ::redis::aio::MultiplexedConnection {
    let client = ::redis::Client::open(redis.url().expose()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

async fn names(connection: &mut ::redis::aio::MultiplexedConnection) -> Vec<String> {
    let mut names: Vec<String> = ::redis::cmd("KEYS")
        .arg("*")
        .query_async(connection)
        .await
        .unwrap();
    names.retain(|name| {
        !name.contains("{revisions}") && ![":index", ":era", ":lease"].iter().any(|end| name.ends_with(end))
    });
    names.sort();
    names
}

#[tokio::test]
async fn it_keeps_the_promises_of_a_store() {
    let Some(redis) = Redis::start() else { return };
    conformance::check(&RedisStore::open(&patient(&redis)).unwrap()).await;
}

#[tokio::test]
async fn it_keeps_its_promises_to_a_user_with_ten_rights_on_one_prefix() {
    let Some(redis) = Redis::start() else { return };
    let rule = [
        "ranker",
        "on",
        ">a password: with @ signs",
        "~x:*",
        "-@all",
        "+get",
        "+set",
        "+unlink",
        "+ping",
        "+zadd",
        "+zcard",
        "+zrange",
        "+zpopmin",
        "+zremrangebyscore",
        "+pexpire",
    ];
    let mut admin = raw(&redis).await;
    let _: () = ::redis::cmd("ACL")
        .arg("SETUSER")
        .arg(&rule)
        .query_async(&mut admin)
        .await
        .unwrap();
    let url = redis
        .url()
        .expose()
        .replace("://", "://ranker:a%20password%3A%20with%20%40%20signs@");
    let store = RedisStore::open(&RedisConfig {
        url: Some(crate::Secret::new(url)),
        ..patient(&redis)
    })
    .unwrap();
    conformance::check(&store).await;
    let refused = store.put("y:1", vec![1], Duration::from_secs(1)).await;
    assert!(matches!(refused, Err(Error::StoreRefused { code }) if code == "NOPERM"));
    assert_eq!(
        *store.health().borrow(),
        Health::Up,
        "a refusal is no loss of the connection"
    );
}

#[tokio::test]
async fn a_hit_is_served_after_a_restart_of_the_ranker_while_the_oracle_is_down() {
    let Some(redis) = Redis::start() else { return };
    let (source, control) = pipeline(patient(&redis), &Oracle::new(Duration::ZERO));
    source
        .consult(&pair("ann", "heat"), &history(), &context())
        .await
        .unwrap();
    control.flush().await;
    drop((source, control));

    let down = Oracle::new(Duration::ZERO);
    down.set_down(true);
    let (source, _control) = pipeline(patient(&redis), &down);
    let hit = source
        .consult(&pair("ann", "heat"), &history(), &context())
        .await
        .unwrap();
    assert!(matches!(hit.freshness, Freshness::Cached { .. }));
    assert_eq!(down.asked(), 0);
}

#[tokio::test]
async fn no_user_id_is_in_redis_and_entries_have_a_time_to_live() {
    let Some(redis) = Redis::start() else { return };
    let (source, control) = pipeline(patient(&redis), &Oracle::new(Duration::ZERO));
    source
        .consult(&pair("ann@example.org", "heat"), &history(), &context())
        .await
        .unwrap();
    control.flush().await;
    let mut connection = raw(&redis).await;
    let names: Vec<String> = ::redis::cmd("KEYS")
        .arg("*")
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(
        names.len(),
        4,
        "the entry, its index, its era and the revisions: {names:?}"
    );
    for name in names {
        assert!(name.starts_with("x:{") && !name.contains("ann"), "{name}");
        let ttl_ms: i64 = ::redis::cmd("PTTL")
            .arg(&name)
            .query_async(&mut connection)
            .await
            .unwrap();
        assert!(ttl_ms > 0, "{name}");
    }
}

#[tokio::test]
async fn swapped_flipped_and_foreign_values_are_misses_and_are_healed() {
    let Some(redis) = Redis::start() else { return };
    let oracle = Oracle::new(Duration::ZERO);
    let (source, control) = pipeline(patient(&redis), &oracle);
    let users = ["ann", "bob"];
    for user in users {
        source
            .consult(&pair(user, "heat"), &history(), &context())
            .await
            .unwrap();
    }
    control.flush().await;
    let mut connection = raw(&redis).await;
    let names = names(&mut connection).await;
    assert_eq!(names.len(), 2);
    for attack in ["swap", "flip", "cut", "foreign", "empty", "huge"] {
        let values: Vec<Vec<u8>> = ::redis::cmd("MGET")
            .arg(&names)
            .query_async(&mut connection)
            .await
            .unwrap();
        for (n, name) in names.iter().enumerate() {
            let mut value = values[n].clone();
            match attack {
                "swap" => value = values[1 - n].clone(),
                "flip" => value[80] ^= 1,
                "cut" => value.truncate(100),
                "foreign" => value = b"{\"text\": \"something else\"}".to_vec(),
                "empty" => value.clear(),
                _ => value = vec![7; 1 << 20],
            }
            let _: () = ::redis::cmd("SET")
                .arg(name)
                .arg(value)
                .query_async(&mut connection)
                .await
                .unwrap();
        }
        let asked = oracle.asked();
        for user in users {
            let answer = source
                .consult(&pair(user, "heat"), &history(), &context())
                .await
                .unwrap();
            assert_eq!(answer.freshness, Freshness::Fresh, "{attack}");
            assert!(
                answer.text.contains(&format!("for {user}")),
                "{attack}: {}",
                answer.text
            );
        }
        assert_eq!(oracle.asked(), asked + 2, "{attack}");
        control.flush().await;
        for user in users {
            let answer = source
                .consult(&pair(user, "heat"), &history(), &context())
                .await
                .unwrap();
            assert!(
                matches!(answer.freshness, Freshness::Cached { .. }),
                "{attack} was not healed"
            );
            assert!(answer.text.contains(&format!("for {user}")));
        }
    }
    // A value of another type is an error of the server, not ours.
    for name in &names {
        let _: () = ::redis::cmd("UNLINK")
            .arg(name)
            .query_async(&mut connection)
            .await
            .unwrap();
        let _: () = ::redis::cmd("LPUSH")
            .arg(name)
            .arg("a")
            .query_async(&mut connection)
            .await
            .unwrap();
    }
    let answer = source
        .consult(&pair("ann", "heat"), &history(), &context())
        .await
        .unwrap();
    assert_eq!(answer.freshness, Freshness::Fresh);
}

#[tokio::test]
async fn a_process_starts_without_redis_and_uses_it_as_soon_as_it_is_there() {
    let Some(mut redis) = Redis::start() else { return };
    redis.kill();
    let oracle = Oracle::new(Duration::ZERO);
    let (source, control) = pipeline(patient(&redis), &oracle);
    assert_eq!(
        source
            .consult(&pair("ann", "heat"), &history(), &context())
            .await
            .unwrap()
            .freshness,
        Freshness::Fresh
    );
    assert!(control.is_degraded());
    redis.restart();
    until(&control, Health::Up).await;
    assert!(!control.is_degraded());
    source
        .consult(&pair("ann", "heat"), &history(), &context())
        .await
        .unwrap();
    control.flush().await;
    let hit = source
        .consult(&pair("ann", "heat"), &history(), &context())
        .await
        .unwrap();
    assert!(matches!(hit.freshness, Freshness::Cached { .. }));
}

#[tokio::test]
async fn a_killed_redis_turns_look_ups_into_misses_and_hits_come_back_with_it() {
    let Some(mut redis) = Redis::start() else { return };
    let oracle = Oracle::new(Duration::ZERO);
    let (source, control) = pipeline(patient(&redis), &oracle);
    source
        .consult(&pair("ann", "heat"), &history(), &context())
        .await
        .unwrap();
    redis.kill();
    for _ in 0..50 {
        let answer = source
            .consult(&pair("ann", "heat"), &history(), &context())
            .await
            .unwrap();
        assert_eq!(answer.freshness, Freshness::Fresh);
    }
    assert!(control.is_degraded());
    redis.restart();
    until(&control, Health::Up).await;
    source
        .consult(&pair("ann", "heat"), &history(), &context())
        .await
        .unwrap();
    control.flush().await;
    let hit = source
        .consult(&pair("ann", "heat"), &history(), &context())
        .await
        .unwrap();
    assert!(matches!(hit.freshness, Freshness::Cached { .. }));
}

#[tokio::test]
async fn a_lost_connection_is_noticed_without_any_caller() {
    let Some(mut redis) = Redis::start() else { return };
    let quick = RedisConfig {
        ping_every: Duration::from_millis(50),
        ..patient(&redis)
    };
    let (_source, control) = pipeline(quick, &Oracle::new(Duration::ZERO));
    until(&control, Health::Up).await;
    redis.kill();
    until(&control, Health::Down).await;
    redis.restart();
    until(&control, Health::Up).await;
}

#[tokio::test]
async fn a_stopped_redis_costs_a_few_slow_calls_and_then_none() {
    let Some(redis) = Redis::start() else { return };
    let tight = RedisConfig {
        get_timeout: Duration::from_millis(100),
        timeouts_in_row_max: 5,
        timeouts_share_max: 1.0,
        ..patient(&redis)
    };
    let store = RedisStore::open(&tight).unwrap();
    let mut health = store.health();
    health.wait_for(|health| *health == Health::Up).await.unwrap();
    redis.signal("-STOP");
    let (mut slow, mut quick) = (0, 0);
    for _ in 0..50 {
        match store.get("x:{stopped}:1").await {
            Err(Error::StoreTimeout { .. }) => slow += 1,
            Err(Error::StoreUnavailable) => quick += 1,
            other => panic!("a stopped redis cannot answer: {other:?}"),
        }
    }
    assert_eq!((slow, quick), (5, 45));
    redis.signal("-CONT");
    let up = timeout(
        Duration::from_secs(20),
        health.wait_for(|health| *health == Health::Up),
    )
    .await;
    assert!(up.is_ok());
    assert_eq!(store.get("x:{stopped}:1").await.unwrap(), None);
}

/// The path to Redis swallows what is sent on old connections, while new ones pass: a dropped NAT entry, a dead node
/// behind a virtual address. The library's own reconnecting connection never recovers from it.
#[tokio::test]
async fn a_connection_that_went_silent_is_replaced_by_a_fresh_one() {
    let Some(redis) = Redis::start() else { return };
    let target = redis.url().expose().trim_start_matches("redis://").to_owned();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (silence, silenced) = tokio::sync::watch::channel(0_usize);
    let proxy = tokio::spawn(async move {
        for n in 1.. {
            let (mut inward, _) = listener.accept().await.unwrap();
            let (target, mut silenced) = (target.clone(), silenced.clone());
            tokio::spawn(async move {
                let mut outward = tokio::net::TcpStream::connect(target).await.unwrap();
                let silent = async { silenced.wait_for(|up_to| *up_to >= n).await.map(drop) };
                let went_silent = tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut inward, &mut outward) => false,
                    _ = silent => true,
                };
                if went_silent {
                    // Holds both ends open and moves nothing any more.
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    let through = RedisConfig {
        url: Some(crate::Secret::new(format!("redis://127.0.0.1:{port}"))),
        get_timeout: Duration::from_millis(200),
        ..patient(&redis)
    };
    let store = RedisStore::open(&through).unwrap();
    let mut health = store.health();
    health.wait_for(|health| *health == Health::Up).await.unwrap();
    store
        .put("x:{silent}:1", b"value".to_vec(), Duration::from_secs(60))
        .await
        .unwrap();
    silence.send(1).unwrap();
    let mut failures = 0;
    while store.get("x:{silent}:1").await.ok().flatten().is_none() {
        failures += 1;
        assert!(failures < 1000, "it never recovered");
        if failures >= 5 {
            sleep(Duration::from_millis(20)).await;
        }
    }
    assert!(failures >= 5);
    proxy.abort();
}

#[tokio::test]
async fn a_rotated_password_is_used_by_the_next_connection_and_a_file_that_is_gone_changes_nothing() {
    let Some(redis) = Redis::start() else { return };
    let mut admin = raw(&redis).await;
    let mut say = async |words: &[&str]| {
        let mut command = ::redis::Cmd::new();
        words.iter().for_each(|word| {
            command.arg(word);
        });
        command.query_async::<()>(&mut admin).await.unwrap();
    };
    let folder = tempfile::tempdir().unwrap();
    let url_file = folder.path().join("url");
    let with = |password: &str| {
        let url = redis.url().expose().replace("://", &format!("://:{password}@"));
        std::fs::write(&url_file, url).unwrap();
    };
    say(&["CONFIG", "SET", "requirepass", "first"]).await;
    with("first");
    let store = RedisStore::open(&RedisConfig {
        url: None,
        url_file: Some(url_file.clone()),
        ping_every: Duration::from_millis(50),
        ..patient(&redis)
    })
    .unwrap();
    let mut health = store.health();
    let mut comes = async |wanted| {
        let came = timeout(
            Duration::from_secs(20),
            health.wait_for(|health| *health == wanted),
        )
        .await;
        assert!(came.is_ok(), "the store never was {wanted:?}");
    };
    comes(Health::Up).await;

    say(&["CONFIG", "SET", "requirepass", "second"]).await;
    say(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    comes(Health::Down).await;
    with("second");
    comes(Health::Up).await;

    std::fs::remove_file(&url_file).unwrap();
    say(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    let began = tokio::time::Instant::now();
    while store
        .put("x:{u}:1", vec![1], Duration::from_secs(60))
        .await
        .is_err()
        || *store.health().borrow() != Health::Up
    {
        assert!(began.elapsed() < Duration::from_secs(20), "it never came back");
        sleep(Duration::from_millis(20)).await;
    }
}
