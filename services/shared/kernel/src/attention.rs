//! Attention: over packed rows of whole sequences (the encoder), and of new tokens over pages of memory (the decoder).
//!
//! Scores, softmax and the mix of values of one head are done together, in f32. Nothing is computed for padding, because
//! there is none.

use std::cell::RefCell;
use std::marker::PhantomData;

use crate::buffer::{Buffer, Shared};
use crate::bytes::{self, BYTE_HEAD_DIM_MAX, Queries, Unit};
use crate::floats::product_in;
use crate::kernels::{Kernels, SHARE_WORK_MIN, part_of};
use crate::lanes::{LANES, Lanes, versions};
use crate::memory::{Element, Held, MemoryShape, PAGE, Pages};

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

/// Queries of one block of scores.
const QUERIES: usize = 48;

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

/// Turns `n` scores into e^(score·scale + bias − max); the rest up to `padded` becomes 0. Returns their sum.
#[inline(always)]
unsafe fn exponentials<V: Lanes>(
    scores: *mut f32,
    n: usize,
    padded: usize,
    scale: f32,
    bias: Option<*const f32>,
) -> f32 {
    let scale = V::splat(scale);
    let lowest = V::splat(f32::MIN);
    let mut largest = lowest;
    let whole = n - n % LANES;
    let mut i = 0;
    while i < n {
        let mut x = V::load(scores.add(i)).mul(scale);
        if let Some(bias) = bias {
            x = x.add(V::load(bias.add(i)));
        }
        x.store(scores.add(i));
        if i < whole {
            largest = largest.max(x);
        }
        i += LANES;
    }
    let mut max = largest.largest();
    for i in whole..n {
        let x = *scores.add(i);
        // A NaN must not be lost: it becomes the maximum, and then everything.
        max = if x > max || x.is_nan() { x } else { max };
    }
    let max = V::splat(max);
    let mut sum = V::splat(0.0);
    i = 0;
    while i < whole {
        let x = V::load(scores.add(i)).sub(max);
        // The same for the whole vectors, where `max` may have passed over a NaN: exp clamps, x · 0 does not.
        let e = x.exp().add(x.sub(x));
        e.store(scores.add(i));
        sum = sum.add(e);
        i += LANES;
    }
    if whole < n {
        let x = V::load_first(scores.add(whole), n - whole).sub(max);
        let e = x.exp().add(x.sub(x));
        e.store(scores.add(whole));
        for j in n..(whole + LANES).min(padded) {
            *scores.add(j) = 0.0;
        }
        sum = sum.add(V::load_first(scores.add(whole), n - whole));
        i = whole + LANES;
    }
    while i < padded {
        V::splat(0.0).store(scores.add(i));
        i += LANES;
    }
    sum.sum()
}

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
    unsafe fn packed_head(
        how: &Packed<'_>, head: usize, length: usize, qkv: *const f32, out: *mut f32, scratch: &mut Vec<f32>,
    ) = packed_head_in
}

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
    /// As [`packed_head`].
    unsafe fn packed_bytes(
        how: &Packed<'_>, head: usize, length: usize, qkv: *const f32, out: *mut f32, scratch: &mut Vec<f32>,
    ) = packed_bytes_in
}

/// Numbers of work memory for four queries over so many columns: scores, and two planes of bytes.
fn byte_scores(columns: usize) -> usize {
    4 * columns + 2 * columns
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn paged_bytes<V: Lanes>(
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

/// Vectors of values summed together.
const WIDE: usize = 4;

/// Up to four queries of one head.
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
            for slot in 0..PAGE.min(most - page * PAGE) {
                let row = values.add(slot * padded);
                V::prefetch(next.add(slot * padded).cast());
                V::prefetch(next.add(slot * padded + 32).cast());
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
    unsafe fn paged_head(
        how: &Paged<'_>, reader: &Reader<'_>, head: usize, q: *const f32, q_stride: usize, out: *mut f32,
        scratch: &mut Vec<f32>,
    ) = paged_head_in
}
