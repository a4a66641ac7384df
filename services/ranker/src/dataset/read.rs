//! Reading and checking: every refusal names file, line, column, field and reason.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;

use refract_domain::{Attributes, Item, ItemId, UserId};
use serde_json::Value;

use super::{Dataset, Manifest, Parts, People};
use crate::catalogue::{Catalogue, limits};
use crate::error::{Error, Result};
use crate::interactions::Act;

/// The header of `interactions.csv`; any order, further columns are ignored.
pub(super) const COLUMNS: [&str; 4] = ["user_id", "item_id", "rating", "timestamp"];
/// The last second of the year 9999. What lies beyond is milliseconds, or nonsense.
const TIMESTAMP_MAX: i64 = 253_402_300_799;
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// How forgiving reading is.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Largest share (0 to 1) of the rows of `interactions.csv` that may be bad; they are skipped and counted in the
    /// [`LoadReport`]. 0, the default: the first bad row is an error.
    pub bad_rows_share_max: f64,
}

/// What reading skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    pub interaction_rows: u64,
    pub bad_rows: u64,
    /// The first few bad rows, each with its place and reason.
    pub examples: Vec<String>,
}

impl LoadReport {
    pub const EXAMPLES_MAX: usize = 10;
}

/// What is wrong with a value: where in the record, and why.
struct Fault {
    column: u64,
    field: String,
    reason: String,
}

fn fault(field: impl Into<String>, reason: impl Into<String>) -> Fault {
    Fault {
        column: 1,
        field: field.into(),
        reason: reason.into(),
    }
}

impl Fault {
    fn at(self, file: &Path, line: u64) -> Error {
        Error::Malformed {
            file: file.to_owned(),
            line,
            column: self.column,
            field: self.field,
            reason: self.reason,
        }
    }
}

pub(super) fn load(dir: &Path, manifest: Option<Manifest>, options: &LoadOptions) -> Result<Dataset> {
    let share = options.bad_rows_share_max;
    if !(0.0..=1.0).contains(&share) {
        return Err(Error::Invalid {
            field: "bad_rows_share_max",
            reason: format!("{share} is not within 0 and 1"),
        });
    }
    let manifest = match manifest {
        Some(given) => checked(given, &dir.join("dataset.toml"))?,
        None => read_manifest(&dir.join("dataset.toml"))?,
    };
    let catalogue = read_items(&dir.join("items.jsonl"))?;
    let mut people = People::default();
    let users = dir.join("users.jsonl");
    if users.try_exists().map_err(Error::read(&users))? {
        read_users(&users, &mut people)?;
    }
    let (rows, report) = read_interactions(
        &dir.join("interactions.csv"),
        &manifest,
        &catalogue,
        &mut people,
        options,
    )?;
    Ok(Dataset::new(manifest, catalogue, people, rows, report))
}

pub(super) fn assemble(parts: Parts) -> Result<Dataset> {
    let at = |list: &str, index: usize, f: Fault| {
        let field = if f.field.is_empty() {
            format!("{list}[{index}]")
        } else {
            format!("{list}[{index}].{}", f.field)
        };
        Fault { field, ..f }.at(Path::new("parts"), index as u64 + 1)
    };
    let manifest = checked(parts.manifest, Path::new("parts"))?;
    let mut catalogue = Catalogue::default();
    for (n, item) in parts.items.into_iter().enumerate() {
        check_item(&item)
            .and_then(|()| add_item(&mut catalogue, item))
            .map_err(|f| at("items", n, f))?;
    }
    catalogue.seal();
    let mut people = People::default();
    for (n, note) in parts.users.into_iter().enumerate() {
        add_note(&mut people, note.id.expose(), note.about).map_err(|f| at("users", n, f))?;
    }
    let mut rows = Vec::with_capacity(parts.interactions.len());
    for (n, raw) in parts.interactions.into_iter().enumerate() {
        let check = || {
            check_id("user_id", raw.user.expose(), UserId::BYTES_MAX)?;
            let item = find_item(&catalogue, raw.item.as_str())?;
            raw.rating.map_or(Ok(()), |r| check_rating(r, &manifest))?;
            check_time(raw.at.0)?;
            Ok(item)
        };
        let item = check().map_err(|f| at("interactions", n, f))?;
        rows.push((
            people.meet(raw.user.expose()),
            Act::new(item, raw.at.0, raw.rating),
        ));
    }
    let report = LoadReport {
        interaction_rows: rows.len() as u64,
        ..LoadReport::default()
    };
    Ok(Dataset::new(manifest, catalogue, people, rows, report))
}

