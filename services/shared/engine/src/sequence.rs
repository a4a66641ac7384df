//! One prompt being decoded: `Waiting → Decoding → Finished`, one or more rows of the batch.

use std::fmt;

use rand_chacha::ChaCha8Rng;
use refract_model::PairRows;

use crate::beam::BeamSearch;
use crate::beam::candidates;
use crate::config::Config;
use crate::draft::{Book, Marks};
use crate::error::Error;
use crate::generation::{Finish, Hypothesis};
use crate::kv::{RowMove, RowSlot};
use crate::logits::max_if_sound;
use crate::params::GenerationParams;
use crate::sampler::{
    Scratch, apply_rules, choose_at_random, choose_greedily, is_stopped, lowered_at_most, randomness,
};
use crate::scores::{Lines, Spread};

/// Names a sequence within one engine; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub u64);

impl fmt::Display for SequenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What one step did to a sequence.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// Copies of own memory, all at once: every source is read before anything is written.
    pub moves: Vec<RowMove>,
    /// Rows whose memory is of no use any more; the sequence may use the slots again.
    pub idle: Vec<RowSlot>,
    /// Rows that the sequence will not use again.
    pub done: Vec<RowSlot>,
    /// Tokens to stream.
    pub produced: Vec<u32>,
    /// How many of them were guessed.
    pub guessed: usize,
    /// The results, once the sequence has ended: at least one.
    pub end: Option<Vec<Hypothesis>>,
}

#[derive(Clone, Debug)]
pub struct Sequence {
    pub id: SequenceId,
    pub prompt: Vec<u32>,
    pub pairs: Option<PairRows>,
    pub params: GenerationParams,
    decoder_start: u32,
    seed: u64,
    marks: Marks,
    search: Search,
}

#[derive(Clone, Debug)]
enum Search {
    Waiting,
    Lines(Vec<Line>),
    Beams(BeamSearch),
}

/// Greedy decoding has one; sampling one a sample.
#[derive(Clone, Debug)]
struct Line {
    /// The decoder start id first; guesses last.
    ids: Vec<u32>,
    /// How many of `ids` are guesses.
    drafted: usize,
    row: RowSlot,
    rng: ChaCha8Rng,
    finish: Option<Finish>,
}

impl Sequence {
    /// `seed` is used where the parameters have none.
    pub fn new(
        id: SequenceId,
        prompt: Vec<u32>,
        pairs: Option<PairRows>,
        params: GenerationParams,
        decoder_start: u32,
        seed: u64,
    ) -> Self {
        let seed = params.seed.unwrap_or(seed);
        Self {
            id,
            marks: Marks::of(&prompt),
            prompt,
            pairs,
            params,
            decoder_start,
            seed,
            search: Search::Waiting,
        }
    }

    /// Waiting → Decoding, in these rows (as many as [`GenerationParams::rows`]).
    pub fn start(&mut self, rows: &[RowSlot]) {
        self.search = if self.params.num_beams > 1 {
            Search::Beams(BeamSearch::new(self.decoder_start, rows))
        } else {
            let line = |(sample, row): (usize, &RowSlot)| Line {
                ids: vec![self.decoder_start],
                drafted: 0,
                row: *row,
                rng: randomness(self.seed, sample),
                finish: None,
            };
            Search::Lines(rows.iter().enumerate().map(line).collect())
        };
    }

    /// Appends guesses to a greedy line, at most `most`; returns how many. The next [`Self::advance`] judges them.
    pub(crate) fn draft(&mut self, book: &Book, config: &Config, most: usize) -> usize {
        let Search::Lines(lines) = &mut self.search else {
            return 0;
        };
        let [line] = lines.as_mut_slice() else { return 0 };
        if self.params.do_sample || line.finish.is_some() || line.drafted > 0 {
            return 0;
        }
        // A step says one token more than was guessed.
        let left = (self.params.max_new_tokens + 1).saturating_sub(line.ids.len() + 1);
        line.drafted = book.guess(config, &self.marks, &self.prompt, &mut line.ids, most.min(left));
        line.drafted
    }

    /// Teaches the book what the last step said.
    pub(crate) fn teach(&self, book: &mut Book, said: usize) {
        if let Search::Lines(lines) = &self.search
            && let [line] = lines.as_slice()
        {
            let from = line.ids.len().saturating_sub(said);
            book.learn(&self.marks, &self.prompt, &line.ids, from);
        }
    }

    /// Rows to decode, with all decoder ids of each and how many of them are guesses; empty unless decoding.
    ///
    /// Samples are one row until they have drawn their first token: what precedes it is the same for all.
    pub fn rows(&self) -> impl Iterator<Item = (RowSlot, &[u32], usize)> {
        let (lines, beams): (&[Line], _) = match &self.search {
            Search::Waiting => (&[], &[] as &[_]),
            Search::Lines(lines) if lines[0].ids.len() - lines[0].drafted == 1 => (&lines[..1], &[] as &[_]),
            Search::Lines(lines) => (lines, &[] as &[_]),
            Search::Beams(search) => (&[], search.beams()),
        };
        let lines = lines
            .iter()
            .filter(|l| l.finish.is_none())
            .map(|l| (l.row, l.ids.as_slice(), l.drafted));
        lines.chain(beams.iter().map(|b| (b.row, b.ids.as_slice(), 0)))
    }

