//! How texts read, as far as counting can tell: slips of English, repetition, variety.

use std::collections::HashSet;

use super::words::words;

/// A mechanical fault of English.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Slip {
    /// "a action film".
    Article(String),
    /// "the the".
    DoubledWord(String),
    /// A blank before a stop, two blanks, ".." and the like.
    Spacing,
    /// It does not begin like a sentence.
    Beginning,
    /// It does not end like one.
    Ending,
    /// "The premise: follows …", "it a clerk who …": a clause in a place made for another kind.
    Clause(String),
    /// "X and X": one title twice in a list.
    Twice(String),
    /// A bracket or quotation mark without its other half.
    Unpaired,
}

/// Verbs that begin what is said of a story.
const STORY_VERBS: &[&str] = &[
    "follows",
    "tells",
    "centers",
    "centres",
    "revolves",
    "is",
    "depicts",
    "chronicles",
    "concerns",
    "focuses",
    "recounts",
    "explores",
    "portrays",
    "deals",
];

/// Slips of a text; `own` are its titles and values, which may do as they please.
pub(crate) fn slips(text: &str, own: &[&str]) -> Vec<Slip> {
    let mut found = Vec::new();
    let all = words(text);
    let own_spans: Vec<_> = own
        .iter()
        .flat_map(|o| text.match_indices(*o))
        .map(|(at, o)| at..at + o.len())
        .collect();
    let is_own = |word: &super::words::Word<'_>| {
        own_spans
            .iter()
            .any(|s| s.start <= word.span.start && word.span.end <= s.end)
    };
    for pair in all.windows(2) {
        let gap = &text[pair[0].span.end..pair[1].span.start];
        let (first, second) = (pair[0].text.to_lowercase(), pair[1].text);
        if gap != " " || is_own(&pair[0]) {
            continue;
        }
        if ["it", "which", "film", "one"].contains(&first.as_str())
            && ["a", "an", "the", "two"].contains(&second)
            && !is_own(&pair[1])
        {
            found.push(Slip::Clause(format!("{first} {second}")));
        }
        if (first == "a" && begins_with_vowel_sound(second) == Some(true))
            || (first == "an" && begins_with_vowel_sound(second) == Some(false))
        {
            found.push(Slip::Article(format!("{} {second}", pair[0].text)));
        }
        if first == second.to_lowercase()
            && !pair[1].is_capital()
            && !is_own(&pair[1])
            && !matches!(first.as_str(), "had" | "that")
            && !first.chars().all(|c| c.is_ascii_digit())
        {
            found.push(Slip::DoubledWord(format!("{} {second}", pair[0].text)));
        }
    }
    for name in own.iter().filter(|name| is_listed_twice(text, name)) {
        let slip = Slip::Twice((*name).to_owned());
        if !found.contains(&slip) {
            found.push(slip);
        }
    }
    for opening in ["premise: ", "about: ", "story: "] {
        let verb = text
            .split(opening)
            .nth(1)
            .and_then(|rest| words(rest).first().map(|w| w.text.to_owned()));
        if let Some(verb) = verb.filter(|verb| STORY_VERBS.contains(&verb.as_str())) {
            found.push(Slip::Clause(format!("{opening}{verb}")));
        }
    }
    let mut plain = text.to_owned();
    let mut longest: Vec<&&str> = own.iter().collect();
    longest.sort_by_key(|o| std::cmp::Reverse(o.len()));
    for title in longest {
        plain = plain.replace(*title, "X");
    }
    if [
        "  ", " ,", " .", " ;", " :", "..", ",.", ";.", ",,", " !", " ?", "( ", " )",
    ]
    .iter()
    .any(|odd| plain.contains(odd))
    {
        found.push(Slip::Spacing);
    }
    if plain
        .chars()
        .next()
        .is_some_and(|c| c.is_lowercase() || c.is_whitespace() || matches!(c, ',' | '.' | ';'))
    {
        found.push(Slip::Beginning);
    }
    if !text.trim_end().ends_with(['.', '!', '?', '”', '"', ')']) {
        found.push(Slip::Ending);
    }
    let count = |mark| plain.matches(mark).count();
    if count('(') != count(')') || count('“') != count('”') || count('"') % 2 == 1 {
        found.push(Slip::Unpaired);
    }
    found
}

/// "X and X", where neither is a part of a longer title.
fn is_listed_twice(text: &str, name: &str) -> bool {
    let pair = format!("{name} and {name}");
    text.match_indices(&pair).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let mut after = text[at + pair.len()..].chars();
        let (next, then) = (after.next(), after.next());
        let longer = next.is_some_and(|c| c.is_alphanumeric() || c == ':')
            || (next == Some(' ')
                && then.is_some_and(|c| c.is_uppercase() || c.is_ascii_digit() || !c.is_alphanumeric()));
        !before.is_some_and(char::is_alphanumeric) && !text[..at].ends_with("The ") && !longer
    })
}

