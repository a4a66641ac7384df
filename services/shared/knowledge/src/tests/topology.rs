//! The Redis store over a real cluster whose slots move and whose masters die, and behind a real sentinel.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::fleet::{Fleet, Member};
use super::scripted::Scripted;
use crate::config::{RedisConfig, RedisMode};
use crate::store::{Health, RedisStore, conformance};
use crate::{Error, Store};

const LONG: Duration = Duration::from_secs(600);

/// Generous limits: a busy test machine is not what these tests are about.
fn patient(mode: RedisMode, first: &Member) -> RedisConfig {
    RedisConfig {
        mode,
        url: Some(first.url()),
        sentinel_master: (mode == RedisMode::Sentinel).then(|| "films".to_owned()),
        get_timeout: Duration::from_secs(2),
        put_timeout: Duration::from_secs(2),
        connect_timeout: Duration::from_secs(2),
        ..RedisConfig::default()
    }
}

async fn until_up(store: &RedisStore) {
    let mut health = store.health();
    let up = timeout(
        Duration::from_secs(30),
        health.wait_for(|health| *health == Health::Up),
    );
    assert!(up.await.is_ok(), "the store never came up");
}

/// Whether a master's one replica has acknowledged all that the master has written.
fn all_is_replicated(info: &str) -> bool {
    let after = |mark: &str| info.split(mark).nth(1)?.split([',', '\r']).next();
    let (written, acknowledged) = (after("master_repl_offset:"), after(",offset="));
    written.is_some() && written == acknowledged
}

/// Writes and reads back until both work: how long a topology change is felt.
async fn until_it_works(store: &RedisStore, name: &str) {
    let began = Instant::now();
    loop {
        let put = store.put(name, b"again".to_vec(), LONG).await;
        if put.is_ok() && store.get(name).await.is_ok_and(|value| value.is_some()) {
            return;
        }
        assert!(
            began.elapsed() < Duration::from_secs(90),
            "{name} never worked again"
        );
        sleep(Duration::from_millis(50)).await;
    }
}

/// The slot of a name and the member that keeps it.
async fn home(fleet: &Fleet, name: &str) -> (u16, usize) {
    let slot: u16 = fleet.members[0]
        .say(&format!("CLUSTER KEYSLOT {name}"))
        .await
        .unwrap();
    (slot, usize::from(slot) * 3 / 16_384)
}

#[tokio::test]
async fn a_cluster_keeps_the_promises_of_a_store_from_any_seed_that_lives() {
    let Some(fleet) = Fleet::cluster(3, 0).await else {
        return;
    };
    let config = RedisConfig {
        url: Some(crate::Secret::new("redis://127.0.0.1:1")),
        seeds: vec!["127.0.0.1:2".into(), fleet.members[1].seed()],
        ..patient(RedisMode::Cluster, &fleet.members[0])
    };
    let store = RedisStore::open(&config).unwrap();
    conformance::check(&store).await;
    for user in 0..60 {
        let name = format!("x:{{default:u{user}}}:entry");
        store.put(&name, b"value".to_vec(), LONG).await.unwrap();
    }
    for member in &fleet.members {
        let held: u64 = member.say("DBSIZE").await.unwrap();
        assert!(held >= 5, "one node holds only {held} entries");
    }
}

#[tokio::test]
async fn a_slot_is_followed_while_it_moves_and_after_it_moved() {
    let Some(fleet) = Fleet::cluster(3, 0).await else {
        return;
    };
    let config = RedisConfig {
        // The map is not to be learnt anew by chance.
        topology_every: LONG,
        ..patient(RedisMode::Cluster, &fleet.members[0])
    };
    let store = RedisStore::open(&config).unwrap();
    until_up(&store).await;
    let name = "x:{default:u1}:entry";
    let (slot, from) = home(&fleet, name).await;
    let to = (from + 1) % 3;
    let (source, target) = (&fleet.members[from], &fleet.members[to]);
    let source_id: String = source.say("CLUSTER MYID").await.unwrap();
    let target_id: String = target.say("CLUSTER MYID").await.unwrap();
    let set = |words: String| format!("CLUSTER SETSLOT {slot} {words}");
    target
        .say::<()>(&set(format!("IMPORTING {source_id}")))
        .await
        .unwrap();
    source
        .say::<()>(&set(format!("MIGRATING {target_id}")))
        .await
        .unwrap();

    // ASK: what is not on the source any more is asked for, and written, on the target.
    assert_eq!(store.get(name).await.unwrap(), None);
    store.put(name, b"moved".to_vec(), LONG).await.unwrap();
    assert_eq!(store.get(name).await.unwrap().as_deref(), Some(&b"moved"[..]));
    let on = |member: &Member| {
        let words = format!("CLUSTER COUNTKEYSINSLOT {slot}");
        let client = redis::Client::open(member.url().expose()).unwrap();
        async move {
            let mut connection = client.get_multiplexed_async_connection().await.unwrap();
            let mut command = redis::Cmd::new();
            words.split(' ').for_each(|word| {
                command.arg(word);
            });
            command.query_async::<u64>(&mut connection).await.unwrap()
        }
    };
    assert_eq!((on(source).await, on(target).await), (0, 1));

    // MOVED: the map of before is wrong now.
    for member in &fleet.members {
        member.say::<()>(&set(format!("NODE {target_id}"))).await.unwrap();
    }
    assert_eq!(store.get(name).await.unwrap().as_deref(), Some(&b"moved"[..]));
    store.remove(name).await.unwrap();
    assert_eq!(store.get(name).await.unwrap(), None);
}

