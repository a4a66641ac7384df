//! How knowledge becomes bytes. Handed in, because this crate knows no wire format.

use refract_domain::Knowledge;

/// A pair of plain functions. `decode` of arbitrary bytes must not panic; `None` means "not mine", and is a miss.
#[derive(Clone, Copy, Debug)]
pub struct Codec {
    pub encode: fn(&Knowledge) -> Vec<u8>,
    pub decode: fn(&[u8]) -> Option<Knowledge>,
}
