//! What a connection does, by its public items: sending, receiving, halves, counters, settings, errors.
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

mod common;

use common::{DEADLINE, Peer, check, hang_guard, message, scratch_dir};
use ringway::{
    CloseReason, Config, ConfigError, ConnectError, Connection, NameError, Profile, RecvTimeoutError,
    SendError, SendTimeoutError, TryRecvError, TrySendError, Violation, Wait,
};
use std::error::Error;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

#[test]
fn peer_process() {
    common::run_role(&[("talk", role_talk), ("default_name", role_default_name)]);
}

fn pair() -> (Connection, Connection) {
    ringway::pair(&Config::new().ring_bytes(16 << 10)).unwrap()
}

// Sending and receiving.

#[test]
fn a_message_that_was_sent_is_there_at_once() {
    let (mut here, mut there) = pair();
    here.try_send(b"one").unwrap();
    assert_eq!(&*there.try_recv().unwrap(), b"one");
    assert_eq!(there.try_recv().map(|_| ()), Err(TryRecvError::Empty));
}

#[test]
fn a_message_shows_its_bytes_in_every_way() {
    let _guard = hang_guard();
    let (mut here, mut there) = pair();
    here.send(b"hello").unwrap();
    let message = there.recv().unwrap();
    assert_eq!((message.as_ref(), message.to_vec()), (&b"hello"[..], b"hello".to_vec()));
    assert_eq!((message.len(), message.is_borrowed()), (5, false));
    assert_eq!(format!("{message:?}"), "Message(5 bytes)");
}

#[test]
fn a_full_ring_takes_nothing_and_says_so() {
    let (mut here, mut there) = pair();
    let mut count = 0;
    while here.try_send(&message(count, 1000)).is_ok() {
        count += 1;
    }
    assert_eq!(here.try_send(&[0; 1000]), Err(TrySendError::Full));
    assert_eq!(here.sender().try_claim(1000).map(|_| ()), Err(TrySendError::Full));
    assert_eq!(here.sender().try_send_batch(&[[0; 1000]]), Err(TrySendError::Full));
    for number in 0..count {
        check(&there.try_recv().unwrap(), number, 1000);
    }
    assert_eq!(there.try_recv().map(|_| ()), Err(TryRecvError::Empty));
    here.try_send(&[0; 1000]).unwrap();
}

#[test]
fn the_verbs_that_never_wait_take_one_record_at_most() {
    let (mut here, _there) = pair();
    let max = here.sender().record_bytes_max();
    assert_eq!(max, 4096 - 8);
    assert_eq!(here.try_send(&vec![0; max + 1]), Err(TrySendError::TooLarge { len: max + 1, max }));
    assert_eq!(
        here.sender().try_claim(max + 1).map(|_| ()),
        Err(TrySendError::TooLarge { len: max + 1, max })
    );
    assert_eq!(here.sender().claim(max + 1).map(|_| ()), Err(SendError::TooLarge { len: max + 1, max }));
    let timed = here.sender().claim_timeout(max + 1, DEADLINE).map(|_| ());
    assert_eq!(timed, Err(SendTimeoutError::TooLarge { len: max + 1, max }));
    here.try_send(&vec![0; max]).unwrap();
}

#[test]
fn a_batch_takes_as_many_as_there_is_room_for() {
    let (mut here, mut there) = pair();
    let batch: Vec<Vec<u8>> = (0..100).map(|number| message(number, 1000)).collect();
    let count = here.sender().try_send_batch(&batch).unwrap();
    assert!((10..100).contains(&count), "{count} messages of 1000 bytes in 16 KiB");
    let mut number = 0;
    let received = there.receiver().try_recv_batch(100, |bytes| {
        check(bytes, number, 1000);
        number += 1;
    });
    assert_eq!(received, Ok(count));
    assert_eq!(here.sender().try_send_batch::<&[u8]>(&[]), Ok(0));
}

