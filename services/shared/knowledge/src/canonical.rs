//! Feeding values to a hash so that no two different values feed the same bytes.

use sha2::digest::Update;

/// Every variable-length value is preceded by its length, every list by its count, every choice by a number; so the
/// fed bytes can be parsed back, and `("ab", "c")` never equals `("a", "bc")`.
pub(crate) struct Canonical<H>(pub(crate) H);

impl<H: Update> Canonical<H> {
    /// `purpose` keeps digests of different kinds of things apart even where their bytes agree.
    pub(crate) fn new(hash: H, purpose: &str) -> Self {
        let mut this = Self(hash);
        this.text(purpose);
        this
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.number(value.len() as u64);
        self.0.update(value);
        self
    }

    pub(crate) fn text(&mut self, value: &str) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    /// A count, a choice or any other number of fixed width.
    pub(crate) fn number(&mut self, value: u64) -> &mut Self {
        self.0.update(&value.to_le_bytes());
        self
    }

    pub(crate) fn optional<T>(&mut self, value: Option<T>, feed: impl FnOnce(&mut Self, T)) -> &mut Self {
        self.number(u64::from(value.is_some()));
        if let Some(value) = value {
            feed(self, value);
        }
        self
    }
}
