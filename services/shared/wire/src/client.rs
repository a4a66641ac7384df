//! What every client does around a call: deadline, request id and trace out; errors and checked values in.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use refract_domain::{Context, Error, Item, OfItems, Recent};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Request, Response, Status};
use tracing::{Instrument as _, Span, field, info_span};

use crate::convert::{history, item};
use crate::encoded::History;
use crate::limits::Rules;
use crate::metadata;
use crate::status::from_status;
use crate::trace::SharedPropagator;

/// How a client calls.
#[derive(Clone, Debug)]
pub struct Config {
    /// Taken off the deadline at each hop, for the way back. Default 5 ms.
    pub hop_margin: Duration,
    /// What is accepted from the peer.
    pub rules: Rules,
    /// Joins the peer's trace to ours.
    pub propagator: SharedPropagator,
    /// Sent as `authorization: Bearer …`.
    pub token: Option<Token>,
    /// Clones share it.
    pub sent: Arc<Sent>,
}

/// What was encoded before: a slate sends one history for each of its items, and other histories hold the same items.
#[derive(Debug)]
pub struct Sent {
    histories: Recent<History>,
    items: OfItems<Bytes>,
}

impl Sent {
    /// A busy process serves a few dozen slates at once.
    const HISTORIES_MAX: usize = 64;
    /// Half a kilobyte each where items are films; as much as they are long otherwise.
    const ITEMS_MAX: usize = 1 << 14;
}

impl Default for Sent {
    fn default() -> Self {
        Self {
            histories: Recent::holding(Self::HISTORIES_MAX),
            items: OfItems::holding(Self::ITEMS_MAX),
        }
    }
}

/// A caller's credential: sent, never shown.
#[derive(Clone)]
pub struct Token(MetadataValue<Ascii>);

impl Default for Config {
    fn default() -> Self {
        Self {
            hop_margin: Duration::from_millis(5),
            rules: Rules::default(),
            propagator: SharedPropagator::default(),
            token: None,
            sent: Arc::default(),
        }
    }
}

/// One outgoing call, and its span: it ends with the answer's last message.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    deadline: Instant,
    span: Span,
}

impl Token {
    /// `None` for what cannot be a header: empty, or not visible ASCII.
    pub fn new(token: &str) -> Option<Self> {
        let sound = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        let mut value = MetadataValue::try_from(format!("Bearer {token}"))
            .ok()
            .filter(|_| sound)?;
        value.set_sensitive(true);
        Some(Self(value))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Config {
    pub(crate) fn history(&self, history: &Arc<refract_domain::History>) -> History {
        let of_item = |item: &Arc<Item>| self.sent.items.of(item, item::encoded);
        self.sent
            .histories
            .of(history, |history| history::to_proto(history, of_item))
    }

    /// Dresses a message for the network, or says that there is no time left for it.
    pub(crate) fn request<T>(
        &self,
        method: &'static str,
        message: T,
        context: &Context,
    ) -> Result<(Call, Request<T>), Error> {
        let span = info_span!(
            "call",
            otel.name = method,
            otel.kind = "client",
            rpc.system = "grpc",
            rpc.method = method,
            rpc.grpc.status_code = field::Empty,
        );
        let mut request = Request::new(message);
        let trace = span.in_scope(|| self.propagator.0.current());
        metadata::outgoing(context, now(), self.hop_margin, &trace, request.metadata_mut())?;
        if let Some(Token(token)) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok((
            Call {
                deadline: context.deadline.instant(),
                span,
            },
            request,
        ))
    }
}

impl Call {
    /// Waits for the answer, no longer than the deadline. Dropping this cancels the call.
    pub(crate) async fn answer<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Error> {
        let call = call.instrument(self.span.clone());
        match tokio::time::timeout_at(self.deadline.into(), call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.failed(&status)),
            Err(_) => Err(Error::DeadlineExceeded),
        }
    }

    fn failed(&self, status: &Status) -> Error {
        self.span.record("rpc.grpc.status_code", status.code() as i32);
        from_status(status)
    }

    /// The messages of a stream until the deadline, then one error. Dropping the stream cancels the call.
    pub(crate) fn messages<T>(
        self,
        stream: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> impl Stream<Item = Result<T, Error>> + Send + 'static
    where
        T: Send + 'static,
    {
        let deadline = self.deadline.into();
        futures_util::stream::unfold(Some((Box::pin(stream), self)), move |state| async move {
            let (mut stream, call) = state?;
            match tokio::time::timeout_at(deadline, stream.next()).await {
                Ok(Some(Ok(message))) => Some((Ok(message), Some((stream, call)))),
                Ok(Some(Err(status))) => Some((Err(call.failed(&status)), None)),
                Ok(None) => None,
                Err(_) => Some((Err(Error::DeadlineExceeded), None)),
            }
        })
    }
}

/// A peer that answers nonsense is a fault of the deployment, not of the caller's request: the path goes to the log.
pub(crate) fn checked<T>(peer: &'static str, answer: Result<T, Error>) -> Result<T, Error> {
    answer.map_err(|error| match error {
        Error::Invalid { field, reason } => {
            tracing::warn!(peer, field, reason, "the peer's answer was refused");
            Error::Internal
        }
        other => other,
    })
}

pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
