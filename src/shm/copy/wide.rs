//! Copies in steps of 16 and 32 bytes, for x86-64.
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::is_x86_feature_detected;
use std::arch::x86_64::{__m128i, _mm_storeu_si128};

/// Copies `len` bytes, one of the two ranges being shared memory.
///
/// # Safety
/// - `src` is valid for reads of `len` bytes; anybody may write it meanwhile.
/// - `dst` is valid for writes of `len` bytes, written by nobody else, and does not overlap the source.
#[inline(always)]
pub(in crate::shm) unsafe fn copy(src: *const u8, dst: *mut u8, len: usize) {
    // SAFETY (all): each step lies inside `0..len`, as its condition says; the caller vouched for the ranges.
    if len > SHORT_BYTES_MAX {
        // SAFETY: see above.
        unsafe { copy_long(src, dst, len) };
    } else if len >= 32 {
        // SAFETY: see above; 32 <= len <= 64, so the first 32 and the last 32 bytes cover all.
        unsafe {
            let (first, second) = (load_16(src), load_16(src.add(16)));
            let (third, fourth) = (load_16(src.add(len - 32)), load_16(src.add(len - 16)));
            store_16(dst, first);
            store_16(dst.add(16), second);
            store_16(dst.add(len - 32), third);
            store_16(dst.add(len - 16), fourth);
        }
    } else if len >= 16 {
        // SAFETY: see above; 16 <= len < 32.
        unsafe {
            let (first, last) = (load_16(src), load_16(src.add(len - 16)));
            store_16(dst, first);
            store_16(dst.add(len - 16), last);
        }
    } else {
        // SAFETY: see above.
        unsafe { copy_tiny(src, dst, len) };
    }
}

/// Copies less than 16 bytes.
///
/// # Safety
/// As [`copy`].
#[inline(always)]
unsafe fn copy_tiny(src: *const u8, dst: *mut u8, len: usize) {
    // SAFETY (all): as in `copy`; unaligned accesses to private memory, opaque ones to either.
    if len >= 8 {
        // SAFETY: see above.
        unsafe {
            let (first, last) = (load_8(src), load_8(src.add(len - 8)));
            dst.cast::<u64>().write_unaligned(first);
            dst.add(len - 8).cast::<u64>().write_unaligned(last);
        }
    } else if len >= 4 {
        // SAFETY: see above.
        unsafe {
            let (first, last) = (load_4(src), load_4(src.add(len - 4)));
            dst.cast::<u32>().write_unaligned(first);
            dst.add(len - 4).cast::<u32>().write_unaligned(last);
        }
    } else {
        for at in 0..len {
            // SAFETY: `at < len`; a volatile load of a byte is neither repeated nor torn.
            unsafe { dst.add(at).write(src.add(at).read_volatile()) };
        }
    }
}

/// Copies more than [`SHORT_BYTES_MAX`] bytes.
///
/// # Safety
/// As [`copy`].
#[inline(never)]
unsafe fn copy_long(src: *const u8, dst: *mut u8, len: usize) {
    if len >= AVX_BYTES_MIN && is_x86_feature_detected!("avx") {
        // SAFETY: the processor has AVX, `len` is large enough, and the caller vouched for the ranges.
        return unsafe { copy_avx(src, dst, len) };
    }
    let mut at = 0;
    while at + 64 < len {
        // SAFETY: `at + 64 < len`.
        unsafe { copy_64(src.add(at), dst.add(at)) };
        at += 64;
    }
    // SAFETY: `len > 64`; the last 64 bytes overlap what was copied before.
    unsafe { copy_64(src.add(len - 64), dst.add(len - 64)) };
}

/// Copies 64 bytes.
///
/// # Safety
/// As [`copy`], with `len` 64.
#[inline(always)]
unsafe fn copy_64(src: *const u8, dst: *mut u8) {
    // SAFETY: the four steps cover 64 bytes, for which the caller vouched.
    unsafe {
        let (first, second) = (load_16(src), load_16(src.add(16)));
        let (third, fourth) = (load_16(src.add(32)), load_16(src.add(48)));
        store_16(dst, first);
        store_16(dst.add(16), second);
        store_16(dst.add(32), third);
        store_16(dst.add(48), fourth);
    }
}

