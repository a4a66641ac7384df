//! Labels as Parquet: columns that train anything, and the whole label as JSON in the last of them.
//!
//! The journal stays lines of JSON, for a Parquet file has no valid beginning; this is written when a run ends, whole or not
//! at all.
//!
//! | column | holds |
//! |---|---|
//! | `id`, `part`, `user`, `item` | ids; `train`, `dev` or `test` |
//! | `title`, `history` | the item's title; titles of the history, oldest first |
//! | `source`, `text` | what a text may draw on, item by item; what a student is to write |
//! | `facts` | the teacher's statements, where it makes some |
//! | `score`, `words`, `overlap`, `repeat`, `sentences`, `sentences_unsupported` | what was found in the text |
//! | `teacher`, `teacher_revision`, `prompt`, `settings`, `manner`, `candidates`, `attempts`, `created_at` | how it came to be |
//! | `label` | the line of the journal, which `refract train prism --labels` reads |

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::record::Field;
use parquet::schema::parser::parse_message_type;

use crate::error::Error;
use crate::label::Label;
use crate::prompt::source;

const SCHEMA: &str = "message labels {
  required binary id (STRING);
  required binary part (STRING);
  optional binary user (STRING);
  required binary item (STRING);
  required binary title (STRING);
  required group history (LIST) { repeated group list { required binary element (STRING); } }
  required binary source (STRING);
  required binary text (STRING);
  required group facts (LIST) { repeated group list { required binary element (STRING); } }
  required double score;
  required int32 words;
  required double overlap;
  required double repeat;
  required int32 sentences;
  required int32 sentences_unsupported;
  required binary teacher (STRING);
  required binary teacher_revision (STRING);
  required binary prompt (STRING);
  required binary settings (STRING);
  required binary manner (STRING);
  required int32 candidates;
  required int32 attempts;
  required int64 created_at;
  required binary label (STRING);
}";
/// Labels held at a time, and rows of a group.
const ROWS: usize = 4_096;
/// History items that `source` shows, as published.
const SOURCE_ITEMS_MAX: usize = 50;

/// Whether a file's name says that it is Parquet.
pub fn is_parquet(path: &Path) -> bool {
    path.extension()
        .is_some_and(|end| end.eq_ignore_ascii_case("parquet"))
}

/// Refuses a table `out` that was not written from `journal`: writing would replace what cannot be made again.
pub fn check(journal: &Path, out: &Path) -> Result<(), Error> {
    if out.exists() && !journal.exists() {
        return Err(Error::Foreign {
            path: out.to_owned(),
            lacks: journal.to_owned(),
        });
    }
    Ok(())
}

/// Writes the labels of `journal` to `out`; gives their number.
pub fn write(journal: &Path, out: &Path) -> Result<usize, Error> {
    let failed = |e: ParquetError| Error::write(out)(std::io::Error::other(e));
    let schema = Arc::new(parse_message_type(SCHEMA).map_err(failed)?);
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .build();
    let mut partial = out.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    let file = File::create(partial).map_err(Error::write(partial))?;
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).map_err(failed)?;
    let mut count = 0;
    let mut rows = Vec::with_capacity(ROWS);
    let lines = BufReader::new(File::open(journal).map_err(Error::read(journal))?).lines();
    for (n, line) in lines.enumerate() {
        let line = line.map_err(Error::read(journal))?;
        if line.trim().is_empty() {
            continue;
        }
        let label: Label = serde_json::from_str(&line).map_err(|e| Error::Malformed {
            path: journal.to_owned(),
            line: n + 1,
            reason: e.to_string(),
        })?;
        rows.push(Line { label, json: line });
        count += 1;
        if rows.len() == ROWS {
            group(&mut writer, &rows).map_err(failed)?;
            rows.clear();
        }
    }
    if !rows.is_empty() {
        group(&mut writer, &rows).map_err(failed)?;
    }
    let file = writer.into_inner().map_err(failed)?;
    file.sync_data().map_err(Error::write(partial))?;
    refract_durable::rename(partial, out).map_err(Error::write(out))?;
    Ok(count)
}

