//! The front door: ranks, consults the Oracle, asks Prisms to explain, streams the answer.

pub mod catalogue;
pub mod dataset;
pub mod error;
pub mod interactions;

pub use catalogue::Catalogue;
pub use dataset::Dataset;
pub use error::{Error, Result};
