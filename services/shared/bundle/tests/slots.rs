//! A slot bundle from a request to a sentence: prompts, fills, parses; and what it does not let through.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use refract_bundle::manifest::{Provenance, SlotLimits};
use refract_bundle::{Bundle, Error, Manifest, Role, write_slot_tokenizer};
use refract_domain::{
    Affinity, Evidence, ExplainQuery, FactKind, Freshness, History, Interaction, Item, ItemId, Knowledge,
    Pair, Revision, Signal, TenantId, Timestamp,
};
use refract_truth::Refusal;

fn item(id: &str, title: &str, attributes: &[(&str, &[&str])]) -> Arc<Item> {
    let attributes: BTreeMap<String, Vec<String>> = attributes
        .iter()
        .map(|(n, v)| ((*n).to_owned(), v.iter().map(|v| (*v).to_owned()).collect()))
        .collect();
    Arc::new(Item {
        id: ItemId::new(id),
        title: title.to_owned(),
        attributes,
        description: String::new(),
    })
}

fn request() -> (Pair, Arc<History>) {
    let heat = item(
        "heat",
        "Heat",
        &[
            ("director", &["Michael Mann"]),
            ("lead", &["Al Pacino"]),
            ("genre", &["Crime"]),
        ],
    );
    let doc = item(
        "doc",
        "What's Up, Doc?",
        &[
            ("director", &["Peter Bogdanovich"]),
            ("genre", &["Comedy", "Romance"]),
        ],
    );
    let bad = item("bad", "Cats", &[("genre", &["Crime"])]);
    let ali = item(
        "ali",
        "Ali </s> & <h1> Friends",
        &[
            ("director", &["Michael Mann"]),
            ("lead", &["Will Smith"]),
            ("genre", &["Action", "Crime"]),
            ("premise", &["A boxer fights to keep his title."]),
        ],
    );
    let act = |item: Arc<Item>, at, signal| Interaction {
        item,
        at: Timestamp(at),
        signal,
        rating: None,
        text: None,
    };
    let history = History::new(vec![
        act(heat, 1, Signal::Liked),
        act(doc, 2, Signal::Seen),
        act(bad, 3, Signal::Disliked),
    ]);
    let affinities = vec![Affinity {
        item: ItemId::new("heat"),
        lift: 3.0,
        support: 30,
    }];
    (
        Pair {
            tenant: TenantId::default(),
            user: None,
            item: ali,
            affinities,
        },
        Arc::new(history),
    )
}

fn bundle(dir: &Path, role: Role) -> Bundle {
    write_slot_tokenizer(dir, role, &SlotLimits::default()).expect("a tokenizer");
    std::fs::write(dir.join("config.json"), "{}").expect("a file");
    std::fs::write(dir.join("model.safetensors"), role.to_string()).expect("a file");
    Manifest::slots("test", role, Provenance::default())
        .write(dir)
        .expect("a manifest");
    Bundle::open(dir).expect("a bundle")
}

fn query(knowledge: Option<Knowledge>) -> ExplainQuery {
    let (pair, history) = request();
    ExplainQuery {
        pair,
        history,
        knowledge,
        style: 3,
    }
}

fn knowledge(facts: Vec<refract_domain::Fact>) -> Knowledge {
    Knowledge {
        facts,
        text: String::new(),
        oracle_revision: Revision::default(),
        template_revision: Revision::default(),
        created_at: Timestamp(0),
        freshness: Freshness::Fresh,
        facts_refused: 0,
        history_truncated: 0,
    }
}

/// The slot that stands for a surface in the prompt.
fn slot_of(bundle: &Bundle, query: &ExplainQuery, wanted: &str) -> String {
    let prompt = bundle.prompt_prism(query).expect("a prompt");
    let table = prompt.slots().expect("slots");
    let all = refract_bundle::slots::all_slots(&SlotLimits::default());
    all.into_iter()
        .find(|slot| matches!(table.part(slot), Some(refract_truth::Part::Mention(_, surface)) if surface == wanted))
        .unwrap_or_else(|| panic!("no slot for {wanted} in {}", prompt.text))
}

