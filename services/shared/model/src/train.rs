//! Training: the same modules over variables, a loss, seeded initial weights, and saving what Hugging Face can load.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry::Vacant;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::bart::FINAL_LOGITS_BIAS;
use crate::checkpoint;
use crate::config::{Config, PairSizes, generation_json};
use crate::description::Description;
use crate::error::Error;
use crate::kernels;
use crate::layers::{Dropout, Memory, Mode, padded};
use crate::mixed;
use crate::model::{DecodeInput, Dtype, Model};
use crate::parallel::Part;
use crate::spec::{GenerationDefaults, PairRows};
use crate::weights::{Entry, Start};

/// A model whose weights are variables.
pub struct Trainable {
    description: Description,
    vars: VarMap,
    /// Over the variables: its operations are recorded.
    recorded: Model,
    /// Over the same memory, without recording.
    plain: Model,
    /// What products are computed in; variables, their gradients and the optimiser are f32 in any case.
    compute: Dtype,
}

/// One step's examples, ragged.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    pub sources: &'a [&'a [u32]],
    /// One a source, for a model with pair tables.
    pub pairs: Option<&'a [PairRows]>,
    /// What the decoder is to write, its end included and its start left out.
    pub labels: &'a [&'a [u32]],
}

impl Trainable {
    /// New weights, drawn as the reference draws them; the same seed gives the same weights.
    pub fn random(config: Config, seed: u64, device: &Device) -> Result<Self, Error> {
        config
            .check()
            .map_err(|(field, reason)| Error::input(field, reason))?;
        let tied = match &config {
            Config::T5(c) => c.tie_word_embeddings,
            Config::Bart(c) => c.tie_word_embeddings,
        };
        let tokens = config.own_tokens();
        let description = Description::new(config, !tied, tokens, GenerationDefaults::default());
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut tensors = HashMap::new();
        for entry in description.manifest() {
            let values = draw(&entry, &mut random);
            tensors.insert(entry.name, Tensor::from_vec(values, entry.shape, device)?);
        }
        Self::new(description, tensors, None)
    }

    /// The weights of a directory, in f32.
    pub fn load(dir: &Path, device: &Device) -> Result<Self, Error> {
        let loaded = checkpoint::read(dir, Config::read(dir)?, DType::F32, device, &Part::default())?;
        Self::new(loaded.description, loaded.tensors, loaded.final_logits_bias)
    }

    /// Gives a BART user and item tables where it has none. Rows and projection are drawn, and the gate begins nearly closed
    /// (sigmoid of −5), so that training starts from the model as it was.
    pub fn with_pair_tables(self, sizes: PairSizes, seed: u64) -> Result<Self, Error> {
        let (Config::Bart(config), Model::Bart(bart)) = (&self.description.config, &self.plain) else {
            return Err(Error::input("pair_tables", "only a BART has them"));
        };
        if config.pair_tables.is_some() {
            return Err(Error::input("pair_tables", "the model has some already"));
        }
        let mut config = config.clone();
        config.pair_tables = Some(sizes);
        let config = Config::Bart(config);
        config
            .check()
            .map_err(|(field, reason)| Error::input(field, reason))?;
        let bias = bart.final_logits_bias().clone();
        let old = self.description;
        let description = Description::new(config, old.own_head, old.tokens, old.defaults);
        let mut tensors: HashMap<String, Tensor> = HashMap::new();
        {
            let data = self
                .vars
                .data()
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            for (name, var) in data.iter() {
                tensors.insert(name.clone(), var.as_detached_tensor());
            }
        }
        let device = bias.device().clone();
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        for entry in description.manifest() {
            if let Vacant(vacant) = tensors.entry(entry.name.clone()) {
                let values = draw(&entry, &mut random);
                vacant.insert(Tensor::from_vec(values, entry.shape, &device)?);
            }
        }
        Self::new(description, tensors, Some(bias))
    }

    fn new(
        description: Description,
        tensors: HashMap<String, Tensor>,
        bias: Option<Tensor>,
    ) -> Result<Self, Error> {
        let vars = VarMap::new();
        let mut unrecorded = HashMap::with_capacity(tensors.len());
        let mut device = Device::Cpu;
        {
            let mut data = vars
                .data()
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            for (name, tensor) in tensors {
                device = tensor.device().clone();
                let var = Var::from_tensor(&tensor)?;
                unrecorded.insert(name.clone(), var.as_detached_tensor());
                data.insert(name, var);
            }
        }
        let recorded = Model::build(
            &description,
            bias.clone(),
            Part::default(),
            &VarBuilder::from_varmap(&vars, DType::F32, &device),
        )?;
        let plain = Model::build(
            &description,
            bias,
            Part::default(),
            &VarBuilder::from_tensors(unrecorded, DType::F32, &device),
        )?;
        Ok(Self {
            description,
            vars,
            recorded,
            plain,
            compute: Dtype::F32,
        })
    }

