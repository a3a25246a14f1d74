//! Channels: every member may send and receive, and gets every message of every other.
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

mod broadcast;
mod common;

use broadcast::actor::{ask, ask_for, quit};
use broadcast::{
    Book, Speech, await_receivers, describe, expect_nothing, member, member_event, member_process, name,
};
use common::{DEADLINE, Peer, hang_guard, hear, number_variable, say, scratch_dir, variable};
use ringway::broadcast::{Event, MemberEvent, Receiver, RecvError, Sent, TryRecvError, TrySendError};
use ringway::{Channel, CloseReason};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

#[test]
fn peer_process() {
    common::run_role(&[
        ("actor", broadcast::actor::play),
        ("talk", role_talk),
        ("twin", role_twin),
        ("visit", role_visit),
    ]);
}

#[test]
fn every_member_gets_every_message_of_every_other_in_its_order() {
    let _guard = hang_guard();
    for (members, options) in [(2, ""), (4, ""), (3, "wait=sleep"), (3, "ring=1048576 policy=overwrite")] {
        let scratch = scratch_dir();
        let channel = name(&scratch, "square");
        let others = (members - 1).to_string();
        let variables = [("CHANNEL", channel.as_str()), ("OTHERS", &others), ("OPTIONS", options)];
        let mut peers: Vec<Peer> = (0..members).map(|_| Peer::spawn("talk", &variables)).collect();
        for peer in &mut peers {
            peer.expect_line("ready");
        }
        peers.iter_mut().for_each(|peer| peer.send_line("talk"));
        for peer in &mut peers {
            peer.expect_line(&format!("heard {}", (members - 1) * TALK));
        }
        peers.iter_mut().for_each(|peer| peer.send_line("leave"));
        peers.into_iter().for_each(Peer::finish);
        assert_eq!(scratch.entries(), [""; 0]);
    }
}

/// Role: sends in one thread and receives in another until it has heard all that the others have to say.
fn role_talk() {
    let others = number_variable("OTHERS");
    let channel = member(&variable("CHANNEL"), &variable("OPTIONS"));
    let (mut sender, mut receiver) = channel.split();
    await_receivers(&mut sender, others as usize);
    assert_eq!(receiver.wait_for_senders(others as usize, DEADLINE), Ok(others as usize));
    say("ready");
    hear();
    let mut book = Book::default();
    thread::scope(|scope| {
        scope.spawn(|| Speech::new(std::process::id(), 300).send_to(&mut sender, others as usize, TALK));
        book.receive(&mut receiver, others * TALK);
    });
    for peer in receiver.senders() {
        let line = book.line(peer.pid()).unwrap();
        assert_eq!((line.first, line.next), (0, TALK));
    }
    assert_eq!(receiver.try_recv().map(|message| message.to_vec()), Err(TryRecvError::Empty));
    say(&format!("heard {}", book.count()));
    hear();
}

#[test]
fn nobody_hears_itself_unless_it_asks_to() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let channel = name(&scratch, "square");
    let mut deaf = member(&channel, "");
    assert_eq!(deaf.try_send(b"alone"), Ok(Sent::NoReceivers));
    assert_eq!(deaf.try_recv().map(|message| message.to_vec()), Err(TryRecvError::Empty));
    expect_nothing(deaf.receiver());
    let mut vain = member(&channel, "hear");
    let mut other = member_process(&channel, "");
    await_receivers(deaf.sender(), 2);
    await_receivers(vain.sender(), 3);
    let (mut of_deaf, mut of_vain) = (Speech::new(1, 100), Speech::new(2, 100));
    of_deaf.send_to(deaf.sender(), 2, 30);
    of_vain.send_to(vain.sender(), 3, 20);
    let mut book = Book::default();
    book.receive(vain.receiver(), 50);
    assert_eq!(book.line(1).map(|line| line.next), Some(30), "the other");
    assert_eq!(book.line(2).map(|line| line.next), Some(20), "and itself");
    let mut book = Book::default();
    book.receive(deaf.receiver(), 20);
    assert_eq!(book.report(), of_vain.report_all());
    assert!(ask(&mut other, "receive 50").starts_with("received 50 "));
    ask_for(&mut other, "send 5 100", "sent 5");
    book.receive(deaf.receiver(), 5);
    quit(other);
}

#[test]
fn the_words_of_a_member_itself_stand_in_their_order_among_those_of_others() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let channel = name(&scratch, "square");
    let mut vain = member(&channel, "hear");
    await_receivers(vain.sender(), 1);
    let mut speech = Speech::new(1, 400);
    let mut book = Book::default();
    for _ in 0..200 {
        assert_eq!(vain.send(speech.next()), Ok(Sent::To { receivers: 1 }));
        let message = vain.recv_timeout(DEADLINE).unwrap();
        assert_eq!(message.from().pid(), std::process::id());
        book.hear(&message);
    }
    assert_eq!(book.report(), speech.report_all());
}

