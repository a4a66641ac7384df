//! Which Oracle the remembered knowledge came from, and what to assume while the Oracle cannot be asked.

use std::sync::{Arc, PoisonError, RwLock};

use refract_domain::{Knowledge, Revision};

/// The revisions that knowledge depends on: a new one of either is a new question.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Revisions {
    /// Names the Oracle's weights.
    pub oracle: Revision,
    /// Names the Oracle's prompt template.
    pub template: Revision,
}

/// The revisions in use now: configured, remembered by the store, or learned from the Oracle; the last word is the
/// Oracle's, whatever was configured.
#[derive(Debug, Default)]
pub struct CurrentRevisions(RwLock<Option<Arc<Revisions>>>);

impl Revisions {
    pub fn of(knowledge: &Knowledge) -> Self {
        Self {
            oracle: knowledge.oracle_revision.clone(),
            template: knowledge.template_revision.clone(),
        }
    }

    /// Two length-prefixed texts.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for text in [&self.oracle.0, &self.template.0] {
            bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (oracle, rest) = text(bytes)?;
        let (template, rest) = text(rest)?;
        rest.is_empty().then_some(Self {
            oracle: Revision(oracle),
            template: Revision(template),
        })
    }
}

impl CurrentRevisions {
    /// `known` may be absent: then look-ups are skipped until the store or the Oracle tells.
    pub fn new(known: Option<Revisions>) -> Self {
        Self(RwLock::new(known.map(Arc::new)))
    }

    pub fn get(&self) -> Option<Arc<Revisions>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether this was news.
    pub fn learn(&self, revisions: Revisions) -> bool {
        if self.get().as_deref() == Some(&revisions) {
            return false;
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(revisions));
        true
    }

    /// Like [`Self::learn`], but never against the word of the Oracle.
    pub(crate) fn assume(&self, revisions: Revisions) -> Arc<Revisions> {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        current.get_or_insert_with(|| Arc::new(revisions)).clone()
    }
}

fn text(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((String::from_utf8(text.to_vec()).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_the_oracle_says_overrides_what_was_assumed_and_not_the_other_way() {
        let named = |name: &str| Revisions {
            oracle: Revision(name.to_owned()),
            template: Revision::default(),
        };
        let current = CurrentRevisions::new(None);
        assert_eq!(*current.assume(named("remembered")), named("remembered"));
        assert!(current.learn(named("told")));
        assert!(!current.learn(named("told")));
        assert_eq!(*current.assume(named("remembered")), named("told"));
    }

    proptest! {
        #[test]
        fn revisions_survive_their_encoding(oracle in ".{0,40}", template in ".{0,40}") {
            let revisions = Revisions { oracle: Revision(oracle), template: Revision(template) };
            prop_assert_eq!(Revisions::decode(&revisions.encode()), Some(revisions));
        }

        #[test]
        fn arbitrary_bytes_are_no_revisions_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some(revisions) = Revisions::decode(&bytes) {
                prop_assert_eq!(revisions.encode(), bytes);
            }
        }
    }
}
