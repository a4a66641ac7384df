//! Fine-tuning a BART on labels: gated user and item tables first, then everything; early stopping on dev; runs that resume bit
//! for bit.
//!
//! ```text
//!  step < frozen ─▶ tables, projection and gate learn; the body is frozen
//!  step ≥ frozen ─▶ all learn; a check every so often: dev loss ─▶ best/ , last/ ─▶ no better for `patience` checks: stop
//!  one step = `accumulate` small batches; their gradients are weighted by their tokens, so that it equals one large batch
//! ```
//!
//! What happens at step n depends on the seed and n alone.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use candle_core::backprop::GradStore;
use refract_model::{BartConfig, Batch, Config, Dropout, PairRows, PairSizes, Trainable};
use serde::{Deserialize, Serialize};

use super::adamw::{AdamW, Hyper, rate_at};
use super::checkpoint::{self, Check, Origin, digest_of, exact};
use super::compute::{computing, device};
use super::corpus::Dealer;
use super::labels::Set;
use crate::cli::Compute;
use crate::digest;

/// Width of a row of either table (the published recipe's).
const PAIR_WIDTH: usize = 64;

/// Where the weights come from.
#[derive(Clone, Debug)]
pub(crate) enum Start {
    Directory(PathBuf),
    Scratch(Box<BartConfig>),
}

/// What a run is made of besides its examples.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) start: Start,
    /// Rows of each table; 0 is a plain BART, which Hugging Face loads.
    pub(crate) pair_rows: usize,
    /// Steps of the optimiser, the frozen ones included.
    pub(crate) steps: usize,
    pub(crate) frozen_steps: usize,
    pub(crate) warm_up: usize,
    pub(crate) batch: usize,
    pub(crate) accumulate: usize,
    /// Peak learning rate of the body.
    pub(crate) rate: f64,
    /// Peak learning rate of tables, projection and gate.
    pub(crate) pair_rate: f64,
    pub(crate) smoothing: f64,
    /// `None`: what the model's configuration says.
    pub(crate) dropout: Option<f32>,
    pub(crate) seed: u64,
    pub(crate) check_every: usize,
    /// Checks without a better dev loss after which the run stops.
    pub(crate) patience: usize,
    pub(crate) time_max: Option<Duration>,
    pub(crate) compute: Compute,
    pub(crate) resume: bool,
}

impl Recipe {
    /// Time, place and threads are left out: a run may go on elsewhere, and stop when it is told to.
    fn origin(&self, train: &Set, dev: &Set) -> Result<Origin> {
        let rows: Vec<u8> = train
            .pairs
            .iter()
            .flat_map(|pair| [pair.user.to_le_bytes(), pair.item.to_le_bytes()].concat())
            .collect();
        let labels = [digest_of(train.examples.iter()), digest_of(dev.examples.iter())];
        let start = match &self.start {
            // Wherever they lie.
            Start::Directory(dir) => format!("weights {}", digest::of_model(dir)?),
            Start::Scratch(config) => format!(
                "nothing (width {}, {} layers, {} ids, {})",
                config.d_model,
                config.encoder_layers,
                config.vocab_size,
                digest::of([format!("{config:?}")])
            ),
        };
        let dropout = self
            .dropout
            .map_or("the model's own".to_owned(), |share| share.to_string());
        Ok(Origin::of([
            (
                "what the labels say",
                digest::of(labels.map(String::into_bytes).into_iter().chain([rows])),
            ),
            ("what it starts from", start),
            ("--pair-rows", self.pair_rows.to_string()),
            ("--steps", self.steps.to_string()),
            ("frozen steps", self.frozen_steps.to_string()),
            ("steps of warm-up", self.warm_up.to_string()),
            ("--batch", self.batch.to_string()),
            ("--accumulate", self.accumulate.to_string()),
            ("--learning-rate", self.rate.to_string()),
            ("--pair-rate", self.pair_rate.to_string()),
            ("--smoothing", self.smoothing.to_string()),
            ("--dropout", dropout),
            ("--seed", self.seed.to_string()),
            ("--check-every", self.check_every.to_string()),
            ("--patience", self.patience.to_string()),
            ("--precision", format!("{:?}", self.compute.precision)),
        ]))
    }
}

/// How far a run is; with the weights and moments, a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    #[serde(default)]
    origin: Origin,
    pub(crate) step: usize,
    pub(crate) best: Option<Check>,
    pub(crate) checks_since_best: usize,
    pub(crate) stopped_early: bool,
    pub(crate) seconds: f64,
    pub(crate) curve: Vec<Check>,
    /// Sum and count of training losses since the last check.
    #[serde(with = "exact")]
    recent_sum: f64,
    recent: usize,
}

