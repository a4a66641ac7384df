//! Pair, History and Knowledge to Explanation: one of the two places where recommendation becomes text generation.
//!
//! ```text
//!  query ─▶ bundle: prompt ─▶ engine: tokens ─▶ bundle: slots filled, sentence by sentence ─▶ truth gate ─▶ Delta … Done
//!                 ▲                                                                     │ refused before any text
//!                 └──────────────────── the next style, at most `attempts_max` times ◀──┘ then the template, by rule
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_stream::try_stream;
use async_trait::async_trait;
use refract_bundle::{Bundle, Mode, Prompt};
use refract_domain::{
    Context, Error, ExplainQuery, Explainer, Explanation, ExplanationEvent, ExplanationStream, FinishReason,
    Grounding, NoneReason, Revision, Rung, StageTimings, TokenUsage,
};
use refract_worker::{Event, Finish, Finished, Worker};

use crate::refusals;

/// A BART-class model that tells the user why.
#[derive(Clone, Debug)]
pub struct Prism {
    worker: Arc<Worker>,
    /// Generations tried, each in another style, before the template speaks.
    attempts_max: u32,
}

impl Prism {
    pub fn new(worker: Arc<Worker>, attempts_max: u32) -> Self {
        Self {
            worker,
            attempts_max: attempts_max.max(1),
        }
    }

    fn prompt(&self, query: &ExplainQuery) -> Result<Prompt, Error> {
        let bundle: &Bundle = self.worker.bundle();
        bundle
            .prompt_prism(query)
            .map_err(|error| Error::invalid("task.item", error.to_string()))
    }

    fn generate(
        &self,
        query: &ExplainQuery,
        prompt: &Prompt,
        context: &Context,
    ) -> Result<refract_engine::Generation, Error> {
        self.worker.generate(
            prompt,
            query.pair.user.as_ref(),
            &query.pair.item.id,
            context.deadline,
        )
    }
}

#[async_trait]
impl Explainer for Prism {
    async fn explain(&self, mut query: ExplainQuery, context: &Context) -> Result<ExplanationStream, Error> {
        let (prism, context) = (self.clone(), context.clone());
        let mut work = Work::begun(Instant::now());
        // The first generation is asked for here, so that a full queue is an error of the call and not of the stream.
        let mut prompt = prism.prompt(&query)?;
        let mut generation = prism.generate(&query, &prompt, &context)?;
        Ok(Box::pin(try_stream! {
            for attempt in 1.. {
                let mut filler = prompt.filler();
                let mut text = prism.worker.bundle().text_stream();
                let mut streamed = 0;
                let asked = Instant::now();
                let finished = loop {
                    let deltas = match generation.next().await {
                        Some(Ok(Event::Tokens(ids))) => {
                            streamed += ids.len();
                            ids.into_iter().flat_map(|id| filler.push(&text.push(id))).collect::<Vec<_>>()
                        }
                        Some(Ok(Event::Done(finished))) => {
                            // A beam search delivers its text only now.
                            let rest = finished.ids.get(streamed..).unwrap_or_default();
                            let mut deltas: Vec<_> = rest.iter().flat_map(|id| filler.push(&text.push(*id))).collect();
                            deltas.extend(filler.finish());
                            for delta in deltas { yield ExplanationEvent::Delta(delta) }
                            break Some(finished);
                        }
                        Some(Err(error)) => Err(refract_worker::to_domain(&error))?,
                        None => Err(Error::Internal)?,
                    };
                    for delta in deltas { yield ExplanationEvent::Delta(delta) }
                    if filler.is_cut() { break None }
                };
                work.note(&prompt, filler.refusals().len());
                match &finished {
                    Some(finished) => work.note_finished(finished),
                    None => work.note_cut(streamed, asked.elapsed()),
                }
                refusals::count(filler.refusals());
                if !filler.text().is_empty() {
                    yield ExplanationEvent::Done(prism.written(&query, &prompt, &filler, finished.as_ref(), &work));
                    return;
                }
                if attempt >= prism.attempts_max { break }
                query.style = query.style.wrapping_add(1);
                prompt = prism.prompt(&query)?;
                generation = prism.generate(&query, &prompt, &context)?;
            }
            let explanation = prism.by_rule(&query, &prompt, &work);
            if !explanation.text.is_empty() { yield ExplanationEvent::Delta(explanation.text.clone()) }
            yield ExplanationEvent::Done(explanation);
        }))
    }
}

