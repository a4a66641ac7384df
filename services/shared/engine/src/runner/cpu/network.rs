//! An encoder–decoder as packed matrices: BART and T5 differ in where they norm and how they see positions.

use refract_kernel::{Activation, DistanceBias, Finish, Isa, Kernels, Matrix, Scratch, Table};
use refract_model::distance_bucket;

/// All weights, quantised as asked.
#[derive(Debug)]
pub(super) struct Network {
    /// Absent where the head is the embeddings.
    pub(super) embeddings: Option<Table>,
    pub(super) embed_scale: f32,
    pub(super) pairs: Option<GatedPair>,
    pub(super) encoder: Stack,
    pub(super) decoder: Stack,
    /// Keys and values of each decoder layer from the encoder's words.
    pub(super) cross: Vec<Matrix>,
    pub(super) head: Matrix,
    /// What enters the head is multiplied by it.
    pub(super) head_scale: f32,
}

/// sigmoid(gate) · tanh(W [user; item] + b), added to every embedding of the encoder.
#[derive(Debug)]
pub(super) struct GatedPair {
    pub(super) users: Table,
    pub(super) items: Table,
    pub(super) project: Matrix,
    /// After the sigmoid.
    pub(super) gate: f32,
}

#[derive(Debug)]
pub(super) struct Stack {
    pub(super) width: usize,
    pub(super) heads: usize,
    pub(super) head_dim: usize,
    /// What scores are multiplied by.
    pub(super) scale: f32,
    /// Norm the input of each sublayer (T5) instead of its result (BART).
    pub(super) norm_first: bool,
    pub(super) positions: Option<Positions>,
    pub(super) entry: Option<Norm>,
    pub(super) distances: Option<Distances>,
    pub(super) layers: Vec<Layer>,
    pub(super) exit: Option<Norm>,
}

/// Learnt positions; the first is at row `offset`.
#[derive(Debug)]
pub(super) struct Positions {
    pub(super) table: Table,
    pub(super) offset: usize,
}

#[derive(Debug)]
pub(super) struct Layer {
    pub(super) own: Sublayer<Attention>,
    pub(super) cross: Option<Sublayer<Attention>>,
    pub(super) feed_forward: Sublayer<FeedForward>,
}

#[derive(Debug)]
pub(super) struct Sublayer<F> {
    pub(super) norm: Norm,
    pub(super) f: F,
}

#[derive(Debug)]
pub(super) struct Attention {
    /// Queries, keys and values in one; of cross-attention the queries alone.
    pub(super) into: Matrix,
    pub(super) out: Matrix,
}

#[derive(Debug)]
pub(super) struct FeedForward {
    /// Where gated: the gate's rows, then the value's.
    pub(super) inner: Matrix,
    pub(super) outer: Matrix,
    pub(super) activation: Activation,
    pub(super) gated: bool,
}

#[derive(Debug)]
pub(super) enum Norm {
    Layer {
        weight: Vec<f32>,
        bias: Vec<f32>,
        eps: f32,
    },
    Rms {
        weight: Vec<f32>,
        eps: f32,
    },
}

/// T5's bias by distance; the table by positions is made for the longest sequence yet.
#[derive(Debug)]
pub(super) struct Distances {
    /// `[buckets × heads]`
    pub(super) table: Vec<f32>,
    pub(super) heads: usize,
    pub(super) buckets: usize,
    pub(super) distance_max: usize,
    pub(super) bidirectional: bool,
    pub(super) made: Option<DistanceBias>,
}

/// Work memory, kept between calls.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    pub(super) x: Vec<f32>,
    pub(super) normed: Vec<f32>,
    /// Queries, keys, values.
    pub(super) qkv: Vec<f32>,
    pub(super) mixed: Vec<f32>,
    pub(super) hidden: Vec<f32>,
    pub(super) gated: Vec<f32>,
    pub(super) scratch: Scratch,
}

/// The first `n` numbers of a buffer that is made large enough.
pub(super) fn room(buffer: &mut Vec<f32>, n: usize) -> &mut [f32] {
    if buffer.len() < n {
        buffer.resize(n, 0.0);
    }
    &mut buffer[..n]
}

/// How much is done at once: enough to use weights often, little enough that what is between two products stays in the cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct Together {
    /// Tokens that are encoded together; a longer prompt is alone.
    pub(super) encode_tokens: usize,
    /// Rows that go through a feed-forward layer together.
    pub(super) feed_rows: usize,
}

/// The tile unit is so fast that weights must be used more often; the other numbers were measured with VNNI and a second-level
/// cache of a megabyte, of which each thread has its own.
pub(super) fn together(kernels: &Kernels) -> Together {
    let shares = match kernels.isa() {
        Isa::Amx => 4,
        _ => kernels.threads().min(4),
    };
    Together {
        encode_tokens: 160 * shares,
        feed_rows: 64 * shares,
    }
}

const ADD: Finish = Finish {
    activation: Activation::Identity,
    add: true,
};

