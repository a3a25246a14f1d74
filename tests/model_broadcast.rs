//! Random programs of one sender and several receivers against a queue of vectors for each receiver.
//!
//! The ring is as small as it gets, so that it is full, empty and at its end again and again. proptest prints the seed
//! of a case that fails.
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

mod broadcast;
mod common;

use broadcast::{Options, describe, name};
use common::{DEADLINE, Scratch, message, scratch_dir};
use proptest::collection::vec;
use proptest::prelude::*;
use ringway::CloseReason;
use ringway::broadcast::{
    Event, MemberEvent, Peer, Receiver, SendTimeoutError, Sender, Sent, TryRecvError, TrySendError,
};
use std::collections::VecDeque;
use std::time::Duration;

/// One step; lengths are of payloads in bytes, receivers are counted round.
#[derive(Debug, Clone)]
enum Step {
    /// A receiver that wants so many messages of the past at most.
    Join(u32),
    Leave(usize),
    TrySend(usize),
    /// A time-out of zero: fragments what is longer than a record.
    Send(usize),
    Batch(Vec<usize>),
    /// Claims the first, commits the second of it.
    Claim(usize, usize),
    ClaimDropped(usize),
    Receive(usize, usize),
    ReceiveBatch(usize, usize),
}

fn len() -> impl Strategy<Value = usize> {
    prop_oneof![4 => LEN_MIN..64_usize, 3 => LEN_MIN..1500_usize, 2 => Just(RECORD_MAX), 1 => RECORD_MAX - 16..=RECORD_MAX]
}

fn step(long: usize) -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => prop_oneof![Just(0), Just(u32::MAX), 0..20_u32].prop_map(Step::Join),
        1 => (0..RECEIVERS_MAX).prop_map(Step::Leave),
        6 => len().prop_map(Step::TrySend),
        4 => len().prop_map(Step::Send),
        1 => (RECORD_MAX..=long).prop_map(Step::Send),
        3 => vec(len(), 0..12).prop_map(Step::Batch),
        2 => (len(), 0..=100_usize).prop_map(|(len, percent)| Step::Claim(len, LEN_MIN.max(len * percent / 100))),
        1 => len().prop_map(Step::ClaimDropped),
        8 => (0..RECEIVERS_MAX, 0..12_usize).prop_map(|(which, count)| Step::Receive(which, count)),
        4 => (0..RECEIVERS_MAX, 0..30_usize).prop_map(|(which, max)| Step::ReceiveBatch(which, max)),
    ]
}

fn steps(long: usize) -> impl Strategy<Value = Vec<Step>> {
    vec(step(long), 0..120)
}

/// Runs a program.
fn run(policy: &str, history: u32, trust: bool, steps: &[Step]) -> Result<(), TestCaseError> {
    let _guard = common::hang_guard();
    let mut run = Run::new(policy, history, trust);
    for step in steps {
        run.take(step)?;
    }
    run.finish()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_route_that_waits_is_a_queue_for_each_receiver(
        steps in steps(6 * RECORD_MAX), history in 0..20_u32, trust in any::<bool>(), bounded in any::<bool>(),
    ) {
        run(if bounded { "block:60000" } else { "block" }, history, trust, &steps)?;
    }

    #[test]
    fn a_route_that_drops_is_a_queue_for_each_receiver(
        steps in steps(RECORD_MAX), history in 0..20_u32, trust in any::<bool>(),
    ) {
        run("drop", history, trust, &steps)?;
    }

    #[test]
    fn a_route_that_overwrites_loses_exactly_what_it_says(
        steps in steps(6 * RECORD_MAX), history in 0..20_u32,
    ) {
        run("overwrite", history, false, &steps)?;
    }

    #[test]
    fn a_route_that_disconnects_harms_only_who_is_in_the_way(steps in steps(RECORD_MAX)) {
        run("disconnect", 0, false, &steps)?;
    }
}

/// A receiver beside its model.
struct Ear {
    receiver: Receiver,
    peer: Peer,
    model: VecDeque<Vec<u8>>,
}

/// A route beside its model.
struct Run {
    _scratch: Scratch,
    route: String,
    policy: String,
    trust: bool,
    sender: Sender,
    ears: Vec<Ear>,
    /// The last messages, as many as are kept at most.
    kept: VecDeque<Vec<u8>>,
    history: usize,
    /// Messages made so far; the number of the next.
    made: u64,
    sent: u64,
    dropped: u64,
    /// Fragments that will not be completed may be in the ring.
    abandoned: bool,
}

