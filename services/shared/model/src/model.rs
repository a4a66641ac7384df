//! The two architectures behind one face: load, encode, decode.

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;

use crate::bart::Bart;
use crate::checkpoint;
use crate::config::Config;
use crate::description::Description;
use crate::error::Error;
use crate::layers::{Memory, Mode, padded, planes};
use crate::parallel::{Collective, Part};
use crate::spec::{GenerationDefaults, PairRows, Spec};
use crate::state::{Cross, CrossBatch, Encoded, Geometry, KeyValue, OwnKv};
use crate::t5::T5;

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

impl Dtype {
    pub(crate) fn of_tensors(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        }
    }
}

#[derive(Clone, Debug)]
pub struct LoadOptions {
    pub dtype: Dtype,
    pub device: Device,
    /// Where several devices hold the model together: what connects this one with the others. It then holds its part of
    /// the weights, and reads no more of the files. T5 only.
    pub collective: Option<Arc<dyn Collective>>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            dtype: Dtype::F32,
            device: Device::Cpu,
            collective: None,
        }
    }
}

/// An encoder–decoder. Cheap to clone; decode state is an argument, never a field, so one model serves many threads.
#[derive(Clone, Debug)]
pub enum Model {
    T5(Box<T5>),
    Bart(Box<Bart>),
}

/// Padded ids and what is real of them.
pub(crate) struct EncodeInput<'a> {
    /// `[b, s]`
    pub(crate) ids: Tensor,
    pub(crate) lengths: &'a [usize],
    pub(crate) pairs: Option<PairIds>,
}

/// Rows of the two tables, each `[b]`.
pub(crate) struct PairIds {
    pub(crate) users: Tensor,
    pub(crate) items: Tensor,
}

/// Keys and values of one layer.
pub(crate) type KeysValues = (Tensor, Tensor);

/// What layers look up of how old rows are, for one plane if all are equally old, else for one a row.
pub(crate) struct AgeNumbers {
    /// BART: rows of its position table, `[planes, t]`. T5: buckets of distances, `[planes, t, columns]`.
    pub(crate) places: Vec<u32>,
    pub(crate) places_shape: Vec<usize>,
    /// BART, where a column is ahead of a query: 0 or −∞, `[planes, 1, t, columns]`.
    pub(crate) mask: Option<Vec<f32>>,
}

/// New tokens, and the two memories as functions of the layer.
pub(crate) struct DecodeInput<'a> {
    /// `[rows, t]`
    pub(crate) tokens: Tensor,
    /// [`AgeNumbers::places`].
    pub(crate) places: Tensor,
    /// [`AgeNumbers::mask`].
    pub(crate) mask: Option<Tensor>,
    /// Remembers a layer's new keys and values; gives all.
    pub(crate) own: &'a dyn Fn(usize, KeysValues) -> candle_core::Result<KeysValues>,
    pub(crate) cross: &'a dyn Fn(usize) -> candle_core::Result<Memory<'a>>,
}

impl Model {
    /// Loads a directory in the Hugging Face layout, strictly.
    ///
    /// `config.json`, `generation_config.json` if there is one, and `model.safetensors` or the shards that
    /// `model.safetensors.index.json` names. A tensor that is missing, unexpected or of another shape is an error that
    /// lists them; tied aliases are compared and dropped.
    pub fn load(dir: &Path, options: &LoadOptions) -> Result<Self, Error> {
        let config = Config::read(dir)?;
        if options.dtype == Dtype::F16 && matches!(config, Config::T5(_)) {
            return Err(Error::Precision {
                architecture: "T5",
                dtype: "fp16",
                reason: "activations of its feed-forward layers exceed 65504 and become NaN; use bf16 or f32",
            });
        }
        let dtype = options.dtype.of_tensors();
        let part = Part::new(options.collective.clone());
        match &config {
            Config::T5(config) => part.check(config)?,
            Config::Bart(_) if part.ranks() > 1 => {
                return Err(Error::input(
                    "tensor_parallel",
                    "a BART is held by one device; set it to 1",
                ));
            }
            Config::Bart(_) => {}
        }
        let loaded = checkpoint::read(dir, config, dtype, &options.device, &part)?;
        let vb = VarBuilder::from_tensors(loaded.tensors, dtype, &options.device);
        let mut model = Self::build(&loaded.description, loaded.final_logits_bias, part, &vb)?;
        // Weights that are laid together are copied; without this, the old would all be held until the last is.
        drop(vb);
        match &mut model {
            Self::T5(m) => m.join(),
            Self::Bart(m) => m.join(),
        }?;
        Ok(model)
    }

