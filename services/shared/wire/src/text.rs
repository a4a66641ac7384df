//! What a string in a message may hold.

use refract_domain::{Error, ItemId, Revision, UserId};

use crate::limits::Limits;
use crate::path::Path;

/// An item's id: 1 to `item_id_bytes_max` bytes without control characters.
pub(crate) fn item_id(id: String, path: &Path<'_>, limits: &Limits) -> Result<ItemId, Error> {
    opaque(&id, path, limits.item_id_bytes_max)?;
    Ok(ItemId::new(id))
}

/// A user's id: 1 to `user_id_bytes_max` bytes without control characters.
pub(crate) fn user_id(id: String, path: &Path<'_>, limits: &Limits) -> Result<UserId, Error> {
    opaque(&id, path, limits.user_id_bytes_max)?;
    Ok(UserId::new(id))
}

/// A user's id, or nobody in particular when it is empty.
pub(crate) fn user_id_or_none(id: String, path: &Path<'_>, limits: &Limits) -> Result<Option<UserId>, Error> {
    if id.is_empty() {
        Ok(None)
    } else {
        user_id(id, path, limits).map(Some)
    }
}

/// May be empty: no model was involved.
pub(crate) fn revision(text: String, path: &Path<'_>, limits: &Limits) -> Result<Revision, Error> {
    optional_line(&text, path, limits.revision_chars_max)?;
    Ok(Revision(text))
}

/// One line that says something.
pub(crate) fn line(text: &str, path: &Path<'_>, chars_max: usize) -> Result<(), Error> {
    if is_blank(text) {
        return Err(path.invalid("is empty"));
    }
    optional_line(text, path, chars_max)
}

/// One line that may be empty.
pub(crate) fn optional_line(text: &str, path: &Path<'_>, chars_max: usize) -> Result<(), Error> {
    length(text, path, chars_max)?;
    if text.chars().any(char::is_control) {
        return Err(path.invalid("has a control character"));
    }
    Ok(())
}

/// Free text: lines and tabs are fine, other control characters are not. May be empty.
pub(crate) fn prose(text: &str, path: &Path<'_>, chars_max: usize) -> Result<(), Error> {
    length(text, path, chars_max)?;
    if text
        .chars()
        .any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
    {
        return Err(path.invalid("has a control character"));
    }
    Ok(())
}

fn opaque(id: &str, path: &Path<'_>, bytes_max: usize) -> Result<(), Error> {
    if is_blank(id) {
        return Err(path.invalid("is empty"));
    }
    if id.len() > bytes_max {
        return Err(path.invalid(format!("is longer than {bytes_max} bytes")));
    }
    if id.chars().any(char::is_control) {
        return Err(path.invalid("has a control character"));
    }
    Ok(())
}

fn length(text: &str, path: &Path<'_>, chars_max: usize) -> Result<(), Error> {
    // A string of n bytes has at most n characters: counting is needed only past that.
    if text.len() > chars_max && text.chars().count() > chars_max {
        return Err(path.invalid(format!("is longer than {chars_max} characters")));
    }
    Ok(())
}

/// Nothing a reader could see: white space and zero-width characters only.
fn is_blank(text: &str) -> bool {
    text.chars().all(|c| {
        c.is_whitespace()
            || matches!(c, '\u{00ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_checked_by_kind() {
        let path = Path::ROOT.field("x");
        let long = "é".repeat(11);
        for (text, fine) in [
            ("Heat", true),
            ("", false),
            (" \u{200b}", false),
            ("a\0b", false),
            ("a\nb", false),
        ] {
            assert_eq!(line(text, &path, 10).is_ok(), fine, "{text:?}");
        }
        assert!(
            line(&"é".repeat(10), &path, 10).is_ok(),
            "characters are counted, not bytes"
        );
        assert!(line(&long, &path, 10).is_err());
        for (text, fine) in [
            ("", true),
            ("a\nb\tc", true),
            ("a\0b", false),
            ("a\u{1b}[0m", false),
            ("a\u{85}", false),
        ] {
            assert_eq!(prose(text, &path, 10).is_ok(), fine, "{text:?}");
        }
        let limits = Limits::default();
        for (id, fine) in [
            ("u1", true),
            ("", false),
            (" ", false),
            ("a\tb", false),
            ("Zoë 1", true),
        ] {
            assert_eq!(user_id(id.into(), &path, &limits).is_ok(), fine, "{id:?}");
        }
        assert!(item_id("é".repeat(64), &path, &limits).is_ok(), "128 bytes");
        assert!(item_id("é".repeat(65), &path, &limits).is_err(), "130 bytes");
    }
}
