//! What makes stored bytes trustworthy: a fixed header, the body, and a seal over both.
//!
//! ```text
//!  magic 4 · schema 2 · flags 2 · key digest 32 · era 16 · created ms 8 · soft ms 8 · hard ms 8 · cost ms 4 ·
//!  body length 4                                                                      (little endian, 88 bytes)
//!  body …
//!  HMAC-SHA-256 over all of the above, with the tenant's own credential               (32 bytes)
//! ```
//!
//! The reader checks everything before it hands out a byte of the body: a value that was cut, flipped, written by
//! somebody else or moved to another key is a miss with a reason, and never an answer.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::era::Era;
use crate::key::{Key, SCHEMA};

/// Bytes around a body.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + SEAL_BYTES;

const MAGIC: [u8; 4] = *b"RFKN";
const HEADER_BYTES: usize = 88;
const SEAL_BYTES: usize = 32;

/// When an entry was made and how long it is good for. All in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Since the Unix epoch.
    pub created_ms: u64,
    /// Age from which the entry is stale: still served, with a refresh behind it.
    pub soft_ms: u64,
    /// Age from which it is no longer served at all; not below `soft_ms`.
    pub hard_ms: u64,
    /// What the Oracle took to say it: dear entries are refreshed a little earlier.
    pub cost_ms: u32,
}

/// Why bytes are not an entry for this key. Closed: it is a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Corrupt {
    TooShort,
    TooLong,
    Magic,
    Schema,
    /// It belongs to another key.
    Key,
    Length,
    Seal,
    /// Soft and hard age contradict each other.
    Times,
    /// Made further in the future than clocks differ.
    Future,
    /// The codec does not know it.
    Body,
}

impl Times {
    /// Zero for an entry of the (near) future: clocks of different machines differ a little.
    pub fn age_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.created_ms)
    }
}

impl Corrupt {
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooShort => "too_short",
            Self::TooLong => "too_long",
            Self::Magic => "magic",
            Self::Schema => "schema",
            Self::Key => "key",
            Self::Length => "length",
            Self::Seal => "seal",
            Self::Times => "times",
            Self::Future => "future",
            Self::Body => "body",
        }
    }
}

pub fn seal(key: &Key, era: Era, times: Times, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len() + OVERHEAD_BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&SCHEMA.to_le_bytes());
    bytes.extend_from_slice(&[0; 2]);
    bytes.extend_from_slice(&key.digest().0);
    bytes.extend_from_slice(era.bytes());
    bytes.extend_from_slice(&times.created_ms.to_le_bytes());
    bytes.extend_from_slice(&times.soft_ms.to_le_bytes());
    bytes.extend_from_slice(&times.hard_ms.to_le_bytes());
    bytes.extend_from_slice(&times.cost_ms.to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(body);
    let mut mac = mac(key);
    mac.update(&bytes);
    bytes.extend_from_slice(&mac.finalize().into_bytes());
    bytes
}

/// The era, the times and the body, or why these bytes are not an entry of this key. Whether the era still runs is the
/// caller's to know.
pub fn open<'a>(key: &Key, bytes: &'a [u8], bytes_max: usize) -> Result<(Era, Times, &'a [u8]), Corrupt> {
    if bytes.len() > bytes_max {
        return Err(Corrupt::TooLong);
    }
    let (sealed, given) = bytes.split_last_chunk::<SEAL_BYTES>().ok_or(Corrupt::TooShort)?;
    let mut header = Reader(sealed);
    if header.take::<4>()? != MAGIC {
        return Err(Corrupt::Magic);
    }
    if u16::from_le_bytes(header.take()?) != SCHEMA || header.take::<2>()? != [0; 2] {
        return Err(Corrupt::Schema);
    }
    if header.take::<32>()? != key.digest().0 {
        return Err(Corrupt::Key);
    }
    let era = Era::of_bytes(header.take()?);
    let times = Times {
        created_ms: u64::from_le_bytes(header.take()?),
        soft_ms: u64::from_le_bytes(header.take()?),
        hard_ms: u64::from_le_bytes(header.take()?),
        cost_ms: u32::from_le_bytes(header.take()?),
    };
    let body_bytes = u32::from_le_bytes(header.take()?) as usize;
    let body = header.0;
    if body.len() != body_bytes {
        return Err(Corrupt::Length);
    }
    let mut mac = mac(key);
    mac.update(sealed);
    mac.verify_slice(given).map_err(|_| Corrupt::Seal)?;
    if times.soft_ms > times.hard_ms {
        return Err(Corrupt::Times);
    }
    Ok((era, times, body))
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Corrupt> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Corrupt::TooShort)?;
        self.0 = rest;
        Ok(*head)
    }
}