/// What the attempts have cost together.
#[derive(Debug)]
struct Work {
    begun: Instant,
    tokens: TokenUsage,
    timings: StageTimings,
    sentences_refused: u32,
}

impl Work {
    fn begun(begun: Instant) -> Self {
        Self {
            begun,
            tokens: TokenUsage::default(),
            timings: StageTimings::default(),
            sentences_refused: 0,
        }
    }

    /// Of an explanation that is done now.
    fn timings(&self) -> StageTimings {
        StageTimings {
            prism: self.begun.elapsed(),
            ..self.timings
        }
    }

    fn note(&mut self, prompt: &Prompt, refused: usize) {
        self.tokens.prompt += u32::try_from(prompt.ids.len()).unwrap_or(u32::MAX);
        self.sentences_refused += u32::try_from(refused).unwrap_or(u32::MAX);
    }

    fn note_finished(&mut self, finished: &Finished) {
        self.tokens.generated += u32::try_from(finished.ids.len()).unwrap_or(u32::MAX);
        self.timings.queue += finished.queue_time;
        self.timings.encode += finished.encode_time;
        self.timings.decode += finished.decode_time;
    }

    /// A generation that was stopped never tells its stages apart: all of its time counts as decoding.
    fn note_cut(&mut self, streamed: usize, elapsed: Duration) {
        self.tokens.generated += u32::try_from(streamed).unwrap_or(u32::MAX);
        self.timings.decode += elapsed;
    }
}

impl Prism {
    /// Whether knowledge went into the prompt: the bundle takes it, and this request supports at least one fact of it.
    fn is_conditioned(&self, prompt: &Prompt) -> bool {
        let takes = self.worker.bundle().manifest().mode == Mode::Conditioned;
        takes && prompt.gate().facts().next().is_some()
    }

    /// The model's own text, every sentence through the gate.
    fn written(
        &self,
        query: &ExplainQuery,
        prompt: &Prompt,
        filler: &refract_bundle::Filler,
        finished: Option<&Finished>,
        work: &Work,
    ) -> Explanation {
        let conditioned = self.is_conditioned(prompt);
        let mut descents = Vec::new();
        if query.knowledge.is_some() && !conditioned {
            descents.push(
                "the knowledge was not used: the bundle takes none, or this request does not support it"
                    .to_owned(),
            );
        }
        Explanation {
            text: filler.text().to_owned(),
            grounding: Grounding {
                rung: if conditioned {
                    query.rung()
                } else {
                    Rung::HistoryOnly
                },
                claims: filler.claims().to_vec(),
                descents,
                knowledge_age: query.knowledge_age().filter(|_| conditioned),
                sentences_refused: work.sentences_refused,
            },
            finish: match finished.map(|f| f.finish) {
                Some(Finish::Stop) => FinishReason::Stop,
                Some(Finish::Length) => FinishReason::Length,
                None => FinishReason::Cut,
            },
            tokens: work.tokens,
            prism_revision: self.worker.bundle().revision(),
            template_revision: self.worker.bundle().template_revision(),
            history_truncated: prompt.history_truncated,
            timings: work.timings(),
        }
    }

    /// The gate refused all that the model wrote, or it wrote nothing: what the evidence itself says.
    fn by_rule(&self, query: &ExplainQuery, prompt: &Prompt, work: &Work) -> Explanation {
        let by_rule = refract_truth::template(&query.pair, &query.history, query.style);
        let mut explanation = by_rule.unwrap_or_else(|| Explanation {
            text: String::new(),
            grounding: Grounding {
                rung: Rung::None(NoneReason::NoEvidence),
                claims: Vec::new(),
                descents: Vec::new(),
                knowledge_age: None,
                sentences_refused: 0,
            },
            finish: FinishReason::Rule,
            tokens: TokenUsage::default(),
            prism_revision: Revision::default(),
            template_revision: Revision::default(),
            history_truncated: 0,
            timings: StageTimings::default(),
        });
        let why = if work.sentences_refused == 0 {
            "the Prism wrote nothing"
        } else {
            "the truth gate refused the Prism's text"
        };
        explanation.grounding.descents.push(why.to_owned());
        explanation.grounding.sentences_refused = work.sentences_refused;
        explanation.tokens = work.tokens;
        explanation.timings = work.timings();
        explanation.history_truncated = prompt.history_truncated;
        explanation
    }
}
