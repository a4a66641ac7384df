//! Guessing ahead changes the number of steps and nothing else.

use std::path::Path;

use proptest::prelude::*;
use refract_engine::runner::{CpuOptions, CpuRunner, EncodeCost, Precision, Runner, Scripted, Shape};
use refract_engine::{Config, Engine, Finished, GenerationParams, Phrases, Request, Stats, Told};

const VOCAB: usize = 12;

/// A model that repeats itself and its prompt a good deal, and departs from both now and then.
fn parrot(seed: u64) -> Scripted {
    Scripted::new(shape(), move |prompt, ids, line| {
        let mix = |a: u64, b: u64| (a ^ b).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
        let last = ids[ids.len() - 1];
        for (id, x) in line.iter_mut().enumerate() {
            let noise = mix(mix(seed, u64::from(last)), id as u64 + 1) % 1000;
            *x = noise as f32 / 1000.0;
        }
        let copied = prompt.windows(2).find(|w| w[0] == last).map(|w| w[1]);
        if let Some(next) = copied.filter(|_| !mix(seed, ids.len() as u64).is_multiple_of(5)) {
            line[next as usize] += 1.0;
        }
    })
}

fn shape() -> Shape {
    Shape {
        vocab: VOCAB,
        decoder_start: 0,
        prompt_positions_max: None,
        own_positions_max: None,
        pair_tables: None,
        encode_cost: EncodeCost::Packed,
        exact_drafts: true,
    }
}

fn config(draft_tokens_max: usize, step_draft_tokens_max: usize) -> Config {
    Config {
        draft_tokens_max,
        step_draft_tokens_max,
        ..Config::default()
    }
}

fn run(runner: impl Runner + 'static, config: Config, requests: &[Request]) -> (Vec<Finished>, Stats) {
    run_knowing(runner, Phrases::default(), config, requests)
}

fn run_knowing(
    runner: impl Runner + 'static,
    phrases: Phrases,
    config: Config,
    requests: &[Request],
) -> (Vec<Finished>, Stats) {
    // One that keeps pages keeps them for the next.
    let keeps = runner.page().is_some();
    let engine = Engine::start_knowing(runner, phrases, config).expect("a sound config");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let done = runtime.block_on(async {
        let running: Vec<_> = requests
            .iter()
            .map(|r| engine.handle().generate(r.clone()).expect("accepted"))
            .collect();
        let mut done = Vec::new();
        for generation in running {
            done.push(generation.collect().await.expect("finished"));
        }
        done
    });
    assert_eq!(engine.stats().kv_tokens_used, 0);
    assert_eq!(engine.stats().kv_bytes > 0, keeps, "nothing is left behind");
    (done, engine.stats())
}

fn same(a: &[Finished], b: &[Finished]) {
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert_eq!((&a.ids, a.finish), (&b.ids, b.finish), "sequence {i}");
        assert_eq!(a.hypotheses, b.hypotheses, "sequence {i}");
    }
}

