//! The house rules that a machine can hold: who may know whom, where gRPC codes live, words that must not appear.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Which crates of ours each crate may use (services/ARCHITECTURE.md, "Rooms"). Development dependencies are free.
const MAY_USE: &[(&str, &[&str])] = &[
    ("refract-domain", &[]),
    ("refract-durable", &[]),
    ("refract-model", &["refract-kernel", "refract-durable"]),
    ("refract-kernel", &[]),
    ("refract-resilience", &[]),
    ("refract-measure", &[]),
    ("refract-import", &[]),
    (
        "refract-distill",
        &[
            "refract-domain",
            "refract-durable",
            "refract-measure",
            "refract-resilience",
            "refract-truth",
        ],
    ),
    ("refract-truth", &["refract-domain"]),
    ("refract-engine", &["refract-model", "refract-kernel"]),
    (
        "refract-bundle",
        &["refract-domain", "refract-durable", "refract-truth"],
    ),
    (
        "refract-worker",
        &[
            "refract-domain",
            "refract-bundle",
            "refract-model",
            "refract-engine",
        ],
    ),
    ("refract-wire", &["refract-domain"]),
    ("refract-net", &["refract-resilience"]),
    ("refract-knowledge", &["refract-domain"]),
    ("refract-chassis", &["refract-resilience"]),
    ("refract-plan", &["refract-loadtest"]),
    (
        "refract-station",
        &[
            "refract-domain",
            "refract-bundle",
            "refract-worker",
            "refract-wire",
            "refract-net",
            "refract-chassis",
        ],
    ),
    (
        "refract-ranker",
        &[
            "refract-domain",
            "refract-durable",
            "refract-truth",
            "refract-knowledge",
            "refract-wire",
            "refract-net",
            "refract-chassis",
            "refract-resilience",
            "refract-station",
        ],
    ),
    (
        "refract-client",
        &[
            "refract-domain",
            "refract-net",
            "refract-resilience",
            "refract-wire",
        ],
    ),
    ("refract-loadtest", &["refract-client"]),
    ("refract-oracle", MODEL_SERVICE),
    ("refract-prism", MODEL_SERVICE),
];

const MODEL_SERVICE: &[&str] = &[
    "refract-domain",
    "refract-truth",
    "refract-bundle",
    "refract-worker",
    "refract-engine",
    "refract-wire",
    "refract-net",
    "refract-chassis",
    "refract-resilience",
    "refract-station",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ stands in the repository")
        .to_owned()
}

/// Every file below `dir` that git would track by name: no build output, no hidden tool folders.
fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir)
        .expect("readable folder")
        .map(|e| e.expect("readable entry"))
    {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() {
            if !matches!(
                name.as_str(),
                "target" | ".git" | ".tools" | "__pycache__" | ".venv" | "fixtures"
            ) {
                files(&path, found);
            }
        } else {
            found.push(path);
        }
    }
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    files(&root(), &mut found);
    found
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .map(|path| (path.clone(), fs::read_to_string(&path).expect("utf-8 source")))
        .collect()
}

#[test]
fn crates_use_only_the_rooms_they_may_know() {
    let rules: BTreeMap<_, _> = MAY_USE.iter().copied().collect();
    let mut found = Vec::new();
    files(&root().join("services"), &mut found);
    files(&root().join("loadtest"), &mut found);
    let mut seen = 0;
    for path in found.iter().filter(|p| p.ends_with("Cargo.toml")) {
        let manifest: toml::Table = fs::read_to_string(path).expect("manifest").parse().expect("toml");
        let name = manifest["package"]["name"]
            .as_str()
            .expect("a crate has a name")
            .to_owned();
        if name == "refract" {
            continue; // the command composes everything
        }
        let allowed = rules
            .get(name.as_str())
            .unwrap_or_else(|| panic!("{name}: give it a row in MAY_USE and in ARCHITECTURE.md"));
        seen += 1;
        for section in ["dependencies", "build-dependencies"] {
            for used in manifest
                .get(section)
                .and_then(|s| s.as_table())
                .into_iter()
                .flat_map(|t| t.keys())
            {
                if used.starts_with("refract") {
                    assert!(
                        allowed.contains(&used.as_str()),
                        "{name} may not use {used} ({})",
                        path.display()
                    );
                }
            }
        }
    }
    assert_eq!(seen, rules.len(), "a crate of MAY_USE is gone");
}

