//! Parity with Hugging Face's `generate`: the same ids and sequence scores, alone and in a mixed batch.
//!
//! `fixtures/bigram.json` (see `make_bigram.py`) tries the decoding rules and beam search in hundreds of settings over a
//! model that is two tables; the fixtures of `refract-model` (see its `make_fixtures.py`) try the whole engine on T5 and
//! BART.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use refract_engine::runner::{
    CpuOptions, CpuRunner, EncodeCost, ModelRunner, ParallelOptions, ParallelRunner, Precision, Runner,
    Scripted, Shape,
};
use refract_engine::{
    Config, DeviceName, EarlyStopping, Engine, Finish, Finished, Generation, GenerationParams, Hypothesis,
    PairRows, Request,
};
use refract_model::parallel::divisions;
use refract_model::{Dtype, Ids, LoadOptions, Model};
use serde::Deserialize;
use serde_json::Value;

/// Absolute; relative where a negative length penalty makes scores of hundreds (an f32 step there is 6e-5).
const SCORE_TOLERANCE: f32 = 1e-4;

#[derive(Deserialize)]
struct Output {
    ids: Vec<u32>,
    score: Option<f32>,
    /// `eos` or `length`, where the fixture says so.
    finish: Option<String>,
}

/// Puts keyword arguments of `generate` over parameters.
fn with_settings(mut params: GenerationParams, settings: &BTreeMap<String, Value>) -> GenerationParams {
    fn read<T: serde::de::DeserializeOwned>(value: &Value) -> T {
        serde_json::from_value(value.clone()).expect("a value of the expected type")
    }
    for (name, value) in settings {
        match name.as_str() {
            "max_new_tokens" => params.max_new_tokens = read(value),
            "max_length" => params.max_new_tokens = read::<usize>(value) - 1,
            "min_new_tokens" => params.min_new_tokens = read(value),
            "min_length" => params.min_new_tokens = read::<usize>(value).saturating_sub(1),
            "num_beams" => params.num_beams = read(value),
            "num_return_sequences" => params.num_return_sequences = read(value),
            "length_penalty" => params.length_penalty = read(value),
            "repetition_penalty" => params.repetition_penalty = read(value),
            "no_repeat_ngram_size" => params.no_repeat_ngram_size = read(value),
            "forced_bos_token_id" => params.forced_bos = read(value),
            "forced_eos_token_id" => {
                params.forced_eos = read::<Option<Ids>>(value).map_or_else(Vec::new, |ids| ids.to_vec())
            }
            "bad_words_ids" => params.bad_words = read(value),
            "suppress_tokens" => params.suppress_tokens = read(value),
            "begin_suppress_tokens" => params.begin_suppress_tokens = read(value),
            "early_stopping" => {
                params.early_stopping = match value {
                    Value::Bool(true) => EarlyStopping::Yes,
                    Value::Bool(false) => EarlyStopping::No,
                    _ => EarlyStopping::Never,
                }
            }
            other => panic!("the fixture has an unknown setting {other}"),
        }
    }
    params
}

fn assert_same(what: &str, got: &[Hypothesis], want: &[Output]) {
    assert_eq!(got.len(), want.len(), "{what}: number of results");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert_eq!(got.ids, want.ids, "{what}: ids of result {i}");
        match (got.score, want.score) {
            (Some(got), Some(want)) => {
                assert!(
                    (got - want).abs() <= SCORE_TOLERANCE * want.abs().max(1.0),
                    "{what}: score of result {i}: {got}, not {want}"
                );
            }
            (got, want) => assert_eq!(got, want, "{what}: score of result {i}"),
        }
        if let Some(finish) = &want.finish {
            let finish = if finish == "eos" {
                Finish::Stop
            } else {
                Finish::Length
            };
            assert_eq!(got.finish, finish, "{what}: end of result {i}");
        }
    }
}

