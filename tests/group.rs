//! A group: many client processes served from one thread.
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

mod common;

use common::{
    DEADLINE, Peer, Scratch, check, hang_guard, hear, message, mixed_len, number_variable, say, scratch_dir,
};
use ringway::{CloseReason, Config, Event, Group, Member, MemberId, TryRecvError, Wait};
use std::collections::HashMap;
use std::time::{Duration, Instant};

#[test]
fn peer_process() {
    common::run_role(&[("client", role_client), ("flood", role_flood), ("ask", role_ask)]);
}

/// A group in a directory of its own.
fn group(config: &Config) -> (Scratch, String, Group) {
    let scratch = scratch_dir();
    let socket = scratch.socket("test");
    let group = Group::new(config.bind(&socket).unwrap()).unwrap();
    (scratch, socket, group)
}

fn soon() -> Option<Instant> {
    Some(Instant::now() + DEADLINE)
}

/// What came from each member, by process.
#[derive(Default)]
struct Book {
    joined: Vec<MemberId>,
    received: HashMap<u32, u64>,
    left: HashMap<u32, CloseReason>,
}

impl Book {
    /// Checks that the event is the one that may come next, and enters it.
    fn enter(&mut self, member: &mut Member, event: Event<'_>) {
        let pid = member.peer_cred().pid;
        assert!(!self.left.contains_key(&pid), "{event:?} after the last event of {pid}");
        match event {
            Event::Joined => {
                assert!(!self.joined.contains(&member.id()), "{:?} joined twice", member.id());
                self.joined.push(member.id());
                self.received.insert(pid, 0);
            }
            Event::Message(bytes) => {
                let number = self.received.get_mut(&pid).expect("a message before the member joined");
                check(bytes, *number, mixed_len(*number, LEN_MAX));
                *number += 1;
            }
            Event::Room => panic!("nobody asked for room"),
            Event::Left(reason) => {
                self.left.insert(pid, reason);
            }
        }
    }
}

#[test]
fn every_message_of_eight_clients_arrives_once_and_in_order() {
    let _guard = hang_guard();
    for wait in [Wait::Auto, Wait::Sleep, Wait::Spin] {
        let (_scratch, socket, mut group) = group(&Config::new().wait(wait));
        let clients: Vec<Peer> = (0..8).map(|_| client(&socket, 20_000)).collect();
        let mut book = Book::default();
        while book.left.len() < 8 {
            assert!(group.turn(soon(), |member, event| book.enter(member, event)).unwrap() > 0);
        }
        for client in clients {
            assert_eq!(book.received[&client.pid()], 20_000, "{wait:?}");
            assert_eq!(book.left[&client.pid()], CloseReason::PeerClosed, "{wait:?}");
            client.finish();
        }
        let numbers: Vec<u64> = book.joined.iter().map(|id| id.number()).collect();
        assert_eq!(numbers, (1..=8).collect::<Vec<_>>(), "counted from 1");
        assert!(group.is_empty());
        assert_eq!(group.listener().connections(), 0);
    }
}

#[test]
fn a_client_that_is_killed_leaves_and_the_others_go_on() {
    let _guard = hang_guard();
    let (_scratch, socket, mut group) = group(&Config::new());
    let mut clients: Vec<Peer> = (0..7).map(|_| client(&socket, 20_000)).collect();
    let mut victim = Peer::spawn("flood", &[("SOCKET", &socket)]);
    let mut book = Book::default();
    // It dies in the middle: some of its messages came, and it would never end by itself.
    while book.received.get(&victim.pid()).is_none_or(|count| *count < 1_000) {
        group.turn(soon(), |member, event| book.enter(member, event)).unwrap();
    }
    victim.kill9();
    while book.left.len() < 8 {
        assert!(group.turn(soon(), |member, event| book.enter(member, event)).unwrap() > 0);
    }
    assert_eq!(book.left[&victim.pid()], CloseReason::PeerDied { pid: victim.pid() });
    for client in clients.drain(..) {
        assert_eq!(book.received[&client.pid()], 20_000);
        assert_eq!(book.left[&client.pid()], CloseReason::PeerClosed);
        client.finish();
    }
}

