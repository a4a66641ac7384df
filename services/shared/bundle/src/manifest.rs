//! `bundle.toml`: what a bundle is, how it is prompted and decoded, and the checksum of every file.
//!
//! ```toml
//! name = "demo-prism"
//! role = "prism"                 # or "oracle"
//! mode = "conditioned"           # or "alone": whether knowledge is in the prompt
//! precision = "int8"             # or "f32", "int4"; may be left out: how the weights are meant to run
//!
//! [template]
//! name = "slot-prism"
//! revision = 1
//! kind = "slots"                 # or "plain"
//!
//! [slots]                        # exactly where the kind is "slots"; limits have defaults
//!
//! [decode]
//! num_beams = 1
//! max_new_tokens = 64
//!
//! [limits]
//! prompt_tokens_max = 256
//! history_items_max = 10
//!
//! [provenance]
//! recipe = "refract train prism"
//! seed = 42
//!
//! [files]
//! "model.safetensors" = "…64 hex digits…"
//! ```

mod plain;
mod sums;

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Error;
pub use sums::sampled_revision;
use sums::{is_weights, names, revision_of, sha256};

/// The file's name inside a bundle.
pub const MANIFEST_FILE: &str = "bundle.toml";

/// What a bundle is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Oracle,
    Prism,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Oracle => "an oracle",
            Self::Prism => "a prism",
        })
    }
}

/// Whether a Prism was trained with knowledge in its prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Instruction, history, item and knowledge.
    #[default]
    Conditioned,
    /// Instruction, history and item, as published.
    Alone,
}

/// How weights are meant to run where a service's configuration does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    F32,
    /// Somebody has checked that the text is as good.
    Int8,
    /// As above; it is less likely.
    Int4,
}

/// How prompts are written and answers are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateKind {
    /// Entities stand as slots; the model reads and writes slots.
    Slots,
    /// Plain text in, plain text out.
    #[default]
    Plain,
}

/// The prompt template. Instruction and labels are used by `plain` only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Template {
    pub name: String,
    /// Counts up whenever prompts change.
    pub revision: u32,
    pub kind: TemplateKind,
    /// Stands first, on its own line; empty for a model that was trained without one.
    pub instruction: String,
    pub history_label: String,
    pub item_label: String,
    pub facts_label: String,
    /// Stands last, before the model's text.
    pub cue: String,
    /// Show attributes beside titles (a published-style model saw titles and years only).
    pub attributes: bool,
    /// Characters of the item's description that are shown; 0 shows none.
    pub description_chars_max: usize,
}

/// Counts up whenever the words of slot prompts change: bundles of another revision were taught other prompts.
const SLOTS_REVISION: u32 = 2;

impl Default for Template {
    fn default() -> Self {
        Self {
            name: "plain-prism".to_owned(),
            revision: 1,
            kind: TemplateKind::Plain,
            instruction: String::new(),
            history_label: "User History:".to_owned(),
            item_label: "Recommended Item:".to_owned(),
            facts_label: "Known:".to_owned(),
            cue: "Explanation:".to_owned(),
            attributes: true,
            description_chars_max: 0,
        }
    }
}

impl Template {
    /// What a plain Oracle is asked: personal, short, and resting on nothing but what it is shown.
    pub fn plain_oracle() -> Self {
        Self {
            name: "plain-oracle".to_owned(),
            instruction: "A person liked the items listed below, and one more is recommended. In one or two short sentences, \
                          tell the person what the recommended item has in common with those they liked. Use only what is \
                          written here, name at least one item they liked, and say nothing that you cannot see below."
                .to_owned(),
            history_label: "Liked, newest first:".to_owned(),
            item_label: "Recommended:".to_owned(),
            cue: "In common:".to_owned(),
            description_chars_max: 400,
            ..Self::default()
        }
    }

    pub fn slots(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: TemplateKind::Slots,
            revision: SLOTS_REVISION,
            ..Self::default()
        }
    }
}

/// How many slots of each kind a prompt may use; they are tokens of the bundle's tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SlotLimits {
    pub history_max: usize,
    pub names_max: usize,
    pub genres_max: usize,
    pub spans_max: usize,
    pub labels_max: usize,
}

