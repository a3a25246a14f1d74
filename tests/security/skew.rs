//! Threat 19 (and the wire part of 11): every field of the handshake, wrong one at a time, in both directions.

use super::support::{
    self, DESCRIPTORS, FEATURES, Hello, LIMIT, MALFORMED, Memory, PATIENCE, PURPOSE, RING, RING_BYTES, Raw,
    RawListener, SEALS, Turned, VERSION, await_status, status,
};
use super::{check_that_it_serves, server};
use crate::common::{hang_guard, scratch_dir};
use ringway::{Config, ConnectError, Refusal};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

type Field = (&'static str, usize, &'static [u8], Turned);

/// A field, where it lies, what is written there, and how that is turned down.
const FIELDS: &[Field] = &[
    ("magic", 0, b"ringwayH", MALFORMED),
    ("magic, all zero", 0, &[0; 8], MALFORMED),
    ("protocol version, later", 8, &[2, 0], VERSION),
    ("protocol version, none", 8, &[0, 0], VERSION),
    ("layout version, later", 12, &[2, 0, 0, 0], VERSION),
    ("layout version, none", 12, &[0, 0, 0, 0], VERSION),
    ("type, none", 10, &[0, 0], MALFORMED),
    ("type, unknown", 10, &[6, 0], MALFORMED),
    ("length, short", 16, &[127, 0, 0, 0], MALFORMED),
    ("length, long", 16, &[0, 1, 0, 0], MALFORMED),
    ("purpose, none", 20, &[0, 0, 0, 0], PURPOSE),
    ("purpose, unknown", 20, &[5, 0, 0, 0], PURPOSE),
    ("required feature, lowest", 24, &[1], FEATURES),
    ("required feature, highest", 31, &[0x80], FEATURES),
    ("segment feature, unknown", 40, &[4], FEATURES),
    ("ring bytes, none", 48, &[0; 8], MALFORMED),
    ("ring bytes, no power of two", 48, &[0, 0x40, 1, 0, 0, 0, 0, 0], MALFORMED),
    ("ring bytes, too few", 48, &[0, 0x20, 0, 0, 0, 0, 0, 0], MALFORMED),
    ("ring bytes, too many", 48, &[0, 0, 0, 0x80, 0, 0, 0, 0], MALFORMED),
    ("ring bytes, maximum", 48, &[0xff; 8], MALFORMED),
    ("message bytes, none", 56, &[0; 8], MALFORMED),
    ("flag, unknown", 64, &[2], MALFORMED),
    ("flag, highest", 67, &[0x80], MALFORMED),
    ("refusal in a hello", 68, &[1], MALFORMED),
    ("endpoint slots, too many", 72, &[1, 0, 1, 0], MALFORMED),
    ("descriptors, none listed", 80, &[0], DESCRIPTORS),
    ("descriptors, one listed", 80, &[1], DESCRIPTORS),
    ("descriptors, three listed", 80, &[3], DESCRIPTORS),
    ("descriptors, 2^24 listed", 83, &[1], DESCRIPTORS),
    ("descriptor kinds, unknown", 85, &[9], DESCRIPTORS),
    ("descriptor kinds, swapped", 84, &[2, 1], DESCRIPTORS),
    ("descriptor kinds, a third", 86, &[1], DESCRIPTORS),
    ("reserved, first byte", 92, &[1], MALFORMED),
    ("reserved, last byte", 127, &[1], MALFORMED),
];

#[test]
fn a_hello_with_one_wrong_field_is_refused_by_its_reason() {
    let _guard = hang_guard();
    let (_scratch, mut server, socket) = server(&[]);
    let before = status(&mut server);
    let own: &[Field] = &[
        ("type, welcome", 10, &[2, 0], MALFORMED),
        ("type, refusal", 10, &[3, 0], MALFORMED),
        ("type, knock", 10, &[4, 0], PURPOSE),
        ("type, joined", 10, &[5, 0], MALFORMED),
        ("purpose, route", 20, &[2, 0, 0, 0], MALFORMED),
        ("purpose, channel", 20, &[3, 0, 0, 0], MALFORMED),
        ("purpose, monitor", 20, &[4, 0, 0, 0], MALFORMED),
        ("ring bytes, other than the segment's", 48, &[0, 0, 2, 0, 0, 0, 0, 0], DESCRIPTORS),
        ("segment feature, other than the segment's", 40, &[1], DESCRIPTORS),
        ("segment feature, readers may be left behind", 40, &[2], FEATURES),
    ];
    for (name, at, bytes, expected) in FIELDS.iter().chain(own) {
        let hello = Hello::client(RING_BYTES).put(*at, bytes);
        let turned = Raw::with(&socket, Memory::connection(RING_BYTES), &hello).err();
        // Several rules may be broken at once; then any of them is a right answer.
        let also =
            matches!(*name, "type, welcome" | "type, refusal" | "segment feature, other than the segment's");
        let right = turned == Some(*expected) || also && matches!(turned, Some(Turned::Down(2 | 5 | 6)));
        assert!(right, "{name}: {turned:?} instead of {expected:?}");
    }
    let bent = (FIELDS.len() + own.len()) as u64;
    let after = await_status(&mut server, |now| now.files == before.files);
    assert_eq!((after.refused, after.members), (before.refused + bent, 0));
    check_that_it_serves(&socket);
}

