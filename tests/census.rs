//! Who is there: listeners with clients in other processes, one of whom is stopped, and the name of one that was killed.
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

mod common;
#[path = "hostile_peer/support.rs"]
mod support;

use common::{DEADLINE, Peer, hang_guard, scratch_dir, wait_until};
use ringway::census::{Entry, LinkKind, Role, State};
use ringway::{Config, Event, Handler, Listener, Member, Pool, census};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use support::{Hello, Memory, RING_BYTES, Turned};

#[test]
fn peer_process() {
    common::run_role(&[("serve", support::serve), ("client", client), ("look", look)]);
}

/// Role: sends so many messages, takes so many answers, and stays.
fn client() {
    let count = common::number_variable("COUNT");
    let mut connection = common::join(&Config::new());
    for number in 0..count {
        connection.send_timeout(&common::message(number, 100), DEADLINE).unwrap();
        common::check(&connection.recv_timeout(DEADLINE).unwrap(), number, 100);
    }
    common::say("served");
    common::hear();
}

/// Role: says what another user sees.
fn look() {
    support::become_user(common::number_variable("RUN_AS") as u32);
    let directory = common::variable("DIRECTORY");
    for entry in census(Some(Path::new(&directory))).unwrap() {
        common::say(&format!("{} {:?} {}", entry.name, entry.state, entry.links.len()));
    }
    common::say("end");
}

fn start(role: &str, socket: &str, more: &[(&str, &str)]) -> Peer {
    let mut variables = vec![("SOCKET", socket)];
    variables.extend_from_slice(more);
    let mut peer = Peer::spawn(role, &variables);
    peer.expect_line(if role == "serve" { "ready" } else { "served" });
    peer
}

/// Looks until the one of this name answers: on a busy machine it may take longer than it is given.
#[track_caller]
fn answered(directory: &Path, name: &str) -> Entry {
    let mut found = None;
    wait_until("it answers", || {
        let entries = census(Some(directory)).unwrap();
        found = entries.into_iter().find(|entry| entry.name == name && entry.state == State::Answers);
        found.is_some()
    });
    found.unwrap()
}

fn own_uid() -> u32 {
    // SAFETY: no preconditions.
    unsafe { libc::geteuid() }
}

#[test]
fn a_listener_its_clients_one_that_is_stopped_and_one_that_is_dead_are_all_told() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let [busy, stopped, dead] = ["busy", "stopped", "dead"].map(|name| scratch.socket(name));
    let mut server = start("serve", &busy, &[]);
    let clients = ["3", "5"].map(|count| start("client", &busy, &[("COUNT", count)]));
    let sleeper = start("serve", &stopped, &[]);
    start("serve", &dead, &[]).kill9();
    sleeper.stop();
    clients[1].stop();

    let entry = answered(scratch.path(), "busy");
    assert_eq!((entry.role, entry.path.to_str()), (Role::Listener, Some(busy.as_str())));
    let owner = entry.owner.unwrap();
    assert_eq!((owner.pid, owner.uid), (server.pid(), own_uid()));
    let links: Vec<_> = entry.links.iter().map(|link| (link.number, link.pid, link.uid)).collect();
    assert_eq!(links, [(1, clients[0].pid(), own_uid()), (2, clients[1].pid(), own_uid())]);
    for (link, count) in entry.links.iter().zip([3, 5]) {
        assert_eq!((link.kind, link.behind_bytes), (LinkKind::Client, None));
        assert_eq!((link.stats.received_messages, link.stats.sent_messages), (count, count));
        assert_eq!((link.stats.received_bytes, link.stats.sent_bytes), (100 * count, 100 * count));
    }
    assert_eq!((entry.stats.received_messages, entry.stats.sent_bytes), (8, 800));

    let entries = census(Some(scratch.path())).unwrap();
    let states: Vec<_> = entries.iter().map(|entry| (entry.name.as_str(), entry.state)).collect();
    assert_eq!(states[1..], [("dead", State::Dead), ("stopped", State::Silent)]);
    assert_eq!((entries[1].owner, entries[1].links.len()), (None, 0));
    assert_eq!(entries[2].owner.unwrap().pid, sleeper.pid(), "whoever bound the socket");
    assert_eq!(scratch.entries(), ["busy.sock", "dead.sock", "stopped.sock"], "nothing is removed");

    let status = support::status(&mut server);
    assert_eq!((status.refused, status.members, status.messages), (0, 2, 8), "looking disturbs nobody");
    sleeper.go_on();
    assert_eq!(answered(scratch.path(), "stopped").links.len(), 0);
}

