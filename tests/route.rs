//! Routes: one sender, any number of receivers, each of which gets every message from the moment it joined.
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

mod broadcast;
mod common;
#[path = "route/crowd.rs"]
mod crowd;
#[path = "route/messages.rs"]
mod messages;
#[path = "route/presence.rs"]
mod presence;

use broadcast::actor::{ask, ask_for, quit};
use broadcast::{
    Book, Speech, await_receivers, describe, expect_nothing, name, receiver, receiver_process, sender,
    sender_process,
};
use common::{DEADLINE, Peer, hang_guard, scratch_dir};
use ringway::CloseReason;
use ringway::broadcast::{Event, JoinError, RecvTimeoutError, Sent, TryRecvError, TrySendError, WaitError};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[test]
fn peer_process() {
    common::run_role(&[
        ("actor", broadcast::actor::play),
        ("crowd", crowd::play),
        ("prefixes", presence::role_prefixes),
        ("clean", presence::role_clean),
    ]);
}

#[test]
fn every_receiver_gets_every_message_in_order_once() {
    let _guard = hang_guard();
    for options in ["", "wait=sleep", "ring=1048576", "trust", "policy=block", "policy=drop ring=1048576"] {
        let scratch = scratch_dir();
        let route = name(&scratch, "news");
        let mut sender = sender(&route, options);
        let mut receivers: Vec<Peer> = (0..3).map(|_| receiver_process(&route, options)).collect();
        await_receivers(&mut sender, 3);
        receivers.iter_mut().for_each(|peer| peer.send_line("end"));
        let mut speech = Speech::new(7, 300);
        // Dropped messages would be a hole in what the receivers hear; the ring is large enough for all.
        let count = if options.contains("drop") { 2_000 } else { 10_000 };
        speech.send_to(&mut sender, 3, count);
        let stats = sender.stats();
        assert_eq!(stats.sent_messages, count, "{options}: counted once, not for each receiver");
        sender.close();
        let expected = format!("end PeerClosed {}", speech.report_all());
        receivers.iter_mut().for_each(|peer| peer.expect_line(&expected));
        receivers.into_iter().for_each(quit);
        assert_eq!(scratch.entries(), [""; 0], "{options}");
    }
}

#[test]
fn a_sender_in_another_process_is_heard_by_several_receivers_of_this_one() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut receivers: Vec<_> = (0..4).map(|_| receiver(&route, "")).collect();
    let mut peer = sender_process(&route, "");
    ask_for(&mut peer, "await 4", "receivers 4");
    peer.send_line("send 5000 200");
    let mut books: Vec<Book> = receivers.iter().map(|_| Book::default()).collect();
    for _ in 0..5000 {
        for (receiver, book) in receivers.iter_mut().zip(&mut books) {
            let message = receiver.recv_timeout(DEADLINE).unwrap();
            assert_eq!(message.from().pid(), peer.pid());
            book.hear(&message);
        }
    }
    peer.expect_line("sent 5000");
    quit(peer);
    for (receiver, book) in receivers.iter_mut().zip(&mut books) {
        assert_eq!(book.receive_to_end(receiver), CloseReason::PeerClosed);
        assert_eq!(book.count(), 5000);
        assert_eq!(receiver.stats().received_messages, 5000);
    }
}

#[test]
fn a_receiver_that_joins_late_gets_exactly_what_is_sent_afterwards() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut sender = sender(&route, "");
    // All of it fits into the ring.
    let mut speech = Speech::new(1, 150);
    let mut receivers: Vec<(Peer, u64)> = Vec::new();
    for round in 0..5 {
        receivers.push((receiver_process(&route, ""), speech.next));
        // Nobody waits for the receiver to be known: what is sent after it has joined is for it, too.
        speech.send_to(&mut sender, round + 1, 20);
    }
    for (peer, first) in &mut receivers {
        let expected = speech.report(*first..speech.next);
        ask_for(peer, &format!("receive {}", speech.next - *first), &format!("received {expected}"));
        ask_for(peer, "look", "nothing");
    }
    receivers.into_iter().for_each(|(peer, _)| quit(peer));
}