/// Runs requests one after the other, then all at once; both must be the same.
async fn alone_and_together(engine: &Engine, requests: &[Request]) -> (Vec<Finished>, Vec<Finished>) {
    let handle = engine.handle();
    let mut alone = Vec::new();
    for request in requests {
        alone.push(
            handle
                .generate(request.clone())
                .expect("accepted")
                .collect()
                .await
                .expect("finished"),
        );
    }
    let running: Vec<Generation> = requests
        .iter()
        .map(|r| handle.generate(r.clone()).expect("accepted"))
        .collect();
    let mut together = Vec::new();
    for generation in running {
        together.push(generation.collect().await.expect("finished"));
    }
    (alone, together)
}

#[derive(Deserialize)]
struct Bigram {
    table: Vec<Vec<f32>>,
    drift: Vec<Vec<f32>>,
    cases: Vec<BigramCase>,
}

#[derive(Deserialize)]
struct BigramCase {
    settings: BTreeMap<String, Value>,
    eos: Vec<u32>,
    outputs: Vec<Output>,
}

#[tokio::test]
async fn every_rule_and_beam_setting_decodes_as_the_reference_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bigram.json");
    let text = std::fs::read_to_string(&path).expect("the fixture is committed");
    let Bigram { table, drift, cases } = serde_json::from_str(&text).expect("a sound fixture");
    let shape = Shape {
        exact_drafts: true,
        vocab: table.len(),
        decoder_start: 0,
        prompt_positions_max: None,
        own_positions_max: None,
        pair_tables: None,
        encode_cost: EncodeCost::Padded,
    };
    let runner = Scripted::new(shape, move |_, ids, line| {
        let by_token = &table[*ids.last().expect("never empty") as usize];
        for ((x, t), d) in line.iter_mut().zip(by_token).zip(&drift[ids.len() - 1]) {
            *x = t + d;
        }
    });
    let config = Config {
        queue_sequences_max: 1000,
        queue_tokens_max: 1_000_000,
        ..Config::default()
    };
    let engine = Engine::start(runner, config).expect("a sound config");
    let request = |case: &BigramCase| {
        Request::new(
            vec![5, 6, 1],
            with_settings(GenerationParams::greedy(1, case.eos.clone()), &case.settings),
        )
    };
    let requests: Vec<Request> = cases.iter().map(request).collect();
    let (alone, together) = alone_and_together(&engine, &requests).await;
    assert!(cases.len() >= 400);
    for ((case, alone), together) in cases.iter().zip(alone).zip(together) {
        let what = format!("{:?} eos {:?}", case.settings, case.eos);
        assert_same(&what, &alone.hypotheses, &case.outputs);
        assert_eq!(alone.hypotheses, together.hypotheses, "{what}: in a batch");
    }
}

#[derive(Deserialize)]
struct ModelCase {
    name: String,
    input: Vec<u32>,
    pair: Option<Pair>,
    settings: BTreeMap<String, Value>,
    outputs: Vec<Output>,
}

#[derive(Deserialize)]
struct Pair {
    user: u32,
    item: u32,
}

fn model_fixtures() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures");
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut found: Vec<PathBuf> = entries
        .map(|e| e.expect("readable").path())
        .filter(|p| p.join("generation.json").is_file())
        .collect();
    found.sort();
    found
}

fn load(dir: &Path) -> (Model, Vec<ModelCase>, Vec<Request>) {
    let model =
        Model::load(dir, &LoadOptions::default()).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let text = std::fs::read_to_string(dir.join("generation.json")).expect("readable");
    let cases: Vec<ModelCase> = serde_json::from_str(&text).expect("a sound fixture");
    let plain = GenerationParams::for_model(model.spec(), model.generation_defaults());
    let requests = cases
        .iter()
        .map(|case| Request {
            pairs: case.pair.as_ref().map(|p| PairRows {
                user: p.user,
                item: p.item,
            }),
            ..Request::new(case.input.clone(), with_settings(plain.clone(), &case.settings))
        })
        .collect();
    (model, cases, requests)
}

/// As a GPU runs them, where steps are recorded.
const FIXED_STEPS: &str = "tensors in steps of fixed shapes";
const PACKED: &str = "packed weights";

