//! T5: an encoder–decoder with relative positions, root-mean-square norms before each sublayer, and no biases.
//!
//! Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer" (2020); the gated
//! feed-forward of v1.1 and FLAN: Shazeer, "GLU Variants Improve Transformer" (2020). Original T5 ties its head to the
//! embeddings and scales what enters it by d_model^-½; v1.1 and FLAN have a head of their own.
//!
//! The residual stream is f32 in every mode. What enters `wo` leaves the range of fp16, in which T5 is not run; in bf16 it is
//! multiplied as everything else, as the reference does.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;

use crate::config::T5Config;
use crate::layers::{Activation, AttentionShape, CrossAttention, Linear, Maps, Memory, Mode, RmsNorm};
use crate::layers::{SelfAttention, Site, embed, over_columns, padding_mask};
use crate::model::{AgeNumbers, DecodeInput, EncodeInput};
use crate::parallel::{Part, Split};
use crate::spec::{GenerationDefaults, Spec};
use crate::weights::{Entry, Start};

/// A T5 with its weights.
#[derive(Clone, Debug)]
pub struct T5 {
    pub(crate) spec: Spec,
    pub(crate) defaults: GenerationDefaults,
    config: T5Config,
    part: Part,
    /// `[words, width]`: those of this rank, all where it is alone.
    shared: Tensor,
    encoder: Stack,
    decoder: Stack,
    head: Linear,
}

#[derive(Clone, Debug)]
struct Stack {
    blocks: Vec<Block>,
    positions: RelativePositions,
    norm: RmsNorm,
}

/// Of several ranks each has some heads and some inner units; what its sublayers say is one summand.
#[derive(Clone, Debug)]
struct Block {
    own: Sublayer<SelfAttention>,
    cross: Option<Sublayer<CrossAttention>>,
    feed_forward: Sublayer<FeedForward>,
}

/// x + f(norm(x)), f summed over ranks
#[derive(Clone, Debug)]
struct Sublayer<F> {
    norm: RmsNorm,
    f: F,
    part: Part,
}

#[derive(Clone, Debug)]
struct FeedForward {
    /// One matrix, or the gate and the value.
    inner: Maps,
    outer: Linear,
    activation: Activation,
}

/// A learnt number for every head and every bucket of distances; shared by the blocks of a stack.
#[derive(Clone, Debug)]
struct RelativePositions {
    /// `[buckets, heads]`, f32; of a decoder that is [`T5::join`]ed, with one row more
    table: Tensor,
    buckets: usize,
    distance_max: usize,
    /// The encoder looks both ways, the decoder only back: its distances have all buckets to themselves.
    bidirectional: bool,
    /// The decoder's row for columns ahead, `[1, heads]`: −∞. Absent where the table has it.
    ahead: Option<Tensor>,
}

impl T5 {
    pub(crate) fn new(
        config: &T5Config,
        own_head: bool,
        spec: Spec,
        defaults: GenerationDefaults,
        part: Part,
        vb: &VarBuilder,
    ) -> Result<Self> {
        let words = part.words(config.vocab_size).len();
        let shared = vb.get((words, config.d_model), "shared.weight")?;
        let head = if own_head {
            Linear::new(config.d_model, words, false, &vb.pp("lm_head"))?
        } else {
            Linear::tied(shared.clone())
        };
        Ok(Self {
            encoder: Stack::new(config, false, &part, &vb.pp("encoder"))?,
            decoder: Stack::new(config, true, &part, &vb.pp("decoder"))?,
            spec,
            defaults,
            config: config.clone(),
            part,
            shared,
            head,
        })
    }

    /// For weights that no longer change: those that are multiplied by the same input lie together.
    pub(crate) fn join(&mut self) -> Result<()> {
        for stack in [&mut self.encoder, &mut self.decoder] {
            stack.positions.join()?;
            for block in &mut stack.blocks {
                block.own.f.join()?;
                if let Some(cross) = &mut block.cross {
                    cross.f.join()?;
                }
                block.feed_forward.f.inner.join()?;
            }
        }
        Ok(())
    }

    /// Heads whose keys and values are here.
    pub(crate) fn heads(&self) -> usize {
        self.config.num_heads / self.part.ranks()
    }