impl Run {
    fn new(policy: &str, history: u32, trust: bool) -> Self {
        let scratch = scratch_dir();
        let route = name(&scratch, "model");
        let sender = broadcast::sender(&route, &format!("policy={policy} history={history}"));
        Self {
            _scratch: scratch,
            route,
            policy: policy.to_owned(),
            trust,
            sender,
            ears: Vec::new(),
            kept: VecDeque::new(),
            history: history as usize,
            made: 0,
            sent: 0,
            dropped: 0,
            abandoned: false,
        }
    }

    fn next(&mut self, len: usize) -> Vec<u8> {
        self.made += 1;
        message(self.made, len)
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Join(wanted) => self.join(wanted),
            Step::Leave(which) => self.leave(which),
            Step::TrySend(len) => {
                let message = self.next(len);
                let result = self.sender.try_send(&message);
                self.outcome(result, message)
            }
            Step::Send(len) => self.send(len),
            Step::Batch(ref lens) => self.batch(lens),
            Step::Claim(len, used) => {
                let message = self.next(used);
                let claimed = self.sender.try_claim(len).map(|mut claim| {
                    claim[..used].copy_from_slice(&message);
                    claim[used..].fill(0xee);
                    claim.commit_len(used)
                });
                match claimed {
                    Err(TrySendError::WouldBlock { receiver, .. }) => self.check_doubtful(receiver, len),
                    Ok(Sent::NoReceivers) if self.history == 0 => {
                        // It was in the ring before anybody could say that nobody wants it.
                        self.sent += 1;
                        self.push(Sent::NoReceivers, message)
                    }
                    claimed => self.outcome(claimed, message),
                }
            }
            Step::ClaimDropped(len) => {
                if let Ok(mut claim) = self.sender.try_claim(len) {
                    claim.fill(0xee);
                }
                Ok(())
            }
            Step::Receive(which, count) => {
                for _ in 0..count {
                    self.receive(which)?;
                }
                Ok(())
            }
            Step::ReceiveBatch(which, max) => self.receive_batch(which, max),
        }
    }

    fn join(&mut self, wanted: u32) -> Result<(), TestCaseError> {
        if self.ears.len() == RECEIVERS_MAX {
            return Ok(());
        }
        let trust = if self.trust { "trust" } else { "" };
        let options = Options::new(&format!("history={wanted} {trust}"));
        let mut receiver = options.route().receiver(&self.route).unwrap();
        let event = self.sender.try_event();
        let Some(MemberEvent::Joined(peer)) = event else {
            return Err(TestCaseError::fail(format!("{event:?} when a receiver has joined")));
        };
        prop_assert_eq!(receiver.wait_for_senders(1, DEADLINE), Ok(1));
        let model = self.past(&mut receiver, wanted as usize)?;
        self.ears.push(Ear { receiver, peer, model });
        Ok(())
    }

    /// Takes the first message of the past, and returns those that must follow.
    fn past(&self, receiver: &mut Receiver, wanted: usize) -> Result<VecDeque<Vec<u8>>, TestCaseError> {
        let most = wanted.min(self.kept.len());
        // Of which a quarter of a ring is certainly there: as much may be padding at the end of the ring, and as much was
        // claimed and not used.
        let mut bytes = 0;
        let held = self.kept.iter().rev().take_while(|message| {
            bytes += generous(message.len());
            bytes <= RING_BYTES / 4
        });
        let least = if self.abandoned { 0 } else { most.min(held.count()) };
        let first = match receiver.try_recv() {
            Ok(message) => message.to_vec(),
            Err(TryRecvError::Empty) => {
                prop_assert_eq!(least, 0, "nothing of {} messages", most);
                return Ok(VecDeque::new());
            }
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        };
        let start = self.kept.iter().rposition(|kept| *kept == first);
        let count = start.map_or(0, |start| self.kept.len() - start);
        prop_assert!((least.max(1)..=most).contains(&count), "{} of {}..={} messages", count, least, most);
        Ok(self.kept.iter().skip(self.kept.len() - count + 1).cloned().collect())
    }

    fn leave(&mut self, which: usize) -> Result<(), TestCaseError> {
        if which < self.ears.len() {
            let peer = self.ears.swap_remove(which).peer;
            let left = broadcast::member_event(&mut self.sender);
            prop_assert_eq!(left, MemberEvent::Left(peer, CloseReason::PeerClosed));
        }
        prop_assert_eq!(self.sender.receiver_count(), self.ears.len());
        Ok(())
    }

    /// Checks what came of sending one record, and takes it into the model.
    fn outcome(&mut self, result: Result<Sent, TrySendError>, message: Vec<u8>) -> Result<(), TestCaseError> {
        match result {
            Ok(Sent::Dropped { by }) => {
                prop_assert_eq!(&self.policy, "drop");
                self.dropped += 1;
                self.check_doubtful(by.number(), message.len())
            }
            Ok(sent) => self.push(sent, message),
            Err(TrySendError::WouldBlock { receiver, .. }) => {
                prop_assert!(self.policy != "drop" && self.policy != "overwrite");
                self.check_doubtful(receiver, message.len())
            }
            Err(error) => Err(TestCaseError::fail(error.to_string())),
        }
    }

    /// Takes a message that was sent into the model.
    fn push(&mut self, sent: Sent, message: Vec<u8>) -> Result<(), TestCaseError> {
        prop_assert_eq!(sent.receivers(), self.ears.len());
        prop_assert_eq!(sent == Sent::NoReceivers, self.ears.is_empty());
        for ear in &mut self.ears {
            ear.model.push_back(message.clone());
        }
        if self.history > 0 || !self.ears.is_empty() {
            self.sent += 1;
        }
        if self.history > 0 {
            self.kept.push_back(message);
            if self.kept.len() > self.history {
                self.kept.pop_front();
            }
        }
        Ok(())
    }

    /// What this receiver has not read, counted generously, leaves no room for a record.
    fn check_doubtful(&self, receiver: u64, len: usize) -> Result<(), TestCaseError> {
        let Some(ear) = self.ears.iter().find(|ear| ear.peer.number() == receiver) else {
            return Err(TestCaseError::fail(format!("there is no receiver {receiver} to be in the way")));
        };
        let held: usize = ear.model.iter().map(|message| generous(message.len())).sum();
        // What the receiver need not tell at once, padding at the end of the ring, and a message that it may have borrowed.
        let hidden = RING_BYTES / 8 + RING_BYTES / 4 + if self.trust { RECORD_MAX + 8 } else { 0 };
        let doubtful = self.abandoned || held + hidden + generous(len) > RING_BYTES;
        prop_assert!(doubtful, "{} bytes are in the way of {}", held, len);
        Ok(())
    }

    fn send(&mut self, len: usize) -> Result<(), TestCaseError> {
        let message = self.next(len);
        match self.sender.send_timeout(&message, Duration::ZERO) {
            Ok(Sent::Dropped { by }) => self.outcome(Ok(Sent::Dropped { by }), message),
            Ok(sent) => {
                let back = self.settle(&message)?;
                // Room was made by cutting off the last that would have read it.
                self.sent += u64::from(self.ears.is_empty() && !back.is_empty());
                self.push(sent, message)?;
                self.ears.extend(back);
                Ok(())
            }
            Err(SendTimeoutError::Timeout { receiver, .. }) => {
                prop_assert!(self.policy.starts_with("block"));
                // The first of several fragments may have been sent.
                self.abandoned |= len > RECORD_MAX;
                self.check_doubtful(receiver, len)
            }
            Err(error) => Err(TestCaseError::fail(error.to_string())),
        }
    }

    /// Lets those come back who were cut off by the last send. None was without need.
    fn settle(&mut self, message: &[u8]) -> Result<Vec<Ear>, TestCaseError> {
        let mut cut = Vec::new();
        while let Some(event) = self.sender.try_event() {
            let MemberEvent::Left(peer, CloseReason::TooSlow) = event else {
                return Err(TestCaseError::fail(format!("{event:?}")));
            };
            prop_assert_eq!(&self.policy, "disconnect");
            self.check_doubtful(peer.number(), RECORD_MAX)?;
            let at = self.ears.iter().position(|ear| ear.peer == peer).unwrap();
            cut.push(self.ears.swap_remove(at));
        }
        for ear in &mut cut {
            // It gets the message nevertheless if it had read everything, and only not said so.
            ear.model.push_back(message.to_vec());
            ear.hear_of_the_cut()?;
            let joined = broadcast::member_event(&mut self.sender);
            let MemberEvent::Joined(peer) = joined else {
                return Err(TestCaseError::fail(format!("{joined:?} instead of coming back")));
            };
            prop_assert_eq!(ear.receiver.wait_for_senders(1, DEADLINE), Ok(1));
            (ear.peer, ear.model) = (peer, VecDeque::new());
        }
        Ok(cut)
    }

    fn batch(&mut self, lens: &[usize]) -> Result<(), TestCaseError> {
        let batch: Vec<Vec<u8>> = lens.iter().map(|len| self.next(*len)).collect();
        let wanted = !self.ears.is_empty() || self.history > 0;
        match self.sender.try_send_batch(&batch) {
            Ok(0) if self.policy == "drop" && !batch.is_empty() && wanted => {
                self.dropped += 1;
                prop_assert!(!self.ears.is_empty());
                Ok(())
            }
            Ok(count) => {
                prop_assert!(count <= batch.len() && (count > 0 || batch.is_empty() || !wanted));
                let receivers = self.ears.len();
                let sent = if receivers == 0 { Sent::NoReceivers } else { Sent::To { receivers } };
                batch.into_iter().take(count).try_for_each(|message| self.push(sent, message))
            }
            Err(error) => self.outcome(Err(error), batch[0].clone()),
        }
    }

    fn receive(&mut self, which: usize) -> Result<(), TestCaseError> {
        let Some(ear) = self.ears.get_mut(which) else { return Ok(()) };
        match ear.receiver.try_recv() {
            Ok(message) => {
                let expected = ear.model.pop_front();
                prop_assert_eq!(Some(&*message), expected.as_deref());
            }
            Err(TryRecvError::Empty) => prop_assert!(ear.model.is_empty(), "{} are missing", ear.model.len()),
            Err(TryRecvError::Lagged(messages)) => ear.lose(&self.policy, messages)?,
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        }
        Ok(())
    }

    fn receive_batch(&mut self, which: usize, max: usize) -> Result<(), TestCaseError> {
        let Some(ear) = self.ears.get_mut(which) else { return Ok(()) };
        let mut got = Vec::new();
        match ear.receiver.try_recv_batch(max, |message| got.push(message.to_vec())) {
            Ok(count) => prop_assert!(count == got.len() && count <= max && (count > 0 || max == 0)),
            Err(TryRecvError::Empty) => prop_assert!(ear.model.is_empty() && got.is_empty()),
            Err(TryRecvError::Lagged(messages)) => {
                prop_assert!(got.is_empty());
                ear.lose(&self.policy, messages)?;
            }
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        }
        let expected: Vec<Vec<u8>> = ear.model.drain(..got.len().min(ear.model.len())).collect();
        prop_assert_eq!(got, expected);
        Ok(())
    }

    /// Everybody hears what is left for it, then the end.
    fn finish(self) -> Result<(), TestCaseError> {
        let Self { mut sender, ears, policy, sent, .. } = self;
        prop_assert_eq!(sender.receiver_count(), ears.len());
        prop_assert_eq!(sender.try_event(), None);
        prop_assert_eq!(sender.stats().sent_messages, sent);
        drop(sender);
        for mut ear in ears {
            loop {
                let event = ear.receiver.next_timeout(DEADLINE).unwrap();
                match event.expect("the end has not come") {
                    Event::Message(message) => {
                        let expected = ear.model.pop_front();
                        prop_assert_eq!(Some(&*message), expected.as_deref());
                    }
                    Event::Lagged { messages, .. } => ear.lose(&policy, messages)?,
                    Event::Left(_, reason) => {
                        prop_assert_eq!(reason, CloseReason::PeerClosed);
                        break;
                    }
                    Event::Joined(_) => {}
                    event => return Err(TestCaseError::fail(describe(&event))),
                }
            }
            prop_assert!(ear.model.is_empty(), "{} are missing", ear.model.len());
        }
        Ok(())
    }
}

