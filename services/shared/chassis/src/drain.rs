//! When to leave: the process's signals, joined to the drain that everything listens to.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

pub use refract_resilience::drain::{Config, Drain, DrainSignal, Phase, pair};

/// SIGTERM and SIGINT of this process. The first asks to leave in order; after that, one more ends the process at once.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals over from their default, which would end the process. Needs a tokio runtime.
    pub fn take() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next of them.
    pub async fn next(&mut self) -> &'static str {
        let name = tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        };
        info!(signal = name, "asked to leave");
        name
    }
}
