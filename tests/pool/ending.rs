//! How members and pools end: by panic, by shutdown.

use super::{What, office, site};
use crate::common::{self, DEADLINE, Peer, check, hang_guard, message, mixed_len, say};
use ringway::{CloseReason, Config, Event, Handler, Member, Members, Shutdown};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[test]
fn a_handler_that_panics_loses_that_member_and_serves_the_others() {
    let _guard = hang_guard();
    let office = office(&Config::new(), true);
    let ((mut victim, _), (mut other, _)) = (office.client(), office.client());
    victim.send_line("say panic");
    let left = office.expect(What::Left(CloseReason::Disconnected));
    assert_eq!(left.pid, victim.pid());
    victim.send_line("receive 1");
    victim.expect_line("PeerClosed");
    other.send_line("send 100");
    other.send_line("receive 100");
    other.expect_line("sent");
    other.expect_line("received");
    // Also outside of an event: then no member is to blame.
    office.order(|_, _| panic!("as the test wants it"));
    common::wait_until("it was counted", || office.site.pool.stats().panics == 2);
    other.send_line("send 1");
    other.expect_line("sent");
    other.send_line("receive 1");
    other.expect_line("received");
    assert_eq!(office.site.pool.connections(), 1);
}

/// Answers, and counts what it has answered.
struct Counting {
    answered: Arc<AtomicU64>,
}

impl Handler for Counting {
    fn on_event(&mut self, member: &mut Member, event: Event<'_>) {
        if let Event::Message(bytes) = event
            && member.sender().try_send(bytes).is_ok()
        {
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn nothing_that_was_answered_is_lost_when_a_busy_pool_ends() {
    let _guard = hang_guard();
    for patience in [Duration::ZERO, DEADLINE] {
        let answered = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&answered);
        let make = move |_| Counting { answered: Arc::clone(&counter) };
        let site = site(&Config::new(), 2, make);
        let mut clients: Vec<Peer> =
            (0..4).map(|_| Peer::spawn("endless", &[("SOCKET", &site.socket)])).collect();
        clients.iter_mut().for_each(|client| client.expect_line("connected"));
        common::wait_until("there is load", || answered.load(Ordering::Relaxed) > 5_000);
        assert_eq!(site.pool.shutdown(patience), Shutdown::Complete);
        let received: u64 = clients.iter_mut().map(Peer::next_number).sum();
        assert_eq!(received, answered.load(Ordering::Relaxed));
        clients.into_iter().for_each(Peer::finish);
    }
}

/// Asks in bursts without end, and says at the end how many answers came.
pub fn role_endless() {
    let (mut sender, mut receiver) = common::join(&Config::new()).split();
    say("connected");
    let mut received = 0;
    let end = 'all: loop {
        for number in received..received + 32 {
            // The rest of a burst may find nobody there.
            let _ = sender.send(&message(number, mixed_len(number, 100)));
        }
        for _ in 0..32 {
            match receiver.recv() {
                Ok(bytes) => check(&bytes, received, mixed_len(received, 100)),
                Err(error) => break 'all error,
            }
            received += 1;
        }
    };
    assert_eq!(end.reason(), &CloseReason::PeerClosed);
    say(&received.to_string());
}

/// Owes an answer; after so many turns, a millisecond apart, it gives it.
struct Slow {
    owed_to: Option<ringway::MemberId>,
    turns: u32,
    next: Option<Instant>,
}

impl Handler for Slow {
    fn on_event(&mut self, member: &mut Member, event: Event<'_>) {
        if let Event::Message(bytes) = event {
            check(bytes, 0, 100);
            self.owed_to = Some(member.id());
            self.next = Some(Instant::now());
        }
    }

    fn on_turn(&mut self, members: &mut Members<'_>, now: Instant) {
        if self.next.is_none_or(|next| now < next) {
            return;
        }
        self.turns -= 1;
        self.next = (self.turns > 0).then_some(now + Duration::from_millis(1));
        if self.turns == 0
            && let Some(id) = self.owed_to.take()
        {
            members.get(id).unwrap().sender().try_send(&message(0, 100)).unwrap();
        }
    }

    fn wakes_at(&self) -> Option<Instant> {
        self.next
    }

    fn on_shutdown(&mut self, members: &mut Members<'_>) {
        assert_eq!(members.len(), 1);
        self.turns = 10;
    }

    fn is_idle(&self) -> bool {
        self.owed_to.is_none()
    }
}

#[test]
fn a_pool_ends_when_the_last_answer_was_given_or_the_time_is_up() {
    let _guard = hang_guard();
    for (patience, outcome) in
        [(DEADLINE, Shutdown::Complete), (Duration::ZERO, Shutdown::Cut { workers: 1 })]
    {
        let site = site(&Config::new(), 1, |_| Slow { owed_to: None, turns: u32::MAX, next: None });
        let mut connection = Config::new().connect(&site.socket).unwrap();
        connection.send(&message(0, 100)).unwrap();
        common::wait_until("it is in flight", || site.pool.stats().traffic.received_messages == 1);
        assert_eq!(site.pool.shutdown(patience), outcome);
        if outcome == Shutdown::Complete {
            check(&connection.recv().unwrap(), 0, 100);
        }
        assert_eq!(connection.recv().unwrap_err().reason(), &CloseReason::PeerClosed);
        let error = Config::new().connect(&site.socket).map(drop).unwrap_err();
        assert!(matches!(error, ringway::ConnectError::NoListener { .. }), "{error}");
    }
}
