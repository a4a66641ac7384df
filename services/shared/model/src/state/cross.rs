//! What a decoder reads of its encoder's words.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::Tensor;

use super::{COLUMNS_MIN, Geometry, KeyValue, next_name};
use crate::error::Error;
use crate::layers::{Memory, Mode, Sharing, padding_mask, readers_each};
use crate::model::Model;

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
        let mask = padding_mask(&lengths, columns, &self.geometry.device)?;
        self.mask = Mode::Serve.added(mask.as_ref(), self.geometry.dtype)?;
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

/// Positions that a [`CrossBatch`] holds memory for once it has had so many sources of at most so many tokens.
pub fn source_room(sources: usize, tokens: usize) -> usize {
    sources.next_power_of_two().saturating_mul(source_columns(tokens))
}

/// Room for so many source tokens: at most a quarter too much from 128 on, so that few sizes serve all prompts.
fn source_columns(tokens: usize) -> usize {
    tokens.next_multiple_of((tokens.next_power_of_two() / 8).max(COLUMNS_MIN))
}

fn tensor_bytes(x: &Tensor) -> usize {
    x.elem_count() * x.dtype().size_in_bytes()
}
