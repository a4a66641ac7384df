//! Speed of the packed runner: `cargo run --release -p refract-engine --example throughput [DIRECTORY]`.
//!
//! Without a directory: the shape of BART-base with RANDOM WEIGHTS, written to a temporary directory. Source 160 tokens,
//! exactly 48 new ones, greedy, one thread, through the whole engine; batches of 1, 4, 16 and 32 that start together.
//! `REFRACT_CPU` forces a lower instruction set; `REFRACT_BATCHES=1,32` and `REFRACT_SECONDS` limit the work.

use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::Device;
use refract_engine::runner::{CpuOptions, CpuRunner, Precision};
use refract_engine::{Config, Engine, GenerationParams, Request};
use refract_model::{BartConfig, Trainable};

const SOURCE: usize = 160;
const NEW: usize = 48;

fn random_weights(to: &Path) {
    let config = BartConfig {
        encoder_layers: 6,
        encoder_ffn_dim: 3072,
        encoder_attention_heads: 12,
        decoder_layers: 6,
        decoder_ffn_dim: 3072,
        decoder_attention_heads: 12,
        d_model: 768,
        ..BartConfig::default()
    };
    let model =
        Trainable::random(refract_model::Config::Bart(config), 1, &Device::Cpu).expect("a sound config");
    model.save(to).expect("written");
}

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let dir = std::env::args().nth(1).map(PathBuf::from).unwrap_or_else(|| {
        let dir = std::env::temp_dir().join("refract-random-bart-base");
        if !dir.join("config.json").is_file() {
            std::fs::create_dir_all(&dir).expect("a directory for the weights");
            random_weights(&dir);
        }
        dir
    });
    let options = CpuOptions {
        precision: Precision::Int8,
        threads: 1,
        isa: None,
    };
    let begun = Instant::now();
    let runner = CpuRunner::load(&dir, &options).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    println!(
        "{} · {} · loaded in {:.1} s · after loading {} MiB",
        dir.display(),
        runner.isa(),
        begun.elapsed().as_secs_f64(),
        peak()
    );
    let vocab = runner.spec().vocab as u32;
    let engine = Engine::start(runner, Config::default()).expect("a sound config");
    let handle = engine.handle();
    let batches = setting("REFRACT_BATCHES").unwrap_or_else(|| "1,4,16,32".to_owned());
    let seconds: f64 = setting("REFRACT_SECONDS")
        .and_then(|s| s.parse().ok())
        .unwrap_or(3.0);
    println!("Rates are by processor time: what the machine does beside it takes wall time, not that.");
    println!(
        "{:>5} {:>9} {:>9} {:>10} {:>12} {:>9}",
        "batch", "wall ms", "cpu ms", "tokens/s", "explained/s", "peak MiB"
    );
    for batch in batches
        .split(',')
        .map(|b| b.trim().parse::<usize>().expect("a batch size"))
    {
        let prompts: Vec<Vec<u32>> = (0..batch as u32)
            .map(|i| {
                (0..SOURCE as u32)
                    .map(|j| 4 + (i * 7919 + j * 104_729) % (vocab - 4))
                    .collect()
            })
            .collect();
        let (mut times, mut busy) = (Vec::new(), Vec::new());
        let begun = Instant::now();
        while times.len() < 3 || begun.elapsed().as_secs_f64() < seconds {
            let (start, busy_before) = (Instant::now(), processor_seconds());
            let running: Vec<_> = prompts
                .iter()
                .map(|ids| {
                    handle
                        .generate(Request::new(
                            ids.clone(),
                            GenerationParams::greedy(NEW, Vec::new()),
                        ))
                        .expect("accepted")
                })
                .collect();
            for generation in running {
                let done = generation.collect().await.expect("finished");
                assert_eq!(done.hypotheses[0].ids.len(), NEW);
            }
            times.push(start.elapsed().as_secs_f64());
            busy.push(processor_seconds() - busy_before);
        }
        let (wall, cpu) = (median(&mut times), median(&mut busy));
        let per_second = batch as f64 / cpu;
        println!(
            "{batch:>5} {:>9.1} {:>9.1} {:>10.1} {per_second:>12.2} {:>9}",
            wall * 1e3,
            cpu * 1e3,
            per_second * NEW as f64,
            peak()
        );
    }
}

fn median(x: &mut [f64]) -> f64 {
    x.sort_by(f64::total_cmp);
    x[x.len() / 2]
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
