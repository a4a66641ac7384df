//! What candle does not say to a GPU: to repeat its work, and to keep its memory.

mod graph;
mod memory;

pub use graph::{Graph, order_by_stream, warm};
pub use memory::{free, keep_freed};
