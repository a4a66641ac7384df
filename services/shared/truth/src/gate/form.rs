//! Whether a sentence is whole and has each thing in a place of its sort: no fragments, no person where a film belongs.
//!
//! What is checked here needs no data but the sorts of the known stretches: a model of slots makes such sentences when it puts
//! a slot of one sort where its teacher put another. `fragment.rs` knows what a whole sentence is, `place.rs` what may stand where.

use super::Gate;
use super::cues::{Cue, Side};
use super::fragment::{VERBS, has_verb, whole};
use super::place::{
    follows_a_list, genre_fits, is_thing, person_fits, plot_fits, span_fits, words_after, words_before,
    year_fits,
};
use super::refusal::Refusal;
use super::roles::cue_at;
use super::token::{Found, Kind, Token};
use crate::vocabulary::Role;

/// What sort of thing a known stretch is, where it can be only one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Item,
    History,
    Person,
    Genre,
    Year,
    Series,
    /// A source, a country, a maker, what a catalogue invents; or of several sorts.
    Other,
}

/// Words that refer to the item without its title.
const REFERENCES: &[&str] = &[
    "it", "its", "it's", "itself", "this", "these", "here", "they", "them", "their", "both", "all", "each",
    "another", "one",
];

impl Gate {
    /// Fragments, lists that repeat themselves, and things out of their place.
    pub(super) fn well_formed(&self, sentence: &str, tokens: &[Token]) -> Result<(), Refusal> {
        whole(tokens)?;
        if !has_verb(tokens) {
            return Err(Refusal::Fragment);
        }
        self.repeats(tokens)?;
        self.neighbours(sentence, tokens)?;
        for n in 0..tokens.len() {
            let Kind::Found(found) = &tokens[n].kind else {
                continue;
            };
            plot_fits(sentence, tokens, n, found)?;
            match self.sort(found) {
                Some(Sort::Person) => person_fits(tokens, n)?,
                Some(Sort::Year) => year_fits(tokens, n, &sentence[tokens[n].span.clone()])?,
                Some(Sort::Genre) => genre_fits(tokens, n, &sentence[tokens[n].span.clone()])?,
                Some(Sort::Item | Sort::History) => self.title_fits(tokens, n)?,
                Some(Sort::Series) if found.fixed => span_fits(tokens, n, true)?,
                Some(Sort::Other) if found.fixed => span_fits(tokens, n, false)?,
                Some(Sort::Series | Sort::Other) | None => {}
            }
        }
        Ok(())
    }

    /// Whether a sentence speaks of the recommended item, by its title or by a word for it.
    pub(super) fn refers_to_item(&self, tokens: &[Token]) -> bool {
        tokens.iter().any(|token| match &token.kind {
            Kind::Found(found) => found.titles.contains(&0) || found.plot,
            Kind::Word(word) => REFERENCES.contains(&word.folded.as_str()) || is_thing(word),
            Kind::Mark(_) => false,
        })
    }

    fn sort(&self, found: &Found) -> Option<Sort> {
        if found.plot || found.is_label_only() {
            return None;
        }
        if !found.titles.is_empty() && !found.reads_as_value() {
            return found.values.is_empty().then(|| {
                if found.titles.contains(&0) {
                    Sort::Item
                } else {
                    Sort::History
                }
            });
        }
        let mut roles = self
            .known
            .subjects
            .iter()
            .flat_map(|s| &s.values)
            .filter(|held| found.values.contains(&held.folded))
            .map(|held| match held.role {
                role if role.is_name() && role != Role::Maker => Sort::Person,
                Role::Genre => Sort::Genre,
                Role::Year => Sort::Year,
                Role::Series => Sort::Series,
                _ => Sort::Other,
            });
        let first = roles.next()?;
        Some(if roles.all(|sort| sort == first) {
            first
        } else {
            Sort::Other
        })
    }

