//! A trained model becomes a bundle: put together beside its checkpoint, opened as a service would, moved into place whole.

use std::path::Path;

use anyhow::{Context as _, Result};
use indicatif::ProgressBar;
use refract_bundle::{Bundle, Manifest, TOKENIZER_FILE};

use super::place;
use crate::rehearse;

/// Ships the best checkpoint of `working` (its tokenizer beside it) as `out`, with more files of these names and contents, and with
/// what the model usually says to `prompts`, unless there are none. What stood at `out` is replaced only by a bundle that opens.
pub(super) fn ship(
    manifest: Manifest,
    working: &Path,
    out: &Path,
    more: &[(&str, &str)],
    prompts: &[Vec<u32>],
) -> Result<()> {
    let made = working.join("bundle");
    if made.exists() {
        std::fs::remove_dir_all(&made).with_context(|| format!("clearing {}", made.display()))?;
    }
    std::fs::create_dir_all(&made).with_context(|| format!("making {}", made.display()))?;
    let write = |file: &str, bytes: &[u8]| {
        let to = made.join(file);
        std::fs::write(&to, bytes).with_context(|| format!("writing {}", to.display()))
    };
    // Read and written, not copied: a checkpoint is private to its run, a bundle is read by whoever serves it.
    let best = working.join("best");
    for (from, file) in [
        (&best, "config.json"),
        (&best, "generation_config.json"),
        (&best, "model.safetensors"),
        (&working.to_owned(), TOKENIZER_FILE),
    ] {
        let from = from.join(file);
        let bytes = std::fs::read(&from).with_context(|| format!("reading {}", from.display()))?;
        write(file, &bytes)?;
    }
    for (file, text) in more {
        write(file, text.as_bytes())?;
    }
    let role = manifest.role;
    if !prompts.is_empty() {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let bar = ProgressBar::hidden();
        let rehearsing = rehearse::rehearse(&made, Some(&manifest.decode), prompts, 1, &bar);
        let phrases = runtime
            .block_on(rehearsing)
            .context("rehearsing what the trained model says")?
            .phrases();
        rehearse::write(&made, None, &phrases)?;
    }
    manifest.write(&made)?;
    Bundle::open(&made)?.expect(role)?;
    // Looked at before the training; that was long ago.
    let old = place::check(out)?;
    refract_durable::replace_dir(&made, out, &old).with_context(|| format!("writing {}", out.display()))
}