fn checked(manifest: Manifest, path: &Path) -> Result<Manifest> {
    match manifest.check() {
        Ok(()) => Ok(manifest),
        Err((field, reason)) => Err(fault(field, reason).at(path, 1)),
    }
}

fn read_manifest(path: &Path) -> Result<Manifest> {
    let text = std::fs::read_to_string(path).map_err(Error::read(path))?;
    let manifest: Manifest = toml::from_str(&text).map_err(|e| {
        let before = &text[..e.span().map_or(0, |s| s.start).min(text.len())];
        let line = before.matches('\n').count() as u64 + 1;
        let column = (before.len() - before.rfind('\n').map_or(0, |n| n + 1)) as u64 + 1;
        let reason = e.message().to_owned();
        Fault {
            column,
            field: "dataset.toml".to_owned(),
            reason,
        }
        .at(path, line)
    })?;
    // A relation between values has no span: name the line of the key instead.
    manifest.check().map_err(|(field, reason)| {
        let key = field.rsplit('.').next().unwrap_or(field);
        let line = text
            .lines()
            .position(|l| l.trim_start().starts_with(key))
            .map_or(1, |n| n as u64 + 1);
        fault(field, reason).at(path, line)
    })?;
    Ok(manifest)
}

/// Calls `each` with every non-blank line and its number; checks UTF-8.
fn json_lines(path: &Path, mut each: impl FnMut(Value) -> Result<(), Fault>) -> Result<()> {
    let file = File::open(path).map_err(Error::read(path))?;
    let mut input = BufReader::with_capacity(1 << 18, file);
    let (mut bytes, mut line) = (Vec::new(), 0);
    loop {
        bytes.clear();
        if input.read_until(b'\n', &mut bytes).map_err(Error::read(path))? == 0 {
            return Ok(());
        }
        line += 1;
        let record = if line == 1 {
            bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes)
        } else {
            &bytes
        };
        parse_line(record)
            .and_then(|v| v.map_or(Ok(()), &mut each))
            .map_err(|f| f.at(path, line))?;
    }
}

fn parse_line(bytes: &[u8]) -> Result<Option<Value>, Fault> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let column = e.valid_up_to() as u64 + 1;
        Fault {
            column,
            field: "line".to_owned(),
            reason: "is not UTF-8".to_owned(),
        }
    })?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    serde_json::from_str(text).map(Some).map_err(|e| {
        // The parser's own message ends in a place within this one line; ours says it better.
        let message = e.to_string();
        let reason = message.split(" at line ").next().unwrap_or(&message).to_owned();
        Fault {
            column: e.column().max(1) as u64,
            field: "json".to_owned(),
            reason,
        }
    })
}

fn read_items(path: &Path) -> Result<Catalogue> {
    let mut catalogue = Catalogue::default();
    json_lines(path, |value| {
        let item = parse_item(value)?;
        check_item(&item)?;
        add_item(&mut catalogue, item)
    })?;
    catalogue.seal();
    Ok(catalogue)
}

