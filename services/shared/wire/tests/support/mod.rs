//! Strategies for valid domain values, scripted neighbours, and a server on a loopback port.
#![allow(dead_code, unreachable_pub)]

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use refract_domain::{
    Affinity, Claim, Context, Deadline, Evidence, Explanation, Fact, FactKind, FinishReason, Freshness,
    Grounding, History, Interaction, Item, ItemId, Knowledge, NoneReason, Pair, RequestId, Revision, Rung,
    Signal, Slate, SlateItem, SlateOrigin, StageTimings, TenantId, Timestamp, TokenUsage, UserId,
};
use refract_wire::{ConformLayer, Transport};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::Routes;

pub fn word() -> impl Strategy<Value = String> {
    // Commas, quotes and other scripts: a title is not a token.
    "[A-Za-z0-9éß映, :'\"&.-]{0,20}[A-Za-z0-9映]"
}

pub fn prose() -> impl Strategy<Value = String> {
    "[A-Za-zé映 \n\t.,]{0,40}"
}

pub fn item_id() -> impl Strategy<Value = ItemId> {
    "[a-zA-Z0-9:_é-]{1,40}".prop_map(ItemId::new)
}

pub fn item() -> impl Strategy<Value = Item> {
    (
        item_id(),
        word(),
        btree_map(word(), vec(word(), 0..4), 0..5),
        prose(),
    )
        .prop_map(|(id, title, attributes, description)| Item {
            id,
            title,
            attributes,
            description,
        })
}

pub fn signal() -> impl Strategy<Value = Signal> {
    prop_oneof![Just(Signal::Liked), Just(Signal::Seen), Just(Signal::Disliked)]
}

pub fn interaction() -> impl Strategy<Value = Interaction> {
    (
        item(),
        any::<i64>(),
        signal(),
        option::of(-10.0f32..10.0),
        option::of(prose()),
    )
        .prop_map(|(item, at, signal, rating, text)| Interaction {
            item: Arc::new(item),
            at: Timestamp(at),
            signal,
            rating,
            text,
        })
}

pub fn history() -> impl Strategy<Value = History> {
    vec(interaction(), 0..8).prop_map(History::new)
}

pub fn affinity() -> impl Strategy<Value = Affinity> {
    (item_id(), 0.0f32..100.0, any::<u32>()).prop_map(|(item, lift, support)| Affinity {
        item,
        lift,
        support,
    })
}

pub fn pair() -> impl Strategy<Value = Pair> {
    (
        option::of("[a-z0-9]{1,20}".prop_map(UserId::new)),
        item(),
        vec(affinity(), 0..4),
    )
        .prop_map(|(user, item, affinities)| Pair {
            tenant: TenantId::default(),
            user,
            item: Arc::new(item),
            affinities,
        })
}

pub fn revision() -> impl Strategy<Value = Revision> {
    "[a-z0-9.-]{0,20}".prop_map(Revision)
}

/// Evidence as facts have it, or, with `facts`, as claims do.
pub fn evidence(facts: usize) -> BoxedStrategy<Evidence> {
    let grounded = prop_oneof![
        item_id().prop_map(|item| Evidence::History { item }),
        (item_id(), word(), word()).prop_map(|(item, name, value)| Evidence::Attribute { item, name, value }),
        item_id().prop_map(|item| Evidence::Description { item }),
        item_id().prop_map(|item| Evidence::Affinity { item }),
    ];
    if facts == 0 {
        grounded.boxed()
    } else {
        prop_oneof![grounded, (0..facts).prop_map(|index| Evidence::Fact { index })].boxed()
    }
}

pub fn fact() -> impl Strategy<Value = Fact> {
    let kind = prop_oneof![
        (word(), word()).prop_map(|(attribute, value)| FactKind::Shared { attribute, value }),
        (0.0f32..50.0).prop_map(|lift| FactKind::CoLiked { lift }),
        Just(FactKind::Premise),
        Just(FactKind::Unrelated),
        Just(FactKind::Statement),
    ];
    (kind, prose(), vec(evidence(0), 0..4)).prop_map(|(kind, text, evidence)| Fact { kind, text, evidence })
}

pub fn knowledge() -> impl Strategy<Value = Knowledge> {
    let freshness = prop_oneof![
        Just(Freshness::Fresh),
        any::<u64>().prop_map(|age_s| Freshness::Cached { age_s }),
        any::<u64>().prop_map(|age_s| Freshness::Stale { age_s }),
    ];
    (
        vec(fact(), 0..5),
        prose(),
        revision(),
        revision(),
        any::<i64>(),
        freshness,
        any::<[u32; 2]>(),
    )
        .prop_map(
            |(facts, text, oracle_revision, template_revision, created, freshness, counts)| {
                let [facts_refused, history_truncated] = counts;
                Knowledge {
                    facts,
                    text,
                    oracle_revision,
                    template_revision,
                    created_at: Timestamp(created),
                    freshness,
                    facts_refused,
                    history_truncated,
                }
            },
        )
}

