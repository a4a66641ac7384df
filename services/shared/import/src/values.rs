//! JSON values as ids, texts, numbers and times; what is of an unexpected type is a fault that names the field.

use serde_json::{Map, Value};

pub(crate) type Object = Map<String, Value>;

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

/// The first of these fields that is there and not null.
pub(crate) fn first<'a>(object: &'a Object, fields: &[&str]) -> Option<&'a Value> {
    fields
        .iter()
        .find_map(|field| object.get(*field).filter(|value| !value.is_null()))
}

/// An id: a string, or a whole number as it is written.
pub(crate) fn id(object: &Object, fields: &[&str]) -> Result<String, String> {
    match first(object, fields) {
        None => Err(format!("{}: is missing", fields[0])),
        Some(Value::String(text)) => Ok(text.trim().to_owned()),
        Some(Value::Number(n)) if n.is_i64() || n.is_u64() => Ok(n.to_string()),
        Some(other) => Err(format!("{}: must be an id, not {}", fields[0], kind(other))),
    }
}

pub(crate) fn text(object: &Object, fields: &[&str]) -> Result<String, String> {
    match first(object, fields) {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(format!("{}: must be a string, not {}", fields[0], kind(other))),
    }
}

pub(crate) fn number(object: &Object, fields: &[&str]) -> Result<f64, String> {
    match first(object, fields) {
        None => Err(format!("{}: is missing", fields[0])),
        Some(Value::Number(n)) => n
            .as_f64()
            .ok_or_else(|| format!("{}: {n} is no number", fields[0])),
        Some(other) => Err(format!("{}: must be a number, not {}", fields[0], kind(other))),
    }
}

/// Strings of a string, a list, or a list of lists.
pub(crate) fn strings(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(list)) => list.iter().flat_map(|v| strings(Some(v))).collect(),
        _ => Vec::new(),
    }
}

/// `2018-07-07 22:09:11`, `2018-07-07T22:09:11Z`, `2018-07-07`: seconds since 1970, as UTC.
pub(crate) fn date(text: &str) -> Result<i64, String> {
    let text = text.trim();
    let whole = if text.len() == 10 {
        format!("{text} 00:00:00")
    } else {
        text.to_owned()
    };
    let time = humantime::parse_rfc3339_weak(&whole)
        .map_err(|_| format!("time: {text:?} is no date like 2018-07-07 22:09:11"))?;
    match time.duration_since(std::time::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).map_err(|_| format!("time: {text:?} is too late")),
        Err(before) => Ok(-(before.duration().as_secs() as i64)),
    }
}

/// Seconds from a number whose unit is told by its size: beyond the year 5138 they are milliseconds.
pub(crate) fn seconds(number: f64) -> i64 {
    if number.abs() >= 1e11 {
        (number / 1_000.0).floor() as i64
    } else {
        number as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_milliseconds_become_seconds() {
        for (text, expected) in [
            ("1970-01-02", Ok(86_400)),
            ("2018-07-07 22:09:11", Ok(1_531_001_351)),
            ("2018-07-07T22:09:11Z", Ok(1_531_001_351)),
        ] {
            assert_eq!(date(text), expected);
        }
        assert!(date("7th of July").is_err());
        assert_eq!(seconds(1_588_687_728_923.0), 1_588_687_728);
        assert_eq!(seconds(1_400_000_000.0), 1_400_000_000);
    }
}
