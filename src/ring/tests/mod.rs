//! Tests of the ring over real segments: one producer, any number of consumers, all in one process.
//!
//! Here is what every test needs: [`Rig`], a ring with its ends, and [`Forge`], the pen of a writer that lies.
#![allow(clippy::unwrap_used, reason = "clippy knows `cfg(test)` only, not `cfg(all(test, not(loom)))`")]

mod adversary;
mod claims;
mod crowd;
mod exhaustive;
mod hostile_reader;
mod model;
mod overwrite;
mod readers;
mod records;

use super::record::RECORD_HEADER_BYTES;
use super::*;
use crate::shm::layout::{self, RECORD_SHARE, RING_BYTES_MIN, feature};
use crate::shm::{Own, PeerSegment, Segment, SharedBytes, SharedWord};
use proptest::test_runner::Config;

/// Size of the ring in nearly every test.
const RING: u64 = RING_BYTES_MIN;
/// Largest record in it, header included.
const RECORD_MAX: u64 = RING / RECORD_SHARE;
/// Largest payload in it.
const PAYLOAD_MAX: usize = (RECORD_MAX - RECORD_HEADER_BYTES) as usize;

/// More records than the ring has room for.
const RECORDS_MAX: usize = (RING / RECORD_HEADER_BYTES) as usize;

/// One producer and its consumers, each with a segment of its own.
struct Rig {
    writer: Segment,
    producer: Producer,
    readers: Vec<Reader>,
    mode: Mode,
    joined: u64,
    staged: u64,
}

/// One consumer and the segment in which it says how far it has read.
struct Reader {
    number: u64,
    consumer: Consumer,
    own: Segment,
    start: u64,
    looks: u64,
}

/// What a consumer found, copied out.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Message(Vec<u8>),
    Empty,
    Lagged(Lag),
    Cut,
}

impl Rig {
    /// Makes a lossless ring.
    fn new(readers: usize) -> Self {
        Self::with(RING, Mode::Lossless, readers)
    }

    /// Makes a ring whose writer never waits.
    fn overwrite(readers: usize) -> Self {
        Self::with(RING, Mode::Overwrite, readers)
    }

    /// Makes a ring whose writer waits for those readers that it lists.
    fn checked(readers: usize) -> Self {
        Self::with(RING, Mode::Checked, readers)
    }

    fn with(ring_bytes: u64, mode: Mode, readers: usize) -> Self {
        let writer = Segment::connection(ring_bytes, features(mode)).unwrap();
        let producer = Producer::new(producer_parts(&writer, mode, None));
        let mut rig = Self { writer, producer, readers: Vec::new(), mode, joined: 0, staged: 0 };
        for _ in 0..readers {
            rig.join();
        }
        rig
    }

    /// Adds a reader at the producer's tail and returns that position.
    fn join(&mut self) -> u64 {
        let start = self.producer.tail();
        self.join_at(start);
        start
    }

    /// Adds a reader that starts at a position that the ring still holds.
    fn join_at(&mut self, start: u64) {
        let own = Segment::connection(RING, 0).unwrap();
        let peer = PeerSegment::connection(own.file(), RING, 0, false).unwrap();
        let number = self.joined;
        self.joined += 1;
        let consumed = peer.word(layout::consumer::CONSUMED);
        if start == self.producer.tail() {
            assert_eq!(self.producer.add_reader(number, consumed), start);
        } else {
            self.producer.add_reader_at(number, consumed, start);
        }
        let consumer = consumer(&self.writer, &own, self.mode, start);
        self.readers.push(Reader { number, consumer, own, start, looks: 0 });
    }

    /// Sends one message; `false` when the ring is full.
    fn send(&mut self, payload: &[u8]) -> bool {
        let staged = self.stage(payload);
        self.producer.count(staged.into());
        self.producer.publish();
        staged
    }

