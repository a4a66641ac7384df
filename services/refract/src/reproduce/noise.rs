//! Labels with a known share of noise: what a student makes of them shows whether it filters.

use std::path::Path;

use anyhow::{Context as _, Result};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use refract_distill::Label;

/// Copies labels; in a share of them the last sentence (or the whole text, where it has one) is another pair's. Facts stay: it is
/// the teacher's text that errs.
pub(super) fn spoil(labels: &Path, to: &Path, share: f64, seed: u64) -> Result<()> {
    let text = std::fs::read_to_string(labels).with_context(|| format!("reading {}", labels.display()))?;
    let mut all = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let label: Label =
            serde_json::from_str(line).with_context(|| format!("{}:{}", labels.display(), n + 1))?;
        all.push(label);
    }
    let mut lines = String::new();
    for line in spoilt(&all, share, seed) {
        lines += &serde_json::to_string(&line)?;
        lines.push('\n');
    }
    std::fs::write(to, lines).with_context(|| format!("writing {}", to.display()))
}

fn spoilt(all: &[Label], share: f64, seed: u64) -> Vec<Label> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut made = all.to_vec();
    for (n, label) in made.iter_mut().enumerate() {
        if !random.random_bool(share.clamp(0.0, 1.0)) {
            continue;
        }
        // Of another item, else the sentence may well be true.
        let start = random.random_range(0..all.len());
        let other = (0..all.len())
            .map(|step| &all[(start + step) % all.len()])
            .find(|other| other.item.id != all[n].item.id && other.user != all[n].user);
        let Some(other) = other else { continue };
        let own = sentences(&label.text);
        let strange = sentences(&other.text);
        let kept = own.len().saturating_sub(1);
        label.text = own[..kept]
            .iter()
            .copied()
            .chain(strange.last().copied())
            .collect::<Vec<_>>()
            .join(" ");
        label.provenance.settings += " (spoilt on purpose)";
    }
    made
}

/// Cut after marks that a capital letter follows.
fn sentences(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut from = 0;
    for (at, _) in text.match_indices(['.', '!', '?']) {
        let rest = &text[at + 1..];
        let next = rest.strip_prefix(' ').and_then(|rest| rest.chars().next());
        if next.is_some_and(char::is_uppercase) {
            found.push(text[from..=at].trim());
            from = at + 1;
        }
    }
    let last = text[from..].trim();
    if !last.is_empty() {
        found.push(last);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::labels::tests::label;

    #[test]
    fn the_wanted_share_has_a_sentence_of_another_pair_and_facts_stay() {
        let all: Vec<Label> = (0..400)
            .map(|n| {
                let mut label = label(n, "train");
                label.item.id = format!("item{n}");
                label.text = format!("Film {n} is good. It has {n} scenes.");
                label
            })
            .collect();
        let made = spoilt(&all, 0.25, 7);
        let changed: Vec<_> = all.iter().zip(&made).filter(|(a, b)| a.text != b.text).collect();
        assert!((70..130).contains(&changed.len()), "{}", changed.len());
        for (before, after) in &changed {
            let kept = sentences(&before.text)[0];
            assert!(
                after.text.starts_with(kept) && after.text.ends_with("scenes."),
                "{}",
                after.text
            );
            assert_eq!(before.facts, after.facts);
        }
        assert_eq!(spoilt(&all, 0.25, 7), made);
        assert_eq!(spoilt(&all, 0.0, 7), all);
    }
}
