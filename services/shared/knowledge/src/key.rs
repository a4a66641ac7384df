//! Which question this is. Two questions have one key exactly when they may have one answer.
//!
//! `x:{<tenant>:<user>}:<digest>`: the braces are Redis' hash tag, so that one user's entries share one slot. The user
//! is there as a keyed hash (plain hashes of small id spaces can be reversed), and the digest is keyed too.

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use refract_domain::{History, HistoryDigest, Item, OfItems, Pair, Recent, TenantId, UserId};
use sha2::Sha256;

use crate::canonical::Canonical;
use crate::digest::{self, ItemDigest};
use crate::revisions::{CurrentRevisions, Revisions};

/// Raised whenever the key's make-up, the envelope or the body changes meaning.
pub const SCHEMA: u16 = 2;

/// All 256 bits of a key; the name in the store shows 160 of them, the envelope holds all.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyDigest(pub [u8; 32]);

/// A question's name in a store, and the credential that seals its answer.
#[derive(Clone)]
pub struct Key {
    name: String,
    /// What every name of the same user begins with; nothing for the nameless, whom nobody can ask to erase.
    owner: Option<String>,
    digest: KeyDigest,
    seal: [u8; 32],
}

/// Everything an answer depends on.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub pair: &'a Pair,
    pub history: HistoryDigest,
    pub revisions: &'a Revisions,
    /// Language of the text; empty while there is one language only.
    pub language: &'a str,
}

/// Makes keys from a secret. Deployments that share a store must share the secret; tenants never share a seal.
#[derive(Clone)]
pub struct Keyring {
    prefix: String,
    secret: [u8; 32],
}

/// A keyring with the revisions in use and the digests of histories seen a moment ago.
#[derive(Debug)]
pub struct Keys {
    pub ring: Keyring,
    pub revisions: CurrentRevisions,
    recent: Recent<HistoryDigest>,
    items: OfItems<ItemDigest>,
}

impl Key {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn digest(&self) -> &KeyDigest {
        &self.digest
    }

    pub fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    pub(crate) fn seal(&self) -> &[u8; 32] {
        &self.seal
    }
}

impl Keyring {
    /// `prefix` is what an access rule of the store matches (`~x:*`).
    pub fn new(prefix: impl Into<String>, secret: &[u8]) -> Self {
        let mut hash = keyed(secret, "refract.knowledge.root.v1");
        Self {
            prefix: prefix.into(),
            secret: finish(&mut hash),
        }
    }

    pub fn key(&self, question: &Question<'_>) -> Key {
        let Pair {
            tenant,
            user,
            item,
            affinities,
        } = question.pair;
        let mut hash = keyed(&self.secret, "refract.knowledge.key");
        hash.number(u64::from(SCHEMA));
        hash.text(&self.prefix);
        hash.text(tenant.as_str());
        hash.optional(user.as_ref(), |hash, user| {
            hash.text(user.expose());
        });
        hash.text(item.id.as_str());
        hash.bytes(&digest::item(item).0);
        hash.bytes(&question.history.0);
        hash.bytes(&digest::affinities(affinities).0);
        hash.text(&question.revisions.oracle.0);
        hash.text(&question.revisions.template.0);
        hash.text(question.language);
        let digest = KeyDigest(finish(&mut hash));

        let owner = self.owner_of(tenant, user.as_ref(), question.history);
        Key {
            name: format!("{owner}:{}", hex::encode(&digest.0[..20])),
            owner: user.is_some().then_some(owner),
            digest,
            seal: self.seal(tenant),
        }
    }

    /// What the names of all that is remembered for this user begin with, a colon following.
    pub fn owner(&self, tenant: &TenantId, user: &UserId) -> String {
        self.owner_of(tenant, Some(user), HistoryDigest([0; 16]))
    }

    fn owner_of(&self, tenant: &TenantId, user: Option<&UserId>, history: HistoryDigest) -> String {
        format!(
            "{}:{{{}:{}}}",
            self.prefix,
            self.tenant_label(tenant),
            self.user_label(tenant, user, history),
        )
    }

    /// Where the latest revisions are remembered: one small entry for all tenants.
    pub fn revisions_key(&self) -> Key {
        let mut hash = keyed(&self.secret, "refract.knowledge.revisions");
        hash.number(u64::from(SCHEMA)).text(&self.prefix);
        let digest = KeyDigest(finish(&mut hash));
        let name = format!("{}:{{revisions}}:{}", self.prefix, hex::encode(&digest.0[..20]));
        let mut hash = keyed(&self.secret, "refract.knowledge.seal.revisions");
        Key {
            name,
            owner: None,
            digest,
            seal: finish(&mut hash),
        }
    }

