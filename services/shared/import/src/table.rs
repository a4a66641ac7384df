//! Any table: two files and a mapping that says which column is what.
//!
//! ```toml
//! name = "shop"
//! licence = "ours"
//!
//! [interactions]
//! file = "clicks.parquet"          # .csv .tsv .jsonl (each also .gz) .parquet; relative to the mapping
//! user = "customer"
//! item = "sku"
//! rating = "stars"                 # left out: every interaction is a like
//! time = "ts"                      # left out: the order of the rows
//! time_unit = "ms"                 # s (default), ms, us, or date
//!
//! [items]
//! file = "products.csv"
//! id = "sku"
//! title = "name"
//! description = "text"             # may be left out
//! encoding = "latin-1"             # default utf-8
//! keep_unrated = false             # default true
//!
//! [items.attributes]
//! brand = "maker"                  # attribute = column
//! genre = { column = "genres", separator = "|" }
//!
//! [rating]                         # required with `rating` above
//! min = 1
//! max = 5
//! liked_at = 4
//! disliked_at = 2
//! ```

pub(crate) mod rows;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::intake::{About, Act, Intake, Options, Scale, Thing};
use crate::lines::Encoding;
use crate::report::Report;
use crate::values::date;
use rows::{Cell, Source, each_row};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mapping {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    licence: String,
    #[serde(default)]
    synthetic: bool,
    interactions: Interactions,
    items: Items,
    rating: Option<Rating>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Interactions {
    file: PathBuf,
    user: String,
    item: String,
    rating: Option<String>,
    time: Option<String>,
    #[serde(default)]
    time_unit: Unit,
    #[serde(default)]
    encoding: Encoding,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Unit {
    #[default]
    S,
    Ms,
    Us,
    Date,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Items {
    file: PathBuf,
    id: String,
    title: String,
    description: Option<String>,
    #[serde(default)]
    encoding: Encoding,
    #[serde(default = "yes")]
    keep_unrated: bool,
    #[serde(default)]
    attributes: BTreeMap<String, Attribute>,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Attribute {
    Column(String),
    Split { column: String, separator: String },
}

impl Attribute {
    fn column(&self) -> &str {
        match self {
            Self::Column(column) | Self::Split { column, .. } => column,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rating {
    min: f32,
    max: f32,
    liked_at: f32,
    disliked_at: f32,
}

/// Imports what the mapping file names into the new directory `out`.
pub fn table(mapping: &Path, out: &Path, options: &Options) -> Result<Report> {
    let text = std::fs::read_to_string(mapping).map_err(Error::read(mapping))?;
    let told: Mapping = toml::from_str(&text).map_err(|e| Error::malformed(mapping, e.to_string()))?;
    let scale = scale(&told).map_err(|reason| Error::malformed(mapping, reason))?;
    let base = mapping.parent().unwrap_or(Path::new("."));
    let (acts, items) = (base.join(&told.interactions.file), base.join(&told.items.file));
    let mut intake = Intake::new(&acts, &items, scale, told.items.keep_unrated);

    let map = &told.interactions;
    let columns = [
        Some(map.user.as_str()),
        Some(map.item.as_str()),
        map.rating.as_deref(),
        map.time.as_deref(),
    ];
    let source = Source::of(&acts)?.encoded(map.encoding);
    let mut number = 0;
    each_row(&source, &columns, |line, row| {
        number += 1;
        intake.act(line, row.and_then(|cells| act(&cells, map, number)));
        Ok(())
    })?;

    let map = &told.items;
    let mut columns = vec![
        Some(map.id.as_str()),
        Some(map.title.as_str()),
        map.description.as_deref(),
    ];
    columns.extend(map.attributes.values().map(|a| Some(a.column())));
    let source = Source::of(&items)?.encoded(map.encoding);
    each_row(&source, &columns, |line, row| {
        intake.thing(line, row.and_then(|cells| thing(&cells, map)))
    })?;

    let about = About {
        name: told.name,
        description: told.description,
        licence: if told.licence.is_empty() {
            "unknown: the mapping names none".to_owned()
        } else {
            told.licence
        },
        synthetic: told.synthetic,
        rating: scale,
    };
    intake.finish(about, options, out)
}

fn scale(told: &Mapping) -> Result<Option<Scale>, &'static str> {
    match (&told.interactions.rating, &told.rating) {
        (None, None) => Ok(None),
        (Some(_), Some(r)) => {
            let ordered = r.min < r.max && r.disliked_at < r.liked_at && r.liked_at <= r.max;
            if !ordered {
                return Err("[rating]: min is below max, disliked_at below liked_at, liked_at at most max");
            }
            Ok(Some(Scale {
                min: r.min,
                max: r.max,
                liked_at: r.liked_at,
                disliked_at: r.disliked_at,
            }))
        }
        (Some(_), None) => Err("interactions.rating needs the section [rating]"),
        (None, Some(_)) => Err("the section [rating] needs interactions.rating"),
    }
}

fn act(cells: &[Cell], map: &Interactions, number: i64) -> Result<Act, String> {
    let [user, item, rating, at] = cells else {
        return Err("the row is incomplete".to_owned());
    };
    let rating = match (rating, &map.rating) {
        (Cell::Absent, _) | (_, None) => None,
        (cell, Some(column)) => Some(cell.number().map_err(|e| format!("{column}: {e}"))?),
    };
    let at = match &map.time {
        None => number,
        Some(column) => time(at, map.time_unit).map_err(|e| format!("{column}: {e}"))?,
    };
    Ok(Act {
        user: user.id().map_err(|e| format!("{}: {e}", map.user))?,
        item: item.id().map_err(|e| format!("{}: {e}", map.item))?,
        rating,
        at,
    })
}

fn time(cell: &Cell, unit: Unit) -> Result<i64, String> {
    let per_second = match unit {
        Unit::Date => return date(&cell.said()),
        Unit::S => 1,
        Unit::Ms => 1_000,
        Unit::Us => 1_000_000,
    };
    match cell {
        Cell::Whole(n) => Ok(n.div_euclid(per_second)),
        other => {
            let number = other.number()?;
            // Beyond 2⁵³ a float no longer counts single units; no time is that late.
            if number.is_finite() && number.abs() < 9e15 {
                Ok((number / per_second as f64).floor() as i64)
            } else {
                Err(format!("{number} is no time"))
            }
        }
    }
}

fn thing(cells: &[Cell], map: &Items) -> Result<Thing, String> {
    let said = |n: usize| cells.get(n).map(Cell::said).unwrap_or_default();
    let attributes = map
        .attributes
        .iter()
        .zip(cells.iter().skip(3))
        .map(|((name, attribute), cell)| {
            let mut values = cell.list();
            if let Attribute::Split { separator, .. } = attribute {
                values = values
                    .iter()
                    .flat_map(|v| v.split(separator.as_str()).map(|part| part.trim().to_owned()))
                    .collect();
            }
            (name.clone(), values)
        })
        .collect();
    Ok(Thing {
        id: cells
            .first()
            .unwrap_or(&Cell::Absent)
            .id()
            .map_err(|e| format!("{}: {e}", map.id))?,
        title: said(1),
        attributes,
        description: said(2),
    })
}
