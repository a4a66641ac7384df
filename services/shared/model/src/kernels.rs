//! The costly steps of training with their gradients written by hand, for f32 on a CPU.
//!
//! Composed from general operations, a softmax or a norm costs a dozen passes over memory forward and two dozen back, most
//! of them broadcasts; here each is one pass. Sums over rows are taken in blocks of fixed size and joined in order, so
//! that results do not depend on the number of threads. Loops are compiled for the vector instructions that the processor
//! has (`wide`), sums in lanes of a fixed number, so that results do not depend on those either.

mod lanes;

use std::sync::Arc;

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Storage, Tensor, bail,
};
use rayon::prelude::*;

pub(crate) use self::lanes::exp;
use self::lanes::{exp_sum, maximum, sum, sum_of, wide};
use crate::layers::Activation;

/// Rows of one block of work.
const ROWS: usize = 128;
/// Numbers of one block of work where there are no rows.
const NUMBERS: usize = 16_384;

/// Whether these kernels can take a tensor.
pub(crate) fn fit(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// Softmax over the last dimension of `scores` `[b, h, t, s]` + `bias` + `mask`, each broadcast from 1s but for `s`.
pub(crate) fn softmax(scores: &Tensor, bias: &Tensor, mask: &Tensor) -> Result<Tensor> {
    scores
        .contiguous()?
        .apply_op3(&bias.contiguous()?, &mask.contiguous()?, Softmax)
}

pub(crate) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    x.contiguous()?.apply_op3(weight, bias, LayerNorm { eps })
}

pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    x.contiguous()?.apply_op2(weight, RmsNorm { eps })
}

/// `[rows, n]` + `[n]`
pub(crate) fn add_bias(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2(bias, AddBias)
}

pub(crate) fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Activate(activation))
}

/// Multiplies by numbers that are not learnt.
pub(crate) fn scale_each(x: &Tensor, factors: Vec<f32>) -> Result<Tensor> {
    x.contiguous()?.apply_op1(ScaleEach(factors.into()))
}

/// Mean cross-entropy of `[n, vocab]` with `n` targets, a scalar.
pub(crate) fn cross_entropy(logits: &Tensor, targets: Vec<u32>, smoothing: f32) -> Result<Tensor> {
    logits
        .contiguous()?
        .apply_op1(CrossEntropy { targets, smoothing })
}

struct Softmax;
struct LayerNorm {
    eps: f32,
}
struct RmsNorm {
    eps: f32,
}
struct AddBias;
struct Activate(Activation);
struct ScaleEach(Arc<[f32]>);
struct CrossEntropy {
    targets: Vec<u32>,
    smoothing: f32,
}

/// Which row of a broadcast `[b|1, h|1, t|1, s]` belongs to row `r` of `[b, h, t, s]`.
#[derive(Clone, Copy)]
struct Rows {
    h: usize,
    t: usize,
    by: [usize; 3],
}

impl Rows {
    fn new(of: &[usize], scores: &[usize]) -> Result<Self> {
        let ([b, h, t, s], [fb, fh, ft, fs]) = (of, scores) else {
            bail!("softmax takes four dimensions")
        };
        if s != fs
            || [(b, fb), (h, fh), (t, ft)]
                .iter()
                .any(|(n, full)| **n != 1 && n != full)
        {
            bail!("a bias of {of:?} does not fit scores of {scores:?}");
        }
        let step = |n: usize, width: usize| if n == 1 { 0 } else { width };
        Ok(Self {
            h: *fh,
            t: *ft,
            by: [step(*b, h * t), step(*h, *t), step(*t, 1)],
        })
    }

    fn of(self, r: usize) -> usize {
        (r / (self.h * self.t)) * self.by[0] + (r / self.t % self.h) * self.by[1] + r % self.t * self.by[2]
    }
}

