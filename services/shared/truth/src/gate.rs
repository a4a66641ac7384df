//! The truth gate: a sentence passes only if the request supports it, and says what it rests on.
//!
//! A sentence is read as words, known stretches (titles, values, quotations of the description) and cues (tables in `cues`). It is cut
//! at `;` and at "…, and" into statements. Then, for every statement: names must be known, a name after "directed by" must be a
//! director, what is said of the item and a history item must hold for both, what others like must have been measured, and
//! what was disliked is not named. When in doubt, it refuses: a template is there to take over.

mod cues;
mod known;
mod refusal;

use std::ops::Range;
use std::sync::Arc;

use refract_domain::{Claim, Evidence, Fact, FactKind, History, Knowledge, Pair};

use crate::lexicon::{genres, is_common};
use crate::render::{Mention, Target};
use crate::sentences::Sentences;
use crate::text::{TITLE_CHARS_MAX, Word, fold, is_invisible, looks_like_link, words};
use crate::vocabulary::{Role, Vocabulary, label};
use cues::{COUNTS, CUES, Cue, Side};
use known::{Known, Meaning, Need, Standing};

pub use refusal::Refusal;

/// Longest sentence, in characters.
pub const SENTENCE_CHARS_MAX: usize = 500;

/// Judges sentences against one request. Cheap to clone; remembers which history items the previous sentence named, for "both".
#[derive(Clone, Debug)]
pub struct Gate {
    known: Arc<Known>,
    /// Facts of the knowledge that this request supports, with their place in it.
    facts: Arc<Vec<(usize, Fact)>>,
    named: Vec<usize>,
}

impl Gate {
    /// Knowledge is no source of names: its facts only count where the request itself supports them, so that knowledge of
    /// another item or user supports nothing.
    pub fn new(
        vocabulary: &Vocabulary,
        pair: &Pair,
        history: &History,
        knowledge: Option<&Knowledge>,
    ) -> Self {
        let mut gate = Self {
            known: Arc::new(Known::new(vocabulary, pair, history)),
            facts: Arc::default(),
            named: Vec::new(),
        };
        if let Some(knowledge) = knowledge {
            let supported = knowledge
                .facts
                .iter()
                .enumerate()
                .filter(|(_, fact)| gate.supports(fact))
                .map(|(n, fact)| (n, fact.clone()));
            gate.facts = Arc::new(supported.collect());
        }
        gate
    }

    /// A cutter of plain text that knows this request's titles.
    pub fn sentences(&self) -> Sentences {
        Sentences::new(Arc::clone(&self.known.stopped))
    }

    /// Judges one sentence. `mentions` are the stretches whose meaning is known already (filled slots); the rest is matched by
    /// words. Claims have spans in bytes of `sentence`.
    pub fn check(&mut self, sentence: &str, mentions: &[Mention]) -> Result<Vec<Claim>, Refusal> {
        bounds(sentence, mentions)?;
        let mut tokens = self.read(sentence, mentions, true)?;
        // A stretch that happens to stand in the description is no quotation where history items are spoken of.
        let names_history = tokens.iter().any(|t| t.titles().any(|n| n > 0));
        if names_history
            && tokens
                .iter()
                .any(|t| matches!(&t.kind, Kind::Found(f) if f.plot && !f.fixed))
        {
            tokens = self.read(sentence, mentions, false)?;
        }
        self.alphabet(sentence, &tokens)?;
        let sentence_wide = Sentence::of(&tokens);
        self.words_are_harmless(&tokens, &sentence_wide)?;
        let mut claims = Vec::new();
        let mut earlier: Vec<usize> = Vec::new();
        for statement in statements(&tokens) {
            let judged = self.judge(statement, &earlier)?;
            for title in &judged.titles {
                if !earlier.contains(title) {
                    earlier.push(*title);
                }
            }
            claims.extend(judged.claim);
        }
        if claims.is_empty() {
            return Err(Refusal::Ungrounded);
        }
        if !earlier.is_empty() {
            self.named = earlier;
        }
        Ok(claims)
    }

