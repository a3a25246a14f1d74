//! What happens to slow receivers: those that read too little, those whose process is stopped, those that are killed.
//!
//! Beside the one in the way another receiver always keeps up, and gets everything.
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

mod broadcast;
mod common;

use broadcast::actor::{ask, ask_for, quit};
use broadcast::{
    Book, Speech, await_receivers, describe_member, member_event, name, receiver, receiver_process, sender,
    sender_process,
};
use common::{Peer, Scratch, hang_guard, message, scratch_dir};
use ringway::CloseReason;
use ringway::broadcast::{MemberEvent, Policy, SendTimeoutError, Sender, Sent, TrySendError};
use std::time::Duration;

#[test]
fn peer_process() {
    common::run_role(&[("actor", broadcast::actor::play)]);
}

/// What is the matter with the receiver that is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// It lives and does not read.
    Lazy,
    Stopped,
    Killed,
}

const TROUBLES: [Trouble; 3] = [Trouble::Lazy, Trouble::Stopped, Trouble::Killed];

/// A route with a receiver that keeps up and one that does not.
struct Site {
    _scratch: Scratch,
    route: String,
    sender: Sender,
    quick: Peer,
    slow: Peer,
    speech: Speech,
}

/// Makes one; nobody reads until told to.
fn site(policy: &str) -> Site {
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut sender = sender(&route, policy);
    let join = |sender: &mut Sender| {
        let peer = receiver_process(&route, "");
        assert_eq!(describe_member(&member_event(sender)), format!("joined {}", peer.pid()));
        peer
    };
    let (quick, slow) = (join(&mut sender), join(&mut sender));
    let speech = Speech::new(std::process::id(), 200);
    Site { _scratch: scratch, route, sender, quick, slow, speech }
}

impl Site {
    /// Begins the trouble.
    fn begin(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Lazy => {}
            Trouble::Stopped => self.slow.stop(),
            Trouble::Killed => self.slow.kill9(),
        }
    }

    /// Ends it, as far as that is possible.
    fn go_on(&mut self, trouble: Trouble) {
        if trouble == Trouble::Stopped {
            self.slow.go_on();
        }
    }

    /// Says why the slow receiver is gone, as the sender is told.
    #[track_caller]
    fn expect_left(&mut self, trouble: Trouble) {
        let pid = self.slow.pid();
        let reason = match trouble {
            Trouble::Lazy | Trouble::Stopped => CloseReason::TooSlow,
            Trouble::Killed => CloseReason::PeerDied { pid },
        };
        let told = describe_member(&member_event(&mut self.sender));
        assert_eq!(told, format!("left {pid} {reason:?}"));
        let cut = u64::from(reason == CloseReason::TooSlow);
        assert_eq!(self.sender.stats().cut_receivers, cut, "counted");
    }

    /// The slow receiver finds out that it was cut off, comes back by itself, and gets everything from then on.
    fn expect_return(mut self, trouble: Trouble, sent: u64) {
        let end = ask(&mut self.slow, "end");
        let words: Vec<&str> = end.split(' ').collect();
        assert_eq!(words[..2], ["end", "TooSlow"]);
        let received: u64 = words[2].parse().unwrap();
        assert!(received < sent, "{trouble:?}: it got all, so nobody was in the way");
        let told = describe_member(&member_event(&mut self.sender));
        assert_eq!(told, format!("joined {}", self.slow.pid()));
        self.speech.send_to(&mut self.sender, 2, 20);
        let answer = ask(&mut self.slow, "receive 20");
        assert!(answer.starts_with(&format!("received {} ", received + 20)), "{answer}");
        ask_for(&mut self.slow, "look", "nothing");
        self.finish();
        quit(self.slow);
    }

    /// The one that keeps up has got everything that was said to be sent.
    fn finish(&mut self) {
        self.sender.disconnect();
        self.quick.expect_line(&format!("end PeerClosed {}", self.speech.report_all()));
    }
}

#[test]
fn block_cuts_off_who_makes_no_progress_and_loses_nothing_for_the_others() {
    let _guard = hang_guard();
    for trouble in TROUBLES {
        let mut site = site("policy=block:400");
        site.begin(trouble);
        site.quick.send_line("end");
        // Five times what the ring holds.
        site.speech.send(&mut site.sender, 600);
        site.expect_left(trouble);
        assert_eq!(site.sender.receiver_count(), 1);
        site.go_on(trouble);
        if trouble == Trouble::Killed {
            site.finish();
        } else {
            site.expect_return(trouble, 600);
        }
    }
}

