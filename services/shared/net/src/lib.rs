//! The connection layer: listening, dialling, limits, drain. Callers never see which transport carries their calls.
//!
//! ```text
//!  tonic client ─▶ Channel ─▶ the least busy of two ready connections ─▶ … ─▶ Listener ─▶ any tower service (Routes)
//! ```
//!
//! It runs hyper's HTTP/2 directly, on both sides, because a stock server has no bound on resets, streams, silent peers
//! or its own shutdown, and a stock balancer keeps dead endpoints in rotation.
//!
//! What is deliberately absent: deadlines. The caller's remaining time travels in its request and is enforced by those
//! who know what an expired call should answer (the wire layer's context, [`refract_resilience::within`]); this layer
//! bounds only what a peer may cost: connections, streams, headers, handshakes, idleness, and the wait for a connection.

mod body;
mod config;
mod dial;
mod eject;
mod endpoint;
mod error;
mod expiry;
mod resend;
mod resolve;
mod serve;
mod socket;
mod tls;
mod turn;

pub use body::Body;
pub use config::{DialConfig, ListenConfig};
pub use dial::{Channel, dial};
pub use eject::{EjectConfig, Judge};
pub use endpoint::{EndpointState, EndpointStatus};
pub use error::Error;
pub use resolve::Target;
pub use serve::{Listener, ServerStats, serve};
pub use tls::{ClientTls, PeerNames, ServerTls};

/// Tells the installed recorder what this layer's metrics mean.
pub fn describe() {
    eject::describe();
    expiry::describe();
    tls::describe();
}
