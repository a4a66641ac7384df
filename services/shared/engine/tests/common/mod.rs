//! An engine over a scripted runner, and what to ask of it.

// Each file of tests uses its own part.
#![allow(dead_code)]

use std::time::Duration;

use refract_engine::runner::{Gate, Scripted};
use refract_engine::{Config, Engine, Finished, GenerationParams, Request};

pub(crate) const EOS: u32 = 1;

pub(crate) fn config() -> Config {
    Config {
        queue_sequences_max: 64,
        queue_tokens_max: 10_000,
        running_sequences_max: 32,
        running_rows_max: 64,
        kv_tokens_max: 10_000,
        prompt_tokens_max: 60,
        new_tokens_max: 60,
        sequence_rows_max: 8,
        step_encode_tokens_max: 2_000,
        step_decode_tokens_max: 64,
        // Steps are counted here; tests/speculation.rs is about guesses.
        draft_tokens_max: 0,
        ..Config::default()
    }
}

pub(crate) fn start(runner: Scripted, config: Config) -> (Engine, Gate) {
    let gate = runner.gate();
    (Engine::start(runner, config).expect("a sound config"), gate)
}

pub(crate) fn request(ids: impl Into<Vec<u32>>) -> Request {
    Request::new(ids.into(), GenerationParams::greedy(50, vec![EOS]))
}

pub(crate) fn ids(of: &Finished) -> &[u32] {
    &of.ids
}

/// Waits until the engine's thread has brought about what is asked.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..5_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("waited in vain: {what}");
}
