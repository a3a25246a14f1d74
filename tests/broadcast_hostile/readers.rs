//! Readers that lie to a sender, or do not read.

use crate::broadcast::actor::{ask_for, quit};
use crate::broadcast::{Speech, await_receivers, member_event, name, receiver_process, sender};
use crate::common::{self, Peer, Scratch, hang_guard, scratch_dir};
use crate::raw::{
    self, READER_BYTES, ROUTE, RawReader, reader_hello, reader_memory, reader_words, turned_down,
};
use crate::support::{
    CONSUMED, DATA_SLEEP, DESCRIPTORS, FEATURES, Hello, INTENT, LIMIT, MALFORMED, Memory, PUBLISHED, PURPOSE,
    RING, RING_BYTES, Random, SEALS, SPACE_SLEEP, Turned, VERSION, connection_words, endpoint_words,
};
use ringway::broadcast::{JoinError, MemberEvent, Sender, Sent};
use ringway::{CloseReason, Refusal, Violation};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;

/// A route with an honest receiver that reads all the time.
struct Site {
    _scratch: Scratch,
    sender: Sender,
    honest: Peer,
    speech: Speech,
    socket: PathBuf,
}

fn site(policy: &str) -> Site {
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut sender = sender(&route, policy);
    let mut honest = receiver_process(&route, "");
    await_receivers(&mut sender, 1);
    assert!(matches!(member_event(&mut sender), MemberEvent::Joined(_)));
    honest.send_line(if policy.contains("overwrite") { "lag" } else { "end" });
    let socket = sender.path();
    assert_eq!(socket, raw::route_socket(&route));
    Site { _scratch: scratch, sender, honest, speech: Speech::new(1, 200), socket }
}

impl Site {
    /// Lets somebody made by hand join.
    fn attacker(&mut self) -> RawReader {
        let socket = self.socket.clone();
        let joining = thread::spawn(move || RawReader::join(&socket, ROUTE));
        assert!(matches!(member_event(&mut self.sender), MemberEvent::Joined(_)));
        joining.join().unwrap()
    }

    /// Sends until somebody is thrown out, and returns why.
    fn reason(&mut self) -> CloseReason {
        let mut reason = None;
        common::wait_until("it is thrown out", || {
            self.speech.send(&mut self.sender, 10);
            reason = self.sender.try_event();
            reason.is_some()
        });
        match reason {
            Some(MemberEvent::Left(_, reason)) => reason,
            event => panic!("{event:?}"),
        }
    }

    /// The honest one has got everything.
    fn finish(mut self) {
        self.speech.send_to(&mut self.sender, 1, 100);
        drop(self.sender);
        self.honest.expect_line(&format!("end PeerClosed {}", self.speech.report_all()));
        quit(self.honest);
    }
}

#[test]
fn a_reader_that_lies_about_its_position_is_thrown_out_alone() {
    let _guard = hang_guard();
    let mut site = site("policy=block:1500");
    type Lie = fn(&mut Random, u64) -> u64;
    let lies: [(&str, Lie); 8] = [
        ("maximum", |_, _| u64::MAX),
        ("misaligned", |_, step| 8 * step + 1),
        ("beyond", |_, _| 1 << 40),
        ("random", |random, _| random.next()),
        ("small random", |random, _| random.next() >> 40),
        ("flipping", |_, step| if step % 2 == 0 { 0 } else { 1 << 30 }),
        ("backwards", |_, step| u64::MAX - 8 * step),
        ("wrapping", |_, step| (1_u64 << 63).wrapping_mul(step) + 8),
    ];
    for (lie, value) in lies {
        let attacker = site.attacker();
        let lying = thread::spawn(move || {
            let mut random = Random(0x5eed);
            for step in 0_u64.. {
                attacker.own.set(CONSUMED, value(&mut random, step));
                if step.is_multiple_of(64) {
                    attacker.ring();
                    if attacker.is_hung_up() {
                        return;
                    }
                }
            }
        });
        let reason = site.reason();
        assert!(matches!(reason, CloseReason::Violation(Violation::Position { .. })), "{lie}: {reason:?}");
        lying.join().unwrap();
    }
    site.finish();
}

#[test]
fn a_reader_whose_position_goes_back_after_it_went_on_is_thrown_out() {
    let _guard = hang_guard();
    let mut site = site("policy=block");
    let attacker = site.attacker();
    let mut read = 0;
    // It reads as it should for a while: then there is room.
    for _ in 0..20 {
        site.speech.send_to(&mut site.sender, 2, 20);
        let own = std::process::id();
        let receivers = site.sender.receivers();
        read += receivers.iter().find(|(peer, _)| peer.pid() == own).unwrap().1;
        attacker.own.set(CONSUMED, read);
        attacker.ring();
    }
    // The sender has seen that.
    assert_eq!(site.sender.receivers().len(), 2);
    attacker.own.set(CONSUMED, read - 8);
    let reason = site.reason();
    let CloseReason::Violation(Violation::Position { seen, last, .. }) = reason else { panic!("{reason:?}") };
    assert_eq!((seen, last), (read - 8, read));
    common::wait_until("it is told", || attacker.is_hung_up());
    site.finish();
}