    fn seal(&self, tenant: &TenantId) -> [u8; 32] {
        let mut hash = keyed(&self.secret, "refract.knowledge.seal.tenant");
        hash.text(tenant.as_str());
        finish(&mut hash)
    }

    /// Readable where it is harmless; otherwise a hash behind `~`, which no readable tenant contains.
    fn tenant_label(&self, tenant: &TenantId) -> String {
        let id = tenant.as_str();
        let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !id.is_empty() && id.len() <= 64 && id.chars().all(harmless) {
            return id.to_owned();
        }
        let mut hash = keyed(&self.secret, "refract.knowledge.tenant");
        hash.text(id);
        format!("~{}", hex::encode(&finish(&mut hash)[..16]))
    }

    /// `u…` for a user. `a…` for nobody in particular: by history, so that the nameless do not crowd into one slot.
    fn user_label(&self, tenant: &TenantId, user: Option<&UserId>, history: HistoryDigest) -> String {
        let mut hash = keyed(&self.secret, "refract.knowledge.user");
        hash.text(tenant.as_str());
        let kind = match user {
            Some(user) => {
                hash.number(1).text(user.expose());
                'u'
            }
            None => {
                hash.number(0).bytes(&history.0);
                'a'
            }
        };
        format!("{kind}{}", hex::encode(&finish(&mut hash)[..16]))
    }
}

impl Keys {
    /// A slate asks about its ten items with one history; a busy process serves a few dozen slates at once.
    const RECENT_HISTORIES_MAX: usize = 64;
    /// About 60 bytes each.
    const ITEMS_MAX: usize = 1 << 16;

    pub fn new(ring: Keyring, revisions: CurrentRevisions) -> Self {
        Self {
            ring,
            revisions,
            recent: Recent::holding(Self::RECENT_HISTORIES_MAX),
            items: OfItems::holding(Self::ITEMS_MAX),
        }
    }

    pub fn key(&self, pair: &Pair, history: &Arc<History>, revisions: &Revisions) -> Key {
        self.ring.key(&Question {
            pair,
            history: self.history(history),
            revisions,
            language: "",
        })
    }

    /// Digests a history once per value, not once per pair.
    pub fn history(&self, history: &Arc<History>) -> HistoryDigest {
        let of_item = |item: &Arc<Item>| self.items.of(item, digest::item);
        self.recent
            .of(history, |history| digest::history(history, of_item))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(…)")
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

fn keyed(secret: &[u8], purpose: &str) -> Canonical<Hmac<Sha256>> {
    let hash = Hmac::new_from_slice(secret).expect("hmac takes a secret of any length");
    Canonical::new(hash, purpose)
}

fn finish(hash: &mut Canonical<Hmac<Sha256>>) -> [u8; 32] {
    hash.0.clone().finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use refract_domain::{Affinity, Item, ItemId, Revision};

    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, Hash)]
    struct Tuple {
        tenant: String,
        user: Option<String>,
        item: String,
        title: String,
        history: [u8; 16],
        affinity: Option<String>,
        oracle: String,
        template: String,
        language: String,
    }

    fn key_of(ring: &Keyring, tuple: &Tuple) -> Key {
        let pair = Pair {
            tenant: TenantId::new(&*tuple.tenant),
            user: tuple.user.as_deref().map(UserId::new),
            item: Arc::new(Item {
                id: ItemId::new(&*tuple.item),
                title: tuple.title.clone(),
                attributes: Default::default(),
                description: String::new(),
            }),
            affinities: tuple
                .affinity
                .iter()
                .map(|item| Affinity {
                    item: ItemId::new(&**item),
                    lift: 2.0,
                    support: 9,
                })
                .collect(),
        };
        let revisions = Revisions {
            oracle: Revision(tuple.oracle.clone()),
            template: Revision(tuple.template.clone()),
        };
        ring.key(&Question {
            pair: &pair,
            history: HistoryDigest(tuple.history),
            revisions: &revisions,
            language: &tuple.language,
        })
    }

    fn base() -> Tuple {
        Tuple {
            tenant: "acme".into(),
            user: Some("ann".into()),
            item: "heat".into(),
            title: "Heat".into(),
            history: [7; 16],
            affinity: Some("ronin".into()),
            oracle: "o1".into(),
            template: "t1".into(),
            language: String::new(),
        }
    }

