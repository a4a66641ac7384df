//! Arithmetic at the speed of the processor, for every instruction set it may have.
//!
//! [`Kernels`] is the entry; [`Matrix`] holds packed weights. This is the one crate that uses `unsafe`: for intrinsics,
//! assembly, aligned memory and a pool of threads. What it offers is safe. Inner kernels are unsafe functions with one
//! contract, written at each: the instruction set is there, and pointers are good for what the arguments say.
#![allow(unsafe_op_in_unsafe_fn)]
// Loops over registers are counted, so that the compiler unrolls them.
#![allow(clippy::needless_range_loop)]

#[cfg(target_arch = "x86_64")]
mod amx;
mod attention;
mod buffer;
mod bytes;
mod dot;
mod elementwise;
mod error;
mod floats;
#[cfg(feature = "cuda")]
pub mod gpu;
mod isa;
mod kernels;
mod lanes;
mod matrix;
mod memory;
mod nibbles;
mod norm;
mod pool;
mod priority;
mod products;
mod rows;
mod table;

pub use attention::{DistanceBias, Packed, Paged, Reader};
pub use bytes::BYTE_HEAD_DIM_MAX;
pub use elementwise::Activation;
pub use error::Error;
pub use isa::{ENVIRONMENT, Isa};
pub use kernels::{Finish, Kernels, Scratch};
pub use matrix::{INPUTS_MAX, Matrix, Packing, Part, Precision, quantise_weights};
pub use memory::{CHUNK, Element, KeyValueRows, MemoryShape, PAGE, Pages, Place};
pub use nibbles::{GROUP, SHARE_MAX, quantise_nibbles};
pub use pool::THREADS_MAX;
pub use priority::{NICE_MAX, stand_back};
pub use table::Table;
