//! An engine as its owner sees it: start, warm up, watch, drain. The loop itself is in [`turn`].

mod turn;

pub(crate) use turn::message;

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use refract_kernel::stand_back;
use refract_model::{Model, PairRows};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::config::Config;
use crate::draft::Phrases;
use crate::error::Error;
use crate::handle::{Handle, Request, Shared};
use crate::kv::Kv;
use crate::params::GenerationParams;
use crate::runner::{ModelRunner, Runner};
use crate::scheduler::Room;

/// Whether an engine should be given work. Once unhealthy it stays so: restart it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Not warm yet; it answers, slowly at first.
    Starting,
    Healthy,
    /// Finishes what it has accepted and takes nothing new.
    Draining,
    Unhealthy {
        reason: String,
    },
    Stopped,
}

/// An engine at a glance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    pub running_sequences: usize,
    /// Rows that running sequences have reserved.
    pub running_rows: usize,
    /// Accepted and not started.
    pub waiting_sequences: usize,
    pub waiting_tokens: usize,
    /// Decode memory, in tokens.
    pub kv_tokens_used: usize,
    pub kv_tokens_total: usize,
    /// Decode memory that the runner has allocated, in use or not, and the most it has had.
    pub kv_bytes: usize,
    pub kv_bytes_peak: usize,
    /// The most that steps have worked with beside decode memory, as measured at warm-up; 0 where nothing was.
    pub working_bytes: u64,
    /// Decode steps since the start.
    pub steps: u64,
    /// Rows decoded since the start, summed over steps, and tokens guessed right: what the device has produced, beams that
    /// lost included.
    pub decoded_tokens: u64,
    /// Tokens guessed ahead since the start, and how many of them were right: so many steps were saved.
    pub drafted_tokens: u64,
    pub drafted_right: u64,
    /// Prompt tokens encoded since the start.
    pub prompt_tokens: u64,
    pub finished: u64,
    pub failed: u64,
    pub cancelled: u64,
    /// Rows decoded a second, lately, while busy.
    pub tokens_per_second: f64,
    /// Steps a second, lately, while busy.
    pub steps_per_second: f64,
}

#[derive(Debug, Default)]
pub(crate) struct StatsCell(Mutex<Stats>);

impl StatsCell {
    pub(crate) fn read(&self) -> Stats {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn write(&self, stats: &Stats) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(stats);
    }
}

/// An engine and its thread. Dropping it stops the thread after the step in progress; what runs then gets an error. A thread
/// whose device has hung for [`Config::batch_max`] is left behind: the process is to end.
pub struct Engine {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// Nothing is ever sent: the thread's end of it goes when the thread does. Locked only because an engine may be shared.
    ended: Mutex<mpsc::Receiver<()>>,
}

impl Engine {
    /// Starts the loop. The engine answers at once; it is [`Health::Healthy`] after [`Engine::warm_up`].
    pub fn start(runner: impl Runner + 'static, config: Config) -> Result<Self, Error> {
        Self::start_knowing(runner, Phrases::default(), config)
    }

    /// As [`Engine::start`], and guesses from the first text on what the model usually says.
    pub fn start_knowing(
        runner: impl Runner + 'static,
        phrases: Phrases,
        config: Config,
    ) -> Result<Self, Error> {
        let shared = Arc::new(Shared::new(config, &runner)?);
        let its = shared.clone();
        let (alive, ended) = mpsc::sync_channel(0);
        let thread = std::thread::Builder::new()
            .name(format!("refract-{}", shared.config.name))
            .spawn(move || {
                let _alive = alive;
                stand_back(its.config.nice);
                turn::run(runner, &phrases, its)
            })
            .map_err(|e| Error::Stopped {
                reason: format!("no thread: {e}"),
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
            ended: Mutex::new(ended),
        })
    }

    /// Starts the loop over a loaded model.
    pub fn for_model(model: Model, config: Config) -> Result<Self, Error> {
        Self::start(ModelRunner::new(model), config)
    }

    pub fn handle(&self) -> Handle {
        Handle::new(self.shared.clone())
    }

