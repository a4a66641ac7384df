//! What a Prism answers when its model is good, when it is damaged, and when it writes nonsense: with the shipped bundle,
//! and with copies of it whose weights carry more and more noise.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use rand::{RngExt as _, SeedableRng as _};
use refract_bundle::{Manifest, Role};
use refract_domain::{
    Context, Deadline, Error, Evidence, ExplainQuery, Explainer as _, Explanation, ExplanationEvent, Fact,
    FactKind, FinishReason, Freshness, History, Interaction, Item, ItemId, Knowledge, Pair, RequestId,
    Revision, Rung, Signal, TenantId, Timestamp,
};
use refract_prism::Prism;
use refract_worker::{Config, Health, Worker};

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../refract/demo/prism")
}

/// A copy of the shipped bundle, every weight multiplied by `1 + noise · u`, u uniform in −1..1.
fn damaged(noise: f32) -> tempfile::TempDir {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    with_weights(|weight| weight * (1.0 + noise * rng.random_range(-1.0f32..1.0)))
}

/// A copy of the shipped bundle with other weights.
fn with_weights(mut change: impl FnMut(f32) -> f32) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let manifest = Manifest::read(&shipped()).expect("the shipped bundle");
    for file in ["config.json", "generation_config.json", "tokenizer.json"] {
        std::fs::copy(shipped().join(file), dir.path().join(file)).expect("a copy");
    }
    let mut bytes = std::fs::read(shipped().join("model.safetensors")).expect("weights");
    let (header, _) = safetensors::SafeTensors::read_metadata(&bytes).expect("a header");
    for word in bytes[header + 8..].chunks_exact_mut(4) {
        let weight = f32::from_le_bytes(word.try_into().expect("four bytes"));
        word.copy_from_slice(&change(weight).to_le_bytes());
    }
    std::fs::write(dir.path().join("model.safetensors"), bytes).expect("weights written");
    manifest.write(dir.path()).expect("checksums written");
    dir
}

fn prism(bundle: &Path, attempts_max: u32) -> Prism {
    Prism::new(worker(bundle), attempts_max)
}

fn worker(bundle: &Path) -> Arc<Worker> {
    let config = Config {
        bundle: bundle.to_owned(),
        ..Config::default()
    };
    Arc::new(Worker::open(&config, Role::Prism).expect("a bundle at work"))
}

fn film(id: &str, title: &str, director: &str, leads: &[&str], genres: &[&str]) -> Arc<Item> {
    let values = |v: &[&str]| v.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>();
    Arc::new(Item {
        id: ItemId::new(id),
        title: title.to_owned(),
        attributes: BTreeMap::from([
            ("director".to_owned(), values(&[director])),
            ("lead".to_owned(), values(leads)),
            ("genre".to_owned(), values(genres)),
        ]),
        description: String::new(),
    })
}

