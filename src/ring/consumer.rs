//! The reading end of a ring.

use super::Mode;
use super::record::{self, Header, Kind};
use crate::crash;
use crate::error::Violation;
use crate::primitive::{Ordering, fence};
use crate::shm::{Own, Peer, SharedBytes, SharedWord};

/// What a [`Consumer`] is made of: the peer's ring and line, and the word in which we say how far we have read.
pub(crate) struct ConsumerParts {
    pub(crate) ring: SharedBytes<Peer>,
    pub(crate) published: SharedWord<Peer>,
    pub(crate) intent: SharedWord<Peer>,
    pub(crate) close: SharedWord<Peer>,
    pub(crate) messages: SharedWord<Peer>,
    pub(crate) messages_after: SharedWord<Peer>,
    pub(crate) consumed: SharedWord<Own>,
    pub(crate) mode: Mode,
    /// Largest record, header included, in bytes.
    pub(crate) record_bytes_max: u64,
    /// Position at which we joined: a multiple of 8 and bounded by whoever took it from the writer.
    pub(crate) start: u64,
}

/// The reading end of a ring. The peer may write anything at any time: every word is read once, bounded against
/// private values, then used, and no loop is longer than a bound of our own.
pub(crate) struct Consumer {
    parts: ConsumerParts,
    /// Position of the next record.
    head: u64,
    /// Position that the producer was last told.
    released: u64,
}

/// A record that may be read: its payload lies inside the ring whatever the peer does.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub(crate) struct Record {
    pub(crate) kind: Kind,
    /// Bytes of payload.
    pub(crate) len: usize,
    payload: u64,
    next: u64,
}

/// What a look at the ring brought.
#[derive(Debug)]
pub(crate) enum Polled {
    /// A record that is not padding.
    Record(Record),
    /// Nothing new.
    Empty,
    /// The writer of an overwrite ring overtook us; reading goes on behind what was lost.
    Lagged(Lag),
    /// The writer of a checked ring no longer waited for us and overtook us; there is nothing to go on with.
    Cut,
}

/// What an overrun cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lag {
    /// Bytes of the ring that were passed over.
    pub(crate) bytes: u64,
    /// Messages that the writer had ever published where reading goes on, as it says.
    pub(crate) messages: u64,
}

impl Consumer {
    /// Makes the reading end that begins at `parts.start`.
    pub(crate) fn new(parts: ConsumerParts) -> Self {
        let head = parts.start;
        Self { parts, head, released: head }
    }

    /// Says whether a look would bring news: anything, padding included, stands at our position, or we were overrun.
    #[inline]
    pub(crate) fn is_ready(&self) -> bool {
        // What overwrote our position may be a zero.
        self.parts.ring.header(self.head) != 0 || self.checks() && self.overrun()
    }

    /// Views the header word at our position by itself: it is zero until there is news.
    #[cfg(not(loom))]
    pub(crate) fn header_word(&self) -> SharedWord<Peer> {
        self.parts.ring.header_word(self.head)
    }

    /// Says whether the writer said that it will publish no more. If so, poll once more: records before it are visible.
    pub(crate) fn is_closed(&self) -> bool {
        // Pairs with the store in `Producer::close`.
        self.parts.close.load_acquire() != 0
    }

    /// Looks for the next record where that is a plain message of at most `len_max` bytes, as nearly always. `None` says
    /// nothing: go by [`poll`](Self::poll). Whether it was overwritten meanwhile is found out when it is taken.
    #[inline(always)]
    pub(crate) fn poll_plain(&self, len_max: u64) -> Option<Record> {
        let word = self.parts.ring.header(self.head);
        let header = record::decode_plain(word, self.room(), self.parts.record_bytes_max)?;
        if u64::from(header.len) > len_max {
            return None;
        }
        if !cfg!(weaken = "plain_no_acquire") {
            self.parts.ring.acquire();
        }
        crash::point("consumer.header_seen");
        Some(self.record(header))
    }

    /// Looks for the next record. Wait-free: one load when there is nothing.
    pub(crate) fn poll(&mut self) -> Result<Polled, Violation> {
        // A sender pads to the end of the ring and to an alignment, then comes a record: two in a row at most.
        for _ in 0..=PADDING_RUN_MAX {
            let word = self.parts.ring.header(self.head);
            if word != 0 {
                self.parts.ring.acquire();
                crash::point("consumer.header_seen");
            } else if !self.checks() {
                return Ok(Polled::Empty);
            }
            if self.checks() && self.overrun() {
                // There is no position to go on from where the writer waits for others.
                let resumes = self.parts.mode == Mode::Overwrite;
                return if resumes { self.resume().map(Polled::Lagged) } else { Ok(Polled::Cut) };
            }
            if word == 0 {
                return Ok(Polled::Empty);
            }
            let header = record::decode(word, self.room(), self.parts.record_bytes_max)?;
            if header.kind != Kind::Padding {
                return Ok(Polled::Record(self.record(header)));
            }
            self.head += header.total;
        }
        Err(Violation::Padding)
    }

    /// Returns the bytes from our position to the end of the ring.
    #[inline(always)]
    fn room(&self) -> u64 {
        let ring_bytes = self.parts.ring.ring_bytes();
        ring_bytes - (self.head & (ring_bytes - 1))
    }

