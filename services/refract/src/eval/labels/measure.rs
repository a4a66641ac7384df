//! From pairs of texts to rows, with intervals resampled by user.

use refract_measure::{Bleu, bootstrap, distinct, rouge_l, unique_share};

use super::Case;
use super::judge::Side;
use crate::eval::check::Class;
use crate::eval::report::{Goal, Row};

/// What is promised of a Prism on held-out users.
const GOALS: [(&str, Goal); 2] = [
    ("student/title_hallucination", Goal::AtMost(0.005)),
    ("student/attributes_faithful", Goal::AtLeast(0.99)),
];

/// Picks the teacher's side or the student's.
type Of = fn(&Case) -> &Side;

/// All rows, their names beginning with `group`.
pub(super) fn measure(group: &str, cases: &[Case], resamples: usize, seed: u64) -> Vec<Row> {
    let mut users: Vec<(&str, Vec<&Case>)> = Vec::new();
    let mut sorted: Vec<&Case> = cases.iter().collect();
    sorted.sort_by(|a, b| a.user.cmp(&b.user));
    for case in sorted {
        match users.last_mut().filter(|last| last.0 == case.user) {
            Some(last) => last.1.push(case),
            None => users.push((&case.user, vec![case])),
        }
    }
    let n = cases.len() as u64;
    let mut rows = Vec::new();
    // A ratio of sums, so that resampled users weigh by what they have.
    let mut ratio = |name: &str, unit, of: &dyn Fn(&Case) -> (f64, f64)| {
        let value = |groups: &mut dyn Iterator<Item = &(&str, Vec<&Case>)>| {
            let (sum, count) = groups
                .flat_map(|group| group.1.iter())
                .map(|case| of(case))
                .fold((0.0, 0.0), |(s, c), (x, m)| (s + x, c + m));
            if count == 0.0 { 0.0 } else { sum / count }
        };
        let interval = bootstrap(&users, resamples, seed, value);
        let goal = GOALS.iter().find(|(of, _)| *of == name).map(|(_, goal)| *goal);
        let mut row = Row::plain(&format!("{group}/{name}"), value(&mut users.iter()), unit, n);
        (row.low, row.high) = (interval.map(|i| i.low), interval.map(|i| i.high));
        (row.goal, row.holds) = (goal.map(Goal::value), goal.map(|goal| goal.holds(row.value)));
        rows.push(row);
    };
    let is = |holds: bool| (f64::from(u8::from(holds)), 1.0);
    let sides: [(&str, Of); 2] = [
        ("teacher", |case| &case.teacher),
        ("student", |case| &case.student),
    ];
    for (who, of) in sides {
        ratio(&format!("{who}/unsupported_sentences"), "share", &|case| {
            let side = of(case);
            (side.unsupported.len() as f64, side.sentences as f64)
        });
        ratio(&format!("{who}/texts_without_fault"), "share", &|case| {
            let side = of(case);
            is(side.sentences > 0 && side.unsupported.is_empty())
        });
        // As the catalogue's reader sees it.
        ratio(&format!("{who}/title_hallucination"), "share", &|case| {
            is(of(case).has(Class::Title))
        });
        ratio(&format!("{who}/attributes_faithful"), "share", &|case| {
            is(!of(case).has(Class::Attribute))
        });
        ratio(&format!("{who}/evidence_correct"), "share", &|case| {
            is(!of(case).has(Class::Evidence))
        });
        ratio(&format!("{who}/untraceable"), "share", &|case| {
            is(of(case).has(Class::Untraceable))
        });
        ratio(&format!("{who}/faultless"), "share", &|case| {
            let side = of(case);
            is(!side.text.is_empty() && side.faults.is_empty())
        });
        ratio(&format!("{who}/names_the_item"), "share", &|case| {
            is(of(case).names_item)
        });
        ratio(&format!("{who}/names_history"), "share", &|case| {
            is(of(case).names_history)
        });
        ratio(&format!("{who}/quality"), "score", &|case| (of(case).score, 1.0));
        ratio(&format!("{who}/length"), "words", &|case| {
            (of(case).words.len() as f64, 1.0)
        });
    }
    // The published claim, as a number: how much fewer texts of the student than of the teacher have a fault, on the same pairs.
    ratio("noise_filtered", "share of texts", &|case| {
        let faulty = |side: &Side| f64::from(u8::from(!side.unsupported.is_empty()));
        (faulty(&case.teacher) - faulty(&case.student), 1.0)
    });
    // The same by the catalogue's reader, which knows names that the gate cannot know.
    ratio("noise_filtered/by_the_catalogue", "share of texts", &|case| {
        let faulty = |side: &Side| f64::from(u8::from(!side.faults.is_empty()));
        (faulty(&case.teacher) - faulty(&case.student), 1.0)
    });
    ratio("student_like_teacher/rouge-l", "share", &|case| {
        (rouge_l(&case.student.words, &case.teacher.words).f, 1.0)
    });
    let mut bleu = Bleu::default();
    cases
        .iter()
        .for_each(|case| bleu += Bleu::of(&case.student.words, &case.teacher.words));
    rows.push(Row::plain(
        &format!("{group}/student_like_teacher/bleu-4"),
        bleu.score(4),
        "of 100",
        n,
    ));
    for (who, of) in sides {
        let texts: Vec<Vec<String>> = cases.iter().map(|case| of(case).words.clone()).collect();
        for (name, value) in [("usr", unique_share(&texts)), ("distinct-2", distinct(&texts, 2))] {
            rows.push(Row::plain(&format!("{group}/{who}/{name}"), value, "share", n));
        }
    }
    rows
}