#[test]
fn block_for_ever_waits_for_the_living_however_long() {
    let _guard = hang_guard();
    for trouble in TROUBLES {
        let mut site = site("policy=block");
        site.begin(trouble);
        site.quick.send_line("end");
        let (number, pid) = number_of(&mut site.sender, &site.slow);
        let sent = loop {
            match site.sender.send_timeout(site.speech.next(), Duration::from_millis(300)) {
                Ok(Sent::To { .. }) if trouble == Trouble::Killed && site.speech.next == 600 => break Ok(()),
                Ok(Sent::To { .. }) => {}
                Ok(sent) => panic!("{sent:?}"),
                Err(error) => break Err(error),
            }
        };
        if trouble == Trouble::Killed {
            assert_eq!(sent, Ok(()), "the dead are in nobody's way");
            site.expect_left(trouble);
            site.finish();
            continue;
        }
        assert_eq!(sent, Err(SendTimeoutError::Timeout { receiver: number, pid }));
        site.speech.unsaid();
        assert_eq!(site.sender.try_event(), None);
        assert_eq!(site.sender.receiver_count(), 2);
        site.go_on(trouble);
        site.slow.send_line("end");
        site.speech.send_to(&mut site.sender, 2, 1000);
        site.finish();
        // Nothing was lost to it either.
        site.slow.expect_line(&format!("end PeerClosed {}", site.speech.report_all()));
        quit(site.slow);
    }
}

/// Returns number and process of a receiver.
fn number_of(sender: &mut Sender, peer: &Peer) -> (u64, u32) {
    let found = sender.receivers().into_iter().find(|(known, _)| known.pid() == peer.pid());
    found.map(|(known, _)| (known.number(), known.pid())).unwrap_or((0, peer.pid()))
}

#[test]
fn drop_newest_drops_for_all_and_says_so() {
    let _guard = hang_guard();
    for trouble in TROUBLES {
        let mut site = site("policy=drop");
        let (number, _) = number_of(&mut site.sender, &site.slow);
        site.begin(trouble);
        site.quick.send_line("end");
        let mut dropped = 0;
        for step in 0..600 {
            let sent = if step % 2 == 0 {
                site.sender.send(site.speech.next()).unwrap()
            } else {
                site.sender.try_send(site.speech.next()).unwrap()
            };
            match sent {
                Sent::To { receivers } => assert!(receivers == 2 || trouble == Trouble::Killed),
                Sent::Dropped { by } => {
                    // The same number again: for the receivers there is no gap.
                    site.speech.unsaid();
                    dropped += 1;
                    assert!(by.number() == number || by.pid() == site.quick.pid());
                }
                sent => panic!("{sent:?}"),
            }
        }
        let stats = site.sender.stats();
        assert_eq!((stats.sent_messages, stats.dropped_messages), (site.speech.next, dropped));
        if trouble == Trouble::Killed {
            site.expect_left(trouble);
            site.finish();
            continue;
        }
        assert!(dropped > 300, "only {dropped} of 600 messages found no room in a ring for about 130");
        assert_eq!(site.sender.try_event(), None, "nobody is harmed");
        site.go_on(trouble);
        site.finish();
        ask_for(&mut site.slow, "end", &format!("end PeerClosed {}", site.speech.report_all()));
        quit(site.slow);
    }
}

#[test]
fn overwrite_never_waits_and_says_exactly_how_many_were_lost() {
    let _guard = hang_guard();
    for trouble in TROUBLES {
        for len_max in [200, 30_000] {
            let mut site = site("policy=overwrite");
            site.speech = Speech::new(std::process::id(), len_max);
            site.begin(trouble);
            site.quick.send_line("lag");
            let count = if len_max > 4000 { 400 } else { 20_000 };
            site.speech.send(&mut site.sender, count);
            if trouble == Trouble::Killed {
                site.expect_left(trouble);
            }
            assert_eq!(site.sender.try_event(), None, "nobody is cut off");
            site.sender.disconnect();
            site.go_on(trouble);
            check_lag(&mut site.quick, count);
            if trouble != Trouble::Killed {
                site.slow.send_line("lag");
                let lost = check_lag(&mut site.slow, count);
                assert!(lost > count / 2, "{trouble:?}: only {lost} of {count} messages were lost");
                quit(site.slow);
            }
        }
    }
}

/// What was received and what was said to be lost is what was sent; returns how many were lost.
#[track_caller]
fn check_lag(peer: &mut Peer, sent: u64) -> u64 {
    let line = peer.next_line();
    let words: Vec<&str> = line.split(' ').collect();
    assert_eq!(words[..2], ["end", "PeerClosed"], "{line}");
    let [received, lost] = [2, 3].map(|index: usize| words[index].parse::<u64>().unwrap());
    assert_eq!(received + lost, sent, "{line}");
    lost
}

