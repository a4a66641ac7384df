//! `refract train`: the ranker, the slot Oracle, the slot Prism, or all that the demo ships.

mod adamw;
mod beside;
mod checkpoint;
mod compute;
mod corpus;
mod finetune;
pub(crate) mod labels;
mod place;
mod seq2seq;
mod settings;
mod ship;
mod speed;
mod student;
mod vocabulary;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use refract_bundle::manifest::{Decode, Limits, Manifest, Mode, Provenance, Role, SlotLimits, Template};
use refract_bundle::{Tokenizer, write_slot_tokenizer};
use refract_domain::History;
use refract_import::splits::Part;
use refract_model::{BartConfig, Config, Ids, T5Config};
use refract_ranker::dataset::{Dataset, LoadOptions};
use refract_ranker::model::Hyper;

use self::corpus::Example;
use crate::assets::data_and_ranker;
use crate::cli::{self, Train};
use crate::corpus::Line;
use crate::distill::assigned;
use seq2seq::Recipe;
use ship::ship;

/// Tokens of the longest prompt and of the longest answer of a slot bundle: several times what their corpora hold.
const PROMPT_TOKENS_MAX: usize = 512;
const ANSWER_TOKENS_MAX: usize = 96;
/// Optimiser steps where the command names none.
const STEPS: usize = 2_400;
/// Texts that a trained model writes so that a fresh service knows what it usually says.
const REHEARSED: usize = 6_000;
/// Corpus lines kept back for the dev loss.
const DEV_LINES: usize = 1_000;

/// The numeric library's threads wait for each other by spinning; on models this small they cost more than they give
/// (measured: a step took three times as long on two busy cores with two threads).
fn threads(wanted: usize) {
    // Fails only if a pool exists already, which then is the one that is used.
    let _kept = rayon::ThreadPoolBuilder::new().num_threads(wanted).build_global();
}

/// `refract train …`
pub(crate) fn run(what: &Train) -> Result<()> {
    match what {
        Train::Oracle(args) => settings::settle(args.run.threads),
        Train::Prism(args) => settings::settle(args.run.threads),
        Train::Speed(args) => settings::settle(args.threads),
        // The ranker's factors are its own code; what the demo's models are trained by is this program again.
        Train::Ranker(_) | Train::Demo(_) => {}
    }
    match what {
        Train::Ranker(args) => ranker(args),
        Train::Oracle(args) => oracle(args),
        Train::Prism(args) => prism(args),
        Train::Speed(args) => speed::run(args),
        Train::Demo(args) => demo(args),
    }
}

/// `refract train ranker`.
fn ranker(args: &cli::TrainRanker) -> Result<()> {
    let (data, _) = data_and_ranker(&args.data)?;
    train_ranker(&data, &args.out, args.seed, args.json)
}

/// `refract train oracle`.
fn oracle(args: &cli::TrainModel) -> Result<()> {
    threads(args.run.threads);
    let (data, _) = data_and_ranker(&args.run.data)?;
    train_slots(Role::Oracle, &data, args)
}

/// `refract train prism`: on labels, or on a corpus of slots.
fn prism(args: &cli::TrainPrism) -> Result<()> {
    if !args.student.labels.is_empty() {
        return student::run(args);
    }
    threads(args.run.threads);
    let (data, _) = data_and_ranker(&args.run.data)?;
    train_slots(Role::Prism, &data, &args.slots())
}

/// `refract train demo`: what is already there and whole is left alone with `--resume`.
fn demo(args: &cli::TrainDemo) -> Result<()> {
    let (data, _) = data_and_ranker(&args.data)?;
    let done = |part: &str| args.resume && args.out.join(part).is_dir();
    std::fs::create_dir_all(&args.out).with_context(|| format!("making {}", args.out.display()))?;
    if !done("ranker") {
        train_ranker(&data, &args.out.join("ranker"), args.seed, args.json)?;
    }
    let parts = [("oracle", &DEMO_ORACLE), ("prism", &DEMO_PRISM)];
    let commands = parts
        .into_iter()
        .filter(|(part, _)| !done(part))
        .map(|(part, shape)| Ok((part, shape.command(part, &data, args)?)))
        .collect::<Result<Vec<_>>>()?;
    beside::run(commands)
}
/// What one of the demo's models is trained with.
struct Shape {
    examples: usize,
    steps: usize,
    batch: usize,
    learning_rate: f64,
}

/// A T5 wants smaller steps than a BART: at 2e-3 it did not learn.
const DEMO_ORACLE: Shape = Shape {
    examples: 50_000,
    steps: 1_800,
    batch: cli::BATCH,
    learning_rate: 1e-3,
};
/// After 3,000 steps on 40,000 examples 97 of 100 first texts were faultless; the rest of the steps are for the other three.
const DEMO_PRISM: Shape = Shape {
    examples: 120_000,
    steps: 9_000,
    batch: cli::BATCH,
    learning_rate: cli::LEARNING_RATE,
};

