//! The worker that `tests/bench/run` drives: one engine, jobs in as lines of JSON, measurements out.
//!
//! `bench random bart-base|flan-t5-base|flan-t5-large|flan-t5-xxl DIRECTORY [LAYERS]` writes a model of RANDOM WEIGHTS, with so many
//! layers of each kind instead of the shape's own. `bench bytes DIRECTORY TO` writes a model in bytes to a new directory.
//!
//! `bench copy DEVICE BYTES` says how fast the device reads and writes its memory: a copy of so many bytes, the best of some.
//!
//! `bench DIRECTORY [precision] [threads] [drafts] [running] [device]`; says `{"ready": …}` when loaded and warm. A job is
//! `{"prompts": [[…]], "new": [48], "beams": 1, "exact": true, "together": 0, "padded": false, "arrive": []}`: so many new
//! tokens for each prompt (the last number holds for the rest), exactly so many where `exact` says so, else until the model's
//! end. Prompts arrive at these seconds from the start, or all at once.
//!
//! `together` above 0 makes static batches: of those that have arrived the first so many, when the batch before is done. With
//! `padded` they are what a batch of tensors is: every prompt as long as the longest, every row decoded until the last one
//! ends. What a row says beyond its own length counts for nothing.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use refract_engine::{
    Config, DeviceName, Engine, GenerationParams, OpenOptions, PairRows, Phrases, Request, Weights,
};
use refract_model::{BartConfig, Config as ModelConfig, Spec, T5Config, Trainable};
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Job {
    prompts: Vec<Vec<u32>>,
    new: Vec<usize>,
    beams: usize,
    /// Above 1: so many samples of each prompt, from one encoding.
    #[serde(default)]
    samples: usize,
    exact: bool,
    #[serde(default)]
    together: usize,
    #[serde(default)]
    padded: bool,
    /// In order.
    #[serde(default)]
    arrive: Vec<f64>,
}

/// What one prompt came to.
#[derive(Default)]
struct Said {
    ids: Vec<u32>,
    /// Seconds from its arrival.
    latency: f64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().expect("an argument more");
    let first = next();
    if first == "random" {
        let (shape, dir) = (next(), PathBuf::from(next()));
        let layers = args.next().map(|n| n.parse().expect("a number of layers"));
        return random(&shape, &dir, layers);
    }
    if first == "copy" {
        return copy(&next(), next().parse().expect("a number of bytes"));
    }
    if first == "bytes" {
        return bytes(&PathBuf::from(next()), &PathBuf::from(next()));
    }
    let dir = PathBuf::from(first);
    let weights = match args.next().as_deref() {
        None | Some("int8") => Weights::Int8,
        Some("int4") => Weights::Int4,
        Some("f32") => Weights::F32,
        Some("bf16") => Weights::Bf16,
        Some(other) => panic!("precision {other}: int8, int4, f32 or bf16"),
    };
    let mut number = |default: usize| {
        args.next()
            .map_or(default, |n| n.parse().unwrap_or_else(|e| panic!("{n}: {e}")))
    };
    let (threads, drafts, running) = (number(1), number(0), number(32));
    let device: DeviceName = args.next().map_or(DeviceName::Cpu, |name| {
        name.parse().unwrap_or_else(|e| panic!("{e}"))
    });
    let options = OpenOptions {
        weights,
        threads,
        devices: vec![device],
        ..OpenOptions::default()
    };
    let begun = Instant::now();
    let opened = refract_engine::open(&dir, &options).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let (spec, choice) = (opened.spec, opened.choice);
    let config = Config {
        queue_sequences_max: 4096,
        queue_tokens_max: 1 << 22,
        draft_tokens_max: drafts,
        running_sequences_max: running,
        running_rows_max: running.max(Config::default().running_rows_max),
        step_decode_tokens_max: running.max(Config::default().step_decode_tokens_max),
        ..Config::default()
    };
    let phrases = Phrases::beside(&dir, spec.vocab).expect("a sound file");
    let engine = Engine::start_knowing(opened.runner, phrases, config).expect("a sound config");
    say(
        &json!({"ready": choice.to_string(), "load_s": begun.elapsed().as_secs_f64(), "peak_mib": memory("VmHWM:")}),
    );
    for line in std::io::stdin().lines() {
        let job: Job = serde_json::from_str(&line.expect("readable")).expect("a job");
        let before = engine.stats();
        let (start, busy) = (Instant::now(), processor_seconds());
        let said = if job.together == 0 {
            continuous(&engine, &spec, &job, start).await
        } else {
            in_batches(&engine, &spec, &job, start).await
        };
        let after = engine.stats();
        say(&json!({
            "seconds": start.elapsed().as_secs_f64(),
            "cpu": processor_seconds() - busy,
            "tokens": said.iter().map(|s| s.ids.len()).sum::<usize>(),
            "steps": after.steps - before.steps,
            "drafted": after.drafted_tokens - before.drafted_tokens,
            "right": after.drafted_right - before.drafted_right,
            "kv_peak_mib": after.kv_bytes_peak as f64 / f64::from(1 << 20),
            "peak_mib": memory("VmHWM:"),
            "resident_mib": memory("VmRSS:"),
            "latencies": said.iter().map(|s| s.latency).collect::<Vec<_>>(),
            "ids": said.into_iter().map(|s| s.ids).collect::<Vec<_>>(),
        }));
    }
}

impl Job {
    /// New tokens of a prompt.
    fn tokens(&self, at: usize) -> usize {
        *self.new.get(at).or(self.new.last()).expect("new tokens")
    }