#[test]
fn disconnect_cuts_off_who_is_in_the_way_at_once() {
    let _guard = hang_guard();
    for trouble in TROUBLES {
        let mut site = site("policy=disconnect");
        site.begin(trouble);
        // The quick one is known to have read before more is sent than fits.
        for round in 1..=10 {
            site.speech.send(&mut site.sender, 60);
            let report = site.speech.report_all();
            ask_for(&mut site.quick, "receive 60", &format!("received {report}"));
            assert_eq!(site.speech.next, 60 * round);
        }
        site.quick.send_line("end");
        site.expect_left(trouble);
        assert_eq!(site.sender.receiver_count(), 1);
        site.go_on(trouble);
        if trouble == Trouble::Killed {
            site.finish();
        } else {
            site.expect_return(trouble, 600);
        }
    }
}

#[test]
fn no_policy_lets_try_send_harm_anybody() {
    let _guard = hang_guard();
    for policy in ["policy=block:0", "policy=block", "policy=drop", "policy=disconnect"] {
        let mut site = site(policy);
        let mut refused = 0;
        while refused < 1000 {
            match site.sender.try_send(site.speech.next()) {
                Ok(Sent::To { receivers: 2 }) => assert_eq!(refused, 0, "room without reading"),
                Ok(Sent::Dropped { .. }) | Err(TrySendError::WouldBlock { .. }) => {
                    site.speech.unsaid();
                    refused += 1;
                }
                outcome => panic!("{outcome:?}"),
            }
        }
        let mut batch = 0;
        while batch < 10 {
            let sent = site.sender.try_send_batch(&[[7; 2000]]);
            assert!(matches!(sent, Ok(0) | Err(TrySendError::WouldBlock { .. })), "{sent:?}");
            assert!(site.sender.try_claim(2000).is_err());
            batch += 1;
        }
        assert_eq!(site.sender.try_event(), None, "{policy}");
        let expected = format!("received {}", site.speech.report_all());
        for peer in [&mut site.quick, &mut site.slow] {
            ask_for(peer, &format!("receive {}", site.speech.next), &expected);
            ask_for(peer, "look", "nothing");
        }
        assert_eq!(site.sender.receiver_count(), 2);
    }
}

#[test]
fn a_receiver_that_reads_slowly_but_steadily_is_not_cut_off() {
    let _guard = hang_guard();
    let mut site = site("policy=block:600");
    // Records of 24 to 48 bytes: an eighth of the ring has about 57, for which the slow one takes twice the permitted stall.
    site.speech = Speech::new(1, 40);
    site.slow.send_line("slow 22000 130");
    site.quick.send_line("end");
    // As many as the ring holds, and those that are read slowly.
    site.speech.send_to(&mut site.sender, 2, 430 + 130);
    assert_eq!(site.sender.try_event(), None, "nobody was cut off");
    site.finish();
    site.slow.expect_line(&format!("end PeerClosed {}", site.speech.report_all()));
    quit(site.slow);
}

#[test]
fn a_receiver_that_is_cut_off_while_it_reads_delivers_no_torn_message() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut sender = sender(&route, "policy=disconnect");
    let mut peers: Vec<Peer> = (0..2).map(|_| receiver_process(&route, "")).collect();
    await_receivers(&mut sender, 2);
    peers.iter_mut().for_each(|peer| peer.send_line("survive"));
    let mut speech = Speech::new(1, 4088);
    let (mut cuts, mut step) = (0, 0);
    while cuts < 100 {
        // From less than the ring holds to several times as much: some are read while the last are written.
        step += 1;
        speech.send(&mut sender, 1 + 7 * step % 30);
        common::wait_until("those that are still there have read it", || {
            sender.receivers().iter().all(|(_, behind)| *behind == 0)
        });
        if sender.receiver_count() == 0 {
            await_receivers_at_least(&mut sender, 1);
        }
        while let Some(event) = sender.try_event() {
            cuts += u64::from(matches!(event, MemberEvent::Left(_, CloseReason::TooSlow)));
        }
    }
    // Whoever was cut off last comes back to hear the end.
    await_receivers_at_least(&mut sender, 2);
    drop(sender);
    let mut told = 0;
    for peer in &mut peers {
        let line = peer.next_line();
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words[0], "survived", "{line}");
        assert!(words[1].parse::<u64>().unwrap() > 0, "{line}: heard nothing between two cuts");
        told += words[2].parse::<u64>().unwrap();
    }
    assert!(told >= cuts, "{cuts} were cut off, {told} were told");
    peers.into_iter().for_each(quit);
}