#[test]
fn a_reader_of_routes_and_channels_is_refused_by_its_purpose_and_a_knock_too() {
    let _guard = hang_guard();
    let (_scratch, mut server, socket) = server(&[]);
    let before = status(&mut server);
    let page = Memory::create(4096, &[], SEALS);
    let knock = |purpose: u8| {
        let head = [1, 0, 4, 0, 1, 0, 0, 0, 128, 0, 0, 0, purpose, 0, 0, 0];
        Hello([0; 128]).put(0, b"RINGWAYH").put(8, &head)
    };
    let cases = [(Hello::reader(2), 1, PURPOSE), (Hello::reader(3), 1, PURPOSE), (knock(2), 0, MALFORMED)];
    for (hello, files, expected) in cases {
        let visitor = support::open(&socket);
        let offered = vec![page.file.as_raw_fd(); files];
        support::send_files(visitor.as_raw_fd(), &hello.0, &offered).unwrap();
        assert_eq!(support::answer_of(&visitor).err(), Some(expected));
    }
    let after = await_status(&mut server, |now| now.files == before.files);
    assert_eq!((after.refused, after.members), (before.refused + 3, 0));
    check_that_it_serves(&socket);
}

#[test]
fn a_welcome_with_one_wrong_field_is_not_trusted() {
    let _guard = hang_guard();
    for (name, at, bytes, _) in FIELDS {
        let hello = Hello::server(RING_BYTES, 4).put(*at, bytes);
        let error = connect_to(&hello, Memory::connection(RING_BYTES), Memory::endpoint(4));
        assert!(matches!(error, ConnectError::Untrusted(_)), "{name}: {error:?}");
    }
    for (name, at, bytes) in [
        ("type, hello", 10, &[1, 0][..]),
        ("refusal code, unknown", 10, &[3, 0]),
        ("slots, other than the segment's", 72, &[200, 0, 0, 0]),
        ("ring bytes, other than the segment's", 48, &[0, 0, 2, 0]),
    ] {
        let hello = Hello::server(RING_BYTES, 4).put(at, bytes);
        let error = connect_to(&hello, Memory::connection(RING_BYTES), Memory::endpoint(4));
        assert!(matches!(error, ConnectError::Untrusted(_)), "{name}: {error:?}");
    }
}

#[test]
fn a_segment_that_differs_from_its_hello_is_refused_by_both_sides() {
    let _guard = hang_guard();
    let (_scratch, mut server, socket) = server(&[]);
    let before = status(&mut server);
    let bytes = RING + RING_BYTES as usize;
    for (index, value) in [(0, 1), (1, 2 | 1 << 32), (1, 1 | 2 << 32), (2, 2), (3, RING_BYTES * 2), (4, 4096)]
    {
        let mut words = support::connection_words(RING_BYTES);
        words[index].1 = value;
        let client = Memory::create(bytes, &words, SEALS);
        let turned = Raw::with(&socket, client, &Hello::client(RING_BYTES)).err();
        assert_eq!(turned, Some(DESCRIPTORS), "word {index} = {value:#x}");
        let listener = Memory::create(bytes, &words, SEALS);
        let error = connect_to(&Hello::server(RING_BYTES, 4), listener, Memory::endpoint(4));
        assert!(matches!(error, ConnectError::Untrusted(Refusal::Descriptors)), "word {index}: {error:?}");
        let mut words = support::endpoint_words(4);
        words[index].1 = value;
        let tables = Memory::create(support::endpoint_bytes(4), &words, SEALS);
        let error = connect_to(&Hello::server(RING_BYTES, 4), Memory::connection(RING_BYTES), tables);
        let legal = index == 1 && value == 1 | 2 << 32;
        assert!(legal || matches!(error, ConnectError::Untrusted(_)), "endpoint word {index}: {error:?}");
    }
    await_status(&mut server, |now| now.files == before.files && now.members == 0);
}

