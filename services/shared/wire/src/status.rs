//! The only place where gRPC codes exist: `domain::Error` ⇄ `tonic::Status`.
//!
//! ```text
//!  Invalid            INVALID_ARGUMENT     FIELD_INVALID          BadRequest
//!  NotFound           NOT_FOUND            USER_NOT_FOUND, …      ResourceInfo
//!  Precondition       FAILED_PRECONDITION  PRECONDITION           PreconditionFailure
//!  Overloaded         RESOURCE_EXHAUSTED   OVERLOADED, QUOTA      RetryInfo, pushback −1
//!  Unavailable        UNAVAILABLE          REPLICA_BUSY, …        RetryInfo 0, pushback 0
//!  Infeasible         RESOURCE_EXHAUSTED   DEADLINE_INFEASIBLE    pushback −1
//!  DeadlineExceeded   DEADLINE_EXCEEDED    DEADLINE
//!  Cancelled          CANCELLED            CANCELLED
//!  ModelFault         INTERNAL             MODEL_FAULT
//!  Internal           INTERNAL             INTERNAL
//! ```
//!
//! Every status carries `ErrorInfo` (and `RequestInfo` where the request is known). UNAVAILABLE means "this replica, try
//! another now"; RESOURCE_EXHAUSTED means "everybody is busy, or you are: wait". The pushback speaks to transports: −1
//! forbids a retry by the transport itself, 0 allows one elsewhere at once; `RetryInfo` speaks to the caller.
//! Messages are constants of ours plus, at most, the path of a field.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::time::Duration;

use prost::Message as _;
use refract_domain::{Error, RequestId, Resource, UnavailableReason};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status, TimeoutExpired};
use tonic_types::{ErrorDetails, StatusExt as _, pb};

use crate::metadata;

/// The `domain` of every `ErrorInfo` of ours.
pub const ERROR_DOMAIN: &str = "refract";

/// gRFC A6: when a transport may retry; negative means never.
pub const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// Waited for when a peer says "overloaded" and not until when.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);

/// Longest field path and reason that are passed on.
const FIELD_BYTES_MAX: usize = 200;
const REASON_BYTES_MAX: usize = 300;

/// The `ErrorInfo.reason` of an error; also a good metric label, since the set is closed.
pub fn reason(error: &Error) -> &'static str {
    match error {
        Error::Invalid { .. } => "FIELD_INVALID",
        Error::NotFound {
            resource: Resource::User,
            ..
        } => "USER_NOT_FOUND",
        Error::NotFound {
            resource: Resource::Item,
            ..
        } => "ITEM_NOT_FOUND",
        Error::NotFound {
            resource: Resource::Bundle,
            ..
        } => "BUNDLE_NOT_FOUND",
        Error::Precondition { .. } => "PRECONDITION",
        Error::Overloaded { .. } => "OVERLOADED",
        Error::Unavailable {
            reason: UnavailableReason::Busy,
        } => "REPLICA_BUSY",
        Error::Unavailable {
            reason: UnavailableReason::Starting,
        } => "STARTING",
        Error::Unavailable {
            reason: UnavailableReason::Draining,
        } => "DRAINING",
        Error::Unavailable {
            reason: UnavailableReason::Unreachable,
        } => "UNREACHABLE",
        Error::Infeasible => "DEADLINE_INFEASIBLE",
        Error::DeadlineExceeded => "DEADLINE",
        Error::Cancelled => "CANCELLED",
        Error::ModelFault => "MODEL_FAULT",
        Error::Internal => "INTERNAL",
    }
}

/// Whether an answer that ends with these headers speaks against the replica that gave it; nothing where no call ends.
///
/// Faults are the replica's own. Busy, starting and draining replicas say so, with a pushback, and are no worse than
/// the others; time that ran out may be anybody's.
pub fn is_replica_at_fault(headers: &http::HeaderMap) -> Option<bool> {
    let status = Status::from_header_map(headers)?;
    Some(match status.code() {
        Code::Internal | Code::Unknown | Code::DataLoss | Code::Unimplemented => true,
        Code::Unavailable => !headers.contains_key(PUSHBACK),
        _ => false,
    })
}

