//! What one explanation costs beside the model: its prompts, and its text through the truth gate. The shipped films and bundles.
//!
//! `cargo bench -p refract-bundle --bench around_the_model`

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use refract_bundle::{Bundle, Prompt};
use refract_domain::{
    ExplainQuery, Freshness, History, Interaction, Item, ItemId, Knowledge, Pair, Revision, Signal, TenantId,
    Timestamp,
};

/// As long as the shipped users' histories are on average.
const HISTORY: usize = 48;
/// Users, of whom each asks for so many items.
const USERS: usize = 16;
const ITEMS: usize = 5;

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../refract/demo")
}

fn films() -> Vec<Item> {
    let text = std::fs::read_to_string(demo().join("data/items.jsonl")).expect("the shipped films");
    let films = text.lines().map(|line| {
        let row: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let attributes: BTreeMap<String, Vec<String>> =
            serde_json::from_value(row["attributes"].clone()).expect("names and values");
        Item {
            id: ItemId::new(text("id")),
            title: text("title"),
            attributes,
            description: text("description"),
        }
    });
    films.collect()
}

/// Requests as they come from the wire: every one holds its own copy of all items.
fn queries() -> Vec<ExplainQuery> {
    let films = films();
    let mut draw = ChaCha8Rng::seed_from_u64(7);
    let mut queries = Vec::new();
    for _ in 0..USERS {
        let seen: Vec<&Item> = films.sample(&mut draw, HISTORY).collect();
        for _ in 0..ITEMS {
            let interactions = seen.iter().zip(0..).map(|(film, at)| Interaction {
                item: Arc::new((*film).clone()),
                at: Timestamp(at),
                signal: if at % 5 == 0 { Signal::Seen } else { Signal::Liked },
                rating: None,
                text: None,
            });
            queries.push(ExplainQuery {
                pair: Pair {
                    tenant: TenantId::default(),
                    user: None,
                    item: Arc::new(films[draw.random_range(0..films.len())].clone()),
                    affinities: Vec::new(),
                },
                history: Arc::new(History::new(interactions.collect())),
                knowledge: None,
                style: draw.random_range(0..12),
            });
        }
    }
    queries
}

fn open(name: &str) -> Bundle {
    Bundle::open(&demo().join(name)).expect("a shipped bundle")
}

/// The knowledge of an Oracle that chooses the strongest two candidates.
fn known(oracle: &Bundle, query: &ExplainQuery) -> ExplainQuery {
    let prompt = oracle
        .prompt_oracle(&query.pair, &query.history)
        .expect("a prompt");
    let parsed = oracle.parse_oracle(&prompt, "c1 ; c2");
    ExplainQuery {
        knowledge: Some(Knowledge {
            facts: parsed.facts,
            oracle_revision: Revision::default(),
            template_revision: Revision::default(),
            text: parsed.text,
            created_at: Timestamp(0),
            freshness: Freshness::Fresh,
            facts_refused: 0,
            history_truncated: 0,
        }),
        ..query.clone()
    }
}

fn measure(c: &mut Criterion) {
    let (oracle, prism) = (open("oracle"), open("prism"));
    let queries = queries();
    let queries: Vec<ExplainQuery> = queries.iter().map(|query| known(&oracle, query)).collect();
    let prompts: Vec<Prompt> = queries
        .iter()
        .map(|query| prism.prompt_prism(query).expect("a prompt"))
        .collect();
    let texts: Vec<String> = queries
        .iter()
        .map(|query| {
            query
                .knowledge
                .as_ref()
                .map_or_else(String::new, |k| k.text.clone())
        })
        .collect();

    let mut next = (0..queries.len()).cycle();
    let mut next = || next.next().unwrap_or_default();
    c.bench_function("prompt of an Oracle", |b| {
        b.iter(|| {
            let query = &queries[next()];
            black_box(
                oracle
                    .prompt_oracle(&query.pair, &query.history)
                    .expect("a prompt"),
            )
        });
    });
    c.bench_function("facts out of an Oracle's answer", |b| {
        let prompts: Vec<Prompt> = queries
            .iter()
            .map(|query| {
                oracle
                    .prompt_oracle(&query.pair, &query.history)
                    .expect("a prompt")
            })
            .collect();
        b.iter(|| black_box(oracle.parse_oracle(&prompts[next()], "c1 ; c2")));
    });
    c.bench_function("prompt of a Prism", |b| {
        b.iter(|| black_box(prism.prompt_prism(&queries[next()]).expect("a prompt")));
    });
    c.bench_function("a text through the gate", |b| {
        b.iter(|| {
            let n = next();
            let mut gate = prompts[n].gate().clone();
            for sentence in texts[n].split_inclusive(". ") {
                black_box(gate.check(sentence.trim(), &[]).is_ok());
            }
        });
    });
}

criterion_group!(benches, measure);
criterion_main!(benches);
