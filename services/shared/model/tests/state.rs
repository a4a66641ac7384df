//! Whatever rows do (join, leave, repeat, change places, forget, grow by any number of tokens), each says what it says alone.

mod common;

use common::*;
use proptest::prelude::*;
use refract_model::{Cross, CrossBatch, Model, OwnKv, Pieces, Steps};

#[derive(Clone, Debug)]
enum Act {
    Join(usize),
    /// Rows to keep, each modulo the rows there are.
    Select(Vec<usize>),
    /// A row, and how many of its last tokens it forgets.
    Forget(usize, usize),
    /// Tokens that each row takes, cyclically; at least one row takes some.
    Decode(Vec<usize>),
    /// Every row takes one token, in a step of a fixed shape.
    Step,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => (0_usize..5).prop_map(Act::Join),
        2 => prop::collection::vec(0_usize..8, 0..6).prop_map(Act::Select),
        1 => (0_usize..8, 1_usize..5).prop_map(|(row, n)| Act::Forget(row, n)),
        5 => prop::collection::vec(0_usize..4, 1..4).prop_map(Act::Decode),
        4 => Just(Act::Step),
    ]
}

fn run(model: &Model, inputs: &Inputs, together: &[Cross], acts: Vec<Act>) {
    let mut own = OwnKv::empty(model);
    let mut batch = CrossBatch::gather(model, &[]).unwrap();
    let mut steps = Steps::default();
    // The sequence of each row; its age is `own`'s to know.
    let mut live: Vec<usize> = Vec::new();
    for act in acts {
        match act {
            Act::Join(sequence) => {
                own.push_row();
                live.push(sequence);
            }
            Act::Select(kept) if !live.is_empty() => {
                let kept: Vec<usize> = kept.iter().map(|row| row % live.len()).collect();
                let ages: Vec<usize> = kept.iter().map(|row| own.lengths()[*row]).collect();
                own.select(&kept).unwrap();
                live = kept.iter().map(|row| live[*row]).collect();
                assert_eq!(own.lengths(), ages);
            }
            Act::Forget(row, n) if !live.is_empty() => {
                let row = row % live.len();
                own.truncate(row, own.lengths()[row].saturating_sub(n));
            }
            Act::Decode(counts) if !live.is_empty() => {
                let ages = own.lengths().to_vec();
                let tokens: Vec<&[u32]> = live
                    .iter()
                    .enumerate()
                    .map(|(row, i)| {
                        let rest = &inputs.decoder[*i][ages[row].min(inputs.decoder[*i].len())..];
                        &rest[..counts[row % counts.len()].min(rest.len())]
                    })
                    .collect();
                if tokens.iter().all(|t| t.is_empty()) {
                    continue;
                }
                batch
                    .regather(&live.iter().map(|i| &together[*i]).collect::<Vec<_>>())
                    .unwrap();
                let logits = model.decode_many(&tokens, &mut own, &batch).unwrap();
                for (row, i) in live
                    .iter()
                    .enumerate()
                    .filter(|(row, _)| !tokens[*row].is_empty())
                {
                    let n = tokens[row].len();
                    let said = logits.get(row).unwrap().narrow(0, 0, n).unwrap();
                    let expected = inputs.logits[*i].narrow(0, ages[row], n).unwrap();
                    assert_close(
                        &said,
                        &expected,
                        1e-4,
                        &format!("row {row}, sequence {i}, age {}", ages[row]),
                    );
                }
            }
            Act::Step if !live.is_empty() => {
                let ages = own.lengths().to_vec();
                // A row that has said all goes on with anything.
                let next = |(i, age): (&usize, &usize)| inputs.decoder[*i].get(*age).copied();
                let tokens: Vec<Option<u32>> = live.iter().zip(&ages).map(next).collect();
                batch
                    .regather(&live.iter().map(|i| &together[*i]).collect::<Vec<_>>())
                    .unwrap();
                let given: Vec<u32> = tokens.iter().map(|t| t.unwrap_or(0)).collect();
                // Steps that find the likeliest tokens are another shape than those that do not.
                let pieces = Pieces::of(model.spec().vocab, given.len());
                let said = steps.decode(model, &given, &mut own, &batch, pieces).unwrap();
                let logits = said.logits;
                if let (Some(pieces), Some(told)) = (pieces, said.likeliest) {
                    let expected = pieces.find(&logits).unwrap();
                    assert_close(&told, &expected, 0.0, "the likeliest, in a fixed step");
                }
                for (row, i) in live.iter().enumerate().filter(|(row, _)| tokens[*row].is_some()) {
                    assert_close(
                        &logits.get(row).unwrap(),
                        &inputs.logits[*i].get(ages[row]).unwrap(),
                        1e-4,
                        &format!("row {row}, sequence {i}, age {}, in a fixed step", ages[row]),
                    );
                }
            }
            _ => {}
        }
        assert_eq!(own.rows(), live.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn rows_never_touch_one_another(acts in prop::collection::vec(act(), 1..40), bart: bool) {
        let name = if bart { "bart-unequal" } else { "t5-unequal" };
        let (model, inputs) = (load(name), inputs(name));
        let together = crosses(&model, &inputs);
        run(&model, &inputs, &together, acts);
    }
}

/// What the property above once found: a row that has not been decoded yet has no memory to be moved from.
#[test]
fn a_row_that_has_said_nothing_moves_with_the_others() {
    let acts = vec![
        Act::Join(0),
        Act::Decode(vec![1]),
        Act::Select(vec![0, 0, 0, 0]),
        Act::Join(0),
        Act::Select(vec![1, 4, 0]),
        Act::Decode(vec![1, 1, 1]),
    ];
    let (model, inputs) = (load("t5-unequal"), inputs("t5-unequal"));
    let together = crosses(&model, &inputs);
    run(&model, &inputs, &together, acts);
}

#[test]
fn steps_of_a_fixed_shape_say_the_same_past_the_sizes_that_they_are_rounded_to() {
    for name in ["bart-forced", "bart-unequal", "t5-unequal"] {
        let model = load(name);
        let source: Vec<u32> = (5..45).collect();
        let crosses = model.cross(&model.encode(&[&source], None).unwrap()).unwrap();
        let batch = CrossBatch::gather(&model, &[&crosses[0]]).unwrap();
        let (mut told, mut fixed) = (OwnKv::empty(&model), OwnKv::empty(&model));
        told.push_row();
        fixed.push_row();
        let mut steps = Steps::default();
        for age in 0..45_u32 {
            let token = [(7 * age) % 60];
            let expected = model.decode(&token, &mut told, &batch).unwrap();
            let said = steps.decode(&model, &token, &mut fixed, &batch, None).unwrap();
            assert_close(&said.logits, &expected, 1e-5, &format!("{name}, age {age}"));
        }
    }
}
