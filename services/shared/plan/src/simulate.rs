//! The cluster, event by event: requests arrive, are ranked, their items looked up, asked about, written.
//!
//! A large cluster is simulated by a slice of it: with every pool and the load divided by the same number, each machine
//! sees what it would see, so 10⁵ requests a second cost no more events than a hundred.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use refract_loadtest::schedule::{self, Arrivals};
use refract_loadtest::summary::curve;

use crate::plan::{Plan, Station};
use crate::station::{Node, drawn_size};

/// Machines of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub ranker: usize,
    pub oracle: usize,
    pub prism: usize,
}

/// What memory knows when the run begins.
#[derive(Clone, Debug)]
pub enum Known {
    /// The long run: this share of users is found.
    Share(f64),
    /// The given user of each start; a user is known from its first answer on.
    Askers(Vec<usize>),
}

/// One run of the simulation.
#[derive(Clone, Debug)]
pub struct Run {
    /// Requests a second at the whole cluster.
    pub rate: f64,
    pub duration: Duration,
    pub known: Known,
    /// Where all stations stand on one machine: as how many of its own each job of another station slows a station's jobs down. 1:
    /// as one, as on processors shared by all; 0: each station has a machine, or processors enough, of its own.
    pub sharing: f64,
    /// Of the arrivals: the same seed is the same schedule as the load generator's.
    pub seed: u64,
    /// Of everything else: how large each job is, who is found, which machine is drawn.
    pub draws: u64,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub answered_per_second: f64,
    /// 101 quantiles each.
    pub slate_ms: Vec<f64>,
    pub item_ms: Vec<f64>,
    pub complete_ms: Vec<f64>,
    /// The same of requests whose knowledge was remembered, and of those for which the Oracle was asked; empty where there was none.
    pub found_ms: Vec<f64>,
    pub asked_ms: Vec<f64>,
    pub hit_share: f64,
    pub without_knowledge_share: f64,
    /// Share of the capacity in use.
    pub busy: [f64; 3],
    pub requests: usize,
}

/// The most machines of a pool that a slice has.
const SLICE_NODES_MAX: usize = 12;

const RANKER: usize = 0;
const ORACLE: usize = 1;
const PRISM: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Time(f64);

impl Eq for Time {}

impl PartialOrd for Time {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Time {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives(usize),
    /// Station, node, and the node's version when this end was foreseen.
    Ends(usize, usize, u64),
    /// The item's patience with the Oracle is over.
    GivesUp(usize),
    /// The item goes to the Oracle.
    Asks(usize),
    /// The item goes to a Prism.
    Writes(usize),
}

struct Request {
    begun: f64,
    /// Of all its jobs, where 1 is the average.
    size: f64,
    left: usize,
    user: Option<usize>,
    is_hit: bool,
}

struct Item {
    request: usize,
    /// Whether it still waits for the Oracle's answer.
    is_asking: bool,
}

/// What a job of a station is about.
#[derive(Clone, Copy)]
enum About {
    Request(usize),
    Item(usize),
}

struct Simulation<'a> {
    plan: &'a Plan,
    run: &'a Run,
    stations: [&'a Station; 3],
    pools: [Vec<Node>; 3],
    jobs: Vec<(About, usize, usize)>,
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
    order: u64,
    requests: Vec<Request>,
    items: Vec<Item>,
    /// Users whose knowledge is remembered by now, where [`Known::Askers`] tells users apart.
    known: HashSet<usize>,
    draw: ChaCha8Rng,
    tally: Tally,
}

/// What has come to pass, in milliseconds.
#[derive(Default)]
struct Tally {
    slates: Vec<f64>,
    items: Vec<f64>,
    found: Vec<f64>,
    asked: Vec<f64>,
    hits: usize,
    without: usize,
    explained: usize,
    /// When the last job ended.
    last: f64,
}

/// Runs it. `plan` must have been checked.
pub fn simulate(plan: &Plan, size: Size, run: &Run) -> Seen {
    let sizes = [size.ranker.max(1), size.oracle.max(1), size.prism.max(1)];
    let largest = sizes.into_iter().max().unwrap_or(1);
    // A pool that the slice would cut below one machine keeps one, so small pools set how thin the slice may be.
    let smallest = sizes.into_iter().min().unwrap_or(1);
    let part = (largest.div_ceil(SLICE_NODES_MAX)).min(smallest).max(1);
    let nodes = sizes.map(|n| ((n as f64 / part as f64).round() as usize).max(1));

    let mut it = Simulation::new(plan, run, nodes);
    it.schedule(run.rate / part as f64);
    while let Some(Reverse((Time(now), _, event))) = it.events.pop() {
        match event {
            Event::Arrives(request) => it.send(RANKER, now, About::Request(request)),
            Event::Ends(station, node, version) => it.ends(station, node, version, now),
            Event::GivesUp(item) => it.gives_up(item, now),
            Event::Asks(item) => it.send(ORACLE, now, About::Item(item)),
            Event::Writes(item) => it.send(PRISM, now, About::Item(item)),
        }
    }
    it.seen(part)
}

impl<'a> Simulation<'a> {
    fn new(plan: &'a Plan, run: &'a Run, nodes: [usize; 3]) -> Self {
        Self {
            plan,
            run,
            stations: [&plan.ranker, &plan.oracle, &plan.prism],
            pools: nodes.map(|n| vec![Node::default(); n]),
            jobs: Vec::new(),
            events: BinaryHeap::new(),
            order: 0,
            requests: Vec::new(),
            items: Vec::new(),
            known: HashSet::new(),
            draw: ChaCha8Rng::seed_from_u64(run.draws ^ 0xd15c),
            tally: Tally::default(),
        }
    }

