//! One register of sixteen.

use std::arch::x86_64::*;

use super::{LANES, Lanes};

/// One 512-bit register: AVX-512 F, BW, VL, DQ and VNNI.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wide(__m512);

/// The first `n` of sixteen.
#[inline(always)]
fn first(n: usize) -> __mmask16 {
    ((1_u32 << n) - 1) as __mmask16
}

impl Lanes for Wide {
    const WIDE: bool = true;
    type Ints = __m512i;
    type Quads = __m512i;
    const OFFSET: i32 = 128;

    #[inline(always)]
    unsafe fn no_ints() -> Self::Ints {
        _mm512_setzero_si512()
    }
    #[inline(always)]
    unsafe fn floats(ints: Self::Ints) -> Self {
        Self(_mm512_cvtepi32_ps(ints))
    }
    #[inline(always)]
    unsafe fn load_quads(from: *const i8) -> Self::Quads {
        _mm512_loadu_si512(from.cast())
    }
    #[inline(always)]
    unsafe fn dot_signed(acc: Self::Ints, x: *const i8, w: Self::Quads) -> Self::Ints {
        _mm512_dpbusd_epi32(acc, _mm512_set1_epi32(x.cast::<i32>().read_unaligned()), w)
    }
    #[inline(always)]
    unsafe fn dot_unsigned(acc: Self::Ints, x: *const i8, w: Self::Quads) -> Self::Ints {
        Self::dot_signed(acc, x, w)
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self(_mm512_set1_ps(x))
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(_mm512_loadu_ps(from))
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> Self {
        Self(_mm512_maskz_loadu_ps(first(n), from))
    }
    #[inline(always)]
    unsafe fn load_ints(from: *const i32) -> Self {
        Self(_mm512_cvtepi32_ps(_mm512_loadu_si512(from.cast())))
    }
    #[inline(always)]
    unsafe fn load_half(from: *const u16) -> Self {
        Self(_mm512_cvtph_ps(_mm256_loadu_si256(from.cast())))
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        _mm512_storeu_ps(to, self.0);
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, n: usize) {
        _mm512_mask_storeu_ps(to, first(n), self.0);
    }
    #[inline(always)]
    unsafe fn store_half(self, to: *mut u16) {
        _mm256_storeu_si256(to.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0));
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut i8, flip: i8) {
        let bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(self.0));
        _mm_storeu_si128(to.cast(), _mm_xor_si128(bytes, _mm_set1_epi8(flip)));
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(_mm512_add_ps(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(_mm512_sub_ps(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(_mm512_mul_ps(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        Self(_mm512_div_ps(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self(_mm512_max_ps(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        Self(_mm512_min_ps(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn fma(self, by: Self, plus: Self) -> Self {
        Self(_mm512_fmadd_ps(self.0, by.0, plus.0))
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        Self(_mm512_abs_ps(self.0))
    }
    #[inline(always)]
    unsafe fn with_sign(self, of: Self) -> Self {
        let sign = _mm512_set1_ps(-0.0);
        Self(_mm512_or_ps(
            _mm512_andnot_ps(sign, self.0),
            _mm512_and_ps(sign, of.0),
        ))
    }
    #[inline(always)]
    unsafe fn exp2_of_integer(self) -> Self {
        let n = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127));
        Self(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(n)))
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
