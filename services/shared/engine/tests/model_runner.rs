//! The tensor runner keeps its promises: own memory is a cache of ids, whatever is lost, forked or rolled back.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use refract_engine::runner::{
    CrossSlot, DecodeRow, EncodeJob, Logits, ModelRunner, RowMove, RowSlot, Runner, RunnerError, Shape,
};
use refract_engine::{Config, Engine, Error, Generation, GenerationParams, PairRows, Request};
use refract_model::{LoadOptions, Model};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../model/tests/fixtures")
        .join(name)
}

fn model(name: &str) -> Model {
    Model::load(&fixture(name), &LoadOptions::default()).unwrap_or_else(|e| panic!("{name}: {e}"))
}

const MODELS: [&str; 3] = ["t5-gated-untied", "bart-plain", "bart-pairs"];
const PROMPTS: [&[u32]; 3] = [
    &[5, 9, 20, 1],
    &[40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 1],
    &[7, 1],
];

fn pairs(shape: &Shape, n: usize) -> Option<PairRows> {
    shape.pair_tables.map(|_| PairRows {
        user: n as u32,
        item: 2 * n as u32,
    })
}

fn encoded(name: &str) -> ModelRunner {
    let mut runner = ModelRunner::new(model(name));
    let shape = runner.shape();
    let jobs: Vec<_> = PROMPTS
        .iter()
        .enumerate()
        .map(|(n, ids)| EncodeJob {
            cross: CrossSlot(n as u32),
            ids,
            pairs: pairs(&shape, n),
        })
        .collect();
    runner.encode(&jobs).expect("encoded");
    runner
}

/// Logits of rows given as (row, cross, ids, kept, wanted).
fn decode(runner: &mut ModelRunner, rows: &[(u32, u32, &[u32], usize, usize)]) -> Vec<Vec<f32>> {
    let vocab = runner.shape().vocab;
    let rows: Vec<DecodeRow<'_>> = rows
        .iter()
        .map(|(row, cross, ids, kept, wanted)| DecodeRow {
            row: RowSlot(*row),
            cross: CrossSlot(*cross),
            ids,
            kept: *kept,
            wanted: *wanted,
            best: 0,
        })
        .collect();
    let lines: usize = rows.iter().map(|r| r.wanted).sum();
    let mut data = vec![f32::NAN; lines * vocab];
    runner
        .decode(&rows, &mut Logits::new(vocab, &mut data))
        .expect("decoded");
    data.chunks_exact(vocab).map(<[f32]>::to_vec).collect()
}

fn assert_near(got: &[f32], want: &[f32], what: &str) {
    let worst = got
        .iter()
        .zip(want)
        .map(|(g, w)| (g - w).abs())
        .fold(0.0, f32::max);
    assert!(worst < 1e-4, "{what}: off by {worst}");
}

/// What a fresh runner says after `ids`, fed one at a time, alone.
fn truth(name: &str, cross: u32, ids: &[u32]) -> Vec<Vec<f32>> {
    let mut runner = encoded(name);
    (1..=ids.len())
        .map(|n| decode(&mut runner, &[(0, cross, &ids[..n], n - 1, 1)]).remove(0))
        .collect()
}

#[test]
fn rows_join_leave_and_fork_without_changing_one_another() {
    for name in MODELS {
        let mut runner = encoded(name);
        let (a, b, c) = ([0, 10, 11, 12, 13], [0, 20, 21, 22, 23], [0, 30, 31, 32]);
        let (ta, tb, tc) = (truth(name, 0, &a), truth(name, 1, &b), truth(name, 2, &c));
        let got = decode(&mut runner, &[(4, 0, &a[..1], 0, 1)]);
        assert_near(&got[0], &ta[0], name);
        // B joins; then C, before A in the call.
        let got = decode(&mut runner, &[(4, 0, &a[..2], 1, 1), (2, 1, &b[..1], 0, 1)]);
        assert_near(&got[0], &ta[1], name);
        assert_near(&got[1], &tb[0], name);
        let got = decode(
            &mut runner,
            &[
                (7, 2, &c[..1], 0, 1),
                (4, 0, &a[..3], 2, 1),
                (2, 1, &b[..2], 1, 1),
            ],
        );
        assert_near(&got[0], &tc[0], name);
        assert_near(&got[1], &ta[2], name);
        assert_near(&got[2], &tb[1], name);
        // B forks, its two rows swap places by way of the moves, and A leaves.
        runner.reorder(&[RowMove {
            to: RowSlot(9),
            from: RowSlot(2),
        }]);
        runner.reorder(&[
            RowMove {
                to: RowSlot(9),
                from: RowSlot(2),
            },
            RowMove {
                to: RowSlot(2),
                from: RowSlot(9),
            },
        ]);
        runner.release_rows(&[RowSlot(4)]);
        runner.release_cross(CrossSlot(0));
        let other = [0, 20, 50];
        let to = truth(name, 1, &other);
        let got = decode(
            &mut runner,
            &[(2, 1, &b[..3], 2, 1), (9, 1, &other, 2, 1), (7, 2, &c[..2], 1, 1)],
        );
        assert_near(&got[0], &tb[2], name);
        assert_near(&got[1], &to[2], name);
        assert_near(&got[2], &tc[1], name);
        // The freed cross slot gets a new tenant of another length.
        let shape = runner.shape();
        runner
            .encode(&[EncodeJob {
                cross: CrossSlot(0),
                ids: PROMPTS[1],
                pairs: pairs(&shape, 1),
            }])
            .expect("encoded");
        let got = decode(&mut runner, &[(2, 1, &b[..4], 3, 1), (4, 0, &b[..1], 0, 1)]);
        assert_near(&got[0], &tb[3], name);
        assert_near(&got[1], &tb[0], name);
        runner.release_rows(&[RowSlot(2), RowSlot(4)]);
        for n in 0..3 {
            runner.release_cross(CrossSlot(n));
        }
        assert_eq!(runner.bytes(), 0, "nothing is held for nobody");
    }
}

