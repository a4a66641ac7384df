//! The breaker, transition by transition.

use proptest::prelude::*;

use super::*;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn fail(breaker: &Breaker, now: Instant, times: usize) {
    for _ in 0..times {
        breaker.try_call(now).unwrap().failure(now);
    }
}

#[test]
fn five_failures_in_a_row_open_it() {
    let (breaker, now) = (Breaker::new(Config::default()), Instant::now());
    fail(&breaker, now, 4);
    assert_eq!(breaker.state(), State::Closed);
    fail(&breaker, now, 1);
    assert_eq!(
        breaker.try_call(now + MS(400)).unwrap_err(),
        Open { retry_after: MS(600) }
    );
}

#[test]
fn a_success_between_failures_starts_the_count_again() {
    let (breaker, now) = (Breaker::new(Config::default()), Instant::now());
    for _ in 0..4 {
        fail(&breaker, now, 4);
        breaker.try_call(now).unwrap().success(now);
    }
    // 16 of 20 failed: the share says open, but only a failure may say so.
    assert_eq!(breaker.state(), State::Closed);
    fail(&breaker, now, 1);
    assert!(matches!(breaker.state(), State::Open { .. }));
}

#[test]
fn failures_that_left_the_window_do_not_count() {
    let (breaker, now) = (Breaker::new(Config::default()), Instant::now());
    // 12 of 19 failed; one more failure is the twentieth call, if the window still holds the others.
    for _ in 0..4 {
        fail(&breaker, now, 3);
        breaker.try_call(now).unwrap().success(now);
    }
    (0..3).for_each(|_| breaker.try_call(now).unwrap().success(now));
    fail(&breaker, now + MS(10_001), 1);
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn one_probe_at_a_time_and_its_success_closes() {
    let (breaker, now) = (Breaker::new(Config::default()), Instant::now());
    fail(&breaker, now, 5);
    let later = now + MS(1000);
    let probe = breaker.try_call(later).unwrap();
    assert!(breaker.try_call(later).is_err(), "a second probe");
    probe.success(later);
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn each_failed_probe_doubles_the_wait_up_to_its_bound() {
    let (breaker, mut now) = (Breaker::new(Config::default()), Instant::now());
    fail(&breaker, now, 5);
    let mut waits = Vec::new();
    for _ in 0..6 {
        let open = breaker.try_call(now).unwrap_err();
        waits.push(open.retry_after.as_secs());
        now += open.retry_after;
        breaker.try_call(now).unwrap().failure(now);
    }
    assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
}

#[test]
fn a_cancelled_probe_makes_room_for_another() {
    let (breaker, now) = (Breaker::new(Config::default()), Instant::now());
    fail(&breaker, now, 5);
    drop(breaker.try_call(now + MS(1000)).unwrap());
    breaker.try_call(now + MS(1000)).unwrap().success(now + MS(1000));
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn answers_to_calls_from_before_the_opening_change_nothing() {
    let (breaker, now) = (Breaker::new(Config::default()), Instant::now());
    let (old_ok, old_bad) = (breaker.try_call(now).unwrap(), breaker.try_call(now).unwrap());
    fail(&breaker, now, 5);
    old_ok.success(now);
    old_bad.failure(now);
    assert_eq!(
        breaker.state(),
        State::Open {
            until: now + MS(1000)
        }
    );
}

proptest! {
    /// Whatever happens, it always lets a call through again after the longest opening, and never more probes than
    /// allowed at once.
    #[test]
    fn it_always_recovers(steps in proptest::collection::vec((0u64..3_000, 0u8..4), 1..200), probes_max in 1u32..4) {
        let config = Config { probes_max, open_max: MS(8_000), ..Config::default() };
        let breaker = Breaker::new(config);
        let mut now = Instant::now();
        let mut held = Vec::new();
        for (wait, act) in steps {
            now += MS(wait);
            match (act, breaker.try_call(now)) {
                (0, Ok(permit)) => permit.success(now),
                (1, Ok(permit)) => permit.failure(now),
                (2, Ok(permit)) => held.push(permit),
                (_, Ok(permit)) => drop(permit),
                (_, Err(open)) => prop_assert!(open.retry_after <= MS(8_000)),
            }
        }
        drop(held);
        prop_assert!(breaker.try_call(now + MS(8_000)).is_ok());
    }
}
