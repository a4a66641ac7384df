//! Where a training writes: looked at before hours of work, so that nothing is removed that is not ours.
//!
//! ```text
//! OUT            the bundle; a bundle that stands there is replaced by one that opens
//! OUT.old        the bundle that stood there, while the new one takes its place
//! OUT.training   corpus, tokenizer, checkpoints
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use refract_bundle::{MANIFEST_FILE, TOKENIZER_FILE};

/// What a training writes into its folder.
const OURS: [&str; 8] = [
    TOKENIZER_FILE,
    "asking",
    "best",
    "bundle",
    "corpus.jsonl",
    "last",
    "last.new",
    "last.old",
];

/// Gives a training's folder, empty unless it goes on with an earlier run.
pub(super) fn prepare(out: &Path, resume: bool) -> Result<PathBuf> {
    let old = check(out)?;
    refract_durable::put_back(out, &old).with_context(|| {
        format!(
            "putting {} back, which a killed run had moved aside",
            old.display()
        )
    })?;
    let working = sibling(out, "training")?;
    if !resume && working.exists() {
        for name in names(&working)? {
            ensure!(
                is_ours(&name),
                "{} holds {name}, which no training wrote: this folder is cleared when a training begins; move it elsewhere, or name \
                 another --out",
                working.display()
            );
        }
        fs::remove_dir_all(&working).with_context(|| format!("clearing {}", working.display()))?;
    }
    fs::create_dir_all(&working).with_context(|| format!("making {}", working.display()))?;
    Ok(working)
}

/// Also what a killed run had half written.
fn is_ours(name: &str) -> bool {
    let whole = name
        .strip_prefix('.')
        .and_then(|name| name.strip_suffix(".partial"))
        .unwrap_or(name);
    OURS.contains(&whole)
}

/// Refuses to replace what is no bundle; gives where the one that stands at `out` is moved aside.
pub(super) fn check(out: &Path) -> Result<PathBuf> {
    let old = sibling(out, "old")?;
    for dir in [out, &old] {
        ensure!(
            !dir.exists() || dir.join(MANIFEST_FILE).is_file() || names(dir)?.is_empty(),
            "{} is there and is no bundle (it has no {MANIFEST_FILE}): a training would remove it; move it elsewhere, or name another --out",
            dir.display()
        );
    }
    Ok(old)
}

/// `prism` → `prism.training`, beside it.
fn sibling(path: &Path, suffix: &str) -> Result<PathBuf> {
    let name = path.file_name().with_context(|| {
        format!(
            "{} has no name: --out DIR names the bundle's directory",
            path.display()
        )
    })?;
    let mut name = name.to_owned();
    name.push(format!(".{suffix}"));
    Ok(path.with_file_name(name))
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let reading = || format!("reading {}", dir.display());
    fs::read_dir(dir)
        .with_context(reading)?
        .map(|entry| {
            Ok(entry
                .with_context(reading)?
                .file_name()
                .to_string_lossy()
                .into_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_bundle_and_no_training_is_refused_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("prism");
        for name in ["prism", "prism.old", "prism.training"] {
            let (foreign, file) = (dir.path().join(name), dir.path().join(name).join("thesis.tex"));
            fs::create_dir_all(&foreign).unwrap();
            prepare(&out, false).unwrap();
            fs::create_dir_all(&foreign).unwrap();
            fs::write(&file, "years of work").unwrap();
            let error = prepare(&out, false).unwrap_err().to_string();
            assert!(
                error.contains(&format!("{name} ")) && error.contains("move it elsewhere"),
                "{error}"
            );
            assert_eq!(fs::read_to_string(&file).unwrap(), "years of work");
            fs::remove_dir_all(&foreign).unwrap();
        }
        let out = dir.path().join("a file");
        fs::write(&out, "of somebody").unwrap();
        assert!(prepare(&out, true).is_err());
    }

    #[test]
    fn a_training_begins_empty_or_goes_on_and_a_bundle_that_was_moved_aside_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("prism");
        let working = prepare(&out, false).unwrap();
        fs::create_dir_all(working.join("last")).unwrap();
        fs::write(working.join(TOKENIZER_FILE), "{}").unwrap();
        let old = dir.path().join("prism.old");
        fs::create_dir(&old).unwrap();
        fs::write(old.join(MANIFEST_FILE), "").unwrap();
        assert_eq!(prepare(&out, true).unwrap(), working);
        assert!(working.join("last").is_dir() && out.join(MANIFEST_FILE).is_file() && !old.exists());
        prepare(&out, false).unwrap();
        assert!(names(&working).unwrap().is_empty());
        assert!(prepare(Path::new("/"), false).is_err());
    }
}
