//! `refract train prism --labels`: labels to a bundle that the engine serves and, with the gate off, Hugging Face loads.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use refract_bundle::manifest::{Decode, Limits, Manifest, Mode, Provenance, Role, Template};
use refract_bundle::{Bundle, TOKENIZER_FILE};
use refract_distill::Label;
use refract_model::{BartConfig, Config, Ids};

use super::checkpoint;
use super::finetune::{self, Recipe, Start, State};
use super::labels::{self, Passed, Set};
use super::ship::ship;
use super::{place, threads, vocabulary};
use crate::cli::{Student, StudentMode, TrainPrism};

/// As published: ten history items, 768 tokens in, 150 out.
const HISTORY_ITEMS: usize = 10;
const PROMPT_TOKENS_MAX: usize = 768;
const ANSWER_TOKENS_MAX: usize = 150;
/// Where nothing says otherwise: the published settings for a pretrained model; a fresh small one learns with larger steps.
const BATCH: usize = 16;
const PATIENCE: usize = 5;
const RATE_TUNED: f64 = 3e-5;
const RATE_FRESH: f64 = 1e-3;

pub(super) fn run(args: &TrainPrism) -> Result<()> {
    threads(args.run.threads);
    let student = &args.student;
    let working = place::prepare(&args.run.out, args.run.resume)?;

    let mut passed = Passed::default();
    let all = labels::read(&student.labels, &mut passed)?;
    let teachers = teachers(&all);
    let (train, dev) = labels::split(all, &mut passed)?;
    let config = architecture(student, &train, &working)?;
    let manifest = manifest(args, &config, &teachers);
    let asking = asking(&working, manifest.clone())?;
    let eos = match &config.eos_token_id {
        Some(Ids::One(id)) => *id,
        Some(Ids::Many(ids)) => ids.first().copied().unwrap_or(2),
        None => 2,
    };
    let rows = student.pair_rows;
    let mut set =
        |labels: &[Label]| labels::examples(labels, &asking, eos, ANSWER_TOKENS_MAX, rows, &mut passed);
    let (train, dev) = (set(&train), set(&dev));
    let recipe = recipe(args, config, train.examples.len());
    announce(args, &recipe, &train, &dev, &passed);
    let (bad, all) = (
        passed.bad(),
        passed.bad() + train.examples.len() + dev.examples.len(),
    );
    if bad as f64 > student.bad_labels_max * all as f64 {
        bail!(
            "{bad} of {all} labels are of no use, more than the share {} of --bad-labels-max; what is wrong with them stands above",
            student.bad_labels_max
        );
    }

    let bar = bar(args.run.json, recipe.steps);
    let mut checks = 0;
    let state = finetune::train(&recipe, &train, &dev, &working, |state, loss| {
        bar.set_position(state.step as u64);
        let best = state
            .best
            .map_or("–".to_owned(), |best| format!("{:.3}", best.dev));
        bar.set_message(format!("loss {loss:.3} dev {best}"));
        if state.curve.len() > checks {
            checks = state.curve.len();
            progress(args.run.json, state, bar.is_hidden());
        }
    });
    bar.finish_and_clear();
    let state = state?;
    let best = state.best.context("the run ended before its first check")?;
    finish(args, manifest, &working, &state)?;
    if args.run.json {
        println!(
            "{}",
            serde_json::json!({"bundle": args.run.out, "steps": state.step, "dev_loss": best.dev, "dev_loss_step": best.step,
                "stopped_early": state.stopped_early, "seconds": state.seconds})
        );
    } else {
        eprintln!(
            "prism: dev loss {:.4} at step {} of {}{}, {:.1} minutes, written to {}",
            best.dev,
            best.step,
            state.step,
            if state.stopped_early {
                " (stopped early)"
            } else {
                ""
            },
            state.seconds / 60.0,
            args.run.out.display()
        );
    }
    Ok(())
}

fn teachers(labels: &[Label]) -> String {
    let mut names: Vec<String> = labels
        .iter()
        .map(|l| format!("{} ({})", l.provenance.teacher, l.provenance.prompt))
        .collect();
    names.sort();
    names.dedup();
    names.join(", ")
}

