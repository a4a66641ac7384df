//! Lengths of time.

use std::time::Duration;

use refract_domain::Error;

use crate::path::Path;

/// A duration past the wire's range (about 10,000 years) is sent as the longest one.
pub fn to_proto(duration: Duration) -> prost_types::Duration {
    const SECONDS_MAX: u64 = 315_576_000_000;
    if duration.as_secs() > SECONDS_MAX {
        return prost_types::Duration {
            seconds: SECONDS_MAX as i64,
            nanos: 0,
        };
    }
    prost_types::Duration {
        seconds: duration.as_secs() as i64,
        nanos: duration.subsec_nanos() as i32,
    }
}

pub fn from_proto(duration: prost_types::Duration, path: &Path<'_>) -> Result<Duration, Error> {
    match (u64::try_from(duration.seconds), u32::try_from(duration.nanos)) {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => Ok(Duration::new(seconds, nanos)),
        _ => Err(path.invalid("is not a length of time")),
    }
}

/// Absent is zero: the stage was not run.
pub fn from_proto_or_zero(
    duration: Option<prost_types::Duration>,
    path: &Path<'_>,
) -> Result<Duration, Error> {
    duration.map_or(Ok(Duration::ZERO), |d| from_proto(d, path))
}