impl Ear {
    /// So many messages are lost.
    fn lose(&mut self, policy: &str, messages: u64) -> Result<(), TestCaseError> {
        prop_assert_eq!(policy, "overwrite");
        prop_assert!(
            (1..=self.model.len() as u64).contains(&messages),
            "{} of {}",
            messages,
            self.model.len()
        );
        self.model.drain(..messages as usize);
        Ok(())
    }

    /// Receives what is still there, and then that it was cut off.
    fn hear_of_the_cut(&mut self) -> Result<(), TestCaseError> {
        loop {
            let event = self.receiver.next_timeout(DEADLINE).unwrap();
            match event.expect("the end has not come") {
                Event::Message(message) => {
                    let expected = self.model.pop_front();
                    prop_assert_eq!(Some(&*message), expected.as_deref());
                }
                Event::Joined(_) => {}
                Event::Left(_, reason) => {
                    prop_assert_eq!(reason, CloseReason::TooSlow);
                    return Ok(());
                }
                event => return Err(TestCaseError::fail(describe(&event))),
            }
        }
    }
}

/// Bytes of a message in the ring at most: headers, rounding, padding up to an alignment.
fn generous(len: usize) -> usize {
    len + 8 * (len / RECORD_MAX + 2) + 64
}

const RECEIVERS_MAX: usize = 4;
const RING_BYTES: usize = 16 << 10;
/// From so many bytes on no two messages are the same.
const LEN_MIN: usize = 8;
/// Payload of the largest record.
const RECORD_MAX: usize = RING_BYTES / 4 - 8;
