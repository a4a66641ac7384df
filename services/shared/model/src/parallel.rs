//! One model held by several devices: which part a rank holds, and how ranks add up and put together what they have.
//!
//! Tensor parallelism as in Shoeybi et al., "Megatron-LM" (2019): the first product of a sublayer is split by columns
//! of its output (heads, inner units), the second by its inputs, and their sum over ranks is the sublayer's output. So a
//! block costs a sum for each sublayer, and the embeddings and the head, split by vocabulary, one sum and one gathering
//! a step. Every rank computes the same residual stream, bit for bit, for each adds up the parts in the order of ranks.

#[cfg(feature = "nccl")]
pub mod nccl;

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use candle_core::{Result, Tensor};

use crate::config::T5Config;
use crate::error::Error;

/// What the ranks of a model do together. Every rank makes the same calls in the same order, with tensors of the same
/// shape; a call returns when all have made it.
pub trait Collective: fmt::Debug + Send + Sync {
    fn rank(&self) -> usize;

    fn ranks(&self) -> usize;

    /// The sum over all ranks, added in their order; the same on each.
    fn sum(&self, x: &Tensor) -> Result<Tensor>;

    /// The parts of all ranks side by side in the last dimension, in their order.
    fn gather(&self, x: &Tensor) -> Result<Tensor>;

    /// Ends it for good: whoever waits, or calls from now on, gets an error that gives this reason.
    fn abort(&self, reason: &str);
}

/// A rank's part of a model; alone, all of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part(Option<Arc<dyn Collective>>);

/// How one tensor is divided among ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Split {
    Whole,
    /// Equal parts of the first dimension.
    Rows,
    /// Equal parts of the second dimension.
    Columns,
    /// Parts of the first dimension, the last of which may be smaller.
    Vocabulary,
}

/// One stretch of one dimension of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) dimension: usize,
    pub(crate) range: Range<usize>,
}

impl Part {
    pub(crate) fn new(of: Option<Arc<dyn Collective>>) -> Self {
        Self(of.filter(|c| c.ranks() > 1))
    }

    pub(crate) fn ranks(&self) -> usize {
        self.0.as_ref().map_or(1, |c| c.ranks())
    }

    pub(crate) fn sum(&self, x: Tensor) -> Result<Tensor> {
        match &self.0 {
            Some(collective) => collective.sum(&x),
            None => Ok(x),
        }
    }

    /// This rank's words.
    pub(crate) fn words(&self, vocab: usize) -> Range<usize> {
        let Some(collective) = &self.0 else {
            return 0..vocab;
        };
        let each = vocab.div_ceil(collective.ranks());
        let first = (collective.rank() * each).min(vocab);
        first..(first + each).min(vocab)
    }

    /// Logits `[.., words of this rank]` of all ranks as `[.., vocab]`.
    pub(crate) fn logits(&self, own: Tensor, vocab: usize) -> Result<Tensor> {
        let Some(collective) = &self.0 else {
            return Ok(own);
        };
        let last = own.rank() - 1;
        let lacking = vocab.div_ceil(collective.ranks()) - own.dim(last)?;
        let own = if lacking > 0 {
            own.pad_with_zeros(last, 0, lacking)?
        } else {
            own
        };
        collective.gather(&own)?.narrow(last, 0, vocab)
    }

    /// What this rank holds of a tensor of this shape; nothing where it holds all.
    pub(crate) fn stretch(&self, split: Split, shape: &[usize]) -> Option<Stretch> {
        let collective = self.0.as_ref()?;
        let equal = |dimension: usize| {
            let each = shape[dimension] / collective.ranks();
            Stretch {
                dimension,
                range: collective.rank() * each..(collective.rank() + 1) * each,
            }
        };
        match split {
            Split::Whole => None,
            Split::Rows => Some(equal(0)),
            Split::Columns => Some(equal(1)),
            Split::Vocabulary => Some(Stretch {
                dimension: 0,
                range: self.words(shape[0]),
            }),
        }
    }

    /// Whether a T5 of these sizes can be divided so; if not, says how it can.
    pub(crate) fn check(&self, config: &T5Config) -> std::result::Result<(), Error> {
        let ranks = self.ranks();
        let divides = divisions(config);
        if divides.contains(&ranks) {
            return Ok(());
        }
        let divides: Vec<String> = divides.iter().map(usize::to_string).collect();
        Err(Error::input(
            "tensor_parallel",
            format!(
                "{ranks} does not divide {} heads and {} inner units evenly; {} would",
                config.num_heads,
                config.d_ff,
                divides.join(", ")
            ),
        ))
    }
}

/// The numbers of ranks among which a T5 can be divided, ascending.
pub fn divisions(config: &T5Config) -> Vec<usize> {
    let fits = |ranks: &usize| {
        config.num_heads.is_multiple_of(*ranks)
            && config.d_ff.is_multiple_of(*ranks)
            // Every rank has some words.
            && config.vocab_size.div_ceil(*ranks) * (ranks - 1) < config.vocab_size
    };
    (1..=config.num_heads).filter(fits).collect()
}

/// Ranks that are threads of one process, on devices of any kind.
#[derive(Debug)]
pub struct InProcess {
    rank: usize,
    meeting: Arc<Meeting>,
}

/// What holds the ranks of one process together, for those who watch over them.
#[derive(Clone, Debug)]
pub struct Bond(Arc<Meeting>);

