//! A connection's turns: all of it that can go on does, in one task, and then what it wrote leaves together.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::io::AsyncWrite;

use crate::socket::Outgoing;

type Part = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Drives a connection and sends what it wrote at the end of each turn, also of the last.
#[must_use]
pub(crate) struct Turns<C: Future, S> {
    connection: Pin<Box<C>>,
    outgoing: Outgoing<S>,
    /// What the connection came to, while its last words are sent.
    end: Option<C::Output>,
}

impl<C: Future, S> Turns<C, S> {
    pub(crate) fn new(connection: C, outgoing: Outgoing<S>) -> Self {
        Self {
            connection: Box::pin(connection),
            outgoing,
            end: None,
        }
    }

    pub(crate) fn connection(&mut self) -> Pin<&mut C> {
        self.connection.as_mut()
    }
}

impl<C: Future<Output: Unpin>, S: AsyncWrite + Unpin> Future for Turns<C, S> {
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.end.is_none()
            && let Poll::Ready(end) = this.connection.as_mut().poll(cx)
        {
            this.end = Some(end);
        }
        let sent = this.outgoing.poll_send(cx);
        match this.end.take() {
            Some(end) if sent.is_ready() => Poll::Ready(end),
            end => {
                this.end = end;
                Poll::Pending
            }
        }
    }
}

/// hyper's executor for a client's connection: what it would start in tasks of their own (the frames, each call's body and answer)
/// becomes a part of the connection's one task. None of them works longer than it takes to copy a message.
#[derive(Clone, Default)]
pub(crate) struct Parts(Arc<Mutex<Vec<Part>>>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Parts {
    fn execute(&self, part: F) {
        let mut new = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        new.push(Box::pin(part));
    }
}

/// A client's connection with its parts. Ready when all of them are: calls outlive the handle by which they were made.
pub(crate) struct Together<C: Future> {
    /// The half that takes calls; gone when it has ended.
    calls: Option<Pin<Box<C>>>,
    ended: Option<tokio::sync::oneshot::Sender<C::Output>>,
    new: Parts,
    parts: FuturesUnordered<Part>,
}

impl<C: Future> Together<C> {
    /// `ended` is told what the half that takes calls came to.
    pub(crate) fn new(calls: C, new: Parts, ended: tokio::sync::oneshot::Sender<C::Output>) -> Self {
        Self {
            calls: Some(Box::pin(calls)),
            ended: Some(ended),
            new,
            parts: FuturesUnordered::new(),
        }
    }
}

impl<C: Future> Future for Together<C> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            // The frames first: a server that is going has said so before another call is sent to it, which would be lost.
            while let Poll::Ready(Some(())) = this.parts.poll_next_unpin(cx) {}
            if let Some(calls) = &mut this.calls
                && let Poll::Ready(end) = calls.as_mut().poll(cx)
            {
                this.calls = None;
                if let Some(ended) = this.ended.take() {
                    // Nobody may care any more.
                    let _told = ended.send(end);
                }
            }
            let new = std::mem::take(&mut *this.new.0.lock().unwrap_or_else(PoisonError::into_inner));
            if new.is_empty() {
                break;
            }
            this.parts.extend(new);
        }
        if this.calls.is_none() && this.parts.is_empty() {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};

    use super::*;
    use crate::socket::Socket;

    /// Counts what the system would be asked.
    struct Counting<S> {
        stream: S,
        writes: Arc<AtomicUsize>,
    }

    impl<S: AsyncWrite + Unpin> AsyncWrite for Counting<S> {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<std::io::Result<usize>> {
            self.writes.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut self.stream).poll_write(cx, buf)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Pin::new(&mut self.stream).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Pin::new(&mut self.stream).poll_shutdown(cx)
        }
    }

    impl<S: tokio::io::AsyncRead + Unpin> tokio::io::AsyncRead for Counting<S> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            Pin::new(&mut self.stream).poll_read(cx, buf)
        }
    }

    #[tokio::test]
    async fn what_is_written_in_one_turn_leaves_in_one_write_and_the_last_words_too() {
        let (here, mut there) = tokio::io::duplex(1 << 20);
        let writes = Arc::new(AtomicUsize::new(0));
        let mut socket = Socket::new(Counting {
            stream: here,
            writes: Arc::clone(&writes),
        });
        let outgoing = socket.outgoing();
        let connection = async move {
            for part in ["head ", "body ", "end"] {
                socket.write_all(part.as_bytes()).await.expect("kept");
                socket.flush().await.expect("kept");
            }
            7
        };
        assert_eq!(Turns::new(connection, outgoing).await, 7);
        assert_eq!(writes.load(Ordering::Relaxed), 1);
        let mut said = String::new();
        there.read_to_string(&mut said).await.expect("text");
        assert_eq!(said, "head body end");
    }

    #[tokio::test]
    async fn more_than_is_kept_waits_for_a_slow_peer_and_arrives_whole() {
        let (here, mut there) = tokio::io::duplex(1_000);
        let mut socket = Socket::new(here);
        let outgoing = socket.outgoing();
        let all: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
        let words = all.clone();
        let driven = tokio::spawn(Turns::new(
            async move {
                socket.write_all(&words).await.expect("sent");
                socket.shutdown().await.expect("closed");
            },
            outgoing,
        ));
        let mut heard = Vec::new();
        there.read_to_end(&mut heard).await.expect("bytes");
        driven.await.expect("done");
        assert_eq!(heard, all);
    }

    #[tokio::test]
    async fn a_connection_learns_that_it_cannot_be_heard() {
        let (here, there) = tokio::io::duplex(100);
        let mut socket = Socket::new(here);
        let outgoing = socket.outgoing();
        drop(there);
        let connection = async move {
            socket.write_all(b"is there anybody?").await.expect("kept");
            tokio::task::yield_now().await;
            socket
                .write_all(b"anybody?")
                .await
                .expect_err("known by now")
                .kind()
        };
        assert_eq!(
            Turns::new(connection, outgoing).await,
            std::io::ErrorKind::BrokenPipe
        );
    }

    #[tokio::test]
    async fn parts_go_on_after_the_half_that_takes_calls_has_ended() {
        let (here, mut there) = tokio::io::duplex(100);
        let mut socket = Socket::new(here);
        let outgoing = socket.outgoing();
        let parts = Parts::default();
        let (go_on, wait) = tokio::sync::oneshot::channel();
        let (ended, end) = tokio::sync::oneshot::channel();
        let own = parts.clone();
        let calls = async move {
            hyper::rt::Executor::execute(&own, async move {
                wait.await.expect("told");
                socket.write_all(b"late").await.expect("kept");
            });
            "no more calls"
        };
        let driven = tokio::spawn(Turns::new(Together::new(calls, parts, ended), outgoing));
        assert_eq!(end.await, Ok("no more calls"));
        go_on.send(()).expect("waited for");
        driven.await.expect("done");
        let mut said = String::new();
        there.read_to_string(&mut said).await.expect("text");
        assert_eq!(said, "late");
    }
}
