//! Lines of a plain or gzipped file, each with its number; bytes that are not UTF-8 are told, or read as Latin-1.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Result};

/// Longest line, in bytes; longer ones are bad rows. Reviews are the longest texts that occur.
pub(crate) const LINE_BYTES_MAX: u64 = 4 << 20;

/// How a file's bytes become text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// What is not UTF-8 is a fault.
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    /// ISO 8859-1, as MovieLens 1M is written. A line that is UTF-8 all the same is read as such.
    #[serde(rename = "latin-1")]
    Latin1,
}

/// A text, and whether it had to be read as Latin-1.
pub(crate) struct Decoded {
    pub(crate) text: String,
    pub(crate) latin1: bool,
}

impl Encoding {
    pub(crate) fn decode(self, bytes: &[u8]) -> Result<Decoded, &'static str> {
        match (std::str::from_utf8(bytes), self) {
            (Ok(text), _) => Ok(Decoded {
                text: text.to_owned(),
                latin1: false,
            }),
            // The first 256 characters of Unicode are those of Latin-1.
            (Err(_), Self::Latin1) => Ok(Decoded {
                text: bytes.iter().map(|byte| char::from(*byte)).collect(),
                latin1: true,
            }),
            (Err(_), Self::Utf8) => Err("is not UTF-8"),
        }
    }
}

/// Opens a file; one that ends in `.gz` is unpacked.
pub(crate) fn open(path: &Path) -> Result<Box<dyn BufRead>> {
    let file = File::open(path).map_err(Error::read(path))?;
    let packed = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gz"));
    Ok(if packed {
        Box::new(BufReader::with_capacity(
            1 << 18,
            flate2::read::MultiGzDecoder::new(file),
        ))
    } else {
        Box::new(BufReader::with_capacity(1 << 18, file))
    })
}

/// Calls `each` with every line that is not blank: its number from 1, and its bytes or what is wrong with them.
pub(crate) fn each_line(
    path: &Path,
    mut each: impl FnMut(u64, Result<&[u8], String>) -> Result<()>,
) -> Result<()> {
    let mut input = open(path)?;
    let mut bytes = Vec::new();
    let mut number = 0;
    loop {
        bytes.clear();
        let read = (&mut input)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut bytes)
            .map_err(Error::read(path))?;
        if read == 0 {
            return Ok(());
        }
        number += 1;
        let whole = bytes.ends_with(b"\n") || (bytes.len() as u64) < LINE_BYTES_MAX;
        if !whole {
            input.skip_until(b'\n').map_err(Error::read(path))?;
            each(
                number,
                Err(format!("the line is longer than {LINE_BYTES_MAX} bytes")),
            )?;
            continue;
        }
        let mark = "\u{feff}".as_bytes();
        let line = bytes.strip_prefix(mark).filter(|_| number == 1).unwrap_or(&bytes);
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !line.trim_ascii().is_empty() {
            each(number, Ok(line))?;
        }
    }
}

/// Calls `each` with every JSON object.
pub(crate) fn each_object(
    path: &Path,
    mut each: impl FnMut(u64, Result<serde_json::Map<String, serde_json::Value>, String>) -> Result<()>,
) -> Result<()> {
    each_line(path, |number, line| {
        let object = line.and_then(|bytes| {
            if std::str::from_utf8(bytes).is_err() {
                return Err("is not UTF-8".to_owned());
            }
            match serde_json::from_slice(bytes) {
                Ok(serde_json::Value::Object(object)) => Ok(object),
                Ok(_) => Err("is no JSON object".to_owned()),
                Err(e) => {
                    let message = e.to_string();
                    let reason = message.split(" at line ").next().unwrap_or(&message).to_owned();
                    Err(format!("column {}: {reason}", e.column().max(1)))
                }
            }
        });
        each(number, object)
    })
}
