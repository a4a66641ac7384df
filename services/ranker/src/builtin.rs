//! The ranker that Refract brings: a trained model over a data set's catalogue, behind `domain::Ranker`.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use refract_domain::{
    Affinity, AttributeFilter, Candidates, Context, Error, Item, RankQuery, Ranker, Resource, Revision,
    Slate, SlateItem, SlateOrigin,
};
use tracing::info;

use crate::affinity::{Affinities, AffinityConfig};
use crate::aside::Aside;
use crate::dataset::Dataset;
use crate::error;
use crate::likes::Observation;
use crate::model::{Model, Profile, Taste};
use crate::popularity;
use crate::recommend::now;
use crate::retrieval::{Lists, Scored, TopK};

/// What the built-in ranker is told beside its model.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub affinity: AffinityConfig,
    /// Popular items considered per item shown when the history is empty; more gives a more varied slate.
    pub popular_pool_factor: usize,
    /// Of a large catalogue, the share of items that is looked at for each slate, above 0; absent: all, so that a slate is exact.
    pub scanned_share: Option<f32>,
    /// Above this many multiplications per request a slate is ranked off the runtime's own threads.
    pub inline_multiplications_max: usize,
    /// How many of those are ranked at a time.
    pub rankings_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            affinity: AffinityConfig::default(),
            popular_pool_factor: 4,
            scanned_share: None,
            inline_multiplications_max: 4_000_000,
            rankings_max: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// A trained model over a catalogue. Cheap to clone.
///
/// - A history with nothing in it that the model knows gets what is popular, said so in `SlateOrigin`.
/// - Items that nobody has liked yet are ranked by a factor guessed from their attributes (`Hyper::cold_share`).
/// - A given slate keeps its order and holds what the caller gave even if it was seen before; filters and limit apply,
///   scores are 0 because the order is somebody else's, affinities are filled for the items of the catalogue.
#[derive(Clone, Debug)]
pub struct Builtin {
    inner: Arc<Inner>,
    aside: Aside,
}

#[derive(Debug)]
struct Inner {
    dataset: Arc<Dataset>,
    taste: Taste,
    /// Where a share is looked at.
    lists: Option<(Lists, f32)>,
    affinities: Option<Affinities>,
    revision: Revision,
    config: Config,
}

impl Builtin {
    /// Serves a model that [`Model::save`] wrote, over a data set.
    pub fn open(dataset: Arc<Dataset>, model_dir: &Path, config: Config) -> error::Result<Self> {
        let model = Model::load(model_dir)?;
        Self::new(dataset, &model, config).map_err(|e| match e {
            error::Error::Model { part, reason, .. } => error::Error::Model {
                file: model_dir.to_owned(),
                part,
                reason,
            },
            other => other,
        })
    }

    /// Serves a model over a data set; the model may have learnt from an earlier state of it.
    pub fn new(dataset: Arc<Dataset>, model: &Model, config: Config) -> error::Result<Self> {
        let mut taste = model
            .aligned(dataset.catalogue())
            .ok_or_else(|| error::Error::Model {
                file: model.data_name().into(),
                part: "item_ids".to_owned(),
                reason: format!(
                    "none of its items is in the catalogue of {:?}",
                    dataset.manifest().name
                ),
            })?;
        let lists = config.scanned_share.and_then(|share| lists(&taste, share));
        if lists.is_some() {
            taste.sketch = None;
        }
        let affinities = Affinities::of(&dataset, config.affinity.clone());
        let revision = model.revision().clone();
        Ok(Self {
            aside: Aside::new(config.rankings_max),
            inner: Arc::new(Inner {
                dataset,
                taste,
                lists,
                affinities,
                revision,
                config,
            }),
        })
    }

    pub fn dataset(&self) -> &Arc<Dataset> {
        &self.inner.dataset
    }

    pub fn revision(&self) -> &Revision {
        &self.inner.revision
    }
}

/// Says what is lost: nobody should have to guess it.
fn lists(taste: &Taste, share: f32) -> Option<(Lists, f32)> {
    const QUERIES: usize = 32;
    const BEST: usize = 100;
    let lists = Lists::of(&taste.factors)?;
    let recall = lists.recall(&taste.linear(&Profile::default()), share, BEST, QUERIES);
    info!(
        items = taste.factors.rows(),
        scanned_share = %share,
        recall = %format_args!("{recall:.3}"),
        "slates look at a share of the catalogue"
    );
    Some((lists, share))
}