#[test]
fn a_batch_stops_before_a_message_that_is_too_large() {
    let _guard = hang_guard();
    let (mut here, mut there) = pair();
    let batch = [message(0, 10), message(1, 5000), message(2, 10)];
    assert_eq!(here.sender().try_send_batch(&batch), Ok(1));
    let refused = here.sender().try_send_batch(&batch[1..]);
    assert_eq!(refused, Err(TrySendError::TooLarge { len: 5000, max: 4088 }));
    check(&there.recv().unwrap(), 0, 10);
    here.sender().send_batch(&batch[1..]).unwrap();
    check(&there.recv().unwrap(), 1, 5000);
    check(&there.recv().unwrap(), 2, 10);
}

#[test]
fn a_batch_receives_at_most_what_was_asked_for() {
    let (mut here, mut there) = pair();
    for number in 0..10 {
        here.send(&message(number, 10)).unwrap();
    }
    assert_eq!(there.receiver().try_recv_batch(0, |_| panic!("none was asked for")), Ok(0));
    assert_eq!(there.receiver().try_recv_batch(4, |_| ()), Ok(4));
    assert_eq!(there.receiver().try_recv_batch(100, |_| ()), Ok(6));
    assert_eq!(there.receiver().try_recv_batch(100, |_| ()), Err(TryRecvError::Empty));
}

#[test]
fn a_claim_that_is_given_back_leaves_no_trace() {
    let (mut here, mut there) = pair();
    here.sender().try_claim(100).unwrap().fill(1);
    here.sender().try_claim(100).unwrap().abort();
    assert_eq!(there.try_recv().map(|_| ()), Err(TryRecvError::Empty));
    assert_eq!(here.stats().sent_messages, 0);
    here.send(&message(7, 50)).unwrap();
    check(&there.recv().unwrap(), 7, 50);
}

#[test]
fn a_claim_may_be_committed_in_part() {
    let _guard = hang_guard();
    let (mut here, mut there) = pair();
    for used in [0, 1, 99, 100] {
        let mut claim = here.sender().claim(100).unwrap();
        assert_eq!(claim.len(), 100);
        claim[..used].copy_from_slice(&message(3, used));
        claim.commit_len(used);
        check(&there.recv().unwrap(), 3, used);
    }
}

#[test]
#[should_panic(expected = "commit of 101 bytes but only 100 were claimed")]
fn committing_more_than_was_claimed_panics() {
    let (mut here, _there) = pair();
    here.sender().claim(100).unwrap().commit_len(101);
}

#[test]
#[should_panic(expected = "alignment 128 is not a power of two up to 64")]
fn an_alignment_that_cannot_be_panics() {
    let (mut here, _there) = pair();
    let _ = here.sender().try_claim_aligned(8, 128);
}

#[test]
fn borrowed_messages_lie_in_the_ring_and_keep_their_alignment() {
    // SAFETY: both ends are in this test, which never writes to a message after sending it.
    let config = unsafe { Config::new().ring_bytes(16 << 10).trust_peer() };
    let (mut here, mut there) = ringway::pair(&config).unwrap();
    for round in 0..2_000 {
        let mut claim = here.sender().try_claim_aligned(100, 64).unwrap();
        common::fill(&mut claim, round);
        claim.commit();
        let message = there.recv().unwrap();
        assert!(message.is_borrowed());
        assert_eq!(message.as_ptr() as usize % 64, 0);
        check(&message, round, 100);
    }
}

#[test]
fn a_deadline_in_the_past_only_looks() {
    let (here, there) = pair();
    let ((mut sender, _), (_, mut receiver)) = (here.split(), there.split());
    let past = Instant::now();
    assert_eq!(receiver.recv_deadline(past).map(|_| ()), Err(RecvTimeoutError::Timeout));
    sender.send_deadline(b"there is room", past).unwrap();
    assert_eq!(&*receiver.recv_deadline(past).unwrap(), b"there is room");
    while sender.try_send(&[0; 1000]).is_ok() {}
    assert_eq!(sender.send_deadline(&[0; 1000], past), Err(SendTimeoutError::Timeout));
}

