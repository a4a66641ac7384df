//! Decode state: what a decode step is given and what it leaves behind.
//!
//! Two kinds of memory with two lives. [`Cross`] is written once by the encoder and read by all beams of its sequence;
//! [`OwnKv`] grows by one position a step, and beams copy and reorder its rows. Every row's tokens lie in columns 0.. of
//! its own, so rows of any age stand side by side, a row's column is its position, and forgetting is a shorter length.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::{DType, Device, Tensor};

use crate::error::Error;
use crate::layers::{Memory, Sharing, padding_mask, readers_each};
use crate::model::Model;

/// What the encoder says of a batch of sequences.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// `[sequences, longest, width]`; rows past a sequence's length are meaningless.
    pub hidden: Tensor,
    pub lengths: Vec<usize>,
}

/// Keys and values of one decoder layer.
#[derive(Clone, Debug)]
pub(crate) struct KeyValue {
    pub(crate) k: Tensor,
    pub(crate) v: Tensor,
}

/// Cross-attention keys and values of one sequence, all decoder layers, without padding. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cross {
    /// Unique in the process; clones share it.
    id: u64,
    len: usize,
    /// Each `[1, heads, len, head_dim]`.
    layers: Arc<Vec<KeyValue>>,
}

impl Cross {
    pub(crate) fn new(layers: Vec<KeyValue>, len: usize) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            len,
            layers: Arc::new(layers),
        }
    }

    /// Source tokens.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        self.layers
            .iter()
            .map(|l| tensor_bytes(&l.k) + tensor_bytes(&l.v))
            .sum()
    }
}

/// Sizes that all decode state of a model shares.
#[derive(Clone, Debug)]
pub(crate) struct Geometry {
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) dtype: DType,
    pub(crate) device: Device,
}

impl Geometry {
    /// Zeros `[rows, heads, columns, head_dim]` for every layer.
    fn allocate(&self, rows: usize, columns: usize) -> Result<Vec<KeyValue>, Error> {
        let zeros = || {
            Tensor::zeros(
                (rows, self.heads, columns, self.head_dim),
                self.dtype,
                &self.device,
            )
        };
        (0..self.layers)
            .map(|_| {
                Ok(KeyValue {
                    k: zeros()?,
                    v: zeros()?,
                })
            })
            .collect()
    }

    pub(crate) fn bytes(&self, rows: usize, columns: usize) -> usize {
        2 * self.layers * rows * self.heads * columns * self.head_dim * self.dtype.size_in_bytes()
    }
}

/// Columns of a new memory.
const COLUMNS_MIN: usize = 32;

/// Room for so many source tokens: at most a quarter too much from 128 on, so that few sizes serve all prompts.
fn source_columns(tokens: usize) -> usize {
    tokens.next_multiple_of((tokens.next_power_of_two() / 8).max(COLUMNS_MIN))
}

/// Positions that an [`OwnKv`] holds memory for once it has had so many rows of at most so many tokens.
pub fn own_room(rows: usize, tokens: usize) -> usize {
    let (rows, columns) = (rows.next_power_of_two(), own_columns(tokens));
    rows.saturating_mul(columns)
}

/// Positions that a [`CrossBatch`] holds memory for once it has had so many sources of at most so many tokens.
pub fn source_room(sources: usize, tokens: usize) -> usize {
    sources.next_power_of_two().saturating_mul(source_columns(tokens))
}

/// Room for so many tokens of a row.
pub(crate) fn own_columns(tokens: usize) -> usize {
    tokens.next_power_of_two().max(COLUMNS_MIN)
}

/// Self-attention keys and values of rows of different ages.
///
/// One buffer a layer, `[rows, heads, columns, head_dim]`, both dimensions powers of two that double when full; a step writes
/// each layer once, in place.
#[derive(Debug)]
pub struct OwnKv {
    geometry: Geometry,
    layers: Vec<KeyValue>,
    rows_capacity: usize,
    columns_capacity: usize,
    lengths: Vec<usize>,
    /// Rows pushed since the last step, whose place may still hold another sequence's numbers.
    fresh: Vec<bool>,
    /// Columns that have ever been written.
    columns_written: usize,
    /// Which buffers these are; others after growing. 0: none yet.
    buffer: u64,
}

