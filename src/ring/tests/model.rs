//! Random operations against plain queues.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};

/// One thing that a user of the ring may do.
#[derive(Debug, Clone)]
enum Op {
    Send(usize),
    Batch(Vec<(usize, u64)>),
    /// A claim that is filled and dropped.
    Abort(usize, u64),
    Aligned(usize, u64),
    /// A claim, and the share (of 256) of it that is committed.
    Shorter(usize, u8),
    Receive(u8, u8),
    Release(u8),
    /// Look, let the writer send these, then copy.
    Interleaved(u8, Vec<usize>),
    Join,
    Leave(u8),
}

fn len() -> impl Strategy<Value = usize> {
    prop_oneof![5 => 0..=64_usize, 3 => 64..1500_usize, 1 => PAYLOAD_MAX - 16..=PAYLOAD_MAX]
}

fn align() -> impl Strategy<Value = u64> {
    prop_oneof![Just(8), Just(16), Just(32), Just(64)]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => len().prop_map(Op::Send),
        2 => prop::collection::vec((len(), align()), 0..12).prop_map(Op::Batch),
        1 => (len(), align()).prop_map(|(len, align)| Op::Abort(len, align)),
        2 => (len(), align()).prop_map(|(len, align)| Op::Aligned(len, align)),
        1 => (len(), any::<u8>()).prop_map(|(len, share)| Op::Shorter(len, share)),
        6 => (any::<u8>(), 1..12_u8).prop_map(|(reader, count)| Op::Receive(reader, count)),
        2 => any::<u8>().prop_map(Op::Release),
        2 => (any::<u8>(), prop::collection::vec(len(), 0..8)).prop_map(|(reader, lens)| Op::Interleaved(reader, lens)),
        1 => Just(Op::Join),
        1 => any::<u8>().prop_map(Op::Leave),
    ]
}

/// A ring beside the queues that it should be equal to.
struct Lossless {
    rig: Rig,
    queues: Vec<VecDeque<Vec<u8>>>,
    /// Where the next record goes, published or not.
    staged: u64,
    /// Messages of the batch that is not published yet.
    batch: Vec<Vec<u8>>,
    /// Readers come and go.
    changes: bool,
    seed: u64,
}

impl Lossless {
    fn new(readers: usize, changes: bool) -> Self {
        let queues = vec![VecDeque::new(); readers];
        Self { rig: Rig::new(readers), queues, staged: 0, batch: Vec::new(), changes, seed: 0 }
    }

    /// Reserves, and checks that there is room exactly when there should be.
    fn reserve(&mut self, len: usize, align: u64) -> Option<Reservation> {
        let record = place(self.staged, len, align);
        let slowest = self.rig.readers.iter().map(Reader::told).min().unwrap();
        let fits = record + total(len) + 8 - slowest <= RING;
        match self.rig.producer.reserve(len, align) {
            Ok(reservation) => {
                assert!(fits, "room for {len} bytes that is not there");
                assert_eq!(reservation.payload(), record + 8);
                Some(reservation)
            }
            Err(error) => {
                assert_eq!((error, fits), (NoRoom::Full, false), "no room for {len} bytes");
                None
            }
        }
    }

    fn stage(&mut self, claimed: usize, align: u64, len: usize) {
        let Some(reservation) = self.reserve(claimed, align) else { return };
        self.seed += 1;
        let message = payload(self.seed, claimed);
        self.rig.producer.claimed_mut(&reservation).copy_from_slice(&message);
        self.staged = reservation.payload() - 8 + total(len);
        self.rig.producer.stage(reservation, Kind::Data, len);
        self.batch.push(message[..len].to_vec());
    }

    fn publish(&mut self) {
        self.rig.producer.publish();
        for queue in &mut self.queues {
            queue.extend(self.batch.iter().cloned());
        }
        self.batch.clear();
    }

    fn receive(&mut self, reader: usize) {
        let found = self.rig.readers[reader].receive();
        assert_eq!(found, self.queues[reader].pop_front(), "reader {reader}");
    }