    /// Whether the request supports a fact: its evidence is here, its kind holds, and its text passes.
    pub fn supports(&self, fact: &Fact) -> bool {
        self.check_fact(fact).is_ok()
    }

    /// As [`Gate::supports`], with the reason.
    pub fn check_fact(&self, fact: &Fact) -> Result<(), Refusal> {
        let known = &self.known;
        if !fact.evidence.iter().all(|evidence| known.resolves(evidence)) {
            return Err(Refusal::ForeignEvidence);
        }
        let history: Vec<usize> = fact
            .history_items()
            .map(|id| known.history_of(id).ok_or(Refusal::ForeignEvidence))
            .collect::<Result<_, _>>()?;
        match &fact.kind {
            FactKind::Shared { attribute, value } => {
                let need = self.need_of(attribute);
                let value = fold(value);
                let held = |n: usize| !known.holds(n, &value, &need).is_empty();
                if history.is_empty() || !held(0) || !history.iter().all(|n| held(*n)) {
                    return Err(Refusal::WrongRelation);
                }
            }
            FactKind::CoLiked { .. } => {
                let measured = |n: &usize| known.affinity(&known.subjects[*n].item.id).is_some();
                if history.is_empty() || !history.iter().all(measured) {
                    return Err(Refusal::NoAffinity);
                }
            }
            FactKind::Premise => {
                let own = &known.subjects[0].item.id;
                let about_item = |e: &Evidence| matches!(e, Evidence::Description { item } | Evidence::Attribute { item, .. } if item == own);
                if fact.evidence.is_empty() || !fact.evidence.iter().all(about_item) {
                    return Err(Refusal::ForeignEvidence);
                }
            }
            FactKind::Statement if fact.evidence.is_empty() => return Err(Refusal::Ungrounded),
            FactKind::Unrelated | FactKind::Statement => {}
        }
        let mut alone = Self {
            known: Arc::clone(known),
            facts: Arc::default(),
            named: history,
        };
        let mut cutter = alone.sentences();
        let mut sentences = cutter.push(fact.text.trim());
        sentences.extend(cutter.finish());
        if sentences.is_empty() {
            return Err(Refusal::Ungrounded);
        }
        for mut sentence in sentences {
            if !sentence.ends_with(['.', '!', '?']) {
                sentence.push('.');
            }
            alone.check(&sentence, &[])?;
        }
        Ok(())
    }

    fn need_of(&self, attribute: &str) -> Need {
        let held = self
            .known
            .subjects
            .iter()
            .flat_map(|s| &s.values)
            .find(|h| fold(&h.attribute) == fold(attribute));
        match held.map(|h| h.role) {
            Some(Role::Other) | None => Need::Label(label(attribute)),
            Some(role) => Need::Role(role),
        }
    }

