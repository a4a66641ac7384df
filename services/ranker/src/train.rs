//! Learning a model from a data set: factors, neighbourhood, popularity, and how to blend them.

use refract_domain::Revision;
use sha2::{Digest, Sha256};

use crate::als::Factors;
use crate::dataset::Dataset;
use crate::error::Result;
use crate::interactions::Act;
use crate::likes::{Likes, Observation};
use crate::linear::dot;
use crate::model::{Hyper, Model, weigh};
use crate::{als, neighbours, popularity};

/// How far training has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    pub stage: Stage,
    pub done: usize,
    pub total: usize,
    /// Of the factorisation, after this sweep.
    pub loss: Option<f64>,
}

/// What training is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Learning the blend, with some likes held out.
    Blend,
    Factors,
    Neighbours,
    /// Only while evaluating: asking the rankers for each user's order.
    Evaluate,
}

impl Stage {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blend => "blend",
            Self::Factors => "factors",
            Self::Neighbours => "neighbours",
            Self::Evaluate => "evaluate",
        }
    }
}

/// Users whose newest like is held out to learn the blend, at most.
const HELD_OUT_MAX: usize = 2_000;
/// With fewer held-out likes than this their vote is noise, and [`BLEND_DEFAULT`] is taken.
const HELD_OUT_MIN: usize = 50;
const BLEND_DEFAULT: f32 = 0.3;
const BLENDS: [f32; 12] = [0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8, 1.5, 3.0, 6.0, 12.0];
/// How much order in time may count, besides what the hyper-parameters say: from as much as on real film ratings to not at all.
const ORDERS: [Order; 5] = [
    Order {
        recency_decay: 0.85,
        distance_decay: 0.95,
        backward_share: 0.2,
    },
    Order {
        recency_decay: 0.85,
        distance_decay: 0.98,
        backward_share: 0.6,
    },
    Order {
        recency_decay: 0.95,
        distance_decay: 1.0,
        backward_share: 1.0,
    },
    Order {
        recency_decay: 0.985,
        distance_decay: 1.0,
        backward_share: 1.0,
    },
    Order {
        recency_decay: 1.0,
        distance_decay: 1.0,
        backward_share: 1.0,
    },
];

/// See the fields of [`Hyper`] and of its neighbourhood.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Order {
    recency_decay: f32,
    distance_decay: f32,
    backward_share: f32,
}

impl Order {
    fn of(hyper: &Hyper) -> Self {
        Self {
            recency_decay: hyper.recency_decay,
            distance_decay: hyper.neighbours.distance_decay,
            backward_share: hyper.neighbours.backward_share,
        }
    }

    fn within(self, hyper: &Hyper) -> Hyper {
        let mut hyper = hyper.clone();
        hyper.recency_decay = self.recency_decay;
        hyper.neighbours.distance_decay = self.distance_decay;
        hyper.neighbours.backward_share = self.backward_share;
        hyper
    }
}

/// A held-out like counts by its place within this many.
const HELD_OUT_PLACES: usize = 20;

/// Learns a model. The same data, hyper-parameters and seed give the same model on any number of threads.
pub fn train(dataset: &Dataset, hyper: &Hyper, mut progress: impl FnMut(Progress)) -> Result<Model> {
    hyper.check()?;
    let (hyper, blend) = match hyper.blend {
        Some(given) => (hyper.clone(), given),
        None => learn_blend(dataset, hyper, &mut progress)?,
    };
    let hyper = &hyper;
    let likes = Likes::of_dataset(dataset, hyper.signals)?;
    let learnt = Learnt::fit(&likes, hyper, &mut progress);
    let mut model = Model {
        hyper: hyper.clone(),
        blend,
        item_ids: dataset.catalogue().items().iter().map(|i| i.id.clone()).collect(),
        gram: learnt.factors.items.gram(),
        factors: learnt.factors.items,
        neighbours: learnt.neighbours,
        popularity: popularity::fit(&likes, hyper.popularity_half_life_days),
        data_digest: dataset.digest(),
        data_name: dataset.manifest().name.clone(),
        revision: Revision::default(),
    };
    model.revision = revision(&model);
    Ok(model)
}

/// Names a model by its content.
pub(crate) fn revision(model: &Model) -> Revision {
    let mut hash = Sha256::new();
    hash.update(format!(
        "{:?} {:?} {}",
        model.hyper, model.blend, model.data_digest
    ));
    model
        .item_ids
        .iter()
        .for_each(|id| hash.update(format!("{} {id}", id.as_str().len())));
    for values in [
        &model.factors.values,
        &model.gram.values,
        &model.neighbours.weights,
        &model.popularity,
    ] {
        values.iter().for_each(|v| hash.update(v.to_le_bytes()));
    }
    model
        .neighbours
        .columns
        .iter()
        .for_each(|c| hash.update(c.to_le_bytes()));
    model
        .neighbours
        .ends
        .iter()
        .for_each(|e| hash.update((*e as u64).to_le_bytes()));
    Revision(format!("ials-{}", &hex::encode(hash.finalize())[..12]))
}

struct Learnt {
    factors: Factors,
    neighbours: crate::likes::Sparse,
}

impl Learnt {
    fn fit(likes: &Likes, hyper: &Hyper, progress: &mut impl FnMut(Progress)) -> Self {
        let total = hyper.als.sweeps;
        let factors = Factors::fit(&likes.positives, likes.items, &hyper.als, |done, loss| {
            progress(Progress {
                stage: Stage::Factors,
                done,
                total,
                loss: Some(loss()),
            });
        });
        let neighbours = neighbours::fit(likes, &hyper.neighbours);
        progress(Progress {
            stage: Stage::Neighbours,
            done: 1,
            total: 1,
            loss: None,
        });
        Self { factors, neighbours }
    }
}

