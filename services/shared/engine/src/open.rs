//! From a model directory to a runner: which backend runs it, on which devices, and in which numbers.
//!
//! On a CPU, f32 and int8 run on packed weights ([`CpuRunner`]), every T5 and BART alike. A GPU, several devices together,
//! and bf16, which the packed kernels do not have, run on candle's operations ([`ModelRunner`], [`ParallelRunner`]).

use std::fmt;
use std::path::Path;
use std::time::Duration;

use refract_model::{Dtype, GenerationDefaults, LoadOptions, Model, Spec, Stored};
use tracing::{info, warn};

use crate::device::DeviceName;
use crate::memory;
use crate::runner::{
    CpuOptions, CpuRunner, Isa, ModelRunner, ParallelOptions, ParallelRunner, Precision, Runner, RunnerError,
};

/// How weights are held and multiplied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Weights {
    /// On a CPU as they are stored: int8 or int4 where the directory was quantised ([`refract_model::quantised`]), f32
    /// otherwise. Nothing is quantised that nobody has asked for. On a GPU, bf16.
    #[default]
    Auto,
    /// Exact: the reference's tokens.
    F32,
    /// A byte a weight, a scale a row; quantised at load where the directory is not. Attention reads prompts in bytes,
    /// and a row's own past in half precision. CPUs only.
    Int8,
    /// Four bits a weight, with a share of its row's scale for each 32; tables that are only looked up stay in bytes. Half the
    /// memory of int8, and faster where few rows are decoded together; its text is less exact.
    Int4,
    Bf16,
}

#[derive(Clone, Debug)]
pub struct OpenOptions {
    pub weights: Weights,
    /// Threads of the packed kernels; 0 means as many as the process may use. The text does not depend on it.
    pub threads: usize,
    /// The best there is where absent, or what `REFRACT_CPU` names. The text does not depend on it.
    pub isa: Option<Isa>,
    /// How far the threads of the packed kernels stand back for others: see [`crate::Config::nice`].
    pub nice: u8,
    /// Where the model lives; none means the CPU. Several hold it together, a part each (T5 only).
    pub devices: Vec<DeviceName>,
    /// Among how many ranks the model is divided; 0 means as many as there are devices.
    pub tensor_parallel: usize,
    /// Whether a GPU records its decode steps and repeats them ([`refract_model::Steps`]). The text is the same.
    pub record_steps: bool,
    /// How long one step of several ranks may take before one of them counts as dead.
    pub rank_wait: Duration,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            weights: Weights::Auto,
            threads: 0,
            isa: None,
            nice: 0,
            devices: Vec::new(),
            tensor_parallel: 0,
            record_steps: true,
            rank_wait: Duration::from_secs(60),
        }
    }
}

