//! Pair, History and Knowledge to Explanation, by a BART-class model.

pub mod config;
mod prism;
mod refusals;
mod serve;

pub use config::Config;
pub use prism::Prism;
pub use serve::start;
