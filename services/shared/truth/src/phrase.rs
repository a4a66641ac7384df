//! Composing: points worth making, in order, become one or two sentences. Shared by the fallback template and by the recipe
//! that writes training text, so that a student learns exactly the sentences that are known to be sound.

use refract_domain::{Attributes, Item, ItemId};

use crate::patterns as p;
use crate::premise::{Form, Premise};
use crate::render::{Part, Target};
use crate::text::{TITLE_CHARS_MAX, VALUE_CHARS_MAX, sayable};
use crate::vocabulary::{Role, Thing, Vocabulary, label};

/// Wordings that a style number tells apart; styles beyond it repeat.
pub const STYLES: u32 = 30;

/// Something to say about the item, perhaps with history items.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    pub kind: PointKind,
    /// History items it leans on; empty for a premise.
    pub history: Vec<ItemId>,
    /// All of them were liked.
    pub liked: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum PointKind {
    Shared {
        role: Role,
        attribute: String,
        value: String,
    },
    CoLiked,
    Premise(Premise),
}

/// What a text may be composed from.
#[derive(Debug)]
pub struct Matter<'a> {
    pub item: &'a Item,
    pub thing: Thing,
    /// Whether the user has a past at all: "a change of pace" needs one.
    pub has_history: bool,
    pub vocabulary: &'a Vocabulary,
}

/// One or two sentences, each a list of parts; empty when nothing can be said.
///
/// The first link to the history leads; a second point follows, in the same sentence or in its own. Mentions carry no
/// surface yet where they name history items: [`Part::Mention`] holds the target, and `surface` fills the words in.
pub fn compose(
    matter: &Matter<'_>,
    points: &[Point],
    style: u32,
    surface: &dyn Fn(&Target) -> String,
) -> Vec<Vec<Part>> {
    let style = (style % STYLES) as usize;
    let speaker = Speaker { matter, surface };
    let lead = points.iter().position(|point| !point.history.is_empty());
    let Some(lead) = lead else {
        return speaker.alone(points, style);
    };
    let main = &points[lead];
    let second = points
        .iter()
        .enumerate()
        .find(|(n, point)| *n != lead && point.kind != main.kind)
        .map(|(_, point)| point);
    let Some(second) = second else {
        return vec![speaker.say(pick(main_patterns(&main.kind), style), Some(main), None)];
    };
    let follows_all = !second.history.is_empty() && same_items(&main.history, &second.history);
    let mut first = speaker.say(
        leading(main_patterns(&main.kind), style, follows_all),
        Some(main),
        None,
    );
    let pattern = pick(second_patterns(main, second), style / 3 + style);
    let mut follow = speaker.say(pattern, Some(second), None);
    // Every third style makes one sentence of two statements, where the first has no inner stop.
    let text_of = |parts: &[Part]| {
        parts
            .iter()
            .any(|p| matches!(p, Part::Text(t) if t.contains([';', ':'])))
    };
    // One sentence names a title once.
    let named_again = matches!(second.kind, PointKind::CoLiked)
        && !follows_all
        && second.history.iter().any(|id| main.history.contains(id));
    let joinable = style % 3 == 1
        && !named_again
        && !text_of(&first)
        && !text_of(&follow)
        && !matches!(second.kind, PointKind::Premise(_));
    if joinable {
        trim_stop(&mut first);
        first.push(Part::Text(", and ".to_owned()));
        first.append(&mut follow);
        first.push(Part::Text(".".to_owned()));
        return vec![first];
    }
    follow.push(Part::Text(".".to_owned()));
    vec![first, follow]
}

fn trim_stop(parts: &mut [Part]) {
    if let Some(Part::Text(last)) = parts.last_mut() {
        *last = last.trim_end().trim_end_matches('.').to_owned();
    }
}

fn pick<'p>(patterns: &[&'p str], style: usize) -> &'p str {
    patterns[style % patterns.len()]
}

fn main_patterns(kind: &PointKind) -> &'static [&'static str] {
    match kind {
        PointKind::Shared { role, .. } => match role {
            Role::Director => p::DIRECTOR,
            Role::Cast => p::CAST,
            Role::Genre => p::GENRE,
            Role::Series => p::SERIES,
            Role::Source => p::SOURCE,
            Role::Author => p::AUTHOR,
            Role::Artist | Role::Maker => p::MAKER,
            Role::Year => p::YEAR,
            Role::Place | Role::Other | Role::Premise | Role::Hidden => p::OTHER,
        },
        PointKind::CoLiked => p::CO_LIKED,
        PointKind::Premise(premise) => {
            if premise.form == Form::Verb {
                p::PREMISE_VERB
            } else {
                p::PREMISE_CLAUSE
            }
        }
    }
}

