//! Explanations drawn at random, to be read by a person.

use std::fmt::Write as _;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::observe::{Observed, Told};

/// Faulty texts that are printed at most.
const FAULTY_MAX: usize = 12;

pub(crate) fn draw(observed: &[Observed], n: usize, seed: u64) -> Vec<&Observed> {
    let mut order: Vec<&Observed> = observed.iter().collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    order.truncate(n);
    order
}

pub(crate) fn json(one: &Observed) -> serde_json::Value {
    let faults =
        |told: &Told| -> Vec<String> { told.verdict.faults.iter().map(|f| format!("{f:?}")).collect() };
    json!({"sample": {
        "liked": one.liked, "item": one.item.title, "rung": one.rung.as_str(), "text": one.after.text, "before": one.before.text,
        "faults": faults(&one.after), "before_faults": faults(&one.before),
    }})
}

pub(crate) fn text(one: &Observed) -> String {
    let mut out = String::new();
    let year = one
        .item
        .values("year")
        .first()
        .map(|y| format!(" ({y})"))
        .unwrap_or_default();
    let _ = writeln!(out, "  liked  {}", one.liked.join(" · "));
    let _ = writeln!(out, "  item   {}{year}", one.item.title);
    let _ = writeln!(
        out,
        "  {:<6} {}",
        one.rung.as_str().to_lowercase().replace('_', " "),
        if one.after.text.is_empty() {
            "–"
        } else {
            &one.after.text
        }
    );
    out
}

/// Texts that a caller would get and that are faulty or slip, with what is wrong; then those before the gate; then those that
/// the gate cut and nothing here finds fault with: one of the two is wrong about them.
pub(crate) fn faulty(observed: &[Observed]) -> String {
    let mut out = String::new();
    let wrong =
        |told: &Told| !told.verdict.faults.is_empty() || !told.slips.is_empty() || !told.verdict.names_item;
    let after = observed
        .iter()
        .filter(|one| wrong(&one.after))
        .map(|one| (one, &one.after));
    list(&mut out, "Faulty after the gate", after.collect());
    let before = observed
        .iter()
        .filter(|one| wrong(&one.before))
        .map(|one| (one, &one.before));
    list(&mut out, "Faulty before the gate", before.collect());
    let cut = observed
        .iter()
        .filter(|one| !one.refused.is_empty() && one.before.verdict.faults.is_empty());
    list(
        &mut out,
        "Cut by the gate, faultless to the checkers",
        cut.map(|one| (one, &one.before)).collect(),
    );
    out
}

fn list(out: &mut String, name: &str, found: Vec<(&Observed, &Told)>) {
    if found.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "\n{name}: {} (the first {})\n",
        found.len(),
        found.len().min(FAULTY_MAX)
    );
    for (one, told) in found.into_iter().take(FAULTY_MAX) {
        let refused = if one.refused.is_empty() {
            String::new()
        } else {
            format!(" [{}]", one.refused.join(", "))
        };
        let _ = writeln!(out, "  {} → {}{refused}", one.item.title, told.text);
        if !told.verdict.names_item {
            let _ = writeln!(out, "      the item is not named");
        }
        told.verdict.faults.iter().for_each(|fault| {
            let _ = writeln!(out, "      {fault:?}");
        });
        told.slips.iter().for_each(|slip| {
            let _ = writeln!(out, "      {slip:?}");
        });
    }
}
