//! Prompts: a pair, its history and perhaps knowledge, as text that a bundle's model was made for.

use std::collections::HashSet;
use std::sync::Arc;

use refract_domain::{History, Interaction, Item, ItemId, Pair, Signal};
use refract_truth::phrase::{self, Matter};
use refract_truth::text::{DESCRIPTION_CHARS_MAX, TITLE_CHARS_MAX, VALUE_CHARS_MAX, clean, sayable};
use refract_truth::{Point, PointKind, Reading, Relation, Role, Sought, Target, Thing, Vocabulary};

use crate::facts::{form_word, needs_label, point_of, role_word, words_of};
use crate::manifest::{SlotLimits, Template};
use crate::slots::{SlotTable, style_word};

/// Values of one attribute that a prompt shows.
const CAST_MAX: usize = 4;
const GENRES_MAX: usize = 3;
const OTHERS_MAX: usize = 2;

/// A request in the words that prompts need: what may be named, newest first.
#[derive(Clone, Debug)]
pub struct Scene {
    pub pair: Pair,
    pub history: Arc<History>,
    pub vocabulary: Arc<Vocabulary>,
    pub thing: Thing,
    pub(crate) item: Arc<Reading>,
    /// History items that may be named: each once, newest first, never disliked, never a namesake of the item.
    named: Vec<Named>,
}

/// A history item that may be named.
#[derive(Clone, Debug)]
struct Named {
    read: Arc<Reading>,
    liked: bool,
}

impl Scene {
    pub fn new(pair: &Pair, history: &Arc<History>, vocabulary: &Arc<Vocabulary>) -> Self {
        let item = vocabulary.read(&pair.item);
        let mut named: Vec<Named> = Vec::new();
        let mut met: HashSet<&ItemId> = HashSet::new();
        for Interaction {
            item: other, signal, ..
        } in history.interactions().iter().rev()
        {
            if !met.insert(&other.id) || *signal == Signal::Disliked || other.id == pair.item.id {
                continue;
            }
            let read = vocabulary.read(other);
            if read.is_nameable() && read.title_folded() != item.title_folded() {
                let liked = *signal == Signal::Liked;
                named.push(Named { read, liked });
            }
        }
        let thing = match item.thing() {
            Thing::Title => named
                .iter()
                .map(|named| named.read.thing())
                .find(|t| *t != Thing::Title)
                .unwrap_or(Thing::Title),
            thing => thing,
        };
        Self {
            pair: pair.clone(),
            history: Arc::clone(history),
            vocabulary: Arc::clone(vocabulary),
            thing,
            item,
            named,
        }
    }

    /// History items that could be named.
    pub fn nameable(&self) -> usize {
        self.named.len()
    }

    pub fn matter(&self) -> Matter<'_> {
        Matter {
            item: &self.pair.item,
            thing: self.thing,
            has_history: !self.named.is_empty(),
            vocabulary: &self.vocabulary,
        }
    }

    /// The words that stand for a target.
    pub fn surface(&self, target: &Target) -> String {
        let title_of = |id: &ItemId| self.history.find(id).map(|i| i.item.title.clone());
        phrase::surface(target, &self.pair.item, &title_of, &self.vocabulary)
    }

    pub fn relations(&self) -> Vec<Relation> {
        refract_truth::relations_within(
            &self.vocabulary,
            &refract_truth::Limits {
                history_items_max: 2,
                ..Default::default()
            },
            &self.pair,
            &self.history,
        )
    }

    /// At most `count` history items: those of `wanted` in its order, then the others, newest first.
    ///
    /// What the facts name gets the first slots, in the order of the facts, so that a small model meets `<h1>` and `<h2>` there and
    /// not any two of twenty: with slots by recency the shipped Prism wrote `<h1> and <h2>` for a fact of `<h1> <h3>` in nine styles of
    /// twelve.
    fn shown(&self, count: usize, wanted: &[ItemId]) -> Vec<&Named> {
        let place = |id: &ItemId| self.named.iter().position(|known| known.read.item().id == *id);
        let mut chosen: Vec<usize> = Vec::new();
        for n in wanted.iter().filter_map(place).chain(0..self.named.len()) {
            if chosen.len() >= count {
                break;
            }
            if !chosen.contains(&n) {
                chosen.push(n);
            }
        }
        chosen.into_iter().map(|n| &self.named[n]).collect()
    }
}

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
    let mut seen_links: Vec<(usize, ItemId, bool)> = Vec::new();
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
                seen_links.push((place, id.clone(), *liked));
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
            // The first attribute that a liked item shares (else one that was seen), with at most two holders.
            let best = seen_links.iter().min_by_key(|(place, _, liked)| (!liked, *place));
            if let Some((place, _, liked)) = best {
                let Spoken {
                    role,
                    attribute,
                    value,
                    ..
                } = &spoken[*place];
                let history = seen_links
                    .iter()
                    .filter(|(p, _, l)| p == place && l == liked)
                    .map(|(_, id, _)| id.clone())
                    .take(2)
                    .collect();
                let kind = PointKind::Shared {
                    role: *role,
                    attribute: (*attribute).to_owned(),
                    value: value.clone(),
                };
                kept.push(Point {
                    kind,
                    history,
                    liked: *liked,
                });
            }
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
    found.sort_by_key(|(role, ..)| rank(*role));
    found
}

fn rank(role: Role) -> usize {
    const ORDER: [Role; 11] = [
        Role::Series,
        Role::Director,
        Role::Author,
        Role::Artist,
        Role::Source,
        Role::Cast,
        Role::Maker,
        Role::Genre,
        Role::Place,
        Role::Other,
        Role::Year,
    ];
    ORDER.iter().position(|r| *r == role).unwrap_or(ORDER.len())
}

