//! What can go wrong between stations, in words a caller can act on.
//!
//! The list is short and closed, and it crosses the network: `refract-wire` maps each variant to one gRPC code and
//! back, so that a caller matches an enum and not a string. Messages never contain a caller's text.

use std::time::Duration;

/// What was looked for and not found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    User,
    Item,
    Bundle,
}

/// A failure of a station, as its caller sees it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// The request says something impossible. `field` is a path such as `history.interactions[3].item.title`.
    #[error("invalid field: {field}: {reason}")]
    Invalid { field: String, reason: String },

    #[error("{resource:?} not found")]
    NotFound { resource: Resource, field: String },

    /// The request is sound, but this deployment cannot do it (a revision that is not loaded, a mode without an Oracle).
    #[error("precondition failed: {reason}")]
    Precondition { reason: String },

    /// The whole system, or the caller's quota, is used up: wait.
    #[error("overloaded, retry in {retry_after:?}")]
    Overloaded { retry_after: Duration },

    /// This replica cannot take it now; another may.
    #[error("replica unavailable: {reason:?}")]
    Unavailable { reason: UnavailableReason },

    /// It could not be finished in the time left, so it was not begun.
    #[error("cannot finish before the deadline")]
    Infeasible,

    #[error("deadline exceeded")]
    DeadlineExceeded,

    #[error("cancelled by the caller")]
    Cancelled,

    /// The model produced numbers or a structure that cannot be used (NaN logits).
    #[error("model fault")]
    ModelFault,

    /// A bug of ours.
    #[error("internal error")]
    Internal,
}

/// Why a replica does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnavailableReason {
    /// Its queue is full.
    Busy,
    /// Its model is not warm yet.
    Starting,
    Draining,
    /// No connection to it.
    Unreachable,
}

impl Error {
    pub fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.into(),
            reason: reason.into(),
        }
    }
}
