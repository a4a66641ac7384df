//! Who is compared: the served ranker, its factorisation alone, popularity, and item neighbourhoods.

use refract_domain::Signal;

use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::interactions::Act;
use crate::likes::{Likes, SignalWeights, Sparse};
use crate::model::{Model, Taste};
use crate::neighbours::{self, NeighbourHyper};
use crate::train::observations;

/// Something that scores the catalogue for a history.
pub(super) struct Contestant<'a> {
    name: &'static str,
    dataset: &'a Dataset,
    kind: Kind,
}

enum Kind {
    Refract(std::sync::Arc<Taste>),
    /// The fold-in without the neighbourhood.
    Factors(std::sync::Arc<Taste>),
    Popularity(Vec<f32>),
    /// Cosine of co-likes, shrunk, summed over the newest likes of the history.
    ItemKnn {
        neighbours: std::sync::Arc<Sparse>,
        likes_max: usize,
    },
}

/// Chosen for the baseline's own good: of 0, 5, 10, 20, 50 and 100 it did best on film ratings.
const KNN_SHRINKAGE: f32 = 20.0;

impl<'a> Contestant<'a> {
    /// The served ranker first.
    pub(super) fn all(dataset: &'a Dataset, model: &Model) -> Result<Vec<Self>> {
        let taste = model.aligned(dataset.catalogue());
        let taste = taste.ok_or(Error::Lacking {
            what: "likes",
            reason: "the model has learnt nothing",
        })?;
        let taste = std::sync::Arc::new(taste);
        let likes = Likes::of_dataset(dataset, SignalWeights::default())?;
        let cosine = NeighbourHyper {
            distance_decay: 1.0,
            backward_share: 1.0,
            shrinkage: KNN_SHRINKAGE,
            distance_max: 1_000,
            neighbours_max: dataset.catalogue().len(),
        };
        let neighbours = std::sync::Arc::new(neighbours::fit(&likes, &cosine));
        let popularity = likes.like_counts().into_iter().map(|n| n as f32).collect();
        let knn = |likes_max| Kind::ItemKnn {
            neighbours: neighbours.clone(),
            likes_max,
        };
        let named = [
            ("refract", Kind::Refract(taste.clone())),
            ("ials_alone", Kind::Factors(taste)),
            ("popularity", Kind::Popularity(popularity)),
            ("item_knn_all", knn(usize::MAX)),
            ("item_knn_last5", knn(5)),
        ];
        Ok(named
            .into_iter()
            .map(|(name, kind)| Self { name, dataset, kind })
            .collect())
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn scores(&self, history: &[Act]) -> Vec<f32> {
        match &self.kind {
            Kind::Popularity(counts) => counts.clone(),
            Kind::Refract(taste) | Kind::Factors(taste) => {
                let Some(mut profile) = taste.profile(&observations(self.dataset, history)) else {
                    return taste.popularity.clone();
                };
                if matches!(self.kind, Kind::Factors(_)) {
                    profile.boosts.clear();
                }
                taste.linear(&profile).scores()
            }
            Kind::ItemKnn {
                neighbours,
                likes_max,
            } => {
                let newest = history
                    .iter()
                    .rev()
                    .filter(|a| self.dataset.signal(a) == Signal::Liked);
                let likes: Vec<(u32, f32)> = newest.take(*likes_max).map(|a| (a.item, 1.0)).collect();
                let mut scores = vec![0.0; self.dataset.catalogue().len()];
                for (item, lent) in neighbours::lend(neighbours, &likes) {
                    scores[item as usize] = lent;
                }
                scores
            }
        }
    }
}