/// `None` where letters do not tell.
fn begins_with_vowel_sound(word: &str) -> Option<bool> {
    let lower = word.to_lowercase();
    let starts = |list: &[&str]| list.iter().any(|p| lower.starts_with(p));
    if word.len() > 1 && word.chars().all(|c| c.is_uppercase() || c.is_ascii_digit()) {
        // Spelt out or read as a word: "an FBI film", "a UFO film", "an 1980s film".
        return None;
    }
    if lower.starts_with(|c: char| c.is_ascii_digit()) {
        return Some(lower.starts_with('8') || lower.starts_with("11") || lower.starts_with("18"));
    }
    if starts(&["honest", "honour", "honor", "hour", "heir"]) {
        return Some(true);
    }
    if starts(&["eu", "uni", "use", "usu", "ut", "one", "once"]) {
        return if starts(&["unin", "unim"]) {
            None
        } else {
            Some(false)
        };
    }
    let first = lower.chars().next()?;
    if first.is_ascii_alphabetic() {
        Some("aeiou".contains(first))
    } else {
        None
    }
}

/// Whether three words in a row come twice in a wording; lists of titles and values do not count.
pub(crate) fn repeats_itself(wording: &str) -> bool {
    let tokens: Vec<&str> = wording.split_whitespace().collect();
    let mut seen = HashSet::new();
    tokens
        .windows(3)
        .filter(|three| !three.iter().any(|word| word.contains('·')))
        .any(|three| !seen.insert(three))
}

pub(crate) fn length(text: &str) -> usize {
    words(text).len()
}

/// Distinct n-grams over all texts, over all n-grams.
pub(crate) fn distinct<'t>(texts: impl Iterator<Item = &'t str>, n: usize) -> Option<f64> {
    let (mut seen, mut all) = (HashSet::new(), 0usize);
    for text in texts {
        let tokens: Vec<String> = words(text).iter().map(|w| w.text.to_lowercase()).collect();
        for gram in tokens.windows(n) {
            all += 1;
            seen.insert(gram.join(" "));
        }
    }
    (all > 0).then(|| seen.len() as f64 / all as f64)
}

/// Distinct whole sequences over all (USR).
pub(crate) fn unique<'t>(texts: impl Iterator<Item = &'t str>) -> Option<f64> {
    let (mut seen, mut all) = (HashSet::new(), 0usize);
    for text in texts {
        all += 1;
        seen.insert(text);
    }
    (all > 0).then(|| seen.len() as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_english_are_found_and_titles_may_do_as_they_please() {
        let own = [
            "Dr. Strangelove..",
            "New York, New York",
            "A Amélie",
            "¡Three Amigos!",
        ];
        let cases: &[(&str, &[Slip])] = &[
            ("Heat is an action film.", &[]),
            (
                "Heat is a honest film from a 1980s series by a European.",
                &[Slip::Article("a honest".to_owned())],
            ),
            ("Heat is a action film.", &[Slip::Article("a action".to_owned())]),
            ("Heat is an crime film.", &[Slip::Article("an crime".to_owned())]),
            (
                "Heat is the the film.",
                &[Slip::DoubledWord("the the".to_owned())],
            ),
            ("New York, New York and Dr. Strangelove.. are films.", &[]),
            ("Heat , a film.", &[Slip::Spacing]),
            ("heat is a film.", &[Slip::Beginning]),
            ("Heat is a film", &[Slip::Ending]),
            ("Heat (1995 is a film.", &[Slip::Unpaired]),
            ("¡Three Amigos! is a film.", &[]),
            (
                "The premise: follows a thief.",
                &[Slip::Clause("premise: follows".to_owned())],
            ),
            (
                "Here is Heat. It a thief and a detective.",
                &[Slip::Clause("it a".to_owned())],
            ),
            ("Heat is an FBI film, a one-off and an hour long.", &[]),
        ];
        for (text, expected) in cases {
            assert_eq!(slips(text, &own), *expected, "{text}");
        }
    }

    #[test]
    fn variety_and_repetition_follow_their_definitions() {
        let texts = ["a b a b", "a b c", "a b c"];
        assert_eq!(distinct(texts.into_iter(), 1), Some(3.0 / 10.0));
        assert_eq!(distinct(texts.into_iter(), 2), Some(3.0 / 7.0));
        assert_eq!(unique(texts.into_iter()), Some(2.0 / 3.0));
        assert_eq!(unique(std::iter::empty()), None);
        assert!(repeats_itself("it is a · film, and it is a · film."));
        assert!(!repeats_itself("liked · and · , · and ·"));
        assert!(!repeats_itself("it stars · and has ·"));
    }
}
