//! What a listener does, by its public items: names, handshakes side by side, limits, errors.
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

mod common;

use common::{DEADLINE, Peer, Scratch, check, hang_guard, message, scratch_dir, wait_until};
use ringway::{
    AcceptError, BindError, CloseReason, Config, ConnectError, Connection, Listener, NameError, Refusal,
};
use std::error::Error;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

#[test]
fn peer_process() {
    common::run_role(&[("listen", role_listen), ("client", role_client)]);
}

/// A listener in a directory of its own.
fn listening(config: &Config) -> (Scratch, String, Listener) {
    let scratch = scratch_dir();
    let socket = scratch.socket("test");
    let listener = config.bind(&socket).unwrap();
    (scratch, socket, listener)
}

/// Connects in another thread while the listener accepts.
fn meet(listener: &mut Listener, socket: &str) -> (Connection, Connection) {
    let client = connect_aside(socket);
    let accepted = listener.accept_timeout(DEADLINE).unwrap();
    (client.join().unwrap().unwrap(), accepted)
}

fn connect_aside(socket: &str) -> thread::JoinHandle<Result<Connection, ConnectError>> {
    let socket = socket.to_owned();
    thread::spawn(move || Config::new().connect(&socket))
}

fn must_talk((client, accepted): &mut (Connection, Connection)) {
    client.send(&message(1, 100)).unwrap();
    check(&accepted.recv().unwrap(), 1, 100);
    accepted.send(&message(2, 200)).unwrap();
    check(&client.recv().unwrap(), 2, 200);
}

// Names.

#[test]
fn a_listener_has_a_private_socket_at_its_path() {
    let (scratch, socket, listener) = listening(&Config::new());
    assert_eq!(listener.path().to_str(), Some(socket.as_str()));
    assert_eq!(scratch.entries(), ["test.sock"]);
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn dropping_a_listener_removes_its_name_and_connections_go_on() {
    let _guard = hang_guard();
    let (scratch, socket, mut listener) = listening(&Config::new());
    let mut both = meet(&mut listener, &socket);
    drop(listener);
    assert_eq!(scratch.entries(), [""; 0]);
    must_talk(&mut both);
    assert!(matches!(Config::new().connect(&socket), Err(ConnectError::NoListener { .. })));
}

#[test]
fn a_name_is_not_taken_from_a_living_listener() {
    let _guard = hang_guard();
    let (_scratch, socket, mut listener) = listening(&Config::new());
    let error = Config::new().bind(&socket).map(drop).unwrap_err();
    assert!(matches!(&error, BindError::InUse { path } if path.to_str() == Some(&socket)), "{error:?}");
    let text = format!("{socket} is in use by a living listener; stop it or choose another name");
    assert_eq!(error.to_string(), text);
    must_talk(&mut meet(&mut listener, &socket));
}

#[test]
fn a_name_is_not_taken_from_a_living_listener_of_another_process() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let socket = scratch.socket("test");
    let mut peer = Peer::spawn("listen", &[("SOCKET", &socket)]);
    peer.expect_line("listening");
    // Also one that is stopped is alive.
    peer.stop();
    assert!(matches!(Config::new().bind(&socket), Err(BindError::InUse { .. })));
    peer.go_on();
}

#[test]
fn the_name_of_a_killed_listener_is_taken_over() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let socket = scratch.socket("test");
    let mut peer = Peer::spawn("listen", &[("SOCKET", &socket)]);
    peer.expect_line("listening");
    peer.kill9();
    assert!(matches!(Config::new().connect(&socket), Err(ConnectError::NoListener { .. })));
    let mut listener = Config::new().bind(&socket).unwrap();
    must_talk(&mut meet(&mut listener, &socket));
    drop(listener);
    assert_eq!(scratch.entries(), [""; 0]);
}

#[test]
fn dropping_a_listener_does_not_remove_the_name_of_its_successor() {
    let _guard = hang_guard();
    let (scratch, socket, first) = listening(&Config::new());
    fs::remove_file(&socket).unwrap();
    let mut second = Config::new().bind(&socket).unwrap();
    drop(first);
    assert_eq!(scratch.entries(), ["test.sock"]);
    must_talk(&mut meet(&mut second, &socket));
}

