//! Processes that are killed at every step of the writer, the reader, the sleeper, the handshake and the close.
//!
//! Each case starts a process that kills itself at a point, the first, the second or the hundredth time. It must really
//! die there: a point that is never reached fails the test. The honest side gets whole messages only, in order, each
//! once; its blocked call returns and says why; then everything is as if the dead had never been there.
#![cfg(feature = "crash-points")]
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

mod common;

use common::{DEADLINE, Peer, Scratch, check, hang_guard, message, mixed_len, scratch_dir};
use ringway::{
    AcceptError, CRASH_POINTS, CloseReason, Config, ConnectError, Connection, Listener, SendError, Wait,
};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

/// A role, and the points that it passes as often as the list says.
struct Scenario {
    role: &'static str,
    points: &'static [(&'static str, &'static [u64])],
}

/// The dying process connects and answers messages of all sizes; both sides sleep whenever they wait.
const ANSWERING_CLIENT: Scenario = Scenario {
    role: "answer",
    points: &[
        ("producer.reserved", &[1, 2, 100]),
        ("producer.payload_written", &[1, 2, 100]),
        ("producer.staged", &[1, 2, 100]),
        ("producer.zeroed", &[1, 2, 100]),
        ("producer.published", &[1, 2, 100]),
        ("producer.rung", &[1, 2, 100]),
        ("consumer.header_seen", &[1, 2, 100]),
        ("consumer.payload_copied", &[1, 2, 100]),
        ("consumer.advanced", &[1, 2, 100]),
        ("consumer.released", &[1, 2, 100]),
        ("sleeper.armed", &[1, 2, 100]),
        ("sleeper.parked", &[1, 2, 100]),
        ("sleeper.woken", &[1, 2, 100]),
        ("fragments.between", &[1, 2, 100]),
    ],
};

/// The dying process connects and sends a stream into a ring that never fills, so that the count is exact.
const STREAMING_CLIENT: Scenario = Scenario {
    role: "stream",
    points: &[
        ("producer.reserved", &[1, 2, 100]),
        ("producer.payload_written", &[1, 2, 100]),
        ("producer.staged", &[1, 2, 100]),
        ("producer.zeroed", &[1, 2, 100]),
        ("producer.published", &[1, 2, 100]),
        ("close.word_stored", &[1]),
    ],
};

/// The dying process connects and sends messages of several fragments.
const FRAGMENTING_CLIENT: Scenario = Scenario {
    role: "fragment",
    points: &[("fragments.between", &[1, 2, 3, 100]), ("sleeper.parked", &[1]), ("sleeper.woken", &[1])],
};

/// The dying process connects and receives a stream.
const RECEIVING_CLIENT: Scenario = Scenario {
    role: "receive",
    points: &[
        ("consumer.header_seen", &[1, 2, 100]),
        ("consumer.payload_copied", &[1, 2, 100]),
        ("consumer.advanced", &[1, 2, 100]),
        ("consumer.released", &[1, 2, 100]),
        ("sleeper.armed", &[1]),
        ("sleeper.parked", &[1]),
        ("sleeper.woken", &[1]),
    ],
};

/// The dying process says hello, or has got its answer.
const SHAKING_CLIENT: Scenario = Scenario {
    role: "answer",
    points: &[("handshake.hello_sent", &[1]), ("handshake.welcome_received", &[1])],
};

/// The dying process listens; the client's connection ends, and the name is taken over.
const LISTENER: Scenario = Scenario {
    role: "listen",
    points: &[
        ("handshake.hello_received", &[1, 2]),
        ("handshake.segment_created", &[1, 2]),
        ("handshake.welcome_sent", &[1, 2]),
        ("producer.published", &[1, 2, 100]),
        ("consumer.released", &[1, 2, 100]),
        ("sleeper.parked", &[1, 2, 100]),
        ("sleeper.woken", &[1, 2, 100]),
    ],
};

const SCENARIOS: &[&Scenario] = &[
    &ANSWERING_CLIENT,
    &STREAMING_CLIENT,
    &FRAGMENTING_CLIENT,
    &RECEIVING_CLIENT,
    &SHAKING_CLIENT,
    &LISTENER,
];

