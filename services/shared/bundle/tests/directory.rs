//! What is on disk: checksums, unknown keys, plain Hugging Face directories, genuine tokenizers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use refract_bundle::manifest::{MANIFEST_FILE, Provenance, SlotLimits};
use refract_bundle::{Bundle, Error, Manifest, Mode, Role, TemplateKind, Tokenizer, write_slot_tokenizer};
use refract_domain::{ExplainQuery, History, Interaction, Item, ItemId, Pair, Signal, TenantId, Timestamp};

fn written(dir: &Path) -> Manifest {
    write_slot_tokenizer(dir, Role::Prism, &SlotLimits::default()).expect("a tokenizer");
    std::fs::write(dir.join("model.safetensors"), b"weights").expect("a file");
    Manifest::slots(
        "m",
        Role::Prism,
        Provenance {
            seed: 42,
            ..Provenance::default()
        },
    )
    .write(dir)
    .expect("written")
}

#[test]
fn what_was_written_is_read_and_a_changed_missing_or_unlisted_file_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let manifest = written(dir.path());
    let bundle = Bundle::open(dir.path()).expect("opens");
    assert_eq!(bundle.manifest(), &manifest);
    assert_eq!(bundle.revision().0, format!("m@{}", manifest.revision));
    assert!(matches!(bundle.expect(Role::Oracle), Err(Error::Role { .. })));

    std::fs::write(dir.path().join("model-2.safetensors"), b"more").expect("a file");
    let error = Bundle::open(dir.path()).expect_err("unlisted").to_string();
    assert!(error.contains("model-2.safetensors"), "{error}");
    std::fs::remove_file(dir.path().join("model-2.safetensors")).expect("removed");

    std::fs::write(dir.path().join("model.safetensors"), b"weightt").expect("a file");
    let error = Bundle::open(dir.path()).expect_err("changed");
    assert!(
        matches!(&error, Error::Checksum { path, .. } if path.ends_with("model.safetensors")),
        "{error}"
    );

    std::fs::remove_file(dir.path().join("model.safetensors")).expect("removed");
    assert!(matches!(Bundle::open(dir.path()), Err(Error::Missing { .. })));
}

#[test]
fn a_manifest_that_says_something_odd_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().expect("a folder");
    written(dir.path());
    let path = dir.path().join(MANIFEST_FILE);
    let good = std::fs::read_to_string(&path).expect("a file");
    for (from, to, reason) in [
        ("name = \"m\"", "name = \"m\"\ncolour = 3", "colour"),
        ("name = \"m\"", "name = \"\"", "name"),
        ("num_beams = 1", "num_beams = 0", "num_beams"),
        ("num_beams = 1", "num_beams = 1\ntemperature = 2", "temperature"),
        ("kind = \"slots\"", "kind = \"plain\"", "[slots]"),
        ("role = \"prism\"", "role = \"lens\"", "lens"),
        ("history_max = 10", "history_max = 3", "history_items_max"),
        ("history_max = 10", "history_max = 11", "<h11>"),
        ("revision = \"", "revision = \"0", "revision"),
        ("[files]", "[files]\n\"../x\" = \"00\"", "../x"),
    ] {
        assert!(good.contains(from), "{from}\n{good}");
        std::fs::write(&path, good.replacen(from, to, 1)).expect("a file");
        let error = Bundle::open(dir.path()).expect_err(reason).to_string();
        assert!(error.contains(reason), "{reason}: {error}");
    }
}

#[test]
fn a_tokenizer_with_ids_beyond_the_model_is_refused_but_for_special_tokens_that_nothing_writes() {
    let dir = tempfile::tempdir().expect("a folder");
    written(dir.path());
    let bundle = Bundle::open(dir.path()).expect("opens");
    let ids = bundle.tokenizer().vocab_size();
    // Padded vocabularies are usual.
    for rows in [ids, ids + 28] {
        bundle.fits(rows).expect("fits");
    }
    let error = bundle.fits(ids - 1).expect_err("an id too many").to_string();
    assert!(
        error.contains("tokenizer.json")
            && error.contains(&format!("up to {}, the model knows {}", ids - 1, ids - 1)),
        "{error}"
    );
    let path = dir.path().join("tokenizer.json");
    let text = std::fs::read_to_string(&path).expect("a file");
    let mut json: serde_json::Value = serde_json::from_str(&text).expect("json");
    json["added_tokens"].as_array_mut().expect("a list").push(serde_json::json!({
        "id": ids, "content": "<mask>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true,
    }));
    std::fs::write(&path, json.to_string()).expect("a file");
    let tokenizer = Tokenizer::read(&path).expect("a tokenizer");
    assert_eq!(tokenizer.vocab_size(), ids + 1);
    tokenizer.fits(ids).expect("fits");
}

