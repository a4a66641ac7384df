//! Guessing what a sequence says next, so that one step can verify several tokens: explanations copy much of their prompt,
//! and texts for like requests are alike.
//!
//! A guess never changes what is said: the engine takes a drafted token only where it would have chosen the same. The
//! *book* remembers, for all sequences of an engine, what followed in a context: the last tokens, alone, or after a
//! prompt that begins and ends like this one. Beside it stands the prompt itself, where the last tokens may stand too. Of
//! what these sources propose the likeliest is guessed, a token at a time, for as long as the whole run is likely enough.
//! How often each source is right is counted with every token that is said, whether or not anything was guessed. A book may begin with
//! what a model usually says ([`phrases`]).

mod phrases;

use crate::config::Config;

pub use phrases::{PHRASES_FILE, Phrases, Told};

/// Contexts by which the book is asked, the most telling first.
const LEVELS: usize = 5;
/// What else proposes: the prompt, by this many last tokens.
const COPIES: [usize; 2] = [3, 2];
const SOURCES: usize = LEVELS + COPIES.len();
/// Entries of the book, a power of two: 3 MiB.
const ENTRIES: usize = 1 << 18;
/// Tokens at the end of a prompt that make it like another, for the first and for the second level.
const TAILS: [usize; 2] = [16, 7];
/// A guess is made while all of it is right with this probability. Verifying a token more costs a quarter of a step of a small
/// model, less of a large one; the likeliest of several proposals is a little less likely than it looks.
const LIKELY: f32 = 0.5;
/// Observations that the prior of an entry counts for, and over how many a source's rate is averaged.
const PRIOR: f32 = 1.5;
const WINDOW: f32 = 64.0;
/// Observations at which an entry's counts are halved, so that what comes now counts more than what came once.
const TRIED_MAX: u16 = 64;

/// What a sequence's prompt is known by, made once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marks {
    head: u64,
    tails: [u64; 2],
}

impl Marks {
    pub(crate) fn of(prompt: &[u32]) -> Self {
        let head = prompt.iter().take(2).fold(SEED, |hash, id| mixed(hash, *id));
        let tail = |count: usize| {
            let from = prompt.len().saturating_sub(count);
            prompt[from..].iter().fold(head, |hash, id| mixed(hash, *id))
        };
        Self {
            head,
            tails: TAILS.map(tail),
        }
    }

    /// The contexts of what follows `ids`.
    fn contexts(&self, ids: &[u32]) -> [u64; LEVELS] {
        let last = |seed: u64, count: usize| {
            let from = ids.len().saturating_sub(count);
            // A short beginning is a context of its own.
            let seed = mixed(seed, (ids.len() - from) as u32);
            ids[from..].iter().fold(seed, |hash, id| mixed(hash, *id))
        };
        [
            last(self.tails[0], 3),
            last(self.tails[1], 2),
            last(self.head, 3),
            last(SEED, 4),
            last(SEED, 2),
        ]
    }
}

/// What followed in a context. A new one takes the place of whatever was there.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// Of the context; 0 in an empty entry.
    check: u32,
    next: u32,
    right: u16,
    tried: u16,
}

#[derive(Clone, Debug)]
pub(crate) struct Book {
    entries: Vec<Entry>,
    /// How often each source is right, lately.
    rates: [Rate; SOURCES],
}

/// A share of the latest observations, even at first.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    right: f32,
    tried: f32,
}

impl Default for Book {
    fn default() -> Self {
        Self {
            entries: vec![Entry::default(); ENTRIES],
            rates: [Rate::default(); SOURCES],
        }
    }
}

impl Book {
    /// Remembers what `ids` said from position `from` on, after this prompt.
    pub(crate) fn learn(&mut self, marks: &Marks, prompt: &[u32], ids: &[u32], from: usize) {
        for at in from.max(1)..ids.len() {
            let (before, next) = (&ids[..at], ids[at]);
            for (level, context) in marks.contexts(before).into_iter().enumerate() {
                let (place, check) = place(context);
                let entry = &mut self.entries[place];
                if entry.check == check {
                    let right = entry.next == next;
                    self.rates[level].note(right);
                    entry.note(right, next);
                } else {
                    *entry = Entry {
                        check,
                        next,
                        right: 0,
                        tried: 0,
                    };
                }
            }
            for (n, count) in COPIES.into_iter().enumerate() {
                if let Some(copied) = copied(prompt, before, count) {
                    self.rates[LEVELS + n].note(copied == next);
                }
            }
        }
    }

    /// Appends guesses to `ids`, at most [`Config::draft_tokens_max`] and `most`; returns how many.
    pub(crate) fn guess(
        &self,
        config: &Config,
        marks: &Marks,
        prompt: &[u32],
        ids: &mut Vec<u32>,
        most: usize,
    ) -> usize {
        let most = most.min(config.draft_tokens_max);
        let mut likely = 1.0;
        for made in 0..most {
            let Some((next, how_likely)) = self.next(marks, prompt, ids) else {
                return made;
            };
            likely *= how_likely;
            if likely < LIKELY {
                return made;
            }
            ids.push(next);
        }
        most
    }

