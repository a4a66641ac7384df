//! The whole pipeline over the memory store, with the clock paused.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use refract_domain::{Affinity, Error, Freshness, History, ItemId, TenantId};
use tokio::sync::watch;
use tokio::time::{advance, sleep};

use super::support::{Oracle, codec, config, context, history, item, pair, paused_clock, pipeline};
use crate::store::{Health, MemoryStore};
use crate::{Config, Era, Parts, Store, open_with};

fn store() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new(10_000, 16 << 20))
}

fn is_cached(freshness: Freshness) -> bool {
    matches!(freshness, Freshness::Cached { .. })
}

fn is_stale(freshness: Freshness) -> bool {
    matches!(freshness, Freshness::Stale { .. })
}

#[tokio::test(start_paused = true)]
async fn the_first_answer_is_fresh_and_the_second_is_remembered_with_its_age() {
    let oracle = Oracle::new(Duration::from_millis(100));
    let (source, control) = pipeline(&config(), &store(), &paused_clock(), &oracle);
    let first = source
        .consult(&pair("ann", "heat"), &history(), &context())
        .await
        .unwrap();
    assert_eq!(first.freshness, Freshness::Fresh);
    control.flush().await;
    for (wait_s, age_s) in [(3, 3), (17, 20)] {
        advance(Duration::from_secs(wait_s)).await;
        let again = source
            .consult(&pair("ann", "heat"), &history(), &context())
            .await
            .unwrap();
        assert_eq!(
            again.freshness,
            Freshness::Cached { age_s },
            "from the first level, then from the store"
        );
        assert_eq!(again.text, first.text);
    }
    assert_eq!(oracle.asked(), 1);
    assert!(!control.is_degraded());
}

#[tokio::test(start_paused = true)]
async fn a_hit_is_served_while_the_oracle_is_down() {
    let oracle = Oracle::new(Duration::ZERO);
    let (source, control) = pipeline(&config(), &store(), &paused_clock(), &oracle);
    source
        .consult(&pair("ann", "heat"), &history(), &context())
        .await
        .unwrap();
    control.flush().await;
    oracle.set_down(true);
    advance(Duration::from_secs(50)).await;
    let hit = source
        .consult(&pair("ann", "heat"), &history(), &context())
        .await
        .unwrap();
    assert_eq!(hit.freshness, Freshness::Cached { age_s: 50 });
    assert!(
        source
            .consult(&pair("ann", "other"), &history(), &context())
            .await
            .is_err()
    );
}

#[tokio::test(start_paused = true)]
async fn a_hit_is_served_after_a_restart_while_the_oracle_is_down() {
    let (store, clock) = (store(), paused_clock());
    let (source, control) = pipeline(&config(), &store, &clock, &Oracle::new(Duration::ZERO));
    source
        .consult(&pair("ann", "heat"), &history(), &context())
        .await
        .unwrap();
    control.flush().await;
    drop((source, control));

    let down = Oracle::new(Duration::ZERO);
    down.set_down(true);
    let (source, control) = pipeline(&config(), &store, &clock, &down);
    assert!(control.revisions().is_none());
    let hit = source
        .consult(&pair("ann", "heat"), &history(), &context())
        .await
        .unwrap();
    assert!(is_cached(hit.freshness));
    assert_eq!(down.asked(), 0);
    assert_eq!(control.revisions().unwrap().oracle.0, "oracle-1");
}

