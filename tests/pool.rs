//! A pool: many client processes served by several threads.
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

mod common;

use common::{
    DEADLINE, Peer, Scratch, check, hang_guard, message, mixed_len, number_variable, say, scratch_dir,
};
use ringway::{Config, Event, Handler, Member, Pool, Shutdown};

#[test]
fn peer_process() {
    common::run_role(&[("ask", role_ask)]);
}

/// A listener's settings, a directory of its own, and the path of the socket in it.
fn socket() -> (Scratch, String) {
    let scratch = scratch_dir();
    let socket = scratch.socket("test");
    (scratch, socket)
}

/// Sends back what comes.
struct Echo;

impl Handler for Echo {
    fn on_event(&mut self, member: &mut Member, event: Event<'_>) {
        if let Event::Message(bytes) = event {
            member.sender().try_send(bytes).unwrap();
        }
    }
}

#[test]
fn every_question_of_many_connections_is_answered_by_its_worker() {
    let _guard = hang_guard();
    let (_scratch, socket) = socket();
    let pool = Pool::builder(Config::new().bind(&socket).unwrap()).workers(3).serve(|_| Echo).unwrap();
    let clients: Vec<Peer> = (0..4)
        .map(|_| Peer::spawn("ask", &[("SOCKET", &socket), ("CONNECTIONS", "5"), ("COUNT", "2000")]))
        .collect();
    clients.into_iter().for_each(Peer::finish);
    common::wait_until("all have left", || pool.connections() == 0);
    let stats = pool.stats();
    assert_eq!((stats.accepted, stats.panics), (20, 0));
    assert_eq!((stats.traffic.received_messages, stats.traffic.sent_messages), (40_000, 40_000));
    assert_eq!(pool.shutdown(DEADLINE), Shutdown::Complete);
}

// Roles.

/// Asks over several connections in turn and checks the answers.
fn role_ask() {
    let config = Config::new().ring_bytes(16 << 10);
    let mut connections: Vec<_> =
        (0..number_variable("CONNECTIONS")).map(|_| common::join(&config)).collect();
    say("connected");
    for number in 0..number_variable("COUNT") {
        let len = mixed_len(number, LEN_MAX);
        for connection in &mut connections {
            connection.send(&message(number, len)).unwrap();
        }
        for connection in &mut connections {
            check(&connection.recv().unwrap(), number, len);
        }
    }
}

const LEN_MAX: usize = 100;