    /// Writes one message without making it visible; `false` when the ring is full.
    ///
    /// Every second one on the short path, where that is open, so that all tests mix the two.
    fn stage(&mut self, payload: &[u8]) -> bool {
        self.staged += 1;
        if self.staged.is_multiple_of(2) && self.producer.append(payload) {
            return true;
        }
        match self.producer.reserve(payload.len(), 8) {
            Ok(reservation) => {
                self.producer.write(&reservation, payload);
                self.producer.stage(reservation, Kind::Data, payload.len());
                true
            }
            Err(NoRoom::Full) => false,
            Err(error) => panic!("{error:?}"),
        }
    }

    /// Takes the next message of the first reader.
    fn receive(&mut self) -> Option<Vec<u8>> {
        self.readers[0].receive()
    }

    /// Returns the position of the next record. Lossless rings with room only.
    fn tail(&mut self) -> u64 {
        self.producer.reserve(0, 8).unwrap().payload() - RECORD_HEADER_BYTES
    }

    /// Brings the tail, and every reader, to the next position with this index. The ring must have been read empty.
    fn advance_to(&mut self, index: u64) {
        for _ in 0..64 {
            let tail = self.tail();
            let missing = index.wrapping_sub(tail) & (RING - 1);
            if missing == 0 {
                return;
            }
            let before_end = RING - (tail & (RING - 1));
            let total = missing.min(before_end).min(RECORD_MAX);
            let reservation = self.producer.reserve((total - RECORD_HEADER_BYTES) as usize, 8).unwrap();
            let len = reservation.len();
            self.producer.stage(reservation, Kind::Data, len);
            self.producer.publish();
            for reader in &mut self.readers {
                reader.skip();
            }
        }
        panic!("the tail never came to index {index}");
    }
}

impl Reader {
    /// Looks once, takes what is there, and tells the producer as a lazy reader does.
    fn find(&mut self) -> Found {
        self.looks += 1;
        if self.looks.is_multiple_of(3)
            && let Some(record) = self.consumer.poll_plain(RECORD_MAX)
        {
            let mut out = b"before".to_vec();
            let taken = self.consumer.take_plain(record, &mut out);
            return self.taken(taken, out);
        }
        match self.consumer.poll().unwrap() {
            Polled::Empty => {
                self.consumer.release();
                Found::Empty
            }
            Polled::Lagged(lag) => Found::Lagged(lag),
            Polled::Cut => Found::Cut,
            Polled::Record(record) => {
                assert_eq!(record.kind, Kind::Data);
                let mut out = b"before".to_vec();
                let taken = self.consumer.take(record, &mut out);
                self.taken(taken, out)
            }
        }
    }

    /// Checks what taking a record left, which was appended to `before`.
    fn taken(&mut self, taken: bool, mut out: Vec<u8>) -> Found {
        assert!(out.starts_with(b"before"), "whatever is taken is appended");
        if !taken {
            assert_eq!(out, b"before", "what was torn goes");
            let found = self.find();
            assert!(
                matches!(found, Found::Lagged(_) | Found::Cut),
                "nothing was taken, so there is a reason"
            );
            return found;
        }
        if self.consumer.owes_release() {
            self.consumer.release();
        }
        Found::Message(out.split_off(6))
    }

    fn receive(&mut self) -> Option<Vec<u8>> {
        match self.find() {
            Found::Message(message) => Some(message),
            Found::Empty => None,
            found @ (Found::Lagged(_) | Found::Cut) => panic!("{found:?}"),
        }
    }

    /// Reads everything there is.
    fn drain(&mut self) -> Vec<Vec<u8>> {
        let read: Vec<_> = std::iter::from_fn(|| self.receive()).take(RECORDS_MAX + 1).collect();
        assert!(read.len() <= RECORDS_MAX, "more than the ring holds");
        read
    }

    /// Passes over one record and tells the producer.
    fn skip(&mut self) {
        let Polled::Record(record) = self.consumer.poll().unwrap() else { panic!("nothing to skip") };
        self.consumer.advance(record);
        self.consumer.release();
    }

    /// How far the producer was told that this reader has read.
    fn told(&self) -> u64 {
        self.start + self.own.word(layout::consumer::CONSUMED).load_relaxed()
    }
}

