//! The worker that `tests/bench/run` drives: one engine, jobs in as lines of JSON, measurements out.
//!
//! `bench random bart-base DIRECTORY` and `bench random t5-xxl DIRECTORY LAYERS` write models of RANDOM WEIGHTS, the latter with
//! so many layers of each kind instead of 24.
//!
//! `bench DIRECTORY [precision] [threads] [drafts]`; says `{"ready": …}` when loaded and warm. A job is
//! `{"prompts": [[…]], "new": [48], "beams": 1, "exact": true, "together": 0}`: so many new tokens for each prompt (the last
//! number holds for the rest), exactly so many where `exact` says so, else until the model's end; `together` above 0 hands
//! prompts over in batches of that size, each when the one before is done, instead of all at once.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use refract_engine::{Config, Engine, GenerationParams, OpenOptions, PairRows, Request, Weights};
use refract_model::{BartConfig, Config as ModelConfig, T5Config, Trainable};
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Job {
    prompts: Vec<Vec<u32>>,
    new: Vec<usize>,
    beams: usize,
    exact: bool,
    together: usize,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().expect("an argument more");
    let first = next();
    if first == "random" {
        let (shape, dir) = (next(), PathBuf::from(next()));
        let layers = args.next().map_or(24, |n| n.parse().expect("a number of layers"));
        return random(&shape, &dir, layers);
    }
    let dir = PathBuf::from(first);
    let weights = match args.next().as_deref() {
        None | Some("int8") => Weights::Int8,
        Some("f32") => Weights::F32,
        Some("bf16") => Weights::Bf16,
        Some(other) => panic!("precision {other}: int8, f32 or bf16"),
    };
    let mut number = |default: usize| {
        args.next()
            .map_or(default, |n| n.parse().unwrap_or_else(|e| panic!("{n}: {e}")))
    };
    let (threads, drafts) = (number(1), number(0));
    let options = OpenOptions {
        weights,
        threads,
        ..OpenOptions::default()
    };
    let begun = Instant::now();
    let opened = refract_engine::open(&dir, &options).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let (spec, choice) = (opened.spec, opened.choice);
    let config = Config {
        queue_sequences_max: 4096,
        queue_tokens_max: 1 << 22,
        draft_tokens_max: drafts,
        ..Config::default()
    };
    let engine = Engine::start(opened.runner, config).expect("a sound config");
    say(&json!({"ready": choice.to_string(), "load_s": begun.elapsed().as_secs_f64(), "peak_mib": peak()}));
    for line in std::io::stdin().lines() {
        let job: Job = serde_json::from_str(&line.expect("readable")).expect("a job");
        let request = |i: usize, ids: &Vec<u32>| {
            let new = *job.new.get(i).or(job.new.last()).expect("new tokens");
            let eos = if job.exact { Vec::new() } else { spec.eos.clone() };
            let params = GenerationParams {
                num_beams: job.beams,
                ..GenerationParams::greedy(new, eos)
            };
            Request {
                pairs: spec.pair_tables.map(|_| PairRows::default()),
                ..Request::new(ids.clone(), params)
            }
        };
        let before = engine.stats();
        let (start, busy) = (Instant::now(), processor_seconds());
        let size = if job.together == 0 {
            job.prompts.len()
        } else {
            job.together
        };
        let mut ids = Vec::new();
        // From the job's start to each sequence's end: all prompts wait from the beginning.
        let mut latencies = Vec::new();
        for (batch, prompts) in job.prompts.chunks(size).enumerate() {
            let running = prompts.iter().enumerate().map(|(i, prompt)| {
                let generation = engine.handle().generate(request(batch * size + i, prompt));
                let generation = generation.expect("accepted");
                async move {
                    let done = generation.collect().await.expect("finished");
                    (done.ids, start.elapsed().as_secs_f64())
                }
            });
            for (said, latency) in futures_util::future::join_all(running).await {
                ids.push(said);
                latencies.push(latency);
            }
        }
        let after = engine.stats();
        say(&json!({
            "seconds": start.elapsed().as_secs_f64(),
            "cpu": processor_seconds() - busy,
            "tokens": ids.iter().map(Vec::len).sum::<usize>(),
            "steps": after.steps - before.steps,
            "drafted": after.drafted_tokens - before.drafted_tokens,
            "right": after.drafted_right - before.drafted_right,
            "peak_mib": peak(),
            "latencies": latencies,
            "ids": ids,
        }));
    }
}

fn random(shape: &str, dir: &Path, layers: usize) {
    let config = match shape {
        "bart-base" => ModelConfig::Bart(BartConfig {
            encoder_layers: 6,
            encoder_ffn_dim: 3072,
            encoder_attention_heads: 12,
            decoder_layers: 6,
            decoder_ffn_dim: 3072,
            decoder_attention_heads: 12,
            d_model: 768,
            ..BartConfig::default()
        }),
        "t5-xxl" => ModelConfig::T5(T5Config {
            d_model: 4096,
            d_ff: 10_240,
            num_layers: layers,
            num_decoder_layers: Some(layers),
            num_heads: 64,
            feed_forward_proj: "gated-gelu".to_owned(),
            tie_word_embeddings: false,
            decoder_start_token_id: Some(0),
            ..T5Config::default()
        }),
        other => panic!("shape {other}: bart-base or t5-xxl"),
    };
    std::fs::create_dir_all(dir).expect("a directory for the weights");
    let model = Trainable::random(config, 1, &candle_core::Device::Cpu).expect("a sound config");
    model.save(dir).expect("written");
}

fn say(value: &serde_json::Value) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")
        .and_then(|()| out.flush())
        .expect("a reader");
}

/// Processor time of all threads so far; 0 where the system does not say.
fn processor_seconds() -> f64 {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else {
        return 0.0;
    };
    let nanoseconds = |thread: std::io::Result<std::fs::DirEntry>| -> Option<f64> {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    threads.filter_map(nanoseconds).sum::<f64>() / 1e9
}

/// Most memory that this process has had, in MiB; 0 where the system does not say.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<usize>().ok())
        .unwrap_or(0)
        / 1024
}
