//! A directory opened for another backend: described and checked like one to be loaded, read tensor by tensor.

use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::checkpoint;
use crate::config::Config;
use crate::error::Error;
use crate::model::{Description, GenerationDefaults, Spec};
use crate::weights::Checkpoint;

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

    /// The numbers of a tensor, row-major, by the checkpoint's canonical name (`model.encoder.layers.0.fc1.weight`).
    pub fn read(&self, name: &str) -> Result<Vec<f32>, Error> {
        let tensor: Tensor = self.checkpoint.read(name, &Device::Cpu)?;
        Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }
}
