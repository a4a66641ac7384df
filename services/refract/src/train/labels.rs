//! Labels as training examples: each prompt is made by the very code that will ask the student when it serves.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use refract_bundle::Bundle;
use refract_distill::{Label, columns};
use refract_domain::{ExplainQuery, Freshness, History, Knowledge, Pair, Revision, Timestamp};
use refract_model::{PairRows, bucket};
use refract_truth::{Gate, Vocabulary};

use super::corpus::Example;

/// Examples with the rows of their people and items.
#[derive(Debug, Default)]
pub(crate) struct Set {
    pub(crate) examples: Vec<Example>,
    pub(crate) pairs: Vec<PairRows>,
}

/// What did not become an example, or not as it stood.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    /// By reason, with the first label's id.
    pub(crate) reasons: BTreeMap<&'static str, (usize, String)>,
}

/// Reasons for which a label is a bad one.
const EMPTY_TEXT: &str = "the text is empty";
const EMPTY_HISTORY: &str = "the history is empty";
const NO_PROMPT: &str = "no prompt can be made of it";
const TOO_LONG: &str = "the text is too long";
const BAD: [&str; 4] = [EMPTY_TEXT, EMPTY_HISTORY, NO_PROMPT, TOO_LONG];

impl Passed {
    /// Labels that nothing can be learnt from.
    pub(crate) fn bad(&self) -> usize {
        let count = |reason: &&str| self.reasons.get(*reason).map_or(0, |found| found.0);
        BAD.iter().map(count).sum()
    }

    fn note(&mut self, reason: &'static str, id: &str) {
        self.reasons.entry(reason).or_insert_with(|| (0, id.to_owned())).0 += 1;
    }
}

/// Reads label files; a pair that stands in several of them counts once.
pub(crate) fn read(files: &[PathBuf], passed: &mut Passed) -> Result<Vec<Label>> {
    let (mut labels, mut seen): (Vec<Label>, HashSet<String>) = (Vec::new(), HashSet::new());
    for file in files {
        let text = if columns::is_parquet(file) {
            columns::read(file)?.join("\n")
        } else {
            std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?
        };
        for (n, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let label: Label = serde_json::from_str(line)
                .map_err(|e| anyhow::anyhow!("{}:{}:{}: {e}", file.display(), n + 1, e.column()))?;
            let place = || format!("{}:{} ({})", file.display(), n + 1, label.id);
            if label.text.trim().is_empty() {
                passed.note(EMPTY_TEXT, &place());
            } else if label.history.is_empty() {
                passed.note(EMPTY_HISTORY, &place());
            } else if !seen.insert(label.id.clone()) {
                passed.note("the pair was labelled before", &place());
            } else {
                labels.push(label);
            }
        }
    }
    if labels.is_empty() {
        bail!("the label files hold no label");
    }
    Ok(labels)
}

/// Train and dev by the labels' own parts; where none is of dev, a twentieth of the users is taken for it. Labels of the test
/// are never used.
pub(crate) fn split(labels: Vec<Label>, passed: &mut Passed) -> Result<(Vec<Label>, Vec<Label>)> {
    let has_dev = labels.iter().any(|label| label.part == "dev");
    let (mut train, mut dev) = (Vec::new(), Vec::new());
    for label in labels {
        let user = label.user.as_deref().unwrap_or(&label.id);
        match label.part.as_str() {
            "dev" => dev.push(label),
            "train" if !has_dev && bucket(&format!("dev/{user}"), 20) == 0 => dev.push(label),
            "train" => train.push(label),
            _ => passed.note("it belongs to the test", &label.id),
        }
    }
    if train.is_empty() || dev.is_empty() {
        bail!(
            "{} labels to train on and {} to stop by: both are needed",
            train.len(),
            dev.len()
        );
    }
    Ok((train, dev))
}