/// The held-out like of a user and the acts before it.
pub(crate) struct HeldOut<'a> {
    pub(crate) before: &'a [Act],
    pub(crate) item: u32,
}

/// The newest like on an item the user had not met before, if likes remain without it.
pub(crate) fn hold_out_last_like<'a>(dataset: &Dataset, acts: &'a [Act]) -> Option<HeldOut<'a>> {
    let is_like = |a: &Act| dataset.signal(a) == refract_domain::Signal::Liked;
    let at = acts.iter().rposition(is_like)?;
    let (before, item) = (&acts[..at], acts[at].item);
    let is_new = !before.iter().any(|a| a.item == item);
    (is_new && before.iter().any(is_like)).then_some(HeldOut { before, item })
}

pub(crate) fn observations(dataset: &Dataset, acts: &[Act]) -> Vec<Observation> {
    acts.iter()
        .map(|a| Observation {
            item: a.item,
            signal: dataset.signal(a),
        })
        .collect()
}

/// Tries every blend, with every order, on likes held out from training, and takes those under which they stand highest. The held-out
/// likes are the users' newest of the data that is trained on, so an evaluation's own held-out likes have no say.
fn learn_blend(
    dataset: &Dataset,
    hyper: &Hyper,
    progress: &mut impl FnMut(Progress),
) -> Result<(Hyper, f32)> {
    let interactions = dataset.interactions();
    let users = interactions.users_len() as u32;
    let able: Vec<u32> = (0..users)
        .filter(|&u| hold_out_last_like(dataset, interactions.of(u)).is_some())
        .collect();
    if able.len() < HELD_OUT_MIN {
        return Ok((hyper.clone(), BLEND_DEFAULT));
    }
    // Every n-th, so that the sample does not hang on the order of the file's beginning.
    let stride = able.len().div_ceil(HELD_OUT_MAX);
    let mut held: Vec<Option<HeldOut<'_>>> = (0..users).map(|_| None).collect();
    for &user in able.iter().step_by(stride) {
        held[user as usize] = hold_out_last_like(dataset, interactions.of(user));
    }
    let acts = (0..users).map(|u| held[u as usize].as_ref().map_or(interactions.of(u), |h| h.before));
    let likes = Likes::new(dataset, hyper.signals, acts)?;
    let mut learnt = Learnt::fit(&likes, hyper, &mut |p: Progress| {
        progress(Progress {
            stage: Stage::Blend,
            ..p
        })
    });
    let held: Vec<&HeldOut<'_>> = held.iter().flatten().collect();
    let mut orders = vec![Order::of(hyper)];
    orders.extend(ORDERS.iter().filter(|_| hyper.learn_order));
    let mut best = (hyper.clone(), BLEND_DEFAULT, f64::MIN);
    for (done, order) in orders.iter().enumerate() {
        let tried = order.within(hyper);
        if done > 0 && tried.neighbours != orders[done - 1].within(hyper).neighbours {
            learnt.neighbours = neighbours::fit(&likes, &tried.neighbours);
        }
        let gains = gains(dataset, &tried, &learnt, &held);
        // What the hyper-parameters say stays unless another is better.
        for (blend, gain) in BLENDS.iter().zip(gains) {
            if gain > best.2 {
                best = (tried.clone(), *blend, gain);
            }
        }
        progress(Progress {
            stage: Stage::Blend,
            done: done + 1,
            total: orders.len(),
            loss: None,
        });
    }
    Ok((best.0, best.1))
}

/// How high the held-out likes stand, for every blend.
fn gains(dataset: &Dataset, hyper: &Hyper, learnt: &Learnt, held: &[&HeldOut<'_>]) -> [f64; BLENDS.len()] {
    use rayon::prelude::*;
    let items = &learnt.factors.items;
    let gram = items.gram();
    let known: Vec<bool> = (0..items.rows())
        .map(|n| items.row(n).iter().any(|v| *v != 0.0))
        .collect();
    let gain_of = |held: &&HeldOut<'_>| {
        let history = observations(dataset, held.before);
        let weighed = weigh(&history, hyper, |i| known[i as usize]);
        let factor = als::fold_in(items, &gram, &hyper.als, &weighed);
        let taste: Vec<f32> = (0..items.rows()).map(|n| dot(&factor, items.row(n))).collect();
        let mut lent = vec![0.0; items.rows()];
        neighbours::lend(&learnt.neighbours, &weighed)
            .into_iter()
            .for_each(|(i, w)| lent[i as usize] = w);
        let seen: std::collections::HashSet<u32> = held.before.iter().map(|a| a.item).collect();
        let target = held.item as usize;
        BLENDS.map(|blend| {
            let score = |n: usize| lent[n] + blend * taste[n];
            let own = score(target);
            let above = (0..taste.len())
                .filter(|&n| score(n) > own && !seen.contains(&(n as u32)))
                .count();
            if above < HELD_OUT_PLACES {
                1.0 / (above as f64 + 2.0).log2()
            } else {
                0.0
            }
        })
    };
    let each: Vec<[f64; BLENDS.len()]> = held.par_iter().map(gain_of).collect();
    let mut gains = [0.0f64; BLENDS.len()];
    each.iter()
        .for_each(|own| gains.iter_mut().zip(own).for_each(|(g, o)| *g += o));
    gains
}
