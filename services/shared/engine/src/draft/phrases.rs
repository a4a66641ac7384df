//! What the texts of a model usually say, written down beside its weights: an engine that opens it guesses well from its
//! first text on, not only once it has said much itself.
//!
//! A line a phrase: the context's hash, the token that follows, how often it did and how often something might have. No prompt and
//! no text stands there, and nothing that fewer than [`SAID_MIN`] texts said: of prompts for many users, nothing that one was told.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;

use super::{Book, COPIES, Entry, LEVELS, LIKELY, Marks, Rate, SOURCES, TRIED_MAX, place};
use crate::config::Config;
use crate::runner::RunnerError;

/// Beside the weights, in the model's directory.
pub const PHRASES_FILE: &str = "phrases.tsv";

/// Counts up when contexts are made or told apart in another way: older files are then refused.
const HEADER: &str = "refract phrases 1";
/// Texts that must have said a phrase.
const SAID_MIN: usize = 3;

/// What a [`Book`] knows at the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Phrases {
    /// Right and tried, of each source.
    rates: Vec<(f32, f32)>,
    phrases: Vec<Phrase>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Phrase {
    context: u64,
    next: u32,
    right: u16,
    tried: u16,
}

/// One text: what was asked and what was said, without the decoder's start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub prompt: Vec<u32>,
    pub ids: Vec<u32>,
}

impl Told {
    /// As the decoder sees it.
    fn whole(&self, decoder_start: u32) -> Vec<u32> {
        std::iter::once(decoder_start)
            .chain(self.ids.iter().copied())
            .collect()
    }
}

impl Phrases {
    /// What these texts have in common. `decoder_start` is the model's.
    pub fn of(decoder_start: u32, texts: &[Told]) -> Self {
        let mut book = Book::default();
        // By context and what follows: the latest text that said it, and how many did.
        let mut said: HashMap<(u64, u32), (usize, usize)> = HashMap::new();
        for (at, text) in texts.iter().enumerate() {
            let marks = Marks::of(&text.prompt);
            let ids = text.whole(decoder_start);
            book.learn(&marks, &text.prompt, &ids, 1);
            for end in 1..ids.len() {
                for context in marks.contexts(&ids[..end]) {
                    let (latest, count) = said.entry((context, ids[end])).or_insert((usize::MAX, 0));
                    if *latest != at {
                        (*latest, *count) = (at, *count + 1);
                    }
                }
            }
        }
        let mut phrases: Vec<Phrase> = said
            .into_iter()
            .filter(|(_, (_, count))| *count >= SAID_MIN)
            .filter_map(|((context, next), _)| {
                let (place, check) = place(context);
                let entry = &book.entries[place];
                // What is not in the book has made room for something else, or is said less often than another word.
                (entry.check == check && entry.next == next).then_some(Phrase {
                    context,
                    next,
                    right: entry.right,
                    tried: entry.tried,
                })
            })
            // Less likely ones would never be guessed.
            .filter(|phrase| phrase.entry().likely(0.5) >= LIKELY)
            .collect();
        phrases.sort_unstable_by_key(|phrase| phrase.context);
        Self {
            rates: book.rates.iter().map(|rate| (rate.right, rate.tried)).collect(),
            phrases,
        }
    }

    pub fn len(&self) -> usize {
        self.phrases.len()
    }

    pub fn is_empty(&self) -> bool {
        self.phrases.is_empty()
    }

    /// Those beside a model's weights; none where there is no such file.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or says something that is no phrase of a model with `vocab` tokens; its line is named.
    pub fn beside(dir: &Path, vocab: usize) -> Result<Self, RunnerError> {
        let path = dir.join(PHRASES_FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(RunnerError::new(format!("{}: {error}", path.display()))),
        };
        Self::read(&text, vocab).map_err(|(line, reason)| {
            RunnerError::new(format!(
                "{}:{line}: {reason}; make it again with `refract rehearse`",
                path.display()
            ))
        })
    }

