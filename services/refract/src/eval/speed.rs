//! `refract eval speed`: what one model costs, by the published protocol: batch 1, 5 beams, at most 150 tokens, ten runs to
//! warm up, a hundred that count.
//!
//! Nothing else lives in the process, so its peak memory is the model's.

use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail};
use refract_bundle::Tokenizer;
use refract_engine::{Engine, GenerationParams, PairRows, Request};

use super::report::Row;
use crate::cli::EvalSpeed;
use crate::generate::Line;

const MIB: f64 = 1024.0 * 1024.0;

pub(crate) async fn run(args: &EvalSpeed) -> Result<()> {
    let before = memory("VmRSS")?;
    let opened = refract_engine::open(
        &args.bundle,
        &refract_engine::OpenOptions {
            weights: args.dtype.weights(),
            threads: args.threads,
            ..refract_engine::OpenOptions::default()
        },
    )?;
    let spec = opened.spec;
    let prompts = prompts(args)?;
    let params = GenerationParams {
        num_beams: args.beams,
        max_new_tokens: args.new_tokens_max,
        num_return_sequences: 1,
        do_sample: false,
        ..GenerationParams::for_model(&spec, &opened.defaults)
    };
    let positions = spec.positions_max.unwrap_or(4096);
    let config = refract_engine::Config {
        name: "speed".to_owned(),
        prompt_tokens_max: positions,
        new_tokens_max: params.max_new_tokens,
        sequence_rows_max: params.rows().max(1),
        // Memory comes in pages, and each row's last one is seldom full.
        kv_tokens_max: 2 * (positions + params.rows() * params.max_new_tokens),
        running_rows_max: params.rows().max(1),
        step_encode_tokens_max: positions.max(4096),
        step_decode_tokens_max: params.rows().max(1),
        // Beams do not guess, and a greedy run is not to be flattered.
        draft_tokens_max: 0,
        ..refract_engine::Config::default()
    };
    let engine = Engine::start(opened.runner, config)?;
    let handle = engine.handle();
    let (mut times, mut tokens) = (Vec::new(), 0);
    for n in 0..args.warm_up + args.runs {
        let request = Request {
            pairs: spec.pair_tables.map(|_| PairRows { user: 0, item: 0 }),
            ..Request::new(prompts[n % prompts.len()].clone(), params.clone())
        };
        let begun = Instant::now();
        let generation = handle.generate(request).map_err(|error| anyhow!("{error}"))?;
        let finished = generation.collect().await.map_err(|error| anyhow!("{error}"))?;
        if n >= args.warm_up {
            times.push(begun.elapsed().as_secs_f64() * 1e3);
            tokens += finished.ids.len();
        }
    }
    let peak = memory("VmHWM")?.saturating_sub(before);
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    let (sum, n) = (times.iter().sum::<f64>(), args.runs as u64);
    let rows = [
        ("latency/mean", sum / times.len() as f64, "ms", n),
        ("latency/p50", at(0.5), "ms", n),
        ("latency/p95", at(0.95), "ms", n),
        ("latency/p99", at(0.99), "ms", n),
        ("tokens", tokens as f64 / times.len() as f64, "tokens", n),
        ("time_per_token", sum / tokens.max(1) as f64, "ms", n),
        ("weights", stored(&args.bundle)? as f64 / MIB, "MiB", 1),
        ("memory/peak", peak as f64 / MIB, "MiB", 1),
    ];
    let mut out = std::io::stdout().lock();
    for (name, value, unit, n) in rows {
        let row = Row::plain(&format!("speed/{name}"), value, unit, n);
        if args.json {
            row.write_json(&mut out)?;
        } else {
            writeln!(out, "{:<24} {:>12.3} {}", row.name, row.value, row.unit)?;
        }
    }
    Ok(())
}

fn prompts(args: &EvalSpeed) -> Result<Vec<Vec<u32>>> {
    let file = args.bundle.join(refract_bundle::TOKENIZER_FILE);
    let tokenizer = file.is_file().then(|| Tokenizer::read(&file)).transpose()?;
    let path = &args.prompts;
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let mut prompts = Vec::new();
    for (n, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let place = || format!("{}:{}", path.display(), n + 1);
        let line: Line = serde_json::from_str(line).with_context(place)?;
        prompts.push(line.ids(tokenizer.as_ref()).with_context(place)?);
    }
    if prompts.is_empty() {
        bail!("{} holds no prompt", path.display());
    }
    Ok(prompts)
}

/// Bytes of the weights on disk.
fn stored(bundle: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(bundle).with_context(|| format!("reading {}", bundle.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "safetensors") {
            sum += path.metadata()?.len();
        }
    }
    Ok(sum)
}

/// A line of this process's status, in bytes.
fn memory(name: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("memory is measured on Linux only")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib: Option<u64> = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    Ok(kib.with_context(|| format!("/proc/self/status has no {name}"))? * 1024)
}