#[test]
fn a_time_out_beyond_the_clock_is_none() {
    let (mut here, mut there) = pair();
    here.send_timeout(b"x", Duration::MAX).unwrap();
    assert_eq!(&*there.recv_timeout(Duration::MAX).unwrap(), b"x");
}

// Halves and iterators.

#[test]
fn both_halves_are_lent_to_answer_while_the_question_is_borrowed() {
    let _guard = hang_guard();
    let (mut here, mut there) = pair();
    here.send(b"question").unwrap();
    let (sender, receiver) = there.halves();
    let question = receiver.recv().unwrap();
    sender.send(&question).unwrap();
    assert_eq!(&*here.recv().unwrap(), b"question");
}

#[test]
fn the_iterator_yields_owned_messages_and_ends_with_a_graceful_close() {
    let _guard = hang_guard();
    let (mut here, mut there) = pair();
    for number in 0..5 {
        here.send(&message(number, 100)).unwrap();
    }
    here.close();
    let all: Vec<Vec<u8>> = there.receiver().messages().collect::<Result<_, _>>().unwrap();
    assert_eq!(all, (0..5).map(|number| message(number, 100)).collect::<Vec<_>>());
}

#[test]
fn the_iterator_yields_a_death_as_its_last_item() {
    let _guard = hang_guard();
    let (mut peer, mut connection) = common::connected("talk", &[], &Config::new());
    peer.expect_line("sent");
    peer.kill9();
    let mut messages = connection.receiver().messages();
    check(&messages.next().unwrap().unwrap(), 0, 100);
    let end = messages.next().unwrap().unwrap_err();
    assert_eq!(end.reason(), &CloseReason::PeerDied { pid: peer.pid() });
    assert!(messages.next().is_none());
}

#[test]
fn closing_one_half_leaves_the_other() {
    let _guard = hang_guard();
    let (here, mut there) = pair();
    let (sender, mut receiver) = here.split();
    sender.close();
    assert_eq!(there.recv().unwrap_err().reason(), &CloseReason::PeerClosed);
    there.send(b"still open").unwrap();
    assert_eq!(&*receiver.recv().unwrap(), b"still open");
    receiver.close();
    let refused = std::iter::repeat_with(|| there.try_send(b"x")).find_map(Result::err);
    assert_eq!(refused, Some(TrySendError::Closed(CloseReason::PeerClosed)));
}

#[test]
fn every_sending_verb_says_that_the_peer_closed() {
    let _guard = hang_guard();
    let (mut here, there) = pair();
    drop(there);
    let closed = CloseReason::PeerClosed;
    let sender = here.sender();
    let refused = std::iter::repeat_with(|| sender.send(b"x")).find_map(Result::err);
    assert_eq!(refused, Some(SendError::Closed(closed.clone())));
    assert_eq!(sender.try_send(b"x"), Err(TrySendError::Closed(closed.clone())));
    assert_eq!(sender.send_timeout(b"x", DEADLINE), Err(SendTimeoutError::Closed(closed.clone())));
    assert_eq!(sender.try_claim(1).map(|_| ()), Err(TrySendError::Closed(closed.clone())));
    assert_eq!(sender.claim(1).map(|_| ()), Err(SendError::Closed(closed.clone())));
    assert_eq!(sender.claim_timeout(1, DEADLINE).map(|_| ()), Err(SendTimeoutError::Closed(closed.clone())));
    assert_eq!(sender.try_send_batch(&[b"x"]), Err(TrySendError::Closed(closed.clone())));
    assert_eq!(sender.send_batch(&[b"x"]), Err(SendError::Closed(closed)));
}

// Who it is, and what it counts.

