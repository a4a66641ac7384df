//! T5 and BART in the shape of their papers, with decode state as an argument.

mod bart;
mod error;
mod model;
mod state;
mod t5;

pub use bart::Bart;
pub use error::Error;
pub use model::{
    Architecture, Dtype, EarlyStopping, GenerationDefaults, LoadOptions, Model, PairRows, PairTables, Spec,
};
pub use state::{Cross, CrossBatch, Encoded, OwnKv};
pub use t5::T5;