#[test]
fn peer_process() {
    common::run_role(&[
        ("answer", role_answer),
        ("stream", role_stream),
        ("fragment", role_fragment),
        ("receive", role_receive),
        ("listen", role_listen),
        ("honest", role_honest),
    ]);
}

#[test]
fn every_point_is_in_a_scenario() {
    for point in CRASH_POINTS {
        let known = SCENARIOS.iter().any(|scenario| scenario.points.iter().any(|(name, _)| name == point));
        assert!(known, "nobody dies at {point}");
    }
    for (point, _) in SCENARIOS.iter().flat_map(|scenario| scenario.points) {
        assert!(CRASH_POINTS.contains(point), "there is no point {point}");
    }
}

#[test]
fn a_client_that_dies_while_answering_ends_only_its_own_connection() {
    in_a_process_of_its_own("answering");
}

#[test]
fn a_client_that_dies_in_a_stream_has_sent_exactly_what_it_published() {
    in_a_process_of_its_own("streaming");
}

#[test]
fn a_client_that_dies_between_fragments_has_sent_whole_messages_only() {
    in_a_process_of_its_own("fragmenting");
}

#[test]
fn a_client_that_dies_while_receiving_does_not_leave_the_sender_blocked() {
    in_a_process_of_its_own("receiving");
}

#[test]
fn a_client_that_dies_in_the_handshake_costs_the_listener_nothing() {
    in_a_process_of_its_own("shaking");
}

#[test]
fn the_name_of_a_listener_that_died_is_taken_over_without_help() {
    in_a_process_of_its_own("listening");
}

/// Runs the honest side in a process of its own, so that the descriptors it counts belong to nobody else.
fn in_a_process_of_its_own(part: &str) {
    let _guard = hang_guard();
    Peer::spawn("honest", &[("PART", part)]).finish();
}

fn role_honest() {
    let before = common::descriptors();
    let scratch = scratch_dir();
    match common::variable("PART").as_str() {
        "answering" => with_listener(&scratch, &ANSWERING_CLIENT, ask_until_the_end),
        "streaming" => with_listener(&scratch, &STREAMING_CLIENT, receive_exactly),
        "fragmenting" => with_listener(&scratch, &FRAGMENTING_CLIENT, receive_whole_messages),
        "receiving" => with_listener(&scratch, &RECEIVING_CLIENT, send_until_the_end),
        "shaking" => with_shaking_clients(&scratch),
        "listening" => with_dying_listeners(&scratch),
        part => panic!("there is no part {part}"),
    }
    drop(scratch);
    assert_eq!(common::descriptors(), before, "descriptors");
}

/// What a case is about.
struct Case<'a> {
    point: &'a str,
    count: u64,
    pid: u32,
}

impl Case<'_> {
    fn died(&self) -> CloseReason {
        CloseReason::PeerDied { pid: self.pid }
    }
}

