//! The training loop: cross-entropy on teacher text, AdamW, warm-up and decay, checkpoints that resume bit for bit.
//!
//! ```text
//!  step n ─▶ batch n (seeded) ─▶ loss (dropout seeded by n) ─▶ gradients ─▶ AdamW ─▶ … ─▶ dev loss ─▶ checkpoint
//! ```
//!
//! Whatever happens at step n depends on the seed and n alone, so a run that was stopped and resumed ends with the same
//! weights as one that was not.

use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use refract_model::{Batch, Config, Trainable};
use serde::{Deserialize, Serialize};

use super::adamw::{AdamW, Hyper, rate_at};
use super::checkpoint::{self, Check, Origin, digest_of, exact};
use super::compute::{computing, device};
use super::corpus::{Dealer, Example};
use crate::cli::Compute;
use crate::digest;

/// What a run is made of besides its examples.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    /// For people: `oracle`, `prism`.
    pub(crate) name: String,
    pub(crate) model: Config,
    pub(crate) steps: usize,
    pub(crate) batch: usize,
    /// Peak learning rate.
    pub(crate) rate: f64,
    pub(crate) warm_up: usize,
    pub(crate) smoothing: f64,
    pub(crate) seed: u64,
    /// Dev loss and checkpoint every so many steps.
    pub(crate) check_every: usize,
    /// Stop after so many checks without a better dev loss; never where it is absent.
    pub(crate) patience: Option<usize>,
    /// Stop at the next step after this long.
    pub(crate) time_max: Option<Duration>,
    pub(crate) compute: Compute,
    pub(crate) resume: bool,
    pub(crate) json: bool,
}

impl Recipe {
    /// Time, place and threads are left out: a run may go on elsewhere, and stop when it is told to.
    fn origin(&self, train: &[Example], dev: &[Example]) -> Origin {
        Origin::of([
            (
                "the corpus",
                digest::of([digest_of(train.iter()), digest_of(dev.iter())]),
            ),
            ("the model's shape", digest::of([format!("{:?}", self.model)])),
            ("--steps", self.steps.to_string()),
            ("--batch", self.batch.to_string()),
            ("--learning-rate", self.rate.to_string()),
            ("--seed", self.seed.to_string()),
            ("smoothing", self.smoothing.to_string()),
            ("steps of warm-up", self.warm_up.to_string()),
            ("steps between checks", self.check_every.to_string()),
            (
                "--patience",
                self.patience
                    .map_or("none".to_owned(), |checks| checks.to_string()),
            ),
            ("--precision", format!("{:?}", self.compute.precision)),
        ])
    }
}

/// How a run ended. The weights of the best dev loss are in the working folder's `best/`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) steps: usize,
    pub(crate) dev_loss: f64,
    pub(crate) dev_loss_step: usize,
    pub(crate) seconds: f64,
    #[serde(skip)]
    pub(crate) curve: Vec<Check>,
}

/// The part of a checkpoint that is no tensor.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct State {
    #[serde(default)]
    origin: Origin,
    step: usize,
    best: Option<Check>,
    checks_since_best: usize,
    stopped_early: bool,
    seconds: f64,
    curve: Vec<Check>,
    /// Sum and count of training losses since the last check.
    #[serde(with = "exact")]
    recent_sum: f64,
    recent: usize,
}

/// Trains and returns; `folder` holds `last/` (for resuming) and `best/` (a Hugging Face directory).
pub(crate) fn train(recipe: &Recipe, train: &[Example], dev: &[Example], folder: &Path) -> Result<Outcome> {
    anyhow::ensure!(!train.is_empty() && !dev.is_empty(), "the corpus is empty");
    let mut run = Run::open(recipe, recipe.origin(train, dev), folder)?;
    let mut dealer = Dealer::new(train, recipe.batch, recipe.seed);
    let meter = Meter::new(recipe);
    let started = Instant::now();
    let before = run.state.seconds;
    while run.state.step < recipe.steps && !run.state.stopped_early {
        let step = run.state.step;
        let loss = run.step(recipe, &dealer.batch_at(step), step)?;
        run.state.step += 1;
        run.state.recent_sum += loss;
        run.state.recent += 1;
        run.state.seconds = before + started.elapsed().as_secs_f64();
        meter.step(&run.state, loss);
        let late = recipe.time_max.is_some_and(|max| started.elapsed() >= max);
        if run.state.step % recipe.check_every == 0 || run.state.step == recipe.steps || late {
            run.check(dev, recipe, folder)?;
            meter.check(&run.state);
        }
        if late {
            break;
        }
    }
    meter.finish();
    let best = run.state.best.context("the run ended before its first check")?;
    Ok(Outcome {
        steps: run.state.step,
        dev_loss: best.dev,
        dev_loss_step: best.step,
        seconds: run.state.seconds,
        curve: run.state.curve,
    })
}

struct Run {
    model: Trainable,
    optimiser: AdamW,
    state: State,
}

