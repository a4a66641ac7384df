//! Checkpoints: a whole new one is written beside the old, then they change places, so a run that is killed at any moment, be it
//! by a power cut, finds one of the two. Each says what its run is made of, and only a run of the same goes on with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::corpus::Example;
use crate::{digest, plot};

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

/// What a run is made of, each thing under the name that people know it by: all that decides what happens at a step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Origin(BTreeMap<String, String>);

impl Origin {
    pub(super) fn of<const N: usize>(things: [(&str, String); N]) -> Self {
        Self(things.map(|(name, value)| (name.to_owned(), value)).into())
    }

    /// Refuses to go on with the checkpoint `last`, of this origin, in a run of another.
    pub(super) fn expect(&self, now: &Self, last: &Path) -> Result<()> {
        if self == now {
            return Ok(());
        }
        let advice = "to begin anew, leave --resume out or name another --out";
        if self.0.is_empty() {
            bail!(
                "the checkpoint {} does not say of what run it is (an earlier version of this program wrote it): {advice}",
                last.display()
            );
        }
        let none = "nothing".to_owned();
        let names: std::collections::BTreeSet<&String> = self.0.keys().chain(now.0.keys()).collect();
        let others: Vec<String> = names
            .into_iter()
            .map(|name| {
                (
                    name,
                    self.0.get(name).unwrap_or(&none),
                    now.0.get(name).unwrap_or(&none),
                )
            })
            .filter(|(_, was, is)| was != is)
            .map(|(name, was, is)| format!("{name} was {was} and is {is}"))
            .collect();
        bail!(
            "the checkpoint {} is of another run: {}; to go on with it, give what it was begun with; {advice}",
            last.display(),
            others.join(", ")
        )
    }
}

/// Of examples as token ids: the labels or the corpus, the tokenizer and the prompt's template in one.
pub(super) fn digest_of<'a>(examples: impl Iterator<Item = &'a Example>) -> String {
    let bytes = |ids: &[u32]| -> Vec<u8> { ids.iter().flat_map(|id| id.to_le_bytes()).collect() };
    digest::of(examples.flat_map(|example| [bytes(&example.source), bytes(&example.target)]))
}

/// The last checkpoint of a run's folder, where there is one.
pub(super) fn last(folder: &Path) -> Result<Option<PathBuf>> {
    let (_, last, old) = places(folder);
    refract_durable::put_back(&last, &old)
        .with_context(|| format!("renaming {} to {}", old.display(), last.display()))?;
    Ok(last.is_dir().then_some(last))
}

/// Lets `write` fill a new checkpoint, and puts it in the place of the last.
pub(super) fn replace(folder: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let (new, last, old) = places(folder);
    if new.exists() {
        std::fs::remove_dir_all(&new).with_context(|| format!("removing {}", new.display()))?;
    }
    std::fs::create_dir_all(&new).with_context(|| format!("making {}", new.display()))?;
    write(&new)?;
    refract_durable::replace_dir(&new, &last, &old).with_context(|| format!("writing {}", last.display()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_of_another_run_is_refused_with_what_differs() {
        let of = |seed: &str, labels: &str| {
            Origin::of([("--seed", seed.to_owned()), ("labels", labels.to_owned())])
        };
        let last = Path::new("prism.training/last");
        of("42", "a").expect(&of("42", "a"), last).unwrap();
        let error = of("42", "a")
            .expect(&of("43", "a"), last)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("--seed was 42 and is 43; to go on with it"),
            "{error}"
        );
        assert!(!error.contains("labels"), "{error}");
        let error = Origin::default()
            .expect(&of("42", "a"), last)
            .unwrap_err()
            .to_string();
        assert!(error.contains("an earlier version"), "{error}");
        let error = of("42", "a").expect(&Origin::of([("--seed", "42".to_owned())]), last);
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("labels was a and is nothing")
        );
    }
}
