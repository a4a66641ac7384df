//! A bundle as its services use it: prompts out, text back in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use refract_domain::{ExplainQuery, Fact, FactKind, History, Knowledge, Pair, Revision};
use refract_truth::text::{TITLE_CHARS_MAX, sayable};
use refract_truth::{Gate, Point, Relation, Vocabulary, phrase, point_of, render};

use crate::error::Error;
use crate::facts::{clause_of, fact_of, point_of_fact, unrelated};
use crate::fill::Filler;
use crate::manifest::{MANIFEST_FILE, Manifest, Mode, Role};
use crate::slots::SlotTable;
use crate::template::{Scene, oracle_slots, plain, prism_slots};
use crate::tokenizer::{TOKENIZER_FILE, TextStream, Tokenizer};

/// Facts that one consultation keeps.
pub const FACTS_MAX: usize = 3;

/// A directory of weights with all that is needed to speak with them. The weights themselves are loaded elsewhere.
#[derive(Clone, Debug)]
pub struct Bundle {
    dir: PathBuf,
    manifest: Manifest,
    tokenizer: Tokenizer,
    /// Every slot that the tokenizer holds, with its token; none for plain text.
    slots: Vec<(String, u32)>,
    vocabulary: Arc<Vocabulary>,
}

/// A prompt, and what is needed to read the answer to it.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// With the tokenizer's own begin and end.
    pub ids: Vec<u32>,
    /// Slots that this prompt does not define: a model that is kept from these tokens cannot speak of what it was not told.
    pub undefined: Vec<u32>,
    pub text: String,
    /// History items that could have been named and had no room (the oldest).
    pub history_truncated: u32,
    slots: Option<Arc<SlotTable>>,
    /// The Oracle's candidates, by the names they have in the prompt.
    candidates: Vec<(String, Relation)>,
    scene: Scene,
    gate: Gate,
}

/// What an Oracle's text said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    pub facts: Vec<Fact>,
    /// The facts as a text for people (mode *oracle*).
    pub text: String,
    /// Statements that were thrown away: not among the candidates, or not supported by the request.
    pub refused: u32,
}