    /// Decode steps that an engine which knows these takes for texts told one at a time, learning from each: as many as there are
    /// tokens where it guesses none.
    pub fn steps(&self, config: &Config, decoder_start: u32, texts: &[Told]) -> usize {
        let mut book = Book::knowing(self);
        let mut steps = 0;
        for text in texts {
            let marks = Marks::of(&text.prompt);
            let whole = text.whole(decoder_start);
            let mut said = 1;
            while said < whole.len() {
                let mut ids = whole[..said].to_vec();
                book.guess(config, &marks, &text.prompt, &mut ids, whole.len() - said - 1);
                let right = ids[said..].iter().zip(&whole[said..]);
                let now = said + 1 + right.take_while(|(guess, token)| guess == token).count();
                book.learn(&marks, &text.prompt, &whole[..now], said);
                said = now;
                steps += 1;
            }
        }
        steps
    }

    /// As [`Self::beside`] reads it.
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEADER}\n");
        for (right, tried) in &self.rates {
            writeln!(text, "source\t{right:.2}\t{tried:.2}").expect("memory");
        }
        for p in &self.phrases {
            writeln!(text, "{:016x}\t{}\t{}\t{}", p.context, p.next, p.right, p.tried).expect("memory");
        }
        text
    }

    fn read(text: &str, vocab: usize) -> Result<Self, (usize, String)> {
        let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
        match lines.next() {
            Some((_, HEADER)) => {}
            first => {
                let found = first.map_or("", |(_, line)| line);
                return Err((1, format!("begins with {found:?}, not {HEADER:?}")));
            }
        }
        let mut read = Self::default();
        for (number, line) in lines {
            let no = |reason: String| (number, reason);
            let mut fields = line.split('\t');
            let mut field = |name: &str| {
                let field = fields.next();
                field.ok_or_else(|| no(format!("{name} is missing")))
            };
            let first = field("context")?;
            if first == "source" {
                let mut share = |name: &str| {
                    let text = field(name)?;
                    let number = text.parse().ok().filter(|x: &f32| x.is_finite() && *x >= 0.0);
                    number.ok_or_else(|| no(format!("{name}: {text:?} is no count")))
                };
                let (right, tried) = (share("right")?, share("tried")?);
                if right > tried {
                    return Err(no(format!("right {right} is above tried {tried}")));
                }
                read.rates.push((right, tried));
            } else {
                let context = u64::from_str_radix(first, 16)
                    .map_err(|_| no(format!("context: {first:?} is not 16 digits of hex")))?;
                let mut count = |name: &str, below: usize| {
                    let text = field(name)?;
                    let number = text.parse().ok().filter(|n: &usize| *n < below);
                    number.ok_or_else(|| no(format!("{name}: {text:?} is no number below {below}")))
                };
                let most = usize::from(TRIED_MAX);
                let (next, right, tried) = (
                    count("next", vocab)?,
                    count("right", most)?,
                    count("tried", most)?,
                );
                if right > tried {
                    return Err(no(format!("right {right} is above tried {tried}")));
                }
                read.phrases.push(Phrase {
                    context,
                    next: next as u32,
                    right: right as u16,
                    tried: tried as u16,
                });
            }
            if fields.next().is_some() {
                return Err(no("more fields than there are".to_owned()));
            }
        }
        if read.rates.len() != SOURCES {
            let (is, levels, copies) = (read.rates.len(), LEVELS, COPIES.len());
            return Err((
                1,
                format!("{is} lines of sources where there are {levels} and {copies}"),
            ));
        }
        Ok(read)
    }
}

impl Phrase {
    fn entry(self) -> Entry {
        Entry {
            check: place(self.context).1,
            next: self.next,
            right: self.right,
            tried: self.tried,
        }
    }
}

