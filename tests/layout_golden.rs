//! Layout version 1, byte for byte, written from the numbers and not from the library: as another implementation would.
//! A change here is a change of the layout version.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "hostile_peer/support.rs"]
mod support;

use common::{Scratch, hang_guard, scratch_dir};
use ringway::{Config, Connection, Listener};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use support::{Hello, Memory, PATIENCE, RawListener};

const RING_BYTES: u64 = 16384;

/// Connects the library to a listener made by hand: returns the library's side, and what that listener sees.
fn seen_by_a_listener() -> (Scratch, Connection, UnixStream, Vec<u8>, Memory, Memory) {
    let scratch = scratch_dir();
    let path = scratch.socket("a");
    let listener = RawListener::bind(&path);
    let connecting = std::thread::spawn(move || Config::new().ring_bytes(RING_BYTES).connect(&path).unwrap());
    let (socket, hello, mut files) = listener.accept();
    let own = Memory::connection(RING_BYTES);
    let tables = Memory::endpoint(4);
    let offered = [own.file.as_raw_fd(), tables.file.as_raw_fd()];
    support::send_files(socket.as_raw_fd(), &Hello::server(RING_BYTES, 4).0, &offered).unwrap();
    let connection = connecting.join().unwrap();
    let theirs = Memory::receive(files.remove(0));
    (scratch, connection, socket, hello, theirs, own)
}

/// Connects by hand to a listener of the library.
fn seen_by_a_client() -> (Scratch, Listener, Connection, support::Raw) {
    let scratch = scratch_dir();
    let path = scratch.socket("a");
    let config = Config::new().ring_bytes(RING_BYTES).connections_max(5);
    let mut listener = config.bind(&path).unwrap();
    let connecting = std::thread::spawn(move || {
        support::Raw::with(&path, Memory::connection(RING_BYTES), &Hello::client(RING_BYTES)).unwrap()
    });
    let connection = listener.accept_timeout(PATIENCE).unwrap();
    (scratch, listener, connection, connecting.join().unwrap())
}

fn words(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// Field 22 of `/proc/self/stat`.
fn start_time() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    stat[stat.rfind(')').unwrap() + 2..].split(' ').nth(19).unwrap().parse().unwrap()
}

#[track_caller]
fn check_zero(bytes: &[u8], range: std::ops::Range<usize>) {
    let first = range.clone().find(|at| bytes[*at] != 0);
    assert_eq!(first, None, "first byte in use within {range:x?}");
}

#[test]
fn a_hello_has_these_bytes() {
    let _guard = hang_guard();
    let (_scratch, _connection, _socket, hello, _theirs, _own) = seen_by_a_listener();
    let mut golden = Vec::new();
    golden.extend_from_slice(b"RINGWAYH");
    golden.extend_from_slice(&[1, 0, 1, 0, 1, 0, 0, 0, 128, 0, 0, 0, 1, 0, 0, 0]);
    golden.extend_from_slice(&words(&[0, 0, 0, RING_BYTES, 64 << 20]));
    // Whether it registered for barriers depends on the kernel.
    let barrier = hello[64];
    assert!(barrier <= 1);
    golden.extend_from_slice(&[barrier, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    golden.extend_from_slice(&[2, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0]);
    golden.resize(128, 0);
    assert_eq!(hello, golden);
}

#[test]
fn a_welcome_has_these_bytes() {
    let _guard = hang_guard();
    let (_scratch, _listener, _connection, raw) = seen_by_a_client();
    let mut golden = Vec::new();
    golden.extend_from_slice(b"RINGWAYH");
    golden.extend_from_slice(&[1, 0, 2, 0, 1, 0, 0, 0, 128, 0, 0, 0, 1, 0, 0, 0]);
    golden.extend_from_slice(&words(&[0, 0, 0, RING_BYTES, 64 << 20]));
    golden.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0]);
    // What a wake costs here.
    golden.extend_from_slice(&raw.answer[76..80]);
    assert_ne!(raw.answer[76..80], [0; 4]);
    golden.extend_from_slice(&[2, 0, 0, 0, 1, 3, 0, 0, 0, 0, 0, 0]);
    golden.resize(128, 0);
    assert_eq!(raw.answer, golden);
}

