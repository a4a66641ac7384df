//! A data set on disk: what is read, what is refused and in which words.

use std::fs;
use std::path::Path;

use refract_domain::{ItemId, Signal, Timestamp, UserId};
use refract_ranker::catalogue::MatchKind;
use refract_ranker::dataset::{LoadOptions, Manifest, Parts, RawInteraction, UserNote};
use refract_ranker::{Dataset, Error};
use tempfile::TempDir;

const MANIFEST: &str =
    "name = \"small\"\nlicence = \"none\"\n\n[rating]\nmin = 0\nmax = 10\nliked_at = 6\ndisliked_at = 4\n";
const ITEMS: &str = concat!(
    r#"{"id":"heat","title":"Heat","attributes":{"year":1995,"director":["Michael Mann"]},"description":"Cops.","url":"x"}"#,
    "\n\n",
    r#"{"id":"heat86","title":"Heat","attributes":{"year":"1986"}}"#,
    "\n",
    r#"{"id":"matrix","title":"The Matrix","attributes":{"genre":["Action","sci-fi"]}}"#,
    "\n",
    r#"{"id":"amelie","title":"Amélie","attributes":{"genre":["comedy"]}}"#,
    "\n",
);
const ROWS: &str =
    "user_id,item_id,rating,timestamp\nann,heat,8,30\nbob,matrix,3,10\nann,matrix,,20\nann,amelie,5,40\n";

fn directory(manifest: &str, items: &str, rows: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("dataset.toml"), manifest).unwrap();
    fs::write(dir.path().join("items.jsonl"), items).unwrap();
    fs::write(dir.path().join("interactions.csv"), rows).unwrap();
    dir
}

fn load(dir: &Path) -> Result<Dataset, Error> {
    Dataset::load(dir, &LoadOptions::default())
}

fn small() -> Dataset {
    let dir = directory(MANIFEST, ITEMS, ROWS);
    fs::write(
        dir.path().join("users.jsonl"),
        "{\"id\":\"cleo\",\"about\":\"has seen nothing yet\"}\n",
    )
    .unwrap();
    load(dir.path()).unwrap()
}

#[test]
fn a_history_is_dated_oldest_first_and_says_what_was_liked() {
    let data = small();
    let history = data.history(&UserId::new("ann")).unwrap();
    let told: Vec<_> = history
        .interactions()
        .iter()
        .map(|i| (i.item.id.as_str(), i.signal, i.rating))
        .collect();
    let expected = [
        ("matrix", Signal::Seen, None),
        ("heat", Signal::Liked, Some(8.0)),
        ("amelie", Signal::Seen, Some(5.0)),
    ];
    assert_eq!(told, expected);
    let bob = data.history(&UserId::new("bob")).unwrap();
    assert_eq!(bob.interactions()[0].signal, Signal::Disliked);
    assert_eq!(bob.interactions()[0].at, Timestamp(10));
    assert_eq!(data.catalogue().item(0).values("year"), ["1995"]);
}

#[test]
fn a_user_without_interactions_has_an_empty_history_and_an_unknown_one_has_none() {
    let data = small();
    assert!(data.history(&UserId::new("cleo")).unwrap().is_empty());
    assert!(data.history(&UserId::new("dora")).is_none());
    assert_eq!(data.users().next().unwrap().id.expose(), "cleo");
    assert_eq!(data.users().count(), 3);
    assert_eq!(data.nearest_users("Anne", 1)[0].expose(), "ann");
}

#[test]
fn data_without_ratings_are_likes() {
    let manifest = "name = \"plain\"\n";
    let dir = directory(manifest, ITEMS, "user_id,item_id,rating,timestamp\nann,heat,,1\n");
    let history = load(dir.path()).unwrap().history(&UserId::new("ann")).unwrap();
    assert_eq!(history.interactions()[0].signal, Signal::Liked);
}

#[test]
fn titles_are_found_as_people_type_them() {
    let data = small();
    let first = |query: &str| {
        data.find_titles(query, 5)
            .into_iter()
            .map(|m| (m.item.id.to_string(), m.kind))
            .next()
    };
    let cases = [
        ("Heat", Some(("heat", MatchKind::Exact))),
        ("heat", Some(("heat", MatchKind::Folded))),
        ("Heat (1986)", Some(("heat86", MatchKind::Exact))),
        ("matrix", Some(("matrix", MatchKind::Folded))),
        ("Matrix, The", Some(("matrix", MatchKind::Folded))),
        ("the matrx", Some(("matrix", MatchKind::Fuzzy))),
        ("amelie", Some(("amelie", MatchKind::Folded))),
        ("Casablanca", None),
        ("", None),
    ];
    for (query, expected) in cases {
        let expected = expected.map(|(id, kind)| (id.to_owned(), kind));
        assert_eq!(first(query), expected, "{query:?}");
    }
    let both = data.find_titles("heat", 5);
    assert_eq!(
        both.iter().map(|m| m.year()).collect::<Vec<_>>(),
        [Some("1995"), Some("1986")]
    );
}

