//! Summing observations up: one metric after the other.

use std::collections::BTreeMap;

use refract_domain::Rung;

use super::{Goal, Metric};
use crate::eval::check::Class;
use crate::eval::estimate::{Cases, Estimate};
use crate::eval::observe::{Ablation, Observed, Told};
use crate::eval::run::Edit;
use crate::eval::wording;

/// Sums up a run.
pub(crate) fn metrics(observed: &[Observed], seed: u64) -> Vec<Metric> {
    let mut metrics = truth(observed, seed);
    metrics.extend(wordings(observed, seed));
    metrics.extend(rungs(observed, seed));
    metrics.extend(refusals(observed, seed));
    metrics.extend(knowledge(observed, seed));
    metrics.extend(ablation(observed, seed));
    metrics.extend(edits(observed, seed));
    metrics.retain(|m| m.before.is_some() || m.after.is_some());
    metrics
}

/// Over the texts that there are; `None` from `of` leaves a text out.
fn over<'o>(
    observed: &'o [Observed],
    side: impl Fn(&'o Observed) -> Option<&'o Told>,
    of: impl Fn(&Told) -> Option<f64>,
    seed: u64,
) -> Option<Estimate> {
    let mut cases = Cases::default();
    for one in observed {
        if let Some(value) = side(one).filter(|told| !told.text.is_empty()).and_then(&of) {
            cases.add(one.user, value);
        }
    }
    cases.estimate(seed)
}

fn both(
    observed: &[Observed],
    name: &str,
    unit: &'static str,
    goal: Option<Goal>,
    seed: u64,
    of: impl Fn(&Told) -> Option<f64>,
) -> Metric {
    Metric {
        name: name.to_owned(),
        unit,
        before: over(observed, |o| Some(&o.before), &of, seed),
        after: over(observed, |o| Some(&o.after), &of, seed),
        goal,
    }
}

fn yes(holds: bool) -> Option<f64> {
    Some(f64::from(u8::from(holds)))
}

fn truth(observed: &[Observed], seed: u64) -> Vec<Metric> {
    let (never, always) = (Some(Goal::AtMost(0.0)), Some(Goal::AtLeast(1.0)));
    let has = |class: Class| move |told: &Told| yes(told.verdict.has(class));
    let lacks = |class: Class| move |told: &Told| yes(!told.verdict.has(class));
    let named = |told: &Told| told.verdict.history_titles > 0 || told.verdict.has(Class::Title);
    let history = |told: &Told| {
        let right = !told.verdict.has(Class::Title) && !told.verdict.has(Class::Opinion);
        named(told).then(|| f64::from(u8::from(right)))
    };
    let mut claims = Cases::default();
    for one in observed {
        (0..one.claims).for_each(|n| claims.add_if(one.user, n >= one.claims_unfounded));
    }
    vec![
        both(
            observed,
            "title_hallucination",
            "share",
            never,
            seed,
            has(Class::Title),
        ),
        both(
            observed,
            "opinion_invented",
            "share",
            never,
            seed,
            has(Class::Opinion),
        ),
        both(observed, "item_title_exact", "share", always, seed, |told| {
            yes(told.verdict.names_item)
        }),
        both(observed, "history_titles_correct", "share", always, seed, history),
        both(
            observed,
            "evidence_correct",
            "share",
            always,
            seed,
            lacks(Class::Evidence),
        ),
        Metric {
            name: "claims_stand".to_owned(),
            unit: "share",
            before: None,
            after: claims.estimate(seed),
            goal: always,
        },
        both(
            observed,
            "attributes_faithful",
            "share",
            always,
            seed,
            lacks(Class::Attribute),
        ),
        both(
            observed,
            "undefined_slots",
            "share",
            never,
            seed,
            has(Class::Slot),
        ),
        both(
            observed,
            "untraceable",
            "share",
            never,
            seed,
            has(Class::Untraceable),
        ),
        both(observed, "faultless", "share", always, seed, |told| {
            yes(told.verdict.faults.is_empty())
        }),
        split(observed, "faultless/with_knowledge", true, seed),
        split(observed, "faultless/without_knowledge", false, seed),
        closest(observed, seed),
        both(observed, "names_history", "share", None, seed, |told| {
            yes(told.verdict.history_titles > 0)
        }),
    ]
}

/// Of the pairs that a person or a series ties, the share whose text says so: whether the best is told, not only the true.
fn closest(observed: &[Observed], seed: u64) -> Metric {
    let tied = |one: &Observed| one.has_name_in_common;
    let says = |told: &Told| yes(told.verdict.says_name_in_common);
    Metric {
        name: "closest_tie_told".to_owned(),
        unit: "share",
        before: over(observed, |o| tied(o).then_some(&o.before), says, seed),
        after: over(observed, |o| tied(o).then_some(&o.after), says, seed),
        goal: Some(Goal::AtLeast(0.8)),
    }
}

