//! Random readers of every mode, who join (also in the past), leave, dawdle and are cut off, against plain queues.
//!
//! A queue is the list of all messages and a number: how many of them its reader has had, or was told that it lost.

use super::*;
use proptest::prelude::*;

/// One thing that the writer, or one of the readers, may do.
#[derive(Debug, Clone)]
enum Op {
    Send(usize),
    Batch(Vec<usize>),
    /// Begins a message of so many bytes in parts.
    Parts(usize),
    /// Sends so many parts more.
    GoOn(u8),
    GiveUp,
    /// A claim that is filled and dropped.
    Abort(usize),
    Receive(u8, u8),
    /// Look, let the writer send these, then copy.
    Interleaved(u8, Vec<usize>),
    Release(u8),
    /// Joins at the tail, or where the ring holds this share (of 256) of the past.
    Join(Option<u8>),
    Leave(u8),
    /// Is removed by the writer, and does not know.
    Cut(u8),
    Look,
}

fn len() -> impl Strategy<Value = usize> {
    prop_oneof![5 => 0..=64_usize, 4 => 64..1500_usize, 1 => PAYLOAD_MAX - 16..=PAYLOAD_MAX]
}

fn op() -> impl Strategy<Value = Op> {
    let reader = any::<u8>;
    prop_oneof![
        8 => len().prop_map(Op::Send),
        2 => prop::collection::vec(len(), 0..12).prop_map(Op::Batch),
        2 => (2..6 * PART_BYTES).prop_map(Op::Parts),
        3 => (1..8_u8).prop_map(Op::GoOn),
        1 => Just(Op::GiveUp),
        1 => len().prop_map(Op::Abort),
        8 => (reader(), 1..24_u8).prop_map(|(reader, count)| Op::Receive(reader, count)),
        3 => (reader(), prop::collection::vec(len(), 0..16)).prop_map(|(reader, lens)| Op::Interleaved(reader, lens)),
        2 => reader().prop_map(Op::Release),
        2 => prop::option::of(any::<u8>()).prop_map(Op::Join),
        1 => reader().prop_map(Op::Leave),
        1 => reader().prop_map(Op::Cut),
        1 => Just(Op::Look),
    ]
}

/// A ring, all that was ever sent in it, and how far each reader has come.
struct Crowd {
    rig: Rig,
    members: Vec<Member>,
    sent: Vec<Vec<u8>>,
    /// Positions at which a message begins, and the number of messages before.
    starts: Vec<(u64, u64)>,
    /// The message of which parts were sent, and how many bytes of it.
    half: Option<(Vec<u8>, usize)>,
    /// Where the next record goes, published or not.
    staged: u64,
    seed: u64,
}

/// What is known of the reader with the same index.
struct Member {
    assembly: Assembly,
    /// Messages that it had, was told that it lost, or were sent before it joined.
    had: u64,
    /// The writer counts it among its readers.
    listed: bool,
    /// It joined in the middle of the message that is half sent.
    in_half: bool,
    was_cut: bool,
    looks: u64,
}

impl Crowd {
    fn new(mode: Mode, readers: usize) -> Self {
        let rig = Rig::with(RING, mode, 0);
        let (members, sent, starts) = (Vec::new(), Vec::new(), Vec::new());
        let mut crowd = Self { rig, members, sent, starts, half: None, staged: 0, seed: 0 };
        (0..readers).for_each(|_| crowd.join(None));
        crowd
    }

    fn message(&mut self, len: usize) -> Vec<u8> {
        self.seed += 1;
        payload(self.seed, len)
    }

    /// Returns those for which a record that ends at `end` would have to wait.
    fn blockers(&self, end: u64) -> Vec<(u64, u64)> {
        let readers = self.rig.readers.iter().zip(&self.members);
        let listed = readers.filter(|(_, member)| member.listed && self.rig.mode != Mode::Overwrite);
        let places = listed.map(|(reader, _)| (reader.number, reader.told()));
        places.filter(|(_, told)| told + RING < end).collect()
    }

    /// Writes one record behind what is staged, and checks that there is room exactly when there should be.
    fn stage(&mut self, kind: Kind, bytes: &[u8]) -> bool {
        let record = place(self.staged, bytes.len(), 8);
        let end = record + total(bytes.len());
        let blockers = self.blockers(end + RECORD_HEADER_BYTES);
        self.seed += 1;
        if kind == Kind::Data && self.seed.is_multiple_of(2) && self.rig.producer.append(bytes) {
            assert_eq!((blockers, record), (vec![], self.staged));
            self.staged = end;
            return true;
        }
        match self.rig.producer.reserve(bytes.len(), 8) {
            Ok(reservation) => {
                assert_eq!((blockers, reservation.payload()), (vec![], record + RECORD_HEADER_BYTES));
                self.rig.producer.write(&reservation, bytes);
                self.rig.producer.stage(reservation, kind, bytes.len());
                self.staged = end;
                true
            }
            Err(error) => {
                assert_eq!(error, NoRoom::Full);
                // Where nobody is in the way, the batch is as long as the ring.
                assert!(!blockers.is_empty() || end + RECORD_HEADER_BYTES > self.rig.producer.tail() + RING);
                let named = self.rig.producer.blockers().map(|at| (at.number, at.position));
                assert_eq!(named.collect::<Vec<_>>(), blockers);
                false
            }
        }
    }

