//! How a model service runs its bundle. Doc comments are the manual.

use std::path::PathBuf;
use std::time::Duration;

use refract_engine::runner::Isa;
use refract_engine::{DeviceName, OpenOptions, Weights};
use serde::{Deserialize, Serialize};

/// How the weights are held and multiplied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// What `precision` in `bundle.toml` says; where it says nothing, int8 or int4 for weights that are stored so, else f32. A
    /// plain Hugging Face directory thus runs in f32, exactly, until somebody asks for more speed. On a GPU, bf16.
    #[default]
    Auto,
    /// Exact: the reference's tokens.
    F32,
    /// A byte a weight: two to three times the speed of f32 and a quarter of its memory. Quantised at load, or ahead by
    /// `refract quantize`. CPUs only.
    Int8,
    /// Four bits a weight: half the memory of int8, faster for few sequences at a time, and less exact. Quantised at load, or
    /// ahead by `refract quantize --to int4`, which says how exact.
    /// CPUs only.
    Int4,
    /// Half the memory of f32: what a GPU runs on; slow on a CPU.
    Bf16,
}

/// A device by its name in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Device(pub DeviceName);

impl TryFrom<String> for Device {
    type Error = String;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        name.parse().map(Self)
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.0.to_string()
    }
}

/// The processor's instructions to use; each includes those before it. All give the same text, bit for bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InstructionSet {
    /// The best that the machine has, or what the environment variable `REFRACT_CPU` names.
    #[default]
    Auto,
    Scalar,
    Avx2,
    AvxVnni,
    Vnni,
    Amx,
}

/// Limits and formats of one engine. Zero never means "no limit".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The bundle's directory: Refract's own, or a plain Hugging Face T5 or BART. No default.
    pub bundle: PathBuf,
    /// `auto`, `f32`, `int8`, `int4` or `bf16`. Default `auto`.
    pub precision: Precision,
    /// Where the model lives: `cpu`, or GPUs (`cuda:0`) in a build with them. Several hold a T5 together, a part of every
    /// layer each. Empty means `cpu`. Default empty.
    pub devices: Vec<Device>,
    /// Among how many devices the model is divided; 0 means as many as `devices` names. Above 1 with `cpu` alone, so many
    /// threads of this process hold a part each. What does not divide heads and inner units is refused. Default 0.
    pub tensor_parallel: usize,
    /// How long one step may take on several devices before one of them counts as dead and the process leaves service.
    /// Default 60s.
    #[serde(with = "humantime_serde")]
    pub rank_wait: Duration,
    /// Whether a GPU records its decode steps as CUDA graphs, one for each of a few shapes, and repeats them in one call each. A
    /// device that refuses is told every step, as without this. Default true.
    pub record_steps: bool,
    /// `auto`, `scalar`, `avx2`, `avxvnni`, `vnni` or `amx`; one that the machine lacks is refused. Default `auto`.
    pub instruction_set: InstructionSet,
    /// Threads of this engine; 0 means as many as the process may use. Two engines on one machine may share its cores: idle
    /// threads sleep. The text does not depend on it; bf16 ignores it. Default 0.
    pub threads: usize,
    /// How far these threads stand back for those that answer the network, as `nice` counts: 0 not at all, 19 wholly. Nothing
    /// is slower where processors are free. Default 5: three to one.
    pub nice: u8,
    /// Sequences that may wait; the next one is refused at once. Default 256.
    pub queue_sequences_max: usize,
    /// Tokens (prompt and reserved output) that may wait. Default 262144.
    pub queue_tokens_max: usize,
    /// Sequences decoded together. Default 32.
    pub running_sequences_max: usize,
    /// Rows decoded together; a sequence of 5 beams has 5. Default 160.
    pub running_rows_max: usize,
    /// Tokens held in key-value memory over all running sequences, at most: less where the memory budget holds less. Default
    /// 65536.
    pub kv_tokens_max: usize,
    /// Bytes for key-value memory and for what a step works with, beside the weights; refused where that much is not free.
    /// Absent: `memory_percent_max` of what is free once the weights are loaded. No default.
    pub memory_bytes_max: Option<u64>,
    /// See `memory_bytes_max`. Where several services share a machine, give each its part. Default 80.
    pub memory_percent_max: usize,
    /// Tokens encoded between two decode steps: how long new sequences may hold up running ones. Default 4096.
    pub step_encode_tokens_max: usize,
    /// Tokens decoded in one step, over all rows, guesses included. Default 160.
    pub step_decode_tokens_max: usize,
    /// Tokens guessed ahead for a greedy sequence, from its prompt and from what was said before, and verified in one step.
    /// The text is the same. 0 is off. Default 8.
    pub draft_tokens_max: usize,
    /// Tokens of one step up to which guesses are added. Default 32.
    pub step_draft_tokens_max: usize,
    /// Longest that the device may take over one batch; beyond it the process is taken out of service. Default `5m`.
    #[serde(with = "humantime_serde")]
    pub batch_max: Duration,
    /// Bytes for items that were read for a prompt before: their words, values and names, folded and cut (a few KiB for a film).
    /// Most of a history was read before; without this, reading takes longer than a small model. Default 67108864.
    pub readings_bytes_max: u64,
    /// Tokens one sequence may produce, whatever its profile says. Default 256.
    pub new_tokens_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        let engine = refract_engine::Config::default();
        Self {
            bundle: PathBuf::new(),
            precision: Precision::Auto,
            devices: Vec::new(),
            tensor_parallel: 0,
            rank_wait: OpenOptions::default().rank_wait,
            record_steps: true,
            instruction_set: InstructionSet::Auto,
            threads: 0,
            nice: 5,
            queue_sequences_max: engine.queue_sequences_max,
            queue_tokens_max: engine.queue_tokens_max,
            running_sequences_max: engine.running_sequences_max,
            running_rows_max: engine.running_rows_max,
            kv_tokens_max: engine.kv_tokens_max,
            memory_bytes_max: engine.memory_bytes_max,
            memory_percent_max: engine.memory_percent_max,
            step_encode_tokens_max: engine.step_encode_tokens_max,
            step_decode_tokens_max: engine.step_decode_tokens_max,
            draft_tokens_max: engine.draft_tokens_max,
            step_draft_tokens_max: engine.step_draft_tokens_max,
            batch_max: engine.batch_max,
            readings_bytes_max: refract_bundle::READINGS_BYTES_DEFAULT,
            new_tokens_max: 256,
        }
    }
}