#[test]
fn own_memory_is_rebuilt_from_ids_whenever_it_is_lost() {
    for name in MODELS {
        let mut runner = encoded(name);
        let (a, b) = ([0, 10, 11, 12, 13, 14], [0, 20, 21, 22]);
        let (ta, tb) = (truth(name, 0, &a), truth(name, 1, &b));
        // Never seen before, in the middle of their decoding, of different ages.
        let got = decode(&mut runner, &[(0, 0, &a[..4], 3, 1), (1, 1, &b[..1], 0, 1)]);
        assert_near(&got[0], &ta[3], name);
        assert_near(&got[1], &tb[0], name);
        // One is not named for a step, then comes back; later both are lost.
        let got = decode(&mut runner, &[(0, 0, &a[..5], 4, 1)]);
        assert_near(&got[0], &ta[4], name);
        let got = decode(&mut runner, &[(1, 1, &b[..3], 2, 1), (0, 0, &a, 5, 1)]);
        assert_near(&got[0], &tb[2], name);
        assert_near(&got[1], &ta[5], name);
        runner.release_rows(&[RowSlot(0), RowSlot(1)]);
        let got = decode(&mut runner, &[(1, 1, &b, 3, 1), (0, 0, &a, 5, 1)]);
        assert_near(&got[0], &tb[3], name);
        assert_near(&got[1], &ta[5], name);
    }
}

#[test]
fn drafts_are_verified_in_one_call_and_rolled_back() {
    for name in MODELS {
        let mut runner = encoded(name);
        let (a, b) = ([0, 10, 11, 12, 13, 14], [0, 20, 21, 22]);
        let wrong = [0, 10, 11, 70, 71];
        let (ta, tb, tw) = (truth(name, 0, &a), truth(name, 1, &b), truth(name, 0, &wrong));
        decode(&mut runner, &[(0, 0, &a[..2], 1, 1), (1, 1, &b[..1], 0, 1)]);
        // A draft of two after one sure token, beside a row that has none.
        let got = decode(&mut runner, &[(0, 0, &wrong, 2, 3), (1, 1, &b[..2], 1, 1)]);
        for (line, at) in [(0, 2), (1, 3), (2, 4)] {
            assert_near(&got[line], &tw[at], name);
        }
        assert_near(&got[3], &tb[1], name);
        // The draft is refused.
        let got = decode(&mut runner, &[(0, 0, &a[..4], 3, 1), (1, 1, &b[..3], 2, 1)]);
        assert_near(&got[0], &ta[3], name);
        assert_near(&got[1], &tb[2], name);
        let got = decode(&mut runner, &[(0, 0, &a[..5], 4, 1), (1, 1, &b, 3, 1)]);
        assert_near(&got[0], &ta[4], name);
        assert_near(&got[1], &tb[3], name);
    }
}

#[test]
fn a_bug_above_is_an_error_and_no_panic() {
    let mut runner = encoded("t5-gated-untied");
    let mut data = vec![0.0; runner.shape().vocab];
    let vocab = runner.shape().vocab;
    for (cross, kept, wanted) in [(9, 0, 1), (0, 1, 1), (0, 0, 0), (0, 0, 2)] {
        let row = DecodeRow {
            row: RowSlot(0),
            cross: CrossSlot(cross),
            ids: &[0],
            kept,
            wanted,
            best: 0,
        };
        assert!(
            runner.decode(&[row], &mut Logits::new(vocab, &mut data)).is_err(),
            "{cross} {kept} {wanted}"
        );
    }
}

