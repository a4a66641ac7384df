//! The likeliest tokens of each line of logits, found where the logits are: a host that chooses among a few reads a few hundred
//! numbers a line instead of the whole vocabulary.
//!
//! A line is cut into at most 1,024 pieces, which one block of a GPU can sort by their largest number; what is likeliest lies in
//! the first of them. The pieces asked for are a few more than the tokens wanted, because the sort does not say which of equals
//! comes first, and in bf16 there are many: a token counts only if it is above the last piece's largest, so that everything as
//! good as it is known, too.

use candle_core::{D, DType, Device, Result, Tensor};

/// What candle's sort does in one pass of one block.
const PIECES_MAX: usize = 1024;
/// Pieces read beyond the tokens wanted.
const SPARE: usize = 4;

/// How lines of a vocabulary are cut for so many tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pieces {
    vocab: usize,
    /// Numbers of a piece.
    size: usize,
    count: usize,
    wanted: usize,
}

/// The likeliest tokens of a line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Likeliest {
    /// In the order of their ids, with their logits: at least as many as were wanted, and all that equal one of them.
    pub tokens: Vec<(u32, f32)>,
    /// The logarithm of the sum of the exponentials of all logits of the line.
    pub log_sum: f32,
}

impl Pieces {
    /// `wanted` is rounded up to a power of two: rules that may lower more tokens with each step would make every step one of a shape
    /// of its own. `None` where the vocabulary is so small that a line is as well read whole.
    pub fn of(vocab: usize, wanted: usize) -> Option<Self> {
        let wanted = wanted.next_power_of_two();
        let size = vocab.div_ceil(PIECES_MAX).max(1);
        let pieces = Self {
            vocab,
            size,
            count: vocab.div_ceil(size),
            wanted,
        };
        (2 * pieces.taken() <= pieces.count).then_some(pieces)
    }

    /// Pieces of a line that are read.
    fn taken(&self) -> usize {
        self.wanted + SPARE
    }

    /// Numbers that a line is told in: those of the pieces taken, which pieces they are, the largest number and the sum.
    pub fn width(&self) -> usize {
        self.taken() * (self.size + 1) + 2
    }

    /// The number of each line's first piece, `[lines, 1]`.
    pub(crate) fn firsts(&self, lines: usize, device: &Device) -> Result<Tensor> {
        let firsts = (0..lines).map(|line| (line * self.count) as u32).collect();
        Tensor::from_vec(firsts, (lines, 1), device)
    }

    /// f32 scores `[.., vocab]` to `[lines, width]`.
    pub fn find(&self, scores: &Tensor) -> Result<Tensor> {
        let lines = scores.elem_count() / self.vocab;
        self.find_from(scores, &self.firsts(lines, scores.device())?)
    }

    /// The same with what [`Pieces::firsts`] gives.
    pub(crate) fn find_from(&self, scores: &Tensor, firsts: &Tensor) -> Result<Tensor> {
        let mut lines = scores.reshape(((), self.vocab))?; // [lines, vocab]
        let (count, device) = (lines.dim(0)?, lines.device().clone());
        if self.count * self.size > self.vocab {
            let rest = (count, self.count * self.size - self.vocab);
            lines = Tensor::cat(&[&lines, &Tensor::full(f32::NEG_INFINITY, rest, &device)?], 1)?;
        }
        let cut = lines.reshape((count, self.count, self.size))?;
        let mut tops = cut.max(2)?; // [lines, pieces]
        if device.is_cpu() {
            // A GPU's comparison passes over NaN, a CPU's does not, and its sort has no place for it. The sum tells of it.
            let least = Tensor::full(f32::MIN, tops.shape(), &device)?;
            tops = tops.eq(&tops)?.where_cond(&tops, &least)?;
        }
        let best = tops.arg_sort_last_dim(false)?;
        let best = best.narrow(1, 0, self.taken())?.contiguous()?; // [lines, taken]
        let places = best.broadcast_add(firsts)?.flatten_all()?;
        let numbers = cut
            .reshape((count * self.count, self.size))?
            .index_select(&places, 0)?
            .reshape((count, self.taken() * self.size))?;
        let top = tops.max_keepdim(D::Minus1)?; // [lines, 1]
        let sum = lines.broadcast_sub(&top)?.exp()?.sum_keepdim(1)?; // [lines, 1]
        Tensor::cat(&[&numbers, &best.to_dtype(DType::F32)?, &top, &sum], 1)
    }

