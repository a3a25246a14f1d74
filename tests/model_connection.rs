//! Random operations on a connection against a queue of vectors: both must hold the same messages at any time.
//!
//! The ring is as small as it gets, so that it is full, empty and at its end again and again. proptest prints the seed
//! of a case that fails and keeps it in `proptest-regressions`.
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

mod common;

use common::message;
use proptest::collection::vec;
use proptest::prelude::*;
use ringway::{CloseReason, Config, Connection, Receiver, Sender, TryRecvError, TrySendError};
use std::collections::VecDeque;
use std::time::Duration;

/// One step; lengths are of payloads in bytes.
#[derive(Debug, Clone)]
enum Step {
    TrySend(usize),
    /// A time-out of zero: fragments what is longer than a record.
    Send(usize),
    Batch(Vec<usize>),
    /// Claims the first, commits the second of it.
    Claim(usize, usize),
    /// Claims at a multiple of 2 to the power of the second.
    ClaimAligned(usize, u32),
    /// Claims, writes, and gives up.
    ClaimDropped(usize),
    Receive(usize),
    ReceiveBatch(usize),
}

/// Which half goes first at the end.
#[derive(Debug, Clone, Copy)]
enum End {
    SenderDropped,
    ReceiverDropped,
}

fn len() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 0..64_usize, 3 => 0..1500_usize, 2 => Just(RECORD_MAX), 1 => RECORD_MAX - 16..RECORD_MAX + 16]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => len().prop_map(Step::TrySend),
        2 => len().prop_map(Step::Send),
        1 => (RECORD_MAX..6 * RECORD_MAX).prop_map(Step::Send),
        2 => vec(len(), 0..20).prop_map(Step::Batch),
        2 => (len(), 0..=100_usize).prop_map(|(len, percent)| Step::Claim(len, len * percent / 100)),
        2 => (len(), 0..=6_u32).prop_map(|(len, power)| Step::ClaimAligned(len, power)),
        1 => len().prop_map(Step::ClaimDropped),
        4 => (0..12_usize).prop_map(Step::Receive),
        2 => (0..30_usize).prop_map(Step::ReceiveBatch),
    ]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![Just(End::SenderDropped), Just(End::ReceiverDropped)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_connection_is_a_queue(steps in vec(step(), 0..200), end in end(), trusting in any::<bool>()) {
        let _guard = common::hang_guard();
        let mut run = Run::new(trusting);
        for step in &steps {
            run.take(step)?;
        }
        run.finish(end)?;
    }
}

/// Found by the test above: the second time-out forgot that the first still owed its "abandon".
#[test]
fn two_fragmented_messages_that_timed_out_in_a_row_leave_a_connection_that_works() {
    let _guard = common::hang_guard();
    let (mut here, mut there) = ringway::pair(&Config::new().ring_bytes(RING_BYTES as u64)).unwrap();
    for _ in 0..3 {
        let given_up = here.send_timeout(&[0xee; 10 * RECORD_MAX], Duration::ZERO);
        assert_eq!(given_up, Err(ringway::SendTimeoutError::Timeout));
        // Full to the last byte, so that there is no room to say "abandon".
        while here.try_send(b"").is_ok() {}
    }
    while there.try_recv().is_ok() {}
    here.try_send(&message(1, 100)).unwrap();
    common::check(&there.recv().unwrap(), 1, 100);
    assert_eq!(there.stats().violations, 0);
}

/// Found by the test above: the debt of an "abandon" hid that the message can never be sent this way.
#[test]
fn a_message_longer_than_a_record_is_too_large_also_after_a_time_out() {
    let (mut here, mut there) = ringway::pair(&Config::new().ring_bytes(RING_BYTES as u64)).unwrap();
    // Shifts what follows by 8 bytes, so that three fragments fill the ring to the last byte.
    here.sender().try_claim_aligned(RECORD_MAX, 16).unwrap().commit();
    while there.try_recv().is_ok() {}
    let given_up = here.send_timeout(&[0xee; 3 * RECORD_MAX + 1], Duration::ZERO);
    assert_eq!(given_up, Err(ringway::SendTimeoutError::Timeout));
    assert_eq!(here.try_send(b""), Err(TrySendError::Full), "no room to say even \"abandon\"");
    let refused = here.try_send(&[0; RECORD_MAX + 1]);
    assert_eq!(refused, Err(TrySendError::TooLarge { len: RECORD_MAX + 1, max: RECORD_MAX }));
}

