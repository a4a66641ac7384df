//! BART: an encoder–decoder with learnt positions, layer norm after each sublayer, and a head tied to the embeddings.
//!
//! Lewis et al., "BART: Denoising Sequence-to-Sequence Pre-training" (2019). Position tables begin with two unused rows,
//! and `final_logits_bias` is added to the logits.
//!
//! A published Prism has more: a row of a user table and a row of an item table, joined, projected and squashed, are
//! added to every token embedding of the encoder, through one learnt gate, before positions and norm. It is recognised by
//! the names of its tensors.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;

use crate::config::BartConfig;
use crate::layers::{Activation, AttentionShape, CrossAttention, LayerNorm, Linear, Memory, Mode};
use crate::layers::{SelfAttention, Site, causal_mask, embed, padding_mask};
use crate::model::{AgeNumbers, DecodeInput, EncodeInput};
use crate::spec::{GenerationDefaults, Spec};
use crate::weights::{Entry, Start};

/// Unused rows at the start of the position tables.
const POSITION_OFFSET: usize = 2;

/// A BART with its weights.
#[derive(Clone, Debug)]
pub struct Bart {
    pub(crate) spec: Spec,
    pub(crate) defaults: GenerationDefaults,
    /// `[vocab, width]`
    shared: Tensor,
    embed_scale: f64,
    encoder: Stack,
    decoder: Stack,
    pairs: Option<GatedPair>,
    head: Linear,
    /// `[1, vocab]`, f32
    final_logits_bias: Tensor,
}

#[derive(Clone, Debug)]
struct Stack {
    /// `[positions + 2, width]`
    positions: Tensor,
    norm: LayerNorm,
    blocks: Vec<Block>,
}

#[derive(Clone, Debug)]
struct Block {
    own: SelfAttention,
    own_norm: LayerNorm,
    cross: Option<(CrossAttention, LayerNorm)>,
    inner: Linear,
    outer: Linear,
    activation: Activation,
    norm: LayerNorm,
}

/// sigmoid(gate) · tanh(W [user; item] + b)
#[derive(Clone, Debug)]
struct GatedPair {
    /// `[users, n]`
    users: Tensor,
    /// `[items, m]`
    items: Tensor,
    project: Linear,
    /// A scalar.
    gate: Tensor,
}

impl Bart {
    pub(crate) fn new(
        config: &BartConfig,
        own_head: bool,
        spec: Spec,
        defaults: GenerationDefaults,
        final_logits_bias: Tensor,
        vb: &VarBuilder,
    ) -> Result<Self> {
        let shared = vb.get((config.vocab_size, config.d_model), "model.shared.weight")?;
        let head = if own_head {
            Linear::new(config.d_model, config.vocab_size, false, &vb.pp("lm_head"))?
        } else {
            Linear::tied(shared.clone())
        };
        let encoder = vb.pp("model.encoder");
        Ok(Self {
            embed_scale: if config.scale_embedding {
                (config.d_model as f64).sqrt()
            } else {
                1.0
            },
            encoder: Stack::new(config, false, &encoder)?,
            decoder: Stack::new(config, true, &vb.pp("model.decoder"))?,
            pairs: if config.pair_tables.is_some() {
                Some(GatedPair::new(config, &encoder)?)
            } else {
                None
            },
            spec,
            defaults,
            shared,
            head,
            final_logits_bias,
        })
    }

    /// For weights that no longer change: those that are multiplied by the same input lie together.
    pub(crate) fn join(&mut self) -> Result<()> {
        for block in self.encoder.blocks.iter_mut().chain(&mut self.decoder.blocks) {
            block.own.join()?;
            if let Some((cross, _)) = &mut block.cross {
                cross.join()?;
            }
        }
        Ok(())
    }