#[test]
fn the_likeliest_found_where_the_scores_are_are_those_that_the_host_would_find() {
    for name in MODELS {
        let vocab = encoded(name).shape().vocab;
        let lines = |chooses, best, takes| {
            let mut runner = encoded(name).choosing(chooses);
            let row = |n: u32, ids, wanted| DecodeRow {
                row: RowSlot(n),
                cross: CrossSlot(n),
                ids,
                kept: 0,
                wanted,
                best,
            };
            let rows = [row(0, &[0, 7, 9, 11][..], 4), row(1, &[0, 8], 2), row(2, &[0], 1)];
            let mut data = vec![f32::NAN; 7 * vocab];
            let mut told = vec![None; if takes { 7 } else { 0 }];
            runner
                .decode(&rows, &mut Logits::with_likeliest(vocab, &mut data, &mut told))
                .expect("decoded");
            (data, told)
        };
        let (all, _) = lines(false, 3, true);
        for (chooses, best, takes) in [(false, 3, true), (true, 0, true), (true, 3, false)] {
            let (data, told) = lines(chooses, best, takes);
            assert_eq!(data, all, "{name}: whoever wants all scores gets them");
            assert!(told.iter().all(Option::is_none));
        }
        for wanted in [1, 8] {
            let (_, told) = lines(true, wanted, true);
            for (line, (told, all)) in told.iter().zip(all.chunks(vocab)).enumerate() {
                let told = told.as_ref().expect("no line has equals among its best");
                let mut order: Vec<(u32, f32)> = (0..).zip(all.iter().copied()).collect();
                order.sort_by(|a, b| b.1.total_cmp(&a.1));
                let best = &order[..wanted];
                assert!(
                    best.iter().all(|token| told.tokens.contains(token)),
                    "{name}: line {line}"
                );
                let sum: f64 = all.iter().map(|x| f64::from(*x).exp()).sum();
                assert!((f64::from(told.log_sum) - sum.ln()).abs() < 1e-4);
            }
        }
    }
}

/// Fails whenever a poisoned prompt is decoded, after the model has run; and loses rows of its own accord.
struct Flaky {
    inner: ModelRunner,
    poison: u32,
    poisoned: HashSet<CrossSlot>,
    calls: usize,
}

impl Runner for Flaky {
    fn shape(&self) -> Shape {
        self.inner.shape()
    }

    fn encode(&mut self, jobs: &[EncodeJob<'_>]) -> Result<(), RunnerError> {
        for job in jobs {
            if job.ids.contains(&self.poison) {
                self.poisoned.insert(job.cross);
            } else {
                self.poisoned.remove(&job.cross);
            }
        }
        self.inner.encode(jobs)
    }

    fn decode(&mut self, rows: &[DecodeRow<'_>], logits: &mut Logits<'_>) -> Result<(), RunnerError> {
        self.calls += 1;
        if self.calls.is_multiple_of(5) {
            self.inner.release_rows(&[rows[self.calls % rows.len()].row]);
        }
        self.inner.decode(rows, logits)?;
        if rows
            .iter()
            .any(|r| self.poisoned.contains(&r.cross) && r.ids.len() == 6)
        {
            return Err(RunnerError::new("a poisoned row"));
        }
        Ok(())
    }

    fn reorder(&mut self, moves: &[RowMove]) {
        self.inner.reorder(moves);
    }

    fn release_rows(&mut self, rows: &[RowSlot]) {
        self.inner.release_rows(rows);
    }

    fn release_cross(&mut self, cross: CrossSlot) {
        self.inner.release_cross(cross);
    }

    fn bytes(&self) -> usize {
        self.inner.bytes()
    }
}

#[tokio::test]
async fn a_failing_device_changes_no_innocent_token() {
    for name in MODELS {
        let model = model(name);
        let plain = GenerationParams::for_model(model.spec(), model.generation_defaults());
        let shape = ModelRunner::new(model.clone()).shape();
        let request = |i: usize| {
            let last = if i == 3 { 90 } else { 30 };
            let ids: Vec<u32> = (0..2 + i as u32)
                .map(|n| 10 + (n * 7 + i as u32) % 60)
                .chain([last, 1])
                .collect();
            let params = GenerationParams {
                max_new_tokens: 12 + i,
                min_new_tokens: 8,
                num_beams: 1 + i % 4,
                no_repeat_ngram_size: 3,
                ..plain.clone()
            };
            Request {
                pairs: pairs(&shape, i),
                ..Request::new(ids, params)
            }
        };
        let sound = Engine::for_model(model.clone(), Config::default()).expect("a sound config");
        let flaky = Flaky {
            inner: ModelRunner::new(model),
            poison: 90,
            poisoned: HashSet::new(),
            calls: 0,
        };
        let flaky = Engine::start(flaky, Config::default()).expect("a sound config");
        let run = |engine: &Engine| -> Vec<Generation> {
            (0..9)
                .map(|i| engine.handle().generate(request(i)).expect("accepted"))
                .collect()
        };
        for (i, (sound, flaky)) in run(&sound).into_iter().zip(run(&flaky)).enumerate() {
            let want = sound.collect().await.expect("finished");
            match flaky.collect().await {
                Ok(got) => {
                    assert_ne!(i, 3, "{name}: the poisoned one failed");
                    assert_eq!(got.ids, want.ids, "{name}: sequence {i}");
                }
                Err(error) => {
                    assert_eq!(
                        (i, error),
                        (
                            3,
                            Error::ModelFault {
                                reason: "a poisoned row".to_owned()
                            }
                        ),
                        "{name}"
                    );
                }
            }
        }
    }
}
