//! Processes that are killed at every step of sending, receiving, joining and letting in, and at any moment under load.
//!
//! Each case starts a process that kills itself at a point, the first, the second or a later time. It must really die
//! there. The honest hear whole messages only, in order, each once; nobody is blocked; then others join under the same
//! name, without anybody touching a file, and everything is as if the dead had never been there.
#![cfg(feature = "crash-points")]
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

mod broadcast;
mod common;
#[path = "broadcast/crash_roles.rs"]
mod crash_roles;

use broadcast::actor::{ask, ask_for, quit, start_with};
use broadcast::{
    Book, Speech, await_receivers, describe_member, member, member_process, name, receiver, receiver_process,
    sender, sender_process,
};
use common::{DEADLINE, Peer, Scratch, hang_guard, scratch_dir};
use ringway::broadcast::{Event, MemberEvent, Receiver, Sender};
use ringway::{BROADCAST_CRASH_POINTS, CRASH_POINTS, CloseReason};
use std::os::unix::process::ExitStatusExt;

/// A role, and the points that it passes as often as the list says.
struct Scenario {
    role: &'static str,
    points: &'static [(&'static str, &'static [u64])],
}

/// The dying process sends on a route, long messages too, to two that read; it sleeps whenever it waits.
const SENDER: Scenario = Scenario {
    role: "speak",
    points: &[
        ("producer.reserved", MANY),
        ("producer.payload_written", MANY),
        ("producer.staged", MANY),
        ("producer.zeroed", MANY),
        ("producer.published", MANY),
        ("broadcast.published", MANY),
        ("broadcast.rung", &[1, 2, 20]),
        ("fragments.between", MANY),
        ("sleeper.armed", &[1, 2, 20]),
        ("sleeper.parked", &[1, 2, 20]),
        ("sleeper.woken", &[1, 2, 20]),
        ("close.word_stored", &[1]),
    ],
};

/// The dying process sends on a route into a ring that never fills, so that the count is exact.
const STREAMER: Scenario = Scenario {
    role: "stream",
    points: &[
        ("producer.reserved", MANY),
        ("producer.payload_written", MANY),
        ("producer.staged", MANY),
        ("producer.zeroed", MANY),
        ("producer.published", MANY),
        ("broadcast.published", MANY),
    ],
};

/// The dying process lets receivers in, and goes to receivers that were there before.
const HOST: Scenario = Scenario {
    role: "host",
    points: &[
        ("broadcast.hello_received", &[1, 2]),
        ("broadcast.welcome_sent", &[1, 2]),
        ("broadcast.newcomer_seen", &[1, 2]),
        ("broadcast.newcomer_told", &[1, 2]),
    ],
};

/// The dying process receives from a route whose sender streams to another, too.
const RECEIVER: Scenario = Scenario {
    role: "listen",
    points: &[
        ("consumer.header_seen", MANY),
        ("consumer.payload_copied", MANY),
        ("consumer.advanced", MANY),
        ("consumer.released", MANY),
        ("sleeper.armed", &[1, 2, 20]),
        ("sleeper.parked", &[1, 2, 20]),
        ("sleeper.woken", &[1, 2, 20]),
    ],
};

/// The dying process joins a route that has a sender.
const GUEST: Scenario = Scenario {
    role: "guest",
    points: &[
        ("broadcast.hello_sent", &[1]),
        ("broadcast.welcome_received", &[1]),
        ("broadcast.joined", &[1]),
    ],
};

/// The dying process joins a channel of two, hears and speaks.
const MEMBER: Scenario = Scenario {
    role: "talk",
    points: &[
        ("broadcast.hello_sent", &[1, 2]),
        ("broadcast.hello_received", &[1, 2]),
        ("broadcast.welcome_sent", &[1, 2]),
        ("broadcast.welcome_received", &[1, 2]),
        ("broadcast.joined", &[1, 2]),
        ("broadcast.newcomer_seen", &[1, 2]),
        ("broadcast.newcomer_told", &[1, 2]),
        ("producer.published", MANY),
        ("broadcast.published", MANY),
        ("consumer.payload_copied", MANY),
        ("consumer.released", MANY),
    ],
};

