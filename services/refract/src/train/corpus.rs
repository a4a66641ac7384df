//! A training corpus as token ids, dealt out in seeded batches of examples of like length.

use std::path::Path;

use anyhow::{Context, Result, bail};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use refract_bundle::Tokenizer;

use crate::corpus::Line;

/// One example: what the encoder reads and what the decoder is to write (ending in the end token).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Example {
    pub(crate) source: Vec<u32>,
    pub(crate) target: Vec<u32>,
}

impl Example {
    fn length(&self) -> usize {
        self.source.len() + self.target.len()
    }
}

/// Tokenises every line; an example over the limits, or with a word that the closed tokenizer lacks, is an error that
/// names its line, not a silent cut.
pub(crate) fn tokenise(
    lines: &[Line],
    tokenizer: &Tokenizer,
    eos: u32,
    source_max: usize,
    target_max: usize,
) -> Result<Vec<Example>> {
    let (begin, unknown) = (tokenizer.id("<s>"), tokenizer.id("<unk>"));
    let mut examples = Vec::with_capacity(lines.len());
    for (at, line) in lines.iter().enumerate() {
        let (source, target) = (tokenizer.encode(&line.source), tokenizer.encode(&line.target));
        // The decoder's start is the model's own; what the tokenizer puts in front is for encoders.
        let mut target: Vec<u32> = target.into_iter().skip_while(|id| Some(*id) == begin).collect();
        if target.last() != Some(&eos) {
            target.push(eos);
        }
        if let Some(unknown) = unknown.filter(|id| source.contains(id) || target.contains(id)) {
            bail!(
                "line {}: a word that the tokenizer does not have (id {unknown}): {:?}",
                at + 1,
                line
            );
        }
        if source.len() > source_max || target.len() > target_max {
            bail!(
                "line {}: {} source and {} target tokens; the model takes {source_max} and {target_max}",
                at + 1,
                source.len(),
                target.len()
            );
        }
        examples.push(Example { source, target });
    }
    Ok(examples)
}

/// Keeps the corpus beside the run, for whoever wants to read or reuse it.
pub(crate) fn write(path: &Path, lines: &[Line]) -> Result<()> {
    let mut text = String::new();
    for line in lines {
        text.push_str(&serde_json::to_string(line)?);
        text.push('\n');
    }
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// Deals batches for ever: the examples of one epoch are shuffled, cut into pools, sorted by length within a pool (so
/// that padding stays small), cut into batches, and the batches shuffled. Which batch comes at which step depends on
/// the seed and the step alone, so a resumed run sees what it would have seen.
#[derive(Debug)]
pub(crate) struct Dealer<'a> {
    examples: &'a [Example],
    batch: usize,
    seed: u64,
    epoch: Option<u64>,
    batches: Vec<Vec<usize>>,
}

impl<'a> Dealer<'a> {
    /// Batches whose examples are sorted by length together.
    const POOL_BATCHES: usize = 16;

    pub(crate) fn new(examples: &'a [Example], batch: usize, seed: u64) -> Self {
        Self {
            examples,
            batch,
            seed,
            epoch: None,
            batches: Vec::new(),
        }
    }

    pub(crate) fn batch_at(&mut self, step: usize) -> Vec<&'a Example> {
        let examples = self.examples;
        self.places_at(step).iter().map(|&i| &examples[i]).collect()
    }

    /// Which examples make up the batch of a step.
    pub(crate) fn places_at(&mut self, step: usize) -> &[usize] {
        let per_epoch = self.examples.len().div_ceil(self.batch);
        let epoch = (step / per_epoch) as u64;
        if self.epoch != Some(epoch) {
            self.batches = self.deal(epoch);
            self.epoch = Some(epoch);
        }
        &self.batches[step % per_epoch]
    }

    fn deal(&self, epoch: u64) -> Vec<Vec<usize>> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed ^ epoch.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut order: Vec<usize> = (0..self.examples.len()).collect();
        order.shuffle(&mut rng);
        for pool in order.chunks_mut(self.batch * Self::POOL_BATCHES) {
            pool.sort_by_key(|&i| self.examples[i].length());
        }
        let mut batches: Vec<Vec<usize>> = order.chunks(self.batch).map(<[usize]>::to_vec).collect();
        batches.shuffle(&mut rng);
        batches
    }
}

/// Takes a seeded share of the lines away for development; the rest trains.
pub(crate) fn split(mut lines: Vec<Line>, dev: usize, seed: u64) -> (Vec<Line>, Vec<Line>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let dev = dev.min(lines.len() / 10);
    let mut held = Vec::with_capacity(dev);
    for _ in 0..dev {
        held.push(lines.swap_remove(rng.random_range(0..lines.len())));
    }
    (lines, held)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples(n: usize) -> Vec<Example> {
        (0..n)
            .map(|i| Example {
                source: vec![1; 1 + i % 7],
                target: vec![i as u32, 2],
            })
            .collect()
    }

    #[test]
    fn an_epoch_deals_every_example_once_and_epochs_differ() {
        let examples = examples(103);
        let mut dealer = Dealer::new(&examples, 8, 7);
        let epoch = |dealer: &mut Dealer<'_>, from: usize| -> Vec<u32> {
            (from..from + 13)
                .flat_map(|s| {
                    dealer
                        .batch_at(s)
                        .into_iter()
                        .map(|e| e.target[0])
                        .collect::<Vec<_>>()
                })
                .collect()
        };
        let (first, second) = (epoch(&mut dealer, 0), epoch(&mut dealer, 13));
        assert_ne!(first, second);
        for mut seen in [first, second] {
            seen.sort_unstable();
            assert_eq!(seen, (0..103).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_batch_of_a_step_does_not_depend_on_the_steps_before() {
        let examples = examples(64);
        let mut straight = Dealer::new(&examples, 8, 7);
        let walked: Vec<_> = (0..20).map(|s| straight.batch_at(s)).collect();
        assert_eq!(Dealer::new(&examples, 8, 7).batch_at(19), walked[19]);
    }
}
