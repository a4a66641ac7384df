//! True sentences pass, untrue ones do not: by table.

use std::sync::Arc;

use refract_domain::{
    Affinity, Evidence, Fact, FactKind, Freshness, History, Interaction, Item, ItemId, Knowledge, Pair,
    Revision, Signal, TenantId, Timestamp,
};

use refract_domain::Claim;

use super::*;

fn item(id: &str, title: &str, attributes: &[(&str, &[&str])], description: &str) -> Arc<Item> {
    Arc::new(Item {
        id: ItemId::new(id),
        title: title.to_owned(),
        attributes: attributes
            .iter()
            .map(|(name, values)| {
                (
                    (*name).to_owned(),
                    values.iter().map(|v| (*v).to_owned()).collect(),
                )
            })
            .collect(),
        description: description.to_owned(),
    })
}

fn heat_and_others() -> (Pair, History) {
    let collateral = item(
        "collateral",
        "Collateral",
        &[
            ("year", &["2004"]),
            ("director", &["Michael Mann"]),
            ("cast", &["Tom Cruise", "Jamie Foxx", "Jada Pinkett Smith"]),
            ("genre", &["crime", "thriller"]),
        ],
        "Collateral is a 2004 American crime thriller film directed by Michael Mann. The film follows a cab driver in Los Angeles \
         who is forced to drive a contract killer from one job to the next.",
    );
    let heat = item(
        "heat",
        "Heat",
        &[
            ("year", &["1995"]),
            ("director", &["Michael Mann"]),
            ("cast", &["Al Pacino", "Robert De Niro"]),
            ("genre", &["crime", "drama"]),
        ],
        "",
    );
    let jerry = item(
        "jerry",
        "Jerry Maguire",
        &[
            ("year", &["1996"]),
            ("director", &["Cameron Crowe"]),
            ("cast", &["Tom Cruise", "Renée Zellweger"]),
            ("genre", &["comedy", "romance"]),
        ],
        "",
    );
    let alien = item(
        "alien",
        "Alien",
        &[
            ("year", &["1979"]),
            ("director", &["Ridley Scott"]),
            ("cast", &["Sigourney Weaver"]),
            ("genre", &["horror", "science fiction"]),
        ],
        "",
    );
    let ray = item(
        "ray",
        "Ray",
        &[
            ("year", &["2004"]),
            ("director", &["Taylor Hackford"]),
            ("cast", &["Jamie Foxx"]),
            ("genre", &["biography"]),
        ],
        "",
    );
    let cats = item(
        "cats",
        "Cats & Dogs",
        &[("cast", &["Jeff Goldblum"]), ("genre", &["family"])],
        "",
    );
    let interaction = |item: &Arc<Item>, at, signal| Interaction {
        item: Arc::clone(item),
        at: Timestamp(at),
        signal,
        rating: None,
        text: None,
    };
    let history = History::new(vec![
        interaction(&heat, 1, Signal::Liked),
        interaction(&jerry, 2, Signal::Liked),
        interaction(&alien, 3, Signal::Liked),
        interaction(&ray, 4, Signal::Seen),
        interaction(&cats, 5, Signal::Disliked),
    ]);
    let affinities = vec![
        Affinity {
            item: ItemId::new("heat"),
            lift: 3.2,
            support: 40,
        },
        Affinity {
            item: ItemId::new("cats"),
            lift: 9.0,
            support: 40,
        },
    ];
    (
        Pair {
            tenant: TenantId::default(),
            user: None,
            item: collateral,
            affinities,
        },
        history,
    )
}

fn judge(sentence: &str) -> Result<Vec<Claim>, Refusal> {
    let (pair, history) = heat_and_others();
    Gate::new(&Vocabulary::default(), &pair, &history, None).check(sentence, &[])
}