    /// `[b, s, width]`
    pub(crate) fn encode(&self, input: &EncodeInput<'_>, mode: Mode<'_>) -> Result<Tensor> {
        let mut x = self.embed(&input.ids)?;
        if let (Some(gated), Some(pairs)) = (&self.pairs, &input.pairs) {
            x = x.broadcast_add(&gated.forward(&pairs.users, &pairs.items)?)?;
        }
        let s = x.dim(1)?;
        let places = Tensor::from_vec(self.encoder.places(&[0], s)?, (1, s), x.device())?;
        x = self.encoder.enter(&x, &places, mode)?;
        let mask = padding_mask(input.lengths, s, x.device())?;
        let mask = mode.added(mask.as_ref(), self.dtype())?;
        for block in &self.encoder.blocks {
            x = block.own(x, mode, |(k, v)| {
                Ok(Memory {
                    k,
                    v,
                    bias: None,
                    mask: mask.clone(),
                    sharing: None,
                })
            })?;
            x = block.feed_forward(x, mode)?;
        }
        Ok(x)
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
            Some((cross, _)) => cross.keys_values(encoded, mode),
            None => candle_core::bail!("a decoder layer without cross-attention"),
        }
    }

    /// Rows of the position table `[planes, t]`, and a mask where one is needed.
    pub(crate) fn age_numbers(&self, planes: &[usize], t: usize, columns: usize) -> Result<AgeNumbers> {
        Ok(AgeNumbers {
            places: self.decoder.places(planes, t)?,
            places_shape: vec![planes.len(), t],
            mask: causal_mask(planes, t, columns),
        })
    }

    /// `[rows, t, width]`
    pub(crate) fn decode(&self, input: &DecodeInput<'_>, mode: Mode<'_>) -> Result<Tensor> {
        let mut x = self
            .decoder
            .enter(&self.embed(&input.tokens)?, &input.places, mode)?;
        let mask = mode.added(input.mask.as_ref(), self.dtype())?;
        for (layer, block) in self.decoder.blocks.iter().enumerate() {
            x = block.own(x, mode, |new| {
                let (k, v) = (input.own)(layer, new)?;
                Ok(Memory {
                    k,
                    v,
                    bias: None,
                    mask: mask.clone(),
                    sharing: None,
                })
            })?;
            if let Some((cross, norm)) = &block.cross {
                let h = cross.forward(&x, &(input.cross)(layer)?, mode)?;
                x = norm.forward(&cross.outer().add_to(x, &h, mode)?, mode)?;
            }
            x = block.feed_forward(x, mode)?;
        }
        Ok(x)
    }

    /// f32 logits `[.., vocab]` of the decoder's words `[.., width]`.
    pub(crate) fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.head
            .forward(hidden, Mode::Serve)?
            .to_dtype(DType::F32)?
            .broadcast_add(&self.final_logits_bias)
    }

    /// The bias that is added to the logits, `[1, vocab]`.
    pub(crate) fn final_logits_bias(&self) -> &Tensor {
        &self.final_logits_bias
    }

    /// `[b, t]` to `[b, t, width]`
    fn embed(&self, ids: &Tensor) -> Result<Tensor> {
        let x = embed(&self.shared, ids)?;
        if self.embed_scale == 1.0 {
            Ok(x)
        } else {
            x * self.embed_scale
        }
    }
}

impl Stack {
    fn new(config: &BartConfig, decoder: bool, vb: &VarBuilder) -> Result<Self> {
        let layers = if decoder {
            config.decoder_layers
        } else {
            config.encoder_layers
        };
        Ok(Self {
            positions: vb.get(
                (config.max_position_embeddings + POSITION_OFFSET, config.d_model),
                "embed_positions.weight",
            )?,
            norm: LayerNorm::new(config.d_model, &vb.pp("layernorm_embedding"))?,
            blocks: (0..layers)
                .map(|i| Block::new(config, decoder, &vb.pp("layers").pp(i)))
                .collect::<Result<Vec<_>>>()?,
        })
    }

    /// Rows of the position table for `t` tokens of each plane: `[planes, t]`.
    fn places(&self, planes: &[usize], t: usize) -> Result<Vec<u32>> {
        // A short row that is padded beside a long one may pass the end of the table; its numbers there are not used.
        let last = self.positions.dim(0)? - 1;
        let place = |at: usize| (at + POSITION_OFFSET).min(last) as u32;
        Ok(planes
            .iter()
            .flat_map(|age| (0..t).map(move |i| place(age + i)))
            .collect())
    }

