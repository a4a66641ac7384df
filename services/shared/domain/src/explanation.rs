//! Why: the text for the user, what it rests on, and how it came.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_core::Stream;

use crate::context::Context;
use crate::error::Error;
use crate::history::History;
use crate::knowledge::{Evidence, Freshness, Knowledge, Pair, Revision};

/// The ladder, best first: at once the response field, the order of degradation and the metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rung {
    /// With knowledge that the Oracle made for this request.
    Fresh,
    /// With remembered knowledge.
    Cached,
    /// With remembered knowledge past its soft age.
    Stale,
    /// A Prism's text without knowledge.
    HistoryOnly,
    /// Built from the evidence by rule.
    Template,
    /// There is none, for this reason.
    None(NoneReason),
}

impl Rung {
    /// As metrics, reports and the contract's enum spell it; a reason stands beside it where it matters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "FRESH",
            Self::Cached => "CACHED",
            Self::Stale => "STALE",
            Self::HistoryOnly => "HISTORY_ONLY",
            Self::Template => "TEMPLATE",
            Self::None(_) => "NONE",
        }
    }
}

/// Why there is no explanation. Closed: it is a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NoneReason {
    /// The caller asked for none of this item.
    NotRequested,
    /// The deadline passed first.
    Deadline,
    /// Only poorer explanations than the caller accepts were to be had.
    BelowMinimum,
    /// Nothing true could be said: the item has neither attributes nor a link to the history.
    NoEvidence,
    /// A fault of ours.
    Internal,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// The model ended its text.
    Stop,
    /// `max_new_tokens` was reached.
    Length,
    /// No model wrote this: the template did, by rule.
    Rule,
    /// The truth gate refused the next sentence; the text ends before it and the generation was stopped.
    Cut,
}

/// One statement in the text and what it rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// Bytes of `Explanation::text`, on character boundaries.
    pub span: Range<usize>,
    pub evidence: Vec<Evidence>,
}

/// What an explanation rests on, and how it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Grounding {
    pub rung: Rung,
    pub claims: Vec<Claim>,
    /// Why a better rung was not reached; empty on the best. Constant phrases, never a caller's text.
    pub descents: Vec<String>,
    /// Age of the knowledge used, when it was remembered.
    pub knowledge_age: Option<Duration>,
    /// Sentences of a model that the truth gate refused for this explanation.
    pub sentences_refused: u32,
}

/// Tokens of the models, for accounting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenUsage {
    pub prompt: u32,
    pub generated: u32,
}

/// The text for the user, with its grounding.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// Empty exactly when the rung is `None`.
    pub text: String,
    pub grounding: Grounding,
    pub finish: FinishReason,
    pub tokens: TokenUsage,
    /// Names the Prism's weights; empty when no model wrote the text.
    pub prism_revision: Revision,
    pub template_revision: Revision,
    /// History items that the prompt had no room for (oldest go first, the item never).
    pub history_truncated: u32,
    /// Time spent waiting, encoding and decoding in the Prism's engine.
    pub timings: StageTimings,
}

/// Where the time of one explanation went. Zero for a stage that was not run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageTimings {
    pub consult: Duration,
    pub queue: Duration,
    pub encode: Duration,
    pub decode: Duration,
    pub total: Duration,
    /// All of the Prism's work: prompt, queue, encode, decode, gate; without the way there and back.
    pub prism: Duration,
}

/// What is to be explained: a pair, its history, and the knowledge if there is some.
#[derive(Clone, Debug)]
pub struct ExplainQuery {
    pub pair: Pair,
    pub history: Arc<History>,
    pub knowledge: Option<Knowledge>,
    /// Varies the wording without sampling; the same number gives the same text.
    pub style: u32,
}

impl ExplainQuery {
    /// The rung that a model's text stands on if it is written with this query's knowledge.
    pub fn rung(&self) -> Rung {
        match self.knowledge.as_ref().map(|k| k.freshness) {
            Some(Freshness::Fresh) => Rung::Fresh,
            Some(Freshness::Cached { .. }) => Rung::Cached,
            Some(Freshness::Stale { .. }) => Rung::Stale,
            None => Rung::HistoryOnly,
        }
    }

    /// Age of the knowledge, when it was remembered.
    pub fn knowledge_age(&self) -> Option<Duration> {
        match self.knowledge.as_ref()?.freshness {
            Freshness::Fresh => None,
            Freshness::Cached { age_s } | Freshness::Stale { age_s } => Some(Duration::from_secs(age_s)),
        }
    }
}

/// What an explainer streams. Every delta has passed the truth gate, so nothing is ever taken back: the deltas joined
/// are `Explanation::text`, and `Done` comes exactly once, last.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant)] // one at a time and short-lived: a box would only move the bytes
pub enum ExplanationEvent {
    Delta(String),
    Done(Explanation),
}

pub type ExplanationStream = Pin<Box<dyn Stream<Item = Result<ExplanationEvent, Error>> + Send>>;

/// Turns a pair, its history and perhaps knowledge into a sentence or two for the user.
///
/// Dropping the stream cancels the work.
#[async_trait]
pub trait Explainer: Send + Sync {
    async fn explain(&self, query: ExplainQuery, context: &Context) -> Result<ExplanationStream, Error>;
}

#[async_trait]
impl<E: Explainer + ?Sized> Explainer for Arc<E> {
    async fn explain(&self, query: ExplainQuery, context: &Context) -> Result<ExplanationStream, Error> {
        (**self).explain(query, context).await
    }
}
