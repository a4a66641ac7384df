//! Records of CSV and TSV files, each with the number of its first line, whatever ends a line and however many are blank.
//!
//! A quote that is opened and not closed would make one field of all that follows, so nothing here waits for the end of a quote
//! without a bound, and a record of several lines that cannot be meant is an error, not a bad row: what it swallowed was never looked
//! at. In TSV, which many write without quotes, a quote counts only where the field that it opens is closed by another.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use csv::ByteRecord;

use crate::error::{Error, Result};
use crate::lines::{LINE_BYTES_MAX, open};

const QUOTE: u8 = b'"';
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A file of records; the first may be a header, and then says how many fields the others have.
pub struct Records {
    path: PathBuf,
    input: Box<dyn BufRead>,
    separator: u8,
    /// Fields of the first record.
    fields: Option<usize>,
    /// Lines read.
    line: u64,
    text: Vec<u8>,
    /// The line after `text`, where it was looked at already.
    ahead: Option<Vec<u8>>,
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records")
            .field("path", &self.path)
            .field("line", &self.line)
            .finish_non_exhaustive()
    }
}

impl Records {
    /// Opens a file; one that ends in `.gz` is unpacked.
    pub fn open(path: &Path, separator: u8) -> Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            input: open(path)?,
            separator,
            fields: None,
            line: 0,
            text: Vec::new(),
            ahead: None,
        })
    }

    /// Reads the next record that is not a blank line; gives the number of its first line, from 1.
    pub fn read(&mut self, record: &mut ByteRecord) -> Result<Option<u64>> {
        loop {
            record.clear();
            if !self.next_line()? {
                return Ok(None);
            }
            let mark = self.line == 1 && self.text.starts_with(BYTE_ORDER_MARK);
            let text = if mark { BYTE_ORDER_MARK.len() } else { 0 };
            let (line, end) = (self.line, content(&self.text));
            if text >= end {
                continue;
            }
            if let Some(opened) = self.split(text, end, record) {
                self.join(line, text, opened, record)?;
            }
            self.fields.get_or_insert(record.len());
            return Ok(Some(line));
        }
    }

    /// Cuts a line into fields; gives the place of a quote that the line opens and does not close.
    fn split(&self, from: usize, end: usize, record: &mut ByteRecord) -> Option<usize> {
        let line = &self.text[..end];
        let until_separator = |from: usize| {
            let length = line[from..].iter().position(|byte| *byte == self.separator);
            length.map_or(end, |length| from + length)
        };
        let (mut at, mut field) = (from, Vec::new());
        loop {
            let mut stop = until_separator(at);
            if line.get(at) == Some(&QUOTE) {
                field.clear();
                match closed(line, at + 1, &mut field) {
                    None => return Some(at),
                    Some(after) if after == end || line[after] == self.separator => {
                        record.push_field(&field);
                        stop = after;
                    }
                    Some(_) if self.is_tsv() => record.push_field(&line[at..stop]),
                    // As spreadsheets take it: what follows the quote belongs to the field.
                    Some(after) => {
                        stop = until_separator(after);
                        field.extend(&line[after..stop]);
                        record.push_field(&field);
                    }
                }
            } else {
                record.push_field(&line[at..stop]);
            }
            if stop == end {
                return None;
            }
            at = stop + 1;
        }
    }

    fn is_tsv(&self) -> bool {
        self.separator == b'\t'
    }

    /// Goes on with a record whose line ends within a quote.
    fn join(&mut self, first: u64, from: usize, mut opened: usize, record: &mut ByteRecord) -> Result<()> {
        if self.is_tsv() && self.are_rows(from)? {
            let end = content(&self.text);
            for field in self.text[opened..end].split(|byte| *byte == b'\t') {
                record.push_field(field);
            }
            return Ok(());
        }
        let mut bytes = self.text.len();
        loop {
            let mut field = Vec::new();
            closed(&self.text, opened + 1, &mut field);
            let after = loop {
                if !self.next_line()? {
                    return Err(self.stray(first, "opens a quote that is never closed"));
                }
                bytes += self.text.len();
                if bytes as u64 > LINE_BYTES_MAX {
                    let what = format!("opens a quote that is not closed within {LINE_BYTES_MAX} bytes");
                    return Err(self.stray(first, &what));
                }
                if let Some(after) = closed(&self.text, 0, &mut field) {
                    break after;
                }
            };
            record.push_field(&field);
            let end = content(&self.text);
            if after < end && self.text[after] != self.separator {
                let what = format!("opens a quote that line {} closes within a field", self.line);
                return Err(self.stray(first, &what));
            }
            if after >= end {
                break;
            }
            match self.split(after + 1, end, record) {
                None => break,
                Some(again) => opened = again,
            }
        }
        match self.fields {
            Some(fields) if fields != record.len() => {
                let what = format!(
                    "opens a quote, with which the row ends in line {} and has {} fields, the header {fields}",
                    self.line,
                    record.len()
                );
                Err(self.stray(first, &what))
            }
            _ => Ok(()),
        }
    }

    /// Whether the line and the next one, if there is one, are whole rows where quotes mean nothing: then they mean nothing.
    fn are_rows(&mut self, from: usize) -> Result<bool> {
        let Some(fields) = self.fields else {
            return Ok(false);
        };
        let count = |line: &[u8]| line.iter().filter(|byte| **byte == b'\t').count() + 1;
        if count(&self.text[from..]) != fields {
            return Ok(false);
        }
        let line = std::mem::take(&mut self.text);
        let found = self.next_line();
        let next = std::mem::replace(&mut self.text, line);
        let is_row = !found? || count(&next) == fields;
        if !next.is_empty() {
            self.line -= 1;
            self.ahead = Some(next);
        }
        Ok(is_row)
    }

    fn stray(&self, first: u64, what: &str) -> Error {
        Error::malformed(
            &self.path,
            format!("line {first} {what}: remove the quote, or close it and double the quotes within"),
        )
    }

    /// Reads a line with what ends it (`\n`, `\r\n` or `\r`) into `text`; false at the end of the file.
    fn next_line(&mut self) -> Result<bool> {
        if let Some(ahead) = self.ahead.take() {
            self.text = ahead;
            self.line += 1;
            return Ok(true);
        }
        self.text.clear();
        loop {
            let buffer = self.input.fill_buf().map_err(Error::read(&self.path))?;
            if buffer.is_empty() {
                break;
            }
            let ended = self.text.last() == Some(&b'\r');
            if ended && buffer[0] != b'\n' {
                break;
            }
            let stop = buffer.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let used = stop.map_or(buffer.len(), |stop| stop + 1);
            self.text.extend(&buffer[..used]);
            self.input.consume(used);
            if self.text.len() as u64 > LINE_BYTES_MAX {
                let line = self.line + 1;
                let reason = format!("line {line} is longer than {LINE_BYTES_MAX} bytes");
                return Err(Error::malformed(&self.path, reason));
            }
            if self.text.last() == Some(&b'\n') {
                break;
            }
        }
        self.line += u64::from(!self.text.is_empty());
        Ok(!self.text.is_empty())
    }
}

