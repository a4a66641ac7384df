//! New tokens over pages of memory, in f32 or half precision; bytes are [`super::in_bytes`].

use std::marker::PhantomData;

use super::in_bytes::paged_bytes;
use super::softmax::exponentials;
use super::{Paged, Reader};
use crate::lanes::{LANES, Lanes, versions};
use crate::memory::{Element, Held, MemoryShape, PAGE};

/// Vectors of values summed together.
const WIDE: usize = 4;

/// Up to four queries of one head; none sees less than the one before it.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn queries<V: Lanes, E: Held, const R: usize>(
    shape: &MemoryShape,
    how: &Paged<'_>,
    pages: &[u32],
    visible: [usize; R],
    head: usize,
    q: *const f32,
    q_stride: usize,
    out: *mut f32,
    scores: *mut f32,
    columns: usize,
) {
    let (dim, padded, inner) = (shape.head_dim, shape.padded(), shape.heads * shape.head_dim);
    let offset = (how.layer * shape.heads + head) * shape.unit();
    let most = visible[R - 1];
    let used = most.div_ceil(PAGE);
    for page in 0..used {
        let keys = how.pages.start(pages[page]).cast::<E>().add(offset);
        let next = how
            .pages
            .start(pages[(page + 1).min(used - 1)])
            .cast::<E>()
            .add(offset);
        // Four chains a query, so that one waits less for the last.
        let mut acc = [[V::splat(0.0); 4]; R];
        let mut i = 0;
        while i < dim {
            let chains = 4.min(dim - i);
            V::prefetch(next.add(i * PAGE).cast());
            V::prefetch(next.add((i + 2) * PAGE).cast());
            for j in 0..4 {
                if j < chains {
                    let k = E::load::<V>(keys.add((i + j) * PAGE));
                    for r in 0..R {
                        acc[r][j] = V::splat(*q.add(r * q_stride + i + j)).fma(k, acc[r][j]);
                    }
                }
            }
            i += 4;
        }
        for (r, [a, b, c, d]) in acc.into_iter().enumerate() {
            a.add(b)
                .add(c.add(d))
                .store(scores.add(r * columns + page * PAGE));
        }
    }
    let mut sums = [0.0; R];
    for r in 0..R {
        // A query's position is one less than what it sees of its own past; only that has a bias.
        let bias = how.bias.map(|b| b.row(head, visible[r] - 1));
        sums[r] = exponentials::<V>(scores.add(r * columns), visible[r], used * PAGE, how.scale, bias);
    }
    let mut vector = 0;
    while vector < padded / LANES {
        let wide = WIDE.min(padded / LANES - vector);
        let mut acc = [[V::splat(0.0); WIDE]; R];
        for page in 0..used {
            let unit = how.pages.start(pages[page]).cast::<E>().add(offset);
            let values = unit.add(dim * PAGE + vector * LANES);
            let next = how
                .pages
                .start(pages[(page + 1).min(used - 1)])
                .cast::<E>()
                .add(offset + dim * PAGE);
            let held = PAGE.min(most - page * PAGE);
            // A vector for every query, up to where the first sees no more.
            let seen = held.min(visible[0].saturating_sub(page * PAGE));
            for slot in 0..seen {
                let row = values.add(slot * padded);
                V::prefetch(next.add(slot * padded).cast());
                // Behind the last page's last values nothing of ours may lie.
                V::prefetch(next.wrapping_add(slot * padded + 32).cast());
                if wide == WIDE {
                    let v: [V; WIDE] = [
                        E::load::<V>(row),
                        E::load::<V>(row.add(LANES)),
                        E::load::<V>(row.add(2 * LANES)),
                        E::load::<V>(row.add(3 * LANES)),
                    ];
                    for r in 0..R {
                        let p = V::splat(*scores.add(r * columns + page * PAGE + slot));
                        for j in 0..WIDE {
                            acc[r][j] = p.fma(v[j], acc[r][j]);
                        }
                    }
                } else {
                    for j in 0..wide {
                        let v = E::load::<V>(row.add(j * LANES));
                        for r in 0..R {
                            let p = V::splat(*scores.add(r * columns + page * PAGE + slot));
                            acc[r][j] = p.fma(v, acc[r][j]);
                        }
                    }
                }
            }
            // What later queries bring is kept from those before them: a weight of 0 would let an infinite value through as NaN.
            for slot in seen..held {
                let row = values.add(slot * padded);
                for j in 0..WIDE {
                    if j < wide {
                        let v = E::load::<V>(row.add(j * LANES));
                        for r in 1..R {
                            if page * PAGE + slot < visible[r] {
                                let p = V::splat(*scores.add(r * columns + page * PAGE + slot));
                                acc[r][j] = p.fma(v, acc[r][j]);
                            }
                        }
                    }
                }
            }
        }
        for r in 0..R {
            let scale = V::splat(1.0 / sums[r]);
            for j in 0..wide {
                let at = (vector + j) * LANES;
                acc[r][j]
                    .mul(scale)
                    .store_first(out.add(r * inner + at), LANES.min(dim - at));
            }
        }
        vector += wide;
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn paged_as<V: Lanes, E: Held>(
    how: &Paged<'_>,
    reader: &Reader<'_>,
    head: usize,
    q: *const f32,
    q_stride: usize,
    out: *mut f32,
    scratch: &mut Vec<f32>,
) {
    let shape = how.pages.shape();
    let inner = shape.heads * shape.head_dim;
    let columns = reader.pages.len() * PAGE;
    if scratch.len() < 4 * columns {
        scratch.resize(4 * columns, 0.0);
    }
    let scores = scratch.as_mut_ptr();
    let mut first = 0;
    while first < reader.queries {
        let (q, out) = (q.add(first * q_stride), out.add(first * inner));
        let sees = |i: usize| reader.visible + if reader.grows { first + i } else { 0 };
        match reader.queries - first {
            1 => {
                queries::<V, E, 1>(
                    &shape,
                    how,
                    reader.pages,
                    [sees(0)],
                    head,
                    q,
                    q_stride,
                    out,
                    scores,
                    columns,
                );
                first += 1;
            }
            2 | 3 => {
                queries::<V, E, 2>(
                    &shape,
                    how,
                    reader.pages,
                    [sees(0), sees(1)],
                    head,
                    q,
                    q_stride,
                    out,
                    scores,
                    columns,
                );
                first += 2;
            }
            _ => {
                let visible = [sees(0), sees(1), sees(2), sees(3)];
                queries::<V, E, 4>(
                    &shape,
                    how,
                    reader.pages,
                    visible,
                    head,
                    q,
                    q_stride,
                    out,
                    scores,
                    columns,
                );
                first += 4;
            }
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn paged_head_in<V: Lanes>(
    _: PhantomData<V>,
    how: &Paged<'_>,
    reader: &Reader<'_>,
    head: usize,
    q: *const f32,
    q_stride: usize,
    out: *mut f32,
    scratch: &mut Vec<f32>,
) {
    match how.pages.shape().element {
        Element::F32 => paged_as::<V, f32>(how, reader, head, q, q_stride, out, scratch),
        Element::Half => paged_as::<V, u16>(how, reader, head, q, q_stride, out, scratch),
        Element::Byte => paged_bytes::<V>(how, reader, head, q, q_stride, out, scratch),
    }
}

versions! {
    /// # Safety
    /// `q` is this head of the first query, and `out` too; the pages hold what is visible.
    pub(super) unsafe fn paged_head(
        how: &Paged<'_>, reader: &Reader<'_>, head: usize, q: *const f32, q_stride: usize, out: *mut f32,
        scratch: &mut Vec<f32>,
    ) = paged_head_in
}
