//! What the source says is put on the shelf as it passes, and the source's revisions are learned from it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use refract_domain::{Context, Error, Freshness, History, Knowledge, KnowledgeSource, Pair};
use tokio::time::Instant;

use super::shelf::{Asked, Shelf};
use super::unhelpful;
use crate::key::Keys;
use crate::metrics;
use crate::revisions::Revisions;

#[derive(Debug)]
pub(super) struct Recorded<S> {
    source: S,
    keys: Arc<Keys>,
    shelf: Arc<Shelf>,
}

impl<S> Recorded<S> {
    pub(super) fn new(source: S, keys: Arc<Keys>, shelf: Arc<Shelf>) -> Self {
        Self { source, keys, shelf }
    }

    /// Under the revisions of the answer itself, which may be newer than those that were looked for.
    async fn record(
        &self,
        knowledge: &Knowledge,
        asked: Asked,
        cost: Duration,
        pair: &Pair,
        history: &Arc<History>,
    ) {
        let revisions = Revisions::of(knowledge);
        let key = self.keys.key(pair, history, &revisions);
        self.shelf.learn(&self.keys, revisions);
        if !unhelpful::is_empty(knowledge) {
            self.shelf.put(&key, knowledge, asked, cost).await;
        }
    }
}

#[async_trait]
impl<S: KnowledgeSource> KnowledgeSource for Recorded<S> {
    async fn consult(
        &self,
        pair: &Pair,
        history: &Arc<History>,
        context: &Context,
    ) -> Result<Knowledge, Error> {
        let owner = pair
            .user
            .as_ref()
            .map(|user| self.keys.ring.owner(&pair.tenant, user));
        let asked = self.shelf.asked(owner.as_deref()).await;
        let began = Instant::now();
        let answer = self.source.consult(pair, history, context).await;
        metrics::consult(answer.is_ok(), began.elapsed());
        let knowledge = answer?;
        // A source with a memory of its own is not remembered twice: its ages would start anew.
        if knowledge.freshness == Freshness::Fresh {
            self.record(&knowledge, asked, began.elapsed(), pair, history)
                .await;
        }
        Ok(knowledge)
    }
}
