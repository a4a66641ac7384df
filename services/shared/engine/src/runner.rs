//! The joint behind which a device lives.
//!
//! Scheduler, sampler and beam search speak of slots, ids and plain numbers; a runner turns them into matrix products.
//! How this is meant to extend, without touching anything above it:
//!
//! - *Another backend* (hand-tuned int8 on a CPU, captured CUDA graphs, tensor-parallel ranks) is one more `Runner`.
//!   Slots are small dense numbers, so a backend may keep preallocated memory by slot, and a graph per row count. A
//!   tensor-parallel runner broadcasts the very arguments of these calls to its ranks.
//! - *Own memory is a cache of ids.* A row names all its decoder ids and how many leading positions are certainly good;
//!   the runner computes what it lacks. So dropping draft tokens is a smaller `kept`; a runner may evict rows, and after
//!   a failure it may forget everything: the next call rebuilds.
//! - *Speculation*: a row may bring several new ids (drafts) and want the logits after each of the last `wanted`.
//! - *Choosing on the device*: [`Logits`] is the one way back. A row of which only some best tokens matter, greedy or of a beam,
//!   says so ([`DecodeRow::best`]); a device may answer it with these instead of the whole line.
//! - *Overlap*: sequences advance independently of one another ([`crate::sequence::Sequence::advance`]), so a thread
//!   pool can share that work.

mod candle;
mod cpu;
mod parallel;
mod scripted;

use std::fmt;

pub use refract_model::Likeliest;
use refract_model::{PairRows, PairTables};

pub use crate::kv::{CrossSlot, RowMove, RowSlot};
pub use crate::scheduler::EncodeCost;
pub use candle::ModelRunner;
pub use cpu::{CpuOptions, CpuRunner, Isa, Precision};
pub use parallel::{ParallelOptions, ParallelRunner};
pub use scripted::{Gate, Memory, Scripted};

/// What must be known of a model to decode with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    pub vocab: usize,
    /// The first decoder id of every sequence.
    pub decoder_start: u32,
    /// Longest prompt that the model has positions for.
    pub prompt_positions_max: Option<usize>,
    /// Most decoder ids that the model has positions for, the decoder start id included.
    pub own_positions_max: Option<usize>,
    /// Where set, every request must name its pair's rows, within these.
    pub pair_tables: Option<PairTables>,
    pub encode_cost: EncodeCost,
    /// Whether a row that brings several new ids gets bit for bit the logits of one id at a time: only then may the engine
    /// guess ahead.
    pub exact_drafts: bool,
}

/// One prompt to encode.
#[derive(Clone, Copy, Debug)]
pub struct EncodeJob<'a> {
    /// Where its cross memory goes; whatever was there is replaced.
    pub cross: CrossSlot,
    pub ids: &'a [u32],
    pub pairs: Option<PairRows>,
}

/// One row of a decode step.
#[derive(Clone, Copy, Debug)]
pub struct DecodeRow<'a> {
    pub row: RowSlot,
    pub cross: CrossSlot,
    /// All decoder ids so far, the start id first. Those that own memory lacks are computed and appended to it.
    pub ids: &'a [u32],
    /// Of own memory, only so many leading positions are good; the rest is dropped first. Less than `ids.len()`.
    pub kept: usize,
    /// How many lines of logits: after each of the last so many ids. At least 1.
    pub wanted: usize,
    /// Above 0, only so many best tokens of each line will be looked at, and the sum over all: a runner may say no more
    /// ([`Logits::say`]). 0: all of them.
    pub best: usize,
}

/// Where logits go: `[lines, vocab]`, the lines of the first row first.
#[derive(Debug)]
pub struct Logits<'a> {
    vocab: usize,
    data: &'a mut [f32],
    likeliest: &'a mut [Option<Likeliest>],
}

impl<'a> Logits<'a> {
    /// `data` holds whole lines.
    pub fn new(vocab: usize, data: &'a mut [f32]) -> Self {
        Self::with_likeliest(vocab, data, &mut [])
    }

    /// The same, where a line may be told by its likeliest tokens: one place for each line, all empty.
    pub fn with_likeliest(vocab: usize, data: &'a mut [f32], likeliest: &'a mut [Option<Likeliest>]) -> Self {
        assert!(
            vocab > 0 && data.len().is_multiple_of(vocab),
            "this is a bug: {} is no multiple of {vocab}",
            data.len()
        );
        assert!(
            likeliest.is_empty() || likeliest.len() == data.len() / vocab,
            "this is a bug: {} lines, {} places",
            data.len() / vocab,
            likeliest.len()
        );
        Self {
            vocab,
            data,
            likeliest,
        }
    }

    pub fn lines(&self) -> usize {
        self.data.len() / self.vocab
    }

    /// Whether a line may be told by [`Logits::say`].
    pub fn takes_likeliest(&self) -> bool {
        !self.likeliest.is_empty()
    }

    /// Instead of the whole line, of which nothing is looked at then.
    pub fn say(&mut self, line: usize, likeliest: Likeliest) {
        self.likeliest[line] = Some(likeliest);
    }

    pub fn line_mut(&mut self, line: usize) -> &mut [f32] {
        &mut self.data[line * self.vocab..][..self.vocab]
    }

