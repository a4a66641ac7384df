//! A socket that tells how much it has heard, so that a peer which connects and says nothing is noticed; and that holds back what is
//! written until its connection has had its turn.
//!
//! HTTP/2 as hyper and h2 speak it flushes after every frame of data: the head of an answer, its messages and its end go out in as
//! many calls to the system, and wake the peer as often. Here they are kept, and leave together when the connection has nothing
//! more to say for now ([`crate::turn`]).

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// Bytes that a client sends before anything else: the connection preface, then the header of its SETTINGS frame.
pub(crate) const CLIENT_HELLO_BYTES: usize = 24 + SERVER_HELLO_BYTES;
/// Bytes that a server sends before anything else: the header of its SETTINGS frame.
pub(crate) const SERVER_HELLO_BYTES: usize = 9;

/// Bytes kept at a time; what does not fit waits until these are sent.
const HELD_BYTES_MAX: usize = 64 * 1024;

/// Room for bytes that a connection keeps between turns: more is given back, for there may be many that are silent.
const ROOM_BYTES_MAX: usize = 16 * 1024;

/// Any stream of bytes, plain or secured: the end that HTTP/2 reads and writes.
#[derive(Debug)]
pub(crate) struct Socket<S> {
    held: Arc<Mutex<Held<S>>>,
    heard: Heard,
}

/// The end that sends what was written.
#[derive(Debug)]
pub(crate) struct Outgoing<S>(Arc<Mutex<Held<S>>>);

#[derive(Debug)]
struct Held<S> {
    stream: S,
    /// Written and not yet sent, from `sent` on.
    bytes: Vec<u8>,
    sent: usize,
    /// Whether the stream below has been given something since it was flushed.
    unflushed: bool,
    /// Who waits until all is sent. The stream itself remembers one writer only, and that is who drives the connection.
    waiting: Option<Waker>,
    /// Why nothing can be sent any more: whoever reads or writes next is told.
    failed: Option<io::ErrorKind>,
}

/// How many bytes have come in; clones share the count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard(Arc<Count>);

#[derive(Debug, Default)]
struct Count {
    bytes: AtomicUsize,
    more: Notify,
}

/// Small answers go out at once, and a peer that acknowledges nothing for `silence_max` is given up by the kernel.
pub(crate) fn tune(stream: &TcpStream, silence_max: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(silence_max))?;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = silence_max;
    Ok(())
}

impl<S> Socket<S> {
    pub(crate) fn new(stream: S) -> Self {
        let held = Held {
            stream,
            bytes: Vec::new(),
            sent: 0,
            unflushed: false,
            waiting: None,
            failed: None,
        };
        Self {
            held: Arc::new(Mutex::new(held)),
            heard: Heard::default(),
        }
    }

    pub(crate) fn heard(&self) -> Heard {
        self.heard.clone()
    }

    pub(crate) fn outgoing(&self) -> Outgoing<S> {
        Outgoing(Arc::clone(&self.held))
    }

    fn held(&self) -> MutexGuard<'_, Held<S>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Outgoing<S> {
    /// Whether the system has all that was written.
    pub(crate) fn is_empty(&self) -> bool {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.bytes.is_empty() && !held.unflushed
    }
}

impl<S: AsyncWrite + Unpin> Outgoing<S> {
    /// Sends all that was written; ready when the system has it, or never will: then the connection is woken to learn of it.
    pub(crate) fn poll_send(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.failed.is_none()
            && let Err(error) = ready!(held.poll_send(cx))
        {
            held.failed = Some(error.kind());
            cx.waker().wake_by_ref();
        }
        if let Some(waiting) = held.waiting.take() {
            waiting.wake();
        }
        Poll::Ready(())
    }
}

impl<S> Held<S> {
    fn sound(&self) -> io::Result<()> {
        self.failed.map_or(Ok(()), |kind| Err(kind.into()))
    }

    /// Keeps as much of `buffers` as there is room for; waits where there is none.
    fn poll_keep(&mut self, cx: &mut Context<'_>, buffers: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.sound()?;
        let before = self.bytes.len();
        if before >= HELD_BYTES_MAX {
            return self.wait(cx);
        }
        for buffer in buffers {
            let room = HELD_BYTES_MAX - self.bytes.len();
            self.bytes.extend_from_slice(&buffer[..buffer.len().min(room)]);
        }
        Poll::Ready(Ok(self.bytes.len() - before))
    }

    fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        self.waiting = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<S: AsyncWrite + Unpin> Held<S> {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.bytes.len() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.bytes[self.sent..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
            self.unflushed = true;
        }
        self.bytes.clear();
        self.bytes.shrink_to(ROOM_BYTES_MAX);
        self.sent = 0;
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl Heard {
    /// Waits until the peer has sent `bytes` bytes.
    pub(crate) async fn at_least(&self, bytes: usize) {
        loop {
            let more = self.0.more.notified();
            if self.0.bytes.load(Ordering::Acquire) >= bytes {
                return;
            }
            more.await;
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.bytes.load(Ordering::Acquire)
    }

    fn add(&self, bytes: usize) {
        // Only the first bytes are waited for; later reads must not pay for a wake-up that nobody wants.
        if self.0.bytes.fetch_add(bytes, Ordering::AcqRel) < CLIENT_HELLO_BYTES {
            self.0.more.notify_waiters();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let result = {
            let mut held = this.held();
            held.sound()?;
            Pin::new(&mut held.stream).poll_read(cx, buf)
        };
        let read = buf.filled().len() - before;
        if read > 0 {
            this.heard.add(read);
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.held().poll_keep(cx, &[io::IoSlice::new(buf)])
    }

    /// Ready at once: whoever drives the connection sends.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.held().sound())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut held = self.held();
        held.sound()?;
        if held.bytes.is_empty() && !held.unflushed {
            Pin::new(&mut held.stream).poll_shutdown(cx)
        } else {
            held.wait(cx)
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.held().poll_keep(cx, bufs)
    }
}