#[track_caller]
fn await_receivers_at_least(sender: &mut Sender, count: usize) {
    let present = sender.wait_for_receivers(count, common::DEADLINE);
    assert!(present.as_ref().is_ok_and(|present| *present >= count), "{present:?}");
}

#[test]
fn a_receiver_that_is_overtaken_while_it_reads_delivers_no_torn_message() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut peer = sender_process(&route, "policy=overwrite");
    let mut receivers = [receiver(&route, ""), receiver(&route, "trust")];
    ask_for(&mut peer, "await 2", "receivers 2");
    ask_for(&mut peer, "flow 4088", "flowing");
    let mut books = [Book::default(), Book::default()];
    for (receiver, book) in receivers.iter_mut().zip(&mut books) {
        let (mut heard, mut lost) = (0, 0_u64);
        while heard < 3000 || lost == 0 {
            match receiver.recv_timeout(common::DEADLINE) {
                Ok(message) => {
                    book.hear(&message);
                    heard += 1;
                }
                Err(ringway::broadcast::RecvTimeoutError::Lagged(messages)) => {
                    book.lose(peer.pid(), messages);
                    lost += messages;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    peer.send_line("enough");
    assert!(peer.next_line().starts_with("sent "));
    quit(peer);
}

#[test]
fn a_long_message_goes_by_the_policy_too() {
    let _guard = hang_guard();
    for policy in ["policy=drop", "policy=disconnect", "policy=block:300"] {
        let mut site = site(policy);
        site.slow.stop();
        site.quick.send_line("end");
        site.speech = Speech::new(std::process::id(), 60_000);
        // Number 0 is short, number 1 has 60,000 bytes: several rings.
        assert_eq!(site.sender.send(site.speech.next()), Ok(Sent::To { receivers: 2 }));
        let pid = site.slow.pid();
        match site.sender.send(site.speech.next()).unwrap() {
            Sent::Dropped { by } if policy == "policy=drop" => {
                assert_eq!(by.pid(), pid);
                site.speech.unsaid();
                assert_eq!(site.sender.try_event(), None);
            }
            Sent::To { receivers: 1 } if policy != "policy=drop" => {
                assert_eq!(describe_member(&member_event(&mut site.sender)), format!("left {pid} TooSlow"));
            }
            sent => panic!("{policy}: {sent:?}"),
        }
        site.slow.go_on();
        if policy == "policy=drop" {
            site.slow.send_line("end");
            // As soon as it reads again there is room for it.
            let mut sent = Sent::NoReceivers;
            while sent != (Sent::To { receivers: 2 }) {
                site.speech.next = 1;
                sent = site.sender.send(site.speech.next()).unwrap();
            }
            site.finish();
            site.slow.expect_line(&format!("end PeerClosed {}", site.speech.report_all()));
            quit(site.slow);
        } else {
            site.finish();
        }
    }
}

#[test]
fn the_policy_is_that_of_the_sender() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let default = ringway::Route::sender(&route).unwrap();
    assert_eq!(default.policy(), Policy::Block { stall_max: Some(Duration::from_secs(5)) });
    assert_eq!(default.policy(), Policy::default());
    drop(default);
    let mut overwriting = sender(&route, "policy=overwrite");
    assert_eq!(overwriting.policy(), Policy::Overwrite);
    // What the receiver would do as a sender is nobody's business.
    let mut receiver = receiver(&route, "policy=block");
    for number in 0..1000 {
        assert_eq!(overwriting.send(&message(number, 100)), Ok(Sent::To { receivers: 1 }));
    }
    assert!(matches!(receiver.recv(), Err(ringway::broadcast::RecvError::Lagged(1..))));
}

#[test]
fn a_receiver_that_dies_in_the_middle_of_a_read_holds_nobody_up() {
    let _guard = hang_guard();
    let mut site = site("policy=block");
    site.quick.send_line("end");
    for round in 0..10_u64 {
        site.slow.send_line("end");
        site.speech.send(&mut site.sender, 100 + 37 * round);
        site.slow.kill9();
        site.speech.send(&mut site.sender, 300);
        site.expect_left(Trouble::Killed);
        site.slow = receiver_process(&site.route, "");
        let told = describe_member(&member_event(&mut site.sender));
        assert_eq!(told, format!("joined {}", site.slow.pid()));
    }
    site.finish();
}