impl Bundle {
    /// Opens a bundle and verifies every checksum; a plain Hugging Face directory gets the documented defaults.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let manifest = if dir.join(MANIFEST_FILE).is_file() {
            let manifest = Manifest::read(dir)?;
            manifest.verify(dir)?;
            manifest
        } else {
            Manifest::of_plain_directory(dir)?
        };
        let tokenizer = Tokenizer::read(&dir.join("tokenizer.json"))?;
        Self::assemble(dir, manifest, tokenizer)
    }

    fn assemble(dir: &Path, manifest: Manifest, tokenizer: Tokenizer) -> Result<Self, Error> {
        let mut slots = Vec::new();
        if let Some(limits) = &manifest.slots {
            for slot in crate::slots::all_slots(limits) {
                let Some(id) = tokenizer.id(&slot) else {
                    let reason = format!("bundle.toml declares the slot {slot}, which is not a token");
                    return Err(Error::Tokenizer {
                        path: dir.join("tokenizer.json"),
                        reason,
                    });
                };
                slots.push((slot, id));
            }
        }
        Ok(Self {
            dir: dir.to_owned(),
            manifest,
            tokenizer,
            slots,
            vocabulary: Arc::default(),
        })
    }

    /// With this much memory for items that were read before.
    #[must_use]
    pub fn holding_readings(mut self, bytes: u64) -> Self {
        self.vocabulary = Arc::new(Vocabulary::clone(&self.vocabulary).holding(bytes));
        self
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Refuses a tokenizer with ids for which the model has no row.
    pub fn fits(&self, rows: usize) -> Result<(), Error> {
        self.tokenizer.fits(rows).map_err(|reason| Error::Tokenizer {
            path: self.dir.join(TOKENIZER_FILE),
            reason,
        })
    }

    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Names the weights.
    pub fn revision(&self) -> Revision {
        Revision(format!("{}@{}", self.manifest.name, self.manifest.revision))
    }

    pub fn template_revision(&self) -> Revision {
        Revision(self.manifest.template_revision())
    }

    /// Refuses a bundle that is made for the other service.
    pub fn expect(self, wanted: Role) -> Result<Self, Error> {
        if self.manifest.role == wanted {
            Ok(self)
        } else {
            Err(Error::Role {
                is: self.manifest.role,
                wanted,
            })
        }
    }

    pub fn decode(&self, ids: &[u32]) -> String {
        self.tokenizer.decode(ids)
    }

    /// Turns ids into text as they come; feed it to [`Filler::push`].
    pub fn text_stream(&self) -> TextStream {
        self.tokenizer.stream()
    }

    /// What a Prism is asked. Knowledge is used where the bundle was made for it, and only what this request supports.
    pub fn prompt_prism(&self, query: &ExplainQuery) -> Result<Prompt, Error> {
        let scene = self.scene(&query.pair, &query.history)?;
        let gate = Gate::new(
            &self.vocabulary,
            &query.pair,
            &query.history,
            query.knowledge.as_ref(),
        );
        let knowledge = query
            .knowledge
            .as_ref()
            .filter(|_| self.manifest.mode == Mode::Conditioned);
        let facts: Vec<&Fact> = gate.facts().filter(|_| knowledge.is_some()).collect();
        if let Some(limits) = &self.manifest.slots {
            let points = slot_points(&self.vocabulary, &scene, knowledge, &facts);
            return self.fit(scene, gate.clone(), |scene, history_items, _| {
                let prompt = prism_slots(scene, points.as_deref(), query.style, limits, history_items);
                (prompt.text, prompt.history_shown, Some(prompt.table), Vec::new())
            });
        }
        let clauses: Vec<String> = facts
            .iter()
            .map(|fact| refract_truth::text::clean(&fact.text, 300))
            .collect();
        self.fit(scene, gate.clone(), |scene, history_items, description| {
            let (text, shown) = plain(
                &self.manifest.template,
                scene,
                &clauses,
                history_items,
                description,
            );
            (text, shown, None, Vec::new())
        })
    }

    /// What an Oracle is asked.
    pub fn prompt_oracle(&self, pair: &Pair, history: &Arc<History>) -> Result<Prompt, Error> {
        let scene = self.scene(pair, history)?;
        let gate = Gate::new(&self.vocabulary, pair, history, None);
        if let Some(limits) = &self.manifest.slots {
            return self.fit(scene, gate, |scene, history_items, _| {
                let prompt = oracle_slots(scene, limits, history_items);
                (
                    prompt.text,
                    prompt.history_shown,
                    Some(prompt.table),
                    prompt.candidates,
                )
            });
        }
        self.fit(scene, gate, |scene, history_items, description| {
            let (text, shown) = plain(&self.manifest.template, scene, &[], history_items, description);
            (text, shown, None, Vec::new())
        })
    }

    /// The facts in an Oracle's text. Slots: only what repeats a candidate. Plain text: sentences that pass the gate.
    pub fn parse_oracle(&self, prompt: &Prompt, text: &str) -> Parsed {
        if prompt.slots.is_some() {
            parse_slots(prompt, text)
        } else {
            parse_plain(prompt, text)
        }
    }

    fn scene(&self, pair: &Pair, history: &Arc<History>) -> Result<Scene, Error> {
        if sayable(&pair.item.title, TITLE_CHARS_MAX).is_none() {
            return Err(Error::Title);
        }
        Ok(Scene::new(pair, history, &self.vocabulary))
    }

    fn undefined(&self, table: &SlotTable) -> Vec<u32> {
        let slots = self.slots.iter().filter(|(slot, _)| !table.defines(slot));
        slots.map(|(_, id)| *id).collect()
    }

    /// Makes the longest prompt that fits: whole history items go, oldest first, then the item's description; the item and the
    /// instruction never.
    fn fit(
        &self,
        scene: Scene,
        gate: Gate,
        make: impl Fn(&Scene, usize, usize) -> Made,
    ) -> Result<Prompt, Error> {
        let tokens_max = self.manifest.limits.prompt_tokens_max;
        let all = scene.nameable().min(self.manifest.limits.history_items_max);
        let mut description = self.manifest.template.description_chars_max;
        let try_with = |items, description| {
            let made = make(&scene, items, description);
            let ids = self.tokenizer.encode(&made.0);
            (items, ids, made)
        };
        let fits = |(_, ids, _): &(usize, Vec<u32>, Made)| ids.len() <= tokens_max;
        let mut tried = try_with(all, description);
        if !fits(&tried) {
            tried = try_with(0, description);
            while !fits(&tried) && description > 0 {
                description /= 2;
                tried = try_with(0, description);
            }
        }
        if !fits(&tried) {
            return Err(Error::PromptTooLong {
                tokens: tried.1.len(),
                tokens_max,
            });
        }
        // More items make a longer prompt: with `tried.0` it fits, with `too_many` it does not. What a shorter description has left is
        // no room for items.
        let is_whole = description == self.manifest.template.description_chars_max;
        let mut too_many = if is_whole { all } else { 0 };
        while tried.0 + 1 < too_many {
            let middle = try_with(tried.0.midpoint(too_many), description);
            if fits(&middle) {
                tried = middle;
            } else {
                too_many = middle.0;
            }
        }
        let (items, ids, (text, shown, table, candidates)) = tried;
        let kept = if candidates.is_empty() { shown } else { items };
        let oldest = scene.nameable().saturating_sub(kept);
        Ok(Prompt {
            ids,
            undefined: table
                .as_ref()
                .map_or_else(Vec::new, |table| self.undefined(table)),
            text,
            history_truncated: u32::try_from(oldest).unwrap_or(u32::MAX),
            slots: table.map(Arc::new),
            candidates,
            scene,
            gate,
        })
    }
}

