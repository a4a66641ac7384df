//! Files and directories that change places whole, and are on the disk before what they replace is gone.
//!
//! A rename alone survives a killed process. A power cut may keep the new name and lose what it names: the bytes must be on the
//! disk before the rename, and the rename before the old copy is removed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Lets `fill` write a file beside `file` and puts it in its place: whoever reads finds the old one or the new one, whole.
pub fn replace(file: &Path, fill: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let mut name = std::ffi::OsString::from(".");
    name.push(file.file_name().ok_or(io::ErrorKind::InvalidFilename)?);
    name.push(".partial");
    let partial = file.with_file_name(name);
    let made = fill(&partial)
        .and_then(|()| File::open(&partial)?.sync_all())
        .and_then(|()| rename(&partial, file));
    if made.is_err() {
        // What is half made is of no use; that it may stay behind is no second error.
        let _gone = fs::remove_file(&partial);
    }
    made
}

/// Puts these bytes in the place of `file`, as [`replace`] does.
pub fn write(file: &Path, bytes: impl AsRef<[u8]>) -> io::Result<()> {
    replace(file, |partial| fs::write(partial, bytes))
}

/// Puts the directory `new` in the place of `place`. What stood there is called `old` until the new one stands, then it is removed;
/// a directory `old` of an earlier time is removed, too. [`put_back`] mends what a kill between the two renames leaves.
pub fn replace_dir(new: &Path, place: &Path, old: &Path) -> io::Result<()> {
    sync_all(new)?;
    if place.exists() {
        remove_dir(old)?;
        fs::rename(place, old)?;
    }
    rename(new, place)?;
    remove_dir(old)
}

/// Gives `place` back what [`replace_dir`] had moved to `old` when it was killed.
pub fn put_back(place: &Path, old: &Path) -> io::Result<()> {
    if !place.exists() && old.exists() {
        rename(old, place)?;
    }
    Ok(())
}

/// Renames, and waits until the new name is on the disk. What `from` holds must be there already.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_names(&parent(to))
}

/// Waits until everything below `dir` is on the disk.
pub fn sync_all(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_all(&path)?;
        } else {
            File::open(&path)?.sync_all()?;
        }
    }
    sync_names(dir)
}

fn remove_dir(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// A directory's own content: which names it has. Some network and FUSE file systems cannot write names down when asked, and
/// a directory may be written but not opened by whoever asks: then they are left to the system.
#[cfg(unix)]
fn sync_names(dir: &Path) -> io::Result<()> {
    let synced = File::open(dir).and_then(|opened| opened.sync_all());
    match synced.as_ref().map_err(io::Error::kind) {
        Err(io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied) => {
            Ok(())
        }
        _ => synced,
    }
}

/// Elsewhere a directory cannot be opened; its names are left to the system.
#[cfg(not(unix))]
fn sync_names(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_that_cannot_be_filled_leaves_the_old_one_and_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("model");
        write(&file, "old").unwrap();
        let failed = replace(&file, |partial| {
            fs::write(partial, "half")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read_to_string(&file).unwrap(), "old");
        assert_eq!(names(dir.path()), ["model"]);
        write(&file, "new").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(names(dir.path()), ["model"]);
    }

    #[test]
    fn a_directory_takes_the_place_of_another_and_one_that_was_moved_aside_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let [new, place, old] = ["new", "place", "old"].map(|name| dir.path().join(name));
        for (path, text) in [(&place, "first"), (&old, "left by a kill"), (&new, "second")] {
            fs::create_dir_all(path.join("deep")).unwrap();
            fs::write(path.join("deep/file"), text).unwrap();
        }
        replace_dir(&new, &place, &old).unwrap();
        assert_eq!(names(dir.path()), ["place"]);
        assert_eq!(fs::read_to_string(place.join("deep/file")).unwrap(), "second");

        fs::rename(&place, &old).unwrap();
        put_back(&place, &old).unwrap();
        assert_eq!(names(dir.path()), ["place"]);
        put_back(&place, &old).unwrap();
        assert_eq!(names(dir.path()), ["place"]);
    }

    #[test]
    fn the_last_copy_is_never_removed_before_the_new_one_stands() {
        let dir = tempfile::tempdir().unwrap();
        let [new, place, old] = ["new", "place", "old"].map(|name| dir.path().join(name));
        // All that is left after a kill is the old one, and the new one does not come to be.
        fs::create_dir(&old).unwrap();
        assert!(replace_dir(&new, &place, &old).is_err());
        assert!(old.is_dir());
    }
}
