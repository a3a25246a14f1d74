//! Knocks that nobody should make: at receivers of a route and at members of a channel.

use crate::broadcast::actor::{ask, ask_for, quit};
use crate::broadcast::{
    Book, Speech, await_receivers, expect_nothing, member, member_process, name, receiver, sender,
    sender_process,
};
use crate::common::{self, DEADLINE, hang_guard, scratch_dir};
use crate::raw::{self, CHANNEL, INSTANCE, ROUTE, knock, say};
use crate::support::{self, Hello, Memory, RING_BYTES, Random};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

/// Everything that may be wrong with a knock.
fn bent_knocks(purpose: u32, name: &[u8; 8]) -> Vec<(&'static str, Hello)> {
    let good = knock(purpose, INSTANCE, name);
    vec![
        ("magic", good.put(0, b"NOTRINGW")),
        ("version", good.put(8, &[9])),
        ("layout", good.put(12, &[9])),
        ("type 0", good.put(10, &[0])),
        ("type 9", good.put(10, &[9])),
        ("a hello", good.put(10, &[1])),
        ("a welcome", good.put(10, &[2])),
        ("a refusal", good.put(10, &[3])),
        ("a start", good.put(10, &[5])),
        ("length", good.put(16, &[1])),
        ("purpose 0", good.put(20, &[0])),
        ("a connection", good.put(20, &[1])),
        ("a monitor", good.put(20, &[4])),
        ("purpose 99", good.put(20, &[99])),
        ("required feature", good.put(24, &[1])),
        ("a ring", good.put(48, &RING_BYTES.to_le_bytes())),
        ("descriptors", good.put(80, &[1])),
        ("history", good.put(92, &[1])),
        ("a name that climbs", good.put(104, b"../../..")),
        ("a name with a slash", good.put(104, b"a/b/c/d/")),
        ("a name of odd letters", good.put(104, b"AAAA1111")),
        ("a name with an end", good.put(104, b"aaaa\0\0\0\0")),
        ("reserved", good.put(127, &[1])),
    ]
}

#[test]
fn knocks_that_are_malformed_change_nothing_for_a_receiver() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut receiver = receiver(&route, "");
    let mut peer = sender_process(&route, "");
    ask_for(&mut peer, "await 1", "receivers 1");
    let path = receiver.path();
    let mut book = Book::default();
    let before = common::descriptors();
    let gift = Memory::connection(RING_BYTES);
    let mut sent = 0;
    for (what, bent) in bent_knocks(ROUTE, &[0; 8]) {
        for files in [0, 1, 250] {
            let files: Vec<RawFd> = vec![gift.file.as_raw_fd(); files];
            let socket = say(&path, &bent, &files);
            let turned = support::answer_of(&socket);
            assert!(turned.is_err(), "{what}: answered {turned:?}");
        }
        sent += 3;
        ask_for(&mut peer, "send 3 100", &format!("sent {sent}"));
        book.receive(&mut receiver, 3);
        assert_eq!(receiver.sender_count(), 1, "{what}");
    }
    expect_nothing(&mut receiver);
    drop(gift);
    common::wait_until("everything is closed", || common::descriptors() <= before);
    quit(peer);
}

#[test]
fn a_knock_for_a_sender_that_is_heard_already_makes_nobody_hear_it_twice() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut sender = sender(&route, "");
    let mut receiver = receiver(&route, "");
    await_receivers(&mut sender, 1);
    let path = receiver.path();
    let mut random = Random(7);
    let (mut speech, mut book) = (Speech::new(1, 100), Book::default());
    book.receive(&mut receiver, 0);
    for round in 0..100 {
        // Sound in form, at random in what they say: one after the other, and several at a time.
        let count = 1 + round % 4;
        let sockets: Vec<UnixStream> =
            (0..count).map(|_| say(&path, &knock(ROUTE, random.next(), &[0; 8]), &[])).collect();
        for socket in sockets {
            assert!(support::answer_of(&socket).is_err(), "it hangs up when it is done");
        }
        speech.send_to(&mut sender, 1, 3);
        book.receive(&mut receiver, 3);
    }
    assert_eq!((sender.receiver_count(), receiver.sender_count()), (1, 1));
    expect_nothing(&mut receiver);
}

