//! Gradients are those of the reference; training learns; what is saved is what was trained, in Hugging Face's names.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use common::*;
use refract_model::{
    BartConfig, Batch, Config, Dtype, EarlyStopping, GenerationDefaults, LoadOptions, Model, PairRows,
    PairSizes, T5Config, Trainable, cross_entropy,
};

fn number(x: &Tensor) -> f64 {
    f64::from(x.to_scalar::<f32>().unwrap())
}

#[test]
fn losses_and_gradients_are_those_of_the_reference() {
    for name in FIXTURES {
        let file = path(name).join("gradients.json");
        if !file.exists() {
            continue;
        }
        let expected = json(&file);
        let (sources, labels) = (id_lists(&expected["sources"]), id_lists(&expected["labels"]));
        let pairs = pairs(&expected["pairs"]);
        let (sources, labels) = (slices(&sources), slices(&labels));
        let batch = Batch {
            sources: &sources,
            pairs: pairs.as_deref(),
            labels: &labels,
        };
        let trainable = Trainable::load(&path(name), &Device::Cpu).unwrap();
        for (smoothing, loss) in expected["label_smoothing"].as_object().unwrap() {
            let ours = number(&trainable.loss(&batch, smoothing.parse().unwrap(), None).unwrap());
            let theirs = loss.as_f64().unwrap();
            assert!(
                (ours - theirs).abs() < 1e-4 * theirs,
                "{name} smoothing {smoothing}: {ours}, not {theirs}"
            );
        }
        let gradients = trainable.loss(&batch, 0.1, None).unwrap().backward().unwrap();
        let norms = expected["norms"].as_object().unwrap();
        let parameters = trainable.parameters();
        assert_eq!(
            parameters
                .iter()
                .map(|(n, _)| n.as_str())
                .collect::<BTreeSet<_>>(),
            norms.keys().map(String::as_str).collect::<BTreeSet<_>>(),
            "{name}"
        );
        for (parameter, var) in parameters {
            let gradient = gradients
                .get(&var)
                .unwrap_or_else(|| panic!("{name}: no gradient reaches {parameter}"));
            let ours = number(&gradient.sqr().unwrap().sum_all().unwrap().sqrt().unwrap());
            let theirs = norms[&parameter].as_f64().unwrap();
            assert!(
                (ours - theirs).abs() < 2e-3 * theirs + 2e-6,
                "{name} {parameter}: {ours}, not {theirs}"
            );
        }
    }
}

#[test]
fn in_mixed_precision_losses_and_gradients_stay_near_and_gradients_are_full() {
    for name in FIXTURES {
        let file = path(name).join("gradients.json");
        if !file.exists() {
            continue;
        }
        let expected = json(&file);
        let (sources, labels) = (id_lists(&expected["sources"]), id_lists(&expected["labels"]));
        let pairs = pairs(&expected["pairs"]);
        let (sources, labels) = (slices(&sources), slices(&labels));
        let batch = Batch {
            sources: &sources,
            pairs: pairs.as_deref(),
            labels: &labels,
        };
        let full = Trainable::load(&path(name), &Device::Cpu).unwrap();
        let mixed = Trainable::load(&path(name), &Device::Cpu)
            .unwrap()
            .computing_in(Dtype::Bf16)
            .unwrap();
        let [full, mixed] = [full, mixed].map(|model| {
            let loss = model.loss(&batch, 0.1, None).unwrap();
            let gradients = loss.backward().unwrap();
            let all: Vec<(String, Tensor)> = model
                .parameters()
                .into_iter()
                .map(|(name, var)| (name, gradients.get(&var).unwrap().clone()))
                .collect();
            (number(&loss), all)
        });
        assert!(
            (full.0 - mixed.0).abs() < 1e-2 * full.0,
            "{name}: {} and {}",
            full.0,
            mixed.0
        );
        assert_ne!(full.0, mixed.0, "{name}: nothing was computed in bf16");
        let norm = |x: &Tensor| number(&x.sqr().unwrap().sum_all().unwrap().sqrt().unwrap());
        let (mut apart, mut whole) = (0.0, 0.0);
        for ((parameter, full), (_, mixed)) in full.1.iter().zip(&mixed.1) {
            assert_eq!(mixed.dtype(), DType::F32, "{name} {parameter}");
            apart += norm(&(full - mixed).unwrap()).powi(2);
            whole += norm(full).powi(2);
        }
        let apart = (apart / whole).sqrt();
        // Rounding switches some units of a ReLU on or off, and their whole gradient with them.
        let most = if name.contains("relu") { 0.2 } else { 0.05 };
        assert!(
            apart < most,
            "{name}: gradients are {apart} of their length apart"
        );
    }
}