/// Examples of labels, in their order. `pair_rows` is the size of each table, 0 without tables.
pub(crate) fn examples(
    labels: &[Label],
    bundle: &Bundle,
    eos: u32,
    target_max: usize,
    pair_rows: usize,
    passed: &mut Passed,
) -> Set {
    let vocabulary = Arc::new(Vocabulary::default());
    let mut set = Set::default();
    for label in labels {
        let (pair, history) = label.question();
        let history = Arc::new(history);
        let knowledge = knowledge(label, &vocabulary, &pair, &history, passed);
        let query = ExplainQuery {
            pair,
            history,
            knowledge,
            style: 0,
        };
        let prompt = match bundle.prompt_prism(&query) {
            Ok(prompt) => prompt,
            Err(_) => {
                passed.note(NO_PROMPT, &label.id);
                continue;
            }
        };
        // As in published training, the target begins with the tokenizer's own mark: the decoder writes it first.
        let mut target = bundle.tokenizer().encode(label.text.trim());
        if target.last() != Some(&eos) {
            target.push(eos);
        }
        if target.len() > target_max {
            passed.note(TOO_LONG, &label.id);
            continue;
        }
        let row = |id: &str| u32::try_from(bucket(id, pair_rows.max(1))).unwrap_or(0);
        set.pairs.push(PairRows {
            user: row(label.user.as_deref().unwrap_or("")),
            item: row(&label.item.id),
        });
        set.examples.push(Example {
            source: prompt.ids,
            target,
        });
    }
    set
}

