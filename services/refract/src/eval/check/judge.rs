//! Judging points one by one: who is named, what is said of whom, and whether that holds.

use refract_domain::Signal;

use super::Fault;
use super::cues::{CONTRAST, GROUP, ITEM_PRONOUNS, OPINION, OTHERS, TALK, named_as, role_cue, spoken_family};
use crate::eval::lexicon::{Family, Lexicon};
use crate::eval::read::{Meaning, Mention, Point, Reading, Sentence, contains_word};
use crate::eval::scene::{Place, Scene};

/// Goes through a text's points in order, for some refer to what was named before.
pub(super) struct Judge<'a> {
    scene: &'a Scene,
    lexicon: &'a Lexicon,
    pub(super) faults: Vec<Fault>,
    /// History places named so far.
    pub(super) named: Vec<Place>,
    /// Those of the last point that named any: what "the same director" refers to.
    last: Vec<Place>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(scene: &'a Scene, lexicon: &'a Lexicon) -> Self {
        Self {
            scene,
            lexicon,
            faults: Vec::new(),
            named: Vec::new(),
            last: Vec::new(),
        }
    }

    pub(super) fn sentence(&mut self, sentence: &Sentence, reading: &Reading<'_>) {
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
            // "They share their director": of those that were named before.
            if let Some(family) = spoken_family(point).filter(|_| own.is_empty() && values.is_empty()) {
                for place in history
                    .iter()
                    .filter(|place| !self.scene.shares(**place, Some(family)))
                {
                    self.faults.push(Fault::Untied(self.title(*place)));
                }
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
            if let Some(family) = named_as(point, mention) {
                for place in holders
                    .iter()
                    .copied()
                    .filter(|place| !scene.holds(*place, value, Some(family)))
                {
                    self.faults.push(Fault::WrongRole {
                        value: value.to_owned(),
                        title: self.title(place),
                    });
                }
            } else if let Some(family) = role_cue(point, mention) {
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
