//! Where and in what numbers a model learns.

use anyhow::Result;
use candle_core::Device;
use refract_model::{Dtype, Trainable};

use crate::cli::{Compute, Numbers};

/// The device that was asked for; a build without it says so.
pub(super) fn device(compute: Compute) -> Result<Device> {
    Ok(compute.device.open()?)
}

pub(super) fn computing(model: Trainable, compute: Compute) -> Result<Trainable> {
    Ok(match compute.precision {
        Numbers::F32 => model,
        Numbers::Bf16 => model.computing_in(Dtype::Bf16)?,
    })
}
