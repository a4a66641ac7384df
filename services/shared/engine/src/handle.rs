//! How the rest of the house reaches an engine: cheap to clone, bounded, and dropping what it returns cancels.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use refract_model::PairRows;
use tokio::sync::watch;

use crate::config::Config;
use crate::engine::{Health, Stats, StatsCell};
use crate::error::Error;
use crate::generation::{Generation, Outbox};
use crate::inbox::{Inbox, Submission};
use crate::memory::Budget;
use crate::metrics::Meters;
use crate::params::GenerationParams;
use crate::phases::Phases;
use crate::runner::{Runner, Shape};
use crate::scheduler::{Entry, Room};
use crate::sequence::{Sequence, SequenceId};

/// What is asked of an engine.
#[derive(Clone, Debug)]
pub struct Request {
    /// The prompt, special tokens included, as the tokenizer made it.
    pub ids: Vec<u32>,
    pub params: GenerationParams,
    /// Rows of the pair tables; required exactly where the model has such tables.
    pub pairs: Option<PairRows>,
    /// After this instant the result is worthless: the sequence is dropped wherever it is.
    pub deadline: Option<Instant>,
}

impl Request {
    pub fn new(ids: Vec<u32>, params: GenerationParams) -> Self {
        Self {
            ids,
            params,
            pairs: None,
            deadline: None,
        }
    }
}

#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

/// What all handles and the engine's thread have in common.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) shape: Shape,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) stats: StatsCell,
    pub(crate) health: watch::Sender<Health>,
    pub(crate) meters: Meters,
    pub(crate) next_id: AtomicU64,
    /// When the device was given its present batch.
    pub(crate) batch: Begun,
    /// What decode memory is reserved in.
    pub(crate) page_tokens: usize,
    /// What may run at a time: less than configured where the budget holds less.
    room: Mutex<Room>,
    /// What the engine may take, where that is known in bytes.
    pub(crate) budget: Option<Budget>,
    /// The most that steps have worked with beside decode memory, in bytes, until the engine is warm.
    pub(crate) working_bytes: AtomicU64,
}

impl Shared {
    pub(crate) fn new(config: Config, runner: &impl Runner) -> Result<Self, Error> {
        let shape = runner.shape();
        config.check(&shape)?;
        let budget = Budget::find(&config, runner)?;
        let room = match &budget {
            Some(budget) => budget.room(&config, &shape, 0)?,
            None => Room::configured(&config),
        };
        let meters = Meters::new(&config.name);
        meters.kv_total.set(room.tokens as f64);
        Ok(Self {
            inbox: Arc::new(Inbox::new(config.queue_sequences_max, config.queue_tokens_max)),
            stats: StatsCell::default(),
            health: watch::Sender::new(Health::Starting),
            meters,
            next_id: AtomicU64::new(0),
            batch: Begun::default(),
            page_tokens: runner.page().map_or(1, |page| page.tokens.max(1)),
            room: Mutex::new(room),
            budget,
            working_bytes: AtomicU64::new(0),
            shape,
            config,
        })
    }

    pub(crate) fn room(&self) -> Room {
        *self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine sees it before its next step.
    pub(crate) fn set_room(&self, room: Room) {
        *self.room.lock().unwrap_or_else(PoisonError::into_inner) = room;
        self.meters.kv_total.set(room.tokens as f64);
        self.inbox.wake();
    }
}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Accepts a request or refuses it, at once and without waiting. Dropping the generation cancels it.
    pub fn generate(&self, request: Request) -> Result<Generation, Error> {
        let result = self.submit(request);
        if let Err(error) = &result {
            self.shared.meters.refused(error.label());
        }
        result
    }

    pub fn stats(&self) -> Stats {
        let (waiting_sequences, waiting_tokens) = self.shared.inbox.waiting();
        Stats {
            waiting_sequences,
            waiting_tokens,
            kv_tokens_total: self.shared.room().tokens,
            ..self.shared.stats.read()
        }
    }