#[test]
fn mixed_precision_learns_along_the_same_curve_and_fp16_is_refused() {
    for config in [small_t5(false), small_bart(true)] {
        let fresh = || Trainable::random(config.clone(), 3, &Device::Cpu).unwrap();
        let full = learn(&fresh(), 40, 5);
        let mixed = learn(&fresh().computing_in(Dtype::Bf16).unwrap(), 40, 5);
        assert!(
            (full.0 - mixed.0).abs() < 0.01 * full.0 && (full.1 - mixed.1).abs() < 0.1 * full.1 + 0.02,
            "{full:?} and {mixed:?}"
        );
        let error = fresh().computing_in(Dtype::F16).unwrap_err().to_string();
        assert!(error.contains("bf16"), "{error}");
    }
}

#[test]
fn training_and_serving_run_the_same_model() {
    for name in FIXTURES {
        let inputs = inputs(name);
        let trainable = Trainable::load(&path(name), &Device::Cpu).unwrap();
        let start = trainable.model().spec().decoder_start;
        // The decoder inputs, shifted back into labels; the last label is never read.
        let labels: Vec<Vec<u32>> = inputs.decoder.iter().map(|d| [&d[1..], &[5]].concat()).collect();
        assert!(inputs.decoder.iter().all(|d| d[0] == start));
        let (sources, labels) = (slices(&inputs.sources), slices(&labels));
        let batch = Batch {
            sources: &sources,
            pairs: inputs.pairs.as_deref(),
            labels: &labels,
        };
        let logits = trainable.forward(&batch, None).unwrap();
        for (i, expected) in inputs.logits.iter().enumerate() {
            let row = logits.get(i).unwrap().narrow(0, 0, labels[i].len()).unwrap();
            assert_close(&row.detach(), expected, 1e-4, &format!("{name} {i}"));
        }
    }
}

#[test]
fn padding_does_not_count_in_the_loss() {
    let logits = Tensor::new(
        &[[1.0_f32, 2.0, 0.5], [9.0, -3.0, 0.0], [0.1, 0.2, 0.3]],
        &Device::Cpu,
    )
    .unwrap();
    let with = cross_entropy(&logits, &[Some(1), None, Some(2)], 0.1).unwrap();
    let kept = logits
        .index_select(&Tensor::new(&[0_u32, 2], &Device::Cpu).unwrap(), 0)
        .unwrap();
    let without = cross_entropy(&kept, &[Some(1), Some(2)], 0.1).unwrap();
    assert_eq!(number(&with), number(&without));
    assert!(cross_entropy(&logits, &[None, None, None], 0.0).is_err());
    assert!(cross_entropy(&logits, &[Some(1)], 0.0).is_err());
}

fn small_t5(tied: bool) -> Config {
    Config::T5(T5Config {
        vocab_size: 40,
        d_model: 32,
        d_kv: 8,
        d_ff: 48,
        num_layers: 1,
        num_heads: 4,
        feed_forward_proj: if tied { "relu" } else { "gated-gelu" }.to_owned(),
        tie_word_embeddings: tied,
        ..T5Config::default()
    })
}

