//! One thread that waits for several routes and channels at once.
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

mod broadcast;
mod common;

use broadcast::actor::{ask_for, quit};
use broadcast::{
    Book, Speech, await_receivers, describe, member, member_process, name, receiver, sender, sender_process,
};
use common::{DEADLINE, Peer, hang_guard, scratch_dir};
use ringway::broadcast::{Event, Select, SelectId};
use ringway::{Armed, CloseReason};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::collections::HashMap;
use std::thread;
use std::time::Duration;

#[test]
fn peer_process() {
    common::run_role(&[("actor", broadcast::actor::play)]);
}

/// Takes what comes next.
#[track_caller]
fn next(select: &mut Select) -> (SelectId, String) {
    let (id, event) = select.next_timeout(DEADLINE).unwrap().expect("nothing came");
    (id, describe(&event))
}

#[track_caller]
fn expect_nothing(select: &mut Select) {
    if let Some((id, event)) = select.try_next().unwrap() {
        panic!("{} came from {id:?}", describe(&event));
    }
}

#[test]
fn what_happens_is_told_with_the_receiver_it_happened_to() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let mut select = Select::new().unwrap();
    assert!(select.is_empty());
    let routes = ["a", "b"].map(|plain| name(&scratch, plain));
    let channel = name(&scratch, "c");
    let mut ids: Vec<SelectId> =
        routes.iter().map(|route| select.add(receiver(route, "")).unwrap()).collect();
    let (_sender, members) = member(&channel, "").split();
    ids.push(select.add(members).unwrap());
    assert_eq!(select.len(), 3);
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
    expect_nothing(&mut select);
    let mut peers: Vec<Peer> = routes.iter().map(|route| sender_process(route, "")).collect();
    peers.push(member_process(&channel, ""));
    for (peer, id) in peers.iter_mut().zip(&ids) {
        ask_for(peer, "send 2 100", "sent 2");
        let pid = peer.pid();
        for text in [format!("joined {pid}"), format!("message {pid} 0"), format!("message {pid} 1")] {
            assert_eq!(next(&mut select), (*id, text));
        }
        expect_nothing(&mut select);
    }
    for (mut peer, id) in peers.into_iter().zip(&ids) {
        let pid = peer.pid();
        peer.kill9();
        assert_eq!(next(&mut select), (*id, format!("left {pid} PeerDied {{ pid: {pid} }}")));
        expect_nothing(&mut select);
    }
}

#[test]
fn a_set_with_nothing_in_it_only_lets_the_time_pass() {
    let _guard = hang_guard();
    let mut select = Select::new().unwrap();
    assert_eq!((select.len(), select.is_empty()), (0, true));
    expect_nothing(&mut select);
    assert!(select.next_timeout(Duration::from_millis(5)).unwrap().is_none());
    assert!(select.next_timeout(Duration::ZERO).unwrap().is_none());
}

#[test]
fn every_message_of_every_sender_comes_once_and_in_order() {
    let _guard = hang_guard();
    for options in ["", "wait=sleep"] {
        let scratch = scratch_dir();
        let mut select = Select::new().unwrap();
        let mut peers = Vec::new();
        let mut halves = Vec::new();
        for index in 0..2 {
            let route = name(&scratch, &format!("route{index}"));
            select.add(receiver(&route, options)).unwrap();
            peers.push(sender_process(&route, options));
            let channel = name(&scratch, &format!("channel{index}"));
            let (sender, receiver) = member(&channel, options).split();
            select.add(receiver).unwrap();
            halves.push(sender);
            peers.push(member_process(&channel, options));
        }
        for peer in &mut peers {
            ask_for(peer, "await 1", "receivers 1");
        }
        peers.iter_mut().for_each(|peer| peer.send_line("send 5000 200"));
        let mut books: HashMap<SelectId, Book> = HashMap::new();
        let mut heard = 0;
        while heard < 20_000 {
            let (id, event) = select.next_timeout(DEADLINE).unwrap().expect("nothing came");
            match event {
                Event::Message(message) => {
                    books.entry(id).or_default().hear(&message);
                    heard += 1;
                }
                Event::Joined(_) => {}
                event => panic!("{}", describe(&event)),
            }
        }
        peers.iter_mut().for_each(|peer| peer.expect_line("sent 5000"));
        assert!(books.len() == 4 && books.values().all(|book| book.count() == 5000));
        expect_nothing(&mut select);
        peers.into_iter().for_each(quit);
    }
}

