//! Writing a data set, so that reading it gives the same one.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::json;

use super::Dataset;
use crate::error::{Error, Result};

pub(super) fn write(dataset: &Dataset, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(Error::write(dir))?;
    file(dir, "items.jsonl", |out| {
        for item in dataset.catalogue().items() {
            let line = json!({
                "id": item.id.as_str(),
                "title": item.title,
                "attributes": item.attributes,
                "description": item.description,
            });
            writeln!(out, "{line}")?;
        }
        Ok(())
    })?;
    file(dir, "interactions.csv", |out| {
        let mut rows = csv::Writer::from_writer(out);
        rows.write_record(super::read::COLUMNS)?;
        for (user, act) in dataset.interactions().iter() {
            let rating = act.rating().map(|r| r.to_string()).unwrap_or_default();
            let user = dataset.user_id(user).expose();
            let item = dataset.catalogue().item(act.item).id.as_str();
            rows.write_record([user, item, &rating, &act.at.to_string()])?;
        }
        rows.flush()
    })?;
    file(dir, "users.jsonl", |out| {
        for &user in &dataset.featured {
            let line = json!({"id": dataset.user_id(user).expose(), "about": dataset.about.get(&user)});
            writeln!(out, "{line}")?;
        }
        Ok(())
    })?;
    let manifest = toml::to_string(dataset.manifest()).map_err(std::io::Error::other);
    // The manifest last: a directory without it is not a data set, so an interrupted write is never taken for one.
    file(dir, "dataset.toml", |out| out.write_all(manifest?.as_bytes()))
}

/// Writes beside the final name and renames, so that a reader sees the old file or the new one, whole.
fn file(
    dir: &Path,
    name: &str,
    fill: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
) -> Result<()> {
    let (path, partial) = (dir.join(name), dir.join(format!("{name}.partial")));
    let attempt = || -> std::io::Result<()> {
        let mut out = BufWriter::new(File::create(&partial)?);
        fill(&mut out)?;
        out.into_inner()
            .map_err(std::io::IntoInnerError::into_error)?
            .sync_all()?;
        fs::rename(&partial, &path)
    };
    attempt().map_err(Error::write(&path))
}
