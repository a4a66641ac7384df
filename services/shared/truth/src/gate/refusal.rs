//! Why a sentence may not be shown.

/// Closed: it is a metric label and a descent of the ladder. Never carries the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    TooLong,
    /// It does not end like a sentence.
    Unfinished,
    /// Something that a sentence needs is missing, or two things stand side by side with nothing between them.
    Fragment,
    /// A title twice in one list or statement.
    Repetition,
    /// Characters that have no place in a sentence.
    Characters,
    /// A URL, an address, a handle.
    Link,
    /// A slot that the prompt does not define.
    UndefinedSlot,
    /// A title or name that the request does not hold.
    UntraceableName,
    UntraceableNumber,
    /// A genre, theme or distinction that the item's data do not hold.
    UntraceableAttribute,
    /// A name in a part that it does not play.
    WrongRole,
    /// A history item is said to have what it has not, or to be close to what it is not.
    WrongRelation,
    /// Others' behaviour that nobody has measured.
    NoAffinity,
    /// An item that the user disliked.
    Disliked,
    /// "You liked" of an item of which no opinion is known.
    NotLiked,
    /// It speaks against the recommendation, or denies something.
    Negation,
    /// It promises what nobody can know.
    Overclaim,
    /// It says nothing that rests on anything.
    Ungrounded,
    /// It does not name the item, and nothing before it did.
    Nameless,
    /// A fact whose evidence is not in this request.
    ForeignEvidence,
}

impl Refusal {
    /// A constant phrase for people and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "sentence too long",
            Self::Unfinished => "sentence unfinished",
            Self::Fragment => "fragment",
            Self::Repetition => "title twice",
            Self::Characters => "characters not allowed",
            Self::Link => "link or address",
            Self::UndefinedSlot => "undefined slot",
            Self::UntraceableName => "untraceable name",
            Self::UntraceableNumber => "untraceable number",
            Self::UntraceableAttribute => "untraceable attribute",
            Self::WrongRole => "name in a wrong role",
            Self::WrongRelation => "relation not in the data",
            Self::NoAffinity => "behaviour of others not in the data",
            Self::Disliked => "disliked item named",
            Self::NotLiked => "opinion not known",
            Self::Negation => "negation",
            Self::Overclaim => "overclaim",
            Self::Ungrounded => "nothing to rest on",
            Self::Nameless => "item not named",
            Self::ForeignEvidence => "evidence of another request",
        }
    }
}
