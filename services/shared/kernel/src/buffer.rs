//! Memory aligned to cache lines, zeroed, on large pages where it is large.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Types for which all bit patterns, zero among them, are values.
pub(crate) trait Plain: Copy + Send + Sync + 'static {}
impl Plain for i8 {}
impl Plain for u8 {}
impl Plain for u16 {}
impl Plain for i32 {}
impl Plain for f32 {}

/// A fixed number of `T`.
pub(crate) struct Buffer<T: Plain> {
    start: NonNull<T>,
    len: usize,
    layout: Layout,
}

const LINE: usize = 64;
/// Large pages are of this size on x86-64; smaller buffers stay on small ones.
const LARGE_PAGE: usize = 2 << 20;

impl<T: Plain> Buffer<T> {
    pub(crate) fn zeroed(len: usize) -> Self {
        let bytes = (len * size_of::<T>()).max(LINE);
        let large = bytes >= LARGE_PAGE;
        let layout = Layout::from_size_align(
            bytes.next_multiple_of(LINE),
            if large { LARGE_PAGE } else { LINE },
        )
        .expect("a buffer that the address space can hold");
        // SAFETY: the layout has a size above zero.
        let start = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout)
        };
        // Asked for before anything is written: a page that exists stays as small as it is.
        #[cfg(target_os = "linux")]
        if large {
            // SAFETY: the range is ours and page-aligned; the call is a hint, so its answer does not matter.
            unsafe { libc::madvise(start.as_ptr().cast(), layout.size(), libc::MADV_HUGEPAGE) };
        }
        // SAFETY: so many bytes were allocated; zeros are values of every plain type.
        unsafe { start.as_ptr().write_bytes(0, layout.size()) };
        let start = start.cast::<T>();
        Self { start, len, layout }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.layout.size()
    }

    /// Where it begins. Unlike a slice's, such pointers stay good beside one another: nothing between them is borrowed.
    pub(crate) fn start(&self) -> *mut T {
        self.start.as_ptr()
    }
}

impl<T: Plain> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `start` holds `len` initialised values and is borrowed with `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Plain> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T: Plain> Drop for Buffer<T> {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, freed once.
        unsafe { dealloc(self.start.as_ptr().cast(), self.layout) }
    }
}

// SAFETY: it owns plain numbers.
unsafe impl<T: Plain> Send for Buffer<T> {}
// SAFETY: shared access only reads.
unsafe impl<T: Plain> Sync for Buffer<T> {}

impl<T: Plain> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// A pointer that threads share while each writes its own part behind it.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T>(pub(crate) *mut T);

// SAFETY: users promise, where they write, that parts of different threads do not overlap.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// Through a method, so that closures capture the whole and not the bare pointer.
    #[inline(always)]
    pub(crate) fn get(self) -> *mut T {
        self.0
    }
}