    pub(crate) fn build(
        of: &Description,
        final_logits_bias: Option<Tensor>,
        part: Part,
        vb: &VarBuilder,
    ) -> Result<Self, Error> {
        let (spec, defaults) = (of.spec.clone(), of.defaults.clone());
        Ok(match &of.config {
            Config::T5(config) => Self::T5(Box::new(T5::new(config, of.own_head, spec, defaults, part, vb)?)),
            Config::Bart(config) => {
                let bias = match final_logits_bias {
                    Some(bias) => bias,
                    None => Tensor::zeros((1, config.vocab_size), DType::F32, vb.device())?,
                };
                Self::Bart(Box::new(Bart::new(
                    config,
                    of.own_head,
                    spec,
                    defaults,
                    bias,
                    vb,
                )?))
            }
        })
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

    pub fn device(&self) -> &Device {
        match self {
            Self::T5(m) => m.device(),
            Self::Bart(m) => m.device(),
        }
    }

    /// Encodes ragged sequences together: padded inside, padding masked everywhere.
    ///
    /// `pairs` has one entry a sequence where the model has pair tables (without it every sequence reads row 0, as one
    /// without ids does); a model without tables ignores it.
    pub fn encode(&self, ids: &[&[u32]], pairs: Option<&[PairRows]>) -> Result<Encoded, Error> {
        let lengths: Vec<usize> = ids.iter().map(|s| s.len()).collect();
        let hidden = self.run_encoder(ids, pairs, &lengths, Mode::Serve)?;
        Ok(Encoded { hidden, lengths })
    }

    /// Cross-attention keys and values of all decoder layers, projected once; one `Cross` a sequence.
    pub fn cross(&self, encoded: &Encoded) -> Result<Vec<Cross>, Error> {
        let layers = (0..self.spec().decoder_layers)
            .map(|layer| self.cross_keys_values(layer, &encoded.hidden, Mode::Serve))
            .collect::<candle_core::Result<Vec<_>>>()?;
        let trimmed =
            |x: &Tensor, row: usize, len: usize| x.narrow(0, row, 1)?.narrow(2, 0, len)?.force_contiguous();
        let mut crosses = Vec::with_capacity(encoded.lengths.len());
        for (row, len) in encoded.lengths.iter().enumerate() {
            let own = layers
                .iter()
                .map(|(k, v)| {
                    Ok(KeyValue {
                        k: trimmed(k, row, *len)?,
                        v: trimmed(v, row, *len)?,
                    })
                })
                .collect::<candle_core::Result<Vec<_>>>()?;
            crosses.push(Cross::new(own, *len));
        }
        Ok(crosses)
    }

    /// One decode step: one token a row. Appends to `own`; returns f32 logits `[rows, vocab]`.
    pub fn decode(&self, tokens: &[u32], own: &mut OwnKv, cross: &CrossBatch) -> Result<Tensor, Error> {
        let rows: Vec<&[u32]> = tokens.chunks(1).collect();
        Ok(self.decode_many(&rows, own, cross)?.squeeze(1)?)
    }

    /// Several tokens a row at once (teacher forcing, verification of a draft); rows may have different counts.
    /// Appends to `own`; returns f32 logits `[rows, longest, vocab]`, where those past a row's own count are meaningless.
    ///
    /// After an error `own` is as old as before.
    pub fn decode_many(
        &self,
        tokens: &[&[u32]],
        own: &mut OwnKv,
        cross: &CrossBatch,
    ) -> Result<Tensor, Error> {
        let t = self.check_step(tokens, own, cross)?;
        let step = own.begin(t)?;
        let planes = planes(own.lengths());
        let (places, mask) = self.ages(planes, t, step.columns)?;
        let input = DecodeInput {
            tokens: padded(tokens, self.spec().pad, self.device())?,
            places,
            mask,
            own: &|layer, new| own.append(&step, layer, new),
            cross: &|layer| cross.memory(layer),
        };
        let hidden = self.run_decoder(&input, Mode::Serve)?;
        let logits = self.logits(&hidden)?;
        own.finish(tokens.iter().map(|row| row.len()));
        Ok(logits)
    }

    /// Refuses a step that cannot be; says how many tokens the longest row brings.
    pub(crate) fn check_step(
        &self,
        tokens: &[&[u32]],
        own: &OwnKv,
        cross: &CrossBatch,
    ) -> Result<usize, Error> {
        if tokens.len() != own.rows() || tokens.len() != cross.rows() {
            let (given, own, cross) = (tokens.len(), own.rows(), cross.rows());
            return Err(Error::input(
                "tokens",
                format!("{given} rows, but own has {own} and cross has {cross}"),
            ));
        }
        let t = tokens.iter().map(|row| row.len()).max().unwrap_or(0);
        if t == 0 {
            return Err(Error::input("tokens", "there are none"));
        }
        self.check_ids("tokens", tokens)?;
        if let Some(max) = self.spec().positions_max {
            let longest = own
                .lengths()
                .iter()
                .zip(tokens)
                .map(|(age, row)| age + row.len())
                .max()
                .unwrap_or(0);
            if longest > max {
                return Err(Error::input(
                    "tokens",
                    format!("{longest} positions; the model has {max}"),
                ));
            }
        }
        Ok(t)
    }

    /// What `t` new tokens of rows of these ages look up, of so many columns of own memory.
    pub(crate) fn age_numbers(
        &self,
        planes: &[usize],
        t: usize,
        columns: usize,
    ) -> candle_core::Result<AgeNumbers> {
        match self {
            Self::T5(m) => Ok(m.age_numbers(planes, t, columns)),
            Self::Bart(m) => m.age_numbers(planes, t, columns),
        }
    }

    /// The same on the model's device: places, and the mask where one is needed.
    pub(crate) fn ages(
        &self,
        planes: &[usize],
        t: usize,
        columns: usize,
    ) -> candle_core::Result<(Tensor, Option<Tensor>)> {
        let AgeNumbers {
            places,
            places_shape,
            mask,
        } = self.age_numbers(planes, t, columns)?;
        let mask = mask.map(|mask| Tensor::from_vec(mask, (planes.len(), 1, t, columns), self.device()));
        Ok((
            Tensor::from_vec(places, places_shape, self.device())?,
            mask.transpose()?,
        ))
    }

    pub(crate) fn run_encoder(
        &self,
        ids: &[&[u32]],
        pairs: Option<&[PairRows]>,
        lengths: &[usize],
        mode: Mode<'_>,
    ) -> Result<Tensor, Error> {
        if ids.is_empty() {
            return Err(Error::input("ids", "there are no sequences"));
        }
        if let Some(i) = ids.iter().position(|s| s.is_empty()) {
            return Err(Error::input("ids", format!("sequence {i} is empty")));
        }
        self.check_ids("ids", ids)?;
        let longest = lengths.iter().copied().max().unwrap_or(0);
        if let Some(max) = self.spec().positions_max.filter(|max| longest > *max) {
            return Err(Error::input(
                "ids",
                format!("{longest} tokens; the model has {max} positions"),
            ));
        }
        let input = EncodeInput {
            ids: padded(ids, self.spec().pad, self.device())?,
            lengths,
            pairs: self.pair_ids(pairs, ids.len())?,
        };
        Ok(match self {
            Self::T5(m) => m.encode(&input, mode)?,
            Self::Bart(m) => m.encode(&input, mode)?,
        })
    }

    pub(crate) fn run_decoder(&self, input: &DecodeInput<'_>, mode: Mode<'_>) -> candle_core::Result<Tensor> {
        match self {
            Self::T5(m) => m.decode(input, mode),
            Self::Bart(m) => m.decode(input, mode),
        }
    }

    pub(crate) fn cross_keys_values(
        &self,
        layer: usize,
        encoded: &Tensor,
        mode: Mode<'_>,
    ) -> candle_core::Result<KeysValues> {
        match self {
            Self::T5(m) => m.cross_keys_values(layer, encoded, mode),
            Self::Bart(m) => m.cross_keys_values(layer, encoded, mode),
        }
    }

    pub(crate) fn logits(&self, hidden: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::T5(m) => m.logits(hidden),
            Self::Bart(m) => m.logits(hidden),
        }
    }

