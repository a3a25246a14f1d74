//! Handles of a parent in a child made by fork: an error instead of a crash, and nothing of the parent's is touched.
//!
//! Forks happen in a process of their own; its other threads wait and hold no lock.
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

mod broadcast;
mod common;

use broadcast::actor::{ask_for, quit};
use broadcast::{
    Book, Speech, await_receivers, describe, describe_member, member, member_event, member_process, name,
    receiver, receiver_process, sender, sender_process,
};
use common::{DEADLINE, Peer, hang_guard, hear, in_a_child, say, scratch_dir};
use ringway::broadcast::{
    JoinError, Receiver, RecvError, RecvTimeoutError, Select, SendError, SendTimeoutError, Sender, Sent,
    TryRecvError, TrySendError, WaitError,
};
use ringway::{CloseReason, Stats};

#[test]
fn peer_process() {
    common::run_role(&[
        ("actor", broadcast::actor::play),
        ("sending", role_sending),
        ("receiving", role_receiving),
        ("select", role_select),
        ("dropping", role_dropping),
        ("claiming", role_claiming),
        ("anew", role_anew),
        ("forked_parent", role_forked_parent),
    ]);
}

#[test]
fn every_sending_verb_is_an_error_in_the_child() {
    play("sending");
}

#[test]
fn every_receiving_verb_is_an_error_in_the_child() {
    play("receiving");
}

#[test]
fn a_set_of_the_parent_is_an_error_in_the_child() {
    play("select");
}

#[test]
fn dropping_handles_in_the_child_leaves_the_parents_alone() {
    play("dropping");
}

#[test]
fn committing_a_claim_from_before_the_fork_sends_nothing() {
    play("claiming");
}

#[test]
fn a_child_joins_for_itself() {
    play("anew");
}

fn play(role: &str) {
    let _guard = hang_guard();
    Peer::spawn(role, &[]).finish();
}

/// What was there before and works afterwards: a route to a receiving process, and one from a sending process.
struct Site {
    scratch: common::Scratch,
    sender: Option<Sender>,
    receiver: Option<Receiver>,
    receiving: Peer,
    sending: Peer,
    speech: Speech,
    book: Book,
}

impl Site {
    fn new() -> Self {
        let scratch = scratch_dir();
        let (to, from) = (name(&scratch, "to"), name(&scratch, "from"));
        let mut sender = sender(&to, "policy=block");
        let receiver = receiver(&from, "");
        let receiving = receiver_process(&to, "");
        let sending = sender_process(&from, "");
        await_receivers(&mut sender, 1);
        let mut site = Self {
            scratch,
            sender: Some(sender),
            receiver: Some(receiver),
            receiving,
            sending,
            speech: Speech::new(1, 100),
            book: Book::default(),
        };
        site.works();
        site
    }

    fn sender(&mut self) -> &mut Sender {
        self.sender.as_mut().unwrap()
    }

    fn receiver(&mut self) -> &mut Receiver {
        self.receiver.as_mut().unwrap()
    }

    /// Both directions carry messages, and nobody has come or gone.
    fn works(&mut self) {
        self.speech.send_to(self.sender.as_mut().unwrap(), 1, 20);
        let expected = format!("received {}", self.speech.report_all());
        ask_for(&mut self.receiving, "receive 20", &expected);
        let next = self.book.count() + 20;
        ask_for(&mut self.sending, "send 20 100", &format!("sent {next}"));
        self.book.receive(self.receiver.as_mut().unwrap(), 20);
        ask_for(&mut self.receiving, "look", "nothing");
    }

    fn end(mut self) {
        self.works();
        drop(self.sender.take());
        self.receiving.expect_end(&self.speech);
        quit(self.receiving);
        quit(self.sending);
        drop(self.receiver.take());
        assert_eq!(self.scratch.entries(), [""; 0]);
    }
}

trait ExpectEnd {
    fn expect_end(&mut self, speech: &Speech);
}

impl ExpectEnd for Peer {
    #[track_caller]
    fn expect_end(&mut self, speech: &Speech) {
        ask_for(self, "end", &format!("end PeerClosed {}", speech.report_all()));
    }
}

