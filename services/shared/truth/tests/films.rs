//! The template over real films: it nearly always has something to say, and what it says passes the gate as plain text too.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use refract_domain::{Affinity, History, Interaction, Item, ItemId, Pair, Signal, TenantId, Timestamp};
use refract_truth::{Gate, STYLES, Vocabulary, template};

/// `<repository>/../shared/data/films`, or under `REFRACT_SHARED_DATA`.
fn films_dir() -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("REFRACT_SHARED_DATA") {
        return Some(PathBuf::from(dir).join("films")).filter(|dir| dir.is_dir());
    }
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|up| up.join("../shared/data/films"))
        .find(|dir| dir.is_dir())
}

fn films() -> Option<Vec<Arc<Item>>> {
    let text = std::fs::read_to_string(films_dir()?.join("items.jsonl")).ok()?;
    let films = text.lines().map(|line| {
        let row: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let attributes: BTreeMap<String, Vec<String>> =
            serde_json::from_value(row["attributes"].clone()).expect("names and values");
        Arc::new(Item {
            id: ItemId::new(text("id")),
            title: text("title"),
            attributes,
            description: text("description"),
        })
    });
    Some(films.collect())
}

/// SplitMix64: small, seeded, good enough for drawing examples.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}

fn example(films: &[Arc<Item>], draw: &mut Draw) -> (Pair, History) {
    let item = Arc::clone(&films[draw.below(films.len())]);
    let related: Vec<&Arc<Item>> = films
        .iter()
        .filter(|f| {
            f.id != item.id
                && ["director", "cast"]
                    .iter()
                    .any(|a| f.values(a).iter().any(|v| item.has(a, v)))
        })
        .collect();
    let mut interactions = Vec::new();
    for at in 0..draw.below(12) {
        let film = if !related.is_empty() && draw.below(4) == 0 {
            Arc::clone(related[draw.below(related.len())])
        } else {
            Arc::clone(&films[draw.below(films.len())])
        };
        let signal = [
            Signal::Liked,
            Signal::Liked,
            Signal::Liked,
            Signal::Seen,
            Signal::Disliked,
        ][draw.below(5)];
        interactions.push(Interaction {
            item: film,
            at: Timestamp(at as i64),
            signal,
            rating: None,
            text: None,
        });
    }
    let affinities = interactions
        .iter()
        .filter(|_| draw.below(5) == 0)
        .map(|i| Affinity {
            item: i.item.id.clone(),
            lift: 2.5,
            support: 12,
        })
        .collect();
    (
        Pair {
            tenant: TenantId::default(),
            user: None,
            item,
            affinities,
        },
        History::new(interactions),
    )
}

#[test]
fn over_real_films_the_template_speaks_and_its_plain_text_passes_the_gate() {
    let Some(films) = films() else {
        println!("SKIPPED: no shared data (films) beside the repository");
        return;
    };
    let mut draw = Draw(7);
    let (mut silent, mut refused, mut shortened) = (0, Vec::new(), 0);
    const N: usize = 600;
    for n in 0..N {
        let (pair, history) = example(&films, &mut draw);
        let Some(explanation) = template(&pair, &history, n as u32 % STYLES) else {
            silent += 1;
            println!("SILENT {} {:?}", pair.item.title, pair.item.attributes);
            continue;
        };
        if n < 60 {
            let liked: Vec<&str> = history
                .interactions()
                .iter()
                .map(|i| i.item.title.as_str())
                .collect();
            println!(
                "[{}] {} <- {}\n    {}",
                n as u32 % STYLES,
                pair.item.title,
                liked.join(" | "),
                explanation.text
            );
        }
        shortened += usize::from(explanation.grounding.claims.is_empty());
        let mut gate = Gate::new(&Vocabulary::default(), &pair, &history, None);
        let mut cutter = gate.sentences();
        let mut sentences = cutter.push(&explanation.text);
        sentences.extend(cutter.finish());
        for sentence in sentences {
            if let Err(refusal) = gate.check(&sentence, &[]) {
                refused.push(format!("{refusal:?}: {sentence}"));
                break;
            }
        }
    }
    println!("silent {silent}, refused {} of {N}", refused.len());
    for line in refused.iter().take(40) {
        println!("  {line}");
    }
    assert_eq!(shortened, 0);
    assert!(silent * 100 <= N, "{silent}");
    assert!(refused.len() * 50 <= N, "{} refused", refused.len());
}