    /// All arrivals, `rate` a second.
    fn schedule(&mut self, rate: f64) {
        let starts = schedule::starts(Arrivals::Poisson, rate, self.run.duration, self.run.seed);
        for (n, start) in starts.iter().enumerate() {
            let begun = start.as_secs_f64() * 1e3;
            self.at(begun, Event::Arrives(n));
            let size = drawn_size(self.plan.load.spread, &mut self.draw);
            self.requests.push(Request {
                begun,
                size,
                left: self.plan.load.items,
                user: match &self.run.known {
                    Known::Askers(askers) => askers.get(n % askers.len().max(1)).copied(),
                    Known::Share(_) => None,
                },
                is_hit: false,
            });
        }
    }

    /// A job of a node is done, unless its pace has changed since this end was foreseen.
    fn ends(&mut self, station: usize, node: usize, version: u64, now: f64) {
        if self.pools[station][node].version != version {
            return;
        }
        let Some(about) = self.end(station, node, now) else {
            return;
        };
        self.tally.last = now;
        match about {
            About::Request(request) => self.slate_is_ready(request, now),
            About::Item(item) if station == ORACLE => self.knowledge_came(item, now),
            About::Item(item) => self.item_is_explained(item, now),
        }
    }

    fn slate_is_ready(&mut self, request: usize, now: f64) {
        self.tally
            .slates
            .push(now - self.requests[request].begun + self.plan.load.way_ms);
        let is_hit = match (&self.run.known, self.requests[request].user) {
            (Known::Share(share), _) => self.draw.random::<f64>() < *share,
            (Known::Askers(_), user) => user.is_some_and(|user| self.known.contains(&user)),
        };
        self.requests[request].is_hit = is_hit;
        let looked_up = now + self.plan.memory.lookup_ms;
        for _ in 0..self.plan.load.items {
            self.items.push(Item {
                request,
                is_asking: !is_hit,
            });
            let item = self.items.len() - 1;
            if is_hit {
                self.tally.hits += 1;
                self.at(looked_up, Event::Writes(item));
            } else {
                self.at(looked_up, Event::Asks(item));
                self.at(now + self.plan.promises.consult_cap_ms, Event::GivesUp(item));
            }
        }
    }

    /// The Oracle has answered; too late for an item that has gone on without.
    fn knowledge_came(&mut self, item: usize, now: f64) {
        if std::mem::take(&mut self.items[item].is_asking) {
            self.known.extend(self.requests[self.items[item].request].user);
            self.at(now, Event::Writes(item));
        }
    }

    fn gives_up(&mut self, item: usize, now: f64) {
        if std::mem::take(&mut self.items[item].is_asking) {
            self.tally.without += 1;
            self.at(now, Event::Writes(item));
        }
    }

    fn item_is_explained(&mut self, item: usize, now: f64) {
        let tally = &mut self.tally;
        let request = &mut self.requests[self.items[item].request];
        let took = now - request.begun + self.plan.load.way_ms;
        tally.explained += 1;
        tally.items.push(took);
        request.left -= 1;
        if request.left == 0 {
            if request.is_hit {
                &mut tally.found
            } else {
                &mut tally.asked
            }
            .push(took);
        }
    }

