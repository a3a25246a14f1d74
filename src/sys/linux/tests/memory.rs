use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use super::super::memory::*;
use super::Scratch;

const SEGMENT_BYTES: u64 = 16384;

/// A sealed file with its creator's mapping.
fn sealed() -> (OwnedFd, Mapping) {
    let file = create_segment_file(SEGMENT_BYTES).unwrap();
    let mapping = Mapping::shared(file.as_fd(), SEGMENT_BYTES as usize, Access::ReadWrite).unwrap();
    seal(file.as_fd()).unwrap();
    (file, mapping)
}

fn last_errno() -> Option<i32> {
    std::io::Error::last_os_error().raw_os_error()
}

#[test]
fn a_sealed_segment_refuses_everybody_but_its_creator() {
    let (file, mapping) = sealed();
    let fd = file.as_raw_fd();
    for bytes in [0, SEGMENT_BYTES / 2, SEGMENT_BYTES * 2] {
        let refused = rustix::fs::ftruncate(&file, bytes);
        assert_eq!(refused, Err(rustix::io::Errno::PERM), "truncate to {bytes}");
    }
    assert_eq!(rustix::io::pwrite(&file, b"x", 0), Err(rustix::io::Errno::PERM));
    let punch = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    assert_eq!(rustix::fs::fallocate(&file, punch, 0, 4096), Err(rustix::io::Errno::PERM));
    let writable = Mapping::shared(file.as_fd(), 4096, Access::ReadWrite);
    assert_eq!(writable.unwrap_err().raw_os_error(), Some(libc::EPERM));
    // SAFETY: a null hint without MAP_FIXED replaces nothing; the result is only changed in
    // protection and unmapped again.
    unsafe {
        let view = libc::mmap(ptr::null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, fd, 0);
        assert_ne!(view, libc::MAP_FAILED);
        assert_eq!(libc::mprotect(view, 4096, libc::PROT_READ | libc::PROT_WRITE), -1);
        assert!(matches!(last_errno(), Some(libc::EACCES | libc::EPERM)));
        assert_eq!(libc::munmap(view, 4096), 0);
    }

    let reader = Mapping::shared(file.as_fd(), 4096, Access::ReadOnly).unwrap();
    // SAFETY: both mappings are alive and at least a page long; one thread uses them.
    unsafe {
        mapping.base().as_ptr().write_volatile(42);
        assert_eq!(reader.base().as_ptr().read_volatile(), 42);
    }
}

#[test]
fn a_sealed_segment_of_the_announced_size_is_accepted() {
    let (file, _mapping) = sealed();
    verify_segment_file(file.as_fd(), SEGMENT_BYTES).unwrap();
}

#[test]
fn a_wrong_size_is_named() {
    let (file, _mapping) = sealed();
    let fault = verify_segment_file(file.as_fd(), 4096).unwrap_err();
    assert!(matches!(fault, SegmentFileFault::Bytes { announced: 4096, actual: SEGMENT_BYTES }));
    assert!(fault.to_string().contains("4096 were announced"));
}

#[test]
fn an_unsealed_segment_is_refused_for_each_missing_seal() {
    let seals = [libc::F_SEAL_SHRINK, libc::F_SEAL_GROW, libc::F_SEAL_FUTURE_WRITE];
    for missing in seals {
        let file = create_segment_file(SEGMENT_BYTES).unwrap();
        let given: i32 = seals.iter().filter(|&&other| other != missing).sum();
        // SAFETY: F_ADD_SEALS takes a number and touches no memory of ours.
        let added = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, given | libc::F_SEAL_SEAL) };
        assert_eq!(added, 0);
        let fault = verify_segment_file(file.as_fd(), SEGMENT_BYTES).unwrap_err();
        let expected = missing as u32;
        assert!(matches!(fault, SegmentFileFault::NotSealed { missing } if missing == expected), "{fault:?}");
    }
    let file = create_segment_file(SEGMENT_BYTES).unwrap();
    let fault = verify_segment_file(file.as_fd(), SEGMENT_BYTES).unwrap_err();
    assert!(matches!(fault, SegmentFileFault::NotSealed { .. }));
}

