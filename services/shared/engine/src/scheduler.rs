//! What runs now: plain data in, a [`Plan`] out. No clock, no thread, no tensor.
//!
//! First come, first started: the head of the queue is never overtaken, so a large sequence is never starved by small
//! ones behind it. Every running row decodes one token a step, and new sequences are encoded between steps, up to a
//! token budget of their own, so that arrivals hold up running sequences by a bounded time.

use std::collections::VecDeque;
use std::time::Instant;

use crate::config::Config;
use crate::error::Error;
use crate::kv::{Kv, Lease, RowSlot};
use crate::sequence::SequenceId;

/// What the scheduler knows of a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: SequenceId,
    pub prompt_tokens: usize,
    pub rows: usize,
    pub new_tokens: usize,
    /// Decode memory is reserved in pieces of so many positions; at least 1.
    pub page_tokens: usize,
    pub deadline: Option<Instant>,
}

impl Entry {
    /// Positions reserved for the prompt.
    pub fn cross_tokens(&self) -> usize {
        whole(self.prompt_tokens, self.page_tokens)
    }

    /// Positions reserved for each row.
    pub fn own_tokens(&self) -> usize {
        whole(self.new_tokens, self.page_tokens)
    }

    pub fn cost(&self) -> usize {
        Kv::cost(self.cross_tokens(), self.rows, self.own_tokens())
    }
}

fn whole(tokens: usize, page: usize) -> usize {
    tokens.div_ceil(page).saturating_mul(page)
}

/// One turn of the loop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Left the queue unstarted: their deadline has passed.
    pub expired: Vec<SequenceId>,
    /// New sequences, in encoder batches of similar lengths.
    pub encode: Vec<Vec<SequenceId>>,
    /// All running sequences, the new ones last.
    pub decode: Vec<SequenceId>,
}

/// How an encoder batch is paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeCost {
    /// Sequences × longest prompt; lengths in one batch are kept similar.
    Padded,
    /// Sum of the prompts: the runner does not pad.
    Packed,
}

/// What may run at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Tokens held in decode memory.
    pub tokens: usize,
    pub sequences: usize,
    pub rows: usize,
}

impl Room {
    pub fn configured(config: &Config) -> Self {
        Self {
            tokens: config.kv_tokens_max,
            sequences: config.running_sequences_max,
            rows: config.running_rows_max,
        }
    }

    /// Refuses what would not run even alone: a sequence of so many rows that reserves so many tokens.
    pub fn check(&self, rows: usize, tokens: usize) -> Result<(), Error> {
        if rows > self.rows || tokens > self.tokens {
            return Err(self.refusal(rows, tokens));
        }
        Ok(())
    }

    /// Why a sequence could never start.
    pub fn refusal(&self, rows: usize, tokens: usize) -> Error {
        if rows > self.rows {
            Error::TooManyRows {
                rows,
                rows_max: self.rows,
            }
        } else {
            Error::TooLarge {
                tokens,
                tokens_max: self.tokens,
            }
        }
    }
}

/// The part of the configuration that planning needs.
#[derive(Clone, Debug)]
pub struct Limits {
    pub running_sequences_max: usize,
    pub running_rows_max: usize,
    pub kv_tokens_max: usize,
    pub step_encode_tokens_max: usize,
    pub encode_padding_percent_max: usize,
    pub encode_cost: EncodeCost,
}

impl Limits {
    pub fn new(config: &Config, encode_cost: EncodeCost) -> Self {
        Self {
            running_sequences_max: config.running_sequences_max,
            running_rows_max: config.running_rows_max,
            kv_tokens_max: config.kv_tokens_max,
            step_encode_tokens_max: config.step_encode_tokens_max,
            encode_padding_percent_max: config.encode_padding_percent_max,
            encode_cost,
        }
    }
}

#[derive(Debug)]
pub struct Scheduler {
    limits: Limits,
    waiting: VecDeque<Entry>,
    running: Vec<SequenceId>,
    kv: Kv,
}

impl Scheduler {
    pub fn new(limits: Limits) -> Self {
        let kv = Kv::new(
            limits.kv_tokens_max,
            limits.running_sequences_max,
            limits.running_rows_max,
        );
        Self {
            limits,
            waiting: VecDeque::new(),
            running: Vec::new(),
            kv,
        }
    }

