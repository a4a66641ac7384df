//! Work that keeps a processor busy, on threads of its own: so much at a time, and none for a caller who has gone.

use std::sync::Arc;

use refract_domain::{Deadline, Error};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use crate::recommend::now;

/// So many threads; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Aside {
    threads: Arc<Semaphore>,
}

impl Aside {
    pub(crate) fn new(threads_max: usize) -> Self {
        Self {
            threads: Arc::new(Semaphore::new(threads_max)),
        }
    }

    /// Waits for a thread until the deadline. Work that has begun is not interrupted, but keeps its thread to its end: work
    /// that was given up is never more than the threads are.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        deadline: Deadline,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let thread = timeout_at(
            deadline.instant().into(),
            Arc::clone(&self.threads).acquire_owned(),
        )
        .await
        .map_err(|_| Error::DeadlineExceeded)?
        .map_err(|_| Error::Internal)?;
        // Dropped with this future, a set forgets what has not begun.
        let mut set = JoinSet::new();
        set.spawn_blocking(move || {
            let _held = thread;
            if deadline.has_passed(now()) {
                return Err(Error::DeadlineExceeded);
            }
            work()
        });
        match set.join_next().await {
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) | None => Err(Error::Internal),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    fn in_a_second() -> Deadline {
        Deadline::after(now(), Duration::from_secs(1))
    }

    #[tokio::test(start_paused = true)]
    async fn work_beyond_the_threads_waits_and_that_of_a_caller_who_has_gone_is_never_begun() {
        let (aside, begun) = (Aside::new(1), Arc::new(AtomicUsize::new(0)));
        let (started, has_started) = tokio::sync::oneshot::channel();
        let (release, held) = mpsc::sync_channel::<()>(1);
        let first = {
            let (aside, begun) = (aside.clone(), begun.clone());
            tokio::spawn(async move {
                aside
                    .run(in_a_second(), move || {
                        begun.fetch_add(1, Ordering::SeqCst);
                        started.send(()).map_err(|()| Error::Internal)?;
                        held.recv().map_err(|_| Error::Internal)
                    })
                    .await
            })
        };
        has_started.await.expect("the first has the only thread");
        let count = || {
            let begun = begun.clone();
            move || Ok(begun.fetch_add(1, Ordering::SeqCst))
        };
        let mut gone = Box::pin(aside.run(in_a_second(), count()));
        let mut stays = Box::pin(aside.run(in_a_second(), count()));
        for waiting in [&mut gone, &mut stays] {
            assert!(futures_util::poll!(waiting).is_pending());
        }
        drop(gone);
        // The first caller goes in the middle: its work goes on, and so does its hold on the thread.
        first.abort();
        assert!(first.await.expect_err("aborted").is_cancelled());
        assert!(futures_util::poll!(&mut stays).is_pending());
        release.send(()).expect("the first still runs");
        assert_eq!(stays.await, Ok(1), "the second to begin, not the third");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_thread_beyond_the_deadline() {
        let (aside, begin) = (Aside::new(0), now());
        let outcome = aside.run(in_a_second(), || Ok(())).await;
        assert_eq!(outcome, Err(Error::DeadlineExceeded));
        assert_eq!(now() - begin, Duration::from_secs(1));
    }
}
