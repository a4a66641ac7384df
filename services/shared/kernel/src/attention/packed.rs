//! Sequences to themselves, in f32: keys and values of a head are laid out once for all its queries.

use std::marker::PhantomData;

use super::Packed;
use super::softmax::exponentials;
use crate::floats::product_in;
use crate::lanes::{LANES, Lanes, versions};

/// Queries of one block of scores.
const QUERIES: usize = 48;

#[inline(always)]
unsafe fn packed_head_in<V: Lanes>(
    _: PhantomData<V>,
    how: &Packed<'_>,
    head: usize,
    length: usize,
    qkv: *const f32,
    out: *mut f32,
    scratch: &mut Vec<f32>,
) {
    let (dim, inner) = (how.head_dim, how.heads * how.head_dim);
    let stride = 3 * inner;
    let (columns, padded) = (length.next_multiple_of(2 * LANES), dim.next_multiple_of(LANES));
    let sizes = [
        dim * columns,
        length * padded,
        QUERIES * columns,
        QUERIES * padded,
    ];
    let total: usize = sizes.iter().sum();
    if scratch.len() < total {
        scratch.resize(total, 0.0);
    }
    let keys = scratch.as_mut_ptr(); // [dim][columns]
    let values = keys.add(sizes[0]); // [length][padded]
    let scores = values.add(sizes[1]); // [queries][columns]
    let mixed = scores.add(sizes[2]); // [queries][padded]
    for position in 0..columns {
        if position >= length {
            for i in 0..dim {
                *keys.add(i * columns + position) = 0.0;
            }
            continue;
        }
        let row = qkv.add(position * stride);
        for i in 0..dim {
            *keys.add(i * columns + position) = *row.add(inner + i);
        }
        let mut i = 0;
        while i < dim {
            V::load_first(row.add(2 * inner + i), LANES.min(dim - i))
                .store(values.add(position * padded + i));
            i += LANES;
        }
    }
    let mut first = 0;
    while first < length {
        let queries = QUERIES.min(length - first);
        let q = qkv.add(first * stride);
        let none = PhantomData::<V>;
        product_in(
            none,
            queries,
            columns / LANES,
            dim,
            q,
            stride,
            keys,
            columns,
            LANES,
            scores,
            columns,
        );
        let mut sums = [0.0; QUERIES];
        for (i, sum) in sums.iter_mut().enumerate().take(queries) {
            let bias = how.bias.map(|b| b.row(head, first + i));
            *sum = exponentials::<V>(scores.add(i * columns), length, columns, how.scale, bias);
        }
        product_in(
            none,
            queries,
            padded / LANES,
            length,
            scores,
            columns,
            values,
            padded,
            LANES,
            mixed,
            padded,
        );
        for (i, sum) in sums.iter().enumerate().take(queries) {
            let scale = V::splat(1.0 / sum);
            let mut j = 0;
            while j < dim {
                let to = out.add((first + i) * inner + j);
                V::load(mixed.add(i * padded + j))
                    .mul(scale)
                    .store_first(to, LANES.min(dim - j));
                j += LANES;
            }
        }
        first += queries;
    }
}

versions! {
    /// # Safety
    /// `qkv` is this head of the sequence's first row, and `out` too.
    pub(super) unsafe fn packed_head(
        how: &Packed<'_>, head: usize, length: usize, qkv: *const f32, out: *mut f32, scratch: &mut Vec<f32>,
    ) = packed_head_in
}
