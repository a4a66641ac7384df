//! A socket that tells how much it has heard, so that a peer which connects and says nothing is noticed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// Bytes that a client sends before anything else: the connection preface, then the header of its SETTINGS frame.
pub(crate) const CLIENT_HELLO_BYTES: usize = 24 + SERVER_HELLO_BYTES;
/// Bytes that a server sends before anything else: the header of its SETTINGS frame.
pub(crate) const SERVER_HELLO_BYTES: usize = 9;

/// Any stream of bytes, plain or secured.
#[derive(Debug)]
pub(crate) struct Socket<S> {
    stream: S,
    heard: Heard,
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
        Self {
            stream,
            heard: Heard::default(),
        }
    }

    pub(crate) fn heard(&self) -> Heard {
        self.heard.clone()
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
        let result = Pin::new(&mut this.stream).poll_read(cx, buf);
        let read = buf.filled().len() - before;
        if read > 0 {
            this.heard.add(read);
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }
}