#[test]
fn nobody_starves_beside_one_that_sends_without_end() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let routes: Vec<String> = (0..4).map(|index| name(&scratch, &format!("route{index}"))).collect();
    let mut select = Select::new().unwrap();
    let mut senders: Vec<_> = routes.iter().map(|route| sender(route, "ring=1048576")).collect();
    let ids: Vec<SelectId> = routes.iter().map(|route| select.add(receiver(route, "")).unwrap()).collect();
    let mut speeches: Vec<Speech> = (0..4).map(|index| Speech::new(index, 100)).collect();
    // Three have much to say and one has little.
    for (sender, speech) in senders.iter_mut().zip(&mut speeches) {
        let count = if speech.speaker == 2 { 1 } else { 6000 };
        speech.send_to(sender, 1, count);
    }
    for id in &ids {
        assert_eq!(select.get(*id).unwrap().wait_for_senders(1, DEADLINE), Ok(1));
    }
    let mut counts: HashMap<SelectId, u64> = HashMap::new();
    let mut before_the_quiet_one = None;
    for step in 0..6000 {
        let (id, event) = select.try_next().unwrap().expect("everything is there");
        if matches!(event, Event::Message(_)) {
            *counts.entry(id).or_default() += 1;
            if id == ids[2] {
                before_the_quiet_one.get_or_insert(step);
            }
        }
    }
    assert!(before_the_quiet_one.is_some_and(|step| step < 2000), "{before_the_quiet_one:?}");
    for id in [ids[0], ids[1], ids[3]] {
        assert!(counts[&id] > 1000, "of 6000 messages one had only {counts:?}");
    }
}

#[test]
fn a_sleeper_is_woken_by_any_of_them() {
    let _guard = hang_guard();
    for options in ["", "wait=sleep"] {
        let scratch = scratch_dir();
        let mut select = Select::new().unwrap();
        let routes: Vec<String> = (0..3).map(|index| name(&scratch, &format!("route{index}"))).collect();
        let mut senders: Vec<_> = routes.iter().map(|route| sender(route, options)).collect();
        let ids: Vec<SelectId> =
            routes.iter().map(|route| select.add(receiver(route, options)).unwrap()).collect();
        let mut speeches: Vec<Speech> = (0..3).map(|index| Speech::new(index, 100)).collect();
        for sender in &mut senders {
            await_receivers(sender, 1);
        }
        for _ in 0..3 {
            assert!(next(&mut select).1.starts_with("joined "));
        }
        for round in 0..60 {
            let (tell, told) = std::sync::mpsc::channel();
            let waiting = thread::spawn(move || {
                tell.send(common::thread_id()).unwrap();
                let woken = next(&mut select);
                (select, woken)
            });
            let thread = told.recv().unwrap();
            common::wait_until("it sleeps", || common::is_asleep(std::process::id(), thread));
            let speaker = round % 3;
            speeches[speaker].send_to(&mut senders[speaker], 1, 1);
            let (back, woken) = waiting.join().unwrap();
            select = back;
            assert_eq!(woken, (ids[speaker], format!("message {speaker} {}", round / 3)));
        }
    }
}

#[test]
fn a_sleeper_is_woken_when_somebody_comes_or_goes() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let routes = ["a", "b"].map(|plain| name(&scratch, plain));
    let mut select = Select::new().unwrap();
    let ids = routes.each_ref().map(|route| select.add(receiver(route, "wait=sleep")).unwrap());
    let waiting = thread::spawn(move || {
        let events: Vec<_> = (0..4).map(|_| next(&mut select)).collect();
        events
    });
    let mut expected = Vec::new();
    for (route, id) in routes.iter().zip(ids) {
        let mut peer = sender_process(route, "");
        ask_for(&mut peer, "await 1", "receivers 1");
        let pid = peer.pid();
        expected.push((id, format!("joined {pid}")));
        quit(peer);
        expected.push((id, format!("left {pid} {:?}", CloseReason::PeerClosed)));
    }
    assert_eq!(waiting.join().unwrap(), expected);
}

#[test]
fn a_set_is_waited_for_in_a_reactor() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let routes = ["a", "b", "c"].map(|plain| name(&scratch, plain));
    let mut select = Select::new().unwrap();
    let readiness = select.readiness().unwrap();
    // Also those that come later than the descriptor.
    for route in &routes {
        select.add(receiver(route, "")).unwrap();
    }
    let mut peers: Vec<Peer> = routes.iter().map(|route| sender_process(route, "")).collect();
    let mut book = Book::default();
    let mut left = 0;
    let mut waited = 0;
    for (index, peer) in peers.iter_mut().enumerate() {
        ask_for(peer, "await 1", "receivers 1");
        peer.send_line(&format!("send {} 200", 1000 * (index + 1)));
    }
    let mut said = 0;
    while left < 3 {
        if let Some((_, event)) = select.try_next().unwrap() {
            match event {
                Event::Message(message) => _ = book.hear(&message),
                Event::Joined(_) => {}
                Event::Left(_, CloseReason::PeerClosed) => left += 1,
                event => panic!("{}", describe(&event)),
            }
            continue;
        }
        if book.count() == 6000 && said == 0 {
            for peer in &mut peers {
                assert!(peer.next_line().starts_with("sent "));
                peer.send_line("quit");
                said += 1;
            }
        }
        if select.arm() == Armed::Wait {
            assert!(wait_readable(&readiness), "nobody woke the set");
            waited += 1;
            select.disarm();
        }
    }
    assert_eq!(book.count(), 6000);
    assert!(waited > 0);
    peers.into_iter().for_each(Peer::finish);
}