#[test]
fn clients_that_are_killed_while_the_group_sleeps_leave() {
    let _guard = hang_guard();
    for wait in [Wait::Sleep, Wait::Auto, Wait::Spin] {
        let (_scratch, socket, mut group) = group(&Config::new().wait(wait));
        let mut clients: Vec<Peer> = (0..3).map(|_| idle_client(&socket)).collect();
        let mut book = Book::default();
        join_all(&mut group, &mut book, 3);
        for (index, client) in clients.iter_mut().enumerate() {
            client.kill9();
            while book.left.len() <= index {
                assert!(group.turn(soon(), |member, event| book.enter(member, event)).unwrap() > 0);
            }
            assert_eq!(book.left[&client.pid()], CloseReason::PeerDied { pid: client.pid() }, "{wait:?}");
            assert_eq!(group.len(), 2 - index);
        }
    }
}

#[test]
fn a_member_is_answered_while_its_message_is_handled() {
    let _guard = hang_guard();
    for wait in [Wait::Auto, Wait::Sleep] {
        let (_scratch, socket, mut group) = group(&Config::new().wait(wait));
        let clients: Vec<Peer> = (0..3).map(|_| Peer::spawn("ask", &[("SOCKET", &socket)])).collect();
        let mut left = 0;
        while left < 3 {
            let events = group.turn(soon(), |member, event| match event {
                Event::Joined | Event::Room => {}
                Event::Message(bytes) => member.sender().try_send(bytes).unwrap(),
                Event::Left(reason) => {
                    assert_eq!(reason, CloseReason::PeerClosed);
                    assert_eq!(
                        (member.stats().received_messages, member.stats().sent_messages),
                        (2_000, 2_000)
                    );
                    left += 1;
                }
            });
            assert!(events.unwrap() > 0);
        }
        clients.into_iter().for_each(Peer::finish);
    }
}

#[test]
fn a_message_to_all_members_reaches_each_of_them() {
    let _guard = hang_guard();
    let (_scratch, socket, mut group) = group(&Config::new());
    let mut clients: Vec<Peer> = (0..3).map(|_| idle_client(&socket)).collect();
    join_all(&mut group, &mut Book::default(), 3);
    for member in group.members() {
        member.sender().try_send(&message(7, 100)).unwrap();
    }
    for client in &mut clients {
        client.send_line("receive");
        client.expect_line("received");
    }
}

#[test]
fn a_client_with_much_to_say_does_not_silence_another() {
    let _guard = hang_guard();
    let (_scratch, socket, mut group) = group(&Config::new());
    let mut book = Book::default();
    let mut talkative = idle_client(&socket);
    join_all(&mut group, &mut book, 1);
    let mut quiet = idle_client(&socket);
    join_all(&mut group, &mut book, 2);
    // All of it lies in the rings before the group looks at any of it.
    for (client, order) in [(&mut talkative, "send 5000"), (&mut quiet, "send 5")] {
        client.send_line(order);
        client.expect_line("sent");
        client.send_line("end");
    }
    let mut before_quiet = None;
    while book.left.len() < 2 {
        let turned = group.turn(soon(), |member, event| {
            if member.peer_cred().pid == quiet.pid() && before_quiet.is_none() {
                before_quiet = Some(book.received[&talkative.pid()]);
            }
            book.enter(member, event);
        });
        assert!(turned.unwrap() > 0);
    }
    assert_eq!((book.received[&talkative.pid()], book.received[&quiet.pid()]), (5_000, 5));
    assert!(
        before_quiet.unwrap() < 5_000,
        "the quiet one had to wait until the other had nothing more to say"
    );
    talkative.finish();
    quiet.finish();
}

