//! Is it worth trying there: a breaker that opens on repeated failure and lets single probes find recovery.
//!
//! ```text
//!            too many failures                  wait is over
//!   Closed ────────────────────▶ Open{until} ────────────────▶ HalfOpen
//!     ▲                            ▲                              │
//!     │                            └───────── probe failed ───────┤
//!     └───────────────────────────────────── probes succeeded ────┘
//! ```
//!
//! A link to Redis has a smaller one of its own (`knowledge/src/store/redis/breaker.rs`): what it trips is a connection that
//! is then given up, and the probe is a `PING` on the next one, so that it has neither an open state nor a half-open one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::limits::{Unfit, ensure};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Opens after this many failures without a success between them. Default 5.
    pub consecutive_failures_max: u32,
    /// Opens also when this share of the calls in the window failed. Default 0.5.
    pub failure_share_max: f64,
    /// How far back the share looks. Default 10s.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// The share says nothing before the window holds this many calls. Default 20.
    pub window_calls_min: u32,
    /// How long the first opening lasts; each failed probe doubles it. Default 1s.
    #[serde(with = "humantime_serde")]
    pub open_first: Duration,
    /// The longest opening, hence how late a recovery may be found. Default 10s.
    #[serde(with = "humantime_serde")]
    pub open_max: Duration,
    /// Probes at once while half open. Default 1.
    pub probes_max: u32,
    /// Probes that must succeed before it closes. Default 1.
    pub probe_successes_min: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            consecutive_failures_max: 5,
            failure_share_max: 0.5,
            window: Duration::from_secs(10),
            window_calls_min: 20,
            open_first: Duration::from_secs(1),
            open_max: Duration::from_secs(10),
            probes_max: 1,
            probe_successes_min: 1,
        }
    }
}

impl Config {
    pub fn check(&self) -> Result<(), Unfit> {
        ensure(
            self.consecutive_failures_max >= 1,
            "consecutive_failures_max",
            "must be at least 1",
        )?;
        ensure(
            self.failure_share_max > 0.0 && self.failure_share_max <= 1.0,
            "failure_share_max",
            "must be above 0 and at most 1",
        )?;
        ensure(!self.window.is_zero(), "window", "must be longer than zero")?;
        ensure(
            !self.open_first.is_zero(),
            "open_first",
            "must be longer than zero, or it never holds back a call",
        )?;
        ensure(
            self.open_max >= self.open_first,
            "open_max",
            "must not be shorter than open_first",
        )?;
        ensure(
            self.probes_max >= 1,
            "probes_max",
            "must be at least 1, or it never closes again",
        )?;
        ensure(
            self.probe_successes_min >= 1,
            "probe_successes_min",
            "must be at least 1",
        )
    }
}

/// The call was not tried: the target has failed too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("breaker open, retry in {retry_after:?}")]
pub struct Open {
    pub retry_after: Duration,
}

/// What an outside observer may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Closed,
    Open { until: Instant },
    HalfOpen,
}

/// One per target; clones share their state.
#[derive(Clone, Debug)]
pub struct Breaker {
    core: Arc<Mutex<Core>>,
}

/// Leave for one call. Settle it with what became of the call; dropping it unsettled (the call was cancelled) says
/// nothing about the target.
#[derive(Debug)]
#[must_use = "a permit that is dropped at once tells the breaker nothing"]
pub struct Permit {
    core: Arc<Mutex<Core>>,
    /// Results of calls that began before the state last changed are history.
    epoch: u64,
    settled: bool,
}

#[derive(Debug)]
struct Core {
    config: Config,
    state: Inner,
    epoch: u64,
    /// How long the next opening lasts.
    open_next: Duration,
}

#[derive(Debug)]
enum Inner {
    Closed {
        consecutive_failures: u32,
        window: Window,
    },
    Open {
        until: Instant,
    },
    HalfOpen {
        probes: u32,
        successes: u32,
    },
}

impl Breaker {
    /// Starts closed.
    pub fn new(config: Config) -> Self {
        let core = Core {
            state: Inner::Closed {
                consecutive_failures: 0,
                window: Window::default(),
            },
            epoch: 0,
            open_next: config.open_first,
            config,
        };
        Self {
            core: Arc::new(Mutex::new(core)),
        }
    }

    /// Asks for leave to call.
    pub fn try_call(&self, now: Instant) -> Result<Permit, Open> {
        let mut core = lock(&self.core);
        core.try_call(now)?;
        Ok(Permit {
            core: Arc::clone(&self.core),
            epoch: core.epoch,
            settled: false,
        })
    }

