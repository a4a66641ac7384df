//! One question, one consultation: callers with the same question at the same time share one flight.
//!
//! A flight is a task of its own, so that a caller who leaves does not take it down; it ends early only when the last
//! one has left. It flies with the deadline of the caller who led it: no hop is ever given more time than its caller
//! has. A follower with more time left, seeing that flight fail for want of time, leads or joins the next.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::future::{AbortHandle, Abortable};
use refract_domain::{
    Context, Deadline, Error, History, Knowledge, KnowledgeSource, Pair, UnavailableReason,
};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use crate::key::{Key, KeyDigest, Keys};
use crate::metrics;

/// A `KnowledgeSource` in front of one, with at most one consultation per question in this process.
#[derive(Debug)]
pub struct Coalesced<S> {
    source: Arc<S>,
    keys: Arc<Keys>,
    flights: Arc<Flights>,
}

/// Flights that one caller will board before it gives up: more than this would be chasing.
const BOARDINGS_MAX: usize = 3;

type Outcome = Result<Knowledge, Error>;

#[derive(Debug)]
struct Flights {
    by_question: Mutex<HashMap<KeyDigest, Flight>>,
    flights_max: usize,
}

#[derive(Debug)]
struct Flight {
    outcome: watch::Receiver<Option<Outcome>>,
    deadline: Deadline,
    waiting: usize,
    task: AbortHandle,
}

/// A caller's place on a flight. Dropping the last one ends the flight.
struct Seat<'a> {
    flights: &'a Flights,
    question: KeyDigest,
    outcome: watch::Receiver<Option<Outcome>>,
    deadline: Deadline,
}

/// Held by the flight's task: whatever becomes of the task, its flight is taken off the board.
struct Landing {
    flights: Arc<Flights>,
    question: KeyDigest,
    outcome: watch::Sender<Option<Outcome>>,
}

impl<S: KnowledgeSource + 'static> Coalesced<S> {
    pub fn new(source: S, keys: Arc<Keys>, flights_max: usize) -> Self {
        let flights = Arc::new(Flights {
            by_question: Mutex::default(),
            flights_max,
        });
        Self {
            source: Arc::new(source),
            keys,
            flights,
        }
    }

    /// Consults under a key that the caller has made already.
    pub(crate) async fn consult_as(
        &self,
        key: &Key,
        pair: &Pair,
        history: &Arc<History>,
        context: &Context,
    ) -> Result<Knowledge, Error> {
        let mut boardings = 1;
        loop {
            let seat = self.board(*key.digest(), pair, history, context)?;
            let outcome = seat.wait(context.deadline).await;
            let for_want_of_time = matches!(
                outcome,
                Err(Error::DeadlineExceeded | Error::Infeasible | Error::Cancelled)
            );
            let has_more_time = seat.deadline < context.deadline && !context.deadline.has_passed(now());
            if for_want_of_time && has_more_time && boardings < BOARDINGS_MAX {
                boardings += 1;
                continue;
            }
            return outcome;
        }
    }

    fn board(
        &self,
        question: KeyDigest,
        pair: &Pair,
        history: &Arc<History>,
        context: &Context,
    ) -> Result<Seat<'_>, Error> {
        let mut flying = None;
        let mut board = self.flights.board();
        let boarded = board.len();
        let flight = match board.entry(question) {
            Entry::Occupied(entry) => {
                metrics::flight("joined");
                let flight = entry.into_mut();
                flight.waiting += 1;
                flight
            }
            Entry::Vacant(_) if boarded >= self.flights.flights_max => {
                metrics::flight("refused");
                return Err(Error::Unavailable {
                    reason: UnavailableReason::Busy,
                });
            }
            Entry::Vacant(entry) => {
                metrics::flight("led");
                metrics::flights_now(boarded + 1);
                let (sender, outcome) = watch::channel(None);
                let landing = Landing {
                    flights: Arc::clone(&self.flights),
                    question,
                    outcome: sender,
                };
                let (source, pair, history) = (Arc::clone(&self.source), pair.clone(), Arc::clone(history));
                let deadline = context.deadline;
                let context = context.clone();
                let (task, registration) = AbortHandle::new_pair();
                let flight = async move {
                    let outcome = source.consult(&pair, &history, &context).await;
                    landing.land(outcome);
                };
                flying = Some(Abortable::new(flight.in_current_span(), registration));
                entry.insert(Flight {
                    outcome,
                    deadline,
                    waiting: 1,
                    task,
                })
            }
        };
        let seat = Seat {
            flights: &self.flights,
            question,
            outcome: flight.outcome.clone(),
            deadline: flight.deadline,
        };
        // A runtime that is closing drops a task where it is spawned, and the flight then takes itself off the board.
        drop(board);
        if let Some(flying) = flying {
            tokio::spawn(flying);
        }
        Ok(seat)
    }
}