impl Config {
    /// How to open weights, for a bundle that declares this precision.
    pub(crate) fn open(&self, declared: Option<refract_bundle::Precision>) -> OpenOptions {
        let devices: Vec<DeviceName> = self.devices.iter().map(|d| d.0).collect();
        // What a bundle declares is meant for one CPU.
        let alone = self.tensor_parallel < 2 && matches!(devices.as_slice(), [] | [DeviceName::Cpu]);
        let declared = declared.filter(|_| alone);
        let weights = match (self.precision, declared) {
            (Precision::F32, _) | (Precision::Auto, Some(refract_bundle::Precision::F32)) => Weights::F32,
            (Precision::Int8, _) | (Precision::Auto, Some(refract_bundle::Precision::Int8)) => Weights::Int8,
            (Precision::Int4, _) | (Precision::Auto, Some(refract_bundle::Precision::Int4)) => Weights::Int4,
            (Precision::Bf16, _) => Weights::Bf16,
            (Precision::Auto, None) => Weights::Auto,
        };
        let isa = match self.instruction_set {
            InstructionSet::Auto => None,
            InstructionSet::Scalar => Some(Isa::Scalar),
            InstructionSet::Avx2 => Some(Isa::Avx2),
            InstructionSet::AvxVnni => Some(Isa::AvxVnni),
            InstructionSet::Vnni => Some(Isa::Vnni),
            InstructionSet::Amx => Some(Isa::Amx),
        };
        OpenOptions {
            weights,
            threads: self.threads,
            nice: self.nice,
            isa,
            devices,
            tensor_parallel: self.tensor_parallel,
            rank_wait: self.rank_wait,
            record_steps: self.record_steps,
        }
    }

    /// The engine's limits, for a bundle whose prompts have at most so many tokens.
    pub(crate) fn engine(&self, name: &str, prompt_tokens_max: usize) -> refract_engine::Config {
        let engine = refract_engine::Config::default();
        refract_engine::Config {
            name: name.to_owned(),
            nice: self.nice,
            queue_sequences_max: self.queue_sequences_max,
            queue_tokens_max: self.queue_tokens_max,
            running_sequences_max: self.running_sequences_max,
            running_rows_max: self.running_rows_max,
            kv_tokens_max: self.kv_tokens_max,
            memory_bytes_max: self.memory_bytes_max,
            memory_percent_max: self.memory_percent_max,
            prompt_tokens_max,
            new_tokens_max: self.new_tokens_max,
            step_encode_tokens_max: self.step_encode_tokens_max.max(prompt_tokens_max),
            step_decode_tokens_max: self.step_decode_tokens_max.max(self.running_rows_max),
            draft_tokens_max: self.draft_tokens_max,
            step_draft_tokens_max: self.step_draft_tokens_max,
            batch_max: self.batch_max,
            ..engine
        }
    }
}