/// How one step writes and reads: made once, used by every layer.
#[derive(Debug)]
pub(crate) struct Append {
    rows: usize,
    /// Columns that are read: all that hold something after the step, or more.
    pub(crate) columns: usize,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// All rows are equally old.
    Column(usize),
    /// `[rows, heads, t, head_dim]`: the column of every number.
    Scattered(Tensor),
}

/// A number that the process gives once: tells a buffer from another that came to lie in its place, a gathering from the one before.
fn next_name() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl OwnKv {
    pub fn empty(model: &Model) -> Self {
        Self {
            geometry: model.geometry(),
            layers: Vec::new(),
            rows_capacity: 0,
            columns_capacity: 0,
            lengths: Vec::new(),
            fresh: Vec::new(),
            columns_written: 0,
            buffer: 0,
        }
    }

    pub fn rows(&self) -> usize {
        self.lengths.len()
    }

    /// Tokens that each row has seen.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// A new sequence, of length 0, as the last row.
    pub fn push_row(&mut self) {
        self.lengths.push(0);
        self.fresh.push(true);
    }

    /// Keeps, repeats and reorders rows: new row `i` is old row `rows[i]`. Beams, and sequences that leave.
    ///
    /// Rows that stay where they are cost nothing.
    pub fn select(&mut self, rows: &[usize]) -> Result<(), Error> {
        if let Some(row) = rows.iter().find(|row| **row >= self.rows()) {
            return Err(Error::input(
                "rows",
                format!("row {row} does not exist; there are {}", self.rows()),
            ));
        }
        self.reserve(rows.len(), self.columns_capacity)?;
        let moved: Vec<(usize, usize)> = rows
            .iter()
            .copied()
            .enumerate()
            .filter(|(to, from)| to != from && !self.fresh[*from])
            .collect();
        let columns = self.columns_written;
        if columns > 0 {
            for layer in &self.layers {
                for buffer in [&layer.k, &layer.v] {
                    // All sources are read before any target is written.
                    let copies = moved
                        .iter()
                        .map(|(_, from)| {
                            buffer
                                .narrow(0, *from, 1)?
                                .narrow(2, 0, columns)?
                                .force_contiguous()
                        })
                        .collect::<Result<Vec<_>, _>>()?; // each [1, heads, columns, head_dim]
                    for ((to, _), copy) in moved.iter().zip(&copies) {
                        buffer.narrow(0, *to, 1)?.slice_set(copy, 2, 0)?;
                    }
                }
            }
        }
        self.lengths = rows.iter().map(|row| self.lengths[*row]).collect();
        self.fresh = rows.iter().map(|row| self.fresh[*row]).collect();
        Ok(())
    }

    /// Forgets a row's tokens from `len` on (a draft that was not accepted).
    pub fn truncate(&mut self, row: usize, len: usize) {
        self.lengths[row] = self.lengths[row].min(len);
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        self.geometry.bytes(self.rows_capacity, self.columns_capacity)
    }

    fn longest(&self) -> usize {
        self.lengths.iter().copied().max().unwrap_or(0)
    }

    /// Makes room for `t` more tokens a row and says where they go.
    pub(crate) fn begin(&mut self, t: usize) -> Result<Append, Error> {
        let rows = self.rows();
        let columns = self.longest() + t;
        self.reserve(rows, columns)?;
        self.wipe_fresh()?;
        self.columns_written = self.columns_written.max(columns);
        let first = self.lengths.first().copied().unwrap_or(0);
        let place = if self.lengths.iter().all(|n| *n == first) {
            Place::Column(first)
        } else {
            let places: Vec<u32> = self
                .lengths
                .iter()
                .flat_map(|age| (0..t).map(move |i| (age + i) as u32))
                .collect();
            self.scattered(&Tensor::from_vec(places, (rows, t), &self.geometry.device)?)?
        };
        Ok(Append { rows, columns, place })
    }

    /// The same for one more token of each row, in a step of a fixed shape: `rows` and `columns` are at least what is needed, and
    /// rows past the real ones write to their column 0, which the next sequence there wipes.
    pub(crate) fn begin_fixed(&mut self, rows: usize, columns: usize) -> Result<(), Error> {
        self.reserve(rows, columns)?;
        self.wipe_fresh()?;
        self.columns_written = self.columns_written.max(self.longest() + 1);
        Ok(())
    }

    /// How a step of a fixed shape writes, after [`OwnKv::begin_fixed`]: `places` `[rows, 1]` are the columns.
    pub(crate) fn fixed(&self, places: &Tensor, columns: usize) -> candle_core::Result<Append> {
        Ok(Append {
            rows: places.dim(0)?,
            columns,
            place: self.scattered(places)?,
        })
    }

    /// Columns `[rows, t]` for every number of a layer's keys.
    fn scattered(&self, places: &Tensor) -> candle_core::Result<Place> {
        let (rows, t) = places.dims2()?;
        let each = places.reshape((rows, 1, t, 1))?.broadcast_as((
            rows,
            self.geometry.heads,
            t,
            self.geometry.head_dim,
        ))?;
        Ok(Place::Scattered(each.contiguous()?))
    }

    /// Which buffers a step reads and writes; they stay where they are as long as it says the same.
    pub(crate) fn buffer(&self) -> u64 {
        self.buffer
    }

    /// Writes a layer's new keys and values `[rows, heads, t, head_dim]`; returns all of them, `[rows, heads, columns,
    /// head_dim]`, as views.
    pub(crate) fn append(
        &self,
        to: &Append,
        layer: usize,
        new: (Tensor, Tensor),
    ) -> candle_core::Result<(Tensor, Tensor)> {
        let layer = &self.layers[layer];
        let write = |buffer: &Tensor, new: &Tensor| {
            let live = buffer.narrow(0, 0, to.rows)?;
            match &to.place {
                Place::Column(column) => live.slice_set(new, 2, *column)?,
                Place::Scattered(index) => live.scatter_set(index, new, 2)?,
            }
            live.narrow(2, 0, to.columns)
        };
        Ok((write(&layer.k, &new.0)?, write(&layer.v, &new.1)?))
    }

    /// The step is done: row `i` has `counts[i]` more tokens.
    pub(crate) fn finish(&mut self, counts: impl Iterator<Item = usize>) {
        for (length, count) in self.lengths.iter_mut().zip(counts) {
            *length += count;
        }
    }

    fn reserve(&mut self, rows: usize, columns: usize) -> Result<(), Error> {
        if rows <= self.rows_capacity && columns <= self.columns_capacity {
            return Ok(());
        }
        let rows_capacity = self.rows_capacity.max(rows.next_power_of_two());
        let columns_capacity = self.columns_capacity.max(own_columns(columns));
        let g = &self.geometry;
        let shape = (rows_capacity, g.heads, columns_capacity, g.head_dim);
        let kept = self.columns_written;
        let grown = |old: Option<&Tensor>| {
            let new = Tensor::zeros(shape, g.dtype, &g.device)?;
            if let Some(old) = old.filter(|_| kept > 0) {
                // What an allocation that failed half-way has left may be larger.
                let old = old.narrow(0, 0, self.rows_capacity)?;
                let copy = old.narrow(2, 0, kept)?.force_contiguous()?; // [old rows, heads, kept, head_dim]
                new.narrow(0, 0, self.rows_capacity)?.slice_set(&copy, 2, 0)?;
            }
            Ok::<_, candle_core::Error>(new)
        };
        // A layer at a time, so that old and new are never there together.
        let held = self.rows_capacity > 0;
        for at in 0..g.layers {
            let old = held.then(|| self.layers[at].clone());
            let new = KeyValue {
                k: grown(old.as_ref().map(|l| &l.k))?,
                v: grown(old.as_ref().map(|l| &l.v))?,
            };
            match self.layers.get_mut(at) {
                Some(layer) => *layer = new,
                None => self.layers.push(new),
            }
        }
        self.buffer = next_name();
        self.rows_capacity = rows_capacity;
        self.columns_capacity = columns_capacity;
        Ok(())
    }

    /// Masked columns are multiplied by zero, and zero times NaN is NaN: what a faulty sequence left must not stay.
    fn wipe_fresh(&mut self) -> Result<(), Error> {
        if self.columns_written > 0 && self.fresh.contains(&true) {
            let g = &self.geometry;
            let zeros = Tensor::zeros((1, g.heads, self.columns_written, g.head_dim), g.dtype, &g.device)?;
            for (row, _) in self.fresh.iter().enumerate().filter(|(_, fresh)| **fresh) {
                for layer in &self.layers {
                    layer.k.narrow(0, row, 1)?.slice_set(&zeros, 2, 0)?;
                    layer.v.narrow(0, row, 1)?.slice_set(&zeros, 2, 0)?;
                }
            }
        }
        self.fresh.fill(false);
        Ok(())
    }
}

