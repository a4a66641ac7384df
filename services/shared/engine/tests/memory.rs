//! Decode memory is kept within what there is: measured at warm-up, never passed, refused where it could hold nothing.

use refract_engine::runner::{Memory, Page, Scripted};
use refract_engine::{Config, Engine, Error, GenerationParams, Request};

const EOS: u32 = 1;
const PAGE: Page = Page {
    tokens: 16,
    bytes: 1600,
};

/// Most sequences would need 3 pages for the prompt and 2 for what they say.
fn config() -> Config {
    Config {
        kv_tokens_max: 10_000,
        prompt_tokens_max: 48,
        new_tokens_max: 32,
        step_encode_tokens_max: 480,
        running_rows_max: 64,
        step_decode_tokens_max: 64,
        memory_percent_max: 100,
        draft_tokens_max: 0,
        ..Config::default()
    }
}

fn runner(pages: u64, working: u64) -> Scripted {
    Scripted::echo(EOS).with_memory(Memory {
        free: pages * PAGE.bytes as u64,
        page: PAGE,
        working,
    })
}

/// What logits of a full step take, which warm-up sets aside.
fn logits(config: &Config) -> u64 {
    (config.step_decode_tokens_max * 100 * 4) as u64
}

fn request(prompt: usize, beams: usize) -> Request {
    Request::new(
        (0..prompt).map(|i| 2 + (i % 90) as u32).collect(),
        GenerationParams {
            num_beams: beams,
            ..GenerationParams::greedy(32, vec![EOS])
        },
    )
}

#[tokio::test]
async fn nothing_is_admitted_past_what_there_is_memory_for() {
    // The runner fails whatever does not fit: were one page too many promised, a sequence would be lost.
    for (pages, working) in [(60, 0), (60, 3), (120, 6), (150, 40)] {
        let engine = Engine::start(runner(pages, working), config()).expect("a sound config");
        engine.warm_up().await.expect("warm");
        let kv_tokens = engine.stats().kv_tokens_total;
        let all: Vec<_> = (0..200)
            .map(|i| request(1 + (i * 7) % 48, [1, 1, 4, 2][i % 4]))
            .map(|r| engine.handle().generate(r).expect("accepted"))
            .collect();
        for (i, generation) in all.into_iter().enumerate() {
            generation
                .collect()
                .await
                .unwrap_or_else(|e| panic!("{pages} pages, sequence {i}: {e}"));
        }
        let stats = engine.stats();
        assert_eq!((stats.kv_bytes, stats.kv_tokens_used), (0, 0));
        assert!(
            stats.kv_bytes_peak <= kv_tokens / PAGE.tokens * PAGE.bytes,
            "{stats:?}"
        );
        assert!(
            stats.kv_bytes_peak * 2 > kv_tokens / PAGE.tokens * PAGE.bytes,
            "most of it was used: {stats:?}"
        );
    }
}

#[tokio::test]
async fn what_the_largest_step_works_with_is_taken_off_the_budget() {
    let config = config();
    let tokens = async |working: u64| {
        let engine = Engine::start(runner(200, working), config.clone()).expect("a sound config");
        assert_eq!(
            engine.stats().kv_tokens_total,
            200 * PAGE.tokens,
            "at first all of it"
        );
        engine.warm_up().await.expect("warm");
        (engine.stats().working_bytes, engine.stats().kv_tokens_total)
    };
    // Ten prompts of the greatest length are encoded together; their lines of logits need no place of their own.
    let lines = |working: u64| {
        let left = 200 * PAGE.bytes as u64 - working - (logits(&config) - 10 * 400);
        left as usize / PAGE.bytes * PAGE.tokens
    };
    assert_eq!(tokens(0).await, (0, lines(0)));
    assert_eq!(tokens(160).await, (480 * 160, lines(480 * 160)));
}

#[tokio::test]
async fn more_memory_than_the_limit_names_is_left_alone() {
    let config = Config {
        kv_tokens_max: 320,
        ..config()
    };
    let engine = Engine::start(runner(1_000, 0), config).expect("a sound config");
    engine.warm_up().await.expect("warm");
    assert_eq!(engine.stats().kv_tokens_total, 320);
    match engine.handle().generate(request(48, 16)) {
        Err(Error::TooLarge { tokens, tokens_max }) => assert_eq!((tokens, tokens_max), (560, 320)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn too_little_memory_is_refused_with_what_would_fit() {
    // The greatest sequence has 3 + 2 pages.
    let refused = Engine::start(runner(4, 0), config()).expect_err("too little");
    assert_eq!(
        refused.to_string(),
        "not enough memory: one sequence of 48 prompt and 32 new tokens needs 8000 bytes, there are 6400; a prompt of 32 \
         tokens would fit"
    );
    let refused = Engine::start(runner(1, 0), config()).expect_err("too little");
    assert!(
        refused.to_string().ends_with("16 tokens in all would fit"),
        "{refused}"
    );
    Engine::start(runner(5, 0), config()).expect("just enough");

    let asked = Config {
        memory_bytes_max: Some(1_000_000),
        ..config()
    };
    let refused = Engine::start(runner(100, 0), asked).expect_err("more than there is");
    assert_eq!(
        refused.to_string(),
        "not enough memory: memory_bytes_max 1000000 needs 1000000 bytes, there are 160000; memory_bytes_max 160000 would fit"
    );

    // What steps work with shows only at warm-up.
    let engine = Engine::start(runner(60, 200), config()).expect("enough so far");
    match engine.warm_up().await {
        Err(Error::Memory { .. } | Error::ModelFault { .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_share_of_what_is_free_leaves_the_rest_alone() {
    let config = Config {
        memory_percent_max: 50,
        ..config()
    };
    let engine = Engine::start(runner(100, 0), config).expect("a sound config");
    assert_eq!(engine.stats().kv_tokens_total, 50 * PAGE.tokens);
}
