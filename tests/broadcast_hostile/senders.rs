//! Senders that lie to a receiver: in their hellos, in their rings, and while they are read.

use crate::broadcast::actor::{ask, ask_for, quit};
use crate::broadcast::{
    Book, HEAD_BYTES, Options, Speech, await_receivers, describe, member, member_process, name, receiver,
    sender,
};
use crate::common::{self, DEADLINE, Scratch, hang_guard, scratch_dir};
use crate::raw::{self, CHANNEL, ROUTE, RawSender, joined, sender_welcome};
use crate::support::{
    ABANDON, CLOSE, CONSUMED, DATA, DATA_SLEEP, FIRST, Hello, INTENT, LAST, MIDDLE, Memory, PADDING,
    PUBLISHED, RING, RING_BYTES, Random, SEALS, SPACE_SLEEP, connection_words,
};
use ringway::CloseReason;
use ringway::broadcast::{Event, JoinError, Receiver};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Feature bits of a sender's ring.
const OVERWRITE: u64 = 1;
const CUTS: u64 = 2;

/// Header words that no sender may write, by the rule that they break.
const ILLEGAL: &[(&str, &[u64])] = &[
    ("Header", &[1]),
    ("Header", &[u64::MAX]),
    ("Header", &[7 << 32]),
    ("Header", &[DATA | 1 << 41]),
    ("Header", &[PADDING | 1 << 40]),
    ("Header", &[ABANDON | 1]),
    ("Length", &[DATA | 0xffff_ffff]),
    ("Length", &[DATA | (RING_BYTES / 4 - 7)]),
    ("Length", &[PADDING | (RING_BYTES - 7)]),
    ("Padding", &[PADDING, PADDING, PADDING, PADDING]),
    ("Fragment", &[FIRST]),
    ("Fragment", &[FIRST | 8, 0, FIRST | 8]),
    ("Fragment", &[FIRST | 8, 0, DATA | 8]),
    ("Fragment", &[FIRST | 8, 0, MIDDLE]),
    ("Fragment", &[FIRST | 8, 0, LAST]),
];

/// A route whose name a sender made by hand has.
fn place() -> (Scratch, String, PathBuf) {
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let socket = raw::route_socket(&route);
    (scratch, route, socket)
}

/// Lets a receiver of the library join while the sender made by hand lets it in.
fn join(route: &str, attacker: &RawSender) -> (Receiver, UnixStream) {
    let (joined, socket) = try_join(route, attacker);
    (joined.unwrap(), socket)
}

/// As [`join`], of a sender that may be no sender.
fn try_join(route: &str, attacker: &RawSender) -> (Result<Receiver, JoinError>, UnixStream) {
    thread::scope(|scope| {
        let joining = scope.spawn(|| Options::new("").route().receiver(route));
        let socket = attacker.admit();
        (joining.join().unwrap(), socket)
    })
}

/// Takes what comes until a sender is gone, and returns why; the messages may be anything.
fn end_of(receiver: &mut Receiver) -> CloseReason {
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < DEADLINE, "it goes on for ever");
        match receiver.next_timeout(DEADLINE).unwrap().expect("nothing came") {
            Event::Left(_, reason) => return reason,
            Event::Message(message) => assert!(message.len() <= 64 << 20),
            _ => {}
        }
    }
}

/// A true sender has followed: the receiver hears it as if nothing had been.
fn hears_a_true_sender(route: &str, receiver: &mut Receiver) {
    let mut sender = sender(route, "");
    let mut speech = Speech::new(1, 200);
    speech.send_to(&mut sender, 1, 30);
    let mut book = Book::default();
    while book.count() < 30 {
        match receiver.next_timeout(DEADLINE).unwrap().expect("the true one is not heard") {
            // What the other one still has to say is of no interest.
            Event::Message(message) if message.len() >= HEAD_BYTES => _ = book.hear(&message),
            _ => {}
        }
    }
    assert_eq!(book.report(), speech.report_all());
}

