//! A ranker's model on disk: a directory of `ranker.toml` (what it is) and `ranker.safetensors` (the numbers).
//!
//! Loading is strict: every tensor of the schema with its type and shape, no other, finite numbers, indices in range,
//! and the SHA-256 that `ranker.toml` states.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use refract_domain::{ItemId, Revision};
use safetensors::tensor::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::likes::Sparse;
use crate::linear::Matrix;
use crate::model::{Hyper, Model};

const SCHEMA: u32 = 1;
const CARD: &str = "ranker.toml";
const TENSORS: &str = "ranker.safetensors";
/// The tensors of a card that is about to be written: they take the name above when it is.
const TENSORS_NEW: &str = "ranker.safetensors.new";
const NAMES: [&str; 8] = [
    "gram",
    "item_factors",
    "item_id_bytes",
    "item_id_ends",
    "item_popularity",
    "neighbour_ends",
    "neighbour_items",
    "neighbour_weights",
];

/// `ranker.toml`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Card {
    schema: u32,
    architecture: String,
    revision: String,
    blend: f32,
    data_name: String,
    data_digest: String,
    /// Of `ranker.safetensors`.
    sha256: String,
    hyper: Hyper,
}

impl Model {
    /// Writes the directory `dir`, made if absent.
    pub fn save(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir).map_err(Error::write(dir))?;
        let ids: Vec<&[u8]> = self.item_ids.iter().map(|id| id.as_str().as_bytes()).collect();
        let id_ends = ids.iter().scan(0u64, |end, id| {
            *end += id.len() as u64;
            Some(*end)
        });
        let d = self.factors.columns();
        let items = self.item_ids.len();
        let tensors = [
            floats("gram", vec![d, d], &self.gram.values),
            floats("item_factors", vec![items, d], &self.factors.values),
            Stored {
                name: "item_id_bytes",
                dtype: Dtype::U8,
                shape: vec![ids.concat().len()],
                bytes: ids.concat(),
            },
            longs("item_id_ends", id_ends),
            floats("item_popularity", vec![items], &self.popularity),
            longs("neighbour_ends", self.neighbours.ends.iter().map(|&e| e as u64)),
            Stored {
                name: "neighbour_items",
                dtype: Dtype::U32,
                shape: vec![self.neighbours.columns.len()],
                bytes: self
                    .neighbours
                    .columns
                    .iter()
                    .flat_map(|c| c.to_le_bytes())
                    .collect(),
            },
            floats(
                "neighbour_weights",
                vec![self.neighbours.weights.len()],
                &self.neighbours.weights,
            ),
        ];
        let path = dir.join(TENSORS);
        let bytes =
            safetensors::serialize(tensors.iter().map(|t| (t.name, t)), None).map_err(|e| Error::Write {
                path: path.clone(),
                source: std::io::Error::other(e),
            })?;
        let card = Card {
            schema: SCHEMA,
            architecture: "ials".to_owned(),
            revision: self.revision.0.clone(),
            blend: self.blend,
            data_name: self.data_name.clone(),
            data_digest: self.data_digest.clone(),
            sha256: hex::encode(Sha256::digest(&bytes)),
            hyper: self.hyper.clone(),
        };
        let card = toml::to_string(&card).map_err(|e| Error::Write {
            path: dir.join(CARD),
            source: std::io::Error::other(e),
        })?;
        // The card's digest says which tensors it means, so that whenever this ends the old model or the new one can be read.
        let new = dir.join(TENSORS_NEW);
        end_earlier(dir, &new, &path)?;
        refract_durable::write(&new, &bytes).map_err(Error::write(&new))?;
        let card_path = dir.join(CARD);
        refract_durable::write(&card_path, card).map_err(Error::write(&card_path))?;
        refract_durable::rename(&new, &path).map_err(Error::write(&path))
    }

    /// Reads the directory `dir`.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join(CARD);
        let text = fs::read_to_string(&path).map_err(Error::read(&path))?;
        let wrong = |part: &str, reason: String| Error::Model {
            file: path.clone(),
            part: part.to_owned(),
            reason,
        };
        let card: Card = toml::from_str(&text).map_err(|e| wrong("toml", e.message().to_owned()))?;
        if card.schema != SCHEMA {
            return Err(wrong(
                "schema",
                format!("is {}, this build reads {SCHEMA}", card.schema),
            ));
        }
        if card.architecture != "ials" {
            return Err(wrong("architecture", "is not ials".to_owned()));
        }
        if !(card.blend.is_finite() && card.blend >= 0.0) {
            return Err(wrong("blend", "must be a number from 0".to_owned()));
        }
        card.hyper.check().map_err(|e| wrong("hyper", e.to_string()))?;
        let (path, bytes) = tensors(dir, &card.sha256)?;
        let model = parse(&path, &bytes, card)?;
        let revision = crate::train::revision(&model);
        if revision != model.revision {
            return Err(wrong("revision", format!("the content is {revision}")));
        }
        Ok(model)
    }
}

