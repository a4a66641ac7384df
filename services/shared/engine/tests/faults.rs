//! Sequences and devices that fail: who is hurt, who is not, and what the engine says of itself.

mod common;

use std::time::Duration;

use common::{EOS, config, ids, request, start, until};
use refract_engine::runner::{
    CrossSlot, DecodeRow, EncodeJob, Gate, Logits, RowMove, RowSlot, Runner, RunnerError, Scripted, Shape,
};
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
    let shape = Scripted::echo(EOS).shape();
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
async fn one_prompt_that_fails_again_and_again_takes_nobody_out_of_service() {
    let (engine, _) = start(faulty(f32::NAN), config());
    engine.warm_up().await.expect("warm");
    let fault = async |ids: [u32; 2]| {
        let generation = engine.handle().generate(request(ids)).expect("accepted");
        let result = generation.collect().await;
        assert!(matches!(result, Err(Error::ModelFault { .. })));
        engine.health().borrow().clone()
    };
    for _ in 0..20 {
        assert_eq!(fault([66, 5]).await, Health::Healthy);
    }
    assert_eq!(fault([66, 6]).await, Health::Healthy);
    assert_eq!(fault([66, 5]).await, Health::Healthy);
    assert!(matches!(fault([66, 7]).await, Health::Unhealthy { .. }));
}

#[tokio::test]
async fn model_faults_of_three_prompts_in_a_minute_make_the_engine_unhealthy() {
    let (engine, _) = start(faulty(f32::NAN), config());
    engine.warm_up().await.expect("warm");
    assert_eq!(*engine.health().borrow(), Health::Healthy);
    for n in 1..=3 {
        let result = engine
            .handle()
            .generate(request([66, 66, 66 + n]))
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

/// Panics when the loop begins, or when something is given back.
struct Frail {
    inner: Scripted,
    at_start: bool,
}

impl Runner for Frail {
    fn shape(&self) -> Shape {
        self.inner.shape()
    }

    fn encode(&mut self, jobs: &[EncodeJob<'_>]) -> Result<(), RunnerError> {
        self.inner.encode(jobs)
    }

    fn decode(&mut self, rows: &[DecodeRow<'_>], logits: &mut Logits<'_>) -> Result<(), RunnerError> {
        self.inner.decode(rows, logits)
    }

    fn reorder(&mut self, moves: &[RowMove]) {
        self.inner.reorder(moves);
    }

    fn release_rows(&mut self, _: &[RowSlot]) {
        panic!("a scripted panic");
    }

    fn release_cross(&mut self, cross: CrossSlot) {
        self.inner.release_cross(cross);
    }

    fn bytes(&self) -> usize {
        self.inner.bytes()
    }

    fn memory_peak(&mut self) -> Option<u64> {
        assert!(!self.at_start, "a scripted panic");
        None
    }
}

#[tokio::test]
async fn a_panic_when_the_loop_begins_or_a_sequence_ends_leaves_nobody_hanging() {
    for at_start in [true, false] {
        let runner = Frail {
            inner: Scripted::echo(EOS),
            at_start,
        };
        let engine = Engine::start(runner, config()).expect("a sound config");
        let handle = engine.handle();
        let told = match handle.generate(request([7, 8])) {
            Ok(generation) => generation.collect().await,
            Err(error) => Err(error),
        };
        match told {
            Err(Error::Stopped { reason }) if at_start => assert!(reason.contains("panic"), "{reason}"),
            // It was finished before the runner failed.
            Ok(done) if !at_start => assert_eq!(ids(&done), [7, 8, EOS]),
            other => panic!("{other:?}"),
        }
        until("health turns", || {
            matches!(&*engine.health().borrow(), Health::Unhealthy { reason } if reason.contains("a scripted panic"))
        })
        .await;
        until("nothing more is taken", || {
            matches!(handle.generate(request([7])), Err(Error::Stopped { .. }))
        })
        .await;
        engine.drain().await;
    }
}

#[tokio::test]
async fn an_engine_whose_device_hangs_can_be_dropped() {
    let limits = Config {
        batch_max: Duration::from_millis(20),
        ..config()
    };
    let (engine, gate) = start(Scripted::echo(EOS), limits);
    gate.close();
    let generation = engine.handle().generate(request([7; 30])).expect("accepted");
    gate.wait_for_arrivals(1);
    let dropping = std::thread::spawn(move || drop(engine));
    until("it is dropped", || dropping.is_finished()).await;
    // Where the device answers after all, the thread that was left behind ends as it should.
    gate.open();
    assert!(matches!(generation.collect().await, Err(Error::Stopped { .. })));
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
