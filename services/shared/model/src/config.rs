//! `config.json` and `generation_config.json` as Hugging Face writes them, with its defaults for what is left out.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;
use crate::layers::Activation;
use crate::spec::{EarlyStopping, GenerationDefaults};

/// One id or several: `eos_token_id` comes in both forms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Ids {
    One(u32),
    Many(Vec<u32>),
}

impl Ids {
    pub fn to_vec(&self) -> Vec<u32> {
        match self {
            Self::One(id) => vec![*id],
            Self::Many(ids) => ids.clone(),
        }
    }
}

/// T5, FLAN-T5 and mT5 (Raffel et al. 2020; Shazeer 2020 for the gated form).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct T5Config {
    pub vocab_size: usize,
    pub d_model: usize,
    /// Width of one head; heads × d_kv need not be d_model.
    pub d_kv: usize,
    pub d_ff: usize,
    pub num_layers: usize,
    /// As many as the encoder where absent.
    pub num_decoder_layers: Option<usize>,
    pub num_heads: usize,
    pub relative_attention_num_buckets: usize,
    pub relative_attention_max_distance: usize,
    pub dropout_rate: f32,
    pub layer_norm_epsilon: f64,
    pub initializer_factor: f64,
    /// `relu`, `gated-gelu`, `gated-silu` …
    pub feed_forward_proj: String,
    pub tie_word_embeddings: bool,
    /// Newer files say here what older ones say by `tie_word_embeddings`: logits of a tied head are scaled by d_model^-½.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_decoder_outputs: Option<bool>,
    pub pad_token_id: Option<u32>,
    pub eos_token_id: Option<Ids>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bos_token_id: Option<u32>,
    pub decoder_start_token_id: Option<u32>,
}

impl Default for T5Config {
    fn default() -> Self {
        Self {
            vocab_size: 32_128,
            d_model: 512,
            d_kv: 64,
            d_ff: 2048,
            num_layers: 6,
            num_decoder_layers: None,
            num_heads: 8,
            relative_attention_num_buckets: 32,
            relative_attention_max_distance: 128,
            dropout_rate: 0.1,
            layer_norm_epsilon: 1e-6,
            initializer_factor: 1.0,
            feed_forward_proj: "relu".to_owned(),
            tie_word_embeddings: true,
            scale_decoder_outputs: None,
            pad_token_id: Some(0),
            eos_token_id: Some(Ids::One(1)),
            bos_token_id: None,
            decoder_start_token_id: None,
        }
    }
}

impl T5Config {
    pub fn decoder_layers(&self) -> usize {
        self.num_decoder_layers.unwrap_or(self.num_layers)
    }

    /// Whether what enters the head is scaled by d_model^-½.
    pub fn scales_head(&self) -> bool {
        self.scale_decoder_outputs.unwrap_or(self.tie_word_embeddings)
    }

    /// Whether the feed-forward layer is gated, and its activation.
    pub fn feed_forward(&self) -> Result<(bool, Activation), String> {
        let (gated, name) = match self.feed_forward_proj.strip_prefix("gated-") {
            // History: the gated form has always used the tanh approximation under the plain name.
            Some("gelu") => (true, "gelu_new"),
            Some(name) => (true, name),
            None => (false, self.feed_forward_proj.as_str()),
        };
        Ok((gated, Activation::parse(name)?))
    }
}

/// BART (Lewis et al. 2019), and the published Prism, whose extra tables are found by their tensor names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BartConfig {
    pub vocab_size: usize,
    pub max_position_embeddings: usize,
    pub encoder_layers: usize,
    pub encoder_ffn_dim: usize,
    pub encoder_attention_heads: usize,
    pub decoder_layers: usize,
    pub decoder_ffn_dim: usize,
    pub decoder_attention_heads: usize,
    pub activation_function: String,
    pub d_model: usize,
    pub dropout: f32,
    pub attention_dropout: f32,
    pub activation_dropout: f32,
    pub init_std: f64,
    pub scale_embedding: bool,
    pub pad_token_id: Option<u32>,
    pub bos_token_id: Option<u32>,
    pub eos_token_id: Option<Ids>,
    pub decoder_start_token_id: Option<u32>,
    pub forced_bos_token_id: Option<u32>,
    pub forced_eos_token_id: Option<Ids>,
    pub tie_word_embeddings: bool,
    /// The gated user and item tables of a published Prism. Read from the tensors themselves where they are stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pair_tables: Option<PairSizes>,
}

