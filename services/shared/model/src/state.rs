//! Decode state: what a decode step is given and what it leaves behind.
//!
//! Two kinds of memory with two lives. [`Cross`] is written once by the encoder and read by all beams of its sequence;
//! [`OwnKv`] grows by one position a step, and beams copy and reorder its rows. Every row's tokens lie in columns 0.. of
//! its own, so rows of any age stand side by side, a row's column is its position, and forgetting is a shorter length.

use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::{DType, Device, Tensor};

use crate::error::Error;

mod cross;
mod own;

pub use cross::{Cross, CrossBatch, source_room};
pub(crate) use own::own_columns;
pub use own::{OwnKv, own_room};

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

/// A number that the process gives once: tells a buffer from another that came to lie in its place, a gathering from the one before.
fn next_name() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