#[test]
fn attribute_values_are_found_in_any_case() {
    let data = small();
    assert_eq!(data.catalogue().with_value("Genre", "ACTION"), [2]);
    assert!(data.catalogue().with_value("genre", "western").is_empty());
    assert_eq!(data.catalogue().attribute_names(), ["director", "genre", "year"]);
}

#[test]
fn what_is_written_is_read_back_the_same() {
    let data = small();
    let dir = tempfile::tempdir().unwrap();
    data.write(dir.path()).unwrap();
    let again = load(dir.path()).unwrap();
    assert_eq!(again.digest(), data.digest());
    assert_eq!(again.manifest(), data.manifest());
    assert_eq!(again.featured_users(3)[0].about, "has seen nothing yet");
    let told = |d: &Dataset| {
        d.interactions()
            .iter()
            .map(|(u, a)| (d.user_id(u).clone(), a.item, a.at))
            .collect::<Vec<_>>()
    };
    let sorted = |d: &Dataset| {
        let mut all = told(d);
        all.sort();
        all
    };
    assert_eq!(sorted(&again), sorted(&data));
}

#[test]
fn windows_line_ends_byte_order_marks_and_other_column_orders_are_read() {
    let rows = "\u{feff}timestamp,note,item_id,user_id,rating\r\n5,\"a, b\",heat,ann,7\r\n";
    let dir = directory(
        MANIFEST,
        &format!("\u{feff}{}", ITEMS.replace('\n', "\r\n")),
        rows,
    );
    assert_eq!(load(dir.path()).unwrap().interactions().len(), 1);
}

