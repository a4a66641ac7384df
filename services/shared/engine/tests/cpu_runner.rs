//! The packed runner gives the reference's logits in f32, nearly its tokens in int8, and the same bits in any company.

use std::path::{Path, PathBuf};

use refract_engine::PairRows;
use refract_engine::runner::{
    CpuOptions, CpuRunner, CrossSlot, DecodeRow, EncodeJob, Isa, Logits, Precision, RowMove, RowSlot, Runner,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Inputs {
    sources: Vec<Vec<u32>>,
    pairs: Option<Vec<Pair>>,
    decoder: Vec<Vec<u32>>,
}

#[derive(Deserialize)]
struct Pair {
    user: u32,
    item: u32,
}

fn fixtures() -> Vec<(PathBuf, Inputs)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures");
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut found: Vec<PathBuf> = entries
        .map(|e| e.expect("readable").path())
        .filter(|p| p.join("inputs.json").is_file() && p.join("logits.safetensors").is_file())
        .collect();
    found.sort();
    assert!(found.len() >= 8, "the fixtures are committed");
    let inputs = |dir: &PathBuf| {
        let text = std::fs::read_to_string(dir.join("inputs.json")).expect("readable");
        serde_json::from_str(&text).expect("sound inputs")
    };
    found.iter().map(|dir| (dir.clone(), inputs(dir))).collect()
}

fn load(dir: &Path, precision: Precision, isa: Option<Isa>, threads: usize) -> CpuRunner {
    let options = CpuOptions {
        precision,
        threads,
        isa,
        nice: 0,
    };
    CpuRunner::load(dir, &options).unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
}

fn jobs(inputs: &Inputs) -> Vec<EncodeJob<'_>> {
    let pair = |i: usize| {
        inputs.pairs.as_ref().map(|p| PairRows {
            user: p[i].user,
            item: p[i].item,
        })
    };
    (0..inputs.sources.len())
        .map(|i| EncodeJob {
            cross: CrossSlot(i as u32),
            ids: &inputs.sources[i],
            pairs: pair(i),
        })
        .collect()
}

/// Rows that want the logits after every one of their decoder ids.
fn forced(inputs: &Inputs) -> Vec<DecodeRow<'_>> {
    (0..inputs.decoder.len())
        .map(|i| all_of(i, &inputs.decoder[i]))
        .collect()
}

fn all_of(i: usize, ids: &[u32]) -> DecodeRow<'_> {
    DecodeRow {
        row: RowSlot(i as u32),
        cross: CrossSlot(i as u32),
        ids,
        kept: 0,
        wanted: ids.len(),
        best: 0,
    }
}