fn small_bart(pairs: bool) -> Config {
    Config::Bart(BartConfig {
        vocab_size: 40,
        max_position_embeddings: 24,
        encoder_layers: 1,
        encoder_ffn_dim: 48,
        encoder_attention_heads: 4,
        decoder_layers: 1,
        decoder_ffn_dim: 48,
        decoder_attention_heads: 4,
        d_model: 32,
        pair_tables: pairs.then_some(PairSizes {
            users: 7,
            items: 5,
            user_width: 4,
            item_width: 6,
        }),
        ..BartConfig::default()
    })
}

/// Learns to say three sentences by heart; gives the first and the last loss.
fn learn(trainable: &Trainable, steps: usize, seed: u64) -> (f64, f64) {
    let sources: [&[u32]; 3] = [&[5, 6, 7, 2], &[8, 2], &[9, 10, 11, 12, 13, 2]];
    let labels: [&[u32]; 3] = [&[20, 21, 22, 1], &[23, 1], &[24, 25, 26, 27, 1]];
    let pairs = [1, 2, 3].map(|n| PairRows { user: n, item: n });
    let batch = Batch {
        sources: &sources,
        pairs: Some(&pairs),
        labels: &labels,
    };
    let dropout = trainable.dropout(seed);
    let vars = trainable.parameters().into_iter().map(|(_, var)| var).collect();
    let mut optimiser = AdamW::new(
        vars,
        ParamsAdamW {
            lr: 5e-3,
            ..ParamsAdamW::default()
        },
    )
    .unwrap();
    let first = number(&trainable.loss(&batch, 0.0, None).unwrap());
    for _ in 0..steps {
        optimiser
            .backward_step(&trainable.loss(&batch, 0.0, Some(&dropout)).unwrap())
            .unwrap();
    }
    (first, number(&trainable.loss(&batch, 0.0, None).unwrap()))
}

#[test]
fn new_weights_learn_and_the_same_seed_learns_the_same() {
    for config in [
        small_t5(true),
        small_t5(false),
        small_bart(false),
        small_bart(true),
    ] {
        let fresh = |seed| Trainable::random(config.clone(), seed, &Device::Cpu).unwrap();
        let (first, last) = learn(&fresh(3), 40, 5);
        assert!(first < 40.0_f64.ln() * 2.5, "the first loss is {first}");
        assert!(last < first / 2.0, "from {first} to {last}");
        assert_eq!(learn(&fresh(3), 6, 5), learn(&fresh(3), 6, 5));
        assert_ne!(learn(&fresh(3), 6, 5), learn(&fresh(4), 6, 5));
    }
}

#[test]
fn the_serving_model_follows_the_variables() {
    let trainable = Trainable::random(small_bart(false), 1, &Device::Cpu).unwrap();
    let say = || trainable.model().encode(&[&[5, 6, 2]], None).unwrap().hidden;
    let before = say();
    learn(&trainable, 2, 1);
    assert!(distance(&before, &say()) > 1e-4);
}

#[test]
fn pair_tables_are_added_behind_a_gate_that_is_nearly_closed() {
    let sizes = PairSizes {
        users: 7,
        items: 5,
        user_width: 4,
        item_width: 6,
    };
    let plain = Trainable::random(small_bart(false), 1, &Device::Cpu).unwrap();
    let hidden = |trainable: &Trainable, pairs: Option<&[PairRows]>| {
        trainable.model().encode(&[&[5, 6, 2]], pairs).unwrap().hidden
    };
    let before = hidden(&plain, None);
    let gated = plain.with_pair_tables(sizes, 3).unwrap();
    let rows = [PairRows { user: 1, item: 2 }];
    let after = hidden(&gated, Some(&rows));
    let far = distance(&before, &after);
    assert!(far > 0.0 && far < 0.01, "{far}");
    assert!(gated.with_pair_tables(sizes, 3).is_err());
    assert!(
        Trainable::random(small_t5(true), 1, &Device::Cpu)
            .unwrap()
            .with_pair_tables(sizes, 3)
            .is_err()
    );
}

