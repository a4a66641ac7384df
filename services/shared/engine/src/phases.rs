//! What a sequence is doing, as spans below the span of whoever asked: queue, encode, decode.

use tracing::{Span, field, info_span};

#[derive(Debug)]
pub(crate) struct Phases {
    /// None where nobody traces: then nothing below it is made either.
    asker: Span,
    now: Span,
}

impl Phases {
    /// Begins to wait, below the current span.
    pub(crate) fn queue(prompt_tokens: usize) -> Self {
        let asker = Span::current();
        let now = below(&asker, |asker| info_span!(parent: asker, "queue", prompt_tokens));
        Self { asker, now }
    }

    pub(crate) fn encode(&mut self) {
        self.now = below(&self.asker, |asker| info_span!(parent: asker, "encode"));
    }

    pub(crate) fn decode(&mut self) {
        self.now = below(
            &self.asker,
            |asker| info_span!(parent: asker, "decode", steps = field::Empty, outcome = field::Empty),
        );
    }

    /// The last phase tells how it ended; a phase before `decode` has no fields for it.
    pub(crate) fn end(&self, outcome: &'static str, steps: u32) {
        self.now.record("outcome", outcome);
        self.now.record("steps", steps);
    }
}

fn below(asker: &Span, span: impl FnOnce(&Span) -> Span) -> Span {
    if asker.is_none() {
        Span::none()
    } else {
        span(asker)
    }
}
