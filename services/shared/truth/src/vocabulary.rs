//! What attribute names mean: the roles they play in a sentence, by one table.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use refract_domain::Item;

use crate::reading::Reading;
use crate::readings::Readings;
use crate::text::fold;

/// The part an attribute plays. Names that no table knows are `Other` and are spoken of by their own name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    Director,
    Cast,
    Author,
    Artist,
    /// Who makes or sells it: brand, studio, chef.
    Maker,
    Genre,
    Series,
    /// What it is based on.
    Source,
    Year,
    Place,
    /// What it is about, in a clause.
    Premise,
    Other,
    /// Nothing to speak of: ids, links, counts.
    Hidden,
}

impl Role {
    /// Whether values are names of people or makers.
    pub fn is_name(self) -> bool {
        matches!(
            self,
            Self::Director | Self::Cast | Self::Author | Self::Artist | Self::Maker
        )
    }

    /// How much a tie of this role tells, 0 the most: a series tells more than a genre, a genre more than a year. Prompts state an
    /// item's attributes in this order and judgements weigh by it, so a model's first facts are its best. A premise and what is
    /// hidden come last, together.
    pub fn telling_rank(self) -> usize {
        const ORDER: [Role; 11] = [
            Role::Series,
            Role::Director,
            Role::Author,
            Role::Artist,
            Role::Source,
            Role::Cast,
            Role::Maker,
            Role::Genre,
            Role::Place,
            Role::Other,
            Role::Year,
        ];
        ORDER.iter().position(|role| *role == self).unwrap_or(ORDER.len())
    }
}

/// What is recommended, as far as the words for it go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Thing {
    Film,
    Book,
    Place,
    Music,
    Product,
    Title,
}

impl Thing {
    pub fn noun(self) -> &'static str {
        match self {
            Self::Film => "film",
            Self::Book => "book",
            Self::Place => "place",
            Self::Music => "release",
            Self::Product => "product",
            Self::Title => "title",
        }
    }

    pub fn nouns(self) -> &'static str {
        match self {
            Self::Film => "films",
            Self::Book => "books",
            Self::Place => "places",
            Self::Music => "releases",
            Self::Product => "products",
            Self::Title => "titles",
        }
    }

    /// What a user did with it, of which no opinion is known: "which you watched".
    pub fn tried(self) -> &'static str {
        match self {
            Self::Film => "watched",
            Self::Book => "read",
            Self::Place => "visited",
            Self::Music => "heard",
            Self::Product => "tried",
            Self::Title => "picked",
        }
    }
}

/// Attribute names by role, in the singular, lower case, words apart by blanks. The defaults; see [`Vocabulary::with`].
const ROLES: &[(Role, &[&str])] = &[
    (Role::Director, &["director", "directed by", "filmmaker"]),
    (
        Role::Cast,
        &[
            "cast",
            "lead",
            "actor",
            "actress",
            "star",
            "starring",
            "leading actor",
            "cast member",
            "performer",
        ],
    ),
    (
        Role::Author,
        &["author", "writer", "novelist", "written by", "poet"],
    ),
    (Role::Artist, &["artist", "band", "singer", "musician"]),
    (
        Role::Maker,
        &[
            "brand",
            "maker",
            "manufacturer",
            "studio",
            "chef",
            "developer",
            "designer",
            "label",
            "made by",
        ],
    ),
    (
        Role::Genre,
        &["genre", "category", "tag", "style", "subgenre", "cuisine", "type"],
    ),
    (
        Role::Series,
        &["series", "franchise", "universe", "saga", "collection"],
    ),
    (
        Role::Source,
        &["source", "based on", "adapted from", "source material"],
    ),
    (
        Role::Year,
        &[
            "year",
            "release year",
            "published",
            "publication year",
            "released",
            "decade",
        ],
    ),
    (
        Role::Place,
        &[
            "country",
            "place",
            "city",
            "location",
            "neighbourhood",
            "neighborhood",
            "region",
            "setting",
            "state",
        ],
    ),
    (
        Role::Premise,
        &["premise", "plot", "logline", "synopsis", "tagline"],
    ),
    (
        Role::Hidden,
        &[
            "id",
            "url",
            "link",
            "image",
            "poster",
            "imdb",
            "imdb id",
            "tmdb",
            "tmdb id",
            "isbn",
            "isbn13",
            "sku",
            "rating",
            "rating count",
            "vote",
            "votes",
            "vote count",
            "vote average",
            "popularity",
            "revenue",
            "budget",
            "price",
            "latitude",
            "longitude",
            "address",
            "phone",
            "postal code",
            "article",
            "language code",
            "runtime",
            "duration",
            "review count",
            "stars",
            "hours",
            "pages",
            "page count",
            "website",
            "email",
        ],
    ),
];

/// Genres so common that sharing one says little, with what is left of the weight (of 1).
const COMMON_GENRES: &[(&str, f32)] = &[
    ("drama", 0.1),
    ("comedy", 0.2),
    ("action", 0.35),
    ("fiction", 0.1),
    ("restaurant", 0.05),
    ("restaurants", 0.05),
    ("food", 0.05),
    ("pop", 0.2),
    ("rock", 0.3),
    ("thriller", 0.45),
    ("romance", 0.55),
    ("independent", 0.3),
    ("short", 0.4),
];

/// Memory for the items that a vocabulary has read, in bytes, unless told otherwise: some ten thousand items.
pub const READINGS_BYTES_DEFAULT: u64 = 64 << 20;

/// Maps attribute names to roles, and reads items by them; keeps what it has read. Clones share that.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    roles: BTreeMap<String, Role>,
    readings: Readings,
}

