//! What can be wrong with a plan.

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the plan cannot be read: {0}")]
    Unreadable(String),
    /// A number that cannot be.
    #[error("{key}: {reason}")]
    Unfit { key: &'static str, reason: &'static str },
    #[error("no size up to {nodes_max} nodes keeps the promises at {rate} requests/s: {broken}")]
    TooLittle {
        rate: f64,
        nodes_max: usize,
        broken: String,
    },
}
