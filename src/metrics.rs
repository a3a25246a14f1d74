//! Statistics that cost nothing: plain words with one writer, no read-modify-write, always on.
//!
//! Each connection, and each reader of a sender, has a slot of four lines: one for who it is, one for the thread that
//! sends, one for the thread that receives, one reserved. A listening process has its slots in its endpoint segment, where
//! monitors can read them; the connecting side has its slot in the header of its own connection segment.

use crate::shm::layout::slot;
use crate::shm::{Own, SharedWord};

/// A counter that one thread writes and anybody may read.
pub(crate) struct Counter {
    word: SharedWord<Own>,
}

impl Counter {
    fn new(word: SharedWord<Own>) -> Self {
        Self { word }
    }

    /// Adds to it: a load and a store of our own line, no read-modify-write.
    #[inline(always)]
    pub(crate) fn add(&mut self, more: u64) {
        self.word.store_relaxed(self.get().wrapping_add(more));
    }

    /// Sets it to what is counted elsewhere: one store.
    #[inline(always)]
    pub(crate) fn set(&mut self, value: u64) {
        self.word.store_relaxed(value);
    }

    /// Returns it.
    #[inline(always)]
    pub(crate) fn get(&self) -> u64 {
        self.word.load_relaxed()
    }
}

/// Counters of the thread that sends.
pub(crate) struct SendCounters {
    pub(crate) messages: Counter,
    pub(crate) bytes: Counter,
    pub(crate) full: Counter,
    pub(crate) sleeps: Counter,
    pub(crate) bells: Counter,
    pub(crate) position: Counter,
    pub(crate) dropped_messages: Counter,
    pub(crate) cut_receivers: Counter,
}

/// Counters of the thread that receives.
pub(crate) struct ReceiveCounters {
    pub(crate) messages: Counter,
    pub(crate) bytes: Counter,
    pub(crate) sleeps: Counter,
    pub(crate) bells: Counter,
    pub(crate) doorbell_bytes: Counter,
    pub(crate) violations: Counter,
    pub(crate) lagged_bytes: Counter,
    pub(crate) lagged_messages: Counter,
}

/// How far a reader of our ring is, for monitors; written by whoever owns the slot.
pub(crate) struct ReaderCounters {
    pub(crate) consumed: Counter,
    pub(crate) joined_at: Counter,
}

/// What a slot is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SlotKind {
    /// A connection.
    Connection = 0,
    /// The sender or receiver of a route or channel that owns the table: its position, and its sums.
    Itself = 1,
    /// Somebody who reads its ring.
    Reader = 2,
    /// A sender whose ring it reads.
    Source = 3,
}

impl SlotKind {
    /// Reads a kind from its number.
    pub(crate) fn of(number: u64) -> Option<Self> {
        [Self::Connection, Self::Itself, Self::Reader, Self::Source]
            .into_iter()
            .find(|kind| *kind as u64 == number)
    }
}

/// The slot of one connection, for reading and for handing out its counters.
pub(crate) struct Slot {
    words: Box<dyn Fn(usize) -> SharedWord<Own> + Send + Sync>,
}

impl Slot {
    /// Makes a slot from what finds a word by its offset in the slot; clears it and says whose it is.
    pub(crate) fn new(
        words: impl Fn(usize) -> SharedWord<Own> + Send + Sync + 'static,
        connection: u64,
        peer_pid: u32,
        peer_uid: u32,
    ) -> Self {
        let slot = Self { words: Box::new(words) };
        slot.clear();
        (slot.words)(slot::PEER_PID).store_relaxed(peer_pid.into());
        (slot.words)(slot::PEER_UID).store_relaxed(peer_uid.into());
        (slot.words)(slot::CONNECTION).store_relaxed(connection);
        slot
    }

    /// Says what it is of; a fresh one is of a connection.
    pub(crate) fn set_kind(&self, kind: SlotKind) {
        (self.words)(slot::KIND).store_relaxed(kind as u64);
    }

    /// Hands out the counters of the sending thread. Once: each word has one writer.
    pub(crate) fn send_counters(&self) -> SendCounters {
        let counter = |offset| Counter::new((self.words)(offset));
        SendCounters {
            messages: counter(slot::SENT_MESSAGES),
            bytes: counter(slot::SENT_BYTES),
            full: counter(slot::FULL),
            sleeps: counter(slot::SPACE_SLEEPS),
            bells: counter(slot::DATA_BELLS),
            position: counter(slot::POSITION),
            dropped_messages: counter(slot::DROPPED),
            cut_receivers: counter(slot::CUT),
        }
    }

    /// Hands out the words that say how far a reader is. Once: each word has one writer.
    pub(crate) fn reader_counters(&self) -> ReaderCounters {
        let counter = |offset| Counter::new((self.words)(offset));
        ReaderCounters { consumed: counter(slot::CONSUMED), joined_at: counter(slot::JOINED_AT) }
    }

