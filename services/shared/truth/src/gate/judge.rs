//! Judging one statement: what it ties to what, and whether the request says so too.

use refract_domain::{Claim, Evidence, FactKind};

use super::Gate;
use super::cues::Cue;
use super::known::{Need, Standing};
use super::refusal::Refusal;
use super::roles::{cues_of, needs_of};
use super::token::{Kind, Token};
use crate::lexicon::is_common;
use crate::text::fold;
use crate::vocabulary::Role;

impl Gate {
    /// Judges one statement of a sentence. `earlier` are history items that the sentence named before, `people` whom was named last
    /// before it, `said` the values that the sentence names anywhere.
    pub(super) fn judge(
        &self,
        tokens: &[Token],
        earlier: &[usize],
        people: &[String],
        said: &[String],
    ) -> Result<Judged, Refusal> {
        let known = &self.known;
        let cues = cues_of(tokens);
        let has = |wanted: Cue| cues.iter().any(|(_, cue)| *cue == wanted);
        let (others, contrast) = (has(Cue::Others), has(Cue::Contrast));
        let mut own: Vec<usize> = Vec::new();
        for token in tokens {
            own.extend(self.history_title(token)?);
        }
        own.dedup();
        let mut titles = own.clone();
        if titles.is_empty() && (has(Cue::Same) || has(Cue::Again) || others) {
            titles.extend(earlier);
        }
        if titles.is_empty() && (has(Cue::Same) || others) && earlier.is_empty() {
            titles.extend(&self.named);
        }
        self.opinions(tokens, &cues, &own)?;
        self.orders(tokens, &cues)?;
        let mut evidence = Evidences::default();
        let needs = needs_of(tokens, &cues, |value| self.is_named_value(value));
        self.people_meant(tokens, &cues, &needs, &own, people, others)?;
        let names = self.values(tokens, &cues, &needs, &titles, contrast, &mut evidence)?;
        if !contrast {
            let again = has(Cue::Same) || has(Cue::Again);
            self.open_roles(
                tokens,
                &cues,
                &needs,
                &titles,
                !own.is_empty() || again,
                &mut evidence,
            )?;
        }
        self.genre_words(tokens, &titles, contrast, &mut evidence)?;
        if tokens.iter().any(|t| matches!(&t.kind, Kind::Found(f) if f.plot)) {
            if !own.is_empty() {
                return Err(Refusal::WrongRelation);
            }
            evidence.push(self.known.premise_evidence());
        }
        if others {
            if titles.is_empty() {
                return Err(Refusal::NoAffinity);
            }
            for title in &titles {
                let id = known.subjects[*title].id();
                known.affinity(id).ok_or(Refusal::NoAffinity)?;
                evidence.push(Evidence::Affinity { item: id.clone() });
            }
        }
        counted(tokens, own.len(), titles.len())?;
        if has(Cue::Same) && !others {
            self.same_time(tokens, &titles)?;
        }
        if has(Cue::Same) && !others && names == 0 {
            self.same_role(&cues, &titles, &mut evidence)?;
        }
        if contrast {
            let close = [
                Role::Director,
                Role::Cast,
                Role::Author,
                Role::Artist,
                Role::Series,
                Role::Source,
            ];
            let liked = (1..known.subjects.len()).filter(|n| known.subjects[*n].standing == Standing::Liked);
            if liked
                .chain(own.iter().copied())
                .any(|n| close.iter().any(|role| !known.common(n, Some(*role)).is_empty()))
            {
                return Err(Refusal::WrongRelation);
            }
        } else {
            for title in &own {
                let item = known.subjects[*title].item();
                let shared = known.common(*title, None);
                // Two items of one decade are not alike for it; the decade must be said, here or in the sentence's other half.
                let holds = |n: usize, value: &str| !known.holds(n, value, &Need::Any).is_empty();
                let close = !shared.is_empty()
                    || known.affinity(&item.id).is_some()
                    || said.iter().any(|value| holds(0, value) && holds(*title, value));
                if !close {
                    return Err(Refusal::WrongRelation);
                }
                if evidence.is_empty() {
                    evidence.extend(shared);
                    evidence.extend(
                        known
                            .affinity(&item.id)
                            .map(|a| Evidence::Affinity { item: a.item.clone() }),
                    );
                }
            }
        }
        for title in &titles {
            if !evidence.is_empty() || contrast {
                evidence.push(Evidence::History {
                    item: known.subjects[*title].id().clone(),
                });
            }
        }
        self.cite(tokens, &titles, others, contrast, &mut evidence);
        let claim = (!evidence.is_empty()).then(|| {
            let start = tokens.first().map_or(0, |t| t.span.start);
            let end = tokens.last().map_or(start, |t| t.span.end);
            Claim {
                span: start..end,
                evidence: evidence.list,
            }
        });
        Ok(Judged { titles, claim })
    }

