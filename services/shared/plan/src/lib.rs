//! How many of each: what a cluster of a given size would do, and the smallest that keeps its promises.
//!
//! ```text
//!  plan.toml: load, memory, stations with measured times and prices, promises
//!     └─▶ hit_share (Zipf, ages, room) ─▶ simulate (events, a slice of the cluster) ─▶ size (add where it waits) ─▶ nodes, cost
//! ```
//!
//! Pure: no clock, no network. Times are in milliseconds, rates per second.

mod error;
pub mod fit;
pub mod hits;
pub mod plan;
pub mod simulate;
pub mod size;
mod station;

pub use error::Error;
pub use plan::Plan;
