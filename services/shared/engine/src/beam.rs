//! Beam search with the semantics of Hugging Face transformers, for one sequence.
//!
//! Each step looks at the best `max(2, 1 + EOS ids) × beams` continuations, so that enough remain when the best ones
//! end. Of those that end, only the ones among the first `beams` become hypotheses; their score is the summed
//! log-probability over (produced tokens, the EOS included) to the power of the length penalty, in f32, as there.
//!
//! One difference in shape, none in result: the reference starts with `beams` equal rows, all but the first at −1e9, and
//! carries such dead rows along; here a beam that is dead is not decoded. Where constraints leave fewer live
//! continuations than beams, the reference may fill surplus return sequences with dead ones; here there are fewer.

use refract_model::EarlyStopping;

use crate::error::Error;
use crate::generation::{Finish, Hypothesis};
use crate::kv::{RowMove, RowSlot};
use crate::logits::log_softmax;
use crate::params::GenerationParams;
use crate::sampler::{Scratch, apply_rules, is_stopped};
use crate::scores::{Lines, Spread};
use crate::sequence::Step;

/// A running hypothesis.
#[derive(Clone, Debug)]
pub struct Beam {
    /// The decoder start id first.
    pub ids: Vec<u32>,
    /// Where its own memory is.
    pub row: RowSlot,
    /// Summed log-probability.
    score: f32,
}

#[derive(Clone, Debug)]
pub struct BeamSearch {
    beams: Vec<Beam>,
    /// Row slots of the sequence that no beam uses.
    spare: Vec<RowSlot>,
    /// At most `num_beams`, best first.
    finished: Vec<Hypothesis>,
    /// Whether a running beam may still beat a finished one; once false, for ever.
    is_improvable: bool,
}

impl BeamSearch {
    /// `rows`: as many slots as beams.
    pub fn new(decoder_start: u32, rows: &[RowSlot]) -> Self {
        let (first, rest) = rows.split_first().expect("a sequence has at least one row");
        Self {
            beams: vec![Beam {
                ids: vec![decoder_start],
                row: *first,
                score: 0.0,
            }],
            spare: rest.to_vec(),
            finished: Vec::new(),
            is_improvable: true,
        }
    }

    /// The beams to decode, best first.
    pub fn beams(&self) -> &[Beam] {
        &self.beams
    }

    /// Takes a line for every beam, and moves on by one token.
    pub fn advance(
        &mut self,
        params: &GenerationParams,
        lines: &mut Lines<'_>,
        spread: &mut Spread,
        scratch: &mut Scratch,
    ) -> Result<Step, Error> {
        self.find_candidates(params, lines, spread, scratch)?;
        let produced = self.beams[0].ids.len();
        let at_limit = produced >= params.max_new_tokens;

        let was_full = self.finished.len() == params.num_beams && params.early_stopping == EarlyStopping::Yes;
        let may_finish = self.is_improvable && !was_full;
        let norm = power(produced, params.length_penalty);
        let mut next: Vec<(f32, usize, Vec<u32>)> = Vec::with_capacity(params.num_beams);
        for (place, (score, (beam, token))) in scratch.beams.items().iter().enumerate() {
            let parent = *beam as usize;
            let mut ids = Vec::with_capacity(produced + 2);
            ids.extend_from_slice(&self.beams[parent].ids);
            ids.push(*token);
            let stopped = is_stopped(params, &ids);
            if stopped || at_limit {
                if place < params.num_beams && may_finish {
                    let finish = if stopped { Finish::Stop } else { Finish::Length };
                    let score = score / norm;
                    // Behind equals: what was found first stays first.
                    let at = self.finished.partition_point(|other| other.score >= Some(score));
                    self.finished.insert(
                        at,
                        Hypothesis {
                            ids: ids.split_off(1),
                            finish,
                            score: Some(score),
                        },
                    );
                    self.finished.truncate(params.num_beams);
                }
            } else if next.len() < params.num_beams {
                next.push((*score, parent, ids));
            }
        }

        let best_running = next.first().map(|(score, ..)| *score);
        let moves = self.follow(next);
        self.is_improvable &= best_running.is_some_and(|best| self.can_improve(params, best, produced));
        let is_full = self.finished.len() == params.num_beams && params.early_stopping == EarlyStopping::Yes;
        let end = if self.beams.is_empty() || !self.is_improvable || is_full {
            let mut results = std::mem::take(&mut self.finished);
            results.truncate(params.num_return_sequences);
            Some(results)
        } else {
            None
        };
        Ok(Step {
            moves: moves.0,
            idle: moves.1,
            end,
            ..Step::default()
        })
    }

