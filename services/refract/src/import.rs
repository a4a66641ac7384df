//! `refract import films`: brings film ratings with metadata into Refract's data set format.
//!
//! Reads a directory with
//!
//! ```text
//! items.jsonl        {"id","title","attributes":{year, genre, cast, director},"description","article"}
//! interactions.csv   user_id,item_id,rating,timestamp     ratings 0 to 10, Unix seconds
//! LICENSE*, README*  whose data they are
//! ```
//!
//! and writes `dataset.toml`, `items.jsonl`, `interactions.csv` and copies of the licence files. Nothing is dropped in
//! silence: the [`Report`] counts every line left out or changed and shows the first few of each sort. Nothing is half
//! written: the result grows in a directory beside the goal and is renamed when it is whole.

mod interactions;
mod items;
mod licence;

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use refract_import::{Count, Notes};
use serde::Serialize;

/// The rating scale of the data, and what its values say about taste.
const SCALE: Scale = Scale {
    min: 0.0,
    max: 10.0,
    liked_at: 7.0,
    disliked_at: 4.0,
};

#[derive(Clone, Copy, Debug, Serialize)]
struct Scale {
    min: f32,
    max: f32,
    liked_at: f32,
    disliked_at: f32,
}

#[derive(Serialize)]
struct Manifest<'a> {
    name: &'a str,
    description: &'a str,
    licence: &'a str,
    synthetic: bool,
    rating: Scale,
}

/// What was read, kept, changed and left out.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) items: Count,
    pub(crate) interactions: Count,
    pub(crate) users: usize,
    /// Ratings of a film that the same user rated again later: the newest is kept.
    pub(crate) repeated: Notes,
    /// Rows whose film is not among the items.
    pub(crate) unknown_items: Notes,
    /// Every other row that could not be used.
    pub(crate) bad_rows: Notes,
    pub(crate) bad_items: Notes,
    /// Values in lists of names that are no names ("voices of"), genres that are none ("live action").
    pub(crate) dropped_values: Notes,
    /// Names of a cast after the leads, and values after the first dozen of any other attribute.
    pub(crate) surplus_values: Notes,
    /// Values put in another form: a genre renamed, "(actor)" cut from a name, a long description cut.
    pub(crate) changed_values: Notes,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "items         {:>9} read {:>9} kept",
            self.items.read, self.items.kept
        )?;
        writeln!(
            f,
            "interactions  {:>9} read {:>9} kept, of {} users",
            self.interactions.read, self.interactions.kept, self.users
        )?;
        for (what, notes) in [
            ("item lines left out", &self.bad_items),
            ("rows left out", &self.bad_rows),
            ("rows left out, their item is unknown", &self.unknown_items),
            ("rows left out, rated again later", &self.repeated),
            ("values left out", &self.dropped_values),
            ("values left out, their list is long enough", &self.surplus_values),
            ("values changed", &self.changed_values),
        ] {
            notes.write(f, what)?;
        }
        Ok(())
    }
}

/// Imports `from` into the new directory `out`. Fails, leaving nothing behind, if more than the share `bad_rows_max` (0 to 1)
/// of the item lines or of the rating rows is bad, rows of unknown items included.
pub(crate) fn run(from: &Path, out: &Path, bad_rows_max: f64) -> anyhow::Result<Report> {
    ensure!(
        (0.0..=1.0).contains(&bad_rows_max),
        "--bad-rows-max {bad_rows_max} is not within 0 and 1"
    );
    ensure!(from.is_dir(), "{} is not a directory", from.display());
    ensure!(!occupied(out)?, "{} exists; name a new directory", out.display());
    let growing = Growing::beside(out)?;
    let mut report = Report::default();

    let (path, mut target) = (from.join("items.jsonl"), growing.file("items.jsonl")?);
    let known = items::convert(&path, &mut target, &mut report)?;
    finish(target)?;
    share("item lines", &report.items, &[&report.bad_items], bad_rows_max)?;

    let (path, mut target) = (from.join("interactions.csv"), growing.file("interactions.csv")?);
    interactions::convert(&path, &known, &mut target, &mut report)?;
    finish(target)?;
    share(
        "rating rows",
        &report.interactions,
        &[&report.bad_rows, &report.unknown_items],
        bad_rows_max,
    )?;
    ensure!(
        report.interactions.kept > 0,
        "{} holds no rating that can be used",
        path.display()
    );

    let licence = licence::gather(from, &growing.path)?;
    let name = from
        .canonicalize()
        .ok()
        .and_then(|p| Some(p.file_name()?.to_string_lossy().into_owned()));
    let description = format!(
        "Film ratings and metadata: {} ratings of {} films by {} users",
        report.interactions.kept, report.items.kept, report.users
    );
    let name = name.unwrap_or_else(|| "films".to_owned());
    let manifest = Manifest {
        name: &name,
        description: &description,
        licence: &licence,
        synthetic: false,
        rating: SCALE,
    };
    let mut target = growing.file("dataset.toml")?;
    target.write_all(toml::to_string(&manifest)?.as_bytes())?;
    finish(target)?;

    growing.become_whole(out)?;
    Ok(report)
}

/// Whether something stands at `path`, be it a dangling link.
fn occupied(path: &Path) -> anyhow::Result<bool> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e).with_context(|| format!("cannot look at {}", path.display())),
    }
}

fn share(what: &str, count: &Count, bad: &[&Notes], share_max: f64) -> anyhow::Result<()> {
    let sum: usize = bad.iter().map(|notes| notes.count).sum();
    if sum as f64 > share_max * count.read as f64 {
        let first: Vec<&str> = bad
            .iter()
            .flat_map(|notes| &notes.examples)
            .map(String::as_str)
            .collect();
        bail!(
            "{sum} of {} {what} are bad, more than the share {share_max} of --bad-rows-max; nothing was written. The first:\n  {}",
            count.read,
            first.join("\n  ")
        );
    }
    Ok(())
}

type Target = std::io::BufWriter<std::fs::File>;

fn finish(target: Target) -> anyhow::Result<()> {
    target
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)?
        .sync_all()
        .context("cannot write")
}

/// A directory beside the goal that is removed again unless it becomes whole.
struct Growing {
    path: PathBuf,
    whole: bool,
}

impl Growing {
    fn beside(out: &Path) -> anyhow::Result<Self> {
        let name = out
            .file_name()
            .with_context(|| format!("{} does not name a directory", out.display()))?;
        let parent = out
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        let path = parent.join(format!(
            ".{}.importing-{}",
            name.to_string_lossy(),
            std::process::id()
        ));
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path, whole: false })
    }

    fn file(&self, name: &str) -> anyhow::Result<Target> {
        let path = self.path.join(name);
        let file =
            std::fs::File::create_new(&path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(std::io::BufWriter::new(file))
    }

    fn become_whole(mut self, out: &Path) -> anyhow::Result<()> {
        // Renaming replaces an empty directory, so look again: somebody may have made one meanwhile.
        ensure!(!occupied(out)?, "{} exists; name a new directory", out.display());
        std::fs::rename(&self.path, out).with_context(|| format!("cannot write {}", out.display()))?;
        self.whole = true;
        Ok(())
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        if !self.whole
            && let Err(e) = std::fs::remove_dir_all(&self.path)
        {
            eprintln!("cannot remove {}: {e}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests;
