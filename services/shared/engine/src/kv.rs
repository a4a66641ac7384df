//! Accounting of decode memory: two kinds with two lives, in tokens and in slots.
//!
//! *Cross* memory is written once by encode and shared by a sequence's rows; *own* memory grows a position a step and
//! is copied when beams fork. A sequence reserves the most it can ever need when it starts (pessimistic: a started
//! sequence never has to be thrown out) and gives it back when it ends. The tensors themselves live behind the runner.

use std::collections::BTreeMap;

use crate::scheduler::Room;
use crate::sequence::SequenceId;

/// Where the runner keeps the cross memory of one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CrossSlot(pub u32);

/// Where the runner keeps the own memory of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowSlot(pub u32);

/// A copy of own memory from one row to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowMove {
    pub to: RowSlot,
    pub from: RowSlot,
}

/// What one sequence holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub cross: CrossSlot,
    pub rows: Vec<RowSlot>,
    pub cross_tokens: usize,
    /// Of each row.
    pub own_tokens: usize,
}

impl Lease {
    fn tokens(&self) -> usize {
        self.cross_tokens + self.rows.len() * self.own_tokens
    }
}

#[derive(Clone, Debug)]
pub struct Kv {
    tokens_total: usize,
    cross_total: usize,
    rows_total: usize,
    /// Of the slots, so many may be held at a time.
    sequences_max: usize,
    rows_max: usize,
    tokens_used: usize,
    cross_free: Vec<CrossSlot>,
    rows_free: Vec<RowSlot>,
    leases: BTreeMap<SequenceId, Lease>,
}

impl Kv {
    pub fn new(tokens_total: usize, cross_total: usize, rows_total: usize) -> Self {
        Self {
            tokens_total,
            cross_total,
            rows_total,
            sequences_max: cross_total,
            rows_max: rows_total,
            tokens_used: 0,
            // Lowest slots are handed out first.
            cross_free: (0..cross_total as u32).rev().map(CrossSlot).collect(),
            rows_free: (0..rows_total as u32).rev().map(RowSlot).collect(),
            leases: BTreeMap::new(),
        }
    }

    /// Tokens that a sequence reserves.
    pub fn cost(prompt_tokens: usize, rows: usize, new_tokens: usize) -> usize {
        prompt_tokens.saturating_add(rows.saturating_mul(new_tokens))
    }

    pub fn can_reserve(&self, prompt_tokens: usize, rows: usize, new_tokens: usize) -> bool {
        !self.cross_free.is_empty()
            && rows <= self.rows_free.len()
            && self.leases.len() < self.sequences_max
            && self.rows_used() + rows <= self.rows_max
            && Self::cost(prompt_tokens, rows, new_tokens)
                <= self.tokens_total.saturating_sub(self.tokens_used)
    }

    /// `None` where it does not fit, and nothing has changed.
    pub fn reserve(
        &mut self,
        id: SequenceId,
        prompt_tokens: usize,
        rows: usize,
        new_tokens: usize,
    ) -> Option<&Lease> {
        if !self.can_reserve(prompt_tokens, rows, new_tokens) || self.leases.contains_key(&id) {
            return None;
        }
        let cross = self.cross_free.pop()?;
        let at = self.rows_free.len() - rows;
        let mut taken = self.rows_free.split_off(at);
        taken.reverse();
        let lease = Lease {
            cross,
            rows: taken,
            cross_tokens: prompt_tokens,
            own_tokens: new_tokens,
        };
        self.tokens_used += lease.tokens();
        Some(self.leases.entry(id).or_insert(lease))
    }

    pub fn lease(&self, id: SequenceId) -> Option<&Lease> {
        self.leases.get(&id)
    }

    /// Gives back one row of a sequence that goes on with fewer (a sample that has ended).
    pub fn release_row(&mut self, id: SequenceId, row: RowSlot) -> bool {
        let Some(lease) = self.leases.get_mut(&id) else {
            return false;
        };
        let Some(at) = lease.rows.iter().position(|r| *r == row) else {
            return false;
        };
        lease.rows.remove(at);
        self.rows_free.push(row);
        self.tokens_used -= lease.own_tokens;
        true
    }

    /// Gives back everything that a sequence holds.
    pub fn release(&mut self, id: SequenceId) -> Option<Lease> {
        let lease = self.leases.remove(&id)?;
        self.tokens_used -= lease.tokens();
        self.cross_free.push(lease.cross);
        self.rows_free.extend(lease.rows.iter().rev());
        Some(lease)
    }

    pub fn tokens_total(&self) -> usize {
        self.tokens_total
    }

    pub fn tokens_used(&self) -> usize {
        self.tokens_used
    }

    /// From now on there is so much. Where more is in use, nothing is reserved until enough has come back. Slots stay as many as
    /// they were at first.
    pub fn resize(&mut self, room: Room) {
        self.tokens_total = room.tokens;
        self.sequences_max = room.sequences;
        self.rows_max = room.rows;
    }

    pub fn rows_used(&self) -> usize {
        self.rows_total - self.rows_free.len()
    }

    /// What is counted as used is what the leases hold, used plus free slots are all slots, and no slot has two holders. Says
    /// what is wrong.
    pub fn check(&self) -> Result<(), String> {
        let used: usize = self.leases.values().map(Lease::tokens).sum();
        if used != self.tokens_used {
            return Err(format!("tokens: {used} are held, {} counted", self.tokens_used));
        }
        let mut cross: Vec<_> = self
            .cross_free
            .iter()
            .copied()
            .chain(self.leases.values().map(|l| l.cross))
            .collect();
        cross.sort_unstable();
        if cross != (0..self.cross_total as u32).map(CrossSlot).collect::<Vec<_>>() {
            return Err(format!(
                "cross slots: {} accounted for, of {}",
                cross.len(),
                self.cross_total
            ));
        }
        let mut rows: Vec<_> = self
            .rows_free
            .iter()
            .copied()
            .chain(self.leases.values().flat_map(|l| l.rows.iter().copied()))
            .collect();
        rows.sort_unstable();
        if rows != (0..self.rows_total as u32).map(RowSlot).collect::<Vec<_>>() {
            return Err(format!(
                "row slots: {} accounted for, of {}",
                rows.len(),
                self.rows_total
            ));
        }
        Ok(())
    }
}