    /// Leaves the best continuations of all beams in `scratch.beams` as (score, (beam, token)).
    fn find_candidates(
        &self,
        params: &GenerationParams,
        lines: &mut Lines<'_>,
        spread: &mut Spread,
        scratch: &mut Scratch,
    ) -> Result<(), Error> {
        scratch.beams.reset(candidates(params));
        for (at, beam) in self.beams.iter().enumerate() {
            let (line, log_sum) = lines.open(at, params, spread);
            match log_sum {
                Some(log_sum) => line.iter_mut().for_each(|x| *x -= log_sum),
                None if log_softmax(line) => {}
                None => return Err(Error::fault("the logits are not finite")),
            }
            apply_rules(params, &beam.ids, line, scratch);
            let best = &mut scratch.beams;
            let mut threshold = best.threshold();
            for (token, log_prob) in line.iter().enumerate() {
                let score = log_prob + beam.score;
                if score > threshold {
                    best.offer(score, (at as u32, token as u32));
                    threshold = best.threshold();
                }
            }
        }
        if scratch.beams.items().is_empty() {
            return Err(Error::Overconstrained {
                position: self.beams[0].ids.len() - 1,
            });
        }
        Ok(())
    }

    /// The next beams take over the rows of their parents: the first child of each keeps the row, the others get copies
    /// in rows that are free. Also returns the rows that hold nothing of use any more.
    fn follow(&mut self, next: Vec<(f32, usize, Vec<u32>)>) -> (Vec<RowMove>, Vec<RowSlot>) {
        let rows: Vec<RowSlot> = self.beams.iter().map(|b| b.row).collect();
        let mut kept = vec![false; rows.len()];
        let mut taken: Vec<Option<RowSlot>> = Vec::with_capacity(next.len());
        for (_, parent, _) in &next {
            let first = !std::mem::replace(&mut kept[*parent], true);
            taken.push(first.then(|| rows[*parent]));
        }
        let mut idle: Vec<RowSlot> = rows
            .iter()
            .zip(&kept)
            .filter(|(_, kept)| !**kept)
            .map(|(r, _)| *r)
            .collect();
        let mut moves = Vec::new();
        self.beams.clear();
        for ((score, parent, ids), row) in next.into_iter().zip(taken) {
            let row = row.unwrap_or_else(|| {
                let to = idle
                    .pop()
                    .or_else(|| self.spare.pop())
                    .expect("there are as many slots as beams");
                moves.push(RowMove {
                    to,
                    from: rows[parent],
                });
                to
            });
            self.beams.push(Beam { ids, row, score });
        }
        self.spare.extend_from_slice(&idle);
        (moves, idle)
    }

    /// Whether the best running beam might still beat the worst finished one. `produced` counts tokens of running beams.
    fn can_improve(&self, params: &GenerationParams, best: f32, produced: usize) -> bool {
        if self.finished.len() < params.num_beams {
            return true;
        }
        let hopeful = params.early_stopping == EarlyStopping::Never && params.length_penalty > 0.0;
        let length = if hopeful { params.max_new_tokens } else { produced };
        let worst = self
            .finished
            .last()
            .and_then(|h| h.score)
            .unwrap_or(f32::NEG_INFINITY);
        best / power(length, params.length_penalty) > worst
    }
}

/// Continuations that a step looks at, of all beams together and so at most of each.
pub(crate) fn candidates(params: &GenerationParams) -> usize {
    params.num_beams * (1 + params.eos.len()).max(2)
}

/// Length to the power of the penalty: computed in double precision and used in single, as the reference does.
fn power(length: usize, penalty: f32) -> f32 {
    // Through decimal digits: a penalty of 0.8 means 0.8, not its nearest f32.
    let penalty: f64 = penalty.to_string().parse().unwrap_or(f64::from(penalty));
    (length as f64).powf(penalty) as f32
}