    /// How many of the best tokens of a line are looked at, of a row with so many ids (guesses included); 0 for all.
    pub(crate) fn looks_at(&self, ids: usize, vocab: usize) -> usize {
        /// Of more, reading the whole line costs little more.
        const MOST: usize = 64;
        let chosen = match &self.params {
            params if params.num_beams > 1 => candidates(params),
            params if params.do_sample && params.top_k == 0 => return 0,
            params if params.do_sample => params.top_k,
            _ => 1,
        };
        match lowered_at_most(&self.params, ids) {
            Some(lowered) if chosen + lowered <= MOST.min(vocab) => chosen + lowered,
            _ => 0,
        }
    }

    /// Takes what was said of [`Self::rows`]: a line for each row, and one more for each guess. Moves on by one token, or by as
    /// many more as were guessed right. Needs nothing but its own lines, so sequences can be advanced in parallel.
    pub fn advance(&mut self, lines: &mut Lines<'_>, scratch: &mut Scratch) -> Result<Step, Error> {
        // The scratch has other uses meanwhile. After an error the next sequence makes itself a new one.
        let mut spread = std::mem::take(&mut scratch.spread);
        let step = match &mut self.search {
            Search::Waiting => Step::default(),
            Search::Beams(search) => search.advance(&self.params, lines, &mut spread, scratch)?,
            Search::Lines(own) if own.len() == 1 && !self.params.do_sample => {
                advance_greedily(&mut own[0], &self.params, lines, &mut spread, scratch)?
            }
            Search::Lines(own) => advance_lines(own, &self.params, lines, &mut spread, scratch)?,
        };
        scratch.spread = spread;
        Ok(step)
    }
}

/// One token a line of logits, for as long as the guesses were right.
fn advance_greedily(
    line: &mut Line,
    params: &GenerationParams,
    said: &mut Lines<'_>,
    spread: &mut Spread,
    scratch: &mut Scratch,
) -> Result<Step, Error> {
    let mut step = Step::default();
    let drafted = std::mem::take(&mut line.drafted);
    let drafts = line.ids.split_off(line.ids.len() - drafted);
    for at in 0..said.count() {
        let (scores, _) = said.open(at, params, spread);
        if max_if_sound(scores).is_none() {
            return Err(Error::fault("the logits are not finite"));
        }
        apply_rules(params, &line.ids, scores, scratch);
        let Some(token) = choose_greedily(scores) else {
            return Err(Error::Overconstrained {
                position: line.ids.len() - 1,
            });
        };
        line.ids.push(token);
        step.produced.push(token);
        if is_stopped(params, &line.ids) {
            line.finish = Some(Finish::Stop);
        } else if line.ids.len() > params.max_new_tokens {
            line.finish = Some(Finish::Length);
        }
        if line.finish.is_some() || drafts.get(at) != Some(&token) {
            break;
        }
    }
    step.guessed = step.produced.len().saturating_sub(1);
    if let Some(finish) = line.finish {
        step.done.push(line.row);
        step.end = Some(vec![Hypothesis {
            ids: line.ids[1..].to_vec(),
            finish,
            score: None,
        }]);
    }
    Ok(step)
}

fn advance_lines(
    lines: &mut [Line],
    params: &GenerationParams,
    said: &mut Lines<'_>,
    spread: &mut Spread,
    scratch: &mut Scratch,
) -> Result<Step, Error> {
    let mut step = Step::default();
    let is_first = lines[0].ids.len() == 1;
    let trunk = lines[0].row;
    let streams = lines.len() == 1;
    let unfinished = lines
        .iter_mut()
        .enumerate()
        .filter(|(_, line)| line.finish.is_none());
    for (at, (sample, line)) in unfinished.enumerate() {
        // Samples that have not drawn yet all draw from one line. Rules change it where it lies, once; what is told is spread anew.
        let (scores, told) = said.open(if is_first { 0 } else { at }, params, spread);
        if !is_first || sample == 0 || told.is_some() {
            if max_if_sound(scores).is_none() {
                return Err(Error::fault("the logits are not finite"));
            }
            apply_rules(params, &line.ids, scores, scratch);
        }
        let token = if params.do_sample {
            choose_at_random(params, scores, &mut line.rng, scratch)
        } else {
            choose_greedily(scores)
        };
        let Some(token) = token else {
            return Err(Error::Overconstrained {
                position: line.ids.len() - 1,
            });
        };
        line.ids.push(token);
        if streams {
            step.produced.push(token);
        }
        if is_stopped(params, &line.ids) {
            line.finish = Some(Finish::Stop);
        } else if line.ids.len() > params.max_new_tokens {
            line.finish = Some(Finish::Length);
        }
        if line.finish.is_some() {
            step.done.push(line.row);
        } else if is_first && sample > 0 {
            step.moves.push(RowMove {
                to: line.row,
                from: trunk,
            });
        }
    }
    if lines.iter().all(|line| line.finish.is_some()) {
        let result = |line: &mut Line| Hypothesis {
            ids: line.ids.split_off(1),
            finish: line.finish.unwrap_or(Finish::Length),
            score: None,
        };
        step.end = Some(lines.iter_mut().map(result).collect());
    }
    Ok(step)
}
