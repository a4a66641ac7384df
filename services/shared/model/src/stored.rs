//! A directory opened for another backend: described and checked like one to be loaded, read tensor by tensor.

use std::path::Path;

use crate::checkpoint::{self, held};
use crate::config::Config;
use crate::description::Description;
use crate::error::Error;
use crate::model::Dtype;
use crate::parallel::Split;
use crate::spec::{GenerationDefaults, Spec};
use crate::weights::{Checkpoint, Rows};

/// The weights of a model on disk. Strict, like [`crate::Model::load`]; holds no tensor.
#[derive(Debug)]
pub struct Stored {
    description: Description,
    checkpoint: Checkpoint,
}

impl Stored {
    /// Opens a directory in the Hugging Face layout.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let (description, checkpoint) = checkpoint::open(dir, Config::read(dir)?)?;
        Ok(Self {
            description,
            checkpoint,
        })
    }

    pub fn config(&self) -> &Config {
        &self.description.config
    }

    pub fn spec(&self) -> &Spec {
        &self.description.spec
    }

    pub fn generation_defaults(&self) -> &GenerationDefaults {
        &self.description.defaults
    }

    /// Whether the head has weights of its own; otherwise it is the embeddings.
    pub fn own_head(&self) -> bool {
        self.description.own_head
    }

    pub fn has(&self, name: &str) -> bool {
        self.checkpoint.has(name)
    }

    /// Rows and numbers in a row of a tensor; one row where it has no more than one dimension.
    pub fn shape(&self, name: &str) -> Option<(usize, usize)> {
        self.checkpoint.shape(name).map(size)
    }

    /// Names of all tensors, with rows and numbers in a row of each.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, (usize, usize))> {
        self.checkpoint
            .tensors()
            .map(|(name, shape, _)| (name, size(shape)))
    }

    /// Memory that the weights take as tensors, over so many ranks: what these do not divide, each of them holds.
    pub fn tensor_bytes(&self, dtype: Dtype, ranks: usize) -> u64 {
        let bytes = |(name, (rows, width)): (&str, (usize, usize))| {
            let (dtype, split) = held(self.config(), name, dtype.of_tensors());
            let copies = if split == Split::Whole { ranks } else { 1 };
            (copies * rows * width * dtype.size_in_bytes()) as u64
        };
        self.tensors().map(bytes).sum()
    }

    /// Whether the weights are held in bytes or in four bits ([`crate::quantised`]).
    pub fn is_quantised(&self) -> bool {
        self.checkpoint.is_quantised()
    }

    /// Whether matrices are held in four bits.
    pub fn has_nibbles(&self) -> bool {
        self.checkpoint.has_nibbles()
    }

    /// Whether this tensor is held in bytes; four bits are none.
    pub fn is_bytes(&self, name: &str) -> bool {
        self.checkpoint.is_bytes(name)
    }

    /// The numbers of a tensor, row-major, by the checkpoint's canonical name (`model.encoder.layers.0.fc1.weight`).
    pub fn read(&self, name: &str) -> Result<Vec<f32>, Error> {
        let mut data = Vec::new();
        self.checkpoint.rows(name, |rows| {
            rows.push_to(&mut data);
            Ok::<_, Error>(())
        })?;
        Ok(data)
    }

    /// Hands a tensor over some rows at a time, in order, as they are stored: no tensor is ever held whole.
    pub fn rows<E: From<Error>>(
        &self,
        name: &str,
        each: impl FnMut(Rows<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.checkpoint.rows(name, each)
    }

    pub(crate) fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }
}

/// Rows, and numbers in a row.
fn size(shape: &[usize]) -> (usize, usize) {
    match shape {
        [rows, width] => (*rows, *width),
        other => (1, other.iter().product()),
    }
}
