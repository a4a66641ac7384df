//! The films as the population sees them: fame, quality and the traits by which tastes choose.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

use super::draw::Stream;

/// One attribute value, such as `("director", "Agnès Varda")`.
pub(super) type Trait = (String, String);

#[derive(Debug)]
pub(super) struct Film {
    pub(super) id: String,
    pub(super) year: i64,
    /// How strongly the film pulls a viewer who has no opinion; only ratios matter.
    pub(super) pull: f64,
    /// Added to every rating, in points.
    pub(super) quality: f64,
    /// Indices into [`Films::traits`].
    pub(super) traits: Vec<usize>,
}

#[derive(Debug)]
pub(super) struct Films {
    pub(super) list: Vec<Film>,
    pub(super) by_id: BTreeMap<String, usize>,
    pub(super) traits: Vec<Trait>,
    pub(super) by_trait: BTreeMap<Trait, usize>,
    /// Films by trait.
    pub(super) having: Vec<Vec<usize>>,
}

/// Attributes that make traits. `decade` is derived from `year`.
const KINDS: [&str; 7] = [
    "director", "lead", "series", "source", "genre", "country", "decade",
];
/// One step of fame multiplies a film's pull by this: five steps span a factor of sixteen, as between a hit and a rarity.
const PULL_PER_FAME: f64 = 2.0;
/// Spread of the whim of fortune, as a natural logarithm.
const PULL_SPREAD: f64 = 0.35;
/// Spread of quality, in rating points.
const QUALITY_SPREAD: f64 = 0.45;

#[derive(Deserialize)]
struct Line {
    id: String,
    attributes: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Fame {
    item_id: String,
    fame: u8,
}

impl Films {
    pub(super) fn read(data: &Path, seed: u64) -> anyhow::Result<Self> {
        let fame = read_fame(&data.join("fame.csv"))?;
        let path = data.join("items.jsonl");
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut films = Self {
            list: vec![],
            by_id: BTreeMap::new(),
            traits: vec![],
            by_trait: BTreeMap::new(),
            having: vec![],
        };
        for (n, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
            let place = || format!("{}:{}", path.display(), n + 1);
            let line: Line = serde_json::from_str(line).with_context(place)?;
            let fame = *fame
                .get(&line.id)
                .with_context(|| format!("{}: {} has no line in fame.csv", place(), line.id))?;
            films.add(line, fame, seed).with_context(place)?;
        }
        ensure!(!films.list.is_empty(), "{} holds no film", path.display());
        if let Some(stray) = fame.keys().find(|id| !films.by_id.contains_key(*id)) {
            bail!("fame.csv: no film has the id {stray:?}");
        }
        Ok(films)
    }

    fn add(&mut self, line: Line, fame: u8, seed: u64) -> anyhow::Result<()> {
        let index = self.list.len();
        let year = line
            .attributes
            .get("year")
            .and_then(|v| v.first())
            .context("attributes.year is missing")?;
        let year: i64 = year
            .parse()
            .with_context(|| format!("attributes.year: {year:?} is not a year"))?;
        let mut traits = Vec::new();
        for kind in KINDS {
            let decade = [format!("{}0s", year / 10)];
            let values = if kind == "decade" {
                &decade[..]
            } else {
                line.attributes.get(kind).map_or(&[][..], |v| v)
            };
            traits.extend(
                values
                    .iter()
                    .map(|value| self.trait_index((kind.to_owned(), value.clone()))),
            );
        }
        traits.iter().for_each(|&t| self.having[t].push(index));
        // By id, not by place: a film added in between leaves the others' luck as it was.
        let mut luck = Stream::named(seed, &line.id);
        let pull = PULL_PER_FAME.powi(i32::from(fame)) * (PULL_SPREAD * luck.normal()).exp();
        let quality = 0.25 * (f64::from(fame) - 3.0) + QUALITY_SPREAD * luck.normal();
        ensure!(
            self.by_id.insert(line.id.clone(), index).is_none(),
            "id {:?} was used before",
            line.id
        );
        self.list.push(Film {
            id: line.id,
            year,
            pull,
            quality,
            traits,
        });
        Ok(())
    }

    fn trait_index(&mut self, named: Trait) -> usize {
        *self.by_trait.entry(named).or_insert_with_key(|named| {
            self.traits.push(named.clone());
            self.having.push(Vec::new());
            self.traits.len() - 1
        })
    }

    pub(super) fn kind(&self, of: usize) -> &str {
        &self.traits[of].0
    }
}

fn read_fame(path: &Path) -> anyhow::Result<BTreeMap<String, u8>> {
    let mut reader =
        csv::Reader::from_path(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut fame = BTreeMap::new();
    for row in reader.deserialize() {
        let row: Fame = row.with_context(|| path.display().to_string())?;
        ensure!(
            (1..=5).contains(&row.fame),
            "{}: {}: fame {} is not within 1 and 5",
            path.display(),
            row.item_id,
            row.fame
        );
        fame.insert(row.item_id, row.fame);
    }
    Ok(fame)
}

pub(super) const DAY_SECONDS: i64 = 86_400;

/// Days since 1 January 1970 of a day of the Gregorian calendar. Years are counted from March, so that the leap day is last.
pub(super) fn day_number(year: i64, month: i64, day: i64) -> i64 {
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day - 1 - 719_468
}

/// The year in which a Unix time lies.
pub(super) fn year_of(at: i64) -> i64 {
    let day = at.div_euclid(DAY_SECONDS);
    // 365.2425 days a year guess the year within one.
    let guess = 1970 + day * 400 / 146_097;
    (guess - 1..=guess + 1)
        .rev()
        .find(|&y| day_number(y, 1, 1) <= day)
        .unwrap_or(guess - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_years_follow_the_calendar() {
        for (y, m, d, number) in [
            (1970, 1, 1, 0),
            (2000, 2, 29, 11_016),
            (2020, 1, 1, 18_262),
            (2026, 6, 30, 20_634),
        ] {
            assert_eq!(day_number(y, m, d), number);
            assert_eq!(year_of(number * DAY_SECONDS), y);
            assert_eq!(year_of((number + 1) * DAY_SECONDS - 1), y);
        }
        for year in 1900..2100 {
            assert_eq!(year_of(day_number(year, 1, 1) * DAY_SECONDS), year);
            assert_eq!(year_of(day_number(year, 12, 31) * DAY_SECONDS), year);
        }
    }
}