impl CustomOp3 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(
        &self,
        scores: &CpuStorage,
        scores_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
        mask: &CpuStorage,
        mask_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let dims = scores_layout.dims();
        let (bias_rows, mask_rows) = (
            Rows::new(bias_layout.dims(), dims)?,
            Rows::new(mask_layout.dims(), dims)?,
        );
        let s = dims[3];
        let mut y = numbers(scores, scores_layout)?.to_vec();
        let (bias, mask) = (numbers(bias, bias_layout)?, numbers(mask, mask_layout)?);
        y.par_chunks_mut(s * ROWS).enumerate().for_each(|(block, rows)| {
            wide(|| {
                for (i, row) in rows.chunks_mut(s).enumerate() {
                    let r = block * ROWS + i;
                    let bias = &bias[bias_rows.of(r) * s..][..s];
                    let mask = &mask[mask_rows.of(r) * s..][..s];
                    for ((x, b), m) in row.iter_mut().zip(bias).zip(mask) {
                        *x += b + m;
                    }
                    let max = maximum(row);
                    row.iter_mut().for_each(|x| *x = exp(*x - max));
                    let scale = 1.0 / sum(row);
                    row.iter_mut().for_each(|x| *x *= scale);
                }
            });
        });
        Ok((CpuStorage::F32(y), scores_layout.shape().clone()))
    }

    fn bwd(
        &self,
        scores: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let s = scores.dim(3)?;
        let bias_rows = Rows::new(bias.dims(), scores.dims())?;
        let mut gradient = vec![0_f32; scores.elem_count()];
        with(y, |y| {
            with(g, |g| {
                gradient
                    .par_chunks_mut(s * ROWS)
                    .zip(y.par_chunks(s * ROWS).zip(g.par_chunks(s * ROWS)))
                    .for_each(|(out, (y, g))| {
                        wide(|| {
                            for (out, (y, g)) in out.chunks_mut(s).zip(y.chunks(s).zip(g.chunks(s))) {
                                let dot = sum_of(y, g, |y, g| y * g);
                                for (out, (y, g)) in out.iter_mut().zip(y.iter().zip(g)) {
                                    *out = y * (g - dot);
                                }
                            }
                        });
                    });
            })
        })??;
        let mut of_bias = vec![0_f32; bias.elem_count()];
        wide(|| {
            for (r, row) in gradient.chunks(s).enumerate() {
                let out = &mut of_bias[bias_rows.of(r) * s..][..s];
                out.iter_mut().zip(row).for_each(|(out, x)| *out += x);
            }
        });
        let gradient = Tensor::from_vec(gradient, scores.shape(), scores.device())?;
        Ok((
            Some(gradient),
            Some(Tensor::from_vec(of_bias, bias.shape(), bias.device())?),
            None,
        ))
    }
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let mut y = numbers(x, layout)?.to_vec();
        let (weight, bias) = (numbers(weight, weight_layout)?, numbers(bias, bias_layout)?);
        let n = weight.len();
        y.par_chunks_mut(n * ROWS).for_each(|rows| {
            wide(|| {
                for row in rows.chunks_mut(n) {
                    let (mean, scale) = self.moments(row);
                    for ((x, w), b) in row.iter_mut().zip(weight).zip(bias) {
                        *x = (*x - mean) * scale * w + b;
                    }
                }
            });
        });
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let n = weight.elem_count();
        let mut dx = vec![0_f32; x.elem_count()];
        let sums = norm_backward(x, weight, g, &mut dx, |x, w, g, dx, dw, db| {
            let (mean, scale) = self.moments(x);
            // dx holds g·w until both sums are known.
            for ((((x, w), g), dx), (dw, db)) in x
                .iter()
                .zip(w)
                .zip(g)
                .zip(dx.iter_mut())
                .zip(dw.iter_mut().zip(db))
            {
                *dx = g * w;
                *dw += g * (x - mean) * scale;
                *db += g;
            }
            let dot = sum_of(dx, x, |gw, x| gw * (x - mean) * scale) / n as f32;
            let mean_gw = sum(dx) / n as f32;
            for (dx, x) in dx.iter_mut().zip(x) {
                *dx = scale * (*dx - mean_gw - (x - mean) * scale * dot);
            }
        })?;
        let device = x.device();
        let (dw, db) = sums.split_at(n);
        Ok((
            Some(Tensor::from_vec(dx, x.shape(), device)?),
            Some(Tensor::from_slice(dw, n, device)?),
            Some(Tensor::from_slice(db, n, device)?),
        ))
    }
}

