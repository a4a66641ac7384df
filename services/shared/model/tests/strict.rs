//! A directory that does not hold the model it speaks of is refused, and the refusal names the file and the tensor.

mod common;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use common::*;
use refract_model::quantised::Quantisers;
use refract_model::{Error, LoadOptions, Model, Stored, quantised};
use serde_json::{Value, json as value};
use tempfile::TempDir;

/// A copy of a fixture that a test may spoil.
fn copy(name: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(path(name)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    dir
}

fn load_dir(dir: &Path) -> Result<Model, Error> {
    Model::load(dir, &LoadOptions::default())
}

fn refused(dir: &TempDir) -> String {
    load_dir(dir.path()).unwrap_err().to_string()
}

type Tensors = HashMap<String, Tensor>;

/// Rewrites the single weights file.
fn edit(dir: &TempDir, change: impl FnOnce(&mut Tensors)) {
    let file = dir.path().join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
    change(&mut tensors);
    candle_core::safetensors::save(&tensors, &file).unwrap();
}

fn edit_json(dir: &TempDir, file: &str, change: impl FnOnce(&mut Value)) {
    let file = dir.path().join(file);
    let mut config = json(&file);
    change(&mut config);
    fs::write(file, config.to_string()).unwrap();
}

/// Sequence 0's first logits, for telling whether two directories hold one model.
fn first_logits(dir: &Path, name: &str) -> Tensor {
    let (model, inputs) = (load_dir(dir).unwrap(), inputs(name));
    all_at_once(&model, &cross_alone(&model, &inputs, 0), &inputs.decoder[0])
}

fn assert_same_model(dir: &TempDir, name: &str) {
    assert_close(
        &first_logits(dir.path(), name),
        &inputs(name).logits[0],
        1e-4,
        name,
    );
}

#[test]
fn missing_unexpected_and_misshaped_tensors_are_listed_with_the_file() {
    let dir = copy("bart-plain");
    edit(&dir, |tensors| {
        tensors.remove("model.decoder.layers.1.fc2.bias").unwrap();
        let extra = tensors["model.encoder.layers.0.fc1.bias"].clone();
        tensors.insert("model.encoder.layers.0.pos_attention.bias".to_owned(), extra);
        tensors.insert(
            "model.shared.weight".to_owned(),
            Tensor::zeros((95, 32), DType::F32, &Device::Cpu).unwrap(),
        );
    });
    let said = refused(&dir);
    for part in [
        "model.safetensors",
        "missing 1: model.decoder.layers.1.fc2.bias",
        "unexpected 1: model.encoder.layers.0.pos_attention.bias",
        "wrong shape 1: model.shared.weight is [95, 32], not [96, 32]",
    ] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn a_truncated_or_overwritten_file_is_named() {
    let dir = copy("t5-relu-tied");
    let file = dir.path().join("model.safetensors");
    let whole = fs::read(&file).unwrap();
    // Anywhere: inside the length, the header, and the data; and with something after it.
    for bytes in [
        &whole[..0],
        &whole[..5],
        &whole[..200],
        &whole[..whole.len() - 1],
        &[&whole[..], b"x"].concat(),
    ] {
        fs::write(&file, bytes).unwrap();
        let said = refused(&dir);
        assert!(said.contains("model.safetensors is corrupt"), "{said}");
    }
    let mut garbled = whole;
    garbled[20] = b'\xff';
    fs::write(&file, &garbled).unwrap();
    assert!(refused(&dir).contains("is corrupt: unreadable header"));
    fs::write(&file, u64::MAX.to_le_bytes()).unwrap();
    assert!(refused(&dir).contains("does not fit a file of 8"));
}

#[test]
fn a_missing_shard_is_named() {
    let dir = copy("t5-sharded");
    assert_same_model(&dir, "t5-sharded");
    fs::remove_file(dir.path().join("model-00003-of-00005.safetensors")).unwrap();
    let said = refused(&dir);
    assert!(
        said.contains("cannot read") && said.contains("model-00003-of-00005.safetensors"),
        "{said}"
    );
}

#[test]
fn an_index_that_does_not_agree_with_its_shards_is_refused() {
    let dir = copy("t5-sharded");
    edit_json(&dir, "model.safetensors.index.json", |index| {
        index["weight_map"]["shared.weight"] = "model-00005-of-00005.safetensors".into();
    });
    let said = refused(&dir);
    assert!(
        said.contains("shared.weight") && said.contains("corrupt"),
        "{said}"
    );
    edit_json(&dir, "model.safetensors.index.json", |index| {
        index["weight_map"]["shared.weight"] = "../elsewhere.safetensors".into();
    });
    assert!(refused(&dir).contains("not a plain file name"));
}

#[test]
fn absent_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    assert!(refused(&dir).contains("config.json"));
    fs::copy(
        path("bart-plain").join("config.json"),
        dir.path().join("config.json"),
    )
    .unwrap();
    assert!(refused(&dir).contains("model.safetensors"));
}

#[test]
fn tied_aliases_are_compared_and_dropped() {
    // T5 as old versions wrote it: three copies of the embeddings, and a bias that nobody reads.
    let dir = copy("t5-relu-tied");
    edit(&dir, |tensors| {
        let shared = tensors["shared.weight"].clone();
        for alias in [
            "encoder.embed_tokens.weight",
            "decoder.embed_tokens.weight",
            "lm_head.weight",
        ] {
            tensors.insert(alias.to_owned(), shared.clone());
        }
        let bias = tensors["decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"].clone();
        tensors.insert(
            "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight".to_owned(),
            bias,
        );
    });
    assert_same_model(&dir, "t5-relu-tied");
    edit(&dir, |tensors| {
        let other = (&tensors["shared.weight"] + 1.0).unwrap();
        tensors.insert("encoder.embed_tokens.weight".to_owned(), other);
    });
    assert!(refused(&dir).contains("encoder.embed_tokens.weight should repeat shared.weight"));

    // Only an alias is stored.
    let dir = copy("bart-plain");
    edit(&dir, |tensors| {
        let shared = tensors.remove("model.shared.weight").unwrap();
        tensors.insert("model.encoder.embed_tokens.weight".to_owned(), shared.clone());
        tensors.insert("lm_head.weight".to_owned(), shared);
    });
    assert_same_model(&dir, "bart-plain");
}

#[test]
fn an_untied_head_must_be_there() {
    let dir = copy("t5-gated-untied");
    edit(&dir, |tensors| {
        tensors.remove("lm_head.weight").unwrap();
    });
    assert!(refused(&dir).contains("missing 1: lm_head.weight"));
}

#[test]
fn names_with_and_without_a_wrapper_are_one_model() {
    for prefix in ["", "model.model."] {
        let dir = copy("bart-plain");
        edit(&dir, |tensors| {
            *tensors = tensors
                .drain()
                .filter(|(name, _)| !(prefix.is_empty() && name == "final_logits_bias"))
                .map(|(name, tensor)| match name.strip_prefix("model.") {
                    Some(bare) => (format!("{prefix}{bare}"), tensor),
                    None => (
                        format!("{}{name}", prefix.strip_suffix("model.").unwrap_or_default()),
                        tensor,
                    ),
                })
                .collect();
        });
        // The fixture's final bias is zero, so one that is absent says the same.
        assert_same_model(&dir, "bart-plain");
    }
}

#[test]
fn half_a_pair_of_tables_is_refused() {
    let dir = copy("bart-pairs");
    edit(&dir, |tensors| {
        tensors
            .remove("model.encoder.item_whole_embeddings.weight")
            .unwrap();
    });
    assert!(refused(&dir).contains("item_whole_embeddings"));
    let dir = copy("bart-pairs");
    edit(&dir, |tensors| {
        tensors.remove("model.encoder.user_item_gate").unwrap();
    });
    assert!(refused(&dir).contains("missing 1: model.encoder.user_item_gate"));
}

#[test]
fn weights_stored_as_whole_numbers_are_refused() {
    let dir = copy("t5-relu-tied");
    edit(&dir, |tensors| {
        let whole = tensors["shared.weight"].to_dtype(DType::U8).unwrap();
        tensors.insert("shared.weight".to_owned(), whole);
    });
    assert!(refused(&dir).contains("tensor shared.weight has type U8; only floating point is supported"));
}

#[test]
fn weights_stored_in_half_precision_load_as_f32() {
    let dir = copy("bart-plain");
    edit(&dir, |tensors| {
        for tensor in tensors.values_mut() {
            *tensor = tensor.to_dtype(DType::BF16).unwrap();
        }
    });
    let logits = first_logits(dir.path(), "bart-plain");
    assert_eq!(logits.dtype(), DType::F32);
    assert!(distance(&logits, &inputs("bart-plain").logits[0]) < 0.5);
}

#[test]
fn a_wrong_configuration_is_refused_by_field() {
    let cases = [
        (
            "bart-plain",
            "model_type",
            value!("pegasus"),
            "model_type \"pegasus\" is not supported",
        ),
        ("bart-plain", "d_model", value!(0), "d_model: must be positive"),
        (
            "bart-plain",
            "decoder_attention_heads",
            value!(5),
            "decoder_attention_heads: 5 does not divide d_model 32",
        ),
        (
            "bart-plain",
            "activation_function",
            value!("mish"),
            "activation_function: activation \"mish\" is not known",
        ),
        (
            "bart-plain",
            "eos_token_id",
            value!(96),
            "eos_token_id: 96 is not below vocab_size 96",
        ),
        ("bart-plain", "encoder_layers", value!("two"), "encoder_layers: "),
        (
            "t5-relu-tied",
            "feed_forward_proj",
            value!("gated-mish"),
            "feed_forward_proj: ",
        ),
        (
            "t5-relu-tied",
            "relative_attention_num_buckets",
            value!(3),
            "relative_attention_num_buckets: 3 is not",
        ),
        (
            "t5-relu-tied",
            "relative_attention_max_distance",
            value!(16),
            "relative_attention_max_distance: must exceed 16",
        ),
        ("t5-relu-tied", "d_ff", value!(-1), "d_ff: "),
    ];
    for (name, field, wrong, expected) in cases {
        let dir = copy(name);
        edit_json(&dir, "config.json", |config| config[field] = wrong);
        let said = refused(&dir);
        assert!(said.contains("config.json") && said.contains(expected), "{said}");
    }
    let dir = copy("bart-plain");
    fs::write(dir.path().join("config.json"), "{\n  \"d_model\": ,\n}").unwrap();
    assert!(refused(&dir).contains("config.json: line 2"));
    let dir = copy("bart-plain");
    edit_json(&dir, "generation_config.json", |config| {
        config["early_stopping"] = value!("soon")
    });
    assert!(refused(&dir).contains("generation_config.json: early_stopping: \"soon\" is neither"));
}

#[test]
fn decode_settings_come_from_their_own_file_or_else_from_the_old_keys() {
    let dir = copy("bart-plain");
    edit_json(&dir, "config.json", |config| {
        config["num_beams"] = value!(4);
        config["early_stopping"] = value!(true);
        config["no_repeat_ngram_size"] = value!(3);
        config["forced_bos_token_id"] = value!(0);
        config["forced_eos_token_id"] = value!(2);
    });
    let model = load_dir(dir.path()).unwrap();
    assert_eq!(model.generation_defaults().num_beams, None);
    assert_eq!(
        (model.spec().forced_bos, model.spec().forced_eos.len()),
        (None, 0)
    );
    fs::remove_file(dir.path().join("generation_config.json")).unwrap();
    let model = load_dir(dir.path()).unwrap();
    let defaults = model.generation_defaults();
    assert_eq!(
        (defaults.num_beams, defaults.no_repeat_ngram_size),
        (Some(4), Some(3))
    );
    assert_eq!(defaults.early_stopping, Some(refract_model::EarlyStopping::Yes));
    assert_eq!(
        (model.spec().forced_bos, model.spec().forced_eos.as_slice()),
        (Some(0), &[2][..])
    );
}

#[test]
fn rules_for_tokens_are_read_and_what_is_not_supported_is_named() {
    let dir = copy("bart-plain");
    let file = "generation_config.json";
    edit_json(&dir, file, |config| {
        config["forced_eos_token_id"] = value!([9, 2]);
        config["bad_words_ids"] = value!([[7, 8], [5]]);
        config["suppress_tokens"] = value!([11, 96, -1]);
        config["begin_suppress_tokens"] = value!([12, 13]);
        // What they say without saying anything.
        config["num_beam_groups"] = value!(1);
        config["typical_p"] = value!(1);
        config["min_p"] = value!(null);
        config["constraints"] = value!([]);
    });
    let model = load_dir(dir.path()).unwrap();
    let defaults = model.generation_defaults();
    assert_eq!(model.spec().forced_eos, [9, 2]);
    assert_eq!(defaults.bad_words, [vec![7, 8], vec![5]]);
    assert_eq!(defaults.suppress_tokens, [11]);
    assert_eq!(defaults.begin_suppress_tokens, [12, 13]);
    assert_eq!(defaults.ignored, None);
    // Written again, they are the same.
    let saved = tempfile::tempdir().unwrap();
    let trainable = refract_model::Trainable::load(dir.path(), &candle_core::Device::Cpu).unwrap();
    trainable.save(saved.path()).unwrap();
    let again = load_dir(saved.path()).unwrap();
    assert_eq!(again.generation_defaults(), defaults);
    assert_eq!(again.spec().forced_eos, [9, 2]);

    edit_json(&dir, file, |config| {
        config["encoder_no_repeat_ngram_size"] = value!(3);
        config["min_p"] = value!(0.1);
        config["penalty_alpha"] = value!(0.6);
    });
    let model = load_dir(dir.path()).unwrap();
    let said = model.generation_defaults().ignored.clone().unwrap();
    assert!(said.contains(file), "{said}");
    assert!(
        said.contains("encoder_no_repeat_ngram_size = 3, min_p = 0.1, penalty_alpha = 0.6"),
        "{said}"
    );

    for (key, bad) in [
        ("bad_words_ids", value!([[7], []])),
        ("bad_words_ids", value!([[7, 96]])),
        ("forced_eos_token_id", value!([2, 96])),
    ] {
        let dir = copy("bart-plain");
        edit_json(&dir, file, |config| config[key] = bad);
        let refused = load_dir(dir.path()).unwrap_err().to_string();
        assert!(refused.contains(key) && refused.contains(file), "{refused}");
    }
}

/// A copy of a fixture with weights in bytes: every weight 1 of 127.
fn in_bytes(name: &str) -> TempDir {
    let dir = copy(name);
    let file = dir.path().join("model.safetensors");
    let stored = Stored::open(dir.path()).unwrap();
    let made = dir.path().join("made");
    let how = Quantisers {
        bytes: |_, bytes| {
            bytes.fill(1);
            0.5
        },
        nibbles: None,
    };
    quantised::write(&stored, &made, &how).unwrap();
    fs::rename(made, file).unwrap();
    dir
}

/// A copy of a fixture with matrices in four bits: weights are −3 × 5 × 0.5, in every second group −3 × −2 × 0.5; tables that are
/// only looked up are in bytes.
fn in_four_bits(name: &str) -> TempDir {
    let dir = copy(name);
    let file = dir.path().join("model.safetensors");
    let stored = Stored::open(dir.path()).unwrap();
    let made = dir.path().join("made");
    let how = Quantisers {
        bytes: |_, bytes| {
            bytes.fill(1);
            0.5
        },
        nibbles: Some(|_, numbers, shares| {
            numbers.fill(-3);
            shares
                .iter_mut()
                .enumerate()
                .for_each(|(i, s)| *s = if i % 2 == 0 { 5 } else { -2 });
            0.5
        }),
    };
    quantised::write(&stored, &made, &how).unwrap();
    fs::rename(made, file).unwrap();
    dir
}

/// Rewrites header and data of the weights as raw bytes.
fn edit_raw(dir: &TempDir, change: impl FnOnce(&mut Value, &mut Vec<u8>)) {
    let file = dir.path().join("model.safetensors");
    let bytes = fs::read(&file).unwrap();
    let size = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + size]).unwrap();
    let mut data = bytes[8 + size..].to_vec();
    change(&mut header, &mut data);
    let header = header.to_string().into_bytes();
    let parts = [&(header.len() as u64).to_le_bytes()[..], &header, &data];
    fs::write(file, parts.concat()).unwrap();
}