impl Book {
    /// One that has read these.
    pub(crate) fn knowing(phrases: &Phrases) -> Self {
        let mut book = Self::default();
        for phrase in &phrases.phrases {
            book.entries[place(phrase.context).0] = phrase.entry();
        }
        for (rate, (right, tried)) in book.rates.iter_mut().zip(&phrases.rates) {
            *rate = Rate {
                right: *right,
                tried: *tried,
            };
        }
        book
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOCAB: usize = 100;

    fn told(prompt: &[u32], ids: &[u32]) -> Told {
        Told {
            prompt: prompt.to_vec(),
            ids: ids.to_vec(),
        }
    }

    /// Three texts that begin alike, and a word of the last one's own.
    fn some() -> Phrases {
        Phrases::of(
            0,
            &[
                told(&[1, 5], &[11, 12, 13]),
                told(&[1, 6], &[11, 12, 13]),
                told(&[1, 7], &[11, 12, 77]),
            ],
        )
    }

    #[test]
    fn who_opens_them_says_the_same_in_fewer_steps() {
        let texts: Vec<Told> = (0..20).map(|n| told(&[1, n], &[11, 12, 13, 14, 15, 2])).collect();
        let config = Config::default();
        let unknown = [told(&[1, 50], &[11, 12, 13, 14, 15, 2])];
        assert_eq!(Phrases::default().steps(&config, 0, &unknown), 6);
        assert_eq!(Phrases::of(0, &texts).steps(&config, 0, &unknown), 1);
        let otherwise = [told(&[1, 50], &[41, 42, 43, 44, 45, 46])];
        assert_eq!(Phrases::of(0, &texts).steps(&config, 0, &otherwise), 6);
    }

    #[test]
    fn what_fewer_than_three_texts_said_is_not_written_down() {
        let next = |phrases: &Phrases| phrases.phrases.iter().map(|p| p.next).collect::<Vec<_>>();
        assert!(next(&some()).contains(&11) && next(&some()).contains(&12));
        assert!(!next(&some()).contains(&13), "said twice");
        // Three times by one text is once.
        let alone = Phrases::of(0, &[told(&[1, 5], &[11, 12, 11, 12, 11, 12, 11, 12])]);
        assert_eq!(alone.len(), 0);
    }

    #[test]
    fn a_file_says_what_was_written() {
        let phrases = some();
        let read = Phrases::read(&phrases.to_text(), VOCAB).expect("a sound file");
        assert_eq!(read.phrases, phrases.phrases);
        assert_eq!(read.to_text(), phrases.to_text());
    }

    /// Contexts are made as they were when files were written: if this fails, count the number of [`HEADER`] up.
    #[test]
    fn contexts_of_old_files_are_still_found() {
        let context = Marks::of(&[1, 5, 9]).contexts(&[0, 11, 12, 13]);
        assert_eq!(
            context.map(|hash| format!("{hash:016x}")),
            [
                "ac77ff5334139223",
                "f007b9fe74c655af",
                "e8ad23117a4a419f",
                "1e55486f2842abc1",
                "05ee5fad3ff7691e"
            ]
            .map(str::to_owned)
        );
    }

    #[test]
    fn bad_files_are_refused_with_the_line_and_what_is_wrong() {
        let sound = some().to_text();
        assert!(Phrases::read(&sound, VOCAB).is_ok());
        let with = |line: &str| format!("{sound}{line}\n");
        let last = sound.lines().count() + 1;
        for (text, line, reason) in [
            (String::new(), 1, "begins with"),
            (sound.replace(HEADER, "refract phrases 0"), 1, "refract phrases 0"),
            (sound.replacen("source", "sauce", 1), 2, "not 16 digits of hex"),
            (format!("{HEADER}\n"), 1, "0 lines of sources"),
            (with("00ff"), last, "next is missing"),
            (with("00ff\t100\t1\t2"), last, "no number below 100"),
            (with("00ff\t-1\t1\t2"), last, "no number below 100"),
            (with("00ff\t9\t3\t2"), last, "right 3 is above tried 2"),
            (with("00ff\t9\t1\t64"), last, "no number below 64"),
            (with("00ff\t9\t1\t2\t3"), last, "more fields"),
            (with("source\tNaN\t1"), last, "no count"),
            (with(""), last, "not 16 digits"),
        ] {
            let (at, why) = Phrases::read(&text, VOCAB).expect_err("refused");
            assert_eq!((at, why.contains(reason)), (line, true), "{why}");
        }
    }
}
