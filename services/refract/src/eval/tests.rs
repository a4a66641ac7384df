//! A truthful text passes; each planted fault is found.

use std::collections::HashMap;
use std::sync::Arc;

use refract_domain::{Affinity, Attributes, History, Interaction, Item, ItemId, Signal, Timestamp};

use super::check::{Class, Fault, check};
use super::lexicon::Lexicon;
use super::scene::Scene;

/// id, title, year, director, cast, genres, premise.
type Film = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
    &'static str,
);

const FILMS: &[Film] = &[
    (
        "gladiator-2",
        "Gladiator II",
        "2024",
        "Ridley Scott",
        &["Paul Mescal"],
        &["action"],
        "a captive who must fight for Rome",
    ),
    (
        "insider",
        "The Insider",
        "1999",
        "Michael Mann",
        &["Al Pacino", "Russell Crowe"],
        &["drama", "thriller"],
        "a chemist who tells the truth about tobacco",
    ),
    (
        "heat",
        "Heat",
        "1995",
        "Michael Mann",
        &["Al Pacino", "Robert De Niro"],
        &["crime", "drama"],
        "a thief and the detective who hunts him",
    ),
    (
        "ali",
        "Ali",
        "2001",
        "Michael Mann",
        &["Will Smith"],
        &["biography", "drama"],
        "a boxer who will not be drafted",
    ),
    (
        "alien",
        "Alien",
        "1979",
        "Ridley Scott",
        &["Sigourney Weaver"],
        &["science fiction", "horror"],
        "a freighter crew that answers a signal",
    ),
    (
        "gladiator",
        "Gladiator",
        "2000",
        "Ridley Scott",
        &["Russell Crowe"],
        &["action", "drama"],
        "a general who is sold into slavery",
    ),
    (
        "collateral",
        "Collateral",
        "2004",
        "Michael Mann",
        &["Tom Cruise"],
        &["crime", "thriller"],
        "a cab driver and the killer he drives",
    ),
    (
        "thief",
        "Thief",
        "1981",
        "Michael Mann",
        &["James Caan"],
        &["crime"],
        "a safe-cracker who wants out",
    ),
    (
        "her",
        "Her",
        "2013",
        "Spike Jonze",
        &["Joaquin Phoenix"],
        &["romance"],
        "a lonely man and the voice in his ear",
    ),
    (
        "moon",
        "Moon",
        "2009",
        "Duncan Jones",
        &["Sam Rockwell"],
        &["science fiction"],
        "a worker alone on the far side",
    ),
    (
        "earth",
        "Earth",
        "1930",
        "Alexander Dovzhenko",
        &[],
        &["drama"],
        "a tractor comes to a village",
    ),
    (
        "after-earth",
        "After Earth",
        "2013",
        "M. Night Shyamalan",
        &["Will Smith"],
        &["science fiction"],
        "a father and son on a lost world",
    ),
    (
        "resurrection",
        "Alien: Resurrection",
        "1997",
        "Jean-Pierre Jeunet",
        &["Sigourney Weaver"],
        &["science fiction"],
        "a clone wakes on a ship",
    ),
    (
        "m",
        "M",
        "1931",
        "Fritz Lang",
        &["Peter Lorre"],
        &["crime"],
        "a city that hunts a murderer",
    ),
    (
        "once",
        "Once",
        "2007",
        "John Carney",
        &["Glen Hansard"],
        &["music"],
        "a busker and a flower seller who write songs",
    ),
    (
        "doc",
        "What's Up, Doc?",
        "1972",
        "Peter Bogdanovich",
        &["Barbra Streisand"],
        &["comedy"],
        "four bags that look alike",
    ),
];

fn film(film: &Film) -> Arc<Item> {
    let (id, title, year, director, cast, genres, premise) = *film;
    let list = |values: &[&str]| values.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>();
    let mut attributes: Attributes = [
        ("year".to_owned(), list(&[year])),
        ("director".to_owned(), list(&[director])),
        ("lead".to_owned(), list(cast)),
        ("genre".to_owned(), list(genres)),
        ("premise".to_owned(), list(&[premise])),
    ]
    .into();
    if title.starts_with("Gladiator") {
        attributes.insert("series".to_owned(), list(&["Gladiator"]));
    }
    Arc::new(Item {
        id: ItemId::new(id),
        title: title.to_owned(),
        attributes,
        description: "The hero once wanted her on the moon.".to_owned(),
    })
}

fn catalogue() -> Vec<Arc<Item>> {
    FILMS.iter().map(film).collect()
}

fn get(id: &str) -> Arc<Item> {
    catalogue()
        .into_iter()
        .find(|i| i.id.as_str() == id)
        .expect("in the tiny catalogue")
}

