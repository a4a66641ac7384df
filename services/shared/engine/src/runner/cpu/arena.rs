//! Who holds which page of attention memory: pages are counted, shared between rows, and copied only when one writes.

use refract_kernel::{CHUNK, MemoryShape, PAGE, Pages, Place};

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

    /// Memory of all pages, also of those that nothing holds: they stay for whoever comes next.
    pub(super) fn bytes(&self) -> usize {
        self.holders.len() * self.pages.shape().page_bytes()
    }

    /// Memory of pages that something holds.
    pub(super) fn bytes_held(&self) -> usize {
        (self.holders.len() - self.free.len()) * self.pages.shape().page_bytes()
    }

    /// Memory that may be allocated beside the pages that were asked for, because they come [`CHUNK`] at a time.
    pub(super) fn bytes_spare(&self) -> usize {
        (CHUNK - 1) * self.pages.shape().page_bytes()
    }

    /// Memory that must be allocated before so many more pages can be taken.
    fn growth(&self, pages: usize) -> usize {
        let lacking = pages.saturating_sub(self.free.len());
        lacking.next_multiple_of(CHUNK) * self.pages.shape().page_bytes()
    }

    /// Pages that [`Self::extend`] may take.
    pub(super) fn wanted(&self, positions: &Positions, count: usize) -> usize {
        let shared = |page: &u32| self.holders[*page as usize] > 1;
        let last = positions.pages.get(positions.len / PAGE);
        let copied = usize::from(last.is_some_and(shared));
        (positions.len + count).div_ceil(PAGE) - positions.pages.len() + copied
    }

    /// Before so many pages are taken here: where that would pass a bound on both, the other gives back what lies free there.
    /// `theirs` are all lists of the other's pages.
    pub(super) fn make_room<'a>(
        &self,
        pages: usize,
        bytes_max: usize,
        other: &mut Self,
        theirs: impl Iterator<Item = &'a mut Positions>,
    ) {
        let growth = self.growth(pages);
        let all = self.bytes().saturating_add(growth).saturating_add(other.bytes());
        if growth > 0 && all > bytes_max {
            other.shrink(all - bytes_max, theirs);
        }
    }

    /// Gives back so much memory, as far as it is free: held pages at the end move to free places before it. `lists` are all
    /// that there are.
    pub(super) fn shrink<'a>(&mut self, bytes: usize, lists: impl Iterator<Item = &'a mut Positions>) {
        let wanted = bytes.div_ceil((CHUNK * self.pages.shape().page_bytes()).max(1));
        let chunks = wanted.min(self.free.len() / CHUNK);
        if chunks == 0 {
            return;
        }
        let end = self.holders.len() - chunks * CHUNK;
        self.free.retain(|page| (*page as usize) < end);
        let mut moved = vec![0; chunks * CHUNK];
        for (page, to) in (end..).zip(&mut moved) {
            if self.holders[page] > 0 {
                *to = self
                    .free
                    .pop()
                    .expect("as many are free before the end as are held behind it");
                self.pages.copy(page as u32, *to);
                self.holders[*to as usize] = self.holders[page];
            }
        }
        for page in lists.flat_map(|list| &mut list.pages) {
            if *page as usize >= end {
                *page = moved[*page as usize - end];
            }
        }
        self.holders.truncate(end);
        (0..chunks).for_each(|_| self.pages.shrink());
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

    fn arena() -> Arena {
        Arena::new(MemoryShape {
            layers: 1,
            heads: 1,
            head_dim: 16,
            element: Element::Half,
        })
    }

    #[test]
    fn pages_are_shared_until_one_row_writes_and_all_come_back() {
        let mut arena = arena();
        let (mut a, mut places) = (Positions::default(), Vec::new());
        arena.extend(&mut a, PAGE + 3, &mut places);
        assert_eq!((a.pages.len(), places.len(), a.len), (2, PAGE + 3, PAGE + 3));
        let page = arena.bytes_held() / 2;
        let mut b = arena.share(&a);
        assert_eq!(arena.bytes_held(), 2 * page);
        arena.extend(&mut b, 1, &mut places);
        assert_eq!(
            arena.bytes_held(),
            3 * page,
            "the full page stays shared, the last one is copied"
        );
        assert_eq!(a.pages[0], b.pages[0]);
        assert_ne!(a.pages[1], b.pages[1]);
        arena.extend(&mut a, 1, &mut places);
        assert_eq!(arena.bytes_held(), 3 * page, "now the page is its own");
        arena.truncate(&mut a, 2);
        assert_eq!((a.pages.len(), a.len), (1, 2));
        arena.truncate(&mut a, 0);
        arena.truncate(&mut b, 0);
        assert_eq!(arena.bytes_held(), 0);
    }

    /// Takes so many positions, and counts the pages that this was said to take.
    fn extend(arena: &mut Arena, positions: &mut Positions, count: usize) -> usize {
        let (wanted, before) = (arena.wanted(positions, count), arena.bytes_held());
        arena.extend(positions, count, &mut Vec::new());
        let page = arena.pages.shape().page_bytes();
        assert_eq!(arena.bytes_held() - before, wanted * page);
        wanted
    }

    #[test]
    fn what_will_be_taken_is_known_before() {
        let mut arena = arena();
        let mut a = Positions::default();
        assert_eq!(extend(&mut arena, &mut a, 0), 0);
        assert_eq!(extend(&mut arena, &mut a, PAGE), 1);
        assert_eq!(extend(&mut arena, &mut a, PAGE + 1), 2);
        assert_eq!(extend(&mut arena, &mut a, PAGE - 1), 0);
        let mut b = arena.share(&a);
        assert_eq!(extend(&mut arena, &mut b, 1), 1, "the full pages stay shared");
        let mut c = arena.share(&b);
        assert_eq!(extend(&mut arena, &mut c, PAGE), 2, "one is copied, one is new");
    }

    #[test]
    fn free_pages_are_given_back_and_those_who_hold_others_still_hold_them() {
        let mut arena = arena();
        let mut all: Vec<Positions> = (0..3 * CHUNK).map(|_| Positions::default()).collect();
        for positions in &mut all {
            extend(&mut arena, positions, 3);
        }
        // Every fourth stays, and one of those is shared.
        let mut kept: Vec<Positions> = Vec::new();
        for (i, mut positions) in all.into_iter().enumerate() {
            if i % 4 == 3 {
                kept.push(positions);
            } else {
                arena.truncate(&mut positions, 0);
            }
        }
        kept.push(arena.share(&kept[11]));
        let page = arena.pages.shape().page_bytes();
        assert_eq!((arena.bytes(), arena.bytes_held()), (3 * CHUNK * page, 12 * page));
        let before: Vec<u32> = kept.iter().map(|k| k.pages[0]).collect();

        arena.shrink(1, kept.iter_mut());
        assert_eq!(
            arena.bytes(),
            2 * CHUNK * page,
            "whole chunks, and no more than was asked"
        );
        arena.shrink(usize::MAX, kept.iter_mut());
        assert_eq!((arena.bytes(), arena.bytes_held()), (CHUNK * page, 12 * page));
        arena.shrink(usize::MAX, kept.iter_mut());
        assert_eq!(arena.bytes(), CHUNK * page, "the rest is held");

        let mut pages: Vec<u32> = kept.iter().map(|k| k.pages[0]).collect();
        assert_eq!(pages.pop(), pages.last().copied(), "what was shared still is");
        for (page, before) in pages.iter().zip(&before) {
            assert!(
                (*before as usize) >= CHUNK || page == before,
                "it had no need to move"
            );
        }
        pages.sort_unstable();
        pages.dedup();
        assert_eq!(pages.len(), 12);
        for mut positions in kept {
            arena.truncate(&mut positions, 0);
        }
        assert_eq!((arena.bytes_held(), arena.free.len()), (0, CHUNK));
    }

    #[test]
    fn one_gives_back_what_the_other_needs_where_both_would_pass_their_bound() {
        let (mut own, mut cross) = (arena(), arena());
        let page = own.pages.shape().page_bytes();
        let chunk = CHUNK * page;
        let mut prompt = Positions::default();
        extend(&mut cross, &mut prompt, 4 * CHUNK * PAGE);
        cross.truncate(&mut prompt, PAGE);
        let mut row = Positions::default();
        let mut lists = [prompt];
        // Enough for both.
        own.make_room(CHUNK, 5 * chunk, &mut cross, lists.iter_mut());
        assert_eq!(cross.bytes(), 4 * chunk);
        own.make_room(CHUNK, 4 * chunk, &mut cross, lists.iter_mut());
        assert_eq!(cross.bytes(), 3 * chunk);
        extend(&mut own, &mut row, 4 * PAGE);
        assert_eq!(own.bytes() + cross.bytes(), 4 * chunk);
        // What is there already takes nothing from anybody, even where the bound is narrower by now.
        own.make_room(CHUNK - 4, chunk, &mut cross, lists.iter_mut());
        assert_eq!(cross.bytes(), 3 * chunk);
    }
}
