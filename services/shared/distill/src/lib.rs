//! The Oracle as a labeller: pairs in, texts worth learning from out, each with its provenance.
//!
//! ```text
//!  Ask ─▶ pace ─▶ Teacher: n candidates ─▶ best by quality ─▶ filter ─▶ Journal: one line, at once
//!           ▲         │ slow, failing, garbage                   │ refused: once more, carefully; then counted
//!           └─ retry, within a budget ◀───────┘
//! ```
//!
//! The journal is the state: what stands in it is done, so a run that was killed goes on where it was and asks nothing twice
//! that was answered. Labels hold people's ids; logs never do.

mod ask;
pub mod columns;
mod error;
mod journal;
mod label;
pub mod openai;
mod prompt;
mod run;
mod teacher;

pub use ask::{Ask, Shard};
pub use error::Error;
pub use journal::{Header, Journal};
pub use label::{Label, LabelAffinity, LabelEvidence, LabelFact, LabelItem, Provenance, Rejection, Told};
pub use openai::OpenAi;
pub use prompt::{PROMPT_REVISION, prompt, source};
pub use run::{Config, Progress, Report, distill};
pub use teacher::{Answer, Candidate, Fault, Identity, Manner, Teacher};