/// Connects with the library to a listener made by hand that answers like this; it must not succeed.
fn connect_to(welcome: &Hello, segment: Memory, tables: Memory) -> ConnectError {
    let scratch = scratch_dir();
    let path = scratch.socket("liar");
    let listener = RawListener::bind(&path);
    let liar = std::thread::spawn({
        let welcome = *welcome;
        move || {
            let (socket, hello, files) = listener.accept();
            assert_eq!((hello.len(), files.len()), (128, 2));
            let offered = [segment.file.as_raw_fd(), tables.file.as_raw_fd()];
            let _ = support::send_files(socket.as_raw_fd(), &welcome.0, &offered);
            // Stays until the client has decided.
            let _ = support::receive_files(&socket);
        }
    });
    let error = Config::new().ring_bytes(RING_BYTES).connect_timeout(PATIENCE).connect(&path).err();
    liar.join().unwrap();
    error.unwrap_or(ConnectError::Timeout)
}

#[test]
fn a_listener_that_hangs_up_says_garbage_or_falls_silent_does_not_hold_a_client() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    for (name, answer, stays) in [
        ("hangs up", &[][..], false),
        ("half an answer", &Hello::server(RING_BYTES, 4).0[..64], false),
        ("garbage", &[0xa5; 128], true),
        ("silence", &[], true),
        ("half an answer, then silence", &Hello::server(RING_BYTES, 4).0[..127], true),
    ] {
        let path = scratch.socket("liar");
        let _ = std::fs::remove_file(&path);
        let listener = RawListener::bind(&path);
        let connecting = std::thread::spawn(move || {
            Config::new().connect_timeout(Duration::from_millis(300)).connect(&path).err().unwrap()
        });
        let (mut socket, _, _) = listener.accept();
        socket.write_all(answer).unwrap();
        let kept = stays.then_some(socket);
        let error = connecting.join().unwrap();
        let right = match name {
            "garbage" => matches!(error, ConnectError::Untrusted(Refusal::Malformed)),
            "silence" | "half an answer, then silence" => matches!(error, ConnectError::Timeout),
            _ => matches!(error, ConnectError::Dropped),
        };
        assert!(right, "{name}: {error:?}");
        drop(kept);
    }
}

#[test]
fn a_hello_in_pieces_is_taken_and_half_a_hello_expires() {
    let _guard = hang_guard();
    let (_scratch, mut server, socket) = server(&[("HANDSHAKE_MS", "300")]);
    let before = status(&mut server);
    let own = Memory::connection(RING_BYTES);
    let hello = Hello::client(RING_BYTES);
    let (_space, their_space) = UnixStream::pair().unwrap();
    let files = [own.file.as_raw_fd(), their_space.as_raw_fd()];
    let halves: Vec<UnixStream> = (0..3).map(|_| support::open(&socket)).collect();
    support::send_files(halves[0].as_raw_fd(), &hello.0[..64], &files).unwrap();
    support::send_files(halves[1].as_raw_fd(), &hello.0[..1], &files).unwrap();
    let mut whole = support::open(&socket);
    support::send_files(whole.as_raw_fd(), &hello.0[..1], &files).unwrap();
    for byte in &hello.0[1..] {
        whole.write_all(&[*byte]).unwrap();
    }
    let (answer, _) = support::answer_of(&whole).unwrap();
    assert_eq!(answer[10], 2, "byte by byte is welcome");
    for half in &halves {
        assert_eq!(support::answer_of(half).err(), Some(Turned::Away));
    }
    drop(whole);
    let after = await_status(&mut server, |now| now.members == 0 && now.files == before.files);
    assert_eq!(after.refused, before.refused + 3);
    check_that_it_serves(&socket);
}

#[test]
fn a_listener_that_is_full_says_so() {
    let _guard = hang_guard();
    let (_scratch, mut server, socket) = server(&[("MOST", "2")]);
    let kept = [Raw::connect(&socket), Raw::connect(&socket)];
    let third = Raw::with(&socket, Memory::connection(RING_BYTES), &Hello::client(RING_BYTES)).err();
    assert_eq!(third, Some(LIMIT));
    drop(kept);
    await_status(&mut server, |now| now.members == 0);
    drop(Raw::connect(&socket));
}
