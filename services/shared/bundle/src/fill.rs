//! From a model's text, as it streams, to sentences that may be shown: slots filled, each sentence through the truth gate.

use std::sync::Arc;

use refract_domain::Claim;
use refract_truth::{Gate, Refusal, Sentences, render};

use crate::slots::SlotTable;

/// Sentences of one explanation that are shown at most.
pub const SENTENCES_MAX: usize = 4;

/// Takes a model's text in pieces and gives out what may be shown. What it has given out is never taken back; after the first
/// refused sentence nothing more comes, for what follows would lean on it. Nothing is given out before a sentence speaks of the
/// item: a slot model must name it in its first sentence, plain text may lead in ("You liked Heat.") and is held back so long.
#[derive(Debug)]
pub struct Filler {
    slots: Option<Arc<SlotTable>>,
    gate: Gate,
    /// Slot text that is not yet a whole sentence.
    pending: String,
    /// Cuts plain text where titles do not mislead.
    plain: Sentences,
    text: String,
    /// Sentences that passed and lead in to one about the item.
    held: String,
    held_claims: Vec<Claim>,
    claims: Vec<Claim>,
    refusals: Vec<Refusal>,
    undefined: Vec<String>,
    sentences: usize,
}

impl Filler {
    pub(crate) fn new(slots: Option<Arc<SlotTable>>, gate: Gate) -> Self {
        let plain = gate.sentences();
        Self {
            slots,
            gate,
            pending: String::new(),
            plain,
            text: String::new(),
            held: String::new(),
            held_claims: Vec::new(),
            claims: Vec::new(),
            refusals: Vec::new(),
            undefined: Vec::new(),
            sentences: 0,
        }
    }

    /// More of the model's text. What comes back joins to [`Filler::text`]: sentences, the later ones with a blank before them.
    pub fn push(&mut self, delta: &str) -> Vec<String> {
        let mut shown = Vec::new();
        if self.is_cut() {
            return shown;
        }
        if self.slots.is_some() {
            self.pending.push_str(delta);
            while let Some(end) = self.pending.find(['.', '!', '?']) {
                let rest = self.pending.split_off(end + 1);
                let sentence = std::mem::replace(&mut self.pending, rest);
                shown.extend(self.fill(&sentence));
            }
        } else {
            for sentence in self.plain.push(delta) {
                shown.extend(self.judge(&sentence, None));
            }
        }
        shown
    }

    /// The model's text has ended.
    pub fn finish(&mut self) -> Vec<String> {
        if self.is_cut() {
            return Vec::new();
        }
        let last = if self.slots.is_some() {
            let rest = std::mem::take(&mut self.pending);
            if rest.trim().is_empty() {
                None
            } else {
                self.fill(&rest)
            }
        } else {
            self.plain
                .finish()
                .and_then(|sentence| self.judge(&sentence, None))
        };
        last.into_iter().collect()
    }

    fn fill(&mut self, sentence: &str) -> Option<String> {
        let (parts, undefined) = self.slots.as_ref().map(|table| table.parts(sentence))?;
        if !undefined.is_empty() {
            self.undefined.extend(undefined);
            self.refusals.push(Refusal::UndefinedSlot);
            return None;
        }
        let rendered = render(&parts);
        self.judge(&rendered.text, Some(&rendered.mentions))
    }

    fn judge(&mut self, sentence: &str, mentions: Option<&[refract_truth::Mention]>) -> Option<String> {
        if self.is_cut() {
            return None;
        }
        match self.gate.check(sentence, mentions.unwrap_or_default()) {
            Ok(claims) => {
                let opens = self.text.is_empty();
                let names_item = |mentions: &[refract_truth::Mention]| {
                    mentions.iter().any(|m| m.target == refract_truth::Target::Item)
                };
                if opens && mentions.is_some_and(|mentions| !names_item(mentions)) {
                    self.refusals.push(Refusal::Nameless);
                    return None;
                }
                let blank = if opens && self.held.is_empty() { "" } else { " " };
                let offset = self.text.len() + self.held.len() + blank.len();
                self.held.push_str(blank);
                self.held.push_str(sentence);
                self.held_claims.extend(claims.into_iter().map(|claim| Claim {
                    span: claim.span.start + offset..claim.span.end + offset,
                    evidence: claim.evidence,
                }));
                self.sentences += 1;
                if opens && !self.gate.spoke_of_item() {
                    return None;
                }
                self.text.push_str(&self.held);
                self.claims.append(&mut self.held_claims);
                Some(std::mem::take(&mut self.held))
            }
            Err(refusal) => {
                self.refusals.push(refusal);
                None
            }
        }
    }

    /// Whether nothing more will be shown: a sentence was refused, or there are enough. The generation may be stopped.
    pub fn is_cut(&self) -> bool {
        !self.refusals.is_empty() || self.sentences >= SENTENCES_MAX
    }

    /// All that may be shown so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What the text rests on; spans are bytes of [`Filler::text`].
    pub fn claims(&self) -> &[Claim] {
        &self.claims
    }

    pub fn refusals(&self) -> &[Refusal] {
        &self.refusals
    }

    /// Slots that the model wrote and the prompt does not define.
    pub fn undefined(&self) -> &[String] {
        &self.undefined
    }
}
