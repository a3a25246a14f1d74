//! Threats 1, 17 and 22: what a peer can do with the descriptors that it is given, and what it finds in them.

use super::server;
use super::support::{
    self, CONSUMED, DATA, DATA_SLEEP, Memory, PATIENCE, RING, RING_BYTES, Raw, await_status,
};
use crate::common::{self, Peer, hang_guard, scratch_dir};
use ringway::Config;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Everything that could change a file or shrink it, tried on a descriptor.
fn try_everything(memory: &Memory) -> Vec<(&'static str, bool)> {
    let (file, bytes) = (memory.file.as_raw_fd(), memory.len());
    let page = memory.base().cast::<libc::c_void>();
    let byte = [0xff_u8; 8];
    let vector = libc::iovec { iov_base: byte.as_ptr().cast_mut().cast(), iov_len: 8 };
    let writable = libc::PROT_READ | libc::PROT_WRITE;
    let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    let map = |file: i32, flags: i32| {
        // SAFETY: a fresh mapping at an address of the kernel's choice; it is left alone.
        unsafe { libc::mmap(std::ptr::null_mut(), 4096, writable, flags, file, 0) != libc::MAP_FAILED }
    };
    let name = std::ffi::CString::new(format!("/proc/self/fd/{file}")).unwrap();
    // SAFETY: a string with its end; -1 is looked at before use.
    let again = unsafe { libc::open(name.as_ptr(), libc::O_RDWR) };
    // SAFETY: as above; a new descriptor is owned once.
    let again = (again >= 0).then(|| unsafe { OwnedFd::from_raw_fd(again) });
    let reopened = again.as_ref().map_or(-1, AsRawFd::as_raw_fd);
    // SAFETY: every pointer outlives its call, and every address is that of our own mapping.
    unsafe {
        vec![
            ("truncate to nothing", libc::ftruncate(file, 0) == 0),
            ("truncate to a page", libc::ftruncate(file, 4096) == 0),
            ("grow", libc::ftruncate(file, bytes as i64 + 4096) == 0),
            ("allocate behind the end", libc::fallocate(file, 0, bytes as i64, 4096) == 0),
            ("punch a hole", libc::fallocate(file, punch, 4096, 4096) == 0),
            ("zero a range", libc::fallocate(file, libc::FALLOC_FL_ZERO_RANGE, 4096, 4096) == 0),
            ("collapse a range", libc::fallocate(file, libc::FALLOC_FL_COLLAPSE_RANGE, 0, 4096) == 0),
            ("write", libc::pwrite(file, byte.as_ptr().cast(), 8, 4096) >= 0),
            ("write in vectors", libc::pwritev(file, &vector, 1, 4096) >= 0),
            ("splice", libc::sendfile(file, file, &mut 0, 8) > 0),
            ("map writable", map(file, libc::MAP_SHARED)),
            ("map writable, validated", map(file, libc::MAP_SHARED_VALIDATE)),
            ("add a seal", libc::fcntl(file, libc::F_ADD_SEALS, libc::F_SEAL_WRITE) == 0),
            ("reopen and truncate", libc::ftruncate(reopened, 0) == 0),
            ("reopen and write", libc::pwrite(reopened, byte.as_ptr().cast(), 8, 4096) >= 0),
            ("reopen and map writable", map(reopened, libc::MAP_SHARED)),
            ("remove pages", libc::madvise(page, 4096, libc::MADV_REMOVE) == 0),
        ]
    }
}

/// Role: tries everything on what it was given and on its own, and looks whether anything changed.
pub fn tamper() {
    let raw = Raw::connect(&common::variable("SOCKET"));
    assert_eq!(common::hear(), "sent");
    let before = (raw.theirs.bytes(), raw.endpoint.bytes(), raw.own.bytes());
    let mut done = Vec::new();
    for (whose, memory) in
        [("their segment", &raw.theirs), ("their endpoint", &raw.endpoint), ("own", &raw.own)]
    {
        for (what, succeeded) in try_everything(memory) {
            if succeeded {
                done.push(format!("{whose}: {what}"));
            }
        }
    }
    for (whose, memory) in [("their segment", &raw.theirs), ("their endpoint", &raw.endpoint)] {
        let writable = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: our own mapping, whose protection is only ever asked to be raised.
        if unsafe { libc::mprotect(memory.base().cast(), memory.len(), writable) } == 0 {
            done.push(format!("{whose}: mprotect"));
        }
    }
    let after = (raw.theirs.bytes(), raw.endpoint.bytes(), raw.own.bytes());
    if before != after {
        done.push("something changed".to_owned());
    }
    common::say(&done.join(", "));
    assert_eq!(common::hear(), "sent again");
    let bytes = raw.theirs.bytes();
    common::check(&bytes[RING + 8..RING + 1008], 1, 1000);
    common::check(&bytes[RING + 1016..RING + 2016], 2, 1000);
    raw.put(0, DATA, b"still here");
    raw.ring();
    common::say("read");
    raw.wait_for_hang_up();
}