impl Network {
    /// The embedding of an id, scaled.
    pub(super) fn embed(&self, id: u32, to: &mut [f32]) {
        match &self.embeddings {
            Some(table) => table.read_row(id as usize, to),
            None => self.head.read_row(id as usize, to),
        }
        if self.embed_scale != 1.0 {
            to.iter_mut().for_each(|x| *x *= self.embed_scale);
        }
    }
}

impl Norm {
    pub(super) fn in_place(&self, kernels: &Kernels, x: &mut [f32], normed: &mut Vec<f32>) {
        match self {
            Self::Layer { weight, bias, eps } => kernels.layer_norm(x, weight, bias, *eps),
            Self::Rms { .. } => {
                let y = room(normed, x.len());
                self.apply(kernels, x, y);
                x.copy_from_slice(y);
            }
        }
    }

    fn apply(&self, kernels: &Kernels, x: &[f32], y: &mut [f32]) {
        match self {
            Self::Layer { weight, bias, eps } => {
                y.copy_from_slice(x);
                kernels.layer_norm(y, weight, bias, *eps);
            }
            Self::Rms { weight, eps } => kernels.rms_norm(x, weight, *eps, y),
        }
    }
}

impl Distances {
    /// Makes sure that sequences of so many tokens can be biased.
    pub(super) fn reach(&mut self, tokens: usize) {
        if self.made.as_ref().is_some_and(|b| b.reach() + 1 >= tokens) {
            return;
        }
        let (table, heads, last) = (&self.table, self.heads, self.buckets - 1);
        let made = DistanceBias::new(heads, tokens.next_power_of_two().max(64), |head, distance| {
            // A query never looks where there is no bucket.
            let bucket = distance_bucket(distance, self.buckets, self.distance_max, self.bidirectional)
                .unwrap_or(last);
            table[bucket * heads + head]
        });
        self.made = Some(made);
    }
}

impl Stack {
    pub(super) fn inner(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Adds positions to embeddings in `x`, and norms them.
    pub(super) fn enter(
        &self,
        kernels: &Kernels,
        x: &mut [f32],
        at: impl Iterator<Item = usize>,
        b: &mut Vec<f32>,
    ) {
        if let Some(positions) = &self.positions {
            let mut row = vec![0.0; self.width];
            for (x, at) in x.chunks_mut(self.width).zip(at) {
                positions.table.read_row(at + positions.offset, &mut row);
                kernels.add(x, &row);
            }
        }
        if let Some(norm) = &self.entry {
            norm.in_place(kernels, x, b);
        }
    }

    /// x += out(mix(into(x))), with the norm where it belongs. `mix` gets the first product and gives the mixed values.
    pub(super) fn attend(
        &self,
        kernels: &Kernels,
        sublayer: &Sublayer<Attention>,
        b: &mut Buffers,
        m: usize,
        mix: impl FnOnce(&[f32], &mut [f32]),
    ) {
        let Buffers {
            x,
            normed,
            qkv,
            mixed,
            scratch,
            ..
        } = b;
        let x = &mut x[..m * self.width];
        let projected = room(qkv, m * sublayer.f.into.outputs());
        let input: &[f32] = if self.norm_first {
            let y = room(normed, x.len());
            sublayer.norm.apply(kernels, x, y);
            y
        } else {
            x
        };
        kernels.multiply(input, &sublayer.f.into, Finish::default(), projected, scratch);
        let mixed = room(mixed, m * self.inner());
        mix(projected, mixed);
        kernels.multiply(mixed, &sublayer.f.out, ADD, x, scratch);
        if !self.norm_first {
            sublayer.norm.in_place(kernels, x, normed);
        }
    }

    pub(super) fn feed_forward(
        &self,
        kernels: &Kernels,
        sublayer: &Sublayer<FeedForward>,
        b: &mut Buffers,
        m: usize,
    ) {
        let Buffers {
            x,
            normed,
            hidden,
            gated,
            scratch,
            ..
        } = b;
        let f = &sublayer.f;
        for x in x[..m * self.width].chunks_mut(together(kernels).feed_rows * self.width) {
            let rows = x.len() / self.width;
            let h = room(hidden, rows * f.inner.outputs());
            let input: &[f32] = if self.norm_first {
                let y = room(normed, x.len());
                sublayer.norm.apply(kernels, x, y);
                y
            } else {
                x
            };
            if f.gated {
                kernels.multiply(input, &f.inner, Finish::default(), h, scratch);
                let width = f.outer.inputs();
                let g = room(gated, rows * width);
                kernels.gate(f.activation, h, width, g);
                kernels.multiply(g, &f.outer, ADD, x, scratch);
            } else {
                kernels.multiply(
                    input,
                    &f.inner,
                    Finish {
                        activation: f.activation,
                        add: false,
                    },
                    h,
                    scratch,
                );
                kernels.multiply(h, &f.outer, ADD, x, scratch);
            }
            if !self.norm_first {
                sublayer.norm.in_place(kernels, x, normed);
            }
        }
    }
}
