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
        // Of rounded numbers no four bits are made.
        Weights::Int4 if stored.is_quantised() && !stored.has_nibbles() => {
            warn!(directory = %dir.display(), "int4 was asked for, and the weights are stored in bytes: they run in int8. For four bits, quantise the exact weights");
            Weights::Int8
        }
        named => named,
    };
    let (spec, defaults) = (stored.spec().clone(), stored.generation_defaults().clone());
    if let Some(ignored) = &defaults.ignored {
        warn!("{ignored}");
    }
    let (precision, dtype) = (weights.packed(on_cpu), weights.dtype());
    if devices.iter().all(|device| !device.is_gpu()) {
        let needed = |weights: Weights| match (weights.packed(on_cpu), weights) {
            (Some(precision), _) => Some(CpuRunner::weight_bytes(&stored, precision)),
            (None, Weights::Int8 | Weights::Int4) => None,
            (None, _) => Some(stored.tensor_bytes(weights.dtype(), devices.len())),
        };
        memory::check_weights(spec.parameters, weights, needed, memory::free_here())?;
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
    /// How the packed kernels hold them; `None` where tensors do.
    fn packed(self, on_cpu: bool) -> Option<Precision> {
        match self {
            Self::Int8 if on_cpu => Some(Precision::Int8),
            Self::Int4 if on_cpu => Some(Precision::Int4),
            Self::F32 if on_cpu => Some(Precision::F32),
            _ => None,
        }
    }

    /// Of tensors.
    fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            _ => Dtype::Bf16,
        }
    }

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

    fn fixture(name: &str) -> std::path::PathBuf {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures");
        models.join(name)
    }

    #[test]
    fn weights_are_counted_as_they_will_be_held() {
        for name in ["t5-gated-untied", "t5-relu-tied", "bart-plain", "bart-pairs"] {
            let stored = Stored::open(&fixture(name)).expect("a sound fixture");
            let numbers = |which: &dyn Fn(&str) -> bool| -> u64 {
                let of = stored.tensors().filter(|(name, _)| which(name));
                of.map(|(_, (rows, width))| (rows * width) as u64).sum()
            };
            let all = numbers(&|_| true);
            // Norms, and what T5's inner layers say last.
            let exact = numbers(&|name| !refract_model::quantised::is_quantised(name));
            let packed = |precision| CpuRunner::weight_bytes(&stored, precision);
            assert_eq!(packed(Precision::F32), 4 * all, "{name}");
            // Matrices are filled up: these are 32 wide, and steps are 64.
            for (precision, least) in [
                (Precision::Int8, all - exact),
                (Precision::Int4, (all - exact) / 2),
            ] {
                let bytes = packed(precision);
                assert!(
                    bytes > 4 * exact + least && bytes < 4 * exact + 4 * (all - exact),
                    "{name}: {bytes}"
                );
            }
            let tensors = |ranks| stored.tensor_bytes(Dtype::Bf16, ranks);
            assert!(tensors(1) >= 2 * all && tensors(1) < 3 * all, "{name}");
            assert!(tensors(2) > tensors(1), "{name}: norms are on each rank");
        }
    }

    #[test]
    fn bytes_stay_bytes_where_four_bits_are_asked_for_and_are_called_so() {
        let dir = tempfile::tempdir().expect("a directory");
        let from = fixture("bart-plain");
        for name in ["config.json", "generation_config.json"] {
            std::fs::copy(from.join(name), dir.path().join(name)).expect("copied");
        }
        crate::quantise(&from, &dir.path().join("model.safetensors"), false).expect("quantised");
        let options = OpenOptions {
            weights: Weights::Int4,
            threads: 1,
            ..OpenOptions::default()
        };
        let weights = |dir: &Path| open(dir, &options).expect("opens").choice.weights;
        assert_eq!(weights(dir.path()), Weights::Int8);
        assert_eq!(weights(&from), Weights::Int4);
    }

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
