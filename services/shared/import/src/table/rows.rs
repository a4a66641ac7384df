//! Rows of CSV, TSV, JSON lines and Parquet as cells in the order that was asked for.

use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::lines::{Encoding, each_object};
use crate::records::Records;

/// One value.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Cell {
    #[default]
    Absent,
    Text(String),
    Whole(i64),
    Real(f64),
    List(Vec<Cell>),
    /// What no column of a data set can be: the name of its type.
    Other(&'static str),
}

impl Cell {
    /// As text; nothing for what is absent.
    pub(crate) fn said(&self) -> String {
        match self {
            Self::Absent | Self::Other(_) => String::new(),
            Self::Text(text) => text.clone(),
            Self::Whole(n) => n.to_string(),
            Self::Real(x) => x.to_string(),
            Self::List(cells) => cells.iter().map(Self::said).collect::<Vec<_>>().join(" "),
        }
    }

    pub(crate) fn list(&self) -> Vec<String> {
        match self {
            Self::Absent | Self::Other(_) => Vec::new(),
            Self::List(cells) => cells.iter().map(Self::said).collect(),
            one => vec![one.said()],
        }
    }

    /// Text or a whole number; `12.0`, which spreadsheets make of 12, is 12.
    pub(crate) fn id(&self) -> Result<String, String> {
        match self {
            Self::Text(text) => Ok(text.trim().to_owned()),
            Self::Whole(n) => Ok(n.to_string()),
            Self::Real(x) if x.fract() == 0.0 && x.abs() < 9e15 => Ok((*x as i64).to_string()),
            Self::Absent => Err("is missing".to_owned()),
            other => Err(format!("must be an id, not {}", other.kind())),
        }
    }

    pub(crate) fn number(&self) -> Result<f64, String> {
        match self {
            Self::Whole(n) => Ok(*n as f64),
            Self::Real(x) => Ok(*x),
            Self::Text(text) => text
                .trim()
                .parse()
                .map_err(|_| format!("{text:?} is not a number")),
            Self::Absent => Err("is missing".to_owned()),
            other => Err(format!("must be a number, not {}", other.kind())),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Text(_) => "a string",
            Self::Whole(_) => "a whole number",
            Self::Real(_) => "a real number",
            Self::List(_) => "a list",
            Self::Other(kind) => kind,
        }
    }
}

/// A file of rows.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    path: PathBuf,
    format: Format,
    encoding: Encoding,
}

#[derive(Clone, Copy, Debug)]
enum Format {
    Separated(u8),
    JsonLines,
    Parquet,
}

impl Source {
    /// The format is told by the name's end, `.gz` left aside.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let name = path
            .file_name()
            .map(|n| n.to_string_lossy().to_lowercase())
            .unwrap_or_default();
        let bare = name.strip_suffix(".gz").unwrap_or(&name);
        let format = match bare.rsplit('.').next() {
            Some("csv") => Format::Separated(b','),
            Some("tsv") => Format::Separated(b'\t'),
            Some("jsonl" | "ndjson" | "json") => Format::JsonLines,
            Some("parquet") if bare == name => Format::Parquet,
            _ => {
                return Err(Error::malformed(
                    path,
                    "the name must end in .csv, .tsv, .jsonl (each perhaps with .gz) or .parquet",
                ));
            }
        };
        Ok(Self {
            path: path.to_owned(),
            format,
            encoding: Encoding::Utf8,
        })
    }

    pub(crate) fn encoded(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }
}

/// Calls `each` with every row's place (line, or row from 1 in Parquet) and the cells of `columns`; a `None` column is absent.
pub(crate) fn each_row(
    source: &Source,
    columns: &[Option<&str>],
    each: impl FnMut(u64, Result<Vec<Cell>, String>) -> Result<()>,
) -> Result<()> {
    match source.format {
        Format::Separated(separator) => separated(source, separator, columns, each),
        Format::JsonLines => json_lines(source, columns, each),
        Format::Parquet => columns_file(source, columns, each),
    }
}

fn absent(source: &Source, column: &str, present: Vec<String>) -> Error {
    Error::Column {
        file: source.path.clone(),
        column: column.to_owned(),
        present,
    }
}

fn separated(
    source: &Source,
    separator: u8,
    columns: &[Option<&str>],
    mut each: impl FnMut(u64, Result<Vec<Cell>, String>) -> Result<()>,
) -> Result<()> {
    let mut records = Records::open(&source.path, separator)?;
    let mut record = csv::ByteRecord::new();
    if records.read(&mut record)?.is_none() {
        return Err(Error::malformed(&source.path, "line 1: the header is missing"));
    }
    let header: Vec<String> = record
        .iter()
        .map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned())
        .collect();
    let places = columns
        .iter()
        .map(|column| match column {
            None => Ok(None),
            Some(column) => {
                let mut found = header
                    .iter()
                    .enumerate()
                    .filter(|(_, name)| name == column)
                    .map(|(n, _)| n);
                let place = found
                    .next()
                    .ok_or_else(|| absent(source, column, header.clone()))?;
                match found.next() {
                    Some(_) => Err(Error::malformed(
                        &source.path,
                        format!("line 1: the header has {column:?} twice"),
                    )),
                    None => Ok(Some(place)),
                }
            }
        })
        .collect::<Result<Vec<_>>>()?;
    while let Some(line) = records.read(&mut record)? {
        let cells = if record.len() == header.len() {
            places
                .iter()
                .map(|place| match place {
                    None => Ok(Cell::Absent),
                    Some(place) => source
                        .encoding
                        .decode(&record[*place])
                        .map(|decoded| match decoded.text.trim() {
                            "" => Cell::Absent,
                            _ => Cell::Text(decoded.text),
                        })
                        .map_err(|reason| format!("{}: {reason}", header[*place])),
                })
                .collect()
        } else {
            Err(format!(
                "the row has {} fields, the header {}",
                record.len(),
                header.len()
            ))
        };
        each(line, cells)?;
    }
    Ok(())
}

