//! The tokens of a sequence do not depend on its companions.

mod common;

use common::{EOS, config, start, until};
use refract_engine::runner::Scripted;
use refract_engine::{Error, Generation, GenerationParams, Request};

/// A pseudo-random but fixed model: what follows depends on the whole of prompt and ids.
fn chaotic() -> Scripted {
    let shape = refract_engine::Runner::shape(&Scripted::echo(EOS));
    Scripted::new(shape, |prompt, ids, line| {
        let mut state = prompt.iter().chain(ids).fold(1469598103934665603u64, |h, id| {
            (h ^ u64::from(*id)).wrapping_mul(1099511628211).rotate_left(23)
        });
        for x in line {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            *x = (state >> 40) as f32 / (1u64 << 24) as f32 * 6.0;
        }
    })
}

#[tokio::test]
async fn companions_do_not_change_tokens_whatever_the_mix() {
    let params = |i: usize| {
        let plain = GenerationParams::greedy(5 + i % 17, vec![EOS]);
        match i % 4 {
            0 => plain,
            1 => GenerationParams {
                num_beams: 2 + i % 5,
                num_return_sequences: 2,
                ..plain
            },
            2 => GenerationParams {
                do_sample: true,
                seed: Some(i as u64),
                top_k: 20,
                ..plain
            },
            _ => GenerationParams {
                do_sample: true,
                seed: Some(i as u64),
                num_return_sequences: 3,
                top_p: 0.8,
                ..plain
            },
        }
    };
    let prompt = |i: usize| {
        (0..1 + (i * 7) % 30)
            .map(|n| 2 + ((i * 31 + n * 17) % 98) as u32)
            .collect::<Vec<_>>()
    };
    let (engine, gate) = start(chaotic(), config());
    let handle = engine.handle();
    let mut alone = Vec::new();
    for i in 0..40 {
        let done = handle
            .generate(Request::new(prompt(i), params(i)))
            .expect("accepted")
            .collect()
            .await;
        alone.push(done.expect("finished").hypotheses);
    }
    gate.close();
    let together: Vec<Generation> = (0..40)
        .map(|i| {
            handle
                .generate(Request::new(prompt(i), params(i)))
                .expect("accepted")
        })
        .collect();
    gate.open();
    for (i, (generation, alone)) in together.into_iter().zip(alone).enumerate() {
        assert_eq!(
            generation.collect().await.expect("finished").hypotheses,
            alone,
            "sequence {i}"
        );
    }
    assert!(
        gate.decoded().iter().any(|rows| *rows > 20),
        "they did run together"
    );
    until("memory is given back", || handle.stats().kv_tokens_used == 0).await;
}

#[tokio::test]
async fn a_seed_repeats_a_generation_and_samples_differ() {
    let (engine, _) = start(chaotic(), config());
    let run = async |seed| {
        let params = GenerationParams {
            do_sample: true,
            seed,
            num_return_sequences: 4,
            ..GenerationParams::greedy(20, vec![EOS])
        };
        let done = engine
            .handle()
            .generate(Request::new(vec![9, 9], params))
            .expect("accepted");
        done.collect().await.expect("finished").hypotheses
    };
    let first = run(Some(5)).await;
    assert_eq!(first.len(), 4);
    assert_ne!(first[0].ids, first[1].ids);
    assert_eq!(run(Some(5)).await, first);
    assert_ne!(run(Some(6)).await, first);
    assert_ne!(run(None).await, run(None).await);
}

#[tokio::test]
async fn candidates_of_one_prompt_share_its_encoding_and_its_cross_memory() {
    let (engine, gate) = start(chaotic(), config());
    let params = GenerationParams {
        do_sample: true,
        seed: Some(1),
        num_return_sequences: 8,
        ..GenerationParams::greedy(10, Vec::new())
    };
    let done = engine
        .handle()
        .generate(Request::new(vec![9; 30], params))
        .expect("accepted");
    assert_eq!(done.collect().await.expect("finished").hypotheses.len(), 8);
    assert_eq!(gate.encoded(), [1]);
    // What all have in common is decoded once.
    assert_eq!(gate.decoded(), [1, 8, 8, 8, 8, 8, 8, 8, 8, 8]);
}

#[tokio::test]
async fn constraints_that_leave_nothing_fail_the_sequence_and_are_no_model_fault() {
    let (engine, _) = start(Scripted::echo(EOS), config());
    for num_beams in [1, 3] {
        let params = GenerationParams {
            num_beams,
            suppress_tokens: (0..100).collect(),
            ..GenerationParams::greedy(5, vec![EOS])
        };
        let result = engine
            .handle()
            .generate(Request::new(vec![5], params))
            .expect("accepted")
            .collect()
            .await;
        assert_eq!(result, Err(Error::Overconstrained { position: 0 }));
    }
}
