//! The loop: receive, plan, encode, decode, settle. It runs on a thread of its own, at its own pace, and takes whatever
//! has happened meanwhile in one batch; async code never touches the device.

mod ending;
mod step;

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tracing::error;

use super::{Health, Stats};
use crate::draft::{Book, Phrases};
use crate::error::Error;
use crate::generation::{Finished, Outbox};
use crate::handle::Shared;
use crate::inbox::{Phase, Submission};
use crate::memory::Taken;
use crate::phases::Phases;
use crate::runner::{Likeliest, Runner};
use crate::sampler::Scratch;
use crate::scheduler::{Limits, Plan, Room, Scheduler};
use crate::sequence::{Sequence, SequenceId};

/// The engine's thread. Whatever happens in there, nobody is left waiting.
pub(super) fn run(runner: impl Runner, phrases: &Phrases, shared: Arc<Shared>) {
    let mut turning = match catch_unwind(AssertUnwindSafe(|| Loop::new(runner, phrases, shared.clone()))) {
        Ok(turning) => turning,
        Err(panic) => {
            let reason = panicked(&shared, &*panic);
            shared.inbox.close(&reason);
            ending::turn_away(&shared, &reason);
            return;
        }
    };
    let reason = match catch_unwind(AssertUnwindSafe(|| turning.run())) {
        Ok(Stop::Asked(reason)) => reason,
        Ok(Stop::Lost(reason)) => {
            error!(engine = %shared.config.name, %reason, "the device is lost");
            shared.health.send_replace(Health::Unhealthy {
                reason: reason.clone(),
            });
            reason
        }
        Err(panic) => panicked(&shared, &*panic),
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

/// Calls the engine unhealthy, and says why.
fn panicked(shared: &Shared, panic: &(dyn Any + Send)) -> String {
    let reason = format!("panic: {}", message(panic));
    error!(engine = %shared.config.name, %reason, "the engine's thread panicked");
    shared.health.send_replace(Health::Unhealthy {
        reason: reason.clone(),
    });
    reason
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
    /// What the scheduler keeps to.
    room: Room,
    /// Every accepted sequence, waiting or running.
    active: HashMap<SequenceId, Active>,
    arrivals: Vec<Submission>,
    /// Logits of a step, `[rows, vocab]`; as large as the largest step so far.
    buffer: Vec<f32>,
    /// Of lines that a runner told by their likeliest tokens.
    likeliest: Vec<Option<Likeliest>>,
    scratch: Scratch,
    book: Book,
    /// Ends of this turn. Told after the turn is published: who has a result finds it counted and its memory free.
    ended: Vec<(Arc<Outbox>, Result<Finished, Error>)>,
    stats: Stats,
    /// When the latest model faults were, and of which prompts, told apart by their hashes.
    faults: VecDeque<(Instant, u64)>,
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
    rows: usize,
    cost: usize,
    /// `None` while it waits.
    started_at: Option<Instant>,
    encode_time: Duration,
    decode_begun: Option<Instant>,
    steps: u32,
    phases: Phases,
}

impl<R: Runner> Loop<R> {
    fn new(mut runner: R, phrases: &Phrases, shared: Arc<Shared>) -> Self {
        let mut scheduler = Scheduler::new(Limits::new(&shared.config, shared.shape.encode_cost));
        let room = shared.room();
        // Nobody waits yet.
        scheduler.resize(room);
        let stats = Stats {
            kv_tokens_total: room.tokens,
            ..Stats::default()
        };
        runner.keep_within(room.tokens);
        let taken = Taken::begin(&mut runner);
        shared.stats.write(&stats);
        Self {
            runner,
            scheduler,
            room,
            active: HashMap::new(),
            arrivals: Vec::new(),
            buffer: Vec::new(),
            likeliest: Vec::new(),
            scratch: Scratch::default(),
            book: Book::knowing(phrases),
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
        let room = self.shared.room();
        if room == self.room {
            return;
        }
        self.room = room;
        self.stats.kv_tokens_total = room.tokens;
        self.runner.keep_within(room.tokens);
        for id in self.scheduler.resize(room) {
            let asked = self.active.get(&id).map(|a| (a.rows, a.cost));
            let (rows, cost) = asked.unwrap_or_default();
            self.end(id, Err(room.refusal(rows, cost)));
        }
    }

    /// Looks at memory right after the runner has worked, when it holds most.
    fn look(&mut self) {
        let held = self.runner.bytes();
        self.stats.kv_bytes_peak = self.stats.kv_bytes_peak.max(held);
        if self.shared.budget.is_some() && *self.shared.health.borrow() == Health::Starting {
            let working = self
                .taken
                .growth(Taken::look(&mut self.runner))
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
            let (id, deadline, rows, cost) = (entry.id, entry.deadline, entry.rows, entry.cost());
            if !self.scheduler.admit(entry) {
                self.shared.inbox.leave(cost);
                self.ended.push((outbox, Err(self.room.refusal(rows, cost))));
                continue;
            }
            self.active.insert(
                id,
                Active {
                    sequence,
                    outbox,
                    submitted_at,
                    deadline,
                    rows,
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
}
