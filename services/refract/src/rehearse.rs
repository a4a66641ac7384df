//! `refract rehearse`: what a bundle usually says, written down beside its weights, so that a fresh engine guesses as well as
//! one that has been at work.
//!
//! The model writes a text for each prompt, as it would when it serves; what several texts have in common becomes
//! `phrases.tsv` (`refract_engine::Phrases`). Texts do not change by it, nor does the bundle's revision, which names the weights.

use std::collections::VecDeque;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use refract_bundle::{Decode, MANIFEST_FILE, Manifest};
use refract_engine::{
    Config, Engine, GenerationParams, OpenOptions, PHRASES_FILE, PairRows, Phrases, Request, Told,
};
use serde_json::json;

use crate::cli::Rehearse;
use crate::compare;

/// Texts in the making at once.
const IN_FLIGHT_MAX: usize = 32;
/// Of so many texts one is kept back, to see what the phrases of the others are worth.
const KEPT_BACK: usize = 5;

/// What was said, and by whom.
pub(crate) struct Rehearsed {
    decoder_start: u32,
    texts: Vec<Told>,
}

pub(crate) async fn run(args: &Rehearse) -> Result<()> {
    let dir = &args.bundle;
    let manifest = if dir.join(MANIFEST_FILE).is_file() {
        let manifest = Manifest::read(dir)?;
        manifest.verify_but(dir, Some(PHRASES_FILE))?;
        Some(manifest)
    } else {
        None
    };
    let prompts = compare::read(&args.input, dir)?;
    let bar = if args.json {
        ProgressBar::hidden()
    } else {
        let style = ProgressStyle::with_template("rehearsing {wide_bar} {pos}/{len} {eta} left");
        ProgressBar::new(prompts.len() as u64)
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    };
    let profile = manifest.as_ref().map(|manifest| &manifest.decode);
    let rehearsed = rehearse(dir, profile, &prompts, args.threads, &bar).await?;
    bar.finish_and_clear();
    let phrases = rehearsed.phrases();
    write(dir, manifest, &phrases)?;
    report(args, &rehearsed, &phrases);
    Ok(())
}

/// Writes the phrases beside the weights, whole or not at all, and into the list of the bundle's files.
pub(crate) fn write(dir: &Path, manifest: Option<Manifest>, phrases: &Phrases) -> Result<()> {
    let file = dir.join(PHRASES_FILE);
    refract_durable::write(&file, phrases.to_text())
        .with_context(|| format!("writing {}", file.display()))?;
    if let Some(manifest) = manifest {
        manifest.write_with(dir, PHRASES_FILE)?;
    }
    Ok(())
}

/// Has the model of `dir` answer every prompt, decoding as `profile` says (absent: as the model's own files do).
///
/// # Errors
///
/// A model that does not decode greedily guesses nothing; and whatever a model says of prompts that it cannot take.
pub(crate) async fn rehearse(
    dir: &Path,
    profile: Option<&Decode>,
    prompts: &[Vec<u32>],
    threads: usize,
    bar: &ProgressBar,
) -> Result<Rehearsed> {
    let options = OpenOptions {
        threads,
        ..OpenOptions::default()
    };
    let opened = refract_engine::open(dir, &options)?;
    let mut params = GenerationParams::for_model(&opened.spec, &opened.defaults);
    if let Some(profile) = profile {
        refract_worker::apply(profile, &mut params);
    }
    if params.num_beams > 1 {
        bail!(
            "{} decodes with {} beams, which guess nothing: there is nothing to rehearse",
            dir.display(),
            params.num_beams
        );
    }
    let pairs = opened.spec.pair_tables.map(|_| PairRows::default());
    let decoder_start = opened.runner.shape().decoder_start;
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0).max(1);
    let config = Config {
        name: "rehearse".to_owned(),
        prompt_tokens_max: longest,
        new_tokens_max: params.max_new_tokens,
        kv_tokens_max: (longest + params.max_new_tokens) * 2 * IN_FLIGHT_MAX,
        step_encode_tokens_max: longest.max(Config::default().step_encode_tokens_max),
        ..Config::default()
    };
    let engine = Engine::start(opened.runner, config)?;
    let handle = engine.handle();
    let mut texts = Vec::with_capacity(prompts.len());
    let mut running = VecDeque::new();
    for (at, prompt) in prompts.iter().enumerate() {
        let no = |error: refract_engine::Error| anyhow!("prompt {}: {error}", at + 1);
        let request = Request {
            pairs,
            ..Request::new(prompt.clone(), params.clone())
        };
        running.push_back((prompt, handle.generate(request).map_err(no)?));
        // The last ones, after the last prompt.
        let most = if at + 1 == prompts.len() { 0 } else { IN_FLIGHT_MAX };
        while running.len() > most
            && let Some((prompt, generation)) = running.pop_front()
        {
            let ids = generation.collect().await.map_err(no)?.ids;
            texts.push(Told {
                prompt: prompt.clone(),
                ids,
            });
            bar.inc(1);
        }
    }
    ensure!(!texts.is_empty(), "no prompt to rehearse with");
    Ok(Rehearsed { decoder_start, texts })
}

impl Rehearsed {
    pub(crate) fn phrases(&self) -> Phrases {
        Phrases::of(self.decoder_start, &self.texts)
    }

    /// Decode steps of the texts kept back, one after the other: a token a step; from an engine that knows nothing; from one that
    /// knows the other texts.
    fn worth(&self) -> [usize; 3] {
        let (back, others): (Vec<_>, Vec<_>) = self
            .texts
            .iter()
            .cloned()
            .enumerate()
            .partition(|(at, _)| at % KEPT_BACK == KEPT_BACK - 1);
        let [back, others] =
            [back, others].map(|texts| texts.into_iter().map(|(_, text)| text).collect::<Vec<_>>());
        let config = Config::default();
        let steps = |phrases: &Phrases| phrases.steps(&config, self.decoder_start, &back);
        [
            back.iter().map(|text| text.ids.len()).sum(),
            steps(&Phrases::default()),
            steps(&Phrases::of(self.decoder_start, &others)),
        ]
    }
}

fn report(args: &Rehearse, rehearsed: &Rehearsed, phrases: &Phrases) {
    let [tokens, fresh, knowing] = rehearsed.worth();
    let n = rehearsed.texts.len();
    let share = |steps: usize| steps as f64 / tokens.max(1) as f64;
    if args.json {
        for (name, value, unit) in [
            ("phrases", phrases.len() as f64, "phrases"),
            ("steps_a_token/fresh", share(fresh), "steps"),
            ("steps_a_token/knowing", share(knowing), "steps"),
        ] {
            println!(
                "{}",
                json!({"name": name, "value": value, "unit": unit, "goal": null, "holds": null, "n": n})
            );
        }
        return;
    }
    println!(
        "{n} texts have {} phrases in common, written to {}",
        phrases.len(),
        args.bundle.join(PHRASES_FILE).display()
    );
    if tokens > 0 {
        println!(
            "every fifth text, one at a time: {:.2} steps a token by an engine that knows nothing, {:.2} by one that knows the phrases of the others",
            share(fresh),
            share(knowing)
        );
    }
}
