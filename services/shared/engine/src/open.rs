//! From a model directory to a runner: which backend runs it, and in which numbers.
//!
//! On a CPU, f32 and int8 run on packed weights ([`CpuRunner`]), every T5 and BART alike; bf16, which the packed kernels do
//! not have, runs on candle's operations ([`ModelRunner`]): half the memory of f32, and slower.

use std::fmt;
use std::path::Path;

use refract_model::{Dtype, GenerationDefaults, LoadOptions, Model, Spec, Stored};
use tracing::info;

use crate::runner::{CpuOptions, CpuRunner, Isa, ModelRunner, Precision, Runner, RunnerError};

/// How weights are held and multiplied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Weights {
    /// As they are stored: int8 where the directory was quantised ([`refract_model::quantised`]), f32 otherwise. Nothing
    /// is quantised that nobody has asked for.
    #[default]
    Auto,
    /// Exact: the reference's tokens.
    F32,
    /// A byte a weight, a scale a row; quantised at load where the directory is not. Attention memory is in half precision.
    Int8,
    Bf16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    pub weights: Weights,
    /// Threads of the packed kernels; 0 means as many as the process may use. The text does not depend on it.
    pub threads: usize,
    /// The best there is where absent, or what `REFRACT_CPU` names. The text does not depend on it.
    pub isa: Option<Isa>,
}

/// What a directory became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Never [`Weights::Auto`].
    pub weights: Weights,
    /// Where weights are packed; `None` means candle's operations.
    pub packed: Option<(Isa, usize)>,
}

/// A model that is ready for [`crate::Engine::start`].
pub struct Opened {
    pub runner: Box<dyn Runner>,
    pub spec: Spec,
    pub defaults: GenerationDefaults,
    pub choice: Choice,
}

/// Loads a directory in the Hugging Face layout, strictly, and says in the log how it runs.
pub fn open(dir: &Path, options: &OpenOptions) -> Result<Opened, RunnerError> {
    let stored = Stored::open(dir)?;
    let weights = match options.weights {
        Weights::Auto if stored.is_quantised() => Weights::Int8,
        Weights::Auto => Weights::F32,
        named => named,
    };
    let precision = match weights {
        Weights::Int8 => Some(Precision::Int8),
        Weights::F32 => Some(Precision::F32),
        Weights::Auto | Weights::Bf16 => None,
    };
    let (spec, defaults) = (stored.spec().clone(), stored.generation_defaults().clone());
    let (runner, packed): (Box<dyn Runner>, _) = match precision {
        Some(precision) => {
            let runner = CpuRunner::pack(
                &stored,
                &CpuOptions {
                    precision,
                    threads: options.threads,
                    isa: options.isa,
                },
            )?;
            let packed = (runner.isa(), runner.threads());
            (Box::new(runner), Some(packed))
        }
        None => {
            drop(stored);
            let options = LoadOptions {
                dtype: Dtype::Bf16,
                ..LoadOptions::default()
            };
            (Box::new(ModelRunner::new(Model::load(dir, &options)?)), None)
        }
    };
    let choice = Choice { weights, packed };
    info!(directory = %dir.display(), parameters = spec.parameters, "weights loaded: {choice}");
    Ok(Opened {
        runner,
        spec,
        defaults,
        choice,
    })
}

impl Weights {
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Int8 => "int8",
            Self::Bf16 => "bf16",
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.packed {
            Some((isa, threads)) => write!(f, "{}, packed for {isa}, threads {threads}", self.weights.name()),
            None => write!(f, "{}, on candle", self.weights.name()),
        }
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("choice", &self.choice)
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}