#[test]
fn dead_names_beside_the_wanted_one_are_removed_and_living_ones_stay() {
    let _guard = hang_guard();
    let (scratch, _, _listener) = listening(&Config::new());
    let dead = scratch.socket("dead");
    let mut peer = Peer::spawn("listen", &[("SOCKET", &dead)]);
    peer.expect_line("listening");
    peer.kill9();
    fs::write(scratch.path().join("notes.txt"), "not ours").unwrap();
    assert_eq!(scratch.entries(), ["dead.sock", "notes.txt", "test.sock"]);
    let _visitor = Config::new().bind(&scratch.socket("visitor")).unwrap();
    assert_eq!(scratch.entries(), ["notes.txt", "test.sock", "visitor.sock"]);
}

#[test]
fn names_that_cannot_be_are_refused() {
    for name in ["", ".", ".hidden", "a b", "ä", &"x".repeat(65)] {
        let error = Listener::bind(name).map(drop).unwrap_err();
        assert!(matches!(&error, BindError::Name(NameError::Invalid { .. })), "{name:?}: {error:?}");
        assert!(error.to_string().contains("use 1 to 64 characters"), "{error}");
    }
    let scratch = scratch_dir();
    let error = Listener::bind(&scratch.socket(&"d".repeat(100))).map(drop).unwrap_err();
    assert!(matches!(&error, BindError::Name(NameError::TooLong { .. })), "{error:?}");
    assert!(error.to_string().contains("choose a shorter name"), "{error}");
}

#[test]
fn a_file_in_the_place_of_the_socket_is_left_alone() {
    let scratch = scratch_dir();
    let socket = scratch.socket("test");
    fs::write(&socket, "precious").unwrap();
    let error = Config::new().bind(&socket).map(drop).unwrap_err();
    assert!(matches!(&error, BindError::Occupied { .. }), "{error:?}");
    assert!(error.to_string().contains("remove it or choose another name"), "{error}");
    assert_eq!(fs::read_to_string(&socket).unwrap(), "precious");
}

#[test]
fn a_directory_that_others_may_write_is_not_used() {
    let scratch = scratch_dir();
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = Config::new().bind(&scratch.socket("test")).map(drop).unwrap_err();
    assert!(matches!(&error, BindError::Permission { .. }), "{error:?}");
    assert!(error.to_string().starts_with(&format!("{} cannot be used", scratch.text())), "{error}");
    assert_eq!(scratch.entries(), [""; 0]);
}

// Accepting.

#[test]
fn waiting_for_nobody_is_a_time_out() {
    let (_scratch, _, mut listener) = listening(&Config::new());
    for timeout in [Duration::ZERO, Duration::from_millis(5)] {
        let error = listener.accept_timeout(timeout).map(drop).unwrap_err();
        assert!(matches!(error, AcceptError::Timeout), "{error:?}");
        assert_eq!(error.to_string(), "no client completed its handshake in time");
    }
    assert!(matches!(listener.try_accept(), Err(AcceptError::Timeout)));
    assert_eq!((listener.connections(), listener.refused()), (0, 0));
}

#[test]
fn trying_to_accept_returns_a_client_without_waiting() {
    let _guard = hang_guard();
    let (_scratch, socket, mut listener) = listening(&Config::new());
    let client = connect_aside(&socket);
    let mut accepted = None;
    wait_until("the client is there", || {
        accepted = listener.try_accept().ok();
        accepted.is_some()
    });
    must_talk(&mut (client.join().unwrap().unwrap(), accepted.unwrap()));
}

#[test]
fn the_iterator_yields_one_client_after_the_other() {
    let _guard = hang_guard();
    let (_scratch, socket, mut listener) = listening(&Config::new());
    let clients: Vec<_> = (0..5).map(|_| connect_aside(&socket)).collect();
    let accepted: Vec<Connection> = listener.incoming().take(5).map(Result::unwrap).collect();
    assert_eq!(listener.connections(), 5);
    drop(accepted);
    assert_eq!(listener.connections(), 0);
    for client in clients {
        assert_eq!(client.join().unwrap().unwrap().recv().unwrap_err().reason(), &CloseReason::PeerClosed);
    }
}

