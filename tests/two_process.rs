//! Connections between real processes: every message is counted and its content checked.
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

mod common;

use common::{
    DEADLINE, Peer, check, fill, hang_guard, hear, message, mixed_len, number_variable, say, wait_until,
};
use ringway::{
    CloseReason, Config, Receiver, RecvTimeoutError, SendError, SendTimeoutError, Sender, TryRecvError,
    TrySendError, Wait,
};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

#[test]
fn peer_process() {
    common::run_role(&[
        ("send", role_send),
        ("receive", role_receive),
        ("echo", role_echo),
        ("obey", role_obey),
        ("listen", role_listen),
        ("kill_many", role_kill_many),
    ]);
}

// Streams.

#[test]
fn a_million_small_messages_arrive_whole_and_in_order() {
    receive_stream(&[("COUNT", "1000000"), ("LEN", "24")], &Config::new());
}

#[test]
fn a_million_small_messages_leave_whole_and_in_order() {
    let _guard = hang_guard();
    let (mut peer, connection) =
        common::connected("receive", &[("COUNT", "1000000"), ("LEN", "24")], &Config::new());
    let (mut sender, receiver) = connection.split();
    let mut bytes = [0; 24];
    for number in 0..1_000_000 {
        fill(&mut bytes, number);
        sender.send(&bytes).unwrap();
    }
    assert_eq!(sender.stats().sent_messages, 1_000_000);
    drop((sender, receiver));
    peer.expect_line("received 1000000");
    peer.finish();
}

#[test]
fn messages_of_every_size_up_to_a_record_arrive() {
    // A record of a ring of 64 KiB has up to 16,376 bytes of payload; the role checks that number.
    receive_stream(&[("COUNT", "6000"), ("MIXED", "16376"), ("RING", "65536")], &Config::new());
}

#[test]
fn messages_of_every_size_wrap_around_the_smallest_ring() {
    receive_stream(&[("COUNT", "30000"), ("MIXED", "700"), ("RING", "16384")], &Config::new());
}

#[test]
fn messages_longer_than_the_ring_arrive_whole() {
    receive_stream(&[("COUNT", "12"), ("MIXED", "5000001"), ("RING", "65536")], &Config::new());
}

#[test]
fn batches_arrive_whole_and_in_order() {
    receive_stream(&[("COUNT", "200000"), ("LEN", "40"), ("VERB", "batch")], &Config::new());
}

#[test]
fn batches_larger_than_the_ring_arrive_whole_and_in_order() {
    receive_stream(
        &[("COUNT", "20000"), ("MIXED", "4088"), ("VERB", "batch"), ("RING", "16384")],
        &Config::new(),
    );
}

#[test]
fn claims_arrive_whole_and_in_order() {
    receive_stream(
        &[("COUNT", "100000"), ("MIXED", "300"), ("VERB", "claim"), ("RING", "16384")],
        &Config::new(),
    );
}

#[test]
fn aligned_claims_arrive_whole_and_begin_at_a_multiple_of_64() {
    // SAFETY: the peer is this test program, which never writes to a message after sending it.
    let config = unsafe { Config::new().trust_peer() };
    let variables = [("COUNT", "50000"), ("MIXED", "300"), ("VERB", "aligned"), ("RING", "16384")];
    receive(&variables, &config, |bytes, number| {
        assert_eq!(bytes.as_ptr() as usize % 64, 0, "place of message {number}");
    });
}

#[test]
fn borrowed_messages_arrive_whole_and_in_order() {
    // SAFETY: the peer is this test program, which never writes to a message after sending it.
    let config = unsafe { Config::new().trust_peer() };
    let variables = [("COUNT", "100000"), ("MIXED", "1000"), ("RING", "16384")];
    let (peer, mut connection) = common::connected("send", &variables, &config);
    for number in 0..100_000 {
        let message = connection.recv().unwrap();
        assert!(message.is_borrowed(), "message {number} was copied");
        check(&message, number, mixed_len(number, 1000));
    }
    assert_eq!(connection.recv().unwrap_err().reason(), &CloseReason::PeerClosed);
    peer.finish();
}

#[test]
fn rings_of_different_sizes_carry_both_directions() {
    let _guard = hang_guard();
    let config = Config::new().ring_bytes(16 << 10);
    let (peer, mut connection) = common::connected("echo", &[("RING", "1048576")], &config);
    assert_eq!(connection.sender().record_bytes_max(), 4096 - 8);
    for number in 0..2_000 {
        let sent = message(number, mixed_len(number, 60_000));
        connection.send(&sent).unwrap();
        check(&connection.recv().unwrap(), number, sent.len());
    }
    drop(connection);
    peer.finish();
}

