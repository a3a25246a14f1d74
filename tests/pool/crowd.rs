//! Many connections at one time.

use super::{Site, site};
use crate::common::{
    self, DEADLINE, Peer, check, hang_guard, hear, message, mixed_len, number_variable, say, variable,
};
use ringway::{Config, Event, Handler, Member, Shutdown};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Sends back what comes.
struct Echo;

impl Handler for Echo {
    fn on_event(&mut self, member: &mut Member, event: Event<'_>) {
        if let Event::Message(bytes) = event {
            member.sender().try_send(bytes).unwrap();
        }
    }
}

fn asking(socket: &str, connections: u64, count: u64) -> Peer {
    let (connections, count) = (connections.to_string(), count.to_string());
    Peer::spawn("ask", &[("SOCKET", socket), ("CONNECTIONS", &connections), ("COUNT", &count)])
}

#[test]
fn every_question_of_many_connections_is_answered_exactly_once() {
    let _guard = hang_guard();
    for wait in [ringway::Wait::Auto, ringway::Wait::Sleep, ringway::Wait::Spin] {
        let Site { socket, pool, .. } = &site(&Config::new().wait(wait), 3, |_| Echo);
        let mut clients: Vec<Peer> = (0..4).map(|_| asking(socket, 5, 2000)).collect();
        for client in &mut clients {
            client.expect_line("connected");
            client.send_line("go");
        }
        clients.into_iter().for_each(Peer::finish);
        common::wait_until("all have left", || pool.connections() == 0);
        let stats = pool.stats();
        assert_eq!((stats.connections, stats.accepted, stats.panics), (0, 20, 0), "{wait:?}");
        let traffic = stats.traffic;
        assert_eq!((traffic.received_messages, traffic.sent_messages), (40_000, 40_000), "{wait:?}");
    }
}

#[test]
fn new_members_go_to_the_worker_that_has_the_fewest() {
    let _guard = hang_guard();
    struct Seats(usize, Arc<Mutex<Vec<(usize, u64, usize)>>>);
    impl Handler for Seats {
        fn on_event(&mut self, member: &mut Member, event: Event<'_>) {
            match event {
                Event::Joined => self.1.lock().unwrap().push((self.0, member.id().number(), member.seat())),
                Event::Message(_) => member.disconnect(),
                _ => {}
            }
        }
    }
    let book = Arc::new(Mutex::new(Vec::new()));
    let entries = Arc::clone(&book);
    let site = site(&Config::new(), 3, move |context| Seats(context.index(), Arc::clone(&entries)));
    let connect = || Config::new().ring_bytes(16 << 10).connect(&site.socket).unwrap();
    let wait_for = |count| common::wait_until("all have joined", || book.lock().unwrap().len() == count);
    let mut connections: Vec<_> = (1..=7).map(|count| (connect(), wait_for(count)).0).collect();
    // Two leave worker 1, which then has none.
    for index in [1, 4] {
        connections[index].send(b"end it").unwrap();
        assert_eq!(connections[index].recv().unwrap_err().reason(), &ringway::CloseReason::PeerClosed);
    }
    common::wait_until("both are gone", || site.pool.connections() == 5);
    let more: Vec<_> = (8..=10).map(|count| (connect(), wait_for(count)).0).collect();
    let workers: Vec<usize> = book.lock().unwrap().iter().map(|(worker, ..)| *worker).collect();
    assert_eq!(workers, [0, 1, 2, 0, 1, 2, 0, 1, 1, 1]);
    let numbers: Vec<u64> = book.lock().unwrap().iter().map(|(_, number, _)| *number).collect();
    assert_eq!(numbers, (1..=10).collect::<Vec<_>>(), "counted over all workers");
    // Worker 1 has given two seats back and needs three.
    let seats: Vec<usize> = book.lock().unwrap().iter().map(|(.., seat)| *seat).collect();
    assert_eq!(seats[..7], [0, 0, 0, 1, 1, 1, 2]);
    assert!(seats[7..].iter().all(|seat| *seat < 3), "seats of worker 1 are used again: {seats:?}");
    drop((connections, more));
}

#[test]
fn a_thousand_connections_are_served_and_cost_nothing_while_they_are_silent() {
    let _guard = hang_guard();
    // In a process of its own, so that its threads can be told from those of other tests.
    Peer::spawn("thousand", &[]).finish();
}

