//! The prompt of a slot Prism.

use std::sync::Arc;

use refract_domain::ItemId;
use refract_truth::text::{VALUE_CHARS_MAX, sayable};
use refract_truth::{Point, PointKind, Role, Sought, Target};

use super::CAST_MAX;
use super::scene::{Named, Scene};
use crate::facts::{form_word, needs_label, role_word, words_of};
use crate::manifest::SlotLimits;
use crate::slots::{SlotTable, style_word};

/// Values of one attribute that the prompt shows, as for [`CAST_MAX`].
const GENRES_MAX: usize = 3;
const OTHERS_MAX: usize = 2;

/// A slot prompt before it is cut into ids.
#[derive(Clone, Debug)]
pub struct SlotPrompt {
    pub text: String,
    pub table: SlotTable,
    /// What the text should say: the facts that are shown, or (alone) what can be seen from the prompt.
    pub points: Vec<Point>,
    pub history_shown: usize,
}

/// The prompt of a slot Prism: style, item, history, and the facts (`Some`) or the word `alone` (`None`).
pub fn prism_slots(
    scene: &Scene,
    points: Option<&[Point]>,
    style: u32,
    limits: &SlotLimits,
    history_items: usize,
) -> SlotPrompt {
    let mut table = SlotTable::new(
        *limits,
        Arc::clone(&scene.vocabulary),
        &scene.pair.item,
        scene.thing,
    );
    let surface = |target: &Target| scene.surface(target);
    let wanted: Vec<ItemId> = points
        .unwrap_or_default()
        .iter()
        .flat_map(|p| p.history.iter().cloned())
        .collect();
    let shown = scene.shown(history_items.min(limits.history_max), &wanted);
    for named in &shown {
        let target = Target::History(named.read.item().id.clone());
        table.slot(&target, &surface(&target));
    }
    let attributes = item_attributes(scene);
    let mut words = vec![style_word(style), "item".to_owned(), "<item>".to_owned()];
    let mut spoken: Vec<Spoken<'_>> = Vec::new();
    for (role, attribute, value) in attributes {
        let said = said_words(&mut table, role, attribute, &value, &surface);
        if let Some(said) = said {
            words.extend(said);
            spoken.push(Spoken::new(role, attribute, value));
        }
    }
    let premise = scene.item.premise();
    if let Some(premise) = premise.filter(|_| points.is_none()) {
        let target = Target::Plot(premise.clone());
        table.slot(&target, &surface(&target));
        words.extend([
            "premise".to_owned(),
            form_word(premise.form).to_owned(),
            "<plot>".to_owned(),
        ]);
    }
    words.push("history".to_owned());
    if shown.is_empty() {
        words.push("none".to_owned());
    }
    let mut seen_links: Vec<Link> = Vec::new();
    for (n, Named { read, liked }) in shown.iter().enumerate() {
        let id = &read.item().id;
        words.extend(table.find(&Target::History(id.clone())));
        if points.is_some() {
            continue;
        }
        if !liked {
            words.push("seen".to_owned());
        }
        // Without facts the prompt shows what each history item has in common with the item, so that a link can be found.
        for (place, spoken) in spoken.iter().enumerate() {
            let held = spoken.role != Role::Year && read.holds(&spoken.sought);
            if held
                && let Some(said) =
                    said_words(&mut table, spoken.role, spoken.attribute, &spoken.value, &surface)
            {
                words.extend(said);
                seen_links.push(Link {
                    place,
                    history: id.clone(),
                    liked: *liked,
                });
            }
        }
        if n + 1 < shown.len() {
            words.push(";".to_owned());
        }
    }
    let mut kept = Vec::new();
    match points {
        Some(points) => {
            words.push("facts".to_owned());
            let mut said = Vec::new();
            for point in points {
                if let Some(fact) = words_of(&mut table, point, &surface) {
                    said.push(fact);
                    kept.push(point.clone());
                }
            }
            words.push(if said.is_empty() {
                "none".to_owned()
            } else {
                said.join(" ; ")
            });
        }
        None => {
            words.push("alone".to_owned());
            kept.extend(closest_link(&spoken, &seen_links));
            kept.extend(premise.cloned().map(|p| Point {
                kind: PointKind::Premise(p),
                history: Vec::new(),
                liked: true,
            }));
        }
    }
    SlotPrompt {
        text: words.join(" "),
        table,
        points: kept,
        history_shown: shown.len(),
    }
}

/// The first attribute that a liked item shares with the item (else one that was seen), with at most two holders.
fn closest_link(spoken: &[Spoken<'_>], links: &[Link]) -> Option<Point> {
    let best = links.iter().min_by_key(|link| (!link.liked, link.place))?;
    let Spoken {
        role,
        attribute,
        value,
        ..
    } = &spoken[best.place];
    Some(Point {
        kind: PointKind::Shared {
            role: *role,
            attribute: (*attribute).to_owned(),
            value: value.clone(),
        },
        history: links
            .iter()
            .filter(|link| link.place == best.place && link.liked == best.liked)
            .map(|link| link.history.clone())
            .take(2)
            .collect(),
        liked: best.liked,
    })
}

/// A value of the item that an item of the history has, too, as the prompt shows it.
struct Link {
    /// Of the value among those that are spoken of.
    place: usize,
    history: ItemId,
    liked: bool,
}

/// A value of the item that the prompt shows.
struct Spoken<'a> {
    role: Role,
    attribute: &'a str,
    value: String,
    sought: Sought,
}

impl<'a> Spoken<'a> {
    fn new(role: Role, attribute: &'a str, value: String) -> Self {
        Self {
            role,
            attribute,
            sought: Sought::new(role, attribute, &value),
            value,
        }
    }
}

fn said_words(
    table: &mut SlotTable,
    role: Role,
    attribute: &str,
    value: &str,
    surface: &dyn Fn(&Target) -> String,
) -> Option<Vec<String>> {
    let mut words = vec![role_word(role).to_owned()];
    if needs_label(role) {
        let label = Target::Label {
            attribute: attribute.to_owned(),
        };
        words.push(table.slot(&label, &surface(&label))?);
    }
    let target = Target::Value {
        attribute: attribute.to_owned(),
        value: value.to_owned(),
    };
    words.push(table.slot(&target, &surface(&target))?);
    Some(words)
}

/// The item's attributes in the order in which they are worth saying, bounded; genres rarest first.
fn item_attributes(scene: &Scene) -> Vec<(Role, &str, String)> {
    let vocabulary = &scene.vocabulary;
    let mut found: Vec<(Role, &str, String)> = Vec::new();
    for (attribute, values) in &scene.pair.item.attributes {
        let role = vocabulary.role(attribute);
        let max = match role {
            Role::Hidden | Role::Premise => continue,
            Role::Cast => CAST_MAX,
            Role::Genre => GENRES_MAX,
            Role::Year => 1,
            _ => OTHERS_MAX,
        };
        let mut usable: Vec<String> = values
            .iter()
            .filter_map(|value| sayable(value, VALUE_CHARS_MAX))
            .collect();
        usable.retain(|value| role != Role::Year || refract_truth::relations::decade(value).is_some());
        if role == Role::Genre {
            usable.sort_by(|a, b| vocabulary.genre_rarity(b).total_cmp(&vocabulary.genre_rarity(a)));
        }
        found.extend(
            usable
                .into_iter()
                .take(max)
                .map(|value| (role, attribute.as_str(), value)),
        );
    }
    found.sort_by_key(|(role, ..)| role.telling_rank());
    found
}
