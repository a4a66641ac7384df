//! What the front door accepts, what it refuses, and by which name of the field.

use std::collections::BTreeMap;

use prost::Message as _;
use refract_domain::{Interaction, Signal, Timestamp};

use super::*;
use crate::limits::RatingScale;

fn whole(id: &str) -> types::Item {
    types::Item {
        id: id.into(),
        title: format!("Title of {id}"),
        ..Default::default()
    }
}

fn named(id: &str) -> types::Item {
    types::Item {
        id: id.into(),
        ..Default::default()
    }
}

fn act(item: types::Item, time_unix_s: i64) -> types::Interaction {
    types::Interaction {
        item: Some(item.encode_to_vec().into()),
        time_unix_s,
        signal: types::Signal::Liked.into(),
        ..Default::default()
    }
}

fn of_history(interactions: Vec<types::Interaction>) -> proto::Subject {
    proto::Subject {
        kind: Some(proto::subject::Kind::History(interactions.into_iter().collect())),
        inline_user_id: String::new(),
    }
}

fn of_user(id: &str) -> proto::Subject {
    proto::Subject {
        kind: Some(proto::subject::Kind::UserId(id.into())),
        inline_user_id: String::new(),
    }
}

fn rank(subject: proto::Subject) -> proto::RankRequest {
    proto::RankRequest {
        subject: Some(subject),
        ..Default::default()
    }
}

fn among(ids: &[&str]) -> Option<proto::CandidateSet> {
    let ids = ids.iter().map(|id| (*id).to_owned()).collect();
    Some(proto::CandidateSet {
        kind: Some(proto::candidate_set::Kind::Among(proto::ItemIds { ids })),
    })
}

fn given(items: Vec<types::Item>) -> Option<proto::CandidateSet> {
    Some(proto::CandidateSet {
        kind: Some(proto::candidate_set::Kind::Slate(proto::GivenSlate { items })),
    })
}

fn field_of<T: std::fmt::Debug>(outcome: Result<T, Error>) -> String {
    match outcome {
        Err(Error::Invalid { field, .. }) => field,
        other => panic!("expected an invalid field, got {other:?}"),
    }
}

/// What is wrong with a ranking request is named by its path.
#[test]
fn every_bad_ranking_request_is_refused_by_its_field() {
    let with_item = |change: fn(&mut types::Item)| {
        let mut item = whole("x");
        change(&mut item);
        rank(of_history(vec![act(whole("a"), 1), act(item, 2)]))
    };
    let with_act = |change: fn(&mut types::Interaction)| {
        let mut interaction = act(whole("x"), 2);
        change(&mut interaction);
        rank(of_history(vec![interaction]))
    };
    let with = |change: fn(&mut proto::RankRequest)| {
        let mut request = rank(of_user("u"));
        change(&mut request);
        request
    };
    let filter = |attribute: &str, any_of: &[&str]| types::AttributeFilter {
        attribute: attribute.into(),
        any_of: any_of.iter().map(|v| (*v).to_owned()).collect(),
    };
    fn values(n: usize) -> types::AttributeValues {
        types::AttributeValues {
            values: vec!["v".into(); n],
        }
    }
    let mut both = of_user("u");
    both.inline_user_id = "v".into();
    let mut inline = of_history(vec![]);
    inline.inline_user_id = "a\0".into();

    let cases: Vec<(proto::RankRequest, &str)> = vec![
        (proto::RankRequest::default(), "subject"),
        (rank(proto::Subject::default()), "subject"),
        (rank(of_user("")), "subject.user_id"),
        (rank(of_user(&"u".repeat(129))), "subject.user_id"),
        (rank(of_user("a\0b")), "subject.user_id"),
        (rank(of_user("a\u{7f}b")), "subject.user_id"),
        (rank(both), "subject.inline_user_id"),
        (rank(inline), "subject.inline_user_id"),
        (
            with_act(|i| i.item = None),
            "subject.history.interactions[0].item",
        ),
        (
            with_act(|i| i.signal = 99),
            "subject.history.interactions[0].signal",
        ),
        (
            with_act(|i| i.rating = Some(f32::NAN)),
            "subject.history.interactions[0].rating",
        ),
        (
            with_act(|i| i.rating = Some(f32::INFINITY)),
            "subject.history.interactions[0].rating",
        ),
        (
            with_act(|i| i.text = Some("x".repeat(4001))),
            "subject.history.interactions[0].text",
        ),
        (
            with_item(|i| i.id.clear()),
            "subject.history.interactions[1].item.id",
        ),
        (
            with_item(|i| i.id = "é".repeat(65)),
            "subject.history.interactions[1].item.id",
        ),
        (
            with_item(|i| i.title = "t".repeat(301)),
            "subject.history.interactions[1].item.title",
        ),
        (
            with_item(|i| i.title = "a\nb".into()),
            "subject.history.interactions[1].item.title",
        ),
        (
            with_item(|i| i.title = " \u{200b} ".into()),
            "subject.history.interactions[1].item.title",
        ),
        (
            with_item(|i| i.description = "d".repeat(4001)),
            "subject.history.interactions[1].item.description",
        ),
        (
            with_item(|i| i.attributes = (0..65).map(|n| (format!("n{n}"), values(1))).collect()),
            "subject.history.interactions[1].item.attributes",
        ),
        (
            with_item(|i| i.attributes = BTreeMap::from([("a".into(), values(1)), ("b".into(), values(65))])),
            "subject.history.interactions[1].item.attributes[1].values",
        ),
        (
            with_item(|i| i.attributes = BTreeMap::from([("".into(), values(1))])),
            "subject.history.interactions[1].item.attributes[0].name",
        ),
        (with(|r| r.limit = 101), "limit"),
        (with(|r| r.limit = u32::MAX), "limit"),
        (with(|r| r.candidates = among(&[])), "candidates.among.ids"),
        (
            with(|r| r.candidates = among(&["a", "b", "a"])),
            "candidates.among.ids[2]",
        ),
        (
            with(|r| r.candidates = among(&["a", ""])),
            "candidates.among.ids[1]",
        ),
        (with(|r| r.candidates = given(vec![])), "candidates.slate.items"),
        (
            with(|r| r.candidates = given(vec![named("a"), named("a")])),
            "candidates.slate.items[1]",
        ),
        (
            with(|r| r.candidates = given((0..101).map(|i| named(&i.to_string())).collect())),
            "candidates.slate.items",
        ),
        (
            proto::RankRequest {
                filters: vec![filter("", &["x"])],
                ..rank(of_user("u"))
            },
            "filters[0].attribute",
        ),
        (
            proto::RankRequest {
                filters: vec![filter("genre", &[])],
                ..rank(of_user("u"))
            },
            "filters[0].any_of",
        ),
        (
            proto::RankRequest {
                filters: vec![filter("g", &["x"]); 17],
                ..rank(of_user("u"))
            },
            "filters",
        ),
    ];
    for (request, field) in cases {
        assert_eq!(field_of(parse_rank(request.clone(), &Rules::default())), field);
        let whole = proto::RecommendRequest {
            rank: Some(request),
            explain: None,
        };
        assert_eq!(
            field_of(parse_recommend(whole, &Rules::default())),
            format!("rank.{field}")
        );
    }
}