impl Default for SlotLimits {
    fn default() -> Self {
        Self {
            history_max: 10,
            names_max: 10,
            genres_max: 6,
            spans_max: 8,
            labels_max: 4,
        }
    }
}

/// Decoding as plain data; the names are those of a `generation_config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Decode {
    pub num_beams: usize,
    pub max_new_tokens: usize,
    pub min_new_tokens: usize,
    pub length_penalty: f32,
    pub repetition_penalty: f32,
    /// 0 is off.
    pub no_repeat_ngram_size: usize,
}

impl Default for Decode {
    /// The published profile: 5 beams, at most 150 new tokens.
    fn default() -> Self {
        Self {
            num_beams: 5,
            max_new_tokens: 150,
            min_new_tokens: 0,
            length_penalty: 1.0,
            repetition_penalty: 1.0,
            no_repeat_ngram_size: 0,
        }
    }
}

impl Decode {
    /// For slot models: short, one beam.
    pub fn greedy(max_new_tokens: usize) -> Self {
        Self {
            num_beams: 1,
            max_new_tokens,
            ..Self::default()
        }
    }
}

/// Bounds of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Whole history items are left out, oldest first, until a prompt fits; never the item.
    pub prompt_tokens_max: usize,
    /// History items that a prompt shows, the newest ones.
    pub history_items_max: usize,
}

impl Default for Limits {
    /// 768 tokens and ten items, as published.
    fn default() -> Self {
        Self {
            prompt_tokens_max: 768,
            history_items_max: 10,
        }
    }
}

/// How the weights came to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Provenance {
    /// The command that makes them again.
    pub recipe: String,
    pub seed: u64,
    pub data: String,
    /// The weights were drawn at random: for tests and measurements, never for people.
    pub random_weights: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub name: String,
    pub role: Role,
    #[serde(default)]
    pub mode: Mode,
    /// Names the weights: the first 16 hex digits of a SHA-256 over the weight files' own. Written by [`Manifest::write`],
    /// and checked when a bundle is opened.
    #[serde(default)]
    pub revision: String,
    /// Absent: as the weights are stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    #[serde(default)]
    pub template: Template,
    /// Present exactly when the template's kind is `slots`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<SlotLimits>,
    #[serde(default)]
    pub decode: Decode,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub provenance: Provenance,
    /// File name → SHA-256 in hex, of every file of the bundle but this one.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

impl Manifest {
    /// A manifest for a slot bundle that is about to be written.
    pub fn slots(name: &str, role: Role, provenance: Provenance) -> Self {
        let template = Template::slots(match role {
            Role::Oracle => "slot-oracle",
            Role::Prism => "slot-prism",
        });
        Self {
            name: name.to_owned(),
            role,
            mode: Mode::Conditioned,
            revision: String::new(),
            precision: None,
            template,
            slots: Some(SlotLimits::default()),
            decode: Decode::greedy(64),
            limits: Limits {
                prompt_tokens_max: 256,
                ..Limits::default()
            },
            provenance,
            files: BTreeMap::new(),
        }
    }

    /// Reads and checks `dir/bundle.toml` without looking at the other files.
    pub fn read(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(MANIFEST_FILE);
        let text = std::fs::read_to_string(&path).map_err(|source| match source.kind() {
            ErrorKind::NotFound => Error::Missing { path: path.clone() },
            _ => Error::Io {
                path: path.clone(),
                source,
            },
        })?;
        let manifest: Self = toml::from_str(&text).map_err(|error| Error::Manifest {
            path: path.clone(),
            reason: error.to_string().trim_end().to_owned(),
        })?;
        manifest
            .check()
            .map_err(|reason| Error::Manifest { path, reason })?;
        Ok(manifest)
    }

