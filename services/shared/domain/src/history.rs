//! What a user did: dated interactions, oldest first, bounded.

use std::fmt;
use std::sync::Arc;

use crate::item::{Item, ItemId};
use crate::knowledge::Timestamp;

/// A user's opaque id. `Debug` hides it: ids of people do not belong in logs.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(String);

impl UserId {
    /// Longest id accepted at the edge, in bytes.
    pub const BYTES_MAX: usize = 128;

    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The id itself, for keys and look-ups. Not for logs.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserId(…)")
    }
}

/// How an interaction speaks about taste. Ratings of 1–2 of 5 are not likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    Liked,
    /// Seen, bought or visited, without an opinion known.
    Seen,
    Disliked,
}

/// One dated act of a user on an item.
#[derive(Clone, Debug, PartialEq)]
pub struct Interaction {
    pub item: Arc<Item>,
    pub at: Timestamp,
    pub signal: Signal,
    /// As the data has it, on the data's own scale.
    pub rating: Option<f32>,
    /// A review or note by the user; treated as data, never as instruction.
    pub text: Option<String>,
}

/// One user's interactions, oldest first, at most [`History::INTERACTIONS_MAX`] (the newest are kept).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    interactions: Vec<Interaction>,
    /// Interactions that the bound cut away, oldest first.
    dropped: usize,
}

impl History {
    /// The paper (arXiv 2511.16543) caps a history at 50 items; we keep room for rankers that like more.
    pub const INTERACTIONS_MAX: usize = 200;

    /// Sorts by time (equal times keep their order) and keeps the newest `INTERACTIONS_MAX`.
    pub fn new(mut interactions: Vec<Interaction>) -> Self {
        interactions.sort_by_key(|i| i.at);
        let dropped = interactions.len().saturating_sub(Self::INTERACTIONS_MAX);
        interactions.drain(..dropped);
        Self {
            interactions,
            dropped,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.interactions.is_empty()
    }

    pub fn len(&self) -> usize {
        self.interactions.len()
    }

    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// Oldest first.
    pub fn interactions(&self) -> &[Interaction] {
        &self.interactions
    }

    /// What the user liked, newest first.
    pub fn liked(&self) -> impl Iterator<Item = &Interaction> {
        self.interactions
            .iter()
            .rev()
            .filter(|i| i.signal == Signal::Liked)
    }

    pub fn contains(&self, item: &ItemId) -> bool {
        self.interactions.iter().any(|i| i.item.id == *item)
    }

    /// The newest interaction with an item.
    pub fn find(&self, item: &ItemId) -> Option<&Interaction> {
        self.interactions.iter().rev().find(|i| i.item.id == *item)
    }
}

/// 128 bits that name a history's content; equal histories have equal digests. Computed by `refract-knowledge`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HistoryDigest(pub [u8; 16]);