fn mac(key: &Key) -> Hmac<Sha256> {
    Hmac::new_from_slice(key.seal()).expect("hmac takes a secret of any length")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use refract_domain::{HistoryDigest, TenantId, UserId};

    use super::*;
    use crate::key::{Keyring, Question};
    use crate::revisions::Revisions;
    use crate::tests::support::pair;

    const ERA: Era = Era::NOBODYS;
    const TIMES: Times = Times {
        created_ms: 1_700_000_000_000,
        soft_ms: 10,
        hard_ms: 20,
        cost_ms: 300,
    };

    fn key(tenant: &str, user: &str) -> Key {
        let mut pair = pair(user, "heat");
        pair.tenant = TenantId::new(tenant);
        pair.user = Some(UserId::new(user));
        Keyring::new("x", b"a secret of tests").key(&Question {
            pair: &pair,
            history: HistoryDigest([1; 16]),
            revisions: &Revisions::default(),
            language: "",
        })
    }

    #[test]
    fn what_was_sealed_is_opened_by_its_own_key_only() {
        let sealed = seal(&key("a", "ann"), ERA, TIMES, b"body");
        assert_eq!(sealed.len(), b"body".len() + OVERHEAD_BYTES);
        assert_eq!(
            open(&key("a", "ann"), &sealed, 1024),
            Ok((ERA, TIMES, &b"body"[..]))
        );
        assert_eq!(open(&key("a", "bob"), &sealed, 1024), Err(Corrupt::Key));
        assert_eq!(open(&key("b", "ann"), &sealed, 1024), Err(Corrupt::Key));
    }

    #[test]
    fn a_forger_who_knows_the_key_but_not_the_secret_is_refused() {
        let honest = key("a", "ann");
        let forger = Key::clone(&Keyring::new("x", b"guessed").key(&Question {
            pair: &pair("ann", "heat"),
            history: HistoryDigest([1; 16]),
            revisions: &Revisions::default(),
            language: "",
        }));
        let mut forged = seal(&forger, ERA, TIMES, b"lies");
        forged[8..40].copy_from_slice(&honest.digest().0);
        assert_eq!(open(&honest, &forged, 1024), Err(Corrupt::Seal));
    }

    #[test]
    fn sizes_and_contradicting_times_are_refused() {
        let key = key("a", "ann");
        let sealed = seal(&key, ERA, TIMES, &[7; 100]);
        assert_eq!(open(&key, &sealed, sealed.len() - 1), Err(Corrupt::TooLong));
        assert_eq!(open(&key, &[], 1024), Err(Corrupt::TooShort));
        let contradiction = seal(
            &key,
            ERA,
            Times {
                soft_ms: 2,
                hard_ms: 1,
                ..TIMES
            },
            b"",
        );
        assert_eq!(open(&key, &contradiction, 1024), Err(Corrupt::Times));
    }

    #[test]
    fn every_single_flipped_bit_and_every_cut_is_noticed() {
        let key = key("a", "ann");
        let sealed = seal(&key, ERA, TIMES, b"some knowledge");
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&key, &flipped, 1024).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(open(&key, &sealed[..length], 1024).is_err(), "length {length}");
        }
        let longer = [&sealed[..], &[0]].concat();
        assert!(open(&key, &longer, 1024).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_no_entry_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(open(&key("a", "ann"), &bytes, 1024).is_err());
        }

        #[test]
        fn any_body_and_times_survive(
            body in proptest::collection::vec(any::<u8>(), 0..300),
            era: [u8; Era::BYTES], created_ms: u64, soft_ms: u64, more in 0..u64::MAX, cost_ms: u32,
        ) {
            let times = Times { created_ms, soft_ms, hard_ms: soft_ms.saturating_add(more), cost_ms };
            let era = Era::of_bytes(era);
            let sealed = seal(&key("a", "ann"), era, times, &body);
            prop_assert_eq!(open(&key("a", "ann"), &sealed, 1024), Ok((era, times, &body[..])));
        }

        #[test]
        fn mutated_entries_are_noticed(
            body in proptest::collection::vec(any::<u8>(), 0..100),
            position: proptest::sample::Index, patch in proptest::collection::vec(any::<u8>(), 1..40),
        ) {
            let sealed = seal(&key("a", "ann"), ERA, TIMES, &body);
            let mut mutated = sealed.clone();
            let at = position.index(mutated.len());
            let end = (at + patch.len()).min(mutated.len());
            mutated.splice(at..end, patch);
            prop_assert_eq!(open(&key("a", "ann"), &mutated, 1024).is_ok(), mutated == sealed);
        }
    }
}
