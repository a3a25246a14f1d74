//! Byte streams between processes, in their blocking form.
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

mod common;

use common::{Peer, check, hang_guard, hear, message, say, scratch_dir};
use ringway::{ByteListener, ByteStream, Config};
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::thread;

#[test]
fn peer_process() {
    common::run_role(&[("echo", role_echo), ("hold", role_hold), ("connect", role_connect)]);
}

const LEN: usize = 3_000_000;

fn small() -> Config {
    Config::new().ring_bytes(16 << 10)
}

#[test]
fn three_million_bytes_go_there_and_back_through_small_rings() {
    let _guard = hang_guard();
    let (peer, connection) = common::connected("echo", &[], &small());
    let (mut reader, mut writer) = ByteStream::from(connection).into_split();
    let sent = message(7, LEN);
    let writing = thread::spawn(move || {
        for (index, piece) in sent.chunks(9_999).enumerate() {
            if index % 2 == 0 {
                writer.write_all(piece).unwrap();
            } else {
                let (head, tail) = piece.split_at(piece.len() / 3);
                let bytes = writer.write_vectored(&[head, &[], tail].map(IoSlice::new)).unwrap();
                writer.write_all(&piece[bytes..]).unwrap();
            }
        }
        writer.shutdown();
        assert_eq!(writer.write(b"more").unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
    let mut received = Vec::new();
    reader.read_to_end(&mut received).unwrap();
    check(&received, 7, LEN);
    writing.join().unwrap();
    peer.finish();
}

#[test]
fn a_write_of_several_slices_is_one_record() {
    let (here, mut there) = ringway::pair(&Config::new()).unwrap();
    let mut stream = ByteStream::from(here);
    assert_eq!(stream.write_vectored(&[b"ab".as_slice(), b"", b"cde"].map(IoSlice::new)).unwrap(), 5);
    assert_eq!(&*there.try_recv().unwrap(), b"abcde");
    assert_eq!(stream.write(&[]).unwrap(), 0);
    assert!(there.try_recv().is_err(), "nothing was written, so nothing is sent");
    assert_eq!(stream.write(&[1; 100_000]).unwrap(), 32 << 10);
    assert_eq!(there.try_recv().unwrap().len(), 32 << 10);
}

#[test]
fn a_record_is_read_in_pieces_and_an_empty_one_is_no_end() {
    let (mut here, there) = ringway::pair(&Config::new()).unwrap();
    let mut stream = ByteStream::from(there);
    for record in [b"abc".as_slice(), b"", b"d"] {
        here.send(record).unwrap();
    }
    drop(here);
    let mut two = [0; 2];
    assert_eq!((stream.read(&mut two).unwrap(), two), (2, *b"ab"));
    assert_eq!((stream.read(&mut two).unwrap(), two[0]), (1, b'c'));
    assert_eq!(stream.read(&mut []).unwrap(), 0);
    assert_eq!((stream.read(&mut two).unwrap(), two[0]), (1, b'd'));
    assert_eq!(stream.read(&mut two).unwrap(), 0);
    assert_eq!(stream.read(&mut two).unwrap(), 0, "the end stays the end");
    assert_eq!(stream.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn a_killed_peer_is_a_reset_after_what_it_had_written() {
    let _guard = hang_guard();
    let (mut peer, connection) = common::connected("hold", &[], &Config::new());
    let mut stream = ByteStream::from(connection);
    peer.expect_line("wrote");
    peer.kill9();
    let mut five = [0; 5];
    stream.read_exact(&mut five).unwrap();
    assert_eq!(&five, b"hello");
    assert_eq!(stream.read(&mut five).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(stream.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn a_listener_gives_streams_and_says_who_is_there() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let socket = scratch.socket("test");
    let mut listener = ByteListener::bind(&socket).unwrap();
    assert_eq!(ByteListener::bind(&socket).map(|_| ()).unwrap_err().kind(), ErrorKind::AddrInUse);
    let peer = Peer::spawn("connect", &[("SOCKET", &socket)]);
    let (mut stream, cred) = listener.accept().unwrap();
    assert_eq!(cred.pid, peer.pid());
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text, "one way");
    stream.write_all(b"and back").unwrap();
    drop(stream);
    peer.finish();
    drop(listener);
    assert_eq!(ByteStream::connect(&socket).map(|_| ()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

fn role_echo() {
    let (mut reader, mut writer) = ByteStream::from(common::join(&small())).into_split();
    std::io::copy(&mut reader, &mut writer).unwrap();
}

fn role_hold() {
    let mut stream = ByteStream::from(common::join(&Config::new()));
    stream.write_all(b"hello").unwrap();
    say("wrote");
    hear();
}

fn role_connect() {
    let mut stream = ByteStream::connect(&common::variable("SOCKET")).unwrap();
    stream.write_all(b"one way").unwrap();
    stream.shutdown_write();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text, "and back");
}