#[tokio::test(start_paused = true)]
async fn configured_revisions_find_what_was_remembered_under_them() {
    let (store, clock) = (store(), paused_clock());
    let (source, control) = pipeline(&config(), &store, &clock, &Oracle::new(Duration::ZERO));
    source
        .consult(&pair("ann", "heat"), &history(), &context())
        .await
        .unwrap();
    control.flush().await;
    for (revision, finds) in [("oracle-1", true), ("oracle-0", false)] {
        let down = Oracle::new(Duration::ZERO);
        down.set_down(true);
        let config = Config {
            oracle_revision: Some(revision.into()),
            template_revision: Some("template-1".into()),
            ..config()
        };
        let (source, _control) = pipeline(&config, &store, &clock, &down);
        assert_eq!(
            source
                .consult(&pair("ann", "heat"), &history(), &context())
                .await
                .is_ok(),
            finds,
            "{revision}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_oracle_is_not_answered_for_by_the_old_one() {
    let oracle = Oracle::new(Duration::ZERO);
    let (source, control) = pipeline(&config(), &store(), &paused_clock(), &oracle);
    source
        .consult(&pair("ann", "heat"), &history(), &context())
        .await
        .unwrap();
    *oracle.revision.lock().unwrap() = "oracle-2".into();
    // It is noticed with the first answer of the new one, whoever asked.
    source
        .consult(&pair("bob", "heat"), &history(), &context())
        .await
        .unwrap();
    let anew = source
        .consult(&pair("ann", "heat"), &history(), &context())
        .await
        .unwrap();
    assert_eq!(
        (anew.freshness, &*anew.oracle_revision.0),
        (Freshness::Fresh, "oracle-2")
    );
    assert_eq!(control.revisions().unwrap().oracle.0, "oracle-2");
    // And what the new one said then was remembered under its own name.
    let again = source
        .consult(&pair("bob", "heat"), &history(), &context())
        .await
        .unwrap();
    assert!(is_cached(again.freshness));
}

#[tokio::test(start_paused = true)]
async fn a_stale_entry_is_served_at_once_and_refreshed_once_for_a_thousand_callers() {
    let oracle = Oracle::new(Duration::from_millis(300));
    let (source, control) = pipeline(&config(), &store(), &paused_clock(), &oracle);
    source
        .consult(&pair("ann", "heat"), &history(), &context())
        .await
        .unwrap();
    control.flush().await;
    advance(Duration::from_secs(500)).await;
    let (pair, history, context) = (pair("ann", "heat"), history(), context());
    let answers = join_all((0..1000).map(|_| source.consult(&pair, &history, &context))).await;
    for answer in answers {
        let answer = answer.unwrap();
        assert!(
            is_stale(answer.freshness) && answer.text.ends_with("answer 1"),
            "{:?}",
            answer.freshness
        );
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(oracle.asked(), 2);
    let renewed = source.consult(&pair, &history, &context).await.unwrap();
    assert!(is_cached(renewed.freshness) && renewed.text.ends_with("answer 2"));
}

#[tokio::test(start_paused = true)]
async fn a_failing_oracle_leaves_the_stale_entry_in_service_until_its_hard_age() {
    let oracle = Oracle::new(Duration::ZERO);
    let config = Config {
        refresh_retry: Duration::from_secs(30),
        ..config()
    };
    let (source, control) = pipeline(&config, &store(), &paused_clock(), &oracle);
    source
        .consult(&pair("ann", "heat"), &history(), &context())
        .await
        .unwrap();
    control.flush().await;
    oracle.set_down(true);
    advance(Duration::from_secs(899)).await;
    for _ in 0..100 {
        advance(Duration::from_secs(1)).await;
        let stale = source
            .consult(&pair("ann", "heat"), &history(), &context())
            .await
            .unwrap();
        assert!(is_stale(stale.freshness), "{:?}", stale.freshness);
        tokio::task::yield_now().await;
    }
    assert!(
        (4..=6).contains(&oracle.asked()),
        "a refresh every 30 s in 100 s, and the first: {}",
        oracle.asked()
    );
    advance(Duration::from_secs(2)).await;
    assert!(
        source
            .consult(&pair("ann", "heat"), &history(), &context())
            .await
            .is_err(),
        "past its hard age"
    );
}

#[tokio::test(start_paused = true)]
async fn refreshes_are_few_at_a_time() {
    let oracle = Oracle::new(Duration::from_secs(1));
    let config = Config {
        refreshes_max: 3,
        ..config()
    };
    let (source, control) = pipeline(&config, &store(), &paused_clock(), &oracle);
    let history = history();
    for n in 0..20 {
        source
            .consult(&pair("ann", &format!("film {n}")), &history, &context())
            .await
            .unwrap();
    }
    control.flush().await;
    advance(Duration::from_secs(200)).await;
    for n in 0..20 {
        let stale = source
            .consult(&pair("ann", &format!("film {n}")), &history, &context())
            .await
            .unwrap();
        assert!(is_stale(stale.freshness));
    }
    sleep(Duration::from_secs(2)).await;
    assert_eq!(oracle.asked(), 20 + 3);
}

#[tokio::test(start_paused = true)]
async fn tenants_users_and_histories_do_not_share_entries() {
    let oracle = Oracle::new(Duration::ZERO);
    let (source, _control) = pipeline(&config(), &store(), &paused_clock(), &oracle);
    let base = pair("ann", "heat");
    source.consult(&base, &history(), &context()).await.unwrap();

    let mut tenant = base.clone();
    tenant.tenant = TenantId::new("other");
    let mut tenants_context = context();
    tenants_context.tenant = tenant.tenant.clone();
    let mut nobody = base.clone();
    nobody.user = None;
    let mut known = base.clone();
    known.affinities = vec![Affinity {
        item: ItemId::new("ronin"),
        lift: 3.0,
        support: 40,
    }];
    let mut renamed = base.clone();
    renamed.item = Arc::new(refract_domain::Item {
        title: "Heat (1995)".into(),
        ..(*item("heat")).clone()
    });
    let others = [
        (tenant, history(), tenants_context),
        (pair("bob", "heat"), history(), context()),
        (pair("ann", "ronin"), history(), context()),
        (nobody, history(), context()),
        (known, history(), context()),
        (renamed, history(), context()),
        (base.clone(), Arc::new(History::default()), context()),
    ];
    for (pair, history, context) in &others {
        let answer = source.consult(pair, history, context).await.unwrap();
        assert_eq!(answer.freshness, Freshness::Fresh, "{pair:?}");
    }
    assert_eq!(oracle.asked(), 1 + others.len());
    assert!(is_cached(
        source
            .consult(&base, &history(), &context())
            .await
            .unwrap()
            .freshness
    ));
}

#[tokio::test(start_paused = true)]
async fn a_pair_of_another_tenant_than_the_callers_is_refused() {
    let oracle = Oracle::new(Duration::ZERO);
    let (source, _control) = pipeline(&config(), &store(), &paused_clock(), &oracle);
    let mut foreign = pair("ann", "heat");
    foreign.tenant = TenantId::new("other");
    let refused = source.consult(&foreign, &history(), &context()).await;
    assert!(matches!(refused, Err(Error::Invalid { field, .. }) if field == "pair.tenant"));
    assert_eq!(oracle.asked(), 0);
}

#[tokio::test(start_paused = true)]
async fn knowledge_that_is_too_large_is_served_and_not_remembered() {
    let oracle = Oracle::new(Duration::ZERO);
    let config = Config {
        entry_bytes_max: 1024,
        ..config()
    };
    let (source, _control) = pipeline(&config, &store(), &paused_clock(), &oracle);
    let mut big = pair("ann", "heat");
    big.item = Arc::new(refract_domain::Item {
        title: "a".repeat(2000),
        ..(*item("heat")).clone()
    });
    for _ in 0..2 {
        assert_eq!(
            source
                .consult(&big, &history(), &context())
                .await
                .unwrap()
                .freshness,
            Freshness::Fresh
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_that_the_oracle_cannot_answer_is_not_asked_again_for_a_while() {
    for empty in [false, true] {
        let oracle = Oracle::new(Duration::ZERO);
        let (source, _control) = pipeline(&config(), &store(), &paused_clock(), &oracle);
        oracle.silent.store(empty, Ordering::SeqCst);
        *oracle.error.lock().unwrap() = (!empty).then_some(Error::ModelFault);
        for _ in 0..5 {
            let answer = source.consult(&pair("ann", "heat"), &history(), &context()).await;
            assert!(if empty {
                answer.unwrap().text.is_empty()
            } else {
                answer == Err(Error::ModelFault)
            });
        }
        assert_eq!(oracle.asked(), 1);
        advance(Duration::from_secs(31)).await;
        oracle.silent.store(false, Ordering::SeqCst);
        *oracle.error.lock().unwrap() = None;
        assert!(
            !source
                .consult(&pair("ann", "heat"), &history(), &context())
                .await
                .unwrap()
                .text
                .is_empty()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_oracle_is_asked_again_at_once() {
    let oracle = Oracle::new(Duration::ZERO);
    let (source, _control) = pipeline(&config(), &store(), &paused_clock(), &oracle);
    oracle.set_down(true);
    assert!(
        source
            .consult(&pair("ann", "heat"), &history(), &context())
            .await
            .is_err()
    );
    oracle.set_down(false);
    assert!(
        source
            .consult(&pair("ann", "heat"), &history(), &context())
            .await
            .is_ok()
    );
}

#[tokio::test(start_paused = true)]
async fn having_nothing_to_say_now_does_not_replace_what_was_said_before() {
    let oracle = Oracle::new(Duration::ZERO);
    let (source, control) = pipeline(&config(), &store(), &paused_clock(), &oracle);
    source
        .consult(&pair("ann", "heat"), &history(), &context())
        .await
        .unwrap();
    control.flush().await;
    oracle.silent.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        advance(Duration::from_secs(200)).await;
        let stale = source
            .consult(&pair("ann", "heat"), &history(), &context())
            .await
            .unwrap();
        assert!(is_stale(stale.freshness) && stale.text.ends_with("answer 1"));
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(oracle.asked(), 4);
}

#[tokio::test(start_paused = true)]
async fn what_is_forgotten_is_asked_anew() {
    let oracle = Oracle::new(Duration::ZERO);
    let (source, control) = pipeline(&config(), &store(), &paused_clock(), &oracle);
    source
        .consult(&pair("ann", "heat"), &history(), &context())
        .await
        .unwrap();
    source
        .consult(&pair("bob", "heat"), &history(), &context())
        .await
        .unwrap();
    control.forget(&pair("ann", "heat"), &history()).await.unwrap();
    let anew = source
        .consult(&pair("ann", "heat"), &history(), &context())
        .await
        .unwrap();
    assert_eq!(anew.freshness, Freshness::Fresh);
    assert!(is_cached(
        source
            .consult(&pair("bob", "heat"), &history(), &context())
            .await
            .unwrap()
            .freshness
    ));
}

#[tokio::test(start_paused = true)]
async fn ages_are_jittered_so_that_what_was_written_together_does_not_expire_together() {
    let oracle = Oracle::new(Duration::ZERO);
    let config = Config {
        ttl_jitter: 0.1,
        ..config()
    };
    let (source, control) = pipeline(&config, &store(), &paused_clock(), &oracle);
    let history = history();
    for n in 0..100 {
        source
            .consult(&pair("ann", &format!("film {n}")), &history, &context())
            .await
            .unwrap();
    }
    control.flush().await;
    let mut stale = Vec::new();
    for after in [89, 100, 111] {
        advance(Duration::from_secs(after) - Duration::from_millis(paused_ms(&stale))).await;
        let mut count = 0;
        oracle.set_down(true);
        for n in 0..100 {
            let answer = source
                .consult(&pair("ann", &format!("film {n}")), &history, &context())
                .await
                .unwrap();
            count += usize::from(is_stale(answer.freshness));
        }
        stale.push((after, count));
    }
    assert_eq!((stale[0].1, stale[2].1), (0, 100));
    assert!((20..80).contains(&stale[1].1), "half of them: {stale:?}");
}

/// The time that the checks before have already let pass.
fn paused_ms(checks: &[(u64, usize)]) -> u64 {
    checks.last().map_or(0, |(after, _)| after * 1000)
}

/// A store that is down, or lies.
#[derive(Debug)]
struct Bad(Option<Vec<u8>>, watch::Sender<Health>);

#[async_trait]
impl Store for Bad {
    async fn get(&self, _: &str) -> Result<Option<Vec<u8>>, crate::Error> {
        self.0.clone().map(Some).ok_or(crate::Error::StoreUnavailable)
    }

    async fn put(&self, _: &str, _: Vec<u8>, _: Duration) -> Result<(), crate::Error> {
        Err(crate::Error::StoreUnavailable)
    }

    async fn remove(&self, _: &str) -> Result<(), crate::Error> {
        Err(crate::Error::StoreUnavailable)
    }

    async fn claim(&self, _: &str, _: Duration) -> Result<bool, crate::Error> {
        Err(crate::Error::StoreUnavailable)
    }

    async fn era(&self, _: &str, _: Duration) -> Result<Era, crate::Error> {
        let knows_any = self.0.is_some();
        knows_any.then(Era::begin).ok_or(crate::Error::StoreUnavailable)
    }

    async fn put_for(&self, _: &str, _: Era, _: &str, _: Vec<u8>, _: Duration) -> Result<(), crate::Error> {
        Err(crate::Error::StoreUnavailable)
    }

    async fn erase(&self, _: &str) -> Result<u64, crate::Error> {
        Err(crate::Error::StoreUnavailable)
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.1.subscribe()
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_or_lies_is_a_miss_and_the_service_says_so() {
    for bytes in [None, Some(vec![]), Some(vec![0; 200]), Some(b"RFKN".repeat(50))] {
        let bad = Bad(bytes, watch::Sender::new(Health::Down));
        let oracle = Oracle::new(Duration::ZERO);
        let config = Config {
            l1_ttl: Duration::ZERO,
            ..config()
        };
        let parts = Parts {
            codec: codec(),
            store: Arc::new(bad),
            clock: paused_clock(),
        };
        let (source, control) = open_with(&config, parts, Arc::clone(&oracle) as _).unwrap();
        for _ in 0..3 {
            let answer = source
                .consult(&pair("ann", "heat"), &history(), &context())
                .await
                .unwrap();
            assert_eq!(answer.freshness, Freshness::Fresh);
        }
        assert_eq!(oracle.asked(), 3);
        assert!(control.is_degraded());
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_level_alone_remembers_for_its_short_time_while_the_store_is_down() {
    let bad = Bad(None, watch::Sender::new(Health::Down));
    let oracle = Oracle::new(Duration::ZERO);
    let parts = Parts {
        codec: codec(),
        store: Arc::new(bad),
        clock: paused_clock(),
    };
    let (source, _control) = open_with(&config(), parts, Arc::clone(&oracle) as _).unwrap();
    for expected in [1, 1, 2] {
        source
            .consult(&pair("ann", "heat"), &history(), &context())
            .await
            .unwrap();
        assert_eq!(oracle.asked(), expected);
        advance(Duration::from_secs(6)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_entry_from_a_far_future_is_refused() {
    let (store, clock, oracle) = (store(), paused_clock(), Oracle::new(Duration::ZERO));
    for (ahead_s, accepted) in [(200, true), (4000, false)] {
        let user = format!("user {ahead_s}");
        let ahead = {
            let clock = clock.clone();
            crate::Clock::new(move || clock.now_ms() + ahead_s * 1000)
        };
        let (source, control) = pipeline(&config(), &store, &ahead, &oracle);
        source
            .consult(&pair(&user, "heat"), &history(), &context())
            .await
            .unwrap();
        control.flush().await;
        let (source, _control) = pipeline(&config(), &store, &clock, &oracle);
        let answer = source
            .consult(&pair(&user, "heat"), &history(), &context())
            .await
            .unwrap();
        assert_eq!(is_cached(answer.freshness), accepted, "{ahead_s} s ahead");
    }
}

#[tokio::test(start_paused = true)]
async fn a_different_secret_reads_nothing_of_ours() {
    let (store, clock, oracle) = (store(), paused_clock(), Oracle::new(Duration::ZERO));
    let (source, control) = pipeline(&config(), &store, &clock, &oracle);
    source
        .consult(&pair("ann", "heat"), &history(), &context())
        .await
        .unwrap();
    control.flush().await;
    let stranger = Config {
        secret: Some(crate::Secret::new("a stranger's secret")),
        ..config()
    };
    let (source, _control) = pipeline(&stranger, &store, &clock, &oracle);
    assert_eq!(
        source
            .consult(&pair("ann", "heat"), &history(), &context())
            .await
            .unwrap()
            .freshness,
        Freshness::Fresh
    );
}

#[test]
fn a_pipeline_outside_a_runtime_is_an_error_and_no_panic() {
    let opened = crate::open(&Config::default(), codec(), Oracle::new(Duration::ZERO));
    assert!(matches!(opened.err(), Some(crate::Error::NoRuntime)));
}

/// A store that never gets a write done.
#[derive(Debug)]
struct Stuck(Bad);

#[async_trait]
impl Store for Stuck {
    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, crate::Error> {
        self.0.get(name).await
    }

    async fn put(&self, _: &str, _: Vec<u8>, _: Duration) -> Result<(), crate::Error> {
        std::future::pending().await
    }

    async fn remove(&self, name: &str) -> Result<(), crate::Error> {
        self.0.remove(name).await
    }

    async fn claim(&self, name: &str, ttl: Duration) -> Result<bool, crate::Error> {
        self.0.claim(name, ttl).await
    }

    async fn era(&self, owner: &str, lasts: Duration) -> Result<Era, crate::Error> {
        self.0.era(owner, lasts).await
    }

    async fn put_for(&self, _: &str, _: Era, _: &str, _: Vec<u8>, _: Duration) -> Result<(), crate::Error> {
        std::future::pending().await
    }

    async fn erase(&self, owner: &str) -> Result<u64, crate::Error> {
        self.0.erase(owner).await
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.0.health()
    }
}

#[tokio::test(start_paused = true)]
async fn leaving_waits_for_what_is_queued_and_no_longer_than_it_may() {
    let oracle = Oracle::new(Duration::ZERO);
    let good: Arc<dyn Store> = Arc::new(MemoryStore::new(1000, 1 << 20));
    let bad = Bad(Some(vec![]), watch::Sender::new(Health::Up));
    let stuck: Arc<dyn Store> = Arc::new(Stuck(bad));
    for (store, in_time) in [(good, true), (stuck, false)] {
        let clock = paused_clock();
        let (source, control) = pipeline(&config(), &store, &clock, &oracle);
        source
            .consult(&pair("ann", "heat"), &history(), &context())
            .await
            .unwrap();
        let began = tokio::time::Instant::now();
        assert_eq!(control.leave().await, in_time);
        assert!(began.elapsed() <= config().flush_timeout + Duration::from_millis(1));
        if in_time {
            // Another life of the deployment finds it.
            let asked = oracle.asked();
            let (source, _control) = pipeline(&config(), &store, &clock, &oracle);
            source
                .consult(&pair("ann", "heat"), &history(), &context())
                .await
                .unwrap();
            assert_eq!(oracle.asked(), asked);
        }
    }
}