/// Cross memory of the rows of a step, padded to the longest. Rows of one sequence (its beams) read one copy.
#[derive(Debug)]
pub struct CrossBatch {
    geometry: Geometry,
    layers: Vec<KeyValue>,
    memories_capacity: usize,
    columns_capacity: usize,
    /// The `Cross` at each place, and its length.
    places: Vec<(u64, usize)>,
    /// The place that each row reads.
    memory_of: Vec<usize>,
    /// Source tokens of the longest.
    columns: usize,
    mask: Option<Tensor>,
    sharing: Sharing,
    /// As [`OwnKv::buffer`].
    buffer: u64,
    /// Distinct for every gathering: who has copied what rows read need not look again.
    version: u64,
}

impl CrossBatch {
    /// Row `i` reads `rows[i]`; clones of the same `Cross` are held once.
    pub fn gather(model: &Model, rows: &[&Cross]) -> Result<Self, Error> {
        let geometry = model.geometry();
        let sharing = Sharing::new(&[], 0, &geometry.device)?;
        let mut batch = Self {
            geometry,
            layers: Vec::new(),
            memories_capacity: 0,
            columns_capacity: 0,
            places: Vec::new(),
            memory_of: Vec::new(),
            columns: 0,
            mask: None,
            sharing,
            buffer: 0,
            version: 0,
        };
        batch.regather(rows)?;
        Ok(batch)
    }

