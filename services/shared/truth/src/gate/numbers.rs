//! Amounts: what is counted must be named as often, and what is so many times as likely must have been measured so.

use super::Gate;
use super::cues::{COUNTS, Cue, MULTIPLES};
use super::known::Need;
use super::refusal::Refusal;
use super::roles::cues_of;
use super::token::{Sentence, Token};
use crate::text::Word;
use crate::vocabulary::Role;

/// A measured lift is told to the nearest whole, or better.
const LIFT_ROUNDED_BY: f32 = 0.5;

impl Gate {
    /// Every amount of a sentence, in digits or words.
    pub(super) fn amounts(&self, tokens: &[Token], sentence: &Sentence) -> Result<(), Refusal> {
        let item = &self.known.subjects[0];
        // "People who liked Heat liked it twenty times": of others no number is known but the lift.
        let others = || cues_of(tokens).iter().any(|(_, cue)| *cue == Cue::Others);
        let mut n = 0;
        while n < tokens.len() {
            let Some(word) = word(tokens, n) else {
                n += 1;
                continue;
            };
            let traced = |holds: bool| {
                if holds {
                    Ok(())
                } else {
                    Err(Refusal::UntraceableNumber)
                }
            };
            if let Some(times) = multiple(word) {
                // How often the user did something, no request says; a film may be about a double.
                let described = !others() && item.speaks_of(word);
                traced(described || self.is_lift_of(tokens, times as f32))?;
                n += 1;
                continue;
            }
            if let Some((length, amount)) = amount(&tokens[n..]) {
                let times = is(tokens, n + length, TIMES);
                let compares = times && (others() || is(tokens, n + length + 1, COMPARED));
                let counts = !compares && (is_named(sentence, amount) || item.speaks_of(word));
                traced(counts || (times && self.is_lift_of(tokens, amount as f32)))?;
                n += length;
                continue;
            }
            // "Umpteen times as often": an amount all the same. Digits are looked at one by one.
            let digits = n > 0 && tokens[n - 1].word().is_some_and(|w| w.has_digit());
            let counted = n > 0 && amount(&tokens[n - 1..]).is_some();
            let vague = word == "times" && !digits && !counted && !is(tokens, n.wrapping_sub(1), &["at"]);
            traced(!(vague && (others() || is(tokens, n + 1, COMPARED))))?;
            n += 1;
        }
        Ok(())
    }

    /// A number in digits stands in the description, or is so many "times" and the measured lift of a history item that the
    /// sentence names.
    pub(super) fn number(&self, tokens: &[Token], n: usize, word: &Word) -> Result<(), Refusal> {
        let traced = if is(tokens, n + 1, TIMES) {
            let number = word.folded.parse::<f32>();
            number.is_ok_and(|number| self.is_lift_of(tokens, number))
        } else {
            self.known.subjects[0].describes(&word.folded)
        };
        if traced {
            Ok(())
        } else {
            Err(Refusal::UntraceableNumber)
        }
    }

    fn is_lift_of(&self, tokens: &[Token], number: f32) -> bool {
        tokens.iter().flat_map(Token::titles).any(|title| {
            let affinity = self.known.affinity(self.known.subjects[title].id());
            affinity.is_some_and(|a| (a.lift - number).abs() <= LIFT_ROUNDED_BY)
        })
    }

    /// "Before Heat, Mann directed Collateral": which came first is for the years to say.
    pub(super) fn orders(&self, tokens: &[Token], cues: &[(usize, Cue)]) -> Result<(), Refusal> {
        let made = cues
            .iter()
            .any(|(_, cue)| matches!(cue, Cue::Role(role, _) if role.is_name()));
        let titles: Vec<usize> = tokens.iter().filter_map(|t| t.titles().next()).collect();
        for n in 0..tokens.len() {
            let Some(than) = tokens.get(n + 1).and_then(|t| t.titles().next()) else {
                continue;
            };
            let between = n > 0 && tokens[n - 1].titles().next().is_some();
            // "After Heat, …" may be what the user does next; "directed Heat after Collateral" is not.
            let before = match word(tokens, n) {
                Some("before") => true,
                Some("after") if between && made => false,
                _ => continue,
            };
            let ordered = titles.iter().filter(|title| **title != than).all(|title| {
                let (Some(one), Some(other)) = (self.year(*title), self.year(than)) else {
                    return false;
                };
                if before { one < other } else { one > other }
            });
            if !ordered {
                return Err(Refusal::UntraceableAttribute);
            }
        }
        Ok(())
    }

    /// "The same year", "share a decade": without saying which, it must still be so.
    pub(super) fn same_time(&self, tokens: &[Token], titles: &[usize]) -> Result<(), Refusal> {
        for n in 1..tokens.len() {
            let years = match word(tokens, n) {
                Some("year") => 1,
                Some("decade") => 10,
                _ => continue,
            };
            if !is(tokens, n - 1, &["same", "a", "one", "its", "their"]) {
                continue;
            }
            let own = self.year(0).map(|year| year / years);
            if own.is_none()
                || titles
                    .iter()
                    .any(|t| self.year(*t).map(|year| year / years) != own)
            {
                return Err(Refusal::WrongRelation);
            }
        }
        Ok(())
    }

    fn year(&self, subject: usize) -> Option<u16> {
        let held = &self.known.subjects[subject].values;
        let years = held
            .iter()
            .filter(|h| h.role == Role::Year && h.folded.len() == 4)
            .filter(|h| {
                !self
                    .known
                    .holds(subject, &h.folded, &Need::Role(Role::Year))
                    .is_empty()
            });
        years.filter_map(|h| h.folded.parse().ok()).min()
    }
}

const TIMES: &[&str] = &["times", "fold"];

/// What follows "times" where two things are compared.
const COMPARED: &[&str] = &[
    "more", "as", "likelier", "over", "the", "better", "higher", "greater", "that",
];

fn word(tokens: &[Token], n: usize) -> Option<&str> {
    tokens.get(n).and_then(Token::word).map(|w| w.folded.as_str())
}

fn is(tokens: &[Token], n: usize, list: &[&str]) -> bool {
    word(tokens, n).is_some_and(|w| list.contains(&w))
}

fn is_named(sentence: &Sentence, count: usize) -> bool {
    [sentence.titles.len(), sentence.history.len(), sentence.values].contains(&count)
}

/// "Twice", "double", "tenfold".
fn multiple(word: &str) -> Option<usize> {
    let listed = MULTIPLES.iter().find(|(name, _)| *name == word);
    let fold = || count_of(word.strip_suffix("fold")?);
    listed.map(|(_, times)| *times).or_else(fold)
}

fn count_of(word: &str) -> Option<usize> {
    COUNTS
        .iter()
        .find(|(name, _)| *name == word)
        .map(|(_, count)| *count)
}

/// The amount in words at the start of these tokens, and how many of them it takes: "twenty-five", "two hundred".
fn amount(tokens: &[Token]) -> Option<(usize, usize)> {
    let mut total: Option<usize> = None;
    let mut length = 0;
    while let Some(part) = word(tokens, length).and_then(count_of) {
        total = Some(match total {
            None => part,
            Some(total) if part >= 12 && part > total => total.saturating_mul(part),
            Some(total) => total.saturating_add(part),
        });
        length += 1;
    }
    total.map(|total| (length, total))
}
