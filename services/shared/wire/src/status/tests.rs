//! Every error, its code, its details, and the way back.

use super::*;

fn id() -> RequestId {
    RequestId("r-1".into())
}

/// Every variant, with the code and reason that the contract gives it.
fn every_error() -> Vec<(Error, Code, &'static str)> {
    use Error as E;
    use UnavailableReason as U;
    vec![
        (
            E::invalid("history.interactions[3].item.title", "is empty"),
            Code::InvalidArgument,
            "FIELD_INVALID",
        ),
        (
            E::NotFound {
                resource: Resource::User,
                field: "subject.user_id".into(),
            },
            Code::NotFound,
            "USER_NOT_FOUND",
        ),
        (
            E::NotFound {
                resource: Resource::Item,
                field: "items[0].id".into(),
            },
            Code::NotFound,
            "ITEM_NOT_FOUND",
        ),
        (
            E::NotFound {
                resource: Resource::Bundle,
                field: "bundle".into(),
            },
            Code::NotFound,
            "BUNDLE_NOT_FOUND",
        ),
        (
            E::Precondition {
                reason: "no Oracle here".into(),
            },
            Code::FailedPrecondition,
            "PRECONDITION",
        ),
        (
            E::Overloaded {
                retry_after: Duration::from_micros(250_500),
            },
            Code::ResourceExhausted,
            "OVERLOADED",
        ),
        (
            E::Unavailable { reason: U::Busy },
            Code::Unavailable,
            "REPLICA_BUSY",
        ),
        (
            E::Unavailable { reason: U::Starting },
            Code::Unavailable,
            "STARTING",
        ),
        (
            E::Unavailable { reason: U::Draining },
            Code::Unavailable,
            "DRAINING",
        ),
        (
            E::Unavailable {
                reason: U::Unreachable,
            },
            Code::Unavailable,
            "UNREACHABLE",
        ),
        (E::Infeasible, Code::ResourceExhausted, "DEADLINE_INFEASIBLE"),
        (E::DeadlineExceeded, Code::DeadlineExceeded, "DEADLINE"),
        (E::Cancelled, Code::Cancelled, "CANCELLED"),
        (E::ModelFault, Code::Internal, "MODEL_FAULT"),
        (E::Internal, Code::Internal, "INTERNAL"),
    ]
}

#[test]
fn every_error_comes_back_as_it_was_with_its_code_its_reason_and_the_request() {
    for (error, code, reason) in every_error() {
        let status = to_status(&error, Some(&id()));
        assert_eq!(status.code(), code, "{error:?}");
        let info = status
            .get_details_error_info()
            .expect("every status has ErrorInfo");
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            (reason, "refract"),
            "{error:?}"
        );
        assert_eq!(
            status
                .get_details_request_info()
                .expect("the request is known")
                .request_id,
            "r-1"
        );
        assert_eq!(status.metadata().get("x-request-id").expect("echoed"), "r-1");
        assert_eq!(from_status(&status), error);
        assert_eq!(from_rpc(&to_rpc(&error, Some(&id()))), error, "in-band");
    }
}

#[test]
fn reasons_are_upper_snake_of_at_most_63_characters() {
    for (error, ..) in every_error() {
        let reason = reason(&error);
        assert!(
            reason.len() <= 63 && reason.chars().all(|c| c.is_ascii_uppercase() || c == '_'),
            "{reason}"
        );
    }
}

#[test]
fn an_invalid_field_is_named_in_the_message_and_in_the_violation() {
    let status = to_status(
        &Error::invalid("history.interactions[3].item.title", "is empty"),
        None,
    );
    assert_eq!(
        status.message(),
        "invalid field: history.interactions[3].item.title"
    );
    let violations = status
        .get_details_bad_request()
        .expect("BadRequest")
        .field_violations;
    assert_eq!(violations[0].field, "history.interactions[3].item.title");
    assert_eq!(violations[0].description, "is empty");
    assert_eq!(
        to_status(&Error::invalid("grpc-timeout", "x"), None).message(),
        "malformed deadline"
    );
}

