//! The engine over a scripted runner: joining, leaving, refusing, failing and stopping.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use refract_engine::runner::{Gate, Scripted};
use refract_engine::{
    Config, Engine, Error, Event, Finish, Finished, Generation, GenerationParams, Health, Request,
};

const EOS: u32 = 1;

fn config() -> Config {
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

fn start(runner: Scripted, config: Config) -> (Engine, Gate) {
    let gate = runner.gate();
    (Engine::start(runner, config).expect("a sound config"), gate)
}

fn request(ids: impl Into<Vec<u32>>) -> Request {
    Request::new(ids.into(), GenerationParams::greedy(50, vec![EOS]))
}

fn ids(of: &Finished) -> &[u32] {
    &of.ids
}

/// Waits until the engine's thread has brought about what is asked.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..5_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("waited in vain: {what}");
}

#[tokio::test]
async fn tokens_stream_as_they_are_produced_and_add_up_to_the_result() {
    let (engine, gate) = start(Scripted::echo(EOS), config());
    gate.close();
    let mut generation = engine.handle().generate(request([7, 8, 9])).expect("accepted");
    gate.pass(2); // encode, one step
    assert_eq!(generation.next().await, Some(Ok(Event::Tokens(vec![7]))));
    gate.open();
    let mut seen = vec![7];
    let mut done = None;
    while let Some(event) = StreamExt::next(&mut generation).await {
        match event.expect("no error") {
            Event::Tokens(tokens) => seen.extend(tokens),
            Event::Done(finished) => done = Some(finished),
        }
    }
    let done = done.expect("an end");
    assert_eq!(seen, [7, 8, 9, EOS]);
    assert_eq!(done.ids, seen);
    assert_eq!(
        (done.finish, done.prompt_tokens, done.steps),
        (Finish::Stop, 3, 4)
    );
    assert_eq!(done.hypotheses.len(), 1);
}

#[tokio::test]
async fn the_length_limit_ends_a_sequence() {
    let (engine, _) = start(Scripted::echo(EOS), config());
    let params = GenerationParams::greedy(2, vec![EOS]);
    let done = engine
        .handle()
        .generate(Request::new(vec![7, 8, 9], params))
        .expect("accepted");
    let done = done.collect().await.expect("finished");
    assert_eq!((ids(&done), done.finish), ([7, 8].as_slice(), Finish::Length));
}

#[tokio::test]
async fn sequences_join_while_others_run_and_leave_at_once() {
    let (engine, gate) = start(Scripted::echo(EOS), config());
    let handle = engine.handle();
    gate.close();
    let long = handle.generate(request(vec![5; 20])).expect("accepted");
    gate.wait_for_arrivals(1);
    gate.pass(3); // encode, two steps
    gate.wait_for_arrivals(4); // the third step is at the gate
    let short = handle.generate(request([7, 8])).expect("accepted");
    gate.open();
    let (short, long) = (
        short.collect().await.expect("short"),
        long.collect().await.expect("long"),
    );
    assert_eq!(ids(&short), [7, 8, EOS]);
    assert_eq!(ids(&long).len(), 21);
    let decoded = gate.decoded();
    assert_eq!(decoded[..3], [1, 1, 1]);
    assert_eq!(
        decoded[3..6],
        [2, 2, 2],
        "the short one joined for its three steps"
    );
    assert!(
        decoded[6..].iter().all(|rows| *rows == 1),
        "and left at once: {decoded:?}"
    );
}

#[tokio::test]
async fn dropping_a_generation_frees_its_place() {
    let (engine, gate) = start(
        Scripted::echo(EOS),
        Config {
            running_sequences_max: 1,
            ..config()
        },
    );
    let handle = engine.handle();
    gate.close();
    let first = handle.generate(request(vec![5; 40])).expect("accepted");
    gate.wait_for_arrivals(1);
    let second = handle.generate(request([7])).expect("accepted");
    gate.pass(4);
    gate.wait_for_arrivals(5);
    drop(first);
    gate.open();
    assert_eq!(ids(&second.collect().await.expect("the place is free")), [7, EOS]);
    until("all memory is given back", || handle.stats().kv_tokens_used == 0).await;
    let stats = handle.stats();
    assert_eq!(
        (stats.cancelled, stats.finished, stats.running_sequences),
        (1, 1, 0)
    );
    assert!(
        gate.decoded().len() < 12,
        "the cancelled sequence was not decoded to its end"
    );
}