#[test]
fn every_bad_explaining_request_is_refused_by_its_field() {
    let request = |items: Vec<types::Item>| proto::ExplainRequest {
        subject: Some(of_user("u")),
        items,
        explain: None,
    };
    let unknown = proto::ExplainOptions {
        lowest_rung: 42,
        ..Default::default()
    };
    for (request, field) in [
        (proto::ExplainRequest::default(), "subject"),
        (request(vec![]), "items"),
        (
            request((0..101).map(|i| named(&i.to_string())).collect()),
            "items",
        ),
        (request(vec![named("a"), whole("b"), whole("a")]), "items[2]"),
        (request(vec![types::Item::default()]), "items[0].id"),
        (
            proto::ExplainRequest {
                explain: Some(unknown),
                ..request(vec![named("a")])
            },
            "explain.lowest_rung",
        ),
    ] {
        assert_eq!(field_of(parse_explain(request, &Rules::default())), field);
    }
    assert_eq!(
        field_of(parse_recommend(
            proto::RecommendRequest::default(),
            &Rules::default()
        )),
        "rank"
    );
}

#[test]
fn what_is_left_out_gets_its_documented_meaning() {
    let ask = parse_rank(rank(of_user("u")), &Rules::default()).expect("fine");
    assert_eq!(
        (ask.limit, ask.include_seen, &ask.candidates),
        (10, false, &CandidatesAsk::Catalogue)
    );
    let request = proto::RecommendRequest {
        rank: Some(rank(of_user("u"))),
        explain: None,
    };
    let options = parse_recommend(request, &Rules::default()).expect("fine").explain;
    assert_eq!(options, ExplainOptions::default());
    assert!(options.wants(100) && options.accepts(Rung::Template));
}

#[test]
fn a_lowest_rung_refuses_what_is_poorer() {
    let options = ExplainOptions {
        lowest_rung: Some(Rung::Stale),
        items_max: Some(2),
        ..ExplainOptions::default()
    };
    for (rung, fine) in [
        (Rung::Fresh, true),
        (Rung::Stale, true),
        (Rung::HistoryOnly, false),
        (Rung::Template, false),
    ] {
        assert_eq!(options.accepts(rung), fine, "{rung:?}");
    }
    assert!(
        options.accepts(Rung::None(refract_domain::NoneReason::Deadline)),
        "there may always be none"
    );
    assert!(options.wants(2) && !options.wants(3));
}

