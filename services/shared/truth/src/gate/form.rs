//! Whether a sentence is whole and has each thing in a place of its sort: no fragments, no person where a film belongs.
//!
//! What is checked here needs no data but the sorts of the known stretches: a model of slots makes such sentences when it puts
//! a slot of one sort where its teacher put another.

use super::Gate;
use super::cues::{Cue, Side};
use super::refusal::Refusal;
use super::roles::cue_at;
use super::token::{Found, Kind, Token};
use crate::lexicon::{genres, is_common};
use crate::premise::{Form, opens_like_verb};
use crate::text::{Word, fold};
use crate::vocabulary::Role;

/// What sort of thing a known stretch is, where it can be only one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Item,
    History,
    Person,
    Genre,
    Year,
    Series,
    /// A source, a country, a maker, what a catalogue invents; or of several sorts.
    Other,
}

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
const NO_OBJECT: &[&str] = &[
    "is", "are", "was", "were", "has", "have", "and", "or", "also", "who", "by", "from", "of", "too", "often",
];
/// Words that refer to the item without its title.
const REFERENCES: &[&str] = &[
    "it", "its", "it's", "itself", "this", "these", "here", "they", "them", "their", "both", "all", "each",
    "another", "one",
];
const COPULAS: &[&str] = &["is", "are", "was", "were"];
/// Verbs that stand by themselves.
const VERBS: &[&str] = &[
    "is", "are", "was", "were", "be", "been", "has", "have", "had", "can", "could", "may", "might", "would",
    "will", "should", "do", "does", "did", "it's", "there's", "here's", "that's", "you've", "you'll",
    "you'd", "they're", "let's",
];

impl Gate {
    /// Fragments, lists that repeat themselves, and things out of their place.
    pub(super) fn well_formed(&self, sentence: &str, tokens: &[Token]) -> Result<(), Refusal> {
        whole(tokens)?;
        if !has_verb(tokens) {
            return Err(Refusal::Fragment);
        }
        self.repeats(tokens)?;
        self.neighbours(sentence, tokens)?;
        for n in 0..tokens.len() {
            let Kind::Found(found) = &tokens[n].kind else {
                continue;
            };
            plot_fits(sentence, tokens, n, found)?;
            match self.sort(found) {
                Some(Sort::Person) => person_fits(tokens, n)?,
                Some(Sort::Year) => year_fits(tokens, n, &sentence[tokens[n].span.clone()])?,
                Some(Sort::Genre) => genre_fits(tokens, n, &sentence[tokens[n].span.clone()])?,
                Some(Sort::Item | Sort::History) => self.title_fits(tokens, n)?,
                Some(Sort::Series) if found.fixed => span_fits(tokens, n, true)?,
                Some(Sort::Other) if found.fixed => span_fits(tokens, n, false)?,
                Some(Sort::Series | Sort::Other) | None => {}
            }
        }
        Ok(())
    }

    /// Whether a sentence speaks of the recommended item, by its title or by a word for it.
    pub(super) fn refers_to_item(&self, tokens: &[Token]) -> bool {
        tokens.iter().any(|token| match &token.kind {
            Kind::Found(found) => found.titles.contains(&0) || found.plot,
            Kind::Word(word) => REFERENCES.contains(&word.folded.as_str()) || is_thing(word),
            Kind::Mark(_) => false,
        })
    }

    fn sort(&self, found: &Found) -> Option<Sort> {
        if found.plot || found.is_label_only() {
            return None;
        }
        if !found.titles.is_empty() && !found.reads_as_value() {
            return found.values.is_empty().then(|| {
                if found.titles.contains(&0) {
                    Sort::Item
                } else {
                    Sort::History
                }
            });
        }
        let mut roles = self
            .known
            .subjects
            .iter()
            .flat_map(|s| &s.values)
            .filter(|held| found.values.contains(&held.folded))
            .map(|held| match held.role {
                role if role.is_name() && role != Role::Maker => Sort::Person,
                Role::Genre => Sort::Genre,
                Role::Year => Sort::Year,
                Role::Series => Sort::Series,
                _ => Sort::Other,
            });
        let first = roles.next()?;
        Some(if roles.all(|sort| sort == first) {
            first
        } else {
            Sort::Other
        })
    }

