//! What the Oracle says about a pair, and what it rests on.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::context::{Context, TenantId};
use crate::error::Error;
use crate::history::{History, UserId};
use crate::item::{Item, ItemId};

/// Seconds since the Unix epoch. Wall-clock time, for data; deadlines use [`crate::Deadline`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

/// Names one exact state of weights, a prompt template or a schema; equal revisions behave equally.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(pub String);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Other users' behaviour, found by the ranker: people who liked `item` liked the pair's item `lift` times more often
/// than chance.
#[derive(Clone, Debug, PartialEq)]
pub struct Affinity {
    /// An item of the user's history.
    pub item: ItemId,
    /// P(both) / (P(a)·P(b)); 1.0 is chance.
    pub lift: f32,
    /// Users who liked both: what the lift rests on.
    pub support: u32,
}

/// One user and one item: the unit of knowledge.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    pub tenant: TenantId,
    /// Absent for an inline history of nobody in particular.
    pub user: Option<UserId>,
    pub item: Arc<Item>,
    /// What the ranker knows of others' behaviour; empty when it knows nothing.
    pub affinities: Vec<Affinity>,
}

/// What a statement rests on. Always something in the request, or in the knowledge made from it.
#[derive(Clone, Debug, PartialEq)]
pub enum Evidence {
    /// An item of the history.
    History { item: ItemId },
    /// An attribute value of an item: of the recommended one, or of one in the history.
    Attribute {
        item: ItemId,
        name: String,
        value: String,
    },
    /// The item's own description (a premise taken from it).
    Description { item: ItemId },
    /// Others' behaviour towards a history item.
    Affinity { item: ItemId },
    /// The n-th fact of the knowledge, from 0 (only in an explanation's claims).
    Fact { index: usize },
}

/// What kind of statement a fact is: closed, because the gate knows how to check each.
#[derive(Clone, Debug, PartialEq)]
pub enum FactKind {
    /// The item and history items have this value in common (`director`, `Michael Mann`).
    Shared { attribute: String, value: String },
    /// Users who liked the history items like this one more often than chance.
    CoLiked { lift: f32 },
    /// What the item is about, from its own metadata.
    Premise,
    /// Nothing links the item to the history; said honestly ("a change of pace").
    Unrelated,
    /// Free text of an Oracle that writes prose; checked by matching names and attributes.
    Statement,
}

/// One thing the Oracle says, with what it rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    pub kind: FactKind,
    /// A plain English clause, readable on its own.
    pub text: String,
    pub evidence: Vec<Evidence>,
}

impl Fact {
    /// History items that this fact leans on, in its own order.
    pub fn history_items(&self) -> impl Iterator<Item = &ItemId> {
        self.evidence.iter().filter_map(|e| match e {
            Evidence::History { item } => Some(item),
            _ => None,
        })
    }
}

/// What the Oracle says about a pair: facts, best first, with the Oracle's revision and time.
#[derive(Clone, Debug, PartialEq)]
pub struct Knowledge {
    pub facts: Vec<Fact>,
    /// The Oracle's own text, as generated (filled slots included); served as it is in mode *oracle*.
    pub text: String,
    pub oracle_revision: Revision,
    pub template_revision: Revision,
    pub created_at: Timestamp,
    /// How this knowledge reached the caller. A source that asks the Oracle says `Fresh`; a cache in front says more.
    pub freshness: Freshness,
    /// Statements that the truth gate threw away before this knowledge was handed on.
    pub facts_refused: u32,
    /// History items that the Oracle's prompt had no room for (oldest go first, the item never).
    pub history_truncated: u32,
}

/// How old knowledge is, in the words of the ladder ([`crate::Rung`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Freshness {
    Fresh,
    Cached { age_s: u64 },
    Stale { age_s: u64 },
}

/// Where knowledge comes from: the Oracle, a cache in front of it, an outside endpoint.
///
/// Dropping the future cancels the work, unless other callers wait for the same pair.
#[async_trait]
pub trait KnowledgeSource: Send + Sync {
    async fn consult(
        &self,
        pair: &Pair,
        history: &Arc<History>,
        context: &Context,
    ) -> Result<Knowledge, Error>;
}

#[async_trait]
impl<S: KnowledgeSource + ?Sized> KnowledgeSource for Arc<S> {
    async fn consult(
        &self,
        pair: &Pair,
        history: &Arc<History>,
        context: &Context,
    ) -> Result<Knowledge, Error> {
        (**self).consult(pair, history, context).await
    }
}
