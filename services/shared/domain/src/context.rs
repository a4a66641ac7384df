//! What travels with a request besides its nouns.

use std::fmt;
use std::time::{Duration, Instant};

/// Whose data this is. Comes from the caller's verified credential only, never from a message body.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TenantId(String);

impl TenantId {
    /// The tenant of a deployment without credentials.
    pub const DEFAULT: &'static str = "default";

    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TenantId {
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

/// The caller's `x-request-id`, or one made at the front door; echoed in the answer and in every error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RequestId(pub String);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The instant after which an answer is worthless. Passed down, shrinking at each hop.
///
/// The present is always handed in, so that tests can pause time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    pub fn at(instant: Instant) -> Self {
        Self(instant)
    }

    pub fn after(now: Instant, budget: Duration) -> Self {
        Self(now + budget)
    }

    pub fn instant(self) -> Instant {
        self.0
    }

    /// Zero once the deadline has passed.
    pub fn remaining(self, now: Instant) -> Duration {
        self.0.saturating_duration_since(now)
    }

    pub fn has_passed(self, now: Instant) -> bool {
        self.0 <= now
    }

    /// The earlier of this deadline and `now + cap`: what a stage with its own cap may use.
    pub fn capped(self, now: Instant, cap: Duration) -> Self {
        Self(self.0.min(now + cap))
    }

    /// Leaves `margin` for the way back: what is sent to the next hop.
    pub fn less(self, margin: Duration) -> Self {
        Self(self.0.checked_sub(margin).unwrap_or(self.0))
    }
}

/// What every verb of the river is called with: whose request, which one, until when.
#[derive(Clone, Debug)]
pub struct Context {
    pub tenant: TenantId,
    pub request: RequestId,
    pub deadline: Deadline,
}

impl Context {
    pub fn with_deadline(&self, deadline: Deadline) -> Self {
        Self {
            deadline,
            ..self.clone()
        }
    }
}