fn decode(runner: &mut CpuRunner, rows: &[DecodeRow<'_>]) -> Vec<f32> {
    let vocab = runner.shape().vocab;
    let mut data = vec![f32::NAN; rows.iter().map(|r| r.wanted).sum::<usize>() * vocab];
    runner
        .decode(rows, &mut Logits::new(vocab, &mut data))
        .expect("decodes");
    data
}

fn reference(dir: &Path, sequences: usize) -> Vec<f32> {
    let device = candle_core::Device::Cpu;
    let tensors = candle_core::safetensors::load(dir.join("logits.safetensors"), &device).expect("readable");
    let flat = |i: usize| {
        tensors[&i.to_string()]
            .flatten_all()
            .and_then(|t| t.to_vec1::<f32>())
            .expect("f32")
    };
    (0..sequences).flat_map(flat).collect()
}

fn arg_max(line: &[f32]) -> usize {
    (0..line.len()).fold(0, |best, i| if line[i] > line[best] { i } else { best })
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn f32_logits_are_those_of_the_reference_on_every_instruction_set() {
    for (dir, inputs) in fixtures() {
        let want = reference(&dir, inputs.decoder.len());
        let mut first: Option<Vec<f32>> = None;
        for (isa, threads) in Isa::available()
            .into_iter()
            .map(|isa| (isa, 1))
            .chain([(Isa::best(), 3)])
        {
            let mut runner = load(&dir, Precision::F32, Some(isa), threads);
            runner.encode(&jobs(&inputs)).expect("encodes");
            let got = decode(&mut runner, &forced(&inputs));
            assert_eq!(got.len(), want.len());
            let worst = got
                .iter()
                .zip(&want)
                .map(|(a, b)| (a - b).abs() / (1.0 + b.abs()))
                .fold(0.0, f32::max);
            assert!(worst < 2e-4, "{} {isa}: {worst}", dir.display());
            match &first {
                Some(first) => assert!(bits(first) == bits(&got), "{} {isa}", dir.display()),
                None => first = Some(got),
            }
        }
    }
}

#[test]
fn int8_chooses_nearly_the_tokens_of_f32() {
    // A tripwire: these models are 32 wide and random, so each byte weighs more and logits lie closer than in a trained
    // model of real width.
    let (mut same, mut all) = (0, 0);
    for (dir, inputs) in fixtures() {
        let want = reference(&dir, inputs.decoder.len());
        let mut first: Option<Vec<f32>> = None;
        for isa in Isa::available() {
            let mut runner = load(&dir, Precision::Int8, Some(isa), 1);
            runner.encode(&jobs(&inputs)).expect("encodes");
            let got = decode(&mut runner, &forced(&inputs));
            match &first {
                Some(first) => assert!(bits(first) == bits(&got), "{} {isa}", dir.display()),
                None => first = Some(got),
            }
        }
        let vocab = want.len() / inputs.decoder.iter().map(Vec::len).sum::<usize>();
        let got = first.expect("ran");
        let lines = || got.chunks(vocab).zip(want.chunks(vocab));
        let equal = lines().filter(|(a, b)| arg_max(a) == arg_max(b)).count();
        println!("{}: {equal} of {}", dir.display(), lines().count());
        same += equal;
        all += lines().count();
    }
    println!("in all: {same} of {all}");
    assert!(same * 100 >= all * 93, "{same} of {all}");
}

#[test]
fn tokens_one_by_one_are_tokens_at_once_alone_and_in_company() {
    for (dir, inputs) in fixtures() {
        for precision in [Precision::F32, Precision::Int8, Precision::Int4] {
            let mut runner = load(&dir, precision, None, 1);
            runner.encode(&jobs(&inputs)).expect("encodes");
            let together = decode(&mut runner, &forced(&inputs));
            let vocab = runner.shape().vocab;
            let mut line = 0;
            for (i, ids) in inputs.decoder.iter().enumerate() {
                let mut alone = load(&dir, precision, None, 2);
                alone.encode(&jobs(&inputs)[i..=i]).expect("encodes");
                for n in 1..=ids.len() {
                    let row = DecodeRow {
                        kept: n - 1,
                        wanted: 1,
                        ..all_of(i, &ids[..n])
                    };
                    let got = decode(&mut alone, &[row]);
                    let want = &together[line * vocab..][..vocab];
                    assert!(
                        bits(&got) == bits(want),
                        "{} {precision:?} sequence {i} at {n}",
                        dir.display()
                    );
                    line += 1;
                }
            }
        }
    }
}

#[test]
fn weights_quantised_ahead_run_exactly_as_those_quantised_at_load() {
    let precisions = [Precision::Int8, Precision::Int4];
    for ((dir, inputs), precision) in precisions
        .into_iter()
        .flat_map(|p| fixtures().into_iter().map(move |f| (f, p)))
    {
        let made = tempfile::tempdir().expect("a directory");
        for name in ["config.json", "generation_config.json"] {
            if dir.join(name).is_file() {
                std::fs::copy(dir.join(name), made.path().join(name)).expect("copied");
            }
        }
        let file = made.path().join("model.safetensors");
        let four_bits = precision == Precision::Int4;
        let tensors = refract_engine::quantise(&dir, &file, four_bits).expect("quantised");
        assert!(tensors > 4, "{}", dir.display());
        let mut logits = [dir.as_path(), made.path()].map(|dir| {
            let mut runner = load(dir, precision, None, 1);
            runner.encode(&jobs(&inputs)).expect("encodes");
            decode(&mut runner, &forced(&inputs))
        });
        assert!(bits(&logits[0]) == bits(&logits[1]), "{}", dir.display());
        // What four bits spell out are bytes with a scale a row: run as such, the same again.
        if four_bits {
            let mut runner = load(made.path(), Precision::Int8, None, 1);
            runner.encode(&jobs(&inputs)).expect("encodes");
            let spelt = decode(&mut runner, &forced(&inputs));
            assert!(bits(&logits[1]) == bits(&spelt), "{}", dir.display());
        }
        // The same numbers as exact ones: another backend may run them, and so may f32.
        let mut runner = load(made.path(), Precision::F32, None, 1);
        runner.encode(&jobs(&inputs)).expect("encodes");
        logits[0] = decode(&mut runner, &forced(&inputs));
        assert!(logits[0].iter().all(|x| x.is_finite()), "{}", dir.display());
        let again = refract_engine::quantise(made.path(), &made.path().join("again"), false).unwrap_err();
        assert!(again.to_string().contains("quantised already"), "{again}");
    }
}

#[test]
fn forked_rows_dropped_drafts_and_lost_memory_change_nothing() {
    let (dir, inputs) = fixtures().swap_remove(0);
    let mut runner = load(&dir, Precision::Int8, None, 1);
    runner.encode(&jobs(&inputs)).expect("encodes");
    let ids = &inputs.decoder[0];
    let row = |slot: u32, ids: &'static [u32], kept: usize, wanted: usize| DecodeRow {
        row: RowSlot(slot),
        cross: CrossSlot(0),
        ids,
        kept,
        wanted,
        best: 0,
    };
    let leak = |ids: &[u32]| -> &'static [u32] { Box::leak(ids.to_vec().into_boxed_slice()) };
    let past = leak(&ids[..20]);
    decode(&mut runner, &[row(0, past, 0, 1)]);
    // Two rows go on from one past, each in its own way; then they change places.
    runner.reorder(&[RowMove {
        to: RowSlot(1),
        from: RowSlot(0),
    }]);
    let a = leak(&[past, &[5, 6]].concat());
    let b = leak(&[past, &[7, 8]].concat());
    let forked = decode(&mut runner, &[row(0, a, 20, 2), row(1, b, 20, 2)]);
    runner.reorder(&[
        RowMove {
            to: RowSlot(0),
            from: RowSlot(1),
        },
        RowMove {
            to: RowSlot(1),
            from: RowSlot(0),
        },
    ]);
    let a_next = leak(&[a, &[9]].concat());
    let b_next = leak(&[b, &[9]].concat());
    let swapped = decode(&mut runner, &[row(0, b_next, 22, 1), row(1, a_next, 22, 1)]);
    // A draft of three is dropped after the first.
    let draft = leak(&[a_next, &[1, 2, 3]].concat());
    decode(&mut runner, &[row(1, draft, 23, 3)]);
    let other = leak(&[a_next, &[1, 4]].concat());
    let redone = decode(&mut runner, &[row(1, other, 24, 1)]);

    let mut fresh = load(&dir, Precision::Int8, None, 1);
    fresh.encode(&jobs(&inputs)).expect("encodes");
    // Nothing kept: all is computed from ids.
    let want = [
        row(0, a, 0, 2),
        row(1, b, 0, 2),
        row(2, b_next, 0, 1),
        row(3, a_next, 0, 1),
        row(4, other, 0, 1),
    ];
    let want = decode(&mut fresh, &want);
    assert!(bits(&[forked, swapped, redone].concat()) == bits(&want));

    let used = runner.bytes_held();
    assert!(used > 0);
    runner.release_rows(&[RowSlot(0), RowSlot(1), RowSlot(77)]);
    assert!(runner.bytes_held() < used);
    for i in 0..inputs.sources.len() as u32 {
        runner.release_cross(CrossSlot(i));
    }
    assert_eq!(runner.bytes_held(), 0);
}

/// Some ids of a sequence of its own.
fn some_ids(i: usize, count: usize) -> Vec<u32> {
    (0..count).map(|j| 3 + ((i * 17 + j * 5) % 60) as u32).collect()
}

#[test]
fn prompts_and_rows_keep_one_bound_together_and_nothing_is_lost_where_memory_moves() {
    const TOKENS: usize = 80 * 16;
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures/bart-plain");
    for precision in [Precision::F32, Precision::Int8] {
        let mut runner = load(&dir, precision, None, 1);
        let most = runner.page().expect("pages").most(TOKENS) as usize;
        runner.keep_within(TOKENS);
        // Six pages each: all that there may be, but for two.
        let prompts: Vec<Vec<u32>> = (0..13).map(|i| some_ids(i, 90)).collect();
        let encode = |runner: &mut CpuRunner, i: usize| {
            let job = EncodeJob {
                cross: CrossSlot(i as u32),
                ids: &prompts[i],
                pairs: None,
            };
            runner.encode(&[job]).expect("encodes");
        };
        (0..13).for_each(|i| encode(&mut runner, i));
        for i in (0..13).filter(|i| *i != 2 && *i != 9) {
            runner.release_cross(CrossSlot(i as u32));
        }
        // Now as many rows, of two pages each.
        let ids: Vec<Vec<u32>> = (0..34).map(|i| some_ids(i, 21)).collect();
        let row = |i: usize, from: usize, to: usize| DecodeRow {
            row: RowSlot(i as u32),
            cross: CrossSlot(if i.is_multiple_of(2) { 2 } else { 9 }),
            ids: &ids[i][..to],
            kept: from,
            wanted: to - from,
            best: 0,
        };
        let all: Vec<DecodeRow<'_>> = (0..34).map(|i| row(i, 0, 20)).collect();
        let first = decode(&mut runner, &all);
        let what = |runner: &CpuRunner| format!("{precision:?}: {} of {most}", runner.bytes());
        assert!(runner.bytes() <= most, "{}", what(&runner));
        // Two rows stay, and prompts come back.
        for i in (0..34).filter(|i| *i != 13 && *i != 30) {
            runner.release_rows(&[RowSlot(i)]);
        }
        (0..13)
            .filter(|i| *i != 2 && *i != 9)
            .for_each(|i| encode(&mut runner, i));
        assert!(runner.bytes() <= most, "{}", what(&runner));
        let next = decode(&mut runner, &[row(13, 20, 21), row(30, 20, 21)]);
        // A narrower bound counts at once, as far as memory is free.
        for i in (0..13).filter(|i| *i != 2 && *i != 9) {
            runner.release_cross(CrossSlot(i as u32));
        }
        runner.keep_within(16 * 16);
        let most = runner.page().expect("pages").most(16 * 16) as usize;
        assert!(
            runner.bytes() <= most,
            "{precision:?}: {} of {most}",
            runner.bytes()
        );
        let again = decode(&mut runner, &[row(13, 20, 21), row(30, 20, 21)]);
        assert!(bits(&next) == bits(&again));

        let mut fresh = load(&dir, precision, None, 1);
        [2, 9].into_iter().for_each(|i| encode(&mut fresh, i));
        assert!(bits(&first) == bits(&decode(&mut fresh, &all)), "{precision:?}");
        let last = decode(&mut fresh, &[row(13, 20, 21), row(30, 20, 21)]);
        assert!(bits(&next) == bits(&last), "{precision:?}");
    }
}

#[test]
fn an_encoder_of_wider_heads_than_bytes_allow_runs_beside_a_decoder_of_narrower_ones() {
    use refract_model::{BartConfig, Config, Ids, Trainable};
    let dir = tempfile::tempdir().expect("a directory");
    let config = BartConfig {
        vocab_size: 70,
        max_position_embeddings: 40,
        encoder_layers: 1,
        encoder_ffn_dim: 32,
        // One head of 272, and seventeen of 16.
        encoder_attention_heads: 1,
        decoder_layers: 1,
        decoder_ffn_dim: 32,
        decoder_attention_heads: 17,
        d_model: 272,
        eos_token_id: Some(Ids::One(2)),
        ..BartConfig::default()
    };
    Trainable::random(Config::Bart(config), 5, &candle_core::Device::Cpu)
        .and_then(|made| made.save(dir.path()))
        .expect("made");
    for precision in [Precision::Int8, Precision::Int4] {
        let mut runner = load(dir.path(), precision, None, 1);
        let prompt = some_ids(1, 30);
        let job = EncodeJob {
            cross: CrossSlot(0),
            ids: &prompt,
            pairs: None,
        };
        runner.encode(&[job]).expect("encodes");
        let said = decode(&mut runner, &[all_of(0, &[2, 5, 9])]);
        assert!(said.iter().all(|x| x.is_finite()), "{precision:?}");
    }
}

#[test]
fn what_cannot_be_done_is_refused_and_harms_nothing() {
    let (dir, inputs) = fixtures().swap_remove(0);
    let mut runner = load(&dir, Precision::F32, None, 1);
    let vocab = runner.shape().vocab;
    let bad = [vocab as u32];
    for ids in [&[][..], &bad[..], &[5; 5000][..]] {
        let job = EncodeJob {
            cross: CrossSlot(0),
            ids,
            pairs: None,
        };
        assert!(runner.encode(&[job]).is_err());
    }
    runner.encode(&jobs(&inputs)).expect("encodes");
    let want = decode(&mut runner, &forced(&inputs));
    let mut data = vec![0.0; vocab];
    let mut logits = Logits::new(vocab, &mut data);
    let row = DecodeRow {
        kept: 0,
        wanted: 1,
        ..all_of(9, &bad)
    };
    assert!(
        runner
            .decode(
                &[DecodeRow {
                    cross: CrossSlot(0),
                    ..row
                }],
                &mut logits
            )
            .is_err()
    );
    assert!(
        runner.decode(&[all_of(99, &[2])], &mut logits).is_err(),
        "no such cross memory"
    );
    let row = DecodeRow {
        cross: CrossSlot(0),
        kept: 1,
        ..all_of(9, &[2])
    };
    assert!(runner.decode(&[row], &mut logits).is_err(), "nothing to compute");
    assert!(bits(&decode(&mut runner, &forced(&inputs))) == bits(&want));
}