    /// f32 `[b, t, width]` of ids `[b, t]`: of several ranks, the one that has a word says what it is, the others zero.
    fn embed(&self, ids: &Tensor) -> Result<Tensor> {
        let words = self.part.words(self.config.vocab_size);
        if words.len() == self.config.vocab_size {
            return embed(&self.shared, ids)?.to_dtype(DType::F32);
        }
        let here = (ids.ge(words.start as u32)? * ids.lt(words.end as u32)?)?; // [b, t], 1 or 0
        let first = Tensor::full(words.start as u32, ids.shape(), ids.device())?;
        let local = (here.where_cond(ids, &first)? - first)?;
        let x = embed(&self.shared, &local)?.to_dtype(DType::F32)?;
        self.part
            .sum(x.broadcast_mul(&here.to_dtype(DType::F32)?.unsqueeze(2)?)?)
    }

    /// `[b, s, width]`
    pub(crate) fn encode(&self, input: &EncodeInput<'_>, mode: Mode<'_>) -> Result<Tensor> {
        let mut x = mode.drop(self.embed(&input.ids)?, Site::Hidden)?;
        let s = x.dim(1)?;
        let positions = &self.encoder.positions;
        let buckets = Tensor::from_vec(positions.buckets_of(&[0], s, s), (1, s, s), x.device())?;
        let mut bias = positions.bias(&buckets)?; // [1, heads, s, s]
        let mut mask = padding_mask(input.lengths, s, x.device())?;
        if let Mode::Serve = mode
            && let Some(mask) = mask.take()
        {
            // Once for all blocks.
            bias = bias.broadcast_add(&mask)?; // [b, heads, s, s]
        }
        let bias = mode.added(Some(&bias), self.dtype())?;
        for block in &self.encoder.blocks {
            x = block.own.attend(x, mode, |(k, v)| {
                Ok(Memory {
                    k,
                    v,
                    bias: bias.clone(),
                    mask: mask.clone(),
                    sharing: None,
                })
            })?;
            x = block.feed_forward.forward(x, mode)?;
        }
        mode.drop(self.encoder.norm.forward(&x, mode)?, Site::Hidden)
    }

    pub(crate) fn device(&self) -> &Device {
        self.shared.device()
    }

    /// The type that weights are held and keys and values kept in.
    pub(crate) fn dtype(&self) -> DType {
        self.shared.dtype()
    }

    /// Keys and values of the encoder's words for one decoder layer.
    pub(crate) fn cross_keys_values(
        &self,
        layer: usize,
        encoded: &Tensor,
        mode: Mode<'_>,
    ) -> Result<(Tensor, Tensor)> {
        match &self.decoder.blocks[layer].cross {
            Some(cross) => cross.f.keys_values(encoded, mode),
            None => candle_core::bail!("a decoder block without cross-attention"),
        }
    }

    /// Buckets of distances `[planes, t, columns]`; those ahead are masked by their bucket.
    pub(crate) fn age_numbers(&self, planes: &[usize], t: usize, columns: usize) -> AgeNumbers {
        AgeNumbers {
            places: self.decoder.positions.buckets_of(planes, t, columns),
            places_shape: vec![planes.len(), t, columns],
            mask: None,
        }
    }

    /// `[rows, t, width]`
    pub(crate) fn decode(&self, input: &DecodeInput<'_>, mode: Mode<'_>) -> Result<Tensor> {
        let mut x = mode.drop(self.embed(&input.tokens)?, Site::Hidden)?;
        let bias = self.decoder.positions.bias(&input.places)?; // [planes, heads, t, columns]
        let bias = mode.added(Some(&bias), self.dtype())?;
        for (layer, block) in self.decoder.blocks.iter().enumerate() {
            x = block.own.attend(x, mode, |new| {
                let (k, v) = (input.own)(layer, new)?;
                Ok(Memory {
                    k,
                    v,
                    bias: bias.clone(),
                    mask: None,
                    sharing: None,
                })
            })?;
            if let Some(cross) = &block.cross {
                x = cross.attend(x, mode, &(input.cross)(layer)?)?;
            }
            x = block.feed_forward.forward(x, mode)?;
        }
        mode.drop(self.decoder.norm.forward(&x, mode)?, Site::Hidden)
    }

    /// f32 logits `[.., vocab]` of the decoder's words `[.., width]`.
    pub(crate) fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        let hidden = if self.config.scales_head() {
            (hidden * (self.config.d_model as f64).powf(-0.5))?
        } else {
            hidden.clone()
        };
        let own = self.head.forward(&hidden, Mode::Serve)?.to_dtype(DType::F32)?;
        self.part.logits(own, self.config.vocab_size)
    }
}

