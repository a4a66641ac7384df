//! The connection layer: listening, dialling, limits, drain.
