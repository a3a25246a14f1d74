//! What a handler may ask for its members: pause, room, the end; and what wakes a worker.

use super::{What, office};
use crate::common::{self, DEADLINE, check, hang_guard, hear, message, say};
use ringway::{CloseReason, Config, Event, Handler, Member, Members, TrySendError};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn text(number: u64) -> What {
    What::Message(message(number, 100))
}

#[test]
fn messages_of_a_paused_member_stay_in_its_ring_until_it_is_resumed() {
    let _guard = hang_guard();
    let office = office(&Config::new(), false);
    let ((mut paused, number), (mut other, _)) = (office.client(), office.client());
    let id = office.ask(move |members| {
        let member = members.iter_mut().find(|member| member.id().number() == number).unwrap();
        member.pause();
        assert!(member.is_paused());
        member.id()
    });
    let (before, thread) = office.ask(move |members| (members.get(id).unwrap().stats(), common::thread_id()));
    common::wait_until("the worker sleeps", || common::is_asleep(std::process::id(), thread));
    paused.send_line("send 100");
    paused.expect_line("sent");
    other.send_line("send 3");
    for message in 0..3 {
        assert_eq!(office.expect(text(message)).pid, other.pid());
    }
    // Not even its doorbell was rung.
    let after = office.ask(move |members| members.get(id).unwrap().stats());
    assert_eq!(after, before);
    office.order(move |_, members| members.get(id).unwrap().resume());
    for message in 0..100 {
        assert_eq!(office.expect(text(message)).pid, paused.pid());
    }
    // It is slept for again: nothing but its doorbell tells of this one.
    common::wait_until("the worker sleeps", || common::is_asleep(std::process::id(), thread));
    paused.send_line("send 1");
    office.expect(text(100));
}

#[test]
fn a_paused_member_that_dies_is_handed_out_and_leaves() {
    let _guard = hang_guard();
    let office = office(&Config::new(), false);
    let (mut client, _) = office.client();
    office.ask(|members| members.iter_mut().for_each(Member::pause));
    client.send_line("send 5");
    client.expect_line("sent");
    client.kill9();
    for message in 0..5 {
        office.expect(text(message));
    }
    office.expect(What::Left(CloseReason::PeerDied { pid: client.pid() }));
    assert_eq!(office.ask(|members| members.len()), 0);
}

#[test]
fn a_member_that_is_disconnected_leaves_and_gets_what_was_sent_before() {
    let _guard = hang_guard();
    let office = office(&Config::new(), false);
    let ((mut client, number), (_other, _)) = (office.client(), office.client());
    office.order(move |_, members| {
        let member = members.iter_mut().find(|member| member.id().number() == number).unwrap();
        for number in 0..50 {
            member.sender().try_send(&message(number, 100)).unwrap();
        }
        member.disconnect();
    });
    let left = office.expect(What::Left(CloseReason::Disconnected));
    assert_eq!(left.pid, client.pid());
    client.send_line("receive 50");
    client.expect_line("received");
    client.send_line("receive 1");
    client.expect_line("PeerClosed");
    assert_eq!(office.ask(|members| members.len()), 1);
}

/// Fills the ring of the only member and asks for room; returns how many messages went in.
fn fill_ring(members: &mut Members<'_>, from: u64) -> u64 {
    let member = members.iter_mut().next().unwrap();
    let mut number = from;
    loop {
        match member.sender().try_send(&message(number, 100)) {
            Ok(()) => number += 1,
            Err(TrySendError::Full) => break,
            Err(error) => panic!("{error}"),
        }
    }
    member.want_room(true);
    number - from
}

#[test]
fn a_member_that_does_not_read_is_waited_for_without_cost_and_told_of_when_it_does() {
    let _guard = hang_guard();
    for wait in [ringway::Wait::Auto, ringway::Wait::Sleep, ringway::Wait::Spin] {
        let office = office(&Config::new().ring_bytes(16 << 10).wait(wait), false);
        let (mut client, _) = office.client();
        let mut sent = 0;
        for _ in 0..20 {
            sent += office.ask(move |members| fill_ring(members, sent));
            if wait != ringway::Wait::Spin {
                // Nothing happens, so whoever did not sleep here would never sleep.
                let thread = office.ask(|_| common::thread_id());
                common::wait_until("the worker sleeps", || common::is_asleep(std::process::id(), thread));
            }
            client.send_line("receive 40");
            client.expect_line("received");
            office.expect(What::Room);
        }
        client.send_line(&format!("receive {}", sent - 800));
        client.expect_line("received");
        assert_eq!(office.told.try_recv().ok(), None, "asked once, told once");
    }
}

#[test]
fn room_comes_also_after_a_blocking_send_used_the_same_doorbell() {
    let _guard = hang_guard();
    let office = office(&Config::new().ring_bytes(16 << 10), false);
    let (mut client, _) = office.client();
    let sent = office.ask(|members| fill_ring(members, 0));
    // The verb announces a sleep for room itself, and takes it back when its time is up.
    let outcome = office.ask(move |members| {
        let member = members.iter_mut().next().unwrap();
        member.sender().send_timeout(&message(sent, 100), Duration::from_millis(5))
    });
    assert!(outcome.is_err());
    let thread = office.ask(|_| common::thread_id());
    common::wait_until("the worker sleeps", || common::is_asleep(std::process::id(), thread));
    client.send_line(&format!("receive {sent}"));
    client.expect_line("received");
    office.expect(What::Room);
}

