//! The run: every ask once, at most so many in flight and so many a second, retried within a budget.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt as _, stream};
use refract_domain::{ExplainQuery, Knowledge};
use refract_measure::quality::{self, Quality};
use refract_resilience::{Backoff, RetryBudget, backoff, retry_budget};
use refract_truth::{Gate, Vocabulary};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::ask::Ask;
use crate::error::Error;
use crate::journal::Journal;
use crate::label::{Label, Provenance, Rejection, Told};
use crate::prompt::source;
use crate::teacher::{Answer, Candidate, Fault, Identity, Manner, Teacher};

/// How a run goes. Doc comments are the manual.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Candidates of each ask, of which the best is kept. Default 4, as published.
    pub candidates: usize,
    pub quality: quality::Config,
    /// Refuse texts with a sentence that the request does not support. Default false: counted, not refused, as published.
    pub gate: bool,
    /// Asks in flight; what kill -9 loses at most. Default 16.
    pub in_flight_max: usize,
    /// Requests a second, retries included; none is no cap.
    pub rate_max: Option<f64>,
    /// Tries of one ask. Default 5.
    pub attempts_max: u32,
    /// One try. Default 120 s.
    pub answer_max: Duration,
    /// The run stops when so many asks in a row end without an answer. Default 20.
    pub failures_in_a_row_max: usize,
    /// Retries over the whole run: half of `tokens_max` at first, then a share of what succeeded. Default 100 and 0.2.
    pub retry_budget: retry_budget::Config,
    /// The first wait is 500 ms, the longest 30 s.
    pub backoff: backoff::Config,
    /// History items that a teacher is asked with, a text may draw on and a label keeps, the newest. Default 50.
    pub history_items_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            candidates: 4,
            quality: quality::Config::default(),
            gate: false,
            in_flight_max: 16,
            rate_max: None,
            attempts_max: 5,
            answer_max: Duration::from_secs(120),
            failures_in_a_row_max: 20,
            retry_budget: retry_budget::Config {
                tokens_max: 100.0,
                tokens_per_success: 0.2,
            },
            backoff: backoff::Config {
                first: Duration::from_millis(500),
                wait_max: Duration::from_secs(30),
            },
            history_items_max: 50,
        }
    }
}

/// How far a run is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    pub labelled: usize,
    pub rejected: usize,
    pub failed: usize,
}

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Report {
    pub labelled: usize,
    /// Labels of the second, careful try.
    pub labelled_carefully: usize,
    pub rejected: usize,
    /// Asks without an answer; the next run asks them again.
    pub failed: usize,
    /// Why texts were refused.
    pub rejections: BTreeMap<String, usize>,
    /// What went wrong, retried or not.
    pub faults: BTreeMap<String, usize>,
    pub retries: usize,
    pub prompt_tokens: u64,
    pub written_tokens: u64,
    pub sentences: usize,
    /// Sentences of kept labels that the request does not support: the teacher's noise.
    pub sentences_unsupported: usize,
    pub seconds: f64,
}

/// What one ask ended in.
struct Outcome {
    end: End,
    faults: Vec<&'static str>,
    retries: usize,
    tokens: (u64, u64),
}

enum End {
    Labelled(Box<Label>),
    Rejected(Rejection),
    Failed(Fault),
}

