//! Sixteen f32 at once: the vocabulary in which every f32 kernel is written once for all instruction sets.
//!
//! All implementations give the same bits: multiply-add is fused everywhere, sums over lanes fold in one order, and there
//! is no approximate instruction.

#[cfg(target_arch = "x86_64")]
mod pair;
mod plain;
#[cfg(target_arch = "x86_64")]
mod wide;

#[cfg(target_arch = "x86_64")]
pub(crate) use pair::Pair;
pub(crate) use plain::Plain;
#[cfg(target_arch = "x86_64")]
pub(crate) use wide::Wide;

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