/// For each point: a client dies there, the honest side does its part, and the next client finds all in order.
fn with_listener(scratch: &Scratch, scenario: &Scenario, honest: impl Fn(&Case<'_>, Connection)) {
    let socket = scratch.socket("test");
    let mut listener = config().bind(&socket).unwrap();
    for (point, counts) in scenario.points {
        for &count in *counts {
            let before = common::descriptors();
            let mut peer = start(scenario.role, &socket, Some((point, count)));
            let connection = listener.accept_timeout(DEADLINE).unwrap();
            honest(&Case { point, count, pid: peer.pid() }, connection);
            must_have_died_there(&mut peer, point, count);
            drop(peer);
            serve_a_client(&mut listener, &socket);
            assert_eq!(common::descriptors(), before, "descriptors after {point}:{count}");
        }
    }
    assert_eq!(listener.connections(), 0);
    drop(listener);
    assert_eq!(names(scratch), [""; 0], "the directory is clean");
}

fn with_shaking_clients(scratch: &Scratch) {
    let socket = scratch.socket("test");
    let mut listener = config().bind(&socket).unwrap();
    for reaped_first in [false, true] {
        for (point, counts) in SHAKING_CLIENT.points {
            let mut peer = start(SHAKING_CLIENT.role, &socket, Some((point, counts[0])));
            if reaped_first && *point == "handshake.hello_sent" {
                // Nobody is left, not even a process number, when the listener first hears of it.
                must_have_died_there(&mut peer, point, 1);
            }
            let refused = listener.refused();
            // Whoever dies before its hello is read may have been refused; whoever got in is reported dead.
            let accepted = loop {
                match listener.accept_timeout(Duration::from_millis(1)) {
                    Ok(connection) => break Some(connection),
                    Err(AcceptError::Timeout) if listener.refused() > refused => break None,
                    Err(AcceptError::Timeout) => {}
                    Err(error) => panic!("{point}: {error}"),
                }
            };
            assert!(accepted.is_some() || *point == "handshake.hello_sent", "{point}: refused");
            if let Some(mut connection) = accepted {
                let end = connection.recv().unwrap_err();
                assert_eq!(end.reason(), &CloseReason::PeerDied { pid: peer.pid() }, "{point}");
            }
            must_have_died_there(&mut peer, point, 1);
            drop(peer);
            serve_a_client(&mut listener, &socket);
        }
    }
    assert_eq!(listener.connections(), 0);
    drop(listener);
    assert_eq!(names(scratch), [""; 0], "the directory is clean");
}

fn with_dying_listeners(scratch: &Scratch) {
    let socket = scratch.socket("test");
    for (point, counts) in LISTENER.points {
        for &count in *counts {
            let before = common::descriptors();
            let mut peer = start(LISTENER.role, &socket, Some((point, count)));
            peer.expect_line("listening");
            if point.starts_with("handshake.") {
                for _ in 1..count {
                    let mut connection = config().connect(&socket).unwrap();
                    ask(&mut connection, 0).unwrap();
                }
                match config().connect(&socket) {
                    Ok(mut connection) => {
                        let end = connection.recv().unwrap_err();
                        assert_eq!(end.reason(), &CloseReason::PeerDied { pid: peer.pid() }, "{point}");
                        assert_eq!(*point, "handshake.welcome_sent");
                    }
                    Err(ConnectError::Dropped) => assert_ne!(*point, "handshake.welcome_sent"),
                    Err(error) => panic!("{point}: {error}"),
                }
            } else {
                let connection = config().connect(&socket).unwrap();
                ask_until_the_end(&Case { point, count, pid: peer.pid() }, connection);
            }
            must_have_died_there(&mut peer, point, count);
            drop(peer);
            assert!(names(scratch).contains(&"test.sock".to_owned()), "the dead leave their name");
            // Nobody touches a file: the next who wants the name gets it.
            let mut listener = config().bind(&socket).unwrap();
            assert_eq!(names(scratch), ["test.sock"]);
            serve_a_client(&mut listener, &socket);
            drop(listener);
            assert_eq!(names(scratch), [""; 0], "the directory is clean");
            assert_eq!(common::descriptors(), before, "descriptors after {point}:{count}");
        }
    }
}

// What the honest side does.

/// Asks until the peer is gone; each answer is whole and the right one.
fn ask_until_the_end(case: &Case<'_>, mut connection: Connection) {
    for number in 0.. {
        if let Err(reason) = ask(&mut connection, number) {
            assert_eq!(reason, case.died(), "{}:{} after {number} answers", case.point, case.count);
            return;
        }
        assert!(number < ROUNDS, "{}:{} was never reached", case.point, case.count);
    }
}

fn ask(connection: &mut Connection, number: u64) -> Result<(), CloseReason> {
    let len = question_len(number);
    match connection.send(&message(number, len)) {
        Ok(()) => {}
        Err(SendError::Closed(reason)) => return Err(reason),
        Err(error) => panic!("{error}"),
    }
    let answer = connection.recv().map_err(|error| error.reason().clone())?;
    check(&answer, number, len);
    Ok(())
}

/// Receives a stream to its end; as many messages must come as were published.
fn receive_exactly(case: &Case<'_>, mut connection: Connection) {
    let mut number = 0;
    let end = loop {
        match connection.recv() {
            Ok(message) => check(&message, number, mixed_len(number, 2000)),
            Err(error) => break error.reason().clone(),
        }
        number += 1;
    };
    let (sent, reason) = match case.point {
        "close.word_stored" => (STREAM_MESSAGES, CloseReason::PeerClosed),
        "producer.published" => (case.count, case.died()),
        _ => (case.count - 1, case.died()),
    };
    assert_eq!(number, sent, "messages after {}:{}", case.point, case.count);
    assert_eq!(end, reason, "{}:{}", case.point, case.count);
}

/// Receives messages of eight fragments to their end; those whose last fragment was published must come, no other.
fn receive_whole_messages(case: &Case<'_>, mut connection: Connection) {
    let mut number = 0;
    let end = loop {
        match connection.recv() {
            Ok(message) => check(&message, number, FRAGMENTED_LEN),
            Err(error) => break error.reason().clone(),
        }
        number += 1;
    };
    if case.point == "fragments.between" {
        assert_eq!(number, case.count / 8, "whole messages in {} fragments", case.count);
    }
    assert_eq!(end, case.died(), "{}:{}", case.point, case.count);
}

/// Sends into a small ring until the peer is gone: the call that blocks returns.
fn send_until_the_end(case: &Case<'_>, mut connection: Connection) {
    // The receiver sleeps first, in those cases where it dies asleep.
    for number in 0..1_000_000 {
        match connection.send(&message(number, mixed_len(number, 2000))) {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error, SendError::Closed(case.died()), "{}:{}", case.point, case.count);
                return;
            }
        }
    }
    panic!("{}:{}: a million messages went to a dead process", case.point, case.count);
}

