//! Attention: over a model's own words and over its encoder's, and which rows read which memory.

use candle_core::{Device, Result, Tensor};
use candle_nn::VarBuilder;

use super::{Linear, Maps, Mode, Site};

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

impl AttentionShape {
    fn inward(&self, which: usize, vb: &VarBuilder) -> Result<Linear> {
        let inner = self.heads * self.head_dim;
        Linear::new(self.width, inner, self.bias, &vb.pp(self.names[which]))
    }
}

/// Words that look at one another: queries, keys and values are of the same input.
#[derive(Clone, Debug)]
pub(crate) struct SelfAttention {
    /// Query, key, value.
    maps: Maps,
    heads: Heads,
}

impl SelfAttention {
    pub(crate) fn new(shape: AttentionShape, vb: &VarBuilder) -> Result<Self> {
        let maps = (0..3).map(|i| shape.inward(i, vb)).collect::<Result<_>>()?;
        Ok(Self {
            maps: Maps::new(maps),
            heads: Heads::new(shape, vb)?,
        })
    }

    /// For a model whose weights no longer change.
    pub(crate) fn join(&mut self) -> Result<()> {
        if self.heads.scales_exactly() {
            self.maps
                .scale_first(std::mem::replace(&mut self.heads.scale, 1.0))?;
        }
        self.maps.join()
    }

    /// `[b, t, width]` to `[b, t, heads·head_dim]`, to be mapped by [`SelfAttention::outer`]. `remember` is given the keys and
    /// values of `x`, each `[b, heads, t, head_dim]` and contiguous, and says what is read.
    pub(crate) fn forward<'a>(
        &self,
        x: &Tensor,
        mode: Mode<'_>,
        remember: impl FnOnce((Tensor, Tensor)) -> Result<Memory<'a>>,
    ) -> Result<Tensor> {
        let projected = self.maps.forward(x, mode)?;
        let [q, k, v] = projected.as_slice() else {
            candle_core::bail!("this is a bug: an attention has three maps");
        };
        let memory = remember((self.heads.split(k)?, self.heads.split(v)?))?;
        self.heads.answer(q, &memory, mode)
    }

    pub(crate) fn outer(&self) -> &Linear {
        &self.heads.outer
    }
}

/// Words that look at an encoder's: keys and values come from elsewhere, once for all.
#[derive(Clone, Debug)]
pub(crate) struct CrossAttention {
    q: Linear,
    /// Key, value.
    maps: Maps,
    heads: Heads,
}

impl CrossAttention {
    pub(crate) fn new(shape: AttentionShape, vb: &VarBuilder) -> Result<Self> {
        Ok(Self {
            q: shape.inward(0, vb)?,
            maps: Maps::new(vec![shape.inward(1, vb)?, shape.inward(2, vb)?]),
            heads: Heads::new(shape, vb)?,
        })
    }

    /// For a model whose weights no longer change.
    pub(crate) fn join(&mut self) -> Result<()> {
        if self.heads.scales_exactly() {
            self.q = self.q.scaled(std::mem::replace(&mut self.heads.scale, 1.0))?;
        }
        self.maps.join()
    }

    /// Keys and values of the encoder's words `[b, s, width]`: each `[b, heads, s, head_dim]`, contiguous.
    pub(crate) fn keys_values(&self, encoded: &Tensor, mode: Mode<'_>) -> Result<(Tensor, Tensor)> {
        match self.maps.forward(encoded, mode)?.as_slice() {
            [k, v] => Ok((self.heads.split(k)?, self.heads.split(v)?)),
            _ => candle_core::bail!("this is a bug: keys and values are two maps"),
        }
    }

    /// `[b, t, width]` to `[b, t, heads·head_dim]`, to be mapped by [`CrossAttention::outer`].
    pub(crate) fn forward(&self, x: &Tensor, memory: &Memory<'_>, mode: Mode<'_>) -> Result<Tensor> {
        self.heads.answer(&self.q.forward(x, mode)?, memory, mode)
    }

    pub(crate) fn outer(&self) -> &Linear {
        &self.heads.outer
    }
}

/// What queries make of a memory, and the map of it.
#[derive(Clone, Debug)]
struct Heads {
    outer: Linear,
    heads: usize,
    scale: f64,
}

impl Heads {
    fn new(shape: AttentionShape, vb: &VarBuilder) -> Result<Self> {
        let inner = shape.heads * shape.head_dim;
        Ok(Self {
            outer: Linear::new(inner, shape.width, shape.bias, &vb.pp(shape.names[3]))?,
            heads: shape.heads,
            scale: shape.scale,
        })
    }

    /// Whether queries may be scaled by their weights, to the bit: heads 16, 64 or 256 wide.
    fn scales_exactly(&self) -> bool {
        self.scale != 1.0 && self.scale.log2().fract() == 0.0
    }

    /// Queries `[b, t, heads·head_dim]` over a memory: what they find, of the same shape.
    fn answer(&self, q: &Tensor, memory: &Memory<'_>, mode: Mode<'_>) -> Result<Tensor> {
        let mut q = q.clone();
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
        match memory.sharing {
            Some(sharing) => sharing.collect(&mixed, t), // [rows, t, heads·head_dim]
            None => Ok(mixed),
        }
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
        if in_reading_order(memory_of, each) && memory_of.len() == memories * each {
            return Ok(Self::in_order(memories, each));
        }
        let (row_at, place_of) = reading_order(memory_of, memories, each);
        let row_at = Tensor::from_vec(row_at, memories * each, device)?;
        let place_of = Tensor::from_vec(place_of, memory_of.len(), device)?;
        Ok(Self::ordered(memories, each, row_at, place_of))
    }

    /// Row r reads memory r / each.
    pub(crate) fn in_order(memories: usize, each: usize) -> Self {
        Self {
            memories,
            each,
            order: None,
        }
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

/// Whether every row r reads memory r / each.
pub(crate) fn in_reading_order(memory_of: &[usize], each: usize) -> bool {
    let mut places = memory_of.iter().enumerate();
    places.all(|(row, memory)| *memory == row / each)
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
