//! What the tests share: seeded numbers, and the kernels of every instruction set that this machine has.

use refract_kernel::{Isa, Kernels};

/// A small generator (xorshift64*), so that tests need no library and repeat.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// In `low..=high`.
    #[allow(dead_code, reason = "not every test file draws sizes")]
    pub(crate) fn size(&mut self, low: usize, high: usize) -> usize {
        low + (self.next() % (high - low + 1) as u64) as usize
    }

    /// In −1..1, with a few ten times as large.
    pub(crate) fn number(&mut self) -> f32 {
        let x = (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0;
        if self.next().is_multiple_of(50) {
            10.0 * x
        } else {
            x
        }
    }

    pub(crate) fn numbers(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.number()).collect()
    }
}

/// The reference, then every other instruction set, on one thread and on three.
pub(crate) fn all() -> Vec<Kernels> {
    let available = Isa::available();
    println!("instruction sets compared: {available:?}");
    assert_eq!(available[0], Isa::Scalar);
    available
        .into_iter()
        .flat_map(|isa| [1, 3].map(|threads| Kernels::new(isa, threads).expect("available")))
        .collect()
}

pub(crate) fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}