    /// Mixed precision from here on: `Bf16` computes products and keeps activations in it.
    pub fn computing_in(mut self, dtype: Dtype) -> Result<Self, Error> {
        if dtype == Dtype::F16 {
            return Err(Error::Precision {
                architecture: "training",
                dtype: "f16",
                reason: "gradients leave its range and no loss is scaled here; use bf16",
            });
        }
        self.compute = dtype;
        Ok(self)
    }

    pub fn device(&self) -> &Device {
        self.plain.device()
    }

    /// The recorded model of this step: casts are of the variables as they are now.
    fn recorded(&self) -> Result<Cow<'_, Model>, Error> {
        if self.compute == Dtype::F32 {
            return Ok(Cow::Borrowed(&self.recorded));
        }
        let bias = match &self.plain {
            Model::Bart(bart) => Some(bart.final_logits_bias().clone()),
            Model::T5(_) => None,
        };
        let weights = mixed::casts(&self.vars, DType::BF16, self.device());
        let model = Model::build(&self.description, bias, Part::default(), &weights)?;
        Ok(Cow::Owned(model))
    }

    /// The model as it now is, for generation and evaluation: it shares the variables' memory, so it follows training.
    pub fn model(&self) -> &Model {
        &self.plain
    }

    pub fn config(&self) -> &Config {
        &self.description.config
    }

    /// What `generation_config.json` will say.
    pub fn set_generation_defaults(&mut self, defaults: GenerationDefaults) {
        self.description.defaults = defaults;
    }

    /// Every variable, by name, in the order of names.
    pub fn parameters(&self) -> Vec<(String, Var)> {
        let data = self
            .vars
            .data()
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut all: Vec<(String, Var)> = data
            .iter()
            .map(|(name, var)| (name.clone(), var.clone()))
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// The dropout that the configuration asks for.
    pub fn dropout(&self, seed: u64) -> Dropout {
        match &self.description.config {
            Config::T5(c) => Dropout::new(c.dropout_rate, c.dropout_rate, c.dropout_rate, seed),
            Config::Bart(c) => Dropout::new(c.dropout, c.attention_dropout, c.activation_dropout, seed),
        }
    }

    /// Teacher-forced logits `[examples, longest label, vocab]`; those past an example's labels are meaningless.
    pub fn forward(&self, batch: &Batch<'_>, dropout: Option<&Dropout>) -> Result<Tensor, Error> {
        let model = self.recorded()?;
        Ok(model.logits(&hidden(&model, batch, dropout)?)?)
    }

    /// Mean cross-entropy over all label tokens, a scalar. `smoothing` is the share of probability that is spread evenly.
    ///
    /// The head sees real label positions only, so padding costs nothing there.
    pub fn loss(
        &self,
        batch: &Batch<'_>,
        smoothing: f64,
        dropout: Option<&Dropout>,
    ) -> Result<Tensor, Error> {
        let model = self.recorded()?;
        let hidden = hidden(&model, batch, dropout)?;
        let (examples, t, width) = hidden.dims3()?;
        let mut rows = Vec::new();
        let mut targets = Vec::new();
        for (i, labels) in batch.labels.iter().enumerate() {
            rows.extend((0..labels.len()).map(|j| (i * t + j) as u32));
            targets.extend(labels.iter().copied().map(Some));
        }
        let rows = Tensor::from_vec(rows, targets.len(), hidden.device())?;
        let real = hidden.reshape((examples * t, width))?.index_select(&rows, 0)?; // [label tokens, width]
        cross_entropy(&model.logits(&real)?, &targets, smoothing)
    }

    /// Writes `config.json`, `generation_config.json` and `model.safetensors`, each whole or not at all, in the layout
    /// and names of Hugging Face.
    pub fn save(&self, dir: &Path) -> Result<(), Error> {
        fs::create_dir_all(dir).map_err(|source| Error::Write {
            file: dir.to_owned(),
            source,
        })?;
        let d = &self.description;
        write_json(dir.join("config.json"), &d.config.to_json(!d.own_head))?;
        write_json(
            dir.join("generation_config.json"),
            &generation_json(&d.tokens, &d.defaults),
        )?;
        let mut tensors: Vec<(String, Tensor)> = self
            .parameters()
            .into_iter()
            .map(|(name, var)| (name, var.as_detached_tensor()))
            .collect();
        if let Model::Bart(bart) = &self.plain {
            tensors.push((FINAL_LOGITS_BIAS.to_owned(), bart.final_logits_bias().clone()));
        }
        let file = dir.join("model.safetensors");
        // Hugging Face refuses a file that does not say which library's layout its tensors have.
        let about = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        replace(&file, |temporary| {
            safetensors::serialize_to_file(tensors, Some(about), temporary).map_err(std::io::Error::other)
        })
    }
}

impl std::fmt::Debug for Trainable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trainable")
            .field("description", &self.description)
            .finish_non_exhaustive()
    }
}

