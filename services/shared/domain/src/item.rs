//! A thing that can be recommended.

use std::collections::BTreeMap;
use std::fmt;

/// An item's opaque id. Never shown in an explanation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ItemId(String);

impl ItemId {
    /// Longest id accepted at the edge, in bytes.
    pub const BYTES_MAX: usize = 128;

    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Attribute name → values, both in the catalogue's own words (`director` → `["Michael Mann"]`).
///
/// Ordered by name so that prompts, digests and answers do not depend on hashing.
pub type Attributes = BTreeMap<String, Vec<String>>;

/// A thing with a title and attributes: structured, never a pre-joined string (titles contain commas).
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub id: ItemId,
    pub title: String,
    pub attributes: Attributes,
    /// Free text about the item; empty when there is none.
    pub description: String,
}

impl Item {
    /// The values of one attribute, or nothing.
    pub fn values(&self, attribute: &str) -> &[String] {
        self.attributes.get(attribute).map_or(&[], Vec::as_slice)
    }

    pub fn has(&self, attribute: &str, value: &str) -> bool {
        self.values(attribute)
            .iter()
            .any(|v| v.eq_ignore_ascii_case(value))
    }
}
