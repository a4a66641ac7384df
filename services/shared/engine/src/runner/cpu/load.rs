//! From a directory to packed matrices: some rows at a time, so that little more than the packed weights is ever held.

use refract_kernel::{Activation, Matrix, Packing, Precision, Table};
use refract_model::quantised::{is_matrix, is_quantised};
use refract_model::{BartConfig, Config, Rows, Stored, T5Config};

use super::network::{
    Attention, Distances, FeedForward, GatedPair, Layer, Network, Norm, Positions, Stack, Sublayer,
};
use crate::runner::RunnerError;

/// Reads, packs and drops tensors.
struct Loader<'a> {
    stored: &'a Stored,
    precision: Precision,
}

/// Unused rows at the start of BART's position tables.
const POSITION_OFFSET: usize = 2;
/// BART does not configure it.
const LAYER_NORM_EPS: f32 = 1e-5;

pub(super) fn load(stored: &Stored, precision: Precision) -> Result<Network, RunnerError> {
    let loader = Loader { stored, precision };
    match stored.config() {
        Config::Bart(config) => loader.bart(config),
        Config::T5(config) => loader.t5(config),
    }
}

/// Memory that the weights take as [`load`] holds them.
pub(super) fn bytes(stored: &Stored, precision: Precision) -> u64 {
    let loader = Loader { stored, precision };
    let bytes = |(name, (rows, width)): (&str, (usize, usize))| match loader.precision(name) {
        Precision::F32 => 4 * rows * width,
        packed if is_matrix(name, stored.own_head()) => Packing::bytes(packed, width, rows),
        // A table: bytes, and a scale a row.
        _ => rows * (width + 4),
    };
    stored.tensors().map(bytes).sum::<usize>() as u64
}

fn activation(of: refract_model::Activation) -> Activation {
    match of {
        refract_model::Activation::Relu => Activation::Relu,
        refract_model::Activation::GeluErf => Activation::GeluErf,
        refract_model::Activation::GeluTanh => Activation::GeluTanh,
        refract_model::Activation::GeluQuick => Activation::GeluQuick,
        refract_model::Activation::Silu => Activation::Silu,
        refract_model::Activation::Tanh => Activation::Tanh,
    }
}

