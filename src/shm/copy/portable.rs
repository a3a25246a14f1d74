//! Copies for every processor.
#![allow(unsafe_code)]

use std::ptr;

/// Copies private memory into our own ring.
///
/// # Safety
/// - `src` is valid for reads of `len` bytes, private, and does not overlap the destination.
/// - `dst` is valid for writes of `len` bytes, and nobody else writes there.
#[inline]
pub(in crate::shm) unsafe fn copy_to_shared(src: *const u8, dst: *mut u8, len: usize) {
    // SAFETY: the caller vouched for both ranges.
    unsafe { ptr::copy_nonoverlapping(src, dst, len) };
}

/// Copies out of a ring into private memory.
///
/// # Safety
/// - `src` is aligned to 8 and valid for reads of `len` rounded up to 8; anybody may write it meanwhile.
/// - `dst` is valid for writes of `len` bytes, private, and does not overlap the source.
#[inline]
pub(in crate::shm) unsafe fn copy_from_shared(src: *const u8, dst: *mut u8, len: usize) {
    let words = len & !7;
    for at in (0..words).step_by(8) {
        // SAFETY: `at` is a multiple of 8 and at most `len - 8`; the caller vouched for the ranges and for the
        // alignment of `src`.
        unsafe { dst.add(at).cast::<u64>().write_unaligned(src.add(at).cast::<u64>().read_volatile()) };
    }
    if words < len {
        // SAFETY: the word at `words` is inside the source rounded up to 8.
        let word = unsafe { src.add(words).cast::<u64>().read_volatile() };
        let rest = &word.to_le_bytes()[..len - words];
        // SAFETY: `len - words` bytes are left at the destination.
        unsafe { ptr::copy_nonoverlapping(rest.as_ptr(), dst.add(words), rest.len()) };
    }
}
