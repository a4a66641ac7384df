//! `refract quantize`: a bundle with weights of one byte or of four bits, that loads without the original.
//!
//! The weights' format is described in `refract_model::quantised`. Nothing is half written: the new bundle grows in a
//! directory beside its place and is renamed when it is whole.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use refract_bundle::{MANIFEST_FILE, Manifest, Precision};
use refract_engine::{Fidelity, OpenOptions, Weights};
use serde_json::json;

use crate::cli::{Quantize, QuantizeTo};
use crate::compare;

const WEIGHTS_FILE: &str = "model.safetensors";
/// Positions at which quantised weights must choose the exact weights' token, in percent.
const FIDELITY_GOAL: f64 = 98.0;
/// Tokens that a check decodes for each prompt.
const CHECK_TOKENS_MAX: usize = 64;

pub(crate) fn run(args: &Quantize) -> Result<()> {
    let (from, out) = (&args.bundle, &args.out);
    ensure!(
        !out.exists(),
        "{} is there already: name a new directory",
        out.display()
    );
    let mut manifest = if from.join(MANIFEST_FILE).is_file() {
        let manifest = Manifest::read(from)?;
        manifest.verify(from)?;
        manifest
    } else {
        Manifest::of_plain_directory(from)?
    };
    let partial = partial_beside(out)?;
    let made = write(from, &partial, &mut manifest, args.to).and_then(|tensors| {
        let fidelity = match &args.check {
            Some(prompts) => Some(check(from, &partial, prompts)?),
            None => None,
        };
        refract_durable::sync_all(&partial)
            .and_then(|()| refract_durable::rename(&partial, out))
            .with_context(|| format!("renaming to {}", out.display()))?;
        Ok((tensors, fidelity))
    });
    if made.is_err() {
        // What is half made is of no use; that it may stay behind is no second error.
        let _gone = fs::remove_dir_all(&partial);
    }
    let (tensors, fidelity) = made?;
    report(args, tensors, fidelity)
}

/// Whether a file goes along: what says how the weights are run and read, and what people are to know. A directory of Hugging Face's
/// may hold the weights in several formats more, each larger than what is made here.
fn goes_along(name: &str) -> bool {
    let lower = name.to_lowercase();
    let is_index = lower.ends_with(".index.json");
    let (stem, end) = lower.rsplit_once('.').unwrap_or((&lower, ""));
    let is_said = ["licen", "notice", "copying", "readme"]
        .iter()
        .any(|begin| stem.starts_with(begin));
    // `spiece.model`, `merges.txt`, `phrases.tsv`; the curve of the loss.
    !is_index && (is_said || matches!(end, "json" | "model" | "txt" | "tsv" | "md" | "svg"))
}

/// Everything but weights is copied; the manifest sums what was written.
fn write(from: &Path, to: &Path, manifest: &mut Manifest, format: QuantizeTo) -> Result<usize> {
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_file() && goes_along(&name) && !name.starts_with('.') && name != MANIFEST_FILE {
            fs::copy(&path, to.join(&name)).with_context(|| format!("copying {}", path.display()))?;
        }
    }
    let four_bits = format == QuantizeTo::Int4;
    let tensors = refract_engine::quantise(from, &to.join(WEIGHTS_FILE), four_bits)?;
    let mut made = manifest.clone();
    made.precision = Some(if four_bits {
        Precision::Int4
    } else {
        Precision::Int8
    });
    made.provenance.recipe = format!(
        "{}; refract quantize --to {}",
        made.provenance.recipe,
        name(format)
    );
    *manifest = made.write(to)?;
    Ok(tensors)
}

/// Forces both along what the original says to some prompts.
fn check(from: &Path, to: &Path, prompts: &Path) -> Result<Fidelity> {
    let open = |dir: &Path, weights| {
        let options = OpenOptions {
            weights,
            ..OpenOptions::default()
        };
        refract_engine::open(dir, &options)
    };
    let (mut exact, mut bytes) = (open(from, Weights::F32)?, open(to, Weights::Auto)?);
    let all = compare::read(prompts, to)?;
    let eos = exact.spec.eos.clone();
    Ok(refract_engine::fidelity(
        &mut *exact.runner,
        &mut *bytes.runner,
        &all,
        CHECK_TOKENS_MAX,
        &eos,
    )?)
}

fn name(format: QuantizeTo) -> &'static str {
    match format {
        QuantizeTo::Int8 => "int8",
        QuantizeTo::Int4 => "int4",
    }
}

fn partial_beside(out: &Path) -> Result<PathBuf> {
    let name = out
        .file_name()
        .with_context(|| format!("{} names no directory", out.display()))?;
    let partial = out.with_file_name(format!(
        ".{}.partial-{}",
        name.to_string_lossy(),
        std::process::id()
    ));
    fs::create_dir_all(&partial).with_context(|| format!("making {}", partial.display()))?;
    Ok(partial)
}

fn weight_bytes(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "safetensors") {
            bytes += fs::metadata(path)?.len();
        }
    }
    Ok(bytes)
}

fn report(args: &Quantize, tensors: usize, fidelity: Option<Fidelity>) -> Result<()> {
    let (before, after) = (weight_bytes(&args.bundle)?, weight_bytes(&args.out)?);
    let ratio = before as f64 / after as f64;
    if args.json {
        println!(
            "{}",
            json!({"name": "weights_ratio", "value": ratio, "unit": "times", "goal": null, "holds": null, "n": tensors})
        );
    } else {
        println!(
            "{}: {tensors} tensors in {}, {:.1} MiB instead of {:.1} ({ratio:.2} times smaller)",
            args.out.display(),
            name(args.to),
            after as f64 / f64::from(1 << 20),
            before as f64 / f64::from(1 << 20)
        );
    }
    let Some(found) = fidelity else {
        return Ok(());
    };
    let (percent, holds) = (found.percent(), found.percent() >= FIDELITY_GOAL);
    if args.json {
        println!(
            "{}",
            json!({"name": "fidelity", "value": percent, "unit": "percent", "goal": FIDELITY_GOAL, "holds": holds,
                   "n": found.positions})
        );
    } else {
        println!(
            "{} of {} positions choose the token of the exact weights: {percent:.2} % (goal {FIDELITY_GOAL} %: {})",
            found.equal,
            found.positions,
            if holds { "holds" } else { "MISSED" }
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_formats_of_the_weights_do_not_go_along() {
        for name in [
            "config.json",
            "generation_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "spiece.model",
            "merges.txt",
            "phrases.tsv",
            "loss.svg",
            "LICENSE",
            "LICENCE.txt",
            "README.md",
            "NOTICE",
        ] {
            assert!(goes_along(name), "{name}");
        }
        for name in [
            "model.safetensors",
            "model-00001-of-00002.safetensors",
            "model.safetensors.index.json",
            "pytorch_model.bin",
            "pytorch_model-00001-of-00002.bin",
            "pytorch_model.bin.index.json",
            "tf_model.h5",
            "flax_model.msgpack",
            "model.onnx",
            "rust_model.ot",
            "model.gguf",
        ] {
            assert!(!goes_along(name), "{name}");
        }
    }
}