#[test]
fn knocks_without_end_do_not_keep_a_receiver_from_its_senders() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut receiver = receiver(&route, "");
    let path = receiver.path();
    // Some knock and hang up, some stay, some never finish their sentence.
    let flooding = thread::spawn(move || {
        let mut open: Vec<UnixStream> = Vec::new();
        for step in 0..3000_u64 {
            let message = knock(ROUTE, step, &[0; 8]);
            let Ok(socket) = UnixStream::connect(&path) else { continue };
            let bytes = if step % 3 == 0 { &message.0[..100] } else { &message.0[..] };
            let _ = support::send_files(socket.as_raw_fd(), bytes, &[]);
            if step % 3 != 1 && open.len() < 300 {
                open.push(socket);
            }
        }
        open
    });
    let mut book = Book::default();
    for _ in 0..5 {
        let mut peer = sender_process(&route, "");
        // More for a moment, when the receiver is sent to somebody whom it hears already.
        assert!(ask(&mut peer, "await 1").starts_with("receivers "));
        ask_for(&mut peer, "send 100 100", "sent 100");
        book.receive(&mut receiver, 100);
        quit(peer);
    }
    let open = flooding.join().unwrap();
    let mut peer = sender_process(&route, "");
    assert!(ask(&mut peer, "await 1").starts_with("receivers "));
    ask_for(&mut peer, "send 100 100", "sent 100");
    book.receive(&mut receiver, 100);
    drop(open);
    quit(peer);
}

#[test]
fn a_knock_that_leads_nowhere_or_to_a_wall_is_forgotten() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let channel = name(&scratch, "square");
    let mut own = member(&channel, "");
    let mut honest = member_process(&channel, "");
    await_receivers(own.sender(), 1);
    // Nobody is there; somebody is there and silent; somebody hangs up at once; a file lies there.
    let silent = UnixListener::bind(raw::member_socket(&channel, "bbbbbbbb")).unwrap();
    let rude = UnixListener::bind(raw::member_socket(&channel, "cccccccc")).unwrap();
    let hanging_up = thread::spawn(move || drop(rude.accept().unwrap()));
    std::fs::write(raw::member_socket(&channel, "dddddddd"), b"no socket").unwrap();
    let path = own.receiver().path();
    let sockets: Vec<UnixStream> = [b"aaaaaaaa", b"bbbbbbbb", b"cccccccc", b"dddddddd"]
        .iter()
        .enumerate()
        .map(|(index, token)| say(&path, &knock(CHANNEL, index as u64 + 1, token), &[]))
        .collect();
    hanging_up.join().unwrap();
    ask_for(&mut honest, "await 1", "receivers 1");
    ask_for(&mut honest, "send 100 100", "sent 100");
    let mut book = Book::default();
    book.receive(own.receiver(), 100);
    assert_eq!(own.receiver().sender_count(), 1);
    let mut late = member_process(&channel, "");
    await_receivers(own.sender(), 2);
    ask_for(&mut late, "await 2", "receivers 2");
    ask_for(&mut late, "send 5 100", "sent 5");
    book.receive(own.receiver(), 5);
    drop((sockets, silent));
    for plain in ["bbbbbbbb", "cccccccc", "dddddddd"] {
        let _ = std::fs::remove_file(raw::member_socket(&channel, plain));
    }
    quit(late);
    quit(honest);
}

#[test]
fn knocks_that_are_malformed_change_nothing_for_a_member() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let channel = name(&scratch, "square");
    let mut own = member(&channel, "");
    let mut honest = member_process(&channel, "");
    await_receivers(own.sender(), 1);
    ask_for(&mut honest, "await 1", "receivers 1");
    let path = own.receiver().path();
    assert_eq!(own.sender().path(), path, "one socket for both halves");
    let (mut speech, mut book) = (Speech::new(1, 100), Book::default());
    for (index, (what, bent)) in bent_knocks(CHANNEL, b"abcdefgh").into_iter().enumerate() {
        drop(say(&path, &bent, &[]));
        speech.send_to(own.sender(), 1, 1);
        ask_for(&mut honest, "send 1 100", &format!("sent {}", index + 1));
        book.receive(own.receiver(), 1);
        assert_eq!(own.receiver().wait_for_senders(1, DEADLINE), Ok(1), "{what}");
    }
    ask_for(&mut honest, &format!("receive {}", speech.next), &format!("received {}", speech.report_all()));
    quit(honest);
}