#[test]
fn an_echo_comes_back_however_both_sides_wait() {
    for wait in ["spin", "auto", "sleep"] {
        let _guard = hang_guard();
        let config = Config::new().wait(wait_named(wait));
        let (peer, mut connection) = common::connected("echo", &[("WAIT", wait)], &config);
        for number in 0..3_000 {
            connection.send(&message(number, mixed_len(number, 200))).unwrap();
            check(&connection.recv().unwrap(), number, mixed_len(number, 200));
        }
        drop(connection);
        peer.finish();
    }
}

// Halves.

#[test]
fn one_thread_asleep_for_data_and_one_for_space_both_wake() {
    let _guard = hang_guard();
    let config = small().wait(Wait::Sleep);
    for data_first in [true, false] {
        let (mut peer, connection) = common::connected("obey", &[("RING", "16384")], &config);
        let (sender, mut receiver) = connection.split();
        let filled = Filled::block(sender);
        let (tell_thread, thread) = mpsc::channel();
        let (tell_end, end) = mpsc::channel();
        thread::spawn(move || {
            tell_thread.send(common::thread_id()).unwrap();
            check(&receiver.recv().unwrap(), 0, 100);
            tell_end.send(receiver).unwrap();
        });
        let receiving = thread.recv().unwrap();
        let own = std::process::id();
        wait_until("both sleep", || {
            common::is_asleep(own, receiving) && common::is_asleep(own, filled.thread)
        });
        // Only the one who is called may wake; the other one still sleeps, and is called next.
        let count = if data_first {
            peer.send_line("send 100 1");
            let _receiver = end.recv_timeout(DEADLINE).expect("the thread that sleeps for data must wake");
            wait_until("the sender still sleeps", || common::is_asleep(own, filled.thread));
            peer.send_line("receive");
            filled.join().1
        } else {
            peer.send_line("receive");
            let count = filled.join().1;
            wait_until("the receiver still sleeps", || common::is_asleep(own, receiving));
            peer.send_line("send 100 1");
            let _receiver = end.recv_timeout(DEADLINE).expect("the thread that sleeps for data must wake");
            count
        };
        assert!(count > 10, "the ring took {count} messages");
    }
}

#[test]
fn halves_in_two_threads_carry_both_directions_at_once() {
    let _guard = hang_guard();
    let (peer, connection) = common::connected("echo", &[("RING", "16384")], &small());
    let (mut sender, mut receiver) = connection.split();
    let sending = thread::spawn(move || {
        for number in 0..50_000 {
            sender.send(&message(number, mixed_len(number, 300))).unwrap();
        }
    });
    for number in 0..50_000 {
        check(&receiver.recv().unwrap(), number, mixed_len(number, 300));
    }
    sending.join().unwrap();
    assert_eq!(receiver.recv().unwrap_err().reason(), &CloseReason::PeerClosed);
    drop(receiver);
    peer.finish();
}

#[test]
fn a_peer_that_only_stopped_sending_still_receives() {
    let _guard = hang_guard();
    let (mut peer, mut connection) = common::connected("obey", &[], &Config::new());
    peer.send_line("send 100 3");
    peer.send_line("drop sender");
    for number in 0..3 {
        check(&connection.recv().unwrap(), number, 100);
    }
    assert_eq!(connection.recv().unwrap_err().reason(), &CloseReason::PeerClosed);
    for number in 0..1000 {
        connection.send(&message(number, 100)).unwrap();
    }
    peer.send_line("receive 1000");
    peer.expect_line("sent 3");
    peer.expect_line("received 1000");
}

#[test]
fn a_peer_that_only_stopped_receiving_still_sends() {
    let _guard = hang_guard();
    let (mut peer, mut connection) = common::connected("obey", &[], &Config::new());
    peer.send_line("drop receiver");
    peer.expect_line("dropped receiver");
    let refused = loop {
        // The first may still be taken: the peer is looked at after publishing.
        if let Err(error) = connection.send(b"is anybody there?") {
            break error;
        }
    };
    assert_eq!(refused, SendError::Closed(CloseReason::PeerClosed));
    peer.send_line("send 100 1000");
    for number in 0..1000 {
        check(&connection.recv().unwrap(), number, 100);
    }
}

// Ends.