#[test]
fn a_reader_that_scribbles_over_all_its_memory_costs_only_itself() {
    let _guard = hang_guard();
    let mut site = site("policy=block:300");
    for seed in 1..=12 {
        let attacker = site.attacker();
        let scribbling = thread::spawn(move || {
            let mut random = Random(seed);
            let places = [CONSUMED, DATA_SLEEP, SPACE_SLEEP, PUBLISHED, INTENT, 0x90, 0x00, 0x18, 0x30];
            for step in 0_u64.. {
                let place = places[(random.next() % places.len() as u64) as usize];
                // With half of the seeds it never lies about how far it has read, and reads nothing.
                if place != CONSUMED || seed % 2 == 0 {
                    attacker.own.set(place, random.next() >> (random.next() % 64));
                }
                if step.is_multiple_of(256) && attacker.is_hung_up() {
                    return;
                }
            }
        });
        let reason = site.reason();
        let known =
            matches!(reason, CloseReason::Violation(_) | CloseReason::TooSlow | CloseReason::PeerClosed);
        assert!(known, "{reason:?}");
        scribbling.join().unwrap();
    }
    site.finish();
}

#[test]
fn a_reader_that_never_reads_is_treated_by_the_policy() {
    let _guard = hang_guard();
    for policy in ["policy=block:200", "policy=drop", "policy=overwrite", "policy=disconnect"] {
        let mut site = site(&format!("{policy} ring=65536"));
        let attacker = site.attacker();
        let mut dropped = 0;
        for _ in 0..300 {
            match site.sender.send(site.speech.next()).unwrap() {
                Sent::To { .. } => {}
                Sent::Dropped { .. } => {
                    site.speech.unsaid();
                    dropped += 1;
                }
                Sent::NoReceivers => panic!("{policy}: the honest one is gone"),
            }
            // The honest one keeps up, so that only the other is in the way.
            common::wait_until("it has read", || {
                site.sender.receivers().iter().any(|(_, behind)| *behind < 32 << 10)
            });
        }
        // 300 messages do not fill the ring; then as many again as fill it twice.
        if policy == "policy=overwrite" {
            assert_eq!(site.sender.try_event(), None);
            drop(attacker);
            continue;
        }
        for _ in 0..600 {
            let sent = site.sender.send(site.speech.next()).unwrap();
            if matches!(sent, Sent::Dropped { .. }) {
                site.speech.unsaid();
                dropped += 1;
            }
            common::wait_until("it has read", || {
                site.sender.receivers().iter().any(|(_, behind)| *behind < 32 << 10)
            });
        }
        if policy == "policy=drop" {
            assert!(dropped > 200 && site.sender.try_event().is_none(), "{dropped} dropped");
            drop(attacker);
            let reason = site.reason_without_sending();
            assert!(matches!(reason, CloseReason::PeerDied { .. } | CloseReason::PeerClosed), "{reason:?}");
        } else {
            assert_eq!(site.reason(), CloseReason::TooSlow, "{policy}");
            common::wait_until("it is told", || attacker.is_hung_up());
        }
        site.finish();
    }
}

impl Site {
    fn reason_without_sending(&mut self) -> CloseReason {
        match member_event(&mut self.sender) {
            MemberEvent::Left(_, reason) => reason,
            event => panic!("{event:?}"),
        }
    }
}

#[test]
fn doorbells_without_end_and_ends_that_lie_change_nothing_for_others() {
    let _guard = hang_guard();
    let mut site = site("policy=block:300");
    for last in [0, 1, 2, 3, 4, 255] {
        let attacker = site.attacker();
        attacker.socket.set_nonblocking(true).unwrap();
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let flooding = thread::spawn(move || {
            for _ in 0..200 {
                let _ =
                    crate::support::send_flagged(attacker.socket.as_raw_fd(), &[last; 16 << 10], &[], flags);
                thread::yield_now();
            }
            let _ = crate::support::send_flagged(attacker.socket.as_raw_fd(), &[last], &[], flags);
            // Hangs up.
        });
        let reason = site.reason();
        // Whatever it says, it is not the sender that ended it.
        let known =
            matches!(reason, CloseReason::PeerDied { .. } | CloseReason::PeerClosed | CloseReason::TooSlow);
        assert!(known, "{last}: {reason:?}");
        flooding.join().unwrap();
    }
    site.finish();
}

