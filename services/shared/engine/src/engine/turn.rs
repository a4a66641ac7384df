//! The loop: receive, plan, encode, decode, settle. It runs on a thread of its own, at its own pace, and takes whatever
//! has happened meanwhile in one batch; async code never touches the device.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tracing::{error, warn};

use super::{Health, Stats};
use crate::draft::Book;
use crate::error::Error;
use crate::generation::{Finish, Finished, Hypothesis, Outbox};
use crate::handle::Shared;
use crate::inbox::{Phase, Submission};
use crate::kv::RowSlot;
use crate::memory::Taken;
use crate::phases::Phases;
use crate::runner::{DecodeRow, EncodeJob, Logits, Runner, RunnerError};
use crate::sampler::Scratch;
use crate::scheduler::{Limits, Plan, Scheduler};
use crate::sequence::{Sequence, SequenceId};

/// So many model faults within [`FAULTS_WINDOW`] and the engine calls itself unhealthy.
const FAULTS_MAX: usize = 3;
const FAULTS_WINDOW: Duration = Duration::from_secs(60);

/// The engine's thread. Whatever happens in there, nobody is left waiting.
pub(super) fn run(runner: impl Runner, shared: Arc<Shared>) {
    let mut turning = Loop::new(runner, shared.clone());
    let reason = match catch_unwind(AssertUnwindSafe(|| turning.run())) {
        Ok(Stop::Asked(reason)) => reason,
        Ok(Stop::Lost(reason)) => {
            error!(engine = %shared.config.name, %reason, "the device is lost");
            shared.health.send_replace(Health::Unhealthy {
                reason: reason.clone(),
            });
            reason
        }
        Err(panic) => {
            let reason = format!("panic: {}", message(&*panic));
            error!(engine = %shared.config.name, %reason, "the engine's thread panicked");
            shared.health.send_replace(Health::Unhealthy {
                reason: reason.clone(),
            });
            reason
        }
    };
    shared.inbox.close(&reason);
    turning.abandon(&reason);
    shared.health.send_if_modified(|health| {
        let sound = !matches!(health, Health::Unhealthy { .. });
        if sound {
            *health = Health::Stopped;
        }
        sound
    });
    // A runner that panicked may panic again when it is dropped; the callers are safe by now.
    if catch_unwind(AssertUnwindSafe(move || drop(turning))).is_err() {
        error!(engine = %shared.config.name, "the runner panicked while it was dropped");
    }
}

/// What a panic says.
pub(crate) fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

/// Why the loop has ended.
enum Stop {
    /// Drained, or closed by its owner.
    Asked(String),
    /// The runner said that it cannot work any more ([`crate::runner::RunnerError::fatal`]).
    Lost(String),
}

struct Loop<R> {
    runner: R,
    shared: Arc<Shared>,
    scheduler: Scheduler,
    /// Every accepted sequence, waiting or running.
    active: HashMap<SequenceId, Active>,
    arrivals: Vec<Submission>,
    /// Logits of a step, `[rows, vocab]`; as large as the largest step so far.
    buffer: Vec<f32>,
    scratch: Scratch,
    book: Book,
    /// Ends of this turn. Told after the turn is published: who has a result finds it counted and its memory free.
    ended: Vec<(Arc<Outbox>, Result<Finished, Error>)>,
    stats: Stats,
    /// When the latest model faults were.
    faults: VecDeque<Instant>,
    /// The runner's fatal error, once it has had one: it is not called again.
    lost: Option<String>,
    /// What was taken of the device before the first step.
    taken: Taken,
}

struct Active {
    sequence: Sequence,
    outbox: Arc<Outbox>,
    submitted_at: Instant,
    deadline: Option<Instant>,
    cost: usize,
    /// `None` while it waits.
    started_at: Option<Instant>,
    encode_time: Duration,
    decode_begun: Option<Instant>,
    steps: u32,
    phases: Phases,
}

/// The place of a sequence's rows, and of their lines of logits, among those of a step.
struct Span {
    id: SequenceId,
    rows: std::ops::Range<usize>,
    lines: std::ops::Range<usize>,
}

impl<R: Runner> Loop<R> {
    fn new(runner: R, shared: Arc<Shared>) -> Self {
        let mut limits = Limits::new(&shared.config, shared.shape.encode_cost);
        limits.kv_tokens_max = shared.kv_tokens();
        let stats = Stats {
            kv_tokens_total: limits.kv_tokens_max,
            ..Stats::default()
        };
        let taken = Taken::look(&runner);
        shared.stats.write(&stats);
        Self {
            runner,
            scheduler: Scheduler::new(limits),
            active: HashMap::new(),
            arrivals: Vec::new(),
            buffer: Vec::new(),
            scratch: Scratch::default(),
            book: Book::default(),
            ended: Vec::new(),
            stats,
            faults: VecDeque::new(),
            lost: None,
            taken,
            shared,
        }
    }

