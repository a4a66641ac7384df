//! What every process needs: config, telemetry, admin port, health, serve, drain.
//!
//! ```text
//!  config::load ─▶ telemetry::install ─▶ Process::new ─▶ (net serves its routes) ─▶ start ─▶ warm ─▶ ready
//!                                                            SIGTERM ─▶ not ready ─▶ lameduck ─▶ GOAWAY ─▶ done
//! ```
//!
//! The data port is served by whoever knows the transport; this crate only gets it as a future ([`process`]). Nothing
//! here is global except the tracing subscriber, the metrics recorder and the panic hook, which are installed once
//! and tolerate a second call, so that several services can live in one process.

pub mod admin;
pub mod config;
pub mod drain;
pub mod health;
pub mod panics;
pub mod process;
pub mod telemetry;

pub use health::Health;
pub use process::{Process, Running};
