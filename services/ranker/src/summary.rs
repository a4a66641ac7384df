//! What a request took: counted while the events flow by, closed at the end.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use refract_domain::{RequestId, Revision, Rung, SlateOrigin};

use crate::recommend::{Event, now};

/// The last event of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    pub request: RequestId,
    pub rank_time: Duration,
    /// To the first explanation text; `None` when there was none.
    pub first_text_time: Option<Duration>,
    pub total_time: Duration,
    /// Explanations by rung, by the rung's label.
    pub rungs: BTreeMap<&'static str, u32>,
    pub oracle_revision: Revision,
    pub prism_revision: Revision,
    pub origin: SlateOrigin,
}

/// Counts events of one request. The lock is held for a few instructions and never across an await.
#[derive(Debug)]
pub(crate) struct Tally {
    arrived: Instant,
    rank_time: Duration,
    origin: SlateOrigin,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    first_text: Option<Instant>,
    rungs: BTreeMap<&'static str, u32>,
    oracle_revision: Revision,
    prism_revision: Revision,
}

impl Tally {
    pub(crate) fn new(arrived: Instant, rank_time: Duration, origin: SlateOrigin) -> Self {
        metrics::histogram!("refract_ranker_rank_seconds").record(rank_time.as_secs_f64());
        Self { arrived, rank_time, origin, seen: Mutex::default() }
    }

    pub(crate) fn note(&self, event: &Event) {
        let mut seen = self.seen.lock().expect("no code panics while it holds the tally; this is a bug");
        match event {
            Event::Delta { .. } => {
                seen.first_text.get_or_insert_with(now);
            }
            Event::Explained { explanation, knowledge, .. } => {
                let rung = label(explanation.grounding.rung);
                *seen.rungs.entry(rung).or_default() += 1;
                metrics::counter!("refract_ranker_explanations_total", "rung" => rung).increment(1);
                metrics::histogram!("refract_ranker_explanation_seconds", "rung" => rung)
                    .record(explanation.timings.total.as_secs_f64());
                if let Some(knowledge) = knowledge {
                    seen.oracle_revision = knowledge.oracle_revision.clone();
                }
                if !explanation.prism_revision.0.is_empty() {
                    seen.prism_revision = explanation.prism_revision.clone();
                }
            }
            Event::Slate { .. } | Event::Summary(_) => {}
        }
    }

    pub(crate) fn close(&self, request: RequestId) -> Summary {
        let seen = std::mem::take(&mut *self.seen.lock().expect("no code panics while it holds the tally; this is a bug"));
        let total_time = now() - self.arrived;
        metrics::histogram!("refract_ranker_request_seconds").record(total_time.as_secs_f64());
        Summary {
            request,
            rank_time: self.rank_time,
            first_text_time: seen.first_text.map(|at| at - self.arrived),
            total_time,
            rungs: seen.rungs,
            oracle_revision: seen.oracle_revision,
            prism_revision: seen.prism_revision,
            origin: self.origin,
        }
    }
}

/// The rung's label: the same word in answers, metrics and dashboards.
pub fn label(rung: Rung) -> &'static str {
    match rung {
        Rung::Fresh => "FRESH",
        Rung::Cached => "CACHED",
        Rung::Stale => "STALE",
        Rung::HistoryOnly => "HISTORY_ONLY",
        Rung::Template => "TEMPLATE",
        Rung::None(_) => "NONE",
    }
}
