//! One question, one consultation, under cancellation, failure and unequal deadlines. The clock is paused.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use refract_domain::{Context, Error, History, Knowledge, KnowledgeSource, Pair, UnavailableReason};
use tokio::time::sleep;

use super::support::{Oracle, config, context, context_for, history, pair, paused_clock, pipeline};
use crate::store::MemoryStore;
use crate::{Coalesced, CurrentRevisions, Keyring, Keys, Store};

fn coalesced(oracle: &Arc<Oracle>, flights_max: usize) -> Arc<Coalesced<Arc<Oracle>>> {
    let keys = Keys::new(
        Keyring::new("x", b"a secret of the tests"),
        CurrentRevisions::default(),
    );
    Arc::new(Coalesced::new(Arc::clone(oracle), Arc::new(keys), flights_max))
}

fn caller<S: KnowledgeSource + 'static>(
    source: &Arc<S>,
    context: Context,
) -> tokio::task::JoinHandle<Result<Knowledge, Error>> {
    let source = Arc::clone(source);
    tokio::spawn(async move { source.consult(&pair("ann", "heat"), &history(), &context).await })
}

#[tokio::test(start_paused = true)]
async fn two_hundred_and_fifty_misses_at_once_are_one_consultation() {
    let oracle = Oracle::new(Duration::from_millis(200));
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(1000, 1 << 20));
    let (source, _control) = pipeline(&config(), &store, &paused_clock(), &oracle);
    let (pair, history, context) = (pair("ann", "heat"), history(), context());
    let answers = join_all((0..250).map(|_| source.consult(&pair, &history, &context))).await;
    assert!(
        answers
            .iter()
            .all(|answer| answer.as_ref().unwrap().text.ends_with("answer 1"))
    );
    assert_eq!(oracle.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn different_questions_do_not_wait_for_each_other() {
    let oracle = Oracle::new(Duration::from_millis(200));
    let source = coalesced(&oracle, 100);
    let (history, context) = (history(), context());
    let pairs: Vec<Pair> = (0..20).map(|n| pair("ann", &format!("film {n}"))).collect();
    let began = tokio::time::Instant::now();
    join_all(pairs.iter().map(|pair| source.consult(pair, &history, &context))).await;
    assert_eq!(began.elapsed().as_millis(), 200);
    assert_eq!(oracle.asked(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_leader_who_leaves_does_not_take_the_others_down() {
    let oracle = Oracle::new(Duration::from_millis(200));
    let source = coalesced(&oracle, 10);
    let leader = caller(&source, context());
    sleep(Duration::from_millis(50)).await;
    let followers: Vec<_> = (0..10).map(|_| caller(&source, context())).collect();
    sleep(Duration::from_millis(50)).await;
    leader.abort();
    for follower in followers {
        assert!(follower.await.unwrap().is_ok());
    }
    assert_eq!((oracle.asked(), oracle.abandoned.load(Ordering::SeqCst)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_work_stops_when_everybody_has_left() {
    let oracle = Oracle::new(Duration::from_millis(200));
    let source = coalesced(&oracle, 1);
    let callers: Vec<_> = (0..10).map(|_| caller(&source, context())).collect();
    sleep(Duration::from_millis(50)).await;
    for caller in &callers {
        caller.abort();
    }
    sleep(Duration::from_millis(1)).await;
    assert_eq!((oracle.asked(), oracle.abandoned.load(Ordering::SeqCst)), (1, 1));
    assert!(
        caller(&source, context()).await.unwrap().is_ok(),
        "the only place is free again"
    );
    assert_eq!((oracle.asked(), oracle.answered.load(Ordering::SeqCst)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn followers_keep_their_own_deadlines() {
    let oracle = Oracle::new(Duration::from_millis(200));
    let source = coalesced(&oracle, 10);
    let patient = caller(&source, context());
    sleep(Duration::from_millis(1)).await;
    let hasty = caller(&source, context_for(Duration::from_millis(50)));
    sleep(Duration::from_millis(60)).await;
    assert!(hasty.is_finished());
    assert_eq!(hasty.await.unwrap(), Err(Error::DeadlineExceeded));
    assert!(patient.await.unwrap().is_ok());
    assert_eq!(oracle.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_follower_with_more_time_flies_again_when_the_leaders_time_was_too_short() {
    let oracle = Arc::new(Oracle {
        punctual: true,
        ..Oracle::plain(Duration::from_millis(200))
    });
    let source = coalesced(&oracle, 10);
    let hasty = caller(&source, context_for(Duration::from_millis(100)));
    sleep(Duration::from_millis(1)).await;
    let patient: Vec<_> = (0..5).map(|_| caller(&source, context())).collect();
    assert_eq!(hasty.await.unwrap(), Err(Error::DeadlineExceeded));
    for patient in patient {
        assert!(patient.await.unwrap().is_ok());
    }
    assert_eq!(
        oracle.asked(),
        2,
        "one flight for the hasty, one for all the patient"
    );
}

#[tokio::test(start_paused = true)]
async fn errors_are_shared_and_the_next_caller_asks_anew() {
    let oracle = Oracle::new(Duration::from_millis(10));
    oracle.set_down(true);
    let source = coalesced(&oracle, 10);
    let callers: Vec<_> = (0..10).map(|_| caller(&source, context())).collect();
    for caller in callers {
        let unreachable = Error::Unavailable {
            reason: UnavailableReason::Unreachable,
        };
        assert_eq!(caller.await.unwrap(), Err(unreachable));
    }
    assert_eq!(oracle.asked(), 1);
    oracle.set_down(false);
    assert!(caller(&source, context()).await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn more_questions_than_allowed_are_refused_at_once_and_joining_is_still_free() {
    let oracle = Oracle::new(Duration::from_millis(200));
    let source = coalesced(&oracle, 1);
    let leader = caller(&source, context());
    sleep(Duration::from_millis(1)).await;
    let other = source
        .consult(&pair("ann", "ronin"), &history(), &context())
        .await;
    assert_eq!(
        other,
        Err(Error::Unavailable {
            reason: UnavailableReason::Busy
        })
    );
    let follower = caller(&source, context());
    assert!(leader.await.unwrap().is_ok() && follower.await.unwrap().is_ok());
}

/// A source with a bug.
#[derive(Debug)]
struct Panics;

#[async_trait]
impl KnowledgeSource for Panics {
    async fn consult(&self, _: &Pair, _: &Arc<History>, _: &Context) -> Result<Knowledge, Error> {
        tokio::task::yield_now().await;
        panic!("a bug of the source, on purpose");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_source_is_an_error_for_its_callers_and_leaves_no_flight_behind() {
    let keys = Keys::new(
        Keyring::new("x", b"a secret of the tests"),
        CurrentRevisions::default(),
    );
    let source = Arc::new(Coalesced::new(Panics, Arc::new(keys), 1));
    for _ in 0..2 {
        let callers: Vec<_> = (0..3).map(|_| caller(&source, context())).collect();
        for caller in callers {
            assert_eq!(caller.await.unwrap(), Err(Error::Internal));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_come_and_go_at_random_leave_no_flight_behind() {
    let oracle = Oracle::new(Duration::from_micros(300));
    let source = coalesced(&oracle, 3);
    let callers = (0..2000_u64).map(|n| {
        let source = Arc::clone(&source);
        async move {
            let patience = Duration::from_micros(n * 7919 % 900);
            sleep(Duration::from_micros(n * 104_729 % 20_000)).await;
            let pair = pair("ann", ["heat", "ronin", "thief"][n as usize % 3]);
            let asked = source.consult(&pair, &history(), &context()).await;
            drop(tokio::time::timeout(patience, async { asked }).await);
            let (history, context) = (history(), context());
            // Never `Busy`: there are as many places as questions.
            if let Ok(answer) =
                tokio::time::timeout(patience, source.consult(&pair, &history, &context)).await
            {
                assert!(answer.is_ok(), "{answer:?}");
            }
        }
    });
    join_all(callers.map(tokio::spawn))
        .await
        .into_iter()
        .for_each(|caller| caller.unwrap());
    for film in ["other 1", "other 2", "other 3"] {
        assert!(
            source
                .consult(&pair("ann", film), &history(), &context())
                .await
                .is_ok()
        );
    }
}