    /// Adds positions `[planes, t]`, one plane or one a row, to embeddings `[b, t, width]`, and norms.
    fn enter(&self, x: &Tensor, places: &Tensor, mode: Mode<'_>) -> Result<Tensor> {
        let x = x.broadcast_add(&embed(&self.positions, places)?)?; // [b, t, width]
        mode.drop(self.norm.forward(&x, mode)?, Site::Hidden)
    }
}

impl Block {
    fn new(config: &BartConfig, decoder: bool, vb: &VarBuilder) -> Result<Self> {
        let (heads, ffn) = if decoder {
            (config.decoder_attention_heads, config.decoder_ffn_dim)
        } else {
            (config.encoder_attention_heads, config.encoder_ffn_dim)
        };
        let width = config.d_model;
        let head_dim = width / heads;
        let shape = AttentionShape {
            width,
            heads,
            head_dim,
            bias: true,
            scale: (head_dim as f64).powf(-0.5),
            names: ["q_proj", "k_proj", "v_proj", "out_proj"],
        };
        let cross = if decoder {
            Some((
                CrossAttention::new(shape, &vb.pp("encoder_attn"))?,
                LayerNorm::new(width, &vb.pp("encoder_attn_layer_norm"))?,
            ))
        } else {
            None
        };
        Ok(Self {
            own: SelfAttention::new(shape, &vb.pp("self_attn"))?,
            own_norm: LayerNorm::new(width, &vb.pp("self_attn_layer_norm"))?,
            cross,
            inner: Linear::new(width, ffn, true, &vb.pp("fc1"))?,
            outer: Linear::new(ffn, width, true, &vb.pp("fc2"))?,
            activation: Activation::parse(&config.activation_function).map_err(candle_core::Error::msg)?,
            norm: LayerNorm::new(width, &vb.pp("final_layer_norm"))?,
        })
    }

    fn own<'a>(
        &self,
        x: Tensor,
        mode: Mode<'_>,
        remember: impl FnOnce((Tensor, Tensor)) -> Result<Memory<'a>>,
    ) -> Result<Tensor> {
        let h = self.own.forward(&x, mode, remember)?;
        self.own_norm
            .forward(&self.own.outer().add_to(x, &h, mode)?, mode)
    }

    fn feed_forward(&self, x: Tensor, mode: Mode<'_>) -> Result<Tensor> {
        let h = self.activation.forward(&self.inner.forward(&x, mode)?, mode)?; // [b, t, ffn]
        let h = mode.drop(h, Site::Activation)?;
        self.norm.forward(&self.outer.add_to(x, &h, mode)?, mode)
    }
}

impl GatedPair {
    fn new(config: &BartConfig, vb: &VarBuilder) -> Result<Self> {
        let sizes = config.pair_tables.unwrap_or_default();
        Ok(Self {
            users: vb.get((sizes.users, sizes.user_width), "user_whole_embeddings.weight")?,
            items: vb.get((sizes.items, sizes.item_width), "item_whole_embeddings.weight")?,
            project: Linear::new(
                sizes.user_width + sizes.item_width,
                config.d_model,
                true,
                &vb.pp("user_item_proj.0"),
            )?,
            gate: vb.get((), "user_item_gate")?,
        })
    }

    /// Rows `[b]` of each table to `[b, 1, width]`.
    fn forward(&self, users: &Tensor, items: &Tensor) -> Result<Tensor> {
        let both = Tensor::cat(
            &[
                self.users.index_select(users, 0)?,
                self.items.index_select(items, 0)?,
            ],
            1,
        )?; // [b, n + m]
        let squashed = self.project.forward(&both, Mode::Serve)?.tanh()?; // [b, width]
        squashed
            .broadcast_mul(&candle_nn::ops::sigmoid(&self.gate)?)?
            .unsqueeze(1)
    }
}

