//! Faults of a text, found by a reading of its own: nothing here asks the truth gate.

use refract_domain::Signal;

use super::lexicon::{Family, Lexicon};
use super::read::{Meaning, Mention, Point, Reading, Sentence, contains_word, find_words, read};
use super::scene::{Place, Scene};

/// Something a text says that the request or the data do not bear out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// A title of the catalogue that is neither the item nor in the history.
    ForeignTitle(String),
    /// A history item that the user disliked, named as a reason.
    Disliked(String),
    /// "You liked" of an item whose opinion nobody knows.
    OpinionUnknown(String),
    /// A name of the catalogue that nothing in the request has.
    ForeignValue(String),
    /// A value that the title it is tied to does not have.
    WrongHolder {
        value: String,
        title: String,
    },
    /// A name in a part that it does not play in that title.
    WrongRole {
        value: String,
        title: String,
    },
    /// A history item that the text ties to the item by nothing that holds.
    Untied(String),
    /// Others' behaviour that the data do not show.
    NotCoLiked(String),
    /// "A change of pace" of an item that shares a name with what the user liked.
    FalseContrast(String),
    /// A clause about the item that its description does not hold.
    UnsupportedClause(String),
    UndefinedSlot(String),
    UntraceableWord(String),
    UntraceableNumber(String),
}

/// What kind of fault, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Class {
    Title,
    Opinion,
    Attribute,
    Evidence,
    Slot,
    Untraceable,
}

impl Fault {
    /// The classes that a fault counts in: a value tied to the wrong title is both a wrong attribute and wrong evidence.
    pub(crate) fn classes(&self) -> &'static [Class] {
        match self {
            Self::ForeignTitle(_) => &[Class::Title],
            Self::Disliked(_) => &[Class::Title, Class::Opinion],
            Self::OpinionUnknown(_) => &[Class::Opinion],
            Self::ForeignValue(_) => &[Class::Attribute],
            Self::WrongHolder { .. } | Self::WrongRole { .. } => &[Class::Attribute, Class::Evidence],
            Self::Untied(_) | Self::NotCoLiked(_) | Self::FalseContrast(_) | Self::UnsupportedClause(_) => {
                &[Class::Evidence]
            }
            Self::UndefinedSlot(_) => &[Class::Slot],
            Self::UntraceableWord(_) | Self::UntraceableNumber(_) => &[Class::Untraceable],
        }
    }
}

/// What was found in one text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) faults: Vec<Fault>,
    /// The item's title stands in the text, letter by letter.
    pub(crate) names_item: bool,
    /// History titles named.
    pub(crate) history_titles: usize,
    /// The text with its titles and values taken out: how it is worded, whoever it is about.
    pub(crate) wording: String,
}

impl Verdict {
    pub(crate) fn has(&self, class: Class) -> bool {
        self.faults.iter().any(|fault| fault.classes().contains(&class))
    }
}

