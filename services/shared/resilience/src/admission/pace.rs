//! How much room there is, by how fast work gets done: less by a fifth after a window with too much slow work, more after
//! one that was quick and in which the room was short.
//!
//! Plain numbers without a clock of their own. What is slow is said by the configuration, and where even little work is
//! slow, by the quickest windows seen: they fade, so that a change of model or machine is learnt within minutes.

use std::time::{Duration, Instant};

use super::Config;

#[derive(Debug)]
pub(super) struct Pace {
    room: f64,
    /// Nothing was slow yet: the room may grow fast.
    is_new: bool,
    /// Median of the quickest window of late.
    quickest: Option<Duration>,
    window: Window,
}

#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    sample: Vec<Duration>,
    units: u32,
    slow: u32,
    /// The room was nearly full, or too small.
    was_short: bool,
}

/// A window of fewer units says little; it goes on.
const UNITS_MIN: u32 = 8;
/// Units of a window whose median is taken.
const SAMPLE_MAX: usize = 64;
/// The first room, as a part of the largest.
const FIRST_PART: f64 = 4.0;
const SHRINK: f64 = 0.8;
const GROW_NEW: f64 = 1.5;
/// Once something was slow, the room grows by this part of the largest.
const GROW_PART: f64 = 32.0;
/// By how much the quickest window fades with each further one.
const FADE: f64 = 1.005;

impl Pace {
    pub(super) fn new(config: &Config) -> Self {
        let (min, max) = (config.cost_min as f64, config.cost_max as f64);
        Self {
            room: if config.slow_after.is_zero() {
                max
            } else {
                (max / FIRST_PART).clamp(min, max)
            },
            is_new: true,
            quickest: None,
            window: Window::default(),
        }
    }

    pub(super) fn room(&self) -> u64 {
        self.room as u64
    }

    pub(super) fn pressed(&mut self) {
        self.window.was_short = true;
    }

    pub(super) fn note(&mut self, config: &Config, took: Duration, now: Instant) {
        if config.slow_after.is_zero() {
            return;
        }
        let by_nature = self.quickest.unwrap_or(took).mul_f64(config.slow_times);
        let window = &mut self.window;
        let began = *window.began.get_or_insert(now);
        window.units += 1;
        window.slow += u32::from(took > config.slow_after.max(by_nature));
        if window.sample.len() < SAMPLE_MAX {
            window.sample.push(took);
        }
        if window.units >= UNITS_MIN && now.saturating_duration_since(began) >= config.adapt_every {
            let window = std::mem::take(&mut self.window);
            self.settle(config, window);
        }
    }

    fn settle(&mut self, config: &Config, mut window: Window) {
        let (min, max) = (config.cost_min as f64, config.cost_max as f64);
        window.sample.sort_unstable();
        let median = window.sample[window.sample.len() / 2];
        self.quickest = Some(self.quickest.map_or(median, |it| it.mul_f64(FADE).min(median)));
        let slow_share = f64::from(window.slow) / f64::from(window.units);
        if slow_share > config.slow_share_max {
            self.is_new = false;
            self.room *= SHRINK;
        } else if window.was_short {
            self.room += if self.is_new {
                self.room * (GROW_NEW - 1.0)
            } else {
                max / GROW_PART
            };
        }
        self.room = self.room.clamp(min, max);
    }
}