    /// Whether the sequence could ever start, on an idle device.
    pub fn is_feasible(&self, entry: &Entry) -> bool {
        entry.cost() <= self.limits.kv_tokens_max
            && entry.rows <= self.limits.running_rows_max
            && entry.prompt_tokens <= self.limits.step_encode_tokens_max
    }

    /// Puts a feasible sequence at the end of the queue. `false`, and nothing is kept, where it could never start.
    #[must_use]
    pub fn admit(&mut self, entry: Entry) -> bool {
        let feasible = self.is_feasible(&entry);
        if feasible {
            self.waiting.push_back(entry);
        }
        feasible
    }

    /// From now on so much may run, at most as much as at first. Returns who waits and could now never start; they stay until they
    /// are settled.
    pub fn resize(&mut self, room: Room) -> Vec<SequenceId> {
        self.limits.kv_tokens_max = room.tokens;
        self.limits.running_sequences_max = room.sequences;
        self.limits.running_rows_max = room.rows;
        self.kv.resize(room);
        let hopeless = self.waiting.iter().filter(|entry| !self.is_feasible(entry));
        hopeless.map(|entry| entry.id).collect()
    }

    /// Starts what fits, in order, and says what this step does. Started sequences hold their memory from here on.
    pub fn plan(&mut self, now: Instant) -> Plan {
        let mut plan = Plan::default();
        self.waiting.retain(|entry| {
            let expired = entry.deadline.is_some_and(|deadline| deadline <= now);
            if expired {
                plan.expired.push(entry.id);
            }
            !expired
        });
        // (prompt tokens, id) of the sequences that start, by length.
        let mut started: Vec<(usize, SequenceId)> = Vec::new();
        while let Some(head) = self.waiting.front() {
            if !self
                .kv
                .can_reserve(head.cross_tokens(), head.rows, head.own_tokens())
            {
                break;
            }
            let key = (head.prompt_tokens, head.id);
            let at = started.partition_point(|other| *other < key);
            started.insert(at, key);
            if self.encode_cost(&started) > self.limits.step_encode_tokens_max {
                started.remove(at);
                break;
            }
            self.kv
                .reserve(head.id, head.cross_tokens(), head.rows, head.own_tokens());
            self.running.push(head.id);
            self.waiting.pop_front();
        }
        plan.encode = self
            .groups(&started)
            .map(|g| g.iter().map(|(_, id)| *id).collect())
            .collect();
        plan.decode = self.running.clone();
        plan
    }

    /// Forgets a sequence wherever it is; what it held is given back. `None` where it held nothing.
    pub fn settle(&mut self, id: SequenceId) -> Option<Lease> {
        self.waiting.retain(|entry| entry.id != id);
        self.running.retain(|other| *other != id);
        self.kv.release(id)
    }

    /// Gives back one row of a running sequence.
    pub fn settle_row(&mut self, id: SequenceId, row: RowSlot) -> bool {
        self.kv.release_row(id, row)
    }

    pub fn lease(&self, id: SequenceId) -> Option<&Lease> {
        self.kv.lease(id)
    }

    pub fn kv(&self) -> &Kv {
        &self.kv
    }

    pub fn waiting(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.waiting.iter()
    }

    pub fn running(&self) -> &[SequenceId] {
        &self.running
    }

    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Cuts prompts, shortest first, into batches whose padding is within the limit.
    fn groups<'a>(
        &self,
        by_length: &'a [(usize, SequenceId)],
    ) -> impl Iterator<Item = &'a [(usize, SequenceId)]> {
        let mut rest = by_length;
        let percent = self.limits.encode_padding_percent_max;
        let packed = self.limits.encode_cost == EncodeCost::Packed;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let mut real = 0;
            let mut count = 0;
            for (length, _) in rest {
                let padding = length * (count + 1) - (real + length);
                if !packed && padding * 100 > percent * (real + length) {
                    break;
                }
                real += length;
                count += 1;
            }
            let (group, later) = rest.split_at(count);
            rest = later;
            Some(group)
        })
    }

    fn encode_cost(&self, by_length: &[(usize, SequenceId)]) -> usize {
        match self.limits.encode_cost {
            EncodeCost::Packed => by_length.iter().map(|(length, _)| length).sum(),
            EncodeCost::Padded => self
                .groups(by_length)
                .map(|g| g.len() * g.last().map_or(0, |(length, _)| *length))
                .sum(),
        }
    }
}
