//! Ten thousand sequences through one engine on real kernels: memory is what it was after the first thousands.

use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use refract_engine::runner::{CpuOptions, CpuRunner, Runner};
use refract_engine::{Config, Engine, GenerationParams, Request};

const SEQUENCES: usize = 10_000;
const TOGETHER: usize = 48;
/// What allocators and tables may still grow by, in MiB.
const SLACK: usize = 6;

/// Memory of this process, in MiB. `None` where the system does not say.
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<usize>().ok()? / 1024)
}

fn draw(random: &mut ChaCha8Rng, vocab: usize) -> Request {
    let prompt = random.random_range(1..=60);
    let ids = (0..prompt)
        .map(|_| random.random_range(3..vocab as u32))
        .collect();
    let mut params = GenerationParams::greedy(random.random_range(1..=24), vec![2]);
    match random.random_range(0..5) {
        0 => params.num_beams = random.random_range(2..=5),
        1 => {
            params.do_sample = true;
            params.seed = Some(1);
            params.num_return_sequences = random.random_range(1..=4);
        }
        _ => {}
    }
    Request::new(ids, params)
}

#[tokio::test]
async fn memory_stays_flat_over_ten_thousand_sequences() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures/bart-plain");
    let options = CpuOptions {
        threads: 1,
        ..CpuOptions::default()
    };
    let runner = CpuRunner::load(&dir, &options).expect("loads");
    let (page, vocab) = (runner.page().expect("pages"), runner.shape().vocab);
    let config = Config {
        kv_tokens_max: 4_096,
        prompt_tokens_max: 60,
        new_tokens_max: 24,
        ..Config::default()
    };
    let engine = Engine::start(runner, config).expect("a sound config");
    engine.warm_up().await.expect("warm");
    let kv_tokens = engine.stats().kv_tokens_total;
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let (mut begun, mut settled) = (0, None);
    while begun < SEQUENCES {
        let running: Vec<_> = (0..TOGETHER.min(SEQUENCES - begun))
            .map(|_| {
                engine
                    .handle()
                    .generate(draw(&mut random, vocab))
                    .expect("accepted")
            })
            .collect();
        begun += running.len();
        // Callers who go: at once, or after the first words.
        let mut staying = Vec::new();
        for generation in running {
            match random.random_range(0..6) {
                0 => drop(generation),
                n => staying.push((n, generation)),
            }
        }
        for (n, mut generation) in staying {
            if n == 1 {
                drop(generation.next().await);
            } else {
                generation.collect().await.expect("finished");
            }
        }
        if settled.is_none() && begun >= 2_000 {
            settled = Some((resident(), engine.stats().kv_bytes_peak));
        }
    }
    while engine.stats().running_sequences + engine.stats().waiting_sequences > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let stats = engine.stats();
    assert_eq!(
        stats.finished + stats.cancelled + stats.failed,
        stats.finished + stats.cancelled
    );
    assert!(stats.cancelled > 500, "callers did go: {stats:?}");
    assert_eq!((stats.kv_tokens_used, stats.running_rows), (0, 0));
    let most = page.most(kv_tokens) as usize;
    assert!(stats.kv_bytes_peak <= most, "{} of {most}", stats.kv_bytes_peak);
    let (before, peak) = settled.expect("measured on the way");
    assert!(
        stats.kv_bytes_peak <= peak + peak / 4,
        "{} after {peak}",
        stats.kv_bytes_peak
    );
    if let (Some(before), Some(now)) = (before, resident()) {
        assert!(now <= before + SLACK, "{before} MiB grew to {now} MiB");
    }
}