    /// The history item that a token names; never a disliked one.
    pub(super) fn history_title(&self, token: &Token) -> Result<Option<usize>, Refusal> {
        let Kind::Found(found) = &token.kind else {
            return Ok(None);
        };
        if found.titles.is_empty() || found.titles.contains(&0) || found.reads_as_value() {
            return Ok(None);
        }
        let standing = |n: usize| self.known.subjects[n].standing;
        // Namesakes: the one that has most to do with the item is meant.
        let ties = |n: usize| {
            let affinity = self.known.affinity(self.known.subjects[n].id()).is_some();
            (
                self.known.common(n, None).len() + usize::from(affinity),
                standing(n) == Standing::Liked,
            )
        };
        let nameable = found
            .titles
            .iter()
            .copied()
            .filter(|n| standing(*n) != Standing::Disliked);
        nameable
            .max_by_key(|n| ties(*n))
            .map(Some)
            .ok_or(Refusal::Disliked)
    }

    /// "you liked", "you watched", "try": of the right items.
    pub(super) fn opinions(
        &self,
        tokens: &[Token],
        cues: &[(usize, Cue)],
        own: &[usize],
    ) -> Result<(), Refusal> {
        let known = &self.known;
        for (at, cue) in cues {
            if *cue == Cue::Opinion && own.iter().any(|n| known.subjects[*n].standing != Standing::Liked) {
                return Err(Refusal::NotLiked);
            }
            if !matches!(cue, Cue::Opinion | Cue::Past | Cue::Recommend) {
                continue;
            }
            // The title right behind it, with at most one small word after the cue itself.
            let width = if *cue == Cue::Recommend { 1 } else { 2 };
            // "You liked every film by Mann": a history is what it holds, and no more.
            let sweeping = tokens.get(at + width).and_then(Token::word);
            if *cue != Cue::Recommend
                && sweeping
                    .is_some_and(|w| matches!(w.folded.as_str(), "all" | "every" | "everything" | "most"))
            {
                return Err(Refusal::NotLiked);
            }
            let next = tokens
                .iter()
                .enumerate()
                .skip(at + width)
                .take(2)
                .find(|(_, t)| matches!(t.kind, Kind::Found(_)));
            let Some((place, next)) = next else { continue };
            // "You liked Cruise in Collateral": in what is recommended, nobody was liked yet.
            let within = tokens
                .get(place + 1)
                .and_then(Token::word)
                .is_some_and(|w| matches!(w.folded.as_str(), "in" | "from" | "of"));
            let in_item = within && tokens.get(place + 2).is_some_and(|t| t.titles().eq([0]));
            if *cue != Cue::Recommend && in_item {
                return Err(Refusal::WrongRelation);
            }
            let plain = tokens[at + width..place]
                .iter()
                .all(|t| matches!(&t.kind, Kind::Word(w) if is_common(&w.folded)));
            let titles: Vec<usize> = next.titles().collect();
            if titles.is_empty() || !plain {
                continue;
            }
            let is_item = titles.contains(&0) && !titles.iter().any(|n| *n > 0);
            if (*cue == Cue::Recommend) != is_item {
                return Err(Refusal::WrongRelation);
            }
        }
        Ok(())
    }

