//! The engine over a scripted runner: joining, leaving, refusing and stopping.

mod common;

use std::time::{Duration, Instant};

use common::{EOS, config, ids, request, start, until};
use futures_util::StreamExt;
use refract_engine::runner::Scripted;
use refract_engine::{Config, Engine, Error, Event, Finish, Generation, GenerationParams, Health, Request};

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