#[test]
fn what_is_saved_is_loaded_again_unchanged() {
    for name in FIXTURES {
        let dir = tempfile::tempdir().unwrap();
        Trainable::load(&path(name), &Device::Cpu)
            .unwrap()
            .save(dir.path())
            .unwrap();
        let (saved, original) = (
            Model::load(dir.path(), &LoadOptions::default()).unwrap(),
            load(name),
        );
        assert_eq!(saved.spec(), original.spec(), "{name}");
        assert_eq!(
            saved.generation_defaults(),
            original.generation_defaults(),
            "{name}"
        );
        let inputs = inputs(name);
        for (i, decoder) in inputs.decoder.iter().enumerate() {
            let logits = |m: &Model| all_at_once(m, &cross_alone(m, &inputs, i), decoder);
            assert_eq!(distance(&logits(&saved), &logits(&original)), 0.0, "{name} {i}");
        }
        assert_eq!(shapes(dir.path()), shapes(&path(name)), "{name}");
        assert!(
            std::fs::read_dir(dir.path()).unwrap().all(|f| !f
                .unwrap()
                .file_name()
                .to_string_lossy()
                .contains("partial"))
        );
    }
}

/// Names and shapes of everything stored in a directory.
fn shapes(dir: &Path) -> BTreeMap<String, Vec<usize>> {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|e| {
            let name = e.file_name().to_string_lossy().into_owned();
            name.starts_with("model") && name.ends_with(".safetensors")
        })
        .flat_map(|e| candle_core::safetensors::load(e.path(), &Device::Cpu).unwrap())
        .map(|(name, tensor)| (name, tensor.dims().to_vec()))
        .collect()
}

#[test]
fn new_models_are_saved_with_their_decode_settings() {
    for config in [
        small_t5(true),
        small_t5(false),
        small_bart(false),
        small_bart(true),
    ] {
        let mut trainable = Trainable::random(config, 9, &Device::Cpu).unwrap();
        let defaults = GenerationDefaults {
            num_beams: Some(5),
            max_new_tokens: Some(150),
            repetition_penalty: Some(1.2),
            early_stopping: Some(EarlyStopping::Never),
            ..GenerationDefaults::default()
        };
        trainable.set_generation_defaults(defaults.clone());
        let dir = tempfile::tempdir().unwrap();
        trainable.save(dir.path()).unwrap();
        let model = Model::load(dir.path(), &LoadOptions::default()).unwrap();
        assert_eq!(model.generation_defaults(), &defaults);
        assert_eq!(model.spec(), trainable.model().spec());
        // Saving again over it is fine.
        trainable.save(dir.path()).unwrap();
    }
}

#[test]
fn impossible_batches_and_sizes_are_refused() {
    let trainable = Trainable::random(small_bart(false), 1, &Device::Cpu).unwrap();
    let said = |sources: &[&[u32]], labels: &[&[u32]]| {
        trainable
            .loss(
                &Batch {
                    sources,
                    pairs: None,
                    labels,
                },
                0.0,
                None,
            )
            .unwrap_err()
            .to_string()
    };
    assert_eq!(said(&[&[5]], &[]), "invalid labels: 0 for 1 sources");
    assert_eq!(said(&[&[5]], &[&[]]), "invalid labels: example 0 has none");
    assert_eq!(
        said(&[&[5]], &[&[40]]),
        "invalid labels: id 40 is not below the vocabulary's 40"
    );
    assert_eq!(
        said(&[&[5]], &[&[5; 25]]),
        "invalid labels: 25 tokens; the model has 24 positions"
    );
    let Config::Bart(mut config) = small_bart(false) else {
        unreachable!()
    };
    config.decoder_attention_heads = 7;
    let error = Trainable::random(Config::Bart(config), 1, &Device::Cpu).unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid decoder_attention_heads: 7 does not divide d_model 32"
    );
}