#[test]
fn other_file_types_are_refused() {
    let scratch = Scratch::new("types");
    let path = scratch.0.join("file");
    std::fs::write(&path, [0; SEGMENT_BYTES as usize]).unwrap();
    let regular = File::open(&path).unwrap();
    let zero = File::open("/dev/zero").unwrap();
    let (pipe, _writer) = rustix::pipe::pipe().unwrap();
    let (socket, _other) = super::super::socket::stream_pair().unwrap();
    let opaque = rustix::fs::open(
        &path,
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    let refused: [(&str, BorrowedFd<'_>); 4] = [
        ("/dev/zero", zero.as_fd()),
        ("pipe", pipe.as_fd()),
        ("socket", socket.as_fd()),
        ("O_PATH", opaque.as_fd()),
    ];
    for (name, file) in refused {
        let fault = verify_segment_file(file, SEGMENT_BYTES).unwrap_err();
        assert!(matches!(fault, SegmentFileFault::NotMemory), "{name}: {fault:?}");
    }
    // A file on tmpfs answers the question for seals, but has none.
    let fault = verify_segment_file(regular.as_fd(), SEGMENT_BYTES).unwrap_err();
    assert!(matches!(fault, SegmentFileFault::NotMemory | SegmentFileFault::NotSealed { .. }), "{fault:?}");
}

#[test]
fn a_sealed_segment_can_still_be_allocated() {
    let (file, mapping) = sealed();
    let blocks = || rustix::fs::fstat(&file).unwrap().st_blocks;
    assert_eq!(blocks(), 0);
    allocate(file.as_fd(), 0, 4096).unwrap();
    assert_eq!(blocks(), 8);
    mapping.prefault().unwrap();
    assert_eq!(blocks() as u64, SEGMENT_BYTES / 512);
    let refused = allocate(file.as_fd(), SEGMENT_BYTES, 4096).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EPERM), "the GROW seal holds");
}

#[test]
fn guard_pages_surround_the_mapping() {
    let mapping = Mapping::anonymous(5000).unwrap();
    let page_bytes = rustix::param::page_size();
    let start = mapping.base().as_ptr() as usize;
    let end = start + 5000_usize.next_multiple_of(page_bytes);
    assert_eq!(mapping.bytes(), 5000);
    assert_eq!(protection_at(start).as_deref(), Some("rw-p"));
    assert_eq!(protection_at(end - 1).as_deref(), Some("rw-p"));
    assert_eq!(protection_at(start - 1).as_deref(), Some("---p"));
    assert_eq!(protection_at(end).as_deref(), Some("---p"));
}

/// The protection of the range in `/proc/self/maps` that holds `address`.
fn protection_at(address: usize) -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (first, end) = range.split_once('-')?;
        let first = usize::from_str_radix(first, 16).ok()?;
        let end = usize::from_str_radix(end, 16).ok()?;
        (first..end).contains(&address).then(|| rest[..4].to_owned())
    })
}

#[test]
fn impossible_sizes_are_refused() {
    let cases = [(0, libc::EINVAL), (usize::MAX, libc::EINVAL), (usize::MAX / 2, libc::ENOMEM)];
    for (bytes, errno) in cases {
        assert_eq!(Mapping::anonymous(bytes).unwrap_err().raw_os_error(), Some(errno), "{bytes}");
    }
}

#[test]
fn a_segment_of_huge_pages_is_refused() {
    use rustix::fs::MemfdFlags;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB;
    let Ok(file) = rustix::fs::memfd_create("huge", flags) else {
        eprintln!("skipped: this kernel has no huge pages");
        return;
    };
    rustix::fs::ftruncate(&file, 2 << 20).unwrap();
    seal(file.as_fd()).unwrap();
    let fault = verify_segment_file(file.as_fd(), 2 << 20).unwrap_err();
    assert!(matches!(fault, SegmentFileFault::NotMemory), "{fault:?}");
}