/// What each malformed file's error must say: file, line, column, field, and a word of the reason.
#[test]
fn malformed_files_are_refused_by_file_line_column_field_and_reason() {
    let items = |line: &str| format!("{}\n{line}\n", ITEMS.lines().next().unwrap());
    let rows = |line: &str| format!("user_id,item_id,rating,timestamp\nann,heat,8,30\n{line}\n");
    let manifest = |from: &str, to: &str| (MANIFEST.replace(from, to), ITEMS.to_owned(), ROWS.to_owned());
    let of_items = |line: &str| (MANIFEST.to_owned(), items(line), ROWS.to_owned());
    let of_rows = |line: &str| (MANIFEST.to_owned(), ITEMS.to_owned(), rows(line));
    let cases = [
        (manifest("max = 10", "max = ten"), "dataset.toml:6:7", ""),
        (
            manifest("licence", "license"),
            "dataset.toml:2:1",
            "unknown field",
        ),
        (
            manifest("disliked_at = 4", "disliked_at = 6"),
            "dataset.toml:8:1: rating.disliked_at",
            "below",
        ),
        (
            manifest("liked_at = 6", "liked_at = 11"),
            "dataset.toml:7:1: rating.liked_at",
            "nothing is liked",
        ),
        (
            of_items("{\"id\":\"x\",}"),
            "items.jsonl:2:11: json",
            "trailing comma",
        ),
        (of_items("[1]"), "items.jsonl:2:1: line", "object"),
        (of_items(r#"{"id":"x"}"#), "items.jsonl:2:1: title", "missing"),
        (
            of_items(r#"{"id":7,"title":"x"}"#),
            "items.jsonl:2:1: id",
            "a string, not a number",
        ),
        (
            of_items(r#"{"id":"","title":"x"}"#),
            "items.jsonl:2:1: id",
            "empty",
        ),
        (
            of_items(r#"{"id":"heat","title":"x"}"#),
            "items.jsonl:2:1: id",
            "used before, by item number 1",
        ),
        (
            of_items(r#"{"id":"x","title":"y","attributes":{"g":["a",{}]}}"#),
            "items.jsonl:2:1: attributes.g[1]",
            "object",
        ),
        (
            of_items(r#"{"id":"x","title":"y","attributes":{"g":[" "]}}"#),
            "items.jsonl:2:1: attributes.g[0]",
            "empty",
        ),
        (
            of_rows("ann,heat,8"),
            "interactions.csv:3:3: row",
            "has 3 fields, the header 4",
        ),
        (of_rows(",heat,8,1"), "interactions.csv:3:1: user_id", "empty"),
        (
            of_rows("ann,alien,8,1"),
            "interactions.csv:3:2: item_id",
            "\"alien\" is not in the catalogue",
        ),
        (
            of_rows("ann,heat,good,1"),
            "interactions.csv:3:3: rating",
            "\"good\" is not a number",
        ),
        (
            of_rows("ann,heat,11,1"),
            "interactions.csv:3:3: rating",
            "outside the scale 0 to 10",
        ),
        (
            of_rows("ann,heat,NaN,1"),
            "interactions.csv:3:3: rating",
            "finite",
        ),
        (
            of_rows("ann,heat,8,1.5"),
            "interactions.csv:3:4: timestamp",
            "whole number",
        ),
        (
            of_rows("ann,heat,8,1362062838000"),
            "interactions.csv:3:4: timestamp",
            "milliseconds",
        ),
        (
            (MANIFEST.into(), ITEMS.into(), "ann,heat,8,1\n".into()),
            "interactions.csv:1:1: user_id",
            "in the header",
        ),
        (
            (MANIFEST.into(), ITEMS.into(), String::new()),
            "interactions.csv:1:1: header",
            "missing",
        ),
        (
            (
                MANIFEST.into(),
                ITEMS.into(),
                "user_id,user_id,item_id,rating,timestamp\n".into(),
            ),
            "interactions.csv:1:2: user_id",
            "twice",
        ),
    ];
    for ((manifest, items, rows), place, reason) in cases {
        let dir = directory(&manifest, &items, &rows);
        let message = load(dir.path()).unwrap_err().to_string();
        assert!(message.contains(place), "{message:?} does not name {place:?}");
        assert!(message.contains(reason), "{message:?} does not say {reason:?}");
    }
}

#[test]
fn a_bad_row_is_named_by_its_line_whatever_ends_lines_and_however_many_are_blank() {
    for end in ["\n", "\r\n", "\r"] {
        let rows = [
            "user_id,item_id,rating,timestamp,more",
            "",
            "ann,heat,8,30,\"a note",
            "of two lines\"",
            "",
            "ann,alien,8,30,",
        ];
        let dir = directory(MANIFEST, ITEMS, &rows.join(end));
        let message = load(dir.path()).unwrap_err().to_string();
        assert!(
            message.contains("interactions.csv:6:2: item_id"),
            "{end:?}: {message}"
        );
    }
}

#[test]
fn text_that_is_not_utf8_is_refused_where_it_stands() {
    let dir = directory(MANIFEST, ITEMS, ROWS);
    fs::write(
        dir.path().join("interactions.csv"),
        b"user_id,item_id,rating,timestamp\nann,h\xff,8,1\n",
    )
    .unwrap();
    assert!(
        load(dir.path())
            .unwrap_err()
            .to_string()
            .contains("interactions.csv:2:2: item_id: is not UTF-8")
    );
    fs::write(dir.path().join("items.jsonl"), b"{\"id\":\"\xff\"}\n").unwrap();
    assert!(
        load(dir.path())
            .unwrap_err()
            .to_string()
            .contains("items.jsonl:1:8: line: is not UTF-8")
    );
}

#[test]
fn an_absent_file_is_named() {
    let dir = directory(MANIFEST, ITEMS, ROWS);
    fs::remove_file(dir.path().join("interactions.csv")).unwrap();
    assert!(
        load(dir.path())
            .unwrap_err()
            .to_string()
            .contains("interactions.csv")
    );
}

#[test]
fn bad_rows_are_skipped_and_counted_up_to_the_share_allowed() {
    let rows = format!("{ROWS}ann,alien,8,1\n");
    let dir = directory(MANIFEST, ITEMS, &rows);
    let with_share = |share| {
        Dataset::load(
            dir.path(),
            &LoadOptions {
                bad_rows_share_max: share,
            },
        )
    };
    let data = with_share(0.2).unwrap();
    assert_eq!((data.interactions().len(), data.report().bad_rows), (4, 1));
    assert!(data.report().examples[0].contains("interactions.csv:6:2"));
    let refused = with_share(0.1).unwrap_err().to_string();
    assert!(refused.starts_with("1 of 5 rows are bad"), "{refused}");
    assert!(with_share(1.5).is_err());
}

#[test]
fn parts_are_checked_like_files() {
    let item = small().catalogue().item(0).as_ref().clone();
    let row = RawInteraction {
        user: UserId::new("ann"),
        item: ItemId::new("alien"),
        rating: None,
        at: Timestamp(1),
    };
    let manifest = Manifest {
        name: "parts".into(),
        ..Manifest::default()
    };
    let parts = Parts {
        manifest,
        items: vec![item],
        interactions: vec![row],
        users: vec![UserNote {
            id: UserId::new("ann"),
            about: "x".into(),
        }],
    };
    let message = Dataset::assemble(parts.clone()).unwrap_err().to_string();
    assert!(message.contains("interactions[0].item_id"), "{message}");
    assert!(
        Dataset::assemble(Parts {
            interactions: Vec::new(),
            ..parts
        })
        .is_ok()
    );
}