/// Rows and widths of the user and the item table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairSizes {
    pub users: usize,
    pub items: usize,
    pub user_width: usize,
    pub item_width: usize,
}

impl BartConfig {
    /// The activation of the feed-forward layers.
    pub fn activation(&self) -> Result<Activation, String> {
        Activation::parse(&self.activation_function)
    }
}

impl Default for BartConfig {
    fn default() -> Self {
        Self {
            vocab_size: 50_265,
            max_position_embeddings: 1024,
            encoder_layers: 12,
            encoder_ffn_dim: 4096,
            encoder_attention_heads: 16,
            decoder_layers: 12,
            decoder_ffn_dim: 4096,
            decoder_attention_heads: 16,
            activation_function: "gelu".to_owned(),
            d_model: 1024,
            dropout: 0.1,
            attention_dropout: 0.0,
            activation_dropout: 0.0,
            init_std: 0.02,
            scale_embedding: false,
            pad_token_id: Some(1),
            bos_token_id: Some(0),
            eos_token_id: Some(Ids::One(2)),
            decoder_start_token_id: Some(2),
            forced_bos_token_id: None,
            forced_eos_token_id: Some(Ids::One(2)),
            tie_word_embeddings: true,
            pair_tables: None,
        }
    }
}

/// Which model a directory holds, and its sizes.
#[derive(Clone, Debug, PartialEq)]
pub enum Config {
    T5(T5Config),
    Bart(BartConfig),
}

/// What `generate` needs of the two files.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tokens {
    pub(crate) decoder_start: u32,
    pub(crate) eos: Vec<u32>,
    pub(crate) pad: u32,
    pub(crate) bos: Option<u32>,
    pub(crate) forced_bos: Option<u32>,
    pub(crate) forced_eos: Vec<u32>,
}

impl Config {
    /// Reads `config.json` of a directory and checks that its numbers fit together.
    pub fn read(dir: &Path) -> Result<Self, Error> {
        let file = dir.join("config.json");
        let mut value = read_json(&file)?;
        let model_type = value
            .get("model_type")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        if model_type == "mt5"
            && let Some(map) = value.as_object_mut()
        {
            map.entry("tie_word_embeddings").or_insert(Value::Bool(false));
            map.entry("feed_forward_proj").or_insert("gated-gelu".into());
        }
        let config = match model_type.as_str() {
            "t5" | "mt5" => Self::T5(parse(&file, value)?),
            "bart" => Self::Bart(parse(&file, value)?),
            _ => return Err(Error::Architecture { file, model_type }),
        };
        config.check().map_err(|(field, reason)| Error::Config {
            file,
            field: field.to_owned(),
            reason,
        })?;
        Ok(config)
    }