#[test]
fn many_clients_at_once_get_a_connection_each() {
    let _guard = hang_guard();
    let (_scratch, socket, mut listener) = listening(&Config::new());
    let clients: Vec<Peer> = (0..12).map(|_| Peer::spawn("client", &[("SOCKET", &socket)])).collect();
    let mut pids: Vec<u32> = clients.iter().map(Peer::pid).collect();
    let mut accepted: Vec<Connection> = (0..12).map(|_| listener.accept_timeout(DEADLINE).unwrap()).collect();
    for connection in &mut accepted {
        let pid = connection.peer_cred().pid;
        check(&connection.recv().unwrap(), pid.into(), 100);
        pids.retain(|known| *known != pid);
    }
    assert_eq!(pids, [0; 0], "each process came once");
    drop(accepted);
    clients.into_iter().for_each(Peer::finish);
}

// Clients that do not behave.

#[test]
fn silent_clients_hold_nobody_up() {
    let _guard = hang_guard();
    let (_scratch, socket, mut listener) = listening(&Config::new().handshake_timeout(DEADLINE));
    let silent: Vec<UnixStream> = (0..20).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    let mut slow = UnixStream::connect(&socket).unwrap();
    slow.write_all(b"R").unwrap();
    for _ in 0..3 {
        must_talk(&mut meet(&mut listener, &socket));
    }
    assert_eq!(listener.refused(), 0, "they still have time");
    drop((silent, slow));
}

#[test]
fn a_silent_client_is_dropped_when_its_time_is_up() {
    let _guard = hang_guard();
    let (_scratch, socket, mut listener) =
        listening(&Config::new().handshake_timeout(Duration::from_millis(10)));
    let mut silent = UnixStream::connect(&socket).unwrap();
    wait_until("the client is refused", || {
        assert!(matches!(listener.accept_timeout(Duration::from_millis(5)), Err(AcceptError::Timeout)));
        listener.refused() == 1
    });
    assert!(is_hung_up(&mut silent));
    must_talk(&mut meet(&mut listener, &socket));
}

#[test]
fn a_client_that_talks_nonsense_is_refused_and_nobody_else() {
    let _guard = hang_guard();
    let (_scratch, socket, mut listener) = listening(&Config::new());
    for nonsense in [
        &b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: everything at all, please, and more\r\n\r\n"[..],
        &[0; 4096],
    ] {
        let before = listener.refused();
        let mut client = UnixStream::connect(&socket).unwrap();
        client.write_all(nonsense).unwrap();
        wait_until("the client is refused", || {
            assert!(matches!(listener.accept_timeout(Duration::from_millis(5)), Err(AcceptError::Timeout)));
            listener.refused() == before + 1
        });
        // It may be told why; then comes the end.
        assert!(is_hung_up(&mut client));
    }
    must_talk(&mut meet(&mut listener, &socket));
}

#[test]
fn a_client_that_hangs_up_is_counted_as_refused() {
    let _guard = hang_guard();
    let (_scratch, socket, mut listener) = listening(&Config::new());
    drop(UnixStream::connect(&socket).unwrap());
    wait_until("it is counted", || {
        assert!(matches!(listener.accept_timeout(Duration::from_millis(5)), Err(AcceptError::Timeout)));
        listener.refused() == 1
    });
}

#[test]
fn of_too_many_silent_clients_the_oldest_make_room() {
    let _guard = hang_guard();
    let (_scratch, socket, mut listener) = listening(&Config::new().handshake_timeout(DEADLINE));
    let mut silent: Vec<UnixStream> = (0..500).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    must_talk(&mut meet(&mut listener, &socket));
    // 256 handshakes may be under way, each for 10 ms at least; the client above stood behind all of them.
    let refused = listener.refused();
    assert!((500 - 256..=500).contains(&refused), "{refused} of 500 were turned out");
    assert!(is_hung_up(&mut silent[0]), "the oldest");
    silent[499].set_nonblocking(true).unwrap();
    assert_eq!(silent[499].read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock, "the youngest");
}

// Limits.