    fn interleaved(&mut self, reader: usize, lens: &[usize]) {
        let polled = self.rig.readers[reader].consumer.poll().unwrap();
        for len in lens {
            self.stage(*len, 8, *len);
            self.publish();
        }
        if let Polled::Record(record) = polled {
            let mut out = Vec::new();
            assert!(self.rig.readers[reader].consumer.take(record, &mut out));
            assert_eq!(Some(out), self.queues[reader].pop_front(), "reader {reader}");
        }
    }

    fn apply(&mut self, op: &Op) {
        let readers = self.queues.len();
        match op {
            Op::Send(len) => self.stage(*len, 8, *len),
            Op::Aligned(len, align) => self.stage(*len, *align, *len),
            Op::Shorter(len, share) => self.stage(*len, 8, len * usize::from(*share) / 256),
            Op::Batch(records) => records.iter().for_each(|(len, align)| self.stage(*len, *align, *len)),
            Op::Abort(len, align) => {
                if let Some(reservation) = self.reserve(*len, *align) {
                    self.rig.producer.claimed_mut(&reservation).fill(0xff);
                }
            }
            Op::Receive(reader, count) => {
                (0..*count).for_each(|_| self.receive(usize::from(*reader) % readers));
            }
            Op::Release(reader) => {
                self.rig.readers[usize::from(*reader) % readers].consumer.release();
            }
            Op::Interleaved(reader, lens) => self.interleaved(usize::from(*reader) % readers, lens),
            Op::Join if self.changes && readers < 5 => {
                assert_eq!(self.rig.join(), self.staged, "a reader joins at the tail");
                self.queues.push(VecDeque::new());
            }
            Op::Leave(reader) if self.changes && readers > 1 => {
                let reader = usize::from(*reader) % readers;
                let gone = self.rig.readers.remove(reader);
                self.rig.producer.remove_reader(gone.number);
                self.queues.remove(reader);
            }
            Op::Join | Op::Leave(_) => {}
        }
        self.publish();
    }

    fn run(mut self, ops: &[Op]) {
        ops.iter().for_each(|op| self.apply(op));
        for (reader, queue) in self.rig.readers.iter_mut().zip(self.queues) {
            assert_eq!(reader.drain(), Vec::from(queue));
        }
    }
}

/// An overwrite ring beside a record of everything that was ever sent, by position.
struct Overwriting {
    rig: Rig,
    /// Where a record (with padding before it) begins: its header, its end, its message.
    sent: BTreeMap<u64, (u64, u64, Vec<u8>)>,
    heads: Vec<u64>,
    staged: u64,
    published: u64,
    /// End of everything that was ever lent for writing.
    dirty: u64,
    seed: u64,
}

impl Overwriting {
    fn new(readers: usize) -> Self {
        let rig = Rig::overwrite(readers);
        let heads = vec![0; readers];
        Self { rig, sent: BTreeMap::new(), heads, staged: 0, published: 0, dirty: 0, seed: 0 }
    }

    fn reserve(&mut self, len: usize, align: u64) -> Option<Reservation> {
        match self.rig.producer.reserve(len, align) {
            Ok(reservation) => {
                let record = place(self.staged, len, align);
                assert_eq!(reservation.payload(), record + 8);
                self.dirty = self.dirty.max(record + total(len) + 8);
                Some(reservation)
            }
            Err(error) => {
                assert_eq!(error, NoRoom::Full);
                assert!(self.staged > self.published, "only a batch may be too long");
                None
            }
        }
    }

    fn stage(&mut self, claimed: usize, align: u64, len: usize) {
        let Some(reservation) = self.reserve(claimed, align) else { return };
        self.seed += 1;
        let message = payload(self.seed, claimed);
        self.rig.producer.claimed_mut(&reservation).copy_from_slice(&message);
        let record = reservation.payload() - 8;
        let end = record + total(len);
        self.rig.producer.stage(reservation, Kind::Data, len);
        self.rig.producer.count(1);
        self.sent.insert(self.staged, (record, end, message[..len].to_vec()));
        self.staged = end;
    }

