//! The fallback explanation: one or two sentences by rule, from the best relations, when no Prism answers.

use refract_domain::{
    Claim, Explanation, FinishReason, Grounding, History, ItemId, Pair, Revision, Rung, StageTimings,
    TokenUsage,
};

use crate::choose::choose;
use crate::gate::Gate;
use crate::phrase::{self, Matter, Point, PointKind};
use crate::relations::{Kind, Limits, Relation, relations_within};
use crate::render::{Part, Target, render};
use crate::text::{TITLE_CHARS_MAX, sayable};
use crate::vocabulary::{Thing, Vocabulary};

/// Names the rules and the sentences; counts up whenever either changes.
pub const TEMPLATE_REVISION: &str = "rules-2";

/// Says by rule why the item fits the history; `None` when nothing true can be said.
///
/// The same request and style give the same text. Without a link the text says what the item is and that it is a change of
/// pace (or, without a history, a place to start); it never invents one.
pub fn template(pair: &Pair, history: &History, style: u32) -> Option<Explanation> {
    template_within(Vocabulary::standard(), pair, history, style)
}

/// [`template`] with a deployment's vocabulary.
pub fn template_within(
    vocabulary: &Vocabulary,
    pair: &Pair,
    history: &History,
    style: u32,
) -> Option<Explanation> {
    sayable(&pair.item.title, TITLE_CHARS_MAX)?;
    let limits = Limits {
        history_items_max: 2,
        ..Limits::default()
    };
    let relations = relations_within(vocabulary, &limits, pair, history);
    let listed: Vec<&Relation> = relations.iter().collect();
    let points: Vec<Point> = choose(&listed, 2)
        .into_iter()
        .map(|n| point_of(listed[n]))
        .collect();
    let gate = Gate::new(vocabulary, pair, history, None);
    // Should a text not pass (odd data that make it ambiguous), a simpler one may.
    let links: Vec<Point> = points
        .iter()
        .filter(|p| !p.history.is_empty())
        .take(1)
        .cloned()
        .collect();
    [points, links, Vec::new()]
        .iter()
        .find_map(|points| written(vocabulary, &gate, pair, history, points, style))
}

/// A relation as a point of a text.
pub fn point_of(relation: &Relation) -> Point {
    let kind = match &relation.kind {
        Kind::Shared {
            role,
            attribute,
            value,
        } => PointKind::Shared {
            role: *role,
            attribute: attribute.clone(),
            value: value.clone(),
        },
        Kind::CoLiked { .. } => PointKind::CoLiked,
        Kind::Premise(premise) => PointKind::Premise(premise.clone()),
    };
    Point {
        kind,
        history: relation.history.iter().map(|item| item.id.clone()).collect(),
        liked: relation.liked,
    }
}

fn written(
    vocabulary: &Vocabulary,
    gate: &Gate,
    pair: &Pair,
    history: &History,
    points: &[Point],
    style: u32,
) -> Option<Explanation> {
    let thing = match vocabulary.read(&pair.item).thing() {
        Thing::Title => history
            .liked()
            .map(|i| vocabulary.read(&i.item).thing())
            .find(|t| *t != Thing::Title)
            .unwrap_or(Thing::Title),
        thing => thing,
    };
    let matter = Matter {
        item: &pair.item,
        thing,
        has_history: !history.is_empty(),
        vocabulary,
    };
    let title_of = |id: &ItemId| history.find(id).map(|i| i.item.title.clone());
    let surface = |target: &Target| phrase::surface(target, &pair.item, &title_of, vocabulary);
    let sentences = phrase::compose(&matter, points, style, &surface);
    let mut gate = gate.clone();
    let mut text = String::new();
    let mut claims: Vec<Claim> = Vec::new();
    for parts in &sentences {
        let rendered = render(parts);
        let Ok(found) = gate.check(&rendered.text, &rendered.mentions) else {
            break;
        };
        if !text.is_empty() {
            text.push(' ');
        }
        let offset = text.len();
        text.push_str(&rendered.text);
        claims.extend(found.into_iter().map(|c| Claim {
            span: c.span.start + offset..c.span.end + offset,
            evidence: c.evidence,
        }));
    }
    let names_item = sentences
        .first()
        .is_some_and(|parts| parts.iter().any(|p| matches!(p, Part::Mention(Target::Item, _))));
    (!text.is_empty() && names_item).then(|| explanation(text, claims))
}

fn explanation(text: String, claims: Vec<Claim>) -> Explanation {
    Explanation {
        text,
        grounding: Grounding {
            rung: Rung::Template,
            claims,
            descents: Vec::new(),
            knowledge_age: None,
            sentences_refused: 0,
        },
        finish: FinishReason::Rule,
        tokens: TokenUsage::default(),
        prism_revision: Revision::default(),
        template_revision: Revision(TEMPLATE_REVISION.to_owned()),
        history_truncated: 0,
        timings: StageTimings::default(),
    }
}
