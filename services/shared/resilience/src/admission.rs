//! Is there room for it: a bounded amount of work in progress, by cost. Full means refused at once, with when to come
//! back; never waiting without a limit.
//!
//! How much is room follows how fast work gets done ([`pace`]), between two bounds of the configuration.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::deadline::now;
use crate::limits::{Unfit, ensure};

mod pace;

use pace::Pace;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How much may be in progress together at most, in units of cost; with a cost of 1 each, the number of calls.
    /// Default 256.
    pub cost_max: u64,
    /// How much may always be in progress, however slow it goes. Default 16.
    pub cost_min: u64,
    /// A unit of work that takes longer than this is slow, a sign that too much is in progress: the room shrinks. Zero
    /// never shrinks it: then it is `cost_max`. Default 1s.
    #[serde(with = "humantime_serde")]
    pub slow_after: Duration,
    /// And longer than so many times what it takes when little is in progress: where work is slow by nature, only what
    /// is slower than that says anything. Default 8.
    pub slow_times: f64,
    /// Share of slow units above which the room shrinks. Default 0.1.
    pub slow_share_max: f64,
    /// The room changes at most this often. Default 250ms.
    #[serde(with = "humantime_serde")]
    pub adapt_every: Duration,
    /// The shortest advice to come back. Default 100ms.
    #[serde(with = "humantime_serde")]
    pub retry_after_min: Duration,
    /// The longest advice to come back. Default 1s.
    #[serde(with = "humantime_serde")]
    pub retry_after_max: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cost_max: 256,
            cost_min: 16,
            slow_after: Duration::from_secs(1),
            slow_times: 8.0,
            slow_share_max: 0.1,
            adapt_every: Duration::from_millis(250),
            retry_after_min: Duration::from_millis(100),
            retry_after_max: Duration::from_secs(1),
        }
    }
}

impl Config {
    pub fn check(&self) -> Result<(), Unfit> {
        ensure(
            self.cost_max >= 1,
            "cost_max",
            "must be at least 1, or nothing is ever admitted",
        )?;
        ensure(
            (1..=self.cost_max).contains(&self.cost_min),
            "cost_min",
            "must be at least 1 and not above cost_max",
        )?;
        ensure(self.slow_times >= 1.0, "slow_times", "must be at least 1")?;
        ensure(
            (0.0..1.0).contains(&self.slow_share_max),
            "slow_share_max",
            "must be from 0 to below 1",
        )?;
        ensure(
            self.retry_after_max >= self.retry_after_min,
            "retry_after_max",
            "must not be shorter than retry_after_min",
        )
    }
}

/// There is no room now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("overloaded, retry in {retry_after:?}")]
pub struct Overloaded {
    /// An estimate of when enough will have finished, within the configured bounds.
    pub retry_after: Duration,
}

/// The room; clones share it.
#[derive(Clone, Debug)]
pub struct Admission {
    core: Arc<Mutex<Core>>,
}

/// A place taken, given back on drop.
#[derive(Debug)]
#[must_use = "the place is given back when the permit is dropped"]
pub struct Permit {
    core: Arc<Mutex<Core>>,
    cost: u64,
    since: Instant,
}

#[derive(Debug)]
struct Core {
    config: Config,
    pace: Pace,
    in_use: u64,
    /// How long a place is held, moving average; `None` before the first was given back.
    hold: Option<Duration>,
}

impl Admission {
    pub fn new(config: Config) -> Self {
        Self {
            core: Arc::new(Mutex::new(Core {
                pace: Pace::new(&config),
                config,
                in_use: 0,
                hold: None,
            })),
        }
    }

    /// Takes `cost` places, or none. A cost above the whole room is let in when the room is empty: refusing it for
    /// ever would be a lie about coming back.
    pub fn try_acquire(&self, cost: u64) -> Result<Permit, Overloaded> {
        let mut core = lock(&self.core);
        let room = core.pace.room();
        let cost = cost.clamp(1, core.config.cost_max);
        // A room that has just shrunk may be overfull, and one smaller than the call takes it when it is empty.
        let free = room.saturating_sub(core.in_use);
        if cost > free && core.in_use > 0 {
            core.pace.pressed();
            return Err(Overloaded {
                retry_after: core.retry_after(cost - free),
            });
        }
        core.in_use += cost;
        if core.in_use * 4 >= room * 3 {
            core.pace.pressed();
        }
        Ok(Permit {
            core: Arc::clone(&self.core),
            cost,
            since: now(),
        })
    }

    /// A unit of admitted work is done, and took so long.
    pub fn note(&self, took: Duration) {
        let mut core = lock(&self.core);
        let Core { config, pace, .. } = &mut *core;
        pace.note(config, took, now());
    }

    /// How much may be in progress together now.
    pub fn room(&self) -> u64 {
        lock(&self.core).pace.room()
    }