    /// "Heat and Heat", "Heat, Alien and Heat": a title once in a list, and once in a statement. Slots name a title or a person once in a
    /// sentence.
    fn repeats(&self, tokens: &[Token]) -> Result<(), Refusal> {
        let slots: Vec<&Found> = tokens
            .iter()
            .filter_map(|token| match &token.kind {
                Kind::Found(found) if found.fixed && !found.plot => Some(found),
                _ => None,
            })
            .filter(|found| matches!(self.sort(found), Some(Sort::Item | Sort::History | Sort::Person)))
            .collect();
        // Namesakes read like one title.
        let title = |found: &Found| {
            found
                .titles
                .first()
                .map(|t| fold(&self.known.subjects[*t].item.title))
        };
        let twice = |n: usize| {
            slots[..n]
                .iter()
                .any(|s| title(s) == title(slots[n]) && s.values == slots[n].values)
        };
        if (1..slots.len()).any(twice) {
            return Err(Refusal::Repetition);
        }
        let mut listed: Vec<usize> = Vec::new();
        for token in tokens {
            match &token.kind {
                Kind::Found(found) if found.values.is_empty() => {
                    let Some(title) = found.titles.first() else {
                        continue;
                    };
                    if listed.contains(title) {
                        return Err(Refusal::Repetition);
                    }
                    listed.push(*title);
                }
                // A new statement may name it again.
                Kind::Mark(';' | ':' | '—' | '–') => listed.clear(),
                Kind::Word(word) if VERBS.contains(&word.folded.as_str()) => {
                    let own: Vec<usize> = listed.iter().copied().filter(|t| *t == 0).collect();
                    listed = own;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// "Collateral Heat": two titles, or a title and a name, with nothing between them.
    fn neighbours(&self, sentence: &str, tokens: &[Token]) -> Result<(), Refusal> {
        // "Heat and the 1990s", "Mann, Heat and Collateral": a list is of one sort.
        for n in 1..tokens.len().saturating_sub(1) {
            let (Kind::Found(a), Kind::Found(b)) = (&tokens[n - 1].kind, &tokens[n + 1].kind) else {
                continue;
            };
            let listed = match &tokens[n].kind {
                Kind::Word(word) => word.folded == "and",
                Kind::Mark(',') => {
                    matches!(tokens.get(n + 2).map(|t| &t.kind), Some(Kind::Word(w)) if w.folded == "and")
                }
                _ => false,
            };
            let (Some(first), Some(second)) = (self.sort(a), self.sort(b)) else {
                continue;
            };
            let title = |sort| matches!(sort, Sort::Item | Sort::History);
            let alike = first == second || (title(first) && title(second));
            if listed && (a.fixed || b.fixed) && !alike {
                return Err(Refusal::WrongRole);
            }
        }
        for pair in tokens.windows(2) {
            let (Kind::Found(a), Kind::Found(b)) = (&pair[0].kind, &pair[1].kind) else {
                continue;
            };
            let bare = sentence[pair[0].span.end..pair[1].span.start]
                .chars()
                .all(char::is_whitespace);
            let (Some(a), Some(b)) = (self.sort(a), self.sort(b)) else {
                continue;
            };
            let title = |sort| matches!(sort, Sort::Item | Sort::History);
            let named = |sort| title(sort) || sort == Sort::Person;
            if bare
                && ((title(a) && (named(b) || b == Sort::Genre || b == Sort::Year))
                    || (a == Sort::Person && named(b)))
            {
                return Err(Refusal::Fragment);
            }
        }
        Ok(())
    }

    /// A title is no person and no kind of film: "directed by Heat", "a Heat film"; and what the user knows is not what is recommended: "Heat
    /// is another film".
    fn title_fits(&self, tokens: &[Token], n: usize) -> Result<(), Refusal> {
        let Kind::Found(found) = &tokens[n].kind else {
            return Ok(());
        };
        let before = words_before(tokens, n);
        let after = words_after(tokens, n);
        let wrong = |holds: bool| if holds { Err(Refusal::WrongRole) } else { Ok(()) };
        let article = before
            .last()
            .is_some_and(|w| matches!(w.folded.as_str(), "a" | "an" | "another"));
        wrong(article)?;
        // No slot of a title stands behind "the" or before "films".
        let described =
            before.last().is_some_and(|w| w.folded == "the") || after.first().is_some_and(|w| is_thing(w));
        wrong(found.fixed && described)?;
        for length in (1..=before.len().min(3)).rev() {
            let cue = cue_at(&before[before.len() - length..]).filter(|(wide, _)| *wide == length);
            if let Some((_, Cue::Role(role, side))) = cue {
                let takes_title =
                    side == Side::Before || matches!(role, Role::Series | Role::Source | Role::Genre);
                return wrong(!takes_title);
            }
        }
        let with_thing = before.len() >= 2
            && before[before.len() - 1].folded == "with"
            && is_thing(before[before.len() - 2]);
        wrong(with_thing)?;
        // "the same director, Heat."
        if n >= 2
            && matches!(tokens[n - 1].kind, Kind::Mark(',' | ':'))
            && matches!(tokens.get(n + 1).map(|t| &t.kind), None | Some(Kind::Mark(_)))
            && let Some(word) = tokens[n - 2].word()
            && let Some((_, Cue::Role(role, Side::Either))) = cue_at(&[word])
            && role.is_name()
            && tokens[..n - 2]
                .iter()
                .rev()
                .find_map(Token::word)
                .is_some_and(|w| matches!(w.folded.as_str(), "same" | "its" | "the" | "their"))
        {
            return Err(Refusal::WrongRole);
        }
        const RECOMMENDED: &[&[&str]] = &[
            &["is", "another"],
            &["is", "one", "more"],
            &["could", "follow"],
            &["offers"],
            &["brings"],
            &["takes", "you"],
            &["keeps", "you"],
            &["stays", "with"],
        ];
        let predicate = RECOMMENDED.iter().any(|phrase| {
            phrase.len() <= after.len() && phrase.iter().zip(&after).all(|(p, w)| *p == w.folded)
        });
        if !found.titles.contains(&0) && predicate && !follows_a_list(tokens, n) {
            return Err(Refusal::WrongRelation);
        }
        Ok(())
    }
}

/// "Collateral is a crime film like.", "directed by and also": something is missing.
fn whole(tokens: &[Token]) -> Result<(), Refusal> {
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
fn has_verb(tokens: &[Token]) -> bool {
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

/// Nouns for what is recommended.
fn is_thing(word: &Word) -> bool {
    const THINGS: &[&str] = &[
        "film",
        "films",
        "movie",
        "movies",
        "book",
        "books",
        "novel",
        "novels",
        "place",
        "places",
        "restaurant",
        "restaurants",
        "release",
        "releases",
        "album",
        "albums",
        "product",
        "products",
        "title",
        "titles",
        "picture",
        "pictures",
        "one",
    ];
    THINGS.contains(&word.folded.as_str())
}

/// The words right before a token, in order.
fn words_before(tokens: &[Token], n: usize) -> Vec<&Word> {
    let mut words: Vec<&Word> = tokens[..n].iter().rev().map_while(Token::word).take(4).collect();
    words.reverse();
    words
}

/// The words right behind a token.
fn words_after(tokens: &[Token], n: usize) -> Vec<&Word> {
    tokens[n + 1..].iter().map_while(Token::word).take(5).collect()
}

/// "… and Heat", ", Heat": the end of a list, or of what leads in.
fn follows_a_list(tokens: &[Token], n: usize) -> bool {
    n > 0
        && tokens[n - 1]
            .word()
            .is_some_and(|w| matches!(w.folded.as_str(), "and" | "or" | "with" | "of"))
}

/// A person directs, stars, is behind something; a person is no film, and no kind of one.
fn person_fits(tokens: &[Token], n: usize) -> Result<(), Refusal> {
    let (before, after) = (words_before(tokens, n), words_after(tokens, n));
    let is = |word: Option<&&Word>, list: &[&str]| word.is_some_and(|w| list.contains(&w.folded.as_str()));
    // "another Michael Mann", "from the Michael Mann": an article wants a noun behind the name.
    let adjective = after.first().is_some_and(|w| {
        is_common(&w.folded) && !COPULAS.contains(&w.folded.as_str()) && !is(after.first(), NO_OBJECT)
    }) || matches!(tokens.get(n + 1).map(|t| &t.kind), Some(Kind::Found(_)));
    if is(before.last(), &["a", "an", "another", "the", "these"]) && !adjective {
        return Err(Refusal::WrongRole);
    }
    // Behind a mark the name only explains what the sentence is about: "the director, Mann, is …".
    let subject = !matches!(
        tokens.get(n.wrapping_sub(1)).map(|t| &t.kind),
        Some(Kind::Mark(','))
    ) || n < 2;
    let explained = matches!(tokens.get(n + 1).map(|t| &t.kind), Some(Kind::Mark(_)));
    if !subject || explained {
        return Ok(());
    }
    const OF_A_FILM: &[&str] = &[
        "could", "offers", "brings", "takes", "keeps", "stays", "belongs", "shares", "comes", "follows",
        "goes",
    ];
    if is(after.first(), OF_A_FILM) {
        return Err(Refusal::WrongRole);
    }
    if !is(after.first(), COPULAS) {
        return Ok(());
    }
    let mut rest = after[1..].iter();
    let mut next = rest.next();
    while is(next, &["also", "again", "once"]) {
        next = rest.next();
    }
    let of_a_person = match next.map(|w| w.folded.as_str()) {
        Some("in" | "back" | "behind" | "at" | "seen" | "both" | "one" | "among") => true,
        Some("the" | "a" | "an" | "its" | "their") => {
            let words: Vec<&Word> = rest.copied().collect();
            (0..words.len())
                .any(|n| matches!(cue_at(&words[n..]), Some((_, Cue::Role(role, _))) if role.is_name()))
        }
        _ => false,
    };
    let one_more = next.is_some_and(|w| w.folded == "one") && !after.iter().any(|w| w.folded == "cast");
    if of_a_person && !one_more {
        Ok(())
    } else {
        Err(Refusal::WrongRole)
    }
}

/// A slot of a series, a source, a country: behind words that lead to it, and nowhere else.
fn span_fits(tokens: &[Token], n: usize, series: bool) -> Result<(), Refusal> {
    let before = words_before(tokens, n);
    let word = |back: usize| {
        before
            .len()
            .checked_sub(back)
            .map(|at| before[at].folded.as_str())
    };
    let named_before = |at: usize| match &tokens[at].kind {
        Kind::Word(word) => {
            matches!(cue_at(&[word]), Some((_, Cue::Role(..))))
                || matches!(word.folded.as_str(), "this" | "too")
        }
        Kind::Found(found) => found.label.is_some(),
        Kind::Mark(_) => false,
    };
    let led = match (n.checked_sub(1).map(|at| &tokens[at].kind), word(1)) {
        (Some(Kind::Mark(':')), _) => true,
        (Some(Kind::Mark(',')), _) => n >= 2 && named_before(n - 2),
        (Some(Kind::Found(found)), _) => found.label.is_some(),
        (_, Some("of")) => series && matches!(word(2), Some("part" | "parts" | "more")),
        (_, Some("to")) => series && matches!(word(2), Some("back" | "belong" | "belongs")),
        (_, Some("from")) => !matches!(word(2), Some("know" | "face" | "seen")),
        (_, Some("is" | "has")) => true,
        (
            _,
            Some(
                "a" | "an" | "another" | "more" | "further" | "among" | "the" | "with" | "are" | "all"
                | "both" | "holds",
            ),
        ) => series && words_after(tokens, n).first().is_some_and(|w| is_thing(w)),
        _ => false,
    };
    let person = words_after(tokens, n)
        .first()
        .or(words_after(tokens, (n + 1).min(tokens.len() - 1)).first())
        .is_some_and(|w| matches!(w.folded.as_str(), "who" | "whom" | "whose"));
    if led && !person {
        Ok(())
    } else {
        Err(Refusal::WrongRole)
    }
}

/// A decade or a year says when: "from the 1990s", "a 1994 film". It does nothing and is nobody.
fn year_fits(tokens: &[Token], n: usize, surface: &str) -> Result<(), Refusal> {
    let before = words_before(tokens, n);
    let last = before.last().map(|w| w.folded.as_str());
    let earlier = before.len().checked_sub(2).map(|at| before[at].folded.as_str());
    // "the same decade, the 1990s".
    let behind_mark = n >= 3
        && matches!(tokens[n - 2].kind, Kind::Mark(_))
        && words_before(tokens, n - 2)
            .iter()
            .any(|w| matches!(w.folded.as_str(), "decade" | "time" | "era" | "years"));
    let describes = words_after(tokens, n).first().is_some_and(|w| is_thing(w))
        || matches!(tokens.get(n + 1).map(|t| &t.kind), Some(Kind::Found(_)));
    let decade = surface.ends_with('s');
    let fits = match last {
        Some("a" | "an" | "another" | "this" | "these" | "more" | "your" | "of") if describes => true,
        Some("the") if decade => {
            describes
                || matches!(earlier, Some("from" | "in" | "of" | "during" | "is"))
                || (earlier.is_none() && behind_mark)
        }
        Some("from" | "in" | "of" | "since" | "until" | "around") => !decade,
        // "Heat (1995)" was taken out before; "…, 1995" is none of our business.
        None => describes && n > 0,
        Some("and" | "or" | "to") => {
            describes || n >= 2 && matches!(&tokens[n - 2].kind, Kind::Found(f) if f.reads_as_value())
        }
        _ => {
            describes && last.is_some_and(|w| !matches!(w, "by" | "starring" | "stars" | "directed" | "with"))
        }
    };
    // "more of the 1990s", "the director of the 1990s": that is somebody's place.
    let somebody = earlier == Some("of")
        && before.len().checked_sub(3).is_some_and(|at| {
            before[at].folded == "more" || matches!(cue_at(&before[at..=at]), Some((_, Cue::Role(..))))
        });
    if fits && !somebody {
        Ok(())
    } else {
        Err(Refusal::WrongRole)
    }
}

/// A genre describes; it is no film and does nothing.
fn genre_fits(tokens: &[Token], n: usize, surface: &str) -> Result<(), Refusal> {
    let after = words_after(tokens, n);
    // A slot's genre is "a comedy", "comedies" or "a crime film"; plain text may also speak of "pure comedy".
    if let Kind::Found(found) = &tokens[n].kind
        && found.fixed
    {
        let plural = !found.values.contains(&fold(surface));
        let before = words_before(tokens, n);
        let counted = before.last().is_some_and(|w| {
            matches!(
                w.folded.as_str(),
                "a" | "an" | "another" | "further" | "more" | "this"
            )
        });
        let thing = after.first().is_some_and(|w| is_thing(w));
        if !(plural || counted || thing) {
            return Err(Refusal::WrongRole);
        }
    }
    let opens = n == 0 || matches!(tokens[n - 1].kind, Kind::Mark(_));
    let is = |at: usize, list: &[&str]| after.get(at).is_some_and(|w| list.contains(&w.folded.as_str()));
    let acts = is(0, COPULAS)
        && is(
            1,
            &[
                "a", "an", "another", "one", "by", "from", "directed", "also", "part", "often", "the",
            ],
        );
    let verb = is(
        0,
        &[
            "could", "brings", "takes", "comes", "shares", "was", "were", "directed", "appears", "stars",
        ],
    );
    let object = words_before(tokens, n)
        .last()
        .is_some_and(|w| matches!(w.folded.as_str(), "by" | "starring" | "whose" | "whom"));
    if (opens && (acts || verb)) || object {
        return Err(Refusal::WrongRole);
    }
    Ok(())
}

/// "It follows a clerk" and "the premise: a clerk who …"; not the one in the place of the other.
fn plot_fits(sentence: &str, tokens: &[Token], n: usize, found: &Found) -> Result<(), Refusal> {
    if !found.plot {
        return Ok(());
    }
    let text = &sentence[tokens[n].span.clone()];
    let form = found.form.unwrap_or_else(|| {
        if opens_like_verb(text) {
            Form::Verb
        } else {
            Form::Clause
        }
    });
    let before = n.checked_sub(1).map(|at| &tokens[at].kind);
    let fits = match (form, before) {
        (Form::Verb, Some(Kind::Mark(mark))) => *mark != ':' && *mark != ';',
        (Form::Clause, Some(Kind::Found(found))) => !found.fixed && found.titles.is_empty(),
        (Form::Clause, Some(Kind::Word(word))) if found.fixed => {
            matches!(word.folded.as_str(), "about" | "premise" | "of")
        }
        (Form::Clause, Some(Kind::Word(word))) => {
            let article = ["a ", "an ", "the ", "two "].iter().any(|a| text.starts_with(a));
            !(article && matches!(word.folded.as_str(), "it" | "which"))
        }
        (Form::Clause, None) => !found.fixed,
        _ => true,
    };
    if fits { Ok(()) } else { Err(Refusal::Fragment) }
}
