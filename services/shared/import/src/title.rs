//! MovieLens titles: `Matrix, The (1999)` is *The Matrix* of 1999, and a second title in brackets is left out.

/// A title as explanations use it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Title {
    pub(crate) title: String,
    pub(crate) year: Option<String>,
    /// Other titles that stood in brackets.
    pub(crate) others: Vec<String>,
}

/// Articles that libraries put behind a title.
const ARTICLES: [&str; 23] = [
    "The", "A", "An", "Le", "La", "Les", "L'", "Un", "Une", "Il", "Lo", "I", "Gli", "Der", "Die", "Das",
    "Ein", "El", "Los", "Las", "O", "Den", "Det",
];

impl Title {
    pub(crate) fn parse(text: &str) -> Self {
        let mut rest = text.trim();
        let mut year = None;
        let mut others = Vec::new();
        while let Some((before, inside)) = bracket(rest) {
            let digits = inside.get(..4).filter(|y| y.bytes().all(|b| b.is_ascii_digit()));
            // `(2003-)`, `(1995–1997)` are the years of series; the first counts.
            let is_year = digits.is_some() && !inside[4..].chars().any(char::is_alphabetic);
            if is_year && year.is_none() && others.is_empty() {
                year = digits.map(str::to_owned);
            } else if year.is_some() {
                others.insert(0, turned(inside));
            } else {
                break;
            }
            rest = before;
        }
        if rest.is_empty() {
            // Nothing but brackets: then they are the title.
            return Self {
                title: text.trim().to_owned(),
                year: None,
                others: Vec::new(),
            };
        }
        Self {
            title: turned(rest),
            year,
            others,
        }
    }
}

/// `a (b)` as `a` and `b`.
fn bracket(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_suffix(')')?;
    let start = inner.rfind('(')?;
    Some((inner[..start].trim_end(), inner[start + 1..].trim()))
}

/// `Matrix, The` as `The Matrix`.
fn turned(text: &str) -> String {
    if let Some((name, last)) = text.rsplit_once(", ")
        && let Some(article) = ARTICLES.iter().find(|a| **a == last)
    {
        return if article.ends_with('\'') {
            format!("{article}{name}")
        } else {
            format!("{article} {name}")
        };
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn articles_years_and_second_titles_find_their_places() {
        for (text, title, year, others) in [
            ("Toy Story (1995)", "Toy Story", Some("1995"), vec![]),
            ("Matrix, The (1999)", "The Matrix", Some("1999"), vec![]),
            (
                "City of Lost Children, The (Cité des enfants perdus, La) (1995)",
                "The City of Lost Children",
                Some("1995"),
                vec!["La Cité des enfants perdus"],
            ),
            (
                "Good, the Bad and the Ugly (1966)",
                "Good, the Bad and the Ugly",
                Some("1966"),
                vec![],
            ),
            ("Avventura, L' (1960)", "L'Avventura", Some("1960"), vec![]),
            (
                "20,000 Leagues Under the Sea (1954)",
                "20,000 Leagues Under the Sea",
                Some("1954"),
                vec![],
            ),
            (
                "(500) Days of Summer (2009)",
                "(500) Days of Summer",
                Some("2009"),
                vec![],
            ),
            ("Cosmos", "Cosmos", None, vec![]),
            ("Black Mirror (2011-)", "Black Mirror", Some("2011"), vec![]),
            (
                "Birdman (or the Virtue of Ignorance)",
                "Birdman (or the Virtue of Ignorance)",
                None,
                vec![],
            ),
            ("(1999)", "(1999)", None, vec![]),
            ("", "", None, vec![]),
        ] {
            let expected = Title {
                title: title.to_owned(),
                year: year.map(str::to_owned),
                others: others.into_iter().map(str::to_owned).collect(),
            };
            assert_eq!(Title::parse(text), expected, "{text}");
        }
    }
}