/// Text, history items shown, slots, candidates.
type Made = (String, usize, Option<SlotTable>, Vec<(String, Relation)>);

/// What a slot Prism is told: `None` when there is no knowledge that slots can carry, and it must look for itself.
fn slot_points(
    vocabulary: &Vocabulary,
    scene: &Scene,
    knowledge: Option<&Knowledge>,
    facts: &[&Fact],
) -> Option<Vec<Point>> {
    knowledge?;
    let points: Vec<Point> = facts
        .iter()
        .filter_map(|fact| point_of_fact(vocabulary, fact, &scene.item, &scene.history))
        .take(FACTS_MAX)
        .collect();
    let honest_nothing = facts.iter().any(|fact| fact.kind == FactKind::Unrelated);
    (!points.is_empty() || honest_nothing).then_some(points)
}

fn parse_slots(prompt: &Prompt, text: &str) -> Parsed {
    let scene = &prompt.scene;
    let matter = scene.matter();
    let surface = |target: &refract_truth::Target| scene.surface(target);
    let mut parsed = Parsed::default();
    let mut points: Vec<Point> = Vec::new();
    for statement in text.split(';') {
        let words = statement.split_whitespace().collect::<Vec<_>>().join(" ");
        if words.is_empty()
            || (words == "none" && prompt.candidates.iter().all(|(_, relation)| !relation.is_link()))
        {
            continue;
        }
        match prompt
            .candidates
            .iter()
            .find(|(candidate, _)| *candidate == words)
        {
            Some((_, relation)) => {
                let point = point_of(relation);
                if !points.contains(&point) && parsed.facts.len() < FACTS_MAX {
                    let fact = fact_of(relation, clause_of(&matter, &point, &surface));
                    if prompt.gate.supports(&fact) {
                        parsed.facts.push(fact);
                        points.push(point);
                    } else {
                        parsed.refused += 1;
                    }
                }
            }
            None => parsed.refused += 1,
        }
    }
    let linked = points.iter().any(|point| !point.history.is_empty());
    let linkable = prompt.candidates.iter().any(|(_, relation)| relation.is_link());
    if !linked && !linkable && !scene.history.is_empty() {
        parsed.facts.extend(unrelated(&scene.pair, &matter, &surface));
    }
    let sentences = phrase::compose(&matter, &points, 0, &surface);
    parsed.text = sentences
        .iter()
        .map(|parts| render(parts).text)
        .collect::<Vec<_>>()
        .join(" ");
    parsed
}

fn parse_plain(prompt: &Prompt, text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    let mut gate = prompt.gate.clone();
    let mut cutter = gate.sentences();
    let mut sentences = cutter.push(text);
    sentences.extend(cutter.finish());
    let mut kept: Vec<String> = Vec::new();
    for sentence in sentences {
        match gate.check(&sentence, &[]) {
            Ok(claims) if parsed.facts.len() < FACTS_MAX => {
                let mut evidence = Vec::new();
                for found in claims.into_iter().flat_map(|claim| claim.evidence) {
                    if !evidence.contains(&found) {
                        evidence.push(found);
                    }
                }
                let clause = sentence.trim_end_matches('.').to_owned();
                parsed.facts.push(Fact {
                    kind: FactKind::Statement,
                    text: clause,
                    evidence,
                });
                kept.push(sentence);
            }
            Ok(_) => {}
            Err(_) => parsed.refused += 1,
        }
    }
    parsed.text = kept.join(" ");
    parsed
}

impl Prompt {
    /// Reads a Prism's answer as it streams.
    pub fn filler(&self) -> Filler {
        Filler::new(self.slots.clone(), self.gate.clone())
    }

    /// The gate of this request.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// What an Oracle may choose from; empty where it reads for itself.
    pub fn candidates(&self) -> impl Iterator<Item = &Relation> {
        self.candidates.iter().map(|(_, relation)| relation)
    }

    pub fn slots(&self) -> Option<&SlotTable> {
        self.slots.as_deref()
    }
}
