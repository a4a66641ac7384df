//! What a decoder remembers of its own words.

use candle_core::Tensor;

use super::{COLUMNS_MIN, Geometry, KeyValue, next_name};
use crate::error::Error;
use crate::model::Model;

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

/// Positions that an [`OwnKv`] holds memory for once it has had so many rows of at most so many tokens.
pub fn own_room(rows: usize, tokens: usize) -> usize {
    let (rows, columns) = (rows.next_power_of_two(), own_columns(tokens));
    rows.saturating_mul(columns)
}

/// Room for so many tokens of a row.
pub(crate) fn own_columns(tokens: usize) -> usize {
    tokens.next_power_of_two().max(COLUMNS_MIN)
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
            match moved.as_slice() {
                [] => {}
                [(to, from)] => self.copy_row(*from, *to, columns)?,
                _ => self.gather(rows)?,
            }
        }
        self.lengths = rows.iter().map(|row| self.lengths[*row]).collect();
        self.fresh = rows.iter().map(|row| self.fresh[*row]).collect();
        Ok(())
    }

    fn copy_row(&self, from: usize, to: usize, columns: usize) -> Result<(), Error> {
        for buffer in self.layers.iter().flat_map(|layer| [&layer.k, &layer.v]) {
            let row = buffer.narrow(0, from, 1)?.narrow(2, 0, columns)?;
            let row = row.force_contiguous()?; // [1, heads, columns, head_dim]
            buffer.narrow(0, to, 1)?.slice_set(&row, 2, 0)?;
        }
        Ok(())
    }

    /// New row `i` is old row `rows[i]`, in two operations a buffer however many rows move: beams do at every step, and a GPU
    /// would be told of each copy of each layer.
    fn gather(&self, rows: &[usize]) -> Result<(), Error> {
        // A fresh row holds nothing yet, and may have no memory of its own: what is put in its place is wiped before it counts.
        let source = |row: usize| if self.fresh[row] { 0 } else { row as u32 };
        let from: Vec<u32> = rows.iter().map(|row| source(*row)).collect();
        let from = Tensor::from_vec(from, rows.len(), &self.geometry.device)?;
        for buffer in self.layers.iter().flat_map(|layer| [&layer.k, &layer.v]) {
            // All sources are read before any target is written.
            let gathered = buffer.index_select(&from, 0)?; // [rows, heads, capacity, head_dim]
            buffer.slice_set(&gathered, 0, 0)?;
        }
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