/// A slot Oracle's prompt before it is cut into ids, with the candidates in the order of the prompt.
#[derive(Clone, Debug)]
pub struct OraclePrompt {
    pub text: String,
    pub table: SlotTable,
    /// Each candidate under the name by which the Oracle chooses it: `c1`, `c2`, …
    pub candidates: Vec<(String, Relation)>,
    pub history_shown: usize,
}

/// Names for candidates that a slot tokenizer holds.
pub const CANDIDATES_MAX: usize = 16;
/// Candidates that a prompt lists, the strongest; weaker ones only hide them.
pub const CANDIDATES_LISTED_MAX: usize = 8;

/// The prompt of a slot Oracle: candidate relations, each with a name and its weight class, strongest first. The Oracle says how many
/// are worth telling and which go together.
///
/// Shuffled candidates were tried: a model of this size had not learnt to compare them after 2,400 steps of 64 (0.40 nats a token;
/// ordered, 0.10 after 400 steps of 32).
/// The Oracle answers with names. Repeating a candidate's own words instead was tried: a model of this size spends its
/// training on copying (0.44 of whole answers right after 2,400 steps) and not on judging.
pub fn oracle_slots(scene: &Scene, limits: &SlotLimits, history_items: usize) -> OraclePrompt {
    let mut table = SlotTable::new(
        *limits,
        Arc::clone(&scene.vocabulary),
        &scene.pair.item,
        scene.thing,
    );
    let surface = |target: &Target| scene.surface(target);
    let mut relations = fitting(scene.relations(), history_items.min(limits.history_max));
    refract_truth::strongest_first(&mut relations);
    let mut candidates = Vec::new();
    let mut listed = Vec::new();
    for relation in relations {
        let point = point_of(&relation);
        for id in &point.history {
            let target = Target::History(id.clone());
            table.slot(&target, &surface(&target));
        }
        if let Some(words) = words_of(&mut table, &point, &surface) {
            let name = format!("c{}", candidates.len() + 1);
            // What is judged by stands beside the name: the class, then the kind.
            listed.push(format!("{name} {} {words}", weight_word(relation.weight)));
            candidates.push((name, relation));
        }
    }
    let list = if listed.is_empty() {
        "none".to_owned()
    } else {
        listed.join(" ; ")
    };
    let history_shown = table.history().count();
    OraclePrompt {
        text: format!("weigh <item> facts {list}"),
        table,
        candidates,
        history_shown,
    }
}

/// The strongest relations whose history items fit into a prompt together.
fn fitting(relations: Vec<Relation>, history_items: usize) -> Vec<Relation> {
    let mut named: Vec<ItemId> = Vec::new();
    let mut kept = Vec::new();
    for relation in relations {
        let new: Vec<ItemId> = relation
            .history
            .iter()
            .map(|item| item.id.clone())
            .filter(|id| !named.contains(id))
            .collect();
        if kept.len() < CANDIDATES_LISTED_MAX && named.len() + new.len() <= history_items {
            named.extend(new);
            kept.push(relation);
        }
    }
    kept
}

/// Five classes of weight, as a word.
pub fn weight_word(weight: f32) -> &'static str {
    ["w0", "w1", "w2", "w3", "w4"][usize::from(refract_truth::class(weight)).min(4)]
}

/// A plain prompt with `history_items` of the history and `description_chars` of the description.
pub(crate) fn plain(
    template: &Template,
    scene: &Scene,
    facts: &[String],
    history_items: usize,
    description_chars: usize,
) -> (String, usize) {
    let shown = scene.shown(history_items, &[]);
    let history: Vec<String> = shown
        .iter()
        .map(|named| described(template, scene, named.read.item(), 0))
        .collect();
    let history = if history.is_empty() {
        "none".to_owned()
    } else {
        history.join("; ")
    };
    let mut lines = Vec::new();
    if !template.instruction.is_empty() {
        lines.push(template.instruction.clone());
    }
    lines.push(format!("{} {history}", template.history_label));
    lines.push(format!(
        "{} {}",
        template.item_label,
        described(template, scene, &scene.pair.item, description_chars)
    ));
    if !facts.is_empty() {
        lines.push(format!("{} {}.", template.facts_label, facts.join(". ")));
    }
    lines.push(template.cue.clone());
    (lines.join("\n"), shown.len())
}

/// `Heat (1995; director: Michael Mann; genre: crime, thriller)`.
fn described(template: &Template, scene: &Scene, item: &Item, description_chars: usize) -> String {
    let title = clean(&item.title, TITLE_CHARS_MAX);
    let mut notes = Vec::new();
    let year = item
        .attributes
        .iter()
        .find(|(name, _)| scene.vocabulary.role(name) == Role::Year)
        .and_then(|(_, values)| values.first());
    notes.extend(year.map(|year| clean(year, VALUE_CHARS_MAX)));
    if template.attributes {
        for (name, values) in &item.attributes {
            let role = scene.vocabulary.role(name);
            let values: Vec<String> = values
                .iter()
                .take(CAST_MAX)
                .filter_map(|value| sayable(value, VALUE_CHARS_MAX))
                .collect();
            if !matches!(role, Role::Hidden | Role::Year) && !values.is_empty() {
                notes.push(format!(
                    "{}: {}",
                    refract_truth::vocabulary::label(name),
                    values.join(", ")
                ));
            }
        }
    }
    let mut text = if notes.is_empty() {
        title
    } else {
        format!("{title} ({})", notes.join("; "))
    };
    if description_chars > 0 && !item.description.is_empty() {
        text.push_str(". ");
        text.push_str(&clean(
            &item.description,
            description_chars.min(DESCRIPTION_CHARS_MAX),
        ));
    }
    text
}