    pub fn in_use(&self) -> u64 {
        lock(&self.core).in_use
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let held = now().saturating_duration_since(self.since);
        let mut core = lock(&self.core);
        core.in_use -= self.cost;
        core.observe(held);
    }
}

impl Core {
    /// An eighth of each new value: the average of the last ten or so.
    fn observe(&mut self, held: Duration) {
        self.hold = Some(self.hold.map_or(held, |average| (average * 7 + held) / 8));
    }

    /// Places in use come free evenly over one holding time, so the share that is missing is the share to wait.
    fn retry_after(&self, missing: u64) -> Duration {
        let hold = self.hold.unwrap_or(self.config.retry_after_min);
        let share = missing as f64 / self.in_use.max(1) as f64;
        hold.mul_f64(share)
            .clamp(self.config.retry_after_min, self.config.retry_after_max)
    }
}

fn lock(core: &Mutex<Core>) -> MutexGuard<'_, Core> {
    core.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Of a fixed size.
    fn room(cost_max: u64) -> Admission {
        Admission::new(Config {
            cost_max,
            cost_min: 1,
            slow_after: Duration::ZERO,
            ..Config::default()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn the_room_shrinks_while_work_is_slow_and_grows_back_while_there_is_demand() {
        let room = Admission::new(Config::default());
        let begin = room.room();
        assert!(begin < 256, "the speed is not known yet");
        let work = |took_ms: u64| {
            let room = room.clone();
            async move {
                for _ in 0..40 {
                    let held: Vec<_> = std::iter::from_fn(|| room.try_acquire(1).ok()).collect();
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    held.iter()
                        .for_each(|_| room.note(Duration::from_millis(took_ms)));
                }
            }
        };
        work(100).await;
        assert_eq!(room.room(), 256, "quick, and there was demand");
        work(3_000).await;
        assert_eq!(room.room(), 16, "slow: as little as ever");
        work(100).await;
        assert_eq!(room.room(), 256);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_is_slow_by_nature_shrinks_nothing_and_no_demand_grows_nothing() {
        let room = Admission::new(Config::default());
        let begin = room.room();
        for _ in 0..100 {
            let _held = room.try_acquire(1).unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
            (0..8).for_each(|_| room.note(Duration::from_secs(3)));
        }
        assert_eq!(room.room(), begin);
    }

    #[test]
    fn full_means_refused_and_a_place_given_back_is_free() {
        let room = room(2);
        let (first, _second) = (room.try_acquire(1).unwrap(), room.try_acquire(1).unwrap());
        assert!(room.try_acquire(1).is_err());
        drop(first);
        assert!(room.try_acquire(1).is_ok());
    }

    #[test]
    fn bounds_that_contradict_each_other_are_named() {
        let bad = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().unwrap_err().key
        };
        assert_eq!(Config::default().check(), Ok(()));
        assert_eq!(bad(|c| c.cost_min = 0), "cost_min");
        assert_eq!(bad(|c| c.cost_max = 8), "cost_min");
        assert_eq!(bad(|c| c.slow_times = f64::NAN), "slow_times");
        assert_eq!(bad(|c| c.slow_share_max = 1.0), "slow_share_max");
    }

    #[test]
    fn a_call_larger_than_the_room_gets_in_when_the_room_is_empty() {
        let room = room(10);
        let small = room.try_acquire(1).unwrap();
        assert!(room.try_acquire(50).is_err());
        drop(small);
        let large = room.try_acquire(50).unwrap();
        assert!(room.try_acquire(1).is_err());
        drop(large);
        assert_eq!(room.in_use(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_advice_to_come_back_follows_how_long_places_are_held() {
        let room = room(4);
        for _ in 0..40 {
            let _permit = room.try_acquire(1).unwrap();
            tokio::time::sleep(Duration::from_millis(800)).await;
        }
        let _all = room.try_acquire(4).unwrap();
        assert_eq!(
            room.try_acquire(1).unwrap_err().retry_after,
            Duration::from_millis(200)
        );
        assert_eq!(
            room.try_acquire(4).unwrap_err().retry_after,
            Duration::from_millis(800)
        );
    }

    proptest! {
        #[test]
        fn places_are_never_oversold_and_never_lost(
            cost_max in 1u64..50,
            acts in proptest::collection::vec((any::<bool>(), 1u64..20), 0..200),
        ) {
            let room = room(cost_max);
            let mut held = Vec::new();
            for (take, cost) in acts {
                if take {
                    match room.try_acquire(cost) {
                        Ok(permit) => held.push(permit),
                        Err(full) => prop_assert!(
                            full.retry_after >= Duration::from_millis(100) && full.retry_after <= Duration::from_secs(1)
                        ),
                    }
                } else if !held.is_empty() {
                    drop(held.swap_remove(cost as usize % held.len()));
                }
                prop_assert_eq!(room.in_use(), held.iter().map(|p| p.cost).sum::<u64>());
                prop_assert!(room.in_use() <= cost_max);
            }
            held.clear();
            prop_assert_eq!(room.in_use(), 0);
        }
    }
}