#[async_trait]
impl<S: KnowledgeSource + 'static> KnowledgeSource for Coalesced<S> {
    async fn consult(
        &self,
        pair: &Pair,
        history: &Arc<History>,
        context: &Context,
    ) -> Result<Knowledge, Error> {
        let revisions = self.keys.revisions.get().unwrap_or_default();
        let key = self.keys.key(pair, history, &revisions);
        self.consult_as(&key, pair, history, context).await
    }
}

impl Flights {
    fn board(&self) -> MutexGuard<'_, HashMap<KeyDigest, Flight>> {
        self.by_question.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat<'_> {
    async fn wait(&self, deadline: Deadline) -> Outcome {
        let mut outcome = self.outcome.clone();
        let landed = timeout_at(
            Instant::from_std(deadline.instant()),
            outcome.wait_for(Option::is_some),
        )
        .await;
        match landed {
            Err(_) => Err(Error::DeadlineExceeded),
            Ok(Ok(outcome)) => outcome.clone().unwrap_or(Err(Error::Internal)),
            // The task ended without an outcome: it panicked.
            Ok(Err(_)) => Err(Error::Internal),
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut board = self.flights.board();
        let Entry::Occupied(mut entry) = board.entry(self.question) else {
            return;
        };
        // Another flight may have taken the place of one that has landed.
        if !entry.get().outcome.same_channel(&self.outcome) {
            return;
        }
        entry.get_mut().waiting -= 1;
        if entry.get().waiting == 0 {
            metrics::flight("abandoned");
            let flight = entry.remove();
            metrics::flights_now(board.len());
            // Whatever ending it wakes or drops may want the board.
            drop(board);
            flight.task.abort();
        }
    }
}

impl Landing {
    fn land(self, outcome: Outcome) {
        self.outcome.send_replace(Some(outcome));
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut board = self.flights.board();
        if let Entry::Occupied(entry) = board.entry(self.question)
            && entry.get().outcome.same_channel(&self.outcome.subscribe())
        {
            entry.remove();
            metrics::flights_now(board.len());
        }
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tests::support::{Oracle, context, history, pair};
    use crate::{CurrentRevisions, Keyring};

    #[test]
    fn a_question_on_a_runtime_that_is_closing_takes_itself_off_the_board() {
        let (done, is_done) = std::sync::mpsc::sync_channel(1);
        // Of its own: what hangs here must not hang the tests.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let handle = runtime.handle().clone();
            drop(runtime);
            let _inside = handle.enter();
            let keys = Keys::new(
                Keyring::new("x", b"a secret of the tests"),
                CurrentRevisions::default(),
            );
            let source = Coalesced::new(Oracle::new(Duration::ZERO), Arc::new(keys), 1);
            let question = KeyDigest([7; 32]);
            drop(source.board(question, &pair("ann", "heat"), &history(), &context()));
            done.send(source.flights.board().len()).unwrap();
        });
        assert_eq!(is_done.recv_timeout(Duration::from_secs(30)), Ok(0));
    }
}