/// Labels every ask that the journal has not done.
pub async fn distill(
    asks: impl Iterator<Item = Ask>,
    teacher: Arc<dyn Teacher>,
    config: &Config,
    journal: &mut Journal,
    mut progress: impl FnMut(&Progress),
) -> Result<Report, Error> {
    check(config)?;
    let started = Instant::now();
    let work = Work {
        identity: teacher.identity(),
        teacher,
        config,
        pace: Pace::new(config.rate_max),
        budget: RetryBudget::new(config.retry_budget.clone()),
        vocabulary: Arc::default(),
        number: AtomicU32::new(0),
    };
    let mut seen = std::collections::HashSet::new();
    let undone: Vec<(String, Ask)> = asks
        .map(|ask| (ask.id(), ask))
        .filter(|(id, _)| !journal.is_done(id) && seen.insert(id.clone()))
        .collect();
    let mut outcomes = stream::iter(undone)
        .map(|(id, ask)| work.label(id, ask))
        .buffer_unordered(config.in_flight_max);
    let (mut report, mut told, mut in_a_row) = (Report::default(), Progress::default(), 0);
    while let Some(outcome) = outcomes.next().await {
        report.retries += outcome.retries;
        report.prompt_tokens += outcome.tokens.0;
        report.written_tokens += outcome.tokens.1;
        for fault in outcome.faults {
            *report.faults.entry(fault.to_owned()).or_default() += 1;
        }
        match outcome.end {
            End::Labelled(label) => {
                journal.label(&label)?;
                in_a_row = 0;
                told.labelled += 1;
                report.labelled_carefully += usize::from(label.provenance.manner == "careful");
                report.sentences += label.quality.sentences;
                report.sentences_unsupported += label.quality.sentences_unsupported;
            }
            End::Rejected(rejection) => {
                *report.rejections.entry(rejection.reason.clone()).or_default() += 1;
                journal.reject(&rejection)?;
                in_a_row = 0;
                told.rejected += 1;
            }
            End::Failed(fault) => {
                told.failed += 1;
                in_a_row += 1;
                if let Fault::Hopeless(reason) = fault {
                    journal.sync()?;
                    return Err(Error::Hopeless { reason });
                }
                if in_a_row >= config.failures_in_a_row_max {
                    journal.sync()?;
                    return Err(Error::Failing {
                        failures: in_a_row,
                        last: fault.to_string(),
                    });
                }
            }
        }
        progress(&told);
    }
    journal.sync()?;
    (report.labelled, report.rejected, report.failed) = (told.labelled, told.rejected, told.failed);
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

fn check(config: &Config) -> Result<(), Error> {
    let no = |field, reason: &str| {
        Err(Error::Invalid {
            field,
            reason: reason.to_owned(),
        })
    };
    if config.candidates == 0 {
        return no("candidates", "must be at least 1");
    }
    if config.in_flight_max == 0 {
        return no("in_flight_max", "must be at least 1");
    }
    if config.attempts_max == 0 {
        return no("attempts_max", "must be at least 1");
    }
    if config
        .rate_max
        .is_some_and(|rate| !(rate.is_finite() && rate > 0.0))
    {
        return no("rate_max", "must be above 0");
    }
    Ok(())
}

struct Work<'a> {
    teacher: Arc<dyn Teacher>,
    identity: Identity,
    config: &'a Config,
    pace: Pace,
    budget: RetryBudget,
    vocabulary: Arc<Vocabulary>,
    number: AtomicU32,
}

/// A candidate that was looked at.
struct Judged {
    candidate: Candidate,
    quality: Quality,
    sentences: usize,
    unsupported: usize,
    refused: Option<String>,
}

