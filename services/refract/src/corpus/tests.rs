//! The recipe on a small invented catalogue.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use refract_bundle::{Role, write_slot_tokenizer};
use refract_domain::{History, Interaction, Item, ItemId, Signal, Timestamp};

use super::*;

fn catalogue() -> Vec<Arc<Item>> {
    let people = ["Ada Stone", "Bo Reed", "Cy Marsh", "Di Frost"];
    let genres = ["crime", "comedy", "horror", "western"];
    (0..40)
        .map(|n: usize| {
            let mut attributes = BTreeMap::new();
            let mut set =
                |name: &str, value: &str| attributes.insert(name.to_owned(), vec![value.to_owned()]);
            set("director", people[n % 4]);
            set("lead", people[(n / 4) % 4]);
            set("genre", genres[(n / 2) % 4]);
            set("year", &(1950 + n).to_string());
            set("country", ["France", "Japan"][n % 2]);
            set("premise", "a clerk who robs the bank that employs him");
            let id = format!("film-{n}");
            Arc::new(Item {
                id: ItemId::new(id),
                title: format!("Film Number {}", (b'A' + (n % 26) as u8) as char).repeat(1 + n / 26),
                attributes,
                description: String::new(),
            })
        })
        .collect()
}

fn requests(count: usize) -> Vec<Request> {
    let items = catalogue();
    let histories: Vec<Arc<History>> = (0..30_usize)
        .map(|u| {
            let signals = [Signal::Liked, Signal::Liked, Signal::Seen, Signal::Disliked];
            let act = |n: usize| Interaction {
                item: Arc::clone(&items[(u * 7 + n * 3) % items.len()]),
                at: Timestamp(n as i64),
                signal: signals[(u + n) % 4],
                rating: None,
                text: None,
            };
            Arc::new(History::new((0..12).map(act).collect()))
        })
        .collect();
    draw(&items, &histories, count, 1)
}

#[test]
fn the_same_seed_gives_the_same_lines() {
    let config = Config::default();
    assert_eq!(
        prism_lines(&config, &requests(50)),
        prism_lines(&config, &requests(50))
    );
    assert_eq!(
        oracle_lines(&config, &requests(50)),
        oracle_lines(&config, &requests(50))
    );
}

#[test]
fn every_line_is_made_of_words_that_the_tokenizers_know() {
    let config = Config::default();
    let requests = requests(300);
    let dir = tempfile::tempdir().expect("a folder");
    for (role, lines) in [
        (Role::Prism, prism_lines(&config, &requests)),
        (Role::Oracle, oracle_lines(&config, &requests)),
    ] {
        let tokenizer = write_slot_tokenizer(dir.path(), role, &config.slots).expect("a tokenizer");
        let unknown = tokenizer.id("<unk>").expect("an unknown token");
        assert!(lines.len() > 250, "{}", lines.len());
        for line in &lines {
            for text in [&line.source, &line.target] {
                assert!(!tokenizer.encode(text).contains(&unknown), "{text}");
            }
        }
    }
}

#[test]
fn an_oracle_line_chooses_among_its_candidates() {
    for line in oracle_lines(&Config::default(), &requests(200)) {
        for chosen in line.target.split(" ; ").filter(|c| *c != "none") {
            assert!(line.source.split(' ').any(|word| word == chosen), "{line:?}");
        }
    }
}

#[test]
fn targets_use_only_slots_of_their_prompt_and_name_the_item_once() {
    let constant: BTreeSet<&str> = ["<item>", "<thing>", "<things>", "<tried>"].into();
    for line in prism_lines(&Config::default(), &requests(300)) {
        let words: Vec<&str> = line.target.split(' ').collect();
        assert_eq!(words.iter().filter(|w| **w == "<item>").count(), 1, "{line:?}");
        for slot in words
            .iter()
            .filter(|w| w.starts_with('<') && !constant.contains(**w))
        {
            assert!(line.source.split(' ').any(|w| w == *slot), "{slot} in {line:?}");
        }
    }
}