    /// The first number that cannot be, with its name.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        let positive: Vec<(&'static str, usize)> = match self {
            Self::T5(c) => vec![
                ("vocab_size", c.vocab_size),
                ("d_model", c.d_model),
                ("d_kv", c.d_kv),
                ("d_ff", c.d_ff),
                ("num_layers", c.num_layers),
                ("num_decoder_layers", c.decoder_layers()),
                ("num_heads", c.num_heads),
            ],
            Self::Bart(c) => vec![
                ("vocab_size", c.vocab_size),
                ("d_model", c.d_model),
                ("encoder_ffn_dim", c.encoder_ffn_dim),
                ("decoder_ffn_dim", c.decoder_ffn_dim),
                ("encoder_layers", c.encoder_layers),
                ("decoder_layers", c.decoder_layers),
                ("encoder_attention_heads", c.encoder_attention_heads),
                ("decoder_attention_heads", c.decoder_attention_heads),
                ("max_position_embeddings", c.max_position_embeddings),
            ],
        };
        if let Some((field, _)) = positive.into_iter().find(|(_, n)| *n == 0) {
            return Err((field, "must be positive".to_owned()));
        }
        match self {
            Self::T5(c) => {
                c.feed_forward().map_err(|reason| ("feed_forward_proj", reason))?;
                let buckets = c.relative_attention_num_buckets;
                // A quarter of the buckets are exact distances of one direction; there must be one.
                if buckets < 4 || buckets % 2 != 0 {
                    return Err((
                        "relative_attention_num_buckets",
                        format!("{buckets} is not an even number from 4 on"),
                    ));
                }
                if c.relative_attention_max_distance <= buckets / 2 {
                    return Err((
                        "relative_attention_max_distance",
                        format!("must exceed {}", buckets / 2),
                    ));
                }
            }
            Self::Bart(c) => {
                Activation::parse(&c.activation_function)
                    .map_err(|reason| ("activation_function", reason))?;
                for (field, heads) in [
                    ("encoder_attention_heads", c.encoder_attention_heads),
                    ("decoder_attention_heads", c.decoder_attention_heads),
                ] {
                    if c.d_model % heads != 0 {
                        return Err((field, format!("{heads} does not divide d_model {}", c.d_model)));
                    }
                }
            }
        }
        let vocab = self.vocab();
        let (start, eos, pad) = match self {
            Self::T5(c) => (c.decoder_start_token_id, &c.eos_token_id, c.pad_token_id),
            Self::Bart(c) => (c.decoder_start_token_id, &c.eos_token_id, c.pad_token_id),
        };
        let eos = eos.as_ref().map(Ids::to_vec).unwrap_or_default();
        for (field, id) in start
            .map(|id| ("decoder_start_token_id", id))
            .into_iter()
            .chain(pad.map(|id| ("pad_token_id", id)))
            .chain(eos.into_iter().map(|id| ("eos_token_id", id)))
        {
            if id as usize >= vocab {
                return Err((field, format!("{id} is not below vocab_size {vocab}")));
            }
        }
        Ok(())
    }

    pub fn vocab(&self) -> usize {
        match self {
            Self::T5(c) => c.vocab_size,
            Self::Bart(c) => c.vocab_size,
        }
    }

    /// `config.json` in the words of Hugging Face.
    pub(crate) fn to_json(&self, tied: bool) -> Value {
        let (mut value, model_type, class) = match self {
            Self::T5(c) => (serde_json::to_value(c), "t5", "T5ForConditionalGeneration"),
            Self::Bart(c) => (serde_json::to_value(c), "bart", "BartForConditionalGeneration"),
        };
        if let Ok(Value::Object(map)) = &mut value {
            map.insert("model_type".to_owned(), model_type.into());
            map.insert("architectures".to_owned(), Value::from(vec![class]));
            map.insert("is_encoder_decoder".to_owned(), true.into());
            map.insert("torch_dtype".to_owned(), "float32".into());
            map.insert("tie_word_embeddings".to_owned(), tied.into());
            if let Self::T5(c) = self {
                map.insert("scale_decoder_outputs".to_owned(), c.scales_head().into());
                map.insert("num_decoder_layers".to_owned(), c.decoder_layers().into());
                map.insert(
                    "decoder_start_token_id".to_owned(),
                    self.own_tokens().decoder_start.into(),
                );
            }
        }
        value.expect("plain numbers and strings always serialise")
    }

    /// The special ids of `config.json` alone.
    pub(crate) fn own_tokens(&self) -> Tokens {
        let all = |ids: &Option<Ids>| ids.as_ref().map(Ids::to_vec).unwrap_or_default();
        match self {
            Self::T5(c) => {
                let pad = c.pad_token_id.unwrap_or(0);
                Tokens {
                    decoder_start: c.decoder_start_token_id.unwrap_or(pad),
                    eos: all(&c.eos_token_id),
                    pad,
                    bos: c.bos_token_id,
                    forced_bos: None,
                    forced_eos: Vec::new(),
                }
            }
            Self::Bart(c) => {
                let eos = all(&c.eos_token_id);
                Tokens {
                    decoder_start: c.decoder_start_token_id.or(eos.first().copied()).unwrap_or(2),
                    eos,
                    pad: c.pad_token_id.unwrap_or(1),
                    bos: c.bos_token_id,
                    forced_bos: c.forced_bos_token_id,
                    forced_eos: all(&c.forced_eos_token_id),
                }
            }
        }
    }
}

