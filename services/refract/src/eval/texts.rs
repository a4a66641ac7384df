//! `refract eval texts`: BLEU, ROUGE, variety and features of any texts, beside their references if there are some.
//!
//! ```text
//! --predictions  {"text", "id"?, "user"?, "reference"?, "feature"?}   a line each; a bare string is a text
//! --references   {"text", "id"?}                                      by id where both have one, else line by line
//! --features     one feature a line: the vocabulary of FMR, FCR and DIV
//! ```
//!
//! Likeness and FMR get intervals, resampled by user (by text where no user is named). USR, Distinct-n, FCR and DIV get none:
//! resampling repeats texts, and they would take that for want of variety.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use refract_measure::{
    Bleu, Features, Found, Words, bootstrap, distinct, rouge_l, rouge_l_by_ratio, rouge_n, rouge_n_of_sets,
    unique_share, words,
};
use serde::Deserialize;

use crate::cli::{Cut, EvalTexts};
use crate::eval::report::Row;

/// One line of either file.
#[derive(Debug, Default, Deserialize)]
struct Line {
    #[serde(default, deserialize_with = "name")]
    id: Option<String>,
    #[serde(default, deserialize_with = "name")]
    user: Option<String>,
    #[serde(alias = "prediction", alias = "explanation")]
    text: String,
    reference: Option<String>,
    feature: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum AnyLine {
    Bare(String),
    Object(Line),
}

/// Ids are strings or numbers.
fn name<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(match Option::<serde_json::Value>::deserialize(from)? {
        None | Some(serde_json::Value::Null) => None,
        Some(serde_json::Value::String(text)) => Some(text),
        Some(other) => Some(other.to_string()),
    })
}

/// A text with all that is known of it.
struct Case {
    words: Vec<String>,
    reference: Option<Vec<String>>,
    feature: Option<String>,
    user: String,
}

pub(crate) fn run(args: &EvalTexts, out: &mut impl Write) -> Result<()> {
    let how = match args.words {
        Cut::Any => Words::Any,
        Cut::Ascii => Words::Ascii,
        Cut::Spaces => Words::Spaces,
    };
    let cases = cases(args, how)?;
    let features = match &args.features {
        Some(path) => {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
            let features = Features::new(text.lines(), how);
            ensure!(!features.is_empty(), "{}: holds no feature", path.display());
            Some(features)
        }
        None => None,
    };
    let rows = measure(&cases, features.as_ref(), args.resamples, args.seed);
    if !args.json {
        writeln!(
            out,
            "{:<28} {:>9} {:>21} {:>8}",
            "measure", "value", "95 % interval", "n"
        )?;
    }
    for row in rows {
        if args.json {
            row.write_json(out)?;
        } else {
            let spread = match (row.low, row.high) {
                (Some(low), Some(high)) => format!("[{low:.4}, {high:.4}]"),
                _ => String::new(),
            };
            writeln!(
                out,
                "{:<28} {:>9.4} {spread:>21} {:>8}",
                row.name, row.value, row.n
            )?;
        }
    }
    Ok(())
}

fn cases(args: &EvalTexts, how: Words) -> Result<Vec<Case>> {
    let predictions = read(&args.predictions)?;
    ensure!(
        !predictions.is_empty(),
        "{}: holds no text",
        args.predictions.display()
    );
    let references = args.references.as_deref().map(read).transpose()?;
    let by_id: Option<HashMap<&str, &str>> = references.as_ref().and_then(|lines| {
        let both = lines.iter().chain(&predictions).all(|line| line.id.is_some());
        both.then(|| {
            lines
                .iter()
                .filter_map(|r| Some((r.id.as_deref()?, r.text.as_str())))
                .collect()
        })
    });
    if let (Some(lines), None, Some(path)) = (&references, &by_id, &args.references) {
        ensure!(
            lines.len() == predictions.len(),
            "{} has {} texts, {} has {}: give both an \"id\" to match them by",
            args.predictions.display(),
            predictions.len(),
            path.display(),
            lines.len()
        );
    }
    let mut cases = Vec::with_capacity(predictions.len());
    for (n, line) in predictions.iter().enumerate() {
        let reference = match (&by_id, &references, &line.id) {
            (Some(by_id), _, Some(id)) => match by_id.get(id.as_str()) {
                Some(text) => Some(*text),
                None => bail!("{}: no reference has the id {id:?}", args.predictions.display()),
            },
            (None, Some(lines), _) => Some(lines[n].text.as_str()),
            _ => line.reference.as_deref(),
        };
        cases.push(Case {
            words: words(&line.text, how),
            reference: reference.map(|text| words(text, how)),
            feature: line.feature.clone(),
            user: line.user.clone().unwrap_or_else(|| format!("\u{0}{n}")),
        });
    }
    let with = cases.iter().filter(|case| case.reference.is_some()).count();
    ensure!(
        with == 0 || with == cases.len(),
        "{}: {with} of {} texts have a reference; give all of them one, or none",
        args.predictions.display(),
        cases.len()
    );
    Ok(cases)
}

