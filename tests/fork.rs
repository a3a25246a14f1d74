//! Handles of a parent in a child made by fork: an error instead of a crash, and nothing of the parent's is touched.
//!
//! Forks happen in a process of their own. Beside the thread that plays the role it has only libtest's main thread,
//! which waits for it and holds no lock.
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

mod common;

use common::{DEADLINE, Peer, check, hang_guard, hear, in_a_child, message, say, scratch_dir};
use ringway::{
    AcceptError, CloseReason, Config, Connection, Event, Group, RecvTimeoutError, SendError,
    SendTimeoutError, TryRecvError, TrySendError,
};
use std::time::{Duration, Instant};

#[test]
fn peer_process() {
    common::run_role(&[
        ("echo", role_echo),
        ("hold", role_hold),
        ("sending", || with_connection(sending_is_an_error)),
        ("receiving", || with_connection(receiving_is_an_error)),
        ("dropping", || with_connection(dropping_only_closes)),
        ("claiming", || with_connection(an_old_claim_sends_nothing)),
        ("borrowing", role_borrowing),
        ("listener", role_listener),
        ("empty_group", role_empty_group),
        ("group", role_group),
        ("group_in_handler", role_group_in_handler),
        ("pool", role_pool),
        ("pool_in_handler", role_pool_in_handler),
        ("anew", role_anew),
        ("forked_parent", role_forked_parent),
    ]);
}

#[test]
fn every_sending_verb_is_an_error_in_the_child() {
    play("sending");
}

#[test]
fn every_receiving_verb_is_an_error_in_the_child() {
    play("receiving");
}

#[test]
fn dropping_a_connection_in_the_child_leaves_the_parents_alone() {
    play("dropping");
}

#[test]
fn committing_a_claim_from_before_the_fork_sends_nothing() {
    play("claiming");
}

#[test]
fn a_message_lent_before_the_fork_is_given_back_by_the_parent_only() {
    play("borrowing");
}

#[test]
fn a_listener_is_an_error_in_the_child_and_its_name_stays_the_parents() {
    play("listener");
}

#[test]
fn a_group_without_members_is_an_error_in_the_child() {
    play("empty_group");
}

#[test]
fn a_group_with_members_is_an_error_in_the_child_and_goes_on_in_the_parent() {
    play("group");
}

#[test]
fn a_child_made_while_a_message_is_handled_loses_its_members_and_does_not_crash() {
    play("group_in_handler");
}

#[test]
fn a_pool_is_an_error_in_the_child_and_goes_on_in_the_parent() {
    play("pool");
}

#[test]
fn a_child_made_by_the_handler_of_a_pool_ends_and_the_pool_goes_on() {
    play("pool_in_handler");
}

#[test]
fn a_child_binds_and_connects_for_itself() {
    play("anew");
}

#[test]
fn a_peer_is_told_of_a_death_while_a_forked_child_holds_the_socket() {
    let _guard = hang_guard();
    for config in [Config::new(), Config::new().wait(ringway::Wait::Spin)] {
        let (mut peer, mut connection) = common::connected("forked_parent", &[], &config);
        peer.expect_line("forked");
        check(&connection.recv().unwrap(), 0, 100);
        peer.kill9();
        assert_eq!(connection.recv().unwrap_err().reason(), &CloseReason::PeerDied { pid: peer.pid() });
    }
}

fn play(role: &str) {
    let _guard = hang_guard();
    Peer::spawn(role, &[]).finish();
}

/// Runs a test with a connection to a process that echoes, which must work before and after.
fn with_connection(test: fn(&mut Option<Connection>)) {
    let (peer, connection) = common::connected("echo", &[], &Config::new());
    let mut connection = Some(connection);
    must_echo(connection.as_mut().unwrap());
    test(&mut connection);
    must_echo(connection.as_mut().unwrap());
    drop(connection);
    peer.finish();
}

fn must_echo(connection: &mut Connection) {
    for number in 0..100 {
        connection.send(&message(number, 100)).unwrap();
        check(&connection.recv().unwrap(), number, 100);
    }
}