#[test]
fn a_peer_cannot_shrink_or_change_a_segment_with_the_descriptor_it_was_given() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let mut listener = Config::new().ring_bytes(RING_BYTES).bind(&scratch.socket("a")).unwrap();
    let mut child = Peer::spawn("tamper", &[("SOCKET", &scratch.socket("a"))]);
    let mut connection = listener.accept_timeout(PATIENCE).unwrap();
    connection.send(&common::message(1, 1000)).unwrap();
    child.send_line("sent");
    child.expect_line("");
    connection.send(&common::message(2, 1000)).unwrap();
    child.send_line("sent again");
    child.expect_line("read");
    assert_eq!(&*connection.recv_timeout(PATIENCE).unwrap(), b"still here");
}

const SECRET: &[u8] = b"SECRET-of-another-connection-SECRET";

/// Sends the secret and takes the echo, so that it lies in both rings.
fn exchange_secrets(raw: &Raw, times: u64) {
    let (mut sent, mut read) = (0, 0_u64);
    for _ in 0..times {
        sent = raw.put(sent, DATA, SECRET);
        raw.ring();
        let start = std::time::Instant::now();
        while raw.theirs.get(RING + read as usize) == 0 {
            assert!(start.elapsed() < PATIENCE, "no echo");
            std::thread::yield_now();
        }
        read += 8 + SECRET.len().next_multiple_of(8) as u64;
        raw.own.set(CONSUMED, read);
    }
}

fn has_secret(bytes: &[u8]) -> bool {
    bytes.windows(6).any(|window| window == b"SECRET")
}

#[test]
fn a_stranger_is_given_no_byte_of_another_connection() {
    let _guard = hang_guard();
    let (_scratch, _server, socket) = server(&[]);
    let talking = Raw::connect(&socket);
    exchange_secrets(&talking, 100);
    let stranger = Raw::connect(&socket);
    assert!(has_secret(&talking.theirs.bytes()) && has_secret(&talking.own.bytes()), "the search is blind");
    for (name, memory) in [("segment", &stranger.theirs), ("endpoint segment", &stranger.endpoint)] {
        assert!(!has_secret(&memory.bytes()), "{name}");
    }
    exchange_secrets(&talking, 100);
    assert!(!has_secret(&stranger.theirs.bytes()) && !has_secret(&stranger.endpoint.bytes()));
    // Each file is a file of its own, not a part of a larger one.
    assert_eq!(support::size_of_file(&stranger.theirs.file), RING + RING_BYTES as usize);
    assert_ne!(inode(&stranger.theirs), inode(&talking.theirs));
    assert_eq!(inode(&stranger.endpoint), inode(&talking.endpoint));
}

fn inode(memory: &Memory) -> u64 {
    let file = std::fs::File::from(memory.file_copy());
    std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap())
}

#[test]
fn a_new_connection_finds_zeros_also_after_many_others() {
    let _guard = hang_guard();
    new_connections_find_zeros(&[]);
}

#[test]
fn a_new_connection_finds_zeros_also_in_a_segment_that_was_made_ahead() {
    let _guard = hang_guard();
    new_connections_find_zeros(&[("WORKERS", "2"), ("WARM", "4")]);
}

fn new_connections_find_zeros(how: &[(&str, &str)]) {
    let (_scratch, mut server, socket) = server(how);
    for round in 0..30 {
        let pair = [Raw::connect(&socket), Raw::connect(&socket)];
        pair.iter().for_each(|raw| exchange_secrets(raw, 20));
        drop(pair);
        if round % 10 == 9 {
            await_status(&mut server, |now| now.members == 0);
        }
    }
    await_status(&mut server, |now| now.members == 0);
    let raw = Raw::connect(&socket);
    await_status(&mut server, |now| now.members == 1);
    common::wait_until("a worker sleeps for this side", || raw.theirs.get(DATA_SLEEP) != 0);
    let bytes = raw.theirs.bytes();
    let used: Vec<usize> = (0x38..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    // Only that: its number, which is 0 where all have left, << 2 | 2.
    assert_eq!((used, raw.theirs.get(DATA_SLEEP)), (vec![DATA_SLEEP], 2));
    let tables = raw.endpoint.bytes();
    let slots = &tables[4096 + 64 * 128..];
    let in_use: Vec<&[u8]> = slots.chunks(512).filter(|slot| slot.iter().any(|byte| *byte != 0)).collect();
    assert_eq!(in_use.len(), 1, "slots of closed connections are not cleared");
    let word = |at: usize| u64::from_le_bytes(in_use[0][at..at + 8].try_into().unwrap());
    assert_eq!((word(0), word(8)), (61, std::process::id().into()));
    assert!(in_use[0][24..].iter().all(|byte| *byte == 0), "it has not done anything yet");
}