#[test]
fn who_wants_room_from_a_member_that_leaves_learns_the_end() {
    let _guard = hang_guard();
    let office = office(&Config::new().ring_bytes(16 << 10), false);
    let (mut client, _) = office.client();
    office.ask(|members| fill_ring(members, 0));
    client.kill9();
    let last = std::iter::from_fn(|| Some(office.next())).find(|entry| entry.what != What::Room);
    assert_eq!(last.unwrap().what, What::Left(CloseReason::PeerDied { pid: client.pid() }));
}

#[test]
fn a_member_with_much_to_say_has_a_bounded_number_of_messages_before_others() {
    let _guard = hang_guard();
    let office = office(&Config::new(), false);
    let ((mut talkative, _), (mut quiet, _)) = (office.client(), office.client());
    // The worker is kept busy until all of it lies in the rings.
    let (begin, begun) = std::sync::mpsc::channel::<()>();
    let (go, gone) = std::sync::mpsc::channel::<()>();
    office.order(move |_, _| {
        begin.send(()).unwrap();
        gone.recv_timeout(DEADLINE).unwrap();
    });
    begun.recv_timeout(DEADLINE).unwrap();
    for (client, order) in [(&mut talkative, "send 5000"), (&mut quiet, "send 5")] {
        client.send_line(order);
        client.expect_line("sent");
    }
    go.send(()).unwrap();
    let entries: Vec<_> = (0..5005).map(|_| office.next()).collect();
    let of = |pid: u32| entries.iter().filter(move |entry| entry.pid == pid).map(|entry| &entry.what);
    assert!(of(talkative.pid()).eq(&(0..5000).map(text).collect::<Vec<_>>()));
    assert!(of(quiet.pid()).eq(&(0..5).map(text).collect::<Vec<_>>()));
    let before = entries.iter().position(|entry| entry.pid == quiet.pid()).unwrap();
    assert!(before <= 256, "{before} messages of the talkative one came first");
}

/// Counts what others leave in a box for it.
struct Clerk {
    inbox: Arc<Mutex<Vec<u64>>>,
    sum: Arc<AtomicU64>,
}

impl Handler for Clerk {
    fn on_event(&mut self, _: &mut Member, _: Event<'_>) {}

    fn on_turn(&mut self, _: &mut Members<'_>, _: Instant) {
        let taken: u64 = self.inbox.lock().unwrap().drain(..).sum();
        self.sum.fetch_add(taken, Ordering::Relaxed);
    }
}

#[test]
fn a_bell_rung_from_many_threads_is_never_missed() {
    let _guard = hang_guard();
    for wait in [ringway::Wait::Auto, ringway::Wait::Sleep] {
        let (inbox, sum) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(0)));
        let (theirs, total) = (Arc::clone(&inbox), Arc::clone(&sum));
        let make = move |_| Clerk { inbox: Arc::clone(&theirs), sum: Arc::clone(&total) };
        let site = super::site(&Config::new().wait(wait), 1, make);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (bell, inbox) = (site.pool.bell(0), &inbox);
                scope.spawn(move || {
                    for number in 0..3000_u64 {
                        inbox.lock().unwrap().push(number);
                        bell.ring();
                        // Now and then the worker has all and goes to sleep.
                        if thread == 0 && number % 100 == 0 {
                            common::wait_until("the box is empty", || inbox.lock().unwrap().is_empty());
                        }
                    }
                });
            }
        });
        common::wait_until("all was taken", || sum.load(Ordering::Relaxed) == 4 * 2999 * 3000 / 2);
    }
}

#[test]
fn a_handler_is_woken_when_it_asked_for_it_although_nothing_happens() {
    let _guard = hang_guard();
    let office = office(&Config::new(), false);
    let begin = Instant::now();
    office.order(move |desk, _| desk.wakes_at = Some(begin + Duration::from_millis(30)));
    office.expect(What::Turned);
    assert!(begin.elapsed() >= Duration::from_millis(30), "woken too early");
}

/// Does what it is told: `send COUNT`, `receive COUNT`.
pub fn role_hold() {
    let mut connection = common::join(&Config::new());
    let (mut sent, mut received) = (0, 0);
    loop {
        let order = hear();
        let (verb, count) = order.split_once(' ').unwrap();
        let count: u64 = count.parse().unwrap_or(0);
        match verb {
            "send" => {
                for number in sent..sent + count {
                    connection.send(&message(number, 100)).unwrap();
                }
                sent += count;
                say("sent");
            }
            "say" => connection.send(&order.as_bytes()[4..]).unwrap(),
            "receive" => {
                let end = (received..received + count).find_map(|number| match connection.recv() {
                    Ok(bytes) => {
                        check(&bytes, number, 100);
                        None
                    }
                    Err(error) => Some(error),
                });
                received += count;
                say(&end.map_or("received".to_owned(), |error| format!("{:?}", error.reason())));
            }
            _ => panic!("told to {order}"),
        }
    }
}