#[test]
fn the_peer_is_named_as_the_kernel_knows_it() {
    let _guard = hang_guard();
    let (peer, connection) = common::connected("talk", &[], &Config::new());
    let cred = connection.peer_cred();
    assert_eq!(cred.pid, peer.pid());
    assert_eq!(cred.uid, rustix::process::getuid().as_raw());
    assert_eq!(cred.gid, rustix::process::getgid().as_raw());
    let (sender, receiver) = connection.split();
    assert_eq!((sender.peer_cred(), receiver.peer_cred()), (cred, cred));
}

#[test]
fn the_counters_are_exact() {
    let _guard = hang_guard();
    let (mut here, mut there) = pair();
    here.send(&[0; 100]).unwrap();
    here.send(b"").unwrap();
    here.sender().send_batch(&[[0; 10]; 5]).unwrap();
    here.sender().claim(200).unwrap().commit_len(150);
    here.send(&[0; 9_000]).unwrap();
    let stats = here.stats();
    assert_eq!((stats.sent_messages, stats.sent_bytes), (9, 9_300), "a message in fragments counts once");
    assert_eq!((stats.full, stats.space_sleeps, stats.received_messages), (0, 0, 0));
    while there.try_recv().is_ok() {}
    let stats = there.stats();
    assert_eq!((stats.received_messages, stats.received_bytes), (9, 9_300));
    assert_eq!((stats.sent_messages, stats.violations, stats.lagged_bytes, stats.data_sleeps), (0, 0, 0, 0));
    while here.try_send(&[0; 1000]).is_ok() {}
    assert_eq!(here.stats().full, 1);
    let (sender, receiver) = here.split();
    assert_eq!(sender.stats(), receiver.stats());
}

// Settings.

#[test]
fn settings_out_of_bounds_are_refused_by_every_way_in() {
    let wrong = [
        (Config::new().ring_bytes(8 << 10), ConfigError::RingBytes { ring_bytes: 8 << 10 }, "16384"),
        (Config::new().ring_bytes(20_000), ConfigError::RingBytes { ring_bytes: 20_000 }, "20000"),
        (Config::new().ring_bytes(2 << 30), ConfigError::RingBytes { ring_bytes: 2 << 30 }, "1073741824"),
        (
            Config::new().message_bytes_max(0),
            ConfigError::MessageBytesMax { message_bytes_max: 0 },
            "between 1",
        ),
        (Config::new().connections_max(0), ConfigError::Connections { connections_max: 0 }, "65536"),
        (
            Config::new().connections_max(65_537),
            ConfigError::Connections { connections_max: 65_537 },
            "65537",
        ),
        (
            Config::new().connections_per_uid_max(0),
            ConfigError::Connections { connections_max: 0 },
            "between 1",
        ),
    ];
    let scratch = scratch_dir();
    for (config, expected, text) in wrong {
        match ringway::pair(&config) {
            Err(ConnectError::Config(error)) => {
                assert_eq!(error, expected);
                assert!(error.to_string().contains(text), "{error}");
            }
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("accepted: {config:?}"),
        }
        assert!(matches!(config.connect(&scratch.socket("none")), Err(ConnectError::Config(_))));
        assert!(matches!(config.bind(&scratch.socket("none")), Err(ringway::BindError::Config(_))));
    }
    assert_eq!(scratch.entries(), [""; 0], "refused before anything was made");
}

#[test]
fn the_bounds_themselves_are_accepted() {
    for ring_bytes in [16 << 10, 1 << 30] {
        let (mut here, mut there) =
            ringway::pair(&Config::new().ring_bytes(ring_bytes).message_bytes_max(1 << 30)).unwrap();
        here.send(&message(1, 100)).unwrap();
        check(&there.recv().unwrap(), 1, 100);
        assert_eq!(here.sender().record_bytes_max() as u64, ring_bytes / 4 - 8);
    }
    let (mut here, mut there) = ringway::pair(&Config::new().message_bytes_max(1)).unwrap();
    here.send(b"x").unwrap();
    assert_eq!(here.send(b"xy"), Err(SendError::TooLarge { len: 2, max: 1 }));
    assert_eq!(&*there.recv().unwrap(), b"x");
}

