//! What can go wrong with a generation, each something that a person can act on.

use std::time::Duration;

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// The request says something impossible; `field` is one of [`crate::Request`] or [`crate::GenerationParams`].
    #[error("invalid {field}: {reason}")]
    Invalid { field: &'static str, reason: String },

    #[error("prompt of {tokens} tokens exceeds prompt_tokens_max {tokens_max}")]
    PromptTooLong { tokens: usize, tokens_max: usize },

    #[error("max_new_tokens {tokens} exceeds new_tokens_max {tokens_max}")]
    TooManyNewTokens { tokens: usize, tokens_max: usize },

    /// It would not fit on an idle device: prompt + rows × new tokens.
    #[error("a sequence of {tokens} tokens in all exceeds the {tokens_max} that there is decode memory for")]
    TooLarge { tokens: usize, tokens_max: usize },

    /// Its beams or samples would not fit on an idle device.
    #[error("{rows} rows of one sequence exceed the {rows_max} that there is decode memory for")]
    TooManyRows { rows: usize, rows_max: usize },

    /// The queue is full. Refused at once, before anything was done.
    #[error(
        "busy: {waiting_sequences} sequences ({waiting_tokens} tokens) are waiting, retry in {retry_after:?}"
    )]
    Busy {
        waiting_sequences: usize,
        waiting_tokens: usize,
        retry_after: Duration,
    },

    #[error("deadline exceeded")]
    DeadlineExceeded,

    /// The device or the machine has not the memory that the limits ask for; `fits` is what it would have memory for.
    #[error("not enough memory: {what} needs {bytes} bytes, there are {free}; {fits} would fit")]
    Memory {
        what: String,
        bytes: u64,
        free: u64,
        fits: String,
    },

    /// The model failed on this sequence: numbers that are none (NaN), or the device refused it.
    #[error("model fault: {reason}")]
    ModelFault { reason: String },

    /// The request's own constraints (forbidden tokens, n-grams) leave no token to continue with.
    #[error("every token is forbidden at position {position}")]
    Overconstrained { position: usize },

    #[error("the engine is draining")]
    Draining,

    /// The engine has stopped; `reason` says why (dropped, drained, or a panic in the runner).
    #[error("the engine has stopped: {reason}")]
    Stopped { reason: String },

    /// Two limits contradict each other, or a limit contradicts the model.
    #[error("invalid config: {field}: {reason}")]
    Config { field: &'static str, reason: String },
}

impl Error {
    pub(crate) fn invalid(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid {
            field,
            reason: reason.into(),
        }
    }

    pub(crate) fn fault(reason: impl Into<String>) -> Self {
        Self::ModelFault {
            reason: reason.into(),
        }
    }

    /// The closed label of metrics and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid",
            Self::PromptTooLong { .. } => "prompt_too_long",
            Self::TooManyNewTokens { .. } => "too_many_new_tokens",
            Self::TooLarge { .. } => "too_large",
            Self::TooManyRows { .. } => "too_many_rows",
            Self::Busy { .. } => "busy",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Memory { .. } => "memory",
            Self::ModelFault { .. } => "model_fault",
            Self::Overconstrained { .. } => "overconstrained",
            Self::Draining => "draining",
            Self::Stopped { .. } => "stopped",
            Self::Config { .. } => "config",
        }
    }
}
