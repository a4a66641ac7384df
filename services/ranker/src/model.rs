//! The built-in ranker's model: what was learnt, and how a history turns it into scores.
//!
//! ```text
//! score(i) = Σ_j w_j · neighbour(j → i)  +  blend · x·q_i        x = fold-in of the history, w_j falls with age
//! ```
//!
//! Both parts see the same weighted history; the sum is linear, so one item's score depends on no other item.

use std::collections::HashSet;

use refract_domain::{ItemId, Revision};
use serde::{Deserialize, Serialize};

use crate::als::{self, AlsHyper};
use crate::catalogue::Catalogue;
use crate::error::{Error, Result};
use crate::likes::{Observation, SignalWeights, Sparse};
use crate::linear::Matrix;
use crate::neighbours::{self, NeighbourHyper};
use crate::popularity;
use crate::retrieval::{Linear, Sketch};

/// Everything the ranker is told. The defaults were chosen on held-out likes of real film ratings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hyper {
    /// Weight of an observation per newer one in the history, above 0 and at most 1: recent taste counts more.
    pub recency_decay: f32,
    /// After this many days a like counts half for popularity.
    pub popularity_half_life_days: f32,
    /// How much the guessed factor of an item that nobody has liked yet counts, from 0 (unranked) to 1.
    pub cold_share: f32,
    /// Whether training may find that order in time tells less in these data than the other fields say: it then replaces
    /// `recency_decay` and how the neighbourhood sees order by what did best on held-out likes. Only where the blend is learnt too.
    pub learn_order: bool,
    /// Weight of the factorisation beside the neighbourhood. Absent: learnt from held-out likes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blend: Option<f32>,
    pub signals: SignalWeights,
    pub als: AlsHyper,
    pub neighbours: NeighbourHyper,
}

impl Default for Hyper {
    fn default() -> Self {
        Self {
            recency_decay: 0.75,
            popularity_half_life_days: 60.0,
            cold_share: 0.5,
            learn_order: true,
            blend: None,
            signals: SignalWeights::default(),
            als: AlsHyper::default(),
            neighbours: NeighbourHyper::default(),
        }
    }
}

impl Hyper {
    pub fn check(&self) -> Result<()> {
        let wrong = |field, reason: &str| {
            Err(Error::Invalid {
                field,
                reason: reason.to_owned(),
            })
        };
        if !(self.recency_decay > 0.0 && self.recency_decay <= 1.0) {
            return wrong("recency_decay", "must be above 0 and at most 1");
        }
        if !(self.popularity_half_life_days.is_finite() && self.popularity_half_life_days > 0.0) {
            return wrong("popularity_half_life_days", "must be a positive number");
        }
        if !(0.0..=1.0).contains(&self.cold_share) {
            return wrong("cold_share", "must be from 0 to 1");
        }
        if self.blend.is_some_and(|b| !(b.is_finite() && b >= 0.0)) {
            return wrong("blend", "must be a number from 0");
        }
        let SignalWeights {
            liked,
            seen,
            disliked,
        } = self.signals;
        let fits = |weight: f32| (0.0..=liked).contains(&weight);
        if !(liked > 0.0 && liked.is_finite() && fits(seen) && fits(disliked)) {
            return wrong(
                "signals",
                "liked must be positive, seen and disliked from 0 to liked",
            );
        }
        self.als.check()?;
        self.neighbours.check()
    }
}

/// What was learnt from one data set, by the item ids of that data set.
#[derive(Clone, Debug)]
pub struct Model {
    pub(crate) hyper: Hyper,
    pub(crate) blend: f32,
    pub(crate) item_ids: Vec<ItemId>,
    /// Items × dimensions; a row of zeros for an item nobody liked.
    pub(crate) factors: Matrix,
    /// Of `factors`: what a fold-in starts from.
    pub(crate) gram: Matrix,
    pub(crate) neighbours: Sparse,
    pub(crate) popularity: Vec<f32>,
    /// [`crate::Dataset::digest`] of what it learnt from.
    pub(crate) data_digest: String,
    pub(crate) data_name: String,
    pub(crate) revision: Revision,
}

impl Model {
    pub fn revision(&self) -> &Revision {
        &self.revision
    }

    pub fn hyper(&self) -> &Hyper {
        &self.hyper
    }

    /// Weight of the factorisation beside the neighbourhood, as given or as learnt.
    pub fn blend(&self) -> f32 {
        self.blend
    }

    /// Numbers learnt.
    pub fn parameters(&self) -> usize {
        self.factors.values.len() + self.neighbours.weights.len() + self.popularity.len()
    }

