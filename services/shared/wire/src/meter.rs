//! Counts every call that a server answers, by method and status code, whoever answered it.
//!
//! A call's code is known when its trailers have been sent, so the meter travels with the answer's body; a caller who
//! leaves before that makes it `CANCELLED`.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use http::HeaderMap;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::{Code, Status};
use tracing::Span;

use crate::client::now;
use crate::proto::FILE_DESCRIPTOR_SET;

const CALLS: &str = "refract_wire_calls_total";
const SECONDS: &str = "refract_wire_call_seconds";

/// One call that is being answered. Dropped before its end, it counts as cancelled.
#[derive(Debug)]
pub(crate) struct Meter {
    method: Method,
    begun: Instant,
    is_open: bool,
    seat: Seat,
}

/// Travels with the request to where its span is made, so that a call's time is recorded within its trace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seat(Arc<OnceLock<Span>>);

impl Seat {
    /// The first span is the call's.
    pub(crate) fn take(&self, span: &Span) {
        let _ = self.0.set(span.clone());
    }

    /// Whether the call's handler has begun.
    pub(crate) fn is_taken(&self) -> bool {
        self.0.get().is_some()
    }
}

/// What a path names. Only names of the contract become labels: paths are the caller's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Method {
    service: &'static str,
    name: &'static str,
}

const UNKNOWN: Method = Method {
    service: "unknown",
    name: "unknown",
};

/// Served beside the contract.
const STANDARD: [(&str, &str); 4] = [
    ("grpc.health.v1.Health", "Check"),
    ("grpc.health.v1.Health", "Watch"),
    ("grpc.reflection.v1.ServerReflection", "ServerReflectionInfo"),
    ("grpc.reflection.v1alpha.ServerReflection", "ServerReflectionInfo"),
];

impl Meter {
    pub(crate) fn begin(path: &str) -> Self {
        Self {
            method: methods().get(path).copied().unwrap_or(UNKNOWN),
            begun: now(),
            is_open: true,
            seat: Seat::default(),
        }
    }

    pub(crate) fn seat(&self) -> Seat {
        self.seat.clone()
    }

    /// Reads headers or trailers; where they hold the status, the call has ended.
    pub(crate) fn read(&mut self, headers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(headers) {
            self.end(label(status.code()));
        }
    }

    /// An answer that is not gRPC, to a request that was not.
    pub(crate) fn refuse(mut self) {
        self.end("NOT_GRPC");
    }

    fn end(&mut self, code: &'static str) {
        if !std::mem::replace(&mut self.is_open, false) {
            return;
        }
        let Method { service, name } = self.method;
        metrics::counter!(CALLS, "service" => service, "method" => name, "code" => code).increment(1);
        let seconds = (now() - self.begun).as_secs_f64();
        let record = || metrics::histogram!(SECONDS, "service" => service, "method" => name).record(seconds);
        match self.seat.0.get() {
            Some(span) => span.in_scope(record),
            None => record(),
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.end(label(Code::Cancelled));
    }
}

/// Tells the installed recorder what each metric means.
pub fn describe() {
    metrics::describe_counter!(
        CALLS,
        "calls answered, by service, method and gRPC status code; CANCELLED when the caller left first"
    );
    metrics::describe_histogram!(
        SECONDS,
        metrics::Unit::Seconds,
        "from a call's headers to the end of its answer"
    );
}

/// The code as the specification writes it.
pub fn label(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// Every method there is, by its path.
fn methods() -> &'static HashMap<String, Method> {
    static METHODS: OnceLock<HashMap<String, Method>> = OnceLock::new();
    METHODS.get_or_init(|| {
        let described = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap_or_default();
        let ours = described.file.iter().flat_map(|file| {
            let package = file.package();
            file.service.iter().flat_map(move |service| {
                let full = format!("{package}.{}", service.name());
                service
                    .method
                    .iter()
                    .map(move |method| (full.clone(), method.name().to_owned()))
            })
        });
        let standard = STANDARD.map(|(service, name)| (service.to_owned(), name.to_owned()));
        ours.chain(standard)
            .map(|(service, name)| {
                let path = format!("/{service}/{name}");
                // Leaked once: a few dozen names that live as long as the process.
                let method = Method {
                    service: service.leak(),
                    name: name.leak(),
                };
                (path, method)
            })
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_contract_become_labels() {
        let known = Meter::begin("/refract.recommend.v1.RecommendService/StreamRecommend");
        assert_eq!(known.method.name, "StreamRecommend");
        assert_eq!(known.method.service, "refract.recommend.v1.RecommendService");
        assert_eq!(Meter::begin("/grpc.health.v1.Health/Check").method.name, "Check");
        for path in [
            "/refract.recommend.v1.RecommendService/Ann",
            "/a/b",
            "",
            "/refract.recommend.v1.RecommendService",
        ] {
            assert_eq!(Meter::begin(path).method, UNKNOWN, "{path}");
        }
    }

    #[test]
    fn a_call_ends_once_with_its_status() {
        let mut meter = Meter::begin("/x/Y");
        meter.read(&HeaderMap::new());
        assert!(meter.is_open, "headers without a status are not the end");
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("5"));
        meter.read(&trailers);
        assert!(!meter.is_open);
    }
}