    /// Turns until it is told to stop or the device is lost; says why.
    fn run(&mut self) -> Stop {
        loop {
            let idle = self.active.is_empty();
            match self.shared.inbox.take(idle, &mut self.arrivals) {
                Phase::Closed(reason) => return Stop::Asked(reason),
                Phase::Draining if idle && self.arrivals.is_empty() => {
                    return Stop::Asked("drained".to_owned());
                }
                Phase::Open | Phase::Draining => {}
            }
            self.turn();
            if let Some(reason) = self.lost.take() {
                return Stop::Lost(reason);
            }
        }
    }

    /// One step of the loop.
    fn turn(&mut self) {
        let begun = Instant::now();
        self.resize();
        self.receive();
        self.reap(begun);
        let plan = self.scheduler.plan(begun);
        self.begin(&plan, begun);
        for batch in &plan.encode {
            self.encode(batch);
        }
        let decoded = self.decode();
        if self.lost.is_none() {
            self.publish(begun, decoded);
        }
        self.tell();
    }

    /// Takes over what warm-up found out about memory. Who waits and can now never start is told so.
    fn resize(&mut self) {
        let tokens_max = self.shared.kv_tokens();
        if tokens_max == self.stats.kv_tokens_total {
            return;
        }
        self.stats.kv_tokens_total = tokens_max;
        for id in self.scheduler.resize(tokens_max) {
            let tokens = self.active.get(&id).map_or(0, |active| active.cost);
            self.end(id, Err(Error::TooLarge { tokens, tokens_max }));
        }
    }

    /// Looks at memory right after the runner has worked, when it holds most.
    fn look(&mut self) {
        let held = self.runner.bytes();
        self.stats.kv_bytes_peak = self.stats.kv_bytes_peak.max(held);
        if self.shared.budget.is_some() && *self.shared.health.borrow() == Health::Starting {
            let working = self
                .taken
                .growth(Taken::look(&self.runner))
                .saturating_sub(held as u64);
            self.stats.working_bytes = self.stats.working_bytes.max(working);
            self.shared
                .working_bytes
                .store(self.stats.working_bytes, Ordering::Release);
        }
    }

    fn tell(&mut self) {
        for (outbox, end) in self.ended.drain(..) {
            outbox.end(end);
        }
    }

    fn receive(&mut self) {
        for arrival in self.arrivals.drain(..) {
            let Submission {
                entry,
                sequence,
                outbox,
                submitted_at,
                phases,
            } = arrival;
            let (id, deadline, cost) = (entry.id, entry.deadline, entry.cost());
            if !self.scheduler.admit(entry) {
                self.shared.inbox.leave(cost);
                let tokens_max = self.stats.kv_tokens_total;
                self.ended.push((
                    outbox,
                    Err(Error::TooLarge {
                        tokens: cost,
                        tokens_max,
                    }),
                ));
                continue;
            }
            self.active.insert(
                id,
                Active {
                    sequence,
                    outbox,
                    submitted_at,
                    deadline,
                    cost,
                    started_at: None,
                    encode_time: Duration::ZERO,
                    decode_begun: None,
                    steps: 0,
                    phases,
                },
            );
        }
    }

