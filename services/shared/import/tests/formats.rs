//! Small files in every format: what is kept, what is told, and that a refused import leaves nothing behind.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use refract_import::splits::{Assigned, Config, Part};
use refract_import::{Error, Options, Report, amazon, movielens, table, yelp};
use serde_json::Value;

struct Place(tempfile::TempDir);

impl Place {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(dir.path().join(name), bytes).unwrap();
        }
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn out(&self) -> PathBuf {
        self.path("out")
    }

    fn items(&self) -> BTreeMap<String, Value> {
        std::fs::read_to_string(self.out().join("items.jsonl"))
            .unwrap()
            .lines()
            .map(|line| {
                let item: Value = serde_json::from_str(line).unwrap();
                (item["id"].as_str().unwrap().to_owned(), item)
            })
            .collect()
    }

    fn rows(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.out().join("interactions.csv")).unwrap();
        text.lines().skip(1).map(str::to_owned).collect()
    }

    /// Names besides those of the given files.
    fn left(&self, given: &[&str]) -> Vec<String> {
        std::fs::read_dir(self.0.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| !given.contains(&name.as_str()))
            .collect()
    }
}

fn lenient() -> Options {
    Options {
        bad_rows_max: 1.0,
        ..Options::default()
    }
}

#[track_caller]
fn said(report: &Report, what: &str) {
    let text = report.to_string();
    assert!(text.contains(what), "{what:?} is not in\n{text}");
}

/// `Amélie` in Latin-1, as MovieLens 1M is written.
const MOVIES: &[u8] = b"1::Toy Story (1995)::Animation|Children's|Comedy\r\n2::Matrix, The (1999)::Action|Sci-Fi\n\
3::Am\xe9lie (Fabuleux destin d'Am\xe9lie Poulain, Le) (2001)::Comedy\n2::Copy (1999)::Drama\n4::::Drama\nnonsense\n\
5::Nobody's (1990)::Film-Noir\n";
const RATINGS: &[u8] =
    b"1::1::5::978300760\n1::2::3::978300761\n2::1::1::978300762\n1::1::4::978300770\n2::9::4::978300763\n\
2::3::4\n2::3::six::978300764\n2::3::9::978300764\n3::3::4::99999999999999\n2::3::4::978300765\n";

#[test]
fn movielens_1m_is_read_with_its_encoding_its_titles_and_its_faults() {
    let place = Place::new(&[("ratings.dat", RATINGS), ("movies.dat", MOVIES)]);
    let report = movielens(place.0.path(), &place.out(), &lenient()).unwrap();
    let items = place.items();
    assert_eq!(items["2"]["title"], "The Matrix");
    assert_eq!(items["2"]["attributes"]["year"][0], "1999");
    assert_eq!(items["2"]["attributes"]["genre"][1], "science fiction");
    assert_eq!(items["3"]["title"], "Amélie");
    assert_eq!(items["5"]["attributes"]["genre"][0], "film noir");
    assert_eq!(
        place.rows(),
        [
            "1,2,3,978300761",
            "2,1,1,978300762",
            "1,1,4,978300770",
            "2,3,4,978300765"
        ]
    );
    assert_eq!((report.items.read, report.items.kept), (7, 4));
    assert_eq!((report.interactions.read, report.interactions.kept), (10, 4));
    for what in [
        "movies.dat:3: read as Latin-1: \"Amélie\"",
        "second title \"Le Fabuleux destin d'Amélie Poulain\"",
        "movies.dat:4: id: \"2\" was used before",
        "movies.dat:5: title: is empty",
        "movies.dat:6: the row has too few fields",
        "ratings.dat:1: rated again in line 4",
        "ratings.dat:5: item \"9\" is not among the items",
        "ratings.dat:6: the row has 3 fields, 4 are expected",
        "ratings.dat:7: rating: \"six\" is not a number",
        "ratings.dat:8: rating: 9 is not within 0.5 and 5",
        "ratings.dat:9: time: 99999999999999 is beyond the year 9999",
    ] {
        said(&report, what);
    }
    let manifest = std::fs::read_to_string(place.out().join("dataset.toml")).unwrap();
    for line in ["liked_at = 4.0", "disliked_at = 2.0", "no redistribution"] {
        assert!(manifest.contains(line), "{manifest}");
    }
    let left_out = report.bad_rows.count + report.unknown_items.count + report.repeated.count;
    assert_eq!(left_out + report.interactions.kept, report.interactions.read);
}

