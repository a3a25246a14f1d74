//! Who is there: waiting for others, events, leaving and coming back, name spaces, nothing left behind.

use crate::broadcast::actor::{ask, ask_for, quit, start_with};
use crate::broadcast::{
    Book, Options, Speech, await_receivers, describe, describe_member, expect_nothing, member_event, name,
    receiver, receiver_process, sender, sender_process,
};
use crate::common::{self, DEADLINE, Peer, hang_guard, scratch_dir};
use ringway::CloseReason;
use ringway::broadcast::{
    Event, JoinError, MemberEvent, RecvError, RecvTimeoutError, SendError, SendTimeoutError, Sent,
    TryRecvError, TrySendError, WaitError,
};
use std::time::Duration;

#[test]
fn a_sender_waits_for_its_receivers_and_is_told_how_many_there_are() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut sender = sender(&route, "");
    let soon = Duration::from_millis(5);
    assert_eq!(sender.wait_for_receivers(0, Duration::ZERO), Ok(0));
    assert_eq!(sender.wait_for_receivers(1, soon), Err(WaitError::Timeout { present: 0 }));
    let first = receiver_process(&route, "");
    assert_eq!(sender.wait_for_receivers(1, DEADLINE), Ok(1));
    assert_eq!(sender.wait_for_receivers(3, soon), Err(WaitError::Timeout { present: 1 }));
    let waiting = std::thread::spawn(move || (sender.wait_for_receivers(3, DEADLINE), sender));
    let others = [receiver_process(&route, ""), receiver_process(&route, "")];
    let (present, mut sender) = waiting.join().unwrap();
    assert_eq!(present, Ok(3));
    assert_eq!(sender.receiver_count(), 3);
    assert_eq!(sender.wait_for_receivers(2, Duration::ZERO), Ok(3), "at least");
    drop(others);
    common::wait_until("two are gone", || sender.receiver_count() == 1);
    quit(first);
    common::wait_until("all are gone", || sender.receiver_count() == 0);
}

#[test]
fn a_sender_is_told_who_joined_left_and_died() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut sender = sender(&route, "");
    assert_eq!(sender.try_event(), None);
    let mut numbers = Vec::new();
    for round in 0..4 {
        let mut peer = receiver_process(&route, "");
        let pid = peer.pid();
        let MemberEvent::Joined(joined) = member_event(&mut sender) else { panic!("not joined") };
        assert_eq!(joined.pid(), pid);
        assert_eq!(joined.cred().pid, pid);
        numbers.push(joined.number());
        // It knows of the sender, too.
        ask_for(&mut peer, "hearing 1", "senders 1");
        let reason = match round % 3 {
            0 => {
                quit(peer);
                CloseReason::PeerClosed
            }
            1 => {
                ask_for(&mut peer, "leave", "left");
                CloseReason::PeerClosed
            }
            _ => {
                peer.kill9();
                CloseReason::PeerDied { pid }
            }
        };
        assert_eq!(member_event(&mut sender), MemberEvent::Left(joined, reason));
        assert_eq!(sender.receiver_count(), 0);
    }
    assert_eq!(sender.try_event(), None);
    assert!(numbers.is_sorted_by(|a, b| a < b), "a number is never used twice: {numbers:?}");
}

#[test]
fn a_receiver_that_leaves_at_once_has_left_and_not_died() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut sender = sender(&route, "");
    for _ in 0..50 {
        // It may be leaving before it knows where to start.
        let peer = receiver(&route, "");
        let MemberEvent::Joined(joined) = member_event(&mut sender) else { panic!("not joined") };
        drop(peer);
        assert_eq!(member_event(&mut sender), MemberEvent::Left(joined, CloseReason::PeerClosed));
    }
    let peer = receiver_process(&route, "");
    assert!(matches!(member_event(&mut sender), MemberEvent::Joined(_)));
    quit(peer);
    let left = member_event(&mut sender);
    assert!(matches!(left, MemberEvent::Left(_, CloseReason::PeerClosed)), "{left:?}");
}