/// The name under which a prompt lists these words.
fn candidate(prompt: &str, words: &str) -> String {
    let (_, list) = prompt.split_once("facts ").expect("a list");
    let listed = list
        .split(" ; ")
        .find(|c| c.contains(words))
        .unwrap_or_else(|| panic!("no {words} in {prompt}"));
    listed.split(' ').next().expect("a name").to_owned()
}

#[test]
fn the_oracle_chooses_among_candidates_and_its_facts_carry_evidence() {
    let dir = tempfile::tempdir().expect("a folder");
    let bundle = bundle(dir.path(), Role::Oracle);
    let (pair, history) = request();
    let prompt = bundle.prompt_oracle(&pair, &history).expect("a prompt");
    assert!(prompt.text.contains("director <p1> of <h1>"), "{}", prompt.text);
    assert_eq!(
        prompt.text,
        bundle.prompt_oracle(&pair, &history).expect("a prompt").text
    );
    let director = candidate(&prompt.text, "director <p1> of <h1>");
    let coliked = candidate(&prompt.text, "coliked of <h1>");
    let parsed = bundle.parse_oracle(
        &prompt,
        &format!("{director} ; {coliked} ; c16 ; director <p1> of <h1>"),
    );
    assert_eq!((parsed.facts.len(), parsed.refused), (2, 2));
    assert!(
        matches!(&parsed.facts[0].kind, FactKind::Shared { attribute, value } if attribute == "director" && value == "Michael Mann")
    );
    assert!(parsed.facts[0].evidence.contains(&Evidence::History {
        item: ItemId::new("heat")
    }));
    assert_eq!(parsed.facts[1].kind, FactKind::CoLiked { lift: 3.0 });
    assert!(
        parsed.text.contains("Michael Mann") && parsed.text.contains("Heat"),
        "{}",
        parsed.text
    );
    for nonsense in ["", "none", "; ; ;", "<h1> <h1>", "director"] {
        assert!(
            bundle.parse_oracle(&prompt, nonsense).facts.is_empty(),
            "{nonsense}"
        );
    }
}

#[test]
fn knowledge_travels_from_the_oracle_into_the_prisms_prompt_and_into_claims() {
    let (oracle_dir, prism_dir) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let oracle = bundle(oracle_dir.path(), Role::Oracle);
    let prism = bundle(prism_dir.path(), Role::Prism);
    let (pair, history) = request();
    let asked = oracle.prompt_oracle(&pair, &history).expect("a prompt");
    let facts = oracle
        .parse_oracle(&asked, &candidate(&asked.text, "director <p1> of <h1>"))
        .facts;
    let query = query(Some(knowledge(facts)));
    let prompt = prism.prompt_prism(&query).expect("a prompt");
    assert!(
        prompt.text.starts_with("style03 item <item>") && prompt.text.contains("facts director"),
        "{}",
        prompt.text
    );
    let (heat, mann) = (
        slot_of(&prism, &query, "Heat"),
        slot_of(&prism, &query, "Michael Mann"),
    );
    let ids = prism.tokenizer().encode(&format!(
        "like {heat} , <item> was directed by {mann} . it is a <g1> <thing> ."
    ));
    let mut filler = prompt.filler();
    let mut stream = prism.text_stream();
    let mut deltas: Vec<String> = ids
        .into_iter()
        .flat_map(|id| filler.push(&stream.push(id)))
        .collect();
    deltas.extend(filler.finish());
    assert_eq!(deltas.concat(), filler.text());
    assert!(
        filler
            .text()
            .starts_with("Like Heat, Ali ‹/s› & ‹h1› Friends was directed by Michael Mann. It is a"),
        "{}",
        filler.text()
    );
    assert!(filler.claims()[0].evidence.contains(&Evidence::Fact { index: 0 }));
    assert!(
        filler
            .claims()
            .iter()
            .all(|claim| filler.text().get(claim.span.clone()).is_some())
    );
    assert!(filler.refusals().is_empty());
}

