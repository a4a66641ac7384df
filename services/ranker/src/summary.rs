//! What a request took: counted while the events flow by, closed at the end.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use refract_domain::{RequestId, Revision, SlateOrigin};
use refract_wire::convert::explanation::rung_name;
use refract_wire::recommend::{Event, Explained, Summary};

use crate::recommend::now;

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
        Self {
            arrived,
            rank_time,
            origin,
            seen: Mutex::default(),
        }
    }

    /// Counts an event, and takes knowledge off it that the caller did not ask to see.
    pub(crate) fn note(&self, mut event: Event, include_knowledge: bool) -> Event {
        let mut seen = self
            .seen
            .lock()
            .expect("no code panics while it holds the tally; this is a bug");
        match &mut event {
            Event::Delta { .. } => {
                seen.first_text.get_or_insert_with(now);
            }
            Event::Explained(explained) => {
                let Explained {
                    explanation,
                    knowledge,
                    ..
                } = &mut **explained;
                let rung = rung_name(explanation.grounding.rung);
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
                if !include_knowledge {
                    *knowledge = None;
                }
            }
            Event::Slate(_) | Event::Summary(_) => {}
        }
        drop(seen);
        event
    }

    pub(crate) fn close(&self, request: RequestId) -> Summary {
        let seen = std::mem::take(
            &mut *self
                .seen
                .lock()
                .expect("no code panics while it holds the tally; this is a bug"),
        );
        let total_time = now() - self.arrived;
        metrics::histogram!("refract_ranker_request_seconds").record(total_time.as_secs_f64());
        Summary {
            request,
            rank_time: self.rank_time,
            first_text_time: seen.first_text.map(|at| at - self.arrived),
            total_time,
            rungs: seen
                .rungs
                .into_iter()
                .map(|(rung, n)| (rung.to_owned(), n))
                .collect(),
            oracle_revision: seen.oracle_revision,
            prism_revision: seen.prism_revision,
            slate_origin: Some(self.origin),
        }
    }
}
