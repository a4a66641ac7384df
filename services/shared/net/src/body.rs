//! Bodies that count: a call is in progress until its response has been sent or dropped to the last byte.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use crate::endpoint::CallGuard;
use crate::error::Error;

/// The body of a response that a [`Channel`](crate::Channel) got.
#[derive(Debug)]
pub struct Body {
    inner: Incoming,
    endpoint: SocketAddr,
    /// Counts the call as pending on its connection.
    guard: CallGuard,
}

impl Body {
    pub(crate) fn new(inner: Incoming, endpoint: SocketAddr, guard: CallGuard) -> Self {
        Self {
            inner,
            endpoint,
            guard,
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        polled.map(|frame| match frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.guard.read(trailers);
                    this.guard.finished();
                }
                Some(Ok(frame))
            }
            Some(Err(cause)) => {
                this.guard.broke();
                Some(Err(Error::of_call(this.endpoint, cause)))
            }
            None => {
                this.guard.finished();
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A body that keeps `G` until its end: the server's half.
pub(crate) struct Guarded<G> {
    pub(crate) inner: tonic::body::Body,
    pub(crate) _guard: G,
}

impl<G: Unpin> HttpBody for Guarded<G> {
    type Data = Bytes;
    type Error = <tonic::body::Body as HttpBody>::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.get_mut().inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