fn json_lines(
    source: &Source,
    columns: &[Option<&str>],
    mut each: impl FnMut(u64, Result<Vec<Cell>, String>) -> Result<()>,
) -> Result<()> {
    // A key that no line has is a mistake in the mapping; one that some lines lack is an absent value.
    let mut seen = vec![false; columns.len()];
    let mut rows = 0u64;
    let mut keys: Vec<String> = Vec::new();
    each_object(&source.path, |line, object| {
        let cells = object.map(|object| {
            rows += 1;
            if keys.is_empty() {
                keys = object.keys().cloned().collect();
            }
            columns
                .iter()
                .enumerate()
                .map(|(n, column)| {
                    let Some(column) = column else {
                        return Cell::Absent;
                    };
                    let value = object.get(*column);
                    seen[n] |= value.is_some();
                    value.map_or(Cell::Absent, of_json)
                })
                .collect()
        });
        each(line, cells)
    })?;
    match columns
        .iter()
        .zip(&seen)
        .find(|(column, seen)| column.is_some() && !**seen)
    {
        Some((Some(column), _)) if rows > 0 => Err(absent(source, column, keys)),
        _ => Ok(()),
    }
}

fn of_json(value: &Value) -> Cell {
    match value {
        Value::Null => Cell::Absent,
        Value::Bool(_) => Cell::Other("a boolean"),
        Value::Number(n) => n
            .as_i64()
            .map_or_else(|| Cell::Real(n.as_f64().unwrap_or(f64::NAN)), Cell::Whole),
        Value::String(text) if text.trim().is_empty() => Cell::Absent,
        Value::String(text) => Cell::Text(text.clone()),
        Value::Array(list) => Cell::List(list.iter().map(of_json).collect()),
        Value::Object(_) => Cell::Other("an object"),
    }
}

fn columns_file(
    source: &Source,
    columns: &[Option<&str>],
    mut each: impl FnMut(u64, Result<Vec<Cell>, String>) -> Result<()>,
) -> Result<()> {
    let file = File::open(&source.path).map_err(Error::read(&source.path))?;
    let failed = |e: parquet::errors::ParquetError| Error::malformed(&source.path, e.to_string());
    let reader = SerializedFileReader::new(file).map_err(failed)?;
    let schema = reader.metadata().file_metadata().schema();
    let present: Vec<String> = schema
        .get_fields()
        .iter()
        .map(|field| field.name().to_owned())
        .collect();
    if let Some(column) = columns
        .iter()
        .flatten()
        .find(|column| !present.iter().any(|name| name == *column))
    {
        return Err(absent(source, column, present));
    }
    let rows = reader.get_row_iter(None).map_err(failed)?;
    for (number, row) in (1..).zip(rows) {
        let row = row.map_err(failed)?;
        let cells = columns
            .iter()
            .map(|column| {
                let found = column.and_then(|column| row.get_column_iter().find(|(name, _)| *name == column));
                found.map_or(Cell::Absent, |(_, field)| of_field(field))
            })
            .collect();
        each(number, Ok(cells))?;
    }
    Ok(())
}

fn of_field(field: &Field) -> Cell {
    match field {
        Field::Null => Cell::Absent,
        Field::Bool(_) => Cell::Other("a boolean"),
        Field::Byte(n) => Cell::Whole(i64::from(*n)),
        Field::Short(n) => Cell::Whole(i64::from(*n)),
        Field::Int(n) => Cell::Whole(i64::from(*n)),
        Field::Long(n) | Field::TimestampMillis(n) | Field::TimestampMicros(n) => Cell::Whole(*n),
        Field::UByte(n) => Cell::Whole(i64::from(*n)),
        Field::UShort(n) => Cell::Whole(i64::from(*n)),
        Field::UInt(n) => Cell::Whole(i64::from(*n)),
        Field::ULong(n) => i64::try_from(*n).map_or(Cell::Real(*n as f64), Cell::Whole),
        Field::Float16(x) => Cell::Real(f64::from(x.to_f32())),
        Field::Float(x) => Cell::Real(f64::from(*x)),
        Field::Double(x) => Cell::Real(*x),
        Field::Str(text) if text.trim().is_empty() => Cell::Absent,
        Field::Str(text) => Cell::Text(text.clone()),
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => Cell::Text(text.to_owned()),
            Err(_) => Cell::Other("bytes that are not UTF-8"),
        },
        Field::ListInternal(list) => Cell::List(list.elements().iter().map(of_field).collect()),
        _ => Cell::Other("of a type that no column of a data set has"),
    }
}
