//! The lines of logits of one sequence: whole, or told by their likeliest tokens.

use crate::params::GenerationParams;
use crate::runner::Likeliest;

/// What a runner has said of the rows of a sequence.
#[derive(Debug)]
pub struct Lines<'a> {
    vocab: usize,
    /// `[lines, vocab]`; a line that is told means nothing here.
    whole: &'a mut [f32],
    told: &'a [Option<Likeliest>],
}

/// A line that only some tokens are told of, spread over the vocabulary: the others are minus infinity. One is used for all of a
/// step, so that a line costs as much as it has tokens.
#[derive(Debug, Default)]
pub struct Spread {
    line: Vec<f32>,
    /// Ids that may be something else.
    touched: Vec<u32>,
}

impl<'a> Lines<'a> {
    /// `told` has a place for each line, or none at all.
    pub fn new(vocab: usize, whole: &'a mut [f32], told: &'a [Option<Likeliest>]) -> Self {
        Self { vocab, whole, told }
    }

    pub fn count(&self) -> usize {
        self.whole.len() / self.vocab
    }

    /// A line's scores, to which rules of these parameters may be applied, and the logarithm of the sum of all their exponentials
    /// where it is known.
    pub fn open<'b>(
        &'b mut self,
        at: usize,
        params: &GenerationParams,
        spread: &'b mut Spread,
    ) -> (&'b mut [f32], Option<f32>) {
        match self.told.get(at).and_then(Option::as_ref) {
            Some(told) => (spread.take(told, self.vocab, params), Some(told.log_sum)),
            None => (&mut self.whole[at * self.vocab..][..self.vocab], None),
        }
    }
}

impl Spread {
    fn take(&mut self, told: &Likeliest, vocab: usize, params: &GenerationParams) -> &mut [f32] {
        self.line.resize(vocab, f32::NEG_INFINITY);
        for id in self.touched.drain(..) {
            self.line[id as usize] = f32::NEG_INFINITY;
        }
        for (id, score) in &told.tokens {
            self.line[*id as usize] = *score;
            self.touched.push(*id);
        }
        // Rules may force these; all they do besides is to lower what is there.
        self.touched
            .extend(params.forced_bos.iter().chain(&params.forced_eos));
        &mut self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_told_shows_its_tokens_and_nothing_of_the_line_before() {
        let params = GenerationParams {
            forced_eos: vec![4],
            ..GenerationParams::greedy(4, vec![4])
        };
        let told = |tokens: &[(u32, f32)]| {
            Some(Likeliest {
                tokens: tokens.to_vec(),
                log_sum: 3.0,
            })
        };
        let told = [told(&[(1, 2.0), (3, 1.0)]), None, told(&[(2, 0.5)])];
        let mut whole = [0.0, 9.0, 9.0, 9.0, 9.0].repeat(3);
        let mut lines = Lines::new(5, &mut whole, &told);
        let mut spread = Spread::default();
        const NO: f32 = f32::NEG_INFINITY;
        let (line, sum) = lines.open(0, &params, &mut spread);
        assert_eq!((&*line, sum), (&[NO, 2.0, NO, 1.0, NO][..], Some(3.0)));
        // What a rule forces is gone as well.
        line[4] = 0.0;
        let (line, sum) = lines.open(1, &params, &mut spread);
        assert_eq!((&*line, sum), (&[0.0, 9.0, 9.0, 9.0, 9.0][..], None));
        let (line, _) = lines.open(2, &params, &mut spread);
        assert_eq!(&*line, &[NO, NO, 0.5, NO, NO]);
    }
}