    /// All lines as one.
    pub fn all_mut(&mut self) -> &mut [f32] {
        self.data
    }
}

/// Why the device did not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerError {
    pub reason: String,
    fatal: bool,
}

impl RunnerError {
    /// Of this call alone: parts of the batch may still succeed.
    pub fn new(reason: impl fmt::Display) -> Self {
        Self {
            reason: reason.to_string(),
            fatal: false,
        }
    }

    /// The device or a rank is lost and no later call can succeed. The engine does not try parts of the batch: it calls
    /// itself unhealthy and ends every sequence.
    pub fn fatal(reason: impl fmt::Display) -> Self {
        Self {
            reason: reason.to_string(),
            fatal: true,
        }
    }

    pub fn is_fatal(&self) -> bool {
        self.fatal
    }
}

impl fmt::Display for RunnerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for RunnerError {}

impl From<refract_model::Error> for RunnerError {
    fn from(error: refract_model::Error) -> Self {
        Self::new(error)
    }
}

impl Runner for Box<dyn Runner> {
    fn shape(&self) -> Shape {
        (**self).shape()
    }

    fn encode(&mut self, jobs: &[EncodeJob<'_>]) -> Result<(), RunnerError> {
        (**self).encode(jobs)
    }

    fn decode(&mut self, rows: &[DecodeRow<'_>], logits: &mut Logits<'_>) -> Result<(), RunnerError> {
        (**self).decode(rows, logits)
    }

    fn reorder(&mut self, moves: &[RowMove]) {
        (**self).reorder(moves);
    }

    fn release_rows(&mut self, rows: &[RowSlot]) {
        (**self).release_rows(rows);
    }

    fn release_cross(&mut self, cross: CrossSlot) {
        (**self).release_cross(cross);
    }

    fn bytes(&self) -> usize {
        (**self).bytes()
    }

    fn page(&self) -> Option<Page> {
        (**self).page()
    }

    fn keep_within(&mut self, tokens: usize) {
        (**self).keep_within(tokens);
    }

    fn memory_free(&self) -> Option<u64> {
        (**self).memory_free()
    }

    fn memory_peak(&mut self) -> Option<u64> {
        (**self).memory_peak()
    }
}

/// Owns a model and its memory on a device. Called from one thread.
///
/// A call either succeeds for all or fails for all; after a failure the engine calls again with parts of the batch, to
/// find the sequence at fault, and own memory of the failed call need not have survived. A runner computes each row as
/// if it were alone: its numbers do not depend on its companions.
pub trait Runner: Send {
    fn shape(&self) -> Shape;

    /// Writes the cross memory of one batch of prompts.
    fn encode(&mut self, jobs: &[EncodeJob<'_>]) -> Result<(), RunnerError>;

    /// One decoder pass. Rows of one sequence come together. Own memory of rows that are not named need not be kept.
    fn decode(&mut self, rows: &[DecodeRow<'_>], logits: &mut Logits<'_>) -> Result<(), RunnerError>;

    /// Copies own memory between rows, all at once: every source is read before anything is written.
    fn reorder(&mut self, moves: &[RowMove]);

    /// These rows hold nothing of use any more. Unknown ones are fine.
    fn release_rows(&mut self, rows: &[RowSlot]);

    /// The cross memory there is of no use any more. An unknown one is fine.
    fn release_cross(&mut self, cross: CrossSlot);

    /// Decode memory held now, in bytes: all that is allocated for it, in use or not.
    fn bytes(&self) -> usize;

    /// The pieces that decode memory comes in, so that a budget in bytes can be kept in tokens. `None`: not known, and
    /// only the configured number of tokens bounds it.
    fn page(&self) -> Option<Page> {
        None
    }

    /// From now on no more than so many tokens are kept at a time, in whole pages: a runner that keeps pages for later
    /// allocates no more than these take ([`Page::most`]).
    fn keep_within(&mut self, _tokens: usize) {}

    /// Free bytes of the device that holds decode memory. `None`: it is the process's own memory, and the system knows.
    fn memory_free(&self) -> Option<u64> {
        None
    }

    /// The most bytes that were in use on such a device since this was last asked, whoever used them.
    fn memory_peak(&mut self) -> Option<u64> {
        None
    }
}

/// A piece of decode memory: keys and values of so many positions in a row, of all decoder layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// At least 1.
    pub tokens: usize,
    pub bytes: usize,
    /// Bytes that may be allocated beside all pieces in use, because they come several at a time.
    pub spare: usize,
    pub layout: Layout,
}

impl Page {
    /// The most bytes that may be allocated where so many tokens are kept at a time.
    pub fn most(&self, tokens: usize) -> u64 {
        let pieces = (tokens / self.tokens.max(1)) as u64;
        pieces
            .saturating_mul(self.bytes as u64)
            .saturating_add(self.spare as u64)
    }
}

/// How pieces lie together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Each for itself: what one row does not need, another has.
    Pages,
    /// In rectangles ([`refract_model::own_room`], [`refract_model::source_room`]): every row has room for the longest, and so has
    /// every source, which lies there beside a copy of its own. A rectangle never shrinks.
    Rectangles,
}
