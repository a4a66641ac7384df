//! Sequences and devices that fail: who is hurt, who is not, and what the engine says of itself.

mod common;

use std::time::Duration;

use common::{EOS, config, ids, request, start, until};
use refract_engine::runner::{Gate, Scripted};
use refract_engine::{Config, Engine, Error, Finished, Generation, GenerationParams, Health, Request};

/// Sixteen sequences in one batch, the one at `at` with the id 66 in its prompt.
async fn sixteen(runner: Scripted, at: usize) -> (Vec<Result<Finished, Error>>, Engine, Gate) {
    let (engine, gate) = start(runner, config());
    let handle = engine.handle();
    gate.close();
    // A sequence that is already running keeps the sixteen together in the queue.
    let first = handle.generate(request([5])).expect("accepted");
    gate.wait_for_arrivals(1);
    let all: Vec<Generation> = (0..16)
        .map(|i| {
            handle
                .generate(request([10 + i as u32, if i == at { 66 } else { 20 }, 30]))
                .expect("accepted")
        })
        .collect();
    gate.open();
    let mut results = Vec::new();
    for generation in all {
        results.push(generation.collect().await);
    }
    assert!(first.collect().await.is_ok());
    (results, engine, gate)
}

fn assert_only_one_failed(results: &[Result<Finished, Error>], at: usize) {
    for (i, result) in results.iter().enumerate() {
        match result {
            Ok(done) => assert_eq!(ids(done), [10 + i as u32, 20, 30, EOS], "sequence {i}"),
            Err(error) => {
                assert_eq!(i, at, "an innocent sequence failed");
                assert!(matches!(error, Error::ModelFault { .. }), "{error}");
            }
        }
    }
    assert!(results[at].is_err());
}

#[tokio::test]
async fn a_poisoned_prompt_fails_alone() {
    for at in [0, 7, 15] {
        let (results, engine, _) = sixteen(Scripted::echo(EOS).failing_to_encode(66), at).await;
        assert_only_one_failed(&results, at);
        assert_eq!(engine.stats().kv_tokens_used, 0);
        assert_eq!(
            *engine.health().borrow(),
            Health::Starting,
            "one fault is no illness"
        );
    }
}

#[tokio::test]
async fn a_poisoned_row_fails_alone_and_the_others_memory_is_rebuilt() {
    for (at, from) in [(0, 1), (7, 2), (15, 3)] {
        let (results, engine, _) = sixteen(Scripted::echo(EOS).failing_to_decode(66, from), at).await;
        assert_only_one_failed(&results, at);
        assert_eq!(engine.stats().kv_tokens_used, 0);
    }
}

fn faulty(bad: f32) -> Scripted {
    let shape = refract_engine::Runner::shape(&Scripted::echo(EOS));
    Scripted::new(shape, move |prompt, ids, line| {
        line.fill(0.0);
        line[prompt.get(ids.len() - 1).copied().unwrap_or(EOS) as usize] = 9.0;
        if prompt.contains(&66) && ids.len() == 2 {
            line[50] = bad;
        }
    })
}

#[tokio::test]
async fn a_sequence_with_impossible_numbers_fails_alone() {
    for bad in [f32::NAN, f32::INFINITY] {
        let (results, _, _) = sixteen(faulty(bad), 4).await;
        assert_only_one_failed(&results, 4);
    }
}

#[tokio::test]
async fn three_model_faults_in_a_minute_make_the_engine_unhealthy() {
    let (engine, _) = start(faulty(f32::NAN), config());
    engine.warm_up().await.expect("warm");
    assert_eq!(*engine.health().borrow(), Health::Healthy);
    for n in 1..=3 {
        let result = engine
            .handle()
            .generate(request([66, 66, 66]))
            .expect("accepted")
            .collect()
            .await;
        assert!(matches!(result, Err(Error::ModelFault { .. })));
        let unhealthy = matches!(*engine.health().borrow(), Health::Unhealthy { .. });
        assert_eq!(unhealthy, n == 3, "after {n}");
    }
    // Beams notice too.
    let params = GenerationParams {
        num_beams: 3,
        ..GenerationParams::greedy(10, vec![EOS])
    };
    let result = engine
        .handle()
        .generate(Request::new(vec![66, 66], params))
        .expect("accepted")
        .collect()
        .await;
    assert!(matches!(result, Err(Error::ModelFault { .. })));
}

