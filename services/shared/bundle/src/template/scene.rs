//! A request in the words that prompts need.

use std::collections::HashSet;
use std::sync::Arc;

use refract_domain::{History, Interaction, ItemId, Pair, Signal};
use refract_truth::phrase::{self, Matter};
use refract_truth::{Reading, Relation, Target, Thing, Vocabulary};

/// Who, what, and which items of the history may be named, newest first.
#[derive(Clone, Debug)]
pub struct Scene {
    pub pair: Pair,
    pub history: Arc<History>,
    pub vocabulary: Arc<Vocabulary>,
    pub thing: Thing,
    pub(crate) item: Arc<Reading>,
    /// History items that may be named: each once, newest first, never disliked, never a namesake of the item.
    named: Vec<Named>,
}

/// A history item that may be named.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) read: Arc<Reading>,
    pub(super) liked: bool,
}

impl Scene {
    pub fn new(pair: &Pair, history: &Arc<History>, vocabulary: &Arc<Vocabulary>) -> Self {
        let item = vocabulary.read(&pair.item);
        let mut named: Vec<Named> = Vec::new();
        let mut met: HashSet<&ItemId> = HashSet::new();
        for Interaction {
            item: other, signal, ..
        } in history.interactions().iter().rev()
        {
            if !met.insert(&other.id) || *signal == Signal::Disliked || other.id == pair.item.id {
                continue;
            }
            let read = vocabulary.read(other);
            if read.is_nameable() && read.title_folded() != item.title_folded() {
                let liked = *signal == Signal::Liked;
                named.push(Named { read, liked });
            }
        }
        let thing = match item.thing() {
            Thing::Title => named
                .iter()
                .map(|named| named.read.thing())
                .find(|t| *t != Thing::Title)
                .unwrap_or(Thing::Title),
            thing => thing,
        };
        Self {
            pair: pair.clone(),
            history: Arc::clone(history),
            vocabulary: Arc::clone(vocabulary),
            thing,
            item,
            named,
        }
    }

    /// History items that could be named.
    pub fn nameable(&self) -> usize {
        self.named.len()
    }

    pub fn matter(&self) -> Matter<'_> {
        Matter {
            item: &self.pair.item,
            thing: self.thing,
            has_history: !self.named.is_empty(),
            vocabulary: &self.vocabulary,
        }
    }

    /// The words that stand for a target.
    pub fn surface(&self, target: &Target) -> String {
        let title_of = |id: &ItemId| self.history.find(id).map(|i| i.item.title.clone());
        phrase::surface(target, &self.pair.item, &title_of, &self.vocabulary)
    }

    pub fn relations(&self) -> Vec<Relation> {
        refract_truth::relations_within(
            &self.vocabulary,
            &refract_truth::Limits {
                history_items_max: 2,
                ..Default::default()
            },
            &self.pair,
            &self.history,
        )
    }

    /// At most `count` history items: those of `wanted` in its order, then the others, newest first.
    ///
    /// What the facts name gets the first slots, in the order of the facts, so that a small model meets `<h1>` and `<h2>` there and
    /// not any two of twenty: with slots by recency the shipped Prism wrote `<h1> and <h2>` for a fact of `<h1> <h3>` in nine styles of
    /// twelve.
    pub(super) fn shown(&self, count: usize, wanted: &[ItemId]) -> Vec<&Named> {
        let place = |id: &ItemId| self.named.iter().position(|known| known.read.item().id == *id);
        let mut chosen: Vec<usize> = Vec::new();
        for n in wanted.iter().filter_map(place).chain(0..self.named.len()) {
            if chosen.len() >= count {
                break;
            }
            if !chosen.contains(&n) {
                chosen.push(n);
            }
        }
        chosen.into_iter().map(|n| &self.named[n]).collect()
    }
}
