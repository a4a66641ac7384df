//! Attention: over packed rows of whole sequences (the encoder), and of new tokens over pages of memory (the decoder).
//!
//! Scores, softmax and the mix of values of one head are done together, in f32. Nothing is computed for padding, because
//! there is none.

mod in_bytes;
mod packed;
mod paged;
mod softmax;

use std::cell::RefCell;

use crate::buffer::{Buffer, Shared};
use crate::bytes::BYTE_HEAD_DIM_MAX;
use crate::kernels::{Kernels, SHARE_WORK_MIN, part_of};
use crate::lanes::LANES;
use crate::memory::{PAGE, Pages};
use in_bytes::packed_bytes;
use packed::packed_head;
use paged::paged_head;

/// A number for each head and distance, added to scores: T5's relative positions.
#[derive(Debug)]
pub struct DistanceBias {
    heads: usize,
    reach: usize,
    span: usize,
    /// `[heads][span]`; distance d (key minus query) is at d + reach.
    table: Buffer<f32>,
}

impl DistanceBias {
    /// For distances −reach to +reach.
    pub fn new(heads: usize, reach: usize, value: impl Fn(usize, i64) -> f32) -> Self {
        // Whole vectors are read from any distance on.
        let span = 2 * reach + 1 + LANES;
        let mut table = Buffer::zeroed(heads * span);
        for head in 0..heads {
            for i in 0..=2 * reach {
                table[head * span + i] = value(head, i as i64 - reach as i64);
            }
        }
        Self {
            heads,
            reach,
            span,
            table,
        }
    }

    /// Positions apart that it knows of.
    pub fn reach(&self) -> usize {
        self.reach
    }

    /// What a query at `position` adds for key 0 and, behind it, the following keys.
    fn row(&self, head: usize, position: usize) -> *const f32 {
        self.table[head * self.span + self.reach - position..].as_ptr()
    }
}

/// Attention of sequences to themselves, every token to every one of its sequence.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    pub heads: usize,
    pub head_dim: usize,
    /// What scores are multiplied by.
    pub scale: f32,
    /// Tokens of each sequence; their rows follow one another.
    pub lengths: &'a [usize],
    pub bias: Option<&'a DistanceBias>,
    /// In what keys and values are held meanwhile: f32, or bytes as in pages of [`Element::Byte`].
    pub bytes: bool,
}

/// Attention to pages.
#[derive(Clone, Copy, Debug)]
pub struct Paged<'a> {
    pub pages: &'a Pages,
    pub layer: usize,
    /// What scores are multiplied by.
    pub scale: f32,
    pub bias: Option<&'a DistanceBias>,
}

/// Consecutive queries that read one list of pages.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    pub pages: &'a [u32],
    pub queries: usize,
    /// Positions that the first query sees. At least 1.
    pub visible: usize,
    /// Whether each further query sees one more.
    pub grows: bool,
}

thread_local! {
    /// Scores and packed operands of the head at hand.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

impl Kernels {
    /// `qkv` `[rows × 3·heads·head_dim]`: queries, keys, values; `out` `[rows × heads·head_dim]`.
    pub fn attend_packed(&self, how: &Packed<'_>, qkv: &[f32], out: &mut [f32]) {
        let inner = how.heads * how.head_dim;
        assert!(
            !how.bytes || how.head_dim <= BYTE_HEAD_DIM_MAX,
            "this is a bug: too wide for bytes"
        );
        let rows: usize = how.lengths.iter().sum();
        assert!(
            qkv.len() == rows * 3 * inner && out.len() == rows * inner,
            "this is a bug: sizes do not fit"
        );
        if let Some(bias) = how.bias {
            let longest = how.lengths.iter().copied().max().unwrap_or(0);
            assert!(
                bias.heads == how.heads && bias.reach + 1 >= longest,
                "this is a bug: the bias is too short"
            );
        }
        let mut first = 0;
        let mut items = Vec::with_capacity(how.lengths.len() * how.heads);
        for length in how.lengths {
            items.extend((0..how.heads).map(|head| (first, *length, head)));
            first += length;
        }
        let out = Shared(out.as_mut_ptr());
        let work = items.iter().map(|(_, n, _)| 2 * n * n * how.head_dim).sum();
        self.items(items.len(), work, |i| {
            let (first, length, head) = items[i];
            SCRATCH.with_borrow_mut(|scratch| {
                // SAFETY: sizes are checked above; each item writes its own head of its own rows.
                unsafe {
                    let qkv = qkv.as_ptr().add(first * 3 * inner + head * how.head_dim);
                    let out = out.get().add(first * inner + head * how.head_dim);
                    if how.bytes {
                        packed_bytes(self.isa, how, head, length, qkv, out, scratch);
                    } else {
                        packed_head(self.isa, how, head, length, qkv, out, scratch);
                    }
                }
            });
        });
    }

    /// `q` has a row of `q_stride` numbers for each query of the readers in order, queries of all heads first; `out`
    /// `[queries × heads·head_dim]`.
    pub fn attend_paged(
        &self,
        how: &Paged<'_>,
        readers: &[Reader<'_>],
        q: &[f32],
        q_stride: usize,
        out: &mut [f32],
    ) {
        let shape = how.pages.shape();
        let inner = shape.heads * shape.head_dim;
        let queries: usize = readers.iter().map(|r| r.queries).sum();
        assert!(
            q_stride >= inner && out.len() == queries * inner,
            "this is a bug: sizes do not fit"
        );
        assert!(
            queries == 0 || q.len() >= (queries - 1) * q_stride + inner,
            "this is a bug: fewer rows than queries"
        );
        assert!(how.layer < shape.layers, "this is a bug: no such layer");
        let mut items = Vec::with_capacity(readers.len() * shape.heads);
        let mut first = 0;
        for reader in readers {
            let most = reader.visible
                + if reader.grows {
                    reader.queries.saturating_sub(1)
                } else {
                    0
                };
            assert!(
                reader.visible > 0
                    && reader.pages.len() * PAGE >= most
                    && reader.pages.iter().all(|p| *p < how.pages.count()),
                "this is a bug: a reader sees more than its pages"
            );
            if let Some(bias) = how.bias {
                assert!(
                    bias.heads == shape.heads && bias.reach + 1 >= most,
                    "this is a bug: the bias is too short"
                );
            }
            items.extend((0..shape.heads).map(|head| (reader, first, head)));
            first += reader.queries;
        }
        let out = Shared(out.as_mut_ptr());
        let work = readers.iter().map(|r| 2 * r.queries * r.visible * inner).sum();
        self.items(items.len(), work, |i| {
            let (reader, first, head) = items[i];
            SCRATCH.with_borrow_mut(|scratch| {
                // SAFETY: sizes are checked above; each item writes its own head of its own rows.
                unsafe {
                    let q = q.as_ptr().add(first * q_stride + head * shape.head_dim);
                    let out = out.get().add(first * inner + head * shape.head_dim);
                    paged_head(self.isa, how, reader, head, q, q_stride, out, scratch);
                }
            });
        });
    }

    /// Shares out heads of sequences. `work` is in multiply-adds of all.
    fn items(&self, count: usize, work: usize, job: impl Fn(usize) + Sync) {
        if self.threads() == 1 || work < SHARE_WORK_MIN {
            return (0..count).for_each(job);
        }
        let parts = (4 * self.threads()).min(count);
        self.pool
            .run(parts, |part| part_of(count, parts, part).for_each(&job));
    }
}