impl Run {
    fn open(recipe: &Recipe, origin: Origin, folder: &Path) -> Result<Self> {
        let device = device(recipe.compute)?;
        let last = if recipe.resume {
            checkpoint::last(folder)?
        } else {
            None
        };
        let state = match &last {
            Some(last) => {
                let state: State = checkpoint::load_state(last)?;
                state.origin.expect(&origin, last)?;
                state
            }
            None => State {
                origin,
                ..State::default()
            },
        };
        let model = match &last {
            Some(last) => Trainable::load(last, &device)?,
            None => Trainable::random(recipe.model.clone(), recipe.seed, &device)?,
        };
        let model = computing(model, recipe.compute)?;
        let mut optimiser = AdamW::new(model.parameters(), Hyper::default())?;
        if let Some(last) = &last {
            optimiser.load(&last.join("adamw.safetensors"))?;
        }
        Ok(Self {
            model,
            optimiser,
            state,
        })
    }

    fn step(&mut self, recipe: &Recipe, examples: &[&Example], step: usize) -> Result<f64> {
        let dropout = self
            .model
            .dropout(recipe.seed ^ (step as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let (sources, labels) = columns(examples);
        let batch = Batch {
            sources: &sources,
            pairs: None,
            labels: &labels,
        };
        let loss = self.model.loss(&batch, recipe.smoothing, Some(&dropout))?;
        let value = f64::from(loss.to_scalar::<f32>()?);
        anyhow::ensure!(
            value.is_finite(),
            "the loss is not finite at step {step}: lower --learning-rate"
        );
        let rate = rate_at(step, recipe.steps, recipe.warm_up, recipe.rate);
        self.optimiser.step(&loss.backward()?, rate)?;
        Ok(value)
    }

    /// Dev loss without dropout or smoothing; saves the last state, and the best weights.
    fn check(&mut self, dev: &[Example], recipe: &Recipe, folder: &Path) -> Result<()> {
        let (mut total, mut tokens) = (0.0, 0usize);
        for examples in dev.chunks(recipe.batch) {
            let examples: Vec<&Example> = examples.iter().collect();
            let (sources, labels) = columns(&examples);
            let count: usize = labels.iter().map(|l| l.len()).sum();
            let loss = self.model.loss(
                &Batch {
                    sources: &sources,
                    pairs: None,
                    labels: &labels,
                },
                0.0,
                None,
            )?;
            total += f64::from(loss.to_scalar::<f32>()?) * count as f64;
            tokens += count;
        }
        let state = &mut self.state;
        let check = Check {
            step: state.step,
            train: state.recent_sum / state.recent.max(1) as f64,
            dev: total / tokens as f64,
        };
        (state.recent_sum, state.recent) = (0.0, 0);
        state.curve.push(check);
        if state.best.is_none_or(|best| check.dev < best.dev) {
            state.best = Some(check);
            state.checks_since_best = 0;
            self.model.save(&folder.join("best"))?;
        } else {
            state.checks_since_best += 1;
            state.stopped_early = recipe
                .patience
                .is_some_and(|most| state.checks_since_best >= most);
        }
        checkpoint::replace(folder, |new| {
            self.model.save(new)?;
            self.optimiser.save(&new.join("adamw.safetensors"))?;
            checkpoint::save_state(new, &self.state)
        })
    }
}

fn columns<'a>(examples: &[&'a Example]) -> (Vec<&'a [u32]>, Vec<&'a [u32]>) {
    examples
        .iter()
        .map(|e| (e.source.as_slice(), e.target.as_slice()))
        .unzip()
}

/// Progress: a bar for people, lines for programs and logs.
struct Meter {
    bar: Option<ProgressBar>,
    json: bool,
    name: String,
    steps: usize,
}

impl Meter {
    fn new(recipe: &Recipe) -> Self {
        let bar = (!recipe.json && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{prefix:8} {bar:30} {pos}/{len} {msg} {eta}")
                .expect("a constant template is well formed; this is a bug");
            ProgressBar::new(recipe.steps as u64)
                .with_style(style)
                .with_prefix(recipe.name.clone())
        });
        Self {
            bar,
            json: recipe.json,
            name: recipe.name.clone(),
            steps: recipe.steps,
        }
    }

    fn step(&self, state: &State, loss: f64) {
        if let Some(bar) = &self.bar {
            bar.set_position(state.step as u64);
            let best = state
                .best
                .map_or("–".to_owned(), |best| format!("{:.3}", best.dev));
            bar.set_message(format!("loss {loss:.3} dev {best}"));
        }
    }

    fn check(&self, state: &State) {
        let Some(check) = state.curve.last() else { return };
        if self.json {
            println!(
                "{}",
                serde_json::json!({"run": self.name, "step": check.step, "loss": check.train, "dev_loss": check.dev, "seconds": state.seconds})
            );
        } else if self.bar.is_none() {
            let left =
                state.seconds / state.step.max(1) as f64 * self.steps.saturating_sub(state.step) as f64;
            eprintln!(
                "{} step {} of {}: loss {:.4}, dev loss {:.4}, {:.0} min gone, {:.0} min left",
                self.name,
                state.step,
                self.steps,
                check.train,
                check.dev,
                state.seconds / 60.0,
                left / 60.0,
            );
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
    }
}