/// A fact as the Oracle states it: the item shares a value with these of the history.
fn shared(name: &str, value: &str, with: &[&str], text: &str) -> Fact {
    let attribute = Evidence::Attribute {
        item: ItemId::new("d"),
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let history = with.iter().map(|id| Evidence::History {
        item: ItemId::new(*id),
    });
    Fact {
        kind: FactKind::Shared {
            attribute: name.to_owned(),
            value: value.to_owned(),
        },
        text: text.to_owned(),
        evidence: std::iter::once(attribute).chain(history).collect(),
    }
}

/// Films that no model has seen, with something in common; with knowledge of it, or without.
fn query(style: u32, knowing: bool) -> ExplainQuery {
    let liked = [
        film(
            "a",
            "The Copper Door",
            "Ines Varga",
            &["Tom Okoro"],
            &["thriller"],
        ),
        film(
            "b",
            "Low Tide",
            "Mika Sorel",
            &["Ada Brandt"],
            &["drama", "romance"],
        ),
        film("c", "Nine Lanterns", "Ines Varga", &["Ada Brandt"], &["mystery"]),
    ];
    let item = film(
        "d",
        "Salt and Ash",
        "Ines Varga",
        &["Tom Okoro"],
        &["thriller", "mystery"],
    );
    let acts = liked.iter().zip(1..).map(|(item, at)| Interaction {
        item: item.clone(),
        at: Timestamp(at),
        signal: Signal::Liked,
        rating: None,
        text: None,
    });
    let knowledge = Knowledge {
        facts: vec![
            shared(
                "director",
                "Ines Varga",
                &["c", "a"],
                "Ines Varga directed Salt and Ash",
            ),
            shared("lead", "Tom Okoro", &["a"], "Tom Okoro appears in Salt and Ash"),
        ],
        oracle_revision: Revision("r".to_owned()),
        template_revision: Revision("t".to_owned()),
        text: String::new(),
        created_at: Timestamp(0),
        freshness: Freshness::Fresh,
        facts_refused: 0,
        history_truncated: 0,
    };
    ExplainQuery {
        pair: Pair {
            tenant: TenantId::default(),
            user: None,
            item,
            affinities: Vec::new(),
        },
        history: Arc::new(History::new(acts.collect())),
        knowledge: knowing.then_some(knowledge),
        style,
    }
}

fn context(budget: Duration) -> Context {
    Context {
        request: RequestId("r-1".to_owned()),
        tenant: TenantId::default(),
        deadline: Deadline::after(Instant::now(), budget),
    }
}

async fn explain(prism: &Prism, query: ExplainQuery) -> (String, Explanation) {
    let mut stream = prism
        .explain(query, &context(Duration::from_secs(60)))
        .await
        .expect("a stream");
    let mut streamed = String::new();
    while let Some(event) = stream.next().await {
        match event.expect("an event") {
            ExplanationEvent::Delta(text) => streamed.push_str(&text),
            ExplanationEvent::Done(explanation) => {
                assert!(stream.next().await.is_none(), "one terminal event");
                return (streamed, explanation);
            }
        }
    }
    panic!("the stream ended without its terminal event");
}

/// What holds for every answer, whatever the model wrote.
fn check(streamed: &str, e: &Explanation, knowing: bool) {
    assert_eq!(streamed, e.text, "what was streamed is the text");
    for claim in &e.grounding.claims {
        assert!(
            e.text.get(claim.span.clone()).is_some() && !claim.evidence.is_empty(),
            "{e:?}"
        );
    }
    assert!(
        knowing || e.grounding.rung != Rung::Fresh,
        "nothing was known: {e:?}"
    );
    let refused = e.grounding.sentences_refused;
    match e.finish {
        FinishReason::Rule => {
            assert_eq!(e.grounding.rung, Rung::Template, "{e:?}");
            let why = if refused > 0 { "refused" } else { "wrote nothing" };
            assert!(e.grounding.descents.iter().any(|d| d.contains(why)), "{e:?}");
        }
        FinishReason::Cut => assert!(
            refused > 0 && e.tokens.generated > 0 && e.timings.decode > Duration::ZERO,
            "{e:?}"
        ),
        FinishReason::Stop | FinishReason::Length => assert!(e.tokens.generated > 0, "{e:?}"),
    }
    assert!(
        !e.text.is_empty() && !e.text.contains('<'),
        "no slot is left open: {e:?}"
    );
}

#[tokio::test]
async fn the_shipped_model_explains_films_it_has_never_seen() {
    let prism = prism(&shipped(), 2);
    let mut by_the_model = 0;
    for style in 0..12 {
        let (streamed, e) = explain(&prism, query(style, true)).await;
        check(&streamed, &e, true);
        by_the_model += u32::from(e.grounding.rung == Rung::Fresh);
        assert!(
            e.text.contains("Salt and Ash") && e.text.contains("Ines Varga"),
            "{}",
            e.text
        );
    }
    assert_eq!(by_the_model, 12, "styles that the gate let through");
}

#[tokio::test]
async fn without_knowledge_the_rung_says_so() {
    let prism = prism(&shipped(), 2);
    for style in 0..6 {
        let (streamed, e) = explain(&prism, query(style, false)).await;
        check(&streamed, &e, false);
        assert!(e.grounding.knowledge_age.is_none(), "{e:?}");
    }
}

#[tokio::test]
async fn a_damaged_model_is_cut_or_replaced_by_rule_and_never_believed() {
    let mut finishes = Vec::new();
    for noise in [0.6, 1.2, 4.0] {
        let dir = damaged(noise);
        let prism = prism(dir.path(), 2);
        for style in 0..12 {
            let (streamed, e) = explain(&prism, query(style, true)).await;
            check(&streamed, &e, true);
            finishes.push(e.finish);
        }
    }
    assert!(
        finishes.contains(&FinishReason::Rule),
        "the noise was too small to test anything: {finishes:?}"
    );
}

#[tokio::test]
async fn a_damaged_model_speaks_of_nothing_that_its_prompt_does_not_define() {
    let dir = damaged(4.0);
    let worker = worker(dir.path());
    let mut written = [0, 0];
    for style in 0..12 {
        let query = query(style, true);
        let prompt = worker.bundle().prompt_prism(&query).expect("a prompt");
        assert!(!prompt.undefined.is_empty(), "three films leave slots free");
        let mut free = prompt.clone();
        free.undefined.clear();
        for (written, asked) in written.iter_mut().zip([&free, &prompt]) {
            let deadline = context(Duration::from_secs(60)).deadline;
            let generation = worker
                .generate(asked, None, &query.pair.item.id, deadline)
                .expect("a place");
            let ids = generation.collect().await.expect("a text").ids;
            *written += ids.iter().filter(|id| prompt.undefined.contains(id)).count();
        }
    }
    assert!(written[0] > 0, "the noise was too small to test anything");
    assert_eq!(written[1], 0);
}

#[tokio::test]
async fn the_same_request_gets_the_same_words() {
    let prism = prism(&shipped(), 2);
    let (first, _) = explain(&prism, query(3, true)).await;
    let together =
        futures_util::future::join_all((0..8).map(|style| explain(&prism, query(style, true)))).await;
    assert_eq!(together[3].0, first, "alone and in a batch");
}

#[tokio::test]
async fn a_deadline_that_has_passed_is_an_error_and_no_text() {
    let prism = prism(&shipped(), 2);
    let asked = prism.explain(query(0, true), &context(Duration::ZERO)).await;
    let error = match asked {
        Err(error) => error,
        Ok(mut stream) => stream.next().await.expect("an event").expect_err("no text"),
    };
    assert!(matches!(error, Error::DeadlineExceeded), "{error:?}");
}

#[tokio::test]
async fn numbers_that_are_none_are_a_model_fault_and_three_of_them_are_the_end() {
    let dir = with_weights(|_| f32::NAN);
    let worker = worker(dir.path());
    let health = worker.handle().health();
    let prism = Prism::new(worker, 2);
    for style in 0..3 {
        assert_eq!(*health.borrow(), Health::Starting, "so far {style} faults");
        let mut stream = prism
            .explain(query(style, true), &context(Duration::from_secs(60)))
            .await
            .expect("a stream");
        let only = stream.next().await.expect("an event");
        assert!(matches!(only, Err(Error::ModelFault)), "{only:?}");
        assert!(
            stream.next().await.is_none(),
            "and no text by rule: the Prism is broken"
        );
    }
    assert!(matches!(&*health.borrow(), Health::Unhealthy { reason } if reason.contains("3 model faults")));
}

#[tokio::test]
async fn a_history_too_long_for_the_prompt_is_cut_by_whole_items_and_says_so() {
    let prism = prism(&shipped(), 2);
    let mut query = query(0, true);
    let (old, known) = (150, query.history.interactions().to_vec());
    let more = (0..old).map(|n| Interaction {
        item: film(
            &format!("old-{n}"),
            &format!("Forgotten Film {n}"),
            "Nobody Known",
            &[],
            &["western"],
        ),
        at: Timestamp(-1_000 + n),
        signal: Signal::Liked,
        rating: None,
        text: None,
    });
    query.history = Arc::new(History::new(more.chain(known).collect()));
    let shown = Manifest::read(&shipped())
        .expect("a manifest")
        .limits
        .history_items_max;
    let (streamed, e) = explain(&prism, query).await;
    check(&streamed, &e, true);
    assert_eq!(e.history_truncated as usize, old as usize + 3 - shown);
    assert!(e.text.contains("Salt and Ash"), "the item stays: {}", e.text);
}
