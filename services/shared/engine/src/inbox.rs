//! The bounded way from any number of callers to the one thread of the engine.
//!
//! What waits is counted here until it starts or leaves, so that a full queue refuses at once, on the caller's thread,
//! without asking the engine.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::generation::Outbox;
use crate::phases::Phases;
use crate::scheduler::Entry;
use crate::sequence::Sequence;

/// An accepted request on its way to the scheduler.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) entry: Entry,
    pub(crate) sequence: Sequence,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) submitted_at: Instant,
    pub(crate) phases: Phases,
}

#[derive(Debug)]
pub(crate) struct Inbox {
    sequences_max: usize,
    tokens_max: usize,
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    /// Nothing new; what was accepted is finished.
    Draining,
    /// Nothing at all, for this reason.
    Closed(String),
}

#[derive(Debug)]
struct State {
    phase: Phase,
    arrivals: Vec<Submission>,
    /// Accepted and not started, `arrivals` included.
    waiting_sequences: usize,
    waiting_tokens: usize,
    /// Cost that the engine lately got through in a second; 0: not known yet.
    tokens_per_second: f64,
    has_news: bool,
    /// Whether arrivals are kept back.
    held: bool,
}

impl Inbox {
    pub(crate) fn new(sequences_max: usize, tokens_max: usize) -> Self {
        let state = State {
            phase: Phase::Open,
            arrivals: Vec::new(),
            waiting_sequences: 0,
            waiting_tokens: 0,
            tokens_per_second: 0.0,
            has_news: false,
            held: false,
        };
        Self {
            sequences_max,
            tokens_max,
            state: Mutex::new(state),
            news: Condvar::new(),
        }
    }

    /// Accepts or refuses, at once.
    pub(crate) fn submit(&self, submission: Submission) -> Result<(), Error> {
        let mut state = self.lock();
        match &state.phase {
            Phase::Open => {}
            Phase::Draining => return Err(Error::Draining),
            Phase::Closed(reason) => {
                return Err(Error::Stopped {
                    reason: reason.clone(),
                });
            }
        }
        let tokens = submission.entry.cost();
        // An empty queue takes anything that fits the device: a bound below one sequence would refuse it for ever.
        let is_full = state.waiting_sequences >= self.sequences_max
            || (state.waiting_sequences > 0 && state.waiting_tokens + tokens > self.tokens_max);
        if is_full {
            return Err(Error::Busy {
                waiting_sequences: state.waiting_sequences,
                waiting_tokens: state.waiting_tokens,
                retry_after: state.retry_after(),
            });
        }
        state.waiting_sequences += 1;
        state.waiting_tokens += tokens;
        state.arrivals.push(submission);
        state.has_news = true;
        drop(state);
        self.news.notify_one();
        Ok(())
    }

    /// Moves what has arrived to the end of `into`. With `may_sleep`, waits until there is something to do.
    pub(crate) fn take(&self, may_sleep: bool, into: &mut Vec<Submission>) -> Phase {
        let mut state = self.lock();
        while may_sleep && (state.held || !state.has_news) && state.phase == Phase::Open {
            state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        // Who closes it wants everybody told, also those who are kept back.
        if !state.held || matches!(state.phase, Phase::Closed(_)) {
            state.has_news = false;
            into.append(&mut state.arrivals);
        }
        state.phase.clone()
    }

    /// What arrives from now on is taken together, when the guard is dropped.
    pub(crate) fn hold(&self) -> Held<'_> {
        self.lock().held = true;
        Held(self)
    }

    /// A waiting sequence has started or left.
    pub(crate) fn leave(&self, tokens: usize) {
        let mut state = self.lock();
        state.waiting_sequences -= 1;
        state.waiting_tokens -= tokens;
    }

    /// Waiting sequences, and their tokens.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let state = self.lock();
        (state.waiting_sequences, state.waiting_tokens)
    }

    pub(crate) fn set_pace(&self, tokens_per_second: f64) {
        self.lock().tokens_per_second = tokens_per_second;
    }

    /// Somebody has cancelled: the engine should look.
    pub(crate) fn wake(&self) {
        self.lock().has_news = true;
        self.news.notify_one();
    }

    pub(crate) fn drain(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Draining;
        }
        drop(state);
        self.news.notify_one();
    }

    /// The first reason stays.
    pub(crate) fn close(&self, reason: &str) {
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Closed(_)) {
            state.phase = Phase::Closed(reason.to_owned());
        }
        drop(state);
        self.news.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps arrivals until it is dropped.
pub(crate) struct Held<'a>(&'a Inbox);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.lock().held = false;
        self.0.news.notify_one();
    }
}

impl State {
    /// When the queue should have room again: all of it at the present pace, within reason.
    fn retry_after(&self) -> Duration {
        const LEAST: Duration = Duration::from_millis(50);
        const MOST: Duration = Duration::from_secs(30);
        const UNKNOWN: Duration = Duration::from_secs(1);
        if self.tokens_per_second <= 0.0 {
            return UNKNOWN;
        }
        Duration::try_from_secs_f64(self.waiting_tokens as f64 / self.tokens_per_second)
            .unwrap_or(MOST)
            .clamp(LEAST, MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::GenerationParams;
    use crate::sequence::SequenceId;

    fn submission() -> Submission {
        let id = SequenceId(0);
        Submission {
            entry: Entry {
                id,
                prompt_tokens: 1,
                rows: 1,
                new_tokens: 1,
                page_tokens: 1,
                deadline: None,
            },
            sequence: Sequence::new(id, vec![5], None, GenerationParams::greedy(1, Vec::new()), 0, 0),
            outbox: Arc::new(Outbox::default()),
            submitted_at: Instant::now(),
            phases: Phases::queue(1),
        }
    }

    #[test]
    fn arrivals_that_are_kept_back_are_given_out_together_or_when_the_inbox_closes() {
        for closes in [false, true] {
            let inbox = Inbox::new(4, 100);
            let held = inbox.hold();
            inbox.submit(submission()).expect("accepted");
            inbox.submit(submission()).expect("accepted");
            let mut taken = Vec::new();
            inbox.take(false, &mut taken);
            assert_eq!(taken.len(), 0);
            if closes {
                inbox.close("the device is lost");
            } else {
                drop(held);
            }
            inbox.take(false, &mut taken);
            assert_eq!(taken.len(), 2);
        }
    }
}
