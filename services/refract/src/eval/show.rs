//! Explanations drawn at random, to be read by a person.

use std::fmt::Write as _;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::observe::{Observed, Told};
use super::report::rung_name;

/// Faulty texts that are printed at most.
const FAULTY_MAX: usize = 12;

pub(crate) fn draw(observed: &[Observed], n: usize, seed: u64) -> Vec<&Observed> {
    let mut order: Vec<&Observed> = observed.iter().collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    order.truncate(n);
    order
}

pub(crate) fn json(one: &Observed) -> serde_json::Value {
    let faults: Vec<String> = one
        .after
        .verdict
        .faults
        .iter()
        .map(|f| format!("{f:?}"))
        .collect();
    json!({"sample": {
        "liked": one.liked, "item": one.item.title, "rung": rung_name(one.rung), "text": one.after.text, "before": one.before.text,
        "faults": faults,
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
        rung_name(one.rung).to_lowercase().replace('_', " "),
        if one.after.text.is_empty() {
            "–"
        } else {
            &one.after.text
        }
    );
    out
}

/// Texts that a caller would get and that are faulty or slip, with what is wrong; then those before the gate.
pub(crate) fn faulty(observed: &[Observed]) -> String {
    let mut out = String::new();
    let after: fn(&Observed) -> &Told = |one| &one.after;
    let before: fn(&Observed) -> &Told = |one| &one.before;
    for (name, side) in [("after", after), ("before", before)] {
        let bad: Vec<&Observed> = observed
            .iter()
            .filter(|o| !side(o).verdict.faults.is_empty() || !side(o).slips.is_empty())
            .collect();
        if bad.is_empty() {
            continue;
        }
        let _ = writeln!(
            out,
            "\nFaulty {name} the gate: {} (the first {})\n",
            bad.len(),
            bad.len().min(FAULTY_MAX)
        );
        for one in bad.into_iter().take(FAULTY_MAX) {
            let told = side(one);
            let _ = writeln!(out, "  {} → {}", one.item.title, told.text);
            told.verdict.faults.iter().for_each(|fault| {
                let _ = writeln!(out, "      {fault:?}");
            });
            told.slips.iter().for_each(|slip| {
                let _ = writeln!(out, "      {slip:?}");
            });
        }
    }
    out
}
