//! Properties of scheduler and memory accounting: nothing lost, nothing starved, no budget passed, memory conserved.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use refract_engine::kv::Kv;
use refract_engine::scheduler::{EncodeCost, Entry, Limits, Plan, Room, Scheduler};
use refract_engine::sequence::SequenceId;

/// What happens between two steps.
#[derive(Clone, Debug)]
enum Act {
    Arrive {
        prompt: usize,
        rows: usize,
        new: usize,
        deadline: Option<u64>,
    },
    /// The n-th known sequence (modulo their number) is cancelled, waiting or running.
    Cancel(usize),
    /// The n-th running sequence gives back one row (a sample that ended).
    GiveRow(usize),
    /// There is more or less decode memory than was thought: for so many tokens, sequences and rows.
    Resize(usize, usize, usize),
    Step,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (1usize..40, 1usize..6, 1usize..12, proptest::option::weighted(0.2, 0u64..30))
            .prop_map(|(prompt, rows, new, deadline)| Act::Arrive { prompt, rows, new, deadline }),
        1 => any::<usize>().prop_map(Act::Cancel),
        1 => any::<usize>().prop_map(Act::GiveRow),
        1 => (100usize..400, 1usize..9, 5usize..20)
            .prop_map(|(tokens, sequences, rows)| Act::Resize(tokens, sequences, rows)),
        4 => Just(Act::Step),
    ];
    proptest::collection::vec(act, 1..120)
}

fn limits() -> impl Strategy<Value = Limits> {
    (
        1usize..9,
        5usize..20,
        100usize..400,
        40usize..120,
        0usize..60,
        any::<bool>(),
    )
        .prop_map(|(sequences, rows, kv, encode, padding, packed)| Limits {
            running_sequences_max: sequences,
            running_rows_max: rows,
            kv_tokens_max: kv,
            step_encode_tokens_max: encode,
            encode_padding_percent_max: padding,
            encode_cost: if packed {
                EncodeCost::Packed
            } else {
                EncodeCost::Padded
            },
        })
}

/// A scheduler with the books that the properties need.
struct World {
    scheduler: Scheduler,
    limits: Limits,
    begun: Instant,
    now: u64,
    page: usize,
    entries: BTreeMap<SequenceId, Entry>,
    /// Steps still to go, of running sequences.
    left: BTreeMap<SequenceId, usize>,
    started: Vec<SequenceId>,
    waiting: Vec<SequenceId>,
    ended: BTreeSet<SequenceId>,
    rows_given: BTreeMap<SequenceId, usize>,
}

impl World {
    fn new(limits: Limits, page: usize) -> Self {
        Self {
            scheduler: Scheduler::new(limits.clone()),
            limits,
            begun: Instant::now(),
            now: 0,
            page,
            entries: BTreeMap::new(),
            left: BTreeMap::new(),
            started: Vec::new(),
            waiting: Vec::new(),
            ended: BTreeSet::new(),
            rows_given: BTreeMap::new(),
        }
    }

    fn instant(&self, at: u64) -> Instant {
        self.begun + Duration::from_millis(at)
    }

    fn arrive(&mut self, prompt: usize, rows: usize, new: usize, deadline: Option<u64>) {
        let id = SequenceId(self.entries.len() as u64);
        let deadline = deadline.map(|after| self.instant(self.now + after));
        let entry = Entry {
            id,
            prompt_tokens: prompt,
            rows,
            new_tokens: new,
            page_tokens: self.page,
            deadline,
        };
        let feasible = self.scheduler.is_feasible(&entry);
        assert_eq!(self.scheduler.admit(entry.clone()), feasible);
        if feasible {
            self.waiting.push(id);
        } else {
            self.ended.insert(id);
        }
        self.entries.insert(id, entry);
    }

    fn end(&mut self, id: SequenceId) {
        self.scheduler.settle(id);
        self.left.remove(&id);
        self.waiting.retain(|other| *other != id);
        self.ended.insert(id);
    }

    fn step(&mut self) -> Plan {
        self.now += 1;
        let plan = self.scheduler.plan(self.instant(self.now));
        for id in &plan.expired {
            let deadline = self.entries[id].deadline.expect("only a deadline expires");
            assert!(deadline <= self.instant(self.now), "expired too early");
            self.waiting.retain(|other| other != id);
            assert!(self.ended.insert(*id), "expired twice");
        }
        for id in &self.waiting {
            let due = self.entries[id]
                .deadline
                .is_some_and(|d| d <= self.instant(self.now));
            assert!(!due, "a dead sequence still waits");
        }
        self.check_encode(&plan);
        for id in plan.encode.iter().flatten() {
            self.left.insert(*id, self.entries[id].new_tokens);
        }
        let running: BTreeSet<_> = plan.decode.iter().copied().collect();
        assert_eq!(running.len(), plan.decode.len(), "a sequence twice in one step");
        assert_eq!(
            running,
            self.left.keys().copied().collect(),
            "every running sequence decodes, and no other"
        );
        self.check_budgets(&plan);
        for id in plan.decode.clone() {
            let left = self.left.get_mut(&id).expect("running");
            *left -= 1;
            if *left == 0 {
                self.end(id);
            }
        }
        plan
    }

