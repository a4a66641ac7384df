//! Who is meant where nobody is named: "you liked him in Heat" is said of whoever was named last, and must hold for them.

use super::Gate;
use super::cues::Cue;
use super::known::Need;
use super::refusal::Refusal;
use super::token::{Kind, Token};
use crate::vocabulary::Role;

/// Words for a person.
const PERSON: &[&str] = &[
    "he", "him", "his", "himself", "he'd", "he'll", "she", "her", "hers", "herself", "she'd", "she'll",
];
/// Such words behind "the" and "that".
const SOMEBODY: &[&str] = &["man", "woman", "performer", "person"];
/// Words for people, and for films as well.
const THEY: &[&str] = &["they", "them", "they're"];
/// Words that stand for all who were named, at the beginning of a statement.
const ALL_OF_THEM: &[&str] = &["both", "each", "all", "two", "three", "pair", "duo", "trio"];
/// Words for a person by what they do, behind "the" and "that".
const BY_TRADE: &[(&str, Role)] = &[
    ("actor", Role::Cast),
    ("actors", Role::Cast),
    ("actress", Role::Cast),
    ("star", Role::Cast),
    ("stars", Role::Cast),
    ("filmmaker", Role::Director),
];

impl Gate {
    /// The people whom these tokens name, folded.
    pub(super) fn people_in(&self, tokens: &[Token]) -> Vec<String> {
        let is_person = |value: &String| {
            let mut held = self.known.subjects.iter().flat_map(|s| &s.values);
            held.any(|h| h.folded == *value && h.role.is_name() && h.role != Role::Maker)
        };
        tokens
            .iter()
            .filter_map(|token| match &token.kind {
                Kind::Found(found) if found.reads_as_value() => found.values.iter().find(|v| is_person(v)),
                _ => None,
            })
            .cloned()
            .collect()
    }

    /// What a statement says of somebody by a pronoun must hold for whoever is meant: named in front of it, here or before. Who
    /// was named by nobody has no part in any title.
    pub(super) fn people_meant(
        &self,
        tokens: &[Token],
        cues: &[(usize, Cue)],
        needs: &[(usize, Need)],
        own: &[usize],
        named_before: &[String],
        others: bool,
    ) -> Result<(), Refusal> {
        let open: Vec<Need> = cues
            .iter()
            .filter_map(|(_, cue)| match cue {
                Cue::Role(role, _) if role.is_name() => Some(Need::Role(*role)),
                _ => None,
            })
            .filter(|wanted| !needs.iter().any(|(_, need)| need == wanted))
            .collect();
        let Some((at, meant)) = meant(tokens) else {
            return Ok(());
        };
        let certain = matches!(meant, Meant::Somebody);
        // "Where people liked Heat, they …": those are nobody's stars.
        if !certain && (others || own.is_empty()) {
            return Ok(());
        }
        let (in_front, here) = (self.people_in(&tokens[..at]), self.people_in(tokens));
        let mut who = match (in_front.is_empty(), named_before.is_empty()) {
            (false, _) => in_front,
            (true, false) => named_before.to_vec(),
            (true, true) => here,
        };
        if let Meant::ByTrade(role) = meant {
            who.retain(|person| !self.known.holds(0, person, &Need::Role(role)).is_empty());
        }
        if who.is_empty() {
            let says_something = !own.is_empty() || !open.is_empty();
            return if certain && says_something {
                Err(Refusal::WrongRelation)
            } else {
                Ok(())
            };
        }
        let has =
            |subject: usize, person: &str, need: &Need| !self.known.holds(subject, person, need).is_empty();
        let everywhere = |need: &Need| own.iter().all(|title| who.iter().all(|p| has(*title, p, need)));
        if !everywhere(&Need::Any) {
            return Err(Refusal::WrongRelation);
        }
        if !certain {
            return Ok(());
        }
        let plays = |need: &Need| match own {
            [] => who.iter().all(|person| has(0, person, need)),
            _ => everywhere(need),
        };
        if open.iter().all(plays) {
            Ok(())
        } else {
            Err(Refusal::WrongRole)
        }
    }
}

enum Meant {
    Somebody,
    /// Whoever does that in the recommended item, if one of them was named.
    ByTrade(Role),
    /// The people named last, or films.
    All,
}

/// The first word of a statement that stands for people, and how.
fn meant(tokens: &[Token]) -> Option<(usize, Meant)> {
    let word = |n: usize| tokens.get(n).and_then(Token::word).map(|w| w.folded.as_str());
    let is = |n: Option<usize>, list: &[&str]| n.and_then(word).is_some_and(|w| list.contains(&w));
    let opening =
        (0..tokens.len()).find(|n| !is(Some(*n), &["and", "but", "while", "yet", "so", "the", "these"]));
    (0..tokens.len()).find_map(|n| {
        let this = word(n)?;
        if PERSON.contains(&this) {
            return Some((n, Meant::Somebody));
        }
        if THEY.contains(&this) {
            return Some((n, Meant::All));
        }
        // "Both Heat and Collateral …" says of what.
        let of_titles = matches!(tokens.get(n + 1).map(|t| &t.kind), Some(Kind::Found(_)));
        if opening == Some(n) && ALL_OF_THEM.contains(&this) && !of_titles {
            return Some((n, Meant::All));
        }
        let trade = BY_TRADE.iter().find(|(name, _)| *name == this);
        let pointed = is(n.checked_sub(1), &["the", "that", "this", "those", "these"]);
        if pointed && SOMEBODY.contains(&this) {
            return Some((n, Meant::Somebody));
        }
        let of_another = is(Some(n + 1), &["of"]) || of_titles;
        trade
            .filter(|_| pointed && !of_another)
            .map(|(_, role)| (n, Meant::ByTrade(*role)))
    })
}