/// An engine for each way of running the model in f32.
fn engines(dir: &Path, model: Model, config: &Config) -> Vec<(String, Engine)> {
    let options = CpuOptions {
        precision: Precision::F32,
        threads: 1,
        isa: None,
        nice: 0,
    };
    let divisions = match model_config(dir) {
        refract_model::Config::T5(config) => divisions(&config),
        refract_model::Config::Bart(_) => Vec::new(),
    };
    let cpu = CpuRunner::load(dir, &options).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let start = |runner: Box<dyn Runner>| Engine::start(runner, config.clone()).expect("a sound config");
    let mut engines = vec![
        (
            "tensors, choosing where they are".to_owned(),
            start(Box::new(ModelRunner::new(model.clone()).choosing(true))),
        ),
        (
            FIXED_STEPS.to_owned(),
            start(Box::new(
                ModelRunner::new(model.clone()).choosing(true).recording(true),
            )),
        ),
        ("tensors".to_owned(), start(Box::new(ModelRunner::new(model)))),
        (PACKED.to_owned(), start(Box::new(cpu))),
    ];
    for ranks in divisions.into_iter().filter(|ranks| *ranks > 1) {
        for record_steps in [false, true] {
            let options = ParallelOptions {
                devices: vec![DeviceName::Cpu; ranks],
                dtype: Dtype::F32,
                patience: Duration::from_secs(600),
                record_steps,
            };
            let runner = ParallelRunner::load(dir.to_owned(), &options)
                .unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
            let how = if record_steps { FIXED_STEPS } else { "told" };
            let name = format!("{ranks} ranks, {how}");
            engines.push((name, start(Box::new(runner))));
        }
    }
    engines
}

fn model_config(dir: &Path) -> refract_model::Config {
    refract_model::Config::read(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
}

fn assert_case(dir: &Path, case: &ModelCase, how: &str, got: &Finished) {
    let what = format!(
        "{} {} {how}",
        dir.file_name().unwrap_or_default().display(),
        case.name
    );
    assert_same(&what, &got.hypotheses, &case.outputs);
}

#[tokio::test]
async fn every_model_generates_as_the_reference_does_alone_and_in_a_batch() {
    let fixtures = model_fixtures();
    assert!(!fixtures.is_empty());
    for dir in fixtures {
        let (model, cases, requests) = load(&dir);
        for (runner, engine) in engines(&dir, model, &Config::default()) {
            engine.warm_up().await.expect("warm");
            let (alone, together) = alone_and_together(&engine, &requests).await;
            for ((case, alone), together) in cases.iter().zip(&alone).zip(&together) {
                assert_case(&dir, case, &format!("alone, {runner}"), alone);
                assert_case(&dir, case, &format!("in a batch, {runner}"), together);
            }
            assert_eq!(engine.stats().kv_tokens_used, 0);
            // Recorded steps know their buffers by address: those of one batch stay. Packed weights keep pages for the next.
            assert_eq!(
                engine.stats().kv_bytes > 0,
                runner.ends_with(FIXED_STEPS) || runner == PACKED,
                "{runner}: the runner holds nothing when idle"
            );
        }
    }
}

#[tokio::test]
async fn a_crowded_engine_generates_the_same() {
    // So little room that sequences wait, join and leave all the time.
    for dir in model_fixtures() {
        let (model, cases, requests) = load(&dir);
        let config = Config {
            running_sequences_max: 5,
            running_rows_max: 12,
            sequence_rows_max: 8,
            kv_tokens_max: 900,
            prompt_tokens_max: 80,
            step_encode_tokens_max: 80,
            step_decode_tokens_max: 12,
            ..Config::default()
        };
        for (runner, engine) in engines(&dir, model, &config) {
            let handle = engine.handle();
            let running: Vec<Generation> = requests
                .iter()
                .rev()
                .map(|r| handle.generate(r.clone()).expect("accepted"))
                .collect();
            for (case, generation) in cases.iter().rev().zip(running) {
                let got = generation.collect().await.expect("finished");
                assert_case(&dir, case, &format!("in a crowd, {runner}"), &got);
            }
        }
    }
}
