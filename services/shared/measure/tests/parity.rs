//! Every measure agrees with published implementations on committed cases (`make_cases.py` makes them).

use refract_measure::{
    Bleu, Features, Prf, Words, distinct, rouge_l, rouge_l_by_ratio, rouge_n, rouge_n_of_sets, unique_share,
    words,
};
use serde_json::Value;

fn cases(name: &str) -> Vec<Value> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/cases/{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn text<'a>(case: &'a Value, field: &str) -> &'a str {
    case[field].as_str().unwrap()
}

#[track_caller]
fn close(ours: f64, theirs: &Value, about: &str) {
    let theirs = theirs.as_f64().unwrap();
    // The set-based library adds 1e-8 to a denominator.
    assert!((ours - theirs).abs() < 1e-6, "{about}: {ours}, not {theirs}");
}

#[track_caller]
fn same(ours: Prf, theirs: &Value, about: &str) {
    close(ours.precision, &theirs["precision"], about);
    close(ours.recall, &theirs["recall"], about);
    close(ours.f, &theirs["f"], about);
}

#[test]
fn rouge_is_that_of_the_libraries() {
    for case in cases("pairs") {
        let about = case.to_string();
        let cut = |field, how| words(text(&case, field), how);
        let (ours, theirs) = (cut("text", Words::Ascii), cut("reference", Words::Ascii));
        same(rouge_n(&ours, &theirs, 1), &case["ascii"]["rouge1"], &about);
        same(rouge_n(&ours, &theirs, 2), &case["ascii"]["rouge2"], &about);
        same(rouge_l(&ours, &theirs), &case["ascii"]["rougeL"], &about);
        let (ours, theirs) = (cut("text", Words::Spaces), cut("reference", Words::Spaces));
        same(
            rouge_n_of_sets(&ours, &theirs, 1),
            &case["spaces"]["sets1"],
            &about,
        );
        same(
            rouge_n_of_sets(&ours, &theirs, 2),
            &case["spaces"]["sets2"],
            &about,
        );
        same(
            rouge_l_by_ratio(&ours, &theirs),
            &case["spaces"]["by_ratio"],
            &about,
        );
    }
}

#[test]
fn bleu_is_that_of_the_library_also_where_an_order_has_no_match() {
    for case in cases("bleu") {
        let mut sum = Bleu::default();
        for pair in case["pairs"].as_array().unwrap() {
            let cut = |n: usize| words(pair[n].as_str().unwrap(), Words::Spaces);
            sum += Bleu::of(&cut(0), &cut(1));
        }
        close(sum.score(1), &case["bleu1"], &case.to_string());
        close(sum.score(4), &case["bleu4"], &case.to_string());
    }
}

#[test]
fn variety_and_features_are_as_defined_pair_by_pair() {
    for case in cases("sets") {
        let strings = |field: &str| -> Vec<String> {
            let list = case[field].as_array().unwrap();
            list.iter().map(|v| v.as_str().unwrap().to_owned()).collect()
        };
        let texts: Vec<Vec<String>> = strings("texts")
            .iter()
            .map(|text| words(text, Words::Spaces))
            .collect();
        close(unique_share(&texts), &case["usr"], "usr");
        close(distinct(&texts, 1), &case["distinct1"], "distinct-1");
        close(distinct(&texts, 2), &case["distinct2"], "distinct-2");
        let features = Features::new(strings("vocabulary"), Words::Spaces);
        let found: Vec<_> = texts.iter().map(|text| features.find(text)).collect();
        let wanted = strings("features");
        let met = found
            .iter()
            .zip(&wanted)
            .filter(|(found, wanted)| features.speaks_of(found, wanted) == Some(true))
            .count();
        close(met as f64 / texts.len() as f64, &case["fmr"], "fmr");
        close(features.coverage(&found), &case["fcr"], "fcr");
        close(features.sharing(&found), &case["div"], "div");
    }
}

#[test]
fn nothing_said_scores_nothing_and_nothing_panics() {
    let none: Vec<Vec<String>> = Vec::new();
    assert_eq!((unique_share(&none), distinct(&none, 2)), (0.0, 0.0));
    assert_eq!(Bleu::default().score(4), 0.0);
    let features = Features::new(Vec::<String>::new(), Words::Any);
    assert_eq!((features.coverage(&[]), features.sharing(&[])), (0.0, 0.0));
}