const TRUE: &[&str] = &[
    "Collateral was directed by Michael Mann, who also directed Heat.",
    "You liked Heat; Collateral has the same director.",
    "Because you liked Heat, you may want to try Collateral, also directed by Michael Mann.",
    "Like Heat, Collateral is a crime film.",
    "If you enjoyed Heat, Collateral offers another crime story from director Michael Mann.",
    "Collateral stars Tom Cruise, whom you know from Jerry Maguire.",
    "Tom Cruise stars in Collateral, as in Jerry Maguire.",
    "Michael Mann directed Heat and Collateral.",
    "Michael Mann directs Tom Cruise in Collateral.",
    "Collateral stars Tom Cruise and Jamie Foxx.",
    "Collateral, a 2004 thriller, stars Tom Cruise.",
    "You watched Ray; Jamie Foxx is in Collateral too.",
    "People who liked Heat often liked Collateral too.",
    "Viewers who liked Heat also enjoyed Collateral 3 times more often than chance would have it.",
    "It follows a cab driver in Los Angeles who is forced to drive a contract killer from one job to the next.",
    "Collateral is set in Los Angeles.",
    "Heat (1995) and Collateral (2004) share a director.",
    "With Mann as director again, Collateral is close to Heat.",
    "Both Heat and Collateral are crime films.",
    "This thriller is from 2004.",
    "Collateral is a crime thriller from the 2000s.",
    "You watched Ray; Collateral is another film from the 2000s.",
    "Its director is that of Heat too.",
    "Collateral has the director of Heat.",
    "Admirers of Michael Mann know Heat, and Collateral is his as well.",
    "Michael Mann is also the director of Heat, and both are crime films.",
    "Heat and Collateral are Michael Mann films.",
    "Heat was directed by Michael Mann, and so was Collateral.",
    "Collateral stars Tom Cruise; so does Jerry Maguire.",
    "Collateral stars Tom Cruise, and Jerry Maguire does too.",
];