#[test]
fn a_record_that_no_sender_may_write_ends_the_hearing_by_its_name() {
    let _guard = hang_guard();
    for features in [0, CUTS, OVERWRITE] {
        let (_scratch, route, socket) = place();
        for (rule, words) in ILLEGAL {
            let attacker = RawSender::bind(&socket, ROUTE, features);
            attacker.memory.set(INTENT, 64);
            attacker.put_words(words);
            let (mut receiver, _link) = join(&route, &attacker);
            let reason = end_of(&mut receiver);
            let CloseReason::Violation(violation) = &reason else { panic!("{rule} {words:x?}: {reason:?}") };
            let broken = format!("{violation:?}");
            assert!(broken.starts_with(rule), "{words:x?} should break {rule}, not {broken}");
            assert_eq!(receiver.stats().violations, 1);
            drop(attacker);
            hears_a_true_sender(&route, &mut receiver);
        }
    }
}

#[test]
fn whatever_a_sender_scribbles_nothing_panics_hangs_or_keeps_the_true_ones_from_being_heard() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let channel = name(&scratch, "square");
    let mut honest = member_process(&channel, "");
    ask_for(&mut honest, "flow 300", "flowing");
    let mut heard = 0;
    for number in 0..24_u64 {
        let features = [0, CUTS, OVERWRITE][(number % 3) as usize];
        let attacker = RawSender::bind(&raw::member_socket(&channel, "aaaaaaaa"), CHANNEL, features);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let joining = scope.spawn(|| member(&channel, ""));
            let link = attacker.admit();
            scope.spawn(|| scribble(&attacker.memory, number, &done));
            let (_sender, mut receiver) = joining.join().unwrap().split();
            let mut book = Book::default();
            while book.count() < 300 {
                let event = receiver.next_timeout(DEADLINE).unwrap().expect("the honest one is silent");
                match event {
                    Event::Message(message) if message.from().pid() == honest.pid() => {
                        book.hear(&message);
                    }
                    Event::Left(peer, reason) => {
                        assert_ne!(peer.pid(), honest.pid(), "{reason:?}");
                    }
                    _ => {}
                }
            }
            heard += book.count();
            done.store(true, Ordering::Relaxed);
            drop(link);
        });
    }
    assert_eq!(heard, 24 * 300);
    honest.send_line("enough");
    assert!(honest.next_line().starts_with("sent "));
    ask(&mut honest, "enough");
    quit(honest);
}

/// Writes anything anywhere until it is enough.
fn scribble(memory: &Memory, seed: u64, done: &AtomicBool) {
    let mut random = Random(seed + 1);
    let words = [PUBLISHED, INTENT, CLOSE, 0x98, 0xa0, CONSUMED, DATA_SLEEP, SPACE_SLEEP];
    memory.set(RING, DATA | 8);
    while !done.load(Ordering::Relaxed) {
        let value = match random.next() % 6 {
            0 => 0,
            1 => u64::MAX,
            2 => DATA | 8,
            3 => 8 * (random.next() % 4096),
            4 => ((1 + random.next() % 6) << 32) | (random.next() % 64),
            _ => random.next() >> (random.next() % 64),
        };
        // Its own headers now and then, else the words.
        if random.next().is_multiple_of(4) {
            memory.set(RING + 8 * (random.next() % 64) as usize, value);
        } else if seed.is_multiple_of(2) || random.next().is_multiple_of(1 << 10) {
            memory.set(words[(random.next() % words.len() as u64) as usize], value);
        }
    }
}

#[test]
fn a_sender_that_publishes_for_ever_does_not_keep_the_others_from_being_heard() {
    let _guard = hang_guard();
    for abandoned in [false, true] {
        let scratch = scratch_dir();
        let channel = name(&scratch, "square");
        let mut honest = member_process(&channel, "");
        let attacker = RawSender::bind(&raw::member_socket(&channel, "aaaaaaaa"), CHANNEL, 0);
        attacker.fill(abandoned);
        let (sender, mut receiver, link) = thread::scope(|scope| {
            let joining = scope.spawn(|| member(&channel, ""));
            let link = attacker.admit();
            let (mut sender, receiver) = joining.join().unwrap().split();
            await_receivers(&mut sender, 1);
            (sender, receiver, link)
        });
        ask_for(&mut honest, "await 1", "receivers 1");
        honest.send_line("send 500 100");
        let mut book = Book::default();
        let mut noise = 0_u64;
        while book.count() < 500 {
            match receiver.next_timeout(DEADLINE).unwrap() {
                Some(Event::Message(message)) if message.from().pid() == honest.pid() => {
                    book.hear(&message);
                }
                Some(Event::Left(peer, reason)) => assert_ne!(peer.pid(), honest.pid(), "{reason:?}"),
                _ => noise += 1,
            }
        }
        assert!(abandoned || noise > 0);
        honest.expect_line("sent 500");
        drop((sender, link));
        quit(honest);
    }
}

