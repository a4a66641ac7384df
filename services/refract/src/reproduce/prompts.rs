//! What each model is asked when its speed is measured: the held-out pairs, by its own template.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use refract_bundle::{Bundle, Role, TemplateKind};
use refract_domain::ExplainQuery;
use refract_truth::Vocabulary;
use serde_json::json;

use super::plan::Model;
use crate::eval::labels::chosen;
use crate::train::labels::{Passed, knowledge, read};

/// Prompts that are taken in turns.
const PROMPTS: usize = 100;

pub(super) fn write(model: &Model, labels: &Path, to: &Path) -> Result<()> {
    let labels = chosen(
        read(&[labels.to_owned()], &mut Passed::default())?,
        &["test"],
        PROMPTS,
    )?;
    let bundle = Bundle::open(&model.bundle)?;
    let vocabulary = Arc::new(Vocabulary::default());
    let mut lines = String::new();
    for label in &labels {
        let (pair, history) = label.question();
        let history = Arc::new(history);
        let line = match model.role {
            // As a teacher that writes text is asked when it labels.
            Role::Oracle if bundle.manifest().template.kind != TemplateKind::Slots => {
                json!({"text": refract_distill::prompt(&pair, &history, super::plan::TEACHER_ITEMS_MAX)})
            }
            Role::Oracle => json!({"ids": bundle.prompt_oracle(&pair, &history)?.ids}),
            Role::Prism => {
                let knowledge = knowledge(label, &vocabulary, &pair, &history, &mut Passed::default());
                let query = ExplainQuery {
                    pair,
                    history,
                    knowledge,
                    style: 0,
                };
                json!({"ids": bundle.prompt_prism(&query)?.ids})
            }
        };
        lines += &format!("{line}\n");
    }
    std::fs::write(to, lines).with_context(|| format!("writing {}", to.display()))
}
