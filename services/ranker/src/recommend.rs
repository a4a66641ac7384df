//! The whole river in one file, and mostly in two functions: `recommend_in` ranks, then for every item `explain` consults
//! and asks a Prism, and what comes is streamed.
//!
//! ```text
//!  asked ─▶ rank ─▶ Slate ─▶ for each item, side by side: consult ─▶ explain ─▶ deltas, Explained ─▶ … ─▶ Summary
//!                    │ first event: the slate never waits (law 1)
//! ```
//!
//! Only ranking can fail a request. Everything after it ends in an explanation on some rung of the ladder (law 2); the
//! last rung that costs nothing is the template, built here by rule, so that it survives any other station's death. Where
//! there is no room to wait for other stations ([`Rooms`]), it is the only one.

use std::sync::Arc;
use std::time::Instant;

use async_stream::stream;
use futures_core::Stream;
use futures_util::{StreamExt, stream};
use refract_domain::{
    Context, Error, ExplainQuery, Explainer, Explanation, ExplanationEvent, History, Knowledge,
    KnowledgeSource, NoneReason, Pair, RankQuery, Ranker, Rung, Slate, SlateItem, UserId,
};
use refract_wire::recommend::{Event, ExplainOptions, Explained};
use tokio::time::timeout_at;
use tracing::{Instrument as _, info_span};

use crate::config::{Mode, River as Config};
use crate::ladder::{self, Descent};
use crate::rooms::{Admitted, Rooms};
use crate::summary::Tally;

/// One request, checked, its names resolved.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Under whom knowledge is remembered; `None` for a history of nobody in particular.
    pub user: Option<UserId>,
    pub rank: RankQuery,
    pub explain: ExplainOptions,
}

/// The stations, joined. Each is a trait, so this file is the same in a unit test, in one process and in a cluster.
pub struct River {
    pub ranker: Arc<dyn Ranker>,
    /// Cache, coalescing and the Oracle behind one trait; `None` in a deployment without an Oracle.
    pub knowledge: Option<Arc<dyn KnowledgeSource>>,
    /// The Prism pool; `None` in a deployment without one.
    pub explainer: Option<Arc<dyn Explainer>>,
    pub config: Config,
    /// Items in progress over all requests (law 6).
    pub rooms: Rooms,
}

impl std::fmt::Debug for River {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("River")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl River {
    /// The whole request. An error can only come before the first event; dropping the stream cancels all work.
    pub async fn recommend(
        self: Arc<Self>,
        asked: Resolved,
        context: Context,
    ) -> Result<impl Stream<Item = Event> + Send + use<>, Error> {
        let admitted = self.rooms.admit(asked.rank.limit)?;
        self.recommend_in(admitted, asked, context).await
    }

    /// The same for a request that was let in before: a refusal comes before anything is looked up for it.
    pub async fn recommend_in(
        self: Arc<Self>,
        admitted: Admitted,
        asked: Resolved,
        context: Context,
    ) -> Result<impl Stream<Item = Event> + Send + use<>, Error> {
        let arrived = now();
        admitted.turn().await;
        let slate = self.rank(&asked.rank, &context).await?;
        let rank_time = now() - arrived;
        let tally = Arc::new(Tally::new(arrived, rank_time, slate.origin));

        let items = slate.items.clone();
        let parallel = self.config.items_in_flight_max;
        let include_knowledge = asked.explain.include_knowledge;
        let is_by_rule = admitted.is_by_rule();
        let asked = Arc::new(asked);
        let explained = {
            let (tally, context, rooms) = (tally.clone(), context.clone(), self.rooms.clone());
            stream::iter(items)
                .map(move |item| {
                    Box::pin(
                        self.clone()
                            .explain(item, is_by_rule, asked.clone(), context.clone()),
                    )
                })
                .flatten_unordered(parallel)
                .map(move |event| {
                    if let Event::Explained(it) = &event
                        && !is_by_rule
                    {
                        rooms.note(it);
                    }
                    tally.note(event, include_knowledge)
                })
        };
        let slate = stream::once(async move { Event::Slate(slate) });
        let summary = stream::once(async move {
            drop(admitted); // The stream holds it until here, or until it is dropped.
            Event::Summary(tally.close(context.request))
        });
        Ok(slate.chain(explained).chain(summary))
    }

    /// Ranking has its own cap inside the request's deadline, so that a slow ranker fails clearly.
    pub(crate) async fn rank(&self, query: &RankQuery, context: &Context) -> Result<Slate, Error> {
        let deadline = context.deadline.capped(now(), self.config.rank_cap);
        let context = context.with_deadline(deadline);
        let ranking = self.ranker.rank(query, &context).instrument(info_span!("rank"));
        timeout_at(deadline.instant().into(), ranking)
            .await
            .map_err(|_| Error::DeadlineExceeded)?
    }