#[test]
fn who_has_left_is_no_longer_told_and_the_next_has_a_number_of_its_own() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let socket = scratch.socket("test");
    let _server = start("serve", &socket, &[]);
    let mut first = start("client", &socket, &[("COUNT", "2")]);
    assert_eq!(answered(scratch.path(), "test").links[0].number, 1);
    first.kill9();
    wait_until("the dead client is gone", || answered(scratch.path(), "test").links.is_empty());
    let second = start("client", &socket, &[("COUNT", "1")]);
    let entry = answered(scratch.path(), "test");
    let links: Vec<_> = entry.links.iter().map(|link| (link.number, link.pid)).collect();
    assert_eq!(links, [(2, second.pid())]);
    assert_eq!(entry.stats.received_messages, 1, "of the connections that exist");
}

#[test]
fn a_pool_answers_too() {
    struct Echo;
    impl Handler for Echo {
        fn on_event(&mut self, member: &mut Member, event: Event<'_>) {
            if let Event::Message(bytes) = event {
                let _ = member.sender().try_send(bytes);
            }
        }
    }
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let socket = scratch.socket("test");
    let pool = Pool::builder(Listener::bind(&socket).unwrap()).workers(2).serve(|_| Echo).unwrap();
    let clients = ["1", "2", "3"].map(|count| start("client", &socket, &[("COUNT", count)]));
    let entry = answered(scratch.path(), "test");
    assert_eq!(entry.owner.unwrap().pid, std::process::id());
    let links: Vec<_> = entry.links.iter().map(|link| (link.pid, link.stats.received_messages)).collect();
    assert_eq!(links, [(clients[0].pid(), 1), (clients[1].pid(), 2), (clients[2].pid(), 3)]);
    assert_eq!(pool.stats().refused, 0);
}

#[test]
fn who_may_not_connect_may_not_look() {
    let _guard = hang_guard();
    if own_uid() != 0 {
        eprintln!("skipped: needs root to become other users");
        return;
    }
    let scratch = scratch_dir();
    std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut server = start("serve", &scratch.socket("shared"), &[("ALLOW_UID", "4242")]);
    let _private = start("serve", &scratch.socket("private"), &[]);
    let looked = |uid: &str| {
        let mut peer = Peer::spawn("look", &[("RUN_AS", uid), ("DIRECTORY", scratch.text())]);
        let lines: Vec<String> =
            std::iter::from_fn(|| Some(peer.next_line()).filter(|line| line != "end")).collect();
        peer.finish();
        lines
    };
    wait_until("it answers", || looked("4242") == ["private Refuses 0", "shared Answers 0"]);
    let before = support::status(&mut server).refused;
    wait_until("it refuses", || looked("4243") == ["private Refuses 0", "shared Refuses 0"]);
    assert!(support::status(&mut server).refused > before);
}

#[test]
fn a_monitor_that_brings_what_it_should_not_is_refused() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let socket = scratch.socket("test");
    let mut server = start("serve", &socket, &[]);
    let before = support::status(&mut server);
    let memory = Memory::connection(RING_BYTES);
    for (hello, files) in
        [(Hello::monitor(), 1), (Hello::reader(4), 1), (Hello::client(RING_BYTES).put(20, &[4]), 2)]
    {
        let visitor = support::open(&socket);
        let offered = vec![std::os::fd::AsRawFd::as_raw_fd(&memory.file); files];
        support::send_files(std::os::fd::AsRawFd::as_raw_fd(&visitor), &hello.0, &offered).unwrap();
        assert!(matches!(support::answer_of(&visitor).err(), Some(Turned::Down(5 | 6))));
    }
    let after = support::await_status(&mut server, |now| now.files == before.files);
    assert_eq!(after.refused, before.refused + 3);
}