impl Stack {
    fn new(config: &T5Config, decoder: bool, part: &Part, vb: &VarBuilder) -> Result<Self> {
        let layers = if decoder {
            config.decoder_layers()
        } else {
            config.num_layers
        };
        let blocks = (0..layers)
            .map(|i| Block::new(config, decoder, part, &vb.pp("block").pp(i)))
            .collect::<Result<Vec<_>>>()?;
        let table = vb
            .pp("block.0.layer.0.SelfAttention.relative_attention_bias")
            .to_dtype(DType::F32)
            .get(
                (
                    config.relative_attention_num_buckets,
                    config.num_heads / part.ranks(),
                ),
                "weight",
            )?;
        let positions = RelativePositions {
            table,
            buckets: config.relative_attention_num_buckets,
            distance_max: config.relative_attention_max_distance,
            bidirectional: !decoder,
            ahead: if decoder {
                let heads = config.num_heads / part.ranks();
                Some(Tensor::full(f32::NEG_INFINITY, (1, heads), vb.device())?)
            } else {
                None
            },
        };
        let norm = RmsNorm::new(
            config.d_model,
            config.layer_norm_epsilon,
            vb.dtype(),
            &vb.pp("final_layer_norm"),
        )?;
        Ok(Self {
            blocks,
            positions,
            norm,
        })
    }
}

impl Block {
    fn new(config: &T5Config, decoder: bool, part: &Part, vb: &VarBuilder) -> Result<Self> {
        let shape = AttentionShape {
            width: config.d_model,
            heads: config.num_heads / part.ranks(),
            head_dim: config.d_kv,
            bias: false,
            // The initialisation makes up for the missing 1/√d.
            scale: 1.0,
            names: ["q", "k", "v", "o"],
        };
        let norm = |vb: &VarBuilder| {
            RmsNorm::new(
                config.d_model,
                config.layer_norm_epsilon,
                vb.dtype(),
                &vb.pp("layer_norm"),
            )
        };
        let [first, second] = [0, 1].map(|i| vb.pp("layer").pp(i));
        let last = vb.pp("layer").pp(if decoder { 2 } else { 1 });
        Ok(Self {
            own: Sublayer {
                norm: norm(&first)?,
                f: SelfAttention::new(shape, &first.pp("SelfAttention"))?,
                part: part.clone(),
            },
            cross: if decoder {
                Some(Sublayer {
                    norm: norm(&second)?,
                    f: CrossAttention::new(shape, &second.pp("EncDecAttention"))?,
                    part: part.clone(),
                })
            } else {
                None
            },
            feed_forward: Sublayer {
                norm: norm(&last)?,
                f: FeedForward::new(config, config.d_ff / part.ranks(), &last.pp("DenseReluDense"))?,
                part: part.clone(),
            },
        })
    }
}

impl<F> Sublayer<F> {
    /// f32 `[b, t, width]` to the same: `f` is given the norm of `x`, and what it says is mapped by `outer`.
    fn around<'f>(
        &'f self,
        x: Tensor,
        mode: Mode<'_>,
        outer: impl FnOnce(&'f F) -> &'f Linear,
        f: impl FnOnce(&F, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let h = f(&self.f, &self.norm.forward(&x, mode)?)?;
        let outer = outer(&self.f);
        if self.part.ranks() == 1 {
            return outer.add_to(x, &h, mode);
        }
        let y = self.part.sum(outer.forward(&h, mode)?.to_dtype(DType::F32)?)?;
        x + mode.drop(y, Site::Hidden)?
    }
}

impl Sublayer<SelfAttention> {
    fn attend<'a>(
        &self,
        x: Tensor,
        mode: Mode<'_>,
        remember: impl FnOnce((Tensor, Tensor)) -> Result<Memory<'a>>,
    ) -> Result<Tensor> {
        self.around(x, mode, SelfAttention::outer, |f, x| f.forward(x, mode, remember))
    }
}

impl Sublayer<CrossAttention> {
    fn attend(&self, x: Tensor, mode: Mode<'_>, memory: &Memory<'_>) -> Result<Tensor> {
        self.around(x, mode, CrossAttention::outer, |f, x| f.forward(x, memory, mode))
    }
}

impl Sublayer<FeedForward> {
    fn forward(&self, x: Tensor, mode: Mode<'_>) -> Result<Tensor> {
        self.around(x, mode, |f| &f.outer, |f, x| f.forward(x, mode))
    }
}

