//! A model bundle on disk: manifest, prompt template, entity slots, tokenizer.
//!
//! ```text
//! Bundle::open(dir) ─▶ prompt_oracle(pair, history) ─▶ Prompt.ids ─▶ (engine) ─▶ parse_oracle(prompt, text) ─▶ facts
//!                   ─▶ prompt_prism(query)          ─▶ Prompt.ids ─▶ (engine) ─▶ prompt.filler().push(text) ─▶ sentences
//! ```

mod bundle;
mod error;
mod facts;
mod fill;
pub mod manifest;
pub mod slots;
pub mod template;
mod tokenizer;

pub use bundle::{Bundle, FACTS_MAX, Parsed, Prompt};
pub use error::Error;
pub use fill::{Filler, SENTENCES_MAX};
pub use manifest::{Decode, MANIFEST_FILE, Manifest, Mode, Precision, Role, TemplateKind};
pub use refract_truth::vocabulary::READINGS_BYTES_DEFAULT;
pub use tokenizer::{TOKENIZER_FILE, TextStream, Tokenizer, write_slot_tokenizer};