/// Where the threads put their tensors down and take up all of them.
#[derive(Debug)]
struct Meeting {
    ranks: usize,
    round: Mutex<Round>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Round {
    /// What each rank has put down; taken up only when all have.
    parts: Vec<Option<Tensor>>,
    /// How many have taken the parts of this round up. Nobody puts down before all have.
    taken: usize,
    aborted: Option<String>,
}

impl InProcess {
    /// One for each rank, in their order.
    pub fn new(ranks: usize) -> Vec<Self> {
        let meeting = Arc::new(Meeting {
            ranks,
            round: Mutex::new(Round {
                parts: vec![None; ranks],
                ..Round::default()
            }),
            changed: Condvar::new(),
        });
        (0..ranks)
            .map(|rank| Self {
                rank,
                meeting: meeting.clone(),
            })
            .collect()
    }

    /// What ends the waiting of all, from outside.
    pub fn bond(&self) -> Bond {
        Bond(self.meeting.clone())
    }

    /// Puts a tensor down and waits for those of all ranks.
    fn exchange(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        let Meeting {
            ranks,
            round,
            changed,
        } = &*self.meeting;
        let mut round = round.lock().unwrap_or_else(PoisonError::into_inner);
        // The last round may still be taken up.
        round = self.wait(round, |r| r.parts[self.rank].is_none())?;
        round.parts[self.rank] = Some(x.clone());
        changed.notify_all();
        round = self.wait(round, |r| r.parts.iter().all(Option::is_some))?;
        let all = round.parts.iter().flatten().cloned().collect();
        round.taken += 1;
        if round.taken == *ranks {
            round.taken = 0;
            round.parts.fill(None);
            changed.notify_all();
        }
        Ok(all)
    }

    fn wait<'m>(
        &self,
        mut round: MutexGuard<'m, Round>,
        until: impl Fn(&Round) -> bool,
    ) -> Result<MutexGuard<'m, Round>> {
        loop {
            if let Some(reason) = &round.aborted {
                candle_core::bail!("the ranks of this model have parted: {reason}");
            }
            if until(&round) {
                return Ok(round);
            }
            round = self
                .meeting
                .changed
                .wait(round)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Collective for InProcess {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.meeting.ranks
    }

    fn sum(&self, x: &Tensor) -> Result<Tensor> {
        let parts = self.exchange(x)?;
        let mut sum = parts[0].to_device(x.device())?;
        for part in &parts[1..] {
            sum = (sum + part.to_device(x.device())?)?;
        }
        Ok(sum)
    }

    fn gather(&self, x: &Tensor) -> Result<Tensor> {
        let parts = self.exchange(x)?;
        let near = parts
            .iter()
            .map(|part| part.to_device(x.device()))
            .collect::<Result<Vec<_>>>()?;
        Tensor::cat(&near, x.rank() - 1)
    }

    fn abort(&self, reason: &str) {
        self.bond().abort(reason);
    }
}

impl Bond {
    /// As [`Collective::abort`].
    pub fn abort(&self, reason: &str) {
        let Meeting { round, changed, .. } = &*self.0;
        let mut round = round.lock().unwrap_or_else(PoisonError::into_inner);
        round.aborted.get_or_insert_with(|| reason.to_owned());
        changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn on_each<T: Send>(ranks: usize, work: impl Fn(&InProcess) -> T + Sync) -> Vec<T> {
        let all = InProcess::new(ranks);
        std::thread::scope(|scope| {
            let threads: Vec<_> = all.iter().map(|own| scope.spawn(|| work(own))).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        })
    }

    #[test]
    fn every_rank_gets_the_same_sums_round_after_round() {
        let sums = on_each(4, |own| {
            (0..200)
                .map(|turn| {
                    let x = Tensor::new(&[own.rank() as f32, turn as f32], &Device::Cpu).unwrap();
                    own.sum(&x).unwrap().to_vec1::<f32>().unwrap()
                })
                .collect::<Vec<_>>()
        });
        let expected: Vec<_> = (0..200).map(|turn| vec![6.0, 4.0 * turn as f32]).collect();
        assert!(sums.iter().all(|s| *s == expected));
    }

    #[test]
    fn parts_lie_side_by_side_in_the_order_of_ranks() {
        let all = on_each(3, |own| {
            let x = Tensor::full(own.rank() as f32, (2, 2), &Device::Cpu).unwrap();
            own.gather(&x).unwrap().to_vec2::<f32>().unwrap()
        });
        let line = vec![0.0, 0.0, 1.0, 1.0, 2.0, 2.0];
        assert!(all.iter().all(|a| *a == vec![line.clone(), line.clone()]));
    }

    #[test]
    fn nobody_waits_for_a_rank_that_is_gone() {
        let ends = on_each(3, |own| {
            if own.rank() == 1 {
                own.abort("rank 1 has died");
                return None;
            }
            let x = Tensor::zeros(1, candle_core::DType::F32, &Device::Cpu).unwrap();
            Some(own.sum(&x).unwrap_err().to_string())
        });
        for end in ends.into_iter().flatten() {
            assert!(end.contains("rank 1 has died"), "{end}");
        }
    }

    #[test]
    fn divisions_are_those_that_leave_no_rest() {
        let config = T5Config {
            num_heads: 12,
            d_ff: 32,
            ..T5Config::default()
        };
        assert_eq!(divisions(&config), [1, 2, 4]);
    }
}
