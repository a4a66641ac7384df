//! The only crate that knows protobuf and tonic::Status: generated code, conversions, clients and servers.
//!
//! ```text
//!  caller ─ domain value ─▶ Client ─ convert ─▶ proto ═ network ═▶ proto ─ convert, check ─▶ Server ─▶ trait
//!  caller ◀─ domain::Error ─ status ◀══════════ tonic::Status with rich details ◀═════════════ status ◀─ Error
//! ```
//!
//! `oracle`, `prism` and `ranker` hold a `Client` that implements a trait of `refract-domain` and a `Server` that wraps
//! any implementation of it, so a caller cannot tell a neighbour in the process from one across the network.

pub mod callers;
pub mod client;
pub mod conform;
pub mod convert;
pub mod encoded;
pub mod info;
pub mod items;
pub mod limits;
pub mod metadata;
pub mod meter;
pub mod oracle;
pub mod path;
pub mod prism;
pub mod proto;
pub mod ranker;
pub mod recommend;
pub mod reflection;
pub mod server;
pub mod status;
pub mod trace;
pub mod transport;

mod perishable;
mod text;

pub use conform::ConformLayer;
pub use info::{ModelInfo, ServerInfo};
pub use items::Items;
pub use limits::{Limits, RatingScale, Rules};
pub use proto::FILE_DESCRIPTOR_SET;
pub use transport::Transport;
