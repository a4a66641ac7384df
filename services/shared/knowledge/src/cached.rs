//! Knowledge that was consulted before is served from memory: the first level, then the store, then the source.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use refract_domain::{Context, Deadline, Error, Freshness, History, Knowledge, KnowledgeSource, Pair};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::Instrument;

use crate::coalesced::Coalesced;
use crate::key::{Key, Keys};
use crate::metrics::{self, Lookup};
use crate::revisions::Revisions;

mod eras;
mod gate;
mod leased;
mod recorded;
mod shelf;
mod unhelpful;
mod writer;

use gate::RefreshGate;
use leased::Leased;
use recorded::Recorded;
pub(crate) use shelf::Shelf;
use shelf::{Entry, Found};
use unhelpful::Unhelpful;

/// A `KnowledgeSource` in front of one, with a memory.
///
/// * Younger than its soft age, an entry is served as `Cached`.
/// * Past it, as `Stale`, at once, while at most one refresh per entry runs behind it; a failing Oracle changes
///   nothing about that until the hard age.
/// * Every failure of the memory itself is a miss.
#[derive(Debug)]
pub struct Cached<S> {
    inner: Arc<Inner<S>>,
}

#[derive(Debug)]
struct Inner<S> {
    keys: Arc<Keys>,
    shelf: Arc<Shelf>,
    /// What consults on a miss and for a refresh alike, so that the two share a flight; what it brings is put on the
    /// shelf once per flight, not once per caller.
    source: Coalesced<Leased<Recorded<S>>>,
    gate: RefreshGate,
    unhelpful: Unhelpful,
    refresh_timeout: Duration,
    refresh_retry: Duration,
}

/// Limits of a [`Cached`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) flights_max: usize,
    pub(crate) lease_wait: Duration,
    pub(crate) refreshes_max: usize,
    pub(crate) refresh_timeout: Duration,
    pub(crate) refresh_retry: Duration,
    pub(crate) ttl_unhelpful: Duration,
}

impl<S: KnowledgeSource + 'static> Cached<S> {
    pub(crate) fn new(source: S, keys: Arc<Keys>, shelf: Arc<Shelf>, limits: Limits) -> Self {
        let recorded = Recorded::new(source, Arc::clone(&keys), Arc::clone(&shelf));
        let leased = Leased::new(recorded, Arc::clone(&keys), Arc::clone(&shelf), limits.lease_wait);
        let inner = Inner {
            source: Coalesced::new(leased, Arc::clone(&keys), limits.flights_max),
            keys,
            shelf,
            gate: RefreshGate::new(limits.refreshes_max),
            unhelpful: Unhelpful::new(limits.ttl_unhelpful),
            refresh_timeout: limits.refresh_timeout,
            refresh_retry: limits.refresh_retry,
        };
        Self {
            inner: Arc::new(inner),
        }
    }
}

#[async_trait]
impl<S: KnowledgeSource + 'static> KnowledgeSource for Cached<S> {
    async fn consult(
        &self,
        pair: &Pair,
        history: &Arc<History>,
        context: &Context,
    ) -> Result<Knowledge, Error> {
        // A tenant is only ever the caller's own: a mismatch is a bug upstream, and serving it would be a leak.
        if pair.tenant != context.tenant {
            return Err(Error::invalid("pair.tenant", "is not the caller's tenant"));
        }
        let began = Instant::now();
        if context.deadline.has_passed(began.into_std()) {
            return Err(Error::DeadlineExceeded);
        }
        let Some(revisions) = self.inner.shelf.revisions(&self.inner.keys).await else {
            metrics::lookup(Lookup::Miss, began.elapsed());
            let key = self.inner.keys.key(pair, history, &Default::default());
            return self.inner.ask(&key, pair, history, context).await;
        };
        let key = self.inner.keys.key(pair, history, &revisions);
        let until = Instant::from_std(context.deadline.instant());
        let Ok((found, first_level)) = timeout_at(until, self.inner.shelf.find(&key)).await else {
            metrics::lookup(Lookup::Error, began.elapsed());
            return Err(Error::DeadlineExceeded);
        };
        let missed = match found {
            Found::Entry(entry) => {
                if let Some(knowledge) = Inner::serve(&self.inner, &key, &entry, pair, history, context) {
                    let outcome = match knowledge.freshness {
                        Freshness::Stale { .. } => Lookup::Stale,
                        _ if first_level => Lookup::L1,
                        _ => Lookup::Hit,
                    };
                    metrics::lookup(outcome, began.elapsed());
                    return Ok(knowledge);
                }
                Lookup::Miss
            }
            Found::Nothing => Lookup::Miss,
            Found::Corrupt => Lookup::Corrupt,
            Found::Failed => Lookup::Error,
        };
        metrics::lookup(missed, began.elapsed());
        self.inner.ask(&key, pair, history, context).await
    }
}

