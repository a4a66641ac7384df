//! `tastes.toml`: the demo's own users, and how many viewers to draw beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use super::films::{DAY_SECONDS, Films, day_number};

#[derive(Debug)]
pub(super) struct Tastes {
    pub(super) viewers: usize,
    /// Unix times: ratings lie in between.
    pub(super) from: i64,
    pub(super) until: i64,
    pub(super) users: Vec<User>,
}

/// A user of the demo. Films and traits by index.
#[derive(Debug)]
pub(super) struct User {
    pub(super) id: String,
    pub(super) about: String,
    pub(super) ratings: usize,
    pub(super) bias: f64,
    pub(super) early: Vec<usize>,
    pub(super) favourites: Vec<usize>,
    pub(super) lately: Vec<usize>,
    pub(super) dislikes: Vec<usize>,
    pub(super) likes: Vec<usize>,
    pub(super) avoids: Vec<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    population: Section,
    #[serde(default)]
    user: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    viewers: usize,
    first_day: toml::value::Datetime,
    last_day: toml::value::Datetime,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    about: String,
    /// How many ratings in all, picked and drawn.
    ratings: usize,
    /// Added to every drawn rating.
    #[serde(default)]
    bias: f64,
    /// The oldest ratings, in this order.
    #[serde(default)]
    early: Vec<String>,
    #[serde(default)]
    favourites: Vec<String>,
    /// The newest ratings, in this order.
    #[serde(default)]
    lately: Vec<String>,
    #[serde(default)]
    dislikes: Vec<String>,
    #[serde(default)]
    taste: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    avoids: BTreeMap<String, Vec<String>>,
}

impl Tastes {
    pub(super) fn read(path: &Path, films: &Films) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text, films).with_context(|| path.display().to_string())
    }

    pub(super) fn parse(text: &str, films: &Films) -> anyhow::Result<Self> {
        let file: File = toml::from_str(text)?;
        let from = midnight(&file.population.first_day).context("population.first_day")?;
        let until = midnight(&file.population.last_day).context("population.last_day")? + DAY_SECONDS;
        ensure!(
            until - from >= 400 * DAY_SECONDS,
            "population: last_day must be 400 days or more after first_day"
        );
        let mut ids = BTreeSet::new();
        let mut users = Vec::new();
        for entry in file.user {
            ensure!(
                ids.insert(entry.id.clone()),
                "{}: the id was used before",
                entry.id
            );
            let id = entry.id.clone();
            users.push(entry.resolve(films).with_context(|| id)?);
        }
        Ok(Self {
            viewers: file.population.viewers,
            from,
            until,
            users,
        })
    }
}

impl Entry {
    fn resolve(self, films: &Films) -> anyhow::Result<User> {
        let mut picked = BTreeSet::new();
        let mut find = |list: &str, ids: &[String]| {
            let found = ids.iter().map(|id| {
                let film = films
                    .by_id
                    .get(id)
                    .with_context(|| format!("{list}: no film has the id {id:?}"))?;
                ensure!(picked.insert(*film), "{id:?} is picked twice");
                Ok(*film)
            });
            found.collect::<anyhow::Result<Vec<usize>>>()
        };
        let early = find("early", &self.early)?;
        let favourites = find("favourites", &self.favourites)?;
        let lately = find("lately", &self.lately)?;
        let dislikes = find("dislikes", &self.dislikes)?;
        ensure!(
            (picked.len()..=films.list.len() / 2).contains(&self.ratings),
            "ratings: {} must be at least the {} picked films and at most half of the {} there are",
            self.ratings,
            picked.len(),
            films.list.len()
        );
        Ok(User {
            likes: traits("taste", &self.taste, films)?,
            avoids: traits("avoids", &self.avoids, films)?,
            id: self.id,
            about: self.about,
            ratings: self.ratings,
            bias: self.bias,
            early,
            favourites,
            lately,
            dislikes,
        })
    }
}

fn traits(table: &str, wanted: &BTreeMap<String, Vec<String>>, films: &Films) -> anyhow::Result<Vec<usize>> {
    let each = wanted
        .iter()
        .flat_map(|(kind, values)| values.iter().map(move |value| (kind, value)));
    each.map(|(kind, value)| {
        let found = films.by_trait.get(&(kind.clone(), value.clone()));
        found
            .copied()
            .with_context(|| format!("{table}: no film has the {kind} {value:?}"))
    })
    .collect()
}

fn midnight(day: &toml::value::Datetime) -> anyhow::Result<i64> {
    let date = day.date.context("must be a day, such as 2020-01-01")?;
    Ok(day_number(i64::from(date.year), i64::from(date.month), i64::from(date.day)) * DAY_SECONDS)
}
