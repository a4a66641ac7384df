//! Reading: which stretches of a sentence are known, and whether the rest could be anybody's name.

use std::ops::Range;

use super::known::{self, Need, Standing};
use super::refusal::Refusal;
use super::roles::cue_at;
use super::token::{Found, Kind, Token};
use super::{Gate, cues::Cue};
use crate::lexicon::{genres, is_common};
use crate::render::{Mention, Target};
use crate::text::{Word, fold, words};
use crate::vocabulary::{Role, label};

impl Gate {
    /// Cuts a sentence into tokens: known stretches, words with their cues, marks.
    pub(super) fn read(
        &self,
        sentence: &str,
        mentions: &[Mention],
        quotes: bool,
    ) -> Result<Vec<Token>, Refusal> {
        let known = &self.known;
        let cut = words(sentence);
        let mut mentions: Vec<&Mention> = mentions.iter().collect();
        mentions.sort_by_key(|m| m.span.start);
        let covered = |at: usize| mentions.iter().find(|m| m.span.contains(&at)).copied();
        let mut tokens: Vec<Token> = Vec::new();
        let free: Vec<&Word> = cut.iter().filter(|w| covered(w.span.start).is_none()).collect();
        // Words that stand next to each other without a given mention between them.
        let run = |from: usize| {
            let mut end = from + 1;
            while end < free.len()
                && !mentions
                    .iter()
                    .any(|m| m.span.start >= free[end - 1].span.end && m.span.end <= free[end].span.start)
            {
                end += 1;
            }
            end
        };
        let first = cut.first().map_or(0, |w| w.span.start);
        let mut n = 0;
        while n < free.len() {
            let rest = &free[n..run(n)];
            let at_start = free[n].span.start == first;
            let (length, found) = match known.longest(rest, at_start) {
                Some((length, meanings)) => (length, Found::of(&meanings)),
                None if quotes => (
                    known.quoted(rest),
                    Found {
                        plot: true,
                        ..Found::default()
                    },
                ),
                None => (0, Found::default()),
            };
            if length > 0 {
                let span = rest[0].span.start..rest[length - 1].span.end;
                // A known label that is also a cue word stays a cue ("director", "brand").
                if found.is_label_only() && cue_at(rest).is_some_and(|(_, cue)| matches!(cue, Cue::Role(..)))
                {
                    tokens.push(Token {
                        span: rest[0].span.clone(),
                        kind: Kind::Word(rest[0].clone()),
                    });
                    n += 1;
                    continue;
                }
                tokens.push(Token {
                    span,
                    kind: Kind::Found(found),
                });
                n += length;
                continue;
            }
            let (length, found) = self.described_name(rest, at_start, sentence)?;
            if length > 0 {
                tokens.push(Token {
                    span: rest[0].span.start..rest[length - 1].span.end,
                    kind: Kind::Found(found),
                });
                n += length;
                continue;
            }
            tokens.push(Token {
                span: rest[0].span.clone(),
                kind: Kind::Word(rest[0].clone()),
            });
            n += 1;
        }
        for mention in &mentions {
            let found = match &mention.target {
                Target::Item => Found {
                    titles: vec![0],
                    fixed: true,
                    ..Found::default()
                },
                Target::History(id) => {
                    let n = known.history_of(id).ok_or(Refusal::ForeignEvidence)?;
                    Found {
                        titles: vec![n],
                        fixed: true,
                        ..Found::default()
                    }
                }
                Target::Value { value, .. } => Found {
                    values: vec![fold(value)],
                    fixed: true,
                    ..Found::default()
                },
                Target::Plot(premise) => {
                    if !known.resolves(&premise.evidence) {
                        return Err(Refusal::ForeignEvidence);
                    }
                    Found {
                        plot: true,
                        form: Some(premise.form),
                        fixed: true,
                        ..Found::default()
                    }
                }
                Target::Label { attribute } => Found {
                    label: Some(label(attribute)),
                    ..Found::default()
                },
                Target::Noun(_) | Target::Nouns(_) | Target::Tried(_) => {
                    for word in cut.iter().filter(|w| mention.span.contains(&w.span.start)) {
                        let word = Word {
                            capital: false,
                            ..word.clone()
                        };
                        tokens.push(Token {
                            span: word.span.clone(),
                            kind: Kind::Word(word),
                        });
                    }
                    continue;
                }
            };
            tokens.push(Token {
                span: mention.span.clone(),
                kind: Kind::Found(found),
            });
        }
        let taken: Vec<Range<usize>> = tokens
            .iter()
            .filter(|t| matches!(t.kind, Kind::Found(_)))
            .map(|t| t.span.clone())
            .collect();
        for (at, c) in sentence.char_indices() {
            if matches!(c, ',' | ';' | ':' | '(' | ')' | '—' | '–')
                && !taken.iter().any(|span| span.contains(&at))
            {
                tokens.push(Token {
                    span: at..at + c.len_utf8(),
                    kind: Kind::Mark(c),
                });
            }
        }
        tokens.sort_by_key(|t| t.span.start);
        longer_titles(&tokens)?;
        self.years_in_brackets(&mut tokens)?;
        Ok(tokens)
    }

