//! What every server does around a call: request id, deadline and trace in; values or rich errors out.

use std::future::Future;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use refract_domain::{Context, Deadline, Error, RequestId, TenantId};
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status};
use tracing::{Instrument as _, Span};

use crate::client::now;
use crate::conform::Arrival;
use crate::limits::Rules;
use crate::metadata;
use crate::meter::{Seat, label};
use crate::perishable::Perishable;
use crate::status::to_status;
use crate::trace::{SharedPropagator, TraceContext};

/// How a server serves.
#[derive(Clone, Debug)]
pub struct Config {
    /// The longest deadline granted to one call, and the deadline of callers who name none. Default 2 s.
    pub deadline_cap: Duration,
    /// Taken off a caller's deadline, so that the answer "deadline exceeded" is ours and comes in time. Default 2 ms.
    pub answer_margin: Duration,
    /// Pairs of one `StreamConsult` that are consulted about at a time. Default 16.
    pub stream_pairs_max: usize,
    /// What is accepted from callers.
    pub rules: Rules,
    /// Joins a caller's trace.
    pub propagator: SharedPropagator,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            deadline_cap: Duration::from_secs(2),
            answer_margin: Duration::from_millis(2),
            stream_pairs_max: 16,
            rules: Rules::default(),
            propagator: SharedPropagator::default(),
        }
    }
}

impl Config {
    /// Reads what came beside the message.
    pub fn open<T>(&self, method: &'static str, request: Request<T>) -> Result<(Call, T), Status> {
        self.open_within(method, request, Some(self.deadline_cap))
    }

    /// The same for a stream that may last as long as its caller likes (labelling runs for hours) and its connection stands: when that
    /// has grown old, for `connection_grace` of the port, a day.
    pub fn open_unbounded<T>(&self, method: &'static str, request: Request<T>) -> Result<(Call, T), Status> {
        self.open_within(method, request, None)
    }

    fn open_within<T>(
        &self,
        method: &'static str,
        request: Request<T>,
        cap: Option<Duration>,
    ) -> Result<(Call, T), Status> {
        /// A stream without a deadline: longer than any process lives.
        const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

        let (metadata, extensions, message) = request.into_parts();
        let now = now();
        // The caller's time runs while its message is on the way.
        let arrival = extensions.get::<Arrival>().map_or(now, |arrival| arrival.0);
        // No time at all is refused before any work, since work that never waits would not notice.
        let tenant = extensions.get::<TenantId>().cloned().unwrap_or_default();
        let context = metadata::context(&metadata, tenant, arrival, cap.unwrap_or(YEAR))
            .and_then(|c| {
                if c.deadline.has_passed(now) {
                    Err(Error::DeadlineExceeded)
                } else {
                    Ok(c)
                }
            })
            .map_err(|error| {
                let request =
                    metadata::request_id(&metadata).unwrap_or_else(|_| metadata::fresh_request_id());
                to_status(&error, Some(&request))
            })?;
        let span = self.propagator.0.serve(method, &TraceContext::read(&metadata));
        if let Some(seat) = extensions.get::<Seat>() {
            seat.take(&span);
        }
        let answer_by = context.deadline.less(self.answer_margin);
        Ok((
            Call {
                context,
                answer_by,
                span,
            },
            message,
        ))
    }
}

/// One incoming call.
#[derive(Clone, Debug)]
pub struct Call {
    context: Context,
    answer_by: Deadline,
    span: Span,
}

impl Call {
    pub fn context(&self) -> &Context {
        &self.context
    }

    pub fn span(&self) -> &Span {
        &self.span
    }

    pub fn tenant(&self) -> &TenantId {
        &self.context.tenant
    }

    /// Does a part of the work in the call's span.
    pub async fn within<T>(&self, work: impl Future<Output = T> + Send) -> T {
        work.instrument(self.span.clone()).await
    }

    /// Does the work, no longer than the deadline, and dresses its outcome. When the caller goes, tonic drops this.
    pub async fn answer<T>(
        self,
        work: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<Response<T>, Status> {
        let deadline = self.answer_by.instant().into();
        let outcome = tokio::time::timeout_at(deadline, work.instrument(self.span.clone())).await;
        match outcome.unwrap_or(Err(Error::DeadlineExceeded)) {
            Ok(message) => {
                self.say(Code::Ok);
                Ok(self.dress(message))
            }
            Err(error) => Err(self.refuse(&error)),
        }
    }

    /// Sends events until the first error or the deadline. When the caller goes, tonic drops the stream; when one stays and
    /// does not read, the deadline does.
    pub fn stream<T>(
        &self,
        events: impl Stream<Item = Result<T, Error>> + Send + 'static,
    ) -> impl Stream<Item = Result<T, Status>> + Send + 'static
    where
        T: Send + 'static,
    {
        let call = self.clone();
        let deadline = self.answer_by.instant();
        let events = Perishable::until(deadline, events);
        futures_util::stream::unfold(Some(events), move |events| {
            let call = call.clone();
            let span = call.span.clone();
            let next = async move {
                let mut events = events?;
                match tokio::time::timeout_at(deadline.into(), events.next()).await {
                    Ok(Some(Ok(event))) => Some((Ok(event), Some(events))),
                    Ok(Some(Err(error))) => Some((Err(call.refuse(&error)), None)),
                    Ok(None) => {
                        call.say(Code::Ok);
                        None
                    }
                    Err(_) => Some((Err(call.refuse(&Error::DeadlineExceeded)), None)),
                }
            };
            next.instrument(span)
        })
    }

    /// A good answer, with the request id beside it.
    pub fn dress<T>(&self, message: T) -> Response<T> {
        let mut response = Response::new(message);
        self.mark(response.metadata_mut());
        response
    }

    /// A bad answer, with every detail that the contract asks for.
    pub fn refuse(&self, error: &Error) -> Status {
        let status = to_status(error, Some(&self.context.request));
        self.say(status.code());
        status
    }

    /// One line for each call, for those who turn `refract_wire=debug` on; the span has method and trace.
    fn say(&self, code: Code) {
        self.span.record("rpc.grpc.status_code", code as i32);
        self.span
            .in_scope(|| tracing::debug!(code = label(code), "answered"));
    }

    fn mark(&self, metadata: &mut MetadataMap) {
        let request: &RequestId = &self.context.request;
        metadata::insert_request_id(request, metadata);
    }
}
