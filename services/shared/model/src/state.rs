//! Decode state: what a decode step is given and what it leaves behind.

use candle_core::Tensor;

use crate::error::Error;
use crate::model::Model;

/// What the encoder says of a batch of sequences.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// `[sequences, longest, width]`; rows past a sequence's length are meaningless.
    pub hidden: Tensor,
    pub lengths: Vec<usize>,
}

/// Cross-attention keys and values of one sequence, all decoder layers, without padding. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cross {
    len: usize,
}

impl Cross {
    /// Source tokens.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn bytes(&self) -> usize {
        0
    }
}

/// Self-attention keys and values of rows of different ages.
#[derive(Debug)]
pub struct OwnKv {
    lengths: Vec<usize>,
}

impl OwnKv {
    pub fn empty(model: &Model) -> Self {
        let _ = model;
        Self { lengths: Vec::new() }
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
    }

    /// Keeps, repeats and reorders rows: new row `i` is old row `rows[i]`. Beams, and sequences that leave.
    pub fn select(&mut self, rows: &[usize]) -> Result<(), Error> {
        let _ = rows;
        Err(Error::input("rows", "under construction"))
    }

    /// Forgets a row's tokens from `len` on (a draft that was not accepted).
    pub fn truncate(&mut self, row: usize, len: usize) {
        self.lengths[row] = self.lengths[row].min(len);
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        0
    }
}

/// Cross memory of the rows of a step. Rows of one sequence (its beams) share one copy.
#[derive(Debug)]
pub struct CrossBatch {
    rows: usize,
}

impl CrossBatch {
    /// Row `i` reads `rows[i]`; clones of the same `Cross` are held once.
    pub fn gather(model: &Model, rows: &[&Cross]) -> Result<Self, Error> {
        let _ = model;
        Ok(Self { rows: rows.len() })
    }

    /// The same as a new `gather`, but sequences that stay are not copied again.
    pub fn regather(&mut self, rows: &[&Cross]) -> Result<(), Error> {
        self.rows = rows.len();
        Ok(())
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn bytes(&self) -> usize {
        0
    }
}
