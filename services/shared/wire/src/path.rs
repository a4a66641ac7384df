//! Where in a message a value stands, so that an error can name it: `history.interactions[3].item.title`.
//!
//! A path is a chain of borrowed parts on the stack: it costs nothing until something is wrong.

use std::fmt;

use refract_domain::Error;

/// A place in a message. Never holds a caller's text: map entries are counted in the order of their names.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    part: Part,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Root,
    Field(&'static str),
    Index(usize),
}

impl Path<'static> {
    /// The message itself.
    pub const ROOT: Self = Self {
        parent: None,
        part: Part::Root,
    };
}

impl<'a> Path<'a> {
    pub fn field(&'a self, name: &'static str) -> Path<'a> {
        Path {
            parent: Some(self),
            part: Part::Field(name),
        }
    }

    /// The n-th element, from 0.
    pub fn index(&'a self, index: usize) -> Path<'a> {
        Path {
            parent: Some(self),
            part: Part::Index(index),
        }
    }

    /// The error that names this place. `reason` is a constant phrase or made of our own numbers.
    pub fn invalid(&self, reason: impl Into<String>) -> Error {
        Error::invalid(self.to_string(), reason)
    }

    /// The message in a field that was left encoded.
    pub(crate) fn decode<M: prost::Message + Default>(&self, encoded: impl bytes::Buf) -> Result<M, Error> {
        M::decode(encoded).map_err(|_| self.invalid("cannot be decoded"))
    }

    /// The value that must be there, or the error that says it is not.
    pub fn required<T>(&self, value: Option<T>) -> Result<T, Error> {
        value.ok_or_else(|| self.invalid("is required"))
    }

    /// At most so many elements.
    pub(crate) fn count(&self, len: usize, max: usize) -> Result<(), Error> {
        if len > max {
            Err(self.invalid(format!("has more than {max} elements")))
        } else {
            Ok(())
        }
    }

    fn is_root(&self) -> bool {
        matches!(self.part, Part::Root)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parent = self.parent.filter(|p| !p.is_root());
        if let Some(parent) = parent {
            write!(f, "{parent}")?;
        }
        match self.part {
            Part::Root => f.write_str("request"),
            Part::Field(name) if parent.is_some() => write!(f, ".{name}"),
            Part::Field(name) => f.write_str(name),
            Part::Index(index) => write!(f, "[{index}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_like_code() {
        let root = Path::ROOT;
        let history = root.field("history");
        let interactions = history.field("interactions");
        let third = interactions.index(3);
        let item = third.field("item");
        assert_eq!(
            item.field("title").to_string(),
            "history.interactions[3].item.title"
        );
        assert_eq!(root.to_string(), "request");
    }
}