    pub fn data_name(&self) -> &str {
        &self.data_name
    }

    pub fn data_digest(&self) -> &str {
        &self.data_digest
    }

    /// Puts the model into the order of `catalogue`. Items that the model does not know get a factor guessed from their
    /// attributes; items that the catalogue does not know are forgotten. `None` if the two have nothing in common.
    pub(crate) fn aligned(&self, catalogue: &Catalogue) -> Option<Taste> {
        let d = self.factors.columns();
        let places: Vec<Option<u32>> = self.item_ids.iter().map(|id| catalogue.index_of(id)).collect();
        let mut rows: Vec<Vec<(u32, f32)>> = vec![Vec::new(); catalogue.len()];
        let mut factors = Matrix::zeros(catalogue.len(), d);
        let mut popularity = vec![0.0; catalogue.len()];
        let mut known = vec![false; catalogue.len()];
        for (own, place) in places.iter().enumerate() {
            let Some(place) = place.map(|p| p as usize) else {
                continue;
            };
            factors.row_mut(place).copy_from_slice(self.factors.row(own));
            popularity[place] = self.popularity[own];
            known[place] = self.factors.row(own).iter().any(|v| *v != 0.0);
            let (targets, weights) = self.neighbours.row(own);
            let placed = targets
                .iter()
                .zip(weights)
                .filter_map(|(&t, &w)| Some((places[t as usize]?, w)));
            rows[place] = placed.collect();
            rows[place].sort_unstable_by_key(|(target, _)| *target);
        }
        if !known.iter().any(|k| *k) {
            return None;
        }
        if self.hyper.cold_share > 0.0 {
            popularity::cold_factors(catalogue, &mut factors, |n| known[n], self.hyper.cold_share);
        }
        Some(Taste {
            hyper: self.hyper.clone(),
            blend: self.blend,
            sketch: Sketch::of(&factors),
            factors,
            gram: self.gram.clone(),
            neighbours: Sparse::from_rows(rows),
            popularity,
            known,
        })
    }
}

/// A model in the order of a catalogue, ready to score.
#[derive(Debug)]
pub(crate) struct Taste {
    pub(crate) hyper: Hyper,
    pub(crate) blend: f32,
    pub(crate) factors: Matrix,
    /// Of `factors`, in a large catalogue.
    pub(crate) sketch: Option<Sketch>,
    pub(crate) gram: Matrix,
    pub(crate) neighbours: Sparse,
    pub(crate) popularity: Vec<f32>,
    /// Items that training knew; the others' factors are guesses.
    pub(crate) known: Vec<bool>,
}

/// What one history asks of every item.
#[derive(Clone, Debug, Default)]
pub(crate) struct Profile {
    /// The fold-in, times the blend.
    pub(crate) factor: Vec<f32>,
    pub(crate) boosts: Vec<(u32, f32)>,
}

impl Taste {
    /// `history` oldest first; of several observations of one item the newest counts. `None` if it holds nothing in
    /// favour of anything that the model knows.
    pub(crate) fn profile(&self, history: &[Observation]) -> Option<Profile> {
        let observations = weigh(history, &self.hyper, |item| self.known[item as usize]);
        if !observations.iter().any(|(_, w)| *w > 0.0) {
            return None;
        }
        let mut factor = als::fold_in(&self.factors, &self.gram, &self.hyper.als, &observations);
        factor.iter_mut().for_each(|f| *f *= self.blend);
        Some(Profile {
            factor,
            boosts: neighbours::lend(&self.neighbours, &observations),
        })
    }

    pub(crate) fn linear<'a>(&'a self, profile: &'a Profile) -> Linear<'a> {
        Linear {
            rows: &self.factors,
            query: &profile.factor,
            boosts: &profile.boosts,
            sketch: self.sketch.as_ref(),
        }
    }
}

/// Observations of known items with their weights, newest first; those too old to matter are left out.
pub(crate) fn weigh(
    history: &[Observation],
    hyper: &Hyper,
    is_known: impl Fn(u32) -> bool,
) -> Vec<(u32, f32)> {
    const RECENCY_MIN: f32 = 1e-4;
    let mut met = HashSet::with_capacity(history.len());
    let mut recency = 1.0;
    let mut weighed = Vec::new();
    for observation in history
        .iter()
        .rev()
        .filter(|o| is_known(o.item) && met.insert(o.item))
    {
        let weight = hyper.signals.of(observation.signal);
        if weight != 0.0 {
            weighed.push((observation.item, weight * recency));
            recency *= hyper.recency_decay;
        }
        if recency < RECENCY_MIN {
            break;
        }
    }
    weighed
}