    /// Cuts a sentence into tokens: known stretches, words with their cues, marks.
    fn read(&self, sentence: &str, mentions: &[Mention], quotes: bool) -> Result<Vec<Token>, Refusal> {
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
                    ..Found::default()
                },
                Target::History(id) => {
                    let n = known.history_of(id).ok_or(Refusal::ForeignEvidence)?;
                    Found {
                        titles: vec![n],
                        ..Found::default()
                    }
                }
                Target::Value { value, .. } => Found {
                    values: vec![fold(value)],
                    ..Found::default()
                },
                Target::Plot(premise) => {
                    if !known.resolves(&premise.evidence) {
                        return Err(Refusal::ForeignEvidence);
                    }
                    Found {
                        plot: true,
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
        self.years_in_brackets(&mut tokens)?;
        Ok(tokens)
    }

    /// Letters, digits and the marks of plain prose; titles and values may hold what they like.
    fn alphabet(&self, sentence: &str, tokens: &[Token]) -> Result<(), Refusal> {
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
                            || found.titles.iter().any(|n| {
                                crate::text::clean(&self.known.subjects[*n].item.title, TITLE_CHARS_MAX)
                                    .contains(c)
                            })
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
    fn described_name(
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
        for length in (1..=length).rev() {
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
    fn years_in_brackets(&self, tokens: &mut Vec<Token>) -> Result<(), Refusal> {
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

    /// What no request could support, or only its data: denials, promises, distinctions, genres, numbers.
    fn words_are_harmless(&self, tokens: &[Token], sentence: &Sentence) -> Result<(), Refusal> {
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
                Some(Cue::Distinction) if !item.speaks_of(&word.folded) => {
                    return Err(Refusal::UntraceableAttribute);
                }
                _ => {}
            }
            if word.has_digit() {
                self.number(tokens, n, word)?;
            }
            if let Some((_, count)) = COUNTS.iter().find(|(name, _)| *name == word.folded) {
                let named = [sentence.titles.len(), sentence.history.len(), sentence.values];
                if !named.contains(count)
                    && !item.speaks_of(&word.folded)
                    && !self.is_lift(tokens, n, *count as f32)
                {
                    return Err(Refusal::UntraceableNumber);
                }
            }
        }
        Ok(())
    }

    fn number(&self, tokens: &[Token], n: usize, word: &Word) -> Result<(), Refusal> {
        let described = self.known.subjects[0].describes(&word.folded);
        let lift = word
            .folded
            .parse::<f32>()
            .is_ok_and(|number| self.is_lift(tokens, n, number));
        if described || lift {
            Ok(())
        } else {
            Err(Refusal::UntraceableNumber)
        }
    }

    /// "3 times": the measured lift of a history item that the sentence names.
    fn is_lift(&self, tokens: &[Token], n: usize, number: f32) -> bool {
        let times = tokens
            .get(n + 1)
            .is_some_and(|t| matches!(&t.kind, Kind::Word(w) if w.folded == "times"));
        times
            && tokens.iter().flat_map(Token::titles).any(|title| {
                let id = &self.known.subjects[title].item.id;
                self.known
                    .affinity(id)
                    .is_some_and(|a| (a.lift - number).abs() <= 0.5)
            })
    }

    /// Judges one statement of a sentence. `earlier` are history items that the sentence named before.
    fn judge(&self, tokens: &[Token], earlier: &[usize]) -> Result<Judged, Refusal> {
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
        let mut evidence = Evidences::default();
        let names = self.values(tokens, &cues, &titles, contrast, &mut evidence)?;
        self.genre_words(tokens, &titles, contrast, &mut evidence)?;
        if tokens.iter().any(|t| matches!(&t.kind, Kind::Found(f) if f.plot)) {
            if !own.is_empty() {
                return Err(Refusal::WrongRelation);
            }
            evidence.push(self.plot_evidence());
        }
        if others {
            if titles.is_empty() {
                return Err(Refusal::NoAffinity);
            }
            for title in &titles {
                let id = &known.subjects[*title].item.id;
                known.affinity(id).ok_or(Refusal::NoAffinity)?;
                evidence.push(Evidence::Affinity { item: id.clone() });
            }
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
                let item = &known.subjects[*title].item;
                let shared = known.common(*title, None);
                let year = known.common(*title, Some(Role::Year));
                // Two items of one decade are not alike for it; the decade must be said.
                let close = !shared.is_empty()
                    || known.affinity(&item.id).is_some()
                    || (names > 0 && !year.is_empty());
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
                    item: known.subjects[*title].item.id.clone(),
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
    fn history_title(&self, token: &Token) -> Result<Option<usize>, Refusal> {
        let Kind::Found(found) = &token.kind else {
            return Ok(None);
        };
        if found.titles.is_empty() || found.titles.contains(&0) || found.reads_as_value() {
            return Ok(None);
        }
        let standing = |n: usize| self.known.subjects[n].standing;
        // Namesakes: the one that has most to do with the item is meant.
        let ties = |n: usize| {
            let affinity = self.known.affinity(&self.known.subjects[n].item.id).is_some();
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
    fn opinions(&self, tokens: &[Token], cues: &[(usize, Cue)], own: &[usize]) -> Result<(), Refusal> {
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
            let next = tokens
                .iter()
                .enumerate()
                .skip(at + width)
                .take(2)
                .find(|(_, t)| matches!(t.kind, Kind::Found(_)));
            let Some((place, next)) = next else { continue };
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
    fn values(
        &self,
        tokens: &[Token],
        cues: &[(usize, Cue)],
        titles: &[usize],
        contrast: bool,
        evidence: &mut Evidences,
    ) -> Result<usize, Refusal> {
        let known = &self.known;
        let taste = cues.iter().any(|(_, cue)| *cue == Cue::Taste);
        let needs = needs_of(tokens, cues, |value| self.is_named_value(value));
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
    fn is_named_value(&self, value: &str) -> bool {
        let mut held = self
            .known
            .subjects
            .iter()
            .flat_map(|s| &s.values)
            .filter(|h| h.folded == *value)
            .peekable();
        held.peek().is_none() || held.any(|h| !matches!(h.role, Role::Genre | Role::Year))
    }

    /// Genre and theme words that are no value of their own must still be in the data of all they are said of.
    fn genre_words(
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

    fn word_evidence(&self, subject: usize, term: &str) -> Option<Evidence> {
        let subject = &self.known.subjects[subject];
        let stems: Vec<String> = words(term).iter().map(|w| known::stem(&w.folded)).collect();
        let held = subject.values.iter().find(|held| {
            let own: Vec<String> = words(&held.value)
                .iter()
                .map(|w| known::stem(&w.folded))
                .collect();
            stems.iter().all(|s| own.contains(s))
        });
        Some(match held {
            Some(held) => Evidence::Attribute {
                item: subject.item.id.clone(),
                name: held.attribute.clone(),
                value: held.value.clone(),
            },
            None => Evidence::Description {
                item: subject.item.id.clone(),
            },
        })
    }

    /// "the same director as Heat", without a name: there must be one.
    fn same_role(
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

    fn plot_evidence(&self) -> Evidence {
        let item = &self.known.subjects[0].item;
        if item.description.trim().is_empty() {
            let premise = crate::premise::premise(&Vocabulary::default(), item);
            premise.map_or(
                Evidence::Description {
                    item: item.id.clone(),
                },
                |p| p.evidence,
            )
        } else {
            crate::premise::premise(&Vocabulary::default(), item).map_or(
                Evidence::Description {
                    item: item.id.clone(),
                },
                |p| p.evidence,
            )
        }
    }

    /// Facts of the knowledge that say what this statement says.
    fn cite(
        &self,
        tokens: &[Token],
        titles: &[usize],
        others: bool,
        contrast: bool,
        evidence: &mut Evidences,
    ) {
        let ids: Vec<_> = titles.iter().map(|n| &self.known.subjects[*n].item.id).collect();
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
struct Judged {
    titles: Vec<usize>,
    claim: Option<Claim>,
}

/// Evidence, each piece once.
#[derive(Default)]
struct Evidences {
    list: Vec<Evidence>,
}

impl Evidences {
    fn push(&mut self, evidence: Evidence) {
        if !self.list.contains(&evidence) {
            self.list.push(evidence);
        }
    }

    fn extend(&mut self, evidence: impl IntoIterator<Item = Evidence>) {
        evidence.into_iter().for_each(|e| self.push(e));
    }

    fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// A known stretch of a sentence.
#[derive(Clone, Debug, Default)]
struct Found {
    titles: Vec<usize>,
    values: Vec<String>,
    label: Option<String>,
    plot: bool,
    /// Given by a slot, not matched.
    fixed: bool,
    /// A title that is also a value, beside a word such as "series".
    as_value: bool,
}

impl Found {
    fn of(meanings: &[Meaning]) -> Self {
        let mut found = Self::default();
        for meaning in meanings {
            match meaning {
                Meaning::Title(n) => found.titles.push(*n),
                Meaning::Value(value) if !found.values.contains(value) => found.values.push(value.clone()),
                Meaning::Label(label) => found.label = Some(label.clone()),
                Meaning::Value(_) => {}
            }
        }
        found
    }

    fn is_label_only(&self) -> bool {
        self.label.is_some() && self.titles.is_empty() && self.values.is_empty() && !self.plot
    }

    fn reads_as_value(&self) -> bool {
        !self.values.is_empty() && (self.titles.is_empty() || self.as_value)
    }
}

#[derive(Clone, Debug)]
enum Kind {
    Word(Word),
    Found(Found),
    Mark(char),
}

#[derive(Clone, Debug)]
struct Token {
    span: Range<usize>,
    kind: Kind,
}

impl Token {
    fn titles(&self) -> impl Iterator<Item = usize> {
        let titles = match &self.kind {
            Kind::Found(found) => found.titles.as_slice(),
            _ => &[],
        };
        titles.iter().copied()
    }

    fn word(&self) -> Option<&Word> {
        match &self.kind {
            Kind::Word(word) => Some(word),
            _ => None,
        }
    }
}

/// Counts of a whole sentence, for number words.
struct Sentence {
    titles: Vec<usize>,
    history: Vec<usize>,
    values: usize,
}

impl Sentence {
    fn of(tokens: &[Token]) -> Self {
        let mut titles: Vec<usize> = tokens.iter().filter_map(|t| t.titles().next()).collect();
        titles.sort_unstable();
        titles.dedup();
        let history = titles.iter().copied().filter(|n| *n > 0).collect();
        let values = tokens
            .iter()
            .filter(|t| matches!(&t.kind, Kind::Found(f) if f.reads_as_value()))
            .count();
        Self {
            titles,
            history,
            values,
        }
    }
}

/// Length, alphabet, links, the stop at the end.
fn bounds(sentence: &str, mentions: &[Mention]) -> Result<(), Refusal> {
    if sentence.chars().count() > SENTENCE_CHARS_MAX {
        return Err(Refusal::TooLong);
    }
    if mentions.iter().any(|m| sentence.get(m.span.clone()).is_none()) {
        return Err(Refusal::Characters);
    }
    let mut free = String::with_capacity(sentence.len());
    for (at, c) in sentence.char_indices() {
        if c.is_control() || is_invisible(c) || matches!(c, '<' | '>' | '{' | '}' | '|' | '\\' | '`') {
            return Err(Refusal::Characters);
        }
        free.push(if mentions.iter().any(|m| m.span.contains(&at)) {
            ' '
        } else {
            c
        });
    }
    if looks_like_link(&free) {
        return Err(Refusal::Link);
    }
    let end = sentence.trim_end_matches(['"', '”', '’', '\'', ')']);
    if !end.ends_with(['.', '!', '?']) {
        return Err(Refusal::Unfinished);
    }
    Ok(())
}

/// Statements of a sentence: cut at `;`, at a dash, and at ", and" and its like.
fn statements(tokens: &[Token]) -> impl Iterator<Item = &[Token]> {
    let mut cuts = vec![0];
    for (n, token) in tokens.iter().enumerate() {
        let cut = match &token.kind {
            Kind::Mark(';' | '—' | '–') => true,
            Kind::Mark(',') => tokens.get(n + 1).and_then(Token::word).is_some_and(|w| {
                matches!(
                    w.folded.as_str(),
                    "and" | "but" | "while" | "whereas" | "yet" | "so"
                )
            }),
            _ => false,
        };
        if cut && n > 0 {
            cuts.push(n + 1);
        }
    }
    cuts.push(tokens.len());
    let pairs: Vec<(usize, usize)> = cuts
        .windows(2)
        .map(|w| (w[0], w[1]))
        .filter(|(a, b)| a < b)
        .collect();
    pairs.into_iter().map(|(from, to)| &tokens[from..to])
}

/// The cue at the start of these words, the longest; with its length.
fn cue_at(words: &[&Word]) -> Option<(usize, Cue)> {
    CUES.iter()
        .filter(|(phrase, _)| {
            phrase.len() <= words.len() && phrase.iter().zip(words).all(|(p, w)| *p == w.folded)
        })
        .max_by_key(|(phrase, _)| phrase.len())
        .map(|(phrase, cue)| (phrase.len(), *cue))
}

/// All cues of a statement with the place of their first word.
fn cues_of(tokens: &[Token]) -> Vec<(usize, Cue)> {
    let mut cues = Vec::new();
    let mut n = 0;
    while n < tokens.len() {
        let words: Vec<&Word> = tokens[n..].iter().take(4).map_while(Token::word).collect();
        match cue_at(&words) {
            Some((length, cue)) => {
                cues.push((n, cue));
                // "same people": the words of one cue may begin the next, except within a role.
                n += if matches!(cue, Cue::Role(..)) { length } else { 1 };
            }
            None => n += 1,
        }
    }
    cues
}

/// Which part each named value must play, by the nearest cue.
fn needs_of(tokens: &[Token], cues: &[(usize, Cue)], is_named: impl Fn(&str) -> bool) -> Vec<(usize, Need)> {
    // A cue reaches over this many plain words.
    const REACH: usize = 5;
    let mut needs = Vec::new();
    let mut used: Vec<usize> = Vec::new();
    let mut active: Option<(Need, usize)> = None;
    let mut distance = 0;
    for (n, token) in tokens.iter().enumerate() {
        match &token.kind {
            Kind::Word(word) => {
                let cue = cues.iter().find(|(at, _)| *at == n).map(|(_, cue)| *cue);
                match cue {
                    // "directed by X, with Y": the cue ends there.
                    _ if word.folded == "with" => active = None,
                    Some(Cue::Role(role, side))
                        if side != Side::Before && !used.contains(&n) && role != Role::Genre =>
                    {
                        active = Some((Need::Role(role), n));
                        distance = 0;
                    }
                    _ => distance += 1,
                }
            }
            Kind::Mark(_) => {}
            Kind::Found(found) => {
                if let Some(label) = &found.label {
                    active = Some((Need::Label(label.clone()), n));
                    distance = 0;
                    continue;
                }
                if !found.reads_as_value() || !found.values.iter().any(|v| is_named(v)) {
                    continue;
                }
                let before = active.clone().filter(|_| distance <= REACH).map(|(need, _)| need);
                let near = before.is_some() && distance <= 2;
                let after = if near { None } else { backward(tokens, cues, n) };
                if let Some((at, need)) = after {
                    // "X directs Y": Y is in it.
                    let directs = need == Need::Role(Role::Director);
                    let object = tokens
                        .get(at + 1)
                        .is_some_and(|t| matches!(&t.kind, Kind::Found(f) if f.reads_as_value()));
                    active = (directs && object).then_some((Need::Role(Role::Cast), at));
                    distance = 0;
                    used.push(at);
                    needs.push((n, need));
                } else if let Some(need) = before {
                    needs.push((n, need));
                    distance = 0;
                }
            }
        }
    }
    needs
}

/// "X directs", "X, the director of": the cue that follows a name.
fn backward(tokens: &[Token], cues: &[(usize, Cue)], name: usize) -> Option<(usize, Need)> {
    const REACH: usize = 4;
    let mut words = 0;
    for (n, token) in tokens.iter().enumerate().skip(name + 1) {
        match &token.kind {
            Kind::Found(found) if found.label.is_some() => {
                return (words <= 2).then(|| (n, Need::Label(found.label.clone().unwrap_or_default())));
            }
            Kind::Found(_) => return None,
            Kind::Mark(_) => {}
            Kind::Word(_) => {
                let cue = cues.iter().find(|(at, _)| *at == n).map(|(_, cue)| *cue);
                if let Some(Cue::Role(role, side)) = cue {
                    let previous = tokens[..n]
                        .iter()
                        .rev()
                        .find_map(Token::word)
                        .map(|w| w.folded.as_str());
                    let next = tokens.get(n + 1);
                    let names_follow =
                        next.is_some_and(|t| matches!(&t.kind, Kind::Found(f) if f.reads_as_value()));
                    let appositive = matches!(previous, Some("the" | "as" | "its" | "a")) && !names_follow;
                    let verb = matches!(role, Role::Cast) && !names_follow;
                    return match side {
                        Side::Before => Some((n, Need::Role(role))),
                        Side::Either if appositive || verb => Some((n, Need::Role(role))),
                        _ => None,
                    };
                }
                words += 1;
                if words > REACH {
                    return None;
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests;