fn role_sending() {
    let mut site = Site::new();
    in_a_child(|| {
        let sender = site.sender();
        let forked = || CloseReason::Forked;
        assert_eq!(sender.try_send(b"x"), Err(TrySendError::Closed(forked())));
        assert_eq!(sender.send(b"x"), Err(SendError::Closed(forked())));
        assert_eq!(sender.send(&[0; 100_000]), Err(SendError::Closed(forked())));
        assert_eq!(sender.send_timeout(b"x", DEADLINE), Err(SendTimeoutError::Closed(forked())));
        assert_eq!(sender.try_send_batch(&[b"x"]), Err(TrySendError::Closed(forked())));
        assert_eq!(sender.send_batch(&[b"x"]), Err(SendError::Closed(forked())));
        assert_eq!(sender.try_claim(1).map(|_| ()), Err(TrySendError::Closed(forked())));
        assert_eq!(sender.try_claim_aligned(8, 8).map(|_| ()), Err(TrySendError::Closed(forked())));
        assert_eq!(sender.claim(1).map(|_| ()), Err(SendError::Closed(forked())));
        let timed = sender.claim_timeout(1, DEADLINE).map(|_| ());
        assert_eq!(timed, Err(SendTimeoutError::Closed(forked())));
        assert_eq!(sender.wait_for_receivers(2, DEADLINE), Err(WaitError::Closed(forked())));
        assert!(sender.receivers().is_empty());
        assert_eq!(sender.stats(), Stats::default());
        let _ = sender.arm(1);
        sender.disarm();
        let _ = sender.try_event();
        sender.disconnect();
        assert!(matches!(sender.reconnect(), Err(JoinError::Forked)));
        assert_eq!(sender.try_send(b"x"), Err(TrySendError::Closed(forked())));
    });
    site.end();
}

fn role_receiving() {
    let mut site = Site::new();
    in_a_child(|| {
        let receiver = site.receiver();
        let forked = || CloseReason::Forked;
        assert_eq!(receiver.try_recv().map(|_| ()), Err(TryRecvError::Closed(forked())));
        assert_eq!(receiver.recv().map(|_| ()), Err(RecvError::Closed(forked())));
        let timed = receiver.recv_timeout(DEADLINE).map(|_| ());
        assert_eq!(timed, Err(RecvTimeoutError::Closed(forked())));
        let batch = receiver.try_recv_batch(9, |_| panic!("a message in the child"));
        assert_eq!(batch, Err(TryRecvError::Closed(forked())));
        assert_eq!(receiver.try_next().map(|_| ()), Err(forked()));
        assert_eq!(receiver.next().map(|_| ()), Err(forked()));
        assert_eq!(receiver.next_timeout(DEADLINE).map(|_| ()), Err(forked()));
        assert_eq!(receiver.wait_for_senders(2, DEADLINE), Err(WaitError::Closed(forked())));
        assert_eq!(receiver.stats(), Stats::default());
        let _ = receiver.arm();
        receiver.disarm();
        receiver.disconnect();
        assert!(matches!(receiver.reconnect(), Err(JoinError::Forked)));
        assert_eq!(receiver.try_recv().map(|_| ()), Err(TryRecvError::Closed(forked())));
    });
    site.end();
}

fn role_select() {
    let mut site = Site::new();
    let mut select = Select::new().unwrap();
    let id = select.add(site.receiver.take().unwrap()).unwrap();
    in_a_child(|| {
        assert_eq!(select.try_next().map(|_| ()), Err(CloseReason::Forked));
        assert_eq!(select.next_timeout(DEADLINE).map(|_| ()), Err(CloseReason::Forked));
        drop(select.remove(id));
    });
    ask_for(&mut site.sending, "send 1 100", "sent 21");
    let (_, event) = select.next_timeout(DEADLINE).unwrap().unwrap();
    assert!(describe(&event).starts_with("message "));
    site.receiver = select.remove(id);
    site.receiver().next_timeout(std::time::Duration::ZERO).unwrap();
    site.sender().send(b"still there").unwrap();
}

