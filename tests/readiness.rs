//! Waiting in reactors: plain `poll`, and mio, which is edge-triggered. Peers are real processes.
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

mod common;

use common::{DEADLINE, Peer, check, hang_guard, hear, message, say, scratch_dir};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use ringway::{
    AcceptError, Armed, CloseReason, Config, Connection, Readiness, Receiver, Sender, TryRecvError,
    TrySendError, Wait,
};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

#[test]
fn peer_process() {
    common::run_role(&[
        ("echo", role_echo),
        ("idle", role_idle),
        ("forked", role_forked),
        ("reader", role_reader),
        ("client", role_client),
        ("waiting", role_waiting),
    ]);
}

/// A reactor for one descriptor.
trait Reactor: Send + 'static {
    fn over(readiness: Readiness) -> Self;
    /// Waits until it is readable; `false` after the time-out.
    fn wait(&mut self, timeout: Duration) -> bool;
}

/// `poll`: level-triggered.
struct Level(Readiness);

impl Reactor for Level {
    fn over(readiness: Readiness) -> Self {
        Self(readiness)
    }

    fn wait(&mut self, timeout: Duration) -> bool {
        let mut items = [PollFd::new(&self.0, PollFlags::IN)];
        let timeout = Timespec::try_from(timeout).unwrap();
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut items, Some(&timeout))).unwrap() == 1
    }
}

/// mio: edge-triggered, the descriptor registered once.
struct Edge {
    poll: Poll,
    events: Events,
    _readiness: Readiness,
}

impl Reactor for Edge {
    fn over(readiness: Readiness) -> Self {
        let poll = Poll::new().unwrap();
        let raw = readiness.as_raw_fd();
        poll.registry().register(&mut SourceFd(&raw), Token(1), Interest::READABLE).unwrap();
        Self { poll, events: Events::with_capacity(4), _readiness: readiness }
    }

    fn wait(&mut self, timeout: Duration) -> bool {
        loop {
            match self.poll.poll(&mut self.events, Some(timeout)) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                outcome => {
                    outcome.unwrap();
                    return self.events.iter().any(|event| event.token() == Token(1) && event.is_readable());
                }
            }
        }
    }
}

/// Receives by the contract.
fn receive(receiver: &mut Receiver, reactor: &mut impl Reactor) -> Result<Vec<u8>, CloseReason> {
    loop {
        match receiver.try_recv() {
            Ok(message) => return Ok(message.to_vec()),
            Err(TryRecvError::Closed(reason)) => return Err(reason),
            Err(TryRecvError::Empty) => {}
        }
        if receiver.arm() == Armed::Wait {
            assert!(reactor.wait(DEADLINE), "nobody woke the receiver");
            receiver.disarm();
        }
    }
}

/// Sends by the contract.
fn send(sender: &mut Sender, reactor: &mut impl Reactor, bytes: &[u8]) -> Result<(), CloseReason> {
    loop {
        match sender.try_send(bytes) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full) => {}
            Err(TrySendError::Closed(reason)) => return Err(reason),
            Err(error) => panic!("{error}"),
        }
        if sender.arm(bytes.len()) == Armed::Wait {
            assert!(reactor.wait(DEADLINE), "nobody woke the sender");
            sender.disarm();
        }
    }
}

/// The smallest ring: full after a few messages.
fn small() -> Config {
    Config::new().ring_bytes(16 << 10)
}

fn a_split_connection_waits_in_two_places<R: Reactor>(wait: &str, config: Config) {
    const COUNT: u64 = 30_000;
    let _guard = hang_guard();
    let (peer, connection) = common::connected("echo", &[("WAIT", wait)], &config);
    let (mut sender, mut receiver) = connection.split();
    let sending = thread::spawn(move || {
        let mut reactor = R::over(sender.readiness().unwrap());
        for number in 0..COUNT {
            let len = common::mixed_len(number, 700);
            send(&mut sender, &mut reactor, &message(number, len)).unwrap();
        }
        sender
    });
    let mut reactor = R::over(receiver.readiness().unwrap());
    for number in 0..COUNT {
        check(&receive(&mut receiver, &mut reactor).unwrap(), number, common::mixed_len(number, 700));
    }
    drop(sending.join().unwrap());
    assert_eq!(receive(&mut receiver, &mut reactor), Err(CloseReason::PeerClosed));
    assert_eq!(receiver.stats().received_messages, COUNT);
    peer.finish();
}

#[test]
fn both_halves_wait_in_poll_at_the_same_time() {
    a_split_connection_waits_in_two_places::<Level>("auto", small());
}

#[test]
fn both_halves_wait_edge_triggered_at_the_same_time() {
    a_split_connection_waits_in_two_places::<Edge>("auto", small());
}

#[test]
fn both_halves_wait_edge_triggered_for_a_peer_that_always_sleeps() {
    a_split_connection_waits_in_two_places::<Edge>("sleep", small().wait(Wait::Sleep));
}

