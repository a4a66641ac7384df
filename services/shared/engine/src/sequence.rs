//! One prompt being decoded: `Waiting → Decoding → Finished`, one or more rows of the batch.

use std::fmt;

use rand_chacha::ChaCha8Rng;
use refract_model::PairRows;

use crate::beam::BeamSearch;
use crate::error::Error;
use crate::generation::{Finish, Hypothesis};
use crate::kv::{RowMove, RowSlot};
use crate::logits::max_if_sound;
use crate::params::GenerationParams;
use crate::sampler::{Scratch, apply_rules, choose_at_random, choose_greedily, is_stopped, randomness};

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
    /// The decoder start id first.
    ids: Vec<u32>,
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
                row: *row,
                rng: randomness(self.seed, sample),
                finish: None,
            };
            Search::Lines(rows.iter().enumerate().map(line).collect())
        };
    }

    /// Rows to decode, with all decoder ids of each; empty unless decoding.
    ///
    /// Samples are one row until they have drawn their first token: what precedes it is the same for all.
    pub fn rows(&self) -> impl Iterator<Item = (RowSlot, &[u32])> {
        let (lines, beams): (&[Line], _) = match &self.search {
            Search::Waiting => (&[], &[] as &[_]),
            Search::Lines(lines) if lines[0].ids.len() == 1 => (&lines[..1], &[] as &[_]),
            Search::Lines(lines) => (lines, &[] as &[_]),
            Search::Beams(search) => (&[], search.beams()),
        };
        let lines = lines
            .iter()
            .filter(|l| l.finish.is_none())
            .map(|l| (l.row, l.ids.as_slice()));
        lines.chain(beams.iter().map(|b| (b.row, b.ids.as_slice())))
    }

    /// Takes the logits of [`Self::rows`], `[rows, vocab]`, and moves on by one token. Needs nothing but its own lines,
    /// so sequences can be advanced in parallel.
    pub fn advance(
        &mut self,
        logits: &mut [f32],
        vocab: usize,
        scratch: &mut Scratch,
    ) -> Result<Step, Error> {
        match &mut self.search {
            Search::Waiting => Ok(Step::default()),
            Search::Beams(search) => search.advance(&self.params, logits, vocab, scratch),
            Search::Lines(lines) => advance_lines(lines, &self.params, logits, vocab, scratch),
        }
    }
}

fn advance_lines(
    lines: &mut [Line],
    params: &GenerationParams,
    logits: &mut [f32],
    vocab: usize,
    scratch: &mut Scratch,
) -> Result<Step, Error> {
    let mut step = Step::default();
    let is_first = lines[0].ids.len() == 1;
    let trunk = lines[0].row;
    let streams = lines.len() == 1;
    let mut given = logits.chunks_exact_mut(vocab);
    let mut scores: &mut [f32] = &mut [];
    for (sample, line) in lines
        .iter_mut()
        .enumerate()
        .filter(|(_, line)| line.finish.is_none())
    {
        if !is_first || sample == 0 {
            scores = given.next().unwrap_or_default();
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
