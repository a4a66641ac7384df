//! Linear maps, alone and several of one input.

use candle_core::{DType, Result, Tensor};
use candle_nn::VarBuilder;

use super::{Mode, Site};
use crate::kernels;

/// y = x Wᵀ + b, computed in the type of W.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    /// `[out, in]`
    weight: Tensor,
    /// `[out]`
    bias: Option<Tensor>,
}

impl Linear {
    pub(crate) fn new(inputs: usize, outputs: usize, bias: bool, vb: &VarBuilder) -> Result<Self> {
        let weight = vb.get((outputs, inputs), "weight")?;
        let bias = if bias {
            Some(vb.get(outputs, "bias")?)
        } else {
            None
        };
        Ok(Self { weight, bias })
    }

    /// Another module's embedding table as an output projection.
    pub(crate) fn tied(weight: Tensor) -> Self {
        Self { weight, bias: None }
    }

    /// The same map, its output scaled by `factor`, a power of two: no number is rounded.
    pub(crate) fn scaled(&self, factor: f64) -> Result<Self> {
        Ok(Self {
            weight: (&self.weight * factor)?,
            bias: self.bias.as_ref().map(|bias| bias * factor).transpose()?,
        })
    }

    /// `[.., in]` to `[.., out]`
    pub(crate) fn forward(&self, x: &Tensor, mode: Mode<'_>) -> Result<Tensor> {
        let x = x.to_dtype(self.weight.dtype())?;
        let (outputs, inputs) = self.weight.dims2()?;
        let mut shape = x.dims().to_vec();
        let rows = x.elem_count() / inputs;
        let y = x.reshape((rows, inputs))?.matmul(&self.weight.t()?)?; // [rows, out]
        let y = match &self.bias {
            Some(bias) if mode.by_hand(&y) => kernels::add_bias(&y, bias)?,
            // The bias's gradient is a sum over all rows.
            Some(bias) if mode.widens(&y) => y
                .to_dtype(DType::F32)?
                .broadcast_add(&bias.to_dtype(DType::F32)?)?
                .to_dtype(y.dtype())?,
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        };
        if let Some(last) = shape.last_mut() {
            *last = outputs;
        }
        y.reshape(shape) // [.., out]
    }

    /// x + W h + b, for `h` `[.., in]` and `x` `[.., out]`, which nobody else holds: a GPU that serves adds the product where x lies.
    pub(crate) fn add_to(&self, x: Tensor, h: &Tensor, mode: Mode<'_>) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if let (Mode::Serve, candle_core::Device::Cuda(_)) = (mode, x.device()) {
            let h = h.to_dtype(self.weight.dtype())?.contiguous()?;
            x.inplace_op3(&h, &self.weight, &refract_kernel::gpu::AddProduct)?;
            return match &self.bias {
                Some(bias) => x.broadcast_add(bias),
                None => Ok(x),
            };
        }
        let y = self.forward(h, mode)?.to_dtype(x.dtype())?;
        x + mode.drop(y, Site::Hidden)?
    }
}

/// Maps of one input. [`Maps::join`]ed, they are one product of a GPU instead of several.
#[derive(Clone, Debug)]
pub(crate) struct Maps {
    each: Vec<Linear>,
    joined: Option<Joined>,
}

/// Weights of equal shape, one behind the other.
#[derive(Clone, Debug)]
struct Joined {
    /// `[maps, in, out]`, transposed
    weight: Tensor,
    /// `[maps, 1, out]`
    bias: Option<Tensor>,
}

impl Maps {
    pub(crate) fn new(each: Vec<Linear>) -> Self {
        Self { each, joined: None }
    }

    /// Scales what the first says, as [`Linear::scaled`].
    pub(crate) fn scale_first(&mut self, factor: f64) -> Result<()> {
        if let Some(first) = self.each.first_mut() {
            *first = first.scaled(factor)?;
        }
        Ok(())
    }

    /// Lays the weights of maps of equal shape together, for a model whose weights no longer change; each map is a view of
    /// them from then on, so they are held once.
    pub(crate) fn join(&mut self) -> Result<()> {
        let shape = |map: &Linear| (map.weight.dims().to_vec(), map.weight.dtype(), map.bias.is_some());
        if self.each.len() < 2
            || self
                .each
                .windows(2)
                .any(|pair| shape(&pair[0]) != shape(&pair[1]))
        {
            return Ok(());
        }
        let weights: Vec<&Tensor> = self.each.iter().map(|map| &map.weight).collect();
        let weight = Tensor::stack(&weights, 0)?; // [maps, out, in]
        let biases: Vec<&Tensor> = self.each.iter().filter_map(|map| map.bias.as_ref()).collect();
        let bias = if biases.is_empty() {
            None
        } else {
            Some(Tensor::stack(&biases, 0)?.unsqueeze(1)?) // [maps, 1, out]
        };
        for (i, map) in self.each.iter_mut().enumerate() {
            map.weight = weight.get(i)?;
        }
        self.joined = Some(Joined {
            weight: weight.transpose(1, 2)?,
            bias,
        });
        Ok(())
    }

    /// `[.., in]` to `[.., out]`, of each map in turn.
    pub(crate) fn forward(&self, x: &Tensor, mode: Mode<'_>) -> Result<Vec<Tensor>> {
        let (Some(joined), Mode::Serve) = (&self.joined, mode) else {
            return self.each.iter().map(|map| map.forward(x, mode)).collect();
        };
        let x = x.to_dtype(joined.weight.dtype())?;
        let (maps, inputs, outputs) = joined.weight.dims3()?;
        let rows = x.elem_count() / inputs;
        let mut shape = x.dims().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = outputs;
        }
        let repeated = x.reshape((1, rows, inputs))?.broadcast_as((maps, rows, inputs))?;
        let mut y = repeated.matmul(&joined.weight)?; // [maps, rows, out]
        if let Some(bias) = &joined.bias {
            y = y.broadcast_add(bias)?;
        }
        (0..maps).map(|i| y.get(i)?.reshape(shape.as_slice())).collect()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::layers::embed;

    #[test]
    fn in_mixed_precision_sums_over_many_rows_do_not_stop_growing() {
        const ROWS: usize = 4_000;
        let mode = Mode::Train(None);
        let half = |var: &candle_core::Var| var.as_tensor().to_dtype(DType::BF16).unwrap();
        let ones = |shape: (usize, usize)| {
            candle_core::Var::from_tensor(&Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap()).unwrap()
        };
        let (weight, bias, table) = (ones((1, 1)), ones((1, 1)), ones((3, 1)));
        let linear = Linear {
            weight: half(&weight),
            bias: Some(half(&bias).flatten_all().unwrap()),
        };
        let ids = Tensor::ones((1, ROWS), DType::U32, &Device::Cpu).unwrap();
        let x = embed(&half(&table), &ids).unwrap();
        let y = linear.forward(&x, mode).unwrap();
        let gradients = y
            .to_dtype(DType::F32)
            .unwrap()
            .sum_all()
            .unwrap()
            .backward()
            .unwrap();
        for (name, var, row) in [("bias", &bias, 0), ("table", &table, 1)] {
            let gradient = gradients.get(var).unwrap().to_vec2::<f32>().unwrap();
            // 4,000 in 8 bits of mantissa is 4,000 ± 8.
            assert!(
                (gradient[row][0] - ROWS as f32).abs() <= 16.0,
                "{name}: {gradient:?}"
            );
        }
    }
}
