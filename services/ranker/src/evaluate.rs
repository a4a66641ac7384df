//! How good the ranking is: full ranking of the catalogue, on a global time split and with each user's last like held
//! out, against popularity and item neighbourhoods, with bootstrap intervals.
//!
//! Everything learnt, the blend included, is learnt from the training part of each split.

mod baselines;
mod metrics;

use std::collections::HashSet;

use rayon::prelude::*;
use refract_domain::Signal;
use serde::Serialize;

use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::interactions::Act;
use crate::model::Hyper;
use crate::train::{self, Progress, Stage, hold_out_last_like};
use baselines::Contestant;
use metrics::{Bands, CaseRanks};

/// What an evaluation is told.
#[derive(Clone, Debug)]
pub struct Options {
    pub hyper: Hyper,
    /// Share of the interactions, the oldest, that the time split trains on.
    pub time_split_train_share: f64,
    /// Bootstrap samples of users behind each interval.
    pub resamples: usize,
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            hyper: Hyper::default(),
            time_split_train_share: 0.8,
            resamples: 1_000,
            seed: 1,
        }
    }
}

/// One line of results, for people and as JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// `split/ranker/metric`.
    pub name: String,
    pub value: f64,
    pub unit: &'static str,
    pub goal: Option<f64>,
    /// Whether the goal is met; for a lead, whether its whole interval lies above the goal.
    pub holds: Option<bool>,
    /// Users, or user–item pairs, behind the value.
    pub n: u64,
    /// 95 % interval over resampled users.
    pub low: Option<f64>,
    pub high: Option<f64>,
}

impl Row {
    fn plain(name: String, value: f64, unit: &'static str, n: usize) -> Self {
        Self {
            name,
            value,
            unit,
            goal: None,
            holds: None,
            n: n as u64,
            low: None,
            high: None,
        }
    }
}

/// A user at the moment of asking, and what was liked afterwards.
struct Case<'a> {
    history: &'a [Act],
    targets: Vec<u32>,
}

/// Users ranked between two reports of progress.
const CASES_PER_STEP: usize = 256;

/// Runs both splits.
pub fn evaluate(
    dataset: &Dataset,
    options: &Options,
    mut progress: impl FnMut(Progress),
) -> Result<Vec<Row>> {
    options.hyper.check()?;
    if !(options.time_split_train_share > 0.0 && options.time_split_train_share < 1.0) {
        let reason = "must lie between 0 and 1".to_owned();
        return Err(Error::Invalid {
            field: "time_split_train_share",
            reason,
        });
    }
    let mut rows = time_split(dataset, options, &mut progress)?;
    rows.extend(last_like(dataset, options, &mut progress)?);
    Ok(rows)
}

/// Trains on the oldest interactions and asks, for every user with a like among them, for the likes that came later.
fn time_split(dataset: &Dataset, options: &Options, progress: &mut impl FnMut(Progress)) -> Result<Vec<Row>> {
    let interactions = dataset.interactions();
    let mut times: Vec<i64> = interactions.iter().map(|(_, a)| a.at).collect();
    times.sort_unstable();
    let place = (times.len() as f64 * options.time_split_train_share) as usize;
    let Some(&cutoff) = times.get(place) else {
        return Err(Error::Lacking {
            what: "interactions",
            reason: "there is nothing to split",
        });
    };
    let is_like = |a: &&Act| dataset.signal(a) == Signal::Liked;
    let (mut kept, mut cases, mut newcomers) = (Vec::new(), Vec::new(), 0);
    for user in 0..interactions.users_len() as u32 {
        let acts = interactions.of(user);
        let (history, later) = acts.split_at(acts.partition_point(|a| a.at < cutoff));
        kept.extend(history.iter().map(|a| (user, *a)));
        let met: HashSet<u32> = history.iter().map(|a| a.item).collect();
        let mut targets: Vec<u32> = later
            .iter()
            .filter(is_like)
            .map(|a| a.item)
            .filter(|i| !met.contains(i))
            .collect();
        targets.sort_unstable();
        targets.dedup();
        if targets.is_empty() {
            continue;
        }
        if history.iter().any(|a| is_like(&a)) {
            cases.push(Case { history, targets });
        } else {
            newcomers += 1;
        }
    }
    let mut rows = contest("time_split", dataset, kept, &cases, options, progress)?;
    rows.push(Row::plain(
        "time_split/users_without_history".to_owned(),
        f64::from(newcomers),
        "users",
        cases.len(),
    ));
    Ok(rows)
}

/// Holds out each user's last like and asks for it.
fn last_like(dataset: &Dataset, options: &Options, progress: &mut impl FnMut(Progress)) -> Result<Vec<Row>> {
    let interactions = dataset.interactions();
    let (mut kept, mut cases) = (Vec::new(), Vec::new());
    for user in 0..interactions.users_len() as u32 {
        let acts = interactions.of(user);
        let held = hold_out_last_like(dataset, acts);
        let training = held.as_ref().map_or(acts, |h| h.before);
        kept.extend(training.iter().map(|a| (user, *a)));
        if let Some(held) = held {
            cases.push(Case {
                history: held.before,
                targets: vec![held.item],
            });
        }
    }
    contest("last_like", dataset, kept, &cases, options, progress)
}

/// Trains every contestant on `kept` and compares them over `cases`.
fn contest(
    split: &str,
    dataset: &Dataset,
    kept: Vec<(u32, Act)>,
    cases: &[Case<'_>],
    options: &Options,
    progress: &mut impl FnMut(Progress),
) -> Result<Vec<Row>> {
    if cases.is_empty() {
        return Err(Error::Lacking {
            what: "held-out likes",
            reason: "no user has likes on both sides of the split",
        });
    }
    let training = dataset.with_interactions(kept)?;
    let model = train::train(&training, &options.hyper, &mut *progress)?;
    let contestants = Contestant::all(&training, &model)?;
    let mut ranks: Vec<CaseRanks> = Vec::with_capacity(cases.len());
    for step in cases.chunks(CASES_PER_STEP) {
        ranks.par_extend(step.par_iter().map(|case| {
            let seen: HashSet<u32> = case.history.iter().map(|a| a.item).collect();
            let of = |c: &Contestant<'_>| metrics::places(&c.scores(case.history), &case.targets, &seen);
            CaseRanks(contestants.iter().map(of).collect())
        }));
        progress(Progress {
            stage: Stage::Evaluate,
            done: ranks.len(),
            total: cases.len(),
            loss: None,
        });
    }
    let names: Vec<&str> = contestants.iter().map(|c| c.name()).collect();
    let mut rows = metrics::rows(split, &names, &ranks, options);
    let bands = Bands::new(&training);
    rows.extend(bands.rows(split, &names, cases.iter().map(|c| c.targets.as_slice()), &ranks));
    rows.push(Row::plain(
        format!("{split}/refract/blend"),
        f64::from(model.blend()),
        "weight",
        cases.len(),
    ));
    rows.push(Row::plain(
        format!("{split}/refract/recency_decay"),
        f64::from(model.hyper().recency_decay),
        "weight",
        cases.len(),
    ));
    Ok(rows)
}
