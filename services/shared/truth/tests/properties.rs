//! Whatever a catalogue holds, the template never says what the gate would refuse, and never panics.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use refract_domain::{
    Affinity, Evidence, Explanation, History, Interaction, Item, ItemId, Pair, Signal, TenantId, Timestamp,
};
use refract_truth::text::clean;
use refract_truth::{Gate, Vocabulary, template};

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[A-Z][a-z]{2,8}( [A-Z][a-z]{2,8}){0,2}",
        2 => "[a-z]{3,9}( [a-z]{3,9})?",
        1 => prop::sample::select(vec![
            "It", "You", "liked", "the same", "Mr. Smith", "What Next?", "300", "1984", "</s>", "<h1>", "http://x.example", "A, B and C",
            "crime", "drama", "is", "Up", "Heat. Also", "七人の侍", "Amélie", "\u{202E}evil", "directed by", "not", "", "   ", "people who",
        ]).prop_map(str::to_owned),
        1 => "\\PC{0,24}",
    ]
}

fn attribute() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::select(vec!["director", "cast", "genre", "year", "series", "author", "brand", "source", "city", "premise", "dress code", "id"])
            .prop_map(str::to_owned),
        1 => "[a-zA-Z_]{1,12}",
        1 => "\\PC{0,12}",
    ]
}

fn item(values: Vec<String>) -> impl Strategy<Value = Item> {
    let value = prop_oneof![3 => prop::sample::select(values), 1 => word()];
    let attributes = prop::collection::btree_map(attribute(), prop::collection::vec(value, 0..4), 0..5);
    (
        word(),
        attributes,
        prop_oneof![2 => Just(String::new()), 1 => "\\PC{0,80}"],
    )
        .prop_map(
            |(title, attributes, description): (String, BTreeMap<String, Vec<String>>, String)| Item {
                id: ItemId::new("item"),
                title,
                attributes,
                description,
            },
        )
}

fn request() -> impl Strategy<Value = (Pair, History, u32)> {
    prop::collection::vec(word(), 2..6).prop_flat_map(|values| {
        let past = prop::collection::vec((item(values.clone()), 0..3_usize, any::<bool>()), 0..8);
        (item(values), past, any::<u32>()).prop_map(|(item, past, style)| {
            let mut affinities = Vec::new();
            let interactions = past
                .into_iter()
                .enumerate()
                .map(|(n, (item, signal, measured))| {
                    let id = ItemId::new(format!("past-{n}"));
                    if measured {
                        affinities.push(Affinity {
                            item: id.clone(),
                            lift: 2.0,
                            support: 9,
                        });
                    }
                    let signal = [Signal::Liked, Signal::Seen, Signal::Disliked][signal];
                    Interaction {
                        item: Arc::new(Item { id, ..item }),
                        at: Timestamp(n as i64),
                        signal,
                        rating: None,
                        text: None,
                    }
                })
                .collect();
            let pair = Pair {
                tenant: TenantId::default(),
                user: None,
                item: Arc::new(item),
                affinities,
            };
            (pair, History::new(interactions), style)
        })
    })
}

fn grounded(explanation: &Explanation, pair: &Pair, history: &History) {
    let text = &explanation.text;
    assert!(
        !text.is_empty() && !explanation.grounding.claims.is_empty(),
        "{text}"
    );
    assert!(text.contains(&clean(&pair.item.title, 120)), "{text}");
    for claim in &explanation.grounding.claims {
        assert!(text.get(claim.span.clone()).is_some(), "{text}");
        for evidence in &claim.evidence {
            if let Evidence::History { item } = evidence {
                let standing = history.find(item).expect("evidence in the history").signal;
                assert_ne!(standing, Signal::Disliked, "{text}");
            }
            if let Evidence::Attribute { item, name, value } = evidence {
                let holder = if *item == pair.item.id {
                    &pair.item
                } else {
                    &history.find(item).expect("in the history").item
                };
                assert!(holder.values(name).contains(value), "{name}={value}: {text}");
            }
        }
    }
    assert!(
        !text.contains(['<', '>', '\u{202E}']) && !text.chars().any(char::is_control),
        "{text}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_template_is_grounded_for_any_catalogue((pair, history, style) in request()) {
        if let Some(explanation) = template(&pair, &history, style) {
            grounded(&explanation, &pair, &history);
            let again = template(&pair, &history, style);
            prop_assert_eq!(again.as_ref(), Some(&explanation));
        }
    }

    #[test]
    fn the_gate_never_panics_and_its_claims_lie_in_the_sentence((pair, history, _) in request(), sentence in "\\PC{0,120}\\.") {
        let mut gate = Gate::new(&Vocabulary::default(), &pair, &history, None);
        for claim in gate.check(&sentence, &[]).unwrap_or_default() {
            prop_assert!(sentence.get(claim.span).is_some());
        }
    }
}
