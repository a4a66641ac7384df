//! The command as people and programs use it.

use std::path::Path;

use refract_tests::{Service, json_lines, root, run};

#[test]
fn the_demo_streams_every_event_twice_and_remembers_the_second_time() {
    let lines = json_lines(&run(&[
        "demo",
        "--json",
        "--user",
        "noir-and-heists",
        "--limit",
        "3",
    ]));
    let kinds: Vec<&str> = lines.iter().filter_map(|l| l["event"].as_str()).collect();
    assert_eq!(kinds.first(), Some(&"history"));
    for (kind, times) in [("slate", 2), ("explained", 6), ("summary", 2)] {
        assert_eq!(
            kinds.iter().filter(|k| **k == kind).count(),
            times,
            "{kind}: {kinds:?}"
        );
    }
    let summaries: Vec<&serde_json::Value> = lines.iter().filter(|l| l["event"] == "summary").collect();
    assert!(
        summaries[0]["rungs"]["RUNG_FRESH"].as_u64().unwrap_or(0) > 0,
        "{}",
        summaries[0]
    );
    assert!(
        summaries[1]["rungs"]["RUNG_CACHED"].as_u64().unwrap_or(0) > 0,
        "{}",
        summaries[1]
    );
    for explained in lines.iter().filter(|l| l["event"] == "explained") {
        assert!(
            !explained["text"].as_str().unwrap_or_default().is_empty(),
            "{explained}"
        );
    }
}

#[test]
fn liked_titles_are_a_history_and_near_misses_are_forgiven() {
    let lines = json_lines(&run(&[
        "demo",
        "--json",
        "--likes",
        "heat",
        "Seven Samurai",
        "Alien",
    ]));
    let history = &lines[0]["interactions"];
    let titles: Vec<&str> = history
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|i| i["title"].as_str())
        .collect();
    assert_eq!(titles, ["Heat", "Seven Samurai", "Alien"]);
}

#[test]
fn an_unknown_user_is_told_who_exists() {
    let output = run(&["demo", "--user", "noir-and-heist"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(error.contains("noir-and-heists"), "{error}");
}

/// What the command can be told, as the reference names it.
const SETTINGS: [(&str, &str); 6] = [
    ("max_new_tokens", "--max-new-tokens"),
    ("min_new_tokens", "--min-new-tokens"),
    ("num_beams", "--num-beams"),
    ("length_penalty", "--length-penalty"),
    ("repetition_penalty", "--repetition-penalty"),
    ("no_repeat_ngram_size", "--no-repeat-ngram-size"),
];

#[test]
fn generate_writes_what_the_reference_writes() {
    let fixtures = root().join("services/shared/model/tests/fixtures");
    let (mut greedy, mut beams) = (0, 0);
    for entry in std::fs::read_dir(&fixtures).expect("fixtures") {
        let dir = entry.expect("an entry").path();
        let Ok(text) = std::fs::read_to_string(dir.join("generation.json")) else {
            continue;
        };
        let cases: Vec<serde_json::Value> = serde_json::from_str(&text).expect("a list of cases");
        for case in &cases {
            let settings = case["settings"].as_object().expect("settings");
            let sayable = settings
                .keys()
                .all(|key| SETTINGS.iter().any(|(name, _)| name == key));
            if !sayable || !settings.contains_key("max_new_tokens") || !case["pair"].is_null() {
                continue;
            }
            let folder = tempfile::tempdir().expect("a folder");
            let input = folder.path().join("input.jsonl");
            std::fs::write(&input, serde_json::json!({ "ids": case["input"] }).to_string()).expect("written");
            let (bundle, input) = (
                dir.to_string_lossy().into_owned(),
                input.to_string_lossy().into_owned(),
            );
            let mut args = vec!["generate", "--json", "--bundle", &bundle, "--input", &input];
            let values: Vec<(&str, String)> = SETTINGS
                .iter()
                .filter_map(|(name, flag)| Some((*flag, settings.get(*name)?.to_string())))
                .collect();
            args.extend(values.iter().flat_map(|(flag, value)| [*flag, value.as_str()]));
            let (written, wanted) = (&json_lines(&run(&args))[0], &case["outputs"][0]);
            assert_eq!(
                written["ids"],
                wanted["ids"],
                "{} {}",
                dir.display(),
                case["name"]
            );
            match wanted["score"].as_f64() {
                Some(score) => {
                    let found = written["score"].as_f64().expect("beams have scores");
                    assert!(
                        (found - score).abs() <= 1e-4 * score.abs().max(1.0),
                        "{}: {found} for {score}",
                        dir.display()
                    );
                    beams += 1;
                }
                None => greedy += 1,
            }
        }
    }
    assert!(
        greedy > 0 && beams > 0,
        "{greedy} greedy and {beams} beam cases: the fixtures have changed"
    );
}

#[test]
fn a_bundle_with_one_changed_byte_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let shipped = root().join("services/refract/demo/prism");
    for entry in std::fs::read_dir(&shipped).expect("the shipped Prism") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("copied");
    }
    let weights = folder.path().join("model.safetensors");
    let mut bytes = std::fs::read(&weights).expect("weights");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&weights, bytes).expect("written");
    let output = run(&["demo", "--json", "--prism", &folder.path().to_string_lossy()]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(error.contains("model.safetensors"), "{error}");
}