#[test]
fn an_idle_group_sleeps_and_is_woken_by_the_first_message() {
    let _guard = hang_guard();
    let (_scratch, socket, mut group) = group(&Config::new());
    let mut clients: Vec<Peer> = (0..8).map(|_| idle_client(&socket)).collect();
    let mut book = Book::default();
    join_all(&mut group, &mut book, 8);
    let before = Effort::now();
    let deadline = Instant::now() + Duration::from_millis(500);
    let events = group.turn(Some(deadline), |_, event| panic!("{event:?} although nothing happened"));
    assert_eq!(events.unwrap(), 0);
    let effort = Effort::now();
    // A group that polled every millisecond would sleep 500 times; one that span would use 50 ticks of 10 ms.
    let switches = effort.switches - before.switches;
    let ticks = effort.ticks - before.ticks;
    assert!(switches < 50, "went to sleep {switches} times in an idle half second");
    assert!(ticks < 25, "used {ticks} ticks of 10 ms in an idle half second");
    let (own, thread) = (std::process::id(), common::thread_id());
    for client in &mut clients[..3] {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                common::wait_until("the group sleeps", || common::is_asleep(own, thread));
                client.send_line("send 1");
            });
            // Without a deadline only the message ends this sleep.
            let mut came = 0;
            while came == 0 {
                group.turn(None, |_, event| came += u32::from(matches!(event, Event::Message(_)))).unwrap();
            }
        });
    }
}

#[test]
fn a_member_is_found_by_its_name_until_it_has_left() {
    let _guard = hang_guard();
    let (_scratch, socket, mut group) = group(&Config::new());
    let mut book = Book::default();
    let mut first = idle_client(&socket);
    join_all(&mut group, &mut book, 1);
    let _second = idle_client(&socket);
    join_all(&mut group, &mut book, 2);
    let (first_id, second_id) = (book.joined[0], book.joined[1]);
    assert_eq!(group.member(first_id).unwrap().peer_cred().pid, first.pid());
    first.kill9();
    while book.left.is_empty() {
        group.turn(soon(), |member, event| book.enter(member, event)).unwrap();
    }
    assert!(group.member(first_id).is_none());
    let _third = idle_client(&socket);
    while book.joined.len() < 3 {
        group.turn(soon(), |member, event| book.enter(member, event)).unwrap();
    }
    // The third has the seat of the first, and is not taken for it.
    assert_eq!(group.member(book.joined[2]).unwrap().seat(), 0);
    assert!(group.member(first_id).is_none());
    assert_eq!(group.member(second_id).unwrap().seat(), 1);
}

#[test]
fn members_that_are_disconnected_leave_in_the_next_turn() {
    let _guard = hang_guard();
    let (_scratch, socket, mut group) = group(&Config::new());
    let mut clients: Vec<Peer> = (0..3).map(|_| idle_client(&socket)).collect();
    let mut book = Book::default();
    join_all(&mut group, &mut book, 3);
    group.members().for_each(Member::disconnect);
    assert_eq!(group.turn(soon(), |member, event| book.enter(member, event)).unwrap(), 3);
    assert!(group.is_empty() && book.left.values().all(|reason| *reason == CloseReason::Disconnected));
    for client in &mut clients {
        client.send_line("end");
        client.expect_line("closed");
    }
}

#[test]
fn a_bell_ends_the_turn_of_a_sleeping_group() {
    let _guard = hang_guard();
    let (_scratch, _, mut group) = group(&Config::new().wait(Wait::Sleep));
    let (bell, own, thread) = (group.bell(), std::process::id(), common::thread_id());
    for _ in 0..3 {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                common::wait_until("the group sleeps", || common::is_asleep(own, thread));
                bell.ring();
            });
            let events = group.turn(None, |_, event| panic!("{event:?}")).unwrap();
            assert_eq!(events, 0);
        });
    }
}

#[test]
fn a_sleeping_group_is_woken_by_a_new_client() {
    let _guard = hang_guard();
    let (_scratch, socket, mut group) = group(&Config::new().wait(Wait::Sleep));
    let _client = idle_client(&socket);
    let events = group.turn(None, |_, event| assert!(matches!(event, Event::Joined), "{event:?}"));
    assert_eq!((events.unwrap(), group.len()), (1, 1));
}

