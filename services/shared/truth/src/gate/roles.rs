//! Who does what: cues found in a statement, and the part that each named value must play by the nearest of them.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::cues::{CUES, Cue, Side};
use super::known::Need;
use super::token::{Kind, Token};
use crate::text::Word;
use crate::vocabulary::Role;

/// Places in [`CUES`] by their first word: nearly every word of a sentence begins none of them.
static CUES_FROM: LazyLock<HashMap<&str, Vec<usize>>> = LazyLock::new(|| {
    let mut from: HashMap<&str, Vec<usize>> = HashMap::new();
    for (n, (phrase, _)) in CUES.iter().enumerate() {
        from.entry(phrase[0]).or_default().push(n);
    }
    from
});

/// The cue at the start of these words, the longest; with its length.
pub(super) fn cue_at(words: &[&Word]) -> Option<(usize, Cue)> {
    let from = CUES_FROM.get(words.first()?.folded.as_str())?;
    from.iter()
        .map(|n| &CUES[*n])
        .filter(|(phrase, _)| {
            phrase.len() <= words.len() && phrase.iter().zip(words).all(|(p, w)| *p == w.folded)
        })
        .max_by_key(|(phrase, _)| phrase.len())
        .map(|(phrase, cue)| (phrase.len(), *cue))
}

/// All cues of a statement with the place of their first word.
pub(super) fn cues_of(tokens: &[Token]) -> Vec<(usize, Cue)> {
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
pub(super) fn needs_of(
    tokens: &[Token],
    cues: &[(usize, Cue)],
    is_named: impl Fn(&str) -> bool,
) -> Vec<(usize, Need)> {
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
    coordinated(tokens, &mut needs, is_named);
    needs
}

/// "X and Y directed": what is asked of the last of several names is asked of all of them.
fn coordinated(tokens: &[Token], needs: &mut Vec<(usize, Need)>, is_named: impl Fn(&str) -> bool) {
    let name = |n: usize| match tokens.get(n).map(|t| &t.kind) {
        Some(Kind::Found(found)) => found.reads_as_value() && found.values.iter().any(|v| is_named(v)),
        _ => false,
    };
    let joint = |n: usize| match tokens.get(n).map(|t| &t.kind) {
        Some(Kind::Word(word)) => word.folded == "and",
        Some(Kind::Mark(mark)) => *mark == ',',
        _ => false,
    };
    for n in (0..tokens.len()).rev().filter(|n| name(*n)) {
        let joints = (n + 1..tokens.len()).take_while(|at| joint(*at)).count();
        let next = n + 1 + joints;
        // The comma of an apposition ("Cruise, Mann's star") has no "and" somewhere behind it.
        let listed = joints > 0
            && (next..tokens.len())
                .take_while(|at| name(*at) || joint(*at))
                .chain(n + 1..next)
                .any(|at| tokens[at].word().is_some());
        if !listed || !name(next) || needs.iter().any(|(at, _)| *at == n) {
            continue;
        }
        if let Some((_, need)) = needs.iter().find(|(at, _)| *at == next) {
            needs.push((n, need.clone()));
        }
    }
}

/// "X directs", "X, the director of": the cue that follows a name.
pub(super) fn backward(tokens: &[Token], cues: &[(usize, Cue)], name: usize) -> Option<(usize, Need)> {
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
