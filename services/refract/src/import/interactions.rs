//! The ratings: checks each row, finds the item, keeps the newest rating of a pair.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::Path;

use anyhow::{Context as _, ensure};
use refract_domain::UserId;
use refract_import::Records;

use super::{Report, SCALE};

const COLUMNS: [&str; 4] = ["user_id", "item_id", "rating", "timestamp"];
/// The last second of the year 9999: what lies beyond is not in seconds.
const TIMESTAMP_MAX: i64 = 253_402_300_799;

struct Row {
    user: String,
    item: String,
    rating: f32,
    at: i64,
    line: u64,
}

/// A fault in a row: the number of the field from 1, and what is wrong.
struct Fault {
    column: usize,
    reason: String,
    unknown_item: bool,
}

/// Writes the rows of `path` that can be used, in their order.
pub(super) fn convert(
    path: &Path,
    known: &HashSet<String>,
    target: &mut impl Write,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut records = Records::open(path, b',')?;
    let mut record = csv::ByteRecord::new();
    ensure!(
        records.read(&mut record)?.is_some(),
        "{}:1:1: the header is missing",
        path.display()
    );
    let header = Header::parse(&record)
        .map_err(|f| anyhow::anyhow!("{}:1:{}: {}", path.display(), f.column, f.reason))?;
    let mut rows: Vec<Option<Row>> = Vec::new();
    let mut newest: HashMap<(String, String), usize> = HashMap::new();
    while let Some(line) = records.read(&mut record)? {
        report.interactions.read += 1;
        let row = match header.row(&record, known, line) {
            Ok(row) => row,
            Err(fault) => {
                let notes = if fault.unknown_item {
                    &mut report.unknown_items
                } else {
                    &mut report.bad_rows
                };
                notes.add(|| format!("{}:{line}:{}: {}", path.display(), fault.column, fault.reason));
                continue;
            }
        };
        let pair = (row.user.clone(), row.item.clone());
        let place = newest.get(&pair).copied();
        if let Some(other) = place.and_then(|p| rows[p].as_ref()) {
            // Of equal times the later line is the newer.
            let (old, new) = if other.at > row.at {
                (row.line, other.line)
            } else {
                (other.line, row.line)
            };
            report
                .repeated
                .add(|| format!("{}:{old}:1: rated again in line {new}", path.display()));
            if other.at > row.at {
                continue;
            }
        }
        if let Some(place) = place {
            rows[place] = None;
        }
        newest.insert(pair, rows.len());
        rows.push(Some(row));
    }
    let mut writer = csv::Writer::from_writer(target);
    writer.write_record(COLUMNS)?;
    let mut users = HashSet::new();
    for row in rows.into_iter().flatten() {
        writer.write_record([&row.user, &row.item, &row.rating.to_string(), &row.at.to_string()])?;
        report.interactions.kept += 1;
        users.insert(row.user);
    }
    report.users = users.len();
    writer.flush().context("cannot write interactions.csv")
}

pub(super) fn check_id(field: &str, id: &str, bytes_max: usize) -> Result<(), String> {
    match id {
        "" => Err(format!("{field}: is empty")),
        id if id.len() > bytes_max => Err(format!(
            "{field}: is {} bytes long, at most {bytes_max} are allowed",
            id.len()
        )),
        id if id.chars().any(char::is_control) => Err(format!("{field}: holds a control character")),
        _ => Ok(()),
    }
}

/// Where each column of [`COLUMNS`] stands.
struct Header {
    places: [usize; 4],
    fields: usize,
}

fn fault(place: usize, reason: impl Into<String>) -> Fault {
    Fault {
        column: place + 1,
        reason: reason.into(),
        unknown_item: false,
    }
}

impl Header {
    fn parse(record: &csv::ByteRecord) -> Result<Self, Fault> {
        let mut places = [0; 4];
        for (column, place) in COLUMNS.iter().zip(&mut places) {
            let is = |bytes: &[u8]| bytes.trim_ascii() == column.as_bytes();
            let mut found = record
                .iter()
                .enumerate()
                .filter(|(_, bytes)| is(bytes))
                .map(|(n, _)| n);
            *place = found
                .next()
                .ok_or_else(|| fault(0, format!("the header lacks {column}")))?;
            if let Some(again) = found.next() {
                return Err(fault(again, format!("the header has {column} twice")));
            }
        }
        Ok(Self {
            places,
            fields: record.len(),
        })
    }

    fn row(&self, record: &csv::ByteRecord, known: &HashSet<String>, line: u64) -> Result<Row, Fault> {
        if record.len() != self.fields {
            let place = record.len().min(self.fields);
            return Err(fault(
                place,
                format!("the row has {} fields, the header {}", record.len(), self.fields),
            ));
        }
        let text = |column: usize| {
            let place = self.places[column];
            let utf8 = std::str::from_utf8(&record[place]).map(str::trim);
            utf8.map_err(|_| fault(place, format!("{}: is not UTF-8", COLUMNS[column])))
        };
        let (user, item, rating, at) = (text(0)?, text(1)?, text(2)?, text(3)?);
        check_id(COLUMNS[0], user, UserId::BYTES_MAX).map_err(|reason| fault(self.places[0], reason))?;
        let number: f32 = rating
            .parse()
            .map_err(|_| fault(self.places[2], format!("rating: {rating:?} is not a number")))?;
        if !(SCALE.min..=SCALE.max).contains(&number) {
            let reason = format!("rating: {rating} is not within {} and {}", SCALE.min, SCALE.max);
            return Err(fault(self.places[2], reason));
        }
        let time: i64 = at
            .parse()
            .map_err(|_| fault(self.places[3], format!("timestamp: {at:?} is not a whole number")))?;
        if time.unsigned_abs() > TIMESTAMP_MAX as u64 {
            return Err(fault(
                self.places[3],
                format!("timestamp: {at} is beyond the year 9999: seconds are expected"),
            ));
        }
        if !known.contains(item) {
            let reason = format!("item_id: {item:?} is not among the items");
            return Err(Fault {
                unknown_item: true,
                ..fault(self.places[1], reason)
            });
        }
        Ok(Row {
            user: user.to_owned(),
            item: item.to_owned(),
            rating: number,
            at: time,
            line,
        })
    }
}
