//! What the built-in ranker does with histories, candidates and filters, on a made data set of two tastes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use refract_domain::{
    AttributeFilter, Attributes, Candidates, Context, Deadline, Error, History, Interaction, Item, ItemId,
    RankQuery, Ranker, RequestId, Resource, Signal, Slate, SlateOrigin, TenantId, Timestamp, UserId,
};
use refract_ranker::dataset::{Manifest, Parts, RawInteraction};
use refract_ranker::{Builtin, Dataset, Hyper, Model, builtin, train};

const PER_TASTE: usize = 20;

fn item(id: &str, genre: &str) -> Item {
    let attributes = Attributes::from([("genre".to_owned(), vec![genre.to_owned()])]);
    Item {
        id: ItemId::new(id),
        title: format!("Title {id}"),
        attributes,
        description: String::new(),
    }
}

/// Noir lovers like `n0…`, space lovers `s0…`; `cold-noir` and `cold-space` nobody has met.
fn two_tastes() -> Parts {
    let mut items: Vec<Item> = (0..PER_TASTE).map(|n| item(&format!("n{n}"), "Noir")).collect();
    items.extend((0..PER_TASTE).map(|n| item(&format!("s{n}"), "Space")));
    items.extend([item("cold-noir", "Noir"), item("cold-space", "Space")]);
    let mut interactions = Vec::new();
    // A fixed linear congruential sequence: which eight of the twenty each user liked, and in which order.
    let mut state = 12_345u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % PER_TASTE
    };
    for user in 0..200usize {
        let letter = if user.is_multiple_of(2) { 'n' } else { 's' };
        for k in 0..8 {
            let row = RawInteraction {
                user: UserId::new(format!("u{user}")),
                item: ItemId::new(format!("{letter}{}", next())),
                rating: None,
                at: Timestamp((user * 50 + k) as i64 * 3_600),
            };
            interactions.push(row);
        }
    }
    Parts {
        manifest: Manifest {
            name: "two tastes".into(),
            ..Manifest::default()
        },
        items,
        interactions,
        users: vec![],
    }
}

fn hyper() -> Hyper {
    let mut hyper = Hyper::default();
    hyper.als.dimensions = 16;
    hyper.learn_order = false;
    hyper
}

/// What is liked next is the neighbour of what was liked last, and nothing before it tells anything: walks that change direction.
fn one_after_the_other() -> Parts {
    let mut parts = two_tastes();
    let mut state = 99u64;
    let mut next = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let ids: Vec<ItemId> = parts.items.iter().map(|i| i.id.clone()).collect();
    parts.interactions.clear();
    for user in 0..200usize {
        for run in 0..4 {
            let begin = next(ids.len());
            for k in 0..3 {
                parts.interactions.push(RawInteraction {
                    user: UserId::new(format!("u{user}")),
                    item: ids[(begin + k) % ids.len()].clone(),
                    rating: None,
                    at: Timestamp((user * 50 + run * 3 + k) as i64 * 3_600),
                });
            }
        }
    }
    parts
}

#[test]
fn recency_counts_where_order_in_time_tells_and_less_where_it_does_not() {
    let decay = |parts: Parts| {
        let data = Dataset::assemble(parts).unwrap();
        let hyper = Hyper {
            learn_order: true,
            ..hyper()
        };
        train(&data, &hyper, |_| {}).unwrap().hyper().recency_decay
    };
    let (ordered, unordered) = (decay(one_after_the_other()), decay(two_tastes()));
    assert!(ordered < unordered, "{ordered} {unordered}");
    assert!(unordered >= 0.95, "{unordered}");
}

fn dataset() -> Arc<Dataset> {
    Arc::new(Dataset::assemble(two_tastes()).unwrap())
}

fn ranker() -> Builtin {
    let data = dataset();
    let model = train(&data, &hyper(), |_| {}).unwrap();
    Builtin::new(data, &model, builtin::Config::default()).unwrap()
}

fn history(ranker: &Builtin, acts: &[(&str, Signal)]) -> Arc<History> {
    let act = |(n, (id, signal)): (usize, &(&str, Signal))| Interaction {
        item: ranker
            .dataset()
            .catalogue()
            .get(&ItemId::new(*id))
            .unwrap()
            .clone(),
        at: Timestamp(n as i64),
        signal: *signal,
        rating: None,
        text: None,
    };
    Arc::new(History::new(acts.iter().enumerate().map(act).collect()))
}