#[test]
fn a_deadline_in_the_past_is_one_look() {
    let (_scratch, _, mut group) = group(&Config::new());
    let events = group.turn(Some(Instant::now()), |_, event| panic!("{event:?}")).unwrap();
    assert_eq!(events, 0);
    assert!(group.is_empty());
}

#[test]
fn dropping_a_group_removes_its_name_and_closes_its_members() {
    let _guard = hang_guard();
    let (scratch, socket, mut group) = group(&Config::new());
    let mut client = idle_client(&socket);
    join_all(&mut group, &mut Book::default(), 1);
    drop(group);
    assert_eq!(scratch.entries(), [""; 0]);
    client.send_line("end");
    client.expect_line("closed");
}

#[test]
fn a_peer_without_a_group_sees_that_a_member_stopped_listening() {
    let _guard = hang_guard();
    let (_scratch, socket, mut group) = group(&Config::new());
    let aside = std::thread::spawn(move || Config::new().connect(&socket).unwrap());
    let mut book = Book::default();
    join_all(&mut group, &mut book, 1);
    let mut connection = aside.join().unwrap();
    assert_eq!(connection.try_recv().map(|_| ()), Err(TryRecvError::Empty));
    drop(group);
    assert_eq!(connection.recv().unwrap_err().reason(), &CloseReason::PeerClosed);
}

fn client(socket: &str, count: u64) -> Peer {
    let mut client = Peer::spawn("client", &[("SOCKET", socket), ("COUNT", &count.to_string())]);
    client.send_line("end");
    client
}

fn idle_client(socket: &str) -> Peer {
    Peer::spawn("client", &[("SOCKET", socket), ("COUNT", "0")])
}

fn join_all(group: &mut Group, book: &mut Book, count: usize) {
    while book.joined.len() < count {
        assert!(group.turn(soon(), |member, event| book.enter(member, event)).unwrap() > 0);
    }
    assert_eq!(group.len(), count);
}

/// What this thread has used so far.
struct Effort {
    /// How often it went to sleep by itself.
    switches: u64,
    /// Clock ticks on a processor.
    ticks: u64,
}

impl Effort {
    fn now() -> Self {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
        let switches = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
        let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Self { switches, ticks }
    }
}

// Roles.

/// Sends numbered messages, then does what it is told: `send COUNT`, `receive`, `end`.
fn role_client() {
    let mut connection = common::join(&Config::new());
    let mut number = 0;
    while number < number_variable("COUNT") {
        connection.send(&message(number, mixed_len(number, LEN_MAX))).unwrap();
        number += 1;
    }
    loop {
        let order = hear();
        match order.as_str() {
            "receive" => {
                check(&connection.recv().unwrap(), 7, 100);
                say("received");
            }
            "end" if number > 0 => return,
            "end" => {
                assert_eq!(connection.recv().unwrap_err().reason(), &CloseReason::PeerClosed);
                return say("closed");
            }
            _ => {
                let count: u64 = order.strip_prefix("send ").unwrap().parse().unwrap();
                for number in number..number + count {
                    connection.send(&message(number, mixed_len(number, LEN_MAX))).unwrap();
                }
                number += count;
                say("sent");
            }
        }
    }
}

/// Sends without end.
fn role_flood() {
    let mut connection = common::join(&Config::new());
    for number in 0.. {
        if connection.send(&message(number, mixed_len(number, LEN_MAX))).is_err() {
            return;
        }
    }
}

/// Asks and checks the answers.
fn role_ask() {
    let mut connection = common::join(&Config::new());
    for number in 0..2_000 {
        let len = mixed_len(number, LEN_MAX);
        connection.send(&message(number, len)).unwrap();
        check(&connection.recv().unwrap(), number, len);
    }
}

const LEN_MAX: usize = 100;
