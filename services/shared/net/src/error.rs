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

    /// No endpoint can take the call now. The call was not sent.
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
    /// Whether the call certainly never reached a server.
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
        let reset = std::error::Error::source(&cause)
            .and_then(|source| source.downcast_ref::<h2::Error>())
            .is_some_and(h2::Error::is_reset);
        if reset {
            Self::Call { endpoint, cause }
        } else {
            Self::Lost {
                endpoint,
                cause: ConnectError(Box::new(cause)),
            }
        }
    }
}
