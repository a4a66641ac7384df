//! On a small invented sample with one of every fault, and on the real data where they are at hand.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::*;

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/films-sample")
}

fn lines(path: PathBuf) -> Vec<String> {
    std::fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).unwrap().next().is_none()
}

#[test]
fn every_line_of_the_sample_is_kept_or_accounted_for() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("imported");
    let report = run(&sample(), &out, 1.0).unwrap();
    assert_eq!(report.items, Count { read: 8, kept: 5 });
    assert_eq!(report.bad_items.count, 3);
    assert_eq!(report.interactions, Count { read: 18, kept: 9 });
    let left_out = report.bad_rows.count + report.unknown_items.count + report.repeated.count;
    assert_eq!(left_out + report.interactions.kept, report.interactions.read);
    assert_eq!(
        (
            report.bad_rows.count,
            report.unknown_items.count,
            report.repeated.count
        ),
        (6, 1, 2)
    );
    assert_eq!(report.users, 3);
    assert_eq!(lines(out.join("items.jsonl")).len(), 5);
    assert_eq!(lines(out.join("interactions.csv")).len(), 1 + 9);
}

#[test]
fn faults_are_named_with_file_line_column_and_reason() {
    let dir = tempfile::tempdir().unwrap();
    let report = run(&sample(), &dir.path().join("imported"), 1.0).unwrap();
    let all: Vec<&String> = [
        &report.bad_items,
        &report.bad_rows,
        &report.unknown_items,
        &report.repeated,
    ]
    .iter()
    .flat_map(|notes| &notes.examples)
    .collect();
    for said in [
        "items.jsonl:4:1: id: \"x1\" was used before",
        "items.jsonl:5:1: title: is empty",
        "items.jsonl:6:",
        "interactions.csv:3:3: rating: \"ten\" is not a number",
        "interactions.csv:5:3: rating: 11 is not within 0 and 10",
        "interactions.csv:7:4: timestamp: 1362062838000000 is beyond the year 9999",
        "interactions.csv:8:4: the row has 3 fields, the header 4",
        "interactions.csv:9:1: user_id: is empty",
        "interactions.csv:10:2: item_id: \"x99\" is not among the items",
        "interactions.csv:2:1: rated again in line 11",
    ] {
        assert!(
            all.iter().any(|example| example.contains(said)),
            "{said} is not in {all:#?}"
        );
    }
}

#[test]
fn the_first_three_of_a_cast_become_leads_and_scraps_are_dropped_aloud() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("imported");
    let report = run(&sample(), &out, 1.0).unwrap();
    let films: HashMap<String, serde_json::Value> = lines(out.join("items.jsonl"))
        .iter()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|film| (film["id"].as_str().unwrap().to_owned(), film))
        .collect();
    let one = &films["x1"]["attributes"];
    assert_eq!(
        one["lead"],
        serde_json::json!(["Ada Vale", "Bo \"Tex\" Lind", "Cy Moor"])
    );
    assert_eq!(
        one["genre"],
        serde_json::json!(["animation", "film noir", "silent"])
    );
    assert_eq!(one["year"], serde_json::json!(["1951"]));
    assert!(one.get("cast").is_none());
    assert_eq!(films["x1"]["article"], "Lantern_Street");
    // All that stood in the cast was a scrap: better no attribute than an empty one.
    assert!(films["x2"]["attributes"].get("lead").is_none());
    assert_eq!(report.dropped_values.count, 4, "{:?}", report.dropped_values);
    assert_eq!(report.surplus_values.examples, ["x1: lead: \"Di Hale\""]);
    assert_eq!(report.changed_values.count, 3, "{:?}", report.changed_values);
}

#[test]
fn of_two_ratings_of_a_film_the_newest_is_kept_whatever_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("imported");
    run(&sample(), &out, 1.0).unwrap();
    let rows = lines(out.join("interactions.csv"));
    assert!(rows.contains(&"u1,x1,9,1400000000".to_owned()), "{rows:?}");
    assert!(rows.contains(&"u2,x2,8,1500000000".to_owned()), "{rows:?}");
    assert_eq!(
        rows.iter()
            .filter(|r| r.starts_with("u1,x1,") || r.starts_with("u2,x2,"))
            .count(),
        2
    );
}

