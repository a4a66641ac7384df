//! The likeliest tokens of each line of logits, found where the logits are: a host that chooses among a few reads a few hundred
//! numbers a line instead of the whole vocabulary.
//!
//! A line is cut into at most 1,024 pieces, which one block of a GPU can sort by their largest number; what is likeliest lies in
//! the first of them. The pieces asked for are a few more than the tokens wanted, because the sort does not say which of equals
//! comes first, and in bf16 there are many: a token counts only if it is above the last piece's largest, so that everything as
//! good as it is known, too.

use candle_core::{D, DType, Result, Tensor};

use crate::runner::{Likeliest, RunnerError};

/// What candle's sort does in one pass of one block.
const PIECES_MAX: usize = 1024;
/// Pieces read beyond the tokens wanted.
const SPARE: usize = 4;

/// The `wanted` best tokens, or somewhat more, of each line of `scores` `[.., vocab]`, f32. `None` where some line cannot be told
/// so and is to be read whole: it holds something else than finite numbers, its best are equals, or the vocabulary is small.
pub(super) fn likeliest(
    scores: &Tensor,
    vocab: usize,
    wanted: usize,
) -> std::result::Result<Option<Vec<Likeliest>>, RunnerError> {
    let size = vocab.div_ceil(PIECES_MAX);
    let pieces = vocab.div_ceil(size);
    let taken = wanted + SPARE;
    if 2 * taken > pieces {
        return Ok(None);
    }
    let read = Read {
        vocab,
        size,
        taken,
        wanted,
    };
    let told = read.on_device(scores, pieces).map_err(RunnerError::new)?;
    Ok(told.chunks(read.width()).map(|line| read.line(line)).collect())
}

/// How a line is told: the numbers of the pieces taken, which pieces they are, the largest number and the sum.
struct Read {
    vocab: usize,
    /// Numbers of a piece.
    size: usize,
    taken: usize,
    wanted: usize,
}

impl Read {
    fn width(&self) -> usize {
        self.taken * self.size + self.taken + 2
    }

    fn on_device(&self, scores: &Tensor, pieces: usize) -> Result<Vec<f32>> {
        let mut lines = scores.reshape(((), self.vocab))?; // [lines, vocab]
        let (count, device) = (lines.dim(0)?, lines.device().clone());
        if pieces * self.size > self.vocab {
            let rest = (count, pieces * self.size - self.vocab);
            lines = Tensor::cat(&[&lines, &Tensor::full(f32::NEG_INFINITY, rest, &device)?], 1)?;
        }
        let cut = lines.reshape((count, pieces, self.size))?;
        let tops = cut.max(2)?; // [lines, pieces]
        // A NaN has no place in a sort; the sum tells of it.
        let least = Tensor::full(f32::MIN, tops.shape(), &device)?;
        let tops = tops.eq(&tops)?.where_cond(&tops, &least)?;
        let best = tops
            .arg_sort_last_dim(false)?
            .narrow(1, 0, self.taken)?
            .contiguous()?; // [lines, taken]
        let before = Tensor::arange_step(0, (count * pieces) as u32, pieces as u32, &device)?;
        let places = best.broadcast_add(&before.unsqueeze(1)?)?.flatten_all()?;
        let numbers = cut
            .reshape((count * pieces, self.size))?
            .index_select(&places, 0)?
            .reshape((count, self.taken * self.size))?;
        let top = tops.max_keepdim(D::Minus1)?; // [lines, 1]
        let sum = lines.broadcast_sub(&top)?.exp()?.sum_keepdim(1)?; // [lines, 1]
        Tensor::cat(&[&numbers, &best.to_dtype(DType::F32)?, &top, &sum], 1)? // [lines, width]
            .flatten_all()?
            .to_vec1()
    }

    fn line(&self, told: &[f32]) -> Option<Likeliest> {
        let (numbers, rest) = told.split_at(self.taken * self.size);
        let (pieces, ends) = rest.split_at(self.taken);
        let (top, sum) = (ends[0], ends[1]);
        if !top.is_finite() || !sum.is_finite() {
            return None;
        }
        let pieces = || numbers.chunks(self.size).zip(pieces);
        let last = pieces()
            .map(|(piece, _)| piece.iter().copied().fold(f32::NEG_INFINITY, f32::max))
            .fold(f32::INFINITY, f32::min);
        let mut found: Vec<(u32, f32)> = pieces()
            .flat_map(|(piece, at)| (*at as usize * self.size..).zip(piece))
            .filter(|(_, score)| **score > last)
            .map(|(id, score)| (id as u32, *score))
            .collect();
        found.sort_unstable_by_key(|(id, _)| *id);
        (found.len() >= self.wanted).then(|| Likeliest {
            tokens: found,
            log_sum: top + sum.ln(),
        })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Numbers as bf16 has them, so that equals abound.
    fn lines(count: usize, vocab: usize) -> Vec<f32> {
        let mixed = |i: usize| (i.wrapping_mul(2_654_435_761) >> 7) % 4099;
        (0..count * vocab)
            .map(|i| f32::from_bits((mixed(i) as f32 / 300.0 - 6.0).to_bits() & 0xFFFF_0000))
            .collect()
    }

    fn told(numbers: &[f32], vocab: usize, wanted: usize) -> Option<Vec<Likeliest>> {
        let scores = Tensor::from_slice(numbers, (numbers.len() / vocab, vocab), &Device::Cpu).unwrap();
        likeliest(&scores, vocab, wanted).unwrap()
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