fn likes(ranker: &Builtin, ids: &[&str]) -> Arc<History> {
    history(
        ranker,
        &ids.iter().map(|id| (*id, Signal::Liked)).collect::<Vec<_>>(),
    )
}

fn query(history: Arc<History>) -> RankQuery {
    RankQuery {
        history,
        candidates: Candidates::Catalogue,
        filters: vec![],
        include_seen: false,
        limit: 10,
    }
}

fn rank(ranker: &Builtin, query: &RankQuery) -> Result<Slate, Error> {
    let context = Context {
        tenant: TenantId::default(),
        request: RequestId::default(),
        deadline: Deadline::after(Instant::now(), Duration::from_secs(60)),
    };
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(ranker.rank(query, &context))
}

fn ids(slate: &Slate) -> Vec<&str> {
    slate.items.iter().map(|i| i.item.id.as_str()).collect()
}

fn share_of(slate: &Slate, letter: char) -> f64 {
    let of = ids(slate).iter().filter(|id| id.starts_with(letter)).count();
    of as f64 / slate.items.len() as f64
}

#[test]
fn three_likes_of_one_taste_recommend_that_taste() {
    let ranker = ranker();
    for (letter, seen) in [('n', ["n1", "n2", "n3"]), ('s', ["s4", "s9", "s0"])] {
        let slate = rank(&ranker, &query(likes(&ranker, &seen))).unwrap();
        assert_eq!(slate.origin, SlateOrigin::Personal);
        assert_eq!(slate.items.len(), 10);
        assert_eq!(share_of(&slate, letter), 1.0, "{:?}", ids(&slate));
        assert!(seen.iter().all(|s| !ids(&slate).contains(s)));
        assert!(slate.items.windows(2).all(|w| w[0].score >= w[1].score));
        assert_eq!(
            slate.items.iter().map(|i| i.position).collect::<Vec<_>>(),
            (1..=10).collect::<Vec<_>>()
        );
    }
}

#[test]
fn newer_likes_weigh_more_than_older_ones() {
    let ranker = ranker();
    let turned_to_space = likes(&ranker, &["n1", "n2", "n3", "n4", "s1", "s2", "s3", "s4"]);
    let turned_to_noir = likes(&ranker, &["s1", "s2", "s3", "s4", "n1", "n2", "n3", "n4"]);
    let space = share_of(&rank(&ranker, &query(turned_to_space)).unwrap(), 's');
    let noir = share_of(&rank(&ranker, &query(turned_to_noir)).unwrap(), 'n');
    assert!(space > 0.5 && noir > 0.5, "{space} {noir}");
}

#[test]
fn a_dislike_is_evidence_against() {
    let ranker = ranker();
    let with = |second: Signal| {
        let history = history(
            &ranker,
            &[("n1", Signal::Liked), ("n2", second), ("s1", Signal::Liked)],
        );
        share_of(&rank(&ranker, &query(history)).unwrap(), 'n')
    };
    assert!(with(Signal::Disliked) < with(Signal::Liked));
}

#[test]
fn an_empty_or_unknown_history_gets_what_is_popular_and_says_so() {
    let ranker = ranker();
    let stranger = Interaction {
        item: Arc::new(item("elsewhere", "Noir")),
        at: Timestamp(1),
        signal: Signal::Liked,
        rating: None,
        text: None,
    };
    for history in [History::default(), History::new(vec![stranger])] {
        let slate = rank(&ranker, &query(Arc::new(history))).unwrap();
        assert_eq!(slate.origin, SlateOrigin::Popular);
        assert!(
            (0.3..=0.7).contains(&share_of(&slate, 'n')),
            "not all alike: {:?}",
            ids(&slate)
        );
        assert!(slate.items.windows(2).all(|w| w[0].score >= w[1].score));
        assert!(slate.items.iter().all(|i| i.affinities.is_empty()));
    }
}

#[test]
fn what_was_seen_is_shown_again_only_if_asked() {
    let ranker = ranker();
    let history = likes(&ranker, &["n1", "n2", "n3"]);
    let asked = RankQuery {
        include_seen: true,
        limit: 22,
        ..query(history)
    };
    assert!(ids(&rank(&ranker, &asked).unwrap()).contains(&"n1"));
    let only_seen = RankQuery {
        candidates: Candidates::Among(vec![ItemId::new("n1")]),
        include_seen: false,
        ..asked
    };
    assert!(rank(&ranker, &only_seen).unwrap().items.is_empty());
}