#[test]
fn the_top_level_holds_only_the_rooms_that_the_readme_names() {
    let rooms = [
        "Cargo.toml",
        "Cargo.lock",
        "README.md",
        "services",
        "proto",
        "k8s",
        "helm",
        "loadtest",
        "tests",
        "target",
    ];
    for entry in fs::read_dir(root()).expect("the root") {
        let name = entry.expect("readable entry").file_name();
        let name = name.to_string_lossy();
        assert!(
            name.starts_with('.') || rooms.contains(&&*name),
            "{name} has no place at the top level"
        );
    }
}

#[test]
fn the_domain_knows_no_transport_and_no_format() {
    let manifest: toml::Table = fs::read_to_string(root().join("services/shared/domain/Cargo.toml"))
        .expect("manifest")
        .parse()
        .expect("toml");
    for banned in [
        "tokio",
        "tonic",
        "prost",
        "serde",
        "serde_json",
        "redis",
        "candle-core",
    ] {
        assert!(
            manifest["dependencies"].get(banned).is_none(),
            "domain must not depend on {banned}"
        );
    }
}

#[test]
fn only_wire_makes_a_grpc_status() {
    for (path, text) in sources() {
        let shown = path
            .strip_prefix(root())
            .expect("below the root")
            .display()
            .to_string();
        if shown.starts_with("services/shared/wire/")
            || shown.starts_with("tests/")
            || shown.contains("/tests")
        {
            continue;
        }
        for made in [
            "Status::new(",
            "Status::internal(",
            "Status::invalid_argument(",
            "Status::unavailable(",
            "Status::with_details",
        ] {
            assert!(
                !text.contains(made),
                "{shown}: {made}…) belongs into refract-wire's status.rs"
            );
        }
    }
}

#[test]
fn only_model_engine_and_training_import_candle() {
    for (path, text) in sources() {
        let shown = path
            .strip_prefix(root())
            .expect("below the root")
            .display()
            .to_string();
        let free = [
            "services/shared/model/",
            // What candle does not say to a GPU.
            "services/shared/kernel/src/gpu",
            "services/shared/engine/",
            "services/shared/worker/",
            "services/refract/src/train",
            "services/refract/src/generate",
        ];
        if free.iter().any(|f| shown.starts_with(f)) || shown.starts_with("tests/") {
            continue;
        }
        assert!(!text.contains("candle_"), "{shown} imports candle");
    }
}

#[test]
fn no_unfinished_marks_and_no_queue_without_a_bound() {
    // Put together from halves, so that this file does not find itself.
    let banned = [
        ["TO", "DO"],
        ["FIX", "ME"],
        ["todo", "!("],
        ["unimplemented", "!("],
        ["unbounded_", "channel("],
        ["#[ign", "ore"],
    ];
    for (path, text) in sources() {
        for word in banned.map(|halves| halves.concat()) {
            assert!(!text.contains(&word), "{}: {word}", path.display());
        }
    }
}

#[test]
fn every_file_of_ours_says_what_it_is_for() {
    for (path, text) in sources() {
        assert!(
            text.starts_with("//!"),
            "{}: begin with a //! line that says what the module is for",
            path.display()
        );
    }
}

#[test]
fn unsafe_code_is_forbidden_everywhere_but_in_the_kernels() {
    let mut found = Vec::new();
    files(&root(), &mut found);
    for path in found
        .iter()
        .filter(|p| p.ends_with("Cargo.toml") && **p != root().join("Cargo.toml"))
    {
        let text = fs::read_to_string(path).expect("manifest");
        // Intrinsics and assembly live in one crate; nothing else there is laxer, and it uses nothing of ours.
        if path.ends_with("services/shared/kernel/Cargo.toml") {
            assert!(
                text.contains("undocumented_unsafe_blocks"),
                "{}: every unsafe block says why",
                path.display()
            );
            continue;
        }
        assert!(
            text.contains("[lints]\nworkspace = true"),
            "{}: inherit the workspace's lints",
            path.display()
        );
    }
}
