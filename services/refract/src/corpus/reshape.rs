//! Rare shapes, on purpose: items with little about them, and catalogues that are not of films.
//!
//! Slots hide what the values are, so the film data can stand in for anything: with the director called an author it is a library,
//! with an attribute of a name never seen it is a catalogue that nobody has thought of.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use refract_domain::{Attributes, History, Interaction, Item};

use super::Request;

/// Attribute names of one catalogue → of another; what is not named goes.
type Names = &'static [(&'static str, &'static str)];

const CATALOGUES: &[Names] = &[
    // Books, music, goods, restaurants.
    &[
        ("director", "author"),
        ("genre", "genre"),
        ("year", "year"),
        ("series", "series"),
        ("premise", "premise"),
        ("country", "setting"),
    ],
    &[
        ("director", "writer"),
        ("genre", "category"),
        ("year", "published"),
        ("premise", "plot"),
    ],
    &[
        ("director", "artist"),
        ("genre", "style"),
        ("year", "released"),
        ("country", "country"),
    ],
    &[
        ("director", "brand"),
        ("genre", "category"),
        ("country", "material"),
        ("lead", "colour"),
    ],
    &[
        ("director", "chef"),
        ("genre", "cuisine"),
        ("country", "city"),
        ("lead", "speciality"),
    ],
    // Films with names of their own, and things without any known name.
    &[
        ("director", "director"),
        ("lead", "composer"),
        ("cast", "composer"),
        ("genre", "genre"),
        ("country", "language"),
    ],
    &[
        ("director", "photographer"),
        ("genre", "mood"),
        ("country", "dress code"),
        ("year", "year"),
    ],
    &[
        ("lead", "theme"),
        ("cast", "theme"),
        ("genre", "tag"),
        ("source", "based on"),
    ],
];

pub(super) fn reshape(request: &Request, rng: &mut ChaCha8Rng) -> Request {
    match rng.random_range(0..10) {
        0 => with_items(request, |a| without(a, &["director"]), true),
        1 => with_items(request, |a| without(a, &["lead", "cast"]), true),
        2 => with_items(request, one_lead, true),
        3 => with_items(request, |a| without(a, &["premise"]), false),
        // Only a premise, or nothing at all.
        4 => with_items(
            request,
            |a| {
                a.iter()
                    .filter(|(name, _)| name.as_str() == "premise")
                    .map(|(n, v)| (n.clone(), v.clone()))
                    .collect()
            },
            true,
        ),
        5 => with_items(
            request,
            |a| without(a, &["director", "lead", "cast", "series", "source", "year"]),
            true,
        ),
        _ => {
            let names = CATALOGUES[rng.random_range(0..CATALOGUES.len())];
            with_items(request, |a| renamed(a, names), true)
        }
    }
}

/// The request with premises as verb phrases: what says "a clerk who …" says "follows a clerk who …".
pub(super) fn told_with_a_verb(request: &Request, rng: &mut ChaCha8Rng) -> Request {
    const VERBS: [&str; 3] = ["follows", "is about", "tells of"];
    let verb = VERBS[rng.random_range(0..VERBS.len())];
    let told = |attributes: &Attributes| {
        let mut attributes = attributes.clone();
        for name in ["premise", "plot"] {
            for value in attributes.get_mut(name).into_iter().flatten() {
                *value = format!("{verb} {value}");
            }
        }
        attributes
    };
    with_items(request, told, true)
}

/// The request with every item's attributes changed alike.
fn with_items(request: &Request, change: impl Fn(&Attributes) -> Attributes, description: bool) -> Request {
    let changed = |item: &Item| {
        Arc::new(Item {
            attributes: change(&item.attributes),
            description: if description {
                item.description.clone()
            } else {
                String::new()
            },
            ..item.clone()
        })
    };
    let interactions: Vec<Interaction> = request
        .history
        .interactions()
        .iter()
        .map(|i| Interaction {
            item: changed(&i.item),
            ..i.clone()
        })
        .collect();
    Request {
        item: changed(&request.item),
        history: Arc::new(History::new(interactions)),
        affinities: request.affinities.clone(),
    }
}

fn without(attributes: &Attributes, names: &[&str]) -> Attributes {
    attributes
        .iter()
        .filter(|(name, _)| !names.contains(&name.as_str()))
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect()
}

fn one_lead(attributes: &Attributes) -> Attributes {
    let mut attributes = attributes.clone();
    for name in ["lead", "cast"] {
        if let Some(values) = attributes.get_mut(name) {
            values.truncate(1);
        }
    }
    attributes
}

fn renamed(attributes: &Attributes, names: Names) -> Attributes {
    let mut renamed = BTreeMap::new();
    for (from, to) in names {
        if let Some(values) = attributes.get(*from) {
            renamed.insert((*to).to_owned(), values.clone());
        }
    }
    renamed
}