#[test]
fn a_receiver_that_joins_in_the_middle_of_a_stream_misses_nothing_from_then_on() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut peer = sender_process(&route, "");
    ask_for(&mut peer, "flow 300", "flowing");
    let heard = AtomicU64::new(0);
    let (books, last) = std::thread::scope(|scope| {
        let reading: Vec<_> = (0..10)
            .map(|number| {
                common::wait_until("the stream flows", || heard.load(Ordering::Relaxed) >= 500 * number);
                let mut late = receiver(&route, "");
                scope.spawn({
                    let heard = &heard;
                    move || {
                        let mut book = Book::default();
                        while let Some(event) = late.next_timeout(DEADLINE).unwrap() {
                            match event {
                                Event::Message(message) => _ = book.hear(&message),
                                Event::Left(_, CloseReason::PeerClosed) => return book,
                                Event::Joined(_) => {}
                                event => panic!("{}", describe(&event)),
                            }
                            heard.fetch_max(book.count(), Ordering::Relaxed);
                        }
                        panic!("the end has not come");
                    }
                })
            })
            .collect();
        let said = ask(&mut peer, "enough");
        peer.send_line("quit");
        (reading.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>(), said)
    });
    for book in &books {
        let line = book.line(peer.pid()).unwrap();
        assert_eq!(format!("sent {}", line.next), last, "up to the last message");
        assert_eq!(line.next - line.first, book.count());
    }
    assert!(books.iter().map(|book| book.line(peer.pid()).unwrap().first).is_sorted());
    peer.finish();
}

#[test]
fn receivers_that_came_before_the_sender_hear_its_first_message() {
    let _guard = hang_guard();
    for _ in 0..5 {
        let scratch = scratch_dir();
        let route = name(&scratch, "news");
        let mut receivers: Vec<Peer> = (0..4).map(|_| receiver_process(&route, "")).collect();
        receivers.iter_mut().for_each(|peer| ask_for(peer, "look", "nothing"));
        let mut sender = sender(&route, "");
        let mut speech = Speech::new(1, 100);
        speech.send_to(&mut sender, 4, 50);
        drop(sender);
        for peer in &mut receivers {
            ask_for(peer, "end", &format!("end PeerClosed {}", speech.report_all()));
        }
        receivers.into_iter().for_each(quit);
    }
}

#[test]
fn a_second_sender_is_refused_while_the_first_lives_and_disturbs_nothing() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut first = sender(&route, "");
    let mut peer = receiver_process(&route, "");
    await_receivers(&mut first, 1);
    let path = first.path();
    let exists = |result: Result<ringway::broadcast::Sender, JoinError>| match result {
        Err(JoinError::SenderExists { path: theirs }) => assert_eq!(theirs, path),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("two senders"),
    };
    let mut other = Peer::spawn("actor", &[]);
    let mut speech = Speech::new(1, 100);
    for _ in 0..10 {
        exists(broadcast::Options::new("").route().sender(&route));
        ask_for(&mut other, &format!("sender {route}"), "refused SenderExists");
        speech.send_to(&mut first, 1, 10);
    }
    let text = JoinError::SenderExists { path }.to_string();
    assert!(text.contains("sender that lives"), "{text}");
    ask_for(&mut peer, "receive 100", &format!("received {}", speech.report_all()));
    // At once after a graceful end: nothing is left to clean up.
    drop(first);
    ask_for(&mut other, &format!("sender {route}"), "joined");
    ask_for(&mut other, "send 1 100", "sent 1");
    assert!(ask(&mut peer, "receive 1").starts_with("received 101 "));
    quit(peer);
    quit(other);
}

#[test]
fn a_new_sender_is_heard_when_the_old_one_was_heard_to_its_end() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut receiver = receiver(&route, "");
    // Four senders have come and gone before anything of them is looked at.
    for speaker in 1..=4 {
        let mut sender = sender(&route, "");
        await_receivers(&mut sender, 1);
        Speech::new(speaker, 50).send_to(&mut sender, 1, 3);
    }
    for speaker in 1..=4 {
        let own = std::process::id();
        let message = |number: u64| format!("message {speaker} {number}");
        let expected =
            [format!("joined {own}"), message(0), message(1), message(2), format!("left {own} PeerClosed")];
        for expected in expected {
            let event = receiver.next_timeout(DEADLINE).unwrap().unwrap();
            assert_eq!(describe(&event), expected, "of sender {speaker}");
        }
    }
}

#[test]
fn the_name_is_free_the_moment_its_sender_was_killed_and_receivers_stay() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut receivers: Vec<Peer> = (0..2).map(|_| receiver_process(&route, "")).collect();
    for round in 0..8 {
        let mut peer = sender_process(&route, "");
        // No waiting for receivers: they are there, and known when joining returns.
        ask_for(&mut peer, "send 100 200", "sent 100");
        let pid = peer.pid();
        let reason = if round % 2 == 0 {
            peer.kill9();
            format!("PeerDied {{ pid: {pid} }}")
        } else {
            quit(peer);
            "PeerClosed".to_owned()
        };
        // What was committed before is still received, completely. Nobody touches a file.
        let mut next = sender(&route, "");
        for receiver in &mut receivers {
            let end = ask(receiver, "end");
            assert!(end.starts_with(&format!("end {reason} ")), "{end}");
        }
        let mut speech = Speech::new(round, 50);
        speech.send_to(&mut next, 2, 10);
        drop(next);
        for receiver in &mut receivers {
            let count = 110 * (u64::from(round) + 1);
            let end = ask(receiver, "end");
            assert!(end.starts_with(&format!("end PeerClosed {count} ")), "{end}");
        }
    }
    receivers.into_iter().for_each(quit);
    assert_eq!(scratch.entries(), [""; 0]);
}

