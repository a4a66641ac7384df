//! `refract compare`: do other devices, ranks or numbers choose the tokens that exact weights on the CPU choose?

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use refract_bundle::Tokenizer;
use refract_engine::{OpenOptions, Opened, Weights};
use serde_json::json;

use crate::cli::Compare;
use crate::generate::Line;

/// Positions at which both must choose the same token, in percent.
const FIDELITY_GOAL: f64 = 98.0;
/// Length of a prompt that is drawn.
const PROMPT_TOKENS: std::ops::Range<usize> = 8..64;

pub(crate) fn run(args: &Compare) -> Result<()> {
    let exact = OpenOptions {
        weights: Weights::F32,
        ..OpenOptions::default()
    };
    let asked = OpenOptions {
        weights: args.dtype.weights(),
        threads: 0,
        devices: args.place.devices.clone(),
        tensor_parallel: args.place.tensor_parallel,
        ..OpenOptions::default()
    };
    let mut exact = refract_engine::open(&args.bundle, &exact)?;
    let mut asked = refract_engine::open(&args.bundle, &asked)?;
    let prompts = match &args.input {
        Some(file) => read(file, &args.bundle)?,
        None => draw(&exact, args.prompts, args.seed),
    };
    let eos = exact.spec.eos.clone();
    let begun = Instant::now();
    let found = refract_engine::fidelity(
        &mut *exact.runner,
        &mut *asked.runner,
        &prompts,
        args.max_new_tokens,
        &eos,
    )?;
    let (percent, n) = (found.percent(), found.positions);
    let holds = percent >= FIDELITY_GOAL;
    if args.json {
        for (name, value, unit, goal, holds) in [
            ("fidelity", percent, "percent", Some(FIDELITY_GOAL), Some(holds)),
            (
                "logit_difference_max",
                f64::from(found.difference_max),
                "",
                None,
                None,
            ),
        ] {
            println!(
                "{}",
                json!({"name": name, "value": value, "unit": unit, "goal": goal, "holds": holds, "n": n})
            );
        }
    } else {
        println!("exact  {}", exact.choice);
        println!("asked  {}", asked.choice);
        println!(
            "{} of {n} positions over {} prompts choose the same token: {percent:.2} % (goal {FIDELITY_GOAL} %: {}); logits differ by at most {:.2e}; {:.1} s",
            found.equal,
            prompts.len(),
            if holds { "holds" } else { "MISSED" },
            found.difference_max,
            begun.elapsed().as_secs_f64(),
        );
    }
    ensure!(
        holds,
        "{} chooses other tokens than the exact weights too often",
        asked.choice
    );
    Ok(())
}

/// Lines of text or ids, as `refract generate` reads them.
pub(crate) fn read(file: &Path, bundle: &Path) -> Result<Vec<Vec<u32>>> {
    let tokens = bundle.join("tokenizer.json");
    let tokenizer = if tokens.is_file() {
        Some(Tokenizer::read(&tokens)?)
    } else {
        None
    };
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let mut all = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let place = || format!("{}:{}", file.display(), at + 1);
        let line: Line = serde_json::from_str(line).with_context(place)?;
        all.push(line.ids(tokenizer.as_ref()).with_context(place)?);
    }
    if all.is_empty() {
        bail!("{}: no line to check", file.display());
    }
    Ok(all)
}

/// Random ids, ended as prompts are: meaningless, but the same arithmetic.
fn draw(model: &Opened, count: usize, seed: u64) -> Vec<Vec<u32>> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let vocab = model.spec.vocab as u32;
    let end = model.spec.eos.first().copied();
    (0..count)
        .map(|_| {
            let length = random.random_range(PROMPT_TOKENS);
            let ids = (0..length).map(|_| random.random_range(0..vocab));
            ids.chain(end).collect()
        })
        .collect()
}
