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

    /// Runs this program with these words, unless it did so before; what it prints is the stage's result.
    pub(super) fn command(&mut self, stage: &str, words: Vec<String>) -> Result<()> {
        self.told.push(format!("refract {}", words.join(" ")));
        let key = words.join("\u{1f}");
        let program = std::env::current_exe().context("finding this program")?;
        self.made(stage, &key, |partial| {
            let file = std::fs::File::create(partial).with_context(|| format!("writing {}", partial.display()))?;
            let status = Command::new(&program)
                .args(&words)
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

    /// Makes a stage's result by `make`, which writes to the path it is given, unless it was made with this key before.
    pub(super) fn made(
        &mut self,
        stage: &str,
        key: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        let mut hash = Sha256::new();
        hash.update(self.chain.as_bytes());
        hash.update(key.as_bytes());
        self.chain = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let (results, mark) = (self.results(stage), self.dir.join(format!("{stage}.key")));
        let before = std::fs::read_to_string(&mark).unwrap_or_default();
        if before == self.chain && results.is_file() {
            eprintln!("==> {stage}: done before");
        } else {
            eprintln!("==> {stage}");
            let partial = self.dir.join(format!("{stage}.partial"));
            std::fs::write(&partial, "").with_context(|| format!("writing {}", partial.display()))?;
            make(&partial)?;
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
                let done = stages.made(stage, key, |partial| {
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
        stages.made("one", "c", |_| bail!("done before")).unwrap();
        assert_eq!(stages.row("one", "n").unwrap().unwrap()["value"], 1);
        assert!(stages.row("one", "m").unwrap().is_none());
    }
}
