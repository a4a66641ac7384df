//! What to recommend: the query, the ordered list, and the trait that makes one from the other.

use std::sync::Arc;

use async_trait::async_trait;

use crate::context::Context;
use crate::error::Error;
use crate::history::History;
use crate::item::{Item, ItemId};
use crate::knowledge::Affinity;

/// Keeps items that have one of `any_of` as a value of `attribute` (case does not matter). Filters combine with *and*.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributeFilter {
    pub attribute: String,
    pub any_of: Vec<String>,
}

/// What the ranker may choose from.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Candidates {
    /// The whole catalogue.
    #[default]
    Catalogue,
    /// Only these, still ranked.
    Among(Vec<ItemId>),
    /// These in this order: somebody else has ranked already.
    Given(Vec<Arc<Item>>),
}

/// What is asked of a ranker.
#[derive(Clone, Debug)]
pub struct RankQuery {
    pub history: Arc<History>,
    pub candidates: Candidates,
    pub filters: Vec<AttributeFilter>,
    pub include_seen: bool,
    /// How many items to show, from 1 to [`Slate::ITEMS_MAX`].
    pub limit: usize,
}

/// One place of a slate.
#[derive(Clone, Debug, PartialEq)]
pub struct SlateItem {
    /// From 1.
    pub position: u32,
    /// The real number before ordering; comparable within one slate only.
    pub score: f32,
    pub item: Arc<Item>,
    /// How others' behaviour ties this item to the history, strongest first.
    pub affinities: Vec<Affinity>,
}

/// How the slate came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SlateOrigin {
    /// From the user's taste.
    Personal,
    /// The history was empty (or held nothing the ranker knows): what most people like.
    Popular,
    /// The request brought it.
    Given,
}

/// The ordered, bounded list that is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Slate {
    pub items: Vec<SlateItem>,
    pub origin: SlateOrigin,
    /// Names the ranker's model and data.
    pub ranker_revision: crate::Revision,
}

impl Slate {
    pub const ITEMS_MAX: usize = 100;
}

/// Decides what to recommend.
#[async_trait]
pub trait Ranker: Send + Sync {
    async fn rank(&self, query: &RankQuery, context: &Context) -> Result<Slate, Error>;
}

#[async_trait]
impl<R: Ranker + ?Sized> Ranker for Arc<R> {
    async fn rank(&self, query: &RankQuery, context: &Context) -> Result<Slate, Error> {
        (**self).rank(query, context).await
    }
}
