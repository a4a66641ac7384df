//! One question, one consultation, across processes: whoever gets the lease asks, the others wait for what it writes.
//!
//! A lease is a courtesy and no lock: where the store is gone, or the one who holds it is slow or dead, the others ask
//! for themselves. The price of a mistake is one more consultation.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use refract_domain::{Context, Error, Freshness, History, Knowledge, KnowledgeSource, Pair};
use tokio::time::{Instant, sleep};

use super::shelf::{Found, Shelf};
use crate::key::{Key, Keys};
use crate::metrics;

#[derive(Debug)]
pub(super) struct Leased<S> {
    source: S,
    keys: Arc<Keys>,
    shelf: Arc<Shelf>,
    wait_max: Duration,
}

/// First pause between looks at the store; doubles up to the second.
const LOOK_MIN: Duration = Duration::from_millis(10);
const LOOK_MAX: Duration = Duration::from_millis(160);

/// Another machine's clock may be this much behind before its answer is taken for an old one and asked for again.
const BEHIND_MS: u64 = 1000;

impl<S: KnowledgeSource> Leased<S> {
    pub(super) fn new(source: S, keys: Arc<Keys>, shelf: Arc<Shelf>, wait_max: Duration) -> Self {
        Self {
            source,
            keys,
            shelf,
            wait_max,
        }
    }

    /// What another process has written since: not the entry that a refresh is meant to replace.
    async fn written_since(&self, since_ms: u64, key: &Key) -> Option<Knowledge> {
        let Found::Entry(entry) = self.shelf.find_stored(key).await else {
            return None;
        };
        let age_ms = entry.times.age_ms(self.shelf.now_ms());
        let is_new = entry.times.created_ms >= since_ms && age_ms < entry.times.soft_ms;
        is_new.then(|| Knowledge {
            freshness: Freshness::Cached { age_s: age_ms / 1000 },
            ..entry.knowledge.clone()
        })
    }
}

#[async_trait]
impl<S: KnowledgeSource> KnowledgeSource for Leased<S> {
    async fn consult(
        &self,
        pair: &Pair,
        history: &Arc<History>,
        context: &Context,
    ) -> Result<Knowledge, Error> {
        let began = Instant::now();
        let left = context.deadline.remaining(began.into_std());
        // Not held longer than the one who asks has time: then its answer comes or never does.
        let ttl = self.shelf.lease_ttl().min(left);
        // Before the Oracle has said who it is there is no name to agree on.
        let (false, Some(revisions)) = (ttl.is_zero(), self.keys.revisions.get()) else {
            return self.source.consult(pair, history, context).await;
        };
        let key = self.keys.key(pair, history, &revisions);
        let since_ms = self.shelf.now_ms().saturating_sub(BEHIND_MS);
        let until = began + self.wait_max.min(left / 2);
        let mut pause = LOOK_MIN;
        loop {
            match self.shelf.lease(&key, ttl).await {
                Ok(Some(lease)) => {
                    // Between our look-up and the lease another may have asked, written and given back.
                    if let Some(knowledge) = self.written_since(since_ms, &key).await {
                        metrics::lease("followed");
                        return Ok(knowledge);
                    }
                    metrics::lease("led");
                    let answer = self.source.consult(pair, history, context).await;
                    drop(lease);
                    return answer;
                }
                Ok(None) if Instant::now() + pause < until => {}
                Ok(None) => {
                    metrics::lease("overdue");
                    return self.source.consult(pair, history, context).await;
                }
                Err(_) => {
                    metrics::lease("unavailable");
                    return self.source.consult(pair, history, context).await;
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(LOOK_MAX);
            if let Some(knowledge) = self.written_since(since_ms, &key).await {
                metrics::lease("followed");
                return Ok(knowledge);
            }
        }
    }
}
