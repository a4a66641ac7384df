//! The front door: ranks, consults the Oracle, asks Prisms to explain, streams the answer.

pub mod affinity;
pub mod als;
pub mod builtin;
pub mod catalogue;
pub mod dataset;
pub mod error;
pub mod evaluate;
pub mod interactions;
pub mod likes;
mod linear;
pub mod model;
mod model_file;
pub mod neighbours;
mod popularity;
mod top_k;
pub mod train;

pub use builtin::Builtin;
pub use catalogue::Catalogue;
pub use dataset::Dataset;
pub use error::{Error, Result};
pub use model::{Hyper, Model};
pub use train::train;
