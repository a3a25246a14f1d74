//! Segments: sealed memory files, and mappings of them between guard pages.
//!
//! A memory file is sealed against every writer but the mapping its creator already holds
//! (`F_SEAL_FUTURE_WRITE`), so a peer can neither change the bytes nor shrink the file under a
//! reader (which would raise SIGBUS).
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::fs::{FallocateFlags, FileType, MemfdFlags, SealFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::fork::ForkToken;

/// What a mapping may be used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// A peer's segment.
    ReadOnly,
    /// Our own segment.
    ReadWrite,
}

/// Creates a memory file of `bytes` bytes, all zero, not yet allocated and not yet sealed.
///
/// # Errors
/// The OS error of `memfd_create` (EMFILE, ENOMEM) or of the size change (EFBIG, EINVAL).
pub(crate) fn create_segment_file(bytes: u64) -> io::Result<OwnedFd> {
    let wanted = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 know no NOEXEC_SEAL and answer EINVAL; from 6.3 on an administrator may
    // refuse memory files without it.
    let file = match rustix::fs::memfd_create(SEGMENT_NAME, wanted | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => rustix::fs::memfd_create(SEGMENT_NAME, wanted)?,
        other => other?,
    };
    retry_on_intr(|| rustix::fs::ftruncate(&file, bytes))?;
    Ok(file)
}

/// Seals size and content for everybody; the creator's existing mapping stays writable.
///
/// Call it after [`Mapping::shared`] with [`Access::ReadWrite`]: afterwards nobody can make one.
pub(crate) fn seal(file: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::fs::fcntl_add_seals(file, SEALS)?)
}

/// Why a received descriptor is not an acceptable segment.
#[derive(Debug)]
pub(crate) enum SegmentFileFault {
    /// Its owner can still change it; `missing` holds the absent `F_SEAL_*` bits.
    NotSealed { missing: u32 },
    /// Its real size differs from the announced one.
    Bytes { announced: u64, actual: u64 },
    /// It is no memory file of ordinary pages: another file type, or huge pages.
    NotMemory,
    /// The kernel would not tell.
    Os(io::Error),
}

impl fmt::Display for SegmentFileFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSealed { missing } => write!(
                out,
                "segment lacks the seals {missing:#x}, so its owner could shrink or replace it; \
                 refuse the connection"
            ),
            Self::Bytes { announced, actual } => write!(
                out,
                "segment has {actual} bytes but {announced} were announced; refuse the connection"
            ),
            Self::NotMemory => {
                write!(out, "descriptor is no memory file of ordinary pages; refuse the connection")
            }
            Self::Os(error) => write!(out, "segment cannot be examined: {error}"),
        }
    }
}