    /// One item's way from pair to explanation; ends in exactly one `Explained`. By rule, it asks nobody.
    fn explain(
        self: Arc<Self>,
        item: SlateItem,
        is_by_rule: bool,
        asked: Arc<Resolved>,
        context: Context,
    ) -> impl Stream<Item = Event> + Send {
        stream! {
            let (position, started) = (item.position, now());
            let span = info_span!("item", position);
            if !asked.explain.wants(position) {
                yield explained(position, ladder::without_text(NoneReason::NotRequested), None);
                return;
            }
            let pair = Pair { tenant: context.tenant.clone(), user: asked.user.clone(), item: item.item, affinities: item.affinities };
            let history = asked.rank.history.clone();

            let (mut descents, mut knowledge) = (Vec::new(), None);
            if is_by_rule {
                descents.push(Descent::NoRoom);
            } else {
                match self.consult(&pair, &history, &context).instrument(info_span!(parent: &span, "consult")).await {
                    Ok(consulted) => knowledge = Some(consulted),
                    Err(descent) => descents.push(descent),
                }
            }
            let consult_time = now() - started;

            // A caller who refuses poorer rungs must not see text that is then withdrawn: hold it until its rung is known.
            let hold = asked.explain.lowest_rung.is_some_and(|lowest| lowest < Rung::Template);
            let mut sent = String::new();
            let mut finished = None;
            let query = ExplainQuery { pair, history, knowledge, style: asked.explain.style.wrapping_add(position.saturating_sub(1)) };
            if is_by_rule {
                // The template speaks, below.
            } else if self.config.mode == Mode::Oracle {
                finished = ladder::oracle_text(&query);
                if finished.is_none() { descents.push(Descent::OracleTextRefused) }
            } else {
                let writing = info_span!(parent: &span, "explain");
                match self.ask_prism(&query, &context).instrument(writing.clone()).await {
                    Err(descent) => descents.push(descent),
                    Ok(mut events) => loop {
                        match self.next_event(&mut events, &context).instrument(writing.clone()).await {
                            Ok(ExplanationEvent::Delta(text)) => {
                                sent.push_str(&text);
                                if !hold { yield Event::Delta { position, text } }
                            }
                            Ok(ExplanationEvent::Done(explanation)) => { finished = Some(explanation); break }
                            Err(descent) => { descents.push(descent); break }
                        }
                    },
                }
            }

            // The Prism died in mid-text: what was sent stands (every delta had passed the gate); otherwise the rule speaks.
            let mut explanation = match finished {
                Some(explanation) => explanation,
                None if !sent.is_empty() => ladder::cut_short(&query, &sent),
                // A long slate's last templates must not cost the caller the slate.
                None if self.latest_rule(&context) <= now() => ladder::without_text(NoneReason::Deadline),
                None => ladder::template(&query),
            };
            if !asked.explain.accepts(explanation.grounding.rung) {
                explanation = ladder::withdrawn(explanation);
            }
            if (sent.is_empty() || hold) && !explanation.text.is_empty() {
                yield Event::Delta { position, text: explanation.text.clone() };
            }
            explanation.grounding.descents.splice(0..0, descents.iter().map(|d| d.as_str().to_owned()));
            explanation.timings.consult = consult_time;
            explanation.timings.total = now() - started;
            yield explained(position, explanation, query.knowledge);
        }
    }

    /// Asks cache and Oracle, leaving the Prism its share of the time that is left.
    async fn consult(
        &self,
        pair: &Pair,
        history: &Arc<History>,
        context: &Context,
    ) -> Result<Knowledge, Descent> {
        if history.is_empty() {
            return Err(Descent::EmptyHistory);
        }
        let source = self.knowledge.as_ref().ok_or(Descent::NoOracle)?;
        let latest = context
            .deadline
            .less(self.config.explain_reserve.max(self.config.answer_margin))
            .capped(now(), self.config.consult_cap);
        if latest.has_passed(now()) {
            return Err(Descent::NoTimeToConsult);
        }
        match timeout_at(
            latest.instant().into(),
            source.consult(pair, history, &context.with_deadline(latest)),
        )
        .await
        {
            Ok(Ok(knowledge)) if knowledge.facts.is_empty() && knowledge.text.is_empty() => {
                Err(Descent::OracleSilent)
            }
            Ok(Ok(knowledge)) => Ok(knowledge),
            Ok(Err(error)) => Err(Descent::from_oracle(&error)),
            Err(_) => Err(Descent::OracleSlow),
        }
    }

    async fn ask_prism(
        &self,
        query: &ExplainQuery,
        context: &Context,
    ) -> Result<refract_domain::ExplanationStream, Descent> {
        let explainer = self.explainer.as_ref().ok_or(Descent::NoPrism)?;
        let latest = self.latest_text(context);
        // Once some have waited for a Prism in vain, the rest of a long slate does not even encode its questions.
        if latest <= now() {
            return Err(Descent::NoTimeToWrite);
        }
        match timeout_at(latest.into(), explainer.explain(query.clone(), context)).await {
            Ok(Ok(events)) => Ok(events),
            Ok(Err(error)) => Err(Descent::from_prism(&error)),
            Err(_) => Err(Descent::PrismSlow),
        }
    }

    async fn next_event(
        &self,
        events: &mut refract_domain::ExplanationStream,
        context: &Context,
    ) -> Result<ExplanationEvent, Descent> {
        match timeout_at(self.latest_text(context).into(), events.next()).await {
            Ok(Some(Ok(event))) => Ok(event),
            Ok(Some(Err(error))) => Err(Descent::from_prism(&error)),
            Ok(None) => Err(Descent::PrismLost),
            Err(_) => Err(Descent::PrismSlow),
        }
    }

    /// The last moment for a model's text: a template still has to be written and sent before the deadline.
    fn latest_text(&self, context: &Context) -> Instant {
        context.deadline.less(self.config.answer_margin).instant()
    }

    /// The last moment to begin a template: what there is still has to be sent before the deadline.
    fn latest_rule(&self, context: &Context) -> Instant {
        context.deadline.less(self.config.send_margin).instant()
    }
}

fn explained(position: u32, explanation: Explanation, knowledge: Option<Knowledge>) -> Event {
    Event::Explained(Box::new(Explained {
        position,
        explanation,
        knowledge,
        error: None,
    }))
}

/// The present, on the runtime's clock, so that tests can pause it.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests;