fn sending_is_an_error(connection: &mut Option<Connection>) {
    in_a_child(|| {
        let sender = connection.as_mut().unwrap().sender();
        let long = vec![0; 3 << 20];
        assert_eq!(sender.try_send(b"x"), Err(TrySendError::Closed(CloseReason::Forked)));
        assert_eq!(sender.send(b"x"), Err(SendError::Closed(CloseReason::Forked)));
        assert_eq!(sender.send(&long), Err(SendError::Closed(CloseReason::Forked)));
        let timed = sender.send_timeout(b"x", DEADLINE);
        assert_eq!(timed, Err(SendTimeoutError::Closed(CloseReason::Forked)));
        assert_eq!(sender.try_send_batch(&[b"x"]), Err(TrySendError::Closed(CloseReason::Forked)));
        assert_eq!(sender.send_batch(&[b"x"]), Err(SendError::Closed(CloseReason::Forked)));
        assert_eq!(sender.try_claim(1).map(|_| ()), Err(TrySendError::Closed(CloseReason::Forked)));
        assert_eq!(sender.claim(1).map(|_| ()), Err(SendError::Closed(CloseReason::Forked)));
        let timed = sender.claim_timeout(1, DEADLINE).map(|_| ());
        assert_eq!(timed, Err(SendTimeoutError::Closed(CloseReason::Forked)));
        assert_eq!(sender.stats(), ringway::Stats::default());
        assert!(sender.peer_cred().pid > 0);
    });
}

fn receiving_is_an_error(connection: &mut Option<Connection>) {
    in_a_child(|| {
        let receiver = connection.as_mut().unwrap().receiver();
        let forked = CloseReason::Forked;
        assert_eq!(receiver.try_recv().map(|_| ()), Err(TryRecvError::Closed(forked.clone())));
        assert_eq!(receiver.recv().unwrap_err().reason(), &forked);
        let timed = receiver.recv_timeout(DEADLINE).map(|_| ());
        assert_eq!(timed, Err(RecvTimeoutError::Closed(forked.clone())));
        let batch = receiver.try_recv_batch(9, |_| panic!("a message in the child"));
        assert_eq!(batch, Err(TryRecvError::Closed(forked.clone())));
        let mut messages = receiver.messages();
        assert_eq!(messages.next().unwrap().unwrap_err().reason(), &forked);
        assert!(messages.next().is_none());
    });
}

fn dropping_only_closes(connection: &mut Option<Connection>) {
    in_a_child(|| drop(connection.take()));
    in_a_child(|| {
        let (sender, receiver) = connection.take().unwrap().split();
        drop(sender);
        drop(receiver);
    });
}

fn an_old_claim_sends_nothing(connection: &mut Option<Connection>) {
    let connection = connection.as_mut().unwrap();
    let sent = connection.stats().sent_messages;
    let mut claim = Some(connection.sender().try_claim(100).unwrap());
    in_a_child(|| claim.take().unwrap().commit());
    in_a_child(|| claim.take().unwrap().abort());
    claim.unwrap().abort();
    assert_eq!(connection.stats().sent_messages, sent);
}

fn role_borrowing() {
    // SAFETY: the peer is this test program, which never writes to a message after sending it.
    let config = unsafe { Config::new().trust_peer() };
    let (peer, mut connection) = common::connected("echo", &[], &config);
    connection.send(&message(0, 100)).unwrap();
    connection.send(&message(1, 100)).unwrap();
    assert!(connection.recv().unwrap().is_borrowed());
    // The room of that message is given back when the next is taken: here that must not happen.
    in_a_child(|| assert_eq!(connection.recv().unwrap_err().reason(), &CloseReason::Forked));
    check(&connection.recv().unwrap(), 1, 100);
    drop(connection);
    peer.finish();
}

fn role_listener() {
    let scratch = scratch_dir();
    let socket = scratch.socket("test");
    let mut listener = Some(Config::new().bind(&socket).unwrap());
    in_a_child(|| {
        let listener = listener.as_mut().unwrap();
        assert!(matches!(listener.try_accept(), Err(AcceptError::Forked)));
        assert!(matches!(listener.accept_timeout(DEADLINE), Err(AcceptError::Forked)));
        assert!(matches!(listener.accept(), Err(AcceptError::Forked)));
        assert!(matches!(listener.incoming().next(), Some(Err(AcceptError::Forked))));
    });
    in_a_child(|| drop(listener.take()));
    assert_eq!(scratch.entries(), ["test.sock"]);
    let peer = Peer::spawn("echo", &[("SOCKET", &socket)]);
    let mut connection = listener.as_mut().unwrap().accept_timeout(DEADLINE).unwrap();
    must_echo(&mut connection);
    // The same with a connection whose place is in the listener's tables.
    in_a_child(|| drop((listener.take(), connection)));
    drop(listener);
    assert_eq!(scratch.entries(), [""; 0]);
    drop(peer);
}

