//! Remembering what the Oracle said.
//!
//! ```text
//!  consult(pair, history) ─▶ [Cached: first level ─▶ store] ─miss─▶ [Coalesced] ─▶ [leased] ─▶ [recorded] ─▶ the Oracle
//!                                    │ past its soft age: served at once, one refresh behind it ─▲
//! ```
//!
//! The memory stands on the ranker's side of the Oracle, so that a hit costs no hop and survives an outage of the
//! Oracle. Nothing here may make a request worse than having no memory at all: a store that is slow, absent, full or
//! lying is a miss with a counter, never an error.
//!
//! * [`digest`] and [`key`]: which question this is; two questions share an entry only if their answers may be shared.
//! * [`envelope`]: what makes stored bytes trustworthy.
//! * [`era`]: what ends when a user is erased.
//! * [`store`]: where they lie (process memory, Redis), one [`store::Store`] trait, one conformance suite.
//! * [`Cached`], [`Coalesced`]: `KnowledgeSource`s that wrap one and are one. [`open`] builds the whole pipeline.

pub mod cached;
mod canonical;
pub mod clock;
pub mod coalesced;
pub mod codec;
pub mod config;
pub mod digest;
pub mod envelope;
pub mod era;
pub mod error;
pub mod key;
pub mod metrics;
mod open;
pub mod revisions;
pub mod store;

#[cfg(test)]
mod tests;

pub use cached::Cached;
pub use clock::Clock;
pub use coalesced::Coalesced;
pub use codec::Codec;
pub use config::{Config, RedisConfig, RedisMode, Secret, StoreKind};
pub use era::Era;
pub use error::Error;
pub use key::{Key, Keyring, Keys};
pub use open::{Control, Parts, open, open_with};
pub use revisions::{CurrentRevisions, Revisions};
pub use store::{Health, Store};