/// The model's shape; puts the tokenizer into the working folder.
fn architecture(student: &Student, train: &[Label], working: &Path) -> Result<BartConfig> {
    let tokenizer = working.join(TOKENIZER_FILE);
    let has_checkpoint = checkpoint::last(working)?.is_some();
    if let Some(from) = &student.from {
        let Config::Bart(config) = Config::read(from)? else {
            bail!("{} is no BART", from.display());
        };
        let source = from.join(TOKENIZER_FILE);
        let bytes = std::fs::read(&source).with_context(|| format!("reading {}", source.display()))?;
        // What a checkpoint has learnt are its own tokenizer's ids: it is not to lose that.
        if has_checkpoint && std::fs::read(&tokenizer).ok().as_ref() != Some(&bytes) {
            bail!(
                "the checkpoint in {} was begun with another tokenizer than {}: to begin anew, leave --resume out or name another --out",
                working.display(),
                source.display()
            );
        }
        refract_durable::write(&tokenizer, bytes)
            .with_context(|| format!("writing {}", tokenizer.display()))?;
        return Ok(config);
    }
    if !has_checkpoint {
        let texts: Vec<String> = train
            .iter()
            .flat_map(|label| {
                let items = label.history.iter().chain([&label.item]);
                let mut texts: Vec<String> = items
                    .flat_map(|item| item.attributes.values().flatten().chain([&item.title]).cloned())
                    .collect();
                texts.extend(label.facts.iter().map(|fact| fact.text.clone()));
                texts.push(label.text.clone());
                texts
            })
            .collect();
        vocabulary::write(working, &texts, student.vocabulary)?;
    }
    let vocab_size = refract_bundle::Tokenizer::read(&tokenizer)?.vocab_size();
    let width = student.width;
    Ok(BartConfig {
        vocab_size,
        max_position_embeddings: PROMPT_TOKENS_MAX,
        encoder_layers: student.layers,
        decoder_layers: student.layers,
        encoder_ffn_dim: 4 * width,
        decoder_ffn_dim: 4 * width,
        encoder_attention_heads: (width / 32).max(1),
        decoder_attention_heads: (width / 32).max(1),
        d_model: width,
        dropout: 0.1,
        init_std: (width as f64).powf(-0.5),
        forced_eos_token_id: None,
        eos_token_id: Some(Ids::One(2)),
        ..BartConfig::default()
    })
}