impl Default for Vocabulary {
    fn default() -> Self {
        let roles = ROLES
            .iter()
            .flat_map(|(role, names)| names.iter().map(|name| ((*name).to_owned(), *role)))
            .collect();
        Self {
            roles,
            readings: Readings::holding(READINGS_BYTES_DEFAULT),
        }
    }
}

impl Vocabulary {
    /// The defaults and, over them, a deployment's own names.
    pub fn with(names: impl IntoIterator<Item = (String, Role)>) -> Self {
        let mut vocabulary = Self::default();
        let own = names.into_iter().map(|(name, role)| (label(&name), role));
        vocabulary.roles.extend(own);
        vocabulary
    }

    /// The defaults, for who has no names of their own.
    pub fn standard() -> &'static Self {
        static STANDARD: LazyLock<Vocabulary> = LazyLock::new(Vocabulary::default);
        &STANDARD
    }

    /// With this much memory for the items it has read.
    #[must_use]
    pub fn holding(mut self, bytes: u64) -> Self {
        self.readings = Readings::holding(bytes);
        self
    }

    /// The item as these names make it read.
    pub fn read(&self, item: &Arc<Item>) -> Arc<Reading> {
        self.readings.of(self, item)
    }

    /// The role of an attribute name, whatever its case, plural and way of joining words.
    pub fn role(&self, name: &str) -> Role {
        let label = label(name);
        if let Some(role) = self.roles.get(&label) {
            return *role;
        }
        if label.ends_with(" id") || label.ends_with(" url") || label.ends_with(" count") {
            return Role::Hidden;
        }
        // `main genre`, `film director`, `lead actor`: the last word decides.
        match label.rsplit_once(' ').and_then(|(_, last)| self.roles.get(last)) {
            Some(role) if !matches!(role, Role::Hidden | Role::Other) => *role,
            _ => Role::Other,
        }
    }

    /// What is left of a genre's weight because everything has it; 1 for one that is worth mentioning.
    pub fn genre_rarity(&self, genre: &str) -> f32 {
        let folded = fold(genre);
        COMMON_GENRES
            .iter()
            .find(|(common, _)| *common == folded)
            .map_or(1.0, |(_, rarity)| *rarity)
    }

    /// What kind of thing an item is, judged by the names of its attributes.
    pub fn thing(&self, item: &Item) -> Thing {
        let has = |role: Role| item.attributes.keys().any(|name| self.role(name) == role);
        let named = |names: &[&str]| {
            item.attributes
                .keys()
                .any(|name| names.contains(&label(name).as_str()))
        };
        if has(Role::Director) || has(Role::Cast) {
            Thing::Film
        } else if named(&[
            "cuisine",
            "city",
            "neighbourhood",
            "neighborhood",
            "chef",
            "address",
        ]) {
            Thing::Place
        } else if has(Role::Author) || named(&["publisher", "isbn", "page"]) {
            Thing::Book
        } else if has(Role::Artist) {
            Thing::Music
        } else if named(&["brand", "manufacturer", "sku"]) {
            Thing::Product
        } else {
            Thing::Title
        }
    }
}

/// An attribute's name as it is spoken: lower case, words apart, in the singular (`releaseYears` → `release year`).
pub fn label(name: &str) -> String {
    let mut spoken = String::with_capacity(name.len() + 4);
    let mut lower_before = false;
    for c in crate::text::clean(name, 40).chars() {
        if c.is_alphanumeric() {
            if c.is_uppercase() && lower_before {
                spoken.push(' ');
            }
            spoken.extend(c.to_lowercase());
            lower_before = c.is_lowercase();
        } else {
            if !spoken.is_empty() && !spoken.ends_with(' ') {
                spoken.push(' ');
            }
            lower_before = false;
        }
    }
    spoken.truncate(spoken.trim_end().len());
    const SINGULAR: [&str; 5] = ["series", "stars", "votes", "hours", "pages"];
    if SINGULAR.contains(&spoken.as_str())
        || spoken.ends_with("ss")
        || spoken.ends_with("us")
        || spoken.ends_with(" series")
    {
        return spoken;
    }
    if let Some(stem) = spoken.strip_suffix("ies") {
        return format!("{stem}y");
    }
    match spoken.strip_suffix('s') {
        Some(stem) if stem.len() > 2 => stem.to_owned(),
        _ => spoken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_their_role_in_any_case_plural_and_spelling() {
        let vocabulary = Vocabulary::default();
        for (name, role) in [
            ("director", Role::Director),
            ("Directors", Role::Director),
            ("directed_by", Role::Director),
            ("leadActors", Role::Cast),
            ("cast", Role::Cast),
            ("genres", Role::Genre),
            ("categories", Role::Genre),
            ("series", Role::Series),
            ("based-on", Role::Source),
            ("releaseYear", Role::Year),
            ("authors", Role::Author),
            ("cuisine", Role::Genre),
            ("imdb_id", Role::Hidden),
            ("some_vendor_id", Role::Hidden),
            ("composer", Role::Other),
            ("dress code", Role::Other),
            ("photographer", Role::Other),
        ] {
            assert_eq!(vocabulary.role(name), role, "{name}");
        }
    }

    #[test]
    fn a_deployment_adds_its_own_names() {
        let vocabulary = Vocabulary::with([("Regisseur".to_owned(), Role::Director)]);
        assert_eq!(vocabulary.role("regisseur"), Role::Director);
        assert_eq!(vocabulary.role("director"), Role::Director);
    }

    #[test]
    fn labels_read_like_words() {
        for (name, spoken) in [
            ("dressCode", "dress code"),
            ("COMPOSERS", "composer"),
            ("tv-series", "tv series"),
            ("glass", "glass"),
            ("Stories", "story"),
        ] {
            assert_eq!(label(name), spoken);
        }
    }
}