#[test]
fn a_graceful_end_comes_after_everything_that_was_sent() {
    let _guard = hang_guard();
    let (mut peer, mut connection) = common::connected("obey", &[], &Config::new());
    peer.send_line("send 100 500");
    peer.send_line("end");
    peer.expect_line("sent 500");
    peer.finish();
    for number in 0..500 {
        check(&connection.recv().unwrap(), number, 100);
    }
    assert_eq!(connection.recv().unwrap_err().reason(), &CloseReason::PeerClosed);
    let closed = Err(TryRecvError::Closed(CloseReason::PeerClosed));
    assert_eq!(connection.try_recv().map(|_| ()), closed, "and it stays so");
}

#[test]
fn what_was_committed_before_a_kill_is_delivered_and_then_the_death() {
    let _guard = hang_guard();
    let (mut peer, mut connection) = common::connected("obey", &[], &Config::new());
    peer.send_line("send 1000 700");
    peer.expect_line("sent 700");
    peer.kill9();
    for number in 0..700 {
        check(&connection.recv().unwrap(), number, 1000);
    }
    let died = CloseReason::PeerDied { pid: peer.pid() };
    assert_eq!(connection.recv().unwrap_err().reason(), &died);
    let refused = loop {
        if let Err(error) = connection.send(b"is anybody there?") {
            break error;
        }
    };
    assert_eq!(refused, SendError::Closed(died));
}

#[test]
fn a_receiver_blocked_on_an_empty_ring_returns_when_the_peer_is_killed() {
    for wait in [Wait::Sleep, Wait::Auto, Wait::Spin] {
        let (mut peer, blocked) = blocked_receiver(wait);
        peer.kill9();
        assert_eq!(blocked.join().unwrap(), CloseReason::PeerDied { pid: peer.pid() }, "{wait:?}");
    }
}

#[test]
fn a_receiver_blocked_on_an_empty_ring_returns_when_the_peer_closes() {
    for wait in [Wait::Sleep, Wait::Auto, Wait::Spin] {
        let (mut peer, blocked) = blocked_receiver(wait);
        peer.send_line("end");
        assert_eq!(blocked.join().unwrap(), CloseReason::PeerClosed, "{wait:?}");
        peer.finish();
    }
}

#[test]
fn a_sender_blocked_on_a_full_ring_returns_when_the_peer_is_killed() {
    for wait in [Wait::Sleep, Wait::Auto, Wait::Spin] {
        let _guard = hang_guard();
        let (mut peer, connection) = common::connected("obey", &[], &small().wait(wait));
        let (sender, _receiver) = connection.split();
        let filled = Filled::block(sender);
        peer.kill9();
        assert_eq!(
            filled.join().0,
            Err(SendError::Closed(CloseReason::PeerDied { pid: peer.pid() })),
            "{wait:?}"
        );
    }
}

#[test]
fn a_sender_blocked_on_a_full_ring_returns_when_the_peer_closes() {
    for wait in [Wait::Sleep, Wait::Auto, Wait::Spin] {
        let _guard = hang_guard();
        let (mut peer, connection) = common::connected("obey", &[], &small().wait(wait));
        let (sender, _receiver) = connection.split();
        let filled = Filled::block(sender);
        peer.send_line("end");
        assert_eq!(filled.join().0, Err(SendError::Closed(CloseReason::PeerClosed)), "{wait:?}");
        peer.finish();
    }
}

#[test]
fn three_hundred_kills_leave_nothing_behind() {
    let _guard = hang_guard();
    // In a process of its own: the descriptors that are counted belong to nobody else.
    Peer::spawn("kill_many", &[]).finish();
}

// Time-outs.

