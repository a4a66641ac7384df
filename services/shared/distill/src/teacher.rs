//! Who writes labels: anything that answers an ask with candidates.

use std::time::Duration;

use async_trait::async_trait;
use refract_domain::Fact;

use crate::ask::Ask;

/// Who a teacher is; part of every label, and a run does not mix two of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub name: String,
    pub revision: String,
    /// Template by which it is asked: ours, or its bundle's own.
    pub prompt: String,
    pub settings: String,
}

/// How candidates are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Several, by sampling, or the one that a teacher without sampling gives.
    Sampled { candidates: usize },
    /// One, by the likeliest words.
    Careful,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidate {
    pub text: String,
    /// Statements, of a teacher that makes knowledge.
    pub facts: Vec<Fact>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    pub candidates: Vec<Candidate>,
    /// As the teacher counts them; 0 where it does not say.
    pub prompt_tokens: u64,
    pub written_tokens: u64,
}

/// Why there is no answer. Reasons never hold a prompt, a text or an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("it is busy")]
    Busy { after: Option<Duration> },
    #[error("it took too long")]
    Slow,
    #[error("it could not be reached ({0})")]
    Unreachable(String),
    #[error("it failed ({0})")]
    Failed(String),
    #[error("its answer makes no sense ({0})")]
    Garbage(String),
    /// This ask alone: a prompt too long for it, say.
    #[error("it refused ({0})")]
    Refused(String),
    /// Every ask would end so: a wrong credential, an unknown model.
    #[error("{0}")]
    Hopeless(String),
}

impl Fault {
    /// Whether another try may end otherwise.
    pub fn is_passing(&self) -> bool {
        !matches!(self, Self::Refused(_) | Self::Hopeless(_))
    }

    /// A closed name for reports.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Busy { .. } => "busy",
            Self::Slow => "slow",
            Self::Unreachable(_) => "unreachable",
            Self::Failed(_) => "failed",
            Self::Garbage(_) => "garbage",
            Self::Refused(_) => "refused",
            Self::Hopeless(_) => "hopeless",
        }
    }
}

#[async_trait]
pub trait Teacher: Send + Sync {
    fn identity(&self) -> Identity;

    /// Whether asking [`Manner::Careful`] gives something else than asking otherwise.
    fn has_second_manner(&self) -> bool;

    async fn answer(&self, ask: &Ask, manner: Manner) -> Result<Answer, Fault>;

    /// Tokens of the prompt for an ask, for estimates; a quarter of its characters where nothing better is known.
    fn prompt_tokens(&self, ask: &Ask) -> u64;
}