#[test]
fn huge_promises_take_no_memory() {
    let _guard = hang_guard();
    let (_scratch, route, socket) = place();
    let attacker = RawSender::bind(&socket, ROUTE, 0);
    let before = crate::support::status_kib("VmPeak:");
    attacker.put_words(&[DATA | 0xffff_ffff]);
    let (mut receiver, _link) = join(&route, &attacker);
    assert!(matches!(end_of(&mut receiver), CloseReason::Violation(_)));
    let growth = crate::support::status_kib("VmPeak:") - before;
    assert!(growth < 2 << 20, "{growth} KiB were reserved");
}

#[test]
fn counts_of_messages_that_lie_are_only_numbers() {
    let _guard = hang_guard();
    for lie in [0, 1, u64::MAX, u64::MAX - 1, 1 << 63] {
        let (_scratch, route, socket) = place();
        let mut attacker = RawSender::bind(&socket, ROUTE, OVERWRITE);
        for messages in [0, u64::MAX, 1 << 63] {
            attacker.joined = Some(joined(0, messages));
            // It has overwritten everything, and says where to go on.
            attacker.memory.set(INTENT, 10 * RING_BYTES);
            attacker.memory.set(0x98, lie);
            attacker.memory.set(PUBLISHED, 8 * RING_BYTES);
            attacker.memory.set(0xa0, lie);
            attacker.memory.set(RING, 0);
            let (mut receiver, link) = join(&route, &attacker);
            for _ in 0..50 {
                let event = receiver.next_timeout(Duration::from_millis(1)).unwrap();
                assert!(!matches!(event, Some(Event::Message(_))), "there was none");
            }
            drop(link);
        }
        drop(attacker);
        let mut receiver = receiver(&route, "");
        hears_a_true_sender(&route, &mut receiver);
    }
}

