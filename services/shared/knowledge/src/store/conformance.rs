//! What every store must do, whatever it is made of. Panics with a sentence where a store breaks a promise.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;

use crate::era::Era;
use crate::store::{Health, Store};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(60);

/// Runs the whole suite against an empty store that is up, or is about to be.
pub async fn check(store: &dyn Store) {
    it_comes_up(store).await;
    what_was_never_put_is_not_found(store).await;
    what_was_put_is_found(store).await;
    a_later_value_overwrites_an_earlier_one(store).await;
    names_are_told_apart(store).await;
    a_value_is_gone_after_its_time(store).await;
    overwriting_renews_the_time(store).await;
    the_shortest_time_is_no_error(store).await;
    removed_is_gone_and_may_be_removed_again(store).await;
    any_bytes_and_big_values_survive(store).await;
    many_at_once_do_not_mix(store).await;
    one_claim_at_a_time(store).await;
    an_owner_is_erased_and_nobody_else(store).await;
    an_era_is_one_owners_and_lasts_as_long_as_what_is_put_under_it(store).await;
    what_arrives_under_an_era_that_is_over_is_turned_back(store).await;
}

async fn it_comes_up(store: &dyn Store) {
    let mut health = store.health();
    let up = tokio::time::timeout(
        Duration::from_secs(10),
        health.wait_for(|health| *health == Health::Up),
    )
    .await;
    assert!(up.is_ok(), "a store that can be reached must say that it is up");
}

async fn what_was_never_put_is_not_found(store: &dyn Store) {
    assert_eq!(get(store, "x:{never}:1").await, None);
}

async fn what_was_put_is_found(store: &dyn Store) {
    put(store, "x:{found}:1", b"one", LONG).await;
    assert_eq!(get(store, "x:{found}:1").await.as_deref(), Some(&b"one"[..]));
    assert_eq!(
        get(store, "x:{found}:1").await.as_deref(),
        Some(&b"one"[..]),
        "reading must not consume"
    );
}

async fn a_later_value_overwrites_an_earlier_one(store: &dyn Store) {
    put(store, "x:{over}:1", b"a longer first value", LONG).await;
    put(store, "x:{over}:1", b"second", LONG).await;
    assert_eq!(get(store, "x:{over}:1").await.as_deref(), Some(&b"second"[..]));
}

async fn names_are_told_apart(store: &dyn Store) {
    let names = [
        "x:{u}:a",
        "x:{u}:A",
        "x:{u}:a ",
        "x:{u}: a",
        "x:{u}:",
        "x:{u}:a*",
        "x:{ü}:a",
        "x:{u}:a\r\nGET b",
    ];
    for (n, name) in names.iter().enumerate() {
        put(store, name, format!("value {n}").as_bytes(), LONG).await;
    }
    for (n, name) in names.iter().enumerate() {
        assert_eq!(
            get(store, name).await,
            Some(format!("value {n}").into_bytes()),
            "{name:?}"
        );
    }
}

async fn a_value_is_gone_after_its_time(store: &dyn Store) {
    put(store, "x:{time}:short", b"brief", SHORT).await;
    put(store, "x:{time}:long", b"lasting", LONG).await;
    sleep(SHORT * 3).await;
    assert_eq!(get(store, "x:{time}:short").await, None);
    assert_eq!(
        get(store, "x:{time}:long").await.as_deref(),
        Some(&b"lasting"[..])
    );
}

async fn overwriting_renews_the_time(store: &dyn Store) {
    put(store, "x:{renew}:1", b"brief", SHORT).await;
    put(store, "x:{renew}:1", b"lasting", LONG).await;
    put(store, "x:{renew}:2", b"lasting", LONG).await;
    put(store, "x:{renew}:2", b"brief", SHORT).await;
    sleep(SHORT * 3).await;
    assert_eq!(get(store, "x:{renew}:1").await.as_deref(), Some(&b"lasting"[..]));
    assert_eq!(
        get(store, "x:{renew}:2").await,
        None,
        "a shorter time must replace a longer one"
    );
}

async fn the_shortest_time_is_no_error(store: &dyn Store) {
    put(store, "x:{zero}:1", b"instant", Duration::ZERO).await;
    sleep(SHORT).await;
    assert_eq!(get(store, "x:{zero}:1").await, None);
}

async fn removed_is_gone_and_may_be_removed_again(store: &dyn Store) {
    put(store, "x:{gone}:1", b"value", LONG).await;
    for _ in 0..2 {
        store
            .remove("x:{gone}:1")
            .await
            .expect("removing must work, also what is not there");
        assert_eq!(get(store, "x:{gone}:1").await, None);
    }
    put(store, "x:{gone}:1", b"again", LONG).await;
    assert_eq!(get(store, "x:{gone}:1").await.as_deref(), Some(&b"again"[..]));
}