    pub fn state(&self) -> State {
        match lock(&self.core).state {
            Inner::Closed { .. } => State::Closed,
            Inner::Open { until } => State::Open { until },
            Inner::HalfOpen { .. } => State::HalfOpen,
        }
    }
}

impl Permit {
    pub fn success(mut self, now: Instant) {
        self.settle(now, true);
    }

    pub fn failure(mut self, now: Instant) {
        self.settle(now, false);
    }

    fn settle(&mut self, now: Instant, ok: bool) {
        self.settled = true;
        let mut core = lock(&self.core);
        if core.epoch == self.epoch {
            core.settle(now, ok);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let mut core = lock(&self.core);
        if core.epoch == self.epoch {
            core.abandon();
        }
    }
}

impl Core {
    fn try_call(&mut self, now: Instant) -> Result<(), Open> {
        // Open becomes HalfOpen when its wait is over.
        if let Inner::Open { until } = self.state {
            if now < until {
                return Err(Open {
                    retry_after: until - now,
                });
            }
            self.change(Inner::HalfOpen {
                probes: 0,
                successes: 0,
            });
        }
        match &mut self.state {
            Inner::Closed { .. } => Ok(()),
            Inner::HalfOpen { probes, .. } if *probes < self.config.probes_max => {
                *probes += 1;
                Ok(())
            }
            // A probe is out; its answer decides, and nobody knows when it comes.
            Inner::HalfOpen { .. } | Inner::Open { .. } => Err(Open {
                retry_after: self.config.open_first,
            }),
        }
    }

    fn settle(&mut self, now: Instant, ok: bool) {
        match &mut self.state {
            // Closed stays Closed or becomes Open.
            Inner::Closed {
                consecutive_failures,
                window,
            } => {
                *consecutive_failures = if ok { 0 } else { *consecutive_failures + 1 };
                window.record(now, ok, self.config.window);
                let (calls, failures) = window.totals();
                let share_reached = calls >= self.config.window_calls_min
                    && f64::from(failures) >= self.config.failure_share_max * f64::from(calls);
                // A success never opens: whatever the share says, the target has just answered.
                if !ok && (*consecutive_failures >= self.config.consecutive_failures_max || share_reached) {
                    self.open(now);
                }
            }
            // HalfOpen becomes Closed after enough successes, Open after one failure.
            Inner::HalfOpen { probes, successes } => {
                if !ok {
                    self.open(now);
                    return;
                }
                *probes -= 1;
                *successes += 1;
                if *successes >= self.config.probe_successes_min {
                    self.open_next = self.config.open_first;
                    self.change(Inner::Closed {
                        consecutive_failures: 0,
                        window: Window::default(),
                    });
                }
            }
            Inner::Open { .. } => debug_assert!(false, "no permit of an open epoch exists; this is a bug"),
        }
    }

    fn abandon(&mut self) {
        if let Inner::HalfOpen { probes, .. } = &mut self.state {
            *probes -= 1;
        }
    }

    fn open(&mut self, now: Instant) {
        let until = now + self.open_next;
        self.open_next = (self.open_next * 2).min(self.config.open_max);
        self.change(Inner::Open { until });
    }

    fn change(&mut self, state: Inner) {
        self.state = state;
        self.epoch += 1;
    }
}

fn lock(core: &Mutex<Core>) -> MutexGuard<'_, Core> {
    core.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls and failures of the recent past, in at most [`Window::SLICES`] slices.
#[derive(Debug, Default)]
struct Window {
    /// Start of the slice, calls, failures; oldest first.
    slices: VecDeque<(Instant, u32, u32)>,
}

impl Window {
    const SLICES: u32 = 10;

    fn record(&mut self, now: Instant, ok: bool, span: Duration) {
        while self
            .slices
            .front()
            .is_some_and(|(start, ..)| now.saturating_duration_since(*start) >= span)
        {
            self.slices.pop_front();
        }
        let slice = span / Self::SLICES;
        if self
            .slices
            .back()
            .is_none_or(|(start, ..)| now.saturating_duration_since(*start) >= slice)
        {
            self.slices.push_back((now, 0, 0));
        }
        if let Some((_, calls, failures)) = self.slices.back_mut() {
            *calls = calls.saturating_add(1);
            *failures = failures.saturating_add(u32::from(!ok));
        }
    }

    fn totals(&self) -> (u32, u32) {
        self.slices
            .iter()
            .fold((0, 0), |(c, f), (_, calls, failures)| (c + calls, f + failures))
    }
}

#[cfg(test)]
mod tests;
