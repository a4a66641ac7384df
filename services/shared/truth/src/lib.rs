//! What may be said about an item and a history: relations, the truth gate, the fallback template.
//!
//! Pure: plain values in, plain values out. `relations` finds what ties an item to a history, `choose` judges what is worth saying,
//! `phrase` says it, `gate` lets a sentence pass only if the request supports it, and `template` does all four.

mod choose;
mod gate;
mod lexicon;
mod patterns;
pub mod phrase;
pub mod premise;
mod reading;
mod readings;
pub mod relations;
mod render;
mod sentences;
mod template;
pub mod text;
pub mod vocabulary;

pub use choose::{choose, class, strongest_first};
pub use gate::{Gate, Refusal, SENTENCE_CHARS_MAX};
pub use phrase::{Matter, Point, PointKind, STYLES, compose};
pub use premise::{Form, Premise};
pub use reading::{Reading, Sought};
pub use relations::{Kind, Limits, Relation, relations, relations_within};
pub use render::{Mention, Part, Rendered, Target, render};
pub use sentences::Sentences;
pub use template::{TEMPLATE_REVISION, point_of, template, template_within};
pub use vocabulary::{Role, Thing, Vocabulary};