/// What goes out on the wire for an error.
pub fn to_status(error: &Error, request: Option<&RequestId>) -> Status {
    let mut details = ErrorDetails::new();
    let mut info = HashMap::new();
    let mut pushback_ms = None;

    let (code, message) = match error {
        Error::Invalid { field, reason } => {
            let field = field_path(field);
            info.insert("field".to_owned(), field.to_owned());
            details.add_bad_request_violation(field, clip(reason, REASON_BYTES_MAX));
            let message = match field {
                metadata::TIMEOUT => "malformed deadline".to_owned(),
                field => format!("invalid field: {field}"),
            };
            (Code::InvalidArgument, message)
        }
        Error::NotFound { resource, field } => {
            let (kind, message) = match resource {
                Resource::User => ("refract.User", "user not found"),
                Resource::Item => ("refract.Item", "item not found"),
                Resource::Bundle => ("refract.Bundle", "bundle not found"),
            };
            // The place in the request instead of a name: ids of people are not echoed.
            let field = field_path(field);
            info.insert("field".to_owned(), field.to_owned());
            details.set_resource_info(kind, field, "", message);
            (Code::NotFound, message.to_owned())
        }
        Error::Precondition { reason } => {
            let reason = clip(reason, REASON_BYTES_MAX);
            info.insert("reason".to_owned(), reason.to_owned());
            details.add_precondition_failure_violation("DEPLOYMENT", "", reason);
            (Code::FailedPrecondition, "precondition failed".to_owned())
        }
        Error::Overloaded { retry_after } => {
            details.set_retry_info(Some(*retry_after));
            pushback_ms = Some(-1);
            (Code::ResourceExhausted, "overloaded".to_owned())
        }
        Error::Unavailable { reason } => {
            details.set_retry_info(Some(Duration::ZERO));
            pushback_ms = Some(0);
            let message = match reason {
                UnavailableReason::Busy => "replica busy",
                UnavailableReason::Starting => "replica starting",
                UnavailableReason::Draining => "replica draining",
                UnavailableReason::Unreachable => "replica unreachable",
            };
            (Code::Unavailable, message.to_owned())
        }
        Error::Infeasible => {
            pushback_ms = Some(-1);
            (
                Code::ResourceExhausted,
                "cannot finish before the deadline".to_owned(),
            )
        }
        Error::DeadlineExceeded => (Code::DeadlineExceeded, "deadline exceeded".to_owned()),
        Error::Cancelled => (Code::Cancelled, "cancelled".to_owned()),
        Error::ModelFault => (Code::Internal, "model fault".to_owned()),
        Error::Internal => (Code::Internal, "internal error".to_owned()),
    };

    details.set_error_info(reason(error), ERROR_DOMAIN, info);
    assemble(code, message, details, pushback_ms, request)
}

/// A fault of the conversation itself, found before any of our words were understood (reliability contract: bad wire,
/// too large, unknown method). `reason` is a constant.
pub(crate) fn protocol_status(
    code: Code,
    reason: &'static str,
    message: &'static str,
    request: Option<&RequestId>,
) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, ERROR_DOMAIN, HashMap::new());
    let pushback_ms = (code == Code::ResourceExhausted).then_some(-1);
    assemble(code, message.to_owned(), details, pushback_ms, request)
}

/// A tenant has called more than it may.
pub(crate) fn quota_status(retry_after: Duration, request: Option<&RequestId>) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info("QUOTA", ERROR_DOMAIN, HashMap::new());
    details.set_retry_info(Some(retry_after));
    assemble(
        Code::ResourceExhausted,
        "quota exceeded".to_owned(),
        details,
        Some(-1),
        request,
    )
}

fn assemble(
    code: Code,
    message: String,
    mut details: ErrorDetails,
    pushback_ms: Option<i64>,
    request: Option<&RequestId>,
) -> Status {
    let mut metadata = MetadataMap::new();
    if let Some(ms) = pushback_ms {
        metadata.insert(PUSHBACK, MetadataValue::from(ms));
    }
    if let Some(request) = request {
        details.set_request_info(request.0.clone(), "");
        metadata::insert_request_id(request, &mut metadata);
    }
    Status::with_error_details_and_metadata(code, message, details, metadata)
}

/// What a caller makes of a status: ours come back as they were; foreign ones as what they mean to a caller.
pub fn from_status(status: &Status) -> Error {
    if let Some(error) = from_transport(status) {
        return error;
    }
    let details = status.get_error_details();
    let ours = details.error_info().filter(|info| info.domain == ERROR_DOMAIN);
    if let Some(error) = ours.and_then(|info| from_reason(&info.reason, &info.metadata, &details)) {
        return error;
    }
    match status.code() {
        Code::Cancelled if status.message() == TimeoutExpired(()).to_string() => Error::DeadlineExceeded,
        Code::Cancelled => Error::Cancelled,
        Code::DeadlineExceeded => Error::DeadlineExceeded,
        Code::InvalidArgument => {
            let field = details
                .bad_request()
                .and_then(|b| b.field_violations.first())
                .map(|v| field_path(&v.field));
            Error::invalid(field.unwrap_or("request"), "refused by the peer")
        }
        // Stock servers say OUT_OF_RANGE for a message over their size limit.
        Code::OutOfRange => Error::invalid("request", "the message is too large"),
        Code::NotFound => {
            let resource = match details.resource_info().map(|r| r.resource_type.as_str()) {
                Some("refract.User") => Resource::User,
                Some("refract.Bundle") => Resource::Bundle,
                _ => Resource::Item,
            };
            Error::NotFound {
                resource,
                field: "request".to_owned(),
            }
        }
        Code::FailedPrecondition => precondition("refused by the peer"),
        Code::Unimplemented => precondition("the peer does not implement this call"),
        Code::Unauthenticated => precondition("the peer does not know us"),
        Code::PermissionDenied => precondition("the peer does not allow this call"),
        Code::ResourceExhausted => Error::Overloaded {
            retry_after: retry_after(&details),
        },
        Code::Unavailable => Error::Unavailable {
            reason: UnavailableReason::Unreachable,
        },
        Code::Ok | Code::Unknown | Code::AlreadyExists | Code::Aborted | Code::Internal | Code::DataLoss => {
            Error::Internal
        }
    }
}

