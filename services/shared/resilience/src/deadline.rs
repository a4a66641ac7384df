//! How long may this still take: waiting with an end. (Deadlines that shrink on the way down are `domain::Deadline`'s.)

use std::future::Future;
use std::time::Instant;

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

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
}