    #[inline(always)]
    fn record(&self, header: Header) -> Record {
        let payload = self.head + record::RECORD_HEADER_BYTES;
        Record { kind: header.kind, len: header.len as usize, payload, next: self.head + header.total }
    }

    /// Says whether the writer may overtake us.
    #[inline(always)]
    fn checks(&self) -> bool {
        self.parts.mode != Mode::Lossless
    }

    /// Appends the payload of a record to `out` and passes on to the next. `false`: the writer overtook us meanwhile;
    /// nothing was taken, `out` is as it was, and [`poll`](Self::poll) says what to do.
    pub(crate) fn take(&mut self, record: Record, out: &mut Vec<u8>) -> bool {
        self.take_plain(record, out)
    }

    /// [Takes](Self::take) a record as part of the caller's loop.
    #[inline(always)]
    pub(crate) fn take_plain(&mut self, record: Record, out: &mut Vec<u8>) -> bool {
        let before = out.len();
        let copied = self.parts.ring.copy_out(record.payload, record.len, out);
        debug_assert!(copied, "the length was bounded by `poll` or `poll_plain`");
        crash::point("consumer.payload_copied");
        if self.checks() && self.overrun() {
            out.truncate(before);
            return false;
        }
        self.advance(record);
        true
    }

    /// Says whether payloads may be lent in place.
    pub(crate) fn lends(&self) -> bool {
        !self.checks() && self.parts.ring.is_trusted()
    }

    /// Lends the payload of a record in place; `None` unless the peer is trusted and the ring is lossless.
    #[inline]
    pub(crate) fn borrow(&self, record: &Record) -> Option<&[u8]> {
        if self.checks() {
            return None;
        }
        self.parts.ring.trusted(record.payload, record.len)
    }

    /// Passes on to the record after this one. The producer is told later, by [`release`](Self::release).
    #[inline(always)]
    pub(crate) fn advance(&mut self, record: Record) {
        self.head = record.next;
        crash::point("consumer.advanced");
    }

    /// Says whether enough was read that the producer should be told, without waiting for the ring to be empty.
    #[inline(always)]
    pub(crate) fn owes_release(&self) -> bool {
        self.head - self.released >= self.parts.ring.ring_bytes() / RELEASE_SHARE
    }

    /// Tells the producer how far we have read; `true` when that was news.
    #[inline]
    pub(crate) fn release(&mut self) -> bool {
        if self.head == self.released {
            return false;
        }
        let consumed = self.head - self.parts.start;
        if cfg!(weaken = "consumed_relaxed") {
            self.parts.consumed.store_relaxed(consumed);
        } else {
            // Pairs with the load in `Producer::look`: everything before was copied out.
            self.parts.consumed.store_release(consumed);
        }
        self.released = self.head;
        crash::point("consumer.released");
        true
    }

    /// Says whether the writer has begun to overwrite what was just read at our position.
    #[inline(always)]
    fn overrun(&self) -> bool {
        if !cfg!(weaken = "overrun_no_acquire") {
            // Acquire fence: pairs with the Release fence in `Producer::announce`; if anything read before was
            // written after it, the intent is seen too.
            fence(Ordering::Acquire);
        }
        // Pairs with the store in `Producer::announce`: the boundary to resume at is visible, too.
        let intent = self.parts.intent.load_acquire();
        intent.saturating_sub(self.head) > self.parts.ring.ring_bytes()
    }

    /// Goes to the position published last, always a boundary, and returns what that skips.
    #[cold]
    fn resume(&mut self) -> Result<Lag, Violation> {
        let (seen, messages) = self.published();
        // A writer cannot have overwritten what it has not published, so there is something to skip.
        if seen <= self.head || seen > POSITION_MAX || !seen.is_multiple_of(8) {
            return Err(Violation::Position { seen, last: self.head, published: seen });
        }
        let bytes = seen - self.head;
        self.head = seen;
        Ok(Lag { bytes, messages })
    }

    /// Reads the position published last and the number of messages before it. If the writer is always faster, the number
    /// is one of a little earlier.
    fn published(&self) -> (u64, u64) {
        let mut tries = 1;
        loop {
            let (seen, messages, agree) = self.published_at_once();
            if agree || tries == COUNT_TRIES {
                return (seen, messages);
            }
            tries += 1;
        }
    }

    /// Reads the position published last and a number of messages; says whether they belong together.
    ///
    /// The writer stores the number, the position, the number again. We read backwards: between two numbers that are the
    /// same there is a position to which they belong.
    pub(super) fn published_at_once(&self) -> (u64, u64, bool) {
        // Pairs with the store in `Producer::tell_published`: its position or a later one is seen.
        let messages = self.parts.messages_after.load_acquire();
        // Pairs with the store in `Producer::tell_published`: its number or a later one is seen.
        let seen = self.parts.published.load_acquire();
        (seen, messages, self.parts.messages.load_relaxed() == messages)
    }
}

/// No ring has moved that many bytes; positions beyond are lies, and sums with lengths do not overflow below.
const POSITION_MAX: u64 = 1 << 62;
/// More padding records than this in a row are a violation.
const PADDING_RUN_MAX: usize = 2;
/// The consumer tells the producer at the latest when it has read this share of the ring.
const RELEASE_SHARE: u64 = 8;
/// So often the number of messages is read before one is taken that may be a little old.
const COUNT_TRIES: u32 = if cfg!(loom) { 2 } else { 64 };
