//! Leaving without losing anything: one [`Drain`] says that it is time, many [`DrainSignal`]s hear it.
//!
//! ```text
//!  Serving ──drain()──▶ Leaving ──after lameduck──▶ Closing(finish_by)
//!             readiness NOT_SERVING,          GOAWAY, nothing new,
//!             still serving everybody         accepted work until finish_by
//! ```
//!
//! The order is the reason for the two steps: balancers need time to hear that we leave before we refuse.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::deadline::now;
use crate::limits::Unfit;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long to keep serving after readiness has gone, so that balancers notice. Default 5s.
    #[serde(with = "humantime_serde")]
    pub lameduck: Duration,
    /// How long accepted calls may take after that; then their connections are closed. Default 20s. The sum of both
    /// must be less than the grace period of whoever stops the process.
    #[serde(with = "humantime_serde")]
    pub finish_max: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lameduck: Duration::from_secs(5),
            finish_max: Duration::from_secs(20),
        }
    }
}

impl Config {
    /// Leaves at once and gives accepted calls a moment: for tests and the demo.
    pub fn brisk() -> Self {
        Self {
            lameduck: Duration::ZERO,
            finish_max: Duration::from_secs(1),
        }
    }

    /// Every combination is possible, also zeros.
    pub fn check(&self) -> Result<(), Unfit> {
        Ok(())
    }
}

/// Where a process is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Serving,
    Leaving,
    /// Nothing new is accepted; what was accepted may run until `finish_by`.
    Closing {
        finish_by: Instant,
    },
}

/// Says that it is time to leave. When the last clone is dropped without saying so, that too means leaving, so that a
/// server never outlives the one who could have stopped it.
#[derive(Clone, Debug)]
pub struct Drain {
    config: Config,
    phase: watch::Sender<Phase>,
}

/// Hears that it is time to leave.
#[derive(Clone, Debug)]
pub struct DrainSignal {
    phase: watch::Receiver<Phase>,
}

/// A drain and its signal. Clone the signal for each server, stream and task.
pub fn pair(config: Config) -> (Drain, DrainSignal) {
    let (sender, receiver) = watch::channel(Phase::Serving);
    (
        Drain {
            config,
            phase: sender,
        },
        DrainSignal { phase: receiver },
    )
}

impl Drain {
    /// Goes through both steps and returns when closing has begun. Calling it again never starts over.
    pub async fn drain(&self) {
        let signal = self.signal();
        let began = self.phase.send_if_modified(|phase| {
            let serving = *phase == Phase::Serving;
            if serving {
                *phase = Phase::Leaving;
            }
            serving
        });
        if began {
            // Somebody may lose patience and close before the wait is over.
            tokio::select! {
                () = tokio::time::sleep(self.config.lameduck) => self.close(),
                _ = signal.closing() => {}
            }
        } else {
            signal.closing().await;
        }
    }

    /// Goes to closing at once, without the lameduck wait.
    pub fn close(&self) {
        let finish_by = now() + self.config.finish_max;
        self.phase.send_if_modified(|phase| {
            let open = !matches!(phase, Phase::Closing { .. });
            if open {
                *phase = Phase::Closing { finish_by };
            }
            open
        });
    }

    pub fn signal(&self) -> DrainSignal {
        DrainSignal {
            phase: self.phase.subscribe(),
        }
    }
}

impl DrainSignal {
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Whether new work may still be accepted.
    pub fn is_serving(&self) -> bool {
        self.phase() == Phase::Serving
    }

    /// Waits until leaving has begun.
    pub async fn leaving(&self) {
        let mut phase = self.phase.clone();
        // An error means that every `Drain` is gone, which means leaving too.
        drop(phase.wait_for(|phase| *phase != Phase::Serving).await);
    }

    /// Waits until nothing new may be accepted; gives the instant by which accepted work must be done.
    pub async fn closing(&self) -> Instant {
        let mut phase = self.phase.clone();
        match phase
            .wait_for(|phase| matches!(phase, Phase::Closing { .. }))
            .await
            .map(|phase| *phase)
        {
            Ok(Phase::Closing { finish_by }) => finish_by,
            // Every `Drain` is gone; nobody is left to wait for the work.
            Ok(_) | Err(_) => now(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn leaving_comes_first_and_closing_after_the_lameduck_wait() {
        let (drain, signal) = pair(Config::default());
        let begin = now();
        assert!(signal.is_serving());
        let watcher = tokio::spawn({
            let signal = signal.clone();
            async move {
                signal.leaving().await;
                let left = now();
                (left, signal.closing().await, now())
            }
        });
        tokio::task::yield_now().await;
        drain.drain().await;
        let (left, finish_by, closed) = watcher.await.unwrap();
        assert_eq!(left - begin, Duration::ZERO);
        assert_eq!(closed - begin, Duration::from_secs(5));
        assert_eq!(finish_by - begin, Duration::from_secs(25));
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_drain_waits_for_the_first_and_changes_nothing() {
        let (drain, signal) = pair(Config::default());
        let begin = now();
        tokio::join!(drain.drain(), drain.drain());
        drain.close();
        assert_eq!(signal.closing().await - begin, Duration::from_secs(25));
    }

    #[tokio::test(start_paused = true)]
    async fn closing_cuts_the_lameduck_wait_short() {
        let (drain, _signal) = pair(Config::default());
        let begin = now();
        tokio::join!(drain.drain(), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drain.close();
        });
        assert_eq!(now() - begin, Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_drain_means_leaving() {
        let (drain, signal) = pair(Config::default());
        drop(drain);
        signal.leaving().await;
        assert_eq!(signal.closing().await, now());
    }
}