#[test]
fn a_refusal_has_these_bytes() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let path = scratch.socket("a");
    let mut listener = Config::new().bind(&path).unwrap();
    let socket = support::open(&path);
    support::send_files(socket.as_raw_fd(), &Hello::client(RING_BYTES).0, &[]).unwrap();
    assert!(listener.accept_timeout(std::time::Duration::from_millis(200)).is_err());
    let (answer, files) = support::receive_files(&socket).unwrap();
    let mut golden = Vec::new();
    golden.extend_from_slice(b"RINGWAYH");
    golden.extend_from_slice(&[1, 0, 3, 0, 1, 0, 0, 0, 128, 0, 0, 0]);
    golden.resize(68, 0);
    golden.push(5);
    golden.resize(128, 0);
    assert_eq!((answer, files.len()), (golden, 0));
}

#[test]
fn the_header_of_a_connection_segment_has_these_bytes() {
    let _guard = hang_guard();
    let (_scratch, connection, _socket, _hello, theirs, _own) = seen_by_a_listener();
    let bytes = theirs.bytes();
    assert_eq!(bytes.len(), 4096 + 16384);
    let pid = u64::from(std::process::id());
    let identity = [u64::from_le_bytes(*b"RINGWAY\x97"), 1 | 1 << 32, 0, 16384, pid, start_time(), 20480];
    assert_eq!(bytes[..0x38], words(&identity));
    check_zero(&bytes, 0x38..0x400);
    // The slot of a side without endpoint segment: connection 1, the peer's process and user.
    // SAFETY: no preconditions.
    let uid = u64::from(unsafe { libc::geteuid() });
    assert_eq!(bytes[0x400..0x418], words(&[1, pid, uid]));
    check_zero(&bytes, 0x418..bytes.len());
    drop(connection);
    let bytes = theirs.bytes();
    // Closed: nothing was published (0), nothing will be (1), and nobody reads (3).
    assert_eq!(bytes[0x80..0x98], words(&[0, 0, 1]));
    assert_eq!((theirs.get(0x100), theirs.get(0x180)), (0, 3));
    check_zero(&bytes, 0x400..bytes.len());
}

#[test]
fn positions_and_counters_stand_in_these_places() {
    let _guard = hang_guard();
    let (_scratch, mut connection, _socket, _hello, theirs, own) = seen_by_a_listener();
    connection.send(b"twelve bytes").unwrap();
    own.set(4096, 1 << 32 | 5);
    own.set(4096 + 8, u64::from_le_bytes(*b"hello\0\0\0"));
    assert_eq!(&*connection.recv_timeout(PATIENCE).unwrap(), b"hello");
    assert!(connection.try_recv().is_err());
    assert_eq!(theirs.get(0x100), 16, "consumed, told when the ring was found empty");
    assert_eq!(theirs.get(0x80), 0, "published is for overwrite rings and the end");
    assert_eq!(theirs.bytes()[0x480..0x4a8], words(&[1, 12, 0, 0, 0]), "sent, bytes, full, sleeps, bells");
    assert_eq!(theirs.bytes()[0x500..0x510], words(&[1, 5]), "received, bytes");
    connection.recv_timeout(std::time::Duration::from_millis(1)).unwrap_err();
    assert_eq!(theirs.get(0x180) & 3, 0, "awake again");
    assert!(theirs.get(0x180) >> 2 >= 1, "it slept at least once: the generation counts");
    drop(connection);
    assert_eq!((theirs.get(0x80), theirs.get(0x90)), (24, 1), "24 bytes were published");
}

#[test]
fn an_endpoint_segment_has_these_bytes() {
    let _guard = hang_guard();
    let (_scratch, _listener, mut connection, raw) = seen_by_a_client();
    let bytes = raw.endpoint.bytes();
    assert_eq!(bytes.len(), 16384, "header, 64 lines of 128, 5 slots of 512, whole pages");
    let pid = u64::from(std::process::id());
    let magic = u64::from_le_bytes(*b"RINGWAY\x97");
    let identity = [magic, 1 | 2 << 32, 0, 0, pid, start_time(), 16384, 64, 5];
    assert_eq!(bytes[..0x48], words(&identity));
    check_zero(&bytes, 0x48..0x80);
    assert_eq!(bytes[0x80..0x88], words(&[1]), "one slot was used");
    check_zero(&bytes, 0x88..0x3000);
    // SAFETY: no preconditions.
    let uid = u64::from(unsafe { libc::geteuid() });
    assert_eq!(bytes[0x3000..0x3018], words(&[1, pid, uid]), "slot 0 is behind the worker lines");
    check_zero(&bytes, 0x3018..16384);
    connection.send(b"hello").unwrap();
    assert_eq!(raw.endpoint.bytes()[0x3080..0x3090], words(&[1, 5]));
    drop(connection);
    check_zero(&raw.endpoint.bytes(), 0x3000..16384);
    // This side has its slot there, and none in its connection segment.
    check_zero(&raw.theirs.bytes(), 0x188..4096);
}