#[test]
fn a_sender_finds_out_about_a_death_while_it_waits_for_room() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    for stopped in [false, true] {
        let mut sender = sender(&route, "policy=block");
        let mut peer = receiver_process(&route, "");
        await_receivers(&mut sender, 1);
        if stopped {
            peer.stop();
        }
        let mut speech = Speech::new(1, 200);
        while sender.try_send(speech.next()).is_ok() {}
        let (tell, told) = std::sync::mpsc::channel();
        let sending = std::thread::spawn(move || {
            tell.send(common::thread_id()).unwrap();
            (sender.send(&[0; 2000]), sender)
        });
        let thread = told.recv().unwrap();
        common::wait_until("it sleeps", || common::is_asleep(std::process::id(), thread));
        peer.kill9();
        let (sent, mut sender) = sending.join().unwrap();
        assert_eq!(sent, Ok(Sent::NoReceivers));
        let died = format!("left {0} PeerDied {{ pid: {0} }}", peer.pid());
        assert_eq!(describe_member(&member_event(&mut sender)), format!("joined {}", peer.pid()));
        assert_eq!(describe_member(&member_event(&mut sender)), died);
    }
}

#[test]
fn a_receiver_is_told_of_its_senders_behind_their_last_message() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut receiver = receiver(&route, "");
    let mut numbers = Vec::new();
    for round in 0..4 {
        let mut peer = sender_process(&route, "");
        let pid = peer.pid();
        ask_for(&mut peer, "send 3 100", "sent 3");
        let reason = if round % 2 == 0 {
            quit(peer);
            CloseReason::PeerClosed
        } else {
            peer.kill9();
            CloseReason::PeerDied { pid }
        };
        let next = |receiver: &mut ringway::broadcast::Receiver| {
            let event = receiver.next_timeout(DEADLINE).unwrap().unwrap();
            let number = match &event {
                Event::Message(message) => message.from().number(),
                Event::Joined(peer) | Event::Left(peer, _) => peer.number(),
                _ => 0,
            };
            (describe(&event), number)
        };
        let events: Vec<(String, u64)> = (0..5).map(|_| next(&mut receiver)).collect();
        let texts: Vec<&str> = events.iter().map(|(text, _)| text.as_str()).collect();
        let message = |number: u64| format!("message {pid} {number}");
        let expected =
            [format!("joined {pid}"), message(0), message(1), message(2), format!("left {pid} {reason:?}")];
        assert_eq!(texts, expected);
        assert!(events.iter().all(|(_, number)| *number == events[0].1), "one peer, one number");
        numbers.push(events[0].1);
        expect_nothing(&mut receiver);
    }
    assert!(numbers.is_sorted_by(|a, b| a < b), "a number is never used twice: {numbers:?}");
}

#[test]
fn receivers_are_told_of_a_death_while_they_sleep() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    for wait in ["", "wait=sleep", "wait=spin"] {
        let mut peer = sender_process(&route, "");
        let pid = peer.pid();
        let receivers: Vec<_> = (0..2).map(|_| receiver(&route, wait)).collect();
        let waiting: Vec<_> = receivers
            .into_iter()
            .map(|mut receiver| {
                std::thread::spawn(move || {
                    let joined = receiver.next().map(|event| describe(&event));
                    let left = receiver.next().map(|event| describe(&event));
                    (joined.unwrap(), left.unwrap())
                })
            })
            .collect();
        ask_for(&mut peer, "await 2", "receivers 2");
        peer.kill9();
        for thread in waiting {
            let (joined, left) = thread.join().unwrap();
            assert_eq!(joined, format!("joined {pid}"));
            assert_eq!(left, format!("left {pid} PeerDied {{ pid: {pid} }}"), "{wait}");
        }
    }
}