    /// The whole cluster's figures, of which this was one of `part` slices.
    fn seen(mut self, part: usize) -> Seen {
        let Tally { last, explained, .. } = self.tally;
        let busy = [RANKER, ORACLE, PRISM].map(|station| {
            let pool = &self.pools[station];
            pool.iter().map(Node::busy_ms).sum::<f64>() / pool.len() as f64 / last.max(1.0)
        });
        let tally = &mut self.tally;
        let mut complete = [&tally.found[..], &tally.asked[..]].concat();
        Seen {
            // What was begun and ended, over the time it took: below the rate when the cluster falls behind.
            answered_per_second: part as f64 * complete.len() as f64
                / (last.max(1.0) / 1e3).max(self.run.duration.as_secs_f64()),
            requests: self.requests.len(),
            slate_ms: curve(&mut tally.slates),
            item_ms: curve(&mut tally.items),
            complete_ms: curve(&mut complete),
            found_ms: curve(&mut tally.found),
            asked_ms: curve(&mut tally.asked),
            hit_share: tally.hits as f64 / explained.max(1) as f64,
            without_knowledge_share: tally.without as f64 / explained.max(1) as f64,
            busy,
        }
    }

    fn at(&mut self, time: f64, event: Event) {
        self.order += 1;
        self.events.push(Reverse((Time(time), self.order, event)));
    }

    /// The less busy of two machines, as our clients choose.
    fn send(&mut self, station: usize, now: f64, about: About) {
        let pool = &self.pools[station];
        let one = self.draw.random_range(0..pool.len());
        let other = self.draw.random_range(0..pool.len());
        let node = if pool[other].load() < pool[one].load() {
            other
        } else {
            one
        };
        let request = match about {
            About::Request(request) => request,
            About::Item(item) => self.items[item].request,
        };
        let size = self.requests[request].size * drawn_size(self.stations[station].spread, &mut self.draw);
        self.jobs.push((about, station, node));
        let job = self.jobs.len() - 1;
        self.settle(station, node, now);
        self.pools[station][node].take(self.stations[station], now, job, size);
        self.foresee(station, node);
    }

    fn end(&mut self, station: usize, node: usize, now: f64) -> Option<About> {
        self.settle(station, node, now);
        let job = self.pools[station][node].end()?;
        self.foresee(station, node);
        Some(self.jobs[job].0)
    }

    /// Jobs of other stations that count as so many more of this one's own.
    fn beside(&self, station: usize) -> f64 {
        if self.run.sharing == 0.0 {
            return 0.0;
        }
        let others = [RANKER, ORACLE, PRISM]
            .into_iter()
            .filter(|other| *other != station);
        let running = others.flat_map(|other| &self.pools[other]).map(Node::running);
        self.run.sharing * running.sum::<usize>() as f64
    }

    /// Before anything changes, progress so far is noted at the old pace: on a shared machine everybody's.
    fn settle(&mut self, station: usize, node: usize, now: f64) {
        if self.run.sharing == 0.0 {
            self.pools[station][node].advance(self.stations[station], now, 0.0);
            return;
        }
        for station in [RANKER, ORACLE, PRISM] {
            let beside = self.beside(station);
            for node in &mut self.pools[station] {
                node.advance(self.stations[station], now, beside);
            }
        }
    }