fn role_empty_group() {
    let scratch = scratch_dir();
    let listener = Config::new().bind(&scratch.socket("test")).unwrap();
    let mut group = Some(Group::new(listener).unwrap());
    in_a_child(|| {
        let soon = Some(Instant::now() + Duration::from_millis(50));
        let turned = group.as_mut().unwrap().turn(soon, |_, event| panic!("{event:?} in the child"));
        assert!(matches!(turned, Err(AcceptError::Forked)), "{turned:?}");
    });
    in_a_child(|| drop(group.take()));
    assert_eq!(scratch.entries(), ["test.sock"]);
}

fn role_group() {
    let scratch = scratch_dir();
    let socket = scratch.socket("test");
    let mut group = Some(Group::new(Config::new().bind(&socket).unwrap()).unwrap());
    let peer = Peer::spawn("hold", &[("SOCKET", &socket)]);
    let mut joined = false;
    while !joined {
        group.as_mut().unwrap().turn(None, |_, event| joined |= matches!(event, Event::Joined)).unwrap();
    }
    in_a_child(|| {
        let soon = Some(Instant::now() + Duration::from_millis(50));
        let turned = group.as_mut().unwrap().turn(soon, |_, event| assert!(is_forked(&event), "{event:?}"));
        assert!(matches!(turned, Err(AcceptError::Forked)), "{turned:?}");
        let mut members = group.as_mut().unwrap().members();
        let refused = members.next().unwrap().sender().try_send(b"x");
        assert_eq!(refused, Err(TrySendError::Closed(CloseReason::Forked)));
    });
    in_a_child(|| drop(group.take()));
    let mut peer = peer;
    peer.send_line("send");
    let mut bytes = Vec::new();
    while bytes.is_empty() {
        let keep = |_: &mut ringway::Member, event: Event<'_>| match event {
            Event::Message(message) => bytes = message.to_vec(),
            event => panic!("{event:?}"),
        };
        group.as_mut().unwrap().turn(None, keep).unwrap();
    }
    check(&bytes, 0, 100);
}

fn role_pool() {
    struct Echo;
    impl ringway::Handler for Echo {
        fn on_event(&mut self, member: &mut ringway::Member, event: Event<'_>) {
            if let Event::Message(bytes) = event {
                member.sender().try_send(bytes).unwrap();
            }
        }
    }
    let scratch = scratch_dir();
    let socket = scratch.socket("test");
    let listener = Config::new().bind(&socket).unwrap();
    let mut pool = Some(ringway::Pool::builder(listener).workers(2).serve(|_| Echo).unwrap());
    let mut connections: Vec<_> = (0..4).map(|_| Config::new().connect(&socket).unwrap()).collect();
    connections.iter_mut().for_each(must_echo);
    let bell = pool.as_ref().unwrap().bell(1);
    in_a_child(|| {
        let pool = pool.take().unwrap();
        assert_eq!((pool.connections(), pool.stats()), (0, ringway::PoolStats::default()));
        bell.ring();
        assert_eq!(pool.shutdown(Duration::from_secs(10)), ringway::Shutdown::Forked);
    });
    in_a_child(|| drop(pool.take()));
    assert_eq!(scratch.entries(), ["test.sock"]);
    connections.iter_mut().for_each(must_echo);
    connections.push(Config::new().connect(&socket).unwrap());
    connections.iter_mut().for_each(must_echo);
    assert_eq!(pool.take().unwrap().shutdown(Duration::from_secs(10)), ringway::Shutdown::Complete);
    assert_eq!(scratch.entries(), [""; 0]);
}

fn role_pool_in_handler() {
    /// Forks where it is told to, and answers in the parent alone.
    struct Forking;
    impl ringway::Handler for Forking {
        fn on_event(&mut self, member: &mut ringway::Member, event: Event<'_>) {
            match event {
                Event::Message(b"fork") => {
                    // SAFETY: the other threads hold no lock that the child needs; the child ends by itself.
                    let pid = unsafe { libc::fork() };
                    assert!(pid >= 0, "{}", std::io::Error::last_os_error());
                    // A child that does not end is ended, which shows in its status. SAFETY: no memory is involved.
                    unsafe { if pid == 0 { libc::alarm(30) } else { 0 } };
                    let _ = member.sender().try_send(&pid.to_le_bytes());
                }
                Event::Message(bytes) => member.sender().try_send(bytes).unwrap(),
                _ => {}
            }
        }
    }
    let scratch = scratch_dir();
    let socket = scratch.socket("test");
    let listener = Config::new().bind(&socket).unwrap();
    let pool = ringway::Pool::builder(listener).workers(2).serve(|_| Forking).unwrap();
    let mut connections: Vec<_> = (0..4).map(|_| Config::new().connect(&socket).unwrap()).collect();
    connections[1].send(b"fork").unwrap();
    let pid = i32::from_le_bytes((*connections[1].recv().unwrap()).try_into().unwrap());
    let mut status = 0;
    // SAFETY: our own child, and a number that outlives the call.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    assert!(libc::WIFEXITED(status), "the child did not end by itself: {status:#x}");
    connections.iter_mut().for_each(must_echo);
    assert_eq!(pool.shutdown(Duration::from_secs(10)), ringway::Shutdown::Complete);
}

