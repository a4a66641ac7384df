//! Norms over the last dimension.

use candle_core::{D, DType, Result, Tensor};
use candle_nn::VarBuilder;

use super::Mode;
use crate::kernels;

/// Root mean square norm: no mean, no bias. Takes and weighs f32, gives `output`.
#[derive(Clone, Debug)]
pub(crate) struct RmsNorm {
    weight: Tensor,
    eps: f64,
    output: DType,
}

impl RmsNorm {
    pub(crate) fn new(width: usize, eps: f64, output: DType, vb: &VarBuilder) -> Result<Self> {
        Ok(Self {
            weight: vb.clone().to_dtype(DType::F32).get(width, "weight")?,
            eps,
            output,
        })
    }

    pub(crate) fn forward(&self, x: &Tensor, mode: Mode<'_>) -> Result<Tensor> {
        let y = match mode {
            Mode::Serve => candle_nn::ops::rms_norm(&x.contiguous()?, &self.weight, self.eps as f32)?,
            Mode::Train(_) if kernels::fit(x) => kernels::rms_norm(x, &self.weight, self.eps as f32)?,
            Mode::Train(_) => {
                let variance = x.sqr()?.mean_keepdim(D::Minus1)?; // [.., 1]
                x.broadcast_div(&(variance + self.eps)?.sqrt()?)?
                    .broadcast_mul(&self.weight)?
            }
        };
        y.to_dtype(self.output)
    }
}

/// Layer norm with mean and bias.
#[derive(Clone, Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    /// BART does not configure it.
    const EPS: f64 = 1e-5;

    pub(crate) fn new(width: usize, vb: &VarBuilder) -> Result<Self> {
        Ok(Self {
            weight: vb.get(width, "weight")?,
            bias: vb.get(width, "bias")?,
        })
    }

    pub(crate) fn forward(&self, x: &Tensor, mode: Mode<'_>) -> Result<Tensor> {
        if mode.widens(x) {
            return self.forward(&x.to_dtype(DType::F32)?, mode)?.to_dtype(x.dtype());
        }
        match mode {
            Mode::Serve => {
                candle_nn::ops::layer_norm(&x.contiguous()?, &self.weight, &self.bias, Self::EPS as f32)
            }
            Mode::Train(_) if kernels::fit(x) => {
                kernels::layer_norm(x, &self.weight, &self.bias, Self::EPS as f32)
            }
            Mode::Train(_) => {
                let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
                let variance = centred.sqr()?.mean_keepdim(D::Minus1)?; // [.., 1]
                centred
                    .broadcast_div(&(variance + Self::EPS)?.sqrt()?)?
                    .broadcast_mul(&self.weight)?
                    .broadcast_add(&self.bias)
            }
        }
    }
}
