//! The films: checks each line and puts its attributes into the words that explanations use.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::path::Path;

use anyhow::Context as _;
use refract_domain::ItemId;
use serde::{Deserialize, Serialize};

use super::{Notes, Report};

/// Longest line read, in bytes; longer ones are reported and left out.
const LINE_BYTES_MAX: u64 = 1 << 20;
const TITLE_CHARS_MAX: usize = 300;
const DESCRIPTION_CHARS_MAX: usize = 4_000;
const VALUE_CHARS_MAX: usize = 300;
/// The first names of a cast are those a viewer knows the film by; more would make weak reasons.
const LEADS_MAX: usize = 3;
const VALUES_MAX: usize = 12;

/// Genres in a form that names a kind of film.
const RENAMED: [(&str, &str); 4] = [
    ("animated", "animation"),
    ("historical", "history"),
    ("noir", "film noir"),
    ("sport", "sports"),
];
/// Labels among the genres that say how a film was made, not what it is.
const NO_GENRES: [&str; 2] = ["live action", "performance"];

#[derive(Deserialize)]
struct Source {
    id: String,
    title: String,
    #[serde(default)]
    attributes: BTreeMap<String, Values>,
    #[serde(default)]
    description: Option<String>,
    /// Names the text's origin, which its licence wants kept.
    #[serde(default)]
    article: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    Many(Vec<Value>),
    One(Value),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Text(String),
    Number(serde_json::Number),
}

#[derive(Serialize)]
struct Film {
    id: String,
    title: String,
    attributes: BTreeMap<String, Vec<String>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    article: Option<String>,
}

/// Writes the films of `path` that can be used; returns their ids.
pub(super) fn convert(
    path: &Path,
    target: &mut impl Write,
    report: &mut Report,
) -> anyhow::Result<HashSet<String>> {
    let failed = || format!("cannot read {}", path.display());
    let mut input = BufReader::new(File::open(path).with_context(failed)?);
    let (mut known, mut bytes, mut number) = (HashSet::new(), Vec::new(), 0);
    loop {
        bytes.clear();
        if input
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut bytes)
            .with_context(failed)?
            == 0
        {
            return Ok(known);
        }
        number += 1;
        let whole = bytes.ends_with(b"\n") || (bytes.len() as u64) < LINE_BYTES_MAX;
        if !whole {
            // What is left of the line is passed over without being kept.
            input.skip_until(b'\n').with_context(failed)?;
        }
        let line = bytes
            .strip_prefix("\u{feff}".as_bytes())
            .filter(|_| number == 1)
            .unwrap_or(&bytes);
        if line.trim_ascii().is_empty() {
            continue;
        }
        report.items.read += 1;
        let at = |column: usize, reason: &str| format!("{}:{number}:{column}: {reason}", path.display());
        if !whole {
            report
                .bad_items
                .add(|| at(1, &format!("the line is longer than {LINE_BYTES_MAX} bytes")));
            continue;
        }
        let source: Source = match serde_json::from_slice(line) {
            Ok(source) => source,
            Err(e) => {
                let message = e.to_string();
                let reason = message.split(" at line ").next().unwrap_or(&message).to_owned();
                report.bad_items.add(|| at(e.column().max(1), &reason));
                continue;
            }
        };
        if let Err(reason) = check(&source, &known) {
            report.bad_items.add(|| at(1, &reason));
            continue;
        }
        known.insert(source.id.clone());
        let film = film(source, report);
        serde_json::to_writer(&mut *target, &film)?;
        target.write_all(b"\n")?;
        report.items.kept += 1;
    }
}

fn check(source: &Source, known: &HashSet<String>) -> Result<(), String> {
    super::interactions::check_id("id", &source.id, ItemId::BYTES_MAX)?;
    if known.contains(&source.id) {
        return Err(format!("id: {:?} was used before; the first is kept", source.id));
    }
    match source.title.trim().chars().count() {
        0 => Err("title: is empty".to_owned()),
        long if long > TITLE_CHARS_MAX => Err(format!(
            "title: is {long} characters long, at most {TITLE_CHARS_MAX} are allowed"
        )),
        _ => Ok(()),
    }
}

fn film(source: Source, report: &mut Report) -> Film {
    let id = source.id;
    let mut attributes = BTreeMap::new();
    for (name, values) in source.attributes {
        let values = match values {
            Values::Many(values) => values,
            Values::One(value) => vec![value],
        };
        let texts = values.into_iter().map(|value| match value {
            Value::Text(text) => text.split_whitespace().collect::<Vec<_>>().join(" "),
            Value::Number(number) => number.to_string(),
        });
        let mut kept: Vec<String> = Vec::new();
        for text in texts {
            match tidy(&name, &text) {
                Some(better) => {
                    if better != text {
                        report
                            .changed_values
                            .add(|| format!("{id}: {name}: {text:?} became {better:?}"));
                    }
                    if !kept.contains(&better) {
                        kept.push(better);
                    }
                }
                None => report.dropped_values.add(|| format!("{id}: {name}: {text:?}")),
            }
        }
        let (name, most) = if name == "cast" {
            ("lead".to_owned(), LEADS_MAX)
        } else {
            (name, VALUES_MAX)
        };
        for surplus in kept.drain(most.min(kept.len())..) {
            report.surplus_values.add(|| format!("{id}: {name}: {surplus:?}"));
        }
        if !name.trim().is_empty() && !kept.is_empty() {
            attributes.insert(name, kept);
        }
    }
    let description = shorten(
        source.description.unwrap_or_default(),
        &id,
        &mut report.changed_values,
    );
    let title = source.title.split_whitespace().collect::<Vec<_>>().join(" ");
    Film {
        id,
        title,
        attributes,
        description,
        article: source.article,
    }
}