    fn check_encode(&mut self, plan: &Plan) {
        let mut cost = 0;
        for batch in &plan.encode {
            assert!(!batch.is_empty());
            let lengths: Vec<usize> = batch.iter().map(|id| self.entries[id].prompt_tokens).collect();
            let (real, longest) = (
                lengths.iter().sum::<usize>(),
                *lengths.iter().max().expect("not empty"),
            );
            let padded = longest * lengths.len();
            if self.limits.encode_cost == EncodeCost::Packed {
                cost += real;
            } else {
                cost += padded;
                assert!(
                    (padded - real) * 100 <= self.limits.encode_padding_percent_max * real,
                    "too much padding"
                );
            }
        }
        assert!(
            cost <= self.limits.step_encode_tokens_max,
            "the encode budget was passed"
        );
        // First come, first started.
        let mut started: Vec<SequenceId> = plan.encode.iter().flatten().copied().collect();
        started.sort_unstable();
        assert_eq!(
            started,
            self.waiting[..started.len()],
            "the head of the queue was overtaken"
        );
        self.waiting.drain(..started.len());
        self.started.extend(&started);
    }

    fn check_budgets(&self, plan: &Plan) {
        let kv = self.scheduler.kv();
        kv.check().expect("memory is conserved");
        // Who runs when there turns out to be less goes on; nobody joins.
        assert!(
            plan.encode.is_empty()
                || kv.tokens_used() <= self.limits.kv_tokens_max
                    && plan.decode.len() <= self.limits.running_sequences_max
                    && kv.rows_used() <= self.limits.running_rows_max,
            "something was started that does not fit"
        );
        let want: usize = self
            .left
            .keys()
            .map(|id| {
                let e = &self.entries[id];
                Kv::cost(
                    e.cross_tokens(),
                    e.rows - self.rows_given.get(id).copied().unwrap_or(0),
                    e.own_tokens(),
                )
            })
            .sum();
        assert_eq!(
            kv.tokens_used(),
            want,
            "exactly what the running sequences need is reserved"
        );
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Arrive {
                prompt,
                rows,
                new,
                deadline,
            } => self.arrive(prompt, rows, new, deadline),
            Act::Cancel(n) => {
                let known: Vec<SequenceId> = self.left.keys().copied().chain(self.waiting.clone()).collect();
                if let Some(id) = known.get(n % known.len().max(1)) {
                    self.end(*id);
                    assert!(self.scheduler.lease(*id).is_none(), "cancelling frees");
                }
            }
            Act::GiveRow(n) => {
                let running = self.scheduler.running().to_vec();
                let Some(id) = running.get(n % running.len().max(1)) else {
                    return;
                };
                let rows = self.scheduler.lease(*id).expect("it runs").rows.clone();
                if rows.len() > 1 {
                    assert!(self.scheduler.settle_row(*id, rows[0]));
                    assert!(
                        !self.scheduler.settle_row(*id, rows[0]),
                        "a row is given back once"
                    );
                    *self.rows_given.entry(*id).or_default() += 1;
                }
            }
            Act::Resize(tokens, sequences, rows) => {
                self.limits.kv_tokens_max = tokens;
                self.limits.running_sequences_max = sequences;
                self.limits.running_rows_max = rows;
                let room = Room {
                    tokens,
                    sequences,
                    rows,
                };
                for id in self.scheduler.resize(room) {
                    assert!(self.waiting.contains(&id), "only who waits is turned away");
                    self.end(id);
                }
            }
            Act::Step => {
                self.step();
            }
        }
        self.scheduler.kv().check().expect("memory is conserved");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_or_starved_and_no_budget_is_passed(
        limits in limits(), page in 1usize..17, acts in acts()
    ) {
        let mut world = World::new(limits, page);
        for act in &acts {
            world.act(act);
        }
        // Without further arrivals everything ends, within the sum of all lengths.
        let bound: usize = world.entries.values().map(|e| e.new_tokens).sum::<usize>() + world.entries.len() + 1;
        for _ in 0..bound {
            if world.scheduler.is_idle() {
                break;
            }
            let plan = world.step();
            prop_assert!(
                !plan.decode.is_empty() || world.scheduler.is_idle(),
                "a step with work in the queue did nothing"
            );
        }
        prop_assert!(world.scheduler.is_idle());
        prop_assert_eq!(world.ended.len(), world.entries.len(), "every sequence has ended exactly once");
        prop_assert_eq!(world.scheduler.kv().tokens_used(), 0);
        prop_assert_eq!(world.scheduler.kv().rows_used(), 0);
    }

    #[test]
    fn memory_is_conserved_under_any_reservations(
        ops in proptest::collection::vec((0u64..12, 0usize..50, 1usize..5, 0usize..20, 0u8..3), 1..200)
    ) {
        let mut kv = Kv::new(300, 6, 12);
        for (id, prompt, rows, new, op) in ops {
            let id = SequenceId(id);
            let (used, fits) = (kv.tokens_used(), kv.can_reserve(prompt, rows, new));
            match op {
                0 => {
                    let held = kv.lease(id).is_some();
                    let got = kv.reserve(id, prompt, rows, new).is_some();
                    prop_assert_eq!(got, fits && !held);
                    let cost = if got { Kv::cost(prompt, rows, new) } else { 0 };
                    prop_assert_eq!(kv.tokens_used(), used + cost);
                }
                1 => {
                    kv.release(id);
                    prop_assert!(kv.lease(id).is_none());
                }
                _ => {
                    if let Some(row) = kv.lease(id).and_then(|l| l.rows.last().copied()) {
                        prop_assert!(kv.release_row(id, row));
                    }
                }
            }
            prop_assert_eq!(kv.check(), Ok(()));
            prop_assert!(kv.tokens_used() <= kv.tokens_total(), "without a resize");
        }
    }
}