    /// The likeliest proposal.
    fn next(&self, marks: &Marks, prompt: &[u32], ids: &[u32]) -> Option<(u32, f32)> {
        let mut best: Option<(u32, f32)> = None;
        let mut offer = |next: u32, likely: f32| {
            if best.is_none_or(|(_, other)| likely > other) {
                best = Some((next, likely));
            }
        };
        for (level, context) in marks.contexts(ids).into_iter().enumerate() {
            let (place, check) = place(context);
            let entry = &self.entries[place];
            if entry.check == check {
                offer(entry.next, entry.likely(self.rates[level].share()));
            }
        }
        for (n, count) in COPIES.into_iter().enumerate() {
            let rate = self.rates[LEVELS + n].share();
            // Nothing is looked for that could not be chosen.
            if rate >= LIKELY
                && let Some(next) = copied(prompt, ids, count)
            {
                offer(next, rate);
            }
        }
        best
    }
}

impl Entry {
    fn note(&mut self, right: bool, next: u32) {
        self.tried += 1;
        self.right += u16::from(right);
        if !right && 2 * self.right < self.tried {
            // What comes now is at least as likely as what came before.
            (self.next, self.right, self.tried) = (next, 0, 1);
        }
        if self.tried >= TRIED_MAX {
            self.tried /= 2;
            self.right /= 2;
        }
    }

    fn likely(&self, prior: f32) -> f32 {
        (f32::from(self.right) + PRIOR * prior) / (f32::from(self.tried) + PRIOR)
    }
}

impl Rate {
    fn note(&mut self, right: bool) {
        const KEPT: f32 = 1.0 - 1.0 / WINDOW;
        self.right = self.right * KEPT + f32::from(u8::from(right));
        self.tried = self.tried * KEPT + 1.0;
    }

    fn share(self) -> f32 {
        (self.right + 1.0) / (self.tried + 2.0)
    }
}

/// What follows the last `count` of `ids` where they last stand in `prompt`.
fn copied(prompt: &[u32], ids: &[u32], count: usize) -> Option<u32> {
    let tail = ids.len().checked_sub(count).map(|from| &ids[from..])?;
    let at = prompt.windows(count + 1).rposition(|w| w[..count] == *tail)?;
    Some(prompt[at + count])
}

const SEED: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a by words, and a shift so that high bits count too; any mixing will do.
fn mixed(hash: u64, id: u32) -> u64 {
    let hash = (hash ^ u64::from(id)).wrapping_mul(0x0100_0000_01b3);
    hash ^ (hash >> 29)
}

/// Where a context's entry is, and by what it is told from others there.
fn place(context: u64) -> (usize, u32) {
    (context as usize % ENTRIES, (context >> 32) as u32 | 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(book: &Book, prompt: &[u32], said: &[u32], most: usize) -> Vec<u32> {
        let mut ids = said.to_vec();
        let made = book.guess(&Config::default(), &Marks::of(prompt), prompt, &mut ids, most);
        assert_eq!(ids.len(), said.len() + made);
        ids.split_off(said.len())
    }

    fn learn(book: &mut Book, prompt: &[u32], said: &[u32]) {
        book.learn(&Marks::of(prompt), prompt, said, 1);
    }

    #[test]
    fn the_prompt_is_copied_from_where_the_last_tokens_stand() {
        let book = Book::default();
        let prompt = [9, 5, 6, 7, 8, 9, 10, 1];
        // Nothing is known of how often that is right: half a chance, and a quarter for two.
        assert_eq!(guess(&book, &prompt, &[0, 5, 6, 7], 2), [8]);
        assert_eq!(guess(&book, &prompt, &[0, 42, 43], 2), [0u32; 0]);
    }

    #[test]
    fn what_was_said_is_said_again_from_the_first_token_on() {
        let mut book = Book::default();
        let said = [0, 11, 12, 13, 14, 15];
        for _ in 0..12 {
            learn(&mut book, &[7, 7], &said);
        }
        assert_eq!(guess(&book, &[7, 7], &[0], 8), said[1..]);
        assert_eq!(
            guess(&book, &[8, 8], &[0, 11, 12], 2),
            [13, 14],
            "after another prompt too"
        );
    }

    #[test]
    fn a_prompt_that_ends_alike_counts_more_than_the_last_words() {
        let mut book = Book::default();
        let (crime, space) = ([1, 2, 3, 40], [1, 2, 3, 41]);
        for _ in 0..8 {
            learn(&mut book, &crime, &[0, 20, 21, 22]);
            learn(&mut book, &space, &[0, 20, 21, 30]);
        }
        assert_eq!(guess(&book, &crime, &[0, 20, 21], 1), [22]);
        assert_eq!(guess(&book, &space, &[0, 20, 21], 1), [30]);
    }

    #[test]
    fn what_comes_otherwise_now_replaces_what_came_once() {
        let mut book = Book::default();
        learn(&mut book, &[7], &[0, 11]);
        for _ in 0..3 {
            learn(&mut book, &[7], &[0, 20]);
        }
        assert_eq!(guess(&book, &[7], &[0], 1), [20]);
    }

    #[test]
    fn nothing_is_guessed_where_guesses_were_wrong_until_they_would_be_right() {
        let mut book = Book::default();
        let prompt: Vec<u32> = (100..140).collect();
        // Says two tokens of the prompt, then always something else.
        for n in 0..200 {
            learn(&mut book, &prompt, &[0, 110, 111, 1_000 + n]);
        }
        assert_eq!(guess(&book, &prompt, &[5, 120, 121], 4), [0u32; 0]);
        for _ in 0..100 {
            learn(&mut book, &prompt, &[0, 110, 111, 112, 113, 114]);
        }
        assert_eq!(guess(&book, &prompt, &[5, 120, 121], 2), [122, 123]);
    }
}