impl FeedForward {
    /// With so many inner units.
    fn new(config: &T5Config, units: usize, vb: &VarBuilder) -> Result<Self> {
        let (gated, activation) = config.feed_forward().map_err(candle_core::Error::msg)?;
        let names: &[&str] = if gated { &["wi_0", "wi_1"] } else { &["wi"] };
        let inner = names
            .iter()
            .map(|name| Linear::new(config.d_model, units, false, &vb.pp(name)))
            .collect::<Result<Vec<_>>>()?;
        let outer = Linear::new(units, config.d_model, false, &vb.pp("wo"))?;
        Ok(Self {
            inner: Maps::new(inner),
            outer,
            activation,
        })
    }

    /// `[b, t, width]` to `[b, t, d_ff]`, to be mapped by `outer`.
    fn forward(&self, x: &Tensor, mode: Mode<'_>) -> Result<Tensor> {
        let inner = self.inner.forward(x, mode)?; // each [b, t, d_ff]
        let mut h = self.activation.forward(&inner[0], mode)?;
        if let Some(value) = inner.get(1) {
            h = (h * value)?;
        }
        mode.drop(h, Site::Activation)
    }
}

impl RelativePositions {
    /// The bucket of every column for `t` new tokens of each plane: `[planes, t, columns]`; one past the last where the decoder
    /// would look ahead.
    fn buckets_of(&self, planes: &[usize], t: usize, columns: usize) -> Vec<u32> {
        over_columns(planes, t, columns, |position, column| {
            self.bucket(column as i64 - position as i64)
                .unwrap_or(self.buckets) as u32
        })
    }

    /// For a table that no longer changes: its row for columns ahead lies behind it.
    fn join(&mut self) -> Result<()> {
        if let Some(ahead) = self.ahead.take() {
            self.table = Tensor::cat(&[&self.table, &ahead], 0)?; // [buckets + 1, heads]
        }
        Ok(())
    }

    /// What is added to the scores, of buckets `[planes, t, columns]`: `[planes, heads, t, columns]`, −∞ for those ahead.
    fn bias(&self, buckets: &Tensor) -> Result<Tensor> {
        let (planes, t, columns) = buckets.dims3()?;
        let heads = self.table.dim(1)?;
        let table = match &self.ahead {
            Some(ahead) => Tensor::cat(&[&self.table, ahead], 0)?, // [buckets + 1, heads]
            None => self.table.clone(),
        };
        table
            .index_select(&buckets.flatten_all()?, 0)? // [planes·t·columns, heads]
            .reshape((planes, t, columns, heads))?
            .permute((0, 3, 1, 2))? // [planes, heads, t, columns]
            .contiguous()
    }

    fn bucket(&self, distance: i64) -> Option<usize> {
        distance_bucket(distance, self.buckets, self.distance_max, self.bidirectional)
    }
}

/// The bucket of a distance (attended minus attending position), or none if it may not be seen.
///
/// Half of a direction's buckets are exact distances; the others grow logarithmically up to `distance_max`, where
/// the last one takes all that is farther.
pub fn distance_bucket(
    distance: i64,
    buckets: usize,
    distance_max: usize,
    bidirectional: bool,
) -> Option<usize> {
    let (buckets, first) = match (bidirectional, distance > 0) {
        (true, ahead) => (buckets / 2, if ahead { buckets / 2 } else { 0 }),
        (false, true) => return None,
        (false, false) => (buckets, 0),
    };
    let distance = distance.unsigned_abs() as usize;
    let exact = buckets / 2;
    if distance < exact {
        return Some(first + distance);
    }
    // In f32, step by step, as the reference: the edges of buckets depend on it.
    let span = (distance_max as f64 / exact as f64).ln() as f32;
    let beyond = (distance as f32 / exact as f32).ln() / span * (buckets - exact) as f32;
    Some(first + (exact + beyond as usize).min(buckets - 1))
}