/// `generation_config.json`; also the keys that older files keep in `config.json`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Generation {
    max_length: Option<usize>,
    max_new_tokens: Option<usize>,
    min_length: Option<usize>,
    min_new_tokens: Option<usize>,
    num_beams: Option<usize>,
    num_return_sequences: Option<usize>,
    length_penalty: Option<f32>,
    repetition_penalty: Option<f32>,
    no_repeat_ngram_size: Option<usize>,
    early_stopping: Option<Value>,
    do_sample: Option<bool>,
    temperature: Option<f32>,
    top_k: Option<usize>,
    top_p: Option<f32>,
    decoder_start_token_id: Option<u32>,
    eos_token_id: Option<Ids>,
    pad_token_id: Option<u32>,
    bos_token_id: Option<u32>,
    forced_bos_token_id: Option<u32>,
    forced_eos_token_id: Option<Ids>,
    bad_words_ids: Option<Vec<Vec<u32>>>,
    suppress_tokens: Option<Vec<i64>>,
    begin_suppress_tokens: Option<Vec<i64>>,
}

/// The ids that the model has. `transformers` takes no notice of others here, and published files have them (-1, or ids of another
/// tokenizer).
fn within(ids: Option<Vec<i64>>, vocab: usize) -> Vec<u32> {
    let known = |id: i64| u32::try_from(id).ok().filter(|id| (*id as usize) < vocab);
    ids.into_iter().flatten().filter_map(known).collect()
}

/// Keys that change what `generate` says and are not read here, with the value at which they change nothing (absent and null
/// never do).
const UNSUPPORTED: [(&str, &str); 22] = [
    ("constraints", "null"),
    ("diversity_penalty", "0.0"),
    ("dola_layers", "null"),
    ("encoder_no_repeat_ngram_size", "0"),
    ("encoder_repetition_penalty", "1.0"),
    ("epsilon_cutoff", "0.0"),
    ("eta_cutoff", "0.0"),
    ("exponential_decay_length_penalty", "null"),
    ("force_words_ids", "null"),
    ("forced_decoder_ids", "null"),
    ("guidance_scale", "1.0"),
    ("max_time", "null"),
    ("min_p", "0.0"),
    ("num_beam_groups", "1"),
    ("penalty_alpha", "0.0"),
    ("remove_invalid_values", "false"),
    ("renormalize_logits", "false"),
    ("sequence_bias", "null"),
    ("stop_strings", "null"),
    ("token_healing", "false"),
    ("typical_p", "1.0"),
    ("watermarking_config", "null"),
];

/// What `file` asks for in vain, one sentence of it. `None` where all of it is done.
fn ignored(file: &Path, settings: &Value) -> Option<String> {
    let changes = |(key, idle): &(&str, &str)| {
        let given = settings.get(key).filter(|given| !given.is_null())?;
        let idle: Value = serde_json::from_str(idle).unwrap_or_default();
        // 1 and 1.0 are one number.
        let same = match (given.as_f64(), idle.as_f64()) {
            (Some(given), Some(idle)) => given == idle,
            _ => *given == idle || given.as_array().is_some_and(Vec::is_empty),
        };
        (!same).then(|| format!("{key} = {given}"))
    };
    let keys: Vec<String> = UNSUPPORTED.iter().filter_map(changes).collect();
    (!keys.is_empty()).then(|| {
        format!(
            "{} asks for {}, which is not supported and has no effect; take it out, or expect other texts than the reference's",
            file.display(),
            keys.join(", ")
        )
    })
}

