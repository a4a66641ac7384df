//! A data set: who interacted with what, and what the things are. One documented directory on disk, compact in memory.
//!
//! ```text
//! DIR/dataset.toml       name, description, licence, synthetic, [rating] min max liked_at disliked_at unrated
//! DIR/items.jsonl        {"id":"f1","title":"Heat","attributes":{"director":["Michael Mann"],"year":"1995"},"description":"…"}
//! DIR/interactions.csv   user_id,item_id,rating,timestamp   (rating may be empty; timestamp in seconds since 1970)
//! DIR/users.jsonl        {"id":"noir-and-heists","about":"…"}   (optional: users worth trying, with telling ids)
//! ```
//!
//! Reading is strict: the first thing that is wrong is an error naming file, line, column, field and reason, and nothing
//! is half-loaded. Unknown keys of `items.jsonl` and `users.jsonl` and further CSV columns are ignored, those of
//! `dataset.toml` refused.

mod manifest;
mod read;
mod write;

use std::collections::HashMap;
use std::path::Path;

use refract_domain::{History, Interaction, Item, ItemId, Signal, Timestamp, UserId};
use sha2::{Digest, Sha256};

use crate::catalogue::{Catalogue, MatchKind, TitleMatch};
use crate::error::{Error, Result};
use crate::interactions::{Act, Interactions};

pub use manifest::{Manifest, Rating, Unrated};
pub use read::{LoadOptions, LoadReport};

/// A loaded data set. Cheap to share behind an `Arc`; never changes.
#[derive(Debug)]
pub struct Dataset {
    manifest: Manifest,
    catalogue: Catalogue,
    users: Vec<UserId>,
    user_index: HashMap<UserId, u32>,
    /// By user; empty where the data set says nothing about them.
    about: HashMap<u32, String>,
    /// Users of `users.jsonl`, in its order.
    featured: Vec<u32>,
    interactions: Interactions,
    report: LoadReport,
}

/// What a data set is made of, for importers and generators: checked by [`Dataset::assemble`].
#[derive(Clone, Debug, Default)]
pub struct Parts {
    pub manifest: Manifest,
    pub items: Vec<Item>,
    pub interactions: Vec<RawInteraction>,
    pub users: Vec<UserNote>,
}

/// One row of `interactions.csv`.
#[derive(Clone, Debug, PartialEq)]
pub struct RawInteraction {
    pub user: UserId,
    pub item: ItemId,
    pub rating: Option<f32>,
    pub at: Timestamp,
}

/// One line of `users.jsonl`: a user worth trying, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct UserNote {
    pub id: UserId,
    pub about: String,
}

/// A user as a list of them shows one.
#[derive(Clone, Copy, Debug)]
pub struct UserSummary<'a> {
    pub id: &'a UserId,
    /// Empty where the data set says nothing.
    pub about: &'a str,
    pub interactions: usize,
}

impl Dataset {
    /// Reads the directory `dir`.
    pub fn load(dir: &Path, options: &LoadOptions) -> Result<Self> {
        read::load(dir, None, options)
    }

    /// Reads the directory `dir` as if `manifest` were its `dataset.toml`: for importers of data without one.
    pub fn load_as(dir: &Path, manifest: Manifest, options: &LoadOptions) -> Result<Self> {
        read::load(dir, Some(manifest), options)
    }

    /// Checks parts as strictly as files are checked. Errors name the place as `items[3]`, `interactions[17]`, `users[0]`.
    pub fn assemble(parts: Parts) -> Result<Self> {
        read::assemble(parts)
    }

    /// Writes the directory `dir` (made if absent) so that [`Dataset::load`] reads the same data set.
    pub fn write(&self, dir: &Path) -> Result<()> {
        write::write(self, dir)
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    pub fn interactions(&self) -> &Interactions {
        &self.interactions
    }

    /// What loading skipped.
    pub fn report(&self) -> &LoadReport {
        &self.report
    }

    pub fn users_len(&self) -> usize {
        self.users.len()
    }

    pub fn user_id(&self, user: u32) -> &UserId {
        &self.users[user as usize]
    }

    pub fn user_index(&self, user: &UserId) -> Option<u32> {
        self.user_index.get(user).copied()
    }

    /// Every user: those of `users.jsonl` first and in its order, then the others in order of appearance.
    pub fn users(&self) -> impl Iterator<Item = UserSummary<'_>> {
        let featured: std::collections::HashSet<u32> = self.featured.iter().copied().collect();
        let others = (0..self.users.len() as u32).filter(move |u| !featured.contains(u));
        self.featured
            .iter()
            .copied()
            .chain(others)
            .map(|u| self.summary(u))
    }