/// The lines of the journal that a Parquet file was written from, in their order.
pub fn read(path: &Path) -> Result<Vec<String>, Error> {
    let failed = |e: ParquetError| Error::read(path)(std::io::Error::other(e));
    let file = File::open(path).map_err(Error::read(path))?;
    let reader = SerializedFileReader::new(file).map_err(failed)?;
    let only = parse_message_type("message labels { required binary label (STRING); }").map_err(failed)?;
    let malformed = |line: usize, reason: &str| Error::Malformed {
        path: path.to_owned(),
        line,
        reason: reason.to_owned(),
    };
    let rows = reader.get_row_iter(Some(only)).map_err(|_| {
        malformed(
            0,
            "it has no column `label`: it was not written by `refract distill`",
        )
    })?;
    let mut lines = Vec::new();
    for (n, row) in rows.enumerate() {
        let row = row.map_err(failed)?;
        match row.get_column_iter().next() {
            Some((_, Field::Str(line))) => lines.push(line.clone()),
            _ => return Err(malformed(n + 1, "its column `label` holds no text")),
        }
    }
    Ok(lines)
}

struct Line {
    label: Label,
    json: String,
}

/// One row group: the columns in the order of the schema.
fn group(writer: &mut SerializedFileWriter<File>, rows: &[Line]) -> Result<(), ParquetError> {
    let mut group = writer.next_row_group()?;
    let mut columns = COLUMNS.iter();
    while let Some(mut column) = group.next_column()? {
        let Some(of) = columns.next() else {
            return Err(ParquetError::General("a column without values".to_owned()));
        };
        match (column.untyped(), of) {
            (ColumnWriter::ByteArrayColumnWriter(out), Column::Text(of)) => {
                let values: Vec<ByteArray> =
                    rows.iter().map(|row| ByteArray::from(of(row).as_str())).collect();
                out.write_batch(&values, None, None)?;
            }
            (ColumnWriter::ByteArrayColumnWriter(out), Column::Maybe(of)) => {
                let all: Vec<Option<String>> = rows.iter().map(of).collect();
                let levels: Vec<i16> = all.iter().map(|value| i16::from(value.is_some())).collect();
                let values: Vec<ByteArray> = all
                    .iter()
                    .flatten()
                    .map(|v| ByteArray::from(v.as_str()))
                    .collect();
                out.write_batch(&values, Some(&levels), None)?;
            }
            (ColumnWriter::ByteArrayColumnWriter(out), Column::Texts(of)) => {
                // An empty list is one entry of level 0; the second and later elements of a list repeat.
                let (mut values, mut defined, mut repeated) = (Vec::new(), Vec::new(), Vec::new());
                for list in rows.iter().map(of) {
                    if list.is_empty() {
                        defined.push(0);
                        repeated.push(0);
                    }
                    for (n, text) in list.iter().enumerate() {
                        values.push(ByteArray::from(text.as_str()));
                        defined.push(1);
                        repeated.push(i16::from(n > 0));
                    }
                }
                out.write_batch(&values, Some(&defined), Some(&repeated))?;
            }
            (ColumnWriter::DoubleColumnWriter(out), Column::Real(of)) => {
                out.write_batch(&rows.iter().map(of).collect::<Vec<_>>(), None, None)?;
            }
            (ColumnWriter::Int32ColumnWriter(out), Column::Count(of)) => {
                let count = |row| i32::try_from(of(row)).unwrap_or(i32::MAX);
                out.write_batch(&rows.iter().map(count).collect::<Vec<_>>(), None, None)?;
            }
            (ColumnWriter::Int64ColumnWriter(out), Column::Time(of)) => {
                out.write_batch(&rows.iter().map(of).collect::<Vec<_>>(), None, None)?;
            }
            _ => return Err(ParquetError::General("a column of another type".to_owned())),
        }
        column.close()?;
    }
    group.close().map(|_| ())
}

enum Column {
    Text(fn(&Line) -> String),
    Maybe(fn(&Line) -> Option<String>),
    Texts(fn(&Line) -> Vec<String>),
    Real(fn(&Line) -> f64),
    Count(fn(&Line) -> usize),
    Time(fn(&Line) -> i64),
}