#[test]
fn weights_in_bytes_load_as_the_numbers_they_mean() {
    for name in ["bart-plain", "t5-gated-untied"] {
        let dir = in_bytes(name);
        let stored = Stored::open(dir.path()).unwrap();
        assert!(stored.is_quantised());
        let embeddings = if name.starts_with("t5") {
            "shared.weight"
        } else {
            "model.shared.weight"
        };
        assert!(stored.read(embeddings).unwrap().iter().all(|x| *x == 0.5));
        load_dir(dir.path()).unwrap();
    }
}

#[test]
fn weights_of_four_bits_load_as_the_numbers_they_mean() {
    for (name, matrix, table) in [
        ("bart-plain", "model.encoder.layers.0.fc2.weight", None),
        (
            "t5-gated-untied",
            "encoder.block.0.layer.0.SelfAttention.q.weight",
            Some("shared.weight"),
        ),
    ] {
        let dir = in_four_bits(name);
        let stored = Stored::open(dir.path()).unwrap();
        assert!(stored.is_quantised() && stored.has_nibbles() && !stored.is_bytes(matrix));
        let (_, width) = stored.shape(matrix).unwrap();
        for (i, x) in stored.read(matrix).unwrap().iter().enumerate() {
            assert_eq!(*x, if i % width / 32 % 2 == 0 { -7.5 } else { 3.0 }, "{name} {i}");
        }
        if let Some(table) = table {
            assert!(stored.is_bytes(table) && stored.read(table).unwrap().iter().all(|x| *x == 0.5));
        }
        load_dir(dir.path()).unwrap();
    }
}