#[test]
fn a_reader_that_wants_to_be_woken_all_the_time_and_drains_nothing_does_not_block_the_sender() {
    let _guard = hang_guard();
    let mut site = site("policy=overwrite");
    let attacker = site.attacker();
    attacker.socket.set_nonblocking(false).unwrap();
    for option in [libc::SO_RCVBUF, libc::SO_SNDBUF] {
        let least = 1_i32;
        // SAFETY: the option's value is a number of 4 bytes, alive during the call.
        let set = unsafe {
            let value = (&raw const least).cast();
            libc::setsockopt(attacker.socket.as_raw_fd(), libc::SOL_SOCKET, option, value, 4)
        };
        assert_eq!(set, 0);
    }
    let mut generation = 0_u64;
    while site.sender.stats().data_bells < 5_000 {
        generation += 1;
        attacker.own.set(DATA_SLEEP, generation << 2 | 1);
        site.speech.send_to(&mut site.sender, 2, 1);
        if generation.is_multiple_of(32) {
            thread::yield_now();
        }
    }
    assert_eq!(site.sender.try_event(), None);
}

#[test]
fn a_reader_that_says_that_it_has_left_and_stays_is_hung_up() {
    let _guard = hang_guard();
    let mut site = site("policy=block");
    let before = common::descriptors();
    for _ in 0..20 {
        let attacker = site.attacker();
        attacker.own.set(DATA_SLEEP, 3);
        assert_eq!(site.reason(), CloseReason::PeerClosed);
        common::wait_until("it is hung up", || attacker.is_hung_up());
    }
    common::wait_until("nothing is kept for it", || common::descriptors() <= before);
    site.finish();
}

#[test]
fn more_readers_than_are_allowed_are_refused_until_one_leaves() {
    let _guard = hang_guard();
    let mut site = site("policy=overwrite many=3");
    let own = reader_memory();
    let ask = |site: &Site| turned_down(&site.socket, &reader_hello(ROUTE), &[own.file.as_raw_fd()]);
    let attackers = [site.attacker(), site.attacker()];
    for _ in 0..50 {
        assert_eq!(ask(&site), Some(LIMIT));
    }
    let route = site.socket.to_str().unwrap().trim_end_matches(".route").to_owned();
    let refused = crate::broadcast::Options::new("").route().receiver(&route).map(|_| ());
    assert!(matches!(refused, Err(JoinError::Refused(Refusal::Limit))), "{refused:?}");
    drop(attackers);
    for _ in 0..2 {
        assert!(matches!(member_event(&mut site.sender), MemberEvent::Left(..)));
    }
    let later = [site.attacker(), site.attacker()];
    assert_eq!(ask(&site), Some(LIMIT));
    drop(later);
}

#[test]
fn hellos_that_no_reader_says_are_refused_by_their_name() {
    let _guard = hang_guard();
    let mut site = site("policy=block:1000");
    let own = reader_memory();
    let good = reader_hello(ROUTE);
    let bent: &[(&str, Hello, &[Turned])] = &[
        ("magic", good.put(0, b"NOTRINGW"), &[MALFORMED]),
        ("protocol version", good.put(8, &[9, 9]), &[VERSION]),
        ("layout version", good.put(12, &[2]), &[VERSION]),
        ("type 0", good.put(10, &[0]), &[MALFORMED]),
        ("a welcome", good.put(10, &[2]), &[MALFORMED]),
        ("a refusal", good.put(10, &[3]), &[MALFORMED, DESCRIPTORS]),
        ("type 9", good.put(10, &[9]), &[MALFORMED]),
        ("length", good.put(16, &[127]), &[MALFORMED]),
        ("a connection", good.put(20, &[1]), &[PURPOSE, MALFORMED, DESCRIPTORS]),
        ("a channel", good.put(20, &[3]), &[PURPOSE]),
        ("purpose 0", good.put(20, &[0]), &[PURPOSE]),
        ("purpose 99", good.put(20, &[99]), &[PURPOSE]),
        ("a required feature", good.put(24, &[1]), &[FEATURES]),
        ("features of a segment", good.put(40, &[1]), &[FEATURES, MALFORMED]),
        ("unknown features of a segment", good.put(40, &[0, 1]), &[FEATURES]),
        ("a ring", good.put(48, &RING_BYTES.to_le_bytes()), &[MALFORMED]),
        ("no message at all", good.put(56, &[0; 8]), &[MALFORMED]),
        ("flags", good.put(64, &[2]), &[MALFORMED]),
        ("a reason", good.put(68, &[1]), &[MALFORMED]),
        ("slots", good.put(72, &[0xff; 4]), &[MALFORMED]),
        ("number of descriptors", good.put(80, &[2]), &[DESCRIPTORS]),
        ("kind of descriptor", good.put(84, &[3]), &[DESCRIPTORS]),
        ("an instance", good.put(96, &[1]), &[MALFORMED]),
        ("reserved", good.put(127, &[1]), &[MALFORMED]),
    ];
    for (what, hello, expected) in bent {
        let turned = turned_down(&site.socket, hello, &[own.file.as_raw_fd()]);
        assert!(
            turned.is_some_and(|turned| expected.contains(&turned) || turned == Turned::Away),
            "{what}: {turned:?}"
        );
        site.speech.send_to(&mut site.sender, 1, 3);
    }
    assert_eq!(site.sender.try_event(), None, "nobody got in");
    site.finish();
}

