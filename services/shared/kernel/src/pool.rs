//! Fork and join: a fixed set of threads that run the parts of one job together with the caller.
//!
//! With one thread nothing is started and a job is a loop. Jobs are a few microseconds to milliseconds long and follow
//! one another closely, so idle workers spin briefly before they sleep.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::error::Error;
use crate::priority::stand_back;

/// More than any machine this is meant for.
pub const THREADS_MAX: usize = 256;

/// Looks at the clock of jobs so often before sleeping: about 20 µs.
const SPINS: usize = 2_000;

type Job<'a> = &'a (dyn Fn(usize) + Sync + 'a);

#[derive(Debug)]
pub(crate) struct Pool {
    shared: Arc<Coordination>,
    workers: Vec<JoinHandle<()>>,
    /// One job at a time.
    turn: Mutex<()>,
}

#[derive(Debug, Default)]
struct Coordination {
    /// The job at hand, by number; even a worker that slept through several sees only the last.
    current: Mutex<Current>,
    wake: Condvar,
    /// Number of the last job, for spinning without the lock.
    number: AtomicUsize,
    /// The next part to be claimed.
    next: AtomicUsize,
    /// Workers that hold the job. They take it under the lock while it is there, and nobody waits for those that come late.
    busy: AtomicUsize,
    panicked: AtomicBool,
    /// No job follows closely: workers need not wait for one awake.
    resting: AtomicBool,
}

#[derive(Default)]
struct Current {
    number: usize,
    job: Option<Job<'static>>,
    parts: usize,
    stopped: bool,
    /// Workers that wait to be woken: waking costs a call to the system even where nobody waits.
    asleep: usize,
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Current")
            .field("number", &self.number)
            .field("parts", &self.parts)
            .finish_non_exhaustive()
    }
}

impl Pool {
    /// Its own threads stand back by `nice`, as in [`stand_back`]; the caller is asked to do so itself.
    pub(crate) fn new(threads: usize, nice: u8) -> Result<Self, Error> {
        if threads == 0 || threads > THREADS_MAX {
            return Err(Error::Threads {
                threads,
                threads_max: THREADS_MAX,
            });
        }
        let mut pool = Self {
            shared: Arc::default(),
            workers: Vec::new(),
            turn: Mutex::new(()),
        };
        for i in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let worker = std::thread::Builder::new()
                .name(format!("kernel-{i}"))
                .spawn(move || {
                    stand_back(nice);
                    shared.work()
                })
                .map_err(|e| Error::Spawn {
                    reason: e.to_string(),
                })?;
            pool.workers.push(worker);
        }
        Ok(pool)
    }

    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Lets the workers sleep until the next job, which then has to wake them.
    pub(crate) fn rest(&self) {
        self.shared.resting.store(true, Ordering::Relaxed);
    }

    /// Calls `job(0)` to `job(parts - 1)`, in any order, on any of the threads; returns when all are done.
    pub(crate) fn run(&self, parts: usize, job: impl Fn(usize) + Sync) {
        if self.workers.is_empty() || parts <= 1 {
            (0..parts).for_each(job);
            return;
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let job: Job<'_> = &job;
        // SAFETY: only the lifetime changes. Workers take the job under the lock and count themselves in `busy`; before this
        // frame is left, even when a part panics, the job is withdrawn under the same lock and `busy` awaited to be 0.
        let job = unsafe { std::mem::transmute::<Job<'_>, Job<'static>>(job) };
        let shared = &*self.shared;
        shared.next.store(0, Ordering::Relaxed);
        let asleep = {
            let mut current = shared.lock();
            current.number += 1;
            current.job = Some(job);
            current.parts = parts;
            shared.resting.store(false, Ordering::Relaxed);
            shared.number.store(current.number, Ordering::Release);
            current.asleep
        };
        if asleep > 0 {
            shared.wake.notify_all();
        }
        let mine = catch_unwind(AssertUnwindSafe(|| shared.claim(job, parts)));
        shared.lock().job = None;
        let mut spins = 0;
        while shared.busy.load(Ordering::Acquire) > 0 {
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop()
            } else {
                std::thread::yield_now()
            }
        }
        if let Err(panic) = mine {
            shared.panicked.store(false, Ordering::Relaxed);
            resume_unwind(panic);
        }
        assert!(
            !shared.panicked.swap(false, Ordering::Relaxed),
            "a part of a parallel job panicked"
        );
    }
}

impl Coordination {
    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn claim(&self, job: Job<'_>, parts: usize) {
        loop {
            let part = self.next.fetch_add(1, Ordering::Relaxed);
            if part >= parts {
                return;
            }
            job(part);
        }
    }

    fn work(&self) {
        let mut seen = 0;
        loop {
            for _ in 0..SPINS {
                if self.number.load(Ordering::Acquire) != seen || self.resting.load(Ordering::Relaxed) {
                    break;
                }
                std::hint::spin_loop();
            }
            let (job, parts) = {
                let mut current = self.lock();
                while current.number == seen && !current.stopped {
                    current.asleep += 1;
                    current = self.wake.wait(current).unwrap_or_else(PoisonError::into_inner);
                    current.asleep -= 1;
                }
                if current.stopped {
                    return;
                }
                seen = current.number;
                let Some(job) = current.job else { continue };
                self.busy.fetch_add(1, Ordering::Relaxed);
                (job, current.parts)
            };
            if catch_unwind(AssertUnwindSafe(|| self.claim(job, parts))).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.busy.fetch_sub(1, Ordering::Release);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        {
            let mut current = self.shared.lock();
            current.stopped = true;
            // Ends the spinning.
            self.shared.number.store(usize::MAX, Ordering::Release);
        }
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its jobs; there is nothing to learn from how it ends.
            let _ended = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_runs_exactly_once_on_any_number_of_threads() {
        for threads in [1, 2, 3, 7] {
            let pool = Pool::new(threads, 0).expect("threads");
            for parts in [0, 1, 2, 5, 100] {
                let counts: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
                for turn in 0..50 {
                    pool.run(parts, |part| {
                        counts[part].fetch_add(1, Ordering::Relaxed);
                    });
                    if turn % 3 == 0 {
                        pool.rest();
                    }
                }
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 50));
            }
        }
    }

    #[test]
    fn a_panicking_part_reaches_the_caller_and_the_pool_goes_on() {
        let pool = Pool::new(3, 0).expect("threads");
        for bad in 0..20 {
            let done = catch_unwind(AssertUnwindSafe(|| pool.run(20, |part| assert_ne!(part, bad))));
            assert!(done.is_err());
        }
        let sum = AtomicUsize::new(0);
        pool.run(10, |part| {
            sum.fetch_add(part, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 45);
    }

    #[test]
    fn zero_threads_are_refused() {
        assert_eq!(
            Pool::new(0, 0).err(),
            Some(Error::Threads {
                threads: 0,
                threads_max: THREADS_MAX
            })
        );
    }
}
