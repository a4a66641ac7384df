//! How a sequence is to be decoded. Names and meanings are those of Hugging Face's `generate`.

use refract_model::{EarlyStopping, GenerationDefaults, Spec};

use crate::error::Error;
use crate::runner::Shape;

/// New tokens where neither the caller nor the model's generation config says how many.
pub const NEW_TOKENS_DEFAULT: usize = 20;

/// Complete: what is not here does not influence decoding. Lengths count produced tokens, never the decoder start id.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerationParams {
    pub max_new_tokens: usize,
    /// Before this many tokens no EOS is produced.
    pub min_new_tokens: usize,
    /// 1: greedy or sampling. More: beam search.
    pub num_beams: usize,
    /// Of beams: the best so many. Of sampling: so many independent samples.
    pub num_return_sequences: usize,
    /// A beam's score is its summed log-probability over (produced tokens, EOS included) to this power.
    pub length_penalty: f32,
    pub early_stopping: EarlyStopping,
    /// Over 1: the score of a token that the decoder has already seen (the start id included) is divided, or where it is
    /// negative multiplied, by this.
    pub repetition_penalty: f32,
    /// 0: off. Otherwise no run of so many decoder tokens comes twice.
    pub no_repeat_ngram_size: usize,
    pub do_sample: bool,
    pub temperature: f32,
    /// 0: off. Only the so many likeliest tokens are sampled (ties with the last one stay).
    pub top_k: usize,
    /// 1: off. Only the likeliest tokens that together have this probability are sampled.
    pub top_p: f32,
    /// Of sampling. The same seed, prompt and settings give the same tokens; without one the engine draws one.
    pub seed: Option<u64>,
    /// Tokens that end a sequence; they are part of what it produced. Empty: only the length ends it.
    pub eos: Vec<u32>,
    /// Token runs that end a sequence, as EOS does.
    pub stop: Vec<Vec<u32>>,
    /// The first produced token.
    pub forced_bos: Option<u32>,
    /// One of them is the last produced token of a sequence that reaches its limit: where they are equally good, the lowest.
    /// Empty: whatever comes.
    pub forced_eos: Vec<u32>,
    /// Token runs that are never completed.
    pub bad_words: Vec<Vec<u32>>,
    /// Tokens that are never produced.
    pub suppress_tokens: Vec<u32>,
    /// Tokens that are not produced first (after a forced BOS, where there is one).
    pub begin_suppress_tokens: Vec<u32>,
}

impl GenerationParams {
    /// Greedy, without any processing.
    pub fn greedy(max_new_tokens: usize, eos: Vec<u32>) -> Self {
        Self {
            max_new_tokens,
            min_new_tokens: 0,
            num_beams: 1,
            num_return_sequences: 1,
            length_penalty: 1.0,
            early_stopping: EarlyStopping::No,
            repetition_penalty: 1.0,
            no_repeat_ngram_size: 0,
            do_sample: false,
            temperature: 1.0,
            top_k: 50,
            top_p: 1.0,
            seed: None,
            eos,
            stop: Vec::new(),
            forced_bos: None,
            forced_eos: Vec::new(),
            bad_words: Vec::new(),
            suppress_tokens: Vec::new(),
            begin_suppress_tokens: Vec::new(),
        }
    }

    /// What the model's own files ask for; where they are silent, what Hugging Face's `generate` does.
    pub fn for_model(spec: &Spec, defaults: &GenerationDefaults) -> Self {
        let plain = Self::greedy(NEW_TOKENS_DEFAULT, spec.eos.clone());
        Self {
            max_new_tokens: defaults
                .max_new_tokens
                .or(defaults.max_length.map(|n| n.saturating_sub(1)))
                .unwrap_or(NEW_TOKENS_DEFAULT),
            min_new_tokens: defaults
                .min_new_tokens
                .or(defaults.min_length.map(|n| n.saturating_sub(1)))
                .unwrap_or(plain.min_new_tokens),
            num_beams: defaults.num_beams.unwrap_or(plain.num_beams),
            num_return_sequences: defaults
                .num_return_sequences
                .unwrap_or(plain.num_return_sequences),
            length_penalty: defaults.length_penalty.unwrap_or(plain.length_penalty),
            early_stopping: defaults.early_stopping.unwrap_or(plain.early_stopping),
            repetition_penalty: defaults.repetition_penalty.unwrap_or(plain.repetition_penalty),
            no_repeat_ngram_size: defaults
                .no_repeat_ngram_size
                .unwrap_or(plain.no_repeat_ngram_size),
            do_sample: defaults.do_sample.unwrap_or(plain.do_sample),
            temperature: defaults.temperature.unwrap_or(plain.temperature),
            top_k: defaults.top_k.unwrap_or(plain.top_k),
            top_p: defaults.top_p.unwrap_or(plain.top_p),
            forced_bos: spec.forced_bos,
            forced_eos: spec.forced_eos.clone(),
            bad_words: defaults.bad_words.clone(),
            suppress_tokens: defaults.suppress_tokens.clone(),
            begin_suppress_tokens: defaults.begin_suppress_tokens.clone(),
            ..plain
        }
    }

    /// Rows of the batch that a sequence with these settings needs at most.
    pub fn rows(&self) -> usize {
        if self.num_beams > 1 {
            self.num_beams
        } else {
            self.num_return_sequences
        }
    }

    /// Whether every value is possible, for this model.
    pub fn check(&self, shape: &Shape) -> Result<(), Error> {
        let no = |field, reason: &str| Err(Error::invalid(field, reason));
        if self.max_new_tokens == 0 {
            return no("max_new_tokens", "must be at least 1");
        }
        if self.min_new_tokens > self.max_new_tokens {
            return no("min_new_tokens", "exceeds max_new_tokens");
        }
        if self.num_beams == 0 {
            return no("num_beams", "must be at least 1");
        }
        if self.num_return_sequences == 0 {
            return no("num_return_sequences", "must be at least 1");
        }
        if self.num_beams > 1 && self.num_return_sequences > self.num_beams {
            return no("num_return_sequences", "exceeds num_beams");
        }
        if self.num_beams == 1 && !self.do_sample && self.num_return_sequences > 1 {
            return no("num_return_sequences", "greedy decoding has one result");
        }
        if self.num_beams > 1 && self.do_sample {
            return no("do_sample", "is not combined with num_beams over 1");
        }
        if !self.length_penalty.is_finite() {
            return no("length_penalty", "must be finite");
        }
        if !(self.repetition_penalty.is_finite() && self.repetition_penalty > 0.0) {
            return no("repetition_penalty", "must be over 0");
        }
        if !(self.temperature.is_finite() && self.temperature > 0.0) {
            return no("temperature", "must be over 0");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return no("top_p", "must be over 0 and at most 1");
        }
        let unknown = |ids: &[u32]| ids.iter().any(|id| *id as usize >= shape.vocab);
        for (field, runs) in [("stop", &self.stop), ("bad_words", &self.bad_words)] {
            if runs.iter().any(Vec::is_empty) {
                return no(field, "has an empty run of tokens");
            }
            if runs.iter().any(|run| unknown(run)) {
                return no(field, "has an id outside the vocabulary");
            }
        }
        for (field, ids) in [
            ("eos", self.eos.as_slice()),
            ("forced_bos", self.forced_bos.as_slice()),
            ("forced_eos", &self.forced_eos),
            ("suppress_tokens", &self.suppress_tokens),
            ("begin_suppress_tokens", &self.begin_suppress_tokens),
        ] {
            if unknown(ids) {
                return no(field, "has an id outside the vocabulary");
            }
        }
        Ok(())
    }
}
