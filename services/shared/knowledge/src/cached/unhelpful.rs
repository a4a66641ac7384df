//! Questions that the Oracle could not answer a moment ago: asking again at once would give the same.
//!
//! Kept in this process only and for seconds; never instead of an entry with something in it.

use std::fmt;
use std::time::Duration;

use moka::future::Cache;
use refract_domain::{Error, Knowledge};
use tokio::time::Instant;

use crate::key::KeyDigest;

pub(super) struct Unhelpful {
    answers: Cache<KeyDigest, (Result<Knowledge, Error>, Instant)>,
    ttl: Duration,
}

/// Nothing was said, which is an answer, but none worth remembering for long.
pub(super) fn is_empty(knowledge: &Knowledge) -> bool {
    knowledge.facts.is_empty() && knowledge.text.trim().is_empty()
}

impl Unhelpful {
    const ANSWERS_MAX: u64 = 10_000;

    pub(super) fn new(ttl: Duration) -> Self {
        let answers = Cache::builder()
            .max_capacity(Self::ANSWERS_MAX)
            .time_to_live(ttl)
            .build();
        Self { answers, ttl }
    }

    pub(super) async fn find(&self, digest: &KeyDigest) -> Option<Result<Knowledge, Error>> {
        if self.ttl.is_zero() {
            return None;
        }
        let (answer, until) = self.answers.get(digest).await?;
        (Instant::now() < until).then_some(answer)
    }

    /// Keeps an answer if it is the question's own fault; an overloaded or unreachable Oracle is nobody's.
    pub(super) async fn note(&self, digest: &KeyDigest, answer: &Result<Knowledge, Error>) {
        let its_own_fault = match answer {
            Ok(knowledge) => is_empty(knowledge),
            Err(error) => matches!(error, Error::ModelFault | Error::Invalid { .. }),
        };
        if its_own_fault && !self.ttl.is_zero() {
            self.answers
                .insert(*digest, (answer.clone(), Instant::now() + self.ttl))
                .await;
        }
    }
}

impl fmt::Debug for Unhelpful {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unhelpful")
            .field("answers", &self.answers.entry_count())
            .finish()
    }
}
