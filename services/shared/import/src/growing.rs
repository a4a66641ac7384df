//! A directory that grows beside its goal and takes its name when it is whole; otherwise it goes away again.

use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind, IntoInnerError, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

pub(crate) struct Growing {
    path: PathBuf,
    goal: PathBuf,
    whole: bool,
}

impl Growing {
    /// Refuses a goal that exists, be it a dangling link.
    pub(crate) fn beside(goal: &Path) -> Result<Self> {
        vacant(goal)?;
        let name = goal.file_name().ok_or_else(|| Error::Invalid {
            field: "--out",
            reason: format!("{} does not name a directory", goal.display()),
        })?;
        let parent = goal
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(Error::write(parent))?;
        let path = parent.join(format!(
            ".{}.importing-{}",
            name.to_string_lossy(),
            std::process::id()
        ));
        fs::create_dir(&path).map_err(Error::write(&path))?;
        Ok(Self {
            path,
            goal: goal.to_owned(),
            whole: false,
        })
    }

    /// Writes one file, synced.
    pub(crate) fn file(
        &self,
        name: &str,
        fill: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
    ) -> Result<()> {
        let path = self.path.join(name);
        let attempt = || {
            let mut out = BufWriter::new(File::create_new(&path)?);
            fill(&mut out)?;
            out.flush()?;
            out.into_inner().map_err(IntoInnerError::into_error)?.sync_all()
        };
        attempt().map_err(Error::write(&path))
    }

    pub(crate) fn become_whole(mut self) -> Result<()> {
        // Renaming replaces an empty directory, so look again: somebody may have made one meanwhile.
        vacant(&self.goal)?;
        fs::rename(&self.path, &self.goal).map_err(Error::write(&self.goal))?;
        self.whole = true;
        Ok(())
    }
}

fn vacant(goal: &Path) -> Result<()> {
    match goal.symlink_metadata() {
        Ok(_) => Err(Error::Exists {
            path: goal.to_owned(),
        }),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::read(goal)(e)),
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        if !self.whole
            && let Err(e) = fs::remove_dir_all(&self.path)
        {
            eprintln!("cannot remove {}: {e}", self.path.display());
        }
    }
}