/// Where the Prism was told what to say, and where it had to find out by itself.
fn split(observed: &[Observed], name: &str, informed: bool, seed: u64) -> Metric {
    let faultless = |told: &Told| yes(told.verdict.faults.is_empty());
    Metric {
        name: name.to_owned(),
        unit: "share",
        before: over(
            observed,
            |o| (o.informed == informed).then_some(&o.before),
            faultless,
            seed,
        ),
        after: over(
            observed,
            |o| (o.informed == informed).then_some(&o.after),
            faultless,
            seed,
        ),
        goal: Some(Goal::AtLeast(1.0)),
    }
}

fn wordings(observed: &[Observed], seed: u64) -> Vec<Metric> {
    let before: Vec<&Told> = observed
        .iter()
        .map(|o| &o.before)
        .filter(|t| !t.text.is_empty())
        .collect();
    let after: Vec<&Told> = observed
        .iter()
        .map(|o| &o.after)
        .filter(|t| !t.text.is_empty())
        .collect();
    let whole = |name: &str, goal, of: &dyn Fn(&[&Told]) -> Option<f64>| {
        let exact = |told: &[&Told]| {
            of(told).map(|value| Estimate {
                value,
                low: value,
                high: value,
                n: told.len() as u64,
            })
        };
        Metric {
            name: name.to_owned(),
            unit: "ratio",
            before: exact(&before),
            after: exact(&after),
            goal,
        }
    };
    vec![
        both(
            observed,
            "english_slips",
            "share",
            Some(Goal::AtMost(0.0)),
            seed,
            |told| yes(!told.slips.is_empty()),
        ),
        both(
            observed,
            "repetition",
            "share",
            Some(Goal::AtMost(0.01)),
            seed,
            |told| yes(wording::repeats_itself(&told.verdict.wording)),
        ),
        both(observed, "length", "words", None, seed, |told| {
            Some(wording::length(&told.text) as f64)
        }),
        whole("distinct_1", None, &|told| {
            wording::distinct(told.iter().map(|t| t.text.as_str()), 1)
        }),
        whole("distinct_2", None, &|told| {
            wording::distinct(told.iter().map(|t| t.text.as_str()), 2)
        }),
        whole("unique_texts", None, &|told| {
            wording::unique(told.iter().map(|t| t.text.as_str()))
        }),
        whole("unique_wordings", None, &|told| {
            wording::unique(told.iter().map(|t| t.verdict.wording.as_str()))
        }),
    ]
}

fn share(
    observed: &[Observed],
    name: String,
    goal: Option<Goal>,
    seed: u64,
    holds: impl Fn(&Observed) -> bool,
) -> Metric {
    let mut cases = Cases::default();
    observed.iter().for_each(|one| cases.add_if(one.user, holds(one)));
    Metric {
        name,
        unit: "share",
        before: None,
        after: cases.estimate(seed),
        goal,
    }
}

fn rungs(observed: &[Observed], seed: u64) -> Vec<Metric> {
    let mut metrics: Vec<Metric> = ["FRESH", "HISTORY_ONLY", "TEMPLATE", "NONE"]
        .into_iter()
        .map(|rung| {
            let goal = (rung == "NONE").then_some(Goal::AtMost(0.0));
            share(observed, format!("rung/{rung}"), goal, seed, |one| {
                one.rung.as_str() == rung
            })
        })
        .collect();
    metrics.push(share(
        observed,
        "written_by_the_model".to_owned(),
        Some(Goal::AtLeast(0.95)),
        seed,
        |one| is_by_model(one.rung),
    ));
    metrics
}

fn is_by_model(rung: Rung) -> bool {
    matches!(rung, Rung::Fresh | Rung::Cached | Rung::Stale | Rung::HistoryOnly)
}

/// Of the first attempt: the gate cuts a text at the first sentence that it refuses.
fn refusals(observed: &[Observed], seed: u64) -> Vec<Metric> {
    let mut reasons: BTreeMap<&'static str, usize> = BTreeMap::new();
    observed
        .iter()
        .flat_map(|one| &one.refused)
        .for_each(|reason| *reasons.entry(reason).or_default() += 1);
    let mut reasons: Vec<(&str, usize)> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let mut metrics = vec![share(observed, "first_text_cut".to_owned(), None, seed, |one| {
        !one.refused.is_empty()
    })];
    let named = |(reason, _)| {
        let name = format!("refused/{}", str::replace(reason, ' ', "_"));
        share(observed, name, None, seed, move |one| {
            one.refused.contains(&reason)
        })
    };
    metrics.extend(reasons.into_iter().map(named));
    // Refused by the gate and faultless to the checks here: what its caution costs.
    let mut faultless = Cases::default();
    for one in observed.iter().filter(|one| !one.refused.is_empty()) {
        faultless.add_if(one.user, one.before.verdict.faults.is_empty());
    }
    metrics.push(Metric {
        name: "cut_though_faultless".to_owned(),
        unit: "share",
        before: None,
        after: faultless.estimate(seed),
        goal: None,
    });
    metrics
}