    /// Bytes of decode memory for one position of a row or a source: keys and values of all decoder layers, as far as they are here.
    pub fn position_bytes(&self) -> usize {
        self.geometry().bytes(1, 1)
    }

    /// Free bytes of the device; `None` on a CPU, where the system knows.
    pub fn memory_free(&self) -> Option<u64> {
        #[cfg(feature = "cuda")]
        if let Device::Cuda(cuda) = self.device() {
            return refract_kernel::gpu::free(cuda).ok();
        }
        None
    }

    /// The most bytes of the device in use since this was last asked; `None` on a CPU.
    pub fn memory_peak(&self) -> Option<u64> {
        #[cfg(feature = "cuda")]
        if let Device::Cuda(cuda) = self.device() {
            return refract_kernel::gpu::peak(cuda).ok();
        }
        None
    }

    pub(crate) fn geometry(&self) -> Geometry {
        let spec = self.spec();
        let (dtype, heads) = match self {
            Self::T5(m) => (m.dtype(), m.heads()),
            Self::Bart(m) => (m.dtype(), spec.heads),
        };
        Geometry {
            layers: spec.decoder_layers,
            heads,
            head_dim: spec.head_dim,
            dtype,
            device: self.device().clone(),
        }
    }

    pub(crate) fn check_ids(&self, field: &'static str, rows: &[&[u32]]) -> Result<(), Error> {
        let vocab = self.spec().vocab;
        match rows
            .iter()
            .flat_map(|row| row.iter())
            .find(|id| **id as usize >= vocab)
        {
            Some(id) => Err(Error::input(
                field,
                format!("id {id} is not below the vocabulary's {vocab}"),
            )),
            None => Ok(()),
        }
    }

    fn pair_ids(&self, pairs: Option<&[PairRows]>, sequences: usize) -> Result<Option<PairIds>, Error> {
        let Some(tables) = self.spec().pair_tables else {
            return Ok(None);
        };
        let none = vec![PairRows::default(); sequences];
        let pairs = pairs.unwrap_or(&none);
        if pairs.len() != sequences {
            return Err(Error::input(
                "pairs",
                format!("{} for {sequences} sequences", pairs.len()),
            ));
        }
        if let Some(p) = pairs
            .iter()
            .find(|p| p.user as usize >= tables.users || p.item as usize >= tables.items)
        {
            let reason = format!(
                "rows {} and {} of tables of {} and {}",
                p.user, p.item, tables.users, tables.items
            );
            return Err(Error::input("pairs", reason));
        }
        let column = |row: fn(&PairRows) -> u32| {
            Tensor::from_vec(
                pairs.iter().map(row).collect::<Vec<u32>>(),
                sequences,
                self.device(),
            )
        };
        Ok(Some(PairIds {
            users: column(|p| p.user)?,
            items: column(|p| p.item)?,
        }))
    }
}