fn wait_readable(readiness: &ringway::Readiness) -> bool {
    let mut items = [PollFd::new(readiness, PollFlags::IN)];
    let timeout = Timespec::try_from(DEADLINE).unwrap();
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut items, Some(&timeout))).unwrap() == 1
}

#[test]
fn one_receiver_is_waited_for_in_a_reactor() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut receiver = receiver(&route, "");
    let readiness = receiver.readiness().unwrap();
    let mut peer = sender_process(&route, "");
    ask_for(&mut peer, "await 1", "receivers 1");
    peer.send_line("send 3000 200");
    let mut book = Book::default();
    while book.count() < 3000 {
        match receiver.try_recv() {
            Ok(message) => {
                book.hear(&message);
                continue;
            }
            Err(ringway::broadcast::TryRecvError::Empty) => {}
            Err(error) => panic!("{error}"),
        }
        if receiver.arm() == Armed::Wait {
            assert!(wait_readable(&readiness), "nobody woke the receiver");
            receiver.disarm();
        }
    }
    peer.expect_line("sent 3000");
    // Its end wakes, too.
    while receiver.arm() == Armed::Ready {
        assert!(receiver.try_next().unwrap().is_none());
    }
    quit(peer);
    assert!(wait_readable(&readiness));
    receiver.disarm();
    assert_eq!(book.receive_to_end(&mut receiver), CloseReason::PeerClosed);
}

#[test]
fn a_sender_waits_for_room_in_a_reactor() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut sender = sender(&route, "");
    let readiness = sender.readiness().unwrap();
    let mut peers: Vec<Peer> = (0..2).map(|_| broadcast::receiver_process(&route, "")).collect();
    await_receivers(&mut sender, 2);
    let mut speech = Speech::new(1, 300);
    let (mut waited, mut reading) = (0, false);
    while speech.next < 3000 {
        let message = speech.next();
        let len = message.len();
        if sender.try_send(message).is_ok() {
            continue;
        }
        speech.unsaid();
        if !reading {
            // Both must have read before there is room.
            peers.iter_mut().for_each(|peer| peer.send_line("end"));
            reading = true;
        }
        if sender.arm(len) == Armed::Wait {
            assert!(wait_readable(&readiness), "nobody woke the sender");
            waited += 1;
            sender.disarm();
        }
    }
    assert!(waited > 0 || sender.stats().full > 0);
    drop(sender);
    peers.iter_mut().for_each(|peer| peer.expect_line(&format!("end PeerClosed {}", speech.report_all())));
    peers.into_iter().for_each(quit);
}

#[test]
fn a_receiver_that_is_taken_out_works_by_itself_and_the_others_go_on() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let routes = ["a", "b", "c"].map(|plain| name(&scratch, plain));
    let mut select = Select::new().unwrap();
    let mut senders = routes.each_ref().map(|route| sender(route, ""));
    let ids = routes.each_ref().map(|route| select.add(receiver(route, "")).unwrap());
    let mut speeches = [0, 1, 2].map(|index| Speech::new(index, 100));
    let mut say = |index: usize, senders: &mut [ringway::broadcast::Sender; 3]| {
        speeches[index].send_to(&mut senders[index], 1, 1);
    };
    (0..3).for_each(|index| say(index, &mut senders));
    // Something of it is there and was not taken: it comes along.
    let mut alone = select.remove(ids[1]).unwrap();
    assert!(select.remove(ids[1]).is_none(), "it is taken out");
    assert!(select.get(ids[1]).is_none());
    assert_eq!((select.len(), select.is_empty()), (2, false));
    let mut of_it = Book::default();
    of_it.receive(&mut alone, 1);
    say(1, &mut senders);
    of_it.receive(&mut alone, 1);
    say(0, &mut senders);
    say(2, &mut senders);
    let mut books = Book::default();
    while books.count() < 4 {
        let (id, event) = select.next_timeout(DEADLINE).unwrap().unwrap();
        assert!(id == ids[0] || id == ids[2]);
        if let Event::Message(message) = event {
            books.hear(&message);
        }
    }
    expect_nothing(&mut select);
    assert_eq!(select.get(ids[0]).unwrap().sender_count(), 1);
    // It comes back in, with what it has not read.
    say(1, &mut senders);
    let id = select.add(alone).unwrap();
    assert!(id != ids[0] && id != ids[2]);
    assert_eq!(next(&mut select), (id, "message 1 2".to_owned()));
    say(1, &mut senders);
    assert_eq!(next(&mut select), (id, "message 1 3".to_owned()));
    drop(select);
    for sender in &mut senders {
        common::wait_until("all are gone", || sender.receiver_count() == 0);
    }
}