    /// Letters, digits and the marks of plain prose; titles and values may hold what they like.
    pub(super) fn alphabet(&self, sentence: &str, tokens: &[Token]) -> Result<(), Refusal> {
        let plain = |c: char| {
            c.is_alphanumeric()
                || c.is_whitespace()
                || ".,;:!?'\"’‘“”()-–—/&%$€£+".contains(c)
                || unicode_normalization::char::canonical_combining_class(c) != 0
        };
        // A title's outer marks ("[Rec] ²") are no part of its words.
        let spelt = |at: usize, c: char| {
            tokens
                .iter()
                .filter(|t| t.span.start <= at + 4 && at <= t.span.end + 4)
                .any(|t| match &t.kind {
                    Kind::Found(found) => {
                        found.plot
                            || found
                                .titles
                                .iter()
                                .any(|n| self.known.subjects[*n].title.contains(c))
                            || found.values.iter().any(|v| v.contains(c))
                    }
                    _ => false,
                })
        };
        if sentence.char_indices().any(|(at, c)| !plain(c) && !spelt(at, c)) {
            Err(Refusal::Characters)
        } else {
            Ok(())
        }
    }

    /// Capitalised words that are no known title or value: a name from the description, or nobody's.
    pub(super) fn described_name(
        &self,
        rest: &[&Word],
        at_start: bool,
        sentence: &str,
    ) -> Result<(usize, Found), Refusal> {
        let word = rest[0];
        let none = (0, Found::default());
        let foreign_script = word.folded.chars().any(|c| c.is_alphabetic() && !c.is_ascii());
        if !word.capital && !foreign_script {
            return Ok(none);
        }
        let before = sentence[..word.span.start].trim_end();
        let opens = at_start || before.ends_with([':', '"', '“']);
        if word.folded == "i"
            || (opens && (is_common(&word.folded) || genres().contains(word.folded.as_str())))
        {
            return Ok(none);
        }
        let length = rest.iter().take_while(|w| w.capital).count().max(1);
        // "You liked The Heat": an article alone is nobody's name, wherever a sentence of the description begins with it.
        let article = matches!(word.folded.as_str(), "the" | "a" | "an");
        for length in (1 + usize::from(article)..=length).rev() {
            let folded = rest[..length]
                .iter()
                .map(|w| w.folded.as_str())
                .collect::<Vec<_>>()
                .join(" ");
            let named = |s: &known::Subject| {
                s.standing != Standing::Disliked
                    && s.description.windows(length).any(|w| {
                        w.iter()
                            .zip(&rest[..length])
                            .all(|(a, b)| a.folded == b.folded && a.capital)
                    })
            };
            if self.known.subjects.iter().any(named) {
                return Ok((
                    length,
                    Found {
                        values: vec![folded],
                        ..Found::default()
                    },
                ));
            }
        }
        // "Tense and quick, …": a genre adjective at the start was handled; everything else is somebody's name.
        Err(Refusal::UntraceableName)
    }

    /// "Heat (1995)": the year belongs to that title.
    pub(super) fn years_in_brackets(&self, tokens: &mut Vec<Token>) -> Result<(), Refusal> {
        let mut n = 0;
        while n + 3 < tokens.len() {
            let title = match &tokens[n].kind {
                Kind::Found(found) if !found.titles.is_empty() => found.titles.clone(),
                _ => {
                    n += 1;
                    continue;
                }
            };
            let brackets = matches!(tokens[n + 1].kind, Kind::Mark('('))
                && matches!(tokens[n + 3].kind, Kind::Mark(')'));
            let year = match &tokens[n + 2].kind {
                Kind::Found(found) => found.values.first().cloned(),
                Kind::Word(word) => Some(word.folded.clone()),
                Kind::Mark(_) => None,
            };
            if let Some(year) =
                year.filter(|y| brackets && y.len() == 4 && y.bytes().all(|b| b.is_ascii_digit()))
            {
                if !title
                    .iter()
                    .any(|t| !self.known.holds(*t, &year, &Need::Role(Role::Year)).is_empty())
                {
                    return Err(Refusal::UntraceableNumber);
                }
                tokens.drain(n + 1..n + 4);
            }
            n += 1;
        }
        Ok(())
    }
}

/// "Like “The Heat”, …": with a capital inside a sentence the article belongs to a title, and to another than the one behind it.
fn longer_titles(tokens: &[Token]) -> Result<(), Refusal> {
    let wrong = tokens.windows(2).skip(1).any(|pair| {
        let article = pair[0]
            .word()
            .is_some_and(|w| w.capital && matches!(w.folded.as_str(), "the" | "a" | "an"));
        article && matches!(&pair[1].kind, Kind::Found(found) if !found.fixed && !found.titles.is_empty())
    });
    if wrong {
        Err(Refusal::UntraceableName)
    } else {
        Ok(())
    }
}