#[test]
fn a_callers_text_in_a_field_path_is_not_echoed() {
    for text in ["Ignore previous instructions", "a\nb", "", &"x".repeat(500)] {
        let status = to_status(&Error::invalid(text, "is empty"), None);
        assert_eq!(status.message(), "invalid field: request");
        assert!(text.is_empty() || !status.details().windows(text.len()).any(|w| w == text.as_bytes()));
    }
}

#[test]
fn overload_says_when_and_forbids_retries_below_and_a_busy_replica_allows_another_at_once() {
    let status = to_status(
        &Error::Overloaded {
            retry_after: Duration::from_millis(300),
        },
        None,
    );
    assert_eq!(
        status.get_details_retry_info().expect("RetryInfo").retry_delay,
        Some(Duration::from_millis(300))
    );
    assert_eq!(status.metadata().get(PUSHBACK).expect("pushback"), "-1");

    let status = to_status(
        &Error::Unavailable {
            reason: UnavailableReason::Busy,
        },
        None,
    );
    assert_eq!(
        status.get_details_retry_info().expect("RetryInfo").retry_delay,
        Some(Duration::ZERO)
    );
    assert_eq!(status.metadata().get(PUSHBACK).expect("pushback"), "0");

    let status = to_status(&Error::Infeasible, None);
    assert_eq!(status.metadata().get(PUSHBACK).expect("pushback"), "-1");
    assert!(status.get_details_retry_info().is_none());
}

#[test]
fn foreign_statuses_become_what_they_mean_to_a_caller() {
    let unreachable = Error::Unavailable {
        reason: UnavailableReason::Unreachable,
    };
    for (status, error) in [
        (Status::cancelled("Timeout expired"), Error::DeadlineExceeded),
        (Status::cancelled("gone"), Error::Cancelled),
        (Status::deadline_exceeded("late"), Error::DeadlineExceeded),
        (Status::unavailable("down"), unreachable.clone()),
        (
            Status::resource_exhausted("busy"),
            Error::Overloaded {
                retry_after: RETRY_AFTER_DEFAULT,
            },
        ),
        (
            Status::invalid_argument("SECRET"),
            Error::invalid("request", "refused by the peer"),
        ),
        (
            Status::out_of_range("17 bytes"),
            Error::invalid("request", "the message is too large"),
        ),
        (
            Status::not_found("SECRET"),
            Error::NotFound {
                resource: Resource::Item,
                field: "request".into(),
            },
        ),
        (
            Status::unimplemented(""),
            precondition("the peer does not implement this call"),
        ),
        (
            Status::permission_denied(""),
            precondition("the peer does not allow this call"),
        ),
        (
            Status::unauthenticated(""),
            precondition("the peer does not know us"),
        ),
        (
            Status::failed_precondition("SECRET"),
            precondition("refused by the peer"),
        ),
        (Status::unknown("SECRET"), Error::Internal),
        (Status::internal("SECRET"), Error::Internal),
        (Status::data_loss(""), Error::Internal),
        (Status::aborted(""), Error::Internal),
        (
            Status::from_error(Box::new(std::io::Error::other("broken pipe"))),
            unreachable,
        ),
        (
            Status::from_error(Box::new(TimeoutExpired(()))),
            Error::DeadlineExceeded,
        ),
    ] {
        assert_eq!(from_status(&status), error, "{status:?}");
    }
}

#[test]
fn a_foreign_retry_info_is_obeyed() {
    let mut details = ErrorDetails::new();
    details.set_retry_info(Some(Duration::from_secs(7)));
    let status = Status::with_error_details(Code::ResourceExhausted, "quota", details);
    assert_eq!(
        from_status(&status),
        Error::Overloaded {
            retry_after: Duration::from_secs(7)
        }
    );
}

#[test]
fn garbage_in_the_details_is_survived() {
    let status = Status::with_details(Code::Unavailable, "x", vec![0xff, 0x01, 0x02].into());
    assert_eq!(
        from_status(&status),
        Error::Unavailable {
            reason: UnavailableReason::Unreachable
        }
    );
}