#[test]
fn two_who_join_at_the_same_instant_hear_each_other_once() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    for round in 0..150 {
        let channel = name(&scratch, &format!("square{round}"));
        let (joined, said) = (Barrier::new(2), Barrier::new(2));
        let meet = |own: u32| {
            joined.wait();
            let mut own_end = member(&channel, "");
            // Both have joined.
            joined.wait();
            assert_eq!(own_end.sender().receiver_count(), 1);
            Speech::new(own, 50).send_to(own_end.sender(), 1, 2);
            said.wait();
            let mut book = Book::default();
            book.receive(own_end.receiver(), 2);
            assert_eq!(own_end.try_recv().map(|message| message.to_vec()), Err(TryRecvError::Empty));
            said.wait();
            assert_eq!((own_end.sender().receiver_count(), own_end.receiver().sender_count()), (1, 1));
            said.wait();
            book.line(1 - own).unwrap()
        };
        thread::scope(|scope| {
            let other = scope.spawn(|| meet(1));
            let (here, there) = (meet(0), other.join().unwrap());
            assert_eq!((here.first, here.next, there.first, there.next), (0, 2, 0, 2), "round {round}");
        });
    }
    assert_eq!(scratch.entries(), [""; 0]);
}

#[test]
fn processes_that_join_at_the_same_instant_hear_each_other_once() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let channel = name(&scratch, "square");
    let mut twins: Vec<Peer> = (0..3).map(|_| Peer::spawn("twin", &[("CHANNEL", &channel)])).collect();
    twins.iter_mut().for_each(|peer| peer.expect_line("here"));
    for round in 0..60 {
        let instant = now_ns() + 2_000_000;
        twins.iter_mut().for_each(|peer| peer.send_line(&instant.to_string()));
        for step in ["joined", "said", "heard", "left"] {
            for peer in &mut twins {
                assert_eq!(peer.next_line(), step, "round {round}");
            }
            twins.iter_mut().for_each(|peer| peer.send_line("go on"));
        }
        assert_eq!(scratch.entries(), [""; 0]);
    }
    twins.iter_mut().for_each(|peer| peer.send_line("0"));
    twins.into_iter().for_each(Peer::finish);
}

/// Role: joins at the instant that it is told, speaks once, and hears the two others once.
fn role_twin() {
    say("here");
    loop {
        let instant: u64 = hear().parse().unwrap();
        if instant == 0 {
            return;
        }
        while now_ns() < instant {
            std::hint::spin_loop();
        }
        let mut own = member(&variable("CHANNEL"), "");
        let step = |word: &str| {
            say(word);
            hear();
        };
        step("joined");
        assert_eq!(own.sender().receiver_count(), 2, "both are known at once");
        Speech::new(std::process::id(), 50).send_to(own.sender(), 2, 1);
        step("said");
        let mut book = Book::default();
        book.receive(own.receiver(), 2);
        assert_eq!(own.try_recv().map(|message| message.to_vec()), Err(TryRecvError::Empty));
        assert_eq!((own.sender().receiver_count(), own.receiver().sender_count()), (2, 2));
        step("heard");
        drop(own);
        step("left");
    }
}

/// Nanoseconds of the clock that all processes share.
fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[test]
fn members_that_come_and_go_under_load_cost_the_others_nothing() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let channel = name(&scratch, "square");
    let mut residents: Vec<Peer> = (0..2).map(|_| member_process(&channel, "")).collect();
    let mut watching = member(&channel, "");
    await_receivers(watching.sender(), 2);
    residents.iter_mut().for_each(|peer| ask_for(peer, "await 2", "receivers 2"));
    residents.iter_mut().for_each(|peer| ask_for(peer, "hearing 2", "senders 2"));
    residents.iter_mut().for_each(|peer| ask_for(peer, "flow 200", "flowing"));
    let variables = [("CHANNEL", channel.as_str()), ("VISITS", "12")];
    let visitors: Vec<Peer> = (0..2).map(|_| Peer::spawn("visit", &variables)).collect();
    let mut watch = Watch::default();
    while watch.left < 24 {
        watch.listen(watching.receiver());
    }
    // They may be waiting for this member, so it goes on to listen.
    let asking = thread::spawn(move || {
        let answers: Vec<String> = residents.iter_mut().map(|peer| ask(peer, "enough")).collect();
        (residents, answers)
    });
    while !asking.is_finished() {
        watch.listen(watching.receiver());
    }
    let (mut residents, answers) = asking.join().unwrap();
    while let Some(event) = watching.receiver().try_next().unwrap() {
        watch.enter(&event);
    }
    for (peer, said) in residents.iter_mut().zip(answers) {
        let line = watch.book.line(peer.pid()).unwrap();
        assert_eq!((line.first, said), (0, format!("sent {}", line.next)), "from the first to the last");
        assert!(ask(peer, "enough").starts_with("received "));
    }
    assert_eq!((watch.joined, watch.left), (24 + 2, 24));
    visitors.into_iter().for_each(Peer::finish);
    residents.into_iter().for_each(quit);
}

