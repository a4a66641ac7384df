//! One pair through the river, and asked otherwise.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::StreamExt;
use refract_bundle::Prompt;
use refract_domain::{
    Affinity, Candidates, Context, Deadline, ExplainQuery, Explainer, Explanation, ExplanationEvent,
    FactKind, History, Item, ItemId, Knowledge, KnowledgeSource, Pair, RankQuery, Ranker, RequestId, Rung,
    SlateItem, TenantId, UserId,
};
use refract_truth::{Part, render};

use super::{Answered, Asked, Bench};
use crate::eval::claims::{unfounded_claims, unfounded_fact};
use crate::eval::observe::{Ablation, Observed, Told};
use crate::eval::scene::Scene;
use crate::eval::words::tidy;

/// Far beyond what one answer takes; so that nothing hangs.
const ANSWER_MAX: Duration = Duration::from_secs(300);
/// Titles of a history that are shown to people.
const LIKED_SHOWN_MAX: usize = 8;
impl Bench {
    pub(super) async fn rank(
        &self,
        history: &Arc<History>,
        candidates: Candidates,
        limit: usize,
    ) -> Result<Vec<SlateItem>> {
        let query = RankQuery {
            history: history.clone(),
            candidates,
            filters: Vec::new(),
            include_seen: false,
            limit,
        };
        Ok(self.ranker.rank(&query, &context()).await?.items)
    }

    pub(super) async fn explain(
        &self,
        asked: &Asked,
        users: &[Asked],
        place: SlateItem,
        style: u32,
        ablate: bool,
    ) -> Result<Answered> {
        let history = asked.history.clone();
        let pair = pair(Some(asked.user.clone()), place);
        let scene = self.scene(&pair.item, &history, &pair.affinities);
        let told = |text| Told::of(&self.lexicon, &scene, text);
        let (knowledge, facts_refused) = self.consult(&pair, &history).await?;
        let query = ExplainQuery {
            pair: pair.clone(),
            history: history.clone(),
            knowledge: knowledge.clone(),
            style,
        };
        let (explanation, raw) = tokio::try_join!(self.prism_text(query.clone()), self.raw(&query))?;
        let facts = knowledge.as_ref().map(|k| k.facts.as_slice()).unwrap_or_default();
        let claims = &explanation.grounding.claims;
        let ablation = if ablate {
            Some(Box::pin(self.ablate(&query, &explanation, users, asked.number, &scene)).await?)
        } else {
            None
        };
        let observed = Observed {
            user: asked.number,
            item: pair.item.clone(),
            liked: history
                .liked()
                .take(LIKED_SHOWN_MAX)
                .map(|i| i.item.title.clone())
                .collect(),
            before: told(raw.text),
            informed: raw.informed,
            has_name_in_common: scene.has_name_in_common(),
            offered_name_in_common: self.offered(&pair, &history, &scene)?,
            knows_name_in_common: facts.iter().any(|fact| match &fact.kind {
                FactKind::Shared { value, .. } => scene.is_name_in_common(value),
                _ => false,
            }),
            claims: claims.len(),
            claims_unfounded: unfounded_claims(&scene, &explanation.text, claims, facts)
                .len()
                .min(claims.len()),
            rung: explanation.grounding.rung,
            after: told(explanation.text),
            refused: raw.refused,
            facts: facts.len(),
            facts_unfounded: facts
                .iter()
                .filter(|fact| unfounded_fact(&self.lexicon, &scene, fact).is_some())
                .count(),
            facts_refused,
            ablation,
        };
        Ok(Answered {
            observed,
            pair,
            history,
            knowledge,
            style,
        })
    }

    /// Whether the closest tie is among an Oracle's candidates: what it was not offered it cannot choose.
    fn offered(&self, pair: &Pair, history: &Arc<History>, scene: &Scene) -> Result<Option<bool>> {
        let bundle = self.oracle_worker.bundle();
        let prompt = bundle
            .prompt_oracle(pair, history)
            .context("the Oracle's prompt")?;
        let values = prompt.candidates().filter_map(|relation| match &relation.kind {
            refract_truth::Kind::Shared { value, .. } => Some(scene.is_name_in_common(value)),
            _ => None,
        });
        Ok(prompt
            .slots()
            .is_some()
            .then(|| values.into_iter().any(|close| close)))
    }

    /// As the river does: knowledge that says nothing is none.
    pub(super) async fn consult(
        &self,
        pair: &Pair,
        history: &Arc<History>,
    ) -> Result<(Option<Knowledge>, usize)> {
        let knowledge = self
            .oracle
            .consult(pair, history, &context())
            .await
            .context("the Oracle")?;
        let refused = knowledge.facts_refused as usize;
        Ok((
            (!knowledge.facts.is_empty() || !knowledge.text.is_empty()).then_some(knowledge),
            refused,
        ))
    }

    pub(super) async fn prism_text(&self, query: ExplainQuery) -> Result<Explanation> {
        let mut events = self.prism.explain(query, &context()).await.context("the Prism")?;
        let mut text = String::new();
        while let Some(event) = events.next().await {
            match event.context("the Prism")? {
                ExplanationEvent::Delta(delta) => text.push_str(&delta),
                ExplanationEvent::Done(explanation) => {
                    ensure!(
                        text == explanation.text,
                        "the Prism's deltas do not join to its text"
                    );
                    return Ok(explanation);
                }
            }
        }
        bail!("the Prism's stream ended without an end")
    }