const SCENARIOS: &[&Scenario] = &[&SENDER, &STREAMER, &HOST, &RECEIVER, &GUEST, &MEMBER];
const MANY: &[u64] = &[1, 2, 100];

#[test]
fn peer_process() {
    common::run_role(&[
        ("actor", broadcast::actor::play),
        ("honest", role_honest),
        ("speak", crash_roles::speak),
        ("stream", crash_roles::stream),
        ("host", crash_roles::host),
        ("listen", crash_roles::listen),
        ("guest", crash_roles::guest),
        ("talk", crash_roles::talk),
    ]);
}

#[test]
fn every_point_of_routes_and_channels_is_in_a_scenario() {
    for point in BROADCAST_CRASH_POINTS {
        let known = SCENARIOS.iter().any(|scenario| scenario.points.iter().any(|(name, _)| name == point));
        assert!(known, "nobody dies at {point}");
    }
    for (point, _) in SCENARIOS.iter().flat_map(|scenario| scenario.points) {
        let exists = CRASH_POINTS.contains(point) || BROADCAST_CRASH_POINTS.contains(point);
        assert!(exists, "there is no point {point}");
    }
}

#[test]
fn a_sender_that_dies_has_sent_whole_messages_to_all_and_its_name_is_free() {
    in_a_process_of_its_own("sender");
}

#[test]
fn a_sender_that_dies_in_a_stream_has_sent_exactly_what_it_published() {
    in_a_process_of_its_own("streamer");
}

#[test]
fn a_sender_that_dies_while_it_lets_somebody_in_is_replaced() {
    in_a_process_of_its_own("host");
}

#[test]
fn a_receiver_that_dies_holds_up_neither_its_sender_nor_the_others() {
    in_a_process_of_its_own("receiver");
}

#[test]
fn a_receiver_that_dies_while_it_joins_costs_the_sender_nothing() {
    in_a_process_of_its_own("guest");
}

#[test]
fn a_member_that_dies_is_missed_by_nobody() {
    in_a_process_of_its_own("member");
}

#[test]
fn members_that_are_killed_at_random_under_load_harm_nobody_else() {
    in_a_process_of_its_own("random");
}

/// Runs the honest side in a process of its own, so that the descriptors it counts belong to nobody else.
fn in_a_process_of_its_own(part: &str) {
    let _guard = hang_guard();
    Peer::spawn("honest", &[("PART", part)]).finish();
}

fn role_honest() {
    let scratch = scratch_dir();
    // What the library starts once for each process, and keeps.
    drop(receiver(&name(&scratch, "first"), ""));
    let before = (common::descriptors(), in_memory());
    match common::variable("PART").as_str() {
        "sender" => each(&scratch, &SENDER, with_dying_sender),
        "streamer" => each(&scratch, &STREAMER, with_dying_streamer),
        "host" => each(&scratch, &HOST, with_dying_host),
        "receiver" => each(&scratch, &RECEIVER, with_dying_receiver),
        "guest" => each(&scratch, &GUEST, with_dying_guest),
        "member" => each(&scratch, &MEMBER, with_dying_member),
        "random" => with_random_deaths(&scratch),
        part => panic!("there is no part {part}"),
    }
    assert_eq!(scratch.entries(), [""; 0], "the directory is clean");
    common::wait_until("descriptors are closed", || common::descriptors() <= before.0);
    assert_eq!(in_memory(), before.1, "nothing is left in shared memory");
}

/// Returns how many names there are in shared memory.
fn in_memory() -> usize {
    std::fs::read_dir("/dev/shm").map(Iterator::count).unwrap_or(0)
}