/// A second pen on the segment of a writer: what a hostile process does to its own memory.
struct Forge {
    ring: SharedBytes<Own>,
    published: SharedWord<Own>,
    intent: SharedWord<Own>,
    close: SharedWord<Own>,
    messages: SharedWord<Own>,
    messages_after: SharedWord<Own>,
}

impl Forge {
    fn new(writer: &Segment) -> Self {
        Self {
            ring: writer.ring(),
            published: writer.word(layout::producer::PUBLISHED),
            intent: writer.word(layout::producer::INTENT),
            close: writer.word(layout::producer::CLOSE),
            messages: writer.word(layout::producer::MESSAGES),
            messages_after: writer.word(layout::producer::MESSAGES_AFTER),
        }
    }

    fn header(&self, position: u64, word: u64) {
        self.ring.publish_header(position, word);
    }
}

/// A segment that only a [`Forge`] writes, and what a consumer of it needs.
struct Forged {
    writer: Segment,
    own: Segment,
    mode: Mode,
    forge: Forge,
}

impl Forged {
    fn new(mode: Mode) -> Self {
        let writer = Segment::connection(RING, features(mode)).unwrap();
        let forge = Forge::new(&writer);
        Self { own: Segment::connection(RING, 0).unwrap(), writer, mode, forge }
    }

    fn consumer(&self, start: u64) -> Consumer {
        consumer(&self.writer, &self.own, self.mode, start)
    }
}

fn features(mode: Mode) -> u64 {
    if mode == Mode::Overwrite { feature::OVERWRITE } else { 0 }
}

fn producer_parts(writer: &Segment, mode: Mode, allocate: Option<Box<AllocateFn>>) -> ProducerParts {
    ProducerParts {
        ring: writer.ring(),
        published: writer.word(layout::producer::PUBLISHED),
        intent: writer.word(layout::producer::INTENT),
        close: writer.word(layout::producer::CLOSE),
        messages: writer.word(layout::producer::MESSAGES),
        messages_after: writer.word(layout::producer::MESSAGES_AFTER),
        mode,
        record_bytes_max: writer.ring_bytes() / RECORD_SHARE,
        allocate,
    }
}

fn consumer(writer: &Segment, own: &Segment, mode: Mode, start: u64) -> Consumer {
    let ring_bytes = writer.ring_bytes();
    let peer = PeerSegment::connection(writer.file(), ring_bytes, features(mode), true).unwrap();
    Consumer::new(ConsumerParts {
        ring: peer.ring(),
        published: peer.word(layout::producer::PUBLISHED),
        intent: peer.word(layout::producer::INTENT),
        close: peer.word(layout::producer::CLOSE),
        messages: peer.word(layout::producer::MESSAGES),
        messages_after: peer.word(layout::producer::MESSAGES_AFTER),
        consumed: own.word(layout::consumer::CONSUMED),
        mode,
        record_bytes_max: ring_bytes / RECORD_SHARE,
        start,
    })
}

/// A payload of `len` bytes that no other `seed` has.
fn payload(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Never zero and never small: a payload taken for a header is then noticed.
        bytes.extend_from_slice(&(state | 0x8080_8080_8080_8080).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Repeats what says whether it found room until it finds none; returns how often it did.
fn until_full(mut send: impl FnMut(u64) -> bool) -> u64 {
    let count = (0..=RECORDS_MAX as u64).find(|number| !send(*number));
    count.expect("the ring is full at some time")
}

/// Bytes that a record with this payload takes.
fn total(len: usize) -> u64 {
    RECORD_HEADER_BYTES + (len as u64).next_multiple_of(8)
}

/// Where a record goes: not across the end of the ring, its payload aligned.
fn place(staged: u64, len: usize, align: u64) -> u64 {
    let aligned = |at: u64| (at + 8).next_multiple_of(align) - 8;
    let here = aligned(staged);
    let lap_end = staged / RING * RING + RING;
    if here + total(len) <= lap_end { here } else { aligned(lap_end) }
}

/// A number of cases, and no files written beside the sources: a failure prints its smallest input.
fn cases(cases: u32) -> Config {
    Config { cases, failure_persistence: None, ..Config::default() }
}

type AllocateFn = dyn FnMut(u64) -> Result<(), i32> + Send;