    /// Publishes what was staged; it completes these messages.
    fn publish(&mut self, messages: &mut Vec<Vec<u8>>) {
        if self.half.is_none() {
            self.starts.push((self.rig.producer.tail(), self.sent.len() as u64));
        }
        self.rig.producer.count(messages.len() as u64);
        self.rig.producer.publish();
        self.sent.append(messages);
        assert_eq!(self.rig.producer.messages(), self.sent.len() as u64);
        assert_eq!(self.rig.producer.tail(), self.staged);
    }

    /// Sends one message, or the next part of the one that is half sent.
    fn send(&mut self, len: usize) {
        if self.half.is_some() {
            self.go_on();
            return;
        }
        let message = self.message(len);
        if self.stage(Kind::Data, &message) {
            self.publish(&mut vec![message]);
        }
    }

    fn batch(&mut self, lens: &[usize]) {
        let mut batch = Vec::new();
        for len in lens {
            let message = self.message(*len);
            if !self.stage(Kind::Data, &message) {
                break;
            }
            batch.push(message);
        }
        self.publish(&mut batch);
    }

    /// Sends the next part of the message that is half sent.
    fn go_on(&mut self) {
        let Some((message, sent)) = self.half.take() else { return };
        let part = message[sent..].chunks(PART_BYTES).next().unwrap();
        let (first, last) = (sent == 0, sent + part.len() == message.len());
        let kind = match (first, last) {
            (true, _) => Kind::FragmentFirst,
            (_, true) => Kind::FragmentLast,
            _ => Kind::FragmentMiddle,
        };
        if !self.stage(kind, part) {
            // A message of which nothing was sent is not half sent.
            self.half = (!first).then_some((message, sent));
        } else if last {
            self.half = Some((Vec::new(), 0));
            self.publish(&mut vec![message]);
            self.end_half();
        } else {
            let sent = sent + part.len();
            if first {
                self.publish(&mut Vec::new());
                self.half = Some((message, sent));
            } else {
                self.half = Some((message, sent));
                self.publish(&mut Vec::new());
            }
        }
    }

    fn end_half(&mut self) {
        self.half = None;
        self.members.iter_mut().for_each(|member| member.in_half = false);
    }

    fn join(&mut self, share: Option<u8>) {
        let tail = self.rig.producer.tail();
        let number = self.sent.len() as u64;
        let held =
            self.starts.iter().filter(|(start, _)| self.rig.producer.holds(*start)).collect::<Vec<_>>();
        let past = share.and_then(|share| held.get(held.len() * usize::from(share) / 256));
        let in_half = past.is_none() && self.half.is_some();
        let (start, had) = past.map_or((tail, number + u64::from(in_half)), |past| **past);
        self.rig.join_at(start);
        let assembly = Assembly::joining(1 << 20);
        self.members.push(Member { assembly, had, listed: true, in_half, was_cut: false, looks: 0 });
    }

    /// Looks once, lets the writer send, takes what was there.
    fn receive(&mut self, reader: usize, between: &[usize]) {
        let member = &mut self.members[reader];
        let consumer = &mut self.rig.readers[reader].consumer;
        member.looks += 1;
        let plain = (member.looks.is_multiple_of(2) && member.assembly.is_idle())
            .then(|| consumer.poll_plain(RECORD_MAX))
            .flatten();
        match plain.map_or_else(|| consumer.poll().unwrap(), Polled::Record) {
            Polled::Record(record) => {
                // The short path does not check before the copy.
                assert!(!member.was_cut || plain.is_some(), "there is nothing after a cut");
                between.iter().for_each(|len| self.send(*len));
                self.take(reader, record);
            }
            Polled::Empty => {
                assert!(!member.was_cut, "there is nothing after a cut");
                assert_eq!(member.had, self.sent.len() as u64 + u64::from(member.in_half), "reader {reader}");
                consumer.release();
            }
            Polled::Lagged(lag) => {
                assert_eq!(self.rig.mode, Mode::Overwrite);
                assert_eq!(lag.messages, self.sent.len() as u64);
                assert!(lag.bytes > 0 && lag.messages >= member.had, "reader {reader}: {lag:?}");
                member.had = lag.messages;
                member.assembly.lose();
            }
            Polled::Cut => {
                assert_eq!((self.rig.mode, member.listed), (Mode::Checked, false));
                member.was_cut = true;
            }
        }
    }