/// The special ids and decode settings of a directory.
///
/// Where `generation_config.json` exists it alone says how to decode; only ids that it lacks are taken from `config.json`.
/// Where it does not exist, `config.json` speaks for both.
pub(crate) fn read_generation(dir: &Path, config: &Config) -> Result<(Tokens, GenerationDefaults), Error> {
    let own = config.own_tokens();
    let generation_file = dir.join("generation_config.json");
    let (file, separate) = if generation_file.exists() {
        (generation_file, true)
    } else {
        (dir.join("config.json"), false)
    };
    let settings = read_json(&file)?;
    let ignored = ignored(&file, &settings);
    let given: Generation = parse(&file, settings)?;
    let tokens = Tokens {
        decoder_start: given.decoder_start_token_id.unwrap_or(own.decoder_start),
        eos: given.eos_token_id.as_ref().map_or(own.eos, Ids::to_vec),
        pad: given.pad_token_id.unwrap_or(own.pad),
        bos: given.bos_token_id.or(own.bos),
        forced_bos: if separate {
            given.forced_bos_token_id
        } else {
            own.forced_bos
        },
        forced_eos: if separate {
            given
                .forced_eos_token_id
                .as_ref()
                .map(Ids::to_vec)
                .unwrap_or_default()
        } else {
            own.forced_eos
        },
    };
    let named = [
        ("decoder_start_token_id", tokens.decoder_start),
        ("pad_token_id", tokens.pad),
    ]
    .into_iter()
    .chain(tokens.eos.iter().map(|id| ("eos_token_id", *id)))
    .chain(tokens.forced_bos.map(|id| ("forced_bos_token_id", id)))
    .chain(tokens.forced_eos.iter().map(|id| ("forced_eos_token_id", *id)))
    .chain(
        given
            .bad_words_ids
            .iter()
            .flatten()
            .flatten()
            .map(|id| ("bad_words_ids", *id)),
    );
    for (field, id) in named {
        if id as usize >= config.vocab() {
            let reason = format!("{id} is not below vocab_size {}", config.vocab());
            return Err(Error::Config {
                file,
                field: field.to_owned(),
                reason,
            });
        }
    }
    if given.bad_words_ids.iter().flatten().any(Vec::is_empty) {
        return Err(Error::Config {
            file,
            field: "bad_words_ids".to_owned(),
            reason: "has an empty run of tokens".to_owned(),
        });
    }
    let early_stopping = match &given.early_stopping {
        None | Some(Value::Null) => None,
        Some(Value::Bool(true)) => Some(EarlyStopping::Yes),
        Some(Value::Bool(false)) => Some(EarlyStopping::No),
        Some(Value::String(s)) if s == "never" => Some(EarlyStopping::Never),
        Some(other) => {
            let reason = format!("{other} is neither true, false nor \"never\"");
            return Err(Error::Config {
                file,
                field: "early_stopping".to_owned(),
                reason,
            });
        }
    };
    let defaults = GenerationDefaults {
        max_length: given.max_length,
        max_new_tokens: given.max_new_tokens,
        min_length: given.min_length,
        min_new_tokens: given.min_new_tokens,
        num_beams: given.num_beams,
        num_return_sequences: given.num_return_sequences,
        length_penalty: given.length_penalty,
        repetition_penalty: given.repetition_penalty,
        no_repeat_ngram_size: given.no_repeat_ngram_size,
        early_stopping,
        do_sample: given.do_sample,
        temperature: given.temperature,
        top_k: given.top_k,
        top_p: given.top_p,
        bad_words: given.bad_words_ids.unwrap_or_default(),
        suppress_tokens: within(given.suppress_tokens, config.vocab()),
        begin_suppress_tokens: within(given.begin_suppress_tokens, config.vocab()),
        ignored,
    };
    Ok((tokens, defaults))
}

