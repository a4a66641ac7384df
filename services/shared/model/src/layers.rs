//! What T5 and BART share: linear maps, norms, attention, activations, masks, and the two modes of running them.
//!
//! Serving uses fused kernels that have no gradient; training composes the same functions from operations that have
//! one. Both run through the same modules.

use std::cell::RefCell;

use candle_core::{D, DType, Result, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::kernels;

mod activation;
mod attention;
mod linear;
mod norm;
mod positions;

pub use activation::Activation;
pub(crate) use attention::{AttentionShape, CrossAttention, Memory, SelfAttention, Sharing};
pub(crate) use attention::{in_reading_order, readers_each, reading_order};
pub(crate) use linear::{Linear, Maps};
pub(crate) use norm::{LayerNorm, RmsNorm};
pub(crate) use positions::{causal_mask, embed, over_columns, padded, padding_mask, planes};

/// Whether gradients are wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mode<'a> {
    Serve,
    Train(Option<&'a Dropout>),
}

/// Random zeroing of activations while training: seeded, so that a run can be repeated and resumed.
#[derive(Debug)]
pub struct Dropout {
    hidden: f32,
    attention: f32,
    activation: f32,
    random: RefCell<ChaCha8Rng>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Site {
    Hidden,
    Attention,
    Activation,
}

impl Dropout {
    /// The shares of numbers zeroed after sublayers, in attention weights and inside feed-forward layers.
    pub fn new(hidden: f32, attention: f32, activation: f32, seed: u64) -> Self {
        Self {
            hidden,
            attention,
            activation,
            random: RefCell::new(ChaCha8Rng::seed_from_u64(seed)),
        }
    }

    fn apply(&self, x: &Tensor, site: Site) -> Result<Tensor> {
        let share = match site {
            Site::Hidden => self.hidden,
            Site::Attention => self.attention,
            Site::Activation => self.activation,
        };
        if share <= 0.0 {
            return Ok(x.clone());
        }
        let kept = 1.0 / (1.0 - share);
        let below = (f64::from(share) * f64::from(u32::MAX)) as u32;
        let mut random = self.random.borrow_mut();
        let mask: Vec<f32> = (0..x.elem_count())
            .map(|_| if random.next_u32() < below { 0.0 } else { kept })
            .collect();
        if kernels::fit(x) {
            return kernels::scale_each(x, mask);
        }
        x * Tensor::from_vec(mask, x.shape(), x.device())?.to_dtype(x.dtype())?
    }
}

impl Mode<'_> {
    /// Whether the gradients of [`kernels`] are to be used.
    fn by_hand(self, x: &Tensor) -> bool {
        matches!(self, Self::Train(_)) && kernels::fit(x)
    }

    /// Whether this is training in mixed precision: what sums many numbers up does so in f32.
    fn widens(self, x: &Tensor) -> bool {
        matches!(self, Self::Train(_)) && x.dtype() != DType::F32
    }

    pub(crate) fn drop(self, x: Tensor, site: Site) -> Result<Tensor> {
        match self {
            Self::Train(Some(dropout)) => dropout.apply(&x, site),
            _ => Ok(x),
        }
    }

    /// What is added to the scores of all layers, in their type: while serving once, so that no layer casts it again.
    pub(crate) fn added(self, x: Option<&Tensor>, dtype: DType) -> Result<Option<Tensor>> {
        match self {
            Self::Serve => x.map(|x| x.to_dtype(dtype)).transpose(),
            Self::Train(_) => Ok(x.cloned()),
        }
    }

    /// Over the last dimension, of the sum of what is there.
    fn softmax(self, scores: &Tensor, bias: Option<&Tensor>, mask: Option<&Tensor>) -> Result<Tensor> {
        if self.widens(scores) {
            let full = |x: Option<&Tensor>| x.map(|x| x.to_dtype(DType::F32)).transpose();
            let (bias, mask) = (full(bias)?, full(mask)?);
            let weights = self.softmax(&scores.to_dtype(DType::F32)?, bias.as_ref(), mask.as_ref())?;
            return weights.to_dtype(scores.dtype());
        }
        if self.by_hand(scores) {
            let none = Tensor::zeros((1, 1, 1, scores.dim(D::Minus1)?), DType::F32, scores.device())?;
            return kernels::softmax(scores, bias.unwrap_or(&none), mask.unwrap_or(&none));
        }
        let mut scores = scores.clone();
        for added in bias.into_iter().chain(mask) {
            scores = scores.broadcast_add(&added.to_dtype(scores.dtype())?)?;
        }
        match self {
            Self::Serve => candle_nn::ops::softmax_last_dim(&scores.contiguous()?),
            Self::Train(_) => candle_nn::ops::softmax(&scores, D::Minus1),
        }
    }
}
