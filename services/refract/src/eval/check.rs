//! Faults of a text, found by a reading of its own: nothing here asks the truth gate.

mod cues;
mod judge;

use super::lexicon::Lexicon;
use super::read::{Reading, contains_word, read};
use super::scene::Scene;
use judge::Judge;

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
    /// It names a person or series that the item shares with something the user liked.
    pub(crate) says_name_in_common: bool,
    /// The text with its titles and values taken out: how it is worded, whoever it is about.
    pub(crate) wording: String,
}

impl Verdict {
    pub(crate) fn has(&self, class: Class) -> bool {
        self.faults.iter().any(|fault| fault.classes().contains(&class))
    }
}

/// Reads `text` as an answer to the request and tells what is wrong with it.
pub(crate) fn check(lexicon: &Lexicon, scene: &Scene, text: &str) -> Verdict {
    let reading = read(lexicon, scene, text);
    let mut judge = Judge::new(scene, lexicon);
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
        says_name_in_common: values(&reading).any(|value| scene.is_name_in_common(value)),
        wording: reading.wording(),
    }
}

fn values<'r>(reading: &'r Reading<'_>) -> impl Iterator<Item = &'r str> {
    let points = reading.sentences.iter().flat_map(|sentence| &sentence.points);
    points
        .flat_map(|point| point.values())
        .map(|mention| mention.surface.as_str())
}