/// Liked Heat, Ali, Gladiator; saw Collateral; disliked Alien. People who like Ali like The Insider.
fn scene(item: &str) -> Scene {
    let acts = [
        ("earth", Signal::Liked),
        ("gladiator", Signal::Liked),
        ("alien", Signal::Disliked),
        ("collateral", Signal::Seen),
        ("ali", Signal::Liked),
        ("heat", Signal::Liked),
    ];
    let interactions = acts.iter().zip(1..).map(|((id, signal), at)| Interaction {
        item: get(id),
        at: Timestamp(at),
        signal: *signal,
        rating: None,
        text: None,
    });
    let affinity = |id: &str, lift| Affinity {
        item: ItemId::new(id),
        lift,
        support: 9,
    };
    let lifts: HashMap<ItemId, f32> = [("ali", 2.0), ("heat", 0.7)]
        .into_iter()
        .map(|(id, lift)| (ItemId::new(id), lift))
        .collect();
    Scene::new(
        &get(item),
        &History::new(interactions.collect()),
        &[affinity("ali", 2.5), affinity("heat", 1.6)],
        lifts,
    )
}

fn faults(item: &str, text: &str) -> Vec<Fault> {
    check(&Lexicon::of(&catalogue()), &scene(item), text).faults
}

#[test]
fn truthful_texts_pass() {
    let texts = [
        "The Insider was directed by Michael Mann, who also directed Heat.",
        "You liked Heat and Ali; The Insider is by the same director, Michael Mann.",
        "Like Heat, The Insider was directed by Michael Mann, and it also stars Russell Crowe, as Gladiator did.",
        "The Insider is often liked by people who liked Ali.",
        "You liked Ali, and people who liked it often liked The Insider too.",
        "You liked Heat; The Insider is another drama film.",
        "You watched Collateral; The Insider is another thriller film.",
        "The Insider was directed by Michael Mann, who also directed Collateral, which you watched. Both are thriller films.",
        "The Insider is from the 1990s, like Heat, which you liked.",
        "You know Al Pacino from Heat, which you liked; The Insider is another film with the same star. It follows a chemist who tells the truth about tobacco.",
        "The Insider (1999) and Heat (1995) share a cast member, Al Pacino.",
        "After Heat, The Insider is one more film by director Michael Mann. The premise: a chemist who tells the truth about tobacco.",
        "Once again Michael Mann: The Insider, after Heat.",
        "You liked Heat and Ali, so here is another drama, The Insider.",
        "Your history holds dramas such as Heat; The Insider is one too.",
        "Alongside Heat, The Insider is another drama film to try. Others who liked Ali often liked it, too.",
    ];
    for text in texts {
        assert_eq!(faults("insider", text), [], "{text}");
    }
    let others = [
        (
            "her",
            "Her is a change of pace: a romance film directed by Spike Jonze.",
        ),
        (
            "moon",
            "For a change of pace, there is Moon, a film directed by Duncan Jones, with Sam Rockwell in the cast.",
        ),
        ("m", "M is a change of pace: a crime film directed by Fritz Lang."),
        (
            "once",
            "Something different this time: Once, a music film. It follows a busker and a flower seller who write songs.",
        ),
        (
            "doc",
            "What's Up, Doc? is new ground for you: a comedy film with Barbra Streisand. The premise: four bags that look alike.",
        ),
        (
            "after-earth",
            "After Earth stars Will Smith, who was also in Ali.",
        ),
        (
            "m",
            "The premise of M: a city that hunts a murderer. It is a crime film like Heat and Collateral.",
        ),
        (
            "doc",
            "After Heat, a change of pace: What's Up, Doc? It is a comedy film.",
        ),
        (
            "her",
            "Her is a change of pace, a romantic film. The premise: a lonely man and the voice in his ear.",
        ),
        ("thief", "Thief shares its director, Michael Mann, with Heat."),
    ];
    for (item, text) in others {
        assert_eq!(faults(item, text), [], "{text}");
    }
}

