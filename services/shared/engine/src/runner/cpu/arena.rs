//! Who holds which page of attention memory: pages are counted, shared between rows, and copied only when one writes.

use refract_kernel::{MemoryShape, PAGE, Pages, Place};

/// All pages, and how many lists hold each.
#[derive(Debug)]
pub(super) struct Arena {
    pub(super) pages: Pages,
    holders: Vec<u32>,
    free: Vec<u32>,
}

/// The positions of one sequence or row, in order.
#[derive(Debug, Default)]
pub(super) struct Positions {
    pub(super) pages: Vec<u32>,
    pub(super) len: usize,
}

impl Arena {
    pub(super) fn new(shape: MemoryShape) -> Self {
        Self {
            pages: Pages::new(shape),
            holders: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Memory of pages that something holds.
    pub(super) fn bytes(&self) -> usize {
        (self.holders.len() - self.free.len()) * self.pages.shape().page_bytes()
    }

    fn take(&mut self) -> u32 {
        if self.free.is_empty() {
            let first = self.pages.count();
            self.pages.grow();
            self.holders.resize(self.pages.count() as usize, 0);
            // Lowest first.
            self.free.extend((first..self.pages.count()).rev());
        }
        let page = self.free.pop().expect("just grown");
        self.holders[page as usize] = 1;
        page
    }

    fn let_go(&mut self, page: u32) {
        let holders = &mut self.holders[page as usize];
        *holders -= 1;
        if *holders == 0 {
            self.free.push(page);
        }
    }

    /// Gives up all positions from `len` on.
    pub(super) fn truncate(&mut self, positions: &mut Positions, len: usize) {
        positions.len = positions.len.min(len);
        for page in positions.pages.drain(positions.len.div_ceil(PAGE)..) {
            self.let_go(page);
        }
    }

    /// Another list of the same pages.
    pub(super) fn share(&mut self, positions: &Positions) -> Positions {
        for page in &positions.pages {
            self.holders[*page as usize] += 1;
        }
        Positions {
            pages: positions.pages.clone(),
            len: positions.len,
        }
    }

    /// Room for `count` more positions that nobody else sees; says where they are.
    pub(super) fn extend(&mut self, positions: &mut Positions, count: usize, places: &mut Vec<Place>) {
        for at in positions.len..positions.len + count {
            if at / PAGE == positions.pages.len() {
                let page = self.take();
                positions.pages.push(page);
            }
            let page = positions.pages[at / PAGE];
            if self.holders[page as usize] > 1 {
                // Only the last page that was written before can be shared here.
                let own = self.take();
                self.pages.copy(page, own);
                self.let_go(page);
                positions.pages[at / PAGE] = own;
            }
            places.push(Place {
                page: positions.pages[at / PAGE],
                slot: (at % PAGE) as u32,
            });
        }
        positions.len += count;
    }
}

#[cfg(test)]
mod tests {
    use refract_kernel::Element;

    use super::*;

    #[test]
    fn pages_are_shared_until_one_row_writes_and_all_come_back() {
        let mut arena = Arena::new(MemoryShape {
            layers: 1,
            heads: 1,
            head_dim: 16,
            element: Element::Half,
        });
        let (mut a, mut places) = (Positions::default(), Vec::new());
        arena.extend(&mut a, PAGE + 3, &mut places);
        assert_eq!((a.pages.len(), places.len(), a.len), (2, PAGE + 3, PAGE + 3));
        let page = arena.bytes() / 2;
        let mut b = arena.share(&a);
        assert_eq!(arena.bytes(), 2 * page);
        arena.extend(&mut b, 1, &mut places);
        assert_eq!(
            arena.bytes(),
            3 * page,
            "the full page stays shared, the last one is copied"
        );
        assert_eq!(a.pages[0], b.pages[0]);
        assert_ne!(a.pages[1], b.pages[1]);
        arena.extend(&mut a, 1, &mut places);
        assert_eq!(arena.bytes(), 3 * page, "now the page is its own");
        arena.truncate(&mut a, 2);
        assert_eq!((a.pages.len(), a.len), (1, 2));
        arena.truncate(&mut a, 0);
        arena.truncate(&mut b, 0);
        assert_eq!(arena.bytes(), 0);
    }
}