/// The tensors of this digest; a save that was killed after its card has left them under their first name.
fn tensors(dir: &Path, sha256: &str) -> Result<(PathBuf, Vec<u8>)> {
    let is_meant = |bytes: &[u8]| hex::encode(Sha256::digest(bytes)) == sha256;
    let (path, new) = (dir.join(TENSORS), dir.join(TENSORS_NEW));
    let refused = match fs::read(&path) {
        Ok(bytes) if is_meant(&bytes) => return Ok((path, bytes)),
        Ok(_) => Error::Model {
            file: path,
            part: "sha256".to_owned(),
            reason: format!("the content is not the one that {CARD} vouches for"),
        },
        Err(error) => Error::read(&path)(error),
    };
    match fs::read(&new) {
        Ok(bytes) if is_meant(&bytes) => Ok((new, bytes)),
        _ => Err(refused),
    }
}

/// Ends a save that was killed after its card: its tensors would be written over.
fn end_earlier(dir: &Path, new: &Path, path: &Path) -> Result<()> {
    let card = fs::read_to_string(dir.join(CARD)).ok();
    let card: Option<Card> = card.and_then(|text| toml::from_str(&text).ok());
    match card {
        Some(card) if new.exists() && tensors(dir, &card.sha256).is_ok_and(|(meant, _)| meant == new) => {
            refract_durable::rename(new, path).map_err(Error::write(path))
        }
        _ => Ok(()),
    }
}

fn parse(path: &Path, bytes: &[u8], card: Card) -> Result<Model> {
    let file = Reader {
        path: path.to_owned(),
        tensors: open(path, bytes)?,
    };
    let d = card.hyper.als.dimensions;
    let id_ends = file.longs("item_id_ends")?;
    let items = id_ends.len();
    let id_bytes = file.bytes("item_id_bytes", Dtype::U8)?;
    let mut item_ids = Vec::with_capacity(items);
    let mut begin = 0;
    for &end in &id_ends {
        let id = id_bytes.get(begin..end).and_then(|b| std::str::from_utf8(b).ok());
        item_ids.push(ItemId::new(id.ok_or_else(|| {
            file.wrong("item_id_ends", "does not cut item_id_bytes into ids")
        })?));
        begin = end;
    }
    let neighbours = Sparse {
        ends: file.longs("neighbour_ends")?,
        columns: file.words("neighbour_items")?,
        weights: file.floats("neighbour_weights", None)?,
    };
    let ends = &neighbours.ends;
    if ends.len() != items
        || !ends.is_sorted()
        || ends.last().copied().unwrap_or(0) != neighbours.columns.len()
    {
        return Err(file.wrong(
            "neighbour_ends",
            "does not cut neighbour_items into one row for each item",
        ));
    }
    if neighbours.weights.len() != neighbours.columns.len() {
        return Err(file.wrong("neighbour_weights", "is not as long as neighbour_items"));
    }
    if neighbours.columns.iter().any(|&c| c as usize >= items) {
        return Err(file.wrong("neighbour_items", "names an item that does not exist"));
    }
    Ok(Model {
        blend: card.blend,
        item_ids,
        factors: Matrix::new(d, file.floats("item_factors", Some(&[items, d]))?),
        gram: Matrix::new(d, file.floats("gram", Some(&[d, d]))?),
        neighbours,
        popularity: file.floats("item_popularity", Some(&[items]))?,
        data_digest: card.data_digest,
        data_name: card.data_name,
        revision: Revision(card.revision),
        hyper: card.hyper,
    })
}