#[test]
fn among_ranks_a_subset_in_the_order_of_the_whole() {
    let ranker = ranker();
    let whole = RankQuery {
        limit: 42,
        ..query(likes(&ranker, &["n1", "n2", "s3"]))
    };
    let all = rank(&ranker, &whole).unwrap();
    let subset: Vec<ItemId> = all
        .items
        .iter()
        .skip(1)
        .step_by(3)
        .map(|i| i.item.id.clone())
        .collect();
    let mut shuffled = subset.clone();
    shuffled.reverse();
    shuffled.push(shuffled[0].clone());
    let among = rank(
        &ranker,
        &RankQuery {
            candidates: Candidates::Among(shuffled),
            ..whole
        },
    )
    .unwrap();
    assert_eq!(
        among.items.iter().map(|i| i.item.id.clone()).collect::<Vec<_>>(),
        subset
    );
}

#[test]
fn filters_combine_with_and_in_any_case() {
    let ranker = ranker();
    let filter = |values: &[&str]| AttributeFilter {
        attribute: "GENRE".into(),
        any_of: values.iter().map(|v| (*v).to_owned()).collect(),
    };
    let noir_history = likes(&ranker, &["n1", "n2", "n3"]);
    let with = |filters| RankQuery {
        filters,
        ..query(noir_history.clone())
    };
    let space = rank(&ranker, &with(vec![filter(&["space", "western"])])).unwrap();
    assert_eq!(
        share_of(&space, 's') + share_of(&space, 'c'),
        1.0,
        "{:?}",
        ids(&space)
    );
    assert!(
        rank(&ranker, &with(vec![filter(&["space"]), filter(&["noir"])]))
            .unwrap()
            .items
            .is_empty()
    );
    let popular = RankQuery {
        history: Arc::default(),
        ..with(vec![filter(&["Noir"])])
    };
    assert!(
        rank(&ranker, &popular)
            .unwrap()
            .items
            .iter()
            .all(|i| i.item.has("genre", "noir"))
    );
}

#[test]
fn items_nobody_has_met_are_ranked_by_their_attributes() {
    let ranker = ranker();
    let cold = vec![ItemId::new("cold-space"), ItemId::new("cold-noir")];
    for (likes_of, first) in [
        (["n1", "n2", "n3"], "cold-noir"),
        (["s1", "s2", "s3"], "cold-space"),
    ] {
        let asked = RankQuery {
            candidates: Candidates::Among(cold.clone()),
            ..query(likes(&ranker, &likes_of))
        };
        assert_eq!(ids(&rank(&ranker, &asked).unwrap())[0], first);
    }
}

#[test]
fn a_given_slate_keeps_its_order() {
    let ranker = ranker();
    let items: Vec<Arc<Item>> = [item("own", "Noir"), item("s1", "Space"), item("n1", "Noir")]
        .into_iter()
        .map(Arc::new)
        .collect();
    let asked = RankQuery {
        candidates: Candidates::Given(items),
        ..query(likes(&ranker, &["n1", "n4", "n7"]))
    };
    let slate = rank(&ranker, &asked).unwrap();
    assert_eq!(
        (ids(&slate), slate.origin),
        (vec!["own", "s1", "n1"], SlateOrigin::Given)
    );
    let noir = AttributeFilter {
        attribute: "genre".into(),
        any_of: vec!["NOIR".into()],
    };
    assert_eq!(
        ids(&rank(
            &ranker,
            &RankQuery {
                filters: vec![noir],
                ..asked
            }
        )
        .unwrap()),
        ["own", "n1"]
    );
}

#[test]
fn affinities_tie_the_slate_to_likes_strongest_first() {
    let ranker = ranker();
    let slate = rank(
        &ranker,
        &query(likes(&ranker, &["n1", "n2", "n3", "n4", "n5", "n6", "n7"])),
    )
    .unwrap();
    let config = builtin::Config::default().affinity;
    assert!(slate.items.iter().any(|i| !i.affinities.is_empty()));
    for item in &slate.items {
        assert!(item.affinities.len() <= config.affinities_max);
        assert!(item.affinities.windows(2).all(|w| w[0].lift >= w[1].lift));
        for tie in &item.affinities {
            assert!(tie.lift >= config.lift_min && tie.support >= config.support_min);
            assert!(tie.item.as_str().starts_with('n') && tie.item != item.item.id);
        }
    }
}

