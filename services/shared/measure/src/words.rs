//! Text to words: three ways of cutting, for a score depends on which one is used.

/// How a text is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Words {
    /// Lower-cased runs of letters and digits of any script.
    #[default]
    Any,
    /// As the `rouge_score` library: lower-cased runs of `a`–`z` and `0`–`9`; other scripts are lost.
    Ascii,
    /// Already cut: at white space, case kept.
    Spaces,
}

/// The words of a text.
pub fn words(text: &str, how: Words) -> Vec<String> {
    let runs = |keep: fn(char) -> bool| {
        text.to_lowercase()
            .split(|c| !keep(c))
            .filter(|run| !run.is_empty())
            .map(str::to_owned)
            .collect()
    };
    match how {
        Words::Any => runs(char::is_alphanumeric),
        Words::Ascii => runs(|c| c.is_ascii_alphanumeric()),
        Words::Spaces => text.split_whitespace().map(str::to_owned).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_cuts_as_it_says() {
        let text = "Amélie's 2nd  film, in Paris.";
        for (how, expected) in [
            (Words::Any, vec!["amélie", "s", "2nd", "film", "in", "paris"]),
            (Words::Ascii, vec!["am", "lie", "s", "2nd", "film", "in", "paris"]),
            (Words::Spaces, vec!["Amélie's", "2nd", "film,", "in", "Paris."]),
        ] {
            assert_eq!(words(text, how), expected);
        }
        assert!(words(" … ", Words::Any).is_empty());
    }
}