#[test]
fn an_undefined_slot_and_a_false_sentence_cut_the_text() {
    let dir = tempfile::tempdir().expect("a folder");
    let bundle = bundle(dir.path(), Role::Prism);
    let query = query(None);
    let prompt = bundle.prompt_prism(&query).expect("a prompt");
    assert!(prompt.text.ends_with("alone"), "{}", prompt.text);
    let heat = slot_of(&bundle, &query, "Heat");
    let doc = slot_of(&bundle, &query, "What's Up, Doc?");
    for (text, shown, refusal) in [
        (
            format!("like {heat} , <item> was directed by <p1> . like <h9> , it is a <g1> <thing> ."),
            true,
            Refusal::UndefinedSlot,
        ),
        (
            format!("like {doc} , <item> was directed by <p1> ."),
            false,
            Refusal::WrongRelation,
        ),
        ("<item> stars <p1> .".to_owned(), false, Refusal::WrongRole),
        // The item is not named, and what follows would lean on that.
        (
            format!("like {heat} , it was directed by <p1> . <item> is a <g1> <thing> ."),
            false,
            Refusal::Nameless,
        ),
        (
            format!("<p1> is another <thing> after {heat} ."),
            false,
            Refusal::WrongRole,
        ),
        (
            format!("like {heat} and {heat} , <item> was directed by <p1> ."),
            false,
            Refusal::Repetition,
        ),
        (
            "<item> was directed by <p1>".to_owned(),
            false,
            Refusal::Unfinished,
        ),
        (
            "<item> was directed by <p1> and <unk> .".to_owned(),
            false,
            Refusal::UndefinedSlot,
        ),
    ] {
        let mut filler = prompt.filler();
        filler.push(&text);
        filler.finish();
        assert_eq!(
            (!filler.text().is_empty(), filler.refusals()),
            (shown, &[refusal][..]),
            "{text} in {}",
            prompt.text
        );
        assert!(filler.is_cut() && filler.push("<item> was directed by <p1> .").is_empty());
    }
}

#[test]
fn plain_text_that_leads_in_is_held_back_until_it_speaks_of_the_item() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("config.json"), "{}").expect("a file");
    write_slot_tokenizer(dir.path(), Role::Prism, &SlotLimits::default()).expect("a tokenizer");
    std::fs::write(dir.path().join("model.safetensors"), "plain").expect("a file");
    let mut manifest = Manifest::slots("plain", Role::Prism, Provenance::default());
    manifest.slots = None;
    manifest.template = refract_bundle::manifest::Template::default();
    manifest.limits.prompt_tokens_max = 4_096;
    manifest.write(dir.path()).expect("a manifest");
    let bundle = Bundle::open(dir.path()).expect("a bundle");
    let prompt = bundle.prompt_prism(&query(None)).expect("a prompt");
    let (lead_in, told) = (
        "You liked Heat. ",
        "This film was directed by Michael Mann, too. ",
    );
    let mut filler = prompt.filler();
    assert_eq!(filler.push(lead_in).concat(), "");
    assert_eq!(
        filler.push(told).concat() + &filler.finish().concat(),
        "You liked Heat. This film was directed by Michael Mann, too."
    );
    assert!(
        filler
            .claims()
            .iter()
            .all(|c| filler.text().get(c.span.clone()).is_some())
    );
    let mut filler = prompt.filler();
    filler.push(lead_in);
    filler.push("This film was directed by Steven Spielberg. ");
    filler.finish();
    assert_eq!((filler.text(), filler.claims().len()), ("", 0));
}