fn role_group_in_handler() {
    let scratch = scratch_dir();
    let socket = scratch.socket("test");
    let mut group = Group::new(Config::new().bind(&socket).unwrap()).unwrap();
    let mut peer = Peer::spawn("hold", &[("SOCKET", &socket)]);
    let mut child = None;
    while child.is_none() {
        let mut forked = false;
        let turned = group.turn(None, |_, event| match event {
            Event::Joined => peer.send_line("send"),
            Event::Message(_) => {
                // SAFETY: the only other threads wait; the child ends in `_exit` below.
                let pid = unsafe { libc::fork() };
                forked = pid == 0;
                child = Some(pid);
            }
            event => assert!(forked && is_forked(&event), "{event:?}"),
        });
        if forked {
            // SAFETY: never returns; destructors of the parent's things must not run here.
            unsafe { libc::_exit(i32::from(turned.is_err())) };
        }
        turned.unwrap();
    }
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    unsafe { libc::waitpid(child.unwrap(), &raw mut status, 0) };
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "the child ended with {status:#x}");
}

fn is_forked(event: &Event<'_>) -> bool {
    matches!(event, Event::Left(CloseReason::Forked))
}

fn role_anew() {
    // A parent that has handles of its own, so that the child inherits the page of the fork check.
    let (peer, mut connection) = common::connected("echo", &[], &Config::new());
    in_a_child(|| {
        let (mut here, mut there) = ringway::pair(&Config::new()).unwrap();
        here.send(&message(0, 100)).unwrap();
        check(&there.recv().unwrap(), 0, 100);
        // It binds and accepts, and another process connects.
        let scratch = scratch_dir();
        let socket = scratch.socket("test");
        let mut listener = Config::new().bind(&socket).unwrap();
        let client = Peer::spawn("echo", &[("SOCKET", &socket)]);
        let mut accepted = listener.accept_timeout(DEADLINE).unwrap();
        assert_eq!(accepted.peer_cred().pid, client.pid());
        must_echo(&mut accepted);
        drop(accepted);
        client.finish();
    });
    in_a_child(|| {
        // It connects, and another process listens.
        let scratch = scratch_dir();
        let socket = scratch.socket("test");
        let mut listening = Peer::spawn("hold", &[("LISTEN", &socket)]);
        listening.expect_line("listening");
        let mut connection = Config::new().connect(&socket).unwrap();
        assert_eq!(connection.peer_cred().pid, listening.pid());
        must_echo(&mut connection);
        drop(connection);
        listening.finish();
    });
    must_echo(&mut connection);
    drop(connection);
    peer.finish();
}

fn role_forked_parent() {
    let mut connection = common::join(&Config::new());
    connection.send(&message(0, 100)).unwrap();
    // SAFETY: as in `in_a_child`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // The child keeps the sockets and outlives us. The test kills it with our process group; if the test cannot,
        // the alarm does.
        // SAFETY: no memory is involved.
        unsafe { libc::alarm(30) };
        loop {
            // SAFETY: no memory is involved.
            unsafe { libc::pause() };
        }
    }
    say("forked");
    hear();
}

fn role_echo() {
    echo(common::join(&Config::new()));
}

fn echo(mut connection: Connection) {
    let (sender, receiver) = connection.halves();
    loop {
        match receiver.recv() {
            Ok(message) => sender.send(&message).unwrap(),
            Err(error) => return assert_eq!(error.reason(), &CloseReason::PeerClosed),
        }
    }
}

/// Listens and echoes, or connects and sends one message when told to.
fn role_hold() {
    if let Ok(socket) = std::env::var("LISTEN") {
        let mut listener = Config::new().bind(&socket).unwrap();
        say("listening");
        return echo(listener.accept_timeout(DEADLINE).unwrap());
    }
    let mut connection = common::join(&Config::new());
    assert_eq!(hear(), "send");
    connection.send(&message(0, 100)).unwrap();
    hear();
}
