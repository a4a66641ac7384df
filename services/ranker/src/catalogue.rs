//! The items that can be recommended: by id, by title as people type it, by attribute value.

use std::collections::HashMap;
use std::sync::Arc;

use refract_domain::{Attributes, Item, ItemId};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// How much an item may say; the same bounds as at the edge.
pub mod limits {
    pub const TITLE_CHARS_MAX: usize = 300;
    pub const DESCRIPTION_CHARS_MAX: usize = 4_000;
    pub const ATTRIBUTES_MAX: usize = 64;
    pub const ATTRIBUTE_VALUES_MAX: usize = 64;
    pub const VALUE_CHARS_MAX: usize = 300;
    /// Of the line about a user in `users.jsonl`.
    pub const ABOUT_CHARS_MAX: usize = 300;
}

/// Items in the order of the data set; an item's place is its `u32` index everywhere in this crate.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    items: Vec<Arc<Item>>,
    by_id: HashMap<ItemId, u32>,
    /// [`fold`]ed titles, by item.
    folded: Vec<String>,
    /// Folded attribute name → folded value → items that have it, ascending.
    by_value: HashMap<String, HashMap<String, Vec<u32>>>,
}

/// How a title fits what was asked for, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MatchKind {
    /// Letter by letter.
    Exact,
    /// But for case, accents, punctuation and a leading article.
    Folded,
    /// All the words asked for, among others.
    Words,
    /// Spelt alike.
    Fuzzy,
}

/// An item whose title fits.
#[derive(Clone, Debug)]
pub struct TitleMatch {
    pub item: Arc<Item>,
    pub index: u32,
    pub kind: MatchKind,
    /// From 0 to 1 (exactly 1 for [`MatchKind::Exact`] and [`MatchKind::Folded`]).
    pub likeness: f64,
}

impl TitleMatch {
    /// To tell films of one title apart.
    pub fn year(&self) -> Option<&str> {
        self.item.values("year").first().map(String::as_str)
    }
}

/// Below this likeness a spelling is another title.
const LIKENESS_MIN: f64 = 0.80;

impl Catalogue {
    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub fn items(&self) -> &[Arc<Item>] {
        &self.items
    }

    pub fn item(&self, index: u32) -> &Arc<Item> {
        &self.items[index as usize]
    }

    pub fn get(&self, id: &ItemId) -> Option<&Arc<Item>> {
        self.index_of(id).map(|n| self.item(n))
    }

    pub fn index_of(&self, id: &ItemId) -> Option<u32> {
        self.by_id.get(id).copied()
    }

    pub(crate) fn index_of_str(&self, id: &str) -> Option<u32> {
        self.index_of(&ItemId::new(id))
    }

    /// Names of the attributes that items have, sorted, case folded.
    pub fn attribute_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.by_value.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    pub fn has_attribute(&self, name: &str) -> bool {
        self.by_value.contains_key(&name.to_lowercase())
    }

    /// Items with this attribute value (case does not matter), ascending.
    pub fn with_value(&self, attribute: &str, value: &str) -> &[u32] {
        let values = self.by_value.get(&attribute.to_lowercase());
        values
            .and_then(|v| v.get(&value.to_lowercase()))
            .map_or(&[], Vec::as_slice)
    }

    /// Items whose title fits, in no order; [`crate::Dataset::find_titles`] orders them. A trailing year in brackets,
    /// as in `Heat (1995)`, keeps items of that year if the title as a whole fits nothing.
    pub(crate) fn match_titles(&self, query: &str) -> Vec<TitleMatch> {
        let whole = self.match_folded(query, &fold(query));
        let is_better = |m: &TitleMatch| m.kind <= MatchKind::Folded;
        let Some((title, year)) = split_year(query) else {
            return whole;
        };
        if whole.iter().any(is_better) {
            return whole;
        }
        let mut dated = self.match_folded(title, &fold(title));
        dated.retain(|m| m.year() == Some(year));
        if dated.is_empty() { whole } else { dated }
    }

    fn match_folded(&self, query: &str, folded: &str) -> Vec<TitleMatch> {
        if folded.is_empty() {
            return Vec::new();
        }
        let query = query.trim();
        let found = |index: usize| {
            let title = &self.folded[index];
            let (kind, likeness) = if self.items[index].title == query {
                (MatchKind::Exact, 1.0)
            } else if title == folded {
                (MatchKind::Folded, 1.0)
            } else if has_words(title, folded) {
                (MatchKind::Words, folded.len() as f64 / title.len() as f64)
            } else {
                let likeness = strsim::normalized_damerau_levenshtein(title, folded);
                if likeness < LIKENESS_MIN {
                    return None;
                }
                (MatchKind::Fuzzy, likeness)
            };
            Some(TitleMatch {
                item: self.items[index].clone(),
                index: index as u32,
                kind,
                likeness,
            })
        };
        (0..self.items.len()).filter_map(found).collect()
    }

    /// `Err` holds the index of the earlier item with this id.
    pub(crate) fn add(&mut self, item: Item) -> Result<(), u32> {
        let index = self.items.len() as u32;
        if let Some(&earlier) = self.by_id.get(&item.id) {
            return Err(earlier);
        }
        self.by_id.insert(item.id.clone(), index);
        self.folded.push(fold(&item.title));
        self.items.push(Arc::new(item));
        Ok(())
    }

    /// Builds what needs all items; called once, after the last [`Catalogue::add`].
    pub(crate) fn seal(&mut self) {
        self.by_value.clear();
        for (index, item) in (0u32..).zip(&self.items) {
            for (name, value) in folded_values(&item.attributes) {
                let items = self.by_value.entry(name).or_default().entry(value).or_default();
                if items.last() != Some(&index) {
                    items.push(index);
                }
            }
        }
    }
}

/// Attribute pairs in lower case, as filters compare them.
pub(crate) fn folded_values(attributes: &Attributes) -> impl Iterator<Item = (String, String)> + '_ {
    attributes
        .iter()
        .flat_map(|(name, values)| values.iter().map(|v| (name.to_lowercase(), v.to_lowercase())))
}

/// Lower case, without accents and punctuation, without a leading or trailing article (`Matrix, The`), words apart by one space.
pub(crate) fn fold(title: &str) -> String {
    let mut plain = String::with_capacity(title.len());
    for c in title
        .nfkd()
        .filter(|c| !is_combining_mark(*c) && *c != '\'' && *c != '’')
    {
        if c == '&' {
            plain.push_str(" and ");
        } else if c.is_alphanumeric() {
            plain.extend(c.to_lowercase());
        } else {
            plain.push(' ');
        }
    }
    let mut words: Vec<&str> = plain.split_whitespace().collect();
    let is_article = |w: &str| matches!(w, "the" | "a" | "an");
    if words.len() > 1 && is_article(words[0]) {
        words.remove(0);
    } else if words.len() > 1 && title.contains(',') && words.last().is_some_and(|w| is_article(w)) {
        words.pop();
    }
    words.join(" ")
}

/// Whether `wanted`'s words stand in `title` in this order, next to each other.
fn has_words(title: &str, wanted: &str) -> bool {
    title.match_indices(wanted).any(|(at, _)| {
        let end = at + wanted.len();
        (at == 0 || title.as_bytes()[at - 1] == b' ') && (end == title.len() || title.as_bytes()[end] == b' ')
    })
}

fn split_year(query: &str) -> Option<(&str, &str)> {
    let (title, year) = query.trim().strip_suffix(')')?.rsplit_once('(')?;
    (year.len() == 4 && year.bytes().all(|b| b.is_ascii_digit())).then_some((title.trim(), year))
}