#[cfg(test)]
mod tests {
    use refract_model::BartConfig;

    use super::*;

    fn recipe(steps: usize, resume: bool) -> Recipe {
        let model = BartConfig {
            vocab_size: 24,
            d_model: 16,
            encoder_layers: 1,
            decoder_layers: 1,
            encoder_attention_heads: 2,
            decoder_attention_heads: 2,
            encoder_ffn_dim: 32,
            decoder_ffn_dim: 32,
            max_position_embeddings: 32,
            ..BartConfig::default()
        };
        Recipe {
            name: "test".into(),
            model: Config::Bart(model),
            steps,
            batch: 8,
            rate: 1e-2,
            warm_up: 5,
            smoothing: 0.1,
            seed: 7,
            check_every: 10,
            patience: None,
            time_max: None,
            compute: Compute::default(),
            resume,
            json: true,
        }
    }

    /// Copy the two middle tokens, swapped.
    fn examples() -> Vec<Example> {
        (0..64u32)
            .map(|i| {
                let (a, b) = (4 + i % 9, 13 + i % 7);
                Example {
                    source: vec![0, a, b, 2],
                    target: vec![b, a, 2],
                }
            })
            .collect()
    }

    #[test]
    fn a_resumed_run_ends_with_the_same_weights_and_learns() -> Result<()> {
        let (examples, dir) = (examples(), tempfile::tempdir()?);
        let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
        let first = train(
            &Recipe {
                steps: 10,
                ..recipe(10, false)
            },
            &examples,
            &examples[..8],
            &whole,
        )?;
        let outcome = train(&recipe(40, false), &examples, &examples[..8], &whole)?;
        assert!(outcome.dev_loss < first.dev_loss, "{outcome:?} after {first:?}");

        // Stopped by hand after 20 of 40 steps: the schedule must be that of 40.
        let origin = recipe(40, false).origin(&examples, &examples[..8]);
        let mut run = Run::open(&recipe(40, false), origin, &parts)?;
        let mut dealer = Dealer::new(&examples, 8, 7);
        for step in 0..20 {
            let loss = run.step(&recipe(40, false), &dealer.batch_at(step), step)?;
            run.state.step += 1;
            run.state.recent_sum += loss;
            run.state.recent += 1;
            if run.state.step.is_multiple_of(10) {
                run.check(&examples[..8], &recipe(40, false), &parts)?;
            }
        }
        // Killed between two renames.
        std::fs::rename(parts.join("last"), parts.join("last.old"))?;
        let resumed = train(&recipe(40, true), &examples, &examples[..8], &parts)?;
        assert_eq!(resumed.steps, 40);
        let bytes = |dir: &Path| std::fs::read(dir.join("last/model.safetensors"));
        assert_eq!(bytes(&whole)?, bytes(&parts)?);
        assert_eq!(resumed.curve, outcome.curve);
        Ok(())
    }

    #[test]
    fn a_checkpoint_of_another_corpus_seed_or_length_is_not_gone_on_with() -> Result<()> {
        let (examples, dir) = (examples(), tempfile::tempdir()?);
        let folder = dir.path().join("run");
        train(&recipe(10, false), &examples, &examples[..8], &folder)?;
        let before = std::fs::read(folder.join("last/model.safetensors"))?;
        let seeded = Recipe {
            seed: 8,
            ..recipe(10, true)
        };
        for (other, corpus, what) in [
            (recipe(10, true), &examples[1..], "the corpus was"),
            (seeded, &examples[..], "--seed was 7 and is 8"),
            (recipe(20, true), &examples[..], "--steps was 10 and is 20"),
        ] {
            let error = train(&other, corpus, &examples[..8], &folder)
                .unwrap_err()
                .to_string();
            assert!(error.contains(what), "{what:?} is not in {error:?}");
        }
        assert_eq!(std::fs::read(folder.join("last/model.safetensors"))?, before);
        // Gone on with, a finished run has nothing to do; without --resume another one begins.
        train(&recipe(10, true), &examples, &examples[..8], &folder)?;
        train(&recipe(20, false), &examples[1..], &examples[..8], &folder)?;
        Ok(())
    }

    #[test]
    fn a_run_that_no_longer_improves_on_dev_stops_where_it_is_told_to() -> Result<()> {
        let (examples, dir) = (examples(), tempfile::tempdir()?);
        // What it is to write on dev is never taught.
        let dev: Vec<Example> = examples[..8]
            .iter()
            .map(|e| Example {
                target: vec![23, 22, 2],
                ..e.clone()
            })
            .collect();
        let patient = Recipe {
            patience: Some(2),
            ..recipe(400, false)
        };
        let outcome = train(&patient, &examples, &dev, &dir.path().join("run"))?;
        assert_eq!(outcome.steps, outcome.dev_loss_step + 20, "{outcome:?}");
        assert!(outcome.steps < 400);
        Ok(())
    }
}