#[test]
fn a_stopped_peer_is_a_time_out_and_everything_arrives_when_it_goes_on() {
    let _guard = hang_guard();
    let (mut peer, mut connection) = common::connected("obey", &[("RING", "16384")], &small());
    peer.stop();
    let silence = connection.recv_timeout(Duration::from_millis(20));
    assert_eq!(silence.map(|_| ()), Err(RecvTimeoutError::Timeout));
    let mut count = 0;
    let end = loop {
        match connection.send_timeout(&message(count, 100), Duration::from_millis(20)) {
            Ok(()) => count += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(end, SendTimeoutError::Timeout);
    assert!(count >= 100, "the ring took {count} messages of 100 bytes");
    peer.go_on();
    peer.send_line(&format!("receive {count}"));
    peer.expect_line(&format!("received {count}"));
    connection.send(&message(count, 100)).expect("a time-out changes nothing");
    peer.send_line("receive 1");
    peer.expect_line("received 1");
}

#[test]
fn a_time_out_of_zero_only_looks() {
    let _guard = hang_guard();
    for wait in [Wait::Sleep, Wait::Auto, Wait::Spin] {
        let (mut peer, mut connection) = common::connected("obey", &[], &small().wait(wait));
        let nothing = connection.recv_timeout(Duration::ZERO).map(|_| ());
        assert_eq!(nothing, Err(RecvTimeoutError::Timeout), "{wait:?}");
        let mut count = 0;
        while connection.send_timeout(&message(count, 100), Duration::ZERO).is_ok() {
            count += 1;
        }
        assert!(count >= 100, "{wait:?}: the ring took {count} messages of 100 bytes");
        let full = connection.send_timeout(&[0; 100], Duration::ZERO);
        assert_eq!(full, Err(SendTimeoutError::Timeout), "{wait:?}");
        let full = connection.sender().claim_timeout(100, Duration::ZERO).map(|_| ());
        assert_eq!(full, Err(SendTimeoutError::Timeout), "{wait:?}");
        peer.send_line("send 50 1");
        peer.expect_line("sent 1");
        check(&connection.recv_timeout(Duration::ZERO).unwrap(), 0, 50);
        peer.send_line(&format!("receive {count}"));
        peer.expect_line(&format!("received {count}"));
    }
}

// Limits.

#[test]
fn a_message_longer_than_the_receiver_accepts_is_refused_at_the_sender() {
    let _guard = hang_guard();
    for max in [1000, 40_000] {
        let limit = max.to_string();
        let (mut peer, mut connection) = common::connected("obey", &[("MAX", &limit)], &small());
        assert_eq!(connection.sender().message_bytes_max(), max);
        let long = vec![7; max + 1];
        assert_eq!(connection.send(&long), Err(SendError::TooLarge { len: max + 1, max }));
        let refused = connection.send_timeout(&long, Duration::ZERO);
        assert_eq!(refused, Err(SendTimeoutError::TooLarge { len: max + 1, max }));
        let record_max = max.min(4096 - 8);
        let refused = connection.try_send(&long);
        assert_eq!(refused, Err(TrySendError::TooLarge { len: max + 1, max: record_max }));
        peer.send_line("receive 1");
        connection.send(&message(0, max)).expect("the longest that is accepted");
        peer.expect_line("received 1");
    }
}

#[test]
fn a_fragmented_message_that_timed_out_is_never_delivered_and_the_next_one_is() {
    let _guard = hang_guard();
    let (mut peer, mut connection) = common::connected("obey", &[], &small());
    connection.send(&message(0, 100)).unwrap();
    // Four times the ring, and nobody reads.
    let given_up = connection.send_timeout(&[0xee; 64 << 10], Duration::from_millis(20));
    assert_eq!(given_up, Err(SendTimeoutError::Timeout));
    peer.send_line("receive 3");
    connection.send(&message(1, 100)).unwrap();
    connection.send(&message(2, 50_000)).unwrap();
    peer.expect_line("received 3");
    assert_eq!(connection.stats().sent_messages, 3);
}

// What the tests have in common.

/// Starts a role that sends a stream and receives it; `also` looks at each message too.
fn receive(variables: &[(&str, &str)], config: &Config, also: impl Fn(&[u8], u64)) {
    let _guard = hang_guard();
    let value = |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    let parse = |name| value(name).map(|text| text.parse::<usize>().unwrap());
    let (peer, mut connection) = common::connected("send", variables, config);
    for number in 0..parse("COUNT").unwrap() as u64 {
        let len = parse_len(number, parse("LEN"), parse("MIXED"));
        let message = connection.recv().unwrap_or_else(|error| panic!("message {number}: {error}"));
        check(&message, number, len);
        also(&message, number);
    }
    assert_eq!(connection.recv().unwrap_err().reason(), &CloseReason::PeerClosed);
    assert_eq!(connection.stats().received_messages, parse("COUNT").unwrap() as u64);
    peer.finish();
}

fn receive_stream(variables: &[(&str, &str)], config: &Config) {
    receive(variables, config, |_, _| ());
}

fn parse_len(number: u64, len: Option<usize>, mixed: Option<usize>) -> usize {
    len.unwrap_or_else(|| mixed_len(number, mixed.unwrap()))
}

fn small() -> Config {
    Config::new().ring_bytes(16 << 10)
}

fn wait_named(name: &str) -> Wait {
    match name {
        "spin" => Wait::Spin,
        "sleep" => Wait::Sleep,
        _ => Wait::Auto,
    }
}

/// A thread that filled a ring with numbered messages of 100 bytes and sleeps in `send`, or spins there.
struct Filled {
    thread: u32,
    running: thread::JoinHandle<(Result<(), SendError>, u64)>,
}

impl Filled {
    fn block(mut sender: Sender) -> Self {
        let (tell, told) = mpsc::channel();
        let running = thread::spawn(move || {
            let mut count = 0;
            while sender.try_send(&message(count, 100)).is_ok() {
                count += 1;
            }
            tell.send(common::thread_id()).unwrap();
            let blocked = sender.send(&message(count, 100));
            (blocked, count)
        });
        Self { thread: told.recv_timeout(DEADLINE).unwrap(), running }
    }

    /// Returns what came of the blocked call, and the number of messages before it.
    fn join(self) -> (Result<(), SendError>, u64) {
        self.running.join().unwrap()
    }
}

/// A thread blocked in `recv` on an empty ring; it returns why it ended.
fn blocked_receiver(wait: Wait) -> (Peer, thread::JoinHandle<CloseReason>) {
    let (peer, connection) = common::connected("obey", &[], &Config::new().wait(wait));
    let (tell, told) = mpsc::channel();
    let running = thread::spawn(move || {
        let _guard = hang_guard();
        let mut connection = connection;
        tell.send(common::thread_id()).unwrap();
        connection.recv().unwrap_err().reason().clone()
    });
    let thread = told.recv_timeout(DEADLINE).unwrap();
    if wait == Wait::Sleep {
        wait_until("the receiver sleeps", || common::is_asleep(std::process::id(), thread));
    }
    (peer, running)
}

// Roles.

fn config_of_role() -> Config {
    let mut config = Config::new();
    if let Ok(bytes) = std::env::var("RING") {
        config = config.ring_bytes(bytes.parse().unwrap());
    }
    if let Ok(bytes) = std::env::var("MAX") {
        config = config.message_bytes_max(bytes.parse().unwrap());
    }
    if let Ok(name) = std::env::var("WAIT") {
        config = config.wait(wait_named(&name));
    }
    config
}

fn role_send() {
    let (mut sender, _receiver) = common::join(&config_of_role()).split();
    let number_of = |name: &str| std::env::var(name).ok().map(|text| text.parse::<usize>().unwrap());
    let (count, len, mixed) = (number_variable("COUNT"), number_of("LEN"), number_of("MIXED"));
    let verb = std::env::var("VERB").unwrap_or_default();
    let max = len.or(mixed).unwrap();
    if max == 16_376 {
        assert_eq!(sender.record_bytes_max(), max);
    }
    let mut buffer = vec![0; max];
    let mut batch: Vec<Vec<u8>> = Vec::new();
    for number in 0..count {
        let len = parse_len(number, len, mixed);
        match verb.as_str() {
            "batch" => {
                batch.push(message(number, len));
                if batch.len() == 16 || number + 1 == count {
                    sender.send_batch(&batch).unwrap();
                    batch.clear();
                }
            }
            "claim" => {
                // More is claimed than is used, and every third claim is given back.
                if number % 3 == 0 {
                    let mut given_back = sender.claim(max).unwrap();
                    given_back.fill(0xee);
                }
                let mut claim = sender.claim(max).unwrap();
                fill(&mut claim[..len], number);
                claim.commit_len(len);
            }
            "aligned" => {
                let mut claim = loop {
                    match sender.try_claim_aligned(len, 64).map(|_| ()) {
                        Ok(()) => break sender.try_claim_aligned(len, 64).unwrap(),
                        Err(TrySendError::Full) => thread::yield_now(),
                        Err(error) => panic!("{error}"),
                    }
                };
                assert_eq!(claim.as_ptr() as usize % 64, 0);
                fill(&mut claim, number);
                claim.commit();
            }
            _ => {
                fill(&mut buffer[..len], number);
                sender.send(&buffer[..len]).unwrap();
            }
        }
    }
    assert_eq!(sender.stats().sent_messages, count);
}

fn role_receive() {
    let mut connection = common::join(&config_of_role());
    let (count, len) = (number_variable("COUNT"), number_variable("LEN") as usize);
    for number in 0..count {
        check(&connection.recv().unwrap(), number, len);
    }
    assert_eq!(connection.recv().unwrap_err().reason(), &CloseReason::PeerClosed);
    say(&format!("received {count}"));
}

fn role_echo() {
    let mut connection = common::join(&config_of_role());
    let (sender, receiver) = connection.halves();
    loop {
        match receiver.recv() {
            Ok(message) => sender.send(&message).unwrap(),
            Err(error) => return assert_eq!(error.reason(), &CloseReason::PeerClosed),
        }
    }
}

/// Does what it is told, until it is told to end: `send LEN COUNT`, `receive [COUNT]`, `drop sender`, `drop receiver`.
///
/// Numbers of received messages go on from one order to the next; messages of 50,000 bytes are fragmented.
fn role_obey() {
    let (sender, receiver) = common::join(&config_of_role()).split();
    let (mut sender, mut receiver) = (Some(sender), Some(receiver));
    let mut received = 0;
    loop {
        let order = hear();
        let words: Vec<&str> = order.split(' ').collect();
        match words[..] {
            ["send", len, count] => {
                send_some(sender.as_mut().unwrap(), len.parse().unwrap(), count.parse().unwrap());
                say(&format!("sent {count}"));
            }
            ["receive"] => drain(receiver.as_mut().unwrap()),
            ["receive", count] => {
                for _ in 0..count.parse::<u64>().unwrap() {
                    let message = receiver.as_mut().unwrap().recv().unwrap();
                    check(&message, received, message.len());
                    assert!([100, 1000, 40_000, 50_000].contains(&message.len()), "{} bytes", message.len());
                    received += 1;
                }
                say(&format!("received {count}"));
            }
            ["drop", "sender"] => sender = None,
            ["drop", "receiver"] => {
                receiver = None;
                say("dropped receiver");
            }
            ["end"] => return,
            _ => panic!("what is {order:?}?"),
        }
    }
}

fn send_some(sender: &mut Sender, len: usize, count: u64) {
    for number in 0..count {
        sender.send(&message(number, len)).unwrap();
    }
}

/// Takes numbered messages of 100 bytes until the peer that blocked on them has none left.
fn drain(receiver: &mut Receiver) {
    let mut number = 0;
    while let Ok(message) = receiver.recv_timeout(Duration::from_millis(100)) {
        check(&message, number, 100);
        number += 1;
    }
}

fn role_listen() {
    let _listener = Config::new().bind(&common::variable("SOCKET")).unwrap();
    say("listening");
    hear();
}

fn shared_memory_names() -> Vec<String> {
    let entries = std::fs::read_dir("/dev/shm").unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Kills peers in the middle of streams and counts what is left: descriptors, shared memory, names.
fn role_kill_many() {
    let before = (common::descriptors(), shared_memory_names(), common::meminfo_kib("Shmem"));
    let scratch = common::scratch_dir();
    let socket = scratch.socket("test");
    // 2 MiB of touched memory for each connection: 600 MiB if it stayed.
    let config = Config::new().prefault(true);
    let mut listener = config.bind(&socket).unwrap();
    let variables = [("SOCKET", socket.as_str()), ("COUNT", "1000000000"), ("LEN", "100")];
    for round in 0..300_u64 {
        let mut peer = Peer::spawn("send", &variables);
        let mut connection = listener.accept_timeout(DEADLINE).unwrap();
        for number in 0..round % 50 {
            check(&connection.recv().unwrap(), number, 100);
        }
        peer.kill9();
        let mut number = round % 50;
        let end = loop {
            match connection.recv() {
                Ok(message) => check(&message, number, 100),
                Err(error) => break error,
            }
            number += 1;
        };
        assert_eq!(end.reason(), &CloseReason::PeerDied { pid: peer.pid() });
    }
    drop(listener);
    let stale = scratch.socket("stale");
    let mut dead = Peer::spawn("listen", &[("SOCKET", &stale)]);
    dead.expect_line("listening");
    dead.kill9();
    drop(dead);
    assert!(scratch.entries().contains(&"stale.sock".to_owned()), "{:?}", scratch.entries());
    let visitor = Config::new().bind(&scratch.socket("visitor")).unwrap();
    let sockets: Vec<String> = scratch.entries().into_iter().filter(|name| name.contains("sock")).collect();
    assert_eq!(sockets, ["visitor.sock"], "one visit cleans up");
    drop(visitor);
    drop(scratch);
    assert_eq!(common::descriptors(), before.0, "descriptors");
    assert_eq!(shared_memory_names(), before.1, "names in /dev/shm");
    let more = common::meminfo_kib("Shmem").saturating_sub(before.2);
    assert!(more < 100 << 10, "{more} KiB more shared memory than before");
}
