//! When to stop using a connection: plain counting, without clock or I/O.

use std::time::Duration;

use tokio::time::Instant;

/// Trips on time-outs in a row, or on too large a share of them within a window. There is no half-open state here: a
/// tripped connection is given up, and the probe is the `PING` on the next one, which no caller waits for.
#[derive(Debug)]
pub(super) struct Breaker {
    in_row_max: u32,
    share_max: f64,
    in_row: u32,
    window_began: Option<Instant>,
    calls: u32,
    failures: u32,
}

impl Breaker {
    const WINDOW: Duration = Duration::from_secs(1);
    /// A share of fewer calls says little.
    const CALLS_MIN: u32 = 20;

    pub(super) fn new(in_row_max: u32, share_max: f64) -> Self {
        Self {
            in_row_max,
            share_max,
            in_row: 0,
            window_began: None,
            calls: 0,
            failures: 0,
        }
    }

    pub(super) fn succeeded(&mut self, now: Instant) {
        self.in_row = 0;
        self.count(now, false);
    }

    /// Whether the connection is to be given up.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        self.in_row += 1;
        self.count(now, true);
        let share = f64::from(self.failures) / f64::from(self.calls);
        self.in_row >= self.in_row_max || (self.calls >= Self::CALLS_MIN && share > self.share_max)
    }

    pub(super) fn reset(&mut self) {
        *self = Self::new(self.in_row_max, self.share_max);
    }

    fn count(&mut self, now: Instant, failed: bool) {
        if self
            .window_began
            .is_none_or(|began| now.duration_since(began) >= Self::WINDOW)
        {
            self.window_began = Some(now);
            (self.calls, self.failures) = (0, 0);
        }
        self.calls += 1;
        self.failures += u32::from(failed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_trips_on_failures_in_a_row_and_a_success_starts_the_row_anew() {
        let now = Instant::now();
        let mut breaker = Breaker::new(3, 1.0);
        assert!(!breaker.failed(now) && !breaker.failed(now));
        breaker.succeeded(now);
        assert!(!breaker.failed(now) && !breaker.failed(now) && breaker.failed(now));
        breaker.reset();
        assert!(!breaker.failed(now));
    }

    #[test]
    fn it_trips_on_a_large_share_of_enough_calls_within_the_window_only() {
        let now = Instant::now();
        let mut breaker = Breaker::new(100, 0.2);
        for _ in 0..10 {
            assert!(!breaker.failed(now), "ten calls are too few for a share");
        }
        for _ in 0..9 {
            breaker.succeeded(now);
        }
        assert!(breaker.failed(now), "11 of 20");

        let mut breaker = Breaker::new(100, 0.2);
        for _ in 0..19 {
            breaker.failed(now);
        }
        assert!(
            !breaker.failed(now + Breaker::WINDOW),
            "a new window forgets the last one"
        );
    }
}
