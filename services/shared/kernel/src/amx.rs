//! The tile unit: permission, and products of tiles of bytes.
//!
//! Stable Rust has no intrinsics for it, so this is assembly. Every tile has 16 rows of 64 bytes, so one configuration
//! serves all; rows past the end of the matrix are computed and not read back.

use std::arch::asm;
use std::sync::OnceLock;

use crate::rows::TILE;

/// Whether the processor has int8 tiles and the operating system lets this process use them. Asked once.
pub(crate) fn is_granted() -> bool {
    static GRANTED: OnceLock<bool> = OnceLock::new();
    *GRANTED.get_or_init(|| has_tiles() && request())
}

fn has_tiles() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    // Leaf 7, EDX: bit 24 AMX-TILE, bit 25 AMX-INT8 (Intel SDM, volume 2, CPUID).
    let leaves = __cpuid(0).eax;
    leaves >= 7 && __cpuid_count(7, 0).edx & (0b11 << 24) == 0b11 << 24
}

/// Tile data is large, so Linux saves it only for processes that have asked (Documentation/arch/x86/xstate.rst).
#[cfg(target_os = "linux")]
fn request() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call takes two numbers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn request() -> bool {
    false
}

/// Palette 1, and for each of eight tiles 64 bytes a row and 16 rows.
#[repr(C, align(64))]
struct Configuration([u8; 64]);

static CONFIGURATION: Configuration = {
    let mut bytes = [0; 64];
    bytes[0] = 1;
    let mut tile = 0;
    while tile < 8 {
        bytes[16 + 2 * tile] = 64;
        bytes[48 + tile] = 16;
        tile += 1;
    }
    Configuration(bytes)
};

/// Tiles of this thread are configured while it lives.
pub(crate) struct Configured(());

impl Configured {
    /// # Safety
    /// [`is_granted`] has said yes, and no other is alive on this thread.
    pub(crate) unsafe fn new() -> Self {
        asm!("ldtilecfg [{}]", in(reg) &raw const CONFIGURATION, options(nostack, readonly, preserves_flags));
        Self(())
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        // SAFETY: made only where tiles are granted. Released tiles need not be saved when threads are switched.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
    }
}

/// 16 rows × 2 panels: `acc[panel][row][column]`.
///
/// # Safety
/// Tiles are configured; `a` is good for `steps` tiles, `b0` and `b1` too; `acc` for 2 × 256 numbers.
#[inline]
pub(crate) unsafe fn one_by_two(a: *const i8, b0: *const i8, b1: *const i8, steps: usize, acc: *mut i32) {
    asm!(
        "tilezero tmm0",
        "tilezero tmm1",
        "2:",
        "tileloadd tmm4, [{a} + {line}*1]",
        "tileloadd tmm6, [{b0} + {line}*1]",
        "tdpbssd tmm0, tmm4, tmm6",
        "tileloadd tmm7, [{b1} + {line}*1]",
        "tdpbssd tmm1, tmm4, tmm7",
        "add {a}, {tile}",
        "add {b0}, {tile}",
        "add {b1}, {tile}",
        "dec {steps}",
        "jnz 2b",
        "tilestored [{acc} + {line}*1], tmm0",
        "tilestored [{acc} + {line}*1 + 1024], tmm1",
        a = inout(reg) a => _, b0 = inout(reg) b0 => _, b1 = inout(reg) b1 => _, steps = inout(reg) steps => _,
        acc = in(reg) acc, line = in(reg) 64_usize, tile = const TILE,
        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
        options(nostack),
    );
}

/// 32 rows × 2 panels: `acc[block][panel][row][column]`. Asks for the next two panels meanwhile: with few rows it is as
/// fast as weights arrive.
///
/// # Safety
/// As [`one_by_two`], with `a1` the second block of rows and room for 4 × 256 numbers.
#[inline]
pub(crate) unsafe fn two_by_two(
    a0: *const i8,
    a1: *const i8,
    b0: *const i8,
    b1: *const i8,
    steps: usize,
    acc: *mut i32,
) {
    asm!(
        "tilezero tmm0",
        "tilezero tmm1",
        "tilezero tmm2",
        "tilezero tmm3",
        "2:",
        "tileloadd tmm4, [{a0} + {line}*1]",
        "tileloadd tmm6, [{b0} + {line}*1]",
        "prefetcht1 [{b0} + {ahead} + 0]",
        "prefetcht1 [{b0} + {ahead} + 64]",
        "prefetcht1 [{b0} + {ahead} + 128]",
        "prefetcht1 [{b0} + {ahead} + 192]",
        "prefetcht1 [{b0} + {ahead} + 256]",
        "prefetcht1 [{b0} + {ahead} + 320]",
        "prefetcht1 [{b0} + {ahead} + 384]",
        "prefetcht1 [{b0} + {ahead} + 448]",
        "prefetcht1 [{b0} + {ahead} + 512]",
        "prefetcht1 [{b0} + {ahead} + 576]",
        "prefetcht1 [{b0} + {ahead} + 640]",
        "prefetcht1 [{b0} + {ahead} + 704]",
        "prefetcht1 [{b0} + {ahead} + 768]",
        "prefetcht1 [{b0} + {ahead} + 832]",
        "prefetcht1 [{b0} + {ahead} + 896]",
        "prefetcht1 [{b0} + {ahead} + 960]",
        "tdpbssd tmm0, tmm4, tmm6",
        "tileloadd tmm7, [{b1} + {line}*1]",
        "prefetcht1 [{b1} + {ahead} + 0]",
        "prefetcht1 [{b1} + {ahead} + 64]",
        "prefetcht1 [{b1} + {ahead} + 128]",
        "prefetcht1 [{b1} + {ahead} + 192]",
        "prefetcht1 [{b1} + {ahead} + 256]",
        "prefetcht1 [{b1} + {ahead} + 320]",
        "prefetcht1 [{b1} + {ahead} + 384]",
        "prefetcht1 [{b1} + {ahead} + 448]",
        "prefetcht1 [{b1} + {ahead} + 512]",
        "prefetcht1 [{b1} + {ahead} + 576]",
        "prefetcht1 [{b1} + {ahead} + 640]",
        "prefetcht1 [{b1} + {ahead} + 704]",
        "prefetcht1 [{b1} + {ahead} + 768]",
        "prefetcht1 [{b1} + {ahead} + 832]",
        "prefetcht1 [{b1} + {ahead} + 896]",
        "prefetcht1 [{b1} + {ahead} + 960]",
        "tdpbssd tmm1, tmm4, tmm7",
        "tileloadd tmm5, [{a1} + {line}*1]",
        "tdpbssd tmm2, tmm5, tmm6",
        "tdpbssd tmm3, tmm5, tmm7",
        "add {a0}, {tile}",
        "add {a1}, {tile}",
        "add {b0}, {tile}",
        "add {b1}, {tile}",
        "dec {steps}",
        "jnz 2b",
        "tilestored [{acc} + {line}*1], tmm0",
        "tilestored [{acc} + {line}*1 + 1024], tmm1",
        "tilestored [{acc} + {line}*1 + 2048], tmm2",
        "tilestored [{acc} + {line}*1 + 3072], tmm3",
        a0 = inout(reg) a0 => _, a1 = inout(reg) a1 => _, b0 = inout(reg) b0 => _, b1 = inout(reg) b1 => _,
        steps = inout(reg) steps => _, acc = in(reg) acc, line = in(reg) 64_usize, tile = const TILE, ahead = in(reg) 2 * steps * TILE,
        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
        options(nostack),
    );
}