    fn take(&mut self, reader: usize, record: Record) {
        let member = &mut self.members[reader];
        let consumer = &mut self.rig.readers[reader].consumer;
        let expected = self.sent.get(member.had as usize);
        match member.assembly.step(record.kind, record.len).unwrap() {
            Step::Whole => {
                let mut out = b"before".to_vec();
                if consumer.take_plain(record, &mut out) {
                    assert!(!member.was_cut, "there is nothing after a cut");
                    assert_eq!(Some(&out[6..]), expected.map(Vec::as_slice), "reader {reader}");
                    member.had += 1;
                } else {
                    assert_eq!(out, b"before");
                }
            }
            Step::Part { last } => {
                if consumer.take(record, member.assembly.parts()) && last {
                    assert_eq!(Some(member.assembly.message()), expected.map(Vec::as_slice));
                    member.had += 1;
                }
            }
            Step::Void => consumer.advance(record),
            Step::LostLast => {
                consumer.advance(record);
                member.had += 1;
            }
        }
        if consumer.owes_release() {
            consumer.release();
        }
    }

    fn leave(&mut self, reader: usize) {
        let gone = self.rig.readers.remove(reader);
        self.members.remove(reader);
        self.rig.producer.remove_reader(gone.number);
    }

    fn look(&mut self) {
        assert_eq!(self.rig.producer.look(), Ok(()));
        let seen = self.rig.producer.readers().map(|at| (at.number, at.position)).collect::<Vec<_>>();
        let readers = self.rig.readers.iter().zip(&self.members);
        let told =
            readers.filter(|(_, member)| member.listed).map(|(reader, _)| (reader.number, reader.told()));
        assert_eq!(seen, told.collect::<Vec<_>>());
    }

    fn apply(&mut self, op: &Op) {
        let readers = self.members.len();
        let chosen = |reader: &u8| usize::from(*reader) % readers;
        match op {
            Op::Send(len) => self.send(*len),
            Op::Batch(lens) if self.half.is_none() => self.batch(lens),
            Op::Parts(len) if self.half.is_none() => {
                self.half = Some((self.message(PART_BYTES + len), 0));
                self.go_on();
            }
            Op::GoOn(parts) => (0..*parts).for_each(|_| self.go_on()),
            // Nobody can tell those who joined in it that it was not completed.
            Op::GiveUp if self.half.is_some() && !self.members.iter().any(|member| member.in_half) => {
                if self.stage(Kind::Abandon, &[]) {
                    self.publish(&mut Vec::new());
                    self.end_half();
                }
            }
            Op::Abort(len) => {
                if let Ok(reservation) = self.rig.producer.reserve(*len, 8) {
                    self.rig.producer.claimed_mut(&reservation).fill(0xff);
                }
            }
            Op::Receive(reader, count) => (0..*count).for_each(|_| self.receive(chosen(reader), &[])),
            Op::Interleaved(reader, lens) => self.receive(chosen(reader), lens),
            Op::Release(reader) => drop(self.rig.readers[chosen(reader)].consumer.release()),
            // Who never waits sends a message in parts at once, so that nobody joins in one.
            Op::Join(share) if readers < 4 && (self.half.is_none() || self.rig.mode != Mode::Overwrite) => {
                self.join(*share);
            }
            Op::Leave(reader) if readers > 1 => self.leave(chosen(reader)),
            Op::Cut(reader) if self.rig.mode != Mode::Lossless => {
                self.members[chosen(reader)].listed = false;
                self.rig.producer.remove_reader(self.rig.readers[chosen(reader)].number);
            }
            Op::Look => self.look(),
            Op::Batch(_) | Op::Parts(_) | Op::GiveUp | Op::Join(_) | Op::Leave(_) | Op::Cut(_) => {}
        }
    }

    /// Lets everybody read to the end: every message came, or was told as lost; to who was cut off nothing was promised.
    fn finish(&mut self) {
        for reader in 0..self.members.len() {
            (0..RECORDS_MAX).for_each(|_| self.receive(reader, &[]));
            let member = &self.members[reader];
            let all = self.sent.len() as u64 + u64::from(member.in_half);
            assert!(member.was_cut || member.had == all, "reader {reader} has had {} of {all}", member.had);
        }
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn any_crowd_of_readers_gets_what_queues_would_give(
        mode in prop_oneof![Just(Mode::Lossless), Just(Mode::Checked), Just(Mode::Overwrite)],
        readers in 1..4_usize,
        ops in prop::collection::vec(op(), 1..300),
    ) {
        let mut crowd = Crowd::new(mode, readers);
        ops.iter().for_each(|op| crowd.apply(op));
        crowd.finish();
    }
}

/// Bytes of one part of a message that is sent in parts.
const PART_BYTES: usize = 1000;