/// What a directory became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Never [`Weights::Auto`].
    pub weights: Weights,
    /// Where weights are packed; `None` means candle's operations.
    pub packed: Option<(Isa, usize)>,
    /// One for each rank.
    pub devices: Vec<DeviceName>,
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
    let devices = ranks(&options.devices, options.tensor_parallel)?;
    let stored = Stored::open(dir)?;
    let on_cpu = devices == [DeviceName::Cpu];
    let weights = match options.weights {
        Weights::Auto if devices.iter().any(|d| d.is_gpu()) => Weights::Bf16,
        Weights::Auto if on_cpu && stored.has_nibbles() => Weights::Int4,
        Weights::Auto if on_cpu && stored.is_quantised() => Weights::Int8,
        Weights::Auto => Weights::F32,
        Weights::Int8 | Weights::Int4 if !on_cpu => {
            return Err(RunnerError::new(
                "precision: int8 and int4 run on one CPU; set it to bf16 or f32 for a GPU or for several devices",
            ));
        }
        named => named,
    };
    let (spec, defaults) = (stored.spec().clone(), stored.generation_defaults().clone());
    if let Some(ignored) = &defaults.ignored {
        warn!("{ignored}");
    }
    let precision = match weights {
        Weights::Int8 => Some(Precision::Int8),
        Weights::Int4 => Some(Precision::Int4),
        Weights::F32 if on_cpu => Some(Precision::F32),
        _ => None,
    };
    let dtype = if weights == Weights::F32 {
        Dtype::F32
    } else {
        Dtype::Bf16
    };
    if devices.iter().all(|device| !device.is_gpu()) {
        memory::check_weights(spec.parameters, weights, memory::free_here())?;
    }
    let (runner, packed): (Box<dyn Runner>, _) = match (precision, devices.as_slice()) {
        (Some(precision), _) => {
            let packing = CpuOptions {
                precision,
                threads: options.threads,
                nice: options.nice,
                isa: options.isa,
            };
            let runner = CpuRunner::pack(&stored, &packing)?;
            let packed = (runner.isa(), runner.threads());
            (Box::new(runner), Some(packed))
        }
        (None, [device]) => {
            let loading = LoadOptions {
                dtype,
                device: device.open()?,
                collective: None,
            };
            let records = options.record_steps && device.is_gpu();
            let runner = ModelRunner::new(Model::load(dir, &loading)?).recording(records);
            (Box::new(runner), None)
        }
        (None, several) => {
            let parallel = ParallelOptions {
                devices: several.to_vec(),
                dtype,
                patience: options.rank_wait,
                record_steps: options.record_steps && several.iter().all(|device| device.is_gpu()),
            };
            (Box::new(ParallelRunner::load(dir.to_owned(), &parallel)?), None)
        }
    };
    let choice = Choice {
        weights,
        packed,
        devices,
    };
    info!(directory = %dir.display(), parameters = spec.parameters, "weights loaded: {choice}");
    Ok(Opened {
        runner,
        spec,
        defaults,
        choice,
    })
}

/// The device of each rank.
fn ranks(devices: &[DeviceName], tensor_parallel: usize) -> Result<Vec<DeviceName>, RunnerError> {
    let devices = match (devices, tensor_parallel) {
        ([], count) => vec![DeviceName::Cpu; count.max(1)],
        // Threads share a CPU: any number of ranks may live there.
        ([DeviceName::Cpu], count) => vec![DeviceName::Cpu; count.max(1)],
        (several, count) if count == 0 || count == several.len() => several.to_vec(),
        (several, count) => {
            return Err(RunnerError::new(format!(
                "tensor_parallel is {count}, and devices names {}; name as many, or leave tensor_parallel out",
                several.len()
            )));
        }
    };
    let mut gpus: Vec<_> = devices.iter().filter(|d| d.is_gpu()).collect();
    gpus.sort_unstable();
    match gpus.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(RunnerError::new(format!(
            "devices names {} twice; each rank needs a GPU of its own",
            pair[0]
        ))),
        None => Ok(devices),
    }
}

impl Weights {
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
            Self::Bf16 => "bf16",
        }
    }
}

impl Choice {
    /// `cpu`, `cuda:0`, `cuda:0 cuda:1`.
    pub fn place(&self) -> String {
        let names: Vec<String> = self.devices.iter().map(DeviceName::to_string).collect();
        names.join(" ")
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (weights, place) = (self.weights.name(), self.place());
        match self.packed {
            Some((isa, threads)) => write!(f, "{weights} on {place}, packed for {isa}, threads {threads}"),
            None => write!(f, "{weights} on {place}"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_the_devices_named_or_as_many_on_a_cpu_as_asked() {
        use DeviceName::{Cpu, Cuda};
        assert_eq!(ranks(&[], 0).unwrap(), [Cpu]);
        assert_eq!(ranks(&[], 2).unwrap(), [Cpu, Cpu]);
        assert_eq!(ranks(&[Cpu], 4).unwrap(), [Cpu; 4]);
        assert_eq!(ranks(&[Cuda(1), Cuda(0)], 0).unwrap(), [Cuda(1), Cuda(0)]);
        assert_eq!(ranks(&[Cuda(1), Cuda(0)], 2).unwrap(), [Cuda(1), Cuda(0)]);
        let too_few = ranks(&[Cuda(0)], 2).unwrap_err().to_string();
        assert!(too_few.contains("tensor_parallel is 2"), "{too_few}");
        let twice = ranks(&[Cuda(0), Cuda(0)], 0).unwrap_err().to_string();
        assert!(twice.contains("cuda:0 twice"), "{twice}");
    }
}