#[tokio::test]
async fn a_hung_node_costs_its_own_share_and_few_slow_calls() {
    let Some(fleet) = Fleet::cluster(3, 0).await else {
        return;
    };
    let config = RedisConfig {
        get_timeout: Duration::from_millis(200),
        timeouts_in_row_max: 5,
        timeouts_share_max: 1.0,
        ping_every: LONG,
        ..patient(RedisMode::Cluster, &fleet.members[0])
    };
    let store = RedisStore::open(&config).unwrap();
    until_up(&store).await;
    let hung = 1;
    let (mut theirs, mut others) = (Vec::new(), Vec::new());
    for user in 0..40 {
        let name = format!("x:{{default:u{user}}}:entry");
        until_it_works(&store, &name).await;
        let (_, at) = home(&fleet, &name).await;
        (if at == hung { &mut theirs } else { &mut others }).push(name);
    }
    assert!(!theirs.is_empty() && !others.is_empty());
    fleet.members[hung].stop();
    let (mut slow, mut quick) = (0, 0);
    for n in 0..40 {
        match store.get(&theirs[n % theirs.len()]).await {
            Err(Error::StoreTimeout { .. }) => slow += 1,
            Err(Error::StoreUnavailable) => quick += 1,
            other => panic!("a stopped node cannot answer: {other:?}"),
        }
    }
    assert_eq!((slow, quick), (5, 35));
    for name in &others {
        assert_eq!(store.get(name).await.unwrap().as_deref(), Some(&b"again"[..]));
    }
    assert_eq!(*store.health().borrow(), Health::Up, "two of three still answer");
}

#[tokio::test]
async fn a_killed_master_is_missed_until_its_replica_takes_over_and_nothing_else_is() {
    let Some(mut fleet) = Fleet::cluster(3, 1).await else {
        return;
    };
    let store = RedisStore::open(&patient(RedisMode::Cluster, &fleet.members[0])).unwrap();
    until_up(&store).await;
    let mut kept = Vec::new();
    for user in 0..30 {
        let name = format!("x:{{default:u{user}}}:entry");
        until_it_works(&store, &name).await;
        let (_, at) = home(&fleet, &name).await;
        kept.push((name, at));
    }
    // `WAIT` would speak of its own connection's writes alone.
    for member in &fleet.members[..3] {
        member.until("INFO replication", all_is_replicated).await;
    }
    let (killed, theirs) = (0, kept.iter().find(|(_, at)| *at == 0).unwrap().0.clone());
    fleet.members[killed].kill();
    for (name, _) in kept.iter().filter(|(_, at)| *at != killed) {
        assert!(store.get(name).await.unwrap().is_some(), "{name}");
    }
    until_it_works(&store, &theirs).await;
    for (name, _) in &kept {
        assert_eq!(store.get(name).await.unwrap().as_deref(), Some(&b"again"[..]));
    }
}

#[tokio::test]
async fn a_cluster_named_standalone_is_refused_by_name_and_no_cluster_is_no_store() {
    let Some(fleet) = Fleet::cluster(3, 0).await else {
        return;
    };
    let store = RedisStore::open(&patient(RedisMode::Standalone, &fleet.members[0])).unwrap();
    until_up(&store).await;
    let mut moved = 0;
    for user in 0..20 {
        let put = store.put(&format!("x:{{u{user}}}:1"), vec![1], LONG).await;
        moved += usize::from(matches!(put, Err(Error::StoreRefused { code }) if code == "MOVED"));
    }
    assert!(moved > 0);

    let config = RedisConfig {
        connect_timeout: Duration::from_millis(200),
        url: Some(crate::Secret::new("redis://127.0.0.1:1")),
        ..patient(RedisMode::Cluster, &fleet.members[0])
    };
    let store = RedisStore::open(&config).unwrap();
    assert!(matches!(store.get("x:{u}:1").await, Err(Error::StoreUnavailable)));
    assert_eq!(*store.health().borrow(), Health::Down);
}

