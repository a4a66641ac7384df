//! Directories that are no bundles.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use super::{Decode, Limits, Manifest, Mode, Provenance, Role, Template, sampled_revision};
use crate::error::Error;

impl Manifest {
    /// The documented defaults for a Hugging Face directory without `bundle.toml`: BART is a Prism as published (alone, titles
    /// and years, 5 beams), T5 is an Oracle (greedy, no repeated pair of tokens); both read and write plain text.
    pub fn of_plain_directory(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(|source| match source.kind() {
            ErrorKind::NotFound => Error::Missing { path: path.clone() },
            _ => Error::Io {
                path: path.clone(),
                source,
            },
        })?;
        let config: serde_json::Value = serde_json::from_str(&text).map_err(|error| Error::Manifest {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        let kind = config
            .get("model_type")
            .and_then(serde_json::Value::as_str)
            .unwrap_or_default();
        let (role, mode, template, decode) = match kind {
            "bart" => (
                Role::Prism,
                Mode::Alone,
                Template {
                    attributes: false,
                    ..Template::default()
                },
                Decode::default(),
            ),
            "t5" | "mt5" => {
                let decode = Decode {
                    no_repeat_ngram_size: 2,
                    ..Decode::greedy(150)
                };
                (Role::Oracle, Mode::Conditioned, Template::plain_oracle(), decode)
            }
            other => {
                let reason = format!("model_type is {other:?}; known are \"bart\" and \"t5\"");
                return Err(Error::Manifest { path, reason });
            }
        };
        // BART's learned positions end its prompt; T5 was asked with at most 512 tokens.
        let positions = config
            .get("max_position_embeddings")
            .and_then(serde_json::Value::as_u64);
        let positions = positions
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or(usize::MAX);
        let prompt_tokens_max = if role == Role::Oracle {
            512
        } else {
            Limits::default().prompt_tokens_max.min(positions)
        };
        let name = dir
            .file_name()
            .map_or_else(|| kind.to_owned(), |name| name.to_string_lossy().into_owned());
        Ok(Self {
            name,
            role,
            mode,
            revision: sampled_revision(dir)?,
            precision: None,
            template,
            slots: None,
            decode,
            limits: Limits {
                prompt_tokens_max,
                ..Limits::default()
            },
            provenance: Provenance {
                recipe: "a plain Hugging Face directory".to_owned(),
                ..Provenance::default()
            },
            files: BTreeMap::new(),
        })
    }
}
