//! Whether a sentence is whole: nothing missing at its end or after its prepositions, and a verb in it.

use super::place::is_thing;
use super::refusal::Refusal;
use super::token::{Kind, Token};
use crate::lexicon::genres;

/// Words that cannot end a statement.
const OPEN_ENDED: &[&str] = &[
    "a",
    "an",
    "the",
    "of",
    "by",
    "from",
    "with",
    "after",
    "between",
    "and",
    "or",
    "who",
    "whom",
    "which",
    "whose",
    "its",
    "their",
    "your",
    "is",
    "are",
    "was",
    "were",
    "has",
    "have",
    "if",
    "because",
    "than",
    "like",
    "alongside",
    "beside",
    "among",
    "as",
];
/// Words that speak of something that must follow at once, and words that cannot be it.
const NEEDS_OBJECT: &[&str] = &[
    "by", "from", "of", "after", "between", "among", "a", "an", "the", "whose",
];
pub(super) const NO_OBJECT: &[&str] = &[
    "is", "are", "was", "were", "has", "have", "and", "or", "also", "who", "by", "from", "of", "too", "often",
];
/// Verbs that stand by themselves.
pub(super) const VERBS: &[&str] = &[
    "is", "are", "was", "were", "be", "been", "has", "have", "had", "can", "could", "may", "might", "would",
    "will", "should", "do", "does", "did", "it's", "there's", "here's", "that's", "you've", "you'll",
    "you'd", "they're", "let's",
];

/// "Collateral is a crime film like.", "directed by and also": something is missing.
pub(super) fn whole(tokens: &[Token]) -> Result<(), Refusal> {
    for (n, token) in tokens.iter().enumerate() {
        let Some(word) = token.word() else { continue };
        let word = word.folded.as_str();
        let ends = match tokens.get(n + 1).map(|t| &t.kind) {
            None => true,
            Some(Kind::Mark(mark)) => matches!(mark, ',' | ';' | ')'),
            _ => false,
        };
        // "as it is", "the one you are after": only what leaves an object open.
        let may_end = matches!(word, "is" | "are" | "was" | "were" | "has" | "have")
            && n > 0
            && pronoun(&tokens[n - 1]);
        // "To begin with, …".
        let begins = word == "with"
            && n > 0
            && tokens[n - 1]
                .word()
                .is_some_and(|w| matches!(w.folded.as_str(), "begin" | "start"));
        if ends && OPEN_ENDED.contains(&word) && !may_end && !begins {
            return Err(Refusal::Fragment);
        }
        let next = tokens.get(n + 1).and_then(Token::word);
        if let Some(next) = next
            && NEEDS_OBJECT.contains(&word)
            && NO_OBJECT.contains(&next.folded.as_str())
        {
            return Err(Refusal::Fragment);
        }
        if let Some(next) = next
            && next.folded == word
            && matches!(
                word,
                "is" | "the" | "a" | "by" | "of" | "also" | "with" | "and" | "directed" | "like" | "after"
            )
        {
            return Err(Refusal::Fragment);
        }
    }
    Ok(())
}

fn pronoun(token: &Token) -> bool {
    token.word().is_some_and(|w| {
        matches!(
            w.folded.as_str(),
            "it" | "they" | "this" | "you" | "that" | "these"
        )
    })
}

/// Whether something is said: any word that is not known to be none may be the verb; a colon says "is". Verbs of a clause beside ("who
/// liked Heat", "if you liked Heat", "directed by Mann") do not make a sentence.
pub(super) fn has_verb(tokens: &[Token]) -> bool {
    const NO_VERBS: &[&str] = &[
        "a",
        "an",
        "the",
        "this",
        "that",
        "these",
        "those",
        "another",
        "other",
        "others",
        "one",
        "more",
        "most",
        "some",
        "such",
        "same",
        "each",
        "both",
        "all",
        "any",
        "many",
        "few",
        "two",
        "three",
        "four",
        "five",
        "of",
        "by",
        "from",
        "with",
        "after",
        "before",
        "like",
        "as",
        "in",
        "on",
        "at",
        "to",
        "for",
        "into",
        "between",
        "among",
        "beside",
        "besides",
        "alongside",
        "next",
        "near",
        "within",
        "through",
        "across",
        "about",
        "along",
        "than",
        "and",
        "or",
        "but",
        "so",
        "if",
        "because",
        "while",
        "where",
        "when",
        "who",
        "whom",
        "which",
        "whose",
        "what",
        "how",
        "i",
        "you",
        "your",
        "it",
        "its",
        "itself",
        "they",
        "them",
        "their",
        "he",
        "she",
        "his",
        "her",
        "we",
        "us",
        "our",
        "also",
        "too",
        "again",
        "often",
        "once",
        "just",
        "well",
        "very",
        "quite",
        "then",
        "there",
        "here",
        "now",
        "still",
        "yet",
        "only",
        "even",
        "always",
        "never",
        "away",
        "back",
        "perhaps",
        "maybe",
        "people",
        "someone",
        "something",
        "everyone",
        "viewers",
        "fans",
        "readers",
        "users",
        "listeners",
        "audiences",
        "kind",
        "sort",
        "way",
        "time",
        "times",
        "tone",
        "mood",
        "story",
        "tale",
        "premise",
        "plot",
        "idea",
        "taste",
        "tastes",
        "liking",
        "history",
        "decade",
        "year",
        "years",
        "genre",
        "genres",
        "series",
        "franchise",
        "source",
        "part",
        "parts",
        "cast",
        "member",
        "lead",
        "star",
        "actor",
        "actress",
        "director",
        "directors",
        "author",
        "writer",
        "novelist",
        "artist",
        "band",
        "brand",
        "singer",
        "face",
        "fan",
        "change",
        "pace",
        "place",
        "choice",
        "pick",
        "suggestion",
        "recommendation",
        "starring",
        "featuring",
        "having",
        "good",
        "great",
        "new",
        "different",
        "close",
        "similar",
        "fine",
        "strong",
        "tense",
        "quiet",
        "dark",
        "warm",
        "funny",
        "gripping",
        "company",
        "common",
        "link",
        "chance",
    ];
    const RELATIVE: &[&str] = &[
        "who", "which", "that", "whom", "if", "because", "since", "when", "where", "while", "having",
    ];
    let word = |n: usize| tokens.get(n).and_then(Token::word).map(|w| w.folded.as_str());
    let is = |n: Option<usize>, list: &[&str]| n.and_then(word).is_some_and(|w| list.contains(&w));
    tokens.iter().enumerate().any(|(n, token)| match &token.kind {
        Kind::Mark(mark) => *mark == ':',
        Kind::Found(found) => found.plot,
        Kind::Word(this) => {
            let folded = this.folded.as_str();
            let aside = is(n.checked_sub(1), RELATIVE)
                || (is(n.checked_sub(1), &["you", "they", "people", "often", "also"])
                    && (is(n.checked_sub(2), RELATIVE)
                        || n.checked_sub(2)
                            .is_some_and(|at| tokens[at].word().is_some_and(is_thing))));
            let passive = word(n + 1) == Some("by") && !VERBS.contains(&folded);
            let likes = folded == "like"
                && is(
                    n.checked_sub(1),
                    &["often", "you", "they", "people", "also", "who", "to"],
                );
            let noun = (NO_VERBS.contains(&folded) && !likes)
                || is_thing(this)
                || genres().contains(folded)
                || folded.ends_with("ly")
                || this.has_digit();
            !(aside || passive || noun)
        }
    })
}
