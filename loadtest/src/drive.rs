//! Sends the schedule to a front door, and sees what comes back when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use refract_client::{Error, Event, Explanation, Refract, Rung, for_user};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::summary::{Item, Outcome};

/// What is asked.
#[derive(Clone, Debug)]
pub struct Load {
    /// Since the run's beginning.
    pub starts: Vec<Duration>,
    /// The user of each start.
    pub users: Vec<String>,
    pub limit: usize,
    /// Requests under way at one time; a further one is not sent, and counted as `NOT_SENT`. Bounds the generator's own
    /// memory when nothing is answered.
    pub in_flight_max: usize,
}

/// Runs the load to its end. Each door is one connection; requests take them in turn.
pub async fn run(doors: &[Refract], load: Load) -> Vec<Outcome> {
    let places = Arc::new(Semaphore::new(load.in_flight_max));
    let begun = Instant::now();
    let mut under_way = JoinSet::new();
    let mut outcomes = Vec::with_capacity(load.starts.len());
    for (n, (intended, user)) in load.starts.into_iter().zip(load.users).enumerate() {
        tokio::time::sleep_until(begun + intended).await;
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            outcomes.push(Outcome {
                intended,
                delay: begun.elapsed() - intended,
                status: "NOT_SENT",
                ..Outcome::default()
            });
            continue;
        };
        let (door, limit) = (doors[n % doors.len()].clone(), load.limit);
        under_way.spawn(async move {
            let outcome = ask(&door, &user, limit, begun, intended).await;
            drop(place);
            outcome
        });
        while let Some(Ok(outcome)) = under_way.try_join_next() {
            outcomes.push(outcome);
        }
    }
    while let Some(Ok(outcome)) = under_way.join_next().await {
        outcomes.push(outcome);
    }
    outcomes.sort_unstable_by_key(|outcome| outcome.intended);
    outcomes
}

async fn ask(door: &Refract, user: &str, limit: usize, begun: Instant, intended: Duration) -> Outcome {
    let since = || begun.elapsed().saturating_sub(intended);
    let mut outcome = Outcome {
        intended,
        delay: since(),
        status: "OK",
        ..Outcome::default()
    };
    let mut events = match door.stream_recommend(&for_user(user, limit)).await {
        Ok(events) => events,
        Err(error) => {
            outcome.status = status(&error);
            return outcome;
        }
    };
    // By position: when its first text came, and its last.
    let mut texts: BTreeMap<u32, (Duration, Duration)> = BTreeMap::new();
    // How long the Prism worked on the item that came last.
    let mut prism = None;
    while let Some(event) = events.next().await {
        let now = since();
        match event {
            Ok(Event::Slate(_)) => outcome.slate = Some(now),
            Ok(Event::Delta { position, .. }) => {
                outcome.first_text.get_or_insert(now);
                if let Some((_, last)) = texts.get_mut(&position) {
                    outcome.gaps.push(now - std::mem::replace(last, now));
                } else {
                    texts.insert(position, (now, now));
                }
            }
            Ok(Event::Explained(it)) => {
                let first = texts.get(&it.position).map(|(first, _)| *first);
                let Explanation {
                    grounding,
                    tokens,
                    timings,
                    ..
                } = &it.explanation;
                let tokens = tokens.generated;
                prism = (tokens > 0).then_some(timings.prism);
                outcome.items.push(Item {
                    rung: grounding.rung.as_str(),
                    complete: now,
                    found: (grounding.rung == Rung::Cached).then_some(timings.consult),
                    per_token: first
                        .filter(|_| tokens > 1)
                        .map(|first| (now - first) / (tokens - 1)),
                });
            }
            Ok(Event::Summary(_)) => {
                outcome.end = Some(now);
                outcome.overhead = prism.map(|prism| now.saturating_sub(outcome.delay + prism));
            }
            Err(error) => outcome.status = status(&error),
        }
    }
    outcome
}

fn status(error: &Error) -> &'static str {
    match error {
        Error::Invalid { .. } => "INVALID",
        Error::NotFound { .. } => "NOT_FOUND",
        Error::Precondition { .. } => "PRECONDITION",
        Error::Overloaded { .. } => "OVERLOADED",
        Error::Unavailable { .. } => "UNAVAILABLE",
        Error::Infeasible | Error::DeadlineExceeded => "DEADLINE",
        Error::Cancelled => "CANCELLED",
        Error::ModelFault | Error::Internal => "INTERNAL",
    }
}