    /// "Heat and Heat", "Heat, Alien and Heat": a title once in a list, and once in a statement. Slots name a title or a person once in a
    /// sentence.
    fn repeats(&self, tokens: &[Token]) -> Result<(), Refusal> {
        let slots: Vec<&Found> = tokens
            .iter()
            .filter_map(|token| match &token.kind {
                Kind::Found(found) if found.fixed && !found.plot => Some(found),
                _ => None,
            })
            .filter(|found| matches!(self.sort(found), Some(Sort::Item | Sort::History | Sort::Person)))
            .collect();
        // Namesakes read like one title.
        let title = |found: &Found| {
            found
                .titles
                .first()
                .map(|t| self.known.subjects[*t].title_folded())
        };
        let twice = |n: usize| {
            slots[..n]
                .iter()
                .any(|s| title(s) == title(slots[n]) && s.values == slots[n].values)
        };
        if (1..slots.len()).any(twice) {
            return Err(Refusal::Repetition);
        }
        let mut listed: Vec<usize> = Vec::new();
        for token in tokens {
            match &token.kind {
                Kind::Found(found) if found.values.is_empty() => {
                    let Some(title) = found.titles.first() else {
                        continue;
                    };
                    if listed.contains(title) {
                        return Err(Refusal::Repetition);
                    }
                    listed.push(*title);
                }
                // A new statement may name it again.
                Kind::Mark(';' | ':' | '—' | '–') => listed.clear(),
                Kind::Word(word) if VERBS.contains(&word.folded.as_str()) => {
                    let own: Vec<usize> = listed.iter().copied().filter(|t| *t == 0).collect();
                    listed = own;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// "Collateral Heat": two titles, or a title and a name, with nothing between them.
    fn neighbours(&self, sentence: &str, tokens: &[Token]) -> Result<(), Refusal> {
        // "Heat and the 1990s", "Mann, Heat and Collateral": a list is of one sort.
        for n in 1..tokens.len().saturating_sub(1) {
            let (Kind::Found(a), Kind::Found(b)) = (&tokens[n - 1].kind, &tokens[n + 1].kind) else {
                continue;
            };
            let listed = match &tokens[n].kind {
                Kind::Word(word) => word.folded == "and",
                Kind::Mark(',') => {
                    matches!(tokens.get(n + 2).map(|t| &t.kind), Some(Kind::Word(w)) if w.folded == "and")
                }
                _ => false,
            };
            let (Some(first), Some(second)) = (self.sort(a), self.sort(b)) else {
                continue;
            };
            let title = |sort| matches!(sort, Sort::Item | Sort::History);
            let alike = first == second || (title(first) && title(second));
            if listed && (a.fixed || b.fixed) && !alike {
                return Err(Refusal::WrongRole);
            }
        }
        // "Cruise as Foxx": nobody is somebody else.
        for three in tokens.windows(3) {
            if let (Kind::Found(a), Kind::Word(word), Kind::Found(b)) =
                (&three[0].kind, &three[1].kind, &three[2].kind)
                && word.folded == "as"
                && self.sort(a) == Some(Sort::Person)
                && self.sort(b) == Some(Sort::Person)
            {
                return Err(Refusal::WrongRole);
            }
        }
        for pair in tokens.windows(2) {
            let (Kind::Found(a), Kind::Found(b)) = (&pair[0].kind, &pair[1].kind) else {
                continue;
            };
            let bare = sentence[pair[0].span.end..pair[1].span.start]
                .chars()
                .all(char::is_whitespace);
            let (Some(a), Some(b)) = (self.sort(a), self.sort(b)) else {
                continue;
            };
            let title = |sort| matches!(sort, Sort::Item | Sort::History);
            let named = |sort| title(sort) || sort == Sort::Person;
            if bare
                && ((title(a) && (named(b) || b == Sort::Genre || b == Sort::Year))
                    || (a == Sort::Person && named(b)))
            {
                return Err(Refusal::Fragment);
            }
        }
        Ok(())
    }

    /// A title is no person and no kind of film: "directed by Heat", "a Heat film"; and what the user knows is not what is recommended: "Heat
    /// is another film".
    fn title_fits(&self, tokens: &[Token], n: usize) -> Result<(), Refusal> {
        let Kind::Found(found) = &tokens[n].kind else {
            return Ok(());
        };
        let before = words_before(tokens, n);
        let after = words_after(tokens, n);
        let wrong = |holds: bool| if holds { Err(Refusal::WrongRole) } else { Ok(()) };
        let article = before
            .last()
            .is_some_and(|w| matches!(w.folded.as_str(), "a" | "an" | "another"));
        wrong(article)?;
        // No slot of a title stands behind "the" or before "films".
        let described =
            before.last().is_some_and(|w| w.folded == "the") || after.first().is_some_and(|w| is_thing(w));
        wrong(found.fixed && described)?;
        for length in (1..=before.len().min(3)).rev() {
            let cue = cue_at(&before[before.len() - length..]).filter(|(wide, _)| *wide == length);
            if let Some((_, Cue::Role(role, side))) = cue {
                // "Based on Heat": only if the data name a source of that title.
                let takes_title = match role {
                    Role::Source if side == Side::After => !found.values.is_empty(),
                    Role::Series | Role::Source | Role::Genre => true,
                    _ => side == Side::Before,
                };
                return wrong(!takes_title);
            }
        }
        let with_thing = before.len() >= 2
            && before[before.len() - 1].folded == "with"
            && is_thing(before[before.len() - 2]);
        wrong(with_thing)?;
        // "the same director, Heat."
        if n >= 2
            && matches!(tokens[n - 1].kind, Kind::Mark(',' | ':'))
            && matches!(tokens.get(n + 1).map(|t| &t.kind), None | Some(Kind::Mark(_)))
            && let Some(word) = tokens[n - 2].word()
            && let Some((_, Cue::Role(role, Side::Either))) = cue_at(&[word])
            && role.is_name()
            && tokens[..n - 2]
                .iter()
                .rev()
                .find_map(Token::word)
                .is_some_and(|w| matches!(w.folded.as_str(), "same" | "its" | "the" | "their"))
        {
            return Err(Refusal::WrongRole);
        }
        const RECOMMENDED: &[&[&str]] = &[
            &["is", "another"],
            &["is", "one", "more"],
            &["could", "follow"],
            &["offers"],
            &["brings"],
            &["takes", "you"],
            &["keeps", "you"],
            &["stays", "with"],
        ];
        let predicate = RECOMMENDED.iter().any(|phrase| {
            phrase.len() <= after.len() && phrase.iter().zip(&after).all(|(p, w)| *p == w.folded)
        });
        if !found.titles.contains(&0) && predicate && !follows_a_list(tokens, n) {
            return Err(Refusal::WrongRelation);
        }
        Ok(())
    }
}