#[test]
fn a_listener_that_is_full_says_so_and_takes_the_next_when_one_leaves() {
    for config in [Config::new().connections_max(2), Config::new().connections_per_uid_max(2)] {
        let _guard = hang_guard();
        let (_scratch, socket, mut listener) = listening(&config);
        let first = meet(&mut listener, &socket);
        let mut second = meet(&mut listener, &socket);
        assert_eq!(listener.connections(), 2);
        let third = connect_aside(&socket);
        wait_until("the third is refused", || {
            assert!(matches!(listener.accept_timeout(Duration::from_millis(5)), Err(AcceptError::Timeout)));
            listener.refused() == 1
        });
        let error = third.join().unwrap().map(drop).unwrap_err();
        assert!(matches!(error, ConnectError::Refused(Refusal::Limit)), "{error:?}");
        let text = "the listener refused: the limit of connections or of their memory is reached, in all or for this user; raise it or close others";
        assert_eq!(error.to_string(), text);
        must_talk(&mut second);
        drop(first);
        assert_eq!(listener.connections(), 1);
        must_talk(&mut meet(&mut listener, &socket));
    }
}

#[test]
fn the_place_of_a_client_that_was_killed_is_free_when_its_connection_is_dropped() {
    let _guard = hang_guard();
    let (_scratch, socket, mut listener) = listening(&Config::new().connections_max(1));
    for _ in 0..5 {
        let mut peer = Peer::spawn("client", &[("SOCKET", &socket)]);
        let mut connection = listener.accept_timeout(DEADLINE).unwrap();
        check(&connection.recv().unwrap(), peer.pid().into(), 100);
        peer.kill9();
        let end = connection.recv().unwrap_err();
        assert_eq!(end.reason(), &CloseReason::PeerDied { pid: peer.pid() });
    }
    assert_eq!((listener.connections(), listener.refused()), (0, 0));
}

#[test]
fn half_a_connection_still_holds_its_place() {
    let _guard = hang_guard();
    let (_scratch, socket, mut listener) = listening(&Config::new());
    let (_client, accepted) = meet(&mut listener, &socket);
    let (sender, receiver) = accepted.split();
    drop(sender);
    assert_eq!(listener.connections(), 1);
    drop(receiver);
    assert_eq!(listener.connections(), 0);
}

// What errors say.

#[test]
fn errors_of_the_system_name_what_was_tried_and_their_cause() {
    let cause = || std::io::Error::from_raw_os_error(libc::EMFILE);
    let accept = AcceptError::Os { action: "accept a client", source: cause() };
    assert_eq!(accept.to_string(), format!("cannot accept a client: {}", cause()));
    assert_eq!(accept.source().unwrap().to_string(), cause().to_string());
    let bind = BindError::Os { action: "bind", path: "/x/y.sock".into(), source: cause() };
    assert_eq!(bind.to_string(), format!("cannot bind /x/y.sock: {}", cause()));
    assert_eq!(bind.source().unwrap().to_string(), cause().to_string());
    let connect = ConnectError::Os { action: "make a doorbell", source: cause() };
    assert_eq!(connect.source().unwrap().to_string(), cause().to_string());
    assert!(AcceptError::Forked.to_string().contains("a child made by fork must bind for itself"));
}

#[test]
fn every_refusal_says_why() {
    let texts = [
        (Refusal::Version, "run the same ringway release on both sides"),
        (Refusal::Features, "update it"),
        (Refusal::NotAllowed, "see Config::allow_uid and allow_gid"),
        (Refusal::Limit, "raise it or close others"),
        (Refusal::Descriptors, "a descriptor was missing"),
        (Refusal::Malformed, "out of bounds"),
        (Refusal::Purpose, "another purpose"),
        (Refusal::Resources, "ran out of memory or descriptors"),
    ];
    for (refusal, part) in texts {
        assert!(refusal.to_string().contains(part), "{refusal}");
        assert!(ConnectError::Refused(refusal).to_string().contains(part));
        assert!(ConnectError::Untrusted(refusal).to_string().contains(part));
    }
}

/// Reads to the end and says whether there was one.
fn is_hung_up(client: &mut UnixStream) -> bool {
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    match client.read_to_end(&mut Vec::new()) {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

// Roles.

fn role_listen() {
    let _listener = Config::new().bind(&common::variable("SOCKET")).unwrap();
    common::say("listening");
    common::hear();
}

/// Sends a message with the number of its process and waits for the end.
fn role_client() {
    let mut connection = common::join(&Config::new());
    connection.send(&message(std::process::id().into(), 100)).unwrap();
    assert_eq!(connection.recv().unwrap_err().reason(), &CloseReason::PeerClosed);
}