/// `<repository>/../shared/data`, or `REFRACT_SHARED_DATA`.
fn shared_data() -> Option<PathBuf> {
    let given = std::env::var_os("REFRACT_SHARED_DATA").map(PathBuf::from);
    given
        .or_else(|| {
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .ancestors()
                .map(|up| up.join("../shared/data"))
                .find(|d| d.is_dir())
        })
        .filter(|dir| dir.is_dir())
}

fn film(id: &str, title: &str) -> Arc<Item> {
    let attributes = [("director", "Michael Mann"), ("year", "1995"), ("genre", "crime")];
    Arc::new(Item {
        id: ItemId::new(id),
        title: title.to_owned(),
        attributes: attributes
            .iter()
            .map(|(n, v)| ((*n).to_owned(), vec![(*v).to_owned()]))
            .collect(),
        description: "A thief and a detective circle each other. ".repeat(40),
    })
}

fn query(past: usize) -> ExplainQuery {
    let interactions = (0..past).map(|n| Interaction {
        item: film(&format!("p{n}"), &format!("Heat, Part {n}")),
        at: Timestamp(n as i64),
        signal: Signal::Liked,
        rating: None,
        text: None,
    });
    let pair = Pair {
        tenant: TenantId::default(),
        user: None,
        item: film("item", "Thief <pad></s>"),
        affinities: Vec::new(),
    };
    ExplainQuery {
        pair,
        history: Arc::new(History::new(interactions.collect())),
        knowledge: None,
        style: 0,
    }
}

#[test]
fn plain_hugging_face_directories_get_documented_defaults() {
    let Some(data) = shared_data() else {
        println!("SKIPPED: no shared data (tokenizers) beside the repository");
        return;
    };
    for (kind, file, role, mode) in [
        ("bart", "bart.tokenizer.json", Role::Prism, Mode::Alone),
        ("t5", "t5.tokenizer.json", Role::Oracle, Mode::Conditioned),
    ] {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::copy(
            data.join("tokenizers").join(file),
            dir.path().join("tokenizer.json"),
        )
        .expect("copied");
        std::fs::write(
            dir.path().join("config.json"),
            format!("{{\"model_type\": \"{kind}\"}}"),
        )
        .expect("a file");
        std::fs::write(dir.path().join("model.safetensors"), vec![7; 3 << 20]).expect("a file");
        let bundle = Bundle::open(dir.path()).expect("opens");
        let manifest = bundle.manifest().clone();
        assert_eq!(
            (manifest.role, manifest.mode, manifest.template.kind),
            (role, mode, TemplateKind::Plain)
        );
        assert!(manifest.revision.starts_with("sampled-"));
        let query = query(60);
        let prompt = match role {
            Role::Prism => bundle.prompt_prism(&query),
            Role::Oracle => bundle.prompt_oracle(&query.pair, &query.history),
        }
        .expect("a prompt");
        assert!(prompt.ids.len() <= manifest.limits.prompt_tokens_max);
        assert!(
            prompt.text.contains("Heat, Part 59") && prompt.text.contains("Thief ‹pad›‹/s›"),
            "{}",
            prompt.text
        );
        assert_eq!(prompt.history_truncated, 50);
        // Only the tokenizer's own end, none from the title.
        let end = bundle.tokenizer().id("</s>").expect("an end");
        assert_eq!(prompt.ids.iter().filter(|id| **id == end).count(), 1);
        if role == Role::Oracle {
            let parsed = bundle.parse_oracle(&prompt, "Like Heat, Part 59, it was directed by Michael Mann. It stars Tom Hanks. It is a crime film.");
            assert_eq!((parsed.facts.len(), parsed.refused), (2, 1), "{parsed:?}");
        }
    }
}

#[test]
fn genuine_tokenizers_stream_their_text_and_keep_their_ids() {
    let Some(data) = shared_data() else {
        println!("SKIPPED: no shared data (tokenizers) beside the repository");
        return;
    };
    let bart = Tokenizer::read(&data.join("tokenizers/bart.tokenizer.json")).expect("a tokenizer");
    assert_eq!(bart.encode("Jack and jill"), [0, 20907, 8, 1236, 1873, 2]);
    let t5 = Tokenizer::read(&data.join("tokenizers/t5.tokenizer.json")).expect("a tokenizer");
    for tokenizer in [bart, t5] {
        for text in [
            "You liked Heat, and Amélie too; 8½ is next.",
            "It costs 5 dollars, doesn't it?",
        ] {
            let ids = tokenizer.encode(text);
            let mut stream = tokenizer.stream();
            let streamed: String = ids.iter().map(|id| stream.push(*id)).collect();
            assert_eq!(streamed, tokenizer.decode(&ids));
        }
    }
}