/// `[examples, longest label, width]`
fn hidden(model: &Model, batch: &Batch<'_>, dropout: Option<&Dropout>) -> Result<Tensor, Error> {
    if batch.labels.len() != batch.sources.len() {
        let reason = format!("{} for {} sources", batch.labels.len(), batch.sources.len());
        return Err(Error::input("labels", reason));
    }
    if let Some(i) = batch.labels.iter().position(|l| l.is_empty()) {
        return Err(Error::input("labels", format!("example {i} has none")));
    }
    model.check_ids("labels", batch.labels)?;
    let longest = batch.labels.iter().map(|l| l.len()).max().unwrap_or(0);
    let spec = model.spec();
    if let Some(max) = spec.positions_max.filter(|max| longest > *max) {
        return Err(Error::input(
            "labels",
            format!("{longest} tokens; the model has {max} positions"),
        ));
    }
    let mode = Mode::Train(dropout);
    let lengths: Vec<usize> = batch.sources.iter().map(|s| s.len()).collect();
    let encoded = model.run_encoder(batch.sources, batch.pairs, &lengths, mode)?;
    // The decoder reads its start and every label but the last.
    let shifted: Vec<Vec<u32>> = batch
        .labels
        .iter()
        .map(|labels| [&[spec.decoder_start], &labels[..labels.len() - 1]].concat())
        .collect();
    let shifted: Vec<&[u32]> = shifted.iter().map(Vec::as_slice).collect();
    let mask = crate::layers::padding_mask(&lengths, encoded.dim(1)?, encoded.device())?;
    let (places, ahead) = model.ages(&[0], longest, longest)?;
    let input = DecodeInput {
        tokens: padded(&shifted, spec.pad, encoded.device())?,
        places,
        mask: ahead,
        own: &|_, new| Ok(new),
        cross: &|layer| {
            let (k, v) = model.cross_keys_values(layer, &encoded, mode)?;
            Ok(Memory {
                k,
                v,
                bias: None,
                mask: mask.clone(),
                sharing: None,
            })
        },
    };
    Ok(model.run_decoder(&input, mode)?)
}

/// Mean cross-entropy of logits `[n, vocab]` against `n` targets, a scalar; `None` is padding and does not count.
pub fn cross_entropy(logits: &Tensor, targets: &[Option<u32>], smoothing: f64) -> Result<Tensor, Error> {
    let (n, _) = logits.dims2()?;
    if n != targets.len() {
        return Err(Error::input(
            "targets",
            format!("{} for {n} rows of logits", targets.len()),
        ));
    }
    let (rows, ids): (Vec<u32>, Vec<u32>) = targets
        .iter()
        .enumerate()
        .filter_map(|(row, id)| id.map(|id| (row as u32, id)))
        .unzip();
    if ids.is_empty() {
        return Err(Error::input("targets", "all are padding"));
    }
    let count = ids.len();
    let vocab = logits.dim(1)?;
    if let Some(id) = ids.iter().find(|id| **id as usize >= vocab) {
        return Err(Error::input(
            "targets",
            format!("id {id} is not below the {vocab} columns of the logits"),
        ));
    }
    let device = logits.device();
    let logits = if count == n {
        logits.clone()
    } else {
        logits.index_select(&Tensor::from_vec(rows, count, device)?, 0)?
    };
    if kernels::fit(&logits) {
        return Ok(kernels::cross_entropy(&logits, ids, smoothing as f32)?);
    }
    let log_probabilities = candle_nn::ops::log_softmax(&logits, 1)?; // [count, vocab]
    let ids = Tensor::from_vec(ids, (count, 1), device)?;
    let right = log_probabilities.gather(&ids, 1)?.mean_all()?.neg()?;
    if smoothing == 0.0 {
        return Ok(right);
    }
    let even = log_probabilities.mean_all()?.neg()?;
    Ok(((right * (1.0 - smoothing))? + (even * smoothing)?)?)
}

/// Initial values of one tensor.
fn draw(entry: &Entry, random: &mut ChaCha8Rng) -> Vec<f32> {
    let count = entry.parameters() as usize;
    let mut normal = |std: f64| {
        let mut values = Vec::with_capacity(count + 1);
        while values.len() < count {
            // Box–Muller: two uniform numbers in (0, 1] give two normal ones.
            let mut uniform = || (f64::from(random.next_u32()) + 1.0) / 4_294_967_296.0;
            let (radius, angle) = ((-2.0 * uniform().ln()).sqrt(), std::f64::consts::TAU * uniform());
            values.push((std * radius * angle.cos()) as f32);
            values.push((std * radius * angle.sin()) as f32);
        }
        values.truncate(count);
        values
    };
    match entry.start {
        Start::Constant(value) => vec![value as f32; count],
        Start::Normal { std } => normal(std),
        Start::Embedding { std, zero } => {
            let mut values = normal(std);
            let width = entry.shape.last().copied().unwrap_or(1);
            if let Some(row) = zero.and_then(|row| values.chunks_mut(width).nth(row as usize)) {
                row.fill(0.0);
            }
            values
        }
    }
}

fn write_json(file: PathBuf, value: &Value) -> Result<(), Error> {
    let mut text = serde_json::to_string_pretty(value).expect("a JSON value always prints");
    text.push('\n');
    replace(&file, |temporary| fs::write(temporary, &text))
}

fn replace(file: &Path, write: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<(), Error> {
    refract_durable::replace(file, write).map_err(|source| Error::Write {
        file: file.to_owned(),
        source,
    })
}
