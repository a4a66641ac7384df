//! What the shipped Oracle says of pairs, and how it says what it could not read.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use refract_bundle::{Manifest, Role};
use refract_domain::{
    Context, Deadline, FactKind, History, Interaction, Item, ItemId, Knowledge, KnowledgeSource as _, Pair,
    RequestId, Signal, TenantId, Timestamp,
};
use refract_oracle::Oracle;
use refract_worker::{Config, Worker};

fn film(id: &str, title: &str, director: &str) -> Arc<Item> {
    Arc::new(Item {
        id: ItemId::new(id),
        title: title.to_owned(),
        attributes: BTreeMap::from([("director".to_owned(), vec![director.to_owned()])]),
        description: String::new(),
    })
}

/// Liked in this order, oldest first.
async fn consulted(liked: Vec<Arc<Item>>) -> (Knowledge, usize) {
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("../refract/demo/oracle");
    let shown = Manifest::read(&bundle)
        .expect("the shipped bundle")
        .limits
        .history_items_max;
    let config = Config {
        bundle,
        ..Config::default()
    };
    let worker = tokio::task::spawn_blocking(move || Worker::open(&config, Role::Oracle))
        .await
        .expect("it opens")
        .expect("a bundle at work");
    let acts = liked.into_iter().zip(0..).map(|(item, at)| Interaction {
        item,
        at: Timestamp(at),
        signal: Signal::Liked,
        rating: None,
        text: None,
    });
    let pair = Pair {
        tenant: TenantId::new("tests"),
        user: None,
        item: film("new", "Salt and Ash", "Ines Varga"),
        affinities: Vec::new(),
    };
    let context = Context {
        tenant: TenantId::new("tests"),
        request: RequestId("one".to_owned()),
        deadline: Deadline::after(Instant::now(), Duration::from_secs(60)),
    };
    let history = Arc::new(History::new(acts.collect()));
    let knowledge = Oracle::new(Arc::new(worker))
        .consult(&pair, &history, &context)
        .await
        .expect("knowledge");
    (knowledge, shown)
}

#[tokio::test]
async fn a_shared_director_is_told_and_nothing_was_left_out_of_a_short_history() {
    let (knowledge, _) = consulted(vec![
        film("a", "The Copper Door", "Ines Varga"),
        film("b", "Low Tide", "Mika Sorel"),
    ])
    .await;
    let told = |fact: &refract_domain::Fact| matches!(&fact.kind, FactKind::Shared { attribute, value } if attribute == "director" && value == "Ines Varga");
    assert!(knowledge.facts.iter().any(told), "{knowledge:?}");
    assert_eq!(knowledge.history_truncated, 0);
}

#[tokio::test]
async fn a_history_too_long_for_the_prompt_is_cut_by_whole_items_and_the_knowledge_says_so() {
    let old = (0..60).map(|n| {
        film(
            &format!("old-{n}"),
            &format!("Forgotten Film {n}"),
            "Nobody Known",
        )
    });
    let liked: Vec<_> = old.chain([film("a", "The Copper Door", "Ines Varga")]).collect();
    let all = liked.len();
    let (knowledge, shown) = consulted(liked).await;
    assert_eq!(knowledge.history_truncated as usize, all - shown);
    assert!(
        knowledge.text.contains("Copper Door"),
        "the newest stay: {}",
        knowledge.text
    );
}
