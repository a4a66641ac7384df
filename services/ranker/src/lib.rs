//! The front door: ranks, consults the Oracle, asks Prisms to explain, streams the answer.