    fn publish(&mut self) {
        self.rig.producer.publish();
        self.published = self.staged;
    }

    fn is_overrun(&self, position: u64) -> bool {
        self.dirty > position + RING
    }

    /// Looks, lets the writer work, copies: what comes is what was sent at that position, or a lag to the tail.
    fn receive(&mut self, reader: usize, between: &[usize]) {
        let head = self.heads[reader];
        match self.rig.readers[reader].consumer.poll().unwrap() {
            Polled::Empty => {
                assert!(!self.is_overrun(head) && head == self.published, "reader {reader} at {head}");
            }
            Polled::Lagged(lag) => {
                assert!(self.is_overrun(head) && lag.bytes > 0, "reader {reader} at {head}: {lag:?}");
                self.heads[reader] = head + lag.bytes;
                assert_eq!(self.heads[reader], self.published);
                assert_eq!(lag.messages, self.sent.len() as u64);
            }
            Polled::Cut => panic!("cut off by a writer that never waits"),
            Polled::Record(found) => {
                assert!(!self.is_overrun(head) && head < self.published, "reader {reader} at {head}");
                for len in between {
                    self.stage(*len, 8, *len);
                    self.publish();
                }
                let (record, end, message) = &self.sent[&head];
                let mut out = Vec::new();
                if self.rig.readers[reader].consumer.take(found, &mut out) {
                    assert!(!self.is_overrun(*record));
                    assert_eq!(&out, message);
                    self.heads[reader] = *end;
                } else {
                    // The next look tells of it.
                    assert!(self.is_overrun(*record) && out.is_empty());
                    self.heads[reader] = *record;
                }
            }
        }
    }

    fn apply(&mut self, op: &Op) {
        let readers = self.heads.len();
        match op {
            Op::Send(len) => self.stage(*len, 8, *len),
            Op::Aligned(len, align) => self.stage(*len, *align, *len),
            Op::Shorter(len, share) => self.stage(*len, 8, len * usize::from(*share) / 256),
            Op::Batch(records) => records.iter().for_each(|(len, align)| self.stage(*len, *align, *len)),
            Op::Abort(len, align) => {
                if let Some(reservation) = self.reserve(*len, *align) {
                    self.rig.producer.claimed_mut(&reservation).fill(0xff);
                }
            }
            Op::Receive(reader, count) => {
                (0..*count).for_each(|_| self.receive(usize::from(*reader) % readers, &[]));
            }
            Op::Interleaved(reader, lens) => self.receive(usize::from(*reader) % readers, lens),
            Op::Release(reader) => {
                self.rig.readers[usize::from(*reader) % readers].consumer.release();
            }
            Op::Join if readers < 5 => {
                assert_eq!(self.rig.join(), self.published);
                self.heads.push(self.published);
            }
            Op::Join | Op::Leave(_) => {}
        }
        self.publish();
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn one_reader_gets_what_a_queue_would_give(ops in prop::collection::vec(op(), 1..200)) {
        Lossless::new(1, false).run(&ops);
    }

    #[test]
    fn three_readers_get_what_three_queues_would_give(ops in prop::collection::vec(op(), 1..200)) {
        Lossless::new(3, false).run(&ops);
    }

    #[test]
    fn readers_that_come_and_go_get_what_queues_would_give(ops in prop::collection::vec(op(), 1..200)) {
        Lossless::new(2, true).run(&ops);
    }

    #[test]
    fn overrun_readers_get_what_was_sent_at_their_position(ops in prop::collection::vec(op(), 1..200)) {
        let mut ring = Overwriting::new(2);
        ops.iter().for_each(|op| ring.apply(op));
        for reader in 0..ring.heads.len() {
            while ring.heads[reader] < ring.published {
                ring.receive(reader, &[]);
            }
        }
    }
}
