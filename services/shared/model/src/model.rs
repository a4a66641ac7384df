//! The two architectures behind one face: load, encode, decode.

use std::path::Path;

use candle_core::{Device, Tensor};

use crate::error::Error;
use crate::state::{Cross, CrossBatch, Encoded, OwnKv};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Architecture {
    T5,
    Bart,
}

/// How the weights are held and multiplied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dtype {
    #[default]
    F32,
    /// Half the memory. On a CPU each product widens its operands first: correct, not fast.
    Bf16,
    /// BART only: T5's feed-forward activations leave the range of fp16.
    F16,
}

#[derive(Clone, Debug)]
pub struct LoadOptions {
    pub dtype: Dtype,
    pub device: Device,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { dtype: Dtype::F32, device: Device::Cpu }
    }
}

/// Sizes of the gated user and item embeddings of a published Prism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairTables {
    /// Rows of the user table: the modulus of [`crate::bucket`] for users.
    pub users: usize,
    pub items: usize,
}

/// The rows of the two tables that one sequence uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PairRows {
    pub user: u32,
    pub item: u32,
}

/// What a scheduler and a sampler must know of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    pub architecture: Architecture,
    pub vocab: usize,
    /// d_model.
    pub width: usize,
    pub encoder_layers: usize,
    pub decoder_layers: usize,
    /// Heads of the decoder.
    pub heads: usize,
    pub head_dim: usize,
    /// Tokens that the position table has room for, source and target alike. T5: no limit.
    pub positions_max: Option<usize>,
    pub decoder_start: u32,
    pub eos: Vec<u32>,
    pub pad: u32,
    pub bos: Option<u32>,
    pub forced_bos: Option<u32>,
    pub forced_eos: Option<u32>,
    pub pair_tables: Option<PairTables>,
    /// Numbers in the checkpoint, tied tensors counted once.
    pub parameters: u64,
}

/// `generation_config.json`, and where it is silent, the old keys of `config.json`. Absent means: the caller's default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationDefaults {
    /// Decoder ids in all, the start id included.
    pub max_length: Option<usize>,
    pub max_new_tokens: Option<usize>,
    pub min_length: Option<usize>,
    pub min_new_tokens: Option<usize>,
    pub num_beams: Option<usize>,
    pub num_return_sequences: Option<usize>,
    pub length_penalty: Option<f32>,
    pub repetition_penalty: Option<f32>,
    pub no_repeat_ngram_size: Option<usize>,
    pub early_stopping: Option<EarlyStopping>,
    pub do_sample: Option<bool>,
    pub temperature: Option<f32>,
    pub top_k: Option<usize>,
    pub top_p: Option<f32>,
}

/// When a beam search may end before its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EarlyStopping {
    /// As soon as there are as many finished hypotheses as beams.
    Yes,
    /// When the best running beam is unlikely to beat the worst finished one.
    No,
    /// When it cannot.
    Never,
}

/// An encoder–decoder. Cheap to clone; decode state is an argument, never a field, so one model serves many threads.
#[derive(Clone, Debug)]
pub enum Model {
    T5(crate::t5::T5),
    Bart(crate::bart::Bart),
}

impl Model {
    /// Loads a directory in the Hugging Face layout, strictly.
    pub fn load(dir: &Path, options: &LoadOptions) -> Result<Self, Error> {
        let _ = (dir, options);
        Err(Error::input("dir", "under construction"))
    }

    pub fn spec(&self) -> &Spec {
        match self {
            Self::T5(m) => &m.spec,
            Self::Bart(m) => &m.spec,
        }
    }

    pub fn generation_defaults(&self) -> &GenerationDefaults {
        match self {
            Self::T5(m) => &m.defaults,
            Self::Bart(m) => &m.defaults,
        }
    }

    /// Encodes ragged sequences together: padded inside, padding masked everywhere.
    ///
    /// `pairs` has one entry a sequence where the model has pair tables; a model without them ignores it.
    pub fn encode(&self, ids: &[&[u32]], pairs: Option<&[PairRows]>) -> Result<Encoded, Error> {
        let _ = (ids, pairs);
        Err(Error::input("ids", "under construction"))
    }

    /// Cross-attention keys and values of all decoder layers, projected once; one `Cross` a sequence.
    pub fn cross(&self, encoded: &Encoded) -> Result<Vec<Cross>, Error> {
        let _ = encoded;
        Err(Error::input("encoded", "under construction"))
    }

    /// One decode step: one token a row. Appends to `own`; returns f32 logits `[rows, vocab]`.
    pub fn decode(&self, tokens: &[u32], own: &mut OwnKv, cross: &CrossBatch) -> Result<Tensor, Error> {
        let _ = (tokens, own, cross);
        Err(Error::input("tokens", "under construction"))
    }

    /// Several tokens a row at once (teacher forcing, verification of a draft); rows may have different counts.
    /// Appends to `own`; returns f32 logits `[rows, longest, vocab]`, where those past a row's own count are meaningless.
    pub fn decode_many(&self, tokens: &[&[u32]], own: &mut OwnKv, cross: &CrossBatch) -> Result<Tensor, Error> {
        let _ = (tokens, own, cross);
        Err(Error::input("tokens", "under construction"))
    }
}