impl Loader<'_> {
    fn read(&self, name: &str) -> Result<Vec<f32>, RunnerError> {
        self.stored.read(name).map_err(RunnerError::new)
    }

    /// How a tensor is held: what stays exact in a file of bytes stays exact here, and what stays in bytes in one of four bits
    /// does here.
    fn precision(&self, name: &str) -> Precision {
        match self.precision {
            _ if !is_quantised(name) => Precision::F32,
            Precision::Int4 if self.stored.is_bytes(name) => Precision::Int8,
            Precision::Int4 if !is_matrix(name, self.stored.own_head()) => Precision::Int8,
            precision => precision,
        }
    }

    /// `names` below one another, with their biases where the architecture has them.
    fn matrix(&self, names: &[String], inputs: usize, biased: bool) -> Result<Matrix, RunnerError> {
        let weights: Vec<String> = names.iter().map(|name| format!("{name}.weight")).collect();
        let outputs = weights.iter().map(|name| self.rows(name)).sum();
        let precision = weights
            .first()
            .map_or(self.precision, |name| self.precision(name));
        let mut packing = Packing::new(precision, inputs, outputs).map_err(RunnerError::new)?;
        for (name, weight) in names.iter().zip(&weights) {
            self.pack(weight, &mut packing)?;
            if biased {
                packing
                    .bias(&self.read(&format!("{name}.bias"))?)
                    .map_err(RunnerError::new)?;
            }
        }
        packing.finish().map_err(RunnerError::new)
    }

    fn pack(&self, name: &str, packing: &mut Packing) -> Result<(), RunnerError> {
        self.stored.rows(name, |rows| {
            let pushed = match rows {
                Rows::Floats(rows) => packing.push(rows),
                Rows::Bytes { bytes, scales } => packing.push_bytes(bytes, scales),
                Rows::Nibbles {
                    numbers,
                    shares,
                    scales,
                } => packing.push_nibbles(numbers, shares, scales),
            };
            pushed.map_err(RunnerError::new)
        })
    }

    fn rows(&self, name: &str) -> usize {
        self.stored.shape(name).map_or(0, |(rows, _)| rows)
    }

    fn linear(&self, name: String, inputs: usize, biased: bool) -> Result<Matrix, RunnerError> {
        self.matrix(&[name], inputs, biased)
    }

    fn table(&self, name: &str, width: usize) -> Result<Table, RunnerError> {
        let mut table = Table::zeroed(self.precision(name), width, self.rows(name));
        let mut first = 0;
        self.stored.rows(name, |rows| {
            let (count, set) = match rows {
                Rows::Floats(rows) => (rows.len() / width.max(1), table.set(first, rows)),
                Rows::Bytes { bytes, scales } => (scales.len(), table.set_bytes(first, bytes, scales)),
                Rows::Nibbles {
                    numbers,
                    shares,
                    scales,
                } => (scales.len(), table.set_nibbles(first, numbers, shares, scales)),
            };
            first += count;
            set.map_err(RunnerError::new)
        })?;
        Ok(table)
    }

    /// The head, and the embeddings unless they are the head.
    fn head(
        &self,
        embeddings: &str,
        width: usize,
        bias: Option<Vec<f32>>,
    ) -> Result<(Matrix, Option<Table>), RunnerError> {
        let own = self.stored.own_head();
        let name = if own { "lm_head.weight" } else { embeddings };
        let mut packing =
            Packing::new(self.precision(name), width, self.rows(name)).map_err(RunnerError::new)?;
        self.pack(name, &mut packing)?;
        if let Some(bias) = bias {
            packing.bias(&bias).map_err(RunnerError::new)?;
        }
        let head = packing.finish().map_err(RunnerError::new)?;
        let table = if own {
            Some(self.table(embeddings, width)?)
        } else {
            None
        };
        Ok((head, table))
    }

    fn bart(&self, c: &BartConfig) -> Result<Network, RunnerError> {
        const BIAS: &str = "final_logits_bias";
        let width = c.d_model;
        let bias = if self.stored.has(BIAS) {
            Some(self.read(BIAS)?)
        } else {
            None
        };
        let (head, embeddings) = self.head("model.shared.weight", width, bias)?;
        let pairs = match c.pair_tables {
            Some(sizes) => {
                let at = "model.encoder";
                let gate = self.read(&format!("{at}.user_item_gate"))?;
                let inputs = sizes.user_width + sizes.item_width;
                Some(GatedPair {
                    users: self.table(&format!("{at}.user_whole_embeddings.weight"), sizes.user_width)?,
                    items: self.table(&format!("{at}.item_whole_embeddings.weight"), sizes.item_width)?,
                    project: self.matrix(&[format!("{at}.user_item_proj.0")], inputs, true)?,
                    gate: gate.first().map_or(0.0, |g| 1.0 / (1.0 + (-g).exp())),
                })
            }
            None => None,
        };
        let cross = (0..c.decoder_layers)
            .map(|i| {
                let at = format!("model.decoder.layers.{i}.encoder_attn");
                self.matrix(&[format!("{at}.k_proj"), format!("{at}.v_proj")], width, true)
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Network {
            embeddings,
            embed_scale: if c.scale_embedding {
                (width as f64).sqrt() as f32
            } else {
                1.0
            },
            pairs,
            encoder: self.bart_stack(c, "encoder")?,
            decoder: self.bart_stack(c, "decoder")?,
            cross,
            head,
            head_scale: 1.0,
        })
    }

    fn bart_stack(&self, c: &BartConfig, stack: &str) -> Result<Stack, RunnerError> {
        let decoder = stack == "decoder";
        let width = c.d_model;
        let (layers, heads, ffn) = if decoder {
            (c.decoder_layers, c.decoder_attention_heads, c.decoder_ffn_dim)
        } else {
            (c.encoder_layers, c.encoder_attention_heads, c.encoder_ffn_dim)
        };
        let norm = |name: String| {
            Ok::<_, RunnerError>(Norm::Layer {
                weight: self.read(&format!("{name}.weight"))?,
                bias: self.read(&format!("{name}.bias"))?,
                eps: LAYER_NORM_EPS,
            })
        };
        let act = activation(c.activation().map_err(RunnerError::new)?);
        let layer = |i: usize| {
            let at = format!("model.{stack}.layers.{i}");
            let own = format!("{at}.self_attn");
            let cross = format!("{at}.encoder_attn");
            let into = ["q_proj", "k_proj", "v_proj"].map(|n| format!("{own}.{n}"));
            Ok(Layer {
                own: Sublayer {
                    norm: norm(format!("{own}_layer_norm"))?,
                    f: Attention {
                        into: self.matrix(&into, width, true)?,
                        out: self.linear(format!("{own}.out_proj"), width, true)?,
                    },
                },
                cross: if decoder {
                    Some(Sublayer {
                        norm: norm(format!("{cross}_layer_norm"))?,
                        f: Attention {
                            into: self.linear(format!("{cross}.q_proj"), width, true)?,
                            out: self.linear(format!("{cross}.out_proj"), width, true)?,
                        },
                    })
                } else {
                    None
                },
                feed_forward: Sublayer {
                    norm: norm(format!("{at}.final_layer_norm"))?,
                    f: FeedForward {
                        inner: self.linear(format!("{at}.fc1"), width, true)?,
                        outer: self.linear(format!("{at}.fc2"), ffn, true)?,
                        activation: act,
                        gated: false,
                    },
                },
            })
        };
        Ok(Stack {
            width,
            heads,
            head_dim: width / heads,
            scale: ((width / heads) as f64).powf(-0.5) as f32,
            norm_first: false,
            positions: Some(Positions {
                table: self.table(&format!("model.{stack}.embed_positions.weight"), width)?,
                offset: POSITION_OFFSET,
            }),
            entry: Some(norm(format!("model.{stack}.layernorm_embedding"))?),
            distances: None,
            layers: (0..layers).map(layer).collect::<Result<Vec<_>, RunnerError>>()?,
            exit: None,
        })
    }

    fn t5(&self, c: &T5Config) -> Result<Network, RunnerError> {
        let (head, embeddings) = self.head("shared.weight", c.d_model, None)?;
        let cross = (0..c.decoder_layers())
            .map(|i| {
                let at = format!("decoder.block.{i}.layer.1.EncDecAttention");
                self.matrix(&[format!("{at}.k"), format!("{at}.v")], c.d_model, false)
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Network {
            embeddings,
            embed_scale: 1.0,
            pairs: None,
            encoder: self.t5_stack(c, "encoder")?,
            decoder: self.t5_stack(c, "decoder")?,
            cross,
            head,
            head_scale: if c.scales_head() {
                (c.d_model as f64).powf(-0.5) as f32
            } else {
                1.0
            },
        })
    }

    fn t5_stack(&self, c: &T5Config, stack: &str) -> Result<Stack, RunnerError> {
        let decoder = stack == "decoder";
        let (width, inner) = (c.d_model, c.num_heads * c.d_kv);
        let (gated, act) = c.feed_forward().map_err(RunnerError::new)?;
        let norm = |name: String| {
            let weight = self.read(&format!("{name}.weight"))?;
            Ok::<_, RunnerError>(Norm::Rms {
                weight,
                eps: c.layer_norm_epsilon as f32,
            })
        };
        let layer = |i: usize| {
            let at = format!("{stack}.block.{i}.layer");
            let own = format!("{at}.0.SelfAttention");
            let cross = format!("{at}.1.EncDecAttention");
            let last = format!("{at}.{}", if decoder { 2 } else { 1 });
            let dense = format!("{last}.DenseReluDense");
            let names: &[&str] = if gated { &["wi_0", "wi_1"] } else { &["wi"] };
            let names: Vec<String> = names.iter().map(|n| format!("{dense}.{n}")).collect();
            Ok(Layer {
                own: Sublayer {
                    norm: norm(format!("{at}.0.layer_norm"))?,
                    f: Attention {
                        into: self.matrix(&["q", "k", "v"].map(|n| format!("{own}.{n}")), width, false)?,
                        out: self.linear(format!("{own}.o"), inner, false)?,
                    },
                },
                cross: if decoder {
                    Some(Sublayer {
                        norm: norm(format!("{at}.1.layer_norm"))?,
                        f: Attention {
                            into: self.linear(format!("{cross}.q"), width, false)?,
                            out: self.linear(format!("{cross}.o"), inner, false)?,
                        },
                    })
                } else {
                    None
                },
                feed_forward: Sublayer {
                    norm: norm(format!("{last}.layer_norm"))?,
                    f: FeedForward {
                        inner: self.matrix(&names, width, false)?,
                        // Its inputs have outliers that one scale a row does not survive.
                        outer: self.matrix(&[format!("{dense}.wo")], c.d_ff, false)?,
                        activation: activation(act),
                        gated,
                    },
                },
            })
        };
        let table = self.read(&format!(
            "{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        ))?;
        Ok(Stack {
            width,
            heads: c.num_heads,
            head_dim: c.d_kv,
            // The initialisation makes up for the missing 1/√d.
            scale: 1.0,
            norm_first: true,
            positions: None,
            entry: None,
            distances: Some(Distances {
                table,
                heads: c.num_heads,
                buckets: c.relative_attention_num_buckets,
                distance_max: c.relative_attention_max_distance,
                bidirectional: !decoder,
                made: None,
            }),
            layers: (0..if decoder { c.decoder_layers() } else { c.num_layers })
                .map(layer)
                .collect::<Result<Vec<_>, RunnerError>>()?,
            exit: Some(norm(format!("{stack}.final_layer_norm"))?),
        })
    }
}
