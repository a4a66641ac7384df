//! Entity slots: each history item, the item and each name, genre or span once, behind a token of its own.
//!
//! The model reads and writes slots; what a slot stands for is known exactly, so nothing can be misspelt and every slot in the
//! output is its own evidence. Equal entities share a slot, so that "the same director" is visible as the same token.

use std::sync::Arc;

use refract_domain::{Item, ItemId};
use refract_truth::text::fold;
use refract_truth::{Part, Role, Target, Thing, Vocabulary};

use crate::manifest::SlotLimits;

/// The token of a style number.
pub fn style_word(style: u32) -> String {
    format!("style{:02}", style % refract_truth::STYLES)
}

/// Every slot that a tokenizer with these limits holds.
pub fn all_slots(limits: &SlotLimits) -> Vec<String> {
    let mut slots = vec![
        "<item>".to_owned(),
        "<plot>".to_owned(),
        "<thing>".to_owned(),
        "<things>".to_owned(),
        "<tried>".to_owned(),
    ];
    for (letter, max) in [
        ('h', limits.history_max),
        ('p', limits.names_max),
        ('g', limits.genres_max),
        ('s', limits.spans_max),
        ('a', limits.labels_max),
    ] {
        slots.extend((1..=max).map(|n| format!("<{letter}{n}>")));
    }
    slots
}

/// The fixed words and punctuation of a sentence pattern, as the slot tokenizer cuts them.
pub(crate) fn tokens_of_pattern(pattern: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut inside = false;
    let mut word = String::new();
    for c in pattern.chars().chain([' ']) {
        match c {
            '{' => inside = true,
            '}' => inside = false,
            _ if inside => {}
            c if c.is_alphanumeric() => word.push(c),
            c => {
                if !word.is_empty() {
                    tokens.push(std::mem::take(&mut word));
                }
                if !c.is_whitespace() {
                    tokens.push(c.to_string());
                }
            }
        }
    }
    tokens
}

/// What the slots of one prompt stand for.
#[derive(Clone, Debug)]
pub struct SlotTable {
    entries: Vec<Entry>,
    limits: SlotLimits,
    vocabulary: Arc<Vocabulary>,
}

#[derive(Clone, Debug)]
struct Entry {
    slot: String,
    likeness: Likeness,
    target: Target,
    surface: String,
}

/// What must be equal for two targets to share a slot.
#[derive(Clone, Debug, PartialEq)]
enum Likeness {
    /// A name, a genre or a span, folded: whose attribute it is does not matter.
    Value(Sort, String),
    /// The spoken name of an attribute.
    Label(String),
    Plot,
    Itself(Target),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Sort {
    Name,
    Genre,
    Span,
}

impl SlotTable {
    /// A table with the item and the words that depend on what kind of thing it is.
    pub fn new(limits: SlotLimits, vocabulary: Arc<Vocabulary>, item: &Item, thing: Thing) -> Self {
        let mut table = Self {
            entries: Vec::new(),
            limits,
            vocabulary,
        };
        let title = refract_truth::text::clean(&item.title, refract_truth::text::TITLE_CHARS_MAX);
        table.insert("<item>".to_owned(), Target::Item, title);
        table.insert("<thing>".to_owned(), Target::Noun(thing), thing.noun().to_owned());
        table.insert(
            "<things>".to_owned(),
            Target::Nouns(thing),
            thing.nouns().to_owned(),
        );
        table.insert(
            "<tried>".to_owned(),
            Target::Tried(thing),
            thing.tried().to_owned(),
        );
        table
    }

    fn insert(&mut self, slot: String, target: Target, surface: String) {
        self.entries.push(Entry {
            slot,
            likeness: self.likeness(&target),
            target,
            surface,
        });
    }

