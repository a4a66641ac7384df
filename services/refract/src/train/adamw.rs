//! AdamW with decoupled weight decay (Loshchilov & Hutter 2019), gradient clipping by global norm, and moments that can
//! be saved: a resumed run continues as if it had never stopped. candle's own optimiser keeps its moments to itself.

mod fused;

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};

/// Hyper-parameters that do not change during a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Hyper {
    pub(crate) beta1: f64,
    pub(crate) beta2: f64,
    pub(crate) epsilon: f64,
    /// Applied to matrices only; biases, norms and gates are left alone.
    pub(crate) weight_decay: f64,
    /// Gradients are scaled down to this global norm.
    pub(crate) clip_norm: f64,
}

impl Default for Hyper {
    fn default() -> Self {
        // Decay, clip: as in the paper's code (0.01, 1.0); betas as usual for transformers.
        Self {
            beta1: 0.9,
            beta2: 0.98,
            epsilon: 1e-8,
            weight_decay: 0.01,
            clip_norm: 1.0,
        }
    }
}

/// What one step does to one variable.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// Of the gradient, by clipping.
    scale: f64,
    beta1: f64,
    beta2: f64,
    correct1: f64,
    correct2: f64,
    epsilon: f64,
    rate: f64,
    decay: f64,
}

struct Slot {
    name: String,
    var: Var,
    first: Tensor,
    second: Tensor,
}

/// The optimiser's state: two moments for each variable and the step count.
pub(crate) struct AdamW {
    slots: Vec<Slot>,
    hyper: Hyper,
    steps: usize,
}