#[test]
fn weights_of_four_bits_that_are_not_whole_are_refused_with_file_and_tensor() {
    const NAME: &str = "model.encoder.layers.0.fc1.weight";
    let refused = |change: fn(&mut Value, &mut Vec<u8>)| {
        let dir = in_four_bits("bart-plain");
        edit_raw(&dir, change);
        let error = Stored::open(dir.path()).and_then(|s| s.read(NAME).map(|_| ()));
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("model.safetensors") && error.contains(NAME),
            "{error}"
        );
        error
    };
    let missing = refused(|header, _| {
        let share = header.as_object_mut().unwrap().remove(&format!("{NAME}_share"));
        header["other"] = share.unwrap();
    });
    assert!(missing.contains("fc1.weight_share with an I8"), "{missing}");
    let zero = refused(|header, data| {
        let at = &header[format!("{NAME}_share")]["data_offsets"][0];
        data[at.as_u64().unwrap() as usize] = 0;
    });
    assert!(zero.contains("_share holds 0"), "{zero}");
}

#[test]
fn weights_in_bytes_that_are_not_whole_are_refused_with_file_and_tensor() {
    const NAME: &str = "model.encoder.layers.0.fc1.weight";
    let refused = |dir: &TempDir| {
        let error = Stored::open(dir.path()).and_then(|s| s.read(NAME).map(|_| ()));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("model.safetensors"), "{error}");
        error
    };
    let dir = in_bytes("bart-plain");
    edit_raw(&dir, |header, _| {
        header[format!("{NAME}_scale")]["dtype"] = value!("F16");
    });
    refused(&dir);
    let dir = in_bytes("bart-plain");
    edit_raw(&dir, |header, _| {
        let scale = header.as_object_mut().unwrap().remove(&format!("{NAME}_scale"));
        header["other"] = scale.unwrap();
    });
    assert!(refused(&dir).contains(&format!("tensor {NAME} is of bytes")));
    let dir = in_bytes("bart-plain");
    edit_raw(&dir, |header, data| {
        let at = header[NAME]["data_offsets"][0].as_u64().unwrap() as usize;
        data[at + 3] = 0x80;
    });
    assert!(refused(&dir).contains(&format!("tensor {NAME} holds −128")));
    let dir = in_bytes("bart-plain");
    edit_raw(&dir, |header, data| {
        let at = header[format!("{NAME}_scale")]["data_offsets"][0]
            .as_u64()
            .unwrap() as usize;
        data[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    assert!(refused(&dir).contains(&format!("{NAME}_scale of row 0 is NaN")));
    let dir = in_bytes("bart-plain");
    edit_raw(&dir, |_, data| data.truncate(data.len() - 1));
    refused(&dir);
}
