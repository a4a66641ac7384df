//! Makes a gRPC server keep the error contract even where no handler of ours was reached.
//!
//! A stock server accepts HTTP that is not gRPC, ignores a malformed deadline, and answers undecodable or oversized
//! messages with statuses of its own that quote the input. In front of it, this layer refuses the former and rewrites
//! the latter: constant messages, `ErrorInfo`, the request id.
//!
//! Nor does it bound how long a message may be on its way. A call's time runs from its headers here ([`Arrival`]): one
//! whose message has not come whole by its deadline is answered without it.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use refract_domain::{Error, RequestId};
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status, TimeoutExpired};
use tower::{Layer, Service};

use crate::client::now;
use crate::meter::{Meter, Seat};
use crate::status::{protocol_status, to_status};
use crate::{metadata, server};

const DETAILS: &str = "grpc-status-details-bin";
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";

/// Wraps a server's routes in [`Conform`].
#[derive(Clone, Copy, Debug)]
pub struct ConformLayer {
    deadline_cap: Duration,
}

impl ConformLayer {
    /// `deadline_cap` is that of the server behind it ([`server::Config`]).
    pub fn granting(deadline_cap: Duration) -> Self {
        Self { deadline_cap }
    }
}

impl Default for ConformLayer {
    fn default() -> Self {
        Self::granting(server::Config::default().deadline_cap)
    }
}

impl<S> Layer<S> for ConformLayer {
    type Service = Conform<S>;

    fn layer(&self, inner: S) -> Conform<S> {
        Conform {
            inner,
            deadline_cap: self.deadline_cap,
        }
    }
}

/// A gRPC server that keeps the error contract.
#[derive(Clone, Debug)]
pub struct Conform<S> {
    inner: S,
    deadline_cap: Duration,
}

/// When a call's headers came. In the extensions of its request; its deadline counts from here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival(pub(crate) Instant);

impl<S, B> Service<Request<B>> for Conform<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let arrival = now();
        let mut meter = Meter::begin(request.uri().path());
        let (id, timeout) = match admit(&mut request) {
            Ok(admitted) => admitted,
            Err(refusal) => {
                meter.read(refusal.headers());
                meter.refuse();
                return Box::pin(std::future::ready(Ok(*refusal)));
            }
        };
        let seat = meter.seat();
        request.extensions_mut().insert(seat.clone());
        request.extensions_mut().insert(Arrival(arrival));
        let read_by = arrival + timeout.map_or(self.deadline_cap, |asked| asked.min(self.deadline_cap));
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = match unless_unread(answer, &seat, read_by).await {
                Some(answer) => answer?,
                None => to_status(&Error::DeadlineExceeded, Some(&id)).into_http(),
            };
            Ok(conform(answer, id, meter))
        })
    }
}

/// The answer; nothing if its handler has not begun by then, which is because the message has not come. A stream's handler
/// begins without one: how long streams may last is its own affair.
async fn unless_unread<T>(answer: impl Future<Output = T>, seat: &Seat, read_by: Instant) -> Option<T> {
    let mut answer = pin!(answer);
    let mut late = pin!(tokio::time::sleep_until(read_by.into()));
    poll_fn(|cx| {
        if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
            return Poll::Ready(Some(answer));
        }
        if seat.is_taken() {
            return Poll::Pending;
        }
        late.as_mut().poll(cx).map(|()| None)
    })
    .await
}

/// The request's id, written into the request where it had none, and the time its caller gives it; or the answer to what is not a
/// sound gRPC request.
fn admit<B>(request: &mut Request<B>) -> Result<(RequestId, Option<Duration>), Box<Response<Body>>> {
    if request.method() != Method::POST {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED);
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("POST"));
        return Err(Box::new(response));
    }
    if !request.headers().get(CONTENT_TYPE).is_some_and(is_grpc) {
        return Err(Box::new(plain(StatusCode::UNSUPPORTED_MEDIA_TYPE)));
    }
    let metadata = MetadataMap::from_headers(std::mem::take(request.headers_mut()));
    let id = metadata::request_id(&metadata);
    let sound = id
        .clone()
        .and_then(|id| metadata::timeout(&metadata).map(|timeout| (id, timeout)));
    let mut metadata = metadata;
    match sound {
        Ok((id, timeout)) => {
            metadata::insert_request_id(&id, &mut metadata);
            *request.headers_mut() = metadata.into_headers();
            Ok((id, timeout))
        }
        Err(error) => {
            let id = id.unwrap_or_else(|_| metadata::fresh_request_id());
            Err(Box::new(to_status(&error, Some(&id)).into_http()))
        }
    }
}

