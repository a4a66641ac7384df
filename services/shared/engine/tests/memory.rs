//! Decode memory is kept within what there is: measured at warm-up, never passed, refused where it could hold nothing.

use std::path::Path;

use refract_engine::runner::{Layout, Memory, ModelRunner, Page, Runner, Scripted};
use refract_engine::{Config, Engine, Error, GenerationParams, PairRows, Request};
use refract_model::{LoadOptions, Model, own_room, source_room};

const EOS: u32 = 1;
const PAGE: Page = Page {
    tokens: 16,
    bytes: 1600,
    spare: 0,
    layout: Layout::Pages,
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
async fn warm_up_asks_for_no_more_than_a_small_limit_leaves_in_whole_pages() {
    for kv_tokens_max in 2 * PAGE.tokens..=8 * PAGE.tokens {
        let config = Config {
            kv_tokens_max,
            ..config()
        };
        // Not a page more than may be used.
        let pages = (kv_tokens_max / PAGE.tokens) as u64;
        let spare = logits(&config).div_ceil(PAGE.bytes as u64);
        let engine = Engine::start(runner(pages + spare, 0), config).expect("a sound config");
        engine
            .warm_up()
            .await
            .unwrap_or_else(|e| panic!("{kv_tokens_max} tokens: {e}"));
    }
}

#[tokio::test]
async fn pages_that_come_several_at_a_time_leave_room_for_those_not_in_use() {
    let page = Page {
        spare: 7 * PAGE.bytes,
        ..PAGE
    };
    let runner = Scripted::echo(EOS).with_memory(Memory {
        free: 60 * PAGE.bytes as u64,
        page,
        working: 0,
    });
    let engine = Engine::start(runner, config()).expect("a sound config");
    assert_eq!(engine.stats().kv_tokens_total, 53 * PAGE.tokens);
    assert_eq!(page.most(53 * PAGE.tokens + 3), 60 * PAGE.bytes as u64);
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

fn tensors(name: &str) -> ModelRunner {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../model/tests/fixtures")
        .join(name);
    ModelRunner::new(Model::load(&dir, &LoadOptions::default()).expect("a sound fixture"))
}

/// As many positions as this runner is given bytes for.
fn given(positions: usize, runner: &ModelRunner) -> Config {
    let page = runner.page().expect("known by the byte");
    Config {
        sequence_rows_max: 4,
        memory_bytes_max: Some((positions * page.bytes) as u64),
        ..config()
    }
}

#[tokio::test]
async fn rectangles_of_tensors_stay_within_the_budget_whoever_is_longest_when() {
    for name in ["t5-gated-untied", "bart-plain", "bart-pairs"] {
        for (positions, records) in [(450, false), (1_000, true), (2_500, false), (6_000, true)] {
            let runner = tensors(name).recording(records);
            let pairs = runner.shape().pair_tables.map(|_| PairRows::default());
            let config = given(positions, &runner);
            let budget = config.memory_bytes_max.expect("given") as usize;
            let engine = Engine::start(runner, config).expect("enough for one");
            let mut running = Vec::new();
            for i in 0..60 {
                let ids = (0..1 + (i * 7) % 48).map(|n| 5 + (n * 3 % 60) as u32).collect();
                let params = GenerationParams {
                    num_beams: [1, 4, 1, 2][i % 4],
                    // A few are as long as may be, none of them all the time.
                    ..GenerationParams::greedy(if i % 9 == 0 { 32 } else { 1 + i % 5 }, Vec::new())
                };
                let request = Request {
                    pairs,
                    ..Request::new(ids, params)
                };
                running.push(engine.handle().generate(request).expect("accepted"));
            }
            for generation in running {
                generation.collect().await.expect("finished");
            }
            let peak = engine.stats().kv_bytes_peak;
            let what =
                format!("{name}, {positions} positions, recording {records}: {peak} of {budget} bytes");
            assert!(peak <= budget, "{what}");
            assert!(peak * 8 > budget, "{what}: much was left unused");
        }
    }
}

#[test]
fn rectangles_for_which_there_is_no_room_are_refused_with_what_would_fit() {
    let runner = tensors("bart-plain");
    let least = own_room(1, 32) + source_room(1, 48) + 48;
    let config = |positions| given(positions, &runner);
    Engine::start(tensors("bart-plain"), config(least)).expect("just enough");
    let refused = Engine::start(tensors("bart-plain"), config(least - 1)).expect_err("too little");
    let bytes = runner.page().expect("known").bytes;
    assert_eq!(
        refused.to_string(),
        format!(
            "not enough memory: one sequence of 48 prompt and 32 new tokens needs {} bytes, there are {}; a prompt of 47 \
             tokens would fit",
            least * bytes,
            (least - 1) * bytes
        )
    );
}

#[tokio::test]
async fn a_sequence_of_more_rows_than_there_is_room_for_is_refused_by_their_number() {
    let runner = tensors("bart-plain");
    let config = given(own_room(2, 32) + source_room(1, 48) + 48, &runner);
    let engine = Engine::start(runner, config).expect("enough for two rows");
    match engine.handle().generate(request(10, 4)) {
        Err(Error::TooManyRows { rows, rows_max }) => assert_eq!((rows, rows_max), (4, 2)),
        other => panic!("{other:?}"),
    }
    let two = engine.handle().generate(request(10, 2)).expect("accepted");
    two.collect().await.expect("finished");
}