fn parse_item(value: Value) -> Result<Item, Fault> {
    let Value::Object(mut object) = value else {
        return Err(fault("line", "must be a JSON object"));
    };
    let mut text = |name: &str, required: bool| match object.remove(name) {
        Some(Value::String(s)) => Ok(s),
        Some(Value::Null) | None if !required => Ok(String::new()),
        None => Err(fault(name, "is missing")),
        Some(other) => Err(fault(name, format!("must be a string, not {}", kind(&other)))),
    };
    let (id, title, description) = (
        text("id", true)?,
        text("title", true)?,
        text("description", false)?,
    );
    let attributes = match object.remove("attributes") {
        None | Some(Value::Null) => Attributes::new(),
        Some(Value::Object(map)) => map
            .into_iter()
            .map(|(name, v)| Ok((name.clone(), parse_values(&name, v)?)))
            .collect::<Result<_, Fault>>()?,
        Some(other) => {
            return Err(fault(
                "attributes",
                format!("must be an object, not {}", kind(&other)),
            ));
        }
    };
    Ok(Item {
        id: ItemId::new(id),
        title,
        attributes,
        description,
    })
}

/// One value or a list of them; numbers are taken as they are written (`"year": 1995`).
fn parse_values(name: &str, value: Value) -> Result<Vec<String>, Fault> {
    let one = |field: String, value: Value| match value {
        Value::String(s) => Ok(s),
        Value::Number(n) => Ok(n.to_string()),
        other => Err(fault(field, format!("must be a string, not {}", kind(&other)))),
    };
    match value {
        Value::Array(list) => {
            let named = list.into_iter().enumerate();
            named
                .map(|(n, v)| one(format!("attributes.{name}[{n}]"), v))
                .collect()
        }
        single => Ok(vec![one(format!("attributes.{name}"), single)?]),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn check_id(field: &str, id: &str, bytes_max: usize) -> Result<(), Fault> {
    if id.is_empty() {
        return Err(fault(field, "must not be empty"));
    }
    if id.len() > bytes_max {
        return Err(fault(
            field,
            format!("is {} bytes long, at most {bytes_max} are allowed", id.len()),
        ));
    }
    if id.chars().any(char::is_control) {
        return Err(fault(field, "must not hold control characters"));
    }
    Ok(())
}

fn check_length(field: impl FnOnce() -> String, text: &str, chars_max: usize) -> Result<(), Fault> {
    // Bytes bound characters from above, so most texts are never counted.
    let over = text.len() > chars_max && text.chars().count() > chars_max;
    if over {
        Err(fault(field(), format!("is longer than {chars_max} characters")))
    } else {
        Ok(())
    }
}

fn check_item(item: &Item) -> Result<(), Fault> {
    check_id("id", item.id.as_str(), ItemId::BYTES_MAX)?;
    if item.title.trim().is_empty() {
        return Err(fault("title", "must not be empty"));
    }
    check_length(|| "title".to_owned(), &item.title, limits::TITLE_CHARS_MAX)?;
    check_length(
        || "description".to_owned(),
        &item.description,
        limits::DESCRIPTION_CHARS_MAX,
    )?;
    if item.attributes.len() > limits::ATTRIBUTES_MAX {
        let reason = format!(
            "holds {} names, at most {} are allowed",
            item.attributes.len(),
            limits::ATTRIBUTES_MAX
        );
        return Err(fault("attributes", reason));
    }
    for (name, values) in &item.attributes {
        let field = || format!("attributes.{name}");
        if name.trim().is_empty() {
            return Err(fault("attributes", "has an empty name"));
        }
        if values.len() > limits::ATTRIBUTE_VALUES_MAX {
            let reason = format!(
                "holds {} values, at most {} are allowed",
                values.len(),
                limits::ATTRIBUTE_VALUES_MAX
            );
            return Err(fault(field(), reason));
        }
        for (n, value) in values.iter().enumerate() {
            if value.trim().is_empty() {
                return Err(fault(format!("attributes.{name}[{n}]"), "must not be empty"));
            }
            check_length(
                || format!("attributes.{name}[{n}]"),
                value,
                limits::VALUE_CHARS_MAX,
            )?;
        }
    }
    Ok(())
}

fn add_item(catalogue: &mut Catalogue, item: Item) -> Result<(), Fault> {
    match catalogue.add(item) {
        Ok(()) => Ok(()),
        Err(earlier) => Err(fault(
            "id",
            format!("was used before, by item number {}", earlier + 1),
        )),
    }
}

fn read_users(path: &Path, people: &mut People) -> Result<()> {
    json_lines(path, |value| {
        let text = |name: &str| match value.get(name) {
            Some(Value::String(s)) => Ok(s.clone()),
            None => Err(fault(name, "is missing")),
            Some(other) => Err(fault(name, format!("must be a string, not {}", kind(other)))),
        };
        if !value.is_object() {
            return Err(fault("line", "must be a JSON object"));
        }
        add_note(people, &text("id")?, text("about")?)
    })
}

fn add_note(people: &mut People, id: &str, about: String) -> Result<(), Fault> {
    check_id("id", id, UserId::BYTES_MAX)?;
    check_length(|| "about".to_owned(), &about, limits::ABOUT_CHARS_MAX)?;
    if people.note(id, about) {
        Ok(())
    } else {
        Err(fault("id", "was used before"))
    }
}

fn find_item(catalogue: &Catalogue, id: &str) -> Result<u32, Fault> {
    catalogue
        .index_of_str(id)
        .ok_or_else(|| fault("item_id", format!("{id:?} is not in the catalogue")))
}

fn check_rating(rating: f32, manifest: &Manifest) -> Result<(), Fault> {
    if !rating.is_finite() {
        return Err(fault("rating", "must be a finite number"));
    }
    match &manifest.rating {
        Some(r) if rating < r.min || rating > r.max => Err(fault(
            "rating",
            format!("{rating} is outside the scale {} to {}", r.min, r.max),
        )),
        _ => Ok(()),
    }
}

fn check_time(at: i64) -> Result<(), Fault> {
    if at.abs() > TIMESTAMP_MAX {
        return Err(fault(
            "timestamp",
            format!("{at} is beyond the year 9999: seconds are expected, not milliseconds"),
        ));
    }
    Ok(())
}

type Rows = Vec<(u32, Act)>;

fn read_interactions(
    path: &Path,
    manifest: &Manifest,
    catalogue: &Catalogue,
    people: &mut People,
    options: &LoadOptions,
) -> Result<(Rows, LoadReport)> {
    let file = File::open(path).map_err(Error::read(path))?;
    let input = BufReader::with_capacity(1 << 18, file);
    // Rows of another length are read too, so that the error is ours and names the field.
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(input);
    let mut record = csv::ByteRecord::new();
    let failed = |e: csv::Error| Error::Read {
        path: path.to_owned(),
        source: std::io::Error::other(e),
    };
    if !reader.read_byte_record(&mut record).map_err(failed)? {
        return Err(fault("header", format!("is missing: expected {}", COLUMNS.join(","))).at(path, 1));
    }
    let header = Header::parse(&record).map_err(|f| f.at(path, 1))?;
    let (mut rows, mut report): (Rows, _) = (Vec::new(), LoadReport::default());
    let mut first_bad = None;
    while reader.read_byte_record(&mut record).map_err(failed)? {
        report.interaction_rows += 1;
        let fault = match header.row(&record, manifest, catalogue, people) {
            Ok(row) => {
                rows.push(row);
                continue;
            }
            Err(fault) => fault,
        };
        report.bad_rows += 1;
        let is_told = report.examples.len() < LoadReport::EXAMPLES_MAX;
        if !is_told {
            continue;
        }
        let begin = record.position().map_or(0, csv::Position::byte);
        let error = fault.at(path, line_of(path, begin)?);
        if options.bad_rows_share_max == 0.0 {
            return Err(error);
        }
        report.examples.push(error.to_string());
        first_bad.get_or_insert(error);
    }
    let share = report.bad_rows as f64 / report.interaction_rows.max(1) as f64;
    match first_bad {
        Some(first) if share > options.bad_rows_share_max => Err(Error::TooManyBadRows {
            bad: report.bad_rows,
            rows: report.interaction_rows,
            share_max: options.bad_rows_share_max,
            first: Box::new(first),
        }),
        _ => Ok((rows, report)),
    }
}

/// The number of the line on which a record begins that was looked for from this byte on. The reader's own count is of `\n` alone,
/// one of which still lies before a record where lines end in `\r\n`, as blank lines do; so lines are counted where one is named.
fn line_of(path: &Path, begin: u64) -> Result<u64> {
    let file = File::open(path).map_err(Error::read(path))?;
    let (mut line, mut last) = (1, 0);
    for (at, byte) in (0..).zip(BufReader::with_capacity(1 << 18, file).bytes()) {
        let byte = byte.map_err(Error::read(path))?;
        if !matches!(byte, b'\n' | b'\r') && at >= begin {
            break;
        }
        line += u64::from(byte == b'\r' || (byte == b'\n' && last != b'\r'));
        last = byte;
    }
    Ok(line)
}

/// Where each column of [`COLUMNS`] stands.
struct Header {
    places: [usize; 4],
    fields: usize,
}

impl Header {
    fn parse(record: &csv::ByteRecord) -> Result<Self, Fault> {
        let mut places = [usize::MAX; 4];
        for (n, bytes) in record.iter().enumerate() {
            let bytes = if n == 0 {
                bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)
            } else {
                bytes
            };
            let Some(column) = COLUMNS.iter().position(|c| bytes.trim_ascii() == c.as_bytes()) else {
                continue;
            };
            if places[column] != usize::MAX {
                let reason = "stands twice in the header".to_owned();
                return Err(Fault {
                    column: n as u64 + 1,
                    field: COLUMNS[column].to_owned(),
                    reason,
                });
            }
            places[column] = n;
        }
        match places.iter().position(|&p| p == usize::MAX) {
            Some(absent) => {
                let reason = format!("is missing in the header: expected {}", COLUMNS.join(","));
                Err(fault(COLUMNS[absent], reason))
            }
            None => Ok(Self {
                places,
                fields: record.len(),
            }),
        }
    }

    fn row(
        &self,
        record: &csv::ByteRecord,
        manifest: &Manifest,
        catalogue: &Catalogue,
        people: &mut People,
    ) -> Result<(u32, Act), Fault> {
        if record.len() != self.fields {
            let reason = format!("has {} fields, the header {}", record.len(), self.fields);
            return Err(Fault {
                column: record.len() as u64,
                field: "row".to_owned(),
                reason,
            });
        }
        let at = |column: usize, f: Fault| Fault {
            column: self.places[column] as u64 + 1,
            ..f
        };
        let text = |column: usize| {
            let bytes = &record[self.places[column]];
            std::str::from_utf8(bytes).map_err(|_| at(column, fault(COLUMNS[column], "is not UTF-8")))
        };
        let user = text(0)?;
        check_id(COLUMNS[0], user, UserId::BYTES_MAX).map_err(|f| at(0, f))?;
        let item = find_item(catalogue, text(1)?).map_err(|f| at(1, f))?;
        let rating = match text(2)?.trim() {
            "" => None,
            number => {
                let value: f32 = number
                    .parse()
                    .map_err(|_| at(2, fault("rating", format!("{number:?} is not a number"))))?;
                check_rating(value, manifest).map_err(|f| at(2, f))?;
                Some(value)
            }
        };
        let time = text(3)?.trim();
        let seconds: i64 = time.parse().map_err(|_| {
            at(
                3,
                fault("timestamp", format!("{time:?} is not a whole number of seconds")),
            )
        })?;
        check_time(seconds).map_err(|f| at(3, f))?;
        // Last, so that a refused row leaves no user behind.
        Ok((people.meet(user), Act::new(item, seconds, rating)))
    }
}
