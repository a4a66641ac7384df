//! What T5 and BART share: linear maps, norms, attention, activations, masks, and the two modes of running them.
//!
//! Serving uses fused kernels that have no gradient; training composes the same functions from operations that have
//! one. Both run through the same modules.

use std::cell::RefCell;

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::kernels::{self, exp};

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
}

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

/// The four projections of an attention, by the names that its checkpoint gives them.
#[derive(Clone, Debug)]
pub(crate) struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    heads: usize,
    scale: f64,
}

/// Sizes and names of an attention.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionShape {
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) bias: bool,
    /// What scores are multiplied by.
    pub(crate) scale: f64,
    /// Checkpoint names of query, key, value and output.
    pub(crate) names: [&'static str; 4],
}

impl Attention {
    pub(crate) fn new(shape: AttentionShape, vb: &VarBuilder) -> Result<Self> {
        let inner = shape.heads * shape.head_dim;
        let into = |name: &str| Linear::new(shape.width, inner, shape.bias, &vb.pp(name));
        Ok(Self {
            q: into(shape.names[0])?,
            k: into(shape.names[1])?,
            v: into(shape.names[2])?,
            o: Linear::new(inner, shape.width, shape.bias, &vb.pp(shape.names[3]))?,
            heads: shape.heads,
            scale: shape.scale,
        })
    }

    /// Keys and values of `x` `[b, s, width]`: each `[b, heads, s, head_dim]`, contiguous.
    pub(crate) fn keys_values(&self, x: &Tensor, mode: Mode<'_>) -> Result<(Tensor, Tensor)> {
        Ok((
            self.split(&self.k.forward(x, mode)?)?,
            self.split(&self.v.forward(x, mode)?)?,
        ))
    }

    /// Queries from `x` `[b, t, width]` over the given memory; `[b, t, width]`.
    pub(crate) fn forward(&self, x: &Tensor, memory: &Memory<'_>, mode: Mode<'_>) -> Result<Tensor> {
        let mut q = self.q.forward(x, mode)?; // [b, t, heads·head_dim]
        if self.scale != 1.0 {
            q = (q * self.scale)?;
        }
        let t = q.dim(1)?;
        if let Some(sharing) = memory.sharing {
            q = sharing.spread(&q)?; // [memories, each·t, heads·head_dim]
        }
        let scores = self.split(&q)?.matmul(&memory.k.t()?)?; // [b, heads, t, s]
        let weights = mode.softmax(&scores, memory.bias.as_ref(), memory.mask.as_ref())?;
        let weights = mode.drop(weights, Site::Attention)?;
        let mixed = weights.matmul(&memory.v)?.transpose(1, 2)?.flatten_from(2)?; // [b, t, heads·head_dim]
        let mixed = match memory.sharing {
            Some(sharing) => sharing.collect(&mixed, t)?, // [rows, t, heads·head_dim]
            None => mixed,
        };
        self.o.forward(&mixed, mode)
    }

    /// `[b, t, heads·head_dim]` to `[b, heads, t, head_dim]`
    fn split(&self, x: &Tensor) -> Result<Tensor> {
        let (b, t, inner) = x.dims3()?;
        x.reshape((b, t, self.heads, inner / self.heads))?
            .transpose(1, 2)?
            .contiguous()
    }
}

/// What an attention reads: keys and values `[b, heads, s, head_dim]`, and what is added to the scores.
#[derive(Debug)]
pub(crate) struct Memory<'a> {
    pub(crate) k: Tensor,
    pub(crate) v: Tensor,
    /// Learnt bias of positions, broadcast to `[b, heads, t, s]`.
    pub(crate) bias: Option<Tensor>,
    /// 0 or −∞, broadcast alike.
    pub(crate) mask: Option<Tensor>,
    /// Where several rows read one memory.
    pub(crate) sharing: Option<&'a Sharing>,
}

/// Which rows read which memory, so that beams of a sequence share its keys and values.
///
/// Every memory is given equally many query rows, by repeating some where it has fewer readers than others.
#[derive(Clone, Debug)]
pub(crate) struct Sharing {
    memories: usize,
    each: usize,
    /// Absent where row r reads memory r / each.
    order: Option<Order>,
}

#[derive(Clone, Debug)]
struct Order {
    /// `[memories·each]`: the row at each place.
    row_at: Tensor,
    /// `[rows]`: the place of each row.
    place_of: Tensor,
}

impl Sharing {
    /// `memory_of[row]`, with every memory below `memories` read at least once.
    pub(crate) fn new(memory_of: &[usize], memories: usize, device: &Device) -> Result<Self> {
        let each = readers_each(memory_of, memories);
        if memory_of
            .iter()
            .enumerate()
            .all(|(row, memory)| *memory == row / each)
            && memory_of.len() == memories * each
        {
            return Ok(Self {
                memories,
                each,
                order: None,
            });
        }
        let (row_at, place_of) = reading_order(memory_of, memories, each);
        let row_at = Tensor::from_vec(row_at, memories * each, device)?;
        let place_of = Tensor::from_vec(place_of, memory_of.len(), device)?;
        Ok(Self::ordered(memories, each, row_at, place_of))
    }

