//! Pair and History to Knowledge: one of the two places where recommendation becomes text generation.
//!
//! ```text
//!  pair, history ─▶ bundle: candidate relations in a prompt ─▶ engine: text ─▶ bundle: facts ─▶ truth gate ─▶ Knowledge
//! ```
//!
//! The Oracle judges what matters; what can be true at all was found by rule from the request (metadata, co-likes), and
//! a statement that is not among the candidates, or that the request does not support, is thrown away and counted.

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use refract_domain::{Context, Error, Freshness, History, Knowledge, KnowledgeSource, Pair, Timestamp};
use refract_worker::Worker;

/// A FLAN-T5-class model that knows why.
#[derive(Clone, Debug)]
pub struct Oracle {
    worker: Arc<Worker>,
}

impl Oracle {
    pub fn new(worker: Arc<Worker>) -> Self {
        Self { worker }
    }
}

#[async_trait]
impl KnowledgeSource for Oracle {
    async fn consult(
        &self,
        pair: &Pair,
        history: &Arc<History>,
        context: &Context,
    ) -> Result<Knowledge, Error> {
        let bundle = self.worker.bundle();
        let prompt = bundle
            .prompt_oracle(pair, history)
            .map_err(|error| Error::invalid("question.item", error.to_string()))?;
        let generation =
            self.worker
                .generate(&prompt, pair.user.as_ref(), &pair.item.id, context.deadline)?;
        let finished = generation
            .collect()
            .await
            .map_err(|error| refract_worker::to_domain(&error))?;
        let parsed = bundle.parse_oracle(&prompt, &bundle.decode(&finished.ids));
        metrics::counter!("refract_oracle_facts_total").increment(parsed.facts.len() as u64);
        metrics::counter!("refract_oracle_facts_refused_total").increment(u64::from(parsed.refused));
        Ok(Knowledge {
            facts: parsed.facts,
            text: parsed.text,
            oracle_revision: bundle.revision(),
            template_revision: bundle.template_revision(),
            created_at: wall_clock(),
            freshness: Freshness::Fresh,
            facts_refused: parsed.refused,
            history_truncated: prompt.history_truncated,
        })
    }
}

/// For people and for ages across processes; deadlines never use it.
fn wall_clock() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