    fn tuples() -> impl Strategy<Value = Tuple> {
        // A tiny alphabet makes neighbouring parts collide if their boundaries were confused.
        let word = || "[ab:{}]{0,3}";
        let parts = (word(), proptest::option::of(word()), word(), word());
        let rest = (proptest::option::of(word()), word(), word(), word(), 0u8..3);
        (parts, rest).prop_map(
            |((tenant, user, item, title), (affinity, oracle, template, language, history))| Tuple {
                tenant,
                user,
                item,
                title,
                history: [history; 16],
                affinity,
                oracle,
                template,
                language,
            },
        )
    }

    #[test]
    fn each_component_changes_the_key() {
        let ring = Keyring::new("x", b"a secret of tests");
        let changes: [fn(&mut Tuple); 11] = [
            |_| (),
            |t| t.tenant = "other".into(),
            |t| t.user = Some("bob".into()),
            |t| t.user = None,
            |t| t.item = "ronin".into(),
            |t| t.title = "Heat (1995)".into(),
            |t| t.history = [8; 16],
            |t| t.affinity = None,
            |t| t.oracle = "o2".into(),
            |t| t.template = "t2".into(),
            |t| t.language = "de".into(),
        ];
        let names: HashSet<String> = changes
            .iter()
            .map(|change| {
                let mut tuple = base();
                change(&mut tuple);
                key_of(&ring, &tuple).name
            })
            .collect();
        assert_eq!(names.len(), changes.len());
        assert_ne!(
            key_of(&Keyring::new("x", b"another secret"), &base()).digest,
            key_of(&ring, &base()).digest
        );
        assert_ne!(
            key_of(&Keyring::new("y", b"a secret of tests"), &base()).digest,
            key_of(&ring, &base()).digest
        );
    }

    #[test]
    fn one_user_has_one_hash_tag_and_the_id_is_nowhere_in_the_name() {
        let ring = Keyring::new("x", b"a secret of tests");
        let tag = |key: &Key| key.name[key.name.find('{').unwrap()..=key.name.find('}').unwrap()].to_owned();
        let (mut one, mut two) = (base(), base());
        one.user = Some("ann@example.org".into());
        two.user = one.user.clone();
        two.item = "ronin".into();
        two.oracle = "o2".into();
        let (one, two) = (key_of(&ring, &one), key_of(&ring, &two));
        assert_eq!(tag(&one), tag(&two));
        let owner = ring.owner(&TenantId::new("acme"), &UserId::new("ann@example.org"));
        assert_eq!(one.owner(), Some(&*owner));
        assert!(one.name.starts_with(&format!("{owner}:")) && two.name.starts_with(&format!("{owner}:")));
        assert_ne!(one.name, two.name);
        assert!(!one.name.contains("ann") && !format!("{one:?}{ring:?}").contains("ann"));

        let mut elsewhere = base();
        elsewhere.user = Some("ann@example.org".into());
        elsewhere.tenant = "other".into();
        let elsewhere = key_of(&ring, &elsewhere);
        assert_ne!(
            tag(&one).split(':').next_back(),
            tag(&elsewhere).split(':').next_back()
        );
        assert_ne!(one.seal, elsewhere.seal);
    }

    #[test]
    fn a_history_has_one_digest_however_it_is_held() {
        let keys = Keys::new(Keyring::new("x", b"s"), CurrentRevisions::default());
        let history = Arc::new(History::default());
        assert_eq!(
            keys.history(&history),
            digest::history(&history, |of| digest::item(of))
        );
        assert_eq!(keys.history(&history), keys.history(&Arc::clone(&history)));
    }

    proptest! {
        #[test]
        fn distinct_questions_have_distinct_keys(one in tuples(), two in tuples()) {
            let ring = Keyring::new("x", b"a secret of tests");
            let (left, right) = (key_of(&ring, &one), key_of(&ring, &two));
            prop_assert_eq!(one == two, left.digest == right.digest);
            prop_assert_eq!(one == two, left.name == right.name);
        }

        #[test]
        fn a_name_has_one_hash_tag_and_no_surprising_characters(tenant in ".{0,80}", user in ".{0,20}") {
            let ring = Keyring::new("x", b"a secret of tests");
            let key = key_of(&ring, &Tuple { tenant, user: Some(user), ..base() });
            prop_assert_eq!(key.name.matches('{').count(), 1);
            prop_assert_eq!(key.name.matches('}').count(), 1);
            prop_assert!(key.name.is_ascii() && key.name.len() <= 200);
            prop_assert!(!key.name.contains(char::is_whitespace));
        }
    }
}