/// A client that does not die is served as if nothing had happened.
fn serve_a_client(listener: &mut Listener, socket: &str) {
    let peer = start("answer", socket, None);
    let mut connection = listener.accept_timeout(DEADLINE).unwrap();
    for number in 0..5 {
        ask(&mut connection, number).unwrap();
    }
    drop(connection);
    peer.finish();
}

fn must_have_died_there(peer: &mut Peer, point: &str, count: u64) {
    let status = peer.wait_within(DEADLINE);
    assert_eq!(status.signal(), Some(libc::SIGKILL), "{point}:{count} was never reached: {status}");
}

fn start(role: &str, socket: &str, crash: Option<(&str, u64)>) -> Peer {
    let at = crash.map(|(point, count)| format!("{point}:{count}"));
    let mut variables = vec![("SOCKET", socket)];
    variables.extend(at.as_deref().map(|at| ("RINGWAY_CRASH_AT", at)));
    Peer::spawn(role, &variables)
}

/// The names in the directory without the lock, which stays.
fn names(scratch: &Scratch) -> Vec<String> {
    scratch.entries()
}

/// Every fifth question is long enough for several fragments.
fn question_len(number: u64) -> usize {
    if number % 5 == 4 { FRAGMENTED_LEN } else { mixed_len(number, 2000) }
}

fn config() -> Config {
    Config::new().ring_bytes(16 << 10).wait(Wait::Sleep)
}

// Roles.

fn role_answer() {
    let mut connection = common::join(&config());
    answer(&mut connection);
}

fn answer(connection: &mut Connection) {
    let (sender, receiver) = connection.halves();
    let mut number = 0;
    loop {
        match receiver.recv() {
            Ok(message) => {
                check(&message, number, question_len(number));
                sender.send(&message).unwrap();
            }
            Err(error) => return assert_eq!(error.reason(), &CloseReason::PeerClosed),
        }
        number += 1;
    }
}

fn role_stream() {
    let mut connection = common::join(&config().ring_bytes(1 << 20));
    for number in 0..STREAM_MESSAGES {
        connection.send(&message(number, mixed_len(number, 2000))).unwrap();
    }
    assert_eq!(connection.stats().full, 0);
}

fn role_fragment() {
    let mut connection = common::join(&config());
    for number in 0..1000 {
        connection.send(&message(number, FRAGMENTED_LEN)).unwrap();
    }
}

fn role_receive() {
    let mut connection = common::join(&config());
    for number in 0.. {
        check(&connection.recv().unwrap(), number, mixed_len(number, 2000));
    }
}

fn role_listen() {
    let mut listener = config().bind(&common::variable("SOCKET")).unwrap();
    common::say("listening");
    loop {
        answer(&mut listener.accept().unwrap());
    }
}

/// Questions after which every point must have been passed a hundred times.
const ROUNDS: u64 = 5000;
/// They fit into 1 MiB together.
const STREAM_MESSAGES: u64 = 300;
/// Eight records of 4088 bytes in a ring of 16 KiB, less 1.
const FRAGMENTED_LEN: usize = 8 * 4088 - 1;