    /// Announces the next end of a node; on a shared machine of all, for all paces have changed.
    fn foresee(&mut self, station: usize, node: usize) {
        for s in [RANKER, ORACLE, PRISM] {
            let beside = self.beside(s);
            for n in 0..self.pools[s].len() {
                if self.run.sharing == 0.0 && (s, n) != (station, node) {
                    continue;
                }
                self.pools[s][n].version += 1;
                let version = self.pools[s][n].version;
                if let Some(at) = self.pools[s][n].next_end(self.stations[s], beside) {
                    self.at(at, Event::Ends(s, n, version));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let mut plan = Plan::default();
        for station in [&mut plan.ranker, &mut plan.oracle, &mut plan.prism] {
            station.spread = 0.0;
            station.each_more_ms = 0.0;
            station.at_once_max = 1;
        }
        plan.load.items = 1;
        plan.load.way_ms = 0.0;
        plan.load.spread = 0.0;
        plan.memory.lookup_ms = 0.0;
        plan.promises.consult_cap_ms = 1e9;
        plan
    }

    fn run(rate: f64, seconds: u64, share: f64) -> Run {
        Run {
            rate,
            duration: Duration::from_secs(seconds),
            known: Known::Share(share),
            sharing: 0.0,
            seed: 3,
            draws: 3,
        }
    }

    fn one() -> Size {
        Size {
            ranker: 1,
            oracle: 1,
            prism: 1,
        }
    }

    #[test]
    fn a_single_queue_waits_as_theory_says() {
        // M/D/1: the mean wait is ρ/(2(1−ρ)) of a service; here only the ranker queues.
        let mut plan = plan();
        plan.ranker.alone_ms = 100.0;
        plan.oracle.alone_ms = 1e-6;
        plan.prism.alone_ms = 1e-6;
        let seen = simulate(&plan, one(), &run(5.0, 20_000, 1.0));
        let mean = seen.slate_ms.iter().sum::<f64>() / 101.0;
        assert!((145.0..157.0).contains(&mean), "100 + 50 expected: {mean}");
        assert!((seen.busy[RANKER] - 0.5).abs() < 0.02, "{:?}", seen.busy);
    }

    #[test]
    fn an_idle_cluster_takes_the_sum_of_its_stations_and_hits_skip_the_oracle() {
        let mut plan = plan();
        (plan.ranker.alone_ms, plan.oracle.alone_ms, plan.prism.alone_ms) = (1.0, 70.0, 20.0);
        let miss = simulate(&plan, one(), &run(0.01, 10_000, 0.0));
        assert!(
            (miss.complete_ms[50] - 91.0).abs() < 1e-6,
            "{}",
            miss.complete_ms[50]
        );
        let hit = simulate(&plan, one(), &run(0.01, 10_000, 1.0));
        assert!((hit.complete_ms[50] - 21.0).abs() < 1e-6);
        assert_eq!((miss.hit_share, hit.hit_share), (0.0, 1.0));
        assert_eq!(
            (&miss.asked_ms, &hit.found_ms),
            (&miss.complete_ms, &hit.complete_ms)
        );
        assert!(miss.found_ms.is_empty() && hit.asked_ms.is_empty());
    }

    #[test]
    fn who_waits_too_long_for_the_oracle_goes_on_without() {
        let mut plan = plan();
        plan.oracle.alone_ms = 1_000.0;
        plan.promises.consult_cap_ms = 500.0;
        let seen = simulate(&plan, one(), &run(1.0, 100, 0.0));
        assert_eq!(seen.without_knowledge_share, 1.0);
        assert!(seen.complete_ms[100] < 800.0, "{}", seen.complete_ms[100]);
    }

    #[test]
    fn a_user_is_known_from_the_first_answer_on() {
        let mut run = run(1.0, 200, 0.0);
        run.known = Known::Askers(vec![0, 1, 0, 1, 0, 1]);
        let seen = simulate(&plan(), one(), &run);
        assert!(
            seen.hit_share > 0.95 && seen.hit_share < 1.0,
            "{}",
            seen.hit_share
        );
    }

    #[test]
    fn a_slice_sees_what_the_whole_sees() {
        let mut plan = plan();
        plan.prism.at_once_max = 8;
        plan.prism.each_more_ms = 5.0;
        let size = |n| Size {
            ranker: n,
            oracle: n,
            prism: n,
        };
        let small = simulate(&plan, size(12), &run(240.0, 60, 0.7));
        let large = simulate(&plan, size(1_200), &run(24_000.0, 60, 0.7));
        let ratio = large.complete_ms[99] / small.complete_ms[99];
        assert!((0.8..1.25).contains(&ratio), "{ratio}");
        assert!((large.answered_per_second / small.answered_per_second - 100.0).abs() < 5.0);
    }

    #[test]
    fn jobs_on_one_machine_slow_each_other_down_whatever_their_station() {
        let mut plan = plan();
        for station in [&mut plan.oracle, &mut plan.prism] {
            station.at_once_max = 64;
            station.each_more_ms = 20.0;
        }
        let mut together = run(10.0, 100, 0.5);
        let apart = simulate(&plan, one(), &together);
        together.sharing = 1.0;
        let together = simulate(&plan, one(), &together);
        assert!(together.complete_ms[90] > 1.02 * apart.complete_ms[90]);
        assert_eq!(together.requests, apart.requests);

        // One processor, however the work is divided: an M/G/1 queue under processor sharing of all stations' work
        // takes S/(1-rho) on average.
        let mut plan = self::plan();
        (plan.ranker.alone_ms, plan.oracle.alone_ms, plan.prism.alone_ms) = (1e-6, 40.0, 10.0);
        for station in [&mut plan.oracle, &mut plan.prism] {
            station.at_once_max = 1_000;
            station.each_more_ms = station.alone_ms;
        }
        let mut shared = run(10.0, 20_000, 0.0);
        shared.sharing = 1.0;
        let seen = simulate(&plan, one(), &shared);
        let mean = seen.complete_ms.iter().sum::<f64>() / 101.0;
        assert!((85.0..115.0).contains(&mean), "about 100 expected: {mean}");
    }
}