#[test]
fn every_way_of_waiting_and_every_profile_carries_messages() {
    let _guard = hang_guard();
    for wait in [Wait::Auto, Wait::Spin, Wait::Sleep] {
        for profile in [Profile::Latency, Profile::Bulk] {
            for config in [Config::new(), Config::default().prefault(true), Config::new().patience(0)] {
                let (mut here, mut there) = ringway::pair(&config.profile(profile).wait(wait)).unwrap();
                here.send(&message(1, 100_000)).unwrap();
                check(&there.recv().unwrap(), 1, 100_000);
            }
        }
    }
}

// Connecting.

#[test]
fn connecting_to_nobody_says_where_and_what_to_do() {
    let scratch = scratch_dir();
    let socket = scratch.socket("nobody");
    let error = Config::new().connect(&socket).map(|_| ()).unwrap_err();
    assert!(
        matches!(&error, ConnectError::NoListener { path } if path.to_str() == Some(&socket)),
        "{error:?}"
    );
    assert_eq!(
        error.to_string(),
        format!("nobody listens on {socket}; start the server first or check the name")
    );
}

#[test]
fn connecting_to_a_socket_whose_listener_died_is_connecting_to_nobody() {
    let scratch = scratch_dir();
    let socket = scratch.socket("dead");
    drop(UnixListener::bind(&socket).unwrap());
    let error = Config::new().connect(&socket).map(|_| ()).unwrap_err();
    assert!(matches!(error, ConnectError::NoListener { .. }), "{error:?}");
}

#[test]
fn a_name_that_cannot_be_is_refused() {
    for name in ["", ".hidden", "a b", "ä", &"x".repeat(65)] {
        let error = ringway::connect(name).map(|_| ()).unwrap_err();
        assert!(matches!(&error, ConnectError::Name(NameError::Invalid { .. })), "{name:?}: {error:?}");
        assert!(error.to_string().contains("use 1 to 64 characters"), "{error}");
    }
    let long = format!("/tmp/{}/x.sock", "d".repeat(200));
    let error = ringway::connect(&long).map(|_| ()).unwrap_err();
    assert!(matches!(&error, ConnectError::Name(NameError::TooLong { .. })), "{error:?}");
    assert!(error.to_string().contains("choose a shorter name or set RINGWAY_DIR"), "{error}");
}

#[test]
fn a_listener_that_never_answers_is_a_time_out() {
    let scratch = scratch_dir();
    let socket = scratch.socket("silent");
    let _silent = UnixListener::bind(&socket).unwrap();
    let config = Config::new().connect_timeout(Duration::from_millis(20));
    let error = config.connect(&socket).map(|_| ()).unwrap_err();
    assert!(matches!(error, ConnectError::Timeout), "{error:?}");
    assert!(error.to_string().contains("stopped or overloaded"), "{error}");
}

#[test]
fn a_listener_that_hangs_up_dropped_the_connection() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let socket = scratch.socket("rude");
    let rude = UnixListener::bind(&socket).unwrap();
    let hanging_up = std::thread::spawn(move || drop(rude.accept().unwrap()));
    let error = Config::new().connect(&socket).map(|_| ()).unwrap_err();
    hanging_up.join().unwrap();
    assert!(matches!(error, ConnectError::Dropped), "{error:?}");
    assert!(error.to_string().contains("closed the connection during the handshake"), "{error}");
}

#[test]
fn something_that_is_no_socket_is_an_error_of_the_system_or_nobody() {
    let scratch = scratch_dir();
    let path = scratch.socket("file");
    std::fs::write(&path, "not a socket").unwrap();
    let error = Config::new().connect(&path).map(|_| ()).unwrap_err();
    assert!(matches!(error, ConnectError::NoListener { .. } | ConnectError::Os { .. }), "{error:?}");
}

