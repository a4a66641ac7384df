//! `refract train speed`: how fast this machine trains, on examples of one shape, and what a peer needs to do the same work.
//!
//! Weights are drawn by the seed and written on request, token ids are a formula ([`drawn`]), so another library takes the very
//! same steps; `tests/bench/run train` does so with PyTorch.

use std::io::Write as _;
use std::time::Instant;

use anyhow::{Result, ensure};
use refract_model::{BartConfig, Batch, Config, Ids, Trainable};

use super::adamw::{AdamW, Hyper};
use super::compute::{computing, device};
use super::threads;
use crate::cli::TrainSpeed;
use crate::eval::report::Row;

pub(crate) fn run(args: &TrainSpeed) -> Result<()> {
    ensure!(
        args.width.is_multiple_of(32) && args.width > 0,
        "--width must be a multiple of 32"
    );
    threads(args.threads);
    let width = args.width;
    let config = BartConfig {
        vocab_size: args.vocabulary,
        max_position_embeddings: args.source.max(args.target),
        encoder_layers: args.layers,
        decoder_layers: args.layers,
        encoder_ffn_dim: 4 * width,
        decoder_ffn_dim: 4 * width,
        encoder_attention_heads: width / 32,
        decoder_attention_heads: width / 32,
        d_model: width,
        dropout: args.dropout,
        forced_eos_token_id: None,
        eos_token_id: Some(Ids::One(2)),
        ..BartConfig::default()
    };
    let model = Trainable::random(Config::Bart(config), args.seed, &device(args.compute)?)?;
    if let Some(dir) = &args.export {
        model.save(dir)?;
    }
    let model = computing(model, args.compute)?;
    let mut optimiser = AdamW::new(model.parameters(), Hyper::default())?;
    let (mut begun, mut first, mut last) = (Instant::now(), 0.0, 0.0);
    for step in 0..args.warm_up + args.steps {
        if step == args.warm_up {
            begun = Instant::now();
        }
        let sources = drawn(args.batch, args.source, args.vocabulary, 2 * step);
        let labels = drawn(args.batch, args.target, args.vocabulary, 2 * step + 1);
        let sources: Vec<&[u32]> = sources.iter().map(Vec::as_slice).collect();
        let labels: Vec<&[u32]> = labels.iter().map(Vec::as_slice).collect();
        let batch = Batch {
            sources: &sources,
            pairs: None,
            labels: &labels,
        };
        let dropout = model.dropout(step as u64);
        let loss = model.loss(&batch, args.smoothing, Some(&dropout))?;
        optimiser.step(&loss.backward()?, args.learning_rate)?;
        last = f64::from(loss.to_scalar::<f32>()?);
        if step == 0 {
            first = last;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let steps = args.steps as u64;
    let tokens = (args.steps * args.batch * (args.source + args.target)) as f64;
    let mut out = std::io::stdout().lock();
    for (name, value, unit) in [
        ("tokens_per_second", tokens / seconds, "tokens/s"),
        ("step", seconds / args.steps as f64 * 1e3, "ms"),
        ("loss/first", first, "nats/token"),
        ("loss/last", last, "nats/token"),
    ] {
        let row = Row::plain(&format!("train/speed/{name}"), value, unit, steps);
        if args.json {
            row.write_json(&mut out)?;
        } else {
            writeln!(out, "{:<32} {:>12.4} {}", row.name, row.value, row.unit)?;
        }
    }
    Ok(())
}

/// Ids of the `number`-th list of sequences: a formula, so that every library reads the same.
fn drawn(batch: usize, length: usize, vocabulary: usize, number: usize) -> Vec<Vec<u32>> {
    let id = |i: usize, j: usize| 4 + (i * 7_919 + j * 104_729 + number * 1_299_709) % (vocabulary - 4);
    (0..batch)
        .map(|i| (0..length).map(|j| id(i, j) as u32).collect())
        .collect()
}
