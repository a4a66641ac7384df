//! The river with scripted stations under paused time: whatever dies, the slate comes and every item says its rung.

use std::collections::BTreeMap;
use std::time::Duration;

use refract_domain::*;
use refract_resilience::admission;

use super::*;
use crate::guarded::Guarded;
use crate::scripted::{Script, Slates, asked, context, river, river_with, stations};

/// What came out: explanations by position, the summary; checks the order of events on the way.
struct Seen {
    request: RequestId,
    explained: BTreeMap<u32, Explanation>,
    summary: refract_wire::recommend::Summary,
    slate_after: Duration,
    done_after: Duration,
}

async fn flow(river: Arc<River>, asked: Resolved, budget: Duration) -> Seen {
    let (started, context) = (now(), context(budget));
    let request = context.request.clone();
    let mut events = std::pin::pin!(river.recommend(asked, context).await.expect("ranked"));
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
                    request,
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
        asked(),
        Duration::from_secs(5),
    )
    .await;
    assert_eq!(rungs(&seen), [Rung::Fresh; 3]);
    assert_eq!(seen.summary.rungs["RUNG_FRESH"], 3);
    assert_eq!(seen.summary.request, seen.request);
    assert_eq!(seen.summary.oracle_revision.0.as_str(), "o1");
    assert_eq!(seen.summary.prism_revision.0, "p1");
}

