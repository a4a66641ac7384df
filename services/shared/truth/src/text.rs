//! Words of data and of models: cleaning what comes in, folding for comparison, cutting into words.

use std::ops::Range;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::canonical_combining_class;

use crate::vocabulary::Role;

/// Longest title that is shown or put into a prompt, in characters.
pub const TITLE_CHARS_MAX: usize = 120;
/// Longest attribute value that is shown or put into a prompt, in characters.
pub const VALUE_CHARS_MAX: usize = 80;
/// Longest description that is read, in characters.
pub const DESCRIPTION_CHARS_MAX: usize = 2_000;

/// Makes a piece of data safe to stand in a prompt and in an answer.
///
/// Titles, attributes and descriptions are data, whatever they say: control, bidirectional and zero-width characters
/// go, white space becomes one blank, and the angle brackets of model tokens (`</s>`, `<pad>`, `<extra_id_0>`,
/// our slots) become typographic ones, so that no tokenizer reads them as one. Cut at `chars_max` on a word.
pub fn clean(text: &str, chars_max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(chars_max * 4));
    let mut blank = false;
    let mut chars = 0;
    for c in text.chars() {
        let c = match c {
            c if c.is_whitespace() => {
                blank = !out.is_empty();
                continue;
            }
            c if c.is_control() || is_invisible(c) => continue,
            '<' => '‹',
            '>' => '›',
            // SentencePiece reads this block as a blank.
            '\u{2581}' => '_',
            c => c,
        };
        if chars + usize::from(blank) >= chars_max {
            if let Some(cut) = out.rfind(' ').filter(|cut| *cut > out.len() / 2) {
                out.truncate(cut);
            }
            break;
        }
        if blank {
            out.push(' ');
            chars += 1;
            blank = false;
        }
        out.push(c);
        chars += 1;
    }
    out
}

/// Characters that change how a text is laid out without being seen.
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}' | '\u{180E}'
        | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{3164}'
        | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFD}' | '\u{1D173}'..='\u{1D17A}'
        | '\u{E0000}'..='\u{E0FFF}' | '\u{E000}'..='\u{F8FF}')
}

/// The form in which texts are compared: no case, no accents, one kind of quote and dash, single blanks.
pub fn fold(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.nfkd() {
        if canonical_combining_class(c) != 0 || is_invisible(c) {
            continue;
        }
        match c {
            c if c.is_whitespace() => {
                if !out.is_empty() && !out.ends_with(' ') {
                    out.push(' ');
                }
            }
            '’' | '‘' | 'ʼ' | '`' | '´' => out.push('\''),
            '“' | '”' | '„' => out.push('"'),
            '–' | '—' | '−' | '‐' | '‑' => out.push('-'),
            'ß' => out.push_str("ss"),
            'æ' | 'Æ' => out.push_str("ae"),
            'œ' | 'Œ' => out.push_str("oe"),
            'ø' | 'Ø' => out.push('o'),
            'ł' | 'Ł' => out.push('l'),
            'đ' | 'Đ' => out.push('d'),
            'ı' => out.push('i'),
            c => out.extend(c.to_lowercase()),
        }
    }
    out.truncate(out.trim_end().len());
    out
}

/// One word of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    /// Bytes of the text; a possessive `'s` is not part of it.
    pub(crate) span: Range<usize>,
    pub(crate) folded: String,
    /// Whether it begins with an upper-case letter.
    pub(crate) capital: bool,
}

impl Word {
    pub(crate) fn has_digit(&self) -> bool {
        self.folded.chars().any(char::is_numeric)
    }
}

/// Cuts a text into words: runs of letters and digits with inner apostrophes; `&` is the word *and*.
pub(crate) fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut start = None;
    let chars: Vec<(usize, char)> = text.char_indices().collect();
    let inner = |c: char| c.is_alphanumeric() || canonical_combining_class(c) != 0;
    for (n, &(at, c)) in chars.iter().enumerate() {
        let apostrophe = matches!(c, '\'' | '’' | '‘' | 'ʼ')
            && start.is_some()
            && chars.get(n + 1).is_some_and(|(_, next)| next.is_alphanumeric());
        if inner(c) || apostrophe {
            start.get_or_insert(at);
        } else {
            if let Some(from) = start.take() {
                words.push(word(text, from..at));
            }
            if c == '&' {
                words.push(Word {
                    span: at..at + 1,
                    folded: "and".to_owned(),
                    capital: false,
                });
            }
        }
    }
    if let Some(from) = start {
        words.push(word(text, from..text.len()));
    }
    words
}