    /// The same as a new `gather`, but sequences that stay are not copied again.
    pub fn regather(&mut self, rows: &[&Cross]) -> Result<(), Error> {
        // Whatever fails on the way leaves an empty batch.
        self.memory_of.clear();
        // The distinct sequences, in order of first appearance.
        let mut wanted: Vec<&Cross> = Vec::new();
        let mut seen: HashMap<u64, usize> = HashMap::new();
        for cross in rows {
            if cross.layers.len() != self.geometry.layers {
                return Err(Error::input("cross", "it was made by another model"));
            }
            seen.entry(cross.id).or_insert_with(|| {
                wanted.push(cross);
                wanted.len() - 1
            });
        }
        let columns = wanted.iter().map(|c| c.len).max().unwrap_or(0);
        self.reserve(wanted.len(), columns)?;

        // Those that lie below the new count stay; the others fill the gaps.
        let mut places: Vec<Option<(u64, usize)>> = vec![None; wanted.len()];
        for (place, held) in places.iter_mut().zip(&std::mem::take(&mut self.places)) {
            if seen.contains_key(&held.0) {
                *place = Some(*held);
            }
        }
        let mut place_of: HashMap<u64, usize> = places
            .iter()
            .enumerate()
            .filter_map(|(i, held)| held.map(|(id, _)| (id, i)))
            .collect();
        let mut gap = 0;
        for cross in wanted {
            if place_of.contains_key(&cross.id) {
                continue;
            }
            while places[gap].is_some() {
                gap += 1;
            }
            self.write(gap, cross)?;
            places[gap] = Some((cross.id, cross.len));
            place_of.insert(cross.id, gap);
        }
        self.places = places.into_iter().flatten().collect();

        let lengths: Vec<usize> = self.places.iter().map(|(_, len)| *len).collect();
        let memory_of: Vec<usize> = rows.iter().map(|cross| place_of[&cross.id]).collect();
        self.mask = padding_mask(&lengths, columns, &self.geometry.device)?;
        self.sharing = Sharing::new(&memory_of, lengths.len(), &self.geometry.device)?;
        self.columns = columns;
        self.memory_of = memory_of;
        self.version = next_name();
        Ok(())
    }