/// Bytes of a line without what ends it.
fn content(line: &[u8]) -> usize {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line).len()
}

/// Adds to `field` what stands in quotes from `from` on, of two quotes one; gives the place after the closing quote, if there is one.
fn closed(line: &[u8], from: usize, field: &mut Vec<u8>) -> Option<usize> {
    let mut at = from;
    loop {
        let Some(length) = line[at..].iter().position(|byte| *byte == QUOTE) else {
            field.extend(&line[at..]);
            return None;
        };
        field.extend(&line[at..at + length]);
        at += length + 1;
        if line.get(at) != Some(&QUOTE) {
            return Some(at);
        }
        field.push(QUOTE);
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every record with its line, then what ended the reading.
    fn read(name: &str, text: &str) -> (Vec<(u64, Vec<String>)>, Option<String>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        let separator = if name.ends_with("tsv") { b'\t' } else { b',' };
        let mut records = Records::open(&path, separator).unwrap();
        let (mut record, mut all) = (ByteRecord::new(), Vec::new());
        loop {
            match records.read(&mut record) {
                Ok(Some(line)) => {
                    let fields = record.iter().map(|f| String::from_utf8(f.to_vec()).unwrap());
                    all.push((line, fields.collect()));
                }
                Ok(None) => return (all, None),
                Err(error) => return (all, Some(error.to_string())),
            }
        }
    }

    #[track_caller]
    fn gives(name: &str, text: &str, wanted: &[(u64, &[&str])]) {
        let (all, error) = read(name, text);
        let all: Vec<(u64, Vec<&str>)> = all
            .iter()
            .map(|(line, fields)| (*line, fields.iter().map(String::as_str).collect()))
            .collect();
        let wanted: Vec<(u64, Vec<&str>)> = wanted.iter().map(|(line, f)| (*line, f.to_vec())).collect();
        assert_eq!((all, error), (wanted, None), "{text:?}");
    }

    #[test]
    fn a_record_is_named_by_its_first_line_whatever_ends_lines_and_however_many_are_blank() {
        for end in ["\n", "\r\n", "\r"] {
            let text = ["a,b", "", "1,\"x", "y\"", "", "", "2,z"].join(end);
            for last in ["", end] {
                gives(
                    "a.csv",
                    &format!("{text}{last}"),
                    &[
                        (1, &["a", "b"]),
                        (3, &["1", &format!("x{end}y")]),
                        (7, &["2", "z"]),
                    ],
                );
            }
        }
        gives("a.csv", "\u{feff}\"a\",b\n", &[(1, &["a", "b"])]);
        gives("a.csv", "", &[]);
    }

    #[test]
    fn csv_fields_are_quoted_as_spreadsheets_and_pandas_write_them() {
        gives(
            "a.csv",
            "\"a \"\"b\"\", c\",,\"\"\n\"x\" y,z\"z,\"q\",\n",
            &[(1, &["a \"b\", c", "", ""]), (2, &["x y", "z\"z", "q", ""])],
        );
    }

    #[test]
    fn tsv_may_be_quoted_or_hold_quotes_that_mean_nothing() {
        // As pandas writes a tab, a quote and a line break.
        gives(
            "a.tsv",
            "id\ttitle\n1\t\"a\tb \"\"c\"\"\"\n2\t\"d\ne\"\n3\tf\n",
            &[
                (1, &["id", "title"]),
                (2, &["1", "a\tb \"c\""]),
                (3, &["2", "d\ne"]),
                (5, &["3", "f"]),
            ],
        );
        // As most others do; the second quote would end what the first began.
        gives(
            "a.tsv",
            "id\ttitle\n1\t\"Heat\n2\tThief\n3\t12\"\n4\t\"A\" and \"B\"\n5\t\"\"Up\n6\t\"Last\n",
            &[
                (1, &["id", "title"]),
                (2, &["1", "\"Heat"]),
                (3, &["2", "Thief"]),
                (4, &["3", "12\""]),
                (5, &["4", "\"A\" and \"B\""]),
                (6, &["5", "\"\"Up"]),
                (7, &["6", "\"Last"]),
            ],
        );
    }

    #[test]
    fn a_quote_that_swallows_lines_is_an_error_that_names_the_first_of_them() {
        let rows: String = (0..50).map(|n| format!("{n},Film {n}\n")).collect();
        let long = format!("\"Heat\n{}", rows.repeat(12_000));
        for (name, text, what) in [
            (
                "a.csv",
                format!("id,title\n7,\"Heat\n{rows}"),
                "line 2 opens a quote that is never closed",
            ),
            (
                "a.csv",
                format!("id,title\n7,\"Heat\n{rows}8,\"Thief\"\n"),
                "line 2 opens a quote that line 53 closes within",
            ),
            (
                "a.csv",
                format!("id,title\n7,\"Heat\n{rows}8,\",x\n"),
                "line 2 opens a quote, with which the row ends in line 53",
            ),
            (
                "a.csv",
                format!("id,title\n7,{long}"),
                "line 2 opens a quote that is not closed within 4194304 bytes",
            ),
            (
                "a.tsv",
                "id\ttitle\n\"7\n8\tb\n".to_owned(),
                "line 2 opens a quote that is never closed",
            ),
            (
                "a.csv",
                "x".repeat(5 << 20),
                "line 1 is longer than 4194304 bytes",
            ),
        ] {
            let (_, error) = read(name, &text);
            let error = error.unwrap_or_default();
            assert!(error.contains(what), "{what:?} is not in {error:?}");
        }
    }
}
