//! What is in force, as TOML, for `--print-config` and the admin port; never a credential.

use serde::Serialize;
use toml::{Table, Value};

use super::Error;

/// Keys whose values are not shown.
const HIDDEN: &[&str] = &[
    "password",
    "secret",
    "credential",
    "credentials",
    "api_key",
    "private_key",
];

/// Writes a configuration as TOML without comments. It loads back to itself, except that credentials are masked: values
/// under keys that name one, and the user part of URLs.
pub fn render<C: Serialize>(config: &C) -> Result<String, Error> {
    let wrong = |reason: String| Error::Render { reason };
    let mut table = Table::try_from(config).map_err(|error| wrong(error.to_string()))?;
    table.iter_mut().for_each(|(key, value)| mask(key, value));
    toml::to_string(&table).map_err(|error| wrong(error.to_string()))
}

fn mask(key: &str, value: &mut Value) {
    match value {
        Value::Table(table) => table.iter_mut().for_each(|(key, value)| mask(key, value)),
        Value::Array(values) => values.iter_mut().for_each(|value| mask(key, value)),
        Value::String(text) if hides(key) && !text.is_empty() => "***".clone_into(text),
        Value::String(text) => mask_url(text),
        _ => {}
    }
}

fn hides(key: &str) -> bool {
    HIDDEN
        .iter()
        .any(|hidden| key == *hidden || key.ends_with(&format!("_{hidden}")))
}

/// `redis://user:word@host/0` becomes `redis://***@host/0`.
fn mask_url(text: &mut String) {
    let Some((scheme, rest)) = text.split_once("://") else {
        return;
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if let Some((_, host)) = authority.rsplit_once('@') {
        *text = format!("{scheme}://***@{host}{path}");
    }
}