impl<S: KnowledgeSource + 'static> Inner<S> {
    /// The entry in the words of the ladder, or nothing if it is past its hard age.
    fn serve(
        this: &Arc<Self>,
        key: &Key,
        entry: &Entry,
        pair: &Pair,
        history: &Arc<History>,
        context: &Context,
    ) -> Option<Knowledge> {
        let age_ms = entry.times.age_ms(this.shelf.now_ms());
        if age_ms >= entry.times.hard_ms {
            return None;
        }
        let age_s = age_ms / 1000;
        let stale = age_ms >= entry.times.soft_ms;
        if stale || is_early(age_ms, entry.times.cost_ms, entry.times.soft_ms, rand::random()) {
            Self::refresh(this, key, pair, history, context);
        }
        let freshness = if stale {
            Freshness::Stale { age_s }
        } else {
            Freshness::Cached { age_s }
        };
        Some(Knowledge {
            freshness,
            ..entry.knowledge.clone()
        })
    }

    async fn ask(
        &self,
        key: &Key,
        pair: &Pair,
        history: &Arc<History>,
        context: &Context,
    ) -> Result<Knowledge, Error> {
        if let Some(answer) = self.unhelpful.find(key.digest()).await {
            metrics::unhelpful();
            return answer;
        }
        let answer = self.source.consult_as(key, pair, history, context).await;
        match &answer {
            // Under its own revisions, which may be newer than those that were looked for.
            Ok(knowledge) if unhelpful::is_empty(knowledge) => {
                let key = self.keys.key(pair, history, &Revisions::of(knowledge));
                self.unhelpful.note(key.digest(), &answer).await;
            }
            _ => self.unhelpful.note(key.digest(), &answer).await,
        }
        answer
    }

    /// Starts a refresh behind the caller's back, unless one is running, has just failed, or too many are running.
    fn refresh(this: &Arc<Self>, key: &Key, pair: &Pair, history: &Arc<History>, context: &Context) {
        let Some(pass) = this.gate.enter(*key.digest()) else {
            return;
        };
        let deadline = Deadline::after(Instant::now().into_std(), this.refresh_timeout);
        let (this, key, pair, history) = (Arc::clone(this), key.clone(), pair.clone(), Arc::clone(history));
        let context = context.with_deadline(deadline);
        let refreshing = async move {
            let consulted = this.source.consult_as(&key, &pair, &history, &context);
            let fresh = timeout(this.refresh_timeout, consulted).await;
            // Nothing to say is no reason to throw away what was said before.
            if matches!(&fresh, Ok(Ok(knowledge)) if !unhelpful::is_empty(knowledge)) {
                metrics::refresh("ok");
            } else {
                metrics::refresh("failed");
                pass.retry_after(this.refresh_retry);
            }
        };
        tokio::spawn(refreshing.in_current_span());
    }
}

/// Whether to refresh a little before the soft age, so that many processes do not all find an entry stale at the same
/// moment (Vattani et al., "Optimal probabilistic cache stampede prevention", 2015, with β = 1). `chance` is uniform in
/// [0, 1): the nearer to the soft age and the dearer the entry, the likelier.
fn is_early(age_ms: u64, cost_ms: u32, soft_ms: u64, chance: f64) -> bool {
    let head_start_ms = f64::from(cost_ms) * -(1.0 - chance).ln();
    age_ms as f64 + head_start_ms >= soft_ms as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_refreshes_grow_likelier_towards_the_soft_age_and_with_the_cost() {
        let share = |age_ms, cost_ms| {
            (0..1000)
                .filter(|n| is_early(age_ms, cost_ms, 10_000, f64::from(*n) / 1000.0))
                .count()
        };
        assert_eq!(share(0, 100), 0);
        assert_eq!(share(9_900, 0), 0);
        assert!(
            (300..450).contains(&share(9_900, 100)),
            "e⁻¹ one cost before the soft age: {}",
            share(9_900, 100)
        );
        assert!(share(9_500, 100) < share(9_900, 100) && share(9_900, 100) < share(9_900, 200));
        assert_eq!(share(10_000, 0), 1000);
    }
}
