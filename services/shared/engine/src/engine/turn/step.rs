//! What the device does in a turn: encodes who is new, decodes one token of every running row, or a few where one guesses ahead.

use std::time::Instant;

use tracing::warn;

use super::Loop;
use crate::error::Error;
use crate::kv::RowSlot;
use crate::runner::{DecodeRow, EncodeJob, Likeliest, Logits, Runner, RunnerError};
use crate::scores::Lines;
use crate::sequence::SequenceId;

/// The place of a sequence's rows, and of their lines of logits, among those of a step.
struct Span {
    id: SequenceId,
    rows: std::ops::Range<usize>,
    lines: std::ops::Range<usize>,
}

impl<R: Runner> Loop<R> {
    /// Encodes a batch; where that fails, its halves, so that only the sequence at fault fails.
    pub(super) fn encode(&mut self, batch: &[SequenceId]) {
        if self.lost.is_some() {
            return;
        }
        let begun = Instant::now();
        let mut tokens = 0;
        let jobs: Vec<EncodeJob<'_>> = batch
            .iter()
            .filter_map(|id| {
                let (active, lease) = (self.active.get(id)?, self.scheduler.lease(*id)?);
                tokens += active.sequence.prompt.len();
                Some(EncodeJob {
                    cross: lease.cross,
                    ids: &active.sequence.prompt,
                    pairs: active.sequence.pairs,
                })
            })
            .collect();
        self.shared.batch.set(Some(begun));
        let done = self.runner.encode(&jobs);
        self.shared.batch.set(None);
        match done {
            Ok(()) => {
                self.look();
                let took = begun.elapsed();
                for id in batch {
                    if let Some(active) = self.active.get_mut(id) {
                        active.encode_time += took;
                        active.phases.decode();
                    }
                }
                self.stats.prompt_tokens += tokens as u64;
                self.shared.meters.prompt_tokens.increment(tokens as u64);
                self.shared.meters.encode_seconds.record(took.as_secs_f64());
            }
            Err(error) if error.is_fatal() => self.lost = Some(error.reason),
            Err(error) if batch.len() > 1 => {
                warn!(engine = %self.shared.config.name, sequences = batch.len(), %error, "an encoder batch failed");
                let (left, right) = batch.split_at(batch.len() / 2);
                // The whole batch may have left something behind.
                for id in batch {
                    if let Some(lease) = self.scheduler.lease(*id) {
                        self.runner.release_cross(lease.cross);
                    }
                }
                self.encode(left);
                self.encode(right);
            }
            Err(error) => {
                for id in batch {
                    self.end(*id, Err(Error::fault(&error.reason)));
                }
            }
        }
    }

