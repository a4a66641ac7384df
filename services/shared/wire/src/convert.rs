//! Domain ⇄ proto, one file per noun.
//!
//! Towards the wire nothing can fail. From the wire everything is checked against [`crate::Limits`] and the first fault
//! is named by its path; what comes out satisfies the domain's invariants.

pub mod explanation;
pub mod history;
pub mod item;
pub mod knowledge;
pub mod pair;
pub mod slate;
pub mod time;

use std::collections::HashSet;
use std::hash::Hash;

use refract_domain::Error;

use crate::path::Path;

/// Reads every element, each under its own index.
pub(crate) fn each<P, T>(
    elements: Vec<P>,
    path: &Path<'_>,
    mut read: impl FnMut(P, &Path<'_>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    elements
        .into_iter()
        .enumerate()
        .map(|(i, element)| read(element, &path.index(i)))
        .collect()
}

/// Refuses an element that has come before.
pub(crate) fn distinct<'a, T, K: Eq + Hash + 'a>(
    elements: &'a [T],
    path: &Path<'_>,
    key: impl Fn(&'a T) -> K,
) -> Result<(), Error> {
    let mut seen = HashSet::with_capacity(elements.len());
    match elements.iter().position(|element| !seen.insert(key(element))) {
        Some(i) => Err(path.index(i).invalid("has come before")),
        None => Ok(()),
    }
}
