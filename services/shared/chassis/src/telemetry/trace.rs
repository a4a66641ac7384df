//! W3C trace context in and out, as plain strings, so that the wire needs no word of OpenTelemetry.

use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// What the headers are called.
const FIELDS: [&str; 2] = ["traceparent", "tracestate"];

/// Hands over the headers that carry the trace of `span` to the next hop; none when traces are not exported.
pub fn inject(span: &Span, set: &mut dyn FnMut(&str, &str)) {
    TraceContextPropagator::new().inject_context(&span.context(), &mut Setter(set));
}

/// Makes `span` a child of the caller's, whose headers `get` looks up by lower-case name. Call it before the span is
/// entered. Without such headers, or without export, nothing happens.
pub fn adopt(span: &Span, get: &dyn Fn(&str) -> Option<String>) {
    let values = FIELDS.map(get);
    if values[0].is_none() {
        return;
    }
    let parent = TraceContextPropagator::new().extract(&Getter(values));
    // The only failure is that no exporter is installed.
    let _not_exported = span.set_parent(parent);
}

struct Setter<'a>(&'a mut dyn FnMut(&str, &str));

impl Injector for Setter<'_> {
    fn set(&mut self, key: &str, value: String) {
        if !value.is_empty() {
            (self.0)(key, &value);
        }
    }
}

struct Getter([Option<String>; FIELDS.len()]);

impl Extractor for Getter {
    fn get(&self, key: &str) -> Option<&str> {
        let at = FIELDS.iter().position(|field| *field == key)?;
        self.0[at].as_deref()
    }

    fn keys(&self) -> Vec<&str> {
        FIELDS.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn a_trace_goes_through_this_process() {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
            let span = tracing::info_span!("serve");
            adopt(&span, &|name| (name == "traceparent").then(|| caller.to_owned()));
            let mut sent = Vec::new();
            inject(&span, &mut |name, value| {
                sent.push((name.to_owned(), value.to_owned()))
            });
            let (_, parent) = sent
                .iter()
                .find(|(name, _)| name == "traceparent")
                .expect("a traceparent");
            assert!(
                parent.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && parent.ends_with("-01"),
                "{parent}"
            );
            assert_ne!(parent, caller, "the next hop's parent is this span");
        });
    }

    #[test]
    fn without_export_nothing_is_sent() {
        let span = tracing::info_span!("serve");
        adopt(&span, &|_| {
            Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned())
        });
        inject(&span, &mut |name, value| panic!("sent {name}: {value}"));
    }
}