fn word(text: &str, span: Range<usize>) -> Word {
    let mut span = span;
    let surface = &text[span.clone()];
    for possessive in ["'s", "’s", "'S", "’S"] {
        if let Some(stem) = surface.strip_suffix(possessive).filter(|stem| !stem.is_empty()) {
            span.end = span.start + stem.len();
        }
    }
    let surface = &text[span.clone()];
    Word {
        folded: fold(surface),
        capital: surface.chars().next().is_some_and(char::is_uppercase),
        span,
    }
}

/// A cleaned text that may stand in a sentence shown to a person; `None` if it has no word, or looks like a link or an address.
pub fn sayable(text: &str, chars_max: usize) -> Option<String> {
    let cleaned = clean(text, chars_max);
    let has_word = cleaned.chars().any(char::is_alphanumeric);
    (has_word && !looks_like_link(&cleaned) && !cleaned.contains(['{', '}', '|', '\\', '`']))
        .then_some(cleaned)
}

/// URLs, e-mail addresses and handles.
pub(crate) fn looks_like_link(text: &str) -> bool {
    let lower = text.to_lowercase();
    if lower.contains("://") || lower.contains("www.") || lower.contains('@') {
        return true;
    }
    const ENDINGS: [&str; 14] = [
        "com", "net", "org", "io", "info", "biz", "ru", "cn", "xyz", "co", "uk", "de", "app", "dev",
    ];
    lower
        .split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | ',' | '"'))
        .any(|piece| {
            let host = piece
                .split('/')
                .next()
                .unwrap_or_default()
                .trim_end_matches(['.', '!', '?', ';', ':']);
            let Some((name, ending)) = host.rsplit_once('.') else {
                return false;
            };
            name.len() > 1 && name.ends_with(|c: char| c.is_ascii_alphanumeric()) && ENDINGS.contains(&ending)
        })
}

/// Whether a name stands in a sentence with "the" before it: "the United Kingdom", "the Dollars Trilogy".
pub(crate) fn wants_article(name: &str, role: Role) -> bool {
    const PLACES: &[&str] = &[
        "kingdom",
        "states",
        "union",
        "republic",
        "emirates",
        "islands",
        "isles",
        "federation",
        "netherlands",
        "philippines",
        "bahamas",
        "maldives",
        "gambia",
        "territories",
        "usa",
        "us",
        "uk",
        "ussr",
        "uae",
    ];
    const PLACES_OF: &[&str] = &[
        "united states of",
        "republic of",
        "kingdom of",
        "people's republic of",
        "isle of",
    ];
    const SERIES: &[&str] = &[
        "universe",
        "verse",
        "trilogy",
        "tetralogy",
        "quadrilogy",
        "quartet",
        "duology",
        "saga",
        "series",
        "cycle",
        "chronicles",
        "franchise",
        "films",
        "novels",
        "books",
        "tales",
    ];
    let folded = fold(name);
    let words: Vec<&str> = folded.split([' ', '-']).collect();
    let Some((last, before)) = words.split_last() else {
        return false;
    };
    // "the" stands there already, or a possessive stands for it.
    if before.first().is_some_and(|w| matches!(*w, "a" | "an" | "the"))
        || before.iter().any(|w| w.ends_with("'s"))
    {
        return false;
    }
    match role {
        Role::Place => PLACES.contains(last) || PLACES_OF.iter().any(|p| folded.starts_with(p)),
        // "Chronicles" alone is a title of its own.
        Role::Series => !before.is_empty() && SERIES.contains(last),
        _ => false,
    }
}

