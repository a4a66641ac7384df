//! How a model service runs its bundle. Doc comments are the manual.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Number format of the weights in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    #[default]
    F32,
    Bf16,
}

impl Dtype {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

/// Limits and formats of one engine. Zero never means "no limit".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The bundle's directory: Refract's own, or a plain Hugging Face T5 or BART. No default.
    pub bundle: PathBuf,
    pub dtype: Dtype,
    /// Sequences that may wait; the next one is refused at once. Default 256.
    pub queue_sequences_max: usize,
    /// Tokens (prompt and reserved output) that may wait. Default 262144.
    pub queue_tokens_max: usize,
    /// Sequences decoded together. Default 32.
    pub running_sequences_max: usize,
    /// Rows decoded together; a sequence of 5 beams has 5. Default 160.
    pub running_rows_max: usize,
    /// Tokens held in key-value memory over all running sequences. Default 65536.
    pub kv_tokens_max: usize,
    /// Tokens one sequence may produce, whatever its profile says. Default 256.
    pub new_tokens_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        let engine = refract_engine::Config::default();
        Self {
            bundle: PathBuf::new(),
            dtype: Dtype::F32,
            queue_sequences_max: engine.queue_sequences_max,
            queue_tokens_max: engine.queue_tokens_max,
            running_sequences_max: engine.running_sequences_max,
            running_rows_max: engine.running_rows_max,
            kv_tokens_max: engine.kv_tokens_max,
            new_tokens_max: 256,
        }
    }
}

impl Config {
    /// The engine's limits, for a bundle whose prompts have at most so many tokens.
    pub(crate) fn engine(&self, name: &str, prompt_tokens_max: usize) -> refract_engine::Config {
        let engine = refract_engine::Config::default();
        refract_engine::Config {
            name: name.to_owned(),
            queue_sequences_max: self.queue_sequences_max,
            queue_tokens_max: self.queue_tokens_max,
            running_sequences_max: self.running_sequences_max,
            running_rows_max: self.running_rows_max,
            kv_tokens_max: self.kv_tokens_max,
            prompt_tokens_max,
            new_tokens_max: self.new_tokens_max,
            step_encode_tokens_max: engine.step_encode_tokens_max.max(prompt_tokens_max),
            step_decode_tokens_max: engine.step_decode_tokens_max.max(self.running_rows_max),
            ..engine
        }
    }
}
