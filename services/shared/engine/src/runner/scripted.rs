//! A runner without a model, for tests of whatever stands on an engine: what follows is a function of prompt and ids.
//!
//! It also keeps the books: own memory is a list of ids by row, and a call that contradicts it is an error.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::{
    CrossSlot, DecodeRow, EncodeCost, EncodeJob, Layout, Logits, Page, RowMove, RowSlot, Runner, RunnerError,
    Shape,
};

/// Writes the logits of what follows `ids` (the decoder start id first), for this prompt.
type Script = dyn FnMut(&[u32], &[u32], &mut [f32]) + Send;

/// Stops a [`Scripted`] runner between calls, so that a test can arrange what the engine finds next.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<(Mutex<GateState>, Condvar)>);

#[derive(Debug, Default)]
struct GateState {
    closed: bool,
    /// Calls that may still pass while closed.
    passes: usize,
    /// Calls that have arrived.
    arrived: u64,
    /// Decode calls by number of rows, in order, and encode calls by number of prompts.
    decoded: Vec<usize>,
    encoded: Vec<usize>,
}

impl Gate {
    /// From now on calls wait at the gate.
    pub fn close(&self) {
        self.change(|state| state.closed = true);
    }

    pub fn open(&self) {
        self.change(|state| state.closed = false);
    }

    /// Lets so many calls (encode or decode) through a closed gate.
    pub fn pass(&self, calls: usize) {
        self.change(|state| state.passes += calls);
    }

