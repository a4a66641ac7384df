//! Keys and values that attention reads, in pages of sixteen positions.
//!
//! A page holds its positions for all layers and heads. A sequence is a list of pages, so rows may share pages (beams with
//! a common past), and memory is used and given back in one size.

use std::marker::PhantomData;

use crate::buffer::{Buffer, Plain, Shared};
use crate::bytes::{BYTE_HEAD_DIM_MAX, Unit};
use crate::kernels::Kernels;
use crate::lanes::{LANES, Lanes, versions};

/// Positions of one page.
pub const PAGE: usize = LANES;

/// Pages that are allocated together, and given back together.
pub const CHUNK: usize = 16;

/// How keys and values are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    F32,
    /// IEEE half precision: numbers beyond ±65504 become infinite, and then NaN in the result.
    Half,
    /// Signed bytes with a scale for each head of each position ([`crate::bytes`]).
    Byte,
}

/// Sizes that all pages share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryShape {
    pub layers: usize,
    pub heads: usize,
    pub head_dim: usize,
    pub element: Element,
}

impl MemoryShape {
    /// A head's width in whole vectors.
    pub(crate) fn padded(&self) -> usize {
        self.head_dim.next_multiple_of(LANES)
    }

    /// Numbers of one head of one layer of one page: keys `[head_dim][16]`, then values `[16][padded]`.
    pub(crate) fn unit(&self) -> usize {
        PAGE * (self.head_dim + self.padded())
    }

    /// Bytes of one head of one layer of one page.
    pub(crate) fn unit_bytes(&self) -> usize {
        match self.element {
            Element::F32 => 4 * self.unit(),
            Element::Half => 2 * self.unit(),
            Element::Byte => Unit::new(self.head_dim).bytes(),
        }
    }

    pub fn page_bytes(&self) -> usize {
        self.layers * self.heads * self.unit_bytes()
    }
}

/// All pages of a model. Which of them are in use is for the owner to know.
#[derive(Debug)]
pub struct Pages {
    pub(crate) shape: MemoryShape,
    chunks: Vec<Buffer<u8>>,
}

/// One position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub page: u32,
    /// Below [`PAGE`].
    pub slot: u32,
}

/// Rows that hold keys and values among other numbers.
#[derive(Clone, Copy, Debug)]
pub struct KeyValueRows<'a> {
    pub data: &'a [f32],
    /// Numbers from one row to the next.
    pub stride: usize,
    /// Where in a row the keys begin, all heads in order, and where the values.
    pub keys: usize,
    pub values: usize,
}

impl Pages {
    pub fn new(shape: MemoryShape) -> Self {
        assert!(
            shape.element != Element::Byte || shape.head_dim <= BYTE_HEAD_DIM_MAX,
            "this is a bug: too wide for bytes"
        );
        Self {
            shape,
            chunks: Vec::new(),
        }
    }

    pub fn shape(&self) -> MemoryShape {
        self.shape
    }

    /// Pages that there are: 0 to this, exclusive.
    pub fn count(&self) -> u32 {
        (self.chunks.len() * CHUNK) as u32
    }

    /// Allocates some more; old ones stay where they are.
    pub fn grow(&mut self) {
        let bytes = CHUNK * self.shape.page_bytes();
        self.chunks.push(Buffer::zeroed(bytes));
    }

    /// Gives back the last ones, as many as [`Self::grow`] allocates; what they hold is lost.
    pub fn shrink(&mut self) {
        self.chunks.pop();
    }

    /// Makes page `to` the same as page `from`.
    pub fn copy(&mut self, from: u32, to: u32) {
        assert!(
            from < self.count() && to < self.count(),
            "this is a bug: no such page"
        );
        if from == to {
            return;
        }
        let (from, to, bytes) = (self.start(from), self.start_mut(to), self.shape.page_bytes());
        // SAFETY: both pages are within their chunks and apart from each other.
        unsafe { std::ptr::copy_nonoverlapping(from, to, bytes) };
    }