fn open<'a>(path: &Path, bytes: &'a [u8]) -> Result<SafeTensors<'a>> {
    let wrong = |part: &str, reason: String| Error::Model {
        file: path.to_owned(),
        part: part.to_owned(),
        reason,
    };
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| wrong("header", e.to_string()))?;
    let mut present: Vec<&str> = tensors.names();
    present.sort_unstable();
    if present != NAMES {
        let missing: Vec<_> = NAMES.iter().filter(|n| !present.contains(n)).collect();
        let unexpected: Vec<_> = present.iter().filter(|n| !NAMES.contains(n)).collect();
        return Err(wrong(
            "tensors",
            format!("missing {missing:?}, unexpected {unexpected:?}"),
        ));
    }
    Ok(tensors)
}

struct Reader<'a> {
    path: PathBuf,
    tensors: SafeTensors<'a>,
}

impl Reader<'_> {
    fn wrong(&self, part: &str, reason: impl Into<String>) -> Error {
        Error::Model {
            file: self.path.clone(),
            part: part.to_owned(),
            reason: reason.into(),
        }
    }

    fn bytes(&self, name: &str, dtype: Dtype) -> Result<&[u8]> {
        let view = self
            .tensors
            .tensor(name)
            .map_err(|e| self.wrong(name, e.to_string()))?;
        if view.dtype() != dtype {
            return Err(self.wrong(name, format!("is {:?}, expected {dtype:?}", view.dtype())));
        }
        Ok(view.data())
    }

    fn floats(&self, name: &str, shape: Option<&[usize]>) -> Result<Vec<f32>> {
        let view = self
            .tensors
            .tensor(name)
            .map_err(|e| self.wrong(name, e.to_string()))?;
        if shape.is_some_and(|s| s != view.shape()) {
            return Err(self.wrong(name, format!("has shape {:?}, expected {shape:?}", view.shape())));
        }
        let values: Vec<f32> = words4(self.bytes(name, Dtype::F32)?)
            .map(f32::from_le_bytes)
            .collect();
        match values.iter().all(|v| v.is_finite()) {
            true => Ok(values),
            false => Err(self.wrong(name, "holds a number that is not finite")),
        }
    }

    fn words(&self, name: &str) -> Result<Vec<u32>> {
        Ok(words4(self.bytes(name, Dtype::U32)?)
            .map(u32::from_le_bytes)
            .collect())
    }

    fn longs(&self, name: &str) -> Result<Vec<usize>> {
        let bytes = self.bytes(name, Dtype::U64)?;
        let long = |b: &[u8]| {
            b.try_into()
                .ok()
                .and_then(|b| usize::try_from(u64::from_le_bytes(b)).ok())
        };
        let values: Option<Vec<usize>> = bytes.chunks_exact(8).map(long).collect();
        values.ok_or_else(|| self.wrong(name, "holds a number that is too large"))
    }
}

fn words4(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> + '_ {
    bytes.chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]])
}

/// A tensor on its way to the file.
struct Stored {
    name: &'static str,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

fn floats(name: &'static str, shape: Vec<usize>, values: &[f32]) -> Stored {
    let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Stored {
        name,
        dtype: Dtype::F32,
        shape,
        bytes,
    }
}

fn longs(name: &'static str, values: impl Iterator<Item = u64>) -> Stored {
    let bytes: Vec<u8> = values.flat_map(u64::to_le_bytes).collect();
    Stored {
        name,
        dtype: Dtype::U64,
        shape: vec![bytes.len() / 8],
        bytes,
    }
}

impl View for &Stored {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}