fn read(path: &Path) -> Result<Vec<Line>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let mut lines = Vec::new();
    for (n, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let parsed: AnyLine = serde_json::from_str(line).map_err(|_| {
            anyhow::anyhow!(
                "{}:{}: neither a JSON string nor an object with the string \"text\"",
                path.display(),
                n + 1
            )
        })?;
        lines.push(match parsed {
            AnyLine::Bare(text) => Line {
                text,
                ..Line::default()
            },
            AnyLine::Object(line) => line,
        });
    }
    Ok(lines)
}

/// What one user's texts add to the sums.
#[derive(Clone, Default)]
struct Group {
    bleu: Bleu,
    /// Sums over texts, in the order of [`MEANS`].
    sums: [f64; MEANS.len()],
    texts: u64,
    met: u64,
    asked: u64,
}

const MEANS: [&str; 12] = [
    "rouge-1/precision",
    "rouge-1/recall",
    "rouge-1",
    "rouge-2/precision",
    "rouge-2/recall",
    "rouge-2",
    "rouge-l/precision",
    "rouge-l/recall",
    "rouge-l",
    "rouge-1/sets",
    "rouge-2/sets",
    "rouge-l/by_ratio",
];

fn measure(cases: &[Case], features: Option<&Features>, resamples: usize, seed: u64) -> Vec<Row> {
    let found: Vec<Found> = features
        .map(|f| cases.iter().map(|case| f.find(&case.words)).collect())
        .unwrap_or_default();
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for (n, case) in cases.iter().enumerate() {
        let place = *places.entry(&case.user).or_insert_with(|| {
            groups.push(Group::default());
            groups.len() - 1
        });
        let group = &mut groups[place];
        group.texts += 1;
        if let Some(reference) = &case.reference {
            group.bleu += Bleu::of(&case.words, reference);
            let (one, two) = (
                rouge_n(&case.words, reference, 1),
                rouge_n(&case.words, reference, 2),
            );
            let longest = rouge_l(&case.words, reference);
            let values = [one, two, longest].map(|s| [s.precision, s.recall, s.f]);
            let others = [
                rouge_n_of_sets(&case.words, reference, 1).f,
                rouge_n_of_sets(&case.words, reference, 2).f,
                rouge_l_by_ratio(&case.words, reference).f,
            ];
            for (sum, value) in group
                .sums
                .iter_mut()
                .zip(values.into_iter().flatten().chain(others))
            {
                *sum += value;
            }
        }
        if let (Some(features), Some(feature)) = (features, &case.feature) {
            group.asked += 1;
            group.met += u64::from(features.speaks_of(&found[n], feature) == Some(true));
        }
    }
    let n = cases.len() as u64;
    let mut rows = Vec::new();
    let mut estimated =
        |name: &str, unit, n: u64, value: &dyn Fn(&mut dyn Iterator<Item = &Group>) -> f64| {
            let interval = bootstrap(&groups, resamples, seed, value);
            let mut row = Row::plain(&format!("texts/{name}"), value(&mut groups.iter()), unit, n);
            (row.low, row.high) = (interval.map(|i| i.low), interval.map(|i| i.high));
            rows.push(row);
        };
    if cases.iter().all(|case| case.reference.is_some()) {
        for order in [1, 4] {
            estimated(&format!("bleu-{order}"), "of 100", n, &|groups| {
                let mut sum = Bleu::default();
                groups.for_each(|group| sum += group.bleu);
                sum.score(order)
            });
        }
        for (place, name) in MEANS.iter().enumerate() {
            estimated(name, "share", n, &|groups| {
                mean(groups, |g| (g.sums[place], g.texts))
            });
        }
    }
    let asked: u64 = groups.iter().map(|g| g.asked).sum();
    if asked > 0 {
        estimated("fmr", "share", asked, &|groups| {
            mean(groups, |g| (g.met as f64, g.asked))
        });
    }
    let cut: Vec<Vec<String>> = cases.iter().map(|case| case.words.clone()).collect();
    let mut plain =
        |name: &str, value: f64, unit| rows.push(Row::plain(&format!("texts/{name}"), value, unit, n));
    plain("usr", unique_share(&cut), "share");
    plain("distinct-1", distinct(&cut, 1), "share");
    plain("distinct-2", distinct(&cut, 2), "share");
    if let Some(features) = features {
        plain("fcr", features.coverage(&found), "share");
        plain("div", features.sharing(&found), "features");
    }
    let length = cut.iter().map(Vec::len).sum::<usize>() as f64 / cut.len().max(1) as f64;
    plain("length", length, "words");
    rows
}

