//! Weights in bytes or four bits: written ahead, and judged by how often they choose the token that exact weights choose.

use std::path::Path;

use refract_model::quantised::Quantisers;
use refract_model::{PairRows, Stored, quantised};

use crate::kv::{CrossSlot, RowSlot};
use crate::runner::{DecodeRow, EncodeJob, Logits, Runner, RunnerError};

/// Writes the weights of `dir` in bytes, or matrices in four bits, to the new file `to`, in the format of [`quantised`]. They run
/// exactly as weights that are quantised at load. Returns how many tensors were quantised.
pub fn quantise(dir: &Path, to: &Path, four_bits: bool) -> Result<usize, RunnerError> {
    let stored = Stored::open(dir)?;
    if stored.is_quantised() {
        return Err(RunnerError::new(format!(
            "{} is quantised already",
            dir.display()
        )));
    }
    let how = Quantisers {
        bytes: refract_kernel::quantise_weights,
        nibbles: four_bits.then_some(refract_kernel::quantise_nibbles),
    };
    Ok(quantised::write(&stored, to, &how)?)
}

/// How often two ways of running a model choose the same token.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Fidelity {
    pub equal: usize,
    pub positions: usize,
    /// The largest difference between two logits.
    pub difference_max: f32,
}

impl Fidelity {
    pub fn percent(&self) -> f64 {
        100.0 * self.equal as f64 / (self.positions as f64).max(1.0)
    }
}

/// Decodes each prompt greedily on `exact`, until it says one of `eos` or `new_max` tokens; then forces `other` along the
/// same tokens and compares the best tokens, position by position.
pub fn fidelity(
    exact: &mut dyn Runner,
    other: &mut dyn Runner,
    prompts: &[Vec<u32>],
    new_max: usize,
    eos: &[u32],
) -> Result<Fidelity, RunnerError> {
    let shape = exact.shape();
    let mut found = Fidelity::default();
    for prompt in prompts {
        let job = EncodeJob {
            cross: CrossSlot(0),
            ids: prompt,
            pairs: shape.pair_tables.map(|_| PairRows::default()),
        };
        exact.encode(&[job])?;
        other.encode(&[job])?;
        let mut ids = vec![shape.decoder_start];
        let mut want = Vec::new();
        for kept in 0..new_max {
            let line = forced(exact, &ids, kept)?;
            let token = best(&line) as u32;
            want.extend(line);
            if eos.contains(&token) && kept > 0 {
                break;
            }
            ids.push(token);
        }
        let got = forced(other, &ids[..want.len() / shape.vocab], 0)?;
        for (got, want) in got.chunks(shape.vocab).zip(want.chunks(shape.vocab)) {
            found.equal += usize::from(best(got) == best(want));
            found.positions += 1;
            let differences = got.iter().zip(want).map(|(a, b)| (a - b).abs());
            found.difference_max = differences.fold(found.difference_max, f32::max);
        }
        exact.release_rows(&[RowSlot(0)]);
        exact.release_cross(CrossSlot(0));
        other.release_rows(&[RowSlot(0)]);
        other.release_cross(CrossSlot(0));
    }
    Ok(found)
}

/// Logits after each id from `kept` on, `[ids × vocab]`.
fn forced(runner: &mut dyn Runner, ids: &[u32], kept: usize) -> Result<Vec<f32>, RunnerError> {
    let vocab = runner.shape().vocab;
    let wanted = ids.len() - kept;
    let mut data = vec![0.0; wanted * vocab];
    let row = DecodeRow {
        row: RowSlot(0),
        cross: CrossSlot(0),
        ids,
        kept,
        wanted,
        best: 0,
    };
    runner.decode(&[row], &mut Logits::new(vocab, &mut data))?;
    Ok(data)
}

fn best(line: &[f32]) -> usize {
    (0..line.len()).fold(0, |best, i| if line[i] > line[best] { i } else { best })
}
