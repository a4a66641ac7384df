//! What a caller holds while a sequence is decoded: a stream of events that never holds up the engine.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;

use crate::error::Error;
use crate::inbox::Inbox;

/// One thing the engine says of a sequence.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Tokens produced since the last event, the EOS included. Beams and several samples come whole with the end.
    Tokens(Vec<u32>),
    /// The end: nothing follows.
    Done(Finished),
}

/// Why a sequence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Finish {
    /// EOS, or a stop run.
    Stop,
    /// `max_new_tokens`.
    Length,
}

/// One result: a beam, or a sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// Produced tokens: without the decoder start id, with the EOS.
    pub ids: Vec<u32>,
    pub finish: Finish,
    /// Of beams: summed log-probability over length to the power of the length penalty. Greedy and samples have none.
    pub score: Option<f32>,
}

/// A finished generation.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// Those of the best hypothesis.
    pub ids: Vec<u32>,
    pub finish: Finish,
    pub score: Option<f32>,
    /// `num_return_sequences` of them, best first (samples in their own order); `ids` is the first one's.
    pub hypotheses: Vec<Hypothesis>,
    pub prompt_tokens: usize,
    /// From the call until the sequence was planned.
    pub queue_time: Duration,
    /// The encoder batch that it was part of.
    pub encode_time: Duration,
    /// From the first decode step until the end, its companions' encoding included.
    pub decode_time: Duration,
    /// Decode steps it took part in.
    pub steps: u32,
}

/// A running generation, as a stream. Dropping it cancels: the sequence leaves before the next step.
#[must_use = "dropping a generation cancels it"]
pub struct Generation {
    outbox: Arc<Outbox>,
    inbox: Arc<Inbox>,
    ended: bool,
}

impl Generation {
    pub(crate) fn new(outbox: Arc<Outbox>, inbox: Arc<Inbox>) -> Self {
        Self {
            outbox,
            inbox,
            ended: false,
        }
    }

    /// The next event; `None` after the end. The last event is `Done` or an error.
    pub async fn next(&mut self) -> Option<Result<Event, Error>> {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    /// Waits for the end; tokens on the way wake nobody.
    pub async fn collect(mut self) -> Result<Finished, Error> {
        self.outbox.whole.store(true, Ordering::Release);
        loop {
            match self.next().await {
                Some(Ok(Event::Tokens(_))) => {}
                Some(Ok(Event::Done(finished))) => return Ok(finished),
                Some(Err(error)) => return Err(error),
                None => {
                    return Err(Error::Stopped {
                        reason: "the generation was already read".to_owned(),
                    });
                }
            }
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event, Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let mut pending = self.outbox.lock();
        if !pending.tokens.is_empty() {
            return Poll::Ready(Some(Ok(Event::Tokens(std::mem::take(&mut pending.tokens)))));
        }
        if let Some(end) = pending.end.take() {
            drop(pending);
            self.ended = true;
            return Poll::Ready(Some(end.map(Event::Done)));
        }
        pending.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Stream for Generation {
    type Item = Result<Event, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_event(cx)
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        if !self.ended {
            self.outbox.cancelled.store(true, Ordering::Release);
            self.inbox.wake();
        }
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation")
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

/// The engine's end of a generation. A slow reader finds everything since its last look in one batch, so what waits here
/// is bounded by `max_new_tokens`, and the engine never waits.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pending: Mutex<Pending>,
    cancelled: AtomicBool,
    /// The reader wants the end alone: a small model's step costs little more than waking it.
    whole: AtomicBool,
}

#[derive(Debug, Default)]
struct Pending {
    tokens: Vec<u32>,
    end: Option<Result<Finished, Error>>,
    reader: Option<Waker>,
}

impl Outbox {
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    pub(crate) fn push(&self, tokens: &[u32]) {
        if tokens.is_empty() {
            return;
        }
        let mut pending = self.lock();
        pending.tokens.extend_from_slice(tokens);
        if self.whole.load(Ordering::Acquire) {
            return;
        }
        let reader = pending.reader.take();
        drop(pending);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    pub(crate) fn end(&self, end: Result<Finished, Error>) {
        let mut pending = self.lock();
        pending.end.get_or_insert(end);
        let reader = pending.reader.take();
        drop(pending);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        // Nothing panics while it is held; were it poisoned, the data would still be whole.
        self.pending
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