#[test]
fn licences_go_along_and_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("imported");
    run(&sample(), &out, 1.0).unwrap();
    let manifest: toml::Table = std::fs::read_to_string(out.join("dataset.toml"))
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(
        manifest["licence"].as_str().unwrap(),
        "LICENSE.sample: An Invented Licence, Copyright (c) 2026 Nobody; SOURCE-README.md names CC BY-SA"
    );
    assert_eq!(manifest["synthetic"].as_bool(), Some(false));
    assert_eq!(manifest["rating"]["liked_at"].as_float(), Some(7.0));
    assert_eq!(
        std::fs::read(out.join("LICENSE.sample")).unwrap(),
        std::fs::read(sample().join("LICENSE.sample")).unwrap()
    );
    assert!(out.join("SOURCE-README.md").exists());
}

#[test]
fn too_many_bad_rows_fail_and_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let error = run(&sample(), &dir.path().join("imported"), 0.01)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("3 of 8 item lines are bad, more than the share 0.01"),
        "{error}"
    );
    assert!(error.contains("items.jsonl:4:1"), "{error}");
    let error = run(&sample(), &dir.path().join("imported"), 0.38)
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("7 of 18 rating rows are bad"), "{error}");
    assert!(is_empty(dir.path()));
}

#[test]
fn an_existing_goal_is_never_touched() {
    let dir = tempfile::tempdir().unwrap();
    let error = run(&sample(), dir.path(), 1.0).unwrap_err().to_string();
    assert!(error.contains("exists; name a new directory"), "{error}");
    assert!(is_empty(dir.path()));
}

#[test]
fn a_missing_file_or_column_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (from, out) = (dir.path().join("from"), dir.path().join("out"));
    std::fs::create_dir(&from).unwrap();
    let error = format!("{:#}", run(&from, &out, 0.01).unwrap_err());
    assert!(error.contains("items.jsonl"), "{error}");
    std::fs::write(from.join("items.jsonl"), "{\"id\":\"a\",\"title\":\"A\"}\n").unwrap();
    std::fs::write(
        from.join("interactions.csv"),
        "user_id,item_id,stars,timestamp\nu,a,5,1\n",
    )
    .unwrap();
    let error = format!("{:#}", run(&from, &out, 0.01).unwrap_err());
    assert!(
        error.contains("interactions.csv:1:1: the header lacks rating"),
        "{error}"
    );
    assert!(!out.exists());
}

/// Real ratings that may not ship: beside the repository, or where `REFRACT_SHARED_DATA` says.
fn real_films() -> Option<PathBuf> {
    let given = std::env::var_os("REFRACT_SHARED_DATA").map(PathBuf::from);
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).canonicalize().ok()?;
    let beside = here.ancestors().map(|up| up.join("shared/data"));
    given
        .into_iter()
        .chain(beside)
        .map(|data| data.join("films"))
        .find(|films| films.join("items.jsonl").exists())
}

#[test]
fn the_real_films_come_in_whole() {
    let Some(from) = real_films() else {
        eprintln!("SKIPPED: no shared/data/films beside the repository and no REFRACT_SHARED_DATA");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("films");
    let report = run(&from, &out, 0.0).unwrap();
    assert_eq!(
        report.items,
        Count {
            read: 4_630,
            kept: 4_630
        }
    );
    assert_eq!(
        report.interactions,
        Count {
            read: 64_557,
            kept: 64_557
        }
    );
    assert_eq!(report.users, 4_165);
    let manifest = std::fs::read_to_string(out.join("dataset.toml")).unwrap();
    assert!(
        manifest.contains("Simon Dooms") && manifest.contains("CC BY-SA"),
        "{manifest}"
    );
    println!("{report}");
}
