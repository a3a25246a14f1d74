//! Copying between shared and private memory.
//!
//! Whoever reads a peer's memory may read bytes that change meanwhile, so the compiler must neither repeat nor invent a
//! load there. On x86-64 the loads are assembly, opaque to it, as wide as the processor has them, and a length that is no
//! multiple of the width is done by a last step that overlaps the one before. Elsewhere, and where a sanitizer should see
//! every access (`--cfg portable_copy`), they are volatile loads of aligned words.
//!
//! The C library's `memcpy` is not used: above 2 KiB it falls off a cliff (20-fold) when the destination lies 1-15 bytes
//! above the source within a page, which an 8-byte record header provokes.
#![allow(unsafe_code)]

#[cfg(any(test, portable_copy, not(target_arch = "x86_64")))]
mod portable;
#[cfg(all(target_arch = "x86_64", not(portable_copy)))]
mod wide;

#[cfg(any(portable_copy, not(target_arch = "x86_64")))]
pub(super) use portable::{copy_from_shared, copy_to_shared};
#[cfg(all(target_arch = "x86_64", not(portable_copy)))]
pub(super) use wide::{copy as copy_from_shared, copy as copy_to_shared};

#[cfg(test)]
mod tests {
    use super::*;

    type Copy = unsafe fn(*const u8, *mut u8, usize);

    fn every_length_and_place_is_copied_exactly(into: Copy, out: Copy) {
        let mut ring = vec![0u64; 128];
        let base = ring.as_mut_ptr().cast::<u8>();
        for place in [0usize, 8, 16, 24] {
            for len in 0..900usize {
                for skew in 0..3usize {
                    let source: Vec<u8> = (0..len + skew).map(|i| (i * 7 + len) as u8).collect();
                    let mut back = vec![0xee_u8; len + skew + 1];
                    // SAFETY: the ring has 1024 bytes, `place + 904 <= 1024`, and the vectors have the lengths used.
                    unsafe {
                        into(source.as_ptr().add(skew), base.add(place), len);
                        out(base.add(place), back.as_mut_ptr().add(skew), len);
                    }
                    assert_eq!(back[skew..skew + len], source[skew..], "len {len} place {place}");
                    assert_eq!(back[skew + len], 0xee, "wrote past the end, len {len} place {place}");
                    assert_eq!(back[..skew], [0xee; 3][..skew], "wrote before the start, len {len}");
                }
            }
        }
    }

    #[test]
    fn the_copies_in_use_are_exact() {
        every_length_and_place_is_copied_exactly(copy_to_shared, copy_from_shared);
    }

    #[test]
    fn portable_copies_are_exact() {
        every_length_and_place_is_copied_exactly(portable::copy_to_shared, portable::copy_from_shared);
    }

    #[test]
    fn a_copy_in_leaves_the_record_behind_it_alone() {
        for len in 0..300usize {
            let mut ring = vec![u64::MAX; 64];
            let source = vec![1_u8; len];
            // SAFETY: the ring has 512 bytes, the source `len`.
            unsafe { copy_to_shared(source.as_ptr(), ring.as_mut_ptr().cast::<u8>().add(8), len) };
            assert_eq!(ring[0], u64::MAX, "wrote before, len {len}");
            assert_eq!(ring[1 + len.div_ceil(8)], u64::MAX, "wrote behind, len {len}");
        }
    }
}