    /// Decodes one token of every running row and lets each sequence move on. Returns the rows decoded.
    pub(super) fn decode(&mut self) -> usize {
        if self.lost.is_some() {
            return 0;
        }
        let begun = Instant::now();
        self.draft();
        let mut spans = Vec::with_capacity(self.scheduler.running().len());
        let mut lines = 0;
        let vocab = self.shared.shape.vocab;
        let mut rows: Vec<DecodeRow<'_>> = Vec::new();
        for id in self.scheduler.running() {
            let (Some(active), Some(lease)) = (self.active.get(id), self.scheduler.lease(*id)) else {
                continue;
            };
            let first = rows.len();
            let first_line = lines;
            rows.extend(active.sequence.rows().map(|(row, ids, drafted)| {
                lines += 1 + drafted;
                let best = active.sequence.looks_at(ids.len(), vocab);
                DecodeRow {
                    row,
                    cross: lease.cross,
                    ids,
                    kept: ids.len() - 1 - drafted,
                    wanted: 1 + drafted,
                    best,
                }
            }));
            spans.push(Span {
                id: *id,
                rows: first..rows.len(),
                lines: first_line..lines,
            });
        }
        if rows.is_empty() {
            return 0;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut likeliest = std::mem::take(&mut self.likeliest);
        likeliest.clear();
        likeliest.resize(lines, None);
        if buffer.len() < lines * vocab {
            buffer.resize(lines * vocab, 0.0);
        }
        let mut failed = Vec::new();
        let mut decoded = rows.len();
        self.shared.batch.set(Some(begun));
        let done = decode_apart(
            &mut self.runner,
            &spans,
            &rows,
            &mut LogitsRoom {
                vocab,
                lines: &mut buffer[..lines * vocab],
                likeliest: &mut likeliest,
            },
            &mut failed,
        );
        self.shared.batch.set(None);
        drop(rows);
        if let Err(error) = done {
            self.lost = Some(error.reason);
            return 0;
        }
        self.look();
        for (id, error) in failed {
            self.end(id, Err(error));
        }
        for span in spans {
            let told = &likeliest[span.lines.clone()];
            let lines = &mut buffer[span.lines.start * vocab..span.lines.end * vocab];
            decoded += self.advance(&span, &mut Lines::new(vocab, lines, told), begun);
        }
        (self.buffer, self.likeliest) = (buffer, likeliest);
        self.stats.steps += 1;
        self.stats.decoded_tokens += decoded as u64;
        self.shared.meters.steps.increment(1);
        self.shared.meters.new_tokens.increment(decoded as u64);
        self.shared
            .meters
            .step_seconds
            .record(begun.elapsed().as_secs_f64());
        decoded
    }

    /// Lets greedy sequences guess ahead, as far as a step has room.
    fn draft(&mut self) {
        let config = &self.shared.config;
        if config.draft_tokens_max == 0 || !self.shared.shape.exact_drafts {
            return;
        }
        let rows: usize = self
            .scheduler
            .running()
            .iter()
            .filter_map(|id| self.active.get(id))
            .map(|active| active.sequence.rows().count())
            .sum();
        let most = config.step_draft_tokens_max.min(config.step_decode_tokens_max);
        let mut room = most.saturating_sub(rows);
        let mut drafted = 0;
        for id in self.scheduler.running() {
            if room == 0 {
                break;
            }
            if let Some(active) = self.active.get_mut(id) {
                let made = active.sequence.draft(&self.book, config, room);
                room -= made;
                drafted += made;
            }
        }
        self.stats.drafted_tokens += drafted as u64;
        self.shared.meters.drafted.increment(drafted as u64);
    }

    /// Moves a sequence on; returns how many tokens it guessed right.
    fn advance(&mut self, span: &Span, lines: &mut Lines<'_>, begun: Instant) -> usize {
        let Some(active) = self.active.get_mut(&span.id) else {
            return 0;
        };
        active.steps += 1;
        active.decode_begun.get_or_insert(begun);
        let step = match active.sequence.advance(lines, &mut self.scratch) {
            Ok(step) => step,
            Err(error) => {
                self.end(span.id, Err(error));
                return 0;
            }
        };
        if self.shared.config.draft_tokens_max > 0 {
            active.sequence.teach(&mut self.book, step.produced.len());
        }
        self.stats.drafted_right += step.guessed as u64;
        self.shared.meters.drafted_right.increment(step.guessed as u64);
        active.outbox.push(&step.produced);
        if let Some(hypotheses) = step.end {
            self.end(span.id, Ok(hypotheses));
            return step.guessed;
        }
        if !step.moves.is_empty() {
            self.runner.reorder(&step.moves);
        }
        let left: Vec<RowSlot> = step.idle.iter().chain(&step.done).copied().collect();
        if !left.is_empty() {
            self.runner.release_rows(&left);
        }
        for row in step.done {
            self.scheduler.settle_row(span.id, row);
        }
        step.guessed
    }
}

/// Room for what a runner says.
struct LogitsRoom<'a> {
    vocab: usize,
    /// `[lines, vocab]`
    lines: &'a mut [f32],
    likeliest: &'a mut [Option<Likeliest>],
}

impl LogitsRoom<'_> {
    /// The first so many lines, and the others.
    fn split(&mut self, lines: usize) -> (LogitsRoom<'_>, LogitsRoom<'_>) {
        let vocab = self.vocab;
        let (first_lines, other_lines) = self.lines.split_at_mut(lines * vocab);
        let (first, other) = self.likeliest.split_at_mut(lines);
        let said = |lines, likeliest| LogitsRoom {
            vocab,
            lines,
            likeliest,
        };
        (said(first_lines, first), said(other_lines, other))
    }
}

/// Decodes the rows of `spans`; where that fails, those of each half, down to single sequences. A fatal error is the only
/// one that comes back: then nothing more is tried.
fn decode_apart(
    runner: &mut impl Runner,
    spans: &[Span],
    rows: &[DecodeRow<'_>],
    said: &mut LogitsRoom<'_>,
    failed: &mut Vec<(SequenceId, Error)>,
) -> Result<(), RunnerError> {
    let (Some(first), Some(last)) = (spans.first(), spans.last()) else {
        return Ok(());
    };
    let range = first.rows.start..last.rows.end;
    let mut logits = Logits::with_likeliest(said.vocab, said.lines, said.likeliest);
    let result = runner.decode(&rows[range], &mut logits);
    let Err(error) = result else { return Ok(()) };
    if error.is_fatal() {
        return Err(error);
    }
    if spans.len() == 1 {
        failed.push((first.id, Error::fault(&error.reason)));
        return Ok(());
    }
    warn!(sequences = spans.len(), %error, "a decode batch failed");
    let (left, right) = spans.split_at(spans.len() / 2);
    // What the whole batch has left means nothing.
    said.likeliest.fill(None);
    let (mut left_said, mut right_said) = said.split(right[0].lines.start - first.lines.start);
    decode_apart(runner, left, rows, &mut left_said, failed)?;
    decode_apart(runner, right, rows, &mut right_said, failed)
}