/// A connection beside its model.
struct Run {
    sending: Connection,
    receiving: Connection,
    model: VecDeque<Vec<u8>>,
    /// Messages made so far; the number of the next.
    made: u64,
    sent: u64,
    /// Fragments that will not be completed may be in the ring.
    abandoned: bool,
    /// Bytes that the receiver may keep until it takes the next message.
    lent_max: usize,
}

impl Run {
    fn new(trusting: bool) -> Self {
        let config = Config::new().ring_bytes(RING_BYTES as u64);
        // SAFETY: both ends are in this test, which never writes to a message after sending it.
        let config = if trusting { unsafe { config.trust_peer() } } else { config };
        let (sending, receiving) = ringway::pair(&config).unwrap();
        let lent_max = if trusting { RECORD_MAX + 8 } else { 0 };
        Self { sending, receiving, model: VecDeque::new(), made: 0, sent: 0, abandoned: false, lent_max }
    }

    fn next(&mut self, len: usize) -> Vec<u8> {
        self.made += 1;
        message(self.made, len)
    }

    fn push(&mut self, message: Vec<u8>) {
        self.model.push_back(message);
        self.sent += 1;
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::TrySend(len) => {
                let message = self.next(len);
                let result = self.sending.try_send(&message);
                self.outcome(result, message)
            }
            Step::Send(len) => self.send(len),
            Step::Batch(ref lens) => self.batch(lens),
            Step::Claim(len, used) => {
                let message = self.next(used);
                let claimed = self.sender().try_claim(len).map(|mut claim| {
                    claim[..used].copy_from_slice(&message);
                    claim[used..].fill(0xee);
                    claim.commit_len(used);
                });
                match claimed {
                    Err(TrySendError::TooLarge { .. }) if len > RECORD_MAX => Ok(()),
                    Err(TrySendError::Full) if self.abandoned || self.is_room_doubtful(len) => Ok(()),
                    claimed => self.outcome(claimed, message),
                }
            }
            Step::ClaimAligned(len, power) => {
                let message = self.next(len);
                let claimed = self.sender().try_claim_aligned(len, 1 << power).map(|mut claim| {
                    assert_eq!(claim.as_ptr() as usize % (1 << power), 0);
                    claim.copy_from_slice(&message);
                    claim.commit();
                });
                self.outcome(claimed, message)
            }
            Step::ClaimDropped(len) => {
                if let Ok(mut claim) = self.sender().try_claim(len) {
                    claim.fill(0xee);
                }
                Ok(())
            }
            Step::Receive(count) => {
                for _ in 0..count {
                    self.receive()?;
                }
                Ok(())
            }
            Step::ReceiveBatch(max) => self.receive_batch(max),
        }
    }

    fn sender(&mut self) -> &mut Sender {
        self.sending.sender()
    }

    fn receiver(&mut self) -> &mut Receiver {
        self.receiving.receiver()
    }

    /// Checks what came of sending one record, and takes it into the model.
    fn outcome(&mut self, result: Result<(), TrySendError>, message: Vec<u8>) -> Result<(), TestCaseError> {
        match result {
            Ok(()) => {
                prop_assert!(message.len() <= RECORD_MAX);
                self.push(message);
            }
            Err(TrySendError::Full) => {
                prop_assert!(message.len() <= RECORD_MAX);
                prop_assert!(
                    self.abandoned || self.is_room_doubtful(message.len()),
                    "full although there is room"
                );
            }
            Err(TrySendError::TooLarge { len, max }) => {
                prop_assert_eq!((len, max), (message.len(), RECORD_MAX));
                prop_assert!(len > RECORD_MAX);
            }
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        }
        Ok(())
    }

    /// Says whether what is in the ring, counted generously, leaves no room for a record.
    fn is_room_doubtful(&self, len: usize) -> bool {
        // Headers, rounding, and padding up to an alignment of 64.
        let generous = |len: usize| len + 8 * (len / RECORD_MAX + 2) + 64;
        let held: usize = self.model.iter().map(|message| generous(message.len())).sum();
        // What the receiver need not tell at once, and padding at the end of the ring.
        let hidden = RING_BYTES / 8 + RING_BYTES / 4 + self.lent_max;
        held + hidden + generous(len) > RING_BYTES
    }

    fn send(&mut self, len: usize) -> Result<(), TestCaseError> {
        let message = self.next(len);
        match self.sending.send_timeout(&message, Duration::ZERO) {
            Ok(()) => self.push(message),
            Err(ringway::SendTimeoutError::Timeout) => self.abandoned = true,
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        }
        Ok(())
    }

    fn batch(&mut self, lens: &[usize]) -> Result<(), TestCaseError> {
        let batch: Vec<Vec<u8>> = lens.iter().map(|len| self.next(*len)).collect();
        match self.sender().try_send_batch(&batch) {
            Ok(count) => {
                prop_assert!(count <= batch.len() && (count > 0 || batch.is_empty()));
                batch.into_iter().take(count).for_each(|message| self.push(message));
                Ok(())
            }
            Err(error) => self.outcome(Err(error), batch[0].clone()),
        }
    }

    fn receive(&mut self) -> Result<(), TestCaseError> {
        let expected = self.model.pop_front();
        match (self.receiving.try_recv(), expected) {
            (Ok(message), Some(expected)) => prop_assert_eq!(&*message, expected.as_slice()),
            (Err(TryRecvError::Empty), None) => self.abandoned = false,
            (got, expected) => {
                let got = got.map(|message| message.to_vec());
                return Err(TestCaseError::fail(format!("got {got:?} instead of {expected:?}")));
            }
        }
        Ok(())
    }

    fn receive_batch(&mut self, max: usize) -> Result<(), TestCaseError> {
        let mut got = Vec::new();
        let count = self.receiver().try_recv_batch(max, |bytes| got.push(bytes.to_vec()));
        let expected: Vec<Vec<u8>> = self.model.drain(..max.min(self.model.len())).collect();
        match count {
            Ok(count) => prop_assert_eq!(count, expected.len()),
            Err(TryRecvError::Empty) => prop_assert!(expected.is_empty() && max > 0),
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        }
        prop_assert_eq!(got, expected);
        Ok(())
    }

    fn finish(self, end: End) -> Result<(), TestCaseError> {
        let stats = self.sending.stats();
        prop_assert_eq!(stats.sent_messages, self.sent);
        let Self { sending, mut receiving, model, .. } = self;
        match end {
            End::SenderDropped => {
                drop(sending);
                for expected in model {
                    prop_assert_eq!(&*receiving.recv().unwrap(), expected.as_slice());
                }
                let end = receiving.recv().unwrap_err();
                prop_assert_eq!(end.reason(), &CloseReason::PeerClosed);
                prop_assert_eq!(receiving.stats().received_messages, stats.sent_messages);
            }
            End::ReceiverDropped => {
                drop(receiving);
                let (mut sender, mut receiver) = sending.split();
                let end = receiver.recv().unwrap_err();
                prop_assert_eq!(end.reason(), &CloseReason::PeerClosed);
                let refused = std::iter::repeat_with(|| sender.send(b"x")).find_map(Result::err);
                prop_assert_eq!(refused, Some(ringway::SendError::Closed(CloseReason::PeerClosed)));
            }
        }
        Ok(())
    }
}

const RING_BYTES: usize = 16 << 10;
/// Payload of the largest record.
const RECORD_MAX: usize = RING_BYTES / 4 - 8;
