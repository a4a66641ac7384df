//! Measures of generated text: likeness to a reference, variety, features; pure.
//!
//! ```text
//!  text ─▶ words ─▶ bleu, rouge        against one reference
//!               ├─▶ variety            USR, Distinct-n: texts among themselves
//!               ├─▶ features           FMR, FCR, DIV: what the texts speak of
//!               └─▶ quality            is a teacher's text worth learning from
//!  counts of cases ─▶ bootstrap ─▶ interval
//! ```
//!
//! Definitions follow the libraries that published numbers were made with (named at each measure), because a score is only
//! worth comparing if both sides count alike. Likeness to a reference says little about truth: a text with a wrong title
//! keeps most of its n-grams.

mod bleu;
mod bootstrap;
mod features;
pub mod quality;
mod rouge;
mod variety;
mod words;

pub use bleu::Bleu;
pub use bootstrap::{Interval, bootstrap};
pub use features::{Features, Found};
pub use rouge::{Prf, rouge_l, rouge_l_by_ratio, rouge_n, rouge_n_of_sets};
pub use variety::{distinct, unique_share};
pub use words::{Words, words};
