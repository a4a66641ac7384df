//! Whether a known stretch stands where a thing of its sort can: a person, a span, a year, a genre, a plot.

use super::cues::Cue;
use super::fragment::NO_OBJECT;
use super::refusal::Refusal;
use super::roles::cue_at;
use super::token::{Found, Kind, Token};
use crate::lexicon::is_common;
use crate::premise::{Form, opens_like_verb};
use crate::text::{Word, fold};

const COPULAS: &[&str] = &["is", "are", "was", "were"];

/// A person directs, stars, is behind something; a person is no film, and no kind of one.
pub(super) fn person_fits(tokens: &[Token], n: usize) -> Result<(), Refusal> {
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
pub(super) fn span_fits(tokens: &[Token], n: usize, series: bool) -> Result<(), Refusal> {
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
pub(super) fn year_fits(tokens: &[Token], n: usize, surface: &str) -> Result<(), Refusal> {
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
pub(super) fn genre_fits(tokens: &[Token], n: usize, surface: &str) -> Result<(), Refusal> {
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
pub(super) fn plot_fits(sentence: &str, tokens: &[Token], n: usize, found: &Found) -> Result<(), Refusal> {
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

/// Nouns for what is recommended.
pub(super) fn is_thing(word: &Word) -> bool {
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
pub(super) fn words_before(tokens: &[Token], n: usize) -> Vec<&Word> {
    let mut words: Vec<&Word> = tokens[..n].iter().rev().map_while(Token::word).take(4).collect();
    words.reverse();
    words
}

/// The words right behind a token.
pub(super) fn words_after(tokens: &[Token], n: usize) -> Vec<&Word> {
    tokens[n + 1..].iter().map_while(Token::word).take(5).collect()
}

/// "… and Heat", ", Heat": the end of a list, or of what leads in.
pub(super) fn follows_a_list(tokens: &[Token], n: usize) -> bool {
    n > 0
        && tokens[n - 1]
            .word()
            .is_some_and(|w| matches!(w.folded.as_str(), "and" | "or" | "with" | "of"))
}
