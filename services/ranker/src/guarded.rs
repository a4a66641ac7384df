//! The Oracle behind a breaker: one that failed or kept silent too often is not asked for a while, so that no item waits
//! for it in vain. What is remembered is served all the same: this stands behind the memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use refract_domain::{
    Context, Error, History, Knowledge, KnowledgeSource, Pair, RequestId, UnavailableReason,
};
use refract_resilience::breaker::{self, Breaker, Permit, State};

use crate::recommend::now;

/// A `KnowledgeSource` in front of one. While it holds questions back they fail at once, as if nobody were there.
#[derive(Debug)]
pub(crate) struct Guarded<S> {
    source: S,
    watch: Watch,
}

#[derive(Debug)]
struct Watch {
    breaker: Breaker,
    silence_max: Duration,
    heard: Mutex<Heard>,
    /// What was told last.
    is_held_back: AtomicBool,
}

/// What tells a silent Oracle from one that is slower than some callers are patient.
#[derive(Debug, Default)]
struct Heard {
    /// When anybody was last answered.
    answered: Option<Instant>,
    /// Whose silence counted last, and when: a slate's items are given up together, and are one silence.
    silent: Option<(RequestId, Instant)>,
}

/// One question under way.
struct Trial<'a> {
    watch: &'a Watch,
    request: RequestId,
    permit: Option<Permit>,
    since: Instant,
}

impl<S> Guarded<S> {
    pub(crate) fn new(source: S, config: breaker::Config, silence_max: Duration) -> Self {
        Self {
            source,
            watch: Watch {
                breaker: Breaker::new(config),
                silence_max,
                heard: Mutex::default(),
                is_held_back: AtomicBool::new(false),
            },
        }
    }
}

#[async_trait]
impl<S: KnowledgeSource> KnowledgeSource for Guarded<S> {
    async fn consult(
        &self,
        pair: &Pair,
        history: &Arc<History>,
        context: &Context,
    ) -> Result<Knowledge, Error> {
        let trial = self.watch.begin(context)?;
        let answer = self.source.consult(pair, history, context).await;
        trial.end(&answer);
        answer
    }
}

impl Watch {
    fn begin(&self, context: &Context) -> Result<Trial<'_>, Error> {
        let since = now();
        let permit = self.breaker.try_call(since).map_err(|_| Error::Unavailable {
            reason: UnavailableReason::Unreachable,
        })?;
        Ok(Trial {
            watch: self,
            request: context.request.clone(),
            permit: Some(permit),
            since,
        })
    }

    fn heard(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One log line for each change, and a gauge for dashboards.
    fn tell(&self) {
        let is_held_back = self.breaker.state() != State::Closed;
        metrics::gauge!("refract_ranker_oracle_held_back").set(f64::from(u8::from(is_held_back)));
        match (
            self.is_held_back.swap(is_held_back, Ordering::Relaxed),
            is_held_back,
        ) {
            (false, true) => {
                tracing::warn!("the Oracle fails or keeps silent: it is asked only now and then")
            }
            (true, false) => tracing::info!("the Oracle answers again"),
            _ => {}
        }
    }
}

impl Trial<'_> {
    fn end(mut self, answer: &Result<Knowledge, Error>) {
        match answer {
            // An answer, or a question that is at fault itself: somebody is there and works.
            Ok(_)
            | Err(
                Error::Invalid { .. }
                | Error::NotFound { .. }
                | Error::Precondition { .. }
                | Error::ModelFault,
            ) => {
                self.watch.heard().answered = Some(now());
                self.settle(Permit::success);
            }
            Err(Error::Internal) => self.settle(Permit::failure),
            // Refused at once costs nobody anything, and time that ran out may be the caller's own: how long it took says.
            Err(
                Error::Overloaded { .. }
                | Error::Unavailable { .. }
                | Error::Infeasible
                | Error::DeadlineExceeded
                | Error::Cancelled,
            ) => {}
        }
    }

    fn settle(&mut self, with: fn(Permit, Instant)) {
        if let Some(permit) = self.permit.take() {
            with(permit, now());
            self.watch.tell();
        }
    }
}

impl Drop for Trial<'_> {
    /// Callers stop waiting without a word, so silence is found here.
    fn drop(&mut self) {
        let now = now();
        if self.permit.is_none() || now.saturating_duration_since(self.since) < self.watch.silence_max {
            return;
        }
        let mut heard = self.watch.heard();
        let others_were_answered = heard.answered.is_some_and(|answered| answered >= self.since);
        let is_told = heard
            .silent
            .as_ref()
            .is_some_and(|(request, at)| *request == self.request && self.since < *at);
        if others_were_answered || is_told {
            return;
        }
        heard.silent = Some((self.request.clone(), now));
        drop(heard);
        self.settle(Permit::failure);
    }
}

#[cfg(test)]
mod tests;