fn manifest(args: &TrainPrism, config: &BartConfig, teachers: &str) -> Manifest {
    let student = &args.student;
    let template = Template {
        name: if student.titles_only {
            "titles-prism"
        } else {
            "plain-prism"
        }
        .to_owned(),
        attributes: !student.titles_only,
        ..Template::default()
    };
    let name = args
        .run
        .out
        .file_name()
        .map_or_else(|| "prism".to_owned(), |name| name.to_string_lossy().into_owned());
    let from = student.from.as_deref().and_then(Path::file_name).map_or_else(
        || "scratch".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    );
    Manifest {
        name,
        role: Role::Prism,
        mode: match student.mode {
            StudentMode::Alone => Mode::Alone,
            StudentMode::Conditioned => Mode::Conditioned,
        },
        revision: String::new(),
        precision: None,
        template,
        slots: None,
        decode: Decode {
            num_beams: student.beams,
            max_new_tokens: ANSWER_TOKENS_MAX.min(config.max_position_embeddings),
            ..Decode::default()
        },
        limits: Limits {
            prompt_tokens_max: PROMPT_TOKENS_MAX.min(config.max_position_embeddings),
            history_items_max: HISTORY_ITEMS,
        },
        provenance: Provenance {
            recipe: format!("refract train prism --labels, from {from}, labels by {teachers}"),
            seed: args.run.seed,
            data: student
                .labels
                .iter()
                .filter_map(|path| path.file_name())
                .map(|name| name.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
                .join(", "),
            random_weights: false,
        },
        files: std::collections::BTreeMap::new(),
    }
}

/// A bundle without weights: enough to make prompts as the service will.
fn asking(working: &Path, manifest: Manifest) -> Result<Bundle> {
    let dir = working.join("asking");
    std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    std::fs::copy(working.join(TOKENIZER_FILE), dir.join(TOKENIZER_FILE))
        .with_context(|| format!("writing {}", dir.display()))?;
    manifest.write(&dir)?;
    Ok(Bundle::open(&dir)?)
}

fn recipe(args: &TrainPrism, config: BartConfig, examples: usize) -> Recipe {
    let student = &args.student;
    let batch = args.batch.unwrap_or(BATCH);
    let epoch = examples.div_ceil(batch * student.accumulate).max(1);
    let steps = args.run.steps.unwrap_or(student.epochs * epoch);
    let fresh = student.from.is_none();
    Recipe {
        start: match &student.from {
            Some(dir) => Start::Directory(dir.clone()),
            None => Start::Scratch(Box::new(config)),
        },
        pair_rows: student.pair_rows,
        steps,
        frozen_steps: if student.pair_rows > 0 {
            (student.frozen_epochs * epoch).min(steps / 2)
        } else {
            0
        },
        warm_up: (student.warm_up_epochs * epoch).clamp(1, (steps / 4).max(1)),
        batch,
        accumulate: student.accumulate,
        rate: args
            .learning_rate
            .unwrap_or(if fresh { RATE_FRESH } else { RATE_TUNED }),
        pair_rate: student.pair_rate,
        smoothing: student.smoothing,
        dropout: student.dropout,
        seed: args.run.seed,
        check_every: student.check_every.unwrap_or(epoch).clamp(1, steps.max(1)),
        patience: student.patience.unwrap_or(PATIENCE),
        time_max: args.run.time_max,
        compute: args.run.compute,
        resume: args.run.resume,
    }
}

fn announce(args: &TrainPrism, recipe: &Recipe, train: &Set, dev: &Set, passed: &Passed) {
    for (reason, (count, first)) in &passed.reasons {
        eprintln!("prism: {count} labels: {reason}; the first is {first}");
    }
    if !args.run.json {
        eprintln!(
            "prism: {} examples and {} for dev, at most {} steps of {} × {}",
            train.examples.len(),
            dev.examples.len(),
            recipe.steps,
            recipe.batch,
            recipe.accumulate
        );
    }
}

fn bar(json: bool, steps: usize) -> ProgressBar {
    if json || !std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("prism {wide_bar} {pos}/{len} {msg} {eta} left");
    ProgressBar::new(steps as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn progress(json: bool, state: &State, no_bar: bool) {
    let Some(check) = state.curve.last() else { return };
    if json {
        println!(
            "{}",
            serde_json::json!({"run": "prism", "step": check.step, "loss": check.train, "dev_loss": check.dev, "seconds": state.seconds})
        );
    } else if no_bar {
        eprintln!(
            "prism step {} loss {:.4} dev loss {:.4} ({:.0} s)",
            check.step, check.train, check.dev, state.seconds
        );
    }
}

/// The bundle with the curve of its loss.
fn finish(args: &TrainPrism, manifest: Manifest, working: &Path, state: &State) -> Result<()> {
    let svg = checkpoint::curve(&state.curve);
    // As published it decodes with beams, which guess nothing.
    ship(manifest, working, &args.run.out, &[("loss.svg", &svg)], &[])
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::labels::tests::label;
    use super::*;
    use crate::cli::{Cli, Command, Train};

    fn args(dir: &Path, out: &str, more: &[&str]) -> TrainPrism {
        let (labels, out) = (dir.join("labels.jsonl"), dir.join(out));
        let mut words = vec!["refract".to_owned(), "train".to_owned(), "prism".to_owned()];
        words.extend(["--labels".to_owned(), labels.display().to_string()]);
        words.extend(["--out".to_owned(), out.display().to_string(), "--json".to_owned()]);
        words.extend(more.iter().map(|word| (*word).to_owned()));
        match Cli::try_parse_from(words).unwrap().command {
            Command::Train(Train::Prism(args)) => args,
            other => panic!("{other:?}"),
        }
    }

    const SMALL: [&str; 12] = [
        "--width",
        "32",
        "--layers",
        "1",
        "--vocabulary",
        "300",
        "--steps",
        "4",
        "--check-every",
        "2",
        "--batch",
        "4",
    ];

    #[test]
    fn too_many_bad_labels_end_the_training() {
        let dir = tempfile::tempdir().unwrap();
        let lines: String = (0..20)
            .map(|n| {
                let mut label = label(n, if n % 5 == 0 { "dev" } else { "train" });
                if n % 4 == 1 {
                    label.history.clear();
                }
                serde_json::to_string(&label).unwrap() + "\n"
            })
            .collect();
        std::fs::write(dir.path().join("labels.jsonl"), lines).unwrap();
        let error = run(&args(dir.path(), "out", &SMALL)).unwrap_err().to_string();
        assert!(error.contains("5 of 20 labels are of no use"), "{error}");
        assert!(!dir.path().join("out").exists());
        let more = [&SMALL[..], &["--bad-labels-max", "30%"]].concat();
        run(&args(dir.path(), "out", &more)).unwrap();
    }

    #[test]
    fn labels_become_a_bundle_and_a_bundle_is_fine_tuned_with_and_without_tables() {
        let dir = tempfile::tempdir().unwrap();
        let lines: String = (0..30)
            .map(|n| {
                serde_json::to_string(&label(n, if n % 5 == 0 { "dev" } else { "train" })).unwrap() + "\n"
            })
            .collect();
        std::fs::write(dir.path().join("labels.jsonl"), lines).unwrap();
        run(&args(dir.path(), "first", &SMALL)).unwrap();
        let first = dir.path().join("first");
        let bundle = Bundle::open(&first).unwrap();
        assert_eq!(bundle.manifest().mode, Mode::Alone);
        let svg = std::fs::read_to_string(first.join("loss.svg")).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("dev"));

        let from = first.display().to_string();
        for (out, rows) in [("plain", "0"), ("gated", "16")] {
            let more = [
                &SMALL[6..],
                &["--from", &from, "--pair-rows", rows, "--mode", "conditioned"],
            ]
            .concat();
            run(&args(dir.path(), out, &more)).unwrap();
            let config = refract_worker::Config {
                bundle: dir.path().join(out),
                ..refract_worker::Config::default()
            };
            let worker = refract_worker::Worker::open(&config, Role::Prism).unwrap();
            let tables = worker.spec().pair_tables.map(|tables| tables.users);
            assert_eq!(tables, (rows != "0").then_some(16));
        }
        // A finished run that is resumed writes the same bundle again.
        let bytes = || std::fs::read(first.join("model.safetensors")).unwrap();
        let before = bytes();
        let again = |more: &[&str]| {
            run(&args(
                dir.path(),
                "first",
                &[&SMALL[..], &["--resume"], more].concat(),
            ))
        };
        again(&[]).unwrap();
        assert_eq!(bytes(), before);

        // Other labels, another seed, other weights: it is another run, and neither checkpoint nor bundle is touched.
        let plain = dir.path().join("plain").display().to_string();
        let (new, old) = (dir.path().join("labels.jsonl"), dir.path().join("old.jsonl"));
        std::fs::copy(&new, &old).unwrap();
        let fewer: Vec<String> = std::fs::read_to_string(&old)
            .unwrap()
            .lines()
            .skip(1)
            .map(str::to_owned)
            .collect();
        std::fs::write(&new, fewer.join("\n")).unwrap();
        let error = again(&[]).unwrap_err().to_string();
        assert!(error.contains("what the labels say was"), "{error}");
        std::fs::copy(&old, &new).unwrap();
        for (more, what) in [
            (["--seed", "43"], "--seed was 42 and is 43"),
            (
                ["--from", plain.as_str()],
                "what it starts from was nothing (width 32",
            ),
        ] {
            let error = again(&more).unwrap_err().to_string();
            assert!(error.contains(what), "{what:?} is not in {error:?}");
        }
        again(&[]).unwrap();
        assert_eq!(bytes(), before);
    }

    #[test]
    fn a_bundle_whose_tokenizer_is_of_another_model_is_not_put_to_work() {
        let dir = tempfile::tempdir().unwrap();
        let lines: String = (0..10)
            .map(|n| {
                serde_json::to_string(&label(n, if n % 5 == 0 { "dev" } else { "train" })).unwrap() + "\n"
            })
            .collect();
        std::fs::write(dir.path().join("labels.jsonl"), lines).unwrap();
        run(&args(dir.path(), "out", &SMALL)).unwrap();
        let out = dir.path().join("out");
        let file = out.join(TOKENIZER_FILE);
        let mut json: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let ids = refract_bundle::Tokenizer::read(&file).unwrap().vocab_size();
        json["added_tokens"].as_array_mut().unwrap().push(serde_json::json!({
            "id": ids, "content": "<far>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": false,
        }));
        std::fs::write(&file, json.to_string()).unwrap();
        Manifest::read(&out).unwrap().write(&out).unwrap();
        let config = refract_worker::Config {
            bundle: out,
            ..refract_worker::Config::default()
        };
        let error = refract_worker::Worker::open(&config, Role::Prism)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&format!("its ids go up to {ids}, the model knows {ids}")),
            "{error}"
        );
    }
}