const UNTRUE: &[(&str, Refusal)] = &[
    // Names and titles that are nowhere.
    (
        "Collateral was directed by Steven Spielberg.",
        Refusal::UntraceableName,
    ),
    (
        "You liked Casino; Collateral is also a crime film.",
        Refusal::UntraceableName,
    ),
    ("Spielberg directed Collateral.", Refusal::UntraceableName),
    (
        "Colateral was directed by Michael Mann.",
        Refusal::UntraceableName,
    ),
    (
        "Aliens and Collateral are liked by the same people.",
        Refusal::UntraceableAttribute,
    ),
    (
        "Like Alien Resurrection, it is a thriller.",
        Refusal::UntraceableName,
    ),
    ("Michael Bay directed Collateral.", Refusal::UntraceableName),
    (
        "Collateral is a thriller directed by steven spielberg.",
        Refusal::UntraceableName,
    ),
    (
        "Collateral is a thriller starring tom hanks.",
        Refusal::UntraceableName,
    ),
    // What the other is said to have as well.
    (
        "Collateral stars Tom Cruise, and so does Heat.",
        Refusal::WrongRelation,
    ),
    (
        "Collateral stars Jamie Foxx; so does Jerry Maguire.",
        Refusal::WrongRelation,
    ),
    (
        "Collateral stars Tom Cruise, and Heat does too.",
        Refusal::WrongRelation,
    ),
    (
        "Tom Cruise is in Collateral, and so is he in Heat.",
        Refusal::WrongRelation,
    ),
    (
        "Collateral stars Tom Cruise; Heat has him as well.",
        Refusal::WrongRelation,
    ),
    // Comparisons that the data do not make.
    ("Collateral was made before Heat.", Refusal::UntraceableAttribute),
    ("Heat is older than Collateral.", Refusal::UntraceableAttribute),
    // Right names, wrong places.
    ("Collateral was directed by Tom Cruise.", Refusal::WrongRole),
    ("Collateral stars Michael Mann.", Refusal::WrongRole),
    ("Jamie Foxx directs Collateral.", Refusal::WrongRole),
    (
        "Tom Cruise, the director of Jerry Maguire, made Collateral.",
        Refusal::WrongRole,
    ),
    ("Collateral stars Al Pacino.", Refusal::WrongRelation),
    (
        "Collateral stars Al Pacino, who was in Heat.",
        Refusal::WrongRelation,
    ),
    ("Collateral was directed by Ridley Scott.", Refusal::WrongRelation),
    (
        "Like Alien, Collateral was directed by Michael Mann.",
        Refusal::WrongRelation,
    ),
    (
        "You liked Alien, and this is another film by Michael Mann.",
        Refusal::WrongRelation,
    ),
    (
        "You liked Jerry Maguire; Collateral has the same director.",
        Refusal::WrongRelation,
    ),
    ("Heat and Collateral share a star.", Refusal::WrongRelation),
    (
        "Like Heat and Jerry Maguire, Collateral is a crime film.",
        Refusal::WrongRelation,
    ),
    ("Alien is a perfect match for Collateral.", Refusal::WrongRelation),
    (
        "Collateral is a change of pace: a thriller with Tom Cruise.",
        Refusal::WrongRelation,
    ),
    (
        "Collateral is a comedy, like Jerry Maguire.",
        Refusal::WrongRelation,
    ),
    (
        "You liked Collateral, and Heat is by the same director.",
        Refusal::WrongRelation,
    ),
    (
        "You may want to try Heat, by Michael Mann.",
        Refusal::WrongRelation,
    ),
    // Attributes.
    ("Collateral is a musical.", Refusal::UntraceableAttribute),
    (
        "Collateral is a western directed by Michael Mann.",
        Refusal::UntraceableAttribute,
    ),
    (
        "This heist film was directed by Michael Mann.",
        Refusal::UntraceableAttribute,
    ),
    (
        "The popular Collateral was directed by Michael Mann.",
        Refusal::UntraceableAttribute,
    ),
    (
        "Collateral, a sequel, stars Tom Cruise.",
        Refusal::UntraceableAttribute,
    ),
    (
        "Michael Mann won an award for Collateral.",
        Refusal::UntraceableAttribute,
    ),
    // Numbers.
    ("Collateral is a thriller from 2003.", Refusal::UntraceableNumber),
    (
        "Collateral is a thriller from the 1980s.",
        Refusal::UntraceableNumber,
    ),
    (
        "Heat (1994) and Collateral share a director.",
        Refusal::UntraceableNumber,
    ),
    (
        "You liked three crime films such as Heat, and Collateral is a crime film.",
        Refusal::UntraceableNumber,
    ),
    (
        "People who liked Heat liked Collateral 9 times more often.",
        Refusal::UntraceableNumber,
    ),
    ("Collateral is a thriller from 1995.", Refusal::WrongRelation),
    // Others' behaviour.
    (
        "People who liked Alien often liked Collateral too.",
        Refusal::NoAffinity,
    ),
    (
        "Jerry Maguire and Collateral are often liked together.",
        Refusal::NoAffinity,
    ),
    (
        "Viewers who enjoyed Jerry Maguire enjoyed Collateral.",
        Refusal::NoAffinity,
    ),
    ("Fans of Alien admire Collateral.", Refusal::NoAffinity),
    (
        "Collateral is a thriller that everyone likes.",
        Refusal::NoAffinity,
    ),
    // The user's own opinion.
    (
        "You liked Ray, and Jamie Foxx is in Collateral too.",
        Refusal::NotLiked,
    ),
    (
        "You liked Cats & Dogs; Collateral is a thriller.",
        Refusal::Disliked,
    ),
    (
        "People who liked Cats & Dogs often liked Collateral.",
        Refusal::Disliked,
    ),
    // Denials and promises.
    ("Collateral was not directed by Michael Mann.", Refusal::Negation),
    ("You will not enjoy Collateral, a thriller.", Refusal::Negation),
    ("Skip Collateral, a boring thriller.", Refusal::Negation),
    ("You don't need Collateral, a thriller.", Refusal::Negation),
    (
        "You will love Collateral, a thriller by Michael Mann.",
        Refusal::Overclaim,
    ),
    (
        "Collateral, by Michael Mann, is guaranteed to please.",
        Refusal::Overclaim,
    ),
    // Fragments, and lists that repeat themselves.
    ("Like Heat, Collateral.", Refusal::Fragment),
    ("After Heat, a crime thriller.", Refusal::Fragment),
    ("People who liked Heat.", Refusal::Fragment),
    ("A thriller directed by Michael Mann.", Refusal::Fragment),
    ("Collateral was directed by.", Refusal::Fragment),
    ("Collateral was directed by, like Heat.", Refusal::Fragment),
    ("Like Heat, Collateral is a crime film and.", Refusal::Fragment),
    ("Like Heat Collateral is a crime film.", Refusal::Fragment),
    (
        "Collateral is from and like Heat, a crime film.",
        Refusal::Fragment,
    ),
    (
        "Like Heat and Heat, Collateral is a crime film.",
        Refusal::Repetition,
    ),
    ("Collateral and Collateral are crime films.", Refusal::Repetition),
    (
        "The premise: follows a cab driver in Los Angeles who is forced to drive a contract killer.",
        Refusal::Fragment,
    ),
    // Things out of their place.
    ("Michael Mann is another film after Heat.", Refusal::WrongRole),
    (
        "Michael Mann is one more crime film, like Heat and Collateral.",
        Refusal::WrongRole,
    ),
    (
        "Like Heat, Collateral is another Michael Mann.",
        Refusal::WrongRole,
    ),
    (
        "Collateral is from the Michael Mann, like Heat.",
        Refusal::WrongRole,
    ),
    ("Collateral has the 2000s as its director.", Refusal::WrongRole),
    ("Collateral was directed by the 2000s.", Refusal::WrongRole),
    ("The 2000s directed Collateral, a crime film.", Refusal::WrongRole),
    ("You watched Ray; the 2000s is another film.", Refusal::WrongRole),
    (
        "Like Heat, Collateral has crime as its director.",
        Refusal::WrongRole,
    ),
    (
        "Crime is another thriller like Heat and Collateral.",
        Refusal::WrongRole,
    ),
    (
        "Collateral was directed by Heat, a crime film.",
        Refusal::WrongRole,
    ),
    (
        "After Heat, Collateral is another crime film with Heat.",
        Refusal::WrongRole,
    ),
    ("Collateral shares its director, Heat.", Refusal::WrongRole),
    ("Like Heat, Collateral is a Heat film.", Refusal::WrongRole),
    (
        "Heat is another crime film after Collateral.",
        Refusal::WrongRelation,
    ),
    // Two are both, three are all.
    (
        "Heat and Collateral are all crime films, all of them.",
        Refusal::WrongRelation,
    ),
    (
        "Like Heat, Collateral was directed by Michael Mann, and all are crime films.",
        Refusal::WrongRelation,
    ),
    // Nobody is named, and it holds for one of two.
    (
        "Its director is that of Heat and Jerry Maguire too.",
        Refusal::WrongRelation,
    ),
    (
        "The director of Collateral also made Heat and Jerry Maguire.",
        Refusal::WrongRelation,
    ),
    (
        "Collateral has the director of Jerry Maguire.",
        Refusal::WrongRelation,
    ),
    (
        "Like Heat, Collateral is a crime film with the same star.",
        Refusal::WrongRelation,
    ),
    // Form.
    ("Collateral was directed by Michael Mann", Refusal::Unfinished),
    (
        "Collateral is a thriller, see www.example.org for more.",
        Refusal::Link,
    ),
    ("Collateral is a thriller <b>now</b>.", Refusal::Characters),
    ("Collateral is a *thriller*.", Refusal::Characters),
    ("Collateral is a thriller\u{202E}.", Refusal::Characters),
    (
        "Collateral goes well with an evening at home.",
        Refusal::Ungrounded,
    ),
];

