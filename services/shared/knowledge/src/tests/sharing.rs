//! Two rankers over one store: one consultation between them, and a user erased for both.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use refract_domain::{Freshness, KnowledgeSource, TenantId, UserId};
use tokio::time::{Instant, sleep};

use super::support::{
    Oracle, Redis, codec, config, context, context_for, history, pair, paused_clock, pipeline,
};
use crate::config::{RedisConfig, StoreKind};
use crate::store::{MemoryStore, RedisStore};
use crate::{Config, Control, Store, open};

type Source = Arc<dyn KnowledgeSource>;

/// Two processes' worth of memory over a store with a paused clock; each has learnt who the Oracle is.
async fn two(config: &Config, oracle: &Arc<Oracle>) -> [(Source, Control); 2] {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(10_000, 16 << 20));
    let clock = paused_clock();
    let both = [(), ()].map(|()| pipeline(config, &store, &clock, oracle));
    for (n, (source, control)) in both.iter().enumerate() {
        source
            .consult(&pair("first", &format!("film {n}")), &history(), &context())
            .await
            .unwrap();
        control.flush().await;
    }
    both
}

#[tokio::test(start_paused = true)]
async fn two_rankers_ask_once_and_only_one_of_them_says_fresh() {
    let oracle = Oracle::new(Duration::from_millis(200));
    let rankers = two(&config(), &oracle).await;
    let before = oracle.asked();
    let (pair, history, context) = (pair("ann", "heat"), history(), context());
    let asked = rankers
        .iter()
        .flat_map(|(source, _)| (0..50).map(|_| source.consult(&pair, &history, &context)));
    let answers: Vec<_> = join_all(asked).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(oracle.asked(), before + 1);
    let fresh = |some: &[refract_domain::Knowledge]| some.iter().all(|k| k.freshness == Freshness::Fresh);
    assert_ne!(fresh(&answers[..50]), fresh(&answers[50..]));
    assert!(answers.iter().all(|answer| answer.text == answers[0].text));
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_waited_for_a_bounded_time_and_half_of_the_callers_own() {
    let config = Config {
        lease_wait: Duration::from_millis(500),
        ..config()
    };
    let oracle = Oracle::new(Duration::from_secs(3));
    let [(one, _), (two, _)] = two(&config, &oracle).await;
    let before = oracle.asked();
    let (pair, history) = (pair("ann", "heat"), history());
    let leading = tokio::spawn({
        let (pair, history) = (pair.clone(), Arc::clone(&history));
        async move { one.consult(&pair, &history, &context()).await }
    });
    sleep(Duration::from_millis(50)).await;
    let began = Instant::now();
    two.consult(&pair, &history, &context()).await.unwrap();
    assert!(began.elapsed() <= Duration::from_millis(3_500));
    assert_eq!(oracle.asked(), before + 2, "it asked for itself in the end");
    leading.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_fails_or_leaves_gives_the_lease_back_at_once() {
    let oracle = Oracle::new(Duration::from_millis(100));
    let [(one, _), (two, _)] = two(&config(), &oracle).await;
    let (pair, history) = (pair("ann", "heat"), history());
    let short = context_for(Duration::from_millis(50));
    assert!(one.consult(&pair, &history, &short).await.is_err());
    sleep(Duration::from_millis(20)).await;
    let began = Instant::now();
    let answer = two.consult(&pair, &history, &context()).await.unwrap();
    assert_eq!(answer.freshness, Freshness::Fresh);
    assert!(
        began.elapsed() <= Duration::from_millis(150),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_refreshed_is_not_taken_for_its_own_successor() {
    let oracle = Oracle::new(Duration::from_millis(100));
    let [(one, control), (two, _)] = two(&config(), &oracle).await;
    let (pair, history) = (pair("ann", "heat"), history());
    one.consult(&pair, &history, &context()).await.unwrap();
    control.flush().await;
    sleep(Duration::from_secs(150)).await;
    let before = oracle.asked();
    for source in [&one, &two] {
        let stale = source.consult(&pair, &history, &context()).await.unwrap();
        assert!(matches!(stale.freshness, Freshness::Stale { .. }));
    }
    sleep(Duration::from_secs(15)).await;
    assert_eq!(oracle.asked(), before + 1, "one refresh for both");
    for source in [&one, &two] {
        let renewed = source.consult(&pair, &history, &context()).await.unwrap();
        assert!(matches!(renewed.freshness, Freshness::Cached { .. }));
    }
}

#[tokio::test(start_paused = true)]
async fn an_erased_user_is_forgotten_and_an_answer_on_its_way_is_not_remembered() {
    let oracle = Oracle::new(Duration::from_millis(100));
    let [(one, control), (two, other)] = two(&config(), &oracle).await;
    let (tenant, ann) = (TenantId::default(), UserId::new("ann"));
    for film in ["heat", "ronin"] {
        for user in ["ann", "bob"] {
            one.consult(&pair(user, film), &history(), &context())
                .await
                .unwrap();
        }
    }
    control.flush().await;
    let flying = tokio::spawn({
        let one = Arc::clone(&one);
        async move { one.consult(&pair("ann", "thief"), &history(), &context()).await }
    });
    sleep(Duration::from_millis(50)).await;
    assert_eq!(control.erase(&tenant, &ann).await.unwrap(), 2);
    flying.await.unwrap().unwrap();
    control.flush().await;
    other.flush().await;
    let before = oracle.asked();
    for film in ["heat", "ronin", "thief"] {
        let answer = two.consult(&pair("ann", film), &history(), &context()).await;
        assert_eq!(answer.unwrap().freshness, Freshness::Fresh, "{film}");
    }
    assert_eq!(oracle.asked(), before + 3);
    let bob = two
        .consult(&pair("bob", "heat"), &history(), &context())
        .await
        .unwrap();
    assert!(
        matches!(bob.freshness, Freshness::Cached { .. }),
        "bob is somebody else"
    );
    let elsewhere = TenantId::new("another");
    assert_eq!(control.erase(&elsewhere, &UserId::new("bob")).await.unwrap(), 0);
}

/// Over a real Redis, as two processes would: each with a connection and a first level of its own.
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
        lease_wait: Duration::from_secs(30),
        ..config()
    };
    open(&config, codec(), Arc::clone(oracle) as Source).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_rankers_over_one_redis_ask_the_oracle_once_for_each_question() {
    let Some(redis) = Redis::start() else { return };
    let oracle = Oracle::new(Duration::from_millis(300));
    let rankers = [ranker(&redis, &oracle), ranker(&redis, &oracle)];
    for (n, (source, control)) in rankers.iter().enumerate() {
        let first = pair("first", &format!("film {n}"));
        source.consult(&first, &history(), &context()).await.unwrap();
        control.flush().await;
    }
    let before = oracle.asked();
    let (history, context) = (history(), context_for(Duration::from_secs(60)));
    let pairs: Vec<_> = (0..20).map(|n| pair("ann", &format!("film {n}"))).collect();
    let asked = rankers.iter().flat_map(|(source, _)| {
        let each = pairs.iter().map(|pair| source.consult(pair, &history, &context));
        each.collect::<Vec<_>>()
    });
    for answer in join_all(asked).await {
        answer.unwrap();
    }
    assert_eq!(oracle.asked(), before + 20);
}

#[tokio::test]
async fn redis_holds_nothing_of_an_erased_user_and_no_more_entries_than_it_may() {
    let Some(redis) = Redis::start() else { return };
    let oracle = Oracle::new(Duration::ZERO);
    let (source, control) = ranker(&redis, &oracle);
    for user in ["ann", "bob"] {
        for n in 0..30 {
            let film = pair(user, &format!("film {n}"));
            source.consult(&film, &history(), &context()).await.unwrap();
        }
    }
    control.flush().await;
    assert_eq!(
        redis.names().await.len(),
        2 * 32 + 1,
        "entries, two indices, two eras, revisions"
    );
    let erased = control
        .erase(&TenantId::default(), &UserId::new("ann"))
        .await
        .unwrap();
    assert_eq!(erased, 30);
    let left = redis.names().await;
    assert_eq!(left.len(), 32 + 1, "bob's and the revisions: {left:?}");

    let few = RedisConfig {
        url: Some(redis.url()),
        put_timeout: Duration::from_secs(2),
        user_entries_max: 10,
        ..RedisConfig::default()
    };
    let store = RedisStore::open(&few).unwrap();
    let era = store.era("x:{t:u}", Duration::from_secs(600)).await.unwrap();
    for n in 0..25 {
        let ttl = Duration::from_secs(600 + n);
        let name = format!("x:{{t:u}}:{n}");
        store.put_for("x:{t:u}", era, &name, vec![1], ttl).await.unwrap();
    }
    let theirs = redis.names().await;
    let mut theirs: Vec<_> = theirs
        .iter()
        .filter_map(|name| name.strip_prefix("x:{t:u}:"))
        .collect();
    theirs.sort_unstable();
    assert_eq!(theirs.len(), 12, "ten entries, the index and the era: {theirs:?}");
    assert!(
        theirs.contains(&"24") && !theirs.contains(&"14"),
        "the last to expire stay"
    );
}
