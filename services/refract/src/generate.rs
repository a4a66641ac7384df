//! `refract generate`: text from any Hugging Face T5 or BART directory, as `transformers` would write it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};

use anyhow::{Context, Result, anyhow, bail};
use refract_bundle::Tokenizer;
use refract_engine::{
    Engine, Finish, Generation, GenerationParams, Handle, OpenOptions, PairRows, Phrases, Request,
};
use refract_model::Spec;
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
    write(args, &mut std::io::stdout()).await
}

async fn write(args: &Generate, out: &mut impl Write) -> Result<()> {
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
    let mut asked = Asked {
        spec: &spec,
        tokenizer: tokenizer.as_ref(),
        json: args.json,
        name: &name,
        running: VecDeque::new(),
    };
    let fed = asked.feed(input, &handle, &params, out).await;
    // A line that is wrong takes nothing away from those before it.
    let rest = asked.finish(0, out).await;
    fed.and(rest)
}

/// Lines in flight, in their order.
struct Asked<'a> {
    spec: &'a Spec,
    tokenizer: Option<&'a Tokenizer>,
    json: bool,
    /// Of the input, for people.
    name: &'a str,
    running: VecDeque<(usize, Generation)>,
}

impl Asked<'_> {
    async fn feed(
        &mut self,
        input: Box<dyn BufRead>,
        handle: &Handle,
        params: &GenerationParams,
        out: &mut impl Write,
    ) -> Result<()> {
        let name = self.name;
        for (at, line) in (1..).zip(input.lines()) {
            let line = line.with_context(|| format!("{name}:{at}"))?;
            if line.trim().is_empty() {
                continue;
            }
            let line: Line =
                serde_json::from_str(&line).with_context(|| format!("{name}:{at}: not a line of input"))?;
            let ids = line.ids(self.tokenizer).with_context(|| format!("{name}:{at}"))?;
            let pairs = self.spec.pair_tables.map(|tables| PairRows {
                user: row(&line.user, tables.users),
                item: row(&line.item, tables.items),
            });
            self.finish(IN_FLIGHT_MAX - 1, out).await?;
            let request = Request {
                pairs,
                ..Request::new(ids, params.clone())
            };
            let generation = handle
                .generate(request)
                .map_err(|error| anyhow!("{name}:{at}: {error}"))?;
            self.running.push_back((at, generation));
        }
        Ok(())
    }

    /// Waits for the first ones and prints them, until so many are left.
    async fn finish(&mut self, left: usize, out: &mut impl Write) -> Result<()> {
        while self.running.len() > left
            && let Some((at, generation)) = self.running.pop_front()
        {
            let finished = generation
                .collect()
                .await
                .map_err(|error| anyhow!("{}:{at}: {error}", self.name))?;
            let text = self.tokenizer.map(|t| t.decode(&finished.ids));
            if self.json {
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
        }
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    #[tokio::test]
    async fn what_stands_before_a_bad_line_is_answered() {
        let dir = tempfile::tempdir().unwrap();
        let input = dir.path().join("lines.jsonl");
        let good = "{\"ids\": [0, 5, 2]}\n".repeat(5);
        std::fs::write(&input, format!("{good}nonsense\n{good}")).unwrap();
        let bundle = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/prism");
        let input = input.display().to_string();
        let words = [
            "refract",
            "generate",
            "--bundle",
            bundle,
            "--input",
            &input,
            "--max-new-tokens",
            "3",
            "--json",
        ];
        let Command::Generate(args) = Cli::try_parse_from(words).unwrap().command else {
            panic!("another command");
        };
        let mut out = Vec::new();
        let error = write(&args, &mut out).await.unwrap_err().to_string();
        assert!(error.ends_with("lines.jsonl:6: not a line of input"), "{error}");
        assert_eq!(String::from_utf8(out).unwrap().lines().count(), 5);
    }
}
