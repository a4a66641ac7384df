//! Checkpoints: a whole new one is written beside the old, then they change places, so a run that is killed at any moment
//! finds one of the two.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::plot;

/// One look at the dev loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Check {
    pub(crate) step: usize,
    /// Mean training loss since the check before.
    #[serde(with = "exact")]
    pub(crate) train: f64,
    #[serde(with = "exact")]
    pub(crate) dev: f64,
}

/// Numbers by their bits: decimals are read back almost, and "almost" decides otherwise which loss is the lowest.
pub(super) mod exact {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(value.to_bits())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        u64::deserialize(from).map(f64::from_bits)
    }
}

/// The last checkpoint of a run's folder, where there is one.
pub(super) fn last(folder: &Path) -> Result<Option<PathBuf>> {
    let (_, last, old) = places(folder);
    // After a kill between the two renames there is an old checkpoint and no last one.
    if !last.exists() && old.exists() {
        rename(&old, &last)?;
    }
    Ok(last.is_dir().then_some(last))
}

/// Lets `write` fill a new checkpoint, and puts it in the place of the last.
pub(super) fn replace(folder: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let (new, last, old) = places(folder);
    remove(&new)?;
    std::fs::create_dir_all(&new).with_context(|| format!("making {}", new.display()))?;
    write(&new)?;
    remove(&old)?;
    if last.exists() {
        rename(&last, &old)?;
    }
    rename(&new, &last)?;
    remove(&old)
}

pub(super) fn save_state(dir: &Path, state: &impl Serialize) -> Result<()> {
    let file = dir.join("state.json");
    std::fs::write(&file, serde_json::to_vec(state)?).with_context(|| format!("writing {}", file.display()))
}

pub(super) fn load_state<S: serde::de::DeserializeOwned>(dir: &Path) -> Result<S> {
    let file = dir.join("state.json");
    let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no checkpoint", file.display()))
}

/// The curve of a run's loss, as it goes along with its bundle.
pub(super) fn curve(checks: &[Check]) -> String {
    let series = |name: &str, of: fn(&Check) -> f64| plot::Series {
        name: name.to_owned(),
        points: checks.iter().map(|c| (c.step as f64, of(c))).collect(),
    };
    let curves = [
        series("training (as it learns: smoothed, with dropout)", |c| c.train),
        series("dev", |c| c.dev),
    ];
    plot::lines("Loss per token", "optimiser step", &curves)
}

fn places(folder: &Path) -> (PathBuf, PathBuf, PathBuf) {
    (
        folder.join("last.new"),
        folder.join("last"),
        folder.join("last.old"),
    )
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).with_context(|| format!("renaming {} to {}", from.display(), to.display()))
}

fn remove(dir: &Path) -> Result<()> {
    if dir.exists() {
        std::fs::remove_dir_all(dir).with_context(|| format!("removing {}", dir.display()))?;
    }
    Ok(())
}