/// Four processes with 250 connections each.
pub fn role_thousand() {
    let Site { socket, pool, .. } = &site(&Config::new().ring_bytes(16 << 10), 2, |_| Echo);
    let mut clients: Vec<Peer> = (0..4).map(|_| asking(socket, 250, 5)).collect();
    for client in &mut clients {
        client.expect_line("connected");
    }
    assert_eq!(pool.connections(), 1000);
    for client in &mut clients {
        client.send_line("go");
        client.expect_line("answered");
    }
    assert_eq!(pool.stats().traffic.sent_messages, 5000);
    let others = [own_threads("ringway-0"), own_threads("ringway-1"), own_threads("ringway-accept")].concat();
    assert_eq!(others.len(), 3, "{others:?}");
    common::wait_until("all sleep", || others.iter().all(|id| common::is_asleep(std::process::id(), *id)));
    let before: Vec<Effort> = others.iter().map(|id| Effort::of(*id)).collect();
    let window = Instant::now() + Duration::from_secs(1);
    while let Some(left) = window.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
    let after: Vec<Effort> = others.iter().map(|id| Effort::of(*id)).collect();
    assert_eq!(after, before, "somebody was woken in an idle second");
    // One speaks, 999 are silent: each answer is right, and the silent ones are still there afterwards.
    clients[2].send_line("one 20000");
    clients[2].expect_line("answered");
    for client in &mut clients {
        client.send_line("go");
        client.expect_line("answered");
    }
    assert_eq!(pool.stats().traffic.sent_messages, 5000 + 20_000 + 5000);
    assert_eq!(pool.connections(), 1000);
    for client in &mut clients {
        client.send_line("end");
    }
    clients.into_iter().for_each(Peer::finish);
    common::wait_until("all have left", || pool.connections() == 0);
}

/// What a thread has used so far: how often it was switched to something else, and clock ticks.
#[derive(Debug, PartialEq, Eq)]
struct Effort {
    switches: [u64; 2],
    ticks: u64,
}

impl Effort {
    fn of(thread: u32) -> Self {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/self/task/{thread}/{name}")).unwrap();
        let (status, stat) = (read("status"), read("stat"));
        let number = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
        let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Self { switches: [number("voluntary_ctxt_switches"), number("nonvoluntary_ctxt_switches")], ticks }
    }
}

/// Returns the threads of this process that have this name.
fn own_threads(name: &str) -> Vec<u32> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let numbers = tasks.map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap());
    let named = |id: &u32| std::fs::read_to_string(format!("/proc/self/task/{id}/comm")).unwrap();
    numbers.filter(|id| named(id).trim_end() == name).collect()
}

#[test]
fn clients_that_are_killed_at_random_harm_nobody_else() {
    let _guard = hang_guard();
    let Site { socket, pool, .. } = &site(&Config::new(), 2, |_| Echo2);
    let mut honest: Vec<Peer> = (0..2).map(|_| asking(socket, 3, 4000)).collect();
    for client in &mut honest {
        client.expect_line("connected");
        client.send_line("go");
    }
    for round in 0..12 {
        let mut victim = asking(socket, 3, u64::MAX);
        victim.expect_line("connected");
        victim.send_line("go");
        // Somewhere in the middle: after a number of answers that differs from round to round.
        let sent = pool.stats().traffic.sent_messages;
        common::wait_until("some were answered", || {
            pool.stats().traffic.sent_messages > sent + 37 * round % 300
        });
        victim.kill9();
    }
    honest.into_iter().for_each(Peer::finish);
    common::wait_until("all have left", || pool.connections() == 0);
    assert_eq!(pool.stats().accepted, 2 * 3 + 12 * 3);
    assert_eq!(pool.stats().panics, 0);
}

/// Sends back what comes, to whoever is still there.
struct Echo2;

impl Handler for Echo2 {
    fn on_event(&mut self, member: &mut Member, event: Event<'_>) {
        if let Event::Message(bytes) = event {
            let _ = member.sender().try_send(bytes);
        }
    }
}

#[test]
fn a_pool_ends_with_silent_members_and_they_are_told() {
    let _guard = hang_guard();
    let site = site(&Config::new(), 2, |_| Echo);
    let mut connections: Vec<_> = (0..4).map(|_| Config::new().connect(&site.socket).unwrap()).collect();
    common::wait_until("all have joined", || site.pool.connections() == 4);
    assert_eq!(site.pool.shutdown(DEADLINE), Shutdown::Complete);
    for connection in &mut connections {
        assert_eq!(connection.recv().unwrap_err().reason(), &ringway::CloseReason::PeerClosed);
    }
}

/// Asks over several connections in turn and checks the answers; again when told.
pub fn role_ask() {
    let config = Config::new().ring_bytes(16 << 10);
    let count = number_variable("CONNECTIONS");
    let mut connections: Vec<_> = (0..count).map(|_| config.connect(&variable("SOCKET")).unwrap()).collect();
    say("connected");
    let mut number = 0;
    let rounds = number_variable("COUNT");
    loop {
        let order = hear();
        let (asked, rounds) = match order.strip_prefix("one ") {
            Some(times) => (&mut connections[..1], times.parse().unwrap()),
            None if order == "end" => return,
            None => (&mut connections[..], rounds),
        };
        for _ in 0..rounds {
            let len = mixed_len(number, LEN_MAX);
            for connection in asked.iter_mut() {
                connection.send(&message(number, len)).unwrap();
            }
            for connection in asked.iter_mut() {
                check(&connection.recv().unwrap(), number, len);
            }
            number += 1;
        }
        say("answered");
        if rounds > 100 && asked.len() > 1 {
            return;
        }
    }
}

const LEN_MAX: usize = 100;
