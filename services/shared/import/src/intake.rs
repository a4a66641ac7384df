//! Where every format's rows meet: checks, counts, keeps the newest of each pair, and writes the data set.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::growing::Growing;
use crate::report::Report;
use crate::splits::{self, Splits};

/// The limits of the data set format.
pub(crate) const ID_BYTES_MAX: usize = 128;
const TITLE_CHARS_MAX: usize = 300;
const DESCRIPTION_CHARS_MAX: usize = 4_000;
const VALUE_CHARS_MAX: usize = 300;
const VALUES_MAX: usize = 12;
/// The last second of the year 9999: what lies beyond is not in seconds.
const TIMESTAMP_MAX: u64 = 253_402_300_799;

/// How strict an import is and what it keeps. Doc comments are the manual.
#[derive(Clone, Debug)]
pub struct Options {
    /// Fail when more than this share (0 to 1) of the item lines or of the interaction rows is bad. Default 0.01.
    pub bad_rows_max: f64,
    /// Users with fewer interactions are left out. Default 1; the published recipe has 10 for films and 15 for Yelp.
    pub user_interactions_min: usize,
    pub splits: splits::Config,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bad_rows_max: 0.01,
            user_interactions_min: 1,
            splits: splits::Config::default(),
        }
    }
}

/// The rating scale and what its values say about taste.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Scale {
    pub(crate) min: f32,
    pub(crate) max: f32,
    pub(crate) liked_at: f32,
    pub(crate) disliked_at: f32,
}

/// What `dataset.toml` says.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct About {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) licence: String,
    pub(crate) synthetic: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rating: Option<Scale>,
}

/// One interaction as a format gives it.
#[derive(Debug)]
pub(crate) struct Act {
    pub(crate) user: String,
    pub(crate) item: String,
    pub(crate) rating: Option<f64>,
    /// Seconds since 1970.
    pub(crate) at: i64,
}

/// One item as a format gives it.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Thing {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) attributes: std::collections::BTreeMap<String, Vec<String>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) description: String,
}

struct Row {
    user: u32,
    item: u32,
    rating: Option<f32>,
    at: i64,
    line: u64,
}

#[derive(Default)]
struct Names {
    ids: Vec<String>,
    index: HashMap<String, u32>,
}

impl Names {
    fn meet(&mut self, id: String) -> u32 {
        if let Some(&known) = self.index.get(&id) {
            return known;
        }
        let new = self.ids.len() as u32;
        self.ids.push(id.clone());
        self.index.insert(id, new);
        new
    }
}

/// Collects an import; interactions come first, then the items.
pub(crate) struct Intake {
    pub(crate) report: Report,
    acts_file: PathBuf,
    items_file: PathBuf,
    scale: Option<Scale>,
    /// Formats with catalogues far larger than what is rated leave the rest out.
    keep_unrated: bool,
    users: Names,
    items: Names,
    rows: Vec<Row>,
    /// Lines of `items.jsonl` in the order of the source.
    things: Vec<(u32, String)>,
    known: HashMap<u32, ()>,
}

impl Intake {
    pub(crate) fn new(acts_file: &Path, items_file: &Path, scale: Option<Scale>, keep_unrated: bool) -> Self {
        Self {
            report: Report::default(),
            acts_file: acts_file.to_owned(),
            items_file: items_file.to_owned(),
            scale,
            keep_unrated,
            users: Names::default(),
            items: Names::default(),
            rows: Vec::new(),
            things: Vec::new(),
            known: HashMap::new(),
        }
    }

    pub(crate) fn act(&mut self, line: u64, act: Result<Act, String>) {
        self.report.interactions.read += 1;
        let checked = act.and_then(|act| self.check_act(act));
        match checked {
            Ok((act, rating)) => {
                let (user, item) = (self.users.meet(act.user), self.items.meet(act.item));
                self.rows.push(Row {
                    user,
                    item,
                    rating,
                    at: act.at,
                    line,
                });
            }
            Err(reason) => {
                let file = &self.acts_file;
                self.report
                    .bad_rows
                    .add(|| format!("{}:{line}: {reason}", file.display()));
            }
        }
    }

    fn check_act(&self, act: Act) -> Result<(Act, Option<f32>), String> {
        check_id("user", &act.user)?;
        check_id("item", &act.item)?;
        // Compared as they are kept: the f64 of 0.1 lies below the f32 of a scale that begins with 0.1.
        let rating = match (act.rating.map(|value| (value, value as f32)), &self.scale) {
            (None, _) => None,
            (Some((value, kept)), _) if !kept.is_finite() => {
                return Err(format!("rating: {value} is no number"));
            }
            (Some((value, kept)), Some(s)) if !(s.min..=s.max).contains(&kept) => {
                return Err(format!("rating: {value} is not within {} and {}", s.min, s.max));
            }
            (Some((_, kept)), _) => Some(kept),
        };
        if act.at.unsigned_abs() > TIMESTAMP_MAX {
            return Err(format!(
                "time: {} is beyond the year 9999: seconds are expected",
                act.at
            ));
        }
        Ok((act, rating))
    }