#[test]
fn the_newest_two_hundred_interactions_count() {
    let interactions = (0..250).rev().map(|t| act(named(&format!("i{t}")), t)).collect();
    let ask = parse_rank(rank(of_history(interactions)), &Rules::default()).expect("more is not an error");
    let Subject::Inline { interactions, .. } = ask.subject else {
        panic!("inline")
    };
    assert_eq!(interactions.len(), 200);
    assert_eq!(
        (interactions[0].at, interactions[199].at),
        (Timestamp(50), Timestamp(249)),
        "oldest first"
    );
}

#[test]
fn an_unspoken_signal_is_read_from_the_rating_by_the_data_sets_scale() {
    let rules = Rules {
        rating_scale: Some(RatingScale {
            liked_min: 4.0,
            disliked_max: 2.0,
        }),
        ..Rules::default()
    };
    let read = |rating: Option<f32>, signal: types::Signal, rules: &Rules| {
        let interaction = types::Interaction {
            rating,
            signal: signal.into(),
            ..act(named("a"), 1)
        };
        let ask = parse_rank(rank(of_history(vec![interaction])), rules).expect("fine");
        let Subject::Inline { interactions, .. } = ask.subject else {
            panic!("inline")
        };
        interactions[0].signal
    };
    use types::Signal as Wire;
    for (rating, expected) in [
        (Some(5.0), Signal::Liked),
        (Some(3.0), Signal::Seen),
        (Some(1.0), Signal::Disliked),
        (None, Signal::Liked),
    ] {
        assert_eq!(read(rating, Wire::Unspecified, &rules), expected, "{rating:?}");
        assert_eq!(
            read(rating, Wire::Unspecified, &Rules::default()),
            Signal::Liked,
            "no scale: {rating:?}"
        );
        assert_eq!(
            read(rating, Wire::Seen, &rules),
            Signal::Seen,
            "what is said counts"
        );
    }
}

#[test]
fn items_come_from_the_request_or_else_from_the_catalogue_or_are_missed_by_name() {
    let known = Arc::new(Item {
        id: ItemId::new("a"),
        title: "Known".into(),
        attributes: Default::default(),
        description: String::new(),
    });
    let catalogue = |id: &ItemId| (id.as_str() == "a").then(|| known.clone());
    let nobody = |_: &UserId| None;

    let request = rank(of_history(vec![act(whole("z"), 2), act(named("a"), 1)]));
    let ask = parse_rank(request, &Rules::default()).expect("fine");
    let history = ask.subject.history(nobody, catalogue).expect("both are known");
    let titles: Vec<&str> = history
        .interactions()
        .iter()
        .map(|i: &Interaction| i.item.title.as_str())
        .collect();
    assert_eq!(titles, ["Known", "Title of z"]);

    let missing = |resource, field: &str| Error::NotFound {
        resource,
        field: field.into(),
    };
    let ask =
        parse_rank(rank(of_history(vec![act(named("nope"), 1)])), &Rules::default()).expect("well formed");
    let expected = missing(Resource::Item, "subject.history.interactions[0].item.id");
    assert_eq!(ask.subject.history(nobody, catalogue), Err(expected));

    let ask = parse_rank(rank(of_user("nope")), &Rules::default()).expect("well formed");
    assert_eq!(
        ask.subject.history(nobody, catalogue),
        Err(missing(Resource::User, "subject.user_id"))
    );

    let request = proto::RankRequest {
        candidates: among(&["a", "nope"]),
        ..rank(of_user("u"))
    };
    let ask = parse_rank(request, &Rules::default()).expect("well formed");
    assert_eq!(
        ask.candidates.resolve(catalogue),
        Err(missing(Resource::Item, "candidates.among.ids[1]"))
    );
}

#[test]
fn an_ask_survives_the_way_through_its_message() {
    let request = proto::RankRequest {
        subject: Some(of_history(vec![act(named("a"), 1), act(whole("b"), 2)])),
        candidates: given(vec![named("c"), whole("d")]),
        filters: vec![types::AttributeFilter {
            attribute: "genre".into(),
            any_of: vec!["noir".into()],
        }],
        limit: 7,
        include_seen: true,
    };
    let explain = proto::ExplainOptions {
        items_max: 3,
        lowest_rung: types::Rung::HistoryOnly.into(),
        style: 5,
        include_knowledge: true,
    };
    let message = proto::RecommendRequest {
        rank: Some(request),
        explain: Some(explain),
    };
    let ask = parse_recommend(message.clone(), &Rules::default()).expect("fine");
    let back = proto::RecommendRequest {
        rank: Some(rank_to_proto(&ask.rank)),
        explain: Some(options_to_proto(&ask.explain)),
    };
    assert_eq!(back, message);
}
