//! What candle does not say to a GPU: to repeat its work, to keep its memory, to add where something is.

mod graph;
mod memory;
mod product;

pub use graph::{Graph, order_by_stream, warm};
pub use memory::{free, keep_freed, peak};
pub use product::AddProduct;