    pub(crate) fn thing(&mut self, line: u64, thing: Result<Thing, String>) -> Result<()> {
        self.report.items.read += 1;
        let place = format!("{}:{line}", self.items_file.display());
        let thing = match thing.and_then(|thing| self.tidy(thing, &place)) {
            Ok(thing) => thing,
            Err(reason) => {
                self.report.bad_items.add(|| format!("{place}: {reason}"));
                return Ok(());
            }
        };
        if !self.keep_unrated && !self.items.index.contains_key(&thing.id) {
            self.report
                .unrated_items
                .add(|| format!("{place}: {:?}", thing.id));
            return Ok(());
        }
        let item = self.items.meet(thing.id.clone());
        if self.known.insert(item, ()).is_some() {
            self.report
                .repeated_items
                .add(|| format!("{place}: id: {:?} was used before", thing.id));
            return Ok(());
        }
        let text = serde_json::to_string(&thing)
            .map_err(|e| Error::write(&self.items_file)(std::io::Error::other(e)))?;
        self.things.push((item, text));
        Ok(())
    }

    /// Blanks and control characters put in order, what is too long cut or left out; everything said.
    fn tidy(&mut self, mut thing: Thing, place: &str) -> Result<Thing, String> {
        check_id("id", &thing.id)?;
        thing.title = flat(&thing.title);
        match thing.title.chars().count() {
            0 => return Err("title: is empty".to_owned()),
            long if long > TITLE_CHARS_MAX => {
                return Err(format!(
                    "title: is {long} characters long, at most {TITLE_CHARS_MAX} are allowed"
                ));
            }
            _ => {}
        }
        let report = &mut self.report;
        let mut attributes = std::collections::BTreeMap::new();
        for (name, values) in std::mem::take(&mut thing.attributes) {
            let mut kept: Vec<String> = Vec::new();
            for value in values {
                let value = flat(&value);
                let long = value.chars().count() > VALUE_CHARS_MAX;
                if value.is_empty() || kept.contains(&value) {
                    continue;
                }
                if long || kept.len() == VALUES_MAX {
                    report.dropped_values.add(|| {
                        let shown: String = value.chars().take(60).collect();
                        format!("{place}: {name}: {shown:?}")
                    });
                } else {
                    kept.push(value);
                }
            }
            if !kept.is_empty() {
                attributes.insert(name, kept);
            }
        }
        thing.attributes = attributes;
        thing.description = flat(&thing.description);
        if let Some((end, _)) = thing.description.char_indices().nth(DESCRIPTION_CHARS_MAX) {
            report
                .changed_values
                .add(|| format!("{place}: description: cut after {DESCRIPTION_CHARS_MAX} characters"));
            thing.description.truncate(end);
        }
        Ok(thing)
    }

    /// Judges the whole, and writes it.
    pub(crate) fn finish(mut self, about: About, options: &Options, out: &Path) -> Result<Report> {
        self.drop_rows(options);
        self.check_shares(options.bad_rows_max)?;
        if self.rows.is_empty() {
            return Err(Error::Nothing { file: self.acts_file });
        }
        let mut active = vec![false; self.users.ids.len()];
        let mut rated = vec![false; self.items.ids.len()];
        for row in &self.rows {
            active[row.user as usize] = true;
            rated[row.item as usize] = true;
        }
        let (keep, place) = (self.keep_unrated, self.items_file.display().to_string());
        let (report, ids) = (&mut self.report, &self.items.ids);
        self.things.retain(|(item, _)| {
            let wanted = keep || rated[*item as usize];
            if !wanted {
                report
                    .unrated_items
                    .add(|| format!("{place}: {:?}", ids[*item as usize]));
            }
            wanted
        });
        report.users = active.iter().filter(|a| **a).count();
        report.interactions.kept = self.rows.len();
        report.items.kept = self.things.len();
        let (splits, parts) = self.splits(&about, options)?;

        let growing = Growing::beside(out)?;
        growing.file("items.jsonl", |file| {
            self.things
                .iter()
                .try_for_each(|(_, line)| writeln!(file, "{line}"))
        })?;
        growing.file("interactions.csv", |file| {
            let mut writer = csv::Writer::from_writer(file);
            writer.write_record(["user_id", "item_id", "rating", "timestamp"])?;
            for row in &self.rows {
                let rating = row.rating.map(|r| r.to_string()).unwrap_or_default();
                writer.write_record([
                    &self.users.ids[row.user as usize],
                    &self.items.ids[row.item as usize],
                    &rating,
                    &row.at.to_string(),
                ])?;
            }
            writer.flush()
        })?;
        growing.file("splits.toml", |file| file.write_all(splits.to_toml().as_bytes()))?;
        growing.file("splits.csv", |file| splits::write_parts(&parts, file))?;
        let text = toml::to_string(&about).map_err(|e| Error::malformed(out, e.to_string()))?;
        growing.file("dataset.toml", |file| file.write_all(text.as_bytes()))?;
        growing.become_whole()?;
        Ok(self.report)
    }

