//! The step in place, one pass over each of moments and weights: for f32 on a CPU. Composed from general operations it is
//! fifteen passes, each into new memory.

use anyhow::Result;
use candle_core::{
    CpuStorage, DType, InplaceOp2, InplaceOp3, Layout, Result as TensorResult, Storage, Tensor, Var, bail,
};
use rayon::prelude::*;

use super::{Slot, Step};

/// Numbers of one block of work.
const NUMBERS: usize = 16_384;

pub(super) fn fits(var: &Var, gradient: &Tensor) -> bool {
    [var.as_tensor(), gradient]
        .iter()
        .all(|x| x.device().is_cpu() && x.dtype() == DType::F32)
}

/// The sum of all squares, added block by block in their order.
pub(super) fn squares(x: &Tensor) -> Result<f64> {
    if !(x.device().is_cpu() && x.dtype() == DType::F32) {
        return Ok(f64::from(x.sqr()?.sum_all()?.to_scalar::<f32>()?));
    }
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        anyhow::bail!("not on a CPU")
    };
    let square = |block: &[f32]| block.iter().map(|x| x * x).sum::<f32>();
    let blocks: Vec<f32> = numbers(storage, layout)?
        .par_chunks(NUMBERS)
        .map(square)
        .collect();
    Ok(blocks.into_iter().map(f64::from).sum())
}

pub(super) fn step(slot: &mut Slot, gradient: &Tensor, step: Step) -> Result<()> {
    let gradient = gradient.detach().contiguous()?;
    let moment = |beta: f64, squared| Moment {
        scale: step.scale as f32,
        beta: beta as f32,
        squared,
    };
    slot.first.inplace_op2(&gradient, &moment(step.beta1, false))?;
    slot.second.inplace_op2(&gradient, &moment(step.beta2, true))?;
    slot.var
        .as_tensor()
        .inplace_op3(&slot.first, &slot.second, &Apply(step))?;
    Ok(())
}

/// m ← β m + (1 − β) g, or g² in the place of g; g is scaled first.
struct Moment {
    scale: f32,
    beta: f32,
    squared: bool,
}

impl InplaceOp2 for Moment {
    fn name(&self) -> &'static str {
        "moment"
    }

    fn cpu_fwd(
        &self,
        moment: &mut CpuStorage,
        moment_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> TensorResult<()> {
        let gradient = numbers(gradient, gradient_layout)?;
        let (beta, rest, scale) = (self.beta, 1.0 - self.beta, self.scale);
        numbers_mut(moment, moment_layout)?
            .par_chunks_mut(NUMBERS)
            .zip(gradient.par_chunks(NUMBERS))
            .for_each(|(moments, gradients)| {
                for (m, g) in moments.iter_mut().zip(gradients) {
                    let g = g * scale;
                    *m = beta * *m + rest * if self.squared { g * g } else { g };
                }
            });
        Ok(())
    }
}

struct Apply(Step);

impl InplaceOp3 for Apply {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(
        &self,
        weights: &mut CpuStorage,
        weights_layout: &Layout,
        first: &CpuStorage,
        first_layout: &Layout,
        second: &CpuStorage,
        second_layout: &Layout,
    ) -> TensorResult<()> {
        let (first, second) = (numbers(first, first_layout)?, numbers(second, second_layout)?);
        let step = self.0;
        let kept = (1.0 - step.rate * step.decay) as f32;
        let rate = (step.rate / step.correct1) as f32;
        let (correct, epsilon) = ((1.0 / step.correct2) as f32, step.epsilon as f32);
        numbers_mut(weights, weights_layout)?
            .par_chunks_mut(NUMBERS)
            .zip(first.par_chunks(NUMBERS).zip(second.par_chunks(NUMBERS)))
            .for_each(|(weights, (first, second))| {
                for (w, (m, v)) in weights.iter_mut().zip(first.iter().zip(second)) {
                    *w = kept * *w - rate * m / ((v * correct).sqrt() + epsilon);
                }
            });
        Ok(())
    }
}

fn numbers<'a>(storage: &'a CpuStorage, layout: &Layout) -> TensorResult<&'a [f32]> {
    let Some((from, to)) = layout.contiguous_offsets() else {
        bail!("not contiguous")
    };
    Ok(&storage.as_slice::<f32>()?[from..to])
}

fn numbers_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> TensorResult<&'a mut [f32]> {
    let (Some((from, to)), CpuStorage::F32(numbers)) = (layout.contiguous_offsets(), storage) else {
        bail!("not contiguous numbers of f32")
    };
    Ok(&mut numbers[from..to])
}
