//! `refract generate`: text from any Hugging Face T5 or BART directory, as `transformers` would write it.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};

use anyhow::{Context, Result, anyhow, bail};
use refract_bundle::Tokenizer;
use refract_engine::{Engine, Finish, GenerationParams, OpenOptions, PairRows, Phrases, Request};
use serde::Deserialize;

use crate::cli::Generate;

/// One line of input.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    text: Option<String>,
    ids: Option<Vec<u32>>,
    /// For models with user and item tables: hashed to rows by the published rule.
    #[serde(default)]
    user: String,
    #[serde(default)]
    item: String,
}

impl Line {
    /// The prompt's ids; `tokenizer` is the bundle's, where it has one.
    pub(crate) fn ids(&self, tokenizer: Option<&Tokenizer>) -> Result<Vec<u32>> {
        match (&self.ids, &self.text) {
            (Some(ids), None) => Ok(ids.clone()),
            (None, Some(text)) => Ok(tokenizer
                .context("the bundle has no tokenizer.json: give ids")?
                .encode(text)),
            _ => bail!("give either \"text\" or \"ids\""),
        }
    }
}

/// Lines in flight at once: enough to fill batches, few enough to stream.
const IN_FLIGHT_MAX: usize = 64;

pub(crate) async fn run(args: &Generate) -> Result<()> {
    let dir = &args.bundle;
    let opened = refract_engine::open(
        dir,
        &OpenOptions {
            weights: args.dtype.weights(),
            threads: args.threads,
            devices: args.place.devices.clone(),
            tensor_parallel: args.place.tensor_parallel,
            ..OpenOptions::default()
        },
    )?;
    let spec = opened.spec;
    let file = dir.join("tokenizer.json");
    let tokenizer = if file.is_file() {
        Some(Tokenizer::read(&file)?)
    } else {
        None
    };
    let params = params(args, GenerationParams::for_model(&spec, &opened.defaults));

    let positions = spec.positions_max.unwrap_or(4096);
    let config = refract_engine::Config {
        name: "generate".to_owned(),
        prompt_tokens_max: positions,
        new_tokens_max: params.max_new_tokens,
        sequence_rows_max: params.rows().max(1),
        kv_tokens_max: (positions + params.rows() * params.max_new_tokens) * 32,
        running_rows_max: params.rows().max(1) * 32,
        step_encode_tokens_max: positions.max(4096),
        step_decode_tokens_max: params.rows().max(1) * 32,
        ..refract_engine::Config::default()
    };
    let engine = Engine::start_knowing(opened.runner, Phrases::beside(dir, spec.vocab)?, config)?;
    let handle = engine.handle();

    let input: Box<dyn BufRead> = match &args.input {
        Some(path) => Box::new(BufReader::new(
            File::open(path).with_context(|| format!("reading {}", path.display()))?,
        )),
        None => Box::new(BufReader::new(std::io::stdin())),
    };
    let name = args
        .input
        .as_ref()
        .map_or("standard input".to_owned(), |p| p.display().to_string());
    let mut running = std::collections::VecDeque::new();
    for (at, line) in input.lines().enumerate() {
        let line = line.with_context(|| format!("{name}:{}", at + 1))?;
        if line.trim().is_empty() {
            continue;
        }
        let line: Line =
            serde_json::from_str(&line).with_context(|| format!("{name}:{}: not a line of input", at + 1))?;
        let ids = line
            .ids(tokenizer.as_ref())
            .with_context(|| format!("{name}:{}", at + 1))?;
        let pairs = spec.pair_tables.map(|tables| PairRows {
            user: row(&line.user, tables.users),
            item: row(&line.item, tables.items),
        });
        if running.len() == IN_FLIGHT_MAX {
            finish(running.pop_front(), tokenizer.as_ref(), args.json, &name).await?;
        }
        let request = Request {
            pairs,
            ..Request::new(ids, params.clone())
        };
        let generation = handle
            .generate(request)
            .map_err(|error| anyhow!("{name}:{}: {error}", at + 1))?;
        running.push_back((at + 1, generation));
    }
    while let Some(next) = running.pop_front() {
        finish(Some(next), tokenizer.as_ref(), args.json, &name).await?;
    }
    Ok(())
}

async fn finish(
    next: Option<(usize, refract_engine::Generation)>,
    tokenizer: Option<&Tokenizer>,
    json: bool,
    name: &str,
) -> Result<()> {
    let Some((at, generation)) = next else {
        return Ok(());
    };
    let finished = generation
        .collect()
        .await
        .map_err(|error| anyhow!("{name}:{at}: {error}"))?;
    let text = tokenizer.map(|t| t.decode(&finished.ids));
    let mut out = std::io::stdout().lock();
    if json {
        let reason = match finished.finish {
            Finish::Stop => "stop",
            Finish::Length => "length",
        };
        let line = serde_json::json!({"ids": finished.ids, "text": text, "finish_reason": reason, "score": finished.score});
        writeln!(out, "{line}")?;
    } else if let Some(text) = text {
        writeln!(out, "{text}")?;
    } else {
        writeln!(out, "{:?}", finished.ids)?;
    }
    out.flush()?;
    Ok(())
}

/// The published rule; a table has fewer rows than a `u32` can count.
fn row(id: &str, rows: usize) -> u32 {
    u32::try_from(refract_model::bucket(id, rows)).unwrap_or(0)
}

fn params(args: &Generate, mut params: GenerationParams) -> GenerationParams {
    params.num_beams = args.num_beams.unwrap_or(params.num_beams);
    params.max_new_tokens = args.max_new_tokens.unwrap_or(params.max_new_tokens);
    params.min_new_tokens = args.min_new_tokens.unwrap_or(params.min_new_tokens);
    params.length_penalty = args.length_penalty.unwrap_or(params.length_penalty);
    params.repetition_penalty = args.repetition_penalty.unwrap_or(params.repetition_penalty);
    params.no_repeat_ngram_size = args.no_repeat_ngram_size.unwrap_or(params.no_repeat_ngram_size);
    params.num_return_sequences = 1;
    params.do_sample = false;
    params
}