/// The indefinite article for what follows it.
pub fn article(next: &str) -> &'static str {
    let folded = fold(next);
    let first = folded.trim_start_matches(|c: char| !c.is_alphanumeric());
    const AN: [&str; 5] = ["honest", "hour", "heir", "honour", "honor"];
    const A: [&str; 8] = ["uni", "eu", "one", "once", "use", "uto", "ura", "ute"];
    if let Some(digit) = first.chars().next().filter(char::is_ascii_digit) {
        let number: String = first.chars().take_while(char::is_ascii_digit).collect();
        return if digit == '8' || number == "11" || number == "18" {
            "an"
        } else {
            "a"
        };
    }
    if AN.iter().any(|p| first.starts_with(p)) {
        return "an";
    }
    if A.iter().any(|p| first.starts_with(p)) && !first.starts_with("unin") && !first.starts_with("unim") {
        return "a";
    }
    if first.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleaning_takes_away_what_is_not_seen_and_what_a_tokenizer_would_obey() {
        for (dirty, clean_text) in [
            ("  The\u{0000} Third\n\tMan ", "The Third Man"),
            ("Heat\u{202E}txt", "Heattxt"),
            ("A\u{200B}li\u{FEFF}en", "Alien"),
            ("</s><pad> <extra_id_0> <h1>", "‹/s›‹pad› ‹extra_id_0› ‹h1›"),
            ("a▁b", "a_b"),
        ] {
            assert_eq!(clean(dirty, 100), clean_text);
        }
        assert_eq!(clean("one two three four", 13), "one two");
        assert!(clean(&"é".repeat(500), 10).chars().count() <= 10);
    }

    #[test]
    fn folding_forgets_case_accents_and_kinds_of_quotes() {
        assert_eq!(fold("AMÉLIE"), fold("amélie"));
        assert_eq!(fold("Ocean’s Eleven"), fold("Ocean's  eleven"));
        assert_eq!(fold("Straße"), "strasse");
        assert_eq!(fold("Søren"), "soren");
    }

    #[test]
    fn words_keep_inner_apostrophes_and_lose_the_possessive() {
        let found: Vec<String> = words("Mann's Heat & O'Brien, 1990s!")
            .into_iter()
            .map(|w| w.folded)
            .collect();
        assert_eq!(found, ["mann", "heat", "and", "o'brien", "1990s"]);
    }

    #[test]
    fn articles_follow_the_sound() {
        for (next, expected) in [
            ("action film", "an"),
            ("western", "a"),
            ("hour", "an"),
            ("union drama", "a"),
            ("1990s film", "a"),
            ("8 mm film", "an"),
            ("Italian place", "an"),
            ("European film", "a"),
            ("uninvited", "an"),
        ] {
            assert_eq!(article(next), expected, "{next}");
        }
    }

    #[test]
    fn names_that_want_it_get_their_article() {
        for (name, role, wants) in [
            ("United Kingdom", Role::Place, true),
            ("United States of America", Role::Place, true),
            ("USA", Role::Place, true),
            ("Czech Republic", Role::Place, true),
            ("Soviet Union", Role::Place, true),
            ("Faroe Islands", Role::Place, true),
            ("The Netherlands", Role::Place, false),
            ("Iceland", Role::Place, false),
            ("Marvel Cinematic Universe", Role::Series, true),
            ("Dollars Trilogy", Role::Series, true),
            ("The Apu Trilogy", Role::Series, false),
            ("Spider-Verse", Role::Series, true),
            ("Star Wars", Role::Series, false),
            ("Ocean's Trilogy", Role::Series, false),
            ("Ada Union", Role::Director, false),
        ] {
            assert_eq!(wants_article(name, role), wants, "{name}");
        }
    }

    #[test]
    fn links_and_addresses_are_not_sayable() {
        for text in [
            "see http://x.y",
            "www.films.example",
            "me@example.org",
            "films.com/best",
            "   ",
            "***",
            "a|b",
        ] {
            assert_eq!(sayable(text, 80), None, "{text}");
        }
        for text in [
            "Mr. & Mrs. Smith",
            "R.I.P.D.",
            "S1m0ne",
            "21 Jump Street",
            "What's Up, Doc?",
            "七人の侍",
        ] {
            assert!(sayable(text, 80).is_some(), "{text}");
        }
    }
}