    /// From tensors as [`reading_order`] numbers them, which may be written anew from step to step.
    pub(crate) fn ordered(memories: usize, each: usize, row_at: Tensor, place_of: Tensor) -> Self {
        Self {
            memories,
            each,
            order: Some(Order { row_at, place_of }),
        }
    }

    /// `[rows, t, n]` to `[memories, each·t, n]`
    fn spread(&self, x: &Tensor) -> Result<Tensor> {
        let (_, t, n) = x.dims3()?;
        let x = match &self.order {
            Some(order) => x.index_select(&order.row_at, 0)?, // [memories·each, t, n]
            None => x.clone(),
        };
        x.reshape((self.memories, self.each * t, n))
    }

    /// `[memories, each·t, n]` back to `[rows, t, n]`
    fn collect(&self, x: &Tensor, t: usize) -> Result<Tensor> {
        let n = x.dim(2)?;
        let x = x.reshape((self.memories * self.each, t, n))?;
        match &self.order {
            Some(order) => x.index_select(&order.place_of, 0),
            None => Ok(x),
        }
    }
}

/// Readers of the memory that has most.
pub(crate) fn readers_each(memory_of: &[usize], memories: usize) -> usize {
    let mut readers = vec![0; memories];
    for memory in memory_of {
        readers[*memory] += 1;
    }
    readers.into_iter().max().unwrap_or(1)
}

/// The row at each of `memories·each` places, by memory, some repeated; and each row's place. A memory without readers is given
/// row 0.
pub(crate) fn reading_order(memory_of: &[usize], memories: usize, each: usize) -> (Vec<u32>, Vec<u32>) {
    let mut readers: Vec<Vec<u32>> = vec![Vec::new(); memories];
    for (row, memory) in memory_of.iter().enumerate() {
        readers[*memory].push(row as u32);
    }
    let mut row_at = Vec::with_capacity(memories * each);
    let mut place_of = vec![0_u32; memory_of.len()];
    for rows in &readers {
        for i in 0..each {
            if let Some(row) = rows.get(i) {
                place_of[*row as usize] = row_at.len() as u32;
            }
            row_at.push(rows.get(i).or(rows.first()).copied().unwrap_or(0));
        }
    }
    (row_at, place_of)
}

/// Rows of `table` `[n, width]` for ids `[b, t]`: `[b, t, width]`.
pub(crate) fn embed(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let (b, t) = ids.dims2()?;
    let ids = ids.flatten_all()?;
    let rows = if table.track_op() && table.dtype() != DType::F32 {
        // Mixed precision: a frequent id's gradient is a sum of many.
        let rows = table.to_dtype(DType::F32)?.index_select(&ids, 0)?;
        rows.to_dtype(table.dtype())?
    } else {
        table.index_select(&ids, 0)?
    };
    rows.reshape((b, t, table.dim(1)?))
}

/// Ragged ids as `[sequences, longest]`, filled with `pad`.
pub(crate) fn padded(ids: &[&[u32]], pad: u32, device: &Device) -> Result<Tensor> {
    let longest = ids.iter().map(|s| s.len()).max().unwrap_or(0);
    let mut flat = Vec::with_capacity(ids.len() * longest);
    for sequence in ids {
        flat.extend_from_slice(sequence);
        flat.resize(flat.len() + longest - sequence.len(), pad);
    }
    Tensor::from_vec(flat, (ids.len(), longest), device)
}

/// `[b, 1, 1, longest]`: 0 where there is a token, −∞ where there is padding; nothing if all are equally long.
pub(crate) fn padding_mask(lengths: &[usize], longest: usize, device: &Device) -> Result<Option<Tensor>> {
    if lengths.iter().all(|n| *n == longest) {
        return Ok(None);
    }
    let mut mask = vec![0_f32; lengths.len() * longest];
    for (row, n) in mask.chunks_mut(longest).zip(lengths) {
        row[*n..].fill(f32::NEG_INFINITY);
    }
    Tensor::from_vec(mask, (lengths.len(), 1, 1, longest), device).map(Some)
}

/// The ages for which numbers of position are computed: one where all rows are equally old, else each row's.
pub(crate) fn planes(ages: &[usize]) -> &[usize] {
    let same = ages.windows(2).all(|pair| pair[0] == pair[1]);
    if same { &ages[..ages.len().min(1)] } else { ages }
}

/// `value(query position, column)` for each of `t` new tokens of each plane and each of `columns` columns: `[planes, t,
/// columns]`.
///
/// A row's tokens lie in columns 0.., so its column is also its position.
pub(crate) fn over_columns<T>(
    planes: &[usize],
    t: usize,
    columns: usize,
    mut value: impl FnMut(usize, usize) -> T,
) -> Vec<T> {
    let mut values = Vec::with_capacity(planes.len() * t * columns);
    for age in planes {
        for i in 0..t {
            values.extend((0..columns).map(|column| value(age + i, column)));
        }
    }
    values
}

/// `[planes, 1, t, columns]`: 0, or −∞ for columns after a query's own; nothing where no column is.
pub(crate) fn causal_mask(planes: &[usize], t: usize, columns: usize) -> Option<Vec<f32>> {
    if t == 1 && planes.iter().all(|age| age + 1 == columns) {
        return None;
    }
    Some(over_columns(planes, t, columns, |position, column| {
        if column > position { f32::NEG_INFINITY } else { 0.0 }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

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