#[test]
fn descriptors_that_are_no_readers_memory_are_refused_and_closed() {
    let _guard = hang_guard();
    let mut site = site("policy=block:1000");
    let good = reader_hello(ROUTE);
    let make = |bytes: usize, words: &[(usize, u64)], seals| Memory::create(bytes, words, seals).file_copy();
    let with = |index: usize, value: u64| {
        let mut words = reader_words();
        words[index].1 = value;
        make(READER_BYTES, &words, SEALS)
    };
    let (pipe, _end) = std::io::pipe().unwrap();
    let (socket, _other) = UnixStream::pair().unwrap();
    let ring = RING + RING_BYTES as usize;
    let offered: Vec<(&str, OwnedFd)> = vec![
        ("no seals", make(READER_BYTES, &reader_words(), 0)),
        ("may shrink", make(READER_BYTES, &reader_words(), SEALS & !0x02)),
        ("others may write", make(READER_BYTES, &reader_words(), SEALS & !0x10)),
        ("short", make(READER_BYTES / 2, &reader_words(), SEALS)),
        ("long", make(2 * READER_BYTES, &reader_words(), SEALS)),
        ("a connection's", make(ring, &connection_words(RING_BYTES), SEALS)),
        ("of a connection's kind", with(1, 1 | 1 << 32)),
        ("an endpoint's", make(READER_BYTES, &endpoint_words(0)[..5], SEALS)),
        ("magic", with(0, 1)),
        ("version", with(1, 2 | 3 << 32)),
        ("features", with(2, 1)),
        ("a ring", with(3, RING_BYTES)),
        ("another size inside", with(4, 8192)),
        ("a pipe", pipe.into()),
        ("a socket", socket.into()),
        ("a path", crate::support::open_path("/tmp")),
    ];
    let before = common::descriptors();
    for (what, file) in &offered {
        let turned = turned_down(&site.socket, &good, &[file.as_raw_fd()]);
        assert!(matches!(turned, Some(Turned::Down(_) | Turned::Away)), "{what}: {turned:?}");
        site.speech.send_to(&mut site.sender, 1, 3);
    }
    let own = reader_memory();
    for count in [0, 2, 8, 9, 253] {
        let files: Vec<RawFd> = vec![own.file.as_raw_fd(); count];
        let turned = turned_down(&site.socket, &good, &files);
        assert!(matches!(turned, Some(DESCRIPTORS | Turned::Away)), "{count} descriptors: {turned:?}");
    }
    drop(own);
    common::wait_until("they are closed", || common::descriptors() <= before);
    assert_eq!(site.sender.try_event(), None, "nobody got in");
    site.finish();
}

#[test]
fn hellos_that_are_begun_and_not_finished_keep_nobody_out() {
    let _guard = hang_guard();
    let mut site = site("policy=block:1000");
    let half: Vec<UnixStream> = (0..500)
        .map(|index| {
            let socket = crate::support::open(site.socket.to_str().unwrap());
            let part = &reader_hello(ROUTE).0[..index % 128];
            let _ = crate::support::send_files(socket.as_raw_fd(), part, &[]);
            socket
        })
        .collect();
    let honest = site.attacker();
    site.speech.send_to(&mut site.sender, 2, 10);
    drop((half, honest));
    assert!(matches!(site.reason_without_sending(), CloseReason::PeerDied { .. } | CloseReason::PeerClosed));
    let mut later = receiver_process(site.socket.to_str().unwrap().trim_end_matches(".route"), "");
    site.speech.send_to(&mut site.sender, 2, 10);
    let first = site.speech.next - 10;
    ask_for(&mut later, "receive 10", &format!("received {}", site.speech.report(first..first + 10)));
    quit(later);
    assert!(matches!(member_event(&mut site.sender), MemberEvent::Joined(_)));
    assert!(matches!(member_event(&mut site.sender), MemberEvent::Left(_, CloseReason::PeerClosed)));
    site.finish();
}
