//! What can go wrong before a kernel runs; a running kernel does not fail.

use crate::isa::Isa;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("instruction set {name:?} is not known (known: scalar, avx2, avxvnni, vnni, amx)")]
    UnknownIsa { name: String },

    #[error("this machine cannot run {isa}; the best it can is {best}")]
    Unavailable { isa: Isa, best: Isa },

    #[error("{threads} threads asked for; 1 to {threads_max} are possible")]
    Threads { threads: usize, threads_max: usize },

    /// The operating system would not start a thread.
    #[error("cannot start a worker thread: {reason}")]
    Spawn { reason: String },

    /// Sums of so many byte products could leave 32 bits.
    #[error("a matrix with {inputs} inputs is too wide for int8; at most {inputs_max}")]
    TooWide { inputs: usize, inputs_max: usize },

    #[error("{what}: {got} numbers, not {want}")]
    Shape {
        what: &'static str,
        got: usize,
        want: usize,
    },
}
