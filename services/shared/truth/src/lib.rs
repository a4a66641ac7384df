//! What may be said about an item and a history: relations, the truth gate, the fallback template.
//!
//! Pure: plain values in, plain values out. `relations` finds what ties an item to a history, `template` says it by rule,
//! `gate` lets a sentence pass only if the request supports it.

mod lexicon;
mod patterns;
pub mod phrase;
pub mod premise;
pub mod relations;
pub mod render;
pub mod text;
pub mod vocabulary;

pub use phrase::{Matter, Point, PointKind, STYLES, compose};
pub use premise::{Form, Premise};
pub use relations::{Kind, Limits, Relation, relations, relations_within};
pub use render::{Mention, Part, Rendered, Target, render};
pub use vocabulary::{Role, Thing, Vocabulary};
