//! W3C trace context as plain strings: this crate carries it and does not interpret it.

use std::fmt;
use std::sync::Arc;

use tonic::metadata::{MetadataMap, MetadataValue};
use tracing::Span;

pub const TRACEPARENT: &str = "traceparent";
pub const TRACESTATE: &str = "tracestate";

/// `00-` trace (32) `-` span (16) `-` flags (2); later versions may append.
const TRACEPARENT_BYTES_MAX: usize = 128;
/// The specification asks for at least this much to be passed on.
const TRACESTATE_BYTES_MAX: usize = 512;

/// The headers of a trace, where there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceContext {
    pub traceparent: Option<String>,
    pub tracestate: Option<String>,
}

impl TraceContext {
    /// What is too long or not text counts as absent: a trace must never fail a request.
    pub fn read(metadata: &MetadataMap) -> Self {
        let get = |name, bytes_max| {
            let value = metadata.get(name)?.to_str().ok()?;
            (!value.is_empty() && value.len() <= bytes_max).then(|| value.to_owned())
        };
        let traceparent = get(TRACEPARENT, TRACEPARENT_BYTES_MAX);
        let tracestate = traceparent
            .as_ref()
            .and_then(|_| get(TRACESTATE, TRACESTATE_BYTES_MAX));
        Self {
            traceparent,
            tracestate,
        }
    }

    pub fn write(&self, metadata: &mut MetadataMap) {
        for (name, value) in [(TRACEPARENT, &self.traceparent), (TRACESTATE, &self.tracestate)] {
            if let Some(Ok(value)) = value.as_deref().map(MetadataValue::try_from) {
                metadata.insert(name, value);
            }
        }
    }
}

/// How a process's telemetry joins the traces of its callers. Implemented where the telemetry is set up.
pub trait Propagator: Send + Sync {
    /// The trace of the current span, to be sent along.
    fn current(&self) -> TraceContext;

    /// The span in which a call is served, as a child of the caller's.
    fn serve(&self, method: &'static str, caller: &TraceContext) -> Span;
}

/// Spans without traces across processes.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPropagator;

impl Propagator for NoPropagator {
    fn current(&self) -> TraceContext {
        TraceContext::default()
    }

    fn serve(&self, method: &'static str, _: &TraceContext) -> Span {
        serving(method)
    }
}

/// The span of a call that is served, before it has a parent.
pub fn serving(method: &'static str) -> Span {
    tracing::info_span!(
        "serve",
        otel.name = method,
        otel.kind = "server",
        rpc.system = "grpc",
        rpc.method = method,
        rpc.grpc.status_code = tracing::field::Empty,
    )
}

/// A shared propagator.
#[derive(Clone)]
pub struct SharedPropagator(pub Arc<dyn Propagator>);

impl Default for SharedPropagator {
    fn default() -> Self {
        Self(Arc::new(NoPropagator))
    }
}

impl fmt::Debug for SharedPropagator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedPropagator(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_carried_as_it_is_and_nonsense_is_dropped() {
        let trace = TraceContext {
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            tracestate: Some("vendor=1".into()),
        };
        let mut metadata = MetadataMap::new();
        trace.write(&mut metadata);
        assert_eq!(TraceContext::read(&metadata), trace);

        let long = TraceContext {
            traceparent: Some("0".repeat(200)),
            tracestate: Some("a=1".into()),
        };
        let mut metadata = MetadataMap::new();
        long.write(&mut metadata);
        assert_eq!(TraceContext::read(&metadata), TraceContext::default());
    }
}
