//! Stations that do as a test's script says, and a river that joins them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use refract_domain::*;
use refract_wire::recommend::ExplainOptions;

use crate::config::River as Config;
use crate::ladder;
use crate::recommend::{Resolved, River, now};
use crate::rooms::Rooms;

/// How a station behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Script {
    Answers,
    Fails,
    Hangs,
    /// A Prism that is lost after its first sentence.
    DiesInMidText,
}

#[derive(Debug)]
pub(crate) struct Stations {
    pub(crate) oracle: Script,
    pub(crate) prism: Script,
    freshness: Freshness,
    /// How often each station was asked, and what time was left.
    pub(crate) asked: Mutex<Vec<(&'static str, Duration)>>,
}

impl Stations {
    fn note(&self, station: &'static str, context: &Context) {
        self.asked
            .lock()
            .expect("no panic")
            .push((station, context.deadline.remaining(now())));
    }

    pub(crate) fn times_asked(&self, station: &str) -> usize {
        let asked = self.asked.lock().expect("no panic");
        asked.iter().filter(|(it, _)| *it == station).count()
    }
}

pub(crate) fn film(id: &str, director: &str) -> Arc<Item> {
    let attributes = [
        ("director".to_owned(), vec![director.to_owned()]),
        ("genre".to_owned(), vec!["crime".to_owned()]),
    ];
    Arc::new(Item {
        id: ItemId::new(id),
        title: id.to_owned(),
        attributes: attributes.into(),
        description: String::new(),
    })
}

/// As many films as are asked for, two of them by one who made a film that was liked.
#[derive(Debug)]
pub(crate) struct Slates;

#[async_trait]
impl Ranker for Slates {
    async fn rank(&self, query: &RankQuery, _: &Context) -> Result<Slate, Error> {
        let items = (1..=query.limit as u32).map(|position| SlateItem {
            position,
            score: 1.0 / position as f32,
            item: match position {
                1 => film("Collateral", "Michael Mann"),
                2 => film("Thief", "Michael Mann"),
                3 => film("Ronin", "John Frankenheimer"),
                _ => film(&format!("Ronin {position}"), "John Frankenheimer"),
            },
            affinities: Vec::new(),
        });
        Ok(Slate {
            items: items.collect(),
            origin: SlateOrigin::Personal,
            ranker_revision: Revision("r1".into()),
        })
    }
}

#[async_trait]
impl KnowledgeSource for Stations {
    async fn consult(
        &self,
        pair: &Pair,
        history: &Arc<History>,
        context: &Context,
    ) -> Result<Knowledge, Error> {
        self.note("oracle", context);
        match self.oracle {
            Script::Fails => {
                return Err(Error::Unavailable {
                    reason: UnavailableReason::Unreachable,
                });
            }
            Script::Hangs => std::future::pending().await,
            Script::Answers | Script::DiesInMidText => {}
        }
        let liked = history.liked().next().ok_or(Error::Internal)?;
        Ok(Knowledge {
            facts: vec![Fact {
                kind: FactKind::Shared {
                    attribute: "genre".into(),
                    value: "crime".into(),
                },
                text: "it is a crime film like Heat".into(),
                evidence: vec![Evidence::History {
                    item: liked.item.id.clone(),
                }],
            }],
            text: format!("{} is a crime film like Heat.", pair.item.title),
            oracle_revision: Revision("o1".into()),
            template_revision: Revision("t1".into()),
            created_at: Timestamp(0),
            freshness: self.freshness,
            facts_refused: 0,
            history_truncated: 0,
        })
    }
}

#[async_trait]
impl Explainer for Stations {
    async fn explain(&self, query: ExplainQuery, context: &Context) -> Result<ExplanationStream, Error> {
        self.note("prism", context);
        let script = self.prism;
        match script {
            Script::Fails => {
                return Err(Error::Unavailable {
                    reason: UnavailableReason::Unreachable,
                });
            }
            Script::Hangs => std::future::pending().await,
            Script::Answers | Script::DiesInMidText => {}
        }
        Ok(Box::pin(async_stream::stream! {
            let first = format!("{} is a crime film like Heat.", query.pair.item.title);
            yield Ok(ExplanationEvent::Delta(first.clone()));
            if script == Script::DiesInMidText {
                yield Err(Error::Unavailable { reason: UnavailableReason::Unreachable });
                return;
            }
            let mut written = ladder::without_text(NoneReason::Internal);
            written.text = first;
            written.grounding.rung = query.rung();
            written.prism_revision = Revision("p1".into());
            yield Ok(ExplanationEvent::Done(written));
        }))
    }
}

pub(crate) fn stations(oracle: Script, prism: Script) -> Arc<Stations> {
    Arc::new(Stations {
        oracle,
        prism,
        freshness: Freshness::Fresh,
        asked: Mutex::default(),
    })
}

pub(crate) fn river(stations: &Arc<Stations>) -> Arc<River> {
    river_with(stations, Config::default())
}

pub(crate) fn river_with(stations: &Arc<Stations>, config: Config) -> Arc<River> {
    Arc::new(River {
        ranker: Arc::new(Slates),
        knowledge: Some(stations.clone()),
        explainer: Some(stations.clone()),
        rooms: Rooms::new(&config),
        config,
    })
}

pub(crate) fn asked() -> Resolved {
    let liked = Interaction {
        item: film("Heat", "Michael Mann"),
        at: Timestamp(1),
        signal: Signal::Liked,
        rating: None,
        text: None,
    };
    Resolved {
        user: Some(UserId::new("u1")),
        rank: RankQuery {
            history: Arc::new(History::new(vec![liked])),
            candidates: Candidates::Catalogue,
            filters: Vec::new(),
            include_seen: false,
            limit: 3,
        },
        explain: ExplainOptions::default(),
    }
}

/// Of another request each time.
pub(crate) fn context(budget: Duration) -> Context {
    static REQUESTS: AtomicUsize = AtomicUsize::new(1);
    Context {
        tenant: TenantId::default(),
        request: RequestId(format!("r-{}", REQUESTS.fetch_add(1, Ordering::Relaxed))),
        deadline: Deadline::after(now(), budget),
    }
}