/// The teacher's statements as knowledge; one that the label's own request does not support is left out, as it is when serving.
pub(crate) fn knowledge(
    label: &Label,
    vocabulary: &Vocabulary,
    pair: &Pair,
    history: &History,
    passed: &mut Passed,
) -> Option<Knowledge> {
    let gate = Gate::new(vocabulary, pair, history, None);
    let mut facts = Vec::new();
    for told in &label.facts {
        match told.fact().filter(|fact| gate.supports(fact)) {
            Some(fact) => facts.push(fact),
            None => passed.note("a fact of it has no evidence (the label is kept)", &label.id),
        }
    }
    (!facts.is_empty()).then(|| Knowledge {
        facts,
        text: String::new(),
        oracle_revision: Revision(label.provenance.teacher_revision.clone()),
        template_revision: Revision(label.provenance.prompt.clone()),
        created_at: Timestamp(label.provenance.created_at),
        freshness: Freshness::Fresh,
        facts_refused: 0,
        history_truncated: 0,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use refract_bundle::TOKENIZER_FILE;
    use refract_bundle::manifest::{Manifest, Mode, Role, Template};

    use super::*;

    pub(crate) fn label(n: usize, part: &str) -> Label {
        serde_json::from_value(serde_json::json!({
            "id": format!("id{n}"), "part": part, "user": format!("u{n}"),
            "item": {"id": "collateral", "title": "Collateral",
                     "attributes": {"director": ["Michael Mann"], "year": ["2004"]}},
            "history": [
                {"id": "thief", "title": "Thief", "attributes": {"director": ["Michael Mann"]}, "at": 1, "signal": "liked"},
                {"id": "cats", "title": "Cats", "attributes": {"genre": ["musical"]}, "at": 2, "signal": "disliked"},
                {"id": "heat", "title": "Heat", "attributes": {"director": ["Michael Mann"]}, "at": 3, "signal": "liked"}],
            "affinities": [{"item": "heat", "lift": 3.5, "support": 12}],
            "facts": [
                {"kind": "shared", "attribute": "director", "value": "Michael Mann", "text": "Michael Mann directed Collateral, and Heat as well",
                 "evidence": [{"is": "history", "item": "heat"},
                              {"is": "attribute", "item": "collateral", "name": "director", "value": "Michael Mann"},
                              {"is": "attribute", "item": "heat", "name": "director", "value": "Michael Mann"}]},
                {"kind": "co_liked", "lift": 3.5, "text": "People who liked Heat often liked Collateral too",
                 "evidence": [{"is": "history", "item": "heat"}, {"is": "affinity", "item": "heat"}]},
                {"kind": "statement", "text": "Collateral stars Nobody At All", "evidence": [{"is": "history", "item": "heat"}]}],
            "text": "Like Heat, Collateral is directed by Michael Mann.",
            "quality": {"score": 1.0, "words": 8, "overlap": 1.0, "repeat": 0.0, "sentences": 1, "sentences_unsupported": 0},
            "provenance": {"teacher": "t", "teacher_revision": "1", "prompt": "p", "settings": "", "manner": "sampled",
                           "candidates": 1, "attempts": 1, "created_at": 0, "refract": "0"}
        }))
        .unwrap()
    }

    fn bundle(dir: &Path, mode: Mode) -> Bundle {
        let texts: Vec<String> = (0..40).map(|_| label(0, "train").text).collect();
        super::super::vocabulary::write(dir, &texts, 400).unwrap();
        assert!(dir.join(TOKENIZER_FILE).is_file());
        let mut manifest = Manifest::slots("p", Role::Prism, Default::default());
        (manifest.slots, manifest.template, manifest.mode) = (None, Template::default(), mode);
        manifest.write(dir).unwrap();
        Bundle::open(dir).unwrap()
    }

    #[test]
    fn a_prompt_is_the_one_that_is_served_with_supported_facts_or_without() {
        for (mode, known) in [(Mode::Alone, false), (Mode::Conditioned, true)] {
            let (dir, mut passed) = (tempfile::tempdir().unwrap(), Passed::default());
            let bundle = bundle(dir.path(), mode);
            let set = examples(&[label(1, "train")], &bundle, 2, 150, 0, &mut passed);
            let text = bundle.decode(&set.examples[0].source);
            assert!(
                text.contains("User History: Heat (director: Michael Mann); Thief"),
                "{text}"
            );
            assert!(!text.contains("Cats"), "{text}");
            assert_eq!(
                text.contains("People who liked Heat often liked Collateral too"),
                known,
                "{text}"
            );
            assert!(!text.contains("Nobody At All"));
            assert_eq!(bundle.decode(&set.examples[0].target), label(1, "train").text);
            let (count, first) = &passed.reasons["a fact of it has no evidence (the label is kept)"];
            assert_eq!((*count, first.as_str()), (1, "id1"));
        }
    }

    #[test]
    fn parts_are_kept_apart_and_faults_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("1.jsonl"), dir.path().join("2.jsonl"));
        let line = |label: Label| serde_json::to_string(&label).unwrap() + "\n";
        let empty = Label {
            text: " ".to_owned(),
            ..label(3, "train")
        };
        let lonely = Label {
            history: Vec::new(),
            ..label(5, "train")
        };
        std::fs::write(
            &one,
            line(label(1, "train")) + &line(label(2, "dev")) + &line(empty) + &line(lonely),
        )
        .unwrap();
        std::fs::write(&two, line(label(1, "train")) + &line(label(4, "test"))).unwrap();
        let mut passed = Passed::default();
        let all = read(&[one.clone(), two.clone()], &mut passed).unwrap();
        let (train, dev) = split(all, &mut passed).unwrap();
        let ids = |labels: &[Label]| labels.iter().map(|l| l.id.clone()).collect::<Vec<_>>();
        assert_eq!(
            (ids(&train), ids(&dev)),
            (vec!["id1".to_owned()], vec!["id2".to_owned()])
        );
        let reasons: Vec<&str> = passed.reasons.keys().copied().collect();
        assert_eq!(
            reasons,
            [
                "it belongs to the test",
                "the history is empty",
                "the pair was labelled before",
                "the text is empty"
            ]
        );
        assert_eq!(passed.bad(), 2);
        let (_, first) = &passed.reasons["the history is empty"];
        assert!(first.ends_with("1.jsonl:4 (id5)"), "{first}");
        // Without dev labels, whole users are taken.
        let many: Vec<Label> = (0..200).map(|n| label(n / 2, "train")).collect();
        let (train, dev) = split(many, &mut Passed::default()).unwrap();
        assert!(!dev.is_empty() && train.len() > 5 * dev.len());
        assert!(dev.iter().all(|d| train.iter().all(|t| t.user != d.user)));
        let table = dir.path().join("1.parquet");
        columns::write(&one, &table).unwrap();
        let of = |file: PathBuf| ids(&read(&[file], &mut Passed::default()).unwrap());
        assert_eq!(of(table), of(one));
        std::fs::write(&two, "{\"id\": 5}\n").unwrap();
        let error = read(&[two], &mut Passed::default()).unwrap_err().to_string();
        assert!(error.contains("2.jsonl:1:"), "{error}");
    }
}