    /// Waits (blocking) until so many calls have arrived in all.
    pub fn wait_for_arrivals(&self, calls: u64) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.arrived < calls {
            state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub fn arrived(&self) -> u64 {
        self.read(|state| state.arrived)
    }

    /// Rows of each decode call so far.
    pub fn decoded(&self) -> Vec<usize> {
        self.read(|state| state.decoded.clone())
    }

    /// Prompts of each encode call so far.
    pub fn encoded(&self) -> Vec<usize> {
        self.read(|state| state.encoded.clone())
    }

    fn arrive(&self) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.arrived += 1;
        changed.notify_all();
        while state.closed && state.passes == 0 {
            state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.passes = state.passes.saturating_sub(1);
    }

    fn change(&self, change: impl FnOnce(&mut GateState)) {
        change(&mut self.0.0.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.1.notify_all();
    }

    fn read<T>(&self, read: impl FnOnce(&GateState) -> T) -> T {
        read(&self.0.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A device of so much memory, kept in pages.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub free: u64,
    pub page: Page,
    /// What encoding works with from its first time on, for each token (padding included) of the largest batch.
    pub working: u64,
}

pub struct Scripted {
    shape: Shape,
    script: Box<Script>,
    gate: Gate,
    prompts: HashMap<CrossSlot, Vec<u32>>,
    own: HashMap<RowSlot, Vec<u32>>,
    /// A prompt with this id fails to encode.
    encode_poison: Option<u32>,
    /// A row whose prompt has this id fails to decode from this many ids on.
    decode_poison: Option<(u32, usize)>,
    /// A prompt with this id panics in decode.
    panic_on: Option<u32>,
    /// A prompt with this id loses the device: when it is encoded, or when it has this many decoder ids.
    loss: Option<(u32, Option<usize>)>,
    memory: Option<Memory>,
    /// Most tokens encoded together.
    encoded_most: usize,
}

impl Scripted {
    pub fn new(shape: Shape, script: impl FnMut(&[u32], &[u32], &mut [f32]) + Send + 'static) -> Self {
        Self {
            shape,
            script: Box::new(script),
            gate: Gate::default(),
            prompts: HashMap::new(),
            own: HashMap::new(),
            encode_poison: None,
            decode_poison: None,
            panic_on: None,
            loss: None,
            memory: None,
            encoded_most: 0,
        }
    }

    /// Says the prompt back, token by token, then `eos`. Vocabulary 100, decoder start 0.
    pub fn echo(eos: u32) -> Self {
        let shape = Shape {
            exact_drafts: true,
            vocab: 100,
            decoder_start: 0,
            prompt_positions_max: None,
            own_positions_max: None,
            pair_tables: None,
            encode_cost: EncodeCost::Padded,
        };
        Self::new(shape, move |prompt, ids, line| {
            line.fill(0.0);
            line[prompt.get(ids.len() - 1).copied().unwrap_or(eos) as usize] = 9.0;
        })
    }

    pub fn gate(&self) -> Gate {
        self.gate.clone()
    }

    /// Runs on a device of so much memory; what does not fit it fails.
    pub fn with_memory(mut self, memory: Memory) -> Self {
        self.memory = Some(memory);
        self
    }

    fn taken(&self, memory: &Memory) -> u64 {
        self.bytes() as u64 + self.encoded_most as u64 * memory.working
    }

    fn check_memory(&self) -> Result<(), RunnerError> {
        match &self.memory {
            Some(memory) if self.taken(memory) > memory.free => Err(RunnerError::new("out of memory")),
            _ => Ok(()),
        }
    }

    /// Prompts with `id` fail to encode.
    pub fn failing_to_encode(mut self, id: u32) -> Self {
        self.encode_poison = Some(id);
        self
    }

    /// Prompts with `id` fail to decode once they have `ids` decoder ids.
    pub fn failing_to_decode(mut self, id: u32, ids: usize) -> Self {
        self.decode_poison = Some((id, ids));
        self
    }

    /// Prompts with `id` lose the device for good when they are encoded.
    pub fn lost_in_encode(mut self, id: u32) -> Self {
        self.loss = Some((id, None));
        self
    }

    /// Prompts with `id` lose the device for good once they have `ids` decoder ids.
    pub fn lost_in_decode(mut self, id: u32, ids: usize) -> Self {
        self.loss = Some((id, Some(ids)));
        self
    }

    /// Prompts with `id` make the runner panic when they are decoded.
    pub fn panicking(mut self, id: u32) -> Self {
        self.panic_on = Some(id);
        self
    }
}

impl Runner for Scripted {
    fn shape(&self) -> Shape {
        self.shape.clone()
    }

    fn encode(&mut self, jobs: &[EncodeJob<'_>]) -> Result<(), RunnerError> {
        self.gate.arrive();
        self.gate.change(|state| state.encoded.push(jobs.len()));
        if jobs
            .iter()
            .any(|job| self.encode_poison.is_some_and(|id| job.ids.contains(&id)))
        {
            return Err(RunnerError::new("a poisoned prompt"));
        }
        if let Some((id, None)) = self.loss
            && jobs.iter().any(|job| job.ids.contains(&id))
        {
            return Err(RunnerError::fatal("the device fell off the bus"));
        }
        for job in jobs {
            if self.prompts.insert(job.cross, job.ids.to_vec()).is_some() {
                return Err(RunnerError::new(format!("{:?} is taken", job.cross)));
            }
        }
        let padded = jobs.len() * jobs.iter().map(|job| job.ids.len()).max().unwrap_or(0);
        self.encoded_most = self.encoded_most.max(padded);
        self.check_memory()
    }

    fn decode(&mut self, rows: &[DecodeRow<'_>], logits: &mut Logits<'_>) -> Result<(), RunnerError> {
        self.gate.arrive();
        self.gate.change(|state| state.decoded.push(rows.len()));
        let mut line = 0;
        for row in rows {
            let prompt = self
                .prompts
                .get(&row.cross)
                .ok_or_else(|| RunnerError::new(format!("{:?} was never encoded", row.cross)))?;
            if self.panic_on.is_some_and(|id| prompt.contains(&id)) {
                panic!("a scripted panic");
            }
            if let Some((id, Some(ids))) = self.loss
                && prompt.contains(&id)
                && row.ids.len() >= ids
            {
                return Err(RunnerError::fatal("the device fell off the bus"));
            }
            let own = self.own.entry(row.row).or_default();
            own.truncate(row.kept);
            if *own != row.ids[..own.len()] {
                return Err(RunnerError::new(format!(
                    "{:?} has the memory of another row",
                    row.row
                )));
            }
            own.clear();
            own.extend_from_slice(row.ids);
            for end in row.ids.len() - row.wanted + 1..=row.ids.len() {
                (self.script)(prompt, &row.ids[..end], logits.line_mut(line));
                line += 1;
            }
        }
        let poisoned = |row: &DecodeRow<'_>| {
            self.decode_poison
                .is_some_and(|(id, ids)| self.prompts[&row.cross].contains(&id) && row.ids.len() >= ids)
        };
        if rows.iter().any(poisoned) {
            // Like a device that lost its memory in the middle of the step.
            for row in rows {
                self.own.remove(&row.row);
            }
            return Err(RunnerError::new("a poisoned row"));
        }
        self.check_memory()
    }

    fn reorder(&mut self, moves: &[RowMove]) {
        let sources: Vec<_> = moves.iter().map(|m| self.own.get(&m.from).cloned()).collect();
        for (m, source) in moves.iter().zip(sources) {
            self.own.insert(m.to, source.unwrap_or_default());
        }
    }

    fn release_rows(&mut self, rows: &[RowSlot]) {
        for row in rows {
            self.own.remove(row);
        }
    }

    fn release_cross(&mut self, cross: CrossSlot) {
        self.prompts.remove(&cross);
    }

    fn bytes(&self) -> usize {
        let page = self.memory.map_or(
            Page {
                tokens: 1,
                bytes: 4,
                spare: 0,
                layout: Layout::Pages,
            },
            |memory| memory.page,
        );
        let held = self.prompts.values().chain(self.own.values());
        held.map(|ids| ids.len().div_ceil(page.tokens) * page.bytes).sum()
    }

    fn page(&self) -> Option<Page> {
        self.memory.map(|memory| memory.page)
    }

    fn memory_free(&self) -> Option<u64> {
        // What a step works with is free again when it is over.
        let memory = self.memory.as_ref()?;
        Some(memory.free.saturating_sub(self.bytes() as u64))
    }

    fn memory_peak(&mut self) -> Option<u64> {
        self.memory.as_ref().map(|memory| self.taken(memory))
    }
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripted")
            .field("rows", &self.own.len())
            .finish_non_exhaustive()
    }
}