    /// Calls the engine unhealthy where the device has taken longer than [`Config::batch_max`] over its present batch. For
    /// whoever watches the engine to call now and then: a thread that hangs cannot say so itself.
    pub fn check_pace(&self) {
        let Some(took) = self.shared.batch.age() else {
            return;
        };
        let batch_max = self.shared.config.batch_max;
        if took > batch_max {
            let reason = format!("the device has hung for {took:?}, batch_max is {batch_max:?}");
            self.shared.health.send_if_modified(|health| {
                let is_news = !matches!(health, Health::Unhealthy { .. } | Health::Stopped);
                if is_news {
                    *health = Health::Unhealthy { reason };
                }
                is_news
            });
        }
    }

    /// Follows the engine's health; the present value is readable at once.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }

    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    pub fn shape(&self) -> &Shape {
        &self.shared.shape
    }

    fn submit(&self, request: Request) -> Result<Generation, Error> {
        let Shared {
            config, shape, inbox, ..
        } = &*self.shared;
        let Request {
            ids,
            params,
            pairs,
            deadline,
        } = request;
        check(&ids, &params, pairs, config, shape)?;
        let submitted_at = Instant::now();
        if deadline.is_some_and(|deadline| deadline <= submitted_at) {
            return Err(Error::DeadlineExceeded);
        }
        let id = SequenceId(self.shared.next_id.fetch_add(1, Ordering::Relaxed));
        let entry = Entry {
            id,
            prompt_tokens: ids.len(),
            rows: params.rows(),
            new_tokens: params.max_new_tokens,
            page_tokens: self.shared.page_tokens,
            deadline,
        };
        self.shared.room().check(entry.rows, entry.cost())?;
        let phases = Phases::queue(ids.len());
        let sequence = Sequence::new(id, ids, pairs, params, shape.decoder_start, rand::random());
        let outbox = Arc::new(Outbox::default());
        inbox.submit(Submission {
            entry,
            sequence,
            outbox: outbox.clone(),
            submitted_at,
            phases,
        })?;
        Ok(Generation::new(outbox, inbox.clone()))
    }
}

/// When something began that may be going on.
#[derive(Debug, Default)]
pub(crate) struct Begun(Mutex<Option<Instant>>);

impl Begun {
    pub(crate) fn set(&self, at: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    pub(crate) fn begun(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn age(&self) -> Option<Duration> {
        self.begun().map(|at| at.elapsed())
    }
}

fn check(
    ids: &[u32],
    params: &GenerationParams,
    pairs: Option<PairRows>,
    config: &Config,
    shape: &Shape,
) -> Result<(), Error> {
    if ids.is_empty() {
        return Err(Error::invalid("ids", "the prompt is empty"));
    }
    let tokens_max = config.prompt_tokens(shape);
    if ids.len() > tokens_max {
        return Err(Error::PromptTooLong {
            tokens: ids.len(),
            tokens_max,
        });
    }
    if let Some(at) = ids.iter().position(|id| *id as usize >= shape.vocab) {
        return Err(Error::invalid(
            "ids",
            format!("[{at}] is outside the vocabulary of {}", shape.vocab),
        ));
    }
    params.check(shape)?;
    let tokens_max = config.new_tokens(shape);
    if params.max_new_tokens > tokens_max {
        return Err(Error::TooManyNewTokens {
            tokens: params.max_new_tokens,
            tokens_max,
        });
    }
    if params.rows() > config.sequence_rows_max {
        let field = if params.num_beams > 1 {
            "num_beams"
        } else {
            "num_return_sequences"
        };
        let reason = format!(
            "{} exceeds sequence_rows_max {}",
            params.rows(),
            config.sequence_rows_max
        );
        return Err(Error::invalid(field, reason));
    }
    match (shape.pair_tables, pairs) {
        (None, _) => Ok(()),
        (Some(_), None) => Err(Error::invalid("pairs", "this model needs a pair's rows")),
        (Some(tables), Some(rows)) => {
            if rows.user as usize >= tables.users || rows.item as usize >= tables.items {
                return Err(Error::invalid("pairs", "a row is outside its table"));
            }
            Ok(())
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("engine", &self.shared.config.name)
            .finish_non_exhaustive()
    }
}
