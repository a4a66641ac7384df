//! Who reads both sides' texts: the truth gate, and the reader that knows the whole catalogue.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, bail};
use refract_distill::{Label, source};
use refract_domain::{Affinity, ExplainQuery, Item, ItemId};
use refract_measure::quality::Quality;
use refract_measure::{Words, words};
use refract_ranker::Dataset;
use refract_ranker::dataset::LoadOptions;
use refract_truth::{Gate, Vocabulary};

use super::HISTORY_ITEMS_MAX;
use crate::assets::data_and_ranker;
use crate::cli::DataArgs;
use crate::eval::check::{Class, Fault, check};
use crate::eval::co_likes::CoLikes;
use crate::eval::lexicon::Lexicon;
use crate::eval::scene::Scene;

/// What was found in one text.
#[derive(Clone, Debug, Default)]
pub(super) struct Side {
    pub(super) text: String,
    pub(super) words: Vec<String>,
    pub(super) sentences: usize,
    pub(super) unsupported: Vec<String>,
    /// What the catalogue's reader found.
    pub(super) faults: Vec<Fault>,
    pub(super) names_item: bool,
    pub(super) names_history: bool,
    pub(super) score: f64,
}

impl Side {
    pub(super) fn has(&self, class: Class) -> bool {
        self.faults.iter().any(|fault| fault.classes().contains(&class))
    }
}

/// Who reads the texts.
pub(super) struct Judge {
    pub(super) vocabulary: Arc<Vocabulary>,
    lexicon: Lexicon,
    /// Others' behaviour, counted anew; absent where the labels' data set is not at hand: then the labels' own word is taken.
    behaviour: Option<(Dataset, CoLikes)>,
}

impl Judge {
    /// With the catalogue of a data set, where the labels are of it, and every item that the labels show.
    pub(super) fn new(data: &DataArgs, labels: &[Label]) -> Result<Self> {
        let dataset = match data_and_ranker(data) {
            Ok((dir, _)) => Some(Dataset::load(&dir, &LoadOptions::default())?),
            Err(error) if data.data.is_some() => return Err(error),
            Err(_) => None,
        };
        let known = |dataset: &Dataset| {
            let found = |label: &&Label| {
                let id = ItemId::new(label.item.id.as_str());
                dataset.catalogue().index_of(&id).is_some()
            };
            2 * labels.iter().filter(found).count() > labels.len()
        };
        let dataset = dataset.filter(known);
        if dataset.is_none() && data.data.is_some() {
            bail!("the labels are of another data set than --data");
        }
        let mut items: BTreeMap<String, Arc<Item>> = BTreeMap::new();
        for label in labels {
            let (pair, history) = label.question();
            let shown = history.interactions().iter().map(|i| i.item.clone());
            for item in shown.chain([pair.item]) {
                items.entry(item.id.as_str().to_owned()).or_insert(item);
            }
        }
        for item in dataset.iter().flat_map(|dataset| dataset.catalogue().items()) {
            items.insert(item.id.as_str().to_owned(), item.clone());
        }
        let items: Vec<Arc<Item>> = items.into_values().collect();
        Ok(Self {
            vocabulary: Arc::new(Vocabulary::default()),
            lexicon: Lexicon::of(&items),
            behaviour: dataset.map(|dataset| {
                let co_likes = CoLikes::of(&dataset);
                (dataset, co_likes)
            }),
        })
    }

    pub(super) fn scene(&self, query: &ExplainQuery) -> Scene {
        let affinities = &query.pair.affinities;
        let lift = |a: &Affinity| match &self.behaviour {
            Some((dataset, co_likes)) => co_likes.lift(dataset, &a.item, &query.pair.item.id),
            None => Some(a.lift),
        };
        let lifts = affinities
            .iter()
            .filter_map(|a| Some((a.item.clone(), lift(a)?)))
            .collect();
        Scene::new(&query.pair.item, &query.history, affinities, lifts)
    }

    pub(super) fn side(&self, scene: &Scene, query: &ExplainQuery, text: &str) -> Side {
        let mut gate = Gate::new(&self.vocabulary, &query.pair, &query.history, None);
        let mut cutter = gate.sentences();
        let mut sentences = cutter.push(text);
        sentences.extend(cutter.finish());
        let unsupported = sentences
            .iter()
            .filter(|sentence| gate.check(sentence, &[]).is_err())
            .cloned()
            .collect();
        let verdict = check(&self.lexicon, scene, text);
        Side {
            text: text.to_owned(),
            words: words(text, Words::Any),
            sentences: sentences.len(),
            unsupported,
            faults: verdict.faults,
            names_item: verdict.names_item,
            names_history: verdict.history_titles > 0,
            score: Quality::of(text, &source(&query.pair, &query.history, HISTORY_ITEMS_MAX)).score,
        }
    }
}