/// The same, inside a message of a stream that goes on.
pub fn to_rpc(error: &Error, request: Option<&RequestId>) -> pb::Status {
    let status = to_status(error, request);
    pb::Status::decode(status.details()).unwrap_or_else(|_| pb::Status {
        code: status.code() as i32,
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}

pub fn from_rpc(status: &pb::Status) -> Error {
    let code = Code::from_i32(status.code);
    from_status(&Status::with_details(
        code,
        status.message.clone(),
        status.encode_to_vec().into(),
    ))
}

/// A status with a cause was made on this side of the connection: no peer said it.
fn from_transport(status: &Status) -> Option<Error> {
    let mut cause: Option<&(dyn StdError + 'static)> = status.source();
    cause?;
    while let Some(error) = cause {
        if error.is::<TimeoutExpired>() {
            return Some(Error::DeadlineExceeded);
        }
        cause = error.source();
    }
    match status.code() {
        // An HTTP/2 peer that says "calm down".
        Code::ResourceExhausted => Some(Error::Overloaded {
            retry_after: RETRY_AFTER_DEFAULT,
        }),
        _ => Some(Error::Unavailable {
            reason: UnavailableReason::Unreachable,
        }),
    }
}

fn from_reason(reason: &str, info: &HashMap<String, String>, details: &ErrorDetails) -> Option<Error> {
    let field = || field_path(info.get("field").map_or("", String::as_str)).to_owned();
    let unavailable = |reason| Error::Unavailable { reason };
    Some(match reason {
        "FIELD_INVALID" => {
            let violation = details.bad_request().and_then(|b| b.field_violations.first());
            Error::invalid(
                field(),
                violation.map_or("", |v| clip(&v.description, REASON_BYTES_MAX)),
            )
        }
        "USER_NOT_FOUND" => Error::NotFound {
            resource: Resource::User,
            field: field(),
        },
        "ITEM_NOT_FOUND" => Error::NotFound {
            resource: Resource::Item,
            field: field(),
        },
        "BUNDLE_NOT_FOUND" => Error::NotFound {
            resource: Resource::Bundle,
            field: field(),
        },
        "PRECONDITION" => precondition(clip(
            info.get("reason").map_or("", String::as_str),
            REASON_BYTES_MAX,
        )),
        "OVERLOADED" | "QUOTA" => Error::Overloaded {
            retry_after: retry_after(details),
        },
        "REPLICA_BUSY" => unavailable(UnavailableReason::Busy),
        "STARTING" => unavailable(UnavailableReason::Starting),
        "DRAINING" => unavailable(UnavailableReason::Draining),
        "UNREACHABLE" => unavailable(UnavailableReason::Unreachable),
        "DEADLINE_INFEASIBLE" => Error::Infeasible,
        "DEADLINE" => Error::DeadlineExceeded,
        "CANCELLED" => Error::Cancelled,
        "MODEL_FAULT" => Error::ModelFault,
        "INTERNAL" | "BAD_WIRE" => Error::Internal,
        "TOO_LARGE" => Error::invalid("request", "the message is too large"),
        _ => return None,
    })
}

fn retry_after(details: &ErrorDetails) -> Duration {
    details
        .retry_info()
        .and_then(|r| r.retry_delay)
        .unwrap_or(RETRY_AFTER_DEFAULT)
}

fn precondition(reason: &str) -> Error {
    Error::Precondition {
        reason: reason.to_owned(),
    }
}

/// A path made of our own field names and of numbers; anything else is not passed on, because it might be a caller's text.
fn field_path(field: &str) -> &str {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '[' | ']');
    if !field.is_empty() && field.len() <= FIELD_BYTES_MAX && field.chars().all(fine) {
        field
    } else {
        "request"
    }
}

fn clip(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let end = (0..=bytes_max)
        .rev()
        .find(|&i| text.is_char_boundary(i))
        .unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests;
