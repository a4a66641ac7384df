//! A request that can be sent again: what of its body was sent is kept until the answer begins, as far as it is short.
//!
//! A server that goes says which calls it never looked at, and one that is full refuses a stream. Such a call has not
//! happened: it may be made anew elsewhere, even where doing it twice would do harm. Only its body may be gone by then.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

/// A request's body, whoever is sending it at the moment.
#[derive(Debug)]
pub(crate) struct Original(Arc<Mutex<State>>);

/// One attempt to send it, from its beginning.
#[derive(Debug)]
pub(crate) struct Sending {
    original: Arc<Mutex<State>>,
    attempt: u32,
}

#[derive(Debug)]
struct State {
    rest: Body,
    /// What was read of the body so far, while `is_whole`.
    kept: Vec<Bytes>,
    room_bytes: usize,
    is_whole: bool,
    /// The attempt that may read: what an earlier one would read is lost.
    attempt: u32,
    /// Whether that one has read anything.
    is_touched: bool,
    /// What it has sent of the frames kept.
    sent: usize,
}

impl Original {
    /// Keeps at most `bytes_max`.
    pub(crate) fn new(body: Body, bytes_max: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            rest: body,
            kept: Vec::new(),
            room_bytes: bytes_max,
            is_whole: true,
            attempt: 0,
            is_touched: false,
            sent: 0,
        })))
    }

    /// The body from its beginning, for one more attempt; nothing once a part of it is gone.
    pub(crate) fn again(&self) -> Option<Sending> {
        let mut state = lock(&self.0);
        if !state.is_whole {
            return None;
        }
        state.attempt += 1;
        (state.is_touched, state.sent) = (false, 0);
        Some(Sending {
            original: Arc::clone(&self.0),
            attempt: state.attempt,
        })
    }

    /// Whether there is a message of which the last attempt sent nothing: the call has not begun, whatever became of it.
    pub(crate) fn is_unsaid(&self) -> bool {
        let state = lock(&self.0);
        let has_message = !state.kept.is_empty() || !state.rest.is_end_stream();
        has_message && !state.is_touched
    }

    /// The answer has begun: this is never sent again.
    pub(crate) fn forget(&self) {
        lock(&self.0).stop_keeping();
    }
}

impl State {
    fn keep(&mut self, frame: &Frame<Bytes>) {
        match frame.data_ref() {
            Some(data) if self.is_whole && data.len() <= self.room_bytes => {
                self.room_bytes -= data.len();
                self.kept.push(data.clone());
                self.sent = self.kept.len();
            }
            _ => self.stop_keeping(),
        }
    }

    /// Frames that the attempt has yet to send stay until it has.
    fn stop_keeping(&mut self) {
        self.is_whole = false;
        if self.sent >= self.kept.len() {
            (self.kept, self.sent) = (Vec::new(), 0);
        }
    }
}

impl HttpBody for Sending {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let mut state = lock(&this.original);
        if state.attempt != this.attempt {
            return Poll::Ready(Some(Err(Status::cancelled("sent again"))));
        }
        state.is_touched = true;
        if let Some(data) = state.kept.get(state.sent).cloned() {
            state.sent += 1;
            if !state.is_whole {
                state.stop_keeping();
            }
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let polled = Pin::new(&mut state.rest).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => state.keep(frame),
            Poll::Ready(Some(Err(_))) => state.stop_keeping(),
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let state = lock(&self.original);
        state.sent >= state.kept.len() && state.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let state = lock(&self.original);
        let kept: u64 = state
            .kept
            .iter()
            .skip(state.sent)
            .map(|data| data.len() as u64)
            .sum();
        let rest = state.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(kept + rest.lower());
        if let Some(upper) = rest.upper() {
            hint.set_upper(kept + upper);
        }
        hint
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    fn of_parts(parts: &[&'static str]) -> Body {
        let frames: Vec<Result<Frame<Bytes>, Status>> = parts
            .iter()
            .map(|part| Ok(Frame::data(Bytes::from_static(part.as_bytes()))))
            .collect();
        Body::new(StreamBody::new(tokio_stream::iter(frames)))
    }

    async fn all(sending: Sending) -> Result<Bytes, Status> {
        Ok(sending.collect().await?.to_bytes())
    }

    #[tokio::test]
    async fn what_was_sent_in_part_is_sent_again_from_the_beginning() {
        let original = Original::new(of_parts(&["what ", "was ", "said"]), 100);
        assert!(original.is_unsaid());
        let mut first = original.again().expect("nothing is gone");
        first.frame().await.expect("a part").expect("sound");
        assert!(!original.is_unsaid());
        let second = original.again().expect("kept");
        assert_eq!(all(second).await.expect("sound"), "what was said");
        all(first).await.expect_err("the earlier attempt is over");
    }

    #[tokio::test]
    async fn what_is_too_long_or_answered_is_not_sent_again() {
        let long = Original::new(of_parts(&["what ", "was ", "said"]), 8);
        let first = long.again().expect("nothing is gone");
        assert_eq!(all(first).await.expect("sound"), "what was said");
        assert!(long.again().is_none());

        let answered = Original::new(of_parts(&["what ", "was ", "said"]), 100);
        let mut first = answered.again().expect("nothing is gone");
        first.frame().await.expect("a part").expect("sound");
        answered.forget();
        assert!(answered.again().is_none());
        assert_eq!(
            all(first).await.expect("sound"),
            "was said",
            "its own sending goes on"
        );
    }

    #[tokio::test]
    async fn an_answer_that_begins_early_takes_nothing_from_what_is_sent_again() {
        let original = Original::new(of_parts(&["what ", "was ", "said"]), 100);
        let mut first = original.again().expect("nothing is gone");
        for _ in 0..2 {
            first.frame().await.expect("a part").expect("sound");
        }
        let second = original.again().expect("kept");
        original.forget();
        assert_eq!(all(second).await.expect("sound"), "what was said");
    }

    #[tokio::test]
    async fn a_call_without_a_message_is_never_unsaid() {
        assert!(!Original::new(Body::empty(), 100).is_unsaid());
    }
}