impl AdamW {
    /// Variables are taken in the order of their names, so that runs repeat.
    pub(crate) fn new(mut vars: Vec<(String, Var)>, hyper: Hyper) -> Result<Self> {
        vars.sort_by(|a, b| a.0.cmp(&b.0));
        let slots = vars
            .into_iter()
            .map(|(name, var)| {
                Ok(Slot {
                    first: var.zeros_like()?,
                    second: var.zeros_like()?,
                    name,
                    var,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            slots,
            hyper,
            steps: 0,
        })
    }

    /// One step at `rate`; returns the gradients' global norm before clipping.
    pub(crate) fn step(&mut self, gradients: &GradStore, rate: f64) -> Result<f64> {
        let Hyper {
            beta1,
            beta2,
            epsilon,
            weight_decay,
            clip_norm,
        } = self.hyper;
        let mut squares = 0f64;
        for slot in &self.slots {
            if let Some(gradient) = gradients.get(&slot.var) {
                squares += fused::squares(gradient)?;
            }
        }
        let norm = squares.sqrt();
        anyhow::ensure!(
            norm.is_finite(),
            "the gradient is not finite: lower --learning-rate"
        );
        let scale = if norm > clip_norm { clip_norm / norm } else { 1.0 };

        self.steps += 1;
        let correct1 = 1.0 - beta1.powi(self.steps as i32);
        let correct2 = 1.0 - beta2.powi(self.steps as i32);
        for slot in &mut self.slots {
            let Some(gradient) = gradients.get(&slot.var) else {
                continue;
            };
            let decay = if slot.var.rank() > 1 { weight_decay } else { 0.0 };
            let step = Step {
                scale,
                beta1,
                beta2,
                correct1,
                correct2,
                epsilon,
                rate,
                decay,
            };
            if fused::fits(&slot.var, gradient) {
                fused::step(slot, gradient, step)?;
            } else {
                general(slot, gradient, step)?;
            }
        }
        Ok(norm)
    }

    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let mut tensors = HashMap::new();
        for slot in &self.slots {
            tensors.insert(format!("first.{}", slot.name), slot.first.clone());
            tensors.insert(format!("second.{}", slot.name), slot.second.clone());
        }
        tensors.insert("steps".into(), Tensor::new(&[self.steps as u32], &Device::Cpu)?);
        candle_core::safetensors::save(&tensors, path).with_context(|| format!("writing {}", path.display()))
    }

    pub(crate) fn load(&mut self, path: &Path) -> Result<()> {
        let tensors = candle_core::safetensors::load(path, &Device::Cpu)
            .with_context(|| format!("reading {}", path.display()))?;
        let get = |name: String| {
            tensors
                .get(&name)
                .cloned()
                .with_context(|| format!("{}: {name} is missing", path.display()))
        };
        for slot in &mut self.slots {
            slot.first = get(format!("first.{}", slot.name))?.to_device(slot.var.device())?;
            slot.second = get(format!("second.{}", slot.name))?.to_device(slot.var.device())?;
        }
        self.steps = get("steps".into())?.to_vec1::<u32>()?[0] as usize;
        Ok(())
    }
}

/// One step in candle's operations, on any device.
fn general(slot: &mut Slot, gradient: &Tensor, step: Step) -> Result<()> {
    let gradient = (gradient.detach() * step.scale)?;
    slot.first = ((&slot.first * step.beta1)? + (&gradient * (1.0 - step.beta1))?)?;
    slot.second = ((&slot.second * step.beta2)? + (gradient.sqr()? * (1.0 - step.beta2))?)?;
    let update =
        ((&slot.first / step.correct1)? / ((&slot.second / step.correct2)?.sqrt()? + step.epsilon)?)?;
    let kept = (slot.var.as_tensor().detach() * (1.0 - step.rate * step.decay))?;
    slot.var.set(&(kept - (update * step.rate)?)?)?;
    Ok(())
}

/// Linear warm-up to the peak, then linear decay to a tenth of it at the end.
pub(crate) fn rate_at(step: usize, steps: usize, warm_up: usize, peak: f64) -> f64 {
    if step < warm_up {
        return peak * (step + 1) as f64 / warm_up as f64;
    }
    let left = steps.saturating_sub(step) as f64 / steps.saturating_sub(warm_up).max(1) as f64;
    peak * (0.1 + 0.9 * left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_to_its_peak_and_decays_to_a_tenth() {
        assert!((rate_at(0, 100, 10, 1.0) - 0.1).abs() < 1e-12);
        assert!((rate_at(9, 100, 10, 1.0) - 1.0).abs() < 1e-12);
        assert!((rate_at(100, 100, 10, 1.0) - 0.1).abs() < 1e-12);
    }

    #[test]
    fn in_place_and_by_operations_are_the_same_steps() -> Result<()> {
        let slot = || -> Result<Slot> {
            let var = Var::from_tensor(&Tensor::arange(0f32, 60_000.0, &Device::Cpu)?.reshape((200, 300))?)?;
            Ok(Slot {
                name: "w".into(),
                first: var.zeros_like()?,
                second: var.zeros_like()?,
                var,
            })
        };
        let (mut by_hand, mut by_operations) = (slot()?, slot()?);
        for n in 1..20 {
            // Not contiguous, as gradients of products are.
            let gradient = (Tensor::arange(0f32, 60_000.0, &Device::Cpu)?
                .reshape((300, 200))?
                .t()?
                * 1e-4)?;
            let gradient = (gradient.sin()? * f64::from(n))?.t()?.contiguous()?.t()?;
            let (beta1, beta2) = (0.9, 0.98);
            let step = Step {
                scale: 0.5,
                beta1,
                beta2,
                correct1: 1.0 - beta1.powi(n),
                correct2: 1.0 - beta2.powi(n),
                epsilon: 1e-8,
                rate: 0.1,
                decay: 0.01,
            };
            assert!(fused::fits(&by_hand.var, &gradient));
            fused::step(&mut by_hand, &gradient, step)?;
            general(&mut by_operations, &gradient, step)?;
            let squares = f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
            assert!((fused::squares(&gradient)? / squares - 1.0).abs() < 1e-4);
        }
        for of in [|s: &Slot| s.var.as_tensor().clone(), |s: &Slot| s.second.clone()] {
            let (a, b) = (of(&by_hand), of(&by_operations));
            let apart = (&a - &b)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
            let size = b.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
            assert!(apart < 1e-5 * size, "{apart} of {size}");
        }
        Ok(())
    }

    #[test]
    fn it_finds_the_minimum_of_a_bowl_and_resumes_bit_for_bit() -> Result<()> {
        let target = Tensor::new(&[[1.0f32, -2.0], [0.5, 3.0]], &Device::Cpu)?;
        let hyper = Hyper {
            weight_decay: 0.0,
            ..Hyper::default()
        };
        let run = |split: Option<usize>| -> Result<Vec<f32>> {
            let mut var = Var::zeros((2, 2), candle_core::DType::F32, &Device::Cpu)?;
            let mut adam = AdamW::new(vec![("w".into(), var.clone())], hyper)?;
            let folder = tempfile::tempdir()?;
            for step in 0..400 {
                if split == Some(step) {
                    let path = folder.path().join("adam.safetensors");
                    adam.save(&path)?;
                    var = Var::from_tensor(&var.as_tensor().copy()?)?;
                    adam = AdamW::new(vec![("w".into(), var.clone())], hyper)?;
                    adam.load(&path)?;
                }
                let loss = (var.as_tensor() - &target)?.sqr()?.sum_all()?;
                adam.step(&loss.backward()?, 0.05)?;
            }
            Ok(var.as_tensor().flatten_all()?.to_vec1()?)
        };
        let straight = run(None)?;
        for (found, wanted) in straight.iter().zip([1.0, -2.0, 0.5, 3.0]) {
            assert!((found - wanted).abs() < 0.05, "{straight:?}");
        }
        assert_eq!(straight, run(Some(150))?);
        Ok(())
    }
}