#[test]
fn impossible_requests_are_refused_by_field() {
    let ranker = ranker();
    let base = || query(likes(&ranker, &["n1"]));
    let filter = |attribute: &str, values: &[&str]| AttributeFilter {
        attribute: attribute.into(),
        any_of: values.iter().map(|v| (*v).to_owned()).collect(),
    };
    let field = |query: RankQuery| match rank(&ranker, &query).unwrap_err() {
        Error::Invalid { field, .. }
        | Error::NotFound {
            resource: Resource::Item,
            field,
        } => field,
        other => panic!("{other:?}"),
    };
    let unknown = Candidates::Among(vec![ItemId::new("n1"), ItemId::new("nowhere")]);
    assert_eq!(
        field(RankQuery {
            candidates: unknown,
            ..base()
        }),
        "candidates.among.ids[1]"
    );
    assert_eq!(field(RankQuery { limit: 0, ..base() }), "limit");
    assert_eq!(field(RankQuery { limit: 101, ..base() }), "limit");
    assert_eq!(
        field(RankQuery {
            filters: vec![filter("genre", &[])],
            ..base()
        }),
        "filters[0].any_of"
    );
    assert_eq!(
        field(RankQuery {
            filters: vec![filter("colour", &["red"])],
            ..base()
        }),
        "filters[0].attribute"
    );
}

#[test]
fn a_passed_deadline_is_not_worked_for() {
    let ranker = ranker();
    let context = Context {
        tenant: TenantId::default(),
        request: RequestId::default(),
        deadline: Deadline::at(Instant::now()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let answer = runtime.block_on(ranker.rank(&query(Arc::default()), &context));
    assert_eq!(answer.unwrap_err(), Error::DeadlineExceeded);
}

#[tokio::test]
async fn a_slate_that_is_ranked_on_a_thread_of_its_own_is_the_same() {
    let data = dataset();
    let model = train(&data, &hyper(), |_| {}).unwrap();
    let inline = Builtin::new(data.clone(), &model, builtin::Config::default()).unwrap();
    let aside = builtin::Config {
        inline_multiplications_max: 0,
        rankings_max: 1,
        ..builtin::Config::default()
    };
    let aside = Builtin::new(data, &model, aside).unwrap();
    let asked = query(likes(&inline, &["n1", "n2", "n3"]));
    let context = Context {
        tenant: TenantId::default(),
        request: RequestId::default(),
        deadline: Deadline::after(Instant::now(), Duration::from_secs(60)),
    };
    assert_eq!(
        aside.rank(&asked, &context).await.unwrap(),
        inline.rank(&asked, &context).await.unwrap()
    );
}

#[test]
fn the_same_data_and_seed_give_the_same_model() {
    let data = dataset();
    let on_threads = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| train(&data, &hyper(), |_| {}).unwrap().revision().clone())
    };
    assert_eq!(on_threads(1), on_threads(3));
    let mut other = hyper();
    other.als.seed += 1;
    assert_ne!(*train(&data, &other, |_| {}).unwrap().revision(), on_threads(1));
}

#[test]
fn a_saved_model_is_read_back_the_same_and_an_altered_one_refused() {
    let data = dataset();
    let model = train(&data, &hyper(), |_| {}).unwrap();
    let dir = tempfile::tempdir().unwrap();
    model.save(dir.path()).unwrap();
    let again = Model::load(dir.path()).unwrap();
    assert_eq!(
        (again.revision(), again.hyper(), again.blend()),
        (model.revision(), model.hyper(), model.blend())
    );
    let opened = Builtin::open(data.clone(), dir.path(), builtin::Config::default()).unwrap();
    let fresh = Builtin::new(data, &model, builtin::Config::default()).unwrap();
    let asked = query(likes(&fresh, &["n1", "n2", "n3"]));
    assert_eq!(rank(&opened, &asked).unwrap(), rank(&fresh, &asked).unwrap());
    // A catalogue that is looked at as a whole in no time is, whatever share was asked for.
    let shared = builtin::Config {
        scanned_share: Some(0.01),
        ..builtin::Config::default()
    };
    let shared = Builtin::open(opened.dataset().clone(), dir.path(), shared).unwrap();
    assert_eq!(rank(&shared, &asked).unwrap(), rank(&fresh, &asked).unwrap());

    let card = dir.path().join("ranker.toml");
    let text = std::fs::read_to_string(&card).unwrap();
    std::fs::write(&card, text.replace("dimensions = 16", "dimensions = 17")).unwrap();
    let message = Model::load(dir.path()).unwrap_err().to_string();
    assert!(
        message.contains("item_factors") && message.contains("shape"),
        "{message}"
    );
    std::fs::write(&card, text.replace("schema = 1", "schema = 9")).unwrap();
    assert!(
        Model::load(dir.path())
            .unwrap_err()
            .to_string()
            .contains("schema")
    );
    std::fs::write(&card, &text).unwrap();
    let tensors = dir.path().join("ranker.safetensors");
    let mut bytes = std::fs::read(&tensors).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&tensors, bytes).unwrap();
    assert!(
        Model::load(dir.path())
            .unwrap_err()
            .to_string()
            .contains("sha256")
    );
}