#[test]
fn true_sentences_pass_with_claims() {
    for sentence in TRUE {
        let claims = judge(sentence).unwrap_or_else(|refusal| panic!("{refusal:?}: {sentence}"));
        assert!(!claims.is_empty(), "{sentence}");
        for claim in claims {
            assert!(
                sentence.get(claim.span.clone()).is_some() && !claim.evidence.is_empty(),
                "{sentence}"
            );
        }
    }
}

#[test]
fn untrue_sentences_are_refused_with_their_reason() {
    let wrong: Vec<String> = UNTRUE
        .iter()
        .filter_map(|(sentence, expected)| {
            let found = judge(sentence);
            (found != Err(*expected)).then(|| format!("{sentence}\n   wanted {expected:?}, found {found:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_sentence_that_is_too_long_is_refused() {
    let long = format!("Collateral is a thriller{}.", " and a thriller".repeat(60));
    assert_eq!(judge(&long), Err(Refusal::TooLong));
}

/// Every true sentence with one thing put wrong.
#[test]
fn planted_hallucinations_are_refused() {
    let swaps: &[(&str, &[&str])] = &[
        (
            "Michael Mann",
            &[
                "Steven Spielberg",
                "Tom Cruise",
                "Ridley Scott",
                "Al Pacino",
                "Cameron Crowe",
                "Jeff Goldblum",
                "Martin Scorsese",
            ],
        ),
        (
            "Tom Cruise",
            &[
                "Al Pacino",
                "Tom Hanks",
                "Michael Mann",
                "Sigourney Weaver",
                "Jeff Goldblum",
                "Robert De Niro",
            ],
        ),
        (
            "Heat",
            &[
                "Alien",
                "Casino",
                "Cats & Dogs",
                "Collateral Damage",
                "The Insider",
                "Blade Runner",
                "Ronin",
            ],
        ),
        ("Jerry Maguire", &["Alien", "Top Gun", "Cats & Dogs", "Rain Man"]),
        ("Jamie Foxx", &["Al Pacino", "Will Smith", "Jeff Goldblum"]),
        (
            "crime",
            &[
                "horror",
                "comedy",
                "musical",
                "western",
                "science fiction",
                "romantic",
            ],
        ),
        ("thriller", &["horror", "comedy", "western", "documentary", "war"]),
        ("2004", &["1995", "2005", "1979", "1996"]),
        ("Collateral", &["Collaterals", "Collision", "Training Day"]),
        ("Los Angeles", &["New York", "Chicago"]),
    ];
    let mut planted = 0;
    let mut passed = Vec::new();
    for sentence in TRUE {
        for (right, wrongs) in swaps {
            if !sentence.contains(right) {
                continue;
            }
            for wrong in *wrongs {
                let lie = sentence.replace(right, wrong);
                planted += 1;
                if judge(&lie).is_ok() {
                    passed.push(lie);
                }
            }
        }
    }
    assert!(planted >= 100, "{planted}");
    assert!(
        passed.is_empty(),
        "{} of {planted}:\n{}",
        passed.len(),
        passed.join("\n")
    );
}

/// Who is meant by "him" is somebody, and what is said of them must hold.
const TRUE_OF_SOMEBODY: &[&str] = &[
    "Collateral stars Tom Cruise, and you liked him in Jerry Maguire.",
    "Collateral stars Tom Cruise; you know him from Jerry Maguire.",
    "Collateral is a thriller with Tom Cruise, and you liked him in Jerry Maguire.",
    "You liked Jerry Maguire; Tom Cruise is in Collateral, and he was in Jerry Maguire.",
    "Michael Mann directed Collateral, and he also directed Heat.",
    "Admirers of Michael Mann know Heat, and Collateral is his as well.",
    "Collateral was directed by Michael Mann; the filmmaker also made Heat.",
    "Collateral stars Tom Cruise; that actor is also in Jerry Maguire.",
];

const UNTRUE_OF_SOMEBODY: &[&str] = &[
    "Collateral stars Tom Cruise, and you liked him in Heat.",
    "Collateral stars Tom Cruise; you know him from Heat.",
    "Collateral stars Tom Cruise — you liked him in Heat.",
    "Collateral stars Tom Cruise; it is a crime film, and he is in Heat too.",
    "Collateral stars Tom Cruise, while Heat has her as well.",
    "You liked him in Heat, and Collateral is a crime film.",
    "Tom Cruise stars in Collateral; he directed it.",
    "Tom Cruise stars in Collateral; he directed Jerry Maguire.",
    "Michael Mann directed Collateral, and he stars in it.",
    "Collateral stars Tom Cruise; that actor is also in Ray.",
    "Collateral stars Tom Cruise; the man is in Heat too.",
    "Collateral stars Tom Cruise and Jamie Foxx, and they are in Heat too.",
    "Collateral stars Tom Cruise and Jamie Foxx, and both are in Heat.",
    "Collateral stars Tom Cruise and Jamie Foxx; the two are in Heat.",
];

#[test]
fn what_a_pronoun_says_of_somebody_holds_for_whoever_was_named() {
    let refused: Vec<_> = TRUE_OF_SOMEBODY
        .iter()
        .filter_map(|s| judge(s).err().map(|e| (e, s)))
        .collect();
    let passed: Vec<_> = UNTRUE_OF_SOMEBODY.iter().filter(|s| judge(s).is_ok()).collect();
    assert!(
        refused.is_empty() && passed.is_empty(),
        "{refused:#?} {passed:#?}"
    );
}

#[test]
fn him_is_whom_the_sentence_before_named() {
    let (pair, history) = heat_and_others();
    let mut fresh = Gate::new(&Vocabulary::default(), &pair, &history, None);
    let mut gate = fresh.clone();
    gate.check("Collateral stars Tom Cruise.", &[]).unwrap();
    let judged = gate.check("You liked him in Heat.", &[]);
    assert_eq!(judged, Err(Refusal::WrongRelation));
    assert!(gate.check("You liked him in Jerry Maguire.", &[]).is_ok());
    let judged = fresh.check("You liked him in Jerry Maguire.", &[]);
    assert_eq!(judged, Err(Refusal::WrongRelation), "nobody was named");
}

#[test]
fn amounts_in_words_are_measured_like_those_in_digits() {
    // The lift is 3.2.
    let amounts = [
        ("3 times more often", true),
        ("three times more often", true),
        ("about three times as often", true),
        ("2 times more often", false),
        ("two times more often", false),
        ("eleven times more often", false),
        ("twelve times more often", false),
        ("twenty times more often", false),
        ("twenty-three times more often", false),
        ("thirty times as often", false),
        ("ninety times more often", false),
        ("a dozen times more often", false),
        ("dozens of times more often", false),
        ("a hundred times more often", false),
        ("three hundred times more often", false),
        ("a billion times more often", false),
        ("twice as often", false),
        ("twice more often", false),
        ("thrice as often", true),
        ("double the times", false),
        ("tenfold more often", false),
        ("ten-fold more often", false),
        ("many times more often", false),
        ("several times as often", false),
        ("countless times more often", false),
        ("umpteen times more often", false),
    ];
    let wrong: Vec<_> = amounts
        .iter()
        .map(|(amount, holds)| {
            let sentence = format!("People who liked Heat liked Collateral {amount} than chance.");
            (judge(&sentence), *holds, sentence)
        })
        .filter(|(judged, holds, _)| judged.is_ok() != *holds)
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Shapes of sentences by which something false could be said in words that are all known.
const UNTRUE_BY_SHAPE: &[&str] = &[
    // More, less or other than a lift says.
    "Everyone who liked Heat liked Collateral.",
    "Most people who liked Heat liked Collateral.",
    "All of those who liked Heat liked Collateral.",
    "Only people who liked Heat liked Collateral.",
    "Few people who liked Heat liked Collateral.",
    "One in two people who liked Heat liked Collateral.",
    "Half the people who liked Heat liked Collateral.",
    "People who liked Heat liked Collateral less often than chance.",
    // Denials without a "not".
    "Collateral is anything but a thriller.",
    "Collateral is far from a crime film, unlike Heat.",
    "Collateral stars Jamie Foxx instead of Tom Cruise.",
    "Collateral lacks Tom Cruise.",
    // Comparisons and superlatives.
    "Collateral is a darker crime film than Heat.",
    "Collateral is more of a crime film than Heat.",
    "Collateral is the best crime film by Michael Mann.",
    "Collateral is the only thriller directed by Michael Mann.",
    "Collateral is Michael Mann's latest film.",
    // What came first.
    "Before Heat, Michael Mann directed Collateral.",
    "Michael Mann directed Heat after Collateral.",
    "Heat was followed by Collateral.",
    "Collateral and Heat are from the same year.",
    "Collateral and Heat share a decade.",
    // What one film is to the other.
    "Collateral is based on Heat.",
    "Collateral was adapted from Heat.",
    "Collateral continues Heat.",
    "Heat inspired Collateral.",
    "Collateral reunites Michael Mann and Tom Cruise.",
    // A list of names for one part.
    "Tom Cruise and Michael Mann directed Collateral.",
    "Tom Cruise, Jamie Foxx and Michael Mann directed Collateral.",
    "Michael Mann and Tom Cruise are in the cast of Collateral.",
    // Who did what to whom.
    "Tom Cruise directs Michael Mann in Collateral.",
    "Collateral stars Tom Cruise as Jamie Foxx.",
    "You liked Tom Cruise in Collateral.",
    "You liked all films by Michael Mann; Collateral is another.",
    "You liked every film by Michael Mann, such as Heat and Collateral.",
    "You watched Heat twice; Collateral has the same director.",
    "You watched Tom Cruise in Collateral, a crime film.",
    // Titles within titles.
    "You liked The Heat; Collateral is also a crime film.",
    "You liked Heat II; Collateral is also a crime film.",
    "Like \"Heat of the Night\", Collateral is a crime film.",
    "Like \"The Heat\", Collateral is a crime film.",
];

const TRUE_BY_SHAPE: &[&str] = &[
    "People who liked Heat often liked Collateral, too.",
    "Collateral is liked by people who liked Heat more often than usual.",
    "Before Collateral, Michael Mann directed Heat.",
    "Michael Mann directed Collateral after Heat.",
    "After Heat, Collateral is another crime film.",
    "You watched Ray; Collateral is from the same year.",
    "Collateral and Ray share a decade, the 2000s.",
    "Tom Cruise and Jamie Foxx are in the cast of Collateral.",
    "Tom Cruise, Jamie Foxx and Jada Pinkett Smith are in the cast of Collateral.",
    "You liked Tom Cruise in Jerry Maguire; he is in Collateral too.",
    "Like \"Heat\", Collateral is a crime film.",
];

#[test]
fn known_words_in_a_shape_that_says_something_false_do_not_pass() {
    let passed: Vec<_> = UNTRUE_BY_SHAPE.iter().filter(|s| judge(s).is_ok()).collect();
    let refused: Vec<_> = TRUE_BY_SHAPE
        .iter()
        .filter_map(|s| judge(s).err().map(|e| (e, s)))
        .collect();
    assert!(
        refused.is_empty() && passed.is_empty(),
        "{refused:#?} {passed:#?}"
    );
}

fn shared(item: &str, value: &str, text: &str) -> Fact {
    Fact {
        kind: FactKind::Shared {
            attribute: "director".into(),
            value: value.into(),
        },
        text: text.to_owned(),
        evidence: vec![
            Evidence::Attribute {
                item: ItemId::new("collateral"),
                name: "director".into(),
                value: "Michael Mann".into(),
            },
            Evidence::History {
                item: ItemId::new(item),
            },
        ],
    }
}

#[test]
fn facts_hold_only_with_evidence_of_this_request() {
    let (pair, history) = heat_and_others();
    let gate = Gate::new(&Vocabulary::default(), &pair, &history, None);
    let good = shared(
        "heat",
        "Michael Mann",
        "Collateral was directed by Michael Mann, who also directed Heat",
    );
    assert_eq!(gate.check_fact(&good), Ok(()));
    for (fact, refusal) in [
        (
            shared("ronin", "Michael Mann", "Collateral was directed by Michael Mann"),
            Refusal::ForeignEvidence,
        ),
        (
            shared("cats", "Michael Mann", "Collateral was directed by Michael Mann"),
            Refusal::ForeignEvidence,
        ),
        (
            shared("alien", "Michael Mann", "Collateral was directed by Michael Mann"),
            Refusal::WrongRelation,
        ),
        (
            shared("heat", "Tom Cruise", "Collateral was directed by Michael Mann"),
            Refusal::WrongRelation,
        ),
        (
            shared("heat", "Michael Mann", "Collateral was directed by Tom Cruise"),
            Refusal::WrongRole,
        ),
        (
            shared("heat", "Michael Mann", "Miami Vice was directed by Michael Mann"),
            Refusal::UntraceableName,
        ),
    ] {
        assert_eq!(gate.check_fact(&fact), Err(refusal), "{fact:?}");
    }
}

#[test]
fn knowledge_of_another_item_supports_nothing_and_true_knowledge_is_cited() {
    let (pair, history) = heat_and_others();
    let knowledge = |facts| Knowledge {
        facts,
        text: String::new(),
        oracle_revision: Revision::default(),
        template_revision: Revision::default(),
        created_at: Timestamp(0),
        freshness: Freshness::Fresh,
        facts_refused: 0,
        history_truncated: 0,
    };
    let own = knowledge(vec![shared(
        "heat",
        "Michael Mann",
        "Collateral was directed by Michael Mann, who also directed Heat",
    )]);
    let sentence = "Like Heat, Collateral was directed by Michael Mann.";
    let claims = Gate::new(&Vocabulary::default(), &pair, &history, Some(&own))
        .check(sentence, &[])
        .unwrap();
    assert!(claims[0].evidence.contains(&Evidence::Fact { index: 0 }));

    let mut foreign = shared(
        "heat",
        "Ridley Scott",
        "The Duellists was directed by Ridley Scott",
    );
    foreign.evidence[0] = Evidence::Attribute {
        item: ItemId::new("duellists"),
        name: "director".into(),
        value: "Ridley Scott".into(),
    };
    let foreign = knowledge(vec![foreign]);
    let mut gate = Gate::new(&Vocabulary::default(), &pair, &history, Some(&foreign));
    assert_eq!(
        gate.check("The Duellists was directed by Ridley Scott.", &[]),
        Err(Refusal::UntraceableName)
    );
    assert_eq!(
        gate.check("Like Heat, Collateral was directed by Ridley Scott.", &[]),
        Err(Refusal::WrongRelation)
    );
}

#[test]
fn both_of_them_leans_on_the_sentence_before() {
    let (pair, history) = heat_and_others();
    let fresh = Gate::new(&Vocabulary::default(), &pair, &history, None);
    let mut gate = fresh.clone();
    gate.check("Like Heat, Collateral was directed by Michael Mann.", &[])
        .unwrap();
    assert!(gate.check("Both are crime films.", &[]).is_ok());
    let mut gate = fresh;
    gate.check(
        "Collateral stars Tom Cruise, whom you know from Jerry Maguire.",
        &[],
    )
    .unwrap();
    assert_eq!(
        gate.check("Both are crime films.", &[]),
        Err(Refusal::WrongRelation)
    );
}

/// A film, and one that was liked, whose titles are everyday words; and one more of the same director.
fn everyday_titles(title: &str) -> Gate {
    let film = |id, title, lead| {
        item(
            id,
            title,
            &[
                ("director", &["Ann Lee"]),
                ("lead", &[lead]),
                ("genre", &["drama"]),
            ],
            "",
        )
    };
    let (mut pair, _) = heat_and_others();
    pair.item = film("item", title, "Bo Diaz");
    let liked = |id, title, at| Interaction {
        item: film(id, title, "Cy Young"),
        at: Timestamp(at),
        signal: Signal::Liked,
        rating: None,
        text: None,
    };
    let history = History::new(vec![liked("once", "Once", 1), liked("quiz", "Quiz Show", 2)]);
    Gate::new(&Vocabulary::default(), &pair, &history, None)
}

#[test]
fn a_title_of_one_everyday_word_is_read_where_nothing_else_can_be_meant() {
    for title in ["Seven", "Room", "Drive", "Up"] {
        for (says, stands) in [
            ("{} was directed by Ann Lee, who also directed Quiz Show.", true),
            ("{} stars Bo Diaz.", true),
            ("{} and Once share a director, Ann Lee.", true),
            ("{} and Quiz Show have the same director, Ann Lee.", true),
            ("Once was directed by Ann Lee, and so was {}.", true),
            // What is said must still be true of it.
            ("{} stars Cy Young, who was also in Quiz Show.", false),
            ("{} was directed by Bo Diaz.", false),
        ] {
            let sentence = says.replace("{}", title);
            let judged = everyday_titles(title).check(&sentence, &[]);
            assert_eq!(judged.is_ok(), stands, "{sentence} {judged:?}");
        }
    }
    for (title, sentence) in [
        // A number that counts nothing, a word that begins a clause, a stand-in.
        ("Seven", "Seven great reasons speak for Quiz Show."),
        ("Seven", "Seven films by Ann Lee are like this one."),
        ("It", "It was directed by Bo Diaz."),
    ] {
        let judged = everyday_titles(title).check(sentence, &[]);
        assert!(judged.is_err(), "{sentence} {judged:?}");
    }
}
