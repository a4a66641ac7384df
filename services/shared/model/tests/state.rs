//! Whatever rows do (join, leave, repeat, change places, forget, grow by any number of tokens), each says what it says alone.

mod common;

use common::*;
use proptest::prelude::*;
use refract_model::{Cross, CrossBatch, Model, OwnKv};

#[derive(Clone, Debug)]
enum Act {
    Join(usize),
    /// Rows to keep, each modulo the rows there are.
    Select(Vec<usize>),
    /// A row, and how many of its last tokens it forgets.
    Forget(usize, usize),
    /// Tokens that each row takes, cyclically; at least one row takes some.
    Decode(Vec<usize>),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => (0_usize..5).prop_map(Act::Join),
        2 => prop::collection::vec(0_usize..8, 0..6).prop_map(Act::Select),
        1 => (0_usize..8, 1_usize..5).prop_map(|(row, n)| Act::Forget(row, n)),
        5 => prop::collection::vec(0_usize..4, 1..4).prop_map(Act::Decode),
    ]
}

fn run(model: &Model, inputs: &Inputs, together: &[Cross], acts: Vec<Act>) {
    let mut own = OwnKv::empty(model);
    let mut batch = CrossBatch::gather(model, &[]).unwrap();
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
            _ => {}
        }
        assert_eq!(own.rows(), live.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn rows_never_touch_one_another(acts in prop::collection::vec(act(), 1..40), bart: bool) {
        let name = if bart { "bart-unequal" } else { "t5-unequal" };
        let (model, inputs) = (load(name), inputs(name));
        let together = crosses(&model, &inputs);
        run(&model, &inputs, &together, acts);
    }
}
