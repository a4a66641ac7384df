//! The teachers: a local bundle, a running OracleService, a chat endpoint.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use refract_bundle::{Role, TemplateKind};
use refract_distill::{
    Answer, Ask, Candidate, Fault, Identity, Manner, OpenAi, PROMPT_REVISION, Teacher, openai, prompt,
};
use refract_domain::{
    Context, Deadline, Error, Knowledge, KnowledgeSource, RequestId, TenantId, UnavailableReason,
};
use refract_engine::{GenerationParams, PairRows, Request};
use refract_net::{DialConfig, Target};
use refract_oracle::Oracle;
use refract_wire::{Transport, client, metadata, oracle};
use refract_worker::Worker;

use super::Shared;
use crate::assets::Assets;
use crate::cli::Distill;
use crate::cluster::propagator;

/// History items that a teacher's prompt shows, as published.
const HISTORY_ITEMS_MAX: usize = 50;
/// Sampling as published: repetition penalty and no repeated run of three tokens.
const REPETITION_PENALTY: f32 = 1.2;
const NO_REPEAT: usize = 3;
/// Of the second, careful try.
const BEAMS: usize = 5;

pub(super) async fn open(args: &Distill) -> Result<Shared> {
    if let Some(endpoint) = &args.endpoint {
        let model = args.model.clone().context("--endpoint needs --model NAME")?;
        let config = openai::Config {
            answer_max: args.answer_max,
            new_tokens_max: args.new_tokens_max,
            temperature: args.temperature,
            top_p: args.top_p,
            history_items_max: HISTORY_ITEMS_MAX,
            seed: args.seed,
            ..openai::Config::new(endpoint, model)
        };
        return Ok(Arc::new(OpenAi::new(config, args.credential_file.as_deref())?));
    }
    if let Some(target) = &args.target {
        return Ok(Arc::new(Remote::open(target, args.answer_max).await?));
    }
    let bundle = match &args.oracle {
        Some(bundle) => bundle.clone(),
        None => Assets::find(args.data.assets.as_deref())?.oracle(),
    };
    let new_tokens_max = args.new_tokens_max as usize;
    let worker = tokio::task::spawn_blocking(move || {
        let config = refract_worker::Config {
            bundle,
            new_tokens_max,
            ..refract_worker::Config::default()
        };
        Worker::open(&config, Role::Oracle)
    })
    .await?
    .context("the Oracle's bundle")?;
    let worker = Arc::new(worker);
    if worker.bundle().manifest().template.kind == TemplateKind::Slots {
        let bundle = worker.bundle();
        let identity = Identity {
            name: format!("bundle:{}", bundle.manifest().name),
            revision: bundle.revision().0,
            prompt: bundle.template_revision().0,
            settings: "the bundle's own".to_owned(),
        };
        return Ok(Arc::new(Knowing {
            source: Oracle::new(worker),
            identity,
            answer_max: args.answer_max,
        }));
    }
    Ok(Arc::new(Writing::new(worker, args)))
}

/// A source of knowledge as a teacher: its facts, and their text. It does not sample.
struct Knowing<S> {
    source: S,
    identity: Identity,
    answer_max: Duration,
}

#[async_trait]
impl<S: KnowledgeSource> Teacher for Knowing<S> {
    fn identity(&self) -> Identity {
        self.identity.clone()
    }

    fn has_second_manner(&self) -> bool {
        false
    }

    async fn answer(&self, ask: &Ask, _: Manner) -> Result<Answer, Fault> {
        let knowledge = self
            .source
            .consult(&ask.pair, &ask.history, &context(self.answer_max))
            .await;
        Ok(told(knowledge.map_err(|error| fault(&error))?))
    }

    fn prompt_tokens(&self, ask: &Ask) -> u64 {
        // Of a slot Oracle; it reads candidates, not texts.
        8 * ask.history.len().min(10) as u64
    }
}

fn told(knowledge: Knowledge) -> Answer {
    Answer {
        candidates: vec![Candidate {
            facts: knowledge.facts,
            text: knowledge.text,
        }],
        ..Answer::default()
    }
}

/// An OracleService somewhere.
struct Remote {
    knowing: Knowing<oracle::Client>,
}

impl Remote {
    async fn open(target: &str, answer_max: Duration) -> Result<Self> {
        let parsed: Target = target.parse().with_context(|| format!("--target {target}"))?;
        let transport = Transport::new(refract_net::dial(&parsed, DialConfig::default()));
        let config = client::Config {
            propagator: propagator(),
            ..client::Config::default()
        };
        let source = oracle::Client::new(transport, config);
        let info = source
            .server_info(&context(answer_max))
            .await
            .with_context(|| format!("asking the Oracle at {target} who it is"))?;
        let model = info.models.into_iter().next().unwrap_or_default();
        let identity = Identity {
            name: format!("oracle:{}", model.name),
            revision: model.revision,
            prompt: model.template_revision,
            settings: "the service's own".to_owned(),
        };
        Ok(Self {
            knowing: Knowing {
                source,
                identity,
                answer_max,
            },
        })
    }
}

#[async_trait]
impl Teacher for Remote {
    fn identity(&self) -> Identity {
        self.knowing.identity()
    }

    fn has_second_manner(&self) -> bool {
        false
    }

