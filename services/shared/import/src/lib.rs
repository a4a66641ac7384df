//! Brings other people's data into Refract's data set format (`DATA.md` beside this crate is its page).
//!
//! ```text
//!  MovieLens, Yelp, Amazon, any table ─▶ rows with their places ─▶ intake: checks, counts, newest of a pair
//!      ─▶ splits by time ─▶ a directory beside the goal ─▶ renamed when whole        Report: every line accounted for
//! ```
//!
//! The operator obtains the data; nothing is downloaded. A fault of a row is counted and named with file and line; more of
//! them than `bad_rows_max` allows make the import fail, and then nothing is left behind.

mod amazon;
mod error;
mod growing;
mod intake;
mod lines;
mod movielens;
mod records;
mod report;
pub mod splits;
mod table;
mod title;
mod values;
mod yelp;

pub use amazon::amazon;
pub use error::Error;
pub use intake::Options;
pub use lines::Encoding;
pub use movielens::movielens;
pub use records::Records;
pub use report::{Count, Notes, Report};
pub use table::table;
pub use yelp::yelp;
