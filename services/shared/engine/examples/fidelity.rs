//! How often int8 weights choose the token of f32 weights: `cargo run --release -p refract-engine --example fidelity
//! DIRECTORY [PROMPTS]`.
//!
//! `PROMPTS` has one JSON list of ids a line; without it, ids are drawn at random. Each prompt is decoded greedily in f32;
//! then both models are forced along those tokens, and their best tokens compared position by position.

use std::path::PathBuf;

use rand::{RngExt, SeedableRng};
use refract_engine::PairRows;
use refract_engine::runner::{
    CpuOptions, CpuRunner, CrossSlot, DecodeRow, EncodeJob, Logits, Precision, RowSlot, Runner,
};

const PROMPTS: usize = 16;
const SOURCE: usize = 100;
const NEW: usize = 48;

fn prompts(vocab: usize) -> Vec<Vec<u32>> {
    let Some(file) = std::env::args().nth(2) else {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        return (0..PROMPTS)
            .map(|_| {
                (0..SOURCE)
                    .map(|_| random.random_range(4..vocab as u32))
                    .collect()
            })
            .collect();
    };
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file}: {e}"));
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{file}: {e}")))
        .collect()
}

/// Logits after each of the ids, `[ids × vocab]`.
fn forced(runner: &mut CpuRunner, ids: &[u32], kept: usize) -> Vec<f32> {
    let vocab = runner.shape().vocab;
    let wanted = ids.len() - kept;
    let mut data = vec![0.0; wanted * vocab];
    let row = DecodeRow {
        row: RowSlot(0),
        cross: CrossSlot(0),
        ids,
        kept,
        wanted,
    };
    runner
        .decode(&[row], &mut Logits::new(vocab, &mut data))
        .expect("decodes");
    data
}

fn best(line: &[f32]) -> usize {
    (0..line.len()).fold(0, |best, i| if line[i] > line[best] { i } else { best })
}

fn main() {
    let dir = std::env::args()
        .nth(1)
        .map(PathBuf::from)
        .expect("a directory with a model");
    let load = |precision| {
        let options = CpuOptions {
            precision,
            threads: 1,
            isa: None,
        };
        CpuRunner::load(&dir, &options).unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
    };
    let (mut exact, mut bytes) = (load(Precision::F32), load(Precision::Int8));
    let vocab = exact.shape().vocab;
    let (mut equal, mut all) = (0, 0);
    let mut worst = 0_f32;
    for prompt in prompts(vocab) {
        let pairs = exact.shape().pair_tables.map(|_| PairRows::default());
        let job = EncodeJob {
            cross: CrossSlot(0),
            ids: &prompt,
            pairs,
        };
        exact.encode(&[job]).expect("encodes");
        bytes.encode(&[job]).expect("encodes");
        let mut ids = vec![exact.shape().decoder_start];
        let mut want = Vec::new();
        for kept in 0..NEW {
            let line = forced(&mut exact, &ids, kept);
            let token = best(&line) as u32;
            want.extend(line);
            if exact.spec().eos.contains(&token) && kept > 0 {
                break;
            }
            ids.push(token);
        }
        let got = forced(&mut bytes, &ids[..want.len() / vocab], 0);
        for (got, want) in got.chunks(vocab).zip(want.chunks(vocab)) {
            equal += usize::from(best(got) == best(want));
            all += 1;
            worst = got
                .iter()
                .zip(want)
                .map(|(a, b)| (a - b).abs())
                .fold(worst, f32::max);
        }
        exact.release_rows(&[RowSlot(0)]);
        bytes.release_rows(&[RowSlot(0)]);
    }
    let percent = 100.0 * equal as f64 / all as f64;
    println!(
        "{}: {equal} of {all} positions equal ({percent:.2} %), largest difference of a logit {worst:.3}",
        dir.display()
    );
}