/// Every tensor of the model but `final_logits_bias`, which is no parameter, in the checkpoint's names.
pub(crate) fn manifest(config: &BartConfig, own_head: bool) -> Vec<Entry> {
    let width = config.d_model;
    let normal = Start::Normal { std: config.init_std };
    let (zero, one) = (Start::Constant(0.0), Start::Constant(1.0));
    let table = Start::Embedding {
        std: config.init_std,
        zero: config.pad_token_id,
    };
    let mut entries = vec![Entry::new(
        "model.shared.weight",
        &[config.vocab_size, width],
        table,
    )];
    if own_head {
        entries.push(Entry::new("lm_head.weight", &[config.vocab_size, width], normal));
    }
    let stacks = [
        (
            "model.encoder",
            config.encoder_layers,
            config.encoder_ffn_dim,
            &["self_attn"][..],
        ),
        (
            "model.decoder",
            config.decoder_layers,
            config.decoder_ffn_dim,
            &["self_attn", "encoder_attn"],
        ),
    ];
    for (stack, layers, ffn, attentions) in stacks {
        let mut linear = |name: String, outputs: usize, inputs: usize| {
            entries.push(Entry::new(format!("{name}.weight"), &[outputs, inputs], normal));
            entries.push(Entry::new(format!("{name}.bias"), &[outputs], zero));
        };
        for i in 0..layers {
            for attention in attentions {
                for part in ["q_proj", "k_proj", "v_proj", "out_proj"] {
                    linear(format!("{stack}.layers.{i}.{attention}.{part}"), width, width);
                }
            }
            linear(format!("{stack}.layers.{i}.fc1"), ffn, width);
            linear(format!("{stack}.layers.{i}.fc2"), width, ffn);
        }
        let mut norm = |name: String| {
            entries.push(Entry::new(format!("{name}.weight"), &[width], one));
            entries.push(Entry::new(format!("{name}.bias"), &[width], zero));
        };
        norm(format!("{stack}.layernorm_embedding"));
        for i in 0..layers {
            for attention in attentions {
                norm(format!("{stack}.layers.{i}.{attention}_layer_norm"));
            }
            norm(format!("{stack}.layers.{i}.final_layer_norm"));
        }
        let positions = [config.max_position_embeddings + POSITION_OFFSET, width];
        entries.push(Entry::new(
            format!("{stack}.embed_positions.weight"),
            &positions,
            normal,
        ));
    }
    if let Some(sizes) = &config.pair_tables {
        let inputs = sizes.user_width + sizes.item_width;
        entries.extend([
            Entry::new(USERS, &[sizes.users, sizes.user_width], normal),
            Entry::new(ITEMS, &[sizes.items, sizes.item_width], normal),
            Entry::new("model.encoder.user_item_proj.0.weight", &[width, inputs], normal),
            Entry::new("model.encoder.user_item_proj.0.bias", &[width], zero),
            // Nearly closed: training starts from the plain model.
            Entry::new("model.encoder.user_item_gate", &[], Start::Constant(-5.0)),
        ]);
    }
    entries
}

/// The tables by which a published Prism is recognised.
pub(crate) const USERS: &str = "model.encoder.user_whole_embeddings.weight";
pub(crate) const ITEMS: &str = "model.encoder.item_whole_embeddings.weight";
pub(crate) const FINAL_LOGITS_BIAS: &str = "final_logits_bias";

/// A name as stored (with one `model.` before it, none, or those of a wrapper) in the manifest's form.
pub(crate) fn canonical(name: &str) -> String {
    let mut bare = name;
    while let Some(rest) = bare.strip_prefix("model.") {
        bare = rest;
    }
    if bare == FINAL_LOGITS_BIAS || bare == "lm_head.weight" {
        bare.to_owned()
    } else {
        format!("model.{bare}")
    }
}

/// The bias of the head, as stored.
pub(crate) fn final_logits_bias_entry(vocab: usize) -> Entry {
    Entry::new(FINAL_LOGITS_BIAS, &[1, vocab], Start::Constant(0.0))
}
