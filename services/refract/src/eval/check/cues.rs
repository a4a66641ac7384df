//! Words that tell what a statement is about: opinions, others' behaviour, contrasts, parts that names play.

use crate::eval::lexicon::Family;
use crate::eval::read::{Mention, Point, find_words};

pub(super) const OPINION: &[&str] = &[
    "you liked",
    "you enjoyed",
    "you loved",
    "you admired",
    "having liked",
    "having enjoyed",
    "having loved",
    "your favourite",
    "your favorite",
];
pub(super) const OTHERS: &[&str] = &[
    "people",
    "those who",
    "others who",
    "others often",
    "other people",
    "often liked",
    "liked together",
    "like them together",
    "go together",
    "same people",
    "often like",
    "often enjoyed",
    "often appeals",
    "among the likes",
    "as others",
];
pub(super) const CONTRAST: &[&str] = &[
    "change of pace",
    "something different",
    "new ground",
    "steps away",
    "away from your usual",
    "something else for once",
    "something new",
    "a change from",
];
pub(super) const ITEM_PRONOUNS: &[&str] = &["it", "its", "this", "this one", "itself"];
pub(super) const GROUP: &[&str] = &["they", "them", "both", "all", "each"];
const DIRECTOR: &[&str] = &["directed", "director", "directs", "directing", "filmmaker"];
const CAST: &[&str] = &[
    "star",
    "stars",
    "starring",
    "starred",
    "cast",
    "appears",
    "appeared",
    "appear",
    "appearing",
    "actor",
    "actress",
];
const AUTHOR: &[&str] = &["written", "wrote", "writes", "author", "novelist"];

/// Words in which one speaks about a recommendation, not about its story.
pub(super) const TALK: &[&str] = &[
    "about",
    "premise",
    "story",
    "film",
    "films",
    "movie",
    "title",
    "place",
    "book",
    "follows",
    "begins",
    "suggestion",
    "recommendation",
    "suit",
    "suits",
    "choice",
    "watch",
    "worth",
    "next",
    "pick",
    "starts",
    "plot",
];

/// The part that a name plays, by the nearest word that speaks of one.
pub(super) fn role_cue(point: &Point, mention: &Mention) -> Option<Family> {
    let at = mention.span.start - point.span.start..mention.span.end - point.span.start;
    let families = [
        (Family::Director, DIRECTOR),
        (Family::Cast, CAST),
        (Family::Author, AUTHOR),
    ];
    let mut best: Option<(usize, Family)> = None;
    for (family, cues) in families {
        for cue in cues {
            for found in find_words(&point.cues, cue) {
                let distance = if found >= at.end {
                    found - at.end
                } else {
                    at.start.saturating_sub(found + cue.len())
                };
                if best.is_none_or(|(nearest, _)| distance < nearest) {
                    best = Some((distance, family));
                }
            }
        }
    }
    best.map(|(_, family)| family)
}

/// The part that a value is given outright: "their director, X", "X as its director".
pub(super) fn named_as(point: &Point, mention: &Mention) -> Option<Family> {
    let at = mention.span.start - point.span.start..mention.span.end - point.span.start;
    let (before, after) = (&point.cues[..at.start], &point.cues[at.end..]);
    let given = |cue: &str| {
        let ends = ["", ","].iter().any(|mark| {
            before
                .strip_suffix(' ')
                .is_some_and(|b| b.ends_with(&format!("{cue}{mark}")))
        });
        let follows = [" as ", " as its ", " as their "]
            .iter()
            .any(|link| after.strip_prefix(link).is_some_and(|rest| rest.starts_with(cue)));
        ends || follows
    };
    match () {
        () if given("director") => Some(Family::Director),
        () if given("author") => Some(Family::Author),
        () => None,
    }
}

/// What "the same …" is the same of, where no value is said.
pub(super) fn spoken_family(point: &Point) -> Option<Family> {
    let families: [(Family, &[&str]); 6] = [
        (Family::Director, DIRECTOR),
        (Family::Cast, CAST),
        (Family::Author, AUTHOR),
        (Family::Series, &["series", "franchise", "saga"]),
        (Family::Source, &["source", "based on"]),
        (Family::Year, &["decade", "year"]),
    ];
    families
        .into_iter()
        .find(|(_, cues)| point.has_cue(cues))
        .map(|(family, _)| family)
}
