//! The genuine tokenizers round-trip and stay within the vocabularies of the models they belong to.

use std::path::{Path, PathBuf};

use tokenizers::Tokenizer;

/// `REFRACT_SHARED_DATA`, or `shared/data` beside the repository.
fn shared_data() -> Option<PathBuf> {
    let given = std::env::var_os("REFRACT_SHARED_DATA").map(PathBuf::from);
    let beside = || {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .find(|dir| dir.join("Cargo.lock").exists())
            .and_then(Path::parent)
            .map(|parent| parent.join("shared/data"))
    };
    given
        .or_else(beside)
        .filter(|dir| dir.join("tokenizers").is_dir())
}

fn tokenizer(file: &str) -> Option<Tokenizer> {
    let Some(data) = shared_data() else {
        eprintln!("SKIPPED: the shared tokenizers are not here (set REFRACT_SHARED_DATA)");
        return None;
    };
    Some(Tokenizer::from_file(data.join("tokenizers").join(file)).unwrap())
}

const TEXTS: [&str; 3] = [
    "Jack and jill",
    "Heat (1995) shares its director, Michael Mann, with Collateral.",
    "You liked two films of the same series: a third one follows.",
];

#[test]
fn bart_ids_are_those_of_the_published_model() {
    let Some(tokenizer) = tokenizer("bart.tokenizer.json") else {
        return;
    };
    let encoded = tokenizer.encode("Jack and jill", true).unwrap();
    assert_eq!(encoded.get_ids(), [0, 20907, 8, 1236, 1873, 2]);
    for text in TEXTS {
        let ids = tokenizer.encode(text, true).unwrap().get_ids().to_vec();
        assert!(ids.iter().all(|id| *id < 50_265));
        assert_eq!((ids.first(), ids.last()), (Some(&0), Some(&2)));
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), text);
    }
}

#[test]
fn t5_ids_fit_the_published_vocabulary() {
    let Some(tokenizer) = tokenizer("t5.tokenizer.json") else {
        return;
    };
    for text in TEXTS {
        let ids = tokenizer.encode(text, true).unwrap().get_ids().to_vec();
        assert!(ids.iter().all(|id| *id < 32_100));
        assert_eq!(ids.last(), Some(&1));
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), text);
    }
}