    /// Every value must be the item's and, tied to history items, theirs too, in the part that the words give it.
    pub(super) fn values(
        &self,
        tokens: &[Token],
        cues: &[(usize, Cue)],
        needs: &[(usize, Need)],
        titles: &[usize],
        contrast: bool,
        evidence: &mut Evidences,
    ) -> Result<usize, Refusal> {
        let known = &self.known;
        let taste = cues.iter().any(|(_, cue)| *cue == Cue::Taste);
        let mut count = 0;
        for (n, token) in tokens.iter().enumerate() {
            let Kind::Found(found) = &token.kind else { continue };
            if found.values.is_empty() || (!found.titles.is_empty() && !found.reads_as_value()) {
                continue;
            }
            count += 1;
            let need = needs
                .iter()
                .find(|(at, _)| *at == n)
                .map_or(Need::Any, |(_, need)| need.clone());
            let candidates: Vec<(&String, Vec<Evidence>)> = found
                .values
                .iter()
                .map(|value| (value, known.holds(0, value, &need)))
                .filter(|(_, held)| !held.is_empty())
                .collect();
            if candidates.is_empty() {
                let in_another_part = found
                    .values
                    .iter()
                    .any(|v| !known.holds(0, v, &Need::Any).is_empty());
                return Err(if in_another_part {
                    Refusal::WrongRole
                } else {
                    Refusal::WrongRelation
                });
            }
            let fits = |value: &str| {
                contrast
                    || titles
                        .iter()
                        .all(|title| !known.holds(*title, value, &need).is_empty())
            };
            let Some((value, held)) = candidates.into_iter().find(|(value, _)| fits(value)) else {
                return Err(Refusal::WrongRelation);
            };
            let liked = |n: usize| known.subjects[n].standing == Standing::Liked;
            if taste
                && titles.is_empty()
                && !(1..known.subjects.len()).any(|s| liked(s) && !known.holds(s, value, &need).is_empty())
            {
                return Err(Refusal::WrongRelation);
            }
            evidence.extend(held);
            if !contrast {
                for title in titles {
                    evidence.extend(known.holds(*title, value, &need));
                }
            }
        }
        Ok(count)
    }

    /// Whether a value is a name or a span, to which a role cue may speak (genres and years are left alone).
    pub(super) fn is_named_value(&self, value: &str) -> bool {
        let mut held = self
            .known
            .subjects
            .iter()
            .flat_map(|s| &s.values)
            .filter(|h| h.folded == *value)
            .peekable();
        held.peek().is_none() || held.any(|h| !matches!(h.role, Role::Genre | Role::Year))
    }

    /// Parts that are spoken of and no name is given for: "its director is that of Heat too", "the 2000s as its director".
    ///
    /// Where the statement ties items to each other, all of them must have somebody in common in that part; and neither a year
    /// nor a genre plays one.
    fn open_roles(
        &self,
        tokens: &[Token],
        cues: &[(usize, Cue)],
        needs: &[(usize, Need)],
        titles: &[usize],
        tied: bool,
        evidence: &mut Evidences,
    ) -> Result<(), Refusal> {
        let labels = tokens
            .iter()
            .enumerate()
            .filter_map(|(n, token)| match &token.kind {
                Kind::Found(found) => Some((n, Need::Label(found.label.clone()?))),
                _ => None,
            });
        let roles = cues.iter().filter_map(|(n, cue)| match cue {
            Cue::Role(role, _) if *role != Role::Genre => Some((*n, Need::Role(*role))),
            _ => None,
        });
        for (at, wanted) in roles.chain(labels).collect::<Vec<_>>() {
            if needs.iter().any(|(_, need)| *need == wanted) {
                continue;
            }
            let misplaced = |n: usize| {
                let Kind::Found(found) = &tokens[n].kind else {
                    return false;
                };
                found.reads_as_value()
                    && beside(tokens, at, n)
                    && !found
                        .values
                        .iter()
                        .any(|value| !self.known.holds(0, value, &wanted).is_empty())
            };
            if (0..tokens.len()).any(misplaced) {
                return Err(Refusal::WrongRole);
            }
            let Need::Role(role) = wanted else { continue };
            let telling = matches!(role, Role::Director | Role::Cast | Role::Author | Role::Series);
            if !(tied && telling) {
                continue;
            }
            for title in titles {
                let shared = self.known.common(*title, Some(role));
                if shared.is_empty() {
                    return Err(Refusal::WrongRelation);
                }
                evidence.extend(shared);
            }
        }
        Ok(())
    }