#[tokio::test]
async fn a_panic_in_the_runner_leaves_nobody_hanging() {
    let (engine, gate) = start(
        Scripted::echo(EOS).panicking(66),
        Config {
            running_sequences_max: 2,
            ..config()
        },
    );
    let handle = engine.handle();
    gate.close();
    let running = handle.generate(request(vec![5; 30])).expect("accepted");
    gate.wait_for_arrivals(1);
    let bad = handle.generate(request([66])).expect("accepted");
    let waiting = handle.generate(request([7])).expect("accepted");
    gate.open();
    for generation in [running, bad, waiting] {
        assert!(matches!(generation.collect().await, Err(Error::Stopped { .. })));
    }
    until("health turns", || {
        matches!(*engine.health().borrow(), Health::Unhealthy { .. })
    })
    .await;
    assert!(matches!(
        handle.generate(request([7])),
        Err(Error::Stopped { .. })
    ));
    engine.drain().await;
}

#[tokio::test]
async fn a_lost_device_ends_everybody_at_once_and_nothing_more_is_tried() {
    // Calls: encode and decode of the one that holds the door, encode of the three, their steps.
    for (what, runner, calls) in [
        ("encode", Scripted::echo(EOS).lost_in_encode(66), 3),
        ("decode", Scripted::echo(EOS).lost_in_decode(66, 3), 6),
    ] {
        let limits = Config {
            running_sequences_max: 3,
            ..config()
        };
        let (engine, gate) = start(runner, limits);
        let handle = engine.handle();
        gate.close();
        let first = handle.generate(request([5; 9])).expect("accepted");
        gate.wait_for_arrivals(1);
        // Three will run, two will wait.
        let all = [7, 66, 8, 9, 10].map(|id| handle.generate(request([id; 9])).expect("accepted"));
        drop(first);
        gate.open();
        for generation in all {
            match generation.collect().await {
                Err(Error::Stopped { reason }) => {
                    assert!(reason.contains("fell off the bus"), "{what}: {reason}")
                }
                other => panic!("{what}: {other:?}"),
            }
        }
        assert!(
            matches!(&*engine.health().borrow(), Health::Unhealthy { reason } if reason.contains("the bus")),
            "{what}"
        );
        assert_eq!(gate.encoded(), [1, 3], "{what}");
        assert_eq!(
            gate.arrived(),
            calls,
            "{what}: no part of the batch was tried again"
        );
        assert!(
            matches!(handle.generate(request([7])), Err(Error::Stopped { .. })),
            "{what}"
        );
        assert_eq!(handle.stats().kv_tokens_used, 0, "{what}");
        engine.drain().await;
    }
}

#[tokio::test]
async fn a_device_that_hangs_is_noticed_by_who_watches() {
    let limits = Config {
        batch_max: Duration::from_millis(20),
        ..config()
    };
    let (engine, gate) = start(Scripted::echo(EOS), limits);
    let handle = engine.handle();
    handle.check_pace();
    assert_eq!(
        *engine.health().borrow(),
        Health::Starting,
        "an idle engine does not hang"
    );
    gate.close();
    let generation = handle.generate(request([7])).expect("accepted");
    gate.wait_for_arrivals(1);
    until("it is seen to hang", || {
        handle.check_pace();
        matches!(&*engine.health().borrow(), Health::Unhealthy { reason } if reason.contains("hung"))
    })
    .await;
    gate.open();
    generation.collect().await.expect("it was only slow");
    assert!(
        matches!(&*engine.health().borrow(), Health::Unhealthy { .. }),
        "what has hung once is restarted"
    );
}
