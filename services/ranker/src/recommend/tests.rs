//! The river with scripted stations under paused time: whatever dies, the slate comes and every item says its rung.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use refract_domain::*;
use refract_resilience::admission;

use super::*;

/// How a station behaves.
#[derive(Clone, Copy, PartialEq)]
enum Script {
    Answers,
    Fails,
    Hangs,
    /// A Prism that is lost after its first sentence.
    DiesInMidText,
}

struct Stations {
    oracle: Script,
    prism: Script,
    freshness: Freshness,
    /// How often each station was asked, and what time was left.
    asked: Mutex<Vec<(&'static str, Duration)>>,
}

impl Stations {
    fn note(&self, station: &'static str, context: &Context) {
        self.asked
            .lock()
            .expect("no panic")
            .push((station, context.deadline.remaining(now())));
    }
}

fn film(id: &str, director: &str) -> Arc<Item> {
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

struct Slates;

#[async_trait]
impl Ranker for Slates {
    async fn rank(&self, query: &RankQuery, _: &Context) -> Result<Slate, Error> {
        let titles = ["Collateral", "Thief", "Ronin"];
        let items = titles
            .iter()
            .zip(1..)
            .take(query.limit)
            .map(|(title, position)| SlateItem {
                position,
                score: 1.0 / position as f32,
                item: film(
                    title,
                    if *title == "Ronin" {
                        "John Frankenheimer"
                    } else {
                        "Michael Mann"
                    },
                ),
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

fn stations(oracle: Script, prism: Script) -> Arc<Stations> {
    Arc::new(Stations {
        oracle,
        prism,
        freshness: Freshness::Fresh,
        asked: Mutex::default(),
    })
}

fn river(stations: &Arc<Stations>) -> Arc<River> {
    Arc::new(River {
        ranker: Arc::new(Slates),
        knowledge: Some(stations.clone()),
        explainer: Some(stations.clone()),
        config: Config::default(),
        room: Admission::new(admission::Config::default()),
    })
}

fn ask() -> Ask {
    let liked = Interaction {
        item: film("Heat", "Michael Mann"),
        at: Timestamp(1),
        signal: Signal::Liked,
        rating: None,
        text: None,
    };
    Ask {
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

fn context(budget: Duration) -> Context {
    Context {
        tenant: TenantId::default(),
        request: RequestId("r-1".into()),
        deadline: Deadline::after(now(), budget),
    }
}

/// What came out: explanations by position, the summary; checks the order of events on the way.
struct Seen {
    explained: BTreeMap<u32, Explanation>,
    summary: refract_wire::recommend::Summary,
    slate_after: Duration,
    done_after: Duration,
}

async fn flow(river: Arc<River>, ask: Ask, budget: Duration) -> Seen {
    let started = now();
    let mut events = std::pin::pin!(river.recommend(ask, context(budget)).await.expect("ranked"));
    assert!(
        matches!(events.next().await, Some(Event::Slate(slate)) if slate.items.len() == 3),
        "the slate comes first"
    );
    let slate_after = now() - started;
    let (mut texts, mut explained) = (BTreeMap::<u32, String>::new(), BTreeMap::new());
    loop {
        match events.next().await.expect("a summary ends the stream") {
            Event::Slate(_) => panic!("one slate"),
            Event::Delta { position, text } => {
                assert!(
                    !explained.contains_key(&position),
                    "no text after the end of an item"
                );
                texts.entry(position).or_default().push_str(&text);
            }
            Event::Explained(it) => {
                assert_eq!(
                    texts.get(&it.position).map_or("", String::as_str),
                    it.explanation.text,
                    "deltas joined are the text"
                );
                assert!(
                    explained.insert(it.position, it.explanation).is_none(),
                    "one end per item"
                );
            }
            Event::Summary(summary) => {
                assert!(events.next().await.is_none(), "the summary comes last");
                assert_eq!(explained.keys().copied().collect::<Vec<_>>(), [1, 2, 3]);
                return Seen {
                    explained,
                    summary,
                    slate_after,
                    done_after: now() - started,
                };
            }
        }
    }
}

fn rungs(seen: &Seen) -> Vec<Rung> {
    seen.explained.values().map(|e| e.grounding.rung).collect()
}

#[tokio::test(start_paused = true)]
async fn with_all_stations_well_every_item_is_explained_with_fresh_knowledge() {
    let seen = flow(
        river(&stations(Script::Answers, Script::Answers)),
        ask(),
        Duration::from_secs(5),
    )
    .await;
    assert_eq!(rungs(&seen), [Rung::Fresh; 3]);
    assert_eq!(seen.summary.rungs["RUNG_FRESH"], 3);
    assert_eq!(
        (
            seen.summary.request.0.as_str(),
            seen.summary.oracle_revision.0.as_str()
        ),
        ("r-1", "o1")
    );
    assert_eq!(seen.summary.prism_revision.0, "p1");
}

#[tokio::test(start_paused = true)]
async fn a_dead_or_slow_oracle_leaves_the_history_alone_and_says_so() {
    for (script, phrase) in [(Script::Fails, "unreachable"), (Script::Hangs, "did not answer")] {
        let seen = flow(
            river(&stations(script, Script::Answers)),
            ask(),
            Duration::from_secs(5),
        )
        .await;
        assert_eq!(rungs(&seen), [Rung::HistoryOnly; 3]);
        assert_eq!(seen.slate_after, Duration::ZERO, "the slate never waits");
        let descents = &seen.explained[&1].grounding.descents;
        assert!(
            descents
                .iter()
                .any(|d| d.contains("Oracle") && d.contains(phrase)),
            "{descents:?}"
        );
        assert!(
            seen.done_after < Duration::from_secs(5),
            "the Prism was left its share of the deadline"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_or_slow_prism_leaves_templates_within_the_deadline() {
    for script in [Script::Fails, Script::Hangs] {
        let seen = flow(
            river(&stations(Script::Answers, script)),
            ask(),
            Duration::from_secs(5),
        )
        .await;
        for (position, explanation) in &seen.explained {
            assert_eq!(
                explanation.grounding.rung,
                Rung::Template,
                "{position}: {explanation:?}"
            );
            assert!(!explanation.text.is_empty());
        }
        assert!(
            seen.explained[&1].text.contains("Heat"),
            "{}",
            seen.explained[&1].text
        );
        assert!(seen.done_after < Duration::from_secs(5));
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_lost_prism_had_said_stands_and_is_never_taken_back() {
    let seen = flow(
        river(&stations(Script::Answers, Script::DiesInMidText)),
        ask(),
        Duration::from_secs(5),
    )
    .await;
    let explanation = &seen.explained[&1];
    assert_eq!(explanation.text, "Collateral is a crime film like Heat.");
    assert_eq!(explanation.grounding.rung, Rung::Fresh);
    assert!(
        explanation.grounding.descents.iter().any(|d| d.contains("Prism")),
        "{explanation:?}"
    );
    assert!(!explanation.grounding.claims.is_empty(), "claims are found again");
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_refuses_poorer_rungs_never_sees_their_text() {
    let mut ask = ask();
    ask.explain.lowest_rung = Some(Rung::Cached);
    let seen = flow(
        river(&stations(Script::Fails, Script::Answers)),
        ask,
        Duration::from_secs(5),
    )
    .await;
    assert_eq!(rungs(&seen), [Rung::None(NoneReason::BelowMinimum); 3]);
    assert!(seen.explained.values().all(|e| e.text.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn items_that_nobody_asked_to_explain_cost_nothing() {
    let stations = stations(Script::Answers, Script::Answers);
    let mut ask = ask();
    ask.explain.items_max = Some(1);
    let seen = flow(river(&stations), ask, Duration::from_secs(5)).await;
    let not_requested = Rung::None(NoneReason::NotRequested);
    assert_eq!(rungs(&seen), [Rung::Fresh, not_requested, not_requested]);
    assert_eq!(
        stations.asked.lock().expect("no panic").len(),
        2,
        "one Oracle, one Prism"
    );
}

#[tokio::test(start_paused = true)]
async fn deadlines_shrink_on_the_way() {
    let stations = stations(Script::Answers, Script::Answers);
    flow(river(&stations), ask(), Duration::from_secs(5)).await;
    for (station, left) in stations.asked.lock().expect("no panic").iter() {
        assert!(*left <= Duration::from_secs(5), "{station} had {left:?}");
        assert!(
            *station != "oracle" || *left <= Duration::from_secs(4),
            "the Oracle leaves the Prism its reserve: {left:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn in_oracle_mode_the_teachers_own_text_is_served() {
    let stations = stations(Script::Answers, Script::Fails);
    let mut river = Arc::into_inner(river(&stations)).expect("one owner");
    river.config.mode = Mode::Oracle;
    let seen = flow(Arc::new(river), ask(), Duration::from_secs(5)).await;
    assert_eq!(seen.explained[&2].text, "Thief is a crime film like Heat.");
    assert_eq!(rungs(&seen), [Rung::Fresh; 3]);
}

#[tokio::test(start_paused = true)]
async fn without_oracle_and_prism_templates_still_speak_and_an_empty_history_is_no_error() {
    let river = Arc::new(River {
        ranker: Arc::new(Slates),
        knowledge: None,
        explainer: None,
        config: Config::default(),
        room: Admission::new(admission::Config::default()),
    });
    let mut ask = ask();
    ask.rank.history = Arc::default();
    let seen = flow(river, ask, Duration::from_secs(5)).await;
    assert!(seen.explained.values().all(|e| matches!(
        e.grounding.rung,
        Rung::Template | Rung::None(NoneReason::NoEvidence)
    )));
}

#[tokio::test(start_paused = true)]
async fn a_full_house_refuses_at_once_and_a_caller_who_leaves_makes_room() {
    let mut river = Arc::into_inner(river(&stations(Script::Answers, Script::Hangs))).expect("one owner");
    river.room = Admission::new(admission::Config {
        cost_max: 4,
        cost_min: 4,
        ..admission::Config::default()
    });
    let river = Arc::new(river);
    let recommend = || river.clone().recommend(ask(), context(Duration::from_secs(5)));
    let mut first = Box::pin(recommend().await.expect("three of four places"));
    assert!(matches!(first.next().await, Some(Event::Slate(_))));
    let asked = now();
    assert!(
        matches!(recommend().await.err(), Some(Error::Overloaded { retry_after }) if !retry_after.is_zero())
    );
    assert_eq!(now(), asked, "without waiting");
    drop(first);
    let events: Vec<Event> = recommend().await.expect("room again").collect().await;
    assert!(matches!(events.last(), Some(Event::Summary(_))));
    assert_eq!(river.room.in_use(), 0);
}

#[tokio::test(start_paused = true)]
async fn knowledge_is_returned_only_to_those_who_ask() {
    for wanted in [false, true] {
        let mut ask = ask();
        ask.explain.include_knowledge = wanted;
        let river = river(&stations(Script::Answers, Script::Answers));
        let events: Vec<Event> = river
            .recommend(ask, context(Duration::from_secs(5)))
            .await
            .expect("ranked")
            .collect()
            .await;
        let given = events
            .iter()
            .filter(|e| matches!(e, Event::Explained(it) if it.knowledge.is_some()))
            .count();
        assert_eq!(given, if wanted { 3 } else { 0 });
    }
}