#[async_trait]
impl Ranker for Builtin {
    async fn rank(&self, query: &RankQuery, context: &Context) -> Result<Slate, Error> {
        if context.deadline.has_passed(now()) {
            return Err(Error::DeadlineExceeded);
        }
        let share = self.inner.lists.as_ref().map_or(1.0, |(_, share)| *share);
        let multiplications = self.inner.taste.factors.values.len() as f32 * share;
        if multiplications <= self.inner.config.inline_multiplications_max as f32 {
            return self.inner.rank(query);
        }
        let (inner, query) = (self.inner.clone(), query.clone());
        self.aside.run(context.deadline, move || inner.rank(&query)).await
    }
}

impl Inner {
    fn rank(&self, query: &RankQuery) -> Result<Slate, Error> {
        if !(1..=Slate::ITEMS_MAX).contains(&query.limit) {
            return Err(Error::invalid(
                "limit",
                format!("must be from 1 to {}", Slate::ITEMS_MAX),
            ));
        }
        check_filters(&query.filters)?;
        if let Candidates::Given(items) = &query.candidates {
            return Ok(self.given(items, query));
        }
        let allowed = self.allowed(query)?;
        let history = self.observations(query);
        let seen: HashSet<u32> = if query.include_seen {
            HashSet::new()
        } else {
            history.iter().map(|o| o.item).collect()
        };
        let profile = self.taste.profile(&history);
        let best = match &profile {
            Some(profile) => self.personal(profile, allowed.as_deref(), &seen, query.limit),
            None => self.popular(allowed.as_deref(), &seen, query.limit),
        };
        let origin = if profile.is_some() {
            SlateOrigin::Personal
        } else {
            SlateOrigin::Popular
        };
        Ok(self.slate(best, origin, query))
    }

    /// The history as the model sees it; items of other catalogues are left out.
    fn observations(&self, query: &RankQuery) -> Vec<Observation> {
        let catalogue = self.dataset.catalogue();
        let known = |i: &refract_domain::Interaction| {
            Some(Observation {
                item: catalogue.index_of(&i.item.id)?,
                signal: i.signal,
            })
        };
        query.history.interactions().iter().filter_map(known).collect()
    }

    /// Items that candidates and filters allow, ascending; `None` means all.
    fn allowed(&self, query: &RankQuery) -> Result<Option<Vec<u32>>, Error> {
        let catalogue = self.dataset.catalogue();
        let mut allowed = match &query.candidates {
            Candidates::Among(ids) => {
                let place = |(n, id)| {
                    let field = || format!("candidates.among.ids[{n}]");
                    catalogue.index_of(id).ok_or_else(|| Error::NotFound {
                        resource: Resource::Item,
                        field: field(),
                    })
                };
                let mut among = ids
                    .iter()
                    .enumerate()
                    .map(place)
                    .collect::<Result<Vec<u32>, Error>>()?;
                among.sort_unstable();
                among.dedup();
                Some(among)
            }
            Candidates::Catalogue | Candidates::Given(_) => None,
        };
        for (n, filter) in query.filters.iter().enumerate() {
            if !catalogue.has_attribute(&filter.attribute) {
                let reason = format!(
                    "no item has it; items have {}",
                    catalogue.attribute_names().join(", ")
                );
                return Err(Error::invalid(format!("filters[{n}].attribute"), reason));
            }
            let mut fitting: Vec<u32> = filter
                .any_of
                .iter()
                .flat_map(|v| catalogue.with_value(&filter.attribute, v))
                .copied()
                .collect();
            fitting.sort_unstable();
            fitting.dedup();
            if let Some(before) = &allowed {
                fitting.retain(|i| before.binary_search(i).is_ok());
            }
            allowed = Some(fitting);
        }
        Ok(allowed)
    }

    fn personal(
        &self,
        profile: &Profile,
        allowed: Option<&[u32]>,
        seen: &HashSet<u32>,
        limit: usize,
    ) -> Vec<Scored> {
        let linear = self.taste.linear(profile);
        match allowed {
            None => match &self.lists {
                Some((lists, share)) => lists.top_k(&linear, *share, limit, |i| !seen.contains(&i)),
                None => linear.top_k(limit, |i| !seen.contains(&i)),
            },
            Some(allowed) => {
                let mut top = TopK::new(limit);
                let unseen = allowed.iter().filter(|i| !seen.contains(i));
                unseen.for_each(|&item| {
                    top.offer(Scored {
                        score: linear.score(item),
                        item,
                    })
                });
                top.into_sorted()
            }
        }
    }

