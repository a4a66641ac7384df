//! An open-loop load generator, its arithmetic apart from its network.
//!
//! ```text
//!  schedule ──▶ drive ──▶ outcomes ──▶ summary ──▶ Report (JSON) ──▶ html, compare
//!  (pure)      (tonic)                 (pure)                        (pure)
//! ```
//!
//! Open loop: requests start when the schedule says, however slow the answers are, and every time counts from the
//! *intended* start. A generator that waits for answers sends less just when the server is slow, and so hides it.

pub mod asking;
pub mod compare;
pub mod drive;
pub mod html;
pub mod plot;
pub mod report;
pub mod schedule;
pub mod summary;