/// Whether a master's one replica has all that it wrote, by what both count.
fn has_been_followed(info: &str) -> bool {
    let number = |from: &str, name: &str| {
        let (_, rest) = from.split_once(name)?;
        rest.split(|c: char| !c.is_ascii_digit())
            .next()?
            .parse::<u64>()
            .ok()
    };
    let replica = info.lines().find_map(|line| line.strip_prefix("slave0:"));
    let followed = replica.and_then(|line| number(line, "offset="));
    followed.is_some() && followed == number(info, "master_repl_offset:")
}

#[tokio::test]
async fn a_sentinels_master_is_followed_when_it_is_killed_and_when_it_only_steps_down() {
    let Some(mut fleet) = Fleet::watched().await else {
        return;
    };
    let config = RedisConfig {
        // The first sentinel is gone: the next is asked.
        url: Some(crate::Secret::new("redis://127.0.0.1:1")),
        seeds: vec![fleet.members[2].seed()],
        topology_every: Duration::from_millis(500),
        ..patient(RedisMode::Sentinel, &fleet.members[0])
    };
    let store = RedisStore::open(&config).unwrap();
    conformance::check(&store).await;
    let held: u64 = fleet.members[0].say("DBSIZE").await.unwrap();
    assert!(held > 0, "the entries are on the master");

    // The old master lives on as a replica: no connection breaks by itself.
    fleet.members[2]
        .say::<()>("SENTINEL FAILOVER films")
        .await
        .unwrap();
    fleet.members[1]
        .until("INFO replication", |info| info.contains("role:master"))
        .await;
    until_it_works(&store, "x:{films}:after").await;
    fleet.members[0]
        .until("INFO replication", |info| {
            info.contains("role:slave") && info.contains("master_link_status:up")
        })
        .await;
    until_it_works(&store, "x:{films}:later").await;
    // Replicas follow in their own time: killed before, the master would take the last write along.
    fleet.members[1]
        .until("INFO replication", has_been_followed)
        .await;

    // The sentinel takes a pause between failovers.
    fleet.members[1].kill();
    fleet.members[0]
        .until("INFO replication", |info| info.contains("role:master"))
        .await;
    until_it_works(&store, "x:{films}:last").await;
    assert_eq!(
        store.get("x:{films}:later").await.unwrap().as_deref(),
        Some(&b"again"[..])
    );
}

/// A node that names itself the keeper of all slots.
async fn alone(answer_to_get: &'static str) -> Scripted {
    let answer = move |words: &[String], port: u16| {
        Some(match words[0].as_str() {
            "PING" => "+PONG\r\n".to_owned(),
            "CLUSTER" => {
                format!("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:{port}\r\n")
            }
            "GET" => answer_to_get.to_owned(),
            _ => "+OK\r\n".to_owned(),
        })
    };
    Scripted::start(answer).await
}

#[tokio::test]
async fn a_node_that_is_cut_off_from_its_cluster_is_asked_for_the_map_last() {
    let cut_off = alone("-CLUSTERDOWN The cluster is down\r\n").await;
    let others = alone("$5\r\nvalue\r\n").await;
    let store = RedisStore::open(&RedisConfig {
        mode: RedisMode::Cluster,
        url: Some(cut_off.url()),
        seeds: vec![others.seed()],
        get_timeout: Duration::from_secs(2),
        connect_timeout: Duration::from_secs(2),
        retry_min: Duration::from_millis(10),
        // The map is not to be learnt anew by chance.
        topology_every: LONG,
        ..RedisConfig::default()
    })
    .unwrap();
    until_up(&store).await;
    let name = "x:{t:u}:1";
    let refused = store.get(name).await;
    assert!(matches!(refused, Err(Error::StoreRefused { code }) if code == "CLUSTERDOWN"));
    let began = Instant::now();
    while store.get(name).await.ok().flatten().as_deref() != Some(b"value") {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "the map of before is still in force"
        );
        sleep(Duration::from_millis(20)).await;
    }
}