/// `application/grpc`, alone or with a suffix or parameters.
fn is_grpc(content_type: &HeaderValue) -> bool {
    let rest = content_type.as_bytes().strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

fn plain(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn conform(response: Response<Body>, id: RequestId, mut meter: Meter) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    rewrite(&mut head.headers, &id);
    meter.read(&head.headers);
    if !head.headers.contains_key(metadata::REQUEST_ID)
        && let Ok(value) = HeaderValue::try_from(&id.0)
    {
        head.headers.insert(metadata::REQUEST_ID, value);
    }
    if body.is_end_stream() {
        return Response::from_parts(head, body);
    }
    Response::from_parts(head, Body::new(Trailing { body, id, meter }))
}

/// Replaces a bad status that has no details of its own.
fn rewrite(headers: &mut HeaderMap, id: &RequestId) {
    if headers.contains_key(DETAILS) {
        return;
    }
    let Some(status) = Status::from_header_map(headers).filter(|status| status.code() != Code::Ok) else {
        return;
    };
    // A value that cannot be a header is impossible here: constants and our own id.
    let _ = contract(&status, headers.contains_key(ACCEPT_ENCODING), id).add_header(headers);
}

/// What a stock status is called in the contract. Its message is read, never repeated.
fn contract(status: &Status, lists_encodings: bool, id: &RequestId) -> Status {
    let stock = status.message();
    let (code, reason, message) = match status.code() {
        Code::Unimplemented if lists_encodings => (
            Code::Unimplemented,
            "UNSUPPORTED_ENCODING",
            "unsupported encoding",
        ),
        Code::Unimplemented => (Code::Unimplemented, "UNKNOWN_METHOD", "unknown method"),
        Code::OutOfRange | Code::ResourceExhausted => {
            (Code::ResourceExhausted, "TOO_LARGE", "message too large")
        }
        Code::Internal => (Code::Internal, "BAD_WIRE", bad_wire(stock)),
        Code::Cancelled if stock == TimeoutExpired(()).to_string() => {
            return to_status(&Error::DeadlineExceeded, Some(id));
        }
        Code::Cancelled => return to_status(&Error::Cancelled, Some(id)),
        Code::DeadlineExceeded => return to_status(&Error::DeadlineExceeded, Some(id)),
        Code::InvalidArgument => (Code::InvalidArgument, "INVALID", "invalid request"),
        Code::NotFound => (Code::NotFound, "NOT_FOUND", "not found"),
        Code::FailedPrecondition => (Code::FailedPrecondition, "PRECONDITION", "precondition failed"),
        Code::Unauthenticated => (Code::Unauthenticated, "NO_CREDENTIAL", "credential required"),
        Code::PermissionDenied => (Code::PermissionDenied, "NOT_ALLOWED", "not allowed"),
        Code::Unavailable => (Code::Unavailable, "UNREACHABLE", "replica unreachable"),
        Code::Ok | Code::Unknown | Code::AlreadyExists | Code::Aborted | Code::DataLoss => {
            (Code::Internal, "INTERNAL", "internal error")
        }
    };
    protocol_status(code, reason, message, Some(id))
}

/// tonic's own words for what is wrong with the bytes (0.14).
fn bad_wire(stock: &str) -> &'static str {
    let known = [
        ("Missing request message", "missing request message"),
        ("Unexpected EOF", "truncated message"),
        ("invalid compression flag", "invalid compression flag"),
        ("no grpc-encoding", "compressed without encoding"),
        ("Error decompressing", "cannot decompress"),
    ];
    known
        .iter()
        .find(|(says, _)| stock.contains(says))
        .map_or("cannot decode request", |(_, message)| message)
}

/// A body whose trailers keep the contract, too: an answer too large to encode is found only there.
struct Trailing {
    body: Body,
    id: RequestId,
    meter: Meter,
}

impl HttpBody for Trailing {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        Pin::new(&mut this.body).poll_frame(cx).map(|frame| {
            frame.map(|frame| {
                frame.map(|mut frame| {
                    if let Some(trailers) = frame.trailers_mut() {
                        rewrite(trailers, &this.id);
                        this.meter.read(trailers);
                    }
                    frame
                })
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
