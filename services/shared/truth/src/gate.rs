//! The truth gate: a sentence passes only if the request supports it, and says what it rests on.
//!
//! A sentence is read as words, known stretches (titles, values, quotations of the description) and cues (tables in `cues`). It is cut
//! at `;` and at "…, and" into statements. Then, for every statement: names must be known, a name after "directed by" must be a
//! director, what is said of the item and a history item must hold for both, what others like must have been measured, and
//! what was disliked is not named. When in doubt, it refuses: a template is there to take over.

mod cues;
mod form;
mod fragment;
mod judge;
mod known;
mod numbers;
mod people;
mod place;
mod read;
mod refusal;
mod roles;
mod token;
mod words;

use std::sync::Arc;

use refract_domain::{Claim, Evidence, Fact, FactKind, History, Knowledge, Pair};

use crate::render::Mention;
use crate::sentences::Sentences;
use crate::text::fold;
use crate::vocabulary::{Role, Vocabulary, label};
use known::{Known, Need};
use token::{Kind, Sentence, bounds, statements, values_said};

pub use refusal::Refusal;

/// Longest sentence, in characters.
pub const SENTENCE_CHARS_MAX: usize = 500;

/// Judges sentences against one request. Cheap to clone; remembers which history items the previous sentence named, for "both", and
/// whom, for "he".
#[derive(Clone, Debug)]
pub struct Gate {
    known: Arc<Known>,
    /// Facts of the knowledge that this request supports, with their place in it.
    facts: Arc<Vec<(usize, Fact)>>,
    named: Vec<usize>,
    /// The people whom the sentences that passed named last, for "he".
    people: Vec<String>,
    /// Whether the sentence that passed last speaks of the recommended item.
    about_item: bool,
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
            people: Vec::new(),
            about_item: false,
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

    /// The facts of the knowledge that this request supports.
    pub fn facts(&self) -> impl Iterator<Item = &Fact> {
        self.facts.iter().map(|(_, fact)| fact)
    }

    /// A cutter of plain text that knows this request's titles.
    pub fn sentences(&self) -> Sentences {
        Sentences::new(self.known.stopped())
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
        self.well_formed(sentence, &tokens)?;
        let sentence_wide = Sentence::of(&tokens);
        self.words_are_harmless(&tokens, &sentence_wide)?;
        let mut claims = Vec::new();
        let mut earlier: Vec<usize> = Vec::new();
        let mut people = self.people.clone();
        let said = values_said(&tokens);
        for statement in statements(&tokens) {
            let judged = self.judge(statement, &earlier, &people, &said)?;
            let met = self.people_in(statement);
            if !met.is_empty() {
                people = met;
            }
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
        self.people = people;
        self.about_item = self.refers_to_item(&tokens);
        Ok(claims)
    }

    /// Whether the sentence that passed last speaks of the recommended item: "You liked Heat." does not, and is no explanation.
    pub fn spoke_of_item(&self) -> bool {
        self.about_item
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
                let measured = |n: &usize| known.affinity(known.subjects[*n].id()).is_some();
                if history.is_empty() || !history.iter().all(measured) {
                    return Err(Refusal::NoAffinity);
                }
            }
            FactKind::Premise => {
                let own = known.subjects[0].id();
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
            people: Vec::new(),
            about_item: false,
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
        let folded = fold(attribute);
        let held = self
            .known
            .subjects
            .iter()
            .flat_map(|s| &s.values)
            .find(|h| h.attribute == attribute || fold(&h.attribute) == folded);
        match held.map(|h| h.role) {
            Some(Role::Other) | None => Need::Label(label(attribute)),
            Some(role) => Need::Role(role),
        }
    }
}

#[cfg(test)]
mod tests;
