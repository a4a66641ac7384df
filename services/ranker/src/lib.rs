//! The front door: ranks, consults the Oracle, asks Prisms to explain, streams the answer.

pub mod affinity;
pub mod als;
mod aside;
pub mod builtin;
pub mod catalogue;
pub mod config;
pub mod dataset;
pub mod error;
pub mod evaluate;
mod guarded;
pub mod interactions;
mod ladder;
pub mod likes;
mod linear;
pub mod model;
mod model_file;
pub mod neighbours;
mod popularity;
pub mod recommend;
pub mod retrieval;
pub mod rooms;
#[cfg(test)]
mod scripted;
pub mod serve;
pub mod service;
mod summary;
pub mod train;

pub use builtin::Builtin;
pub use catalogue::Catalogue;
pub use config::Config;
pub use dataset::Dataset;
pub use error::{Error, Result};
pub use model::{Hyper, Model};
pub use serve::start;
pub use train::train;