/// What a member hears and sees.
#[derive(Default)]
struct Watch {
    book: Book,
    joined: u64,
    left: u64,
}

impl Watch {
    /// Enters what comes within a moment.
    fn listen(&mut self, receiver: &mut Receiver) {
        if let Some(event) = receiver.next_timeout(Duration::from_millis(10)).unwrap() {
            self.enter(&event);
        }
    }

    fn enter(&mut self, event: &Event<'_>) {
        match event {
            Event::Message(message) => _ = self.book.hear(message),
            Event::Joined(_) => self.joined += 1,
            Event::Left(_, CloseReason::PeerClosed) => self.left += 1,
            event => panic!("{}", describe(event)),
        }
    }
}

/// Role: joins, says a little, hears a little, leaves, and all over again.
fn role_visit() {
    for visit in 0..number_variable("VISITS") {
        let mut own = member(&variable("CHANNEL"), "");
        // Another speaker each time, so that its messages may begin anew.
        let mut speech = Speech::new(std::process::id() << 8 | visit as u32, 200);
        let mut book = Book::default();
        let (sender, receiver) = own.halves();
        for _ in 0..20 {
            // Never waits: who waits for room without reading may wait for one who does the same.
            let mut sent = sender.try_send(speech.next());
            while matches!(sent, Err(TrySendError::WouldBlock { .. })) {
                book.receive(receiver, 1);
                speech.unsaid();
                sent = sender.try_send(speech.next());
            }
            sent.unwrap();
            book.receive(receiver, 1);
        }
    }
}

#[test]
fn the_halves_of_a_member_work_in_two_threads_and_end_one_by_one() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let channel = name(&scratch, "square");
    let mut peer = member_process(&channel, "");
    let (mut sender, mut receiver) = member(&channel, "").split();
    await_receivers(&mut sender, 1);
    peer.send_line("send 5000 200");
    let (speech, book) = thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let mut speech = Speech::new(1, 200);
            speech.send_to(&mut sender, 1, 50);
            speech
        });
        let mut book = Book::default();
        book.receive(&mut receiver, 5000);
        (sending.join().unwrap(), book)
    });
    peer.expect_line("sent 5000");
    assert_eq!(book.line(peer.pid()).unwrap().next, 5000);
    ask_for(&mut peer, "receive 50", &format!("received {}", speech.report_all()));
    quit(peer);
}

#[test]
fn a_member_without_its_receiver_only_speaks() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let channel = name(&scratch, "square");
    let mut peer = member_process(&channel, "");
    let (mut sender, receiver) = member(&channel, "").split();
    await_receivers(&mut sender, 1);
    ask_for(&mut peer, "event", &format!("joined {}", std::process::id()));
    ask_for(&mut peer, "await 1", "receivers 1");
    drop(receiver);
    ask_for(&mut peer, "event", &format!("left {} PeerClosed", std::process::id()));
    // Nobody hears it, and nobody is in its way.
    ask_for(&mut peer, "send 1000 200", "sent 1000");
    let mut speech = Speech::new(1, 200);
    speech.send_to(&mut sender, 1, 50);
    ask_for(&mut peer, "receive 50", &format!("received {}", speech.report_all()));
    // Who comes later hears it, too, and is not heard by it.
    let mut late = member_process(&channel, "");
    let first = speech.next;
    speech.send_to(&mut sender, 2, 10);
    ask_for(&mut peer, "await 1", "receivers 1");
    ask_for(&mut late, "hearing 2", "senders 2");
    ask_for(&mut late, "count", "1 2");
    ask_for(&mut late, "receive 10", &format!("received {}", speech.report(first..first + 10)));
    drop(sender);
    ask_for(&mut late, "end", &format!("end PeerClosed {}", speech.report(first..first + 10)));
    quit(late);
    quit(peer);
    assert_eq!(scratch.entries(), [""; 0]);
}