impl std::error::Error for SegmentFileFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Os(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Errno> for SegmentFileFault {
    fn from(errno: Errno) -> Self {
        Self::Os(errno.into())
    }
}

/// Checks a received descriptor before it is mapped: memory file, all four seals, exact size.
pub(crate) fn verify_segment_file(file: BorrowedFd<'_>, bytes: u64) -> Result<(), SegmentFileFault> {
    // Seals before size: only once SHRINK and GROW are in place does the size stay what it is.
    let seals = match rustix::fs::fcntl_get_seals(file) {
        // EINVAL: a file type without seals. EBADF: an O_PATH descriptor.
        Err(Errno::INVAL | Errno::BADF) => return Err(SegmentFileFault::NotMemory),
        other => other?,
    };
    // Huge-page files can be sealed too, but guard pages and rounding assume ordinary pages.
    // The two have types that differ between platforms.
    let kind = i128::from(retry_on_intr(|| rustix::fs::fstatfs(file))?.f_type);
    if kind != i128::from(libc::TMPFS_MAGIC) {
        return Err(SegmentFileFault::NotMemory);
    }
    let missing = SEALS.difference(seals);
    if !missing.is_empty() {
        return Err(SegmentFileFault::NotSealed { missing: missing.bits() });
    }
    let stat = rustix::fs::fstat(file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(SegmentFileFault::NotMemory);
    }
    let actual = u64::try_from(stat.st_size).unwrap_or(0);
    if actual != bytes {
        return Err(SegmentFileFault::Bytes { announced: bytes, actual });
    }
    Ok(())
}

/// Allocates the pages behind `offset .. offset + bytes`, so that writing them cannot fail later.
///
/// # Errors
/// ENOSPC or ENOMEM when memory is short: an error here instead of a SIGBUS at the first write.
pub(crate) fn allocate(file: BorrowedFd<'_>, offset: u64, bytes: u64) -> io::Result<()> {
    Ok(retry_on_intr(|| rustix::fs::fallocate(file, FallocateFlags::empty(), offset, bytes))?)
}

/// Tells whether `memfd_create` knows `MFD_NOEXEC_SEAL` (Linux 6.3).
pub(crate) fn has_noexec_seal() -> bool {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::NOEXEC_SEAL;
    rustix::fs::memfd_create(SEGMENT_NAME, flags).is_ok()
}

/// Tells whether `MADV_POPULATE_WRITE` works (Linux 5.14).
pub(crate) fn has_populate_write() -> bool {
    Mapping::anonymous(1).is_ok_and(|page| page.advise(Advice::LinuxPopulateWrite).is_ok())
}

/// A range of memory with an inaccessible guard page on each side; unmapped on drop.
///
/// A forked child does not inherit the range; there, dropping the copy does nothing.
#[derive(Debug)]
pub(crate) struct Mapping {
    /// First usable byte, just after the front guard page.
    base: NonNull<u8>,
    /// Usable bytes as asked for.
    bytes: usize,
    /// Usable bytes rounded up to pages, without the guards.
    mapped_bytes: usize,
    access: Access,
    token: ForkToken,
}

// SAFETY: the mapping belongs to the process, not to a thread: any thread may use and unmap it.
unsafe impl Send for Mapping {}

// SAFETY: `&Mapping` hands out only the address and the size; `prefault`, the one method that
// touches the bytes, does so with atomics and changes none. Dereferencing `base` is an unsafe act
// of the caller, who answers for races there.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `bytes` bytes of `file`, shared with everybody else who maps it.
    ///
    /// # Errors
    /// EINVAL when `bytes` is 0 or too large; EPERM for ReadWrite on a sealed file; ENOMEM.
    pub(crate) fn shared(file: BorrowedFd<'_>, bytes: usize, access: Access) -> io::Result<Mapping> {
        let protection = match access {
            Access::ReadOnly => ProtFlags::READ,
            Access::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
        };
        Mapping::place(bytes, access, |base, mapped_bytes| {
            let flags = MapFlags::SHARED | MapFlags::FIXED;
            // SAFETY: `place` gives a range inside its own fresh reservation, which nobody else
            // knows yet, so MAP_FIXED replaces nothing but that reservation.
            unsafe { rustix::mm::mmap(base, mapped_bytes, protection, flags, file, 0) }.map(drop)
        })
    }

    /// Maps `bytes` bytes of private zeroed memory, with the same guards.
    ///
    /// # Errors
    /// EINVAL when `bytes` is 0 or too large; ENOMEM.
    pub(crate) fn anonymous(bytes: usize) -> io::Result<Mapping> {
        Mapping::place(bytes, Access::ReadWrite, |base, mapped_bytes| {
            let protection = ProtFlags::READ | ProtFlags::WRITE;
            let flags = MapFlags::PRIVATE | MapFlags::FIXED;
            // SAFETY: as in `shared`: the range lies inside a fresh reservation of `place`.
            unsafe { rustix::mm::mmap_anonymous(base, mapped_bytes, protection, flags) }.map(drop)
        })
    }

    /// First usable byte; page-aligned.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Usable bytes, as asked for. Up to the next page boundary more may be accessible.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Brings every page in, so that the first lap takes no page faults.
    ///
    /// On a read-only mapping it only reads, which allocates holes of the file. On kernels before
    /// 5.14 it touches page by page; [`allocate`] the file first, else memory pressure is SIGBUS.
    pub(crate) fn prefault(&self) -> io::Result<()> {
        if !self.token.is_current() {
            return Err(Errno::NOMEM.into());
        }
        let advice = match self.access {
            Access::ReadOnly => Advice::LinuxPopulateRead,
            Access::ReadWrite => Advice::LinuxPopulateWrite,
        };
        match self.advise(advice) {
            Err(Errno::INVAL) => {
                self.touch_pages();
                Ok(())
            }
            other => Ok(other?),
        }
    }

    /// Reserves guards and room, lets `fill` map the inside, and takes everything out of forks.
    fn place(
        bytes: usize,
        access: Access,
        fill: impl FnOnce(*mut c_void, usize) -> rustix::io::Result<()>,
    ) -> io::Result<Mapping> {
        let page_bytes = rustix::param::page_size();
        let mapped_bytes = bytes.checked_next_multiple_of(page_bytes).filter(|&rounded| rounded > 0);
        let reserved_bytes = mapped_bytes.and_then(|rounded| rounded.checked_add(2 * page_bytes));
        let (Some(mapped_bytes), Some(reserved_bytes)) = (mapped_bytes, reserved_bytes) else {
            return Err(Errno::INVAL.into());
        };
        let token = ForkToken::current()?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a null hint without MAP_FIXED: the kernel picks addresses that are free.
        let reserved = unsafe {
            rustix::mm::mmap_anonymous(ptr::null_mut(), reserved_bytes, ProtFlags::empty(), flags)?
        };
        let inside = reserved.wrapping_byte_add(page_bytes);
        let base = NonNull::new(inside.cast()).expect("invariant: a mapping is never at address 0");
        // From here on dropping `mapping` gives the reservation back, also on the error paths.
        let mapping = Mapping { base, bytes, mapped_bytes, access, token };
        fill(inside, mapped_bytes)?;
        // SAFETY: the range is exactly the reservation made above; DONTFORK changes no byte.
        unsafe { rustix::mm::madvise(reserved, reserved_bytes, Advice::LinuxDontFork)? };
        Ok(mapping)
    }

    fn advise(&self, advice: Advice) -> rustix::io::Result<()> {
        debug_assert!(matches!(advice, Advice::LinuxPopulateRead | Advice::LinuxPopulateWrite));
        // SAFETY: the range is our mapping, which lives as long as `self` (both callers run in
        // the process that mapped it), and the populate advices change no byte.
        retry_on_intr(|| unsafe { rustix::mm::madvise(self.base.as_ptr().cast(), self.mapped_bytes, advice) })
    }

    fn touch_pages(&self) {
        for index in (0..self.mapped_bytes).step_by(rustix::param::page_size()) {
            let address = self.base.as_ptr().wrapping_add(index);
            if self.access == Access::ReadOnly {
                // SAFETY: `index < mapped_bytes`, so the byte lies in our readable mapping; a
                // volatile read of a byte has no alignment or validity demands.
                unsafe { ptr::read_volatile(address) };
                continue;
            }
            // SAFETY: `index < mapped_bytes` and the mapping is writable; bytes are always
            // aligned, and the reference ends with this statement.
            let byte = unsafe { AtomicU8::from_ptr(address) };
            // Relaxed: nothing is published. Zero for zero changes no byte even if the owner
            // writes meanwhile; a page that holds another value was written, so it is there.
            let _ = byte.compare_exchange(0, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // In a forked child these addresses are free, or belong to somebody else by now.
        if !self.token.is_current() {
            return;
        }
        let page_bytes = rustix::param::page_size();
        let reserved = self.base.as_ptr().wrapping_sub(page_bytes);
        // SAFETY: the range is the reservation of `place`, guards included, in the process that
        // made it (checked above); `self` is going away, and users of `base` promised not to
        // outlive it.
        let unmapped = unsafe { rustix::mm::munmap(reserved.cast(), self.mapped_bytes + 2 * page_bytes) };
        debug_assert!(unmapped.is_ok(), "our own mapping cannot be unmapped: {unmapped:?}");
    }
}

/// Shows in `/proc/PID/maps` as `/memfd:ringway`.
const SEGMENT_NAME: &str = "ringway";

/// Seals that make a segment safe to map: fixed size, no new writer, and no way back.
const SEALS: SealFlags =
    SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::FUTURE_WRITE).union(SealFlags::SEAL);

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn touching_pages_allocates_them_and_changes_no_byte() {
        let page_bytes = rustix::param::page_size();
        let file = create_segment_file(4 * page_bytes as u64).unwrap();
        let own = Mapping::shared(file.as_fd(), 4 * page_bytes, Access::ReadWrite).unwrap();
        // SAFETY: the first byte of our own writable mapping; one thread uses it.
        unsafe { own.base().as_ptr().write_volatile(9) };
        own.touch_pages();
        assert_eq!(rustix::fs::fstat(&file).unwrap().st_blocks as usize, 4 * page_bytes / 512);
        let view = Mapping::shared(file.as_fd(), 4 * page_bytes, Access::ReadOnly).unwrap();
        view.touch_pages();
        view.prefault().unwrap();
        // SAFETY: the first byte of a readable mapping; nobody writes it meanwhile.
        assert_eq!(unsafe { view.base().as_ptr().read_volatile() }, 9);
    }
}
