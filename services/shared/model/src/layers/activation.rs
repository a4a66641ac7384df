//! The activation functions of feed-forward layers, and their slopes.

use candle_core::{Result, Tensor};

use super::Mode;
use crate::kernels::{self, exp};

/// Decides once which kind of activation it is, so that each loop is of one formula.
macro_rules! of_its_kind {
    ($self:ident, |$kind:ident| $work:expr) => {
        of_its_kind!($self, $kind, $work, Relu, GeluErf, GeluTanh, GeluQuick, Silu, Tanh)
    };
    ($self:ident, $kind:ident, $work:expr, $($name:ident),*) => {
        match $self {
            $(Self::$name => {
                let $kind = Self::$name;
                $work
            })*
        }
    };
}

#[inline(always)]
fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (exp(2.0 * x) + 1.0)
}

/// The activation functions that configurations name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    Relu,
    /// Exact, by the error function.
    GeluErf,
    /// The tanh approximation.
    GeluTanh,
    /// x · sigmoid(1.702 x)
    GeluQuick,
    Silu,
    Tanh,
}

impl Activation {
    pub(crate) fn parse(name: &str) -> std::result::Result<Self, String> {
        Ok(match name {
            "relu" => Self::Relu,
            "gelu" => Self::GeluErf,
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Self::GeluTanh,
            "quick_gelu" => Self::GeluQuick,
            "silu" | "swish" => Self::Silu,
            "tanh" => Self::Tanh,
            other => return Err(format!("activation {other:?} is not known")),
        })
    }

    pub(crate) fn forward(self, x: &Tensor, mode: Mode<'_>) -> Result<Tensor> {
        if mode.by_hand(x) {
            return kernels::activate(x, self);
        }
        match self {
            Self::Relu => x.relu(),
            Self::GeluErf => x.gelu_erf(),
            Self::GeluTanh => x.gelu(),
            Self::GeluQuick => x * candle_nn::ops::sigmoid(&(x * 1.702)?)?,
            Self::Silu => x.silu(),
            Self::Tanh => x.tanh(),
        }
    }

    /// x ← f(x)
    #[inline(always)]
    pub(crate) fn replace(self, block: &mut [f32]) {
        of_its_kind!(self, |kind| block
            .iter_mut()
            .for_each(|x| *x = kind.value_and_slope(*x).0));
    }

    /// g ← g·f′(x)
    #[inline(always)]
    pub(crate) fn scale_by_slope(self, g: &mut [f32], x: &[f32]) {
        of_its_kind!(self, |kind| g
            .iter_mut()
            .zip(x)
            .for_each(|(g, x)| *g *= kind.value_and_slope(*x).1));
    }

    /// f(x) and f′(x), each within 10⁻⁶.
    #[inline(always)]
    pub(crate) fn value_and_slope(self, x: f32) -> (f32, f32) {
        match self {
            Self::Relu => (x.max(0.0), if x > 0.0 { 1.0 } else { 0.0 }),
            Self::GeluErf => {
                // Φ by formula 7.1.26 of Abramowitz and Stegun, whose exponential is the one that the slope needs too.
                let bell = exp(-0.5 * x * x);
                let t = 1.0 / (1.0 + 0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2 * x.abs());
                let series = t
                    * (0.254_829_6
                        + t * (-0.284_496_74 + t * (1.421_413_7 + t * (-1.453_152 + t * 1.061_405_4))));
                let tail = 0.5 * series * bell;
                let below = if x < 0.0 { tail } else { 1.0 - tail };
                (x * below, below + x * bell * 0.398_942_3)
            }
            Self::GeluTanh => {
                const ROOT: f32 = 0.797_884_6;
                let cube = 0.044_715 * x * x;
                let t = tanh(ROOT * x * (1.0 + cube));
                (
                    0.5 * x * (1.0 + t),
                    0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * ROOT * (1.0 + 3.0 * cube),
                )
            }
            Self::GeluQuick => {
                let s = 1.0 / (1.0 + exp(-1.702 * x));
                (x * s, s + 1.702 * x * s * (1.0 - s))
            }
            Self::Silu => {
                let s = 1.0 / (1.0 + exp(-x));
                (x * s, s + x * s * (1.0 - s))
            }
            Self::Tanh => {
                let t = tanh(x);
                (t, 1.0 - t * t)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn values_and_slopes_are_those_of_the_general_operations() {
        let all = [
            Activation::Relu,
            Activation::GeluErf,
            Activation::GeluTanh,
            Activation::GeluQuick,
            Activation::Silu,
            Activation::Tanh,
        ];
        let xs: Vec<f64> = (-600..600).map(|i| f64::from(i) / 90.0 + 1e-3).collect();
        for activation in all {
            let var = candle_core::Var::new(xs.as_slice(), &Device::Cpu).unwrap();
            let y = activation.forward(&var, Mode::Serve).unwrap();
            let gradients = y.sum_all().unwrap().backward().unwrap();
            let (y, slope) = (
                y.to_vec1::<f64>().unwrap(),
                gradients.get(&var).unwrap().to_vec1::<f64>().unwrap(),
            );
            for (i, x) in xs.iter().enumerate() {
                let (value, by_hand) = activation.value_and_slope(*x as f32);
                assert!(
                    (f64::from(value) - y[i]).abs() < 2e-6,
                    "{activation:?}({x}) = {value}, not {}",
                    y[i]
                );
                assert!(
                    (f64::from(by_hand) - slope[i]).abs() < 2e-6,
                    "{activation:?}'({x}) = {by_hand}, not {}",
                    slope[i]
                );
            }
        }
    }
}