    /// What one line of [`Pieces::find`] says. `None` where it says too little and the line is to be read whole: it holds something
    /// else than finite numbers, or equals among its best.
    pub fn read(&self, told: &[f32]) -> Option<Likeliest> {
        let (numbers, rest) = told.split_at(self.taken() * self.size);
        let (pieces, ends) = rest.split_at(self.taken());
        let (top, sum) = (ends[0], ends[1]);
        if !top.is_finite() || !sum.is_finite() {
            return None;
        }
        let pieces = || numbers.chunks(self.size).zip(pieces);
        let last = pieces()
            .map(|(piece, _)| piece.iter().copied().fold(f32::NEG_INFINITY, f32::max))
            .fold(f32::INFINITY, f32::min);
        let mut tokens: Vec<(u32, f32)> = pieces()
            .flat_map(|(piece, at)| (*at as usize * self.size..).zip(piece))
            .filter(|(_, score)| **score > last)
            .map(|(id, score)| (id as u32, *score))
            .collect();
        tokens.sort_unstable_by_key(|(id, _)| *id);
        (tokens.len() >= self.wanted).then(|| Likeliest {
            tokens,
            log_sum: top + sum.ln(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers as bf16 has them, so that equals abound.
    fn lines(count: usize, vocab: usize) -> Vec<f32> {
        let mixed = |i: usize| (i.wrapping_mul(2_654_435_761) >> 7) % 4099;
        (0..count * vocab)
            .map(|i| f32::from_bits((mixed(i) as f32 / 300.0 - 6.0).to_bits() & 0xFFFF_0000))
            .collect()
    }

    fn told(numbers: &[f32], vocab: usize, wanted: usize) -> Option<Vec<Likeliest>> {
        let pieces = Pieces::of(vocab, wanted)?;
        let scores = Tensor::from_slice(numbers, (numbers.len() / vocab, vocab), &Device::Cpu).unwrap();
        let told = pieces.find(&scores).unwrap().to_vec2::<f32>().unwrap();
        told.iter().map(|line| pieces.read(line)).collect()
    }

    #[test]
    fn the_best_are_all_there_in_order_and_the_sum_is_that_of_the_whole_line() {
        for (vocab, wanted) in [(96, 1), (96, 20), (1024, 5), (1025, 5), (5000, 10), (50_265, 64)] {
            let mut numbers = lines(3, vocab);
            // Lines of whose best no other is an equal.
            for (line, numbers) in numbers.chunks_mut(vocab).enumerate() {
                for best in 0..2 * wanted {
                    numbers[(best * 7919 + line * 31) % vocab] = 20.0 + best as f32;
                }
            }
            let told = told(&numbers, vocab, wanted).unwrap();
            assert_eq!(told.len(), 3);
            for (line, told) in numbers.chunks(vocab).zip(told) {
                let mut order: Vec<u32> = (0..vocab as u32).collect();
                order.sort_by(|a, b| line[*b as usize].total_cmp(&line[*a as usize]));
                for id in &order[..wanted] {
                    assert!(
                        told.tokens.contains(&(*id, line[*id as usize])),
                        "{vocab} {wanted} {id}"
                    );
                }
                assert!(told.tokens.is_sorted_by_key(|(id, _)| *id));
                let sum: f64 = line.iter().map(|x| f64::from(*x).exp()).sum();
                assert!((f64::from(told.log_sum) - sum.ln()).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn all_equals_of_a_token_that_counts_are_known() {
        let vocab = 5000;
        let numbers = lines(8, vocab);
        let mut told_apart = 0;
        for line in numbers.chunks(vocab) {
            let Some(told) = told(line, vocab, 1) else {
                continue;
            };
            told_apart += 1;
            let least = told[0].tokens.iter().map(|t| t.1).fold(f32::INFINITY, f32::min);
            let as_good = line.iter().filter(|x| **x >= least).count();
            assert_eq!(told[0].tokens.len(), as_good);
        }
        assert!(told_apart > 0);
    }

    #[test]
    fn what_cannot_be_told_is_left_to_be_read_whole() {
        let vocab = 3000;
        let sound = lines(1, vocab);
        for (name, bad) in [("NaN", f32::NAN), ("infinity", f32::INFINITY)] {
            let mut line = sound.clone();
            line[1234] = bad;
            assert_eq!(told(&line, vocab, 1), None, "{name}");
        }
        assert_eq!(told(&vec![1.0; vocab], vocab, 1), None, "all equals");
        assert_eq!(
            told(&vec![f32::NEG_INFINITY; vocab], vocab, 1),
            None,
            "nothing allowed"
        );
        assert_eq!(told(&lines(1, 12), 12, 4), None, "a small vocabulary");
        // A model may forbid tokens by its bias.
        let mut line: Vec<f32> = (0..vocab).map(|i| i as f32 / 100.0).collect();
        line[7] = f32::NEG_INFINITY;
        assert!(told(&line, vocab, 3).is_some());
    }
}