impl LayerNorm {
    /// Mean, and one over the standard deviation.
    #[inline(always)]
    fn moments(&self, row: &[f32]) -> (f32, f32) {
        let n = row.len() as f32;
        let mean = sum(row) / n;
        let variance = sum_of(row, row, |x, _| (x - mean) * (x - mean)) / n;
        (mean, 1.0 / (variance + self.eps).sqrt())
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let mut y = numbers(x, layout)?.to_vec();
        let weight = numbers(weight, weight_layout)?;
        let n = weight.len();
        y.par_chunks_mut(n * ROWS).for_each(|rows| {
            wide(|| {
                for row in rows.chunks_mut(n) {
                    let scale = self.scale(row);
                    row.iter_mut().zip(weight).for_each(|(x, w)| *x *= scale * w);
                }
            });
        });
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let n = weight.elem_count();
        let mut dx = vec![0_f32; x.elem_count()];
        let sums = norm_backward(x, weight, g, &mut dx, |x, w, g, dx, dw, _| {
            let scale = self.scale(x);
            for ((((x, w), g), dx), dw) in x.iter().zip(w).zip(g).zip(dx.iter_mut()).zip(dw) {
                *dx = g * w;
                *dw += g * x * scale;
            }
            let dot = sum_of(dx, x, |gw, x| gw * x * scale) / n as f32;
            for (dx, x) in dx.iter_mut().zip(x) {
                *dx = scale * (*dx - x * scale * dot);
            }
        })?;
        let dw = Tensor::from_slice(&sums[..n], n, x.device())?;
        Ok((Some(Tensor::from_vec(dx, x.shape(), x.device())?), Some(dw)))
    }
}

impl RmsNorm {
    #[inline(always)]
    fn scale(&self, row: &[f32]) -> f32 {
        let mean_square = sum_of(row, row, |x, y| x * y) / row.len() as f32;
        1.0 / (mean_square + self.eps).sqrt()
    }
}

/// Runs `each(x, weight, g, dx, dw, db)` on every row; gives the sums of `dw` and `db`, one after the other.
fn norm_backward(
    x: &Tensor,
    weight: &Tensor,
    g: &Tensor,
    dx: &mut [f32],
    each: impl Fn(&[f32], &[f32], &[f32], &mut [f32], &mut [f32], &mut [f32]) + Sync,
) -> Result<Vec<f32>> {
    let n = weight.elem_count();
    with(x, |x| {
        with(weight, |weight| {
            with(g, |g| {
                let blocks: Vec<Vec<f32>> = dx
                    .par_chunks_mut(n * ROWS)
                    .zip(x.par_chunks(n * ROWS).zip(g.par_chunks(n * ROWS)))
                    .map(|(dx, (x, g))| {
                        let mut sums = vec![0_f32; 2 * n];
                        let (dw, db) = sums.split_at_mut(n);
                        wide(|| {
                            for (dx, (x, g)) in dx.chunks_mut(n).zip(x.chunks(n).zip(g.chunks(n))) {
                                each(x, weight, g, dx, dw, db);
                            }
                        });
                        sums
                    })
                    .collect();
                joined(&blocks, 2 * n)
            })
        })
    })??
}

impl CustomOp2 for AddBias {
    fn name(&self) -> &'static str {
        "add-bias"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let mut y = numbers(x, layout)?.to_vec();
        let bias = numbers(bias, bias_layout)?;
        y.par_chunks_mut(bias.len() * ROWS).for_each(|rows| {
            wide(|| {
                for row in rows.chunks_mut(bias.len()) {
                    row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
                }
            });
        });
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(
        &self,
        _: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let n = bias.elem_count();
        let sums = with(g, |g| {
            let blocks: Vec<Vec<f32>> = g
                .par_chunks(n * ROWS)
                .map(|rows| {
                    let mut sums = vec![0_f32; n];
                    wide(|| {
                        for row in rows.chunks(n) {
                            sums.iter_mut().zip(row).for_each(|(sum, g)| *sum += g);
                        }
                    });
                    sums
                })
                .collect();
            joined(&blocks, n)
        })?;
        Ok((Some(g.clone()), Some(Tensor::from_vec(sums, n, g.device())?)))
    }
}

