//! A stream whose work ends at an instant, read or not.
//!
//! A time limit inside a stream is only seen by whoever polls it, and a connection does not poll an answer that its
//! reader leaves no room for: such a reader would keep what the answer holds for as long as the connection lives.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::Stream;
use tokio::task::AbortHandle;

/// The same stream, dropped at its end time; from then on nothing comes of it, not even its end.
#[derive(Debug)]
pub(crate) struct Perishable<S> {
    stream: Arc<Shared<S>>,
    keeper: AbortHandle,
}

type Shared<S> = Mutex<Option<Pin<Box<S>>>>;

impl<S: Send + 'static> Perishable<S> {
    /// Must be called inside a tokio runtime: a task of its own keeps the time.
    pub(crate) fn until(end: Instant, stream: S) -> Self {
        let stream = Arc::new(Mutex::new(Some(Box::pin(stream))));
        let kept: Weak<Shared<S>> = Arc::downgrade(&stream);
        let keeping = async move {
            tokio::time::sleep_until(end.into()).await;
            let perished = kept.upgrade().and_then(|stream| lock(&stream).take());
            drop(perished);
        };
        Self {
            stream,
            keeper: tokio::spawn(keeping).abort_handle(),
        }
    }
}

impl<S: Stream> Stream for Perishable<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        match &mut *lock(&self.stream) {
            Some(stream) => stream.as_mut().poll_next(cx),
            None => Poll::Pending,
        }
    }
}

impl<S> Drop for Perishable<S> {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

fn lock<S>(stream: &Shared<S>) -> MutexGuard<'_, Option<Pin<Box<S>>>> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::{FutureExt as _, StreamExt as _, stream};

    use super::*;
    use crate::client::now;

    /// A stream that holds `held` and says nothing.
    fn holding(held: &Arc<()>) -> impl Stream<Item = ()> + Send + 'static {
        let held = Arc::clone(held);
        stream::poll_fn(move |_| {
            let _held = &held;
            Poll::Pending
        })
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_unread_stream_holds_is_let_go_at_its_end_time() {
        let held = Arc::new(());
        let end = now() + Duration::from_secs(1);
        let mut unread = Perishable::until(end, holding(&held));
        tokio::time::sleep(Duration::from_millis(999)).await;
        assert_eq!(Arc::strong_count(&held), 2);
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert_eq!(Arc::strong_count(&held), 1, "nobody has polled it");
        assert_eq!(unread.next().now_or_never(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_is_dropped_lets_go_at_once_and_its_items_come_unchanged() {
        let held = Arc::new(());
        let end = now() + Duration::from_secs(1);
        drop(Perishable::until(end, holding(&held)));
        assert_eq!(Arc::strong_count(&held), 1);
        let items: Vec<u32> = Perishable::until(end, stream::iter([1, 2, 3])).collect().await;
        assert_eq!(items, [1, 2, 3]);
    }
}