const OPINION: &[&str] = &[
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
const OTHERS: &[&str] = &[
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
const CONTRAST: &[&str] = &[
    "change of pace",
    "something different",
    "new ground",
    "steps away",
    "away from your usual",
    "something else for once",
    "something new",
    "a change from",
];
const ITEM_PRONOUNS: &[&str] = &["it", "its", "this", "this one", "itself"];
const GROUP: &[&str] = &["they", "them", "both", "all", "each"];
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

/// Reads `text` as an answer to the request and tells what is wrong with it.
pub(crate) fn check(lexicon: &Lexicon, scene: &Scene, text: &str) -> Verdict {
    let reading = read(lexicon, scene, text);
    let mut judge = Judge {
        scene,
        lexicon,
        faults: Vec::new(),
        named: Vec::new(),
        last: Vec::new(),
    };
    for sentence in &reading.sentences {
        judge.sentence(sentence, &reading);
    }
    let mut faults = judge.faults;
    faults.extend(reading.slots.iter().cloned().map(Fault::UndefinedSlot));
    faults.extend(
        reading
            .untraceable_words
            .iter()
            .cloned()
            .map(Fault::UntraceableWord),
    );
    faults.extend(
        reading
            .untraceable_numbers
            .iter()
            .cloned()
            .map(Fault::UntraceableNumber),
    );
    let mut distinct = Vec::new();
    for fault in faults {
        if !distinct.contains(&fault) {
            distinct.push(fault);
        }
    }
    let title = &scene.subject(0).title;
    Verdict {
        faults: distinct,
        names_item: contains_word(text, title),
        history_titles: judge.named.len(),
        wording: reading.wording(),
    }
}

struct Judge<'a> {
    scene: &'a Scene,
    lexicon: &'a Lexicon,
    faults: Vec<Fault>,
    /// History places named so far.
    named: Vec<Place>,
    /// Those of the last point that named any: what "the same director" refers to.
    last: Vec<Place>,
}

impl Judge<'_> {
    fn sentence(&mut self, sentence: &Sentence, reading: &Reading<'_>) {
        for point in &sentence.points {
            self.foreign(point);
            self.opinions(point);
            self.point(point, reading);
            let history: Vec<Place> = self
                .titles(point)
                .into_iter()
                .filter(|place| *place != 0)
                .collect();
            for place in &history {
                if !self.named.contains(place) {
                    self.named.push(*place);
                }
            }
            if !history.is_empty() {
                self.last = history;
            }
        }
    }

    fn title(&self, place: Place) -> String {
        self.scene.subject(place).title.clone()
    }

    /// Places named, in order, each once. Of several items with one title, the one that fits what is said.
    fn titles(&self, point: &Point) -> Vec<Place> {
        let scene = self.scene;
        let fits = |place: &Place| {
            let held = point
                .values()
                .filter(|m| scene.holds(*place, &m.surface, None))
                .count();
            (
                *place == 0,
                held,
                scene.is_co_liked(*place),
                scene.subject(*place).signal == Some(Signal::Liked),
            )
        };
        let mut named = Vec::new();
        for mention in &point.mentions {
            let Meaning::Title(places) = &mention.meaning else {
                continue;
            };
            if let Some(place) = places
                .iter()
                .copied()
                .max_by_key(fits)
                .filter(|place| !named.contains(place))
            {
                named.push(place);
            }
        }
        named
    }

    fn foreign(&mut self, point: &Point) {
        for mention in &point.mentions {
            if mention.meaning == Meaning::ForeignTitle {
                self.faults.push(Fault::ForeignTitle(mention.surface.clone()));
            }
        }
    }

    /// Opinions are judged between semicolons: "You liked A; B is like C, which you watched."
    fn opinions(&mut self, point: &Point) {
        let mut start = point.span.start;
        for piece in point.cues.split(';') {
            let span = start..start + piece.len();
            start = span.end + 1;
            let opinion = OPINION.iter().any(|cue| contains_word(piece, cue));
            let inside = point
                .mentions
                .iter()
                .filter(|m| span.start <= m.span.start && m.span.end <= span.end);
            for mention in inside {
                let Meaning::Title(places) = &mention.meaning else {
                    continue;
                };
                if places.contains(&0) {
                    continue;
                }
                let signals: Vec<Option<Signal>> = places
                    .iter()
                    .map(|place| self.scene.subject(*place).signal)
                    .collect();
                if signals.iter().all(|s| *s == Some(Signal::Disliked)) {
                    self.faults.push(Fault::Disliked(mention.surface.clone()));
                } else if opinion && !signals.contains(&Some(Signal::Liked)) {
                    self.faults.push(Fault::OpinionUnknown(mention.surface.clone()));
                }
            }
        }
    }

    fn point(&mut self, point: &Point, reading: &Reading<'_>) {
        let titles = self.titles(point);
        let own: Vec<Place> = titles.iter().copied().filter(|place| *place != 0).collect();
        let group = own.is_empty() && point.has_cue(GROUP);
        let same = point.has_cue(&["same"]);
        let history: Vec<Place> = match () {
            () if !own.is_empty() => own.clone(),
            () if group => self.named.clone(),
            () if same || point.has_cue(OTHERS) => self.last.clone(),
            () => Vec::new(),
        };
        let of_item = titles.contains(&0) || group || titles.is_empty() || point.has_cue(ITEM_PRONOUNS);
        let mut holders: Vec<Place> = history.clone();
        if of_item {
            holders.push(0);
        }
        let values: Vec<&Mention> = point.values().collect();
        self.values(point, &values, &holders);

        let others = point.has_cue(OTHERS);
        if others {
            for place in &history {
                if !self.scene.is_co_liked(*place) {
                    self.faults.push(Fault::NotCoLiked(self.title(*place)));
                }
            }
            if history.is_empty() {
                self.faults.push(Fault::NotCoLiked(
                    reading.text[point.span.clone()].trim().to_owned(),
                ));
            }
        }
        if point.has_cue(CONTRAST) {
            self.contrast();
        } else if of_item && !others {
            for place in &own {
                self.tie(point, *place, &values);
            }
        }
        let says_nothing_else =
            values.is_empty() && own.is_empty() && !others && !same && !group && !point.has_cue(CONTRAST);
        if says_nothing_else && of_item {
            self.clause(point, reading);
        }
    }

    /// Every value must be true of what it is said of. One value in a point is said of all that the point names; of several, each
    /// must hold for somebody named.
    fn values(&mut self, point: &Point, values: &[&Mention], holders: &[Place]) {
        let scene = self.scene;
        let mut distinct: Vec<&str> = values.iter().map(|m| m.surface.as_str()).collect();
        distinct.sort_unstable();
        distinct.dedup();
        for mention in values {
            let value = mention.surface.as_str();
            if !scene.anyone_holds(value) {
                self.faults.push(Fault::ForeignValue(value.to_owned()));
                continue;
            }
            if let Some(place) = self.bracketed(point, mention) {
                if !scene.holds(place, value, None) {
                    self.faults.push(Fault::WrongHolder {
                        value: value.to_owned(),
                        title: self.title(place),
                    });
                }
                continue;
            }
            let failing: Vec<Place> = holders
                .iter()
                .copied()
                .filter(|place| !scene.holds(*place, value, None))
                .collect();
            if distinct.len() == 1 {
                for place in &failing {
                    self.faults.push(Fault::WrongHolder {
                        value: value.to_owned(),
                        title: self.title(*place),
                    });
                }
            } else if failing.len() == holders.len() {
                let title = holders
                    .first()
                    .map(|place| self.title(*place))
                    .unwrap_or_default();
                self.faults.push(Fault::WrongHolder {
                    value: value.to_owned(),
                    title,
                });
            }
            if let Some(family) = role_cue(point, mention) {
                let plays_any = |place: Place| {
                    [Family::Director, Family::Cast, Family::Author]
                        .iter()
                        .any(|f| scene.holds(place, value, Some(*f)))
                };
                for place in holders.iter().copied().filter(|place| plays_any(*place)) {
                    if !scene.holds(place, value, Some(family)) {
                        self.faults.push(Fault::WrongRole {
                            value: value.to_owned(),
                            title: self.title(place),
                        });
                    }
                }
            }
        }
    }

    /// "Heat (1995)": the title that a year in brackets belongs to.
    fn bracketed(&self, point: &Point, value: &Mention) -> Option<Place> {
        let before = point
            .mentions
            .iter()
            .rfind(|m| m.span.end + 2 == value.span.start)?;
        let gap = &point.cues[before.span.end - point.span.start..value.span.start - point.span.start];
        match &before.meaning {
            Meaning::Title(places) if gap == " (" => places
                .iter()
                .copied()
                .find(|p| self.scene.holds(*p, &value.surface, None))
                .or(places.first().copied()),
            _ => None,
        }
    }

    /// A history item named beside the item must be tied to it: by a value that is said and that both have, by a value of the part
    /// that is spoken of, else by anything at all.
    fn tie(&mut self, point: &Point, place: Place, values: &[&Mention]) {
        let scene = self.scene;
        let by_value = values
            .iter()
            .any(|m| scene.holds(0, &m.surface, None) && scene.holds(place, &m.surface, None));
        let family = if values.is_empty() {
            spoken_family(point)
        } else {
            None
        };
        let tied = match family {
            Some(family) => scene.shares(place, Some(family)),
            None if values.is_empty() => scene.shares(place, None) || scene.is_co_liked(place),
            None => by_value,
        };
        // What a single value does not hold for has been reported as that.
        let reported = !values.is_empty() && values.iter().all(|m| m.surface == values[0].surface);
        if !tied && !reported {
            self.faults.push(Fault::Untied(self.title(place)));
        }
    }

    fn contrast(&mut self) {
        let scene = self.scene;
        let close = [Family::Director, Family::Cast, Family::Author, Family::Series];
        for (place, subject) in scene.subjects().iter().enumerate().skip(1) {
            if subject.signal == Some(Signal::Liked)
                && close.iter().any(|family| scene.shares(place, Some(*family)))
            {
                self.faults.push(Fault::FalseContrast(subject.title.clone()));
                return;
            }
        }
    }

    /// A clause that names nothing must be the item's own description, word for word or at least in most of its words.
    fn clause(&mut self, point: &Point, reading: &Reading<'_>) {
        let told: Vec<&String> = point
            .content
            .iter()
            .filter(|w| !TALK.contains(&w.as_str()))
            .collect();
        let supported = told.iter().filter(|w| self.scene.is_traceable(w)).count();
        if told.len() >= 2 && supported * 2 < told.len() && !self.lexicon.plain.is_grammar(told[0]) {
            self.faults.push(Fault::UnsupportedClause(
                reading.text[point.span.clone()].trim().to_owned(),
            ));
        }
    }
}

/// Words in which one speaks about a recommendation, not about its story.
const TALK: &[&str] = &[
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
fn role_cue(point: &Point, mention: &Mention) -> Option<Family> {
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

/// What "the same …" is the same of, where no value is said.
fn spoken_family(point: &Point) -> Option<Family> {
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