    /// The slot of a target, given at first sight; `None` when its kind has no slot left.
    pub fn slot(&mut self, target: &Target, surface: &str) -> Option<String> {
        if let Some(slot) = self.find(target) {
            return Some(slot);
        }
        let (letter, max) = match target {
            Target::History(_) => ('h', self.limits.history_max),
            Target::Value { attribute, .. } => match self.sort(attribute) {
                Sort::Name => ('p', self.limits.names_max),
                Sort::Genre => ('g', self.limits.genres_max),
                Sort::Span => ('s', self.limits.spans_max),
            },
            Target::Label { .. } => ('a', self.limits.labels_max),
            Target::Plot(_) => {
                self.insert("<plot>".to_owned(), target.clone(), surface.to_owned());
                return Some("<plot>".to_owned());
            }
            Target::Item | Target::Noun(_) | Target::Nouns(_) | Target::Tried(_) => return None,
        };
        let used = self
            .entries
            .iter()
            .filter_map(|entry| entry.slot.strip_prefix('<')?.strip_prefix(letter))
            .filter(|number| number.starts_with(|c: char| c.is_ascii_digit()))
            .count();
        if used >= max {
            return None;
        }
        let slot = format!("<{letter}{}>", used + 1);
        self.insert(slot.clone(), target.clone(), surface.to_owned());
        Some(slot)
    }

    /// The slot that a target has already.
    pub fn find(&self, target: &Target) -> Option<String> {
        let likeness = self.likeness(target);
        let entry = self.entries.iter().find(|entry| entry.likeness == likeness);
        entry.map(|entry| entry.slot.clone())
    }

    fn likeness(&self, target: &Target) -> Likeness {
        match target {
            Target::Value { attribute, value } => Likeness::Value(self.sort(attribute), fold(value)),
            Target::Label { attribute } => Likeness::Label(refract_truth::vocabulary::label(attribute)),
            Target::Plot(_) => Likeness::Plot,
            other => Likeness::Itself(other.clone()),
        }
    }

    fn sort(&self, attribute: &str) -> Sort {
        match self.vocabulary.role(attribute) {
            role if role.is_name() => Sort::Name,
            Role::Genre => Sort::Genre,
            _ => Sort::Span,
        }
    }

    /// What a slot stands for.
    pub fn part(&self, slot: &str) -> Option<Part> {
        self.entries
            .iter()
            .find(|e| e.slot == slot)
            .map(|e| Part::Mention(e.target.clone(), e.surface.clone()))
    }

    pub(crate) fn defines(&self, slot: &str) -> bool {
        self.entries.iter().any(|entry| entry.slot == slot)
    }

    /// History items with a slot, in the order of their slots.
    pub fn history(&self) -> impl Iterator<Item = &ItemId> {
        self.entries.iter().filter_map(|entry| match &entry.target {
            Target::History(id) => Some(id),
            _ => None,
        })
    }

    /// A composed text with slots for its mentions, one sentence after the other; `None` if a mention has no slot.
    pub fn slotted(&self, sentences: &[Vec<Part>]) -> Option<String> {
        let mut out = String::new();
        for part in sentences.iter().flatten() {
            if !out.is_empty() {
                out.push(' ');
            }
            match part {
                Part::Text(text) => out.push_str(&tokens_of_pattern(text).join(" ")),
                Part::Mention(target, _) => out.push_str(&self.find(target)?),
            }
        }
        Some(out.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// A model's text as parts: slots become mentions. The undefined slots are listed: each is an alarm.
    pub fn parts(&self, text: &str) -> (Vec<Part>, Vec<String>) {
        let mut parts = Vec::new();
        let mut undefined = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find('<') {
            if start > 0 {
                parts.push(Part::Text(rest[..start].to_owned()));
            }
            let end = rest[start..].find('>').map_or(rest.len(), |end| start + end + 1);
            let slot = &rest[start..end];
            match self.part(slot) {
                Some(part) => parts.push(part),
                None => undefined.push(slot.to_owned()),
            }
            rest = &rest[end..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        (parts, undefined)
    }
}