fn every_answer_is_waited_for<R: Reactor>() {
    let _guard = hang_guard();
    let (peer, connection) = common::connected("echo", &[("WAIT", "sleep")], &Config::new());
    let (mut sender, mut receiver) = connection.split();
    let mut reactor = R::over(receiver.readiness().unwrap());
    for number in 0..2_000 {
        sender.try_send(&message(number, 64)).unwrap();
        check(&receive(&mut receiver, &mut reactor).unwrap(), number, 64);
    }
    assert!(receiver.stats().data_sleeps > 1_000, "{} sleeps", receiver.stats().data_sleeps);
    drop((sender, receiver));
    peer.finish();
}

#[test]
fn request_and_answer_sleep_in_poll_every_time() {
    every_answer_is_waited_for::<Level>();
}

#[test]
fn request_and_answer_sleep_edge_triggered_every_time() {
    every_answer_is_waited_for::<Edge>();
}

#[test]
fn blocking_verbs_between_arming_and_waiting_lose_nothing() {
    let _guard = hang_guard();
    let (peer, connection) = common::connected("echo", &[("WAIT", "auto")], &Config::new());
    let (mut sender, mut receiver) = connection.split();
    let mut reactor = Edge::over(receiver.readiness().unwrap());
    for number in 0..3_000 {
        let armed = receiver.arm();
        sender.send(&message(number, 64)).unwrap();
        match number % 4 {
            0 => check(&receiver.recv().unwrap(), number, 64),
            1 => check(&receiver.recv_timeout(DEADLINE).unwrap(), number, 64),
            2 => check(&receive(&mut receiver, &mut reactor).unwrap(), number, 64),
            _ => {
                if armed == Armed::Wait {
                    assert!(reactor.wait(DEADLINE));
                }
                check(&receiver.recv().unwrap(), number, 64);
            }
        }
    }
    drop((sender, receiver));
    peer.finish();
}

fn death_is_seen_by_both<R: Reactor>(role: &str) {
    let _guard = hang_guard();
    let (mut peer, connection) = common::connected(role, &[], &small());
    let died = CloseReason::PeerDied { pid: peer.pid() };
    let (mut sender, mut receiver) = connection.split();
    let (mut room, mut data) = (R::over(sender.readiness().unwrap()), R::over(receiver.readiness().unwrap()));
    peer.expect_line("ready");
    check(&receive(&mut receiver, &mut data).unwrap(), 0, 100);
    while sender.try_send(&[7; 1000]).is_ok() {}
    let sending = thread::spawn(move || send(&mut sender, &mut room, &[7; 1000]));
    let receiving = thread::spawn(move || receive(&mut receiver, &mut data));
    peer.kill9();
    assert_eq!(sending.join().unwrap(), Err(died.clone()));
    assert_eq!(receiving.join().unwrap(), Err(died));
}

#[test]
fn a_killed_peer_wakes_both_halves_from_poll() {
    death_is_seen_by_both::<Level>("idle");
}

#[test]
fn a_killed_peer_wakes_both_halves_edge_triggered() {
    death_is_seen_by_both::<Edge>("idle");
}

#[test]
fn a_killed_peer_wakes_both_halves_from_poll_while_its_child_holds_the_sockets() {
    death_is_seen_by_both::<Level>("forked");
}

#[test]
fn a_killed_peer_wakes_both_halves_edge_triggered_while_its_child_holds_the_sockets() {
    death_is_seen_by_both::<Edge>("forked");
}

#[test]
fn a_reader_that_closes_while_the_ring_is_full_is_reported() {
    let _guard = hang_guard();
    let (mut peer, mut connection) = common::connected("reader", &[], &small());
    let mut reactor = Edge::over(connection.sender().readiness().unwrap());
    while connection.try_send(&[7; 1000]).is_ok() {}
    peer.send_line("close");
    let end = send(connection.sender(), &mut reactor, &[7; 1000]);
    assert_eq!(end, Err(CloseReason::PeerClosed));
    peer.send_line("end");
    peer.finish();
}

#[test]
fn nothing_is_readable_while_nothing_happens() {
    let _guard = hang_guard();
    let (mut peer, mut connection) = common::connected("idle", &[], &Config::new());
    peer.expect_line("ready");
    let receiver = connection.receiver();
    let mut reactor = Level::over(receiver.readiness().unwrap());
    check(&receive(receiver, &mut reactor).unwrap(), 0, 100);
    receiver.disarm();
    assert_eq!(receiver.arm(), Armed::Wait);
    assert!(!reactor.wait(Duration::from_millis(100)));
}

#[test]
fn an_end_from_before_is_readable_in_a_descriptor_made_later() {
    let (here, mut there) = ringway::pair(&Config::new()).unwrap();
    drop(here);
    let receiver = there.receiver();
    let mut reactor = Edge::over(receiver.readiness().unwrap());
    assert!(reactor.wait(DEADLINE));
    assert_eq!(receiver.arm(), Armed::Ready);
    assert_eq!(receive(receiver, &mut reactor), Err(CloseReason::PeerClosed));
    assert_eq!(receiver.arm(), Armed::Ready, "there is nothing left to wait for");
}

