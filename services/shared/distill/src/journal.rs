//! The label file as the state of a run: one line for each label, written at once, so that kill -9 loses only what is unanswered.
//!
//! ```text
//! OUT                  labels, one JSON object a line
//! OUT.rejected.jsonl   pairs whose candidates were all refused: not asked again
//! OUT.run.json         which teacher, prompt, settings, data, shard; another run does not mix into it
//! ```

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Seek, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::label::{Label, Rejection};

/// What a run is; equal runs may go on in each other's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub teacher: String,
    pub teacher_revision: String,
    pub prompt: String,
    pub settings: String,
    pub candidates: usize,
    /// Digest of the data set, its splits and the drawing of pairs.
    pub data: String,
    pub shard: String,
}

/// Lines between two calls of fsync: a crash of the machine (not of the process) loses at most these.
const LINES_UNSYNCED_MAX: usize = 64;

/// The two files, open for appending, and the ids that stand in them.
#[derive(Debug)]
pub struct Journal {
    labels: Appending,
    rejected: Appending,
    done: HashSet<String>,
    labelled: usize,
}

#[derive(Debug)]
struct Appending {
    path: PathBuf,
    file: File,
    unsynced: usize,
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

impl Journal {
    /// Opens or begins the journal at `path`: cuts a torn last line, reads what is done, and refuses to mix two runs or two
    /// processes. A file that no run has begun is left as it is.
    pub fn open(path: &Path, header: &Header) -> Result<Self, Error> {
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(Error::write(parent))?;
        }
        let mut labels = Appending::open(path)?;
        match labels.file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(Error::Busy {
                    path: path.to_owned(),
                });
            }
            Err(std::fs::TryLockError::Error(e)) => return Err(Error::write(path)(e)),
        }
        check_header(path, header)?;
        let mut rejected = Appending::open(&beside(path, "rejected.jsonl"))?;
        let mut done = labels.ids()?;
        let labelled = done.len();
        done.extend(rejected.ids()?);
        Ok(Self {
            labels,
            rejected,
            done,
            labelled,
        })
    }

    pub fn is_done(&self, id: &str) -> bool {
        self.done.contains(id)
    }

    /// Labels that stood in the file when it was opened.
    pub fn labelled(&self) -> usize {
        self.labelled
    }

    pub fn done(&self) -> usize {
        self.done.len()
    }

    pub(crate) fn label(&mut self, label: &Label) -> Result<(), Error> {
        self.labels.append(label)?;
        self.done.insert(label.id.clone());
        Ok(())
    }

    pub(crate) fn reject(&mut self, rejection: &Rejection) -> Result<(), Error> {
        self.rejected.append(rejection)?;
        self.done.insert(rejection.id.clone());
        Ok(())
    }

    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        self.labels.sync()?;
        self.rejected.sync()
    }
}

impl Appending {
    fn open(path: &Path) -> Result<Self, Error> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .map_err(Error::write(path))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            unsynced: 0,
        })
    }

    /// The ids of all whole lines. What follows the last line break is a line that a killed process had not finished: its pair
    /// is not done, so it goes.
    fn ids(&mut self) -> Result<HashSet<String>, Error> {
        let mut ids = HashSet::new();
        self.file
            .seek(SeekFrom::Start(0))
            .map_err(Error::read(&self.path))?;
        let (mut whole, mut number) = (0u64, 0);
        let mut line = Vec::new();
        let mut reader = BufReader::new(&self.file);
        loop {
            line.clear();
            let read = reader
                .by_ref()
                .read_until(b'\n', &mut line)
                .map_err(Error::read(&self.path))?;
            if read == 0 || !line.ends_with(b"\n") {
                break;
            }
            number += 1;
            whole += read as u64;
            if line.trim_ascii().is_empty() {
                continue;
            }
            let named: Named = serde_json::from_slice(&line).map_err(|e| Error::Malformed {
                path: self.path.clone(),
                line: number,
                reason: format!("no label ({e}); mend or remove the line"),
            })?;
            ids.insert(named.id);
        }
        self.file.set_len(whole).map_err(Error::write(&self.path))?;
        Ok(ids)
    }

    /// One write for the whole line: a killed process leaves all of it or a torn tail.
    fn append(&mut self, value: &impl Serialize) -> Result<(), Error> {
        let mut line =
            serde_json::to_vec(value).map_err(|e| Error::write(&self.path)(std::io::Error::other(e)))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(Error::write(&self.path))?;
        self.unsynced += 1;
        if self.unsynced >= LINES_UNSYNCED_MAX {
            self.sync()?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Error> {
        self.unsynced = 0;
        self.file.sync_data().map_err(Error::write(&self.path))
    }
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{end}"));
    path.with_file_name(name)
}

fn check_header(path: &Path, header: &Header) -> Result<(), Error> {
    let file = beside(path, "run.json");
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            for foreign in [path.to_owned(), beside(path, "rejected.jsonl")] {
                if std::fs::metadata(&foreign).is_ok_and(|found| found.len() > 0) {
                    return Err(Error::Foreign {
                        path: foreign,
                        lacks: file,
                    });
                }
            }
            let text = serde_json::to_string_pretty(header)
                .map_err(|e| Error::write(&file)(std::io::Error::other(e)))?;
            // On the disk before the first label: without it the labels are nobody's.
            return refract_durable::write(&file, text + "\n").map_err(Error::write(&file));
        }
        Err(e) => return Err(Error::read(&file)(e)),
    };
    let was: Header = serde_json::from_str(&text).map_err(|e| Error::Malformed {
        path: file.clone(),
        line: e.line(),
        reason: e.to_string(),
    })?;
    let number = |n: usize| n.to_string();
    for (what, was, is) in [
        ("teacher", &was.teacher, &header.teacher),
        (
            "teacher's revision",
            &was.teacher_revision,
            &header.teacher_revision,
        ),
        ("prompt", &was.prompt, &header.prompt),
        ("settings", &was.settings, &header.settings),
        (
            "number of candidates",
            &number(was.candidates),
            &number(header.candidates),
        ),
        ("data", &was.data, &header.data),
        ("shard", &was.shard, &header.shard),
    ] {
        if was != is {
            return Err(Error::OtherRun {
                path: path.to_owned(),
                what,
                was: was.clone(),
                is: is.clone(),
            });
        }
    }
    Ok(())
}
