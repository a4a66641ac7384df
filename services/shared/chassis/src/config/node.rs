//! Values on their way into a `Config`, each remembering where it was written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Error;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    File {
        path: Arc<PathBuf>,
        line: usize,
    },
    /// The variable's name.
    Environment(String),
    /// The key as the flag had it.
    Override(String),
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    /// `None` only for tables that nobody wrote out.
    pub(super) origin: Option<Origin>,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Table(BTreeMap<String, Node>),
    Array(Vec<Node>),
    Text(String),
    Integer(i128),
    Float(f64),
    Boolean(bool),
    /// From the environment or a flag: to be read as whatever type is wanted.
    Untyped(String),
}

impl Node {
    pub(super) fn table() -> Self {
        Self {
            value: Value::Table(BTreeMap::new()),
            origin: None,
        }
    }

    /// Puts an untyped value at a path, over whatever weaker sources put there.
    pub(super) fn set(&mut self, keys: &[String], text: &str, origin: &Origin) -> Result<(), Error> {
        let mut node = self;
        for (depth, key) in keys.iter().enumerate() {
            let Value::Table(table) = &mut node.value else {
                return Err(Error::Key {
                    key: keys.join("."),
                    reason: format!("{} is a value, not a section", keys[..depth].join(".")),
                    origin: origin.to_string(),
                });
            };
            node = table.entry(key.clone()).or_insert_with(|| Self {
                origin: Some(origin.clone()),
                ..Self::table()
            });
        }
        *node = Self {
            value: Value::Untyped(text.to_owned()),
            origin: Some(origin.clone()),
        };
        Ok(())
    }
}

pub(super) fn parse_file(path: &Path, text: &str) -> Result<Node, Error> {
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_at(text, span.start));
        Error::Syntax {
            path: path.to_owned(),
            reason: format!("line {line}: {}", error.message()),
        }
    })?;
    let file = File {
        path: Arc::new(path.to_owned()),
        text,
    };
    file.table(table.get_ref())
}

/// A TOML array that was given as untyped text, such as `["a", "b"]`.
pub(super) fn parse_array(text: &str, origin: Option<&Origin>) -> Option<Vec<Node>> {
    let value = DeValue::parse(text).ok()?;
    let file = File {
        path: Arc::default(),
        text,
    };
    let mut node = file.value(&value).ok()?;
    fn adopt(node: &mut Node, origin: Option<&Origin>) {
        node.origin = origin.cloned();
        match &mut node.value {
            Value::Array(nodes) => nodes.iter_mut().for_each(|node| adopt(node, origin)),
            Value::Table(table) => table.values_mut().for_each(|node| adopt(node, origin)),
            _ => {}
        }
    }
    adopt(&mut node, origin);
    match node.value {
        Value::Array(nodes) => Some(nodes),
        _ => None,
    }
}

struct File<'a> {
    path: Arc<PathBuf>,
    text: &'a str,
}

impl File<'_> {
    fn table(&self, table: &DeTable<'_>) -> Result<Node, Error> {
        let mut nodes = BTreeMap::new();
        for (key, value) in table {
            let mut node = self.value(value)?;
            // A key is easier to find than its value, which may span lines.
            node.origin = Some(self.origin(key.span().start));
            nodes.insert(key.get_ref().to_string(), node);
        }
        Ok(Node {
            value: Value::Table(nodes),
            origin: None,
        })
    }

    fn value(&self, value: &Spanned<DeValue<'_>>) -> Result<Node, Error> {
        let start = value.span().start;
        let wrong = |reason: &str| Error::Syntax {
            path: self.path.as_ref().clone(),
            reason: format!("line {}: {reason}", line_at(self.text, start)),
        };
        let value = match value.get_ref() {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(number) => Value::Integer(
                i128::from_str_radix(number.as_str(), number.radix())
                    .map_err(|_| wrong("number out of range"))?,
            ),
            DeValue::Float(number) => Value::Float(
                number
                    .as_str()
                    .parse()
                    .map_err(|_| wrong("number out of range"))?,
            ),
            DeValue::Boolean(flag) => Value::Boolean(*flag),
            DeValue::Datetime(instant) => Value::Text(instant.to_string()),
            DeValue::Array(values) => Value::Array(
                values
                    .iter()
                    .map(|value| self.value(value))
                    .collect::<Result<_, _>>()?,
            ),
            DeValue::Table(table) => self.table(table)?.value,
        };
        Ok(Node {
            value,
            origin: Some(self.origin(start)),
        })
    }

    fn origin(&self, start: usize) -> Origin {
        Origin::File {
            path: Arc::clone(&self.path),
            line: line_at(self.text, start),
        }
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count()
        + 1
}