#[test]
fn a_save_that_is_killed_at_any_moment_leaves_the_old_model_or_the_new_one() {
    let data = dataset();
    let old = train(&data, &hyper(), |_| {}).unwrap();
    let mut other = hyper();
    other.als.seed += 1;
    let new = train(&data, &other, |_| {}).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name);
    let (tensors, next) = (place("ranker.safetensors"), place("ranker.safetensors.new"));
    let revision = || Model::load(dir.path()).unwrap().revision().clone();
    new.save(dir.path()).unwrap();
    std::fs::copy(&tensors, place("of the new")).unwrap();
    let card = std::fs::read(place("ranker.toml")).unwrap();
    old.save(dir.path()).unwrap();
    // Between the new tensors and their card; then between the card and the tensors' last name.
    std::fs::copy(place("of the new"), &next).unwrap();
    assert_eq!(revision(), *old.revision());
    std::fs::write(place("ranker.toml"), card).unwrap();
    assert_eq!(revision(), *new.revision());
    // The next one, ended before its card is written.
    std::fs::create_dir(place(".ranker.toml.partial")).unwrap();
    assert!(old.save(dir.path()).is_err());
    assert_eq!(revision(), *new.revision());
    std::fs::remove_dir(place(".ranker.toml.partial")).unwrap();
    old.save(dir.path()).unwrap();
    assert_eq!(revision(), *old.revision());
    assert!(tensors.is_file() && !next.exists());
}

#[test]
fn a_model_serves_a_catalogue_that_has_changed_since() {
    let data = dataset();
    let model = train(&data, &hyper(), |_| {}).unwrap();
    let mut parts = two_tastes();
    parts.items.retain(|i| i.id.as_str() != "n5");
    parts.interactions.retain(|r| r.item.as_str() != "n5");
    parts.items.reverse();
    parts.items.insert(0, item("new-noir", "Noir"));
    let changed = Arc::new(Dataset::assemble(parts).unwrap());
    let ranker = Builtin::new(changed, &model, builtin::Config::default()).unwrap();
    let slate = rank(
        &ranker,
        &RankQuery {
            limit: 18,
            ..query(likes(&ranker, &["n1", "n2", "n3"]))
        },
    )
    .unwrap();
    assert!(!ids(&slate).contains(&"n5"));
    assert!(
        ids(&slate)[..16].iter().all(|id| !id.starts_with('s')),
        "{:?}",
        ids(&slate)
    );

    let strangers = Parts {
        items: vec![item("x", "Noir")],
        interactions: vec![],
        ..two_tastes()
    };
    let strangers = Arc::new(Dataset::assemble(strangers).unwrap());
    let message = Builtin::new(strangers, &model, builtin::Config::default())
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("none of its items is in the catalogue"),
        "{message}"
    );
}

#[test]
fn data_without_likes_and_impossible_settings_are_refused() {
    let none = Dataset::assemble(Parts {
        interactions: vec![],
        ..two_tastes()
    })
    .unwrap();
    assert!(
        train(&none, &hyper(), |_| {})
            .unwrap_err()
            .to_string()
            .contains("no likes")
    );
    let mut wrong = hyper();
    wrong.als.dimensions = 0;
    assert!(
        train(&dataset(), &wrong, |_| {})
            .unwrap_err()
            .to_string()
            .contains("als.dimensions")
    );
    let wrong = Hyper {
        recency_decay: 0.0,
        ..hyper()
    };
    assert!(
        train(&dataset(), &wrong, |_| {})
            .unwrap_err()
            .to_string()
            .contains("recency_decay")
    );
}
