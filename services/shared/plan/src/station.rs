//! One machine as a queue: jobs at once slow each other down by a measured curve, jobs above the limit wait in order.
//!
//! All running jobs progress at the same pace, which changes only when one begins or ends, here or at another station on the same
//! machine; so progress is one number, and a job ends when it reaches the job's own mark. Each event
//! costs a logarithm, however many run.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use crate::plan::Station;

/// A job, by the simulation's own number.
pub(crate) type Job = usize;

#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    /// Work done by each job since the beginning, in whole jobs.
    progress: f64,
    at_ms: f64,
    running: BinaryHeap<Reverse<(Mark, Job)>>,
    waiting: VecDeque<(Job, f64)>,
    busy_ms: f64,
    /// Grows with each change: an end foreseen before it is out of date.
    pub(crate) version: u64,
}

/// Progress at which a job ends; never NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Mark(f64);

impl Eq for Mark {}

impl PartialOrd for Mark {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Mark {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Node {
    pub(crate) fn load(&self) -> usize {
        self.running.len() + self.waiting.len()
    }

    /// How long at least one job ran, as jobs times capacity would count it.
    pub(crate) fn busy_ms(&self) -> f64 {
        self.busy_ms
    }

    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    /// Takes a job of `size` (1 is the average) at `now`. Progress until then is noted.
    pub(crate) fn take(&mut self, station: &Station, now: f64, job: Job, size: f64) {
        debug_assert!(self.at_ms >= now || self.running.is_empty(), "advance first");
        self.at_ms = now;
        if self.running.len() < station.at_once_max {
            self.running.push(Reverse((Mark(self.progress + size), job)));
        } else {
            self.waiting.push_back((job, size));
        }
        self.version += 1;
    }

    /// When the next job ends, if nothing else happens. `beside`: how many jobs more slow these down, of others on the machine.
    pub(crate) fn next_end(&self, station: &Station, beside: f64) -> Option<f64> {
        let Reverse((mark, _)) = self.running.peek()?;
        let takes = station.takes(self.running.len() as f64 + beside);
        Some(self.at_ms + (mark.0 - self.progress).max(0.0) * takes)
    }

    /// Ends the job that is due, and begins one that waited. Progress until then is noted.
    pub(crate) fn end(&mut self) -> Option<Job> {
        let Reverse((mark, job)) = self.running.pop()?;
        self.progress = self.progress.max(mark.0);
        if let Some((next, size)) = self.waiting.pop_front() {
            self.running.push(Reverse((Mark(self.progress + size), next)));
        }
        self.version += 1;
        Some(job)
    }

    /// Progress until `now`, with so many jobs of others beside these on the machine; before anything changes.
    pub(crate) fn advance(&mut self, station: &Station, now: f64, beside: f64) {
        let passed = now - self.at_ms;
        if !self.running.is_empty() && passed > 0.0 {
            let at_once = self.running.len() as f64;
            let takes = station.takes(at_once + beside);
            self.progress += passed / takes;
            // The part of the capacity that this progress used.
            self.busy_ms += passed * at_once * 1e3 / takes / station.capacity();
        }
        self.at_ms = now;
    }
}

/// Around 1 on average: a log-normal of this spread, by the sum of twelve uniform numbers.
pub(crate) fn drawn_size(spread: f64, draw: &mut ChaCha8Rng) -> f64 {
    let variance = (1.0 + spread * spread).ln();
    let normal: f64 = (0..12).map(|_| draw.random::<f64>()).sum::<f64>() - 6.0;
    (variance.sqrt() * normal - variance / 2.0).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn station() -> Station {
        Station {
            alone_ms: 100.0,
            each_more_ms: 50.0,
            at_once_max: 2,
            ..Station::default()
        }
    }

    /// A node whose machine is its own.
    struct Alone(Station, Node);

    impl Alone {
        fn take(&mut self, now: f64, job: Job) {
            self.1.advance(&self.0, now, 0.0);
            self.1.take(&self.0, now, job, 1.0);
        }

        fn end(&mut self, now: f64) -> Option<Job> {
            self.1.advance(&self.0, now, 0.0);
            self.1.end()
        }

        fn next_end(&self) -> Option<f64> {
            self.1.next_end(&self.0, 0.0)
        }
    }

    #[test]
    fn jobs_slow_each_other_down_and_wait_above_the_limit() {
        let mut node = Alone(station(), Node::default());
        node.take(0.0, 1);
        assert_eq!(node.next_end(), Some(100.0));
        // Half done when the second comes: the other half takes 75.
        node.take(50.0, 2);
        node.take(50.0, 3);
        assert_eq!((node.1.load(), node.next_end()), (3, Some(125.0)));
        assert_eq!(node.end(125.0), Some(1));
        // The second is half done; the third begins.
        assert_eq!(node.next_end(), Some(200.0));
        assert_eq!(node.end(200.0), Some(2));
        // Half of the third remains, alone.
        assert_eq!(node.next_end(), Some(250.0));
        assert_eq!(node.end(250.0), Some(3));
        assert_eq!((node.1.load(), node.next_end()), (0, None));
    }

    #[test]
    fn who_shares_the_machine_slows_it_down_for_as_long_as_both_work() {
        let (station, mut node) = (station(), Node::default());
        node.take(&station, 0.0, 1, 1.0);
        // Two jobs of others are as two of its own.
        assert_eq!(node.next_end(&station, 2.0), Some(200.0));
        // A quarter is done after 50 at half the pace; the rest goes at full pace.
        node.advance(&station, 50.0, 2.0);
        assert_eq!(node.next_end(&station, 0.0), Some(125.0));
    }
}
