//! Sixteen f32 at once: the vocabulary in which every f32 kernel is written once for all instruction sets.
//!
//! All implementations give the same bits: multiply-add is fused everywhere, sums over lanes fold in one order, and there
//! is no approximate instruction.

/// Numbers in one vector, whatever the processor's own width.
pub(crate) const LANES: usize = 16;

/// A vector of sixteen f32.
///
/// # Safety
/// Every function here requires that the processor has the implementation's instruction set, and that pointers are good
/// for the sixteen (or `n`) numbers read or written. Callers run inside a `#[target_feature]` function, into which these
/// are inlined.
pub(crate) trait Lanes: Copy {
    /// Whether there are 32 registers of the full width: room for 24 accumulators.
    const WIDE: bool;
    /// Sixteen sums.
    type Ints: Copy;
    /// Sixteen times four signed bytes.
    type Quads: Copy;
    /// What [`Self::dot_signed`] counts on top of each number of `x`: users take it off again, times the sum of `w`.
    const OFFSET: i32;

    unsafe fn no_ints() -> Self::Ints;
    unsafe fn floats(ints: Self::Ints) -> Self;
    unsafe fn load_quads(from: *const i8) -> Self::Quads;
    /// To each sum, the products of the four bytes at `x`, −127..=127 and turned over where [`Self::OFFSET`] is not 0
    /// ([`crate::rows::UNSIGNED`]), with four of `w`, −127..=127.
    unsafe fn dot_signed(acc: Self::Ints, x: *const i8, w: Self::Quads) -> Self::Ints;
    /// To each sum, the products of the four bytes at `x`, 0..=127, with four of `w`.
    unsafe fn dot_unsigned(acc: Self::Ints, x: *const i8, w: Self::Quads) -> Self::Ints;

    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    /// The first `n` numbers; zeros behind them.
    unsafe fn load_first(from: *const f32, n: usize) -> Self;
    unsafe fn load_ints(from: *const i32) -> Self;
    /// IEEE half precision.
    unsafe fn load_half(from: *const u16) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn store_first(self, to: *mut f32, n: usize);
    unsafe fn store_half(self, to: *mut u16);
    /// To the nearest integer, ties to even; the numbers lie in −128..=127. The bits of `flip` are turned over.
    unsafe fn store_bytes(self, to: *mut i8, flip: i8);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// The other where one is NaN is not specified; callers look for NaN by other means.
    unsafe fn max(self, other: Self) -> Self;
    unsafe fn min(self, other: Self) -> Self;
    /// self × by + plus, rounded once.
    unsafe fn fma(self, by: Self, plus: Self) -> Self;
    unsafe fn abs(self) -> Self;
    /// The sign of `of` on the magnitude of `self`.
    unsafe fn with_sign(self, of: Self) -> Self;
    /// 2^self for integers in −126..=127.
    unsafe fn exp2_of_integer(self) -> Self;
    unsafe fn to_array(self) -> [f32; LANES];
    /// A hint that a line will be read; any address may be given.
    unsafe fn prefetch(at: *const u8);

    /// Halves are added to halves: 8 + 8, 4 + 4, 2 + 2, 1 + 1.
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let mut x = self.to_array();
        let mut width = LANES / 2;
        while width > 0 {
            for i in 0..width {
                x[i] += x[i + width];
            }
            width /= 2;
        }
        x[0]
    }

    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        let mut x = self.to_array();
        let mut width = LANES / 2;
        while width > 0 {
            for i in 0..width {
                x[i] = if x[i] > x[i + width] { x[i] } else { x[i + width] };
            }
            width /= 2;
        }
        x[0]
    }

    /// e^x for −87 ≤ x ≤ 88, and beyond them the value at the nearer end; relative error under 2.5e-7.
    ///
    /// x = n ln 2 + r with |r| ≤ ln 2 / 2; Taylor to the seventh power of r (remainder r^8/8! < 6e-9); n goes into the
    /// exponent.
    #[inline(always)]
    unsafe fn exp(self) -> Self {
        // Adding and subtracting 1.5 × 2^23 rounds to an integer.
        const ROUND: f32 = 12_582_912.0;
        const LN2_HIGH: f32 = 0.693_359_4;
        const LN2_LOW: f32 = -2.121_944_4e-4;
        let x = self.max(Self::splat(-87.0)).min(Self::splat(88.0));
        let round = Self::splat(ROUND);
        let n = x.fma(Self::splat(std::f32::consts::LOG2_E), round).sub(round);
        let r = n.fma(Self::splat(-LN2_HIGH), x);
        let r = n.fma(Self::splat(-LN2_LOW), r);
        let mut p = Self::splat(1.0 / 5040.0);
        for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            p = p.fma(r, Self::splat(c));
        }
        p.mul(n.exp2_of_integer())
    }
}

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

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Pair, Wide};

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! The two vector widths of x86-64.

    use std::arch::x86_64::*;

    use super::{LANES, Lanes};

    /// Two 256-bit registers: AVX2, FMA, F16C.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Pair(__m256, __m256);

    /// One 512-bit register: AVX-512 F, BW, VL, DQ and VNNI.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Wide(__m512);

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
}

/// Writes a safe entry that runs a kernel in the version for an instruction set.
///
/// `name(isa, args)` calls `kernel(PhantomData::<V>, args)`, where `V` is the vector type, inside a function for which the
/// compiler may use that instruction set. The kernel must be `#[inline(always)]`.
macro_rules! versions {
    ($(#[$meta:meta])* $vis:vis unsafe fn $name:ident ( $($arg:ident : $type:ty),* $(,)? ) $(-> $ret:ty)? = $kernel:path) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis unsafe fn $name(isa: $crate::isa::Isa, $($arg: $type),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            mod wide {
                use super::*;
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma,f16c,avx2")]
                #[allow(clippy::too_many_arguments)]
                pub(super) unsafe fn go($($arg: $type),*) $(-> $ret)? {
                    $kernel(std::marker::PhantomData::<$crate::lanes::Wide>, $($arg),*)
                }
            }
            #[cfg(target_arch = "x86_64")]
            mod pair {
                use super::*;
                #[target_feature(enable = "fma,f16c,avx2")]
                #[allow(clippy::too_many_arguments)]
                pub(super) unsafe fn go($($arg: $type),*) $(-> $ret)? {
                    $kernel(std::marker::PhantomData::<$crate::lanes::Pair>, $($arg),*)
                }
            }
            match isa {
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Isa::Amx | $crate::isa::Isa::Vnni => wide::go($($arg),*),
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Isa::Avx2 | $crate::isa::Isa::AvxVnni => pair::go($($arg),*),
                _ => $kernel(std::marker::PhantomData::<$crate::lanes::Plain>, $($arg),*),
            }
        }
    };
}
pub(crate) use versions;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate_over_its_range() {
        for i in -880_000..880_000 {
            let x = i as f32 / 10_000.0;
            // SAFETY: the plain version needs no instruction set.
            let got = f64::from(unsafe { Plain::splat(x).exp().to_array()[3] });
            let want = f64::from(x).exp();
            if x >= -87.0 {
                assert!(
                    (got - want).abs() <= 2.5e-7 * want,
                    "exp({x}) = {got}, not {want}"
                );
            }
        }
    }
}