    /// Writes keys and values of a layer: row i of `rows` to `places[i]`. No place is named twice.
    pub fn write(&mut self, kernels: &Kernels, layer: usize, places: &[Place], rows: KeyValueRows<'_>) {
        let inner = self.shape.heads * self.shape.head_dim;
        let needed = places
            .len()
            .checked_sub(1)
            .map_or(0, |last| last * rows.stride + rows.keys.max(rows.values) + inner);
        assert!(rows.data.len() >= needed, "this is a bug: fewer rows than places");
        assert!(layer < self.shape.layers, "this is a bug: no such layer");
        let count = self.count();
        assert!(
            places.iter().all(|p| p.page < count && (p.slot as usize) < PAGE),
            "this is a bug: a place outside of all pages"
        );
        let starts: Vec<Shared<u8>> = places.iter().map(|p| Shared(self.start_mut(p.page))).collect();
        let shape = self.shape;
        kernels.share(places.len(), inner, |i| {
            // SAFETY: sizes are checked above, and every place is written by one part only.
            unsafe {
                let row = rows.data.as_ptr().add(i * rows.stride);
                let (keys, values) = (row.add(rows.keys), row.add(rows.values));
                let (to, slot) = (starts[i].get(), places[i].slot as usize);
                write_position(kernels.isa, &shape, layer, to, slot, keys, values);
            }
        });
    }

    /// The first byte of a page that exists.
    pub(crate) fn start(&self, page: u32) -> *const u8 {
        let (chunk, within) = (page as usize / CHUNK, page as usize % CHUNK);
        // SAFETY: a chunk holds so many pages.
        unsafe { self.chunks[chunk].start().add(within * self.shape.page_bytes()) }
    }

    fn start_mut(&mut self, page: u32) -> *mut u8 {
        self.start(page).cast_mut()
    }
}

/// A type that keys and values are held in.
pub(crate) trait Held: Plain + Default {
    /// # Safety
    /// As [`Lanes::load`] and [`Lanes::store`].
    unsafe fn load<V: Lanes>(from: *const Self) -> V;
    /// # Safety
    /// As above.
    unsafe fn store<V: Lanes>(v: V, to: *mut Self);
}

impl Held for f32 {
    #[inline(always)]
    unsafe fn load<V: Lanes>(from: *const Self) -> V {
        V::load(from)
    }
    #[inline(always)]
    unsafe fn store<V: Lanes>(v: V, to: *mut Self) {
        v.store(to);
    }
}

impl Held for u16 {
    #[inline(always)]
    unsafe fn load<V: Lanes>(from: *const Self) -> V {
        V::load_half(from)
    }
    #[inline(always)]
    unsafe fn store<V: Lanes>(v: V, to: *mut Self) {
        v.store_half(to);
    }
}

#[inline(always)]
unsafe fn write_as<V: Lanes, E: Held>(
    shape: &MemoryShape,
    layer: usize,
    page: *mut E,
    slot: usize,
    keys: *const f32,
    values: *const f32,
) {
    let (dim, padded) = (shape.head_dim, shape.padded());
    for head in 0..shape.heads {
        let unit = page.add((layer * shape.heads + head) * shape.unit());
        let (keys, values) = (keys.add(head * dim), values.add(head * dim));
        let to_values = unit.add(dim * PAGE + slot * padded);
        let mut i = 0;
        while i < dim {
            let width = LANES.min(dim - i);
            let mut held = [E::default(); LANES];
            E::store(V::load_first(keys.add(i), width), held.as_mut_ptr());
            for (j, x) in held.iter().enumerate().take(width) {
                *unit.add((i + j) * PAGE + slot) = *x;
            }
            E::store(V::load_first(values.add(i), width), to_values.add(i));
            i += LANES;
        }
    }
}

#[inline(always)]
unsafe fn write_in<V: Lanes>(
    _: PhantomData<V>,
    shape: &MemoryShape,
    layer: usize,
    page: *mut u8,
    slot: usize,
    keys: *const f32,
    values: *const f32,
) {
    match shape.element {
        Element::F32 => write_as::<V, f32>(shape, layer, page.cast(), slot, keys, values),
        Element::Half => write_as::<V, u16>(shape, layer, page.cast(), slot, keys, values),
        Element::Byte => {
            let unit = Unit::new(shape.head_dim);
            for head in 0..shape.heads {
                let to = page.add((layer * shape.heads + head) * unit.bytes());
                let at = head * shape.head_dim;
                unit.write::<V>(to, slot, keys.add(at), values.add(at));
            }
        }
    }
}

versions! {
    /// # Safety
    /// `page` is a page of this shape; `keys` and `values` are good for all heads.
    unsafe fn write_position(
        shape: &MemoryShape, layer: usize, page: *mut u8, slot: usize, keys: *const f32, values: *const f32,
    ) = write_in
}