/// Copies in steps of 128 bytes, with stores that do not straddle cache lines.
///
/// # Safety
/// As [`copy`]; besides, the processor has AVX and `len` is at least [`AVX_BYTES_MIN`].
#[inline(always)]
unsafe fn copy_avx(src: *const u8, dst: *mut u8, len: usize) {
    // After the first 32 bytes `at` is moved so that the stores of the loop are aligned; the last 128 bytes overlap.
    let at = 32 - (dst as usize & 31);
    // SAFETY: the first step reads and writes bytes 0..32. The loop runs while `at + 128 < len`, with `at` from 1 to 32
    // at the start and `len >= 256`, so it reads and writes below `len`, and ends at most 128 bytes before it. The last
    // four steps cover `len - 128..len`. The caller vouched for both ranges and for AVX.
    unsafe {
        asm!(
            "vmovdqu ymm0, [{src}]",
            "vmovdqu [{dst}], ymm0",
            "2:",
            "vmovdqu ymm0, [{src} + {at}]",
            "vmovdqu ymm1, [{src} + {at} + 32]",
            "vmovdqu ymm2, [{src} + {at} + 64]",
            "vmovdqu ymm3, [{src} + {at} + 96]",
            "vmovdqa [{dst} + {at}], ymm0",
            "vmovdqa [{dst} + {at} + 32], ymm1",
            "vmovdqa [{dst} + {at} + 64], ymm2",
            "vmovdqa [{dst} + {at} + 96], ymm3",
            "add {at}, 128",
            "cmp {at}, {last}",
            "jb 2b",
            "vmovdqu ymm0, [{src} + {last}]",
            "vmovdqu ymm1, [{src} + {last} + 32]",
            "vmovdqu ymm2, [{src} + {last} + 64]",
            "vmovdqu ymm3, [{src} + {last} + 96]",
            "vmovdqu [{dst} + {last}], ymm0",
            "vmovdqu [{dst} + {last} + 32], ymm1",
            "vmovdqu [{dst} + {last} + 64], ymm2",
            "vmovdqu [{dst} + {last} + 96], ymm3",
            "vzeroupper",
            src = in(reg) src,
            dst = in(reg) dst,
            at = inout(reg) at => _,
            last = in(reg) len - 128,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
            options(nostack),
        );
    }
}

/// Loads 16 bytes that anybody may write meanwhile.
///
/// # Safety
/// - `from` is valid for reads of 16 bytes.
#[inline(always)]
unsafe fn load_16(from: *const u8) -> __m128i {
    let value;
    // SAFETY: the caller vouched for the bytes; nothing else is touched.
    unsafe {
        asm!("movdqu {value}, [{from}]", value = out(xmm_reg) value, from = in(reg) from,
            options(readonly, nostack, preserves_flags));
    }
    value
}

/// Loads 8 bytes that anybody may write meanwhile.
///
/// # Safety
/// - `from` is valid for reads of 8 bytes.
#[inline(always)]
unsafe fn load_8(from: *const u8) -> u64 {
    let value;
    // SAFETY: the caller vouched for the bytes; nothing else is touched.
    unsafe {
        asm!("mov {value}, [{from}]", value = out(reg) value, from = in(reg) from,
            options(readonly, nostack, preserves_flags));
    }
    value
}

/// Loads 4 bytes that anybody may write meanwhile.
///
/// # Safety
/// - `from` is valid for reads of 4 bytes.
#[inline(always)]
unsafe fn load_4(from: *const u8) -> u32 {
    let value;
    // SAFETY: the caller vouched for the bytes; nothing else is touched.
    unsafe {
        asm!("mov {value:e}, [{from}]", value = out(reg) value, from = in(reg) from,
            options(readonly, nostack, preserves_flags));
    }
    value
}

/// Stores 16 bytes where nobody else writes.
///
/// # Safety
/// - `to` is valid for writes of 16 bytes.
#[inline(always)]
unsafe fn store_16(to: *mut u8, value: __m128i) {
    // SAFETY: the caller vouched for the bytes; the store need not be aligned.
    unsafe { _mm_storeu_si128(to.cast(), value) };
}

/// Copies up to this length are straight-line code at the place of the call.
const SHORT_BYTES_MAX: usize = 64;
/// From this length on the wide loop pays for its set-up.
const AVX_BYTES_MIN: usize = 256;