#[test]
fn each_planted_fault_is_found() {
    let s = str::to_owned;
    let holder = |value: &str, title: &str| Fault::WrongHolder {
        value: s(value),
        title: s(title),
    };
    let cases: Vec<(&str, Fault)> = vec![
        (
            "The Insider is by Michael Mann, like Thief.",
            Fault::ForeignTitle(s("Thief")),
        ),
        (
            "The Insider is close to Alien: Resurrection.",
            Fault::ForeignTitle(s("Alien: Resurrection")),
        ),
        ("The Insider goes well with Her.", Fault::ForeignTitle(s("Her"))),
        (
            "You liked Alien; The Insider is another drama film.",
            Fault::Disliked(s("Alien")),
        ),
        (
            "You liked Collateral; The Insider is by the same director, Michael Mann.",
            Fault::OpinionUnknown(s("Collateral")),
        ),
        (
            "The Insider was directed by Spike Jonze.",
            Fault::ForeignValue(s("Spike Jonze")),
        ),
        (
            "The Insider was directed by Ridley Scott.",
            holder("Ridley Scott", "The Insider"),
        ),
        (
            "The Insider was directed by Michael Mann, who also directed Gladiator.",
            holder("Michael Mann", "Gladiator"),
        ),
        (
            "You liked Gladiator; The Insider is by the same director, Michael Mann.",
            holder("Michael Mann", "Gladiator"),
        ),
        (
            "Like Heat, The Insider is a crime film.",
            holder("crime", "The Insider"),
        ),
        (
            "Like Heat, The Insider is a comedy film.",
            Fault::ForeignValue(s("comedy")),
        ),
        (
            "Like Heat, The Insider is a romance.",
            Fault::ForeignValue(s("romance")),
        ),
        (
            "Like Heat, The Insider is another comedy.",
            Fault::ForeignValue(s("comedy")),
        ),
        (
            "Like Collateral, The Insider is another drama.",
            holder("drama", "Collateral"),
        ),
        ("The Insider is from the 1990s, like Ali.", holder("1990s", "Ali")),
        (
            "Like Heat, The Insider is from the 1970s.",
            holder("1970s", "Heat"),
        ),
        (
            "The Insider was directed by Russell Crowe.",
            Fault::WrongRole {
                value: s("Russell Crowe"),
                title: s("The Insider"),
            },
        ),
        (
            "The Insider stars Michael Mann, as Heat did.",
            Fault::WrongRole {
                value: s("Michael Mann"),
                title: s("The Insider"),
            },
        ),
        (
            "The Insider is often liked by people who liked Heat.",
            Fault::NotCoLiked(s("Heat")),
        ),
        (
            "The Insider is often liked by people who liked Gladiator.",
            Fault::NotCoLiked(s("Gladiator")),
        ),
        (
            "If you liked Gladiator, The Insider has the same director.",
            Fault::Untied(s("Gladiator")),
        ),
        (
            "After Heat, The Insider was shot by Dante Spinotti.",
            Fault::UntraceableWord(s("Dante")),
        ),
        (
            "You liked Gladiator; try The Insider. They share their director, as well.",
            Fault::Untied(s("Gladiator")),
        ),
        (
            "Like Heat, The Insider has Al Pacino as its director.",
            Fault::WrongRole {
                value: s("Al Pacino"),
                title: s("Heat"),
            },
        ),
        (
            "The Insider won 7 awards, like Heat.",
            Fault::UntraceableNumber(s("7")),
        ),
        (
            "The Insider shares <p3> with Heat.",
            Fault::UndefinedSlot(s("<p3>")),
        ),
        (
            "The Insider is a change of pace: a drama film.",
            Fault::FalseContrast(s("Heat")),
        ),
        (
            "The Insider suits you. It follows wandering monks between distant monasteries.",
            Fault::UnsupportedClause(s("It follows wandering monks between distant monasteries.")),
        ),
        (
            "The Insider (1995) is by Michael Mann, as Heat is.",
            holder("1995", "The Insider"),
        ),
    ];
    for (text, fault) in cases {
        assert!(
            faults("insider", text).contains(&fault),
            "{text}: {:?}",
            faults("insider", text)
        );
    }
}

#[test]
fn a_part_of_a_longer_name_is_not_the_title() {
    for text in [
        "Heat and The Insider share Keith Moon.",
        "The Insider, like Heat, has Moon Bloodgood in it.",
    ] {
        let found = faults("insider", text);
        assert!(
            !found.iter().any(|f| f.classes().contains(&Class::Title)),
            "{text}: {found:?}"
        );
        assert!(
            found.iter().any(|f| f.classes().contains(&Class::Untraceable)),
            "{text}: {found:?}"
        );
    }
}

#[test]
fn a_series_named_like_a_film_is_known_by_its_place() {
    assert_eq!(
        faults(
            "gladiator-2",
            "Next to Gladiator, Gladiator II is another part of Gladiator."
        ),
        []
    );
    let wrong = |title: &str| Fault::WrongHolder {
        value: "Gladiator".to_owned(),
        title: title.to_owned(),
    };
    for text in [
        "Next to Heat, Gladiator II is another part of Gladiator.",
        "Gladiator II takes you back to Gladiator, as Heat did.",
    ] {
        assert!(
            faults("gladiator-2", text).contains(&wrong("Heat")),
            "{text}: {:?}",
            faults("gladiator-2", text)
        );
    }
}

#[test]
fn a_title_made_by_a_sentence_from_ours_is_ours() {
    let found = faults("insider", "After Earth, The Insider is another drama film.");
    assert_eq!(found, []);
}

#[test]
fn the_item_counts_as_named_only_letter_by_letter() {
    let lexicon = Lexicon::of(&catalogue());
    for (text, named) in [
        ("The Insider is by Michael Mann.", true),
        ("The Insiders is by Michael Mann.", false),
        ("The insider is by Michael Mann.", false),
        ("“The Insider” is by Michael Mann.", true),
        ("", false),
    ] {
        assert_eq!(
            check(&lexicon, &scene("insider"), text).names_item,
            named,
            "{text}"
        );
    }
}