fn second_patterns(main: &Point, second: &Point) -> &'static [&'static str] {
    let same = same_items(&main.history, &second.history);
    let overlap = second.history.iter().any(|id| main.history.contains(id));
    let by_overlap = |also, same_patterns, bare| {
        if same {
            same_patterns
        } else if overlap {
            bare
        } else {
            also
        }
    };
    match &second.kind {
        PointKind::Shared { role, .. } => match role {
            Role::Director => by_overlap(p::ALSO_DIRECTOR, p::SAME_DIRECTOR, p::BARE_DIRECTOR),
            Role::Cast => by_overlap(p::ALSO_CAST, p::SAME_CAST, p::BARE_CAST),
            Role::Genre => by_overlap(p::ALSO_GENRE, p::SAME_GENRE, p::BARE_GENRE),
            Role::Series => by_overlap(p::ALSO_SERIES, p::SAME_SERIES, p::BARE_SERIES),
            Role::Year => by_overlap(p::ALSO_YEAR, p::SAME_YEAR, p::BARE_YEAR),
            _ => by_overlap(p::ALSO_OTHER, p::SAME_OTHER, p::BARE_OTHER),
        },
        PointKind::CoLiked => {
            if same {
                p::SAME_CO_LIKED
            } else {
                p::ALSO_CO_LIKED
            }
        }
        PointKind::Premise(premise) => {
            if premise.form == Form::Verb {
                p::THEN_VERB
            } else {
                p::THEN_CLAUSE
            }
        }
    }
}

fn same_items(a: &[ItemId], b: &[ItemId]) -> bool {
    a.len() == b.len() && a.iter().all(|id| b.contains(id))
}

/// The style's pattern; before a sentence about "it", the next one that does not put the item in a row with others.
fn leading<'p>(patterns: &[&'p str], style: usize, follows_all: bool) -> &'p str {
    let alone = |pattern: &&&str| follows_all || !(pattern.contains("{hi}") || pattern.contains("{ih}"));
    (0..patterns.len())
        .map(|n| &patterns[(style + n) % patterns.len()])
        .find(alone)
        .copied()
        .unwrap_or_else(|| pick(patterns, style))
}

struct Speaker<'a> {
    matter: &'a Matter<'a>,
    surface: &'a dyn Fn(&Target) -> String,
}