    /// Removes those whose caller has gone or whose deadline has passed.
    fn reap(&mut self, now: Instant) {
        let cancelled = |a: &Active| a.outbox.is_cancelled();
        let expired = |a: &Active| a.deadline.is_some_and(|deadline| deadline <= now);
        let gone: Vec<SequenceId> = self
            .active
            .iter()
            .filter(|(_, a)| cancelled(a) || expired(a))
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.end(id, Err(Error::DeadlineExceeded));
        }
    }

    /// Planned sequences leave the queue and get their rows.
    fn begin(&mut self, plan: &Plan, now: Instant) {
        for id in &plan.expired {
            self.end(*id, Err(Error::DeadlineExceeded));
        }
        for id in plan.encode.iter().flatten() {
            let (Some(active), Some(lease)) = (self.active.get_mut(id), self.scheduler.lease(*id)) else {
                continue;
            };
            self.shared.inbox.leave(active.cost);
            active.started_at = Some(now);
            active.phases.encode();
            active.sequence.start(&lease.rows);
            self.shared
                .meters
                .queue_seconds
                .record(now.duration_since(active.submitted_at).as_secs_f64());
        }
    }

    /// Encodes a batch; where that fails, its halves, so that only the sequence at fault fails.
    fn encode(&mut self, batch: &[SequenceId]) {
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
    fn decode(&mut self) -> usize {
        if self.lost.is_some() {
            return 0;
        }
        let begun = Instant::now();
        self.draft();
        let mut spans = Vec::with_capacity(self.scheduler.running().len());
        let mut lines = 0;
        let mut rows: Vec<DecodeRow<'_>> = Vec::new();
        for id in self.scheduler.running() {
            let (Some(active), Some(lease)) = (self.active.get(id), self.scheduler.lease(*id)) else {
                continue;
            };
            let first = rows.len();
            let first_line = lines;
            rows.extend(active.sequence.rows().map(|(row, ids, drafted)| {
                lines += 1 + drafted;
                let winner = active.sequence.takes_the_winner(ids.len() - drafted);
                DecodeRow {
                    row,
                    cross: lease.cross,
                    ids,
                    kept: ids.len() - 1 - drafted,
                    wanted: 1 + drafted,
                    winner,
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
        let vocab = self.shared.shape.vocab;
        let mut buffer = std::mem::take(&mut self.buffer);
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
            vocab,
            &mut buffer[..lines * vocab],
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
            decoded += self.advance(
                &span,
                &mut buffer[span.lines.start * vocab..span.lines.end * vocab],
                begun,
            );
        }
        self.buffer = buffer;
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
    fn advance(&mut self, span: &Span, lines: &mut [f32], begun: Instant) -> usize {
        let Some(active) = self.active.get_mut(&span.id) else {
            return 0;
        };
        active.steps += 1;
        active.decode_begun.get_or_insert(begun);
        let step = match active
            .sequence
            .advance(lines, self.shared.shape.vocab, &mut self.scratch)
        {
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

    /// The end of a sequence, wherever it is: gives back what it holds and tells its caller.
    fn end(&mut self, id: SequenceId, result: Result<Vec<Hypothesis>, Error>) {
        let Some(active) = self.active.remove(&id) else {
            return;
        };
        if let Some(lease) = self.scheduler.settle(id) {
            self.runner.release_rows(&lease.rows);
            self.runner.release_cross(lease.cross);
        }
        if active.started_at.is_none() {
            self.shared.inbox.leave(active.cost);
        }
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
            self.note_fault(id, reason);
        }
        let end = result.and_then(|hypotheses| active.finished(hypotheses));
        self.ended.push((active.outbox, end));
    }

    fn note_fault(&mut self, id: SequenceId, reason: &str) {
        let now = Instant::now();
        warn!(engine = %self.shared.config.name, sequence = %id, reason, "model fault");
        self.shared.meters.faults.increment(1);
        self.faults.push_back(now);
        self.faults.retain(|at| now.duration_since(*at) < FAULTS_WINDOW);
        if self.faults.len() >= FAULTS_MAX {
            let reason = format!(
                "{} model faults within {} s",
                self.faults.len(),
                FAULTS_WINDOW.as_secs()
            );
            error!(engine = %self.shared.config.name, %reason, "the engine is unhealthy");
            self.shared.health.send_replace(Health::Unhealthy { reason });
            self.faults.drain(..self.faults.len() - FAULTS_MAX + 1);
        }
    }

    /// Makes the state visible. Rates are moving averages over about ten busy seconds.
    fn publish(&mut self, begun: Instant, decoded: usize) {
        const OVER: f64 = 10.0;
        let kv = self.scheduler.kv();
        self.stats.running_sequences = self.scheduler.running().len();
        self.stats.running_rows = kv.rows_used();
        self.stats.kv_tokens_used = kv.tokens_used();
        self.stats.kv_bytes = self.runner.bytes();
        if decoded > 0 {
            let took = begun.elapsed().as_secs_f64().max(1e-9);
            let weight = if self.stats.steps <= 1 {
                1.0
            } else {
                1.0 - (-took / OVER).exp()
            };
            self.stats.tokens_per_second += weight * (decoded as f64 / took - self.stats.tokens_per_second);
            self.stats.steps_per_second += weight * (1.0 / took - self.stats.steps_per_second);
            self.shared.inbox.set_pace(self.stats.tokens_per_second);
        }
        self.shared.stats.write(&self.stats);
        let meters = &self.shared.meters;
        meters.running.set(self.stats.running_sequences as f64);
        let (sequences, tokens) = self.shared.inbox.waiting();
        meters.waiting.set(sequences as f64);
        meters.waiting_tokens.set(tokens as f64);
        meters.rows.set(self.stats.running_rows as f64);
        meters.kv_used.set(self.stats.kv_tokens_used as f64);
        meters.kv_bytes.set(self.stats.kv_bytes as f64);
        meters.kv_bytes_peak.set(self.stats.kv_bytes_peak as f64);
    }

    /// Tells everybody who still waits that nothing will come. Does not touch the runner, which may be broken.
    fn abandon(&mut self, reason: &str) {
        self.tell();
        self.shared.inbox.take(false, &mut self.arrivals);
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
    }
}

/// Decodes the rows of `spans`; where that fails, those of each half, down to single sequences. A fatal error is the only
/// one that comes back: then nothing more is tried.
fn decode_apart(
    runner: &mut impl Runner,
    spans: &[Span],
    rows: &[DecodeRow<'_>],
    vocab: usize,
    lines: &mut [f32],
    failed: &mut Vec<(SequenceId, Error)>,
) -> Result<(), RunnerError> {
    let (Some(first), Some(last)) = (spans.first(), spans.last()) else {
        return Ok(());
    };
    let range = first.rows.start..last.rows.end;
    let result = runner.decode(&rows[range], &mut Logits::new(vocab, lines));
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
    let middle = (right[0].lines.start - first.lines.start) * vocab;
    let (left_lines, right_lines) = lines.split_at_mut(middle);
    decode_apart(runner, left, rows, vocab, left_lines, failed)?;
    decode_apart(runner, right, rows, vocab, right_lines, failed)
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