fn any_request() -> impl Strategy<Value = Request> {
    let prompt = prop::collection::vec(1..VOCAB as u32, 1..30);
    let rules = (0..4_usize, 0..4_usize, prop::bool::ANY, prop::bool::ANY);
    (prompt, 1..40_usize, rules, 0..4_usize).prop_map(|(ids, new, (min, ngram, penal, stop), kind)| {
        let mut params = GenerationParams::greedy(new, vec![1]);
        params.min_new_tokens = min.min(new);
        params.no_repeat_ngram_size = if ngram == 1 { 0 } else { ngram };
        params.repetition_penalty = if penal { 1.2 } else { 1.0 };
        params.stop = if stop { vec![vec![3, 4]] } else { Vec::new() };
        params.forced_eos = if ngram == 3 { vec![1] } else { Vec::new() };
        // Others in the batch that never guess.
        match kind {
            0 => params.num_beams = 3,
            1 => {
                params.do_sample = true;
                params.seed = Some(new as u64);
                params.num_return_sequences = 2;
            }
            _ => {}
        }
        Request::new(ids, params)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequences_say_the_same_with_and_without_guessing(
        seed: u64,
        requests in prop::collection::vec(any_request(), 1..6),
        others in prop::collection::vec(any_request(), 0..6),
        another: u64,
        draft in 1..12_usize,
        room in 1..40_usize,
    ) {
        let (plain, stats) = run(parrot(seed), config(0, 0), &requests);
        prop_assert_eq!(stats.drafted_tokens, 0);
        let (guessed, stats) = run(parrot(seed), config(draft, room), &requests);
        same(&plain, &guessed);
        prop_assert!(stats.drafted_right <= stats.drafted_tokens);
        // So it is when the engine begins with what another model says: most of it is wrong.
        let (texts, _) = run(parrot(another), config(0, 0), &others);
        let told: Vec<Told> = others
            .iter()
            .zip(&texts)
            .flat_map(|(asked, said)| std::iter::repeat_n((asked, said), 3))
            .map(|(asked, said)| Told { prompt: asked.ids.clone(), ids: said.ids.clone() })
            .collect();
        let (misled, _) = run_knowing(parrot(seed), Phrases::of(0, &told), config(draft, room), &requests);
        same(&plain, &misled);
    }
}

#[test]
fn a_model_that_copies_its_prompt_needs_few_steps() {
    let prompt: Vec<u32> = (5..60).collect();
    let request = Request::new(prompt, GenerationParams::greedy(60, vec![1]));
    let (plain, _) = run(Scripted::echo(1), config(0, 0), std::slice::from_ref(&request));
    let (guessed, stats) = run(Scripted::echo(1), config(16, 32), &[request]);
    same(&plain, &guessed);
    assert_eq!(plain[0].steps, 56);
    assert!(guessed[0].steps < 20, "{} steps", guessed[0].steps);
    assert_eq!(stats.decoded_tokens, 56, "every token is counted once");
}

#[test]
fn an_engine_that_knows_what_is_usually_said_needs_few_steps_for_its_first_text() {
    let asked = |n: u32| Request::new(vec![3, 4, n], GenerationParams::greedy(40, vec![1]));
    let requests: Vec<Request> = (5..11).map(asked).collect();
    // Says the same of everything.
    const SAID: [u32; 9] = [7, 8, 9, 6, 5, 10, 4, 11, 1];
    let says = || {
        Scripted::new(shape(), |_, ids, line| {
            let next = SAID.get(ids.len() - 1).copied().unwrap_or(1);
            line.fill(0.0);
            line[next as usize] = 1.0;
        })
    };
    let (plain, _) = run(says(), config(0, 0), &requests);
    let told: Vec<Told> = requests
        .iter()
        .zip(&plain)
        .map(|(asked, said)| Told {
            prompt: asked.ids.clone(),
            ids: said.ids.clone(),
        })
        .collect();
    let first = &requests[..1];
    let (fresh, _) = run(says(), config(8, 32), first);
    let (knowing, _) = run_knowing(says(), Phrases::of(0, &told[1..]), config(8, 32), first);
    same(&fresh, &knowing);
    assert_eq!((fresh[0].steps, knowing[0].steps), (9, 1));
}

#[test]
fn every_model_says_the_same_on_packed_weights() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures");
    let mut right = 0;
    for name in ["bart-plain", "t5-gated-untied", "bart-pairs"] {
        for precision in [Precision::F32, Precision::Int8, Precision::Int4] {
            let options = CpuOptions {
                precision,
                threads: 1,
                isa: None,
                nice: 0,
            };
            let load = || CpuRunner::load(&fixtures.join(name), &options).expect("loads");
            let pairs = load().shape().pair_tables.map(|_| Default::default());
            // A prompt that says everything twice, and small models that go round in circles: guesses of all kinds.
            let requests: Vec<Request> = (0..6_u32)
                .map(|i| Request {
                    pairs,
                    ..Request::new(
                        (0..24).map(|n| 4 + (n % 12) * (1 + i % 3)).collect(),
                        GenerationParams::greedy(30, vec![2]),
                    )
                })
                .collect();
            let (plain, _) = run(load(), config(0, 0), &requests);
            let (guessed, stats) = run(load(), config(8, 32), &requests);
            same(&plain, &guessed);
            right += stats.drafted_right;
        }
    }
    assert!(right > 0, "no guess was ever right: nothing was tried");
}
