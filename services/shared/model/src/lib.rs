//! T5 and BART in the shape of their papers, with decode state as an argument.
//!
//! Read [`Model`] first: load a Hugging Face directory, `encode` ragged sequences, project `cross` memory once, then
//! `decode` rows of any age step by step. [`Trainable`] is the same model over variables. Parity with the reference is
//! held by `tests/parity.rs`.

mod bart;
mod bucket;
mod checkpoint;
mod config;
mod description;
mod error;
mod kernels;
mod layers;
mod likeliest;
mod mixed;
mod model;
pub mod parallel;
pub mod quantised;
mod spec;
mod state;
mod steps;
mod stored;
mod t5;
mod train;
mod weights;

pub use bart::Bart;
pub use bucket::bucket;
pub use config::{BartConfig, Config, Ids, PairSizes, T5Config};
pub use error::Error;
pub use layers::{Activation, Dropout};
pub use likeliest::{Likeliest, Pieces};
pub use model::{Dtype, LoadOptions, Model};
pub use spec::{Architecture, EarlyStopping, GenerationDefaults, PairRows, PairTables, Spec};
pub use state::{Cross, CrossBatch, Encoded, OwnKv, own_room, source_room};
pub use steps::{Said, Steps};
pub use stored::Stored;
pub use t5::{T5, distance_bucket};
pub use train::{Batch, Trainable, cross_entropy};
pub use weights::Rows;