fn role_dropping() {
    let mut site = Site::new();
    let channel = name(&site.scratch, "square");
    let mut peer = member_process(&channel, "");
    let mut own = Some(member(&channel, ""));
    await_receivers(own.as_mut().unwrap().sender(), 1);
    in_a_child(|| drop((site.sender.take(), site.receiver.take(), own.take())));
    in_a_child(|| {
        let (sender, receiver) = own.take().unwrap().split();
        drop(receiver);
        drop(sender);
        site.sender.take().unwrap().close();
        site.receiver.take().unwrap().close();
    });
    assert_eq!(site.scratch.entries().len(), 6, "{:?}", site.scratch.entries());
    Speech::new(9, 50).send_to(own.as_mut().unwrap().sender(), 1, 1);
    ask_for(&mut peer, "next", &format!("joined {}", std::process::id()));
    ask_for(&mut peer, "next", "message 9 0");
    ask_for(&mut peer, "look", "nothing");
    drop(own);
    quit(peer);
    site.end();
}

fn role_claiming() {
    let mut site = Site::new();
    let sent = site.sender().stats().sent_messages;
    let mut claim = Some(site.sender.as_mut().unwrap().try_claim(100).unwrap());
    in_a_child(|| assert_eq!(claim.take().unwrap().commit(), Sent::NoReceivers));
    in_a_child(|| claim.take().unwrap().abort());
    claim.unwrap().abort();
    assert_eq!(site.sender().stats().sent_messages, sent);
    site.end();
}

fn role_anew() {
    let mut site = Site::new();
    for round in 0..3 {
        in_a_child(|| {
            // A control thread of its own: it is found, it finds, and it is told.
            let route = name(&site.scratch, "child");
            let mut sender = sender(&route, "");
            let mut peer = receiver_process(&route, "");
            await_receivers(&mut sender, 1);
            let mut speech = Speech::new(2, 100);
            speech.send_to(&mut sender, 1, 50);
            drop(sender);
            peer.expect_end(&speech);
            quit(peer);
            let channel = name(&site.scratch, "square");
            let mut peer = member_process(&channel, "");
            let mut own = member(&channel, "");
            await_receivers(own.sender(), 1);
            ask_for(&mut peer, "send 50 100", "sent 50");
            Book::default().receive(own.receiver(), 50);
            peer.kill9();
            let pid = peer.pid();
            assert_eq!(describe_member(&member_event(own.sender())), format!("joined {pid}"));
            let left = format!("left {pid} PeerDied {{ pid: {pid} }}");
            assert_eq!(describe_member(&member_event(own.sender())), left);
        });
        if round == 1 {
            site.works();
        }
    }
    // It hears the parent's other process, too, under the same name as the parent.
    let from = name(&site.scratch, "from");
    in_a_child(|| {
        let mut own = receiver(&from, "");
        // It can speak to that process; the answers go to the parent.
        site.sending.send_line("await 2");
        site.sending.send_line("send 5 100");
        Book::default().receive(&mut own, 5);
    });
    site.sending.expect_line("receivers 2");
    site.sending.expect_line(&format!("sent {}", site.book.count() + 5));
    site.book.receive(site.receiver.as_mut().unwrap(), 5);
    site.end();
}

#[test]
fn everybody_is_told_of_a_death_while_a_forked_child_holds_the_sockets() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let channel = name(&scratch, "square");
    for wait in ["", "wait=spin", "wait=sleep"] {
        let mut own = member(&channel, wait);
        let mut peer = Peer::spawn("forked_parent", &[("CHANNEL", &channel)]);
        peer.expect_line("forked");
        let pid = peer.pid();
        let mut book = Book::default();
        book.receive(own.receiver(), 3);
        peer.kill9();
        assert_eq!(book.receive_to_end(own.receiver()), CloseReason::PeerDied { pid });
        assert_eq!(describe_member(&member_event(own.sender())), format!("joined {pid}"));
        let left = format!("left {pid} PeerDied {{ pid: {pid} }}");
        assert_eq!(describe_member(&member_event(own.sender())), left, "{wait}");
    }
}

fn role_forked_parent() {
    let mut own = member(&common::variable("CHANNEL"), "");
    Speech::new(1, 100).send_to(own.sender(), 1, 3);
    // SAFETY: as in `in_a_child`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // The child keeps the sockets and outlives us. The test kills it with our process group; if the test cannot,
        // the alarm does.
        // SAFETY: no memory is involved.
        unsafe { libc::alarm(30) };
        loop {
            // SAFETY: no memory is involved.
            unsafe { libc::pause() };
        }
    }
    say("forked");
    hear();
}