    /// Users worth trying: those of `users.jsonl`, else the first few with at least ten interactions.
    pub fn featured_users(&self, limit: usize) -> Vec<UserSummary<'_>> {
        if !self.featured.is_empty() {
            return self
                .featured
                .iter()
                .take(limit)
                .map(|&u| self.summary(u))
                .collect();
        }
        let long_enough = |u: &u32| self.interactions.of(*u).len() >= 10;
        (0..self.users.len() as u32)
            .filter(long_enough)
            .take(limit)
            .map(|u| self.summary(u))
            .collect()
    }

    /// A user's history, its newest [`History::INTERACTIONS_MAX`] interactions; nothing for an unknown user.
    pub fn history(&self, user: &UserId) -> Option<History> {
        let acts = self.interactions.of(self.user_index(user)?);
        Some(History::new(
            acts.iter().map(|act| self.interaction(act)).collect(),
        ))
    }

    /// Ids of users most like a misspelt one, best first: what an error message can offer.
    pub fn nearest_users(&self, misspelt: &str, limit: usize) -> Vec<&UserId> {
        let wanted = misspelt.to_lowercase();
        let likeness = |id: &UserId| strsim::jaro_winkler(&wanted, &id.expose().to_lowercase());
        let mut scored: Vec<(f64, u32)> = self
            .users
            .iter()
            .zip(0..)
            .map(|(id, u)| (likeness(id), u))
            .filter(|(s, _)| *s > 0.0)
            .collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        scored.truncate(limit);
        scored.into_iter().map(|(_, u)| self.user_id(u)).collect()
    }

    /// Items whose title is or resembles `query` ("Heat", "heat (1995)", "the matrx"), best first; among equals the more
    /// popular first.
    pub fn find_titles(&self, query: &str, limit: usize) -> Vec<TitleMatch> {
        let mut matches = self.catalogue.match_titles(query);
        let popularity = |m: &TitleMatch| self.interactions.item_count(m.index);
        matches.sort_by(|a, b| {
            let by_kind = a.kind.cmp(&b.kind);
            // Fuzzy likeness decides before popularity, whole-title matches are all alike.
            let by_likeness = if a.kind == MatchKind::Fuzzy {
                b.likeness.total_cmp(&a.likeness)
            } else {
                by_kind
            };
            by_kind
                .then(by_likeness)
                .then(popularity(b).cmp(&popularity(a)))
                .then(a.index.cmp(&b.index))
        });
        matches.truncate(limit);
        matches
    }

    /// Names this data set's content: items, users, interactions and rating scale. Same content, same digest.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let mut text = |s: &str| {
            hash.update((s.len() as u64).to_le_bytes());
            hash.update(s.as_bytes());
        };
        for item in self.catalogue.items() {
            text(item.id.as_str());
            text(&item.title);
            for (name, values) in &item.attributes {
                text(name);
                values.iter().for_each(|v| text(v));
            }
        }
        self.users.iter().for_each(|u| text(u.expose()));
        text(&format!("{:?}", self.manifest.rating));
        for user in 0..self.users.len() as u32 {
            for act in self.interactions.of(user) {
                hash.update(user.to_le_bytes());
                hash.update(act.item.to_le_bytes());
                hash.update(act.at.to_le_bytes());
                hash.update(act.rating.to_le_bytes());
            }
        }
        hex::encode(hash.finalize())
    }

    /// What an act says about taste, by this data set's rating scale.
    pub fn signal(&self, act: &Act) -> Signal {
        self.manifest.signal(act.rating())
    }

    /// An act in the domain's words.
    pub fn interaction(&self, act: &Act) -> Interaction {
        Interaction {
            item: self.catalogue.item(act.item).clone(),
            at: Timestamp(act.at),
            signal: self.signal(act),
            rating: act.rating(),
            text: None,
        }
    }

    fn summary(&self, user: u32) -> UserSummary<'_> {
        UserSummary {
            id: self.user_id(user),
            about: self.about.get(&user).map_or("", String::as_str),
            interactions: self.interactions.of(user).len(),
        }
    }

    fn new(
        manifest: Manifest,
        catalogue: Catalogue,
        people: People,
        rows: Vec<(u32, Act)>,
        report: LoadReport,
    ) -> Self {
        let People {
            ids,
            index,
            about,
            featured,
        } = people;
        let interactions = Interactions::new(ids.len(), catalogue.len(), rows);
        Self {
            manifest,
            catalogue,
            users: ids,
            user_index: index,
            about,
            featured,
            interactions,
            report,
        }
    }
}

/// Users as they are met, each once.
#[derive(Debug, Default)]
struct People {
    ids: Vec<UserId>,
    index: HashMap<UserId, u32>,
    about: HashMap<u32, String>,
    featured: Vec<u32>,
}

impl People {
    fn meet(&mut self, id: &str) -> u32 {
        let id = UserId::new(id);
        if let Some(&known) = self.index.get(&id) {
            return known;
        }
        let new = self.ids.len() as u32;
        self.ids.push(id.clone());
        self.index.insert(id, new);
        new
    }

    /// False if this user has been noted before.
    fn note(&mut self, id: &str, about: String) -> bool {
        let user = self.meet(id);
        if self.about.contains_key(&user) {
            return false;
        }
        self.about.insert(user, about);
        self.featured.push(user);
        true
    }
}

impl Dataset {
    /// The same people and catalogue with other interactions: how an evaluation holds some back.
    pub(crate) fn with_interactions(&self, rows: Vec<(u32, Act)>) -> Result<Self> {
        if rows.is_empty() {
            return Err(Error::Lacking {
                what: "interactions",
                reason: "nothing is left to learn from",
            });
        }
        Ok(Self {
            manifest: self.manifest.clone(),
            catalogue: self.catalogue.clone(),
            users: self.users.clone(),
            user_index: self.user_index.clone(),
            about: self.about.clone(),
            featured: self.featured.clone(),
            interactions: Interactions::new(self.users.len(), self.catalogue.len(), rows),
            report: self.report.clone(),
        })
    }
}