#[test]
fn a_quantised_bundle_loads_without_the_original_and_is_as_strict() {
    let folder = tempfile::tempdir().expect("a folder");
    let shipped = root().join("services/refract/demo/prism");
    let (shipped, out) = (shipped.to_string_lossy().into_owned(), folder.path().join("int8"));
    let prompts = folder.path().join("prompts.jsonl");
    std::fs::write(&prompts, "{\"ids\": [0, 20, 30, 40, 2]}\n").expect("written");
    let (out, prompts) = (
        out.to_string_lossy().into_owned(),
        prompts.to_string_lossy().into_owned(),
    );
    let smaller = |to: &str, out: &str| {
        let quantise = [
            "quantize", &shipped, "--to", to, "--out", out, "--check", &prompts, "--json",
        ];
        let found = json_lines(&run(&quantise));
        assert_eq!(found[1]["name"], "fidelity");
        found[0]["value"].as_f64().expect("a ratio")
    };
    let (bytes, four_bits) = (smaller("int8", &out), smaller("q4k", &format!("{out}-4")));
    assert!(bytes > 2.0 && four_bits > 1.25 * bytes, "{bytes} and {four_bits}");
    let quantise = ["quantize", &shipped, "--out", &out, "--check", &prompts, "--json"];
    let again = run(&quantise);
    assert!(!again.status.success(), "a bundle is never overwritten");

    let four = format!("{out}-4");
    let generate = ["generate", "--json", "--bundle", &four, "--input", &prompts];
    assert_eq!(json_lines(&run(&generate)).len(), 1);
    let generate = ["generate", "--json", "--bundle", &out, "--input", &prompts];
    assert_eq!(json_lines(&run(&generate)).len(), 1);
    let weights = Path::new(&out).join("model.safetensors");
    let bytes = std::fs::read(&weights).expect("weights");
    std::fs::write(&weights, &bytes[..bytes.len() - 1]).expect("written");
    let refused = run(&generate);
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && error.contains("model.safetensors"),
        "{error}"
    );
}

#[test]
fn a_rehearsed_bundle_says_the_same_and_refuses_phrases_that_were_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let shipped = root().join("services/refract/demo/prism");
    for file in std::fs::read_dir(&shipped).expect("the shipped Prism") {
        let path = file.expect("an entry").path();
        std::fs::copy(&path, folder.path().join(path.file_name().expect("a name"))).expect("copied");
    }
    let (bundle, phrases) = (
        folder.path().to_string_lossy().into_owned(),
        folder.path().join("phrases.tsv"),
    );
    let prompts = folder.path().join(".prompts.jsonl");
    let lines: String = (20..40)
        .map(|n| format!("{{\"ids\": [0, {n}, 30, 40, 2]}}\n"))
        .collect();
    std::fs::write(&prompts, lines).expect("written");
    let prompts = prompts.to_string_lossy().into_owned();
    let generate = ["generate", "--json", "--bundle", &bundle, "--input", &prompts];
    std::fs::remove_file(&phrases).expect("shipped");
    let before = json_lines(&run(&generate));

    let found = json_lines(&run(&["rehearse", &bundle, "--input", &prompts, "--json"]));
    assert_eq!(found[0]["name"], "phrases");
    let manifest = std::fs::read_to_string(folder.path().join("bundle.toml")).expect("a manifest");
    let revision = |text: &str| {
        text.lines()
            .find(|l| l.starts_with("revision"))
            .map(str::to_owned)
    };
    let original = std::fs::read_to_string(shipped.join("bundle.toml")).expect("a manifest");
    assert_eq!(revision(&manifest), revision(&original), "it names the weights");
    assert_eq!(json_lines(&run(&generate)), before);

    std::fs::write(&phrases, "refract phrases 1\nnonsense\n").expect("written");
    for (asked, said) in [
        (
            vec![
                "serve",
                "prism",
                "--any-port",
                "--set",
                &format!("prism.worker.bundle={bundle}"),
            ],
            "phrases.tsv",
        ),
        (generate.to_vec(), "phrases.tsv:2"),
    ] {
        let refused = run(&asked);
        let error = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && error.contains(said), "{error}");
    }
}

#[test]
fn a_bad_configuration_exits_64_and_names_the_key() {
    for (role, bad, named) in [
        ("ranker", "ranker.river.items_in_flight=3", "items_in_flight"),
        ("ranker", "ranker.scanned_share=1.5", "ranker.scanned_share"),
        ("prism", "prism.attempts_max=0", "prism.attempts_max"),
        ("oracle", "oracle.call_cap=0s", "oracle.call_cap"),
    ] {
        let output = run(&["serve", role, "--any-port", "--set", bad]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{error}");
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn the_admin_port_shows_the_configuration_in_force_and_no_credential() {
    let settings = [
        "ranker.river.items_in_flight_max=3",
        "ranker.knowledge.redis.url=redis://ann:hunter2@127.0.0.1:1/0",
    ];
    let ranker = Service::start("ranker", &settings.map(str::to_owned));
    let shown = ranker.admin("ranker", "/configz", "text/plain");
    assert!(shown.contains("items_in_flight_max = 3"), "{shown}");
    assert!(shown.contains("[ranker.knowledge.redis]"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}