pub fn duration() -> impl Strategy<Value = Duration> {
    (0u64..1_000_000, 0u32..1_000_000_000).prop_map(|(s, ns)| Duration::new(s, ns))
}

pub fn explanation() -> impl Strategy<Value = Explanation> {
    let none = prop_oneof![
        Just(NoneReason::NotRequested),
        Just(NoneReason::Deadline),
        Just(NoneReason::BelowMinimum),
        Just(NoneReason::NoEvidence),
        Just(NoneReason::Internal),
    ];
    let rung = prop_oneof![
        Just(Rung::Fresh),
        Just(Rung::Cached),
        Just(Rung::Stale),
        Just(Rung::HistoryOnly),
        Just(Rung::Template),
        none.prop_map(Rung::None),
    ];
    let finish = prop_oneof![
        Just(FinishReason::Stop),
        Just(FinishReason::Length),
        Just(FinishReason::Rule),
        Just(FinishReason::Cut)
    ];
    let text = ("[A-Za-zé映 .]{0,40}[a-z]", vec(vec(evidence(3), 0..3), 0..3));
    let grounding = (rung, vec(word(), 0..3), option::of(duration()), any::<u32>());
    let counts = (any::<[u32; 3]>(), revision(), revision());
    let timings = [(); 6].map(|()| duration());
    (text, grounding, finish, counts, timings).prop_map(
        |((text, claims), (rung, descents, knowledge_age, sentences_refused), finish, counts, timings)| {
            let text = if matches!(rung, Rung::None(_)) {
                String::new()
            } else {
                text
            };
            let ([prompt, generated, history_truncated], prism_revision, template_revision) = counts;
            let [consult, queue, encode, decode, total, prism] = timings;
            let claims = claims
                .into_iter()
                .map(|evidence| Claim {
                    span: 0..text.len(),
                    evidence,
                })
                .collect();
            Explanation {
                grounding: Grounding {
                    rung,
                    claims,
                    descents,
                    knowledge_age,
                    sentences_refused,
                },
                text,
                finish,
                tokens: TokenUsage { prompt, generated },
                prism_revision,
                template_revision,
                history_truncated,
                timings: StageTimings {
                    consult,
                    queue,
                    encode,
                    decode,
                    total,
                    prism,
                },
            }
        },
    )
}

pub fn slate() -> impl Strategy<Value = Slate> {
    let origin = prop_oneof![
        Just(SlateOrigin::Personal),
        Just(SlateOrigin::Popular),
        Just(SlateOrigin::Given)
    ];
    (
        vec(
            (
                item(),
                any::<f32>().prop_filter("finite", |f| f.is_finite()),
                vec(affinity(), 0..3),
            ),
            0..6,
        ),
        origin,
        revision(),
    )
        .prop_map(|(places, origin, ranker_revision)| {
            let place = |(i, (mut item, score, affinities)): (usize, (Item, f32, Vec<Affinity>))| {
                // No item comes twice in a slate.
                item.id = ItemId::new(format!("{i}-{}", item.id));
                SlateItem {
                    position: i as u32 + 1,
                    score,
                    item: Arc::new(item),
                    affinities,
                }
            };
            Slate {
                items: places.into_iter().enumerate().map(place).collect(),
                origin,
                ranker_revision,
            }
        })
}

/// One value of a strategy, the same at every run.
pub fn sample<T: std::fmt::Debug>(strategy: impl Strategy<Value = T>) -> T {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    strategy
        .new_tree(&mut runner)
        .expect("a strategy that gives")
        .current()
}

pub fn context(budget: Duration) -> Context {
    Context {
        tenant: TenantId::default(),
        request: RequestId("test-1".into()),
        deadline: Deadline::after(std::time::Instant::now(), budget),
    }
}

/// Serves on a loopback port for as long as the runtime lives.
pub async fn serve(routes: Routes) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let address = listener.local_addr().expect("bound");
    let server = tonic::transport::Server::builder()
        .layer(ConformLayer::granting(Duration::from_secs(60)))
        .add_routes(routes);
    tokio::spawn(async move { server.serve_with_incoming(TcpListenerStream::new(listener)).await });
    address
}

pub fn connect(address: SocketAddr) -> Transport {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).expect("an address");
    Transport::new(endpoint.connect_lazy())
}

/// Fails instead of hanging.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let outcome = tokio::time::timeout(Duration::from_secs(20), future).await;
    outcome.unwrap_or_else(|_| panic!("{what} did not happen"))
}
