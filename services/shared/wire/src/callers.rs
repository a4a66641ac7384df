//! Whose request it is: asked before anything of it is read, answered by whoever knows the credentials.
//!
//! The tenant comes from the credential alone and travels in the request's extensions to [`crate::server`]; nothing in a
//! message can change it. Health is asked by those who know no credential and tells nothing.

use std::fmt;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use http::{Extensions, HeaderMap, Request, Response};
use refract_domain::TenantId;
use tonic::Code;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::metadata;
use crate::status::{protocol_status, quota_status};

const HEALTH: &str = "/grpc.health.v1.Health/";

/// Why a caller is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It shows none.
    NoCredential,
    /// It shows one that nobody knows, or something that is none.
    BadToken,
    /// It was good once.
    Expired,
    /// It is who it says, and may not call here.
    NotAllowed,
    /// Its tenant has called more than it may; after so long there is room for one call more.
    Quota { retry_after: Duration },
}

/// Knows the credentials.
pub trait Callers: Send + Sync {
    /// `extensions` hold what the transport has verified.
    fn admit(&self, headers: &HeaderMap, extensions: &Extensions) -> Result<TenantId, Refusal>;
}

/// Asks [`Callers`] about each request.
#[derive(Clone)]
pub struct CallersLayer(pub Arc<dyn Callers>);

/// A server behind [`CallersLayer`].
#[derive(Clone)]
pub struct Admitted<S> {
    inner: S,
    callers: Arc<dyn Callers>,
}

impl<S> Layer<S> for CallersLayer {
    type Service = Admitted<S>;

    fn layer(&self, inner: S) -> Admitted<S> {
        Admitted {
            inner,
            callers: Arc::clone(&self.0),
        }
    }
}

impl<S, B> Service<Request<B>> for Admitted<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if request.uri().path().starts_with(HEALTH) {
            return Box::pin(self.inner.call(request));
        }
        match self.callers.admit(request.headers(), request.extensions()) {
            Ok(tenant) => {
                request.extensions_mut().insert(tenant);
                Box::pin(self.inner.call(request))
            }
            Err(refusal) => Box::pin(ready(Ok(refuse(refusal, request.headers())))),
        }
    }
}

fn refuse(refusal: Refusal, headers: &HeaderMap) -> Response<Body> {
    let metadata = tonic::metadata::MetadataMap::from_headers(headers.clone());
    let id = metadata::request_id(&metadata).ok();
    let (code, reason, message) = match refusal {
        Refusal::NoCredential => (Code::Unauthenticated, "NO_CREDENTIAL", "credential required"),
        Refusal::BadToken => (Code::Unauthenticated, "BAD_TOKEN", "invalid credential"),
        Refusal::Expired => (Code::Unauthenticated, "EXPIRED", "credential expired"),
        Refusal::NotAllowed => (Code::PermissionDenied, "NOT_ALLOWED", "not allowed"),
        Refusal::Quota { retry_after } => return quota_status(retry_after, id.as_ref()).into_http(),
    };
    protocol_status(code, reason, message, id.as_ref()).into_http()
}

impl fmt::Debug for CallersLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallersLayer(…)")
    }
}

impl<S> fmt::Debug for Admitted<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Admitted(…)")
    }
}
