//! What travels beside a message: request id, deadline, trace context.

use std::time::{Duration, Instant};

use refract_domain::{Context, Deadline, Error, RequestId, TenantId};
use tonic::metadata::{MetadataMap, MetadataValue};

use crate::trace::TraceContext;

pub const REQUEST_ID: &str = "x-request-id";
pub const TIMEOUT: &str = "grpc-timeout";

/// Longest request id accepted.
pub const REQUEST_ID_BYTES_MAX: usize = 128;

/// Builds the context of a call from its metadata. `cap` is the longest deadline granted, and the deadline of a caller
/// who names none. The tenant comes from the caller's credential ([`crate::callers`]), never from the metadata itself.
pub fn context(
    metadata: &MetadataMap,
    tenant: TenantId,
    now: Instant,
    cap: Duration,
) -> Result<Context, Error> {
    let request = request_id(metadata)?;
    let budget = timeout(metadata)?.map_or(cap, |asked| asked.min(cap));
    Ok(Context {
        tenant,
        request,
        deadline: Deadline::after(now, budget),
    })
}

/// The caller's `x-request-id`, or a fresh one.
pub fn request_id(metadata: &MetadataMap) -> Result<RequestId, Error> {
    let Some(value) = metadata.get(REQUEST_ID) else {
        return Ok(fresh_request_id());
    };
    let bytes = value.as_encoded_bytes();
    if bytes.is_empty() {
        return Ok(fresh_request_id());
    }
    if bytes.len() > REQUEST_ID_BYTES_MAX {
        return Err(Error::invalid(
            REQUEST_ID,
            format!("is longer than {REQUEST_ID_BYTES_MAX} bytes"),
        ));
    }
    match std::str::from_utf8(bytes) {
        Ok(id) if bytes.iter().all(u8::is_ascii_graphic) => Ok(RequestId(id.to_owned())),
        _ => Err(Error::invalid(
            REQUEST_ID,
            "has a character that is not visible ASCII",
        )),
    }
}

pub fn fresh_request_id() -> RequestId {
    RequestId(uuid::Uuid::new_v4().to_string())
}

/// Writes the id; one that cannot be a header (it did not come through [`request_id`]) is left out.
pub fn insert_request_id(request: &RequestId, metadata: &mut MetadataMap) {
    if let Ok(value) = MetadataValue::try_from(request.0.as_str()) {
        metadata.insert(REQUEST_ID, value);
    }
}

/// The caller's `grpc-timeout`. Absent is fine; malformed is an error, since "no limit" is not what the caller meant.
pub fn timeout(metadata: &MetadataMap) -> Result<Option<Duration>, Error> {
    match metadata.get(TIMEOUT) {
        None => Ok(None),
        Some(value) => parse_timeout(value.as_encoded_bytes())
            .map(Some)
            .ok_or_else(|| Error::invalid(TIMEOUT, "malformed deadline")),
    }
}

/// 1 to 8 digits and one unit of `HMSmun` (gRPC over HTTP/2).
fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let n = digits.iter().fold(0u64, |n, d| n * 10 + u64::from(d - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(n * 3600),
        b'M' => Duration::from_secs(n * 60),
        b'S' => Duration::from_secs(n),
        b'm' => Duration::from_millis(n),
        b'u' => Duration::from_micros(n),
        b'n' => Duration::from_nanos(n),
        _ => return None,
    })
}

/// The finest unit that 8 digits can hold, rounded down: a deadline never grows on its way.
pub fn format_timeout(timeout: Duration) -> String {
    const DIGITS_8: u128 = 99_999_999;
    let ns = timeout.as_nanos();
    for (unit_ns, unit) in [
        (1, 'n'),
        (1_000, 'u'),
        (1_000_000, 'm'),
        (1_000_000_000, 'S'),
        (3_600_000_000_000, 'H'),
    ] {
        if ns / unit_ns <= DIGITS_8 {
            return format!("{}{unit}", ns / unit_ns);
        }
    }
    format!("{DIGITS_8}H")
}

