//! Clients that share nothing with Refract but `proto/`, or not even that.

use std::process::Command;

use refract_tests::{Service, root};

#[test]
fn a_python_client_with_generated_stubs_gets_a_streamed_recommendation() {
    let Some(python) = std::env::var_os("REFRACT_PYTHON") else {
        eprintln!("SKIPPED, LOUDLY: set REFRACT_PYTHON to a Python with grpcio-tools (tests/run does)");
        return;
    };
    let all = Service::start("all", &[]);
    let output = Command::new(python)
        .arg(root().join("tests/foreign/python_client.py"))
        .args([&all.address("ranker").to_string(), "noir-and-heists"])
        .output()
        .expect("python starts");
    let (said, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{said}{error}");
    let seen: serde_json::Value = serde_json::from_str(said.trim()).expect("one JSON object");
    assert_eq!(seen["items"], 3, "{seen}");
}

/// Makes the stubs of a language by their documented command; `None`, said loudly, where its tools are not there.
fn stubs(language: &str) -> Option<tempfile::TempDir> {
    if std::env::var_os("REFRACT_STUBS").is_none_or(|has| !has.to_string_lossy().contains(language)) {
        eprintln!(
            "SKIPPED, LOUDLY: REFRACT_STUBS names no {language} (tests/run sets it where the tools are)"
        );
        return None;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let made = Command::new(root().join("tests/foreign/stubs"))
        .arg(language)
        .arg(folder.path())
        .output()
        .expect("the script starts");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Some(folder)
}

fn sees_three_items(mut client: Command) {
    let all = Service::start("all", &[]);
    let output = client
        .args([&all.address("ranker").to_string(), "noir-and-heists"])
        .output()
        .expect("the client starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let seen: serde_json::Value = serde_json::from_str(said.trim()).expect("one JSON object");
    assert_eq!(seen, serde_json::json!({"items": 3, "reason": "USER_NOT_FOUND"}));
}

#[test]
fn a_go_client_with_generated_stubs_streams_keeps_its_deadline_and_reads_rich_errors() {
    if let Some(folder) = stubs("go") {
        sees_three_items(Command::new(folder.path().join("client")));
    }
}

#[test]
fn a_typescript_client_with_generated_stubs_streams_keeps_its_deadline_and_reads_rich_errors() {
    if let Some(folder) = stubs("typescript") {
        let mut node = Command::new("node");
        node.arg("client.js").current_dir(folder.path());
        sees_three_items(node);
    }
}

#[test]
fn grpcurl_by_reflection_lists_describes_and_streams() {
    let Some(grpcurl) = std::env::var_os("REFRACT_GRPCURL") else {
        eprintln!("SKIPPED, LOUDLY: set REFRACT_GRPCURL to grpcurl (tests/run does)");
        return;
    };
    let all = Service::start("all", &[]);
    let target = all.address("ranker").to_string();
    let call = |args: &[&str]| {
        let output = Command::new(&grpcurl)
            .arg("-plaintext")
            .args(args)
            .output()
            .expect("grpcurl starts");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let listed = call(&[&target, "list"]);
    assert!(
        listed.contains("refract.recommend.v1.RecommendService"),
        "{listed}"
    );
    let described = call(&[&target, "describe", "refract.recommend.v1.RecommendService"]);
    assert!(described.contains("StreamRecommend"), "{described}");
    let request = r#"{"rank": {"subject": {"user_id": "space-opera"}, "limit": 2}}"#;
    let streamed = call(&[
        "-d",
        request,
        &target,
        "refract.recommend.v1.RecommendService/StreamRecommend",
    ]);
    for part in ["slate", "delta", "explained", "summary"] {
        assert!(
            streamed.contains(&format!("\"{part}\"")),
            "{part} is missing: {streamed}"
        );
    }
    let health = call(&[&target, "grpc.health.v1.Health/Check"]);
    assert!(health.contains("SERVING"), "{health}");
}