#[test]
fn a_route_with_nobody_there_takes_every_message_and_forgets_it() {
    let _guard = hang_guard();
    for policy in ["policy=block", "policy=drop", "policy=overwrite", "policy=disconnect"] {
        let scratch = scratch_dir();
        let route = name(&scratch, "news");
        let mut sender = sender(&route, policy);
        let mut speech = Speech::new(1, 4000);
        for number in 0..200 {
            let sent = if number % 2 == 0 {
                sender.send(speech.next()).unwrap()
            } else {
                sender.try_send(speech.next()).unwrap()
            };
            assert_eq!((sent, sent.receivers()), (Sent::NoReceivers, 0), "{policy}");
        }
        assert_eq!(sender.send(&vec![7; 100_000]), Ok(Sent::NoReceivers), "{policy}: longer than the ring");
        assert_eq!(sender.receiver_count(), 0);
        let mut late = receiver(&route, "");
        assert_eq!(sender.try_send(speech.next()), Ok(Sent::To { receivers: 1 }), "{policy}");
        let message = late.recv_timeout(DEADLINE).unwrap();
        assert_eq!(Book::default().hear(&message), (1, 200), "{policy}");
        drop(late);
        common::wait_until("the sender knows", || sender.receiver_count() == 0);
        assert_eq!(sender.send(speech.next()), Ok(Sent::NoReceivers), "{policy}");
    }
}

#[test]
fn a_receiver_without_a_sender_waits_for_one() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut receiver = receiver(&route, "");
    assert_eq!(receiver.try_recv().map(|_| ()), Err(TryRecvError::Empty));
    let soon = Duration::from_millis(5);
    assert_eq!(receiver.recv_timeout(soon).map(|_| ()), Err(RecvTimeoutError::Timeout));
    assert_eq!(receiver.wait_for_senders(1, soon), Err(WaitError::Timeout { present: 0 }));
    assert!(receiver.next_timeout(soon).unwrap().is_none());
    assert_eq!(receiver.sender_count(), 0);
    let receiving = std::thread::spawn(move || {
        // Asleep, with nobody there who could ring.
        let first = receiver.recv().unwrap().to_vec();
        (receiver, first)
    });
    let mut peer = sender_process(&route, "");
    ask_for(&mut peer, "send 1 100", "sent 1");
    let (mut receiver, first) = receiving.join().unwrap();
    assert_eq!(Book::default().hear(&first), (peer.pid(), 0));
    let senders: Vec<u32> = receiver.senders().iter().map(|peer| peer.pid()).collect();
    assert_eq!((receiver.wait_for_senders(1, DEADLINE), senders), (Ok(1), vec![peer.pid()]));
    quit(peer);
    assert_eq!(Book::default().receive_to_end(&mut receiver), CloseReason::PeerClosed);
    assert_eq!(receiver.sender_count(), 0);
}

#[test]
fn a_sender_that_never_waits_is_told_who_is_in_the_way() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut sender = sender(&route, "");
    let mut quick = receiver(&route, "");
    await_receivers(&mut sender, 1);
    let mut slow = receiver_process(&route, "");
    await_receivers(&mut sender, 2);
    let (slow_number, _) =
        sender.receivers().into_iter().map(|(peer, _)| (peer.number(), peer.pid())).max().unwrap();
    let (mut speech, mut book) = (Speech::new(1, 200), Book::default());
    let refused = loop {
        match sender.try_send(speech.next()) {
            Ok(sent) => assert_eq!(sent, Sent::To { receivers: 2 }),
            Err(error) => break error,
        }
        book.receive(&mut quick, 1);
    };
    speech.unsaid();
    assert_eq!(refused, TrySendError::WouldBlock { receiver: slow_number, pid: slow.pid() });
    let behind: Vec<(u32, u64)> =
        sender.receivers().into_iter().map(|(peer, bytes)| (peer.pid(), bytes)).collect();
    for (pid, bytes) in behind {
        // Rounded up to records; the quick one need not have told of its last bytes.
        let expected = if pid == slow.pid() { 12_000..=16_384 } else { 0..=4_096 };
        assert!(expected.contains(&bytes), "{pid} is {bytes} bytes behind");
    }
    ask_for(&mut slow, &format!("receive {}", speech.next), &format!("received {}", speech.report_all()));
    assert_eq!(book.report(), speech.report_all());
    expect_nothing(&mut quick);
    quit(slow);
}
