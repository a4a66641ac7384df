//! Deadlines, retry budget, breaker, admission and limits; knows no word of recommendation.
//!
//! Everything here is arithmetic on values and instants: no sockets, no files, no background tasks. The present is
//! handed in wherever a decision depends on it, so that tests are exact and instant; [`deadline::now`] is the one
//! clock the callers read.
//!
//! | module | question it answers |
//! |---|---|
//! | [`deadline`] | how long may this still take? |
//! | [`admission`] | is there room for it? |
//! | [`breaker`] | is it worth trying there? |
//! | [`retry_budget`] | may we try once more? |
//! | [`backoff`] | how long to wait before connecting again? |
//! | [`drain`] | are we leaving, and until when may accepted work finish? |

pub mod admission;
pub mod backoff;
pub mod breaker;
pub mod deadline;
pub mod drain;
pub mod limits;
pub mod retry_budget;

pub use admission::{Admission, Overloaded};
pub use backoff::Backoff;
pub use breaker::{Breaker, Open};
pub use deadline::{Elapsed, within};
pub use drain::{Drain, DrainSignal};
pub use limits::Unfit;
pub use retry_budget::RetryBudget;