impl Shape {
    /// This program again, for one model: the numeric library has one set of threads a process, and two models train best in two.
    fn command(&self, part: &str, data: &Path, args: &cli::TrainDemo) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe().context("finding this program")?);
        command.args(["train", part, "--threads", "1"]);
        command
            .arg("--data")
            .arg(data)
            .arg("--out")
            .arg(args.out.join(part));
        for (name, value) in [
            ("--examples", self.examples.to_string()),
            ("--steps", self.steps.to_string()),
            ("--batch", self.batch.to_string()),
            ("--learning-rate", self.learning_rate.to_string()),
            ("--seed", args.seed.to_string()),
        ] {
            command.args([name, &value]);
        }
        if args.resume {
            command.arg("--resume");
        }
        if args.json {
            command.arg("--json");
        }
        Ok(command)
    }
}

fn train_ranker(data: &Path, out: &Path, seed: u64, json: bool) -> Result<()> {
    let dataset = Dataset::load(data, &LoadOptions::default())?;
    let bar = if json {
        indicatif::ProgressBar::hidden()
    } else {
        indicatif::ProgressBar::new_spinner()
    };
    let mut hyper = Hyper::default();
    hyper.als.seed = seed;
    let model = refract_ranker::train(&dataset, &hyper, |progress| {
        bar.set_message(format!(
            "ranker: {} {}/{}",
            progress.stage.as_str(),
            progress.done,
            progress.total
        ));
        bar.tick();
    })?;
    bar.finish_and_clear();
    model.save(out)?;
    if json {
        println!(
            "{}",
            serde_json::json!({"ranker": out, "revision": model.revision().0, "parameters": model.parameters()})
        );
    } else {
        eprintln!(
            "ranker: {} parameters, revision {}, written to {}",
            model.parameters(),
            model.revision(),
            out.display()
        );
    }
    Ok(())
}

/// Corpus, tokenizer, training, bundle. Everything on the way lies in `<out>.training`, so that a stopped run resumes.
fn train_slots(role: Role, data: &Path, args: &cli::TrainModel) -> Result<()> {
    let name = match role {
        Role::Oracle => "oracle",
        Role::Prism => "prism",
    };
    let working = place::prepare(&args.run.out, args.run.resume)?;
    let dataset = Dataset::load(data, &LoadOptions::default())?;
    let lines = lines(role, &past(&dataset, data)?, &dataset, &args.run);
    if lines.len() < 100 {
        bail!(
            "{} gives only {} training lines: it needs users with at least three interactions",
            data.display(),
            lines.len()
        );
    }
    corpus::write(&working.join("corpus.jsonl"), &lines)?;
    let slots = SlotLimits::default();
    let tokenizer = write_slot_tokenizer(&working, role, &slots)?;
    let (config, eos) = architecture(role, &tokenizer);
    let (train, dev) = corpus::split(lines, DEV_LINES, args.run.seed);
    let ids = |lines: &[Line]| corpus::tokenise(lines, &tokenizer, eos, PROMPT_TOKENS_MAX, ANSWER_TOKENS_MAX);
    let (train, dev) = (ids(&train)?, ids(&dev)?);
    let steps = args.run.steps.unwrap_or(STEPS);
    if !args.run.json {
        eprintln!(
            "{name}: {} examples, {} ids, {steps} steps of {}",
            train.len(),
            tokenizer.vocab_size(),
            args.batch
        );
    }
    let recipe = Recipe {
        name: name.to_owned(),
        model: config,
        steps,
        batch: args.batch,
        rate: args.learning_rate,
        warm_up: (steps / 20).clamp(1, 200),
        smoothing: 0.0,
        seed: args.run.seed,
        check_every: (steps / 20).clamp(1, 100),
        patience: args.patience,
        time_max: args.run.time_max,
        compute: args.run.compute,
        resume: args.run.resume,
        json: args.run.json,
    };
    let outcome = seq2seq::train(&recipe, &train, &dev, &working)?;
    ship(
        manifest(role, name, data, args, &outcome),
        &working,
        &args.run.out,
        &[("loss.svg", &checkpoint::curve(&outcome.curve))],
        &rehearsal(&train),
    )?;
    let minutes = Duration::from_secs_f64(outcome.seconds).as_secs_f64() / 60.0;
    if args.run.json {
        println!(
            "{}",
            serde_json::json!({"bundle": args.run.out, "outcome": outcome})
        );
    } else {
        eprintln!(
            "{name}: dev loss {:.4} at step {}, {minutes:.1} minutes, written to {}",
            outcome.dev_loss,
            outcome.dev_loss_step,
            args.run.out.display()
        );
    }
    Ok(())
}