#[test]
fn a_sender_that_disconnected_has_left_and_comes_back_under_its_name() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut first = sender(&route, "");
    let mut peer = receiver_process(&route, "");
    let mut speech = Speech::new(1, 100);
    for round in 1..4_u64 {
        speech.send_to(&mut first, 1, 10);
        first.disconnect();
        let end = ask(&mut peer, "end");
        // The second sender has said one thing in each round before.
        let heard = speech.next + round - 1;
        assert!(end.starts_with(&format!("end PeerClosed {heard} ")), "round {round}: {end}");
        let gone = CloseReason::Disconnected;
        assert_eq!(first.try_send(b"x"), Err(TrySendError::Closed(gone.clone())));
        assert_eq!(first.send(b"x"), Err(SendError::Closed(gone.clone())));
        assert_eq!(first.send_timeout(b"x", DEADLINE), Err(SendTimeoutError::Closed(gone.clone())));
        assert_eq!(first.try_claim(1).map(|_| ()), Err(TrySendError::Closed(gone.clone())));
        assert_eq!(first.wait_for_receivers(1, DEADLINE), Err(WaitError::Closed(gone)));
        assert_eq!(first.receiver_count(), 0);
        // The name is free meanwhile.
        let mut second = sender(&route, "");
        Speech::new(1 + round as u32, 50).send_to(&mut second, 1, 1);
        assert!(matches!(first.reconnect(), Err(JoinError::SenderExists { .. })));
        drop(second);
        assert!(ask(&mut peer, "end").starts_with("end PeerClosed "));
        first.reconnect().unwrap();
    }
    speech.send_to(&mut first, 1, 1);
    assert!(ask(&mut peer, "receive 1").starts_with("received 34 "));
    quit(peer);
}

#[test]
fn a_receiver_that_disconnected_has_left_and_comes_back() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut sender = sender(&route, "");
    let mut receiver = receiver(&route, "");
    let mut speech = Speech::new(1, 100);
    let mut book = Book::default();
    for _ in 0..3 {
        speech.send_to(&mut sender, 1, 10);
        book.receive(&mut receiver, 4);
        receiver.disconnect();
        assert!(matches!(member_event(&mut sender), MemberEvent::Joined(_)));
        assert!(matches!(member_event(&mut sender), MemberEvent::Left(_, CloseReason::PeerClosed)));
        assert_eq!(sender.try_send(speech.next()), Ok(Sent::NoReceivers));
        let gone = CloseReason::Disconnected;
        assert_eq!(receiver.try_recv().map(|_| ()), Err(TryRecvError::Closed(gone.clone())));
        assert_eq!(receiver.recv().map(|_| ()), Err(RecvError::Closed(gone.clone())));
        let timed = receiver.recv_timeout(DEADLINE).map(|_| ());
        assert_eq!(timed, Err(RecvTimeoutError::Closed(gone.clone())));
        assert_eq!(receiver.try_next().map(|_| ()), Err(gone.clone()));
        assert_eq!(receiver.wait_for_senders(1, DEADLINE), Err(WaitError::Closed(gone)));
        assert_eq!(receiver.sender_count(), 0);
        receiver.reconnect().unwrap();
        book.lose_sight();
    }
    speech.send_to(&mut sender, 1, 5);
    book.receive(&mut receiver, 5);
    assert_eq!(book.line(1).unwrap().next, speech.next);
    assert_eq!(book.count(), 3 * 4 + 5);
    expect_message_free(&mut receiver);
}

#[track_caller]
fn expect_message_free(receiver: &mut ringway::broadcast::Receiver) {
    assert_eq!(receiver.try_recv().map(|message| message.to_vec()), Err(TryRecvError::Empty));
}

#[test]
fn a_receiver_that_the_sender_disconnects_is_told_and_others_go_on() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut sender = sender(&route, "");
    let mut peer = receiver_process(&route, "");
    let MemberEvent::Joined(first) = member_event(&mut sender) else { panic!("not joined") };
    let mut stays = receiver(&route, "");
    let mut speech = Speech::new(1, 100);
    speech.send_to(&mut sender, 2, 10);
    assert!(sender.disconnect_receiver(first));
    assert!(!sender.disconnect_receiver(first), "it is gone");
    assert!(matches!(member_event(&mut sender), MemberEvent::Joined(_)));
    assert_eq!(member_event(&mut sender), MemberEvent::Left(first, CloseReason::Disconnected));
    ask_for(&mut peer, "next", &format!("joined {}", std::process::id()));
    let mut book = Book::default();
    book.receive(&mut stays, 10);
    assert_eq!(book.report(), speech.report_all());
    quit(peer);
}