/// Trains; `folder` then holds `last/` (to resume from) and `best/` (a Hugging Face directory).
pub(crate) fn train(
    recipe: &Recipe,
    train: &Set,
    dev: &Set,
    folder: &Path,
    mut watch: impl FnMut(&State, f64),
) -> Result<State> {
    ensure!(
        !train.examples.is_empty() && !dev.examples.is_empty(),
        "no label became an example"
    );
    let mut run = Run::open(recipe, recipe.origin(train, dev)?, folder)?;
    let mut dealer = Dealer::new(&train.examples, recipe.batch, recipe.seed);
    let (started, before) = (Instant::now(), run.state.seconds);
    while run.state.step < recipe.steps && !run.state.stopped_early {
        let step = run.state.step;
        let batches: Vec<Vec<usize>> = (0..recipe.accumulate)
            .map(|n| dealer.places_at(step * recipe.accumulate + n).to_vec())
            .collect();
        let loss = run.step(recipe, train, &batches)?;
        run.state.step += 1;
        run.state.recent_sum += loss;
        run.state.recent += 1;
        run.state.seconds = before + started.elapsed().as_secs_f64();
        let late = recipe.time_max.is_some_and(|max| started.elapsed() >= max);
        if run.state.step % recipe.check_every == 0 || run.state.step == recipe.steps || late {
            run.check(recipe, dev, folder)?;
        }
        watch(&run.state, loss);
        if late {
            break;
        }
    }
    Ok(run.state)
}

struct Run {
    model: Trainable,
    /// Everything but the tables' part.
    body: AdamW,
    /// Tables, projection and gate.
    pairs: Option<AdamW>,
    state: State,
}

fn is_pair_part(name: &str) -> bool {
    ["user_whole_embeddings", "item_whole_embeddings", "user_item_"]
        .iter()
        .any(|part| name.contains(part))
}

impl Run {
    fn open(recipe: &Recipe, origin: Origin, folder: &Path) -> Result<Self> {
        let device = device(recipe.compute)?;
        let last = if recipe.resume {
            checkpoint::last(folder)?
        } else {
            None
        };
        if let Some(last) = last {
            let state: State = checkpoint::load_state(&last)?;
            state.origin.expect(&origin, &last)?;
            let mut run = Self::of(computing(Trainable::load(&last, &device)?, recipe.compute)?)?;
            run.body.load(&last.join("adamw.safetensors"))?;
            if let Some(pairs) = &mut run.pairs {
                pairs.load(&last.join("adamw.pairs.safetensors"))?;
            }
            run.state = state;
            return Ok(run);
        }
        let mut model = match &recipe.start {
            Start::Directory(dir) => Trainable::load(dir, &device)?,
            Start::Scratch(config) => {
                Trainable::random(Config::Bart((**config).clone()), recipe.seed, &device)?
            }
        };
        let has_tables = model.model().spec().pair_tables.is_some();
        if recipe.pair_rows > 0 && !has_tables {
            let sizes = PairSizes {
                users: recipe.pair_rows,
                items: recipe.pair_rows,
                user_width: PAIR_WIDTH,
                item_width: PAIR_WIDTH,
            };
            model = model.with_pair_tables(sizes, recipe.seed)?;
        }
        let mut run = Self::of(computing(model, recipe.compute)?)?;
        run.state.origin = origin;
        Ok(run)
    }

    fn of(model: Trainable) -> Result<Self> {
        let (pairs, body): (Vec<_>, Vec<_>) = model
            .parameters()
            .into_iter()
            .partition(|(name, _)| is_pair_part(name));
        Ok(Self {
            body: AdamW::new(body, Hyper::default())?,
            pairs: if pairs.is_empty() {
                None
            } else {
                Some(AdamW::new(pairs, Hyper::default())?)
            },
            model,
            state: State::default(),
        })
    }

    /// Batches are lists of places in the set; returns the loss over all their tokens.
    fn step(&mut self, recipe: &Recipe, set: &Set, batches: &[Vec<usize>]) -> Result<f64> {
        let step = self.state.step;
        let (loss, gradients) = self.gradients(recipe, set, batches, step)?;
        ensure!(
            loss.is_finite(),
            "the loss is not finite at step {step}: lower --learning-rate"
        );
        let frozen = if self.pairs.is_some() {
            recipe.frozen_steps
        } else {
            0
        };
        if let Some(pairs) = &mut self.pairs {
            let warm_up = recipe.warm_up.min(frozen.max(1));
            pairs.step(&gradients, rate_at(step, recipe.steps, warm_up, recipe.pair_rate))?;
        }
        if step >= frozen {
            let rate = rate_at(step - frozen, recipe.steps - frozen, recipe.warm_up, recipe.rate);
            self.body.step(&gradients, rate)?;
        }
        Ok(loss)
    }

