//! What is known of a model without its weights.

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Architecture {
    T5,
    Bart,
}

/// Sizes of the gated user and item embeddings of a published Prism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairTables {
    /// Rows of the user table: the modulus of [`crate::bucket()`] for users.
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
    /// Any of them may end a sequence at its limit; empty: whatever comes.
    pub forced_eos: Vec<u32>,
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
    /// Token runs that are never completed; none where the file names none, and so below.
    pub bad_words: Vec<Vec<u32>>,
    pub suppress_tokens: Vec<u32>,
    pub begin_suppress_tokens: Vec<u32>,
    /// What the file asks for beside all this and is not done, with its name: for whoever opens the model to say once.
    pub ignored: Option<String>,
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