#[test]
fn movielens_latest_keeps_commas_and_quotes_in_titles() {
    let movies = "\u{feff}movieId,title,genres\n1,\"American President, The (1995)\",Comedy|Romance\n\
                  2,\"\"\"Great Performances\"\" Cats (1998)\",Musical\n3,Odd,(no genres listed)\n";
    let ratings =
        "userId,movieId,rating,timestamp\n1,1,4.5,964982703\n1,2,0.5,964982931\n7,3,3.0,964983815\n1,1\n";
    let place = Place::new(&[
        ("movies.csv", movies.as_bytes()),
        ("ratings.csv", ratings.as_bytes()),
    ]);
    let report = movielens(place.0.path(), &place.out(), &lenient()).unwrap();
    let items = place.items();
    assert_eq!(items["1"]["title"], "The American President");
    assert_eq!(items["2"]["title"], "\"Great Performances\" Cats");
    assert_eq!(items["3"]["attributes"], serde_json::json!({}));
    assert_eq!(place.rows().len(), 3);
    said(&report, "ratings.csv:5: the row has 2 fields, the header 4");
}

const BUSINESSES: &str = r#"{"business_id":"b1","name":"Café \"Roma\", Downtown","city":"Tampa","categories":"Italian, Pizza"}
{"business_id":"b2","name":"Nobody's","city":"","categories":null}
{"business_id":"b3","name":5}
[1]
"#;
const REVIEWS: &str = r#"{"review_id":"r1","user_id":"u1","business_id":"b1","stars":4.0,"date":"2018-07-07 22:09:11","text":"Good"}
{"review_id":"r2","user_id":"u2","business_id":"b3","stars":1.0,"date":"2018-07-07 22:09:11"}
{"review_id":"r3","user_id":true,"business_id":"b1","stars":4,"date":"2018-07-07"}
{"review_id":"r4","user_id":"u4","business_id":"b1","stars":"4","date":"2018-07-07"}
{"review_id":"r5","user_id":"u5","business_id":"b1","stars":4,"date":"yesterday"}
{"review_id":"r6"
"#;

#[test]
fn yelp_is_read_plain_or_packed_and_unreviewed_businesses_are_left_out_aloud() {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(REVIEWS.as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    for (name, reviews) in [
        ("yelp_academic_dataset_review.json", REVIEWS.as_bytes()),
        ("review.json.gz", &packed),
    ] {
        let place = Place::new(&[
            (name, reviews),
            ("yelp_academic_dataset_business.json", BUSINESSES.as_bytes()),
        ]);
        let report = yelp(place.0.path(), &place.out(), &lenient()).unwrap();
        assert_eq!(place.rows(), ["u1,b1,4,1531001351"]);
        let items = place.items();
        assert_eq!(items["b1"]["title"], "Café \"Roma\", Downtown");
        assert_eq!(items["b1"]["attributes"]["category"][1], "Pizza");
        assert_eq!(items["b1"]["attributes"]["city"][0], "Tampa");
        for what in [
            "business.json:2: \"b2\"",
            "business.json:3: name: must be a string, not a number",
            "business.json:4: is no JSON object",
            ":2: item \"b3\" is not among the items",
            ":3: user_id: must be an id, not a boolean",
            ":4: stars: must be a number, not a string",
            ":5: time: \"yesterday\" is no date",
            ":6: column 17: EOF while parsing",
        ] {
            said(&report, what);
        }
    }
}

#[test]
fn amazon_is_read_in_both_layouts() {
    let old = (
        r#"{"overall":5.0,"reviewerID":"A1","asin":"B1","unixReviewTime":1400000000,"reviewText":"x"}"#,
        r#"{"asin":"B1","title":"Tea &amp; Pot, blue","brand":"Mug &amp; Co","category":["Kitchen","Tea","<span>x"],"description":["Holds ","tea."]}"#,
    );
    let new = (
        r#"{"rating":5.0,"user_id":"A1","asin":"V1","parent_asin":"B1","timestamp":1400000000123}"#,
        r#"{"parent_asin":"B1","title":"Tea &amp; Pot, blue","store":"Mug & Co","categories":["Kitchen","Tea"],"description":["Holds","tea."]}"#,
    );
    for (reviews, metadata) in [old, new] {
        let metadata = format!(
            "{metadata}\n{{\"asin\":\"B2\",\"parent_asin\":\"B2\",\"title\":\"Unsold\"}}\n{{'asin': 'B3'}}\n"
        );
        let place = Place::new(&[("r.jsonl", reviews.as_bytes()), ("m.jsonl", metadata.as_bytes())]);
        let report = amazon(
            &place.path("r.jsonl"),
            &place.path("m.jsonl"),
            &place.out(),
            &lenient(),
        )
        .unwrap();
        assert_eq!(place.rows(), ["A1,B1,5,1400000000"]);
        let item = &place.items()["B1"];
        assert_eq!(item["title"], "Tea & Pot, blue");
        assert_eq!(
            item["attributes"],
            serde_json::json!({"brand": ["Mug & Co"], "category": ["Kitchen", "Tea"]})
        );
        assert_eq!(item["description"], "Holds tea.");
        said(&report, "m.jsonl:2: \"B2\"");
        said(&report, "m.jsonl:3: column 2: key must be a string");
    }
}

fn parquet_of(rows: &[(i64, &str, f64, i64)]) -> Vec<u8> {
    use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
    use parquet::file::writer::SerializedFileWriter;
    let schema = "message clicks { required int64 who; required binary what (UTF8); required double stars; required int64 at; }";
    let schema = Arc::new(parquet::schema::parser::parse_message_type(schema).unwrap());
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut number = |values: Vec<i64>| {
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<Int64Type>()
            .write_batch(&values, None, None)
            .unwrap();
        column.close().unwrap();
    };
    number(rows.iter().map(|r| r.0).collect());
    let texts: Vec<ByteArray> = rows.iter().map(|r| r.1.into()).collect();
    let mut column = group.next_column().unwrap().unwrap();
    column
        .typed::<ByteArrayType>()
        .write_batch(&texts, None, None)
        .unwrap();
    column.close().unwrap();
    let stars: Vec<f64> = rows.iter().map(|r| r.2).collect();
    let mut column = group.next_column().unwrap().unwrap();
    column
        .typed::<DoubleType>()
        .write_batch(&stars, None, None)
        .unwrap();
    column.close().unwrap();
    let times: Vec<i64> = rows.iter().map(|r| r.3).collect();
    let mut column = group.next_column().unwrap().unwrap();
    column
        .typed::<Int64Type>()
        .write_batch(&times, None, None)
        .unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}

fn mapping(interactions: &str, items: &str) -> String {
    format!(
        "name = \"shop\"\n[interactions]\nfile = \"{interactions}\"\nuser = \"who\"\nitem = \"what\"\nrating = \"stars\"\n\
         time = \"at\"\ntime_unit = \"ms\"\n[items]\nfile = \"{items}\"\nid = \"sku\"\ntitle = \"name\"\n\
         [items.attributes]\nbrand = \"maker\"\ngenre = {{ column = \"kinds\", separator = \"|\" }}\n\
         [rating]\nmin = 1\nmax = 5\nliked_at = 4\ndisliked_at = 2\n"
    )
}

#[test]
fn tables_of_every_sort_give_the_same_data_set() {
    let rows = [
        (7, "p1", 4.0, 5_000),
        (7, "p2", 1.5, 6_999),
        (8, "p1", 5.0, 7_000),
    ];
    let csv: String = rows
        .iter()
        .map(|r| format!("{},{},{},{}\n", r.2, r.0, r.1, r.3))
        .collect();
    let tsv = format!(
        "who\twhat\tstars\tat\textra\n{}",
        rows.map(|r| format!("{}\t{}\t{}\t{}\t\n", r.0, r.1, r.2, r.3))
            .concat()
    );
    let jsonl: String = rows
        .iter()
        .map(|r| {
            format!(
                "{{\"who\":{},\"what\":\"{}\",\"stars\":{},\"at\":{}}}\n",
                r.0, r.1, r.2, r.3
            )
        })
        .collect();
    let csv = format!("stars,who,what,at\n{csv}");
    let items = "sku,name,maker,kinds\np1,\"Pot, blue\",Mug & Co,tea|kitchen\np2,Cup,,\n";
    let mut seen = Vec::new();
    for (name, bytes) in [
        ("a.csv", csv.into_bytes()),
        ("a.tsv", tsv.into_bytes()),
        ("a.jsonl", jsonl.into_bytes()),
        ("a.parquet", parquet_of(&rows)),
    ] {
        let place = Place::new(&[
            (name, &bytes),
            ("items.csv", items.as_bytes()),
            ("map.toml", mapping(name, "items.csv").as_bytes()),
        ]);
        table(&place.path("map.toml"), &place.out(), &Options::default()).unwrap();
        let files = [
            "interactions.csv",
            "items.jsonl",
            "dataset.toml",
            "splits.csv",
            "splits.toml",
        ];
        seen.push(files.map(|file| std::fs::read_to_string(place.out().join(file)).unwrap()));
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:#?}");
    assert_eq!(
        seen[0][0],
        "user_id,item_id,rating,timestamp\n7,p1,4,5\n7,p2,1.5,6\n8,p1,5,7\n"
    );
    assert!(seen[0][1].contains(r#""attributes":{"brand":["Mug & Co"],"genre":["tea","kitchen"]}"#));
}

#[test]
fn one_stray_quote_loses_no_row_of_a_tsv_and_ends_the_import_of_a_csv() {
    let rows = |separator: &str| -> String {
        (0..200)
            .map(|n| {
                let title = if n == 3 { "\"Pot" } else { "Cup" };
                format!("{}\n", [&format!("p{n}"), title, "", ""].join(separator))
            })
            .collect()
    };
    let acts = "who,what,stars,at\n1,p3,4,1\n";
    let import = |name: &str, separator: &str| {
        let items = format!(
            "{}\n{}",
            ["sku", "name", "maker", "kinds"].join(separator),
            rows(separator)
        );
        let place = Place::new(&[
            ("a.csv", acts.as_bytes()),
            (name, items.as_bytes()),
            ("map.toml", mapping("a.csv", name).as_bytes()),
        ]);
        let done = table(&place.path("map.toml"), &place.out(), &lenient());
        (done, place)
    };
    let (report, place) = import("items.tsv", "\t");
    assert_eq!(report.unwrap().items.kept, 200);
    assert_eq!(place.items()["p3"]["title"], "\"Pot");
    let (refused, place) = import("items.csv", ",");
    let error = refused.unwrap_err().to_string();
    assert!(
        error.contains("items.csv: line 5 opens a quote that is never closed"),
        "{error}"
    );
    assert!(!place.out().exists());
}

#[test]
fn a_fault_is_named_by_its_line_in_files_of_windows_too() {
    let items = "sku,name,maker,kinds\r\n\r\np1,Pot,,\r\np2,,,\r\n";
    let acts = "who,what,stars,at\r\n1,p1,4,1\r\n\r\n1,p1,9,1\r\n";
    let place = Place::new(&[
        ("a.csv", acts.as_bytes()),
        ("items.csv", items.as_bytes()),
        ("map.toml", mapping("a.csv", "items.csv").as_bytes()),
    ]);
    let report = table(&place.path("map.toml"), &place.out(), &lenient()).unwrap();
    said(&report, "items.csv:4: title: is empty");
    said(&report, "a.csv:4: rating: 9 is not within 1 and 5");
    let splits = place.out().join("splits.csv");
    std::fs::write(&splits, "user_id,part\r\n1,train\r\n\r\n2,nobody\r\n").unwrap();
    let error = Assigned::read(&place.out()).unwrap_err().to_string();
    assert!(error.contains("splits.csv: line 4:"), "{error}");
}

#[test]
fn ratings_at_the_ends_of_a_scale_are_within_it() {
    let acts = "who,what,stars,at\n1,p1,0.1,1\n2,p1,0.7,2\n3,p1,0.8,3\n";
    let map = mapping("a.csv", "items.csv")
        .replace("min = 1\nmax = 5", "min = 0.1\nmax = 0.7")
        .replace(
            "liked_at = 4\ndisliked_at = 2",
            "liked_at = 0.5\ndisliked_at = 0.2",
        );
    let place = Place::new(&[
        ("a.csv", acts.as_bytes()),
        ("items.csv", b"sku,name,maker,kinds\np1,Pot,,\n"),
        ("map.toml", map.as_bytes()),
    ]);
    let report = table(&place.path("map.toml"), &place.out(), &lenient()).unwrap();
    assert_eq!(place.rows(), ["1,p1,0.1,0", "2,p1,0.7,0"]);
    said(&report, "a.csv:4: rating: 0.8 is not within 0.1 and 0.7");
}

#[test]
fn what_cannot_be_imported_is_named_and_leaves_nothing_behind() {
    let items = "sku,name,maker,kinds\np1,Pot,,\n";
    let good = "who,what,stars,at\n1,p1,4,1\n";
    let with = |acts: &str, items: &str, map: &str| {
        let place = Place::new(&[
            ("a.csv", acts.as_bytes()),
            ("items.csv", items.as_bytes()),
            ("map.toml", map.as_bytes()),
        ]);
        let error = table(&place.path("map.toml"), &place.out(), &Options::default()).unwrap_err();
        let left = place.left(&["a.csv", "items.csv", "map.toml"]);
        assert!(left.is_empty(), "{error}: {left:?}");
        error
    };
    let map = mapping("a.csv", "items.csv");
    for (acts, items, map, what) in [
        (
            "who,what,at\n",
            items,
            map.clone(),
            "there is no column \"stars\"; there are who, what, at",
        ),
        ("", items, map.clone(), "line 1: the header is missing"),
        (good, items, mapping("b.csv", "items.csv"), "b.csv: No such file"),
        (
            good,
            items,
            mapping("a.xls", "items.csv"),
            "the name must end in .csv",
        ),
        (
            good,
            items,
            map.replace("[rating]", "[ratings]"),
            "unknown field `ratings`",
        ),
        (
            good,
            items,
            map.replace("liked_at = 4", "liked_at = 9"),
            "[rating]: min is below max",
        ),
        ("who,what,stars,at\n", items, map.clone(), "holds no interaction"),
        (
            "who,what,stars,at\n1,p1,4,1\n2,p9,4,1\n",
            items,
            map.clone(),
            "1 of 2 interaction rows are bad, more than the share 0.01 of --bad-rows-max; nothing was written",
        ),
        (
            good,
            "sku,name,maker,kinds\np1,Pot,,\np2,,,\n",
            map.clone(),
            "items.csv:3: title: is empty",
        ),
    ] {
        let error = with(acts, items, &map).to_string();
        assert!(error.contains(what), "{what:?} is not in {error}");
    }
    let place = Place::new(&[("ratings.dat", RATINGS), ("movies.dat", MOVIES)]);
    std::fs::create_dir(place.out()).unwrap();
    assert!(matches!(
        movielens(place.0.path(), &place.out(), &lenient()),
        Err(Error::Exists { .. })
    ));
    let empty = Place::new(&[]);
    let error = movielens(empty.0.path(), &empty.out(), &lenient())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("none of ratings.dat, ratings.csv is there"),
        "{error}"
    );
}

#[test]
fn the_written_splits_are_those_that_are_read_and_no_user_is_in_two() {
    let mut acts = String::from("who,what,stars,at\n");
    for n in 0..400 {
        // Forty users, ten ratings each; every third is a dislike.
        acts += &format!(
            "u{},p{},{},{}\n",
            n % 40,
            n / 40,
            if n % 3 == 0 { 1 } else { 5 },
            n * 1_000
        );
    }
    let items: String = (0..10).map(|n| format!("p{n},Pot {n},,\n")).collect();
    let place = Place::new(&[
        ("a.csv", acts.as_bytes()),
        ("items.csv", format!("sku,name,maker,kinds\n{items}").as_bytes()),
        ("map.toml", mapping("a.csv", "items.csv").as_bytes()),
    ]);
    let options = Options {
        splits: Config {
            held_out_share: 0.6,
            ..Config::default()
        },
        ..Options::default()
    };
    let report = table(&place.path("map.toml"), &place.out(), &options).unwrap();
    let assigned = Assigned::read(&place.out()).unwrap().unwrap();
    assert_eq!(assigned.parts.len(), 40);
    let count = |part| assigned.parts.values().filter(|p| **p == part).count();
    assert_eq!(
        (report.train_users, report.dev_users, report.test_users),
        (count(Part::Train), count(Part::Dev), count(Part::Test))
    );
    assert!(count(Part::Dev) > 0 && count(Part::Test) > 0 && count(Part::Train) > 0);
    assert_eq!((assigned.splits.dev_from, assigned.splits.test_from), (320, 360));
    assert_eq!(Assigned::read(Path::new("/nonexistent")).unwrap(), None);
}