/// Writes what the next hop needs: request id, the deadline less `hop_margin` for the way back, trace context.
///
/// Fails when nothing could come back in time: the call is not begun.
pub fn outgoing(
    context: &Context,
    now: Instant,
    hop_margin: Duration,
    trace: &TraceContext,
    metadata: &mut MetadataMap,
) -> Result<(), Error> {
    if context.deadline.has_passed(now) {
        return Err(Error::DeadlineExceeded);
    }
    let timeout = context.deadline.remaining(now).saturating_sub(hop_margin);
    if timeout.is_zero() {
        return Err(Error::Infeasible);
    }
    if let Ok(value) = MetadataValue::try_from(format_timeout(timeout)) {
        metadata.insert(TIMEOUT, value);
    }
    insert_request_id(&context.request, metadata);
    trace.write(metadata);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with(name: &'static str, value: &str) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert(name, MetadataValue::try_from(value).expect("a header value"));
        metadata
    }

    #[test]
    fn every_unit_of_a_deadline_is_read_and_nonsense_is_refused() {
        for (text, ms) in [
            ("2H", 7_200_000),
            ("3M", 180_000),
            ("2S", 2_000),
            ("150m", 150),
            ("5000u", 5),
            ("7000000n", 7),
        ] {
            assert_eq!(
                timeout(&with(TIMEOUT, text)),
                Ok(Some(Duration::from_millis(ms))),
                "{text}"
            );
        }
        for text in [
            "abc",
            "",
            "m",
            "123456789m",
            "-5m",
            "+5m",
            "5",
            "5x",
            "5 m",
            "1.5S",
            "５m",
        ] {
            let Ok(value) = MetadataValue::try_from(text) else {
                continue;
            };
            let mut metadata = MetadataMap::new();
            metadata.insert(TIMEOUT, value);
            assert_eq!(
                timeout(&metadata),
                Err(Error::invalid(TIMEOUT, "malformed deadline")),
                "{text}"
            );
        }
        assert_eq!(timeout(&MetadataMap::new()), Ok(None));
    }

    #[test]
    fn a_request_id_is_kept_or_made_or_refused() {
        assert_eq!(
            request_id(&with(REQUEST_ID, "abc-1")),
            Ok(RequestId("abc-1".into()))
        );
        let fresh = request_id(&MetadataMap::new()).expect("made");
        assert_eq!(fresh.0.len(), 36);
        assert_ne!(fresh, request_id(&with(REQUEST_ID, "")).expect("made"));
        assert!(request_id(&with(REQUEST_ID, &"x".repeat(128))).is_ok());
        assert!(request_id(&with(REQUEST_ID, &"x".repeat(129))).is_err());
        assert!(request_id(&with(REQUEST_ID, "a b")).is_err());
    }

    #[test]
    fn a_deadline_is_capped_and_the_cap_is_the_deadline_of_who_names_none() {
        let now = Instant::now();
        let cap = Duration::from_secs(2);
        let remaining = |metadata: &MetadataMap| {
            context(metadata, TenantId::default(), now, cap)
                .expect("fine")
                .deadline
                .remaining(now)
        };
        assert_eq!(remaining(&MetadataMap::new()), cap);
        assert_eq!(remaining(&with(TIMEOUT, "100m")), Duration::from_millis(100));
        assert_eq!(remaining(&with(TIMEOUT, "99999999H")), cap);
        assert_eq!(remaining(&with(TIMEOUT, "0m")), Duration::ZERO);
    }

    #[test]
    fn a_deadline_shrinks_by_the_margin_and_a_hopeless_call_is_not_begun() {
        let now = Instant::now();
        let margin = Duration::from_millis(5);
        let send = |budget_ms| {
            let context = Context {
                tenant: TenantId::default(),
                request: RequestId("r".into()),
                deadline: Deadline::after(now, Duration::from_millis(budget_ms)),
            };
            let mut metadata = MetadataMap::new();
            outgoing(&context, now, margin, &TraceContext::default(), &mut metadata)
                .map(|()| timeout(&metadata).expect("well formed").expect("present"))
        };
        assert_eq!(send(80), Ok(Duration::from_millis(75)));
        assert_eq!(send(5), Err(Error::Infeasible));
        assert_eq!(send(0), Err(Error::DeadlineExceeded));
    }

    proptest! {
        #[test]
        fn a_formatted_deadline_is_well_formed_and_never_longer(ns in any::<u64>()) {
            let timeout = Duration::from_nanos(ns);
            let text = format_timeout(timeout);
            let back = parse_timeout(text.as_bytes()).expect("well formed");
            prop_assert!(back <= timeout);
            // Eight digits: at most one part in ten million is lost, up to the coarsest steps.
            prop_assert!((timeout - back).as_secs_f64() <= timeout.as_secs_f64() * 1e-4, "{text}");
        }
    }
}