    fn popular(&self, allowed: Option<&[u32]>, seen: &HashSet<u32>, limit: usize) -> Vec<Scored> {
        let pool = limit.saturating_mul(self.config.popular_pool_factor.max(1));
        let mut top = TopK::new(pool);
        let mut offer = |item: u32| {
            if !seen.contains(&item) {
                top.offer(Scored {
                    score: self.taste.popularity[item as usize],
                    item,
                });
            }
        };
        match allowed {
            None => (0..self.taste.popularity.len() as u32).for_each(offer),
            Some(allowed) => allowed.iter().for_each(|&i| offer(i)),
        }
        let catalogue = self.dataset.catalogue();
        popularity::diverse(&top.into_sorted(), |i| catalogue.item(i).as_ref(), limit)
    }

    fn slate(&self, best: Vec<Scored>, origin: SlateOrigin, query: &RankQuery) -> Slate {
        let items: Vec<Arc<Item>> = best
            .iter()
            .map(|s| self.dataset.catalogue().item(s.item).clone())
            .collect();
        let scores: Vec<f32> = best.iter().map(|s| s.score).collect();
        self.present(items, &scores, origin, query)
    }

    fn given(&self, items: &[Arc<Item>], query: &RankQuery) -> Slate {
        let fits = |item: &&Arc<Item>| query.filters.iter().all(|f| fits(item, f));
        let kept: Vec<Arc<Item>> = items.iter().filter(fits).take(query.limit).cloned().collect();
        let scores = vec![0.0; kept.len()];
        self.present(kept, &scores, SlateOrigin::Given, query)
    }

    fn present(
        &self,
        items: Vec<Arc<Item>>,
        scores: &[f32],
        origin: SlateOrigin,
        query: &RankQuery,
    ) -> Slate {
        let affinities = self.affinities_of(&items, query);
        let place = |((position, item), affinities): ((u32, Arc<Item>), Vec<Affinity>)| SlateItem {
            position,
            score: scores[position as usize - 1],
            item,
            affinities,
        };
        let items = (1u32..).zip(items).zip(affinities).map(place).collect();
        Slate {
            items,
            origin,
            ranker_revision: self.revision.clone(),
        }
    }

    fn affinities_of(&self, items: &[Arc<Item>], query: &RankQuery) -> Vec<Vec<Affinity>> {
        let catalogue = self.dataset.catalogue();
        let mut met = HashSet::new();
        let liked: Vec<u32> = query
            .history
            .liked()
            .filter_map(|i| catalogue.index_of(&i.item.id))
            .filter(|&i| met.insert(i))
            .collect();
        let mut all = vec![Vec::new(); items.len()];
        let Some(index) = self.affinities.as_ref().filter(|_| !liked.is_empty()) else {
            return all;
        };
        let (places, known): (Vec<usize>, Vec<u32>) = items
            .iter()
            .enumerate()
            .filter_map(|(n, i)| Some((n, catalogue.index_of(&i.id)?)))
            .unzip();
        for (place, ties) in places.into_iter().zip(index.ties(&known, &liked)) {
            let told = |t: crate::affinity::Tie| Affinity {
                item: catalogue.item(t.item).id.clone(),
                lift: t.lift,
                support: t.support,
            };
            all[place] = ties.into_iter().map(told).collect();
        }
        all
    }
}

fn check_filters(filters: &[AttributeFilter]) -> Result<(), Error> {
    match filters.iter().position(|f| f.any_of.is_empty()) {
        Some(n) => Err(Error::invalid(
            format!("filters[{n}].any_of"),
            "must name at least one value",
        )),
        None => Ok(()),
    }
}

/// As [`crate::Catalogue::with_value`] compares: names and values in any case.
fn fits(item: &Item, filter: &AttributeFilter) -> bool {
    let attribute = filter.attribute.to_lowercase();
    let wanted: HashSet<String> = filter.any_of.iter().map(|v| v.to_lowercase()).collect();
    crate::catalogue::folded_values(&item.attributes)
        .any(|(name, value)| name == attribute && wanted.contains(&value))
}