#[tokio::test(start_paused = true)]
async fn a_dead_or_slow_oracle_leaves_the_history_alone_and_says_so() {
    for (script, phrase) in [(Script::Fails, "unreachable"), (Script::Hangs, "did not answer")] {
        let seen = flow(
            river(&stations(script, Script::Answers)),
            asked(),
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
            asked(),
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
        asked(),
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
    let mut asked = asked();
    asked.explain.lowest_rung = Some(Rung::Cached);
    let seen = flow(
        river(&stations(Script::Fails, Script::Answers)),
        asked,
        Duration::from_secs(5),
    )
    .await;
    assert_eq!(rungs(&seen), [Rung::None(NoneReason::BelowMinimum); 3]);
    assert!(seen.explained.values().all(|e| e.text.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn items_that_nobody_asked_to_explain_cost_nothing() {
    let stations = stations(Script::Answers, Script::Answers);
    let mut asked = asked();
    asked.explain.items_max = Some(1);
    let seen = flow(river(&stations), asked, Duration::from_secs(5)).await;
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
    flow(river(&stations), asked(), Duration::from_secs(5)).await;
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
    let seen = flow(Arc::new(river), asked(), Duration::from_secs(5)).await;
    assert_eq!(seen.explained[&2].text, "Thief is a crime film like Heat.");
    assert_eq!(rungs(&seen), [Rung::Fresh; 3]);
}

#[tokio::test(start_paused = true)]
async fn without_oracle_and_prism_templates_still_speak_and_an_empty_history_is_no_error() {
    let river = Arc::new(River {
        ranker: Arc::new(Slates),
        knowledge: None,
        explainer: None,
        rooms: Rooms::new(&Config::default()),
        config: Config::default(),
    });
    let mut asked = asked();
    asked.rank.history = Arc::default();
    let seen = flow(river, asked, Duration::from_secs(5)).await;
    assert!(seen.explained.values().all(|e| matches!(
        e.grounding.rung,
        Rung::Template | Rung::None(NoneReason::NoEvidence)
    )));
}

fn small_rooms(items: u64, items_by_rule: u64) -> Config {
    Config {
        admission: admission::Config {
            cost_max: items,
            cost_min: items,
            ..admission::Config::default()
        },
        items_by_rule_max: items_by_rule,
        ..Config::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_house_refuses_at_once_and_a_caller_who_leaves_makes_room() {
    let river = river_with(&stations(Script::Answers, Script::Hangs), small_rooms(4, 4));
    let recommend = || river.clone().recommend(asked(), context(Duration::from_secs(5)));
    let mut first = Box::pin(recommend().await.expect("three of four places"));
    assert!(matches!(first.next().await, Some(Event::Slate(_))));
    let by_rule = recommend().await.expect("three of the four others");
    let began = now();
    assert!(
        matches!(recommend().await.err(), Some(Error::Overloaded { retry_after }) if !retry_after.is_zero())
    );
    assert_eq!(now(), began, "without waiting");
    drop(by_rule);
    drop(first);
    let events: Vec<Event> = recommend().await.expect("room again").collect().await;
    assert!(matches!(events.last(), Some(Event::Summary(_))));
    assert_eq!(river.rooms.in_use(), 0);
}

#[tokio::test(start_paused = true)]
async fn where_explanations_are_slow_a_slate_comes_at_once_with_templates_that_say_why() {
    let stations = stations(Script::Hangs, Script::Answers);
    let river = river_with(&stations, small_rooms(4, 256));
    let slow = tokio::spawn(flow(river.clone(), asked(), Duration::from_secs(20)));
    tokio::task::yield_now().await;
    assert_eq!(stations.times_asked("oracle"), 3);
    let seen = flow(river.clone(), asked(), Duration::from_secs(20)).await;
    assert_eq!(seen.done_after, Duration::ZERO);
    assert_eq!(rungs(&seen), [Rung::Template; 3]);
    for explanation in seen.explained.values() {
        assert!(!explanation.text.is_empty());
        assert_eq!(explanation.grounding.descents, [Descent::NoRoom.as_str()]);
    }
    assert_eq!(stations.times_asked("oracle"), 3, "nobody is asked for it");
    assert_eq!(rungs(&slow.await.expect("no panic")), [Rung::HistoryOnly; 3]);
    assert_eq!(river.rooms.in_use(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_short_of_a_processor_refuses_also_what_never_waits() {
    let river = river_with(&stations(Script::Hangs, Script::Answers), small_rooms(1, 9));
    let _held = river.rooms.admit(1).expect("the only place for models");
    let burst =
        (0..10).map(|_| tokio::spawn(river.clone().recommend(asked(), context(Duration::from_secs(5)))));
    let burst: Vec<_> = burst.collect();
    let mut let_in = 0;
    for request in burst {
        match request.await.expect("no panic") {
            Ok(events) => {
                let_in += 1;
                drop(events);
            }
            Err(error) => assert!(matches!(error, Error::Overloaded { .. }), "{error}"),
        }
    }
    assert_eq!(let_in, 3, "those that came in the same turn share nine places");
}

#[tokio::test(start_paused = true)]
async fn an_oracle_that_hangs_is_soon_left_alone_and_its_callers_wait_no_more() {
    let stations = stations(Script::Hangs, Script::Answers);
    let mut river = Arc::into_inner(river(&stations)).expect("one owner");
    let config = river.config.clone();
    let guarded = Guarded::new(stations.clone(), config.oracle_breaker, config.oracle_silence_max);
    river.knowledge = Some(Arc::new(guarded));
    let river = Arc::new(river);
    let first = tokio::join!(
        flow(river.clone(), asked(), Duration::from_secs(20)),
        flow(river.clone(), asked(), Duration::from_secs(20)),
        flow(river.clone(), asked(), Duration::from_secs(20)),
    );
    assert_eq!(first.0.done_after, config.consult_cap);
    assert_eq!(stations.times_asked("oracle"), 9);
    let next = flow(river, asked(), Duration::from_secs(20)).await;
    assert_eq!(next.done_after, Duration::ZERO);
    assert_eq!(rungs(&next), [Rung::HistoryOnly; 3]);
    assert_eq!(stations.times_asked("oracle"), 9, "it is not asked");
}

#[tokio::test(start_paused = true)]
async fn once_a_prism_was_waited_for_in_vain_the_rest_of_a_long_slate_is_not_asked_about() {
    let stations = stations(Script::Answers, Script::Hangs);
    let river = river(&stations);
    let mut asked = asked();
    asked.rank.limit = 100;
    let events = river
        .clone()
        .recommend(asked, context(Duration::from_secs(5)))
        .await;
    let events: Vec<Event> = events.expect("ranked").collect().await;
    let explained = events.iter().filter_map(|event| match event {
        Event::Explained(it) => Some(it.explanation.grounding.rung),
        _ => None,
    });
    assert_eq!(explained.collect::<Vec<_>>(), [Rung::Template; 100]);
    assert_eq!(stations.times_asked("prism"), river.config.items_in_flight_max);
}

#[tokio::test(start_paused = true)]
async fn knowledge_is_returned_only_to_those_who_ask() {
    for wanted in [false, true] {
        let mut asked = asked();
        asked.explain.include_knowledge = wanted;
        let river = river(&stations(Script::Answers, Script::Answers));
        let events: Vec<Event> = river
            .recommend(asked, context(Duration::from_secs(5)))
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