/// What a case is about.
struct Case<'a> {
    role: &'a str,
    route: String,
    at: String,
}

impl Case<'_> {
    /// Starts the process that will die.
    fn start(&self) -> Peer {
        Peer::spawn(self.role, &[("NAME", &self.route), ("RINGWAY_CRASH_AT", &self.at)])
    }

    /// It must have died at the point.
    #[track_caller]
    fn must_be_dead(&self, peer: &mut Peer) {
        let status = peer.wait_within(DEADLINE);
        assert_eq!(status.signal(), Some(libc::SIGKILL), "{} was never reached: {status}", self.at);
    }
}

/// For each point: a process dies there, and the honest side does its part.
fn each(scratch: &Scratch, scenario: &Scenario, part: fn(&Case<'_>)) {
    for (point, counts) in scenario.points {
        for count in *counts {
            let route = name(scratch, "news");
            part(&Case { role: scenario.role, route, at: format!("{point}:{count}") });
            assert_eq!(scratch.entries(), [""; 0], "after {point}:{count}");
        }
    }
}

/// Two receivers hear the same whole messages and then the end, and are there for the next sender.
fn with_dying_sender(case: &Case<'_>) {
    let mut own = receiver(&case.route, "wait=sleep");
    let mut other = receiver_process(&case.route, "wait=sleep");
    let mut dying = case.start();
    other.send_line("end");
    let mut book = Book::default();
    let reason = book.receive_to_end(&mut own);
    case.must_be_dead(&mut dying);
    let expected = if case.at.starts_with("close.") {
        CloseReason::PeerClosed
    } else {
        CloseReason::PeerDied { pid: dying.pid() }
    };
    assert_eq!(reason, expected, "{}", case.at);
    let end = other.next_line();
    assert_eq!(end, format!("end {expected:?} {}", book.report()), "{}", case.at);
    // Nobody touches a file: the next who wants the name gets it, and both hear it at once.
    let mut next = sender(&case.route, "");
    let mut speech = Speech::new(4, 100);
    speech.send_to(&mut next, 2, 5);
    book.receive(&mut own, 5);
    ask_for(&mut other, "receive 5", &format!("received {}", book.report()));
    quit(other);
}

/// Two receivers hear exactly what was published, however late they look.
fn with_dying_streamer(case: &Case<'_>) {
    let mut own = receiver(&case.route, "");
    let mut other = receiver_process(&case.route, "");
    let mut dying = case.start();
    case.must_be_dead(&mut dying);
    let (point, count) = case.at.split_once(':').unwrap();
    let count = count.parse::<u64>().unwrap();
    let published = if point.ends_with(".published") { count } else { count - 1 };
    let mut book = Book::default();
    let died = CloseReason::PeerDied { pid: dying.pid() };
    assert_eq!(book.receive_to_end(&mut own), died, "{}", case.at);
    assert_eq!(book.count(), published, "{}", case.at);
    ask_for(&mut other, "end", &format!("end {died:?} {}", book.report()));
    quit(other);
    drop((own, sender(&case.route, "")));
}

/// Receivers are there before and come afterwards, while the sender dies letting them in.
fn with_dying_host(case: &Case<'_>) {
    let mut early = receiver(&case.route, "");
    let mut dying = case.start();
    // It may be dead before, in the middle, or after this.
    let mut late = receiver(&case.route, "");
    let mut last = receiver_process(&case.route, "");
    case.must_be_dead(&mut dying);
    for receiver in [&mut early, &mut late] {
        let mut book = Book::default();
        while let Some(event) = receiver.next_timeout(std::time::Duration::from_millis(1)).unwrap() {
            match event {
                Event::Message(message) => _ = book.hear(&message),
                Event::Joined(_) | Event::Left(_, CloseReason::PeerDied { .. }) => {}
                event => panic!("{}: {}", case.at, broadcast::describe(&event)),
            }
        }
    }
    let mut next = sender(&case.route, "");
    let mut speech = Speech::new(2, 100);
    speech.send_to(&mut next, 3, 5);
    for receiver in [&mut early, &mut late] {
        hear_only(receiver, 2, 5);
    }
    drop(next);
    let mut end = ask(&mut last, "end");
    while end.contains("PeerDied") {
        end = ask(&mut last, "end");
    }
    assert!(end.starts_with("end PeerClosed "), "{end}");
    quit(last);
}

/// Receives so many messages of a speaker; what others said before they died may come first.
#[track_caller]
fn hear_only(receiver: &mut Receiver, speaker: u32, count: u64) {
    let mut book = Book::default();
    while book.line(speaker).is_none_or(|line| line.next < count) {
        book.receive(receiver, 1);
    }
}

/// The sender is told, is not held up, and the other receiver gets everything.
fn with_dying_receiver(case: &Case<'_>) {
    let mut own = sender(&case.route, "policy=block wait=sleep");
    let mut other = receiver_process(&case.route, "");
    await_receivers(&mut own, 1);
    let mut dying = case.start();
    let pid = dying.pid();
    // It may die while it waits to be let in.
    common::wait_until("it comes or dies", || own.receiver_count() == 2 || !is_alive(&dying));
    other.send_line("end");
    let mut speech = Speech::new(2, 2000);
    while is_alive(&dying) || own.receiver_count() > 1 {
        speech.send(&mut own, 1);
        assert!(speech.next < 100_000, "{} was never reached", case.at);
        // The dying one falls asleep now and then.
        if speech.next.is_multiple_of(16) {
            std::thread::yield_now();
        }
    }
    case.must_be_dead(&mut dying);
    let events = std::iter::from_fn(|| own.try_event()).map(|event| describe_member(&event));
    let events: Vec<String> = events.collect();
    let known = [
        format!("joined {}", other.pid()),
        format!("joined {pid}"),
        format!("left {pid} PeerDied {{ pid: {pid} }}"),
    ];
    let is_waiting = case.at.starts_with("sleeper.");
    assert!(events == known || is_waiting && events == known[..1], "{}: {events:?}", case.at);
    speech.send_to(&mut own, 1, 100);
    must_be_welcome(&mut own, &case.route, &mut speech);
    own.disconnect();
    other.expect_line(&format!("end PeerClosed {}", speech.report_all()));
    quit(other);
}

/// The next that comes is served as if nothing had happened.
#[track_caller]
fn must_be_welcome(own: &mut Sender, route: &str, speech: &mut Speech) {
    let mut next = receiver_process(route, "");
    let receivers = own.receiver_count();
    next.send_line("receive 10");
    let first = speech.next;
    speech.send_to(own, receivers, 10);
    next.expect_line(&format!("received {}", speech.report(first..first + 10)));
    quit(next);
}

/// The sender goes on; whoever got in far enough is reported dead.
fn with_dying_guest(case: &Case<'_>) {
    let mut own = sender(&case.route, "policy=block");
    let mut other = receiver_process(&case.route, "");
    await_receivers(&mut own, 1);
    other.send_line("end");
    let mut dying = case.start();
    let mut speech = Speech::new(2, 300);
    while is_alive(&dying) {
        speech.send(&mut own, 1);
    }
    case.must_be_dead(&mut dying);
    common::wait_until("it is gone", || {
        // Several rings, and it is in nobody's way.
        speech.send(&mut own, 200);
        own.receiver_count() == 1
    });
    while let Some(event) = own.try_event() {
        let text = describe_member(&event);
        let pid = dying.pid();
        let known = [format!("joined {pid}"), format!("left {pid} PeerDied {{ pid: {pid} }}")];
        assert!(known.contains(&text) || text == format!("joined {}", other.pid()), "{}: {text}", case.at);
    }
    must_be_welcome(&mut own, &case.route, &mut speech);
    own.disconnect();
    other.expect_line(&format!("end PeerClosed {}", speech.report_all()));
    quit(other);
}

fn is_alive(peer: &Peer) -> bool {
    !matches!(common::process_state(peer.pid()), 'Z' | 'X')
}

/// Two members talk on while a third joins and dies.
fn with_dying_member(case: &Case<'_>) {
    let mut own = member(&case.route, "policy=block");
    let mut other = member_process(&case.route, "policy=block");
    await_receivers(own.sender(), 1);
    ask_for(&mut other, "await 1", "receivers 1");
    ask_for(&mut other, "flow 300", "flowing");
    let mut dying = case.start();
    let (mut speech, mut book) = (Speech::new(2, 300), Book::default());
    let mut talk = |own: &mut ringway::Channel, speech: &mut Speech| {
        let (sender, receiver) = own.halves();
        if sender.try_send(speech.next()).is_err() {
            speech.unsaid();
        }
        while let Some(event) = receiver.try_next().unwrap() {
            if let Event::Message(message) = event {
                book.hear(&message);
            }
        }
    };
    while is_alive(&dying) {
        talk(&mut own, &mut speech);
    }
    case.must_be_dead(&mut dying);
    common::wait_until("it is gone", || {
        talk(&mut own, &mut speech);
        let (sender, receiver) = own.halves();
        sender.receiver_count() == 1 && receiver.sender_count() == 1
    });
    // Another comes, is heard and hears.
    let mut next = member_process(&case.route, "policy=block");
    ask_for(&mut next, "send 5 100", "sent 5");
    next.send_line("flow 100");
    next.expect_line("flowing");
    common::wait_until("it is there", || {
        talk(&mut own, &mut speech);
        own.sender().receiver_count() == 2 && own.receiver().sender_count() == 2
    });
    let asking = std::thread::spawn(move || {
        for peer in [&mut next, &mut other] {
            assert!(ask(peer, "enough").starts_with("sent "));
        }
        [next, other]
    });
    while !asking.is_finished() {
        talk(&mut own, &mut speech);
    }
    let mut peers = asking.join().unwrap();
    for peer in &mut peers {
        assert!(ask(peer, "enough").starts_with("received "));
    }
    peers.into_iter().for_each(quit);
}

/// Members are killed in the middle of whatever they do, and others take their place.
fn with_random_deaths(scratch: &Scratch) {
    let channel = name(scratch, "square");
    let mut own = member(&channel, "policy=block");
    let mut book = Book::default();
    let mut others: Vec<Peer> = Vec::new();
    let mut deaths = 0;
    while deaths < 40 {
        while others.len() < 3 {
            let mut peer = start_with("member", &channel, "policy=block", &[]);
            ask_for(&mut peer, "flow 300", "flowing");
            others.push(peer);
        }
        // Somewhere in the middle: after a number of messages that differs from round to round.
        for _ in 0..1 + 37 * deaths % 300 {
            book.receive(own.receiver(), 1);
        }
        let mut victim = others.swap_remove(deaths % 3);
        if deaths % 4 == 0 {
            victim.stop();
        }
        victim.kill9();
        deaths += 1;
        common::wait_until("the sender has noticed", || {
            own.sender().receivers().iter().all(|(peer, _)| peer.pid() != victim.pid())
        });
        while let Some(event) = own.sender().try_event() {
            let died = matches!(event, MemberEvent::Left(_, CloseReason::PeerDied { .. }));
            assert!(died || matches!(event, MemberEvent::Joined(_)), "{event:?}");
        }
    }
    others.iter_mut().for_each(Peer::kill9);
    // Everything that was committed is still received, then the end of each.
    while own.receiver().sender_count() > 0 {
        let reason = book.receive_to_end(own.receiver());
        assert!(matches!(reason, CloseReason::PeerDied { .. }), "{reason:?}");
    }
    drop(own);
    // One visit.
    drop(sender_process(&channel, ""));
    drop(member(&channel, ""));
}