impl CustomOp1 for Activate {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut y = numbers(x, layout)?.to_vec();
        y.par_chunks_mut(NUMBERS)
            .for_each(|block| wide(|| self.0.replace(block)));
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let mut dx = with(g, <[f32]>::to_vec)?;
        with(x, |x| {
            dx.par_chunks_mut(NUMBERS)
                .zip(x.par_chunks(NUMBERS))
                .for_each(|(dx, x)| wide(|| self.0.scale_by_slope(dx, x)));
        })?;
        Tensor::from_vec(dx, x.shape(), x.device()).map(Some)
    }
}

impl CustomOp1 for ScaleEach {
    fn name(&self) -> &'static str {
        "scale-each"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = numbers(x, layout)?
            .iter()
            .zip(self.0.iter())
            .map(|(x, f)| x * f)
            .collect();
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let dx: Vec<f32> = with(g, |g| g.iter().zip(self.0.iter()).map(|(g, f)| g * f).collect())?;
        Tensor::from_vec(dx, x.shape(), x.device()).map(Some)
    }
}

impl CrossEntropy {
    /// The row's maximum, and the logarithm of the sum of exponentials above it.
    #[inline(always)]
    fn normaliser(row: &[f32]) -> (f32, f32) {
        let max = maximum(row);
        (max, exp_sum(row, max).ln())
    }
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let vocab = layout.dims()[1];
        let losses: Vec<f64> = numbers(logits, layout)?
            .par_chunks(vocab)
            .zip(&self.targets)
            .map(|(row, target)| {
                let ((max, log_sum), total) = wide(|| (Self::normaliser(row), sum(row)));
                let right = max + log_sum - row[*target as usize];
                let even = if self.smoothing == 0.0 {
                    0.0
                } else {
                    max + log_sum - total / vocab as f32
                };
                f64::from((1.0 - self.smoothing) * right + self.smoothing * even)
            })
            .collect();
        let mean = losses.iter().sum::<f64>() / losses.len() as f64;
        Ok((CpuStorage::F32(vec![mean as f32]), Shape::from(())))
    }

    fn bwd(&self, logits: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let vocab = logits.dim(1)?;
        let share = g.to_scalar::<f32>()? / self.targets.len() as f32;
        let even = self.smoothing / vocab as f32;
        let mut gradient = with(logits, <[f32]>::to_vec)?;
        gradient
            .par_chunks_mut(vocab)
            .zip(&self.targets)
            .for_each(|(row, target)| {
                wide(|| {
                    let (max, log_sum) = Self::normaliser(row);
                    let base = max + log_sum;
                    row.iter_mut().for_each(|x| *x = share * (exp(*x - base) - even));
                });
                row[*target as usize] -= share * (1.0 - self.smoothing);
            });
        Tensor::from_vec(gradient, logits.shape(), logits.device()).map(Some)
    }
}

/// Blocks' sums, added in order.
fn joined(blocks: &[Vec<f32>], n: usize) -> Vec<f32> {
    let mut sums = vec![0_f32; n];
    for block in blocks {
        sums.iter_mut().zip(block).for_each(|(sum, x)| *sum += x);
    }
    sums
}

fn numbers<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((from, to)) = layout.contiguous_offsets() else {
        bail!("not contiguous")
    };
    Ok(&storage.as_slice::<f32>()?[from..to])
}

/// Lends a tensor's numbers.
fn with<R>(x: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    match &*storage {
        Storage::Cpu(cpu) => Ok(f(numbers(cpu, layout)?)),
        _ => bail!("not on a CPU"),
    }
}
