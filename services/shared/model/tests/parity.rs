//! The models say what Hugging Face transformers says (fixtures of `make_fixtures.py`), however they are batched.

mod common;

use candle_core::Tensor;
use common::*;
use refract_model::{CrossBatch, Dtype, LoadOptions, Model, OwnKv};

/// Agreement with the reference, and of two ways of computing the same here.
const REFERENCE: f32 = 1e-4;
const OURSELVES: f32 = 2e-5;

#[test]
fn teacher_forced_logits_are_those_of_the_reference() {
    for name in FIXTURES {
        let (model, inputs) = (load(name), inputs(name));
        for (i, decoder) in inputs.decoder.iter().enumerate() {
            let logits = all_at_once(&model, &cross_alone(&model, &inputs, i), decoder);
            assert_close(&logits, &inputs.logits[i], REFERENCE, &format!("{name} {i}"));
        }
    }
}

#[test]
fn a_ragged_batch_says_what_its_sequences_say_alone() {
    for name in FIXTURES {
        let (model, inputs) = (load(name), inputs(name));
        let together = crosses(&model, &inputs);
        let batch = CrossBatch::gather(&model, &together.iter().collect::<Vec<_>>()).unwrap();
        let mut own = OwnKv::empty(&model);
        inputs.sources.iter().for_each(|_| own.push_row());
        let logits = model
            .decode_many(&slices(&inputs.decoder), &mut own, &batch)
            .unwrap();
        for (i, decoder) in inputs.decoder.iter().enumerate() {
            let row = logits.get(i).unwrap().narrow(0, 0, decoder.len()).unwrap();
            let alone = all_at_once(&model, &cross_alone(&model, &inputs, i), decoder);
            assert_close(&row, &alone, OURSELVES, &format!("{name} {i}"));
            assert_close(
                &row,
                &inputs.logits[i],
                REFERENCE,
                &format!("{name} {i} against the reference"),
            );
        }
        assert_eq!(
            own.lengths(),
            inputs.decoder.iter().map(Vec::len).collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_step_at_a_time_says_what_all_at_once_says() {
    for name in FIXTURES {
        let (model, inputs) = (load(name), inputs(name));
        let together = crosses(&model, &inputs);
        // One row, and two rows of one age.
        for rows in [&[0][..], &[0, 4]] {
            let batch =
                CrossBatch::gather(&model, &rows.iter().map(|i| &together[*i]).collect::<Vec<_>>()).unwrap();
            let mut own = OwnKv::empty(&model);
            rows.iter().for_each(|_| own.push_row());
            for step in 0..40 {
                let tokens: Vec<u32> = rows.iter().map(|i| inputs.decoder[*i][step]).collect();
                let logits = model.decode(&tokens, &mut own, &batch).unwrap();
                for (row, i) in rows.iter().enumerate() {
                    let expected = inputs.logits[*i].get(step).unwrap();
                    assert_close(
                        &logits.get(row).unwrap(),
                        &expected,
                        REFERENCE,
                        &format!("{name} {i} step {step}"),
                    );
                }
            }
        }
    }
}

#[test]
fn rows_of_different_ages_join_leave_and_repeat_without_touching_one_another() {
    for name in FIXTURES {
        let (model, inputs) = (load(name), inputs(name));
        let together = crosses(&model, &inputs);
        // (sequence, step) of each live row; sequences join at different steps, one leaves, one is doubled.
        let mut live: Vec<(usize, usize)> = Vec::new();
        let mut own = OwnKv::empty(&model);
        let mut batch = CrossBatch::gather(&model, &[]).unwrap();
        let regather = |live: &[(usize, usize)], batch: &mut CrossBatch| {
            batch
                .regather(&live.iter().map(|(i, _)| &together[*i]).collect::<Vec<_>>())
                .unwrap();
        };
        for turn in 0..40 {
            for (sequence, from) in [(2, 0), (4, 3), (0, 5), (3, 11), (0, 20)] {
                if turn == from {
                    own.push_row();
                    live.push((sequence, 0));
                    regather(&live, &mut batch);
                }
            }
            let kept: Option<Vec<usize>> = match turn {
                // A row is doubled in front, as a beam that wins; then the first leaves; then all turn round.
                8 => Some(vec![1, 1, 0, 2]),
                15 => Some(vec![1, 2, 3, 4]),
                26 => Some((0..live.len()).rev().collect()),
                _ => None,
            };
            if let Some(kept) = kept {
                own.select(&kept).unwrap();
                live = kept.iter().map(|row| live[*row]).collect();
                regather(&live, &mut batch);
            }
            let tokens: Vec<u32> = live
                .iter()
                .map(|(i, step)| inputs.decoder[*i][*step % inputs.decoder[*i].len()])
                .collect();
            let logits = model.decode(&tokens, &mut own, &batch).unwrap();
            for (row, (i, step)) in live.iter_mut().enumerate() {
                if *step < inputs.decoder[*i].len() {
                    let expected = inputs.logits[*i].get(*step).unwrap();
                    let what = format!("{name} turn {turn} row {row} (sequence {i} step {step})");
                    assert_close(&logits.get(row).unwrap(), &expected, REFERENCE, &what);
                }
                *step += 1;
            }
            assert_eq!(
                own.lengths(),
                live.iter().map(|(_, step)| *step).collect::<Vec<_>>()
            );
        }
    }
}

#[test]
fn a_draft_that_is_forgotten_leaves_no_trace() {
    for name in FIXTURES {
        let (model, inputs) = (load(name), inputs(name));
        let together = crosses(&model, &inputs);
        let batch = CrossBatch::gather(&model, &[&together[0], &together[2]]).unwrap();
        let mut own = OwnKv::empty(&model);
        own.push_row();
        own.push_row();
        let (a, b) = (&inputs.decoder[0], &inputs.decoder[2]);
        // Row 0 takes nine tokens and row 1 four; then each drafts four wrong ones, of which one and none are kept.
        model.decode_many(&[&a[..9], &b[..4]], &mut own, &batch).unwrap();
        model
            .decode_many(&[&[a[9], 5, 6, 7], &[9, 8, 7]], &mut own, &batch)
            .unwrap();
        own.truncate(0, 10);
        own.truncate(1, 4);
        assert_eq!(own.lengths(), [10, 4]);
        let logits = model
            .decode_many(&[&a[10..12], &b[4..7]], &mut own, &batch)
            .unwrap();
        let rows = |i: usize, from: usize, n: usize| inputs.logits[i].narrow(0, from, n).unwrap();
        assert_close(
            &logits.get(0).unwrap().narrow(0, 0, 2).unwrap(),
            &rows(0, 10, 2),
            REFERENCE,
            name,
        );
        assert_close(&logits.get(1).unwrap(), &rows(2, 4, 3), REFERENCE, name);
    }
}

#[test]
fn beams_share_the_memory_of_their_source() {
    let (model, inputs) = (load("bart-unequal"), inputs("bart-unequal"));
    let together = crosses(&model, &inputs);
    let one = CrossBatch::gather(&model, &[&together[4]]).unwrap();
    let five = CrossBatch::gather(&model, &[&together[4]; 5]).unwrap();
    assert_eq!((one.rows(), five.rows()), (1, 5));
    assert_eq!(one.bytes(), five.bytes());
    // Beams of two sequences and a lone row, interleaved, read what each would read alone.
    let order = [4, 1, 4, 2, 1, 4];
    let mixed = CrossBatch::gather(&model, &order.map(|i| &together[i])).unwrap();
    let mut own = OwnKv::empty(&model);
    order.iter().for_each(|_| own.push_row());
    let tokens = order.map(|i| &inputs.decoder[i][..3]);
    let logits = model.decode_many(&tokens, &mut own, &mixed).unwrap();
    for (row, i) in order.into_iter().enumerate() {
        let expected = inputs.logits[i].narrow(0, 0, 3).unwrap();
        assert_close(
            &logits.get(row).unwrap(),
            &expected,
            REFERENCE,
            &format!("row {row}"),
        );
    }
}

#[test]
fn greedy_decoding_finds_the_ids_of_the_reference() {
    for name in FIXTURES {
        let model = load(name);
        let spec = model.spec();
        let cases = json(&path(name).join("generation.json"));
        let plain = cases
            .as_array()
            .unwrap()
            .iter()
            .filter(|c| c["name"].as_str().unwrap().starts_with("greedy_plain"));
        for case in plain {
            let source = ids(&case["input"]);
            let pair = pair(&case["pair"]);
            let encoded = model
                .encode(&[&source], pair.as_ref().map(std::slice::from_ref))
                .unwrap();
            let cross = model.cross(&encoded).unwrap();
            let batch = CrossBatch::gather(&model, &[&cross[0]]).unwrap();
            let mut own = OwnKv::empty(&model);
            own.push_row();
            let (mut produced, mut last) = (Vec::new(), spec.decoder_start);
            let max = case["settings"]["max_new_tokens"].as_u64().unwrap() as usize;
            while produced.len() < max && !produced.last().is_some_and(|id| spec.eos.contains(id)) {
                let logits = model.decode(&[last], &mut own, &batch).unwrap();
                let best: u32 = logits.argmax(1).unwrap().get(0).unwrap().to_scalar().unwrap();
                last = match (produced.len(), spec.forced_bos, spec.forced_eos.first()) {
                    (0, Some(bos), _) => bos,
                    (n, _, Some(eos)) if n + 1 == max => *eos,
                    _ => best,
                };
                produced.push(last);
            }
            assert_eq!(
                produced,
                ids(&case["outputs"][0]["ids"]),
                "{name} {}",
                case["name"]
            );
        }
    }
}

#[test]
fn what_a_faulty_row_leaves_behind_does_not_reach_its_successor() {
    let (model, inputs) = (load("t5-relu-tied"), inputs("t5-relu-tied"));
    let together = crosses(&model, &inputs);
    let broken = {
        let encoded = model.encode(&[&inputs.sources[1]], None).unwrap();
        let hidden = (encoded.hidden * f64::NAN).unwrap();
        model
            .cross(&refract_model::Encoded {
                hidden,
                lengths: encoded.lengths,
            })
            .unwrap()
            .remove(0)
    };
    let mut own = OwnKv::empty(&model);
    own.push_row();
    own.push_row();
    let mut batch = CrossBatch::gather(&model, &[&together[0], &broken]).unwrap();
    let decoder = &inputs.decoder[0];
    for token in &decoder[..6] {
        let logits = model.decode(&[*token, 5], &mut own, &batch).unwrap();
        let faulty: f32 = logits.get(1).unwrap().sum_all().unwrap().to_scalar().unwrap();
        assert!(faulty.is_nan());
    }
    // The faulty row leaves; a new one takes its place beside the older row.
    own.select(&[0]).unwrap();
    own.push_row();
    batch.regather(&[&together[0], &together[2]]).unwrap();
    for step in 0..4 {
        let logits = model
            .decode(&[decoder[6 + step], inputs.decoder[2][step]], &mut own, &batch)
            .unwrap();
        assert_close(
            &logits.get(0).unwrap(),
            &inputs.logits[0].get(6 + step).unwrap(),
            REFERENCE,
            "older row",
        );
        assert_close(
            &logits.get(1).unwrap(),
            &inputs.logits[2].get(step).unwrap(),
            REFERENCE,
            "new row",
        );
    }
}

/// Eight bits of mantissa through every layer: how far logits may move, as a share of their spread.
const BF16_SHARE: f32 = 0.06;

#[test]
fn bf16_stays_near_f32() {
    for name in FIXTURES {
        let (model, inputs) = (load_as(name, Dtype::Bf16), inputs(name));
        for (i, decoder) in inputs.decoder.iter().enumerate() {
            let logits = all_at_once(&model, &cross_alone(&model, &inputs, i), decoder);
            assert_near(&logits, &inputs.logits[i], BF16_SHARE, &format!("{name} {i}"));
        }
    }
}

#[test]
fn bart_runs_in_fp16() {
    let (model, inputs) = (load_as("bart-plain", Dtype::F16), inputs("bart-plain"));
    let logits = all_at_once(&model, &cross_alone(&model, &inputs, 0), &inputs.decoder[0]);
    assert_near(&logits, &inputs.logits[0], BF16_SHARE / 4.0, "fp16");
}

#[test]
fn a_pair_changes_what_is_said_and_none_is_row_zero() {
    let (model, inputs) = (load("bart-pairs"), inputs("bart-pairs"));
    let tables = model.spec().pair_tables.unwrap();
    assert_eq!((tables.users, tables.items), (37, 23));
    let source = &[inputs.sources[0].as_slice()];
    let hidden = |pairs| model.encode(source, pairs).unwrap().hidden;
    let none = hidden(None);
    assert!(distance(&none, &hidden(inputs.pairs.as_ref().map(|p| &p[..1]))) > 1e-3);
    assert_eq!(
        distance(&none, &hidden(Some(&[refract_model::PairRows::default()]))),
        0.0
    );
    let outside = refract_model::PairRows { user: 37, item: 0 };
    assert!(
        model
            .encode(source, Some(&[outside]))
            .unwrap_err()
            .to_string()
            .contains("pairs")
    );
}

#[test]
fn calls_that_say_something_impossible_are_refused_by_name() {
    let model = load("bart-plain");
    let said = |result: Result<refract_model::Encoded, refract_model::Error>| result.unwrap_err().to_string();
    assert_eq!(
        said(model.encode(&[], None)),
        "invalid ids: there are no sequences"
    );
    assert_eq!(
        said(model.encode(&[&[5], &[]], None)),
        "invalid ids: sequence 1 is empty"
    );
    assert_eq!(
        said(model.encode(&[&[5, 96]], None)),
        "invalid ids: id 96 is not below the vocabulary's 96"
    );
    assert_eq!(
        said(model.encode(&[&[5; 101]], None)),
        "invalid ids: 101 tokens; the model has 100 positions"
    );
    let encoded = model.encode(&[&[5; 100]], None).unwrap();
    let cross = model.cross(&encoded).unwrap();
    let batch = CrossBatch::gather(&model, &[&cross[0]]).unwrap();
    let mut own = OwnKv::empty(&model);
    own.push_row();
    let said = |result: Result<Tensor, refract_model::Error>| result.unwrap_err().to_string();
    assert_eq!(
        said(model.decode(&[1, 2], &mut own, &batch)),
        "invalid tokens: 2 rows, but own has 1 and cross has 1"
    );
    model.decode_many(&[&[5; 100]], &mut own, &batch).unwrap();
    assert_eq!(
        said(model.decode(&[5], &mut own, &batch)),
        "invalid tokens: 101 positions; the model has 100"
    );
    assert!(
        own.select(&[1])
            .unwrap_err()
            .to_string()
            .contains("row 1 does not exist")
    );
    assert_eq!(own.lengths(), [100]);
    // Another model's memory.
    let other = load("bart-unequal");
    assert!(
        CrossBatch::gather(&other, &[&cross[0]])
            .unwrap_err()
            .to_string()
            .contains("another model")
    );
}

#[test]
fn t5_in_fp16_is_refused_with_the_reason() {
    let error = Model::load(
        &path("t5-relu-tied"),
        &LoadOptions {
            dtype: Dtype::F16,
            ..LoadOptions::default()
        },
    )
    .unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains("fp16") && said.contains("NaN") && said.contains("bf16"),
        "{said}"
    );
}

#[test]
fn specs_tell_what_the_files_say() {
    let spec = load("t5-unequal").spec().clone();
    assert_eq!((spec.encoder_layers, spec.decoder_layers), (1, 3));
    assert_eq!((spec.width, spec.heads, spec.head_dim), (32, 3, 12));
    assert_eq!(
        (spec.eos.as_slice(), spec.pad, spec.decoder_start),
        (&[1, 7][..], 0, 0)
    );
    assert_eq!(spec.positions_max, None);
    let spec = load("bart-forced").spec().clone();
    assert_eq!(
        (spec.forced_bos, spec.forced_eos.as_slice(), spec.bos),
        (Some(0), &[2][..], Some(0))
    );
    assert_eq!(spec.positions_max, Some(100));
    // 96·32 embeddings, counted once.
    let spec = load("bart-plain").spec().clone();
    let (d, ffn) = (32, 48);
    let attention = 4 * (d * d + d);
    let norm = 2 * d;
    let feed_forward = ffn * d + ffn + d * ffn + d;
    let stack =
        |attentions: u64| 102 * d + norm + 2 * (attentions * (attention + norm) + feed_forward + norm);
    assert_eq!(spec.parameters, 96 * d + stack(1) + stack(2));
}
