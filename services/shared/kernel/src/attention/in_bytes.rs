//! Keys and values in bytes: of a prompt that reads itself, and of pages.

use std::marker::PhantomData;

use super::softmax::exponentials;
use super::{Packed, Paged, Reader};
use crate::bytes::{self, Queries, Unit};
use crate::lanes::{Lanes, versions};
use crate::memory::PAGE;

/// R queries of one head over units of bytes.
#[inline(always)]
unsafe fn byte_queries<V: Lanes, const R: usize>(
    unit: Unit,
    units: impl Fn(usize) -> *const u8,
    scale: f32,
    bias: impl Fn(usize) -> Option<*const f32>,
    of: &Queries<R>,
) {
    bytes::scores::<V, R>(unit, &units, of);
    let padded = of.visible[R - 1].next_multiple_of(PAGE);
    let mut sums = [0.0; R];
    for (r, sum) in sums.iter_mut().enumerate() {
        let row = of.scores.add(r * of.columns);
        *sum = exponentials::<V>(row, of.visible[r], padded, scale, bias(r));
    }
    bytes::mix::<V, R>(unit, &units, of, sums);
}

#[inline(always)]
unsafe fn packed_bytes_in<V: Lanes>(
    _: PhantomData<V>,
    how: &Packed<'_>,
    head: usize,
    length: usize,
    qkv: *const f32,
    out: *mut f32,
    scratch: &mut Vec<f32>,
) {
    let inner = how.heads * how.head_dim;
    let (stride, unit) = (3 * inner, Unit::new(how.head_dim));
    let (pages, columns) = (length.div_ceil(PAGE), length.next_multiple_of(PAGE));
    let held = pages * unit.bytes() / size_of::<f32>();
    let total = held + byte_scores(columns);
    if scratch.len() < total {
        scratch.resize(total, 0.0);
    }
    let start = scratch.as_mut_ptr().cast::<u8>();
    for position in 0..length {
        let row = qkv.add(position * stride);
        let to = start.add(position / PAGE * unit.bytes());
        unit.write::<V>(to, position % PAGE, row.add(inner), row.add(2 * inner));
    }
    let scores = scratch.as_mut_ptr().add(held);
    let units = |page: usize| start.cast_const().add(page * unit.bytes());
    let mut first = 0;
    while first < length {
        macro_rules! go {
            ($n:literal) => {{
                let of = Queries::<$n> {
                    q: qkv.add(first * stride),
                    q_stride: stride,
                    out: out.add(first * inner),
                    out_stride: inner,
                    visible: [length; $n],
                    scores,
                    columns,
                };
                let bias = |r| how.bias.map(|b| b.row(head, first + r));
                byte_queries::<V, $n>(unit, units, how.scale, bias, &of);
                first += $n;
            }};
        }
        match length - first {
            1 => go!(1),
            2 | 3 => go!(2),
            _ => go!(4),
        }
    }
}

versions! {
    /// # Safety
    /// As of `packed_head`.
    pub(super) unsafe fn packed_bytes(
        how: &Packed<'_>, head: usize, length: usize, qkv: *const f32, out: *mut f32, scratch: &mut Vec<f32>,
    ) = packed_bytes_in
}

/// Numbers of work memory for four queries over so many columns: scores, and two planes of bytes.
fn byte_scores(columns: usize) -> usize {
    4 * columns + 2 * columns
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(super) unsafe fn paged_bytes<V: Lanes>(
    how: &Paged<'_>,
    reader: &Reader<'_>,
    head: usize,
    q: *const f32,
    q_stride: usize,
    out: *mut f32,
    scratch: &mut Vec<f32>,
) {
    let shape = how.pages.shape();
    let (inner, unit) = (shape.heads * shape.head_dim, Unit::new(shape.head_dim));
    let columns = reader.pages.len() * PAGE;
    if scratch.len() < byte_scores(columns) {
        scratch.resize(byte_scores(columns), 0.0);
    }
    let offset = (how.layer * shape.heads + head) * unit.bytes();
    let units = |page: usize| how.pages.start(reader.pages[page]).add(offset);
    let mut first = 0;
    while first < reader.queries {
        macro_rules! go {
            ($n:literal) => {{
                let sees = |i: usize| reader.visible + if reader.grows { first + i } else { 0 };
                let of = Queries::<$n> {
                    q: q.add(first * q_stride),
                    q_stride,
                    out: out.add(first * inner),
                    out_stride: inner,
                    visible: std::array::from_fn(sees),
                    scores: scratch.as_mut_ptr(),
                    columns,
                };
                // A query's position is one less than what it sees of its own past; only that has a bias.
                let bias = |r: usize| how.bias.map(|b| b.row(head, of.visible[r] - 1));
                byte_queries::<V, $n>(unit, units, how.scale, bias, &of);
                first += $n;
            }};
        }
        match reader.queries - first {
            1 => go!(1),
            2 | 3 => go!(2),
            _ => go!(4),
        }
    }
}