    /// Relations between fields.
    fn check(&self) -> Result<(), String> {
        if self.name.trim().is_empty() {
            return Err("name is empty".to_owned());
        }
        if (self.template.kind == TemplateKind::Slots) != self.slots.is_some() {
            return Err("template.kind = \"slots\" and the section [slots] belong together".to_owned());
        }
        for (field, value) in [
            ("limits.prompt_tokens_max", self.limits.prompt_tokens_max),
            ("decode.num_beams", self.decode.num_beams),
            ("decode.max_new_tokens", self.decode.max_new_tokens),
        ] {
            if value == 0 {
                return Err(format!("{field} is 0"));
            }
        }
        if self.decode.min_new_tokens > self.decode.max_new_tokens {
            return Err("decode.min_new_tokens is above decode.max_new_tokens".to_owned());
        }
        let penalties = self.decode.length_penalty.is_finite() && self.decode.repetition_penalty.is_finite();
        if !penalties || self.decode.repetition_penalty <= 0.0 {
            return Err(
                "decode.length_penalty and decode.repetition_penalty are finite, the latter above 0"
                    .to_owned(),
            );
        }
        if self
            .slots
            .is_some_and(|slots| self.limits.history_items_max > slots.history_max)
        {
            return Err("limits.history_items_max is above slots.history_max".to_owned());
        }
        for (name, sum) in &self.files {
            if name.contains(['/', '\\']) || name == ".." || name == MANIFEST_FILE {
                return Err(format!(
                    "files: {name} is not the plain name of another file of the bundle"
                ));
            }
            if sum.len() != 64 || !sum.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(format!("files: the sum of {name} is not a SHA-256 in hex"));
            }
        }
        Ok(())
    }

    /// Streams every listed file through SHA-256 and compares; a file that would be loaded must be listed.
    pub fn verify(&self, dir: &Path) -> Result<(), Error> {
        self.verify_but(dir, None)
    }

    /// As [`Self::verify`], but for a file that is about to be made anew.
    pub fn verify_but(&self, dir: &Path, left_out: Option<&str>) -> Result<(), Error> {
        let looked_at = |name: &&String| Some(name.as_str()) != left_out;
        for (name, expected) in self.files.iter().filter(|(name, _)| looked_at(name)) {
            let path = dir.join(name);
            if !path.is_file() {
                return Err(Error::Missing { path });
            }
            let found = sha256(&path)?;
            if !found.eq_ignore_ascii_case(expected) {
                return Err(Error::Checksum {
                    path,
                    expected: expected.clone(),
                    found,
                });
            }
        }
        let path = dir.join(MANIFEST_FILE);
        let loaded = |name: &String| {
            is_weights(name)
                || matches!(
                    name.as_str(),
                    "config.json"
                        | "generation_config.json"
                        | "tokenizer.json"
                        | "model.safetensors.index.json"
                        | "phrases.tsv"
                )
        };
        if let Some(name) = names(dir)?
            .iter()
            .filter(|name| loaded(name) && looked_at(name))
            .find(|name| !self.files.contains_key(*name))
        {
            let reason = format!(
                "files: {name} is in the directory and not listed; write the bundle again, or remove the file"
            );
            return Err(Error::Manifest { path, reason });
        }
        if !self.revision.is_empty() && self.revision != revision_of(&self.files) {
            let reason = format!(
                "revision is {}, the weights make it {}",
                self.revision,
                revision_of(&self.files)
            );
            return Err(Error::Manifest { path, reason });
        }
        Ok(())
    }

    /// Sums the files in `dir`, fills `files` and `revision` in, and writes `dir/bundle.toml`.
    pub fn write(mut self, dir: &Path) -> Result<Self, Error> {
        self.files = BTreeMap::new();
        for name in names(dir)? {
            let sum = sha256(&dir.join(&name))?;
            self.files.insert(name, sum);
        }
        self.save(dir)
    }

    /// Sums one file that was made anew, and writes `dir/bundle.toml`; what stands there of the others stays.
    pub fn write_with(mut self, dir: &Path, name: &str) -> Result<Self, Error> {
        self.files.insert(name.to_owned(), sha256(&dir.join(name))?);
        self.save(dir)
    }

    /// Whole or not at all.
    fn save(mut self, dir: &Path) -> Result<Self, Error> {
        self.revision = revision_of(&self.files);
        let path = dir.join(MANIFEST_FILE);
        self.check().map_err(|reason| Error::Manifest {
            path: path.clone(),
            reason,
        })?;
        let text = toml::to_string(&self).map_err(|error| Error::Manifest {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        refract_durable::write(&path, text).map_err(|source| Error::Io { path, source })?;
        Ok(self)
    }

    /// Names the prompt template: part of every cache key and answer.
    pub fn template_revision(&self) -> String {
        format!("{}-{}", self.template.name, self.template.revision)
    }
}