#[test]
fn a_member_without_its_sender_only_hears() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let channel = name(&scratch, "square");
    let mut peer = member_process(&channel, "");
    let (mut sender, mut receiver) = member(&channel, "").split();
    await_receivers(&mut sender, 1);
    drop(sender);
    ask_for(&mut peer, "end", "end PeerClosed 0 0");
    ask_for(&mut peer, "count", "1 0");
    ask_for(&mut peer, "send 60 200", "sent 60");
    let mut book = Book::default();
    book.receive(&mut receiver, 60);
    // It hears those who come later, too, and is not heard.
    let mut late = member_process(&channel, "");
    ask_for(&mut peer, "await 2", "receivers 2");
    ask_for(&mut late, "send 60 200", "sent 60");
    ask_for(&mut late, "hearing 1", "senders 1");
    ask_for(&mut late, "count", "2 1");
    book.receive(&mut receiver, 60);
    assert_eq!(book.line(late.pid()).unwrap().next, 60);
    drop(receiver);
    common::wait_until("the other is alone with it", || ask(&mut late, "count") == "1 1");
    quit(late);
    quit(peer);
    assert_eq!(scratch.entries(), [""; 0]);
}

#[test]
fn a_member_that_left_is_missed_by_nobody_and_its_place_is_free() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let channel = name(&scratch, "square");
    let mut stays = member(&channel, "");
    let mut book = Book::default();
    for round in 0..6_u64 {
        let mut peer = member_process(&channel, "");
        let pid = peer.pid();
        ask_for(&mut peer, "send 100 200", "sent 100");
        let MemberEvent::Joined(joined) = member_event(stays.sender()) else { panic!("not joined") };
        assert_eq!(joined.pid(), pid);
        let reason = if round % 2 == 0 {
            quit(peer);
            CloseReason::PeerClosed
        } else {
            peer.kill9();
            CloseReason::PeerDied { pid }
        };
        assert_eq!(member_event(stays.sender()), MemberEvent::Left(joined, reason.clone()));
        // What it said before it left is received completely, then its end.
        assert_eq!(book.receive_to_end(stays.receiver()), reason);
        assert_eq!(book.count(), 100 * (round + 1));
        assert_eq!(stays.try_send(b"anybody there?"), Ok(Sent::NoReceivers));
    }
    let mut visitor = member_process(&channel, "");
    // One visit has cleaned up behind the killed.
    assert_eq!(scratch.entries().len(), 2);
    await_receivers(stays.sender(), 1);
    ask_for(&mut visitor, "hearing 1", "senders 1");
    ask_for(&mut visitor, "count", "1 1");
    quit(visitor);
}

#[test]
fn a_member_that_disconnected_comes_back() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let channel = name(&scratch, "square");
    let mut peer = member_process(&channel, "");
    let (mut sender, mut receiver) = member(&channel, "").split();
    let mut speech = Speech::new(1, 100);
    for round in 1..4_u64 {
        speech.send_to(&mut sender, 1, 5);
        sender.disconnect();
        assert_eq!(sender.try_send(b"x"), Err(TrySendError::Closed(CloseReason::Disconnected)));
        ask_for(&mut peer, "end", &format!("end PeerClosed {}", speech.report_all()));
        // The other half goes on.
        ask_for(&mut peer, "send 3 100", &format!("sent {}", 3 * round));
        let mut book = Book::default();
        book.receive(&mut receiver, 3);
        sender.reconnect().unwrap();
        await_receivers(&mut sender, 1);
    }
    receiver.disconnect();
    assert_eq!(receiver.recv().map(|_| ()), Err(RecvError::Closed(CloseReason::Disconnected)));
    ask_for(&mut peer, "event", &format!("joined {}", std::process::id()));
    ask_for(&mut peer, "event", &format!("left {} PeerClosed", std::process::id()));
    receiver.reconnect().unwrap();
    ask_for(&mut peer, "event", &format!("joined {}", std::process::id()));
    ask_for(&mut peer, "send 1 100", "sent 10");
    let mut book = Book::default();
    book.receive(&mut receiver, 1);
    quit(peer);
}

#[test]
fn a_question_to_all_is_answered_by_all_asleep_or_awake() {
    let _guard = hang_guard();
    for options in ["", "wait=sleep"] {
        let scratch = scratch_dir();
        let channel = name(&scratch, "square");
        let mut peers: Vec<Peer> = (0..2).map(|_| member_process(&channel, options)).collect();
        let mut own: Channel = member(&channel, options);
        let (mut speech, mut book) = (Speech::new(1, 100), Book::default());
        for round in 0..150 {
            speech.send_to(own.sender(), 2, 1);
            for peer in &mut peers {
                // Each hears the other answer, too.
                let heard = if round == 0 { 1 } else { 2 };
                peer.send_line(&format!("receive {heard}"));
            }
            for peer in &mut peers {
                assert!(peer.next_line().starts_with("received "));
                peer.send_line("send 1 100");
            }
            for peer in &mut peers {
                peer.expect_line(&format!("sent {}", round + 1));
            }
            book.receive(own.receiver(), 2);
        }
        peers.into_iter().for_each(quit);
    }
}

/// Messages of each member.
const TALK: u64 = 4000;