/// A value as explanations may use it, or nothing if it is none.
fn tidy(attribute: &str, value: &str) -> Option<String> {
    if value.is_empty() || value.chars().count() > VALUE_CHARS_MAX {
        return None;
    }
    match attribute {
        "genre" => {
            let genre = value.to_lowercase();
            let renamed = RENAMED
                .iter()
                .find(|(from, _)| *from == genre)
                .map(|(_, to)| (*to).to_owned());
            (!NO_GENRES.contains(&genre.as_str())).then(|| renamed.unwrap_or(genre))
        }
        "cast" | "director" => name(value),
        _ => Some(value.to_owned()),
    }
}

/// A person's name without a remark in brackets behind it. Scraped lists also hold scraps of sentences: what has no capital
/// letter, a colon or an open bracket, ends like the beginning of something ("Music By"), or has a small word that no name has
/// ("voices of", "massacre") is taken for one.
fn name(value: &str) -> Option<String> {
    let bare = match value.split_once(" (") {
        Some((bare, remark)) if remark.ends_with(')') => bare,
        _ => value,
    };
    let remark = bare.contains([':', '(', ')', '[', ']']) || bare.to_lowercase().starts_with("voice");
    let scrap = remark || !bare.chars().any(char::is_uppercase) || is_scrap(bare);
    (!scrap).then(|| bare.to_owned())
}

/// Words that a name does not have, where a name has them.
fn is_scrap(name: &str) -> bool {
    // Between the parts of names, in small letters.
    const PARTICLES: &[&str] = &[
        "de", "da", "do", "dos", "das", "du", "del", "della", "delle", "di", "der", "den", "des", "dem",
        "van", "von", "vom", "zu", "zur", "ten", "ter", "te", "af", "av", "la", "le", "las", "los", "el",
        "al", "bin", "ben", "bint", "ibn", "abu", "san", "st", "y", "e", "i", "und", "the", "of", "and",
    ];
    const CREDITS: &[&str] = &[
        "voice",
        "voices",
        "voiced",
        "narrator",
        "narrated",
        "narration",
        "directed",
        "written",
        "produced",
        "starring",
        "cast",
        "featuring",
        "various",
        "others",
        "himself",
        "herself",
        "themselves",
        "uncredited",
    ];
    let words: Vec<&str> = name
        .split([' ', '-', '\'', '’', '"'])
        .filter(|w| !w.is_empty())
        .collect();
    let lower: Vec<String> = words.iter().map(|w| w.to_lowercase()).collect();
    let credit = lower.iter().any(|w| CREDITS.contains(&w.as_str()));
    let open = lower.last().is_none_or(|w| {
        matches!(
            w.as_str(),
            "by" | "of" | "the" | "and" | "with" | "as" | "in" | "a"
        )
    });
    // "Bong Joon-ho", "d'Abo": small letters behind a hyphen or an apostrophe are a name's own.
    let small = name.split(' ').enumerate().any(|(n, word)| {
        let begins_small = word.chars().next().is_some_and(char::is_lowercase);
        begins_small
            && !word.contains(['\'', '’'])
            && !(PARTICLES.contains(&word) && (n > 0 || word.len() < 4))
    });
    credit || open || small
}

fn shorten(description: String, id: &str, changed: &mut Notes) -> String {
    match description.char_indices().nth(DESCRIPTION_CHARS_MAX) {
        Some((end, _)) => {
            changed.add(|| format!("{id}: description: cut after {DESCRIPTION_CHARS_MAX} characters"));
            description[..end].to_owned()
        }
        None => description,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_and_scraps_of_lists_go() {
        for kept in [
            "Chow Yun-fat",
            "Maryam d'Abo",
            "Cedric the Entertainer",
            "Larry the Cable Guy",
            "Bong Joon-ho",
            "Song Kang-ho",
            "Guillermo del Toro",
            "Max von Sydow",
            "50 Cent",
            "Dwayne \"The Rock\" Johnson",
            "Cher",
            "The Rolling Stones",
            "de Funès Louis",
        ] {
            assert_eq!(name(kept).as_deref(), Some(kept));
        }
        for scrap in [
            "voices of",
            "Voices of Ada Vale",
            "Music By",
            "The",
            "Cast",
            "Narrated by Ada Vale",
            "Columbine High School massacre",
            "Ada Vale and",
            "Ada Vale as Bo",
            "with Ada Vale",
            "Cast:",
            "various artists",
        ] {
            assert_eq!(name(scrap), None, "{scrap}");
        }
        assert_eq!(name("Cy Moor (actor)").as_deref(), Some("Cy Moor"));
    }
}
