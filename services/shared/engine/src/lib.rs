//! Many sequences, one device: an encoder–decoder engine with continuous batching.
//!
//! ```text
//!  Handle ──Request──▶ Inbox ──▶ Scheduler ──Plan──▶ Runner ──logits──▶ sampler, beam ──tokens──▶ Generation
//!  (any thread)        (bounded)  (what runs now)     (the device)       (what was said)            (a stream)
//! ```
//!
//! A new sequence is *encoded* once and then *decoded* a step at a time; sequences join and leave between steps.
//! [`sequence`], [`scheduler`], [`kv`], [`sampler`] and [`beam`] are plain data in and out; [`runner`] is the joint
//! behind which a device lives, and [`runner::ModelRunner`] the only file that knows tensors. [`engine`] is the loop, on
//! a thread of its own; async code never touches the device.
//!
//! Law: the tokens of a sequence do not depend on its companions in the batch.

pub mod beam;
pub mod config;
pub mod device;
mod draft;
pub mod engine;
pub mod error;
pub mod generation;
pub mod handle;
mod inbox;
pub mod kv;
mod logits;
mod memory;
pub mod metrics;
pub mod open;
pub mod params;
mod phases;
mod quantise;
pub mod runner;
pub mod sampler;
pub mod scheduler;
pub mod scores;
pub mod sequence;

pub use config::Config;
pub use device::DeviceName;
pub use draft::{PHRASES_FILE, Phrases, Told};
pub use engine::{Engine, Health, Stats};
pub use error::Error;
pub use generation::{Event, Finish, Finished, Generation, Hypothesis};
pub use handle::{Handle, Request};
pub use open::{Choice, OpenOptions, Opened, Weights, open};
pub use params::GenerationParams;
pub use quantise::{Fidelity, fidelity, quantise};
pub use refract_model::{EarlyStopping, PairRows};
pub use runner::{ModelRunner, Runner};
