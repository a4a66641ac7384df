//! A bundle at work: weights loaded, engine running, errors in the domain's words.
//!
//! The Oracle and the Prism are the same machine with different templates: what they share stands here, so that
//! `oracle.rs` and `prism.rs` hold only what makes each of them itself.

mod config;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use refract_bundle::{Bundle, Decode, Prompt, Role};
use refract_domain::{Deadline, ItemId, UnavailableReason, UserId};
use refract_engine::{Choice, Engine, Generation, GenerationParams, PairRows, Phrases, Request};
use refract_model::Spec;

pub use config::{Config, Device, InstructionSet, Precision};
pub use refract_engine::{Event, Finish, Finished, Handle, Health};

/// Why a bundle could not be put to work. Each names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no bundle is configured: set `bundle` to a model directory")]
    NoBundle,
    #[error("{} is no directory: set `bundle` to a model directory", path.display())]
    NotADirectory { path: PathBuf },
    #[error(transparent)]
    Bundle(#[from] refract_bundle::Error),
    /// The weights or the machine are not as asked; names the file and, where there is one, the tensor.
    #[error("{0}")]
    Weights(#[from] refract_engine::runner::RunnerError),
    #[error(transparent)]
    Engine(#[from] refract_engine::Error),
}

/// A loaded bundle with its engine. Dropping it stops the engine.
#[derive(Debug)]
pub struct Worker {
    bundle: Arc<Bundle>,
    spec: Spec,
    params: GenerationParams,
    choice: Choice,
    engine: Engine,
    handle: Handle,
}

impl Worker {
    /// Verifies and loads a bundle made for `role`, and starts its engine. Blocks for as long as loading takes.
    pub fn open(config: &Config, role: Role) -> Result<Self, Error> {
        if config.bundle.as_os_str().is_empty() {
            return Err(Error::NoBundle);
        }
        if !config.bundle.is_dir() {
            return Err(Error::NotADirectory {
                path: config.bundle.clone(),
            });
        }
        let bundle = Bundle::open(&config.bundle)?
            .expect(role)?
            .holding_readings(config.readings_bytes_max);
        let opened = refract_engine::open(&config.bundle, &config.open(bundle.manifest().precision))?;
        let (spec, choice) = (opened.spec, opened.choice);
        bundle.fits(spec.vocab)?;
        let mut params = GenerationParams::for_model(&spec, &opened.defaults);
        apply(&bundle.manifest().decode, &mut params);
        params.max_new_tokens = params.max_new_tokens.min(config.new_tokens_max);
        params.min_new_tokens = params.min_new_tokens.min(params.max_new_tokens);
        let name = match role {
            Role::Oracle => "oracle",
            Role::Prism => "prism",
        };
        let phrases = Phrases::beside(&config.bundle, spec.vocab)?;
        let engine = Engine::start_knowing(
            opened.runner,
            phrases,
            config.engine(name, bundle.manifest().limits.prompt_tokens_max),
        )?;
        let handle = engine.handle();
        Ok(Self {
            bundle: Arc::new(bundle),
            spec,
            params,
            choice,
            engine,
            handle,
        })
    }

    pub fn bundle(&self) -> &Arc<Bundle> {
        &self.bundle
    }

    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// `t5` or `bart`.
    pub fn architecture(&self) -> &'static str {
        match self.spec.architecture {
            refract_model::Architecture::T5 => "t5",
            refract_model::Architecture::Bart => "bart",
        }
    }

    /// How the weights are held: `f32`, `int8`, `int4` or `bf16`.
    pub fn precision(&self) -> &'static str {
        self.choice.weights.name()
    }

    /// Where the model lives: `cpu`, `cuda:0 cuda:1`.
    pub fn place(&self) -> String {
        self.choice.place()
    }

    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs a small and a large batch, after which answers come at their usual speed.
    pub async fn warm_up(&self) -> Result<(), Error> {
        Ok(self.engine.warm_up().await?)
    }

    /// Finishes what was accepted.
    pub async fn drain(&self) {
        self.engine.drain().await;
    }

    /// Starts writing. A slot model writes no slot that its prompt does not define. A model with user and item tables is told
    /// whose and which (the published rule hashes ids to rows).
    pub fn generate(
        &self,
        prompt: &Prompt,
        user: Option<&UserId>,
        item: &ItemId,
        deadline: Deadline,
    ) -> Result<Generation, refract_domain::Error> {
        let pairs = self.spec.pair_tables.map(|tables| PairRows {
            user: row(user.map_or("", UserId::expose), tables.users),
            item: row(item.as_str(), tables.items),
        });
        let mut params = self.params.clone();
        params.suppress_tokens.extend(&prompt.undefined);
        let request = Request {
            pairs,
            deadline: Some(deadline.instant()),
            ..Request::new(prompt.ids.clone(), params)
        };
        self.handle.generate(request).map_err(|error| to_domain(&error))
    }
}

/// The published rule; a table has fewer rows than a `u32` can count.
fn row(id: &str, rows: usize) -> u32 {
    u32::try_from(refract_model::bucket(id, rows)).unwrap_or(0)
}

/// The bundle's own profile overrides what the model's files say.
pub fn apply(profile: &Decode, params: &mut GenerationParams) {
    params.num_beams = profile.num_beams;
    params.max_new_tokens = profile.max_new_tokens;
    params.min_new_tokens = profile.min_new_tokens;
    params.length_penalty = profile.length_penalty;
    params.repetition_penalty = profile.repetition_penalty;
    params.no_repeat_ngram_size = profile.no_repeat_ngram_size;
    // A service returns one text and never samples.
    params.num_return_sequences = 1;
    params.do_sample = false;
}

/// What an engine's refusal means to a caller in the river.
pub fn to_domain(error: &refract_engine::Error) -> refract_domain::Error {
    use refract_domain::Error as Domain;
    use refract_engine::Error as Engine;
    match error {
        Engine::Busy { .. } => Domain::Unavailable {
            reason: UnavailableReason::Busy,
        },
        Engine::Draining | Engine::Stopped { .. } => Domain::Unavailable {
            reason: UnavailableReason::Draining,
        },
        Engine::DeadlineExceeded => Domain::DeadlineExceeded,
        Engine::PromptTooLong { tokens, tokens_max } => Domain::invalid(
            "item",
            format!("needs {tokens} tokens, the model takes {tokens_max}"),
        ),
        Engine::TooLarge { .. } | Engine::TooManyRows { .. } | Engine::TooManyNewTokens { .. } => {
            Domain::Overloaded {
                retry_after: Duration::from_secs(1),
            }
        }
        Engine::ModelFault { .. } | Engine::Overconstrained { .. } => Domain::ModelFault,
        Engine::Invalid { .. } | Engine::Config { .. } | Engine::Memory { .. } => Domain::Internal,
    }
}