impl Speaker<'_> {
    /// What can be said without a link: the item's attributes, else its premise.
    fn alone(&self, points: &[Point], style: usize) -> Vec<Vec<Part>> {
        let premise = points
            .iter()
            .find(|point| matches!(point.kind, PointKind::Premise(_)));
        if let Some(about) = self.about(style) {
            let patterns = if self.matter.has_history {
                p::UNRELATED
            } else {
                p::ALONE
            };
            let first = self.say(pick(patterns, style), None, Some(&about));
            let Some(premise) = premise else {
                return vec![first];
            };
            let patterns = match &premise.kind {
                PointKind::Premise(premise) if premise.form == Form::Verb => p::THEN_VERB,
                _ => p::THEN_CLAUSE,
            };
            let mut then = self.say(pick(patterns, style), Some(premise), None);
            then.push(Part::Text(".".to_owned()));
            return vec![first, then];
        }
        let Some(premise) = premise else { return Vec::new() };
        let verb = matches!(&premise.kind, PointKind::Premise(premise) if premise.form == Form::Verb);
        let patterns = match (self.matter.has_history, verb) {
            (true, true) => p::UNRELATED_VERB,
            (true, false) => p::UNRELATED_CLAUSE,
            (false, true) => p::PREMISE_VERB,
            (false, false) => p::PREMISE_CLAUSE,
        };
        vec![self.say(pick(patterns, style), Some(premise), None)]
    }

    /// "a crime film directed by Michael Mann", from what the item has.
    fn about(&self, style: usize) -> Option<Vec<Part>> {
        let facts = ItemFacts::of(self.matter.vocabulary, &self.matter.item.attributes);
        let usable: Vec<&&str> = p::ABOUT.iter().filter(|pattern| facts.can_say(pattern)).collect();
        // The best are first: style varies among those that say most.
        let pattern = usable.get(style % usable.len().clamp(1, 3))?;
        let parts = pieces(pattern).map(|piece| match piece {
            Piece::Text(text) => Part::Text(text.to_owned()),
            Piece::Hole(name) => match facts.value(name) {
                Some((attribute, value)) => self.mention(Target::Value {
                    attribute: attribute.to_owned(),
                    value: value.to_owned(),
                }),
                None if name == "l" => {
                    let attribute = facts
                        .value("o")
                        .map(|(attribute, _)| attribute.to_owned())
                        .unwrap_or_default();
                    self.mention(Target::Label { attribute })
                }
                None => self.mention(Target::Noun(self.matter.thing)),
            },
        });
        Some(parts.collect())
    }

    fn say(&self, pattern: &str, point: Option<&Point>, about: Option<&[Part]>) -> Vec<Part> {
        let mut parts = Vec::new();
        let thing = self.matter.thing;
        let history = point.map_or(&[][..], |point| &point.history);
        let many = history.len() > 1;
        for piece in pieces(pattern) {
            match piece {
                Piece::Text(text) => parts.push(Part::Text(text.to_owned())),
                Piece::Hole(name) => match name {
                    "i" => parts.push(self.mention(Target::Item)),
                    "h" => self.list(&mut parts, history.iter().cloned().map(Target::History)),
                    "hi" => {
                        self.list(
                            &mut parts,
                            history.iter().cloned().map(Target::History).chain([Target::Item]),
                        );
                    }
                    "ih" => {
                        self.list(
                            &mut parts,
                            [Target::Item]
                                .into_iter()
                                .chain(history.iter().cloned().map(Target::History)),
                        );
                    }
                    "thing" => parts.push(self.mention(Target::Noun(thing))),
                    "things" => parts.push(self.mention(Target::Nouns(thing))),
                    "tried" => parts.push(self.mention(Target::Tried(thing))),
                    "liked" if point.is_some_and(|point| !point.liked) => {
                        parts.push(self.mention(Target::Tried(thing)))
                    }
                    "liked" => parts.push(Part::Text("liked".to_owned())),
                    "was" => parts.push(Part::Text(if many { "were" } else { "was" }.to_owned())),
                    "both" => parts.push(Part::Text(if many { "all" } else { "both" }.to_owned())),
                    "h_again" => parts.push(Part::Text(if many { "them" } else { "it" }.to_owned())),
                    "about" => parts.extend(about.unwrap_or_default().iter().cloned()),
                    _ => parts.extend(point.and_then(|point| self.of_point(point, name))),
                },
            }
        }
        parts
    }

    fn of_point(&self, point: &Point, name: &str) -> Option<Part> {
        Some(match (&point.kind, name) {
            (PointKind::Shared { attribute, value, .. }, "v") => self.mention(Target::Value {
                attribute: attribute.clone(),
                value: value.clone(),
            }),
            (PointKind::Shared { attribute, .. }, "l") => self.mention(Target::Label {
                attribute: attribute.clone(),
            }),
            (PointKind::Premise(premise), "plot") => self.mention(Target::Plot(premise.clone())),
            _ => return None,
        })
    }

    fn list(&self, parts: &mut Vec<Part>, targets: impl Iterator<Item = Target>) {
        let targets: Vec<Target> = targets.collect();
        for (n, target) in targets.iter().enumerate() {
            if n > 0 {
                parts.push(Part::Text(
                    if n + 1 == targets.len() { "and" } else { "," }.to_owned(),
                ));
            }
            parts.push(self.mention(target.clone()));
        }
    }

    fn mention(&self, target: Target) -> Part {
        let surface = (self.surface)(&target);
        Part::Mention(target, surface)
    }
}

/// The first sayable value of each part an attribute can play in `{about}`.
#[derive(Debug, Default)]
struct ItemFacts<'a> {
    values: Vec<(&'static str, &'a str, &'a str)>,
}

impl<'a> ItemFacts<'a> {
    fn of(vocabulary: &Vocabulary, attributes: &'a Attributes) -> Self {
        let mut facts = Self::default();
        for (attribute, values) in attributes {
            let hole = match vocabulary.role(attribute) {
                Role::Director => "d",
                Role::Cast => "c",
                Role::Genre => "g",
                Role::Year => "y",
                Role::Author => "a",
                Role::Artist | Role::Maker => "m",
                Role::Series => "e",
                Role::Source => "s",
                Role::Place | Role::Other => "o",
                Role::Premise | Role::Hidden => continue,
            };
            let usable = |value: &&String| {
                sayable(value, VALUE_CHARS_MAX).is_some_and(|v| !crate::lexicon::is_common_phrase(&v))
                    && (hole != "y" || crate::relations::decade(value).is_some())
            };
            // The rarest genre says most.
            let value = if hole == "g" {
                values.iter().filter(usable).max_by(|a, b| {
                    vocabulary
                        .genre_rarity(a)
                        .total_cmp(&vocabulary.genre_rarity(b))
                        .then(std::cmp::Ordering::Greater)
                })
            } else {
                values.iter().find(usable)
            };
            if let Some(value) = value.filter(|_| !facts.values.iter().any(|(h, ..)| *h == hole)) {
                facts.values.push((hole, attribute, value));
            }
        }
        facts
    }

