//! The words of Refract: types, their invariants, and the three traits that join the stations of the river.
//!
//! ```text
//!  User, History, Candidates ─▶ [Ranker] ─▶ Slate ─▶ [KnowledgeSource] ─▶ Knowledge ─▶ [Explainer] ─▶ Explanation
//! ```
//!
//! What is deliberately absent: I/O, serde, protobuf, tokio. Everything here can be tested with plain values, and
//! nothing here changes because a wire format or a library changed. Times are handed in, never read.

pub mod context;
pub mod error;
pub mod explanation;
pub mod history;
pub mod item;
pub mod knowledge;
pub mod recent;
pub mod slate;

pub use context::{Context, Deadline, RequestId, TenantId};
pub use error::{Error, Resource, UnavailableReason};
pub use explanation::{
    Claim, ExplainQuery, Explainer, Explanation, ExplanationEvent, ExplanationStream, FinishReason,
    Grounding, NoneReason, Rung, StageTimings, TokenUsage,
};
pub use history::{History, HistoryDigest, Interaction, Signal, UserId};
pub use item::{Attributes, Item, ItemId};
pub use knowledge::{
    Affinity, Evidence, Fact, FactKind, Freshness, Knowledge, KnowledgeSource, Pair, Revision, Timestamp,
};
pub use recent::{OfItems, Recent};
pub use slate::{AttributeFilter, Candidates, RankQuery, Ranker, Slate, SlateItem, SlateOrigin};