const COLUMNS: [Column; 24] = [
    Column::Text(|row| row.label.id.clone()),
    Column::Text(|row| row.label.part.clone()),
    Column::Maybe(|row| row.label.user.clone()),
    Column::Text(|row| row.label.item.id.clone()),
    Column::Text(|row| row.label.item.title.clone()),
    Column::Texts(|row| row.label.history.iter().map(|item| item.title.clone()).collect()),
    Column::Text(|row| {
        let (pair, history) = row.label.question();
        source(&pair, &history, SOURCE_ITEMS_MAX)
    }),
    Column::Text(|row| row.label.text.clone()),
    Column::Texts(|row| row.label.facts.iter().map(|fact| fact.text.clone()).collect()),
    Column::Real(|row| row.label.quality.score),
    Column::Count(|row| row.label.quality.words),
    Column::Real(|row| row.label.quality.overlap),
    Column::Real(|row| row.label.quality.repeat),
    Column::Count(|row| row.label.quality.sentences),
    Column::Count(|row| row.label.quality.sentences_unsupported),
    Column::Text(|row| row.label.provenance.teacher.clone()),
    Column::Text(|row| row.label.provenance.teacher_revision.clone()),
    Column::Text(|row| row.label.provenance.prompt.clone()),
    Column::Text(|row| row.label.provenance.settings.clone()),
    Column::Text(|row| row.label.provenance.manner.clone()),
    Column::Count(|row| row.label.provenance.candidates),
    Column::Count(|row| row.label.provenance.attempts as usize),
    Column::Time(|row| row.label.provenance.created_at),
    Column::Text(|row| row.json.clone()),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn line(n: usize) -> String {
        let mut history = Vec::new();
        for h in 0..n % 3 {
            history.push(serde_json::json!({"id": format!("h{h}"), "title": format!("Amélie, part {h}"), "at": h, "signal": "liked"}));
        }
        let label = serde_json::json!({
            "id": format!("id{n}"), "part": "train", "user": n.is_multiple_of(2).then(|| format!("u{n}")),
            "item": {"id": "i", "title": "Heat"}, "history": history, "text": format!("Text {n}."),
            "quality": {"score": 0.5, "words": 2, "overlap": 1.0, "repeat": 0.0, "sentences": 1, "sentences_unsupported": 0},
            "provenance": {"teacher": "t", "teacher_revision": "1", "prompt": "p", "settings": "", "manner": "sampled",
                           "candidates": 1, "attempts": 1, "created_at": n, "refract": "0"}
        });
        label.to_string()
    }

    #[test]
    fn a_journal_comes_back_line_by_line_over_several_groups_and_columns_are_its_fields() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, out) = (dir.path().join("l.jsonl"), dir.path().join("l.parquet"));
        let lines: Vec<String> = (0..ROWS + 3).map(line).collect();
        std::fs::write(&journal, lines.join("\n") + "\n\n").unwrap();
        assert_eq!(write(&journal, &out).unwrap(), lines.len());
        assert_eq!(read(&out).unwrap(), lines);
        let reader = SerializedFileReader::new(File::open(&out).unwrap()).unwrap();
        assert_eq!(reader.metadata().num_row_groups(), 2);
        let row = reader.get_row_iter(None).unwrap().nth(5).unwrap().unwrap();
        let told = row.to_string();
        for wanted in [
            "\"Amélie, part 0\", \"Amélie, part 1\"",
            "user: null",
            "created_at: 5",
            "Recommended: Heat",
        ] {
            assert!(told.contains(wanted), "{wanted} is not in {told}");
        }
        assert_eq!(row.len(), COLUMNS.len());
        assert!(!dir.path().join("l.parquet.partial").exists());
    }

    #[test]
    fn a_file_of_others_is_refused_and_a_bad_line_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, out) = (dir.path().join("l.jsonl"), dir.path().join("l.parquet"));
        std::fs::write(&journal, line(0) + "\nnonsense\n").unwrap();
        let error = write(&journal, &out).unwrap_err().to_string();
        assert!(error.contains("l.jsonl:2:"), "{error}");
        assert!(!out.exists());
        std::fs::write(&out, "PAR1 no PAR1").unwrap();
        assert!(read(&out).is_err());
    }
}