#[test]
fn a_monitor_is_welcomed_with_the_tables_and_these_bytes() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let path = scratch.socket("a");
    let mut listener = Config::new().connections_max(5).bind(&path).unwrap();
    let visitor = support::open(&path);
    support::send_files(visitor.as_raw_fd(), &Hello::monitor().0, &[]).unwrap();
    assert!(listener.accept_timeout(std::time::Duration::from_millis(200)).is_err());
    assert_eq!(listener.refused(), 0, "a monitor is no client that failed");
    let (answer, mut files) = support::answer_of(&visitor).unwrap();
    let mut golden = Vec::new();
    golden.extend_from_slice(b"RINGWAYH");
    golden.extend_from_slice(&[1, 0, 2, 0, 1, 0, 0, 0, 128, 0, 0, 0, 4, 0, 0, 0]);
    golden.resize(72, 0);
    golden.extend_from_slice(&[5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3]);
    golden.resize(128, 0);
    assert_eq!(answer, golden);
    let tables = Memory::receive(files.remove(0)).bytes();
    assert_eq!((tables.len(), files.len()), (16384, 0));
    check_zero(&tables, 0x80..16384);
}

#[test]
fn a_message_of_five_bytes_is_these_sixteen() {
    let _guard = hang_guard();
    let (_scratch, mut connection, _socket, _hello, theirs, _own) = seen_by_a_listener();
    connection.send(b"hello").unwrap();
    connection.send(b"").unwrap();
    let bytes = theirs.bytes();
    assert_eq!(bytes[4096..4112], *b"\x05\0\0\0\x01\0\0\0hello\0\0\0");
    assert_eq!(bytes[4112..4120], *b"\0\0\0\0\x01\0\0\0", "an empty message is a message");
    check_zero(&bytes, 4120..bytes.len());
}

#[test]
fn a_batch_is_its_records_one_after_the_other() {
    let _guard = hang_guard();
    let (_scratch, mut connection, _socket, _hello, theirs, _own) = seen_by_a_listener();
    assert_eq!(connection.sender().try_send_batch(&[&b"one"[..], b"eight888", b"ninebytes"]), Ok(3));
    let golden = b"\x03\0\0\0\x01\0\0\0one\0\0\0\0\0\
        \x08\0\0\0\x01\0\0\0eight888\
        \x09\0\0\0\x01\0\0\0ninebytes\0\0\0\0\0\0\0\
        \0\0\0\0\0\0\0\0";
    assert_eq!(theirs.bytes()[4096..4096 + 64], *golden);
}

#[test]
fn padding_fills_the_end_of_the_ring_and_the_gap_before_an_aligned_record() {
    let _guard = hang_guard();
    let (_scratch, mut connection, _socket, _hello, theirs, own) = seen_by_a_listener();
    let claim = connection.sender().try_claim_aligned(8, 64).unwrap();
    claim.commit();
    // Padding of 56 - 8 bytes, then the record, whose payload lies at 64.
    assert_eq!((theirs.get(4096), theirs.get(4096 + 56)), (2 << 32 | 48, 1 << 32 | 8));
    // 72 bytes so far; four records of 4072 bytes leave 24 before the end.
    for _ in 0..4 {
        own.set(0x100, theirs.get(0x100));
        let sent = connection.try_send(&[0xee; 4064]);
        assert!(sent.is_ok() || own.get(0x100) == 0, "{sent:?}");
    }
    own.set(0x100, 72 + 4 * 4072);
    connection.try_send(&[0xdd; 100]).unwrap();
    assert_eq!(theirs.get(4096 + 16360), 2 << 32 | 16, "padding to the end of the ring");
    assert_eq!(theirs.get(4096), 1 << 32 | 100, "the record is at its beginning");
    assert_eq!(theirs.get(4096 + 112), 0, "and nothing after it");
}

#[test]
fn a_long_message_is_fragments_of_a_quarter_of_the_ring() {
    let _guard = hang_guard();
    let (_scratch, mut connection, _socket, _hello, theirs, _own) = seen_by_a_listener();
    connection.send(&[0xcc; 10_000]).unwrap();
    let headers = [0, 4096, 8192].map(|at| theirs.get(4096 + at));
    assert_eq!(headers, [3 << 32 | 4088, 4 << 32 | 4088, 5 << 32 | 1824]);
    assert_eq!(theirs.get(4096 + 8192 + 1832), 0);
}