    fn value(&self, hole: &str) -> Option<(&'a str, &'a str)> {
        self.values
            .iter()
            .find(|(h, ..)| *h == hole)
            .map(|(_, attribute, value)| (*attribute, *value))
    }

    fn can_say(&self, pattern: &str) -> bool {
        pieces(pattern).all(|piece| match piece {
            Piece::Hole("thing" | "l") | Piece::Text(_) => true,
            Piece::Hole(name) => self.value(name).is_some(),
        })
    }
}

enum Piece<'p> {
    Text(&'p str),
    Hole(&'p str),
}

fn pieces(pattern: &str) -> impl Iterator<Item = Piece<'_>> {
    pattern.split('{').enumerate().flat_map(|(n, chunk)| {
        let (hole, text) = if n == 0 {
            (None, chunk)
        } else {
            chunk.split_once('}').map_or((None, chunk), |(h, t)| (Some(h), t))
        };
        hole.map(Piece::Hole)
            .into_iter()
            .chain((!text.is_empty()).then_some(Piece::Text(text)))
    })
}

/// The words that stand for a target: titles and values as the data have them, cleaned; known genres in lower case.
pub fn surface(
    target: &Target,
    item: &Item,
    title_of: &dyn Fn(&ItemId) -> Option<String>,
    vocabulary: &Vocabulary,
) -> String {
    match target {
        Target::Item => sayable(&item.title, TITLE_CHARS_MAX).unwrap_or_default(),
        Target::History(id) => title_of(id)
            .and_then(|title| sayable(&title, TITLE_CHARS_MAX))
            .unwrap_or_default(),
        Target::Value { attribute, value } => {
            let cleaned = crate::text::clean(value, VALUE_CHARS_MAX);
            if vocabulary.role(attribute) == Role::Genre && crate::lexicon::is_genre_phrase(&cleaned) {
                cleaned.to_lowercase()
            } else if crate::text::wants_article(&cleaned, vocabulary.role(attribute)) {
                format!("the {cleaned}")
            } else {
                cleaned
            }
        }
        Target::Plot(premise) => premise.clause.clone(),
        Target::Label { attribute } => label(attribute),
        Target::Noun(thing) => thing.noun().to_owned(),
        Target::Nouns(thing) => thing.nouns().to_owned(),
        Target::Tried(thing) => thing.tried().to_owned(),
    }
}

/// Every fixed word that a composed text can contain: what a closed vocabulary must hold.
pub fn all_patterns() -> impl Iterator<Item = &'static str> {
    [
        p::DIRECTOR,
        p::CAST,
        p::GENRE,
        p::CO_LIKED,
        p::SERIES,
        p::SOURCE,
        p::AUTHOR,
        p::MAKER,
        p::YEAR,
        p::OTHER,
        p::UNRELATED,
        p::ALONE,
        p::PREMISE_VERB,
        p::PREMISE_CLAUSE,
        p::UNRELATED_VERB,
        p::UNRELATED_CLAUSE,
        p::ABOUT,
        p::ALSO_DIRECTOR,
        p::ALSO_CAST,
        p::ALSO_GENRE,
        p::ALSO_CO_LIKED,
        p::ALSO_SERIES,
        p::ALSO_YEAR,
        p::ALSO_OTHER,
        p::SAME_DIRECTOR,
        p::SAME_CAST,
        p::SAME_GENRE,
        p::SAME_CO_LIKED,
        p::SAME_SERIES,
        p::SAME_YEAR,
        p::SAME_OTHER,
        p::BARE_DIRECTOR,
        p::BARE_CAST,
        p::BARE_GENRE,
        p::BARE_SERIES,
        p::BARE_YEAR,
        p::BARE_OTHER,
        p::THEN_VERB,
        p::THEN_CLAUSE,
    ]
    .into_iter()
    .flatten()
    .copied()
    .chain([", and were was all both them it liked ."])
}