/// `generation_config.json` in the words of Hugging Face; what is absent stays absent.
pub(crate) fn generation_json(tokens: &Tokens, defaults: &GenerationDefaults) -> Value {
    let mut map = serde_json::Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            map.insert(key.to_owned(), value);
        }
    };
    let one_or_many = |ids: &[u32]| match ids {
        [] => None,
        [one] => Some((*one).into()),
        many => Some(many.into()),
    };
    put("decoder_start_token_id", Some(tokens.decoder_start.into()));
    put("eos_token_id", one_or_many(&tokens.eos));
    put("pad_token_id", Some(tokens.pad.into()));
    put("bos_token_id", tokens.bos.map(Into::into));
    put("forced_bos_token_id", tokens.forced_bos.map(Into::into));
    put("forced_eos_token_id", one_or_many(&tokens.forced_eos));
    put("max_length", defaults.max_length.map(Into::into));
    put("max_new_tokens", defaults.max_new_tokens.map(Into::into));
    put("min_length", defaults.min_length.map(Into::into));
    put("min_new_tokens", defaults.min_new_tokens.map(Into::into));
    put("num_beams", defaults.num_beams.map(Into::into));
    put(
        "num_return_sequences",
        defaults.num_return_sequences.map(Into::into),
    );
    put("length_penalty", defaults.length_penalty.map(Into::into));
    put("repetition_penalty", defaults.repetition_penalty.map(Into::into));
    put(
        "no_repeat_ngram_size",
        defaults.no_repeat_ngram_size.map(Into::into),
    );
    put(
        "early_stopping",
        defaults.early_stopping.map(|stop| match stop {
            EarlyStopping::Yes => true.into(),
            EarlyStopping::No => false.into(),
            EarlyStopping::Never => "never".into(),
        }),
    );
    put("do_sample", defaults.do_sample.map(Into::into));
    put("temperature", defaults.temperature.map(Into::into));
    put("top_k", defaults.top_k.map(Into::into));
    put("top_p", defaults.top_p.map(Into::into));
    let some = |ids: &[u32]| (!ids.is_empty()).then(|| ids.into());
    put("suppress_tokens", some(&defaults.suppress_tokens));
    put("begin_suppress_tokens", some(&defaults.begin_suppress_tokens));
    let words = &defaults.bad_words;
    put("bad_words_ids", (!words.is_empty()).then(|| words.clone().into()));
    Value::Object(map)
}

fn read_json(file: &Path) -> Result<Value, Error> {
    let text = fs::read_to_string(file).map_err(|source| Error::Read {
        file: file.to_owned(),
        source,
    })?;
    serde_json::from_str(&text).map_err(|e| Error::Config {
        file: file.to_owned(),
        field: format!("line {}", e.line()),
        reason: e.to_string(),
    })
}

fn parse<T: serde::de::DeserializeOwned>(file: &Path, value: Value) -> Result<T, Error> {
    serde_path(value).map_err(|(field, reason)| Error::Config {
        file: file.to_owned(),
        field,
        reason,
    })
}

/// Deserialises, and on failure finds the first field that fails on its own, so that the error can name it.
fn serde_path<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, (String, String)> {
    let Value::Object(map) = &value else {
        return Err(("(root)".to_owned(), "is not an object".to_owned()));
    };
    match serde_json::from_value::<T>(value.clone()) {
        Ok(parsed) => Ok(parsed),
        Err(whole) => {
            let culprit = map.iter().find_map(|(key, one)| {
                let alone = Value::Object([(key.clone(), one.clone())].into_iter().collect());
                serde_json::from_value::<T>(alone)
                    .err()
                    .map(|e| (key.clone(), e.to_string()))
            });
            Err(culprit.unwrap_or_else(|| ("(root)".to_owned(), whole.to_string())))
        }
    }
}
