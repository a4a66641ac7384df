//! Pair and History to Knowledge, by a FLAN-T5-class model.

pub mod config;
mod oracle;
mod serve;

pub use config::Config;
pub use oracle::Oracle;
pub use serve::start;