    pub fn health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }

    pub fn stats(&self) -> Stats {
        self.handle().stats()
    }

    /// Runs a tiny batch and one as large as a step may be, so that the first caller does not pay for allocations and
    /// lazily built kernels. What that takes is measured, and decides with the budget how many tokens of decode memory there
    /// are; too few for one sequence of the greatest size are an error. Then the engine is healthy.
    pub async fn warm_up(&self) -> Result<(), Error> {
        let Shared { config, shape, .. } = &*self.shared;
        let begun = Instant::now();
        let handle = self.handle();
        let request = |prompt: usize, new_tokens: usize| Request {
            ids: vec![shape.decoder_start; prompt],
            params: GenerationParams::greedy(new_tokens, Vec::new()),
            pairs: shape.pair_tables.map(|_| PairRows::default()),
            deadline: None,
        };
        let room = self.shared.room();
        let new_tokens = config.new_tokens(shape).min(2);
        handle.generate(request(1, 1))?.collect().await?;
        // Memory is reserved in whole pages: what is left of one beside the new tokens is no room for a prompt.
        let page = self.shared.page_tokens;
        let reserved = |tokens: usize| tokens.next_multiple_of(page);
        let prompt = config
            .prompt_tokens(shape)
            .min((room.tokens / page * page).saturating_sub(reserved(new_tokens)))
            .max(1);
        let cost = Kv::cost(reserved(prompt), 1, reserved(new_tokens));
        let count = (config.step_encode_tokens_max / prompt)
            .min(room.tokens / cost)
            .min(room.sequences)
            .min(room.rows)
            .min(config.queue_sequences_max)
            .min(config.queue_tokens_max / cost)
            .max(1);
        // One batch, as large as it may be: arriving one by one they would be measured by parts.
        let held = self.shared.inbox.hold();
        let batch: Vec<_> = (0..count)
            .map(|_| handle.generate(request(prompt, new_tokens)))
            .collect::<Result<_, _>>()?;
        drop(held);
        for generation in batch {
            generation.collect().await?;
        }
        if let Some(budget) = &self.shared.budget {
            // The batch had fewer rows than a step may have.
            let lines = config.step_decode_tokens_max.saturating_sub(count);
            let logits = (lines * shape.vocab * size_of::<f32>()) as u64;
            let working = self.shared.working_bytes.load(Ordering::Acquire);
            let room = budget.room(config, shape, working.saturating_add(logits))?;
            self.shared.set_room(room);
            let Room {
                tokens,
                sequences,
                rows,
            } = room;
            info!(engine = %config.name, kv_tokens = tokens, sequences, rows, working_bytes = working, "memory");
        }
        self.shared.health.send_if_modified(|health| {
            let starting = *health == Health::Starting;
            if starting {
                *health = Health::Healthy;
            }
            starting
        });
        info!(engine = %config.name, took_ms = begun.elapsed().as_millis() as u64, sequences = count, "warm");
        Ok(())
    }

    /// Takes nothing new, finishes what was accepted, then stops. The caller bounds the wait.
    pub async fn drain(&self) {
        self.shared.health.send_if_modified(|health| {
            let serving = matches!(health, Health::Starting | Health::Healthy);
            if serving {
                *health = Health::Draining;
            }
            serving
        });
        self.shared.inbox.drain();
        // The thread itself holds a sender, so this ends by its last word or, after a panic, by its unhealthy one.
        let ended = |h: &Health| *h == Health::Stopped;
        let mut health = self.health();
        while !ended(&health.borrow_and_update()) && self.thread.as_ref().is_some_and(|t| !t.is_finished()) {
            let changed = health.changed();
            // A thread that ends unhealthy sends nothing more; look at it now and then.
            let _ = tokio::time::timeout(Duration::from_millis(50), changed).await;
        }
    }

    /// Waits for the end of the thread, as long as the device may take over the batch in progress and those of the same turn.
    fn ends(&mut self) -> bool {
        let Shared { config, batch, .. } = &*self.shared;
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut since = Instant::now();
        loop {
            since = batch.begun().unwrap_or(since);
            let left = config.batch_max.saturating_sub(since.elapsed());
            match ended.recv_timeout(left) {
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return false,
                // Another batch may have begun meanwhile.
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return true,
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.inbox.close("the engine was dropped");
        if let Some(thread) = self.thread.take() {
            if !self.ends() {
                let batch_max = self.shared.config.batch_max;
                warn!(engine = %self.shared.config.name, ?batch_max, "the device hangs: its thread is left behind");
                return;
            }
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("name", &self.shared.config.name)
            .finish_non_exhaustive()
    }
}