impl Work<'_> {
    async fn label(&self, id: String, ask: Ask) -> Outcome {
        let mut outcome = Outcome {
            end: End::Failed(Fault::Slow),
            faults: Vec::new(),
            retries: 0,
            tokens: (0, 0),
        };
        // What the label does not keep the teacher must not see: a text that draws on it would look made up.
        let ask = ask.newest(self.config.history_items_max);
        let source = source(&ask.pair, &ask.history, self.config.history_items_max);
        let first = Manner::Sampled {
            candidates: self.config.candidates,
        };
        let manners = [(first, "sampled"), (Manner::Careful, "careful")];
        let manners = &manners[..if self.teacher.has_second_manner() { 2 } else { 1 }];
        let mut refused: Option<Judged> = None;
        for (manner, name) in manners {
            let answer = match self.answer(&ask, *manner, &mut outcome).await {
                Ok(answer) => answer,
                Err(fault) => {
                    outcome.end = End::Failed(fault);
                    return outcome;
                }
            };
            let candidates = answer.candidates.len();
            let best = answer
                .candidates
                .into_iter()
                .map(|candidate| self.judge(candidate, &ask, &source))
                // A candidate that passes is better than any that does not; then the score decides.
                .max_by(|a, b| {
                    let rank = |j: &Judged| (j.refused.is_none(), j.quality.score);
                    let ((a, x), (b, y)) = (rank(a), rank(b));
                    a.cmp(&b).then(x.total_cmp(&y))
                });
            let Some(best) = best else { continue };
            if best.refused.is_none() {
                let told = Told::of(&best.quality, best.sentences, best.unsupported);
                let provenance = Provenance {
                    teacher: self.identity.name.clone(),
                    teacher_revision: self.identity.revision.clone(),
                    prompt: self.identity.prompt.clone(),
                    settings: self.identity.settings.clone(),
                    manner: (*name).to_owned(),
                    candidates,
                    attempts: 1 + outcome.retries as u32,
                    created_at: wall_clock(),
                    refract: env!("CARGO_PKG_VERSION").to_owned(),
                };
                let Candidate { text, facts } = best.candidate;
                let label = Label::new(&ask, id, &facts, text, told, provenance);
                outcome.end = End::Labelled(Box::new(label));
                return outcome;
            }
            refused = Some(best);
        }
        outcome.end = match refused {
            Some(best) => End::Rejected(Rejection {
                id,
                reason: best.refused.unwrap_or_default(),
                text: best.candidate.text,
            }),
            None => End::Failed(Fault::Garbage("no candidates".to_owned())),
        };
        outcome
    }

    async fn answer(&self, ask: &Ask, manner: Manner, outcome: &mut Outcome) -> Result<Answer, Fault> {
        let seed = u64::from(self.number.fetch_add(1, Ordering::Relaxed));
        let mut waits = Backoff::new(self.config.backoff.clone(), seed);
        let mut attempt = 1;
        loop {
            self.pace.turn().await;
            let work = self.teacher.answer(ask, manner);
            let fault = match timeout(self.config.answer_max, work).await {
                Ok(Ok(answer)) => {
                    self.budget.on_success();
                    outcome.tokens.0 += answer.prompt_tokens;
                    outcome.tokens.1 += answer.written_tokens;
                    return Ok(answer);
                }
                Ok(Err(fault)) => fault,
                Err(_) => Fault::Slow,
            };
            outcome.faults.push(fault.as_str());
            if !fault.is_passing() {
                return Err(fault);
            }
            self.budget.on_failure();
            if attempt >= self.config.attempts_max || !self.budget.allows_retry() {
                return Err(fault);
            }
            attempt += 1;
            outcome.retries += 1;
            let asked = match fault {
                Fault::Busy { after } => after,
                _ => None,
            };
            sleep(asked.unwrap_or_default().max(waits.after_failure())).await;
        }
    }

    fn judge(&self, candidate: Candidate, ask: &Ask, source: &str) -> Judged {
        // What the teacher stated came from the same request, so its facts may be drawn on too.
        let facts: Vec<&str> = candidate.facts.iter().map(|fact| fact.text.as_str()).collect();
        let source = format!("{source}\n{}", facts.join(" "));
        let quality = Quality::of(&candidate.text, &source);
        let query = ExplainQuery {
            pair: ask.pair.clone(),
            history: Arc::clone(&ask.history),
            knowledge: None::<Knowledge>,
            style: 0,
        };
        let mut gate = Gate::new(&self.vocabulary, &query.pair, &query.history, None);
        let mut cutter = gate.sentences();
        let mut sentences = cutter.push(&candidate.text);
        sentences.extend(cutter.finish());
        let unsupported = sentences
            .iter()
            .filter(|sentence| gate.check(sentence, &[]).is_err())
            .count();
        let refused = match quality.check(&self.config.quality) {
            Err(fault) => Some(fault.as_str().to_owned()),
            Ok(()) if self.config.gate && unsupported > 0 => Some("unsupported_by_the_request".to_owned()),
            Ok(()) => None,
        };
        Judged {
            sentences: sentences.len(),
            candidate,
            quality,
            unsupported,
            refused,
        }
    }
}

/// Gives turns at most so often.
struct Pace {
    gap: Option<Duration>,
    next: tokio::sync::Mutex<Instant>,
}

impl Pace {
    fn new(rate_max: Option<f64>) -> Self {
        Self {
            gap: rate_max.map(|rate| Duration::from_secs_f64(1.0 / rate)),
            next: tokio::sync::Mutex::new(Instant::now()),
        }
    }

    async fn turn(&self) {
        let Some(gap) = self.gap else { return };
        let at = {
            let mut next = self.next.lock().await;
            let at = (*next).max(Instant::now());
            *next = at + gap;
            at
        };
        sleep_until(at).await;
    }
}

fn wall_clock() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
}