    /// "the same director as Heat", without a name: there must be one.
    pub(super) fn same_role(
        &self,
        cues: &[(usize, Cue)],
        titles: &[usize],
        evidence: &mut Evidences,
    ) -> Result<(), Refusal> {
        for (_, cue) in cues {
            let Cue::Role(role, _) = cue else { continue };
            let liked = |n: &usize| self.known.subjects[*n].standing == Standing::Liked;
            let among: Vec<usize> = if titles.is_empty() {
                (1..self.known.subjects.len())
                    .filter(liked)
                    .filter(|n| !self.known.common(*n, Some(*role)).is_empty())
                    .take(1)
                    .collect()
            } else {
                titles.to_vec()
            };
            if among.is_empty() {
                return Err(Refusal::WrongRelation);
            }
            for title in among {
                let shared = self.known.common(title, Some(*role));
                if shared.is_empty() {
                    return Err(Refusal::WrongRelation);
                }
                evidence.extend(shared);
            }
        }
        Ok(())
    }

    /// Facts of the knowledge that say what this statement says.
    pub(super) fn cite(
        &self,
        tokens: &[Token],
        titles: &[usize],
        others: bool,
        contrast: bool,
        evidence: &mut Evidences,
    ) {
        let ids: Vec<_> = titles.iter().map(|n| self.known.subjects[*n].id()).collect();
        let said = |value: &str| {
            tokens
                .iter()
                .any(|t| matches!(&t.kind, Kind::Found(f) if f.values.contains(&fold(value))))
        };
        let plot = tokens.iter().any(|t| matches!(&t.kind, Kind::Found(f) if f.plot));
        for (index, fact) in self.facts.iter() {
            let named = fact.history_items().any(|id| ids.contains(&id));
            let cited = match &fact.kind {
                FactKind::Shared { value, .. } => named && said(value),
                FactKind::CoLiked { .. } => named && others,
                FactKind::Premise => plot,
                FactKind::Unrelated => contrast,
                FactKind::Statement => {
                    !evidence.is_empty() && fact.evidence.iter().all(|e| evidence.list.contains(e))
                }
            };
            if cited {
                evidence.push(Evidence::Fact { index: *index });
            }
        }
    }
}

/// What a judged statement named and rests on.
pub(super) struct Judged {
    pub(super) titles: Vec<usize>,
    pub(super) claim: Option<Claim>,
}

/// Evidence, each piece once.
#[derive(Default)]
pub(super) struct Evidences {
    pub(super) list: Vec<Evidence>,
}

impl Evidences {
    pub(super) fn push(&mut self, evidence: Evidence) {
        if !self.list.contains(&evidence) {
            self.list.push(evidence);
        }
    }

    pub(super) fn extend(&mut self, evidence: impl IntoIterator<Item = Evidence>) {
        evidence.into_iter().for_each(|e| self.push(e));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// Whether nothing but small words stands between a part and a value: "as its director", "the director is", "directed by".
fn beside(tokens: &[Token], part: usize, value: usize) -> bool {
    const SMALL: &[&str] = &[
        "the", "a", "an", "its", "their", "is", "was", "as", "also", "by", "with", "in", "of", "same",
        "this", "on", "includes", "has",
    ];
    const BETWEEN_MAX: usize = 4;
    let (from, to) = (part.min(value) + 1, part.max(value));
    to - from <= BETWEEN_MAX
        && tokens[from..to].iter().all(|token| match &token.kind {
            Kind::Word(word) => SMALL.contains(&word.folded.as_str()),
            Kind::Mark(mark) => matches!(mark, ',' | ':'),
            Kind::Found(_) => false,
        })
}

/// "Both" is of two and "all" of more: of the history items named here, or of those that are meant and the item.
fn counted(tokens: &[Token], own: usize, meant: usize) -> Result<(), Refusal> {
    for (n, token) in tokens.iter().enumerate() {
        let Some(word) = token.word() else { continue };
        let next = tokens.get(n + 1).map(|t| &t.kind);
        // "All of them", "directed all."; not "all along", "all the more".
        let stands = match next {
            None | Some(Kind::Mark(_)) => true,
            Some(Kind::Word(next)) => matches!(
                next.folded.as_str(),
                "of" | "are" | "were" | "have" | "share" | "star"
            ),
            Some(Kind::Found(_)) => false,
        };
        let wrong = match word.folded.as_str() {
            "both" if stands => meant > 0 && own != 2 && meant != 1,
            "all" if stands => meant == 1,
            _ => false,
        };
        if wrong {
            return Err(Refusal::WrongRelation);
        }
    }
    Ok(())
}
