//! Where the shipped data and models are: named, beside the binary, or in the source tree.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::cli::DataArgs;

/// The shipped things: `data/`, `ranker/`, `oracle/`, `prism/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assets(PathBuf);

impl Assets {
    /// `--assets` or `REFRACT_ASSETS`; else `demo/` beside the binary; else `../share/refract/demo`, where an image has it;
    /// else the source tree that this binary was built from.
    pub(crate) fn find(named: Option<&Path>) -> Result<Self> {
        if let Some(named) = named {
            if !named.join("data").is_dir() {
                bail!(
                    "{} holds no data/ directory: --assets names the directory with data/, ranker/, oracle/ and prism/",
                    named.display()
                );
            }
            return Ok(Self(named.to_owned()));
        }
        let beside = std::env::current_exe()
            .ok()
            .and_then(|exe| exe.parent().map(Path::to_owned));
        let places = beside
            .iter()
            .flat_map(|dir| [dir.join("demo"), dir.join("../share/refract/demo")])
            .chain([Path::new(env!("CARGO_MANIFEST_DIR")).join("demo")]);
        for place in places {
            if place.join("data").is_dir() {
                return Ok(Self(place));
            }
        }
        bail!(
            "the shipped data and models are not here: name their directory with --assets DIR or REFRACT_ASSETS"
        )
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    pub(crate) fn ranker(&self) -> PathBuf {
        self.0.join("ranker")
    }

    pub(crate) fn oracle(&self) -> PathBuf {
        self.0.join("oracle")
    }

    pub(crate) fn prism(&self) -> PathBuf {
        self.0.join("prism")
    }
}

/// The data set to work on, and the ranker that belongs to it: a data set of one's own may carry its ranker in `ranker/`.
pub(crate) fn data_and_ranker(args: &DataArgs) -> Result<(PathBuf, Option<PathBuf>)> {
    let (data, ranker) = match &args.data {
        Some(data) => (data.clone(), data.join("ranker")),
        None => {
            let assets = Assets::find(args.assets.as_deref())?;
            (assets.data(), assets.ranker())
        }
    };
    Ok((data, ranker.is_dir().then_some(ranker)))
}