    pub fn rows(&self) -> usize {
        self.memory_of.len()
    }

    pub(crate) fn buffer(&self) -> u64 {
        self.buffer
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The place that each row reads.
    pub(crate) fn memory_of(&self) -> &[usize] {
        &self.memory_of
    }

    /// Source tokens at each place.
    pub(crate) fn source_lengths(&self) -> impl Iterator<Item = usize> {
        self.places.iter().map(|(_, len)| *len)
    }

    /// Memories, columns and readers of each memory that a step of a fixed shape reads: at least what is needed, at most what
    /// there is room for.
    pub(crate) fn fixed_shape(&self) -> (usize, usize, usize) {
        let memories = self.places.len();
        (
            memories.next_power_of_two().min(self.memories_capacity),
            source_columns(self.columns).min(self.columns_capacity),
            readers_each(&self.memory_of, memories),
        )
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        self.geometry.bytes(self.memories_capacity, self.columns_capacity)
    }

    /// What a layer's cross-attention reads.
    pub(crate) fn memory(&self, layer: usize) -> candle_core::Result<Memory<'_>> {
        let (memories, columns) = (self.places.len(), self.columns);
        self.read(layer, memories, columns, self.mask.clone(), &self.sharing)
    }

    /// The same for given sizes, mask and readers.
    pub(crate) fn read<'a>(
        &self,
        layer: usize,
        memories: usize,
        columns: usize,
        mask: Option<Tensor>,
        sharing: &'a Sharing,
    ) -> candle_core::Result<Memory<'a>> {
        let live = |x: &Tensor| x.narrow(0, 0, memories)?.narrow(2, 0, columns);
        let layer = &self.layers[layer];
        Ok(Memory {
            k: live(&layer.k)?,
            v: live(&layer.v)?,
            bias: None,
            mask,
            sharing: Some(sharing),
        })
    }

    /// Copies a sequence to its place, and zeros what follows it there.
    fn write(&self, place: usize, cross: &Cross) -> Result<(), Error> {
        let g = &self.geometry;
        let rest = self.columns_capacity - cross.len;
        let zeros = Tensor::zeros((1, g.heads, rest, g.head_dim), g.dtype, &g.device)?;
        for (layer, from) in self.layers.iter().zip(cross.layers.iter()) {
            for (buffer, from) in [(&layer.k, &from.k), (&layer.v, &from.v)] {
                let target = buffer.narrow(0, place, 1)?; // [1, heads, capacity, head_dim]
                target.slice_set(from, 2, 0)?;
                if rest > 0 {
                    target.slice_set(&zeros, 2, cross.len)?;
                }
            }
        }
        Ok(())
    }

    fn reserve(&mut self, memories: usize, columns: usize) -> Result<(), Error> {
        if memories <= self.memories_capacity && columns <= self.columns_capacity {
            return Ok(());
        }
        let memories = self.memories_capacity.max(memories.next_power_of_two());
        let columns = self.columns_capacity.max(source_columns(columns));
        // All are written anew; the old go first.
        (self.memories_capacity, self.columns_capacity) = (0, 0);
        self.layers.clear();
        self.layers = self.geometry.allocate(memories, columns)?;
        (self.memories_capacity, self.columns_capacity) = (memories, columns);
        self.buffer = next_name();
        self.places.clear();
        Ok(())
    }
}

fn tensor_bytes(x: &Tensor) -> usize {
    x.elem_count() * x.dtype().size_in_bytes()
}
