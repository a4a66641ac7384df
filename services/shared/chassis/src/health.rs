//! Is this process alive, and should it be called: one state behind HTTP probes and `grpc.health.v1`.
//!
//! | name | SERVING when |
//! |---|---|
//! | `live` | the event loop turns; never depends on another process |
//! | `ready`, the empty name, each service's full name | warm, not draining, nothing else speaks against it |

mod service;

use std::sync::Arc;

use refract_resilience::drain::{DrainSignal, Phase};
use tokio::sync::watch;

pub use service::Service;

/// The name under which liveness is asked for.
pub const LIVE: &str = "live";
/// The name under which readiness is asked for.
pub const READY: &str = "ready";

/// The health of one process (or of one of several services in it). Clones share it.
///
/// Starts alive and not ready: a process is never called before its owner said that it is warm. Once its drain has
/// begun it is never ready again, whatever is reported.
#[derive(Clone, Debug)]
pub struct Health {
    services: Arc<[String]>,
    state: watch::Sender<State>,
    drain: DrainSignal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    live: bool,
    /// Why it should not be called; a constant phrase.
    ready: Result<(), &'static str>,
}

impl Health {
    /// `services` are full names, such as `refract.oracle.v1.OracleService`.
    pub fn new(services: &[&str], drain: DrainSignal) -> Self {
        Self {
            services: services.iter().map(|name| (*name).to_owned()).collect(),
            state: watch::Sender::new(State {
                live: true,
                ready: Err("starting"),
            }),
            drain,
        }
    }

    /// Warm: may be called.
    pub fn set_ready(&self) {
        self.state.send_modify(|state| state.ready = Ok(()));
    }

    /// Should not be called for now, for instance because its queue is long.
    pub fn set_not_ready(&self, reason: &'static str) {
        self.state.send_modify(|state| state.ready = Err(reason));
    }

    /// Beyond help: only a restart will do.
    pub fn set_dead(&self, reason: &'static str) {
        self.state.send_modify(|state| {
            *state = State {
                live: false,
                ready: Err(reason),
            }
        });
    }

    pub fn is_live(&self) -> bool {
        self.state.borrow().live
    }

    /// Whether it may be called, or why not.
    pub fn readiness(&self) -> Result<(), &'static str> {
        match self.drain.phase() {
            Phase::Serving => self.state.borrow().ready,
            Phase::Leaving | Phase::Closing { .. } => Err("draining"),
        }
    }

    /// `grpc.health.v1` over this state: add it to the routes of the data port. The admin port has its own.
    pub fn service(&self) -> Service {
        service::make(self.clone())
    }

    /// What is asked for by `name`; `None` for a name that nobody has.
    fn serving(&self, name: &str) -> Option<bool> {
        match name {
            LIVE => Some(self.is_live()),
            "" | READY => Some(self.readiness().is_ok()),
            service => self
                .services
                .iter()
                .any(|known| known == service)
                .then(|| self.readiness().is_ok()),
        }
    }
}
