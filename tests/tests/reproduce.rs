//! The published protocol as a command: whole, honest about its models, and gone on with where it was stopped.

use std::collections::BTreeMap;

use refract_tests::{json_lines, run};

#[test]
fn a_small_reproduction_gives_every_claim_a_number_and_is_not_made_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("made");
    let words = [
        "reproduce",
        "--quick",
        "--json",
        "--pairs=160",
        "--width=32",
        "--layers=1",
        "--steps=4",
        "--out",
        out.to_str().expect("a path"),
    ];
    let output = run(&words);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    assert!(
        told.contains("==> judge-noisy") && !told.contains("done before"),
        "{told}"
    );
    let rows: BTreeMap<String, serde_json::Value> = json_lines(&output)
        .into_iter()
        .filter(|row| row["stage"] == "summary")
        .filter_map(|row| Some((row["name"].as_str()?.to_owned(), row.clone())))
        .collect();
    for name in [
        "reproduce/alone/teacher/title_hallucination",
        "reproduce/conditioned/student/title_hallucination",
        "reproduce/slots/student/attributes_faithful",
        "reproduce/noisy/noise_filtered",
        "reproduce/efficiency/conditioned/faster",
        "reproduce/efficiency/slots/less_memory",
    ] {
        let row = rows
            .get(name)
            .unwrap_or_else(|| panic!("{name} is not in {rows:?}"));
        assert!(row["value"].as_f64().is_some_and(f64::is_finite), "{row}");
    }
    let faster = &rows["reproduce/efficiency/conditioned/faster"];
    assert_eq!(
        (faster["goal"].as_f64(), faster["holds"].is_boolean()),
        (Some(24.0), true)
    );
    // Spoilt labels are noise that the judges see.
    let errs =
        |student: &str| rows[&format!("reproduce/{student}/teacher/texts_without_fault")]["value"].as_f64();
    assert!(
        errs("noisy") < errs("conditioned"),
        "{:?} {:?}",
        errs("noisy"),
        errs("conditioned")
    );

    let page = std::fs::read_to_string(out.join("report.html")).expect("a page");
    for wanted in [
        "Published: a teacher FLAN-T5-XXL",
        "Teacher: slot-oracle, a T5 of 1.",
        "refract eval speed",
        "synthetic users",
    ] {
        assert!(page.contains(wanted), "{wanted} is not in the page");
    }

    let again = run(&words);
    let told = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(again.status.success(), "{told}");
    let stages = told.lines().filter(|line| line.starts_with("==> "));
    assert!(
        stages.clone().count() > 8 && stages.clone().all(|line| line.ends_with("done before")),
        "{told}"
    );
}
