//! Every title and every value of a catalogue, found in a text: what the truth gate, which knows one request, never sees.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use refract_domain::Item;

use super::words::{PlainWords, bare, tidy, words};

/// Longest value that is taken for a name; longer ones are prose.
const NAME_WORDS_MAX: usize = 8;

/// What kind of thing an attribute says, by its name: enough to check a role that a sentence speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Family {
    Director,
    Cast,
    Author,
    Genre,
    Series,
    Source,
    Year,
    /// What the item is about, at length.
    Prose,
    /// Ids and links: not for people.
    Hidden,
    Other,
}

impl Family {
    pub(crate) fn of(attribute: &str) -> Self {
        let name = attribute.to_lowercase();
        let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
        if has(&["url", "link", "image", "poster", "isbn", "sku", "imdb", "tmdb"])
            || name == "id"
            || name.ends_with("_id")
        {
            Self::Hidden
        } else if has(&["premise", "plot", "synopsis", "logline", "tagline", "description"]) {
            Self::Prose
        } else if has(&["direct", "filmmaker"]) {
            Self::Director
        } else if has(&["cast", "lead", "actor", "actress", "star", "performer"]) {
            Self::Cast
        } else if has(&["author", "writer", "novelist", "written", "poet"]) {
            Self::Author
        } else if has(&["genre", "categor", "tag", "style", "cuisine"]) {
            Self::Genre
        } else if has(&["series", "franchise", "saga", "universe", "collection"]) {
            Self::Series
        } else if has(&["source", "based", "adapted"]) {
            Self::Source
        } else if has(&["year", "decade", "released", "published"]) {
            Self::Year
        } else {
            Self::Other
        }
    }
}

/// A title or value of the catalogue, as a text would have it.
#[derive(Clone, Debug)]
pub(crate) struct Surface {
    pub(crate) text: String,
    /// Bytes before its first letter or digit.
    lead: usize,
    pub(crate) is_title: bool,
    pub(crate) is_value: bool,
}

impl Surface {
    /// One word that prose also writes in lower case: at a sentence's start it may be only that word.
    pub(crate) fn is_single_word(&self) -> bool {
        words(&self.text).len() == 1
    }

    pub(crate) fn is_number(&self) -> bool {
        self.text.chars().all(|c| c.is_ascii_digit())
    }
}

/// All surfaces of a catalogue by their first word.
#[derive(Clone, Debug)]
pub(crate) struct Lexicon {
    surfaces: Vec<Surface>,
    by_head: HashMap<String, Vec<usize>>,
    /// Values that can describe ("crime", "science fiction"), in lower case with blanks for hyphens.
    descriptors: HashSet<String>,
    pub(crate) plain: PlainWords,
}

