//! Whatever carries HTTP/2 requests, without its type: callers of a client never see which one it is.

use std::fmt;
use std::task::{self, Poll};

use bytes::Bytes;
use tonic::body::Body;
use tower::Service;
use tower::util::{BoxCloneSyncService, ServiceExt as _};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A connection, a pool of them, or a server in the same process. Cheap to clone.
#[derive(Clone)]
pub struct Transport(BoxCloneSyncService<http::Request<Body>, http::Response<Body>, BoxError>);

impl Transport {
    pub fn new<S, B>(service: S) -> Self
    where
        S: Service<http::Request<Body>, Response = http::Response<B>> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError> + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let service = service.map_response(|response: http::Response<B>| response.map(Body::new));
        Self(BoxCloneSyncService::new(service.map_err(Into::into)))
    }
}

impl Service<http::Request<Body>> for Transport {
    type Response = http::Response<Body>;
    type Error = BoxError;
    type Future = <BoxCloneSyncService<http::Request<Body>, http::Response<Body>, BoxError> as Service<
        http::Request<Body>,
    >>::Future;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.0.call(request)
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport(…)")
    }
}