    /// The first text as the model wrote it, and where the gate would cut it.
    async fn raw(&self, query: &ExplainQuery) -> Result<Raw> {
        let bundle = self.prism_worker.bundle();
        let prompt = bundle.prompt_prism(query).context("the Prism's prompt")?;
        let generation = self
            .prism_worker
            .generate(
                &prompt,
                query.pair.user.as_ref(),
                &query.pair.item.id,
                context().deadline,
            )
            .context("the Prism")?;
        let finished = generation.collect().await.context("the Prism")?;
        let text = bundle.decode(&finished.ids);
        let mut filler = prompt.filler();
        filler.push(&text);
        filler.finish();
        let refused = filler.refusals().iter().map(|refusal| refusal.as_str()).collect();
        let informed = query
            .knowledge
            .iter()
            .flat_map(|k| &k.facts)
            .any(|fact| prompt.gate().supports(fact));
        Ok(Raw {
            text: filled(&prompt, &text),
            informed,
            refused,
        })
    }

    async fn ablate(
        &self,
        query: &ExplainQuery,
        given: &Explanation,
        users: &[Asked],
        own: usize,
        scene: &Scene,
    ) -> Result<Ablation> {
        let ignorant = ExplainQuery {
            knowledge: None,
            ..query.clone()
        };
        let (without, without_raw) =
            tokio::try_join!(self.prism_text(ignorant.clone()), self.raw(&ignorant))?;
        let item = &query.pair.item;
        let stranger = (1..users.len())
            .map(|step| &users[(own + step) % users.len()])
            .find(|other| !other.history.contains(&item.id));
        let other = match stranger {
            Some(stranger) => {
                let slate = self
                    .rank(&stranger.history, Candidates::Given(vec![item.clone()]), 1)
                    .await?;
                let place = slate
                    .into_iter()
                    .next()
                    .context("a given slate came back empty")?;
                let pair = pair(Some(stranger.user.clone()), place);
                let (knowledge, _) = self.consult(&pair, &stranger.history).await?;
                let query = ExplainQuery {
                    pair,
                    history: stranger.history.clone(),
                    knowledge,
                    style: query.style,
                };
                Some(self.prism_text(query).await?.text)
            }
            None => None,
        };
        Ok(Ablation {
            without: Told::of(&self.lexicon, scene, without.text),
            without_rung: without.grounding.rung,
            without_before: Told::of(&self.lexicon, scene, without_raw.text),
            foreign: None,
            other,
            edits: self.edits(query, given).await?,
            without_reasons: self.without_reasons(query, given).await?,
        })
    }

    /// The knowledge of another user's other item, which no gate should believe.
    pub(super) async fn with_foreign(
        &self,
        first: &Answered,
        own: usize,
        given: &[Option<(ItemId, Knowledge)>],
    ) -> Result<Option<(Told, Rung)>> {
        let others = (1..given.len()).filter_map(|step| given[(own + step) % given.len()].as_ref());
        let Some((_, knowledge)) = others.into_iter().find(|(item, _)| *item != first.pair.item.id) else {
            return Ok(None);
        };
        let query = ExplainQuery {
            pair: first.pair.clone(),
            history: first.history.clone(),
            knowledge: Some(knowledge.clone()),
            style: first.style,
        };
        let explanation = self.prism_text(query).await?;
        let scene = self.scene(&first.pair.item, &first.history, &first.pair.affinities);
        Ok(Some((
            Told::of(&self.lexicon, &scene, explanation.text),
            explanation.grounding.rung,
        )))
    }

    pub(super) fn scene(&self, item: &Arc<Item>, history: &History, affinities: &[Affinity]) -> Scene {
        let lifts: HashMap<ItemId, f32> = affinities
            .iter()
            .filter_map(|a| {
                Some((
                    a.item.clone(),
                    self.co_likes.lift(&self.dataset, &a.item, &item.id)?,
                ))
            })
            .collect();
        Scene::new(item, history, affinities, lifts)
    }
}

struct Raw {
    text: String,
    informed: bool,
    refused: Vec<&'static str>,
}

pub(super) fn pair(user: Option<UserId>, place: SlateItem) -> Pair {
    Pair {
        tenant: TenantId::default(),
        user,
        item: place.item,
        affinities: place.affinities,
    }
}

fn context() -> Context {
    let deadline = Deadline::after(Instant::now(), ANSWER_MAX);
    Context {
        tenant: TenantId::default(),
        request: RequestId::default(),
        deadline,
    }
}

/// A model's text with its slots filled and nothing refused; slots that the prompt does not define stay as they are.
pub(in crate::eval) fn filled(prompt: &Prompt, text: &str) -> String {
    let Some(table) = prompt.slots() else {
        return tidy(text);
    };
    let sentences = text
        .split_inclusive(['.', '!', '?'])
        .filter(|sentence| !sentence.trim().is_empty())
        .map(|sentence| {
            let mut parts = Vec::new();
            let mut rest = sentence;
            while let Some(start) = rest.find('<') {
                let end = rest[start..].find('>').map_or(rest.len(), |end| start + end + 1);
                parts.push(Part::Text(rest[..start].to_owned()));
                let slot = &rest[start..end];
                parts.push(table.part(slot).unwrap_or_else(|| Part::Text(slot.to_owned())));
                rest = &rest[end..];
            }
            parts.push(Part::Text(rest.to_owned()));
            parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
            render(&parts).text
        });
    sentences.collect::<Vec<_>>().join(" ")
}