    async fn answer(&self, ask: &Ask, manner: Manner) -> Result<Answer, Fault> {
        self.knowing.answer(ask, manner).await
    }

    fn prompt_tokens(&self, ask: &Ask) -> u64 {
        self.knowing.prompt_tokens(ask)
    }
}

/// A local T5 that reads and writes plain text, FLAN-T5 for one: asked with the labelling prompt, sampled, then with beams.
struct Writing {
    worker: Arc<Worker>,
    temperature: f32,
    top_p: f32,
    new_tokens_max: usize,
    seed: u64,
    answer_max: Duration,
}

impl Writing {
    fn new(worker: Arc<Worker>, args: &Distill) -> Self {
        Self {
            worker,
            temperature: args.temperature as f32,
            top_p: args.top_p as f32,
            new_tokens_max: args.new_tokens_max as usize,
            seed: args.seed,
            answer_max: args.answer_max,
        }
    }

    /// Whole history items go, oldest first, until the model takes the prompt.
    fn ids(&self, ask: &Ask) -> Result<Vec<u32>, Fault> {
        let bundle = self.worker.bundle();
        let tokens_max = bundle.manifest().limits.prompt_tokens_max;
        let mut items = ask.history.len().min(HISTORY_ITEMS_MAX);
        loop {
            let ids = bundle.tokenizer().encode(&prompt(&ask.pair, &ask.history, items));
            if ids.len() <= tokens_max {
                return Ok(ids);
            }
            if items == 0 {
                return Err(Fault::Refused(format!(
                    "{} prompt tokens, the model takes {tokens_max}",
                    ids.len()
                )));
            }
            items -= 1;
        }
    }

    fn params(&self, ask: &Ask, manner: Manner) -> GenerationParams {
        let own = u64::from_str_radix(&ask.id()[..12], 16).unwrap_or(0);
        let plain = GenerationParams {
            no_repeat_ngram_size: NO_REPEAT,
            repetition_penalty: REPETITION_PENALTY,
            ..GenerationParams::greedy(self.new_tokens_max, self.worker.spec().eos.clone())
        };
        match manner {
            Manner::Sampled { candidates } => GenerationParams {
                do_sample: true,
                num_return_sequences: candidates,
                temperature: self.temperature,
                top_p: self.top_p,
                top_k: 0,
                seed: Some(self.seed ^ own),
                ..plain
            },
            Manner::Careful => GenerationParams {
                num_beams: BEAMS,
                ..plain
            },
        }
    }
}

#[async_trait]
impl Teacher for Writing {
    fn identity(&self) -> Identity {
        let bundle = self.worker.bundle();
        Identity {
            name: format!("bundle:{}", bundle.manifest().name),
            revision: bundle.revision().0,
            prompt: PROMPT_REVISION.to_owned(),
            settings: format!(
                "temperature {} top_p {} new_tokens_max {} history_items_max {HISTORY_ITEMS_MAX} seed {}",
                self.temperature, self.top_p, self.new_tokens_max, self.seed
            ),
        }
    }

    fn has_second_manner(&self) -> bool {
        true
    }

    async fn answer(&self, ask: &Ask, manner: Manner) -> Result<Answer, Fault> {
        let ids = self.ids(ask)?;
        let spec = self.worker.spec();
        let request = Request {
            pairs: spec.pair_tables.map(|_| PairRows { user: 0, item: 0 }),
            deadline: Some(Instant::now() + self.answer_max),
            ..Request::new(ids, self.params(ask, manner))
        };
        let as_fault = |error: refract_engine::Error| fault(&refract_worker::to_domain(&error));
        let finished = self
            .worker
            .handle()
            .generate(request)
            .map_err(as_fault)?
            .collect()
            .await
            .map_err(as_fault)?;
        let bundle = self.worker.bundle();
        Ok(Answer {
            prompt_tokens: finished.prompt_tokens as u64,
            written_tokens: finished.hypotheses.iter().map(|h| h.ids.len() as u64).sum(),
            candidates: finished
                .hypotheses
                .iter()
                .map(|hypothesis| Candidate {
                    text: bundle.decode(&hypothesis.ids).trim().to_owned(),
                    facts: Vec::new(),
                })
                .collect(),
        })
    }

    fn prompt_tokens(&self, ask: &Ask) -> u64 {
        self.ids(ask).map_or(0, |ids| ids.len() as u64)
    }
}

fn context(answer_max: Duration) -> Context {
    Context {
        tenant: TenantId::default(),
        request: RequestId(metadata::fresh_request_id().0),
        deadline: Deadline::after(Instant::now(), answer_max),
    }
}

/// What a station's refusal means to a labeller.
fn fault(error: &Error) -> Fault {
    match error {
        Error::Invalid { .. } | Error::NotFound { .. } => Fault::Refused(error.to_string()),
        Error::Precondition { .. } => Fault::Hopeless(error.to_string()),
        Error::Overloaded { retry_after } => Fault::Busy {
            after: Some(*retry_after),
        },
        Error::Unavailable {
            reason: UnavailableReason::Unreachable,
        } => Fault::Unreachable(error.to_string()),
        Error::Unavailable { .. } => Fault::Busy { after: None },
        Error::DeadlineExceeded | Error::Infeasible => Fault::Slow,
        _ => Fault::Failed(error.to_string()),
    }
}