impl Lexicon {
    pub(crate) fn of(items: &[Arc<Item>]) -> Self {
        let prose = |item: &'_ Arc<Item>| -> Vec<String> {
            let long = item
                .attributes
                .iter()
                .filter(|(name, _)| Family::of(name) == Family::Prose)
                .flat_map(|(_, v)| v.clone());
            long.chain([item.description.clone()]).collect()
        };
        let all_prose: Vec<String> = items.iter().flat_map(prose).collect();
        let mut lexicon = Self {
            surfaces: Vec::new(),
            by_head: HashMap::new(),
            descriptors: HashSet::new(),
            plain: PlainWords::of(all_prose.iter().map(String::as_str)),
        };
        let mut known: HashMap<String, usize> = HashMap::new();
        for item in items {
            lexicon.add(&mut known, &item.title, true);
            for (name, values) in &item.attributes {
                let family = Family::of(name);
                if matches!(family, Family::Prose | Family::Hidden | Family::Year) {
                    continue;
                }
                for value in values.iter().filter(|value| words(value).len() <= NAME_WORDS_MAX) {
                    if !matches!(family, Family::Director | Family::Cast | Family::Author) {
                        lexicon.descriptors.insert(descriptor(value));
                    }
                    lexicon.add(&mut known, value, false);
                }
            }
        }
        for places in lexicon.by_head.values_mut() {
            places.sort_by_key(|n| std::cmp::Reverse(lexicon.surfaces[*n].text.len()));
        }
        lexicon
    }

    fn add(&mut self, known: &mut HashMap<String, usize>, text: &str, is_title: bool) {
        let text = tidy(text);
        // Without a capital or a digit it cannot be told from plain words; descriptors are looked up apart.
        let tellable = text
            .chars()
            .any(|c| c.is_uppercase() || c.is_ascii_digit() || (c.is_alphabetic() && !c.is_ascii()));
        let Some(first) = words(&text)
            .first()
            .map(|w| (bare_head(w.text), w.span.start))
            .filter(|_| tellable)
        else {
            return;
        };
        let place = *known.entry(text.clone()).or_insert_with(|| {
            self.surfaces.push(Surface {
                text,
                lead: first.1,
                is_title: false,
                is_value: false,
            });
            self.by_head
                .entry(first.0)
                .or_default()
                .push(self.surfaces.len() - 1);
            self.surfaces.len() - 1
        });
        let surface = &mut self.surfaces[place];
        if is_title {
            surface.is_title = true
        } else {
            surface.is_value = true
        }
    }

    /// Surfaces that stand in `text` with their first word at byte `at`, longest first, with their place. Case counts, except for
    /// the first letter of a sentence.
    pub(crate) fn at<'l>(
        &'l self,
        text: &str,
        at: usize,
        opens_sentence: bool,
    ) -> Vec<(&'l Surface, std::ops::Range<usize>)> {
        let rest = &text[at..];
        let Some(head) = words(rest)
            .first()
            .filter(|w| w.span.start == 0)
            .map(|w| bare_head(w.text))
        else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for place in self.by_head.get(&head).map(Vec::as_slice).unwrap_or_default() {
            let surface = &self.surfaces[*place];
            let Some(start) = at.checked_sub(surface.lead) else {
                continue;
            };
            let Some(here) = text.get(start..start + surface.text.len()) else {
                continue;
            };
            if (here == surface.text || (opens_sentence && same_but_first(here, &surface.text)))
                && stands_free(text, start, here.len())
            {
                found.push((surface, start..start + here.len()));
            }
        }
        found
    }

    /// Whether some item of the catalogue has this value.
    pub(crate) fn is_descriptor(&self, phrase: &str) -> bool {
        forms(phrase).iter().any(|form| self.descriptors.contains(form))
    }
}

/// How descriptive values are compared: `Sci-Fi` is `sci fi`.
pub(crate) fn descriptor(value: &str) -> String {
    tidy(&value.to_lowercase().replace('-', " "))
}

/// The values that a describing phrase may stand for: itself, its singular, the noun behind an adjective.
pub(crate) fn forms(phrase: &str) -> Vec<String> {
    const NOUNS: [(&str, &[&str]); 10] = [
        ("romantic", &["romance"]),
        ("biographical", &["biography", "biopic"]),
        ("historical", &["history"]),
        ("animated", &["animation"]),
        ("musical", &["music"]),
        ("sports", &["sport"]),
        ("comic", &["comedy"]),
        ("dramatic", &["drama"]),
        ("sci fi", &["science fiction"]),
        ("documentary", &["documentaries"]),
    ];
    let base = descriptor(phrase);
    let mut forms = vec![base.clone()];
    if let Some(stem) = base.strip_suffix("ies") {
        forms.push(format!("{stem}y"));
    } else if let Some(stem) = base.strip_suffix('s').filter(|stem| !stem.ends_with('s')) {
        forms.push(stem.to_owned());
    }
    forms.extend(
        NOUNS
            .iter()
            .filter(|(form, _)| *form == base)
            .flat_map(|(_, nouns)| nouns.iter().map(|n| (*n).to_owned())),
    );
    forms
}

/// The part of a first word that a possessive or an elision leaves alone.
fn bare_head(word: &str) -> String {
    bare(word)
}

fn same_but_first(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.chars(), b.chars());
    let first = (a.next(), b.next());
    matches!(first, (Some(x), Some(y)) if x.to_lowercase().eq(y.to_lowercase())) && a.as_str() == b.as_str()
}

/// No letter or digit next to it; `'s` may follow.
fn stands_free(text: &str, start: usize, len: usize) -> bool {
    let before = text[..start].chars().next_back();
    let end = start + len;
    let after = text[end..].chars().next();
    let own_end = text[..end].chars().next_back();
    let joined = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    !joined(before) && (!joined(after) || !own_end.is_some_and(char::is_alphanumeric))
}
