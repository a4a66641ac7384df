//! What can go wrong with a connection, in a form that gRPC clients read as UNAVAILABLE where another try may help.

use std::io;
use std::net::SocketAddr;

use tonic::ConnectError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address}: {source}")]
    Bind { address: String, source: io::Error },

    #[error(
        "{text:?} is not a target: {reason}; write host:port, a comma-separated list of them, or dns:host:port"
    )]
    Target { text: String, reason: &'static str },

    #[error("{file}: {reason}")]
    Tls { file: String, reason: String },

    /// No endpoint can take the call now. The call was not sent, or the server said that it never looked at it.
    #[error("no connection to {target}: {cause}")]
    NotReady {
        target: String,
        #[source]
        cause: ConnectError,
    },

    /// The connection broke while the call was under way; the server may have seen it.
    #[error("connection to {endpoint} lost")]
    Lost {
        endpoint: SocketAddr,
        #[source]
        cause: ConnectError,
    },

    /// The server or this client broke the protocol, or reset the stream with a reason of its own.
    #[error("call to {endpoint} failed")]
    Call {
        endpoint: SocketAddr,
        #[source]
        cause: hyper::Error,
    },
}

impl Error {
    /// Whether certainly no server has begun the call.
    pub fn is_unsent(&self) -> bool {
        matches!(self, Self::NotReady { .. })
    }

    pub(crate) fn tls(file: &std::path::Path, reason: impl std::fmt::Display) -> Self {
        Self::Tls {
            file: file.display().to_string(),
            reason: reason.to_string(),
        }
    }

    pub(crate) fn not_ready(
        target: &str,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::NotReady {
            target: target.to_owned(),
            cause: ConnectError(cause.into()),
        }
    }

    /// Sorts what hyper says: a broken connection is worth another try elsewhere, a reset stream speaks for itself.
    pub(crate) fn of_call(endpoint: SocketAddr, cause: hyper::Error) -> Self {
        if of_h2(&cause).is_some_and(h2::Error::is_reset) {
            Self::Call { endpoint, cause }
        } else {
            Self::Lost {
                endpoint,
                cause: ConnectError(Box::new(cause)),
            }
        }
    }
}

/// How we know of a call without an answer that the server never looked at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unbegun {
    /// The connection takes no more calls, and this one came too late.
    Going,
    /// This call alone was refused; the connection stands.
    Refused,
}

impl Unbegun {
    /// What the server says in its own frames (RFC 9113, 6.8 and 8.7). A GOAWAY with a fault is none of it: perhaps the call was the fault.
    pub(crate) fn of(cause: &hyper::Error) -> Option<Self> {
        let said = of_h2(cause).filter(|said| said.is_remote())?;
        // h2 fails a call with a GOAWAY only when it came after the last that the server will look at.
        if said.is_go_away() && said.reason() == Some(h2::Reason::NO_ERROR) {
            Some(Self::Going)
        } else if said.is_reset() && said.reason() == Some(h2::Reason::REFUSED_STREAM) {
            Some(Self::Refused)
        } else {
            None
        }
    }
}

fn of_h2(cause: &hyper::Error) -> Option<&h2::Error> {
    std::error::Error::source(cause)?.downcast_ref()
}