    /// Hands out the counters of the receiving thread. Once: each word has one writer.
    pub(crate) fn receive_counters(&self) -> ReceiveCounters {
        let counter = |offset| Counter::new((self.words)(offset));
        ReceiveCounters {
            messages: counter(slot::RECEIVED_MESSAGES),
            bytes: counter(slot::RECEIVED_BYTES),
            sleeps: counter(slot::DATA_SLEEPS),
            bells: counter(slot::SPACE_BELLS),
            doorbell_bytes: counter(slot::DOORBELL_BYTES),
            violations: counter(slot::VIOLATIONS),
            lagged_bytes: counter(slot::LAGGED_BYTES),
            lagged_messages: counter(slot::LAGGED_MESSAGES),
        }
    }

    /// Reads all counters; each by itself is exact, together they may be from slightly different moments.
    pub(crate) fn snapshot(&self) -> Stats {
        Stats::read(|offset| (self.words)(offset).load_relaxed())
    }

    /// Sets everything to zero, so that the slot is free for another connection.
    pub(crate) fn clear(&self) {
        for line in [slot::CONNECTION, slot::SENT_MESSAGES, slot::RECEIVED_MESSAGES] {
            for offset in (line..line + slot::LINE_USED).step_by(8) {
                (self.words)(offset).store_relaxed(0);
            }
        }
    }
}

/// What one side of a connection, or a member of a route or channel, has done so far.
///
/// Messages count once, also when they travelled as several fragments; bytes are payload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Messages put into the ring.
    pub sent_messages: u64,
    /// Payload bytes of those messages.
    pub sent_bytes: u64,
    /// How often there was no room.
    pub full: u64,
    /// How often the sender slept for room.
    pub space_sleeps: u64,
    /// How often the sender rang the peer's data doorbell.
    pub data_bells: u64,
    /// Bytes that a sender of a route or channel has ever published, headers and padding included; 0 for a connection.
    pub position: u64,
    /// Messages that were not sent because a receiver had no room and the policy says so.
    pub dropped_messages: u64,
    /// Receivers that were disconnected because they were too slow.
    pub cut_receivers: u64,
    /// Messages taken out of the peer's ring.
    pub received_messages: u64,
    /// Payload bytes of those messages.
    pub received_bytes: u64,
    /// How often the receiver slept for data.
    pub data_sleeps: u64,
    /// How often the receiver rang the peer's space doorbell.
    pub space_bells: u64,
    /// Doorbell bytes that arrived here; many more than sleeps means that the peer rings without need.
    pub doorbell_bytes: u64,
    /// 1 when the connection was ended because the peer broke the protocol.
    pub violations: u64,
    /// Bytes of an overwrite ring that were overwritten before they were read.
    pub lagged_bytes: u64,
    /// Messages that were lost to it because they were overwritten before it had read them.
    pub lagged_messages: u64,
}

impl Stats {
    /// Reads a slot by what finds a word of it.
    pub(crate) fn read(read: impl Fn(usize) -> u64) -> Self {
        Self {
            sent_messages: read(slot::SENT_MESSAGES),
            sent_bytes: read(slot::SENT_BYTES),
            full: read(slot::FULL),
            space_sleeps: read(slot::SPACE_SLEEPS),
            data_bells: read(slot::DATA_BELLS),
            position: read(slot::POSITION),
            dropped_messages: read(slot::DROPPED),
            cut_receivers: read(slot::CUT),
            received_messages: read(slot::RECEIVED_MESSAGES),
            received_bytes: read(slot::RECEIVED_BYTES),
            data_sleeps: read(slot::DATA_SLEEPS),
            space_bells: read(slot::SPACE_BELLS),
            doorbell_bytes: read(slot::DOORBELL_BYTES),
            violations: read(slot::VIOLATIONS),
            lagged_bytes: read(slot::LAGGED_BYTES),
            lagged_messages: read(slot::LAGGED_MESSAGES),
        }
    }

    /// Adds what another connection has done.
    pub(crate) fn add(&mut self, more: &Self) {
        self.sent_messages += more.sent_messages;
        self.sent_bytes += more.sent_bytes;
        self.full += more.full;
        self.space_sleeps += more.space_sleeps;
        self.data_bells += more.data_bells;
        self.position += more.position;
        self.dropped_messages += more.dropped_messages;
        self.cut_receivers += more.cut_receivers;
        self.received_messages += more.received_messages;
        self.received_bytes += more.received_bytes;
        self.data_sleeps += more.data_sleeps;
        self.space_bells += more.space_bells;
        self.doorbell_bytes += more.doorbell_bytes;
        self.violations += more.violations;
        self.lagged_bytes += more.lagged_bytes;
        self.lagged_messages += more.lagged_messages;
    }
}