    /// Mean loss over all tokens of the batches, and its gradients: as if they were one batch.
    fn gradients(
        &self,
        recipe: &Recipe,
        set: &Set,
        batches: &[Vec<usize>],
        step: usize,
    ) -> Result<(f64, GradStore)> {
        let tokens = |batch: &[usize]| -> usize { batch.iter().map(|i| set.examples[*i].target.len()).sum() };
        let all: usize = batches.iter().map(|batch| tokens(batch)).sum();
        let parameters = self.model.parameters();
        let (mut sum, mut total): (f64, Option<GradStore>) = (0.0, None);
        for (n, batch) in batches.iter().enumerate() {
            let number = (step * batches.len() + n) as u64;
            let dropout = self.dropout(recipe, recipe.seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let share = tokens(batch) as f64 / all as f64;
            let loss = (self.loss(set, batch, recipe.smoothing, Some(&dropout))? * share)?;
            sum += f64::from(loss.to_scalar::<f32>()?);
            let gradients = loss.backward()?;
            match &mut total {
                None => total = Some(gradients),
                Some(total) => {
                    for (_, var) in &parameters {
                        let Some(new) = gradients.get(var) else { continue };
                        let sum = match total.get(var) {
                            Some(old) => (old + new)?,
                            None => new.clone(),
                        };
                        total.insert(var, sum);
                    }
                }
            }
        }
        Ok((sum, total.context("a step without batches")?))
    }

    fn loss(
        &self,
        set: &Set,
        places: &[usize],
        smoothing: f64,
        dropout: Option<&Dropout>,
    ) -> Result<candle_core::Tensor> {
        let sources: Vec<&[u32]> = places
            .iter()
            .map(|i| set.examples[*i].source.as_slice())
            .collect();
        let labels: Vec<&[u32]> = places
            .iter()
            .map(|i| set.examples[*i].target.as_slice())
            .collect();
        let pairs: Vec<PairRows> = places.iter().map(|i| set.pairs[*i]).collect();
        let batch = Batch {
            sources: &sources,
            pairs: self.pairs.as_ref().map(|_| pairs.as_slice()),
            labels: &labels,
        };
        Ok(self.model.loss(&batch, smoothing, dropout)?)
    }

    fn dropout(&self, recipe: &Recipe, seed: u64) -> Dropout {
        match recipe.dropout {
            Some(share) => Dropout::new(share, 0.0, 0.0, seed),
            None => self.model.dropout(seed),
        }
    }

    /// Dev loss without dropout or smoothing; keeps the best weights, and a checkpoint.
    fn check(&mut self, recipe: &Recipe, dev: &Set, folder: &Path) -> Result<()> {
        let places: Vec<usize> = (0..dev.examples.len()).collect();
        let (mut sum, mut tokens) = (0.0, 0usize);
        for batch in places.chunks(recipe.batch) {
            let count: usize = batch.iter().map(|i| dev.examples[*i].target.len()).sum();
            let loss = self.loss(dev, batch, 0.0, None)?;
            sum += f64::from(loss.to_scalar::<f32>()?) * count as f64;
            tokens += count;
        }
        let state = &mut self.state;
        let check = Check {
            step: state.step,
            train: state.recent_sum / state.recent.max(1) as f64,
            dev: sum / tokens as f64,
        };
        (state.recent_sum, state.recent) = (0.0, 0);
        state.curve.push(check);
        if state.best.is_none_or(|best| check.dev < best.dev) {
            state.best = Some(check);
            state.checks_since_best = 0;
            self.model.save(&folder.join("best"))?;
        } else if state.step > recipe.frozen_steps {
            state.checks_since_best += 1;
            state.stopped_early = state.checks_since_best >= recipe.patience;
        }
        self.save(folder)
    }

    fn save(&self, folder: &Path) -> Result<()> {
        checkpoint::replace(folder, |new| {
            self.model.save(new)?;
            self.body.save(&new.join("adamw.safetensors"))?;
            if let Some(pairs) = &self.pairs {
                pairs.save(&new.join("adamw.pairs.safetensors"))?;
            }
            checkpoint::save_state(new, &self.state)
        })
    }
}

#[cfg(test)]
mod tests;
