//! Sixteen numbers one after the other, on any processor.

use super::{LANES, Lanes};

/// The reference: an array.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain([f32; LANES]);

impl Plain {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl Lanes for Plain {
    const WIDE: bool = false;
    type Ints = [i32; LANES];
    type Quads = [i8; 4 * LANES];
    const OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn no_ints() -> Self::Ints {
        [0; LANES]
    }
    #[inline(always)]
    unsafe fn floats(ints: Self::Ints) -> Self {
        Self(ints.map(|x| x as f32))
    }
    #[inline(always)]
    unsafe fn load_quads(from: *const i8) -> Self::Quads {
        from.cast::<Self::Quads>().read()
    }
    #[inline(always)]
    unsafe fn dot_signed(acc: Self::Ints, x: *const i8, w: Self::Quads) -> Self::Ints {
        let x = x.cast::<[i8; 4]>().read();
        std::array::from_fn(|i| (0..4).fold(acc[i], |a, j| a + i32::from(x[j]) * i32::from(w[4 * i + j])))
    }
    #[inline(always)]
    unsafe fn dot_unsigned(acc: Self::Ints, x: *const i8, w: Self::Quads) -> Self::Ints {
        Self::dot_signed(acc, x, w)
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self([x; LANES])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(from.cast::<[f32; LANES]>().read_unaligned())
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> Self {
        let mut x = [0.0; LANES];
        std::ptr::copy_nonoverlapping(from, x.as_mut_ptr(), n);
        Self(x)
    }
    #[inline(always)]
    unsafe fn load_ints(from: *const i32) -> Self {
        Self(from.cast::<[i32; LANES]>().read_unaligned().map(|x| x as f32))
    }
    #[inline(always)]
    unsafe fn load_half(from: *const u16) -> Self {
        Self(
            from.cast::<[u16; LANES]>()
                .read_unaligned()
                .map(|x| half::f16::from_bits(x).to_f32_const()),
        )
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        to.cast::<[f32; LANES]>().write_unaligned(self.0);
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, n: usize) {
        std::ptr::copy_nonoverlapping(self.0.as_ptr(), to, n);
    }
    #[inline(always)]
    unsafe fn store_half(self, to: *mut u16) {
        to.cast::<[u16; LANES]>()
            .write_unaligned(self.0.map(|x| half::f16::from_f32_const(x).to_bits()));
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut i8, flip: i8) {
        to.cast::<[i8; LANES]>()
            .write_unaligned(self.0.map(|x| x.round_ties_even() as i8 ^ flip));
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn fma(self, by: Self, plus: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].mul_add(by.0[i], plus.0[i])))
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        Self(self.0.map(f32::abs))
    }
    #[inline(always)]
    unsafe fn with_sign(self, of: Self) -> Self {
        self.zip(of, f32::copysign)
    }
    #[inline(always)]
    unsafe fn exp2_of_integer(self) -> Self {
        Self(self.0.map(|x| f32::from_bits(((x as i32 + 127) as u32) << 23)))
    }
    #[inline(always)]
    unsafe fn to_array(self) -> [f32; LANES] {
        self.0
    }
    #[inline(always)]
    unsafe fn prefetch(_: *const u8) {}
}