/// Every tensor of the model, in the checkpoint's names.
pub(crate) fn manifest(config: &T5Config, own_head: bool) -> Vec<Entry> {
    let (width, inner) = (config.d_model, config.num_heads * config.d_kv);
    let factor = config.initializer_factor;
    let normal = |std: f64| Start::Normal { std: factor * std };
    let by = |n: usize| normal((n as f64).powf(-0.5));
    let mut entries = vec![Entry::new(
        "shared.weight",
        &[config.vocab_size, width],
        normal(1.0),
    )];
    if own_head {
        // The reference draws it with deviation 1, which starts training at a loss many times that of guessing.
        entries.push(Entry::new(
            "lm_head.weight",
            &[config.vocab_size, width],
            by(width),
        ));
    }
    let gated = config.feed_forward().is_ok_and(|(gated, _)| gated);
    for (stack, layers, decoder) in [
        ("encoder", config.num_layers, false),
        ("decoder", config.decoder_layers(), true),
    ] {
        for i in 0..layers {
            let mut attention = |layer: usize, name: &str, biased: bool| {
                let at = format!("{stack}.block.{i}.layer.{layer}");
                let mut put = |what: &str, shape: &[usize], start| {
                    entries.push(Entry::new(format!("{at}.{what}"), shape, start))
                };
                put(
                    &format!("{name}.q.weight"),
                    &[inner, width],
                    by(width * config.d_kv),
                );
                put(&format!("{name}.k.weight"), &[inner, width], by(width));
                put(&format!("{name}.v.weight"), &[inner, width], by(width));
                put(&format!("{name}.o.weight"), &[width, inner], by(inner));
                if biased {
                    let shape = [config.relative_attention_num_buckets, config.num_heads];
                    put(
                        &format!("{name}.relative_attention_bias.weight"),
                        &shape,
                        by(width),
                    );
                }
                put("layer_norm.weight", &[width], Start::Constant(factor));
            };
            attention(0, "SelfAttention", i == 0);
            if decoder {
                attention(1, "EncDecAttention", false);
            }
            let at = format!("{stack}.block.{i}.layer.{}", if decoder { 2 } else { 1 });
            for name in if gated { &["wi_0", "wi_1"][..] } else { &["wi"] } {
                let name = format!("{at}.DenseReluDense.{name}.weight");
                entries.push(Entry::new(name, &[config.d_ff, width], by(width)));
            }
            entries.push(Entry::new(
                format!("{at}.DenseReluDense.wo.weight"),
                &[width, config.d_ff],
                by(config.d_ff),
            ));
            entries.push(Entry::new(
                format!("{at}.layer_norm.weight"),
                &[width],
                Start::Constant(factor),
            ));
        }
        entries.push(Entry::new(
            format!("{stack}.final_layer_norm.weight"),
            &[width],
            Start::Constant(factor),
        ));
    }
    entries
}

/// Whether a tensor is held in f32 whatever the model's type is.
pub(crate) fn stays_f32(name: &str) -> bool {
    name.contains("layer_norm") || name.contains("relative_attention_bias")
}

/// How a tensor is divided among ranks: heads and inner units by rows going in and by columns coming out, words by rows.
pub(crate) fn split(name: &str) -> Split {
    let ends = |tails: &[&str]| tails.iter().any(|tail| name.ends_with(tail));
    if ends(&["shared.weight", "lm_head.weight"]) {
        Split::Vocabulary
    } else if ends(&[
        ".q.weight",
        ".k.weight",
        ".v.weight",
        ".wi.weight",
        ".wi_0.weight",
        ".wi_1.weight",
    ]) {
        Split::Rows
    } else if ends(&[".o.weight", ".wo.weight", ".relative_attention_bias.weight"]) {
        Split::Columns
    } else {
        Split::Whole
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Buckets of distances as the reference gives them (`tests/make_fixtures.py`).
    #[test]
    fn buckets_are_those_of_the_reference() {
        let cases: serde_json::Value =
            serde_json::from_str(include_str!("../tests/fixtures/buckets.json")).unwrap();
        for case in cases.as_array().unwrap() {
            let number = |key: &str| case[key].as_i64().unwrap();
            let positions = RelativePositions {
                table: Tensor::zeros((1, 1), DType::F32, &Device::Cpu).unwrap(),
                buckets: number("buckets") as usize,
                distance_max: number("max_distance") as usize,
                bidirectional: case["bidirectional"].as_bool().unwrap(),
                ahead: None,
            };
            for (distance, expected) in (number("first")..).zip(case["expected"].as_array().unwrap()) {
                let expected = expected.as_u64().unwrap() as usize;
                match positions.bucket(distance) {
                    Some(bucket) => assert_eq!(bucket, expected, "distance {distance} of {case}"),
                    // The reference gives a bucket for what the causal mask then hides.
                    None => assert!(distance > 0),
                }
            }
        }
    }
}