/// Accepts by the contract.
fn accept(listener: &mut ringway::Listener, reactor: &mut impl Reactor) -> Connection {
    loop {
        match listener.try_accept() {
            Ok(connection) => return connection,
            Err(AcceptError::Timeout) => {}
            Err(error) => panic!("{error}"),
        }
        listener.arm().unwrap();
        assert!(reactor.wait(DEADLINE), "nobody woke the listener");
    }
}

fn a_listener_waits<R: Reactor>() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let socket = scratch.socket("test");
    let mut listener = Config::new().bind(&socket).unwrap();
    let mut reactor = R::over(listener.readiness().unwrap());
    let peers: Vec<Peer> = (0..8).map(|_| Peer::spawn("client", &[("SOCKET", &socket)])).collect();
    let connections: Vec<Connection> = peers.iter().map(|_| accept(&mut listener, &mut reactor)).collect();
    for mut connection in connections {
        check(&connection.recv().unwrap(), 0, 100);
        connection.send(&message(0, 100)).unwrap();
    }
    peers.into_iter().for_each(Peer::finish);
    assert_eq!(listener.refused(), 0);
}

#[test]
fn a_listener_waits_in_poll() {
    a_listener_waits::<Level>();
}

#[test]
fn a_listener_waits_edge_triggered() {
    a_listener_waits::<Edge>();
}

fn silence_runs_out_of_time<R: Reactor>() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let socket = scratch.socket("test");
    let mut listener = Config::new().handshake_timeout(Duration::from_millis(50)).bind(&socket).unwrap();
    let mut reactor = R::over(listener.readiness().unwrap());
    let silent = UnixStream::connect(&socket).unwrap();
    loop {
        assert!(matches!(listener.try_accept(), Err(AcceptError::Timeout)));
        if listener.refused() == 1 {
            break;
        }
        listener.arm().unwrap();
        assert!(reactor.wait(DEADLINE), "nobody woke the listener");
    }
    listener.arm().unwrap();
    assert!(!reactor.wait(Duration::from_millis(50)), "there is nobody left to wait for");
    drop(silent);
}

#[test]
fn a_client_that_says_nothing_is_turned_out_in_time_by_who_waits_in_poll() {
    silence_runs_out_of_time::<Level>();
}

#[test]
fn a_client_that_says_nothing_is_turned_out_in_time_by_who_waits_edge_triggered() {
    silence_runs_out_of_time::<Edge>();
}

#[test]
fn a_welcomed_client_does_not_wake_the_listener_any_more() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let socket = scratch.socket("test");
    let mut listener = Config::new().bind(&socket).unwrap();
    let mut reactor = Level::over(listener.readiness().unwrap());
    let mut peer = Peer::spawn("waiting", &[("SOCKET", &socket)]);
    let mut connection = accept(&mut listener, &mut reactor);
    listener.arm().unwrap();
    assert!(matches!(listener.try_accept(), Err(AcceptError::Timeout)));
    listener.arm().unwrap();
    // Not drained: its doorbell is nobody's business but the connection's.
    assert_eq!(connection.receiver().arm(), Armed::Wait);
    peer.send_line("ring");
    peer.expect_line("rang");
    assert!(!reactor.wait(Duration::from_millis(50)));
    check(&connection.recv().unwrap(), 0, 10);
    drop(connection);
    peer.finish();
}

fn wait_variable() -> Wait {
    if common::variable("WAIT") == "sleep" { Wait::Sleep } else { Wait::Auto }
}

fn role_echo() {
    let (mut sender, mut receiver) = common::join(&small().wait(wait_variable())).split();
    while let Ok(message) = receiver.recv() {
        sender.send(&message).unwrap();
    }
}

fn role_idle() {
    let mut connection = common::join(&small());
    connection.send(&message(0, 100)).unwrap();
    say("ready");
    hear();
}

fn role_forked() {
    let mut connection = common::join(&small());
    connection.send(&message(0, 100)).unwrap();
    // SAFETY: the child calls nothing but `alarm` and `pause`, which are async-signal-safe.
    if unsafe { libc::fork() } == 0 {
        // The test kills it with our process group; if the test cannot, the alarm does.
        // SAFETY: as above.
        unsafe { libc::alarm(30) };
        loop {
            // SAFETY: as above.
            unsafe { libc::pause() };
        }
    }
    say("ready");
    hear();
}

fn role_reader() {
    let (sender, receiver) = common::join(&small()).split();
    hear();
    drop(receiver);
    hear();
    drop(sender);
}

fn role_client() {
    let mut connection = common::join(&Config::new());
    connection.send(&message(0, 100)).unwrap();
    check(&connection.recv().unwrap(), 0, 100);
}

fn role_waiting() {
    let mut connection = common::join(&Config::new());
    hear();
    connection.send(&message(0, 10)).unwrap();
    say("rang");
    assert!(connection.recv().is_err());
}