#[test]
fn a_sender_whose_positions_never_make_sense_does_not_hang_its_reader() {
    let _guard = hang_guard();
    let (_scratch, route, socket) = place();
    let attacker = RawSender::bind(&socket, ROUTE, OVERWRITE);
    let (mut receiver, link) = join(&route, &attacker);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // The two counts never agree, and it is always a lap ahead.
            for step in 1_u64.. {
                attacker.memory.set(INTENT, step * 16 * RING_BYTES);
                attacker.memory.set(0x98, 2 * step);
                attacker.memory.set(PUBLISHED, step * 8 * RING_BYTES);
                attacker.memory.set(0xa0, 2 * step + 1);
                if done.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        for _ in 0..20_000 {
            let _ = receiver.try_next().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    drop((attacker, link));
    hears_a_true_sender(&route, &mut receiver);
}

/// Whoever joins is told that this is no sender, or hears nothing of it; and hears the next.
#[track_caller]
fn hears_nothing(what: &str, route: &str, attacker: RawSender) {
    let (joined, link) = try_join(route, &attacker);
    match joined {
        Ok(mut receiver) => {
            let heard = receiver.recv_timeout(Duration::from_millis(5)).map(|message| message.to_vec());
            assert!(heard.is_err(), "{what}: heard {heard:?}");
            assert_eq!(receiver.sender_count(), 0, "{what}");
            drop((attacker, link));
            hears_a_true_sender(route, &mut receiver);
        }
        Err(JoinError::Refused(_)) => {
            drop((attacker, link));
            hears_a_true_sender(route, &mut receiver(route, ""));
        }
        Err(error) => panic!("{what}: {error}"),
    }
}

/// What a welcome and what follows it may have wrong.
fn bent_welcomes() -> Vec<(&'static str, Hello, Option<Hello>)> {
    let good = sender_welcome(ROUTE, 0, RING_BYTES);
    let start = Some(joined(0, 0));
    vec![
        ("magic", good.put(0, b"NOTRINGW"), start),
        ("version", good.put(8, &[9]), start),
        ("layout", good.put(12, &[9]), start),
        ("type", good.put(10, &[1]), start),
        ("type of a knock", good.put(10, &[4]), start),
        ("purpose of a channel", good.put(20, &[3]), start),
        ("purpose of a connection", good.put(20, &[1]), start),
        ("required feature", good.put(24, &[1]), start),
        ("unknown mode", good.put(40, &[0x20]), start),
        ("another mode than in the segment", good.put(40, &[1]), start),
        ("ring of no size", good.put(48, &[0; 8]), start),
        ("ring of an odd size", good.put(48, &(RING_BYTES + 8).to_le_bytes()), start),
        ("another ring than in the segment", good.put(48, &(2 * RING_BYTES).to_le_bytes()), start),
        ("a huge ring", good.put(48, &(1_u64 << 40).to_le_bytes()), start),
        ("messages longer than we accept", good.put(56, &u64::MAX.to_le_bytes()), start),
        ("flags", good.put(64, &[0x80]), start),
        ("no descriptors", good.put(80, &[0]), start),
        ("unknown policy", good.put(92, &[99]), start),
        ("reserved", good.put(120, &[1]), start),
        ("a start between records", good, Some(joined(4, 0))),
        ("a start that is no message", good, Some(good)),
        ("a start that never comes", good, None),
        ("a start with more behind it", good, Some(joined(0, 0).put(112, &[1]))),
    ]
}

#[test]
fn a_sender_with_a_wrong_welcome_is_not_heard_and_the_next_is() {
    let _guard = hang_guard();
    let before = common::descriptors();
    for (what, welcome, start) in bent_welcomes() {
        let (_scratch, route, socket) = place();
        let mut attacker = RawSender::bind(&socket, ROUTE, 0);
        (attacker.welcome, attacker.joined) = (welcome, start);
        attacker.put_words(&[DATA | 8, 0x1234]);
        hears_nothing(what, &route, attacker);
    }
    common::wait_until("everything is closed", || common::descriptors() <= before + 8);
}

#[test]
fn memory_that_is_no_ring_is_not_read() {
    let _guard = hang_guard();
    let bytes = RING + RING_BYTES as usize;
    let with = |index: usize, value: u64| {
        let mut words = connection_words(RING_BYTES);
        words[index].1 = value;
        Memory::create(bytes, &words, SEALS)
    };
    let offered = [
        ("no seals", Memory::create(bytes, &connection_words(RING_BYTES), 0)),
        ("may shrink", Memory::create(bytes, &connection_words(RING_BYTES), SEALS & !0x02)),
        ("short", Memory::create(bytes - 4096, &connection_words(RING_BYTES), SEALS)),
        ("magic", with(0, 7)),
        ("kind", with(1, 1 | 3 << 32)),
        ("unknown mode", with(2, 0x40)),
        ("ring", with(3, 2 * RING_BYTES)),
        ("size", with(4, 4096)),
    ];
    for (what, memory) in offered {
        let (_scratch, route, socket) = place();
        let mut attacker = RawSender::bind(&socket, ROUTE, 0);
        attacker.memory = memory;
        attacker.put_words(&[DATA | 8]);
        hears_nothing(what, &route, attacker);
    }
}

#[test]
fn a_sender_that_accepts_and_says_nothing_holds_up_no_receiver_for_ever() {
    let _guard = hang_guard();
    let (_scratch, route, socket) = place();
    // Its queue takes whoever connects.
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let mut receiver = receiver(&route, "");
    assert!(receiver.try_next().unwrap().is_none());
    drop(listener);
    std::fs::remove_file(&socket).unwrap();
    hears_a_true_sender(&route, &mut receiver);
}

#[test]
fn a_sender_that_rings_without_end_and_hangs_up_with_a_lie_is_only_gone() {
    let _guard = hang_guard();
    for last in [0_u8, 1, 2, 3, 200] {
        let (_scratch, route, socket) = place();
        let attacker = RawSender::bind(&socket, ROUTE, 0);
        let (mut receiver, link) = join(&route, &attacker);
        let flooding = thread::spawn(move || {
            link.set_nonblocking(true).unwrap();
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            for _ in 0..100 {
                use std::os::fd::AsRawFd;
                let _ = crate::support::send_flagged(link.as_raw_fd(), &[last; 8192], &[], flags);
                thread::yield_now();
            }
        });
        for _ in 0..100 {
            let event = receiver.next_timeout(Duration::from_micros(100)).unwrap();
            let told = event.map(|event| describe(&event)).unwrap_or_default();
            assert!(!told.starts_with("message"), "{told}");
            if told.starts_with("left") {
                break;
            }
        }
        flooding.join().unwrap();
        drop(attacker);
        hears_a_true_sender(&route, &mut receiver);
    }
}