fn mean(groups: &mut dyn Iterator<Item = &Group>, of: impl Fn(&Group) -> (f64, u64)) -> f64 {
    let (sum, n) = groups.map(of).fold((0.0, 0), |(s, n), (x, m)| (s + x, n + m));
    if n == 0 { 0.0 } else { sum / n as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(files: &[(&str, &str)], features: bool) -> Result<HashMap<String, (f64, bool)>> {
        let dir = tempfile::tempdir()?;
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text)?;
        }
        let has = |name: &str| files.iter().any(|f| f.0 == name).then(|| dir.path().join(name));
        let args = EvalTexts {
            predictions: dir.path().join("p.jsonl"),
            references: has("r.jsonl"),
            features: has("f.txt").filter(|_| features),
            words: Cut::Any,
            resamples: 200,
            seed: 1,
            json: true,
        };
        let mut out = Vec::new();
        run(&args, &mut out)?;
        Ok(String::from_utf8(out)?
            .lines()
            .map(|line| {
                let row: serde_json::Value = serde_json::from_str(line).unwrap();
                let name = row["name"].as_str().unwrap().to_owned();
                (name, (row["value"].as_f64().unwrap(), row["low"].is_number()))
            })
            .collect())
    }

    #[test]
    fn references_match_by_id_or_by_line_and_what_lacks_them_is_measured_without() -> Result<()> {
        let predictions = "{\"id\":1,\"text\":\"a b c d\",\"feature\":\"b\"}\n{\"id\":2,\"text\":\"e f g h\",\"feature\":\"x\"}\n";
        let by_id = [
            ("p.jsonl", predictions),
            (
                "r.jsonl",
                "{\"id\":2,\"text\":\"e f g h\"}\n{\"id\":1,\"text\":\"A b, c d\"}\n",
            ),
            ("f.txt", "b\nx\ny\n"),
        ];
        let found = rows(&by_id, true)?;
        assert_eq!(found["texts/bleu-4"], (100.0, true));
        assert_eq!(found["texts/rouge-l"], (1.0, true));
        assert_eq!(found["texts/fmr"], (0.5, true));
        assert_eq!(found["texts/usr"], (1.0, false));
        let by_line = [
            ("p.jsonl", "\"a b\"\n\"a b\"\n"),
            ("r.jsonl", "\"a b\"\n\"c d\"\n"),
        ];
        let found = rows(&by_line, false)?;
        assert_eq!((found["texts/rouge-1"].0, found["texts/usr"].0), (0.5, 0.5));
        let alone = rows(&by_line[..1], false)?;
        assert!(!alone.contains_key("texts/bleu-4") && alone.contains_key("texts/distinct-2"));
        Ok(())
    }

    #[test]
    fn what_does_not_fit_together_is_refused_by_file_and_line() {
        for (files, said) in [
            (vec![("p.jsonl", "\"a\"\n\n{\"words\":1}\n")], "p.jsonl:3"),
            (vec![("p.jsonl", "\n")], "holds no text"),
            (
                vec![("p.jsonl", "\"a\"\n"), ("r.jsonl", "\"a\"\n\"b\"\n")],
                "has 1 texts",
            ),
            (
                vec![
                    ("p.jsonl", "{\"id\":1,\"text\":\"a\"}"),
                    ("r.jsonl", "{\"id\":2,\"text\":\"a\"}"),
                ],
                "no reference has the id \"1\"",
            ),
            (
                vec![("p.jsonl", "{\"text\":\"a\",\"reference\":\"b\"}\n\"c\"\n")],
                "1 of 2 texts have a reference",
            ),
        ] {
            let error = rows(&files, false).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