fn knowledge(observed: &[Observed], seed: u64) -> Vec<Metric> {
    let (mut facts, mut stand, mut refused) = (Cases::default(), Cases::default(), Cases::default());
    let (mut closest, mut offered) = (Cases::default(), Cases::default());
    for one in observed {
        if one.has_name_in_common {
            if let Some(holds) = one.offered_name_in_common {
                offered.add_if(one.user, holds);
            }
            closest.add_if(one.user, one.knows_name_in_common);
        }
        facts.add(one.user, one.facts as f64);
        (0..one.facts).for_each(|n| stand.add_if(one.user, n >= one.facts_unfounded));
        (0..one.facts + one.facts_refused).for_each(|n| refused.add_if(one.user, n >= one.facts));
    }
    let metric = |name: &str, unit, cases: Cases, goal| Metric {
        name: name.to_owned(),
        unit,
        before: None,
        after: cases.estimate(seed),
        goal,
    };
    vec![
        metric("knowledge/facts", "facts", facts, None),
        metric(
            "knowledge/was_offered_the_closest_tie",
            "share",
            offered,
            Some(Goal::AtLeast(0.9)),
        ),
        metric(
            "knowledge/has_the_closest_tie",
            "share",
            closest,
            Some(Goal::AtLeast(0.9)),
        ),
        metric("knowledge/facts_stand", "share", stand, Some(Goal::AtLeast(1.0))),
        metric("knowledge/statements_refused", "share", refused, None),
    ]
}

fn ablation(observed: &[Observed], seed: u64) -> Vec<Metric> {
    let tried: Vec<&Observed> = observed.iter().filter(|one| one.ablation.is_some()).collect();
    let over = |name: &str, goal, of: &dyn Fn(&Observed) -> Option<bool>| {
        let mut cases = Cases::default();
        tried.iter().for_each(|one| {
            if let Some(holds) = of(one) {
                cases.add_if(one.user, holds);
            }
        });
        Metric {
            name: name.to_owned(),
            unit: "share",
            before: None,
            after: cases.estimate(seed),
            goal,
        }
    };
    let sides = |name: &str, goal, of: &dyn Fn(&Told) -> bool| Metric {
        before: over("", None, &|one| Some(of(&one.ablation.as_ref()?.without_before))).after,
        ..over(name, goal, &|one| Some(of(&one.ablation.as_ref()?.without)))
    };
    let ablation = |one: &Observed| one.ablation.clone();
    vec![
        over("ablation/with/names_history", None, &|one| {
            Some(one.after.verdict.history_titles > 0)
        }),
        sides("ablation/without/names_history", None, &|told| {
            told.verdict.history_titles > 0
        }),
        over("ablation/without/text_changes", None, &|one| {
            Some(ablation(one)?.without.text != one.after.text)
        }),
        sides("ablation/without/faultless", Some(Goal::AtLeast(1.0)), &|told| {
            told.verdict.faults.is_empty()
        }),
        over("ablation/without/written_by_the_model", None, &|one| {
            Some(is_by_model(ablation(one)?.without_rung))
        }),
        over("ablation/foreign/below_fresh", None, &|one| {
            Some(ablation(one)?.foreign?.1 != Rung::Fresh)
        }),
        over("ablation/foreign/faultless", Some(Goal::AtLeast(1.0)), &|one| {
            Some(ablation(one)?.foreign?.0.verdict.faults.is_empty())
        }),
        over(
            "personal/other_history_changes_text",
            Some(Goal::AtLeast(0.95)),
            &|one| Some(ablation(one)?.other? != one.after.text),
        ),
    ]
}

/// Robustness: what small edits of a history change; and that a text follows its history where it must.
fn edits(observed: &[Observed], seed: u64) -> Vec<Metric> {
    let metric = |name: String, unit, goal, of: &dyn Fn(&Ablation) -> Option<f64>| {
        let mut cases = Cases::default();
        for one in observed {
            if let Some(value) = one.ablation.as_ref().and_then(of) {
                cases.add(one.user, value);
            }
        }
        Metric {
            name,
            unit,
            before: None,
            after: cases.estimate(seed),
            goal,
        }
    };
    let is = |holds: bool| f64::from(u8::from(holds));
    let mut metrics = Vec::new();
    for edit in Edit::ALL {
        let found = |ablation: &Ablation| ablation.edits.iter().find(|e| e.edit == edit).cloned();
        let name = |what: &str| format!("robust/{}/{what}", edit.as_str());
        metrics.extend([
            metric(name("same_reasons"), "share", None, &|a| {
                Some(is(found(a)?.same_reasons))
            }),
            metric(name("likeness"), "rouge-l", None, &|a| Some(found(a)?.likeness)),
            metric(name("faultless"), "share", Some(Goal::AtLeast(1.0)), &|a| {
                Some(is(found(a)?.told.verdict.faults.is_empty()))
            }),
        ]);
    }
    metrics.extend([
        metric(
            "personal/reasons_taken_away/still_named".to_owned(),
            "share",
            Some(Goal::AtMost(0.0)),
            &|a| Some(is(a.without_reasons.as_ref()?.1)),
        ),
        metric(
            "personal/reasons_taken_away/faultless".to_owned(),
            "share",
            Some(Goal::AtLeast(1.0)),
            &|a| Some(is(a.without_reasons.as_ref()?.0.verdict.faults.is_empty())),
        ),
    ]);
    metrics
}
