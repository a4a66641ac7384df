//! Guessing what a sequence says next, so that one step can verify several tokens: explanations copy much of their prompt,
//! and phrases come again.
//!
//! A guess never changes what is said: the engine takes a drafted token only where it would have chosen the same. Two
//! sources, a token at a time: the prompt, where the last tokens stand in it, and the *book*, which remembers what followed
//! three tokens when any sequence of this engine last said them.

use crate::config::Config;

/// Tokens by which the next one is guessed.
const CONTEXT: usize = 3;
/// Entries of the book, a power of two: 1 MiB.
const ENTRIES: usize = 1 << 16;
/// Stands before the first token of a sequence.
const NONE: u32 = u32::MAX;
/// Length of a sequence's first guess.
const FIRST: usize = 4;

/// What followed three tokens, the last time. A new entry takes the place of whatever was there.
#[derive(Clone, Debug)]
pub(crate) struct Book {
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    context: [u32; CONTEXT],
    next: u32,
}

impl Default for Book {
    fn default() -> Self {
        let empty = Entry {
            context: [NONE; CONTEXT],
            next: NONE,
        };
        Self {
            entries: vec![empty; ENTRIES],
        }
    }
}

impl Book {
    /// Remembers what `ids` said from position `from` on.
    pub(crate) fn learn(&mut self, ids: &[u32], from: usize) {
        for at in from.max(1)..ids.len() {
            let context = last_of(&ids[..at]);
            self.entries[place(context)] = Entry {
                context,
                next: ids[at],
            };
        }
    }

    fn next(&self, context: [u32; CONTEXT]) -> Option<u32> {
        let entry = self.entries[place(context)];
        (entry.context == context && entry.next != NONE).then_some(entry.next)
    }

    /// Appends at most `most` guesses to `ids`; returns how many.
    pub(crate) fn guess(&self, prompt: &[u32], ids: &mut Vec<u32>, most: usize) -> usize {
        for made in 0..most {
            let next = copied(prompt, ids, CONTEXT)
                .or_else(|| self.next(last_of(ids)))
                .or_else(|| copied(prompt, ids, CONTEXT - 1));
            match next {
                Some(next) => ids.push(next),
                None => return made,
            }
        }
        most
    }
}

/// What follows the last `count` of `ids` where they last stand in `prompt`.
fn copied(prompt: &[u32], ids: &[u32], count: usize) -> Option<u32> {
    let tail = ids.len().checked_sub(count).map(|from| &ids[from..])?;
    let at = prompt.windows(count + 1).rposition(|w| w[..count] == *tail)?;
    Some(prompt[at + count])
}

fn last_of(ids: &[u32]) -> [u32; CONTEXT] {
    let mut context = [NONE; CONTEXT];
    for (to, from) in context.iter_mut().rev().zip(ids.iter().rev()) {
        *to = *from;
    }
    context
}

fn place(context: [u32; CONTEXT]) -> usize {
    // FNV-1a by words; any mixing will do.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for id in context {
        hash = (hash ^ u64::from(id)).wrapping_mul(0x0100_0000_01b3);
    }
    (hash ^ (hash >> 29)) as usize % ENTRIES
}

/// How long the guesses of one sequence are: twice as long after a right one, as long as was right after a wrong one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    length: usize,
    /// Steps without a guess, after guesses that were all wrong.
    pause: usize,
    misses: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            length: FIRST,
            pause: 0,
            misses: 0,
        }
    }
}

impl Pace {
    /// The most to guess in this step.
    pub(crate) fn length(&mut self, config: &Config) -> usize {
        if self.pause > 0 {
            self.pause -= 1;
            return 0;
        }
        self.length.min(config.draft_tokens_max)
    }

    /// Of `made` guesses, so many were right.
    pub(crate) fn learn(&mut self, made: usize, right: usize) {
        if made == 0 {
            return;
        }
        if right == 0 {
            self.misses = (self.misses + 1).min(4);
            self.pause = (1 << self.misses) - 1;
        } else {
            self.misses = 0;
        }
        self.length = if right == made {
            (2 * self.length).min(64)
        } else {
            right.max(1)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prompt_is_copied_from_where_the_last_tokens_stand() {
        let book = Book::default();
        let prompt = [9, 5, 6, 7, 8, 9, 10, 1];
        let mut ids = vec![0, 5, 6, 7];
        assert_eq!(book.guess(&prompt, &mut ids, 3), 3);
        assert_eq!(ids, [0, 5, 6, 7, 8, 9, 10]);
        let mut ids = vec![0, 42, 43];
        assert_eq!(book.guess(&prompt, &mut ids, 3), 0);
    }

    #[test]
    fn what_was_said_is_said_again_from_the_first_token_on() {
        let mut book = Book::default();
        let said = [0, 11, 12, 13, 14, 15];
        book.learn(&said, 1);
        let mut ids = vec![0];
        assert_eq!(book.guess(&[], &mut ids, 8), 5);
        assert_eq!(ids, said);
        book.learn(&[0, 11, 20], 2);
        let mut ids = vec![0];
        book.guess(&[], &mut ids, 2);
        assert_eq!(ids, [0, 11, 20], "the latest counts");
    }

    #[test]
    fn guesses_grow_while_they_are_right_and_pause_while_they_are_wrong() {
        let config = Config {
            draft_tokens_max: 16,
            ..Config::default()
        };
        let mut pace = Pace::default();
        pace.learn(4, 4);
        assert_eq!(pace.length(&config), 8);
        pace.learn(8, 3);
        assert_eq!(pace.length(&config), 3);
        pace.learn(3, 0);
        assert_eq!([pace.length(&config), pace.length(&config)], [0, 1]);
        for _ in 0..10 {
            pace.learn(1, 0);
        }
        assert!((0..20).any(|_| pace.length(&config) > 0), "it tries again");
    }
}