    /// Unknown items, then repeated pairs, then users with too little.
    fn drop_rows(&mut self, options: &Options) {
        let (report, known, items) = (&mut self.report, &self.known, &self.items);
        let place = |line: u64| format!("{}:{line}", self.acts_file.display());
        self.rows.retain(|row| {
            let is = known.contains_key(&row.item);
            if !is {
                report.unknown_items.add(|| {
                    format!(
                        "{}: item {:?} is not among the items",
                        place(row.line),
                        items.ids[row.item as usize]
                    )
                });
            }
            is
        });
        let mut newest: HashMap<(u32, u32), (i64, u64)> = HashMap::with_capacity(self.rows.len());
        for row in &self.rows {
            // Of equal times the later line is the newer.
            let best = newest.entry((row.user, row.item)).or_insert((row.at, row.line));
            *best = (*best).max((row.at, row.line));
        }
        self.rows.retain(|row| {
            let (_, line) = newest[&(row.user, row.item)];
            if line != row.line {
                report
                    .repeated
                    .add(|| format!("{}: rated again in line {line}", place(row.line)));
            }
            line == row.line
        });
        let mut counts = vec![0usize; self.users.ids.len()];
        for row in &self.rows {
            counts[row.user as usize] += 1;
        }
        let min = options.user_interactions_min;
        self.rows.retain(|row| {
            let count = counts[row.user as usize];
            if count < min {
                report
                    .sparse_users
                    .add(|| format!("{}: a user with {count} of {min}", place(row.line)));
            }
            count >= min
        });
    }

    fn check_shares(&self, share_max: f64) -> Result<()> {
        if !(0.0..=1.0).contains(&share_max) {
            return Err(Error::Invalid {
                field: "--bad-rows-max",
                reason: format!("{share_max} is not within 0 and 1"),
            });
        }
        let r = &self.report;
        for (what, read, notes) in [
            ("item lines", r.items.read, &[&r.bad_items][..]),
            (
                "interaction rows",
                r.interactions.read,
                &[&r.bad_rows, &r.unknown_items],
            ),
        ] {
            let bad: usize = notes.iter().map(|n| n.count).sum();
            if bad as f64 > share_max * read as f64 {
                return Err(Error::too_many(what, read, bad, share_max, notes));
            }
        }
        Ok(())
    }

    fn splits(&mut self, about: &About, options: &Options) -> Result<(Splits, Vec<(String, splits::Part)>)> {
        let splits = Splits::at(self.rows.iter().map(|row| row.at), &options.splits)?;
        let mut targets: HashMap<u32, splits::Targets> = HashMap::new();
        for row in &self.rows {
            let liked = match (&about.rating, row.rating) {
                (None, _) => true,
                (Some(scale), rating) => rating.is_some_and(|r| r >= scale.liked_at),
            };
            let entry = targets.entry(row.user).or_default();
            if liked {
                splits.note(row.at, entry);
            }
        }
        let mut parts: Vec<(String, splits::Part)> = targets
            .into_iter()
            .map(|(user, targets)| {
                let id = &self.users.ids[user as usize];
                (id.clone(), splits.part(id, targets))
            })
            .collect();
        parts.sort();
        for (_, part) in &parts {
            match part {
                splits::Part::Train => self.report.train_users += 1,
                splits::Part::Dev => self.report.dev_users += 1,
                splits::Part::Test => self.report.test_users += 1,
            }
        }
        Ok((splits, parts))
    }
}

/// One line, one blank between words, no control characters.
pub(crate) fn flat(text: &str) -> String {
    let plain: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn check_id(field: &str, id: &str) -> Result<(), String> {
    match id {
        "" => Err(format!("{field}: is empty")),
        id if id.len() > ID_BYTES_MAX => Err(format!(
            "{field}: is {} bytes long, at most {ID_BYTES_MAX} are allowed",
            id.len()
        )),
        id if id.chars().any(char::is_control) => Err(format!("{field}: holds a control character")),
        _ => Ok(()),
    }
}