#[test]
fn names_with_different_prefixes_do_not_meet() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    Peer::spawn("prefixes", &[("RINGWAY_DIR", scratch.text())]).finish();
}

pub fn role_prefixes() {
    let mut senders: Vec<_> =
        ["", "prefix=one.", "prefix=two."].map(|options| sender("news", options)).into_iter().collect();
    let refused = Options::new("prefix=one.").route().sender("news").map(|_| ());
    assert!(matches!(refused, Err(JoinError::SenderExists { .. })), "{refused:?}");
    // The prefix is put before the name; who knows both may as well write them as one.
    let whole = Options::new("").route().sender("one.news").map(|_| ());
    assert!(matches!(whole, Err(JoinError::SenderExists { .. })), "{whole:?}");
    let mut receivers = ["", "prefix=one.", "prefix=two."].map(|options| receiver("news", options));
    for (index, sender) in senders.iter_mut().enumerate() {
        Speech::new(index as u32, 50).send_to(sender, 1, 3);
    }
    for (index, receiver) in receivers.iter_mut().enumerate() {
        let mut book = Book::default();
        book.receive(receiver, 3);
        assert_eq!(book.line(index as u32).unwrap().next, 3);
    }
}

#[test]
fn routes_of_different_names_and_kinds_do_not_meet() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let names = ["news", "new", "news.x", "newsx"].map(|plain| name(&scratch, plain));
    let mut receivers = names.each_ref().map(|name| receiver(name, ""));
    let mut channel = crate::broadcast::member(&names[0], "");
    let mut senders = names.each_ref().map(|name| sender(name, ""));
    for (index, sender) in senders.iter_mut().enumerate() {
        Speech::new(index as u32, 50).send_to(sender, 1, 2);
    }
    for (index, receiver) in receivers.iter_mut().enumerate() {
        let mut book = Book::default();
        book.receive(receiver, 2);
        assert_eq!(book.line(index as u32).map(|line| line.next), Some(2));
        expect_nothing(receiver);
    }
    assert_eq!(channel.try_send(b"alone"), Ok(Sent::NoReceivers));
    expect_nothing(channel.receiver());
}

#[test]
fn nothing_is_left_behind_by_those_who_were_killed() {
    let _guard = hang_guard();
    Peer::spawn("clean", &[]).finish();
}

/// In a process of its own: its descriptors belong to nobody else.
pub fn role_clean() {
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    // What the library starts once for each process, and keeps.
    drop((sender(&route, ""), receiver(&route, "")));
    let memory = std::fs::read_dir("/dev/shm").map(Iterator::count).unwrap_or(0);
    let before = common::descriptors();
    for _ in 0..3 {
        let mut sending = sender_process(&route, "");
        let mut receiving: Vec<Peer> = (0..4).map(|_| receiver_process(&route, "")).collect();
        ask_for(&mut sending, "await 4", "receivers 4");
        ask_for(&mut sending, "send 100 100", "sent 100");
        receiving.iter_mut().for_each(Peer::kill9);
        sending.kill9();
        drop((sending, receiving));
        assert!(scratch.entries().len() >= 5, "the dead leave their names: {:?}", scratch.entries());
        // One visit.
        drop(sender(&route, ""));
        assert_eq!(scratch.entries(), [""; 0]);
    }
    for _ in 0..3 {
        let mut sending = sender(&route, "");
        let mut receiving = start_with("receiver", &route, "", &[]);
        await_receivers(&mut sending, 1);
        receiving.kill9();
        let mut own = receiver(&route, "");
        Speech::new(1, 100).send(&mut sending, 10);
        Book::default().receive(&mut own, 10);
    }
    assert_eq!(scratch.entries(), [""; 0]);
    common::wait_until("descriptors are closed", || common::descriptors() <= before);
    assert_eq!(std::fs::read_dir("/dev/shm").map(Iterator::count).unwrap_or(0), memory);
}