/// Prompts from all over the corpus.
fn rehearsal(train: &[Example]) -> Vec<Vec<u32>> {
    let apart = (train.len() / REHEARSED).max(1);
    let prompts = train.iter().step_by(apart).take(REHEARSED);
    prompts.map(|example| example.source.clone()).collect()
}

/// Of the training users, what they did before the dev window: a held-out user is one of whom no model saw anything.
fn past(dataset: &Dataset, data: &Path) -> Result<Vec<Arc<History>>> {
    let assigned = assigned(dataset, data)?;
    let of = |user: u32| {
        let acts = dataset.interactions().of(user).iter();
        let known = acts.filter(|act| act.at < assigned.splits.dev_from);
        Arc::new(History::new(known.map(|act| dataset.interaction(act)).collect()))
    };
    Ok((0..dataset.users_len() as u32)
        .filter(|user| assigned.parts.get(dataset.user_id(*user).expose()) == Some(&Part::Train))
        .map(of)
        .collect())
}

fn lines(role: Role, histories: &[Arc<History>], dataset: &Dataset, run: &cli::TrainRun) -> Vec<Line> {
    let (examples, seed) = (run.examples, run.seed);
    let config = crate::corpus::Config {
        seed,
        ..crate::corpus::Config::default()
    };
    let per_request = if role == Role::Prism {
        config.styles_per_request
    } else {
        1
    };
    let requests = crate::corpus::draw(
        dataset.catalogue().items(),
        histories,
        examples / per_request.max(1),
        seed,
    );
    match role {
        Role::Oracle => crate::corpus::oracle_lines(&config, &requests),
        Role::Prism => crate::corpus::prism_lines(&config, &requests),
    }
}

/// The shapes of the shipped bundles: about a million parameters each.
fn architecture(role: Role, tokenizer: &Tokenizer) -> (Config, u32) {
    let vocab_size = tokenizer.vocab_size();
    let eos = tokenizer.id("</s>").unwrap_or(match role {
        Role::Oracle => 1,
        Role::Prism => 2,
    });
    let config = match role {
        Role::Oracle => Config::T5(T5Config {
            vocab_size,
            d_model: 128,
            d_kv: 32,
            d_ff: 256,
            num_layers: 3,
            num_decoder_layers: Some(2),
            num_heads: 4,
            dropout_rate: 0.0,
            feed_forward_proj: "gated-gelu".to_owned(),
            tie_word_embeddings: false,
            pad_token_id: Some(0),
            eos_token_id: Some(Ids::One(eos)),
            decoder_start_token_id: Some(0),
            ..T5Config::default()
        }),
        Role::Prism => Config::Bart(BartConfig {
            vocab_size,
            max_position_embeddings: PROMPT_TOKENS_MAX,
            encoder_layers: 2,
            encoder_ffn_dim: 256,
            encoder_attention_heads: 4,
            decoder_layers: 2,
            decoder_ffn_dim: 256,
            decoder_attention_heads: 4,
            d_model: 128,
            dropout: 0.0,
            // About d_model^-½. BART's own 0.02 suits a width of 1024: here it took more than three times the steps.
            init_std: 0.08,
            forced_eos_token_id: None,
            eos_token_id: Some(Ids::One(eos)),
            ..BartConfig::default()
        }),
    };
    (config, eos)
}

/// What the bundle says of itself, its recipe included.
fn manifest(
    role: Role,
    name: &str,
    data: &Path,
    args: &cli::TrainModel,
    outcome: &seq2seq::Outcome,
) -> Manifest {
    Manifest {
        name: format!("slot-{name}"),
        role,
        mode: Mode::Conditioned,
        revision: String::new(),
        precision: None,
        template: Template::slots(&format!("slots-{name}")),
        slots: Some(SlotLimits::default()),
        decode: Decode::greedy(ANSWER_TOKENS_MAX),
        limits: Limits {
            prompt_tokens_max: PROMPT_TOKENS_MAX,
            history_items_max: 10,
        },
        provenance: Provenance {
            recipe: format!(
                "refract train {name} --seed {} --examples {} --batch {} --learning-rate {} --steps {} (ended after {}, dev loss {:.4} at {})",
                args.run.seed,
                args.run.examples,
                args.batch,
                args.learning_rate,
                args.run.steps.unwrap_or(STEPS),
                outcome.steps,
                outcome.dev_loss,
                outcome.dev_loss_step
            ),
            seed: args.run.seed,
            data: data
                .file_name()
                .map_or_else(|| "data".to_owned(), |n| n.to_string_lossy().into_owned()),
            random_weights: false,
        },
        files: std::collections::BTreeMap::new(),
    }
}
