//! Many receivers.

use crate::broadcast::{Book, Options, Speech, await_receivers, name, sender};
use crate::common::{self, DEADLINE, Peer, hang_guard, hear, number_variable, say, scratch_dir, variable};
use ringway::CloseReason;
use ringway::broadcast::{MemberEvent, Receiver};

/// Starts a process with so many receivers, all of which have joined when it says so.
fn crowd(route: &str, receivers: u64, options: &str) -> Peer {
    let receivers = receivers.to_string();
    Peer::spawn("crowd", &[("ROUTE", route), ("RECEIVERS", &receivers), ("OPTIONS", options)])
}

/// Role: several receivers that are read in turn; told `COUNT`, all receive so many, and `end` until the sender is gone.
pub fn play() {
    let options = Options::new(&variable("OPTIONS"));
    let route = variable("ROUTE");
    let count = number_variable("RECEIVERS");
    let mut receivers: Vec<(Receiver, Book)> =
        (0..count).map(|_| (options.route().receiver(&route).unwrap(), Book::default())).collect();
    say("joined");
    loop {
        let line = hear();
        if line == "end" {
            break;
        }
        for _ in 0..line.parse::<u64>().unwrap() {
            for (receiver, book) in &mut receivers {
                book.receive(receiver, 1);
            }
        }
        report("received", &receivers);
    }
    for (receiver, book) in &mut receivers {
        assert_eq!(book.receive_to_end(receiver), CloseReason::PeerClosed);
    }
    report("end", &receivers);
}

/// All have heard the same: says it once.
fn report(word: &str, receivers: &[(Receiver, Book)]) {
    let reports: Vec<String> = receivers.iter().map(|(_, book)| book.report()).collect();
    assert!(reports.iter().all(|report| *report == reports[0]), "{reports:?}");
    say(&format!("{word} {} times {}", reports.len(), reports[0]));
}

#[test]
fn a_route_has_more_than_32_receivers() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut sender = sender(&route, "");
    let mut peers: Vec<Peer> = (0..11).map(|_| crowd(&route, 3, "")).collect();
    peers.iter_mut().for_each(|peer| peer.expect_line("joined"));
    await_receivers(&mut sender, 33);
    peers.iter_mut().for_each(|peer| peer.send_line("3000"));
    let mut speech = Speech::new(1, 256);
    speech.send_to(&mut sender, 33, 3000);
    drop(sender);
    let expected = format!("received 3 times {}", speech.report_all());
    peers.iter_mut().for_each(|peer| peer.expect_line(&expected));
    peers.iter_mut().for_each(|peer| peer.send_line("end"));
    let expected = format!("end 3 times {}", speech.report_all());
    peers.iter_mut().for_each(|peer| peer.expect_line(&expected));
    peers.into_iter().for_each(Peer::finish);
    assert_eq!(scratch.entries(), [""; 0]);
}

#[test]
fn a_route_has_a_thousand_receivers() {
    let _guard = hang_guard();
    ringway::raise_descriptor_limit().unwrap();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut sender = sender(&route, "many=1000");
    let mut peers: Vec<Peer> = (0..8).map(|_| crowd(&route, 125, "")).collect();
    peers.iter_mut().for_each(|peer| peer.expect_line("joined"));
    await_receivers(&mut sender, 1000);
    let mut speech = Speech::new(1, 256);
    let mut received = 0;
    for round in 0..10 {
        // Less than the ring holds, then all catch up: a thousand receivers on two cores take their time.
        speech.send_to(&mut sender, 1000, 30);
        received += 30;
        let expected = format!("received 125 times {}", speech.report(0..received));
        peers.iter_mut().for_each(|peer| peer.send_line("30"));
        peers.iter_mut().for_each(|peer| peer.expect_line(&expected));
        if round == 5 {
            leave_an_eighth(&mut sender, &mut peers);
            // Others come in their place.
            peers.push(crowd(&route, 125, "history=0"));
            let late = peers.last_mut().unwrap();
            late.expect_line("joined");
            await_receivers(&mut sender, 1000);
            peers.pop().unwrap().kill9();
            await_departures(&mut sender, 125);
            break;
        }
    }
    speech.send_to(&mut sender, 875, 30);
    drop(sender);
    let expected = format!("end 125 times {}", speech.report_all());
    peers.iter_mut().for_each(|peer| peer.send_line("end"));
    peers.iter_mut().for_each(|peer| peer.expect_line(&expected));
    peers.into_iter().for_each(Peer::finish);
}

/// One of the processes is killed; everybody's place is free again.
fn leave_an_eighth(sender: &mut ringway::broadcast::Sender, peers: &mut Vec<Peer>) {
    peers.pop().unwrap().kill9();
    await_departures(sender, 125);
}

fn await_departures(sender: &mut ringway::broadcast::Sender, count: usize) {
    let mut left = 0;
    common::wait_until("all of one process are gone", || {
        while let Some(event) = sender.try_event() {
            match event {
                MemberEvent::Joined(_) => {}
                MemberEvent::Left(_, CloseReason::PeerDied { .. }) => left += 1,
                event => panic!("{event:?}"),
            }
        }
        left == count
    });
    assert_eq!(sender.receiver_count(), 875);
    assert_eq!(sender.wait_for_receivers(875, DEADLINE), Ok(875));
}
