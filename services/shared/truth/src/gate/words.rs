//! Single words: denials, promises, distinctions, genres and numbers that the data must hold.

use refract_domain::Evidence;

use super::Gate;
use super::cues::{Cue, Side};
use super::judge::Evidences;
use super::refusal::Refusal;
use super::roles::cue_at;
use super::token::{Kind, Sentence, Token};
use crate::lexicon::{genres, is_common};
use crate::text::{Word, words};

/// More of others than a lift can say.
const UNMEASURED: &[&[&str]] = &[
    &["everyone"],
    &["everybody"],
    &["anyone", "who"],
    &["all", "who"],
    &["all", "people"],
    &["all", "viewers"],
    &["all", "fans"],
    &["all", "of", "those"],
    &["all", "those"],
    &["every", "fan"],
    &["every", "viewer"],
    &["most", "people"],
    &["most", "viewers"],
    &["most", "fans"],
    &["most", "of", "those"],
    &["half", "of"],
    &["half", "the"],
    &["one", "in"],
    &["quarter"],
    &["quarters"],
    &["third", "of"],
    &["thirds"],
    &["percent"],
    &["majority"],
    &["always", "like"],
    &["always", "liked"],
];

fn begins(words: &[&Word], phrase: &[&str]) -> bool {
    phrase.len() <= words.len() && phrase.iter().zip(words).all(|(p, w)| *p == w.folded)
}

impl Gate {
    /// What no request could support, or only its data: denials, promises, distinctions, genres, numbers.
    pub(super) fn words_are_harmless(&self, tokens: &[Token], sentence: &Sentence) -> Result<(), Refusal> {
        let known = &self.known;
        let item = &known.subjects[0];
        for (n, token) in tokens.iter().enumerate() {
            let Kind::Word(word) = &token.kind else { continue };
            let rest: Vec<&Word> = tokens[n..]
                .iter()
                .take(4)
                .map_while(|t| match &t.kind {
                    Kind::Word(w) => Some(w),
                    _ => None,
                })
                .collect();
            if word.folded.ends_with("n't") {
                return Err(Refusal::Negation);
            }
            match cue_at(&rest).map(|(_, cue)| cue) {
                Some(Cue::Negation) => return Err(Refusal::Negation),
                Some(Cue::Overclaim) => return Err(Refusal::Overclaim),
                // "directed by steven spielberg": a name is no less untraceable for its small letters.
                Some(Cue::Role(_, Side::After)) => {
                    let behind = cue_at(&rest).map_or(n, |(length, _)| n + length);
                    let next = tokens.get(behind).and_then(Token::word);
                    if next.is_some_and(|w| !is_common(&w.folded)) {
                        return Err(Refusal::UntraceableName);
                    }
                }
                Some(Cue::Distinction) if !item.speaks_of(&word.folded) => {
                    return Err(Refusal::UntraceableAttribute);
                }
                _ => {}
            }
            // "Everyone who liked Heat": a lift says more often than chance, and of nobody always.
            if UNMEASURED.iter().any(|phrase| begins(&rest, phrase)) {
                return Err(Refusal::NoAffinity);
            }
            // "A darker film than Heat": no request compares.
            if word.folded == "than" && tokens.get(n + 1).is_some_and(|t| t.titles().next().is_some()) {
                return Err(Refusal::UntraceableAttribute);
            }
            if word.has_digit() {
                self.number(tokens, n, word)?;
            }
        }
        self.amounts(tokens, sentence)
    }

    /// Genre and theme words that are no value of their own must still be in the data of all they are said of.
    pub(super) fn genre_words(
        &self,
        tokens: &[Token],
        titles: &[usize],
        contrast: bool,
        evidence: &mut Evidences,
    ) -> Result<(), Refusal> {
        let known = &self.known;
        let words: Vec<Option<&Word>> = tokens
            .iter()
            .map(|t| match &t.kind {
                Kind::Word(word) => Some(word),
                _ => None,
            })
            .collect();
        let mut n = 0;
        while n < words.len() {
            let longest = (1..=3).rev().find_map(|length| {
                let stretch: Option<Vec<&str>> = words
                    .get(n..n + length)?
                    .iter()
                    .map(|w| w.map(|w| w.folded.as_str()))
                    .collect();
                let term = stretch?.join(" ");
                genres().contains(term.as_str()).then_some((length, term))
            });
            let Some((length, term)) = longest else {
                n += 1;
                continue;
            };
            let all = |n: usize| known.subjects[n].speaks_of(&term);
            if !all(0) || !(contrast || titles.iter().all(|title| all(*title))) {
                return Err(Refusal::UntraceableAttribute);
            }
            evidence.extend(self.word_evidence(0, &term));
            n += length;
        }
        Ok(())
    }

    pub(super) fn word_evidence(&self, subject: usize, term: &str) -> Option<Evidence> {
        let subject = &self.known.subjects[subject];
        let stems: Vec<String> = words(term)
            .iter()
            .map(|w| crate::reading::stem(&w.folded))
            .collect();
        let held = subject.values.iter().find(|held| {
            let own: Vec<String> = words(&held.value)
                .iter()
                .map(|w| crate::reading::stem(&w.folded))
                .collect();
            stems.iter().all(|s| own.contains(s))
        });
        Some(match held {
            Some(held) => Evidence::Attribute {
                item: subject.id().clone(),
                name: held.attribute.clone(),
                value: held.value.clone(),
            },
            None => Evidence::Description {
                item: subject.id().clone(),
            },
        })
    }
}