#[tokio::test]
async fn dropping_a_waiting_generation_frees_the_queue() {
    let (engine, gate) = start(
        Scripted::echo(EOS),
        Config {
            running_sequences_max: 1,
            queue_sequences_max: 1,
            ..config()
        },
    );
    let handle = engine.handle();
    gate.close();
    let first = handle.generate(request(vec![5; 10])).expect("accepted");
    gate.wait_for_arrivals(1);
    let waiting = handle.generate(request([7])).expect("one may wait");
    assert!(matches!(handle.generate(request([8])), Err(Error::Busy { .. })));
    drop(waiting);
    gate.open();
    until("the queue is empty", || handle.stats().waiting_sequences == 0).await;
    first.collect().await.expect("untouched");
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_by_entries_and_by_tokens() {
    let cost = 3 + 50;
    for (sequences, tokens, accepted) in [(4, 10_000, 4), (64, 3 * cost, 3)] {
        let limits = Config {
            running_sequences_max: 1,
            queue_sequences_max: sequences,
            queue_tokens_max: tokens,
            ..config()
        };
        let (engine, gate) = start(Scripted::echo(EOS), limits);
        let handle = engine.handle();
        gate.close();
        let running = handle.generate(request([5, 5, 5])).expect("accepted");
        gate.wait_for_arrivals(1);
        let waiting: Vec<Generation> = (0..accepted)
            .map(|_| handle.generate(request([7, 8, 9])).expect("room in the queue"))
            .collect();
        match handle.generate(request([7, 8, 9])) {
            Err(Error::Busy {
                waiting_sequences,
                waiting_tokens,
                retry_after,
            }) => {
                assert_eq!((waiting_sequences, waiting_tokens), (accepted, accepted * cost));
                assert!(retry_after > Duration::ZERO);
            }
            other => panic!("not refused: {other:?}"),
        }
        gate.open();
        running.collect().await.expect("untouched");
        for generation in waiting {
            assert_eq!(
                ids(&generation.collect().await.expect("untouched")),
                [7, 8, 9, EOS]
            );
        }
        assert!(handle.generate(request([7])).is_ok(), "room again");
    }
}

#[tokio::test]
async fn impossible_requests_are_refused_with_their_numbers() {
    let (engine, gate) = start(Scripted::echo(EOS), config());
    let handle = engine.handle();
    let greedy = |n| GenerationParams::greedy(n, vec![EOS]);
    let refusal = |request: Request| {
        handle
            .generate(request)
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default()
    };
    assert_eq!(refusal(request([])), "invalid ids: the prompt is empty");
    assert_eq!(
        refusal(request(vec![5; 61])),
        "prompt of 61 tokens exceeds prompt_tokens_max 60"
    );
    assert_eq!(
        refusal(request([5, 100])),
        "invalid ids: [1] is outside the vocabulary of 100"
    );
    assert_eq!(
        refusal(Request::new(vec![5], greedy(61))),
        "max_new_tokens 61 exceeds new_tokens_max 60"
    );
    assert_eq!(
        refusal(Request::new(vec![5], greedy(0))),
        "invalid max_new_tokens: must be at least 1"
    );
    let wide = GenerationParams {
        num_beams: 9,
        ..greedy(5)
    };
    assert_eq!(
        refusal(Request::new(vec![5], wide)),
        "invalid num_beams: 9 exceeds sequence_rows_max 8"
    );
    let late = Request {
        deadline: Some(Instant::now()),
        ..request([5])
    };
    assert_eq!(refusal(late), "deadline exceeded");
    assert_eq!(gate.arrived(), 0, "nothing reached the runner");
    let small = Config {
        kv_tokens_max: 50,
        ..config()
    };
    let (engine, _) = start(Scripted::echo(EOS), small);
    let refused = engine.handle().generate(request([5])).err();
    assert_eq!(
        refused,
        Some(Error::TooLarge {
            tokens: 51,
            tokens_max: 50
        })
    );
}

#[tokio::test]
async fn a_deadline_that_passes_in_the_queue_drops_the_sequence_unstarted() {
    let (engine, gate) = start(
        Scripted::echo(EOS),
        Config {
            running_sequences_max: 1,
            ..config()
        },
    );
    let handle = engine.handle();
    gate.close();
    let first = handle.generate(request([5])).expect("accepted");
    gate.wait_for_arrivals(1);
    let deadline = Instant::now() + Duration::from_millis(5);
    let late = handle
        .generate(Request {
            deadline: Some(deadline),
            ..request([7])
        })
        .expect("accepted");
    while Instant::now() <= deadline {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    gate.open();
    assert_eq!(late.collect().await, Err(Error::DeadlineExceeded));
    assert_eq!(ids(&first.collect().await.expect("untouched")), [5, EOS]);
    assert_eq!(gate.encoded(), [1], "the late one was never encoded");
}

#[tokio::test]
async fn a_running_sequence_ends_at_its_deadline() {
    let (engine, gate) = start(Scripted::echo(EOS), config());
    gate.close();
    let deadline = Instant::now() + Duration::from_millis(5);
    let generation = engine
        .handle()
        .generate(Request {
            deadline: Some(deadline),
            ..request(vec![7; 40])
        })
        .expect("accepted");
    gate.wait_for_arrivals(1);
    while Instant::now() <= deadline {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    gate.open();
    assert_eq!(generation.collect().await, Err(Error::DeadlineExceeded));
    until("memory is given back", || engine.stats().kv_tokens_used == 0).await;
}

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

#[tokio::test]
async fn a_slow_reader_holds_up_nobody_and_finds_its_tokens_in_one_batch() {
    let (engine, _) = start(Scripted::echo(EOS), config());
    let handle = engine.handle();
    let mut slow = handle.generate(request(vec![7; 30])).expect("accepted");
    let fast = handle.generate(request(vec![8; 40])).expect("accepted");
    assert_eq!(fast.collect().await.expect("not held up").ids.len(), 41);
    until("the slow one is finished too", || handle.stats().finished == 2).await;
    let Some(Ok(Event::Tokens(tokens))) = slow.next().await else {
        panic!("no tokens")
    };
    assert_eq!(tokens.len(), 31);
    assert!(matches!(slow.next().await, Some(Ok(Event::Done(done))) if done.ids == tokens));
    assert_eq!(slow.next().await, None);
}

#[tokio::test]
async fn draining_finishes_what_was_accepted_and_takes_nothing_new() {
    let (engine, gate) = start(
        Scripted::echo(EOS),
        Config {
            running_sequences_max: 1,
            ..config()
        },
    );
    let handle = engine.handle();
    gate.close();
    let running = handle.generate(request([5, 6])).expect("accepted");
    gate.wait_for_arrivals(1);
    let waiting = handle.generate(request([7, 8])).expect("accepted");
    let drained = engine.drain();
    tokio::pin!(drained);
    assert!(futures_util::poll!(&mut drained).is_pending());
    assert!(matches!(handle.generate(request([9])), Err(Error::Draining)));
    assert_eq!(*engine.health().borrow(), Health::Draining);
    gate.open();
    drained.await;
    assert_eq!(ids(&running.collect().await.expect("finished")), [5, 6, EOS]);
    assert_eq!(ids(&waiting.collect().await.expect("finished")), [7, 8, EOS]);
    assert_eq!(*engine.health().borrow(), Health::Stopped);
    assert!(matches!(
        handle.generate(request([9])),
        Err(Error::Stopped { .. })
    ));
}

#[tokio::test]
async fn dropping_the_engine_ends_everything() {
    let (engine, gate) = start(Scripted::echo(EOS), config());
    gate.close();
    let generation = engine.handle().generate(request(vec![5; 40])).expect("accepted");
    gate.wait_for_arrivals(1);
    let dropping = std::thread::spawn(move || drop(engine));
    gate.open();
    dropping.join().expect("no panic");
    assert!(matches!(
        generation.collect().await,
        Err(Error::Stopped { .. }) | Ok(_)
    ));
}

#[tokio::test]
async fn warming_up_runs_a_tiny_and_a_full_batch() {
    let (engine, gate) = start(
        Scripted::echo(EOS),
        Config {
            step_encode_tokens_max: 240,
            ..config()
        },
    );
    assert_eq!(*engine.health().borrow(), Health::Starting);
    engine.warm_up().await.expect("warm");
    assert_eq!(*engine.health().borrow(), Health::Healthy);
    assert_eq!(gate.encoded()[0], 1);
    assert_eq!(
        gate.encoded()[1..].iter().sum::<usize>(),
        4,
        "four prompts of sixty tokens"
    );
}

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

#[test]
fn contradictory_limits_are_refused_at_the_start() {
    for (bad, field) in [
        (
            Config {
                running_rows_max: 4,
                ..config()
            },
            "sequence_rows_max",
        ),
        (
            Config {
                step_encode_tokens_max: 59,
                ..config()
            },
            "step_encode_tokens_max",
        ),
        (
            Config {
                step_decode_tokens_max: 63,
                ..config()
            },
            "step_decode_tokens_max",
        ),
        (
            Config {
                queue_sequences_max: 0,
                ..config()
            },
            "queue_sequences_max",
        ),
    ] {
        match Engine::start(Scripted::echo(EOS), bad) {
            Err(Error::Config { field: got, .. }) => assert_eq!(got, field),
            other => panic!("{field} was accepted: {other:?}"),
        }
    }
}
