//! Fixtures and small helpers that the tests share.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use refract_model::{Cross, CrossBatch, Dtype, LoadOptions, Model, OwnKv, PairRows};
use serde_json::Value;

pub(crate) const FIXTURES: [&str; 8] = [
    "t5-gated-untied",
    "t5-relu-tied",
    "t5-unequal",
    "t5-sharded",
    "bart-plain",
    "bart-forced",
    "bart-unequal",
    "bart-pairs",
];

pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

pub(crate) fn json(file: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

pub(crate) fn load(name: &str) -> Model {
    load_as(name, Dtype::F32)
}

pub(crate) fn load_as(name: &str, dtype: Dtype) -> Model {
    Model::load(
        &path(name),
        &LoadOptions {
            dtype,
            ..LoadOptions::default()
        },
    )
    .unwrap()
}

/// What `inputs.json` and `logits.safetensors` hold.
pub(crate) struct Inputs {
    pub(crate) sources: Vec<Vec<u32>>,
    pub(crate) pairs: Option<Vec<PairRows>>,
    pub(crate) decoder: Vec<Vec<u32>>,
    /// Of each sequence, `[decoder ids, vocab]`.
    pub(crate) logits: Vec<Tensor>,
}

pub(crate) fn inputs(name: &str) -> Inputs {
    let given = json(&path(name).join("inputs.json"));
    let logits: HashMap<String, Tensor> =
        candle_core::safetensors::load(path(name).join("logits.safetensors"), &Device::Cpu).unwrap();
    let sources = id_lists(&given["sources"]);
    Inputs {
        pairs: pairs(&given["pairs"]),
        decoder: id_lists(&given["decoder"]),
        logits: (0..sources.len())
            .map(|i| logits[&i.to_string()].clone())
            .collect(),
        sources,
    }
}

pub(crate) fn ids(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_u64().unwrap() as u32)
        .collect()
}

pub(crate) fn id_lists(value: &Value) -> Vec<Vec<u32>> {
    value.as_array().unwrap().iter().map(ids).collect()
}

pub(crate) fn pair(value: &Value) -> Option<PairRows> {
    let row = |key: &str| value[key].as_u64().map(|n| n as u32);
    Some(PairRows {
        user: row("user")?,
        item: row("item")?,
    })
}

pub(crate) fn pairs(value: &Value) -> Option<Vec<PairRows>> {
    value.as_array().map(|all| all.iter().filter_map(pair).collect())
}

pub(crate) fn slices(lists: &[Vec<u32>]) -> Vec<&[u32]> {
    lists.iter().map(Vec::as_slice).collect()
}

/// Cross memory of every sequence, encoded together.
pub(crate) fn crosses(model: &Model, inputs: &Inputs) -> Vec<Cross> {
    let encoded = model
        .encode(&slices(&inputs.sources), inputs.pairs.as_deref())
        .unwrap();
    model.cross(&encoded).unwrap()
}

/// Cross memory of one sequence, encoded alone.
pub(crate) fn cross_alone(model: &Model, inputs: &Inputs, i: usize) -> Cross {
    let pair = inputs.pairs.as_ref().map(|pairs| &pairs[i..=i]);
    let encoded = model.encode(&[&inputs.sources[i]], pair).unwrap();
    model.cross(&encoded).unwrap().remove(0)
}

/// Logits `[tokens, vocab]` of one sequence, all its tokens at once.
pub(crate) fn all_at_once(model: &Model, cross: &Cross, decoder: &[u32]) -> Tensor {
    let batch = CrossBatch::gather(model, &[cross]).unwrap();
    let mut own = OwnKv::empty(model);
    own.push_row();
    model
        .decode_many(&[decoder], &mut own, &batch)
        .unwrap()
        .squeeze(0)
        .unwrap()
}

/// The largest difference of two tensors of one shape.
pub(crate) fn distance(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let max = (a - b)
        .unwrap()
        .abs()
        .unwrap()
        .flatten_all()
        .unwrap()
        .max(0)
        .unwrap();
    let max: f32 = max.to_scalar().unwrap();
    assert!(!max.is_nan(), "a number is not a number");
    max
}

#[track_caller]
pub(crate) fn assert_close(a: &Tensor, b: &Tensor, tolerance: f32, what: &str) {
    let distance = distance(a, b);
    assert!(
        distance <= tolerance,
        "{what}: {distance} apart, {tolerance} allowed"
    );
}

/// Root mean square of the difference, as a share of the reference's standard deviation.
#[track_caller]
pub(crate) fn assert_near(logits: &Tensor, expected: &Tensor, share: f32, what: &str) {
    let rms = |x: Tensor| -> f32 {
        x.sqr()
            .unwrap()
            .mean_all()
            .unwrap()
            .sqrt()
            .unwrap()
            .to_scalar()
            .unwrap()
    };
    let mean = expected.mean_all().unwrap();
    let measured = rms((logits - expected).unwrap()) / rms(expected.broadcast_sub(&mean).unwrap());
    assert!(
        measured <= share,
        "{what}: {measured} of the spread, {share} allowed"
    );
}
