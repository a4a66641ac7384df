//! Which entries of an owner may still be found: those of the era that runs.
//!
//! ```text
//!  a question is asked ─▶ era of its owner ─▶ the answer is sealed with it ─▶ found while that era runs
//!                              │ erasing ends it; the next question begins another
//! ```
//!
//! An index says what to remove, and a store that makes room may lose it. An era is the other way round: an entry is only
//! found if its era is there and the same, so whatever a store loses, and whatever arrives late, is a miss.

use std::fmt;

/// A random number that no other era of any owner has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Era([u8; Era::BYTES]);

impl Era {
    pub const BYTES: usize = 16;

    /// Of what belongs to nobody, and what nobody can ask to erase.
    pub const NOBODYS: Self = Self([0; Self::BYTES]);

    pub fn begin() -> Self {
        Self(rand::random())
    }

    pub fn of_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    pub fn bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Debug for Era {
    /// Who knows an era and may write to the store could bring back what was erased.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Era(…)")
    }
}