    /// When a prompt arrives, from the start.
    fn arrives(&self, at: usize) -> Duration {
        Duration::from_secs_f64(self.arrive.get(at).copied().unwrap_or(0.0))
    }
}

/// Lets the engine write so many tokens.
async fn write(engine: &Engine, spec: &Spec, job: &Job, prompt: Vec<u32>, new: usize) -> Vec<u32> {
    let eos = if job.exact { Vec::new() } else { spec.eos.clone() };
    let params = GenerationParams {
        num_beams: job.beams,
        num_return_sequences: job.samples.max(1),
        do_sample: job.samples > 0,
        seed: Some(1),
        ..GenerationParams::greedy(new, eos)
    };
    let request = Request {
        pairs: spec.pair_tables.map(|_| PairRows::default()),
        ..Request::new(prompt, params)
    };
    let generation = engine.handle().generate(request).expect("accepted");
    generation.collect().await.expect("finished").ids
}

/// Each prompt goes to the engine when it arrives.
async fn continuous(engine: &Engine, spec: &Spec, job: &Job, start: Instant) -> Vec<Said> {
    let each = job.prompts.iter().enumerate().map(|(at, prompt)| async move {
        let due = start + job.arrives(at);
        if due > Instant::now() {
            tokio::time::sleep_until(due.into()).await;
        }
        let ids = write(engine, spec, job, prompt.clone(), job.tokens(at)).await;
        let latency = due.elapsed().as_secs_f64();
        Said { ids, latency }
    });
    futures_util::future::join_all(each).await
}

async fn in_batches(engine: &Engine, spec: &Spec, job: &Job, start: Instant) -> Vec<Said> {
    let mut said = Vec::new();
    while said.len() < job.prompts.len() {
        let first = said.len();
        let due = start + job.arrives(first);
        if due > Instant::now() {
            tokio::time::sleep_until(due.into()).await;
        }
        let now = start.elapsed();
        let here = (first..job.prompts.len()).take_while(|at| *at == first || job.arrives(*at) <= now);
        let batch: Vec<usize> = here.take(job.together).collect();
        let longest = batch.iter().map(|at| job.prompts[*at].len()).max().unwrap_or(0);
        let most = batch.iter().map(|at| job.tokens(*at)).max().unwrap_or(0);
        let each = batch.iter().map(|at| {
            let (mut prompt, mut new) = (job.prompts[*at].clone(), job.tokens(*at));
            if job.padded {
                // Any token costs what padding costs.
                prompt.resize(longest, prompt[0]);
                new = most;
            }
            write(engine, spec, job, prompt, new)
        });
        let written = futures_util::future::join_all(each).await;
        for (at, mut ids) in batch.into_iter().zip(written) {
            ids.truncate(job.tokens(at));
            let latency = (start + job.arrives(at)).elapsed().as_secs_f64();
            said.push(Said { ids, latency });
        }
    }
    said
}

fn t5(d_model: usize, d_ff: usize, layers: usize, heads: usize) -> ModelConfig {
    ModelConfig::T5(T5Config {
        d_model,
        d_ff,
        num_layers: layers,
        num_decoder_layers: Some(layers),
        num_heads: heads,
        feed_forward_proj: "gated-gelu".to_owned(),
        tie_word_embeddings: false,
        decoder_start_token_id: Some(0),
        ..T5Config::default()
    })
}

fn random(shape: &str, dir: &Path, layers: Option<usize>) {
    let of = |all: usize| layers.unwrap_or(all);
    let config = match shape {
        "bart-base" => ModelConfig::Bart(BartConfig {
            encoder_layers: of(6),
            encoder_ffn_dim: 3072,
            encoder_attention_heads: 12,
            decoder_layers: of(6),
            decoder_ffn_dim: 3072,
            decoder_attention_heads: 12,
            d_model: 768,
            ..BartConfig::default()
        }),
        "flan-t5-base" => t5(768, 2048, of(12), 12),
        "flan-t5-large" => t5(1024, 2816, of(24), 16),
        "flan-t5-xxl" => t5(4096, 10_240, of(24), 64),
        other => panic!("shape {other}: bart-base, flan-t5-base, flan-t5-large or flan-t5-xxl"),
    };
    std::fs::create_dir_all(dir).expect("a directory for the weights");
    let model = Trainable::random(config, 1, &candle_core::Device::Cpu).expect("a sound config");
    model.save(dir).expect("written");
}

/// What is read and what is written counts.
fn copy(device: &str, bytes: usize) {
    const TIMES: usize = 10;
    let device: DeviceName = device.parse().unwrap_or_else(|e| panic!("{e}"));
    let device = device.open().unwrap_or_else(|e| panic!("{e}"));
    let from = candle_core::Tensor::zeros(bytes / 4, candle_core::DType::F32, &device).expect("room");
    let once = || {
        let begun = Instant::now();
        // The first is warm when the second begins; none is read back.
        let to = from.copy().expect("room for another");
        device.synchronize().expect("done");
        drop(to);
        begun.elapsed().as_secs_f64()
    };
    device.synchronize().expect("done");
    let best = (0..TIMES).map(|_| once()).fold(f64::INFINITY, f64::min);
    say(&json!({"bytes_per_second": 2.0 * bytes as f64 / best}));
}

fn bytes(dir: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory for the weights");
    refract_engine::quantise(dir, &to.join("model.safetensors"), false)
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    std::fs::copy(dir.join("config.json"), to.join("config.json")).expect("copied");
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

/// Memory of this process in MiB: `VmHWM:` is the most so far, `VmRSS:` what it is now; 0 where the system does not say.
fn memory(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix(name));
    line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<usize>().ok())
        .unwrap_or(0)
        / 1024
}
