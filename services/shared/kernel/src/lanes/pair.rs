//! Two registers of eight.

use std::arch::x86_64::*;

use super::{LANES, Lanes};

/// Two 256-bit registers: AVX2, FMA, F16C.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair(__m256, __m256);

macro_rules! both {
    ($self:ident, $other:ident, $op:ident) => {
        Self($op($self.0, $other.0), $op($self.1, $other.1))
    };
}

impl Lanes for Pair {
    const WIDE: bool = false;
    type Ints = [__m256i; 2];
    type Quads = [__m256i; 2];
    const OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn no_ints() -> Self::Ints {
        [_mm256_setzero_si256(); 2]
    }
    #[inline(always)]
    unsafe fn floats(ints: Self::Ints) -> Self {
        Self(_mm256_cvtepi32_ps(ints[0]), _mm256_cvtepi32_ps(ints[1]))
    }
    #[inline(always)]
    unsafe fn load_quads(from: *const i8) -> Self::Quads {
        let from = from.cast::<__m256i>();
        [_mm256_loadu_si256(from), _mm256_loadu_si256(from.add(1))]
    }
    #[inline(always)]
    unsafe fn dot_signed(acc: Self::Ints, x: *const i8, w: Self::Quads) -> Self::Ints {
        // The sign of x goes to w; two products of at most 127 · 127 fit 16 bits.
        let x = _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
        let (magnitude, ones) = (_mm256_abs_epi8(x), _mm256_set1_epi16(1));
        let dot = |acc, w| {
            let pairs = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(w, x));
            _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, ones))
        };
        [dot(acc[0], w[0]), dot(acc[1], w[1])]
    }
    #[inline(always)]
    unsafe fn dot_unsigned(acc: Self::Ints, x: *const i8, w: Self::Quads) -> Self::Ints {
        let x = _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
        let ones = _mm256_set1_epi16(1);
        let dot = |acc, w| _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), ones));
        [dot(acc[0], w[0]), dot(acc[1], w[1])]
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self(_mm256_set1_ps(x), _mm256_set1_ps(x))
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8)))
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> Self {
        let mut x = [0.0; LANES];
        std::ptr::copy_nonoverlapping(from, x.as_mut_ptr(), n);
        Self::load(x.as_ptr())
    }
    #[inline(always)]
    unsafe fn load_ints(from: *const i32) -> Self {
        let from = from.cast::<__m256i>();
        Self(
            _mm256_cvtepi32_ps(_mm256_loadu_si256(from)),
            _mm256_cvtepi32_ps(_mm256_loadu_si256(from.add(1))),
        )
    }
    #[inline(always)]
    unsafe fn load_half(from: *const u16) -> Self {
        let from = from.cast::<__m128i>();
        Self(
            _mm256_cvtph_ps(_mm_loadu_si128(from)),
            _mm256_cvtph_ps(_mm_loadu_si128(from.add(1))),
        )
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        _mm256_storeu_ps(to, self.0);
        _mm256_storeu_ps(to.add(8), self.1);
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, n: usize) {
        std::ptr::copy_nonoverlapping(self.to_array().as_ptr(), to, n);
    }
    #[inline(always)]
    unsafe fn store_half(self, to: *mut u16) {
        let to = to.cast::<__m128i>();
        _mm_storeu_si128(to, _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0));
        _mm_storeu_si128(to.add(1), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.1));
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut i8, flip: i8) {
        // Packing works within halves of a register; the permutation puts the four quarters back in order.
        let words = _mm256_packs_epi32(_mm256_cvtps_epi32(self.0), _mm256_cvtps_epi32(self.1));
        let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
        let bytes = _mm_packs_epi16(
            _mm256_castsi256_si128(words),
            _mm256_extracti128_si256::<1>(words),
        );
        _mm_storeu_si128(to.cast(), _mm_xor_si128(bytes, _mm_set1_epi8(flip)));
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        both!(self, other, _mm256_add_ps)
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        both!(self, other, _mm256_sub_ps)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        both!(self, other, _mm256_mul_ps)
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        both!(self, other, _mm256_div_ps)
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        both!(self, other, _mm256_max_ps)
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        both!(self, other, _mm256_min_ps)
    }
    #[inline(always)]
    unsafe fn fma(self, by: Self, plus: Self) -> Self {
        Self(
            _mm256_fmadd_ps(self.0, by.0, plus.0),
            _mm256_fmadd_ps(self.1, by.1, plus.1),
        )
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        let sign = _mm256_set1_ps(-0.0);
        Self(_mm256_andnot_ps(sign, self.0), _mm256_andnot_ps(sign, self.1))
    }
    #[inline(always)]
    unsafe fn with_sign(self, of: Self) -> Self {
        let sign = _mm256_set1_ps(-0.0);
        Self(
            _mm256_or_ps(_mm256_andnot_ps(sign, self.0), _mm256_and_ps(sign, of.0)),
            _mm256_or_ps(_mm256_andnot_ps(sign, self.1), _mm256_and_ps(sign, of.1)),
        )
    }
    #[inline(always)]
    unsafe fn exp2_of_integer(self) -> Self {
        let bias = _mm256_set1_epi32(127);
        let a = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvtps_epi32(self.0), bias));
        let b = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvtps_epi32(self.1), bias));
        Self(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b))
    }
    #[inline(always)]
    unsafe fn to_array(self) -> [f32; LANES] {
        let mut x = [0.0; LANES];
        self.store(x.as_mut_ptr());
        x
    }
    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
}
