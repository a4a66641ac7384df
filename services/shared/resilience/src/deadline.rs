//! How long may this still take: waiting with an end, and deadlines that shrink on the way down.

use std::future::Future;
use std::time::{Duration, Instant};

/// The instant came before the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("deadline elapsed")]
pub struct Elapsed;

/// The present, from the clock that tests can pause.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Runs `work` until `deadline`. A deadline that has already passed refuses the work without starting it; an answer
/// that is ready at the deadline itself still counts. The work is dropped, hence cancelled, when time is up.
pub async fn within<F: Future>(deadline: Instant, work: F) -> Result<F::Output, Elapsed> {
    if deadline <= now() {
        return Err(Elapsed);
    }
    tokio::time::timeout_at(deadline.into(), work)
        .await
        .map_err(|_| Elapsed)
}

/// The deadline for the next hop: the earlier of `now + cap` and `deadline - margin` (the way back needs time too).
/// `None` when nothing would be left of it: then the call is not worth making.
pub fn shrunk(deadline: Instant, now: Instant, cap: Duration, margin: Duration) -> Option<Instant> {
    let latest = deadline.checked_sub(margin)?.min(now + cap);
    (latest > now).then_some(latest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_that_ends_in_time_gives_its_answer() {
        let answer = within(now() + Duration::from_millis(50), async {
            tokio::time::sleep(Duration::from_millis(49)).await;
            7
        });
        assert_eq!(answer.await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_outlives_its_deadline_is_dropped_at_the_deadline() {
        let begin = now();
        let result = within(
            begin + Duration::from_millis(50),
            tokio::time::sleep(Duration::from_secs(9)),
        )
        .await;
        assert_eq!(result, Err(Elapsed));
        assert_eq!(now() - begin, Duration::from_millis(50));
    }

    #[tokio::test(start_paused = true)]
    async fn a_passed_deadline_refuses_work_without_starting_it() {
        let mut started = false;
        assert_eq!(within(now(), async { started = true }).await, Err(Elapsed));
        assert!(!started);
    }

    proptest! {
        #[test]
        fn a_deadline_only_ever_shrinks(remaining in 0u64..5_000, cap in 0u64..5_000, margin in 0u64..100) {
            let ms = Duration::from_millis;
            let now = Instant::now();
            match shrunk(now + ms(remaining), now, ms(cap), ms(margin)) {
                Some(next) => {
                    prop_assert!(next > now && next <= now + ms(cap));
                    prop_assert!(next + ms(margin) <= now + ms(remaining));
                }
                None => prop_assert!(remaining <= margin || cap == 0),
            }
        }
    }
}