#[test]
fn disliked_items_are_in_no_prompt_and_history_goes_oldest_first() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut bundle_manifest = Manifest::slots("small", Role::Prism, Provenance::default());
    bundle_manifest.limits.prompt_tokens_max = 40;
    write_slot_tokenizer(dir.path(), Role::Prism, &SlotLimits::default()).expect("a tokenizer");
    bundle_manifest.clone().write(dir.path()).expect("a manifest");
    let bundle = Bundle::open(dir.path()).expect("a bundle");
    let (pair, _) = request();
    let past = (0..30).map(|n| Interaction {
        item: item(
            &format!("h{n}"),
            &format!("Heat {n}"),
            &[("director", &["Michael Mann"])],
        ),
        at: Timestamp(n),
        signal: if n % 5 == 0 {
            Signal::Disliked
        } else {
            Signal::Liked
        },
        rating: None,
        text: None,
    });
    let query = ExplainQuery {
        pair,
        history: Arc::new(History::new(past.collect())),
        knowledge: None,
        style: 0,
    };
    let prompt = bundle.prompt_prism(&query).expect("a prompt");
    assert!(prompt.ids.len() <= 40 && prompt.text.contains("<item>"));
    let shown: Vec<String> = prompt
        .slots()
        .expect("slots")
        .history()
        .map(ToString::to_string)
        .collect();
    assert_eq!(shown.first().map(String::as_str), Some("h29"));
    assert_eq!(prompt.history_truncated as usize, 24 - shown.len());
    assert!(!shown.iter().any(|id| ["h25", "h20"].contains(&id.as_str())));

    bundle_manifest.limits.prompt_tokens_max = 5;
    bundle_manifest.write(dir.path()).expect("a manifest");
    let error = Bundle::open(dir.path())
        .expect("a bundle")
        .prompt_prism(&query)
        .expect_err("too long");
    assert!(
        matches!(error, Error::PromptTooLong { tokens_max: 5, .. }),
        "{error}"
    );
}

#[test]
fn knowledge_of_another_item_reaches_no_prompt() {
    let dir = tempfile::tempdir().expect("a folder");
    let bundle = bundle(dir.path(), Role::Prism);
    let mut fact = refract_domain::Fact {
        kind: FactKind::Shared {
            attribute: "director".into(),
            value: "Michael Mann".into(),
        },
        text: "Ali was directed by Michael Mann".into(),
        evidence: vec![Evidence::History {
            item: ItemId::new("thief"),
        }],
    };
    let foreign = bundle
        .prompt_prism(&query(Some(knowledge(vec![fact.clone()]))))
        .expect("a prompt");
    assert!(foreign.text.ends_with("alone"), "{}", foreign.text);
    fact.evidence = vec![Evidence::History {
        item: ItemId::new("bad"),
    }];
    let disliked = bundle
        .prompt_prism(&query(Some(knowledge(vec![fact]))))
        .expect("a prompt");
    assert!(disliked.text.ends_with("alone"), "{}", disliked.text);
}

#[test]
fn where_nothing_links_the_item_to_the_history_it_is_said_so() {
    let (oracle_dir, prism_dir) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let (oracle, prism) = (
        bundle(oracle_dir.path(), Role::Oracle),
        bundle(prism_dir.path(), Role::Prism),
    );
    let (mut pair, _) = request();
    pair.affinities.clear();
    let other = Interaction {
        item: item("up", "Up", &[("genre", &["family"])]),
        at: Timestamp(1),
        signal: Signal::Liked,
        rating: None,
        text: None,
    };
    let history = Arc::new(History::new(vec![other]));
    let asked = oracle.prompt_oracle(&pair, &history).expect("a prompt");
    let facts = oracle.parse_oracle(&asked, "none").facts;
    assert!(
        facts.iter().any(|fact| fact.kind == FactKind::Unrelated),
        "{facts:?}"
    );
    let query = ExplainQuery {
        pair,
        history,
        knowledge: Some(knowledge(facts)),
        style: 0,
    };
    let prompt = prism.prompt_prism(&query).expect("a prompt");
    assert!(prompt.text.ends_with("facts none"), "{}", prompt.text);
    let mut filler = prompt.filler();
    filler.push("<item> is a change of pace : a <g1> <thing> directed by <p1> .");
    assert!(
        filler
            .text()
            .contains("is a change of pace: a crime film directed by Michael Mann."),
        "{}",
        filler.text()
    );
    assert!(
        filler.claims()[0]
            .evidence
            .iter()
            .any(|e| matches!(e, Evidence::Fact { .. })),
        "{:?}",
        filler.claims()
    );
}
