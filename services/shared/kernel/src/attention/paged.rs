//! New tokens over pages of memory, in f32 or half precision; bytes are [`super::in_bytes`].

use std::marker::PhantomData;

use super::in_bytes::paged_bytes;
use super::softmax::exponentials;
use super::{Paged, Reader};
use crate::lanes::{LANES, Lanes, versions};
use crate::memory::{Element, Held, MemoryShape, PAGE};

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
    let (dim, padded) = (shape.head_dim, shape.padded());
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
    let mix = Mix {
        shape,
        how,
        pages,
        visible,
        offset,
        scores,
        columns,
        sums,
        out,
    };
    let mut vector = 0;
    while vector < padded / LANES {
        match padded / LANES - vector {
            1 => {
                mix_vectors::<V, E, R, 1>(&mix, vector);
                vector += 1;
            }
            2 | 3 => {
                mix_vectors::<V, E, R, 2>(&mix, vector);
                vector += 2;
            }
            _ => {
                mix_vectors::<V, E, R, 4>(&mix, vector);
                vector += 4;
            }
        }
    }
}

/// Values of one head, to be mixed by weights.
struct Mix<'a, const R: usize> {
    shape: &'a MemoryShape,
    how: &'a Paged<'a>,
    pages: &'a [u32],
    /// Positions that each query sees.
    visible: [usize; R],
    /// Of the head in a page, in numbers.
    offset: usize,
    /// Weights `[R][columns]`, and their sums.
    scores: *const f32,
    columns: usize,
    sums: [f32; R],
    out: *mut f32,
}

/// Some vectors of the result, summed together.
#[inline(always)]
unsafe fn mix_vectors<V: Lanes, E: Held, const R: usize, const W: usize>(of: &Mix<'_, R>, vector: usize) {
    let (dim, padded) = (of.shape.head_dim, of.shape.padded());
    let (all_see, most) = (of.visible[0], of.visible[R - 1]);
    let values = |page: usize| {
        let unit = of.how.pages.start(of.pages[page]).cast::<E>();
        unit.add(of.offset + dim * PAGE)
    };
    let mut acc = [[V::splat(0.0); W]; R];
    let last = most.div_ceil(PAGE) - 1;
    for page in 0..all_see.div_ceil(PAGE) {
        let (here, next) = (values(page).add(vector * LANES), values((page + 1).min(last)));
        for slot in 0..PAGE.min(all_see - page * PAGE) {
            let row = here.add(slot * padded);
            V::prefetch(next.add(slot * padded).cast());
            // Behind the last page's last values nothing of ours may lie.
            V::prefetch(next.wrapping_add(slot * padded + 32).cast());
            let mut v = [V::splat(0.0); W];
            for j in 0..W {
                v[j] = E::load::<V>(row.add(j * LANES));
            }
            for r in 0..R {
                let p = V::splat(*of.scores.add(r * of.columns + page * PAGE + slot));
                for j in 0..W {
                    acc[r][j] = p.fma(v[j], acc[r][j]);
                }
            }
        }
    }
    // What later queries bring is kept from those before them: a weight of 0 would let an infinite value through as NaN.
    for at in all_see..most {
        let row = values(at / PAGE).add(at % PAGE * padded + vector * LANES);
        for r in 1..R {
            if at < of.visible[r] {
                let p = V::splat(*of.scores.add(r * of.columns + at));
                for j in 0..W {
                    acc[r][j] = p.fma(E::load::<V>(row.add(j * LANES)), acc[r][j]);
                }
            }
        }
    }
    for r in 0..R {
        let scale = V::splat(1.0 / of.sums[r]);
        for j in 0..W {
            let at = (vector + j) * LANES;
            acc[r][j]
                .mul(scale)
                .store_first(of.out.add(r * of.shape.heads * dim + at), LANES.min(dim - at));
        }
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
