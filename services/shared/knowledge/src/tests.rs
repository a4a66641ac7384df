//! The pipeline as its callers see it: over the memory store with a paused clock, and over a real Redis.

pub(crate) mod support;

mod coalescing;
mod erasing;
mod fleet;
mod memory;
mod redis;
mod scripted;
mod sharing;
mod topology;
