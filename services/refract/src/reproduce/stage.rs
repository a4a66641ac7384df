//! Stages: commands of this program, each run once, its lines of JSON kept.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

/// The stages of one directory.
#[derive(Debug)]
pub(super) struct Stages {
    dir: PathBuf,
    /// Digest of all stages so far: one that changes makes those after it anew.
    chain: String,
    done: Vec<String>,
    told: Vec<String>,
}

impl Stages {
    pub(super) fn open(out: &Path) -> Result<Self> {
        let dir = out.join("results");
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        Ok(Self {
            dir,
            chain: String::new(),
            done: Vec::new(),
            told: Vec::new(),
        })
    }

    /// Where a stage's lines lie.
    pub(super) fn results(&self, stage: &str) -> PathBuf {
        self.dir.join(format!("{stage}.jsonl"))
    }

    /// The commands, as one would type them.
    pub(super) fn told(&self) -> &[String] {
        &self.told
    }

    /// Runs this program with these words, unless it did so before; what it prints is the stage's result. `made_of` is a digest of
    /// what the words name: the same words on other data are another stage.
    pub(super) fn command(&mut self, stage: &str, words: Vec<String>, made_of: &str) -> Result<()> {
        self.run(stage, words, made_of, |_| None)
    }

    /// As [`Self::command`], a training: where it was stopped, it goes on; what another run has begun in its place is begun anew.
    pub(super) fn training(&mut self, stage: &str, words: Vec<String>, made_of: &str) -> Result<()> {
        self.run(stage, words, made_of, |again| again.then_some("--resume"))
    }

    fn run(
        &mut self,
        stage: &str,
        words: Vec<String>,
        made_of: &str,
        more: impl FnOnce(bool) -> Option<&'static str>,
    ) -> Result<()> {
        self.told.push(format!("refract {}", words.join(" ")));
        let key = format!("{}\u{1f}{made_of}", words.join("\u{1f}"));
        let program = std::env::current_exe().context("finding this program")?;
        self.made(stage, &key, |partial, again| {
            let file = std::fs::File::create(partial).with_context(|| format!("writing {}", partial.display()))?;
            let status = Command::new(&program)
                .args(words.iter().map(String::as_str).chain(more(again)))
                .stdin(Stdio::null())
                .stdout(file)
                .status()
                .with_context(|| format!("starting the stage {stage}"))?;
            if !status.success() {
                bail!(
                    "the stage {stage} failed ({status}); mend what it says above and run the same command again: what is done is kept"
                );
            }
            Ok(())
        })
    }

    /// Makes a stage's result by `make`, unless it was made with this key before. `make` writes to the path it is given, and is told
    /// whether it was begun with this key before, and with no other since.
    pub(super) fn made(
        &mut self,
        stage: &str,
        key: &str,
        make: impl FnOnce(&Path, bool) -> Result<()>,
    ) -> Result<()> {
        let mut hash = Sha256::new();
        hash.update(self.chain.as_bytes());
        hash.update(key.as_bytes());
        self.chain = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let (results, mark) = (self.results(stage), self.dir.join(format!("{stage}.key")));
        let begun = self.dir.join(format!("{stage}.begun"));
        let is_ours = |mark: &Path| std::fs::read_to_string(mark).is_ok_and(|key| key == self.chain);
        if is_ours(&mark) && results.is_file() {
            eprintln!("==> {stage}: done before");
        } else {
            eprintln!("==> {stage}");
            let again = is_ours(&begun);
            // Whatever comes of it, what this stage leaves is no longer what the mark says.
            if mark.exists() {
                std::fs::remove_file(&mark).with_context(|| format!("removing {}", mark.display()))?;
            }
            std::fs::write(&begun, &self.chain).with_context(|| format!("writing {}", begun.display()))?;
            let partial = self.dir.join(format!("{stage}.partial"));
            std::fs::write(&partial, "").with_context(|| format!("writing {}", partial.display()))?;
            make(&partial, again)?;
            std::fs::rename(&partial, &results)
                .and_then(|()| std::fs::write(&mark, &self.chain))
                .with_context(|| format!("writing {}", results.display()))?;
        }
        self.done.push(stage.to_owned());
        Ok(())
    }

    /// A row of a stage, by its name.
    pub(super) fn row(&self, stage: &str, name: &str) -> Result<Option<serde_json::Value>> {
        for line in self.lines(stage)? {
            let value: serde_json::Value = serde_json::from_str(&line)?;
            if value["name"] == name {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    fn lines(&self, stage: &str) -> Result<Vec<String>> {
        let file = self.results(stage);
        let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Every row of results, with the stage that it is of; the summary last.
    pub(super) fn rows(&self) -> Result<Vec<String>> {
        let mut rows = Vec::new();
        for stage in self.done.iter().map(String::as_str).chain(["summary"]) {
            for line in self.lines(stage)? {
                let mut value: serde_json::Value = serde_json::from_str(&line)?;
                if value.get("value").is_some() {
                    value["stage"] = stage.into();
                    rows.push(value.to_string());
                }
            }
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_made_once_and_again_when_one_before_it_changed_or_failed() {
        let dir = tempfile::tempdir().unwrap();
        let run = |first: &str, fails: bool| {
            let mut made = Vec::new();
            let mut stages = Stages::open(dir.path()).unwrap();
            for (stage, key) in [("one", first), ("two", "b")] {
                let done = stages.made(stage, key, |partial, _| {
                    made.push(stage);
                    std::fs::write(partial, "{\"name\":\"n\",\"value\":1}\n")?;
                    if fails && stage == "two" {
                        bail!("no");
                    }
                    Ok(())
                });
                if done.is_err() {
                    break;
                }
            }
            made
        };
        assert_eq!(run("a", true), ["one", "two"]);
        assert_eq!(run("a", false), ["two"]);
        assert!(run("a", false).is_empty());
        assert_eq!(run("c", false), ["one", "two"]);
        let mut stages = Stages::open(dir.path()).unwrap();
        stages.made("one", "c", |_, _| bail!("done before")).unwrap();
        assert_eq!(stages.row("one", "n").unwrap().unwrap()["value"], 1);
        assert!(stages.row("one", "m").unwrap().is_none());
    }

    #[test]
    fn a_stage_goes_on_only_with_what_the_same_key_has_begun() {
        let dir = tempfile::tempdir().unwrap();
        let run = |key: &str, fails: bool| {
            let mut told = None;
            let mut stages = Stages::open(dir.path()).unwrap();
            let done = stages.made("train", key, |_, again| {
                told = Some(again);
                if fails { bail!("killed") } else { Ok(()) }
            });
            assert_eq!(done.is_err(), fails);
            told
        };
        assert_eq!(run("a", true), Some(false));
        assert_eq!(run("a", true), Some(true));
        // Of another run, which may have written over it.
        assert_eq!(run("b", true), Some(false));
        assert_eq!(run("a", false), Some(false));
        assert_eq!(run("a", false), None);
        // Begun by another and not ended: what "a" had made is no longer there.
        assert_eq!(run("b", true), Some(false));
        assert_eq!(run("a", false), Some(false));
    }
}