#[test]
fn a_plain_name_is_looked_up_in_the_runtime_directory() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    Peer::spawn("default_name", &[("RINGWAY_DIR", scratch.text())]).finish();
    assert_eq!(scratch.entries(), [""; 0]);
}

// What errors say: what happened, with numbers, and what to do.

#[test]
fn every_reason_for_an_end_says_what_to_do() {
    let texts = [
        (CloseReason::PeerClosed, "the peer closed its side", "connect again"),
        (CloseReason::PeerDied { pid: 77 }, "process 77", "connect again"),
        (CloseReason::Forked, "belongs to the parent process", "must connect for itself"),
        (CloseReason::Os { errno: libc::ENOMEM }, "Cannot allocate memory", "connect again"),
        (CloseReason::Violation(Violation::Header { word: 0xabc }), "0x0000000000000abc", "connect again"),
    ];
    for (reason, what, advice) in texts {
        for text in [
            reason.to_string(),
            TrySendError::Closed(reason.clone()).to_string(),
            SendError::Closed(reason.clone()).to_string(),
            SendTimeoutError::Closed(reason.clone()).to_string(),
            TryRecvError::Closed(reason.clone()).to_string(),
            RecvTimeoutError::Closed(reason.clone()).to_string(),
        ] {
            assert!(text.contains(what) && text.contains(advice), "{text}");
        }
    }
}

#[test]
fn every_error_of_a_verb_says_what_to_do() {
    let (len, max) = (5000, 4088);
    let too_large = "a message of 5000 bytes cannot be sent this way, at most 4088 fit; split it, use `send`";
    let no_memory = "free some and try again";
    let texts = [
        (TrySendError::Full.to_string(), "the receiver must read first"),
        (TrySendError::TooLarge { len, max }.to_string(), too_large),
        (SendError::TooLarge { len, max }.to_string(), too_large),
        (SendTimeoutError::TooLarge { len, max }.to_string(), too_large),
        (TrySendError::NoMemory { errno: libc::ENOMEM }.to_string(), no_memory),
        (SendError::NoMemory { errno: libc::ENOMEM }.to_string(), no_memory),
        (SendTimeoutError::NoMemory { errno: libc::ENOMEM }.to_string(), no_memory),
        (SendTimeoutError::Timeout.to_string(), "no room came free in time"),
        (TryRecvError::Empty.to_string(), "try again or use `recv`"),
        (RecvTimeoutError::Timeout.to_string(), "no message arrived in time"),
    ];
    for (text, part) in texts {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_violation_is_the_source_of_the_error_that_reports_it() {
    let violation = Violation::Padding;
    let error = TryRecvError::Closed(CloseReason::Violation(violation.clone()));
    assert_eq!(error.source().unwrap().to_string(), violation.to_string());
    assert!(TryRecvError::Empty.source().is_none());
}

// Roles.

fn role_talk() {
    let mut connection = common::join(&Config::new());
    connection.send(&message(0, 100)).unwrap();
    common::say("sent");
    common::hear();
}

fn role_default_name() {
    let directory = std::path::PathBuf::from(common::variable("RINGWAY_DIR"));
    assert_eq!(ringway::runtime_directory(), directory);
    let mut listener = ringway::Listener::bind("web-1.prod_2").unwrap();
    assert_eq!(listener.path(), directory.join("web-1.prod_2.sock"));
    let connecting = std::thread::spawn(|| ringway::connect("web-1.prod_2").unwrap());
    let mut accepted = listener.accept_timeout(DEADLINE).unwrap();
    let mut connected = connecting.join().unwrap();
    connected.send(&message(0, 100)).unwrap();
    check(&accepted.recv().unwrap(), 0, 100);
}
