//! Mixed precision: a model whose weights are casts of the variables, recorded anew for every step.
//!
//! ```text
//!  variables f32 ─▶ cast ─▶ bf16 products ─▶ f32 norms, softmax, loss
//!       ▲                                           │
//!       └──── AdamW in f32 ◀── gradients in f32 ◀───┘
//! ```
//!
//! Bf16 has the range of f32, so no loss is scaled. Its 8 bits of mantissa are too few to sum many numbers up: what sums over
//! rows (norms, biases, embeddings) widens first (`layers.rs`).

use candle_core::{DType, Device, Result, Shape, Tensor, bail};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder, VarMap};

/// Hands the variables out in the type that is asked for; norms always in f32.
struct Casting<'a>(&'a VarMap);

/// Weights for [`crate::Model`]'s modules in `dtype`, each a recorded cast of its variable.
pub(crate) fn casts<'a>(vars: &'a VarMap, dtype: DType, device: &Device) -> VarBuilder<'a> {
    VarBuilder::from_backend(Box::new(Casting(vars)), dtype, device.clone())
}

impl SimpleBackend for Casting<'_> {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        let found = self.get_unchecked(name, dtype, device)?;
        if found.shape() != &shape {
            bail!("{name} is {:?}, not {shape:?}", found.shape());
        }
        Ok(found)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, _: &Device) -> Result<Tensor> {
        let data = self
            .0
            .data()
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(var) = data.get(name) else {
            bail!("no variable is named {name}")
        };
        let dtype = if name.contains("norm") { DType::F32 } else { dtype };
        var.as_tensor().to_dtype(dtype)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        let data = self
            .0
            .data()
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        data.contains_key(name)
    }
}