async fn any_bytes_and_big_values_survive(store: &dyn Store) {
    let all: Vec<u8> = (0..=255).collect();
    let big: Vec<u8> = (0..64 << 10)
        .map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    for (name, value) in [
        ("x:{bytes}:all", &all),
        ("x:{bytes}:big", &big),
        ("x:{bytes}:none", &Vec::new()),
    ] {
        put(store, name, value, LONG).await;
        assert_eq!(get(store, name).await.as_ref(), Some(value), "{name}");
    }
}

async fn many_at_once_do_not_mix(store: &dyn Store) {
    join_all((0..200).map(|n| async move {
        let (name, value) = (format!("x:{{many}}:{n}"), format!("value {n}").into_bytes());
        put(store, &name, &value, LONG).await;
        assert_eq!(get(store, &name).await, Some(value));
    }))
    .await;
}

async fn one_claim_at_a_time(store: &dyn Store) {
    let claim = |ttl| async move {
        store
            .claim("x:{claim}:1", ttl)
            .await
            .expect("claims must be answered")
    };
    let taken = join_all((0..50).map(|_| claim(LONG))).await;
    assert_eq!(
        taken.iter().filter(|taken| **taken).count(),
        1,
        "one of many at once"
    );
    store.remove("x:{claim}:1").await.expect("removing must work");
    assert!(claim(SHORT).await, "given back");
    assert!(!claim(SHORT).await, "still held");
    sleep(SHORT * 3).await;
    assert!(claim(LONG).await, "run out");
}

async fn era(store: &dyn Store, owner: &str, lasts: Duration) -> Era {
    store
        .era(owner, lasts)
        .await
        .expect("a store that is up must name an era")
}

async fn put_for(store: &dyn Store, owner: &str, era: Era, rest: &str) {
    store
        .put_for(owner, era, &format!("{owner}:{rest}"), b"value".to_vec(), LONG)
        .await
        .expect("a store that is up must take values");
}

async fn an_owner_is_erased_and_nobody_else(store: &dyn Store) {
    let owners = ["x:{t:u1}", "x:{t:u2}", "x:{t:u11}"];
    for owner in owners {
        let era = era(store, owner, LONG).await;
        for n in 0..40 {
            put_for(store, owner, era, &n.to_string()).await;
        }
    }
    store.remove("x:{t:u1}:7").await.expect("removing must work");
    let erased = store.erase(owners[0]).await.expect("erasing must work");
    assert_eq!(erased, 39);
    for n in 0..40 {
        assert_eq!(get(store, &format!("x:{{t:u1}}:{n}")).await, None);
        assert!(get(store, &format!("x:{{t:u2}}:{n}")).await.is_some());
        assert!(get(store, &format!("x:{{t:u11}}:{n}")).await.is_some());
    }
    let again = store.erase(owners[0]).await.expect("erasing must work");
    assert_eq!(again, 0, "there is nothing left");
}

async fn an_era_is_one_owners_and_lasts_as_long_as_what_is_put_under_it(store: &dyn Store) {
    let (four, five) = ("x:{t:u4}", "x:{t:u5}");
    let first = era(store, four, SHORT).await;
    assert!(
        first != era(store, five, SHORT).await,
        "owners have eras of their own"
    );
    assert!(first == era(store, four, SHORT).await, "an era runs on");
    put_for(store, four, first, "1").await;
    let many = join_all((0..20).map(|_| era(store, "x:{t:u6}", LONG))).await;
    assert!(
        many.iter().all(|one| *one == many[0]),
        "many at once begin one era"
    );
    sleep(SHORT * 3).await;
    assert!(first == era(store, four, SHORT).await, "an entry keeps its era");
    store.erase(four).await.expect("erasing must work");
    assert!(first != era(store, four, SHORT).await, "erasing ends an era");
}

async fn what_arrives_under_an_era_that_is_over_is_turned_back(store: &dyn Store) {
    let before = era(store, "x:{t:u3}", LONG).await;
    put_for(store, "x:{t:u3}", before, "1").await;
    store.erase("x:{t:u3}").await.expect("erasing must work");
    put_for(store, "x:{t:u3}", before, "2").await;
    assert_eq!(get(store, "x:{t:u3}:2").await, None, "no era runs");
    let after = era(store, "x:{t:u3}", LONG).await;
    put_for(store, "x:{t:u3}", before, "3").await;
    assert_eq!(get(store, "x:{t:u3}:3").await, None, "another era runs");
    put_for(store, "x:{t:u3}", after, "4").await;
    assert!(get(store, "x:{t:u3}:4").await.is_some());
}

async fn get(store: &dyn Store, name: &str) -> Option<Vec<u8>> {
    store.get(name).await.expect("a store that is up must answer")
}

async fn put(store: &dyn Store, name: &str, value: &[u8], ttl: Duration) {
    store
        .put(name, value.to_vec(), ttl)
        .await
        .expect("a store that is up must take values");
}
