//! How sequences end, well or not: what they hold is given back, and whoever waits is told.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use tracing::{error, warn};

use super::{Active, Loop};
use crate::engine::Health;
use crate::error::Error;
use crate::generation::{Finish, Finished, Hypothesis};
use crate::handle::Shared;
use crate::runner::Runner;
use crate::sequence::SequenceId;

/// Model faults of so many different prompts within [`FAULTS_WINDOW`] and the engine calls itself unhealthy. One prompt counts
/// once: who sends it again and again, to one replica after another, must not take them all out of service.
const FAULTS_MAX: usize = 3;
const FAULTS_WINDOW: Duration = Duration::from_secs(60);

impl<R: Runner> Loop<R> {
    /// The end of a sequence, wherever it is: gives back what it holds and tells its caller.
    pub(super) fn end(&mut self, id: SequenceId, result: Result<Vec<Hypothesis>, Error>) {
        let Some(active) = self.active.remove(&id) else {
            return;
        };
        let outcome = match (&result, active.outbox.is_cancelled()) {
            (_, true) => {
                self.stats.cancelled += 1;
                "cancelled"
            }
            (Ok(results), _) => {
                self.stats.finished += 1;
                match results.first().map(|h| h.finish) {
                    Some(Finish::Stop) => "stop",
                    _ => "length",
                }
            }
            (Err(error), _) => {
                self.stats.failed += 1;
                error.label()
            }
        };
        active.phases.end(outcome, active.steps);
        self.shared.meters.ended(outcome, active.submitted_at.elapsed());
        if let Err(Error::ModelFault { reason }) = &result {
            self.note_fault(&active, reason);
        }
        if active.started_at.is_none() {
            self.shared.inbox.leave(active.cost);
        }
        let end = result.and_then(|hypotheses| active.finished(hypotheses));
        self.ended.push((active.outbox, end));
        // Last: a runner may panic, and who waits must be on record by then.
        if let Some(lease) = self.scheduler.settle(id) {
            self.runner.release_rows(&lease.rows);
            self.runner.release_cross(lease.cross);
        }
    }

    fn note_fault(&mut self, of: &Active, reason: &str) {
        let now = Instant::now();
        warn!(engine = %self.shared.config.name, sequence = %of.sequence.id, reason, "model fault");
        self.shared.meters.faults.increment(1);
        let mut hash = DefaultHasher::new();
        (&of.sequence.prompt, of.sequence.pairs).hash(&mut hash);
        let prompt = hash.finish();
        self.faults
            .retain(|(at, other)| now.duration_since(*at) < FAULTS_WINDOW && *other != prompt);
        self.faults.push_back((now, prompt));
        if self.faults.len() >= FAULTS_MAX {
            let reason = format!(
                "{} model faults of different prompts within {} s",
                self.faults.len(),
                FAULTS_WINDOW.as_secs()
            );
            error!(engine = %self.shared.config.name, %reason, "the engine is unhealthy");
            self.shared.health.send_replace(Health::Unhealthy { reason });
            self.faults.drain(..self.faults.len() - FAULTS_MAX + 1);
        }
    }

    /// Tells everybody who still waits that nothing will come. Does not touch the runner, which may be broken.
    pub(super) fn abandon(&mut self, reason: &str) {
        self.tell();
        let stopped = || Error::Stopped {
            reason: reason.to_owned(),
        };
        for arrival in self.arrivals.drain(..) {
            self.shared.inbox.leave(arrival.entry.cost());
            self.ended.push((arrival.outbox, Err(stopped())));
        }
        for (id, active) in self.active.drain() {
            self.scheduler.settle(id);
            if active.started_at.is_none() {
                self.shared.inbox.leave(active.cost);
            }
            self.stats.failed += 1;
            self.shared.meters.ended("stopped", active.submitted_at.elapsed());
            self.ended.push((active.outbox, Err(stopped())));
        }
        self.stats.running_sequences = 0;
        self.stats.running_rows = 0;
        self.stats.kv_tokens_used = self.scheduler.kv().tokens_used();
        self.shared.stats.write(&self.stats);
        self.tell();
        turn_away(&self.shared, reason);
    }
}

/// Tells those who have not been looked at yet that nothing will come.
pub(super) fn turn_away(shared: &Shared, reason: &str) {
    let mut arrivals = Vec::new();
    shared.inbox.take(false, &mut arrivals);
    for arrival in arrivals {
        shared.inbox.leave(arrival.entry.cost());
        arrival.outbox.end(Err(Error::Stopped {
            reason: reason.to_owned(),
        }));
    }
}

impl Active {
    fn finished(&self, hypotheses: Vec<Hypothesis>) -> Result<Finished, Error> {
        let best = hypotheses
            .first()
            .cloned()
            .ok_or_else(|| Error::fault("this is a bug: no hypothesis"))?;
        let started_at = self.started_at.unwrap_or(self.submitted_at);
        Ok(Finished {
            ids: best.ids,
            finish: best.finish,
            score: best.score,
            hypotheses,
            prompt_tokens: self.sequence.prompt.len(),
            queue_time: started_at.duration_since(self.submitted_at),
            encode_time: self.encode_time,
            decode_time: self.decode_begun.map_or(Duration::ZERO, |begun| begun.elapsed()),
            steps: self.steps,
        })
    }
}
