//! A T5 that several ranks hold together says what it says alone.

mod common;

use std::sync::Arc;

use candle_core::Device;
use common::*;
use refract_model::parallel::{Collective, InProcess, divisions};
use refract_model::{Config, CrossBatch, Dtype, Error, LoadOptions, Model, OwnKv};

/// Sums over ranks are added in another order than those of one product.
const REORDERED: f32 = 2e-5;

/// Eight bits of mantissa through every layer: how far logits may move, as a share of their spread.
const BF16_SHARE: f32 = 0.06;

/// Runs `work` on every rank's part of a fixture, each on a thread of its own.
fn on_each<T: Send>(name: &str, ranks: usize, work: impl Fn(&Model) -> T + Sync) -> Vec<T> {
    let threads = InProcess::new(ranks).into_iter().map(Arc::new);
    std::thread::scope(|scope| {
        let threads: Vec<_> = threads
            .map(|collective| {
                let work = &work;
                scope.spawn(move || work(&load_part(name, collective).unwrap()))
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    })
}

fn load_part(name: &str, collective: Arc<dyn Collective>) -> Result<Model, Error> {
    Model::load(
        &path(name),
        &LoadOptions {
            collective: Some(collective),
            ..LoadOptions::default()
        },
    )
}

#[test]
fn two_and_four_ranks_say_what_one_says_in_a_ragged_batch() {
    for (name, ranks) in [
        ("t5-gated-untied", 2),
        ("t5-gated-untied", 4),
        ("t5-relu-tied", 2),
        ("t5-relu-tied", 4),
        ("t5-sharded", 4),
        // Three heads, and 48 inner units.
        ("t5-unequal", 3),
    ] {
        let inputs = inputs(name);
        let together = |model: &Model| {
            let crosses = crosses(model, &inputs);
            let batch = CrossBatch::gather(model, &crosses.iter().collect::<Vec<_>>()).unwrap();
            let mut own = OwnKv::empty(model);
            inputs.sources.iter().for_each(|_| own.push_row());
            model
                .decode_many(&slices(&inputs.decoder), &mut own, &batch)
                .unwrap()
        };
        let alone = together(&load(name));
        let parts = on_each(name, ranks, together);
        for (rank, logits) in parts.iter().enumerate() {
            for (i, decoder) in inputs.decoder.iter().enumerate() {
                let row = logits.get(i).unwrap().narrow(0, 0, decoder.len()).unwrap();
                let what = format!("{name}, rank {rank} of {ranks}, sequence {i}");
                assert_close(
                    &row,
                    &alone.get(i).unwrap().narrow(0, 0, decoder.len()).unwrap(),
                    REORDERED,
                    &what,
                );
                assert_close(
                    &row,
                    &inputs.logits[i],
                    1e-4,
                    &format!("{what} against the reference"),
                );
            }
            let first: Vec<f32> = parts[0].flatten_all().unwrap().to_vec1().unwrap();
            let own: Vec<f32> = logits.flatten_all().unwrap().to_vec1().unwrap();
            assert_eq!(first, own, "{name}: ranks 0 and {rank} of {ranks} differ");
        }
    }
}

#[test]
fn a_rank_holds_its_share_of_keys_and_values() {
    let bytes = |model: &Model| {
        let inputs = inputs("t5-gated-untied");
        crosses(model, &inputs).iter().map(|c| c.bytes()).sum::<usize>()
    };
    let alone = bytes(&load("t5-gated-untied"));
    assert_eq!(on_each("t5-gated-untied", 4, bytes), vec![alone / 4; 4]);
}

#[test]
fn half_precision_is_divided_too() {
    let name = "t5-gated-untied";
    let options = |collective: Option<Arc<dyn Collective>>| LoadOptions {
        dtype: Dtype::Bf16,
        device: Device::Cpu,
        collective,
    };
    let inputs = inputs(name);
    let first = |model: &Model| all_at_once(model, &cross_alone(model, &inputs, 0), &inputs.decoder[0]);
    let alone = first(&Model::load(&path(name), &options(None)).unwrap());
    let parts: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = InProcess::new(2)
            .into_iter()
            .map(|c| {
                let (options, first) = (&options, &first);
                scope.spawn(move || first(&Model::load(&path(name), &options(Some(Arc::new(c)))).unwrap()))
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    parts
        .iter()
        .for_each(|part| assert_near(part, &alone, BF16_SHARE, name));
}

#[test]
fn what_does_not_divide_is_refused_with_what_would() {
    let refused = |name: &str, ranks: usize| {
        let collective = InProcess::new(ranks).remove(0);
        load_part(name, Arc::new(collective)).unwrap_err().to_string()
    };
    let error = refused("t5-gated-untied", 3);
    assert!(
        error.contains("3 does not divide 4 heads and 48 inner units"),
        "{error}"
    );
    assert!(error.ends_with("1, 2, 4 would"), "{error}");
    assert!(refused("bart-plain", 2).contains("BART"));
    let Config::T5(config) = Config::read(&path("t5-unequal")).unwrap() else {
        panic!("a T5");
    };
    assert_eq!(divisions(&config), [1, 3]);
}
