//! The reading end of a ring.

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
    pub(crate) consumed: SharedWord<Own>,
    /// The writer does not wait: check for overruns.
    pub(crate) overwrite: bool,
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
    /// The writer of an overwrite ring overtook us; so many bytes are lost, and reading goes on behind them.
    Lagged(u64),
}

impl Consumer {
    /// Makes the reading end that begins at `parts.start`.
    pub(crate) fn new(parts: ConsumerParts) -> Self {
        let head = parts.start;
        Self { parts, head, released: head }
    }

    /// Says whether anything, padding included, stands at our position.
    #[inline]
    pub(crate) fn is_ready(&self) -> bool {
        self.parts.ring.header(self.head) != 0
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
    /// nothing: go by [`poll`](Self::poll).
    #[inline(always)]
    pub(crate) fn poll_plain(&self, len_max: u64) -> Option<Record> {
        let word = self.parts.ring.header(self.head);
        let header = record::decode_plain(word, self.room(), self.parts.record_bytes_max)?;
        if u64::from(header.len) > len_max || self.parts.overwrite {
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
            } else if !self.parts.overwrite {
                return Ok(Polled::Empty);
            }
            if self.parts.overwrite && self.overrun() {
                return self.resume().map(Polled::Lagged);
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

    /// Appends the payload of a record of a lossless ring to `out` and passes on to the next.
    #[inline(always)]
    pub(crate) fn take_lossless(&mut self, record: Record, out: &mut Vec<u8>) {
        debug_assert!(!self.parts.overwrite);
        let copied = self.parts.ring.copy_out(record.payload, record.len, out);
        debug_assert!(copied, "the length was bounded by `poll` or `poll_plain`");
        crash::point("consumer.payload_copied");
        self.advance(record);
    }

    /// Appends the payload of a record to `out` and passes on to the next. `Err` carries the bytes lost when the
    /// writer of an overwrite ring overtook us meanwhile; `out` is then as it was.
    pub(crate) fn take(&mut self, record: Record, out: &mut Vec<u8>) -> Result<Result<(), u64>, Violation> {
        if !self.parts.overwrite {
            self.take_lossless(record, out);
            return Ok(Ok(()));
        }
        let before = out.len();
        let copied = self.parts.ring.copy_out(record.payload, record.len, out);
        debug_assert!(copied, "the length was bounded by `poll`");
        crash::point("consumer.payload_copied");
        if self.overrun() {
            out.truncate(before);
            return self.resume().map(Err);
        }
        self.advance(record);
        Ok(Ok(()))
    }

    /// Says whether payloads may be lent in place.
    pub(crate) fn lends(&self) -> bool {
        !self.parts.overwrite && self.parts.ring.is_trusted()
    }

    /// Lends the payload of a record in place; `None` unless the peer is trusted and the ring is lossless.
    #[inline]
    pub(crate) fn borrow(&self, record: &Record) -> Option<&[u8]> {
        if self.parts.overwrite {
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
            // Pairs with the load in `Producer::look_for_room`: everything before was copied out.
            self.parts.consumed.store_release(consumed);
        }
        self.released = self.head;
        crash::point("consumer.released");
        true
    }

    /// Says whether the writer has begun to overwrite what was just read at our position.
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

    /// Goes to the position published last, always a boundary, and returns how many bytes that skips.
    #[cold]
    fn resume(&mut self) -> Result<u64, Violation> {
        // Pairs with the store in `Producer::publish`.
        let seen = self.parts.published.load_acquire();
        // A writer cannot have overwritten what it has not published, so there is something to skip.
        if seen <= self.head || seen > POSITION_MAX || !seen.is_multiple_of(8) {
            return Err(Violation::Position { seen, last: self.head, published: seen });
        }
        let lost = seen - self.head;
        self.head = seen;
        Ok(lost)
    }
}

/// No ring has moved that many bytes; positions beyond are lies, and sums with lengths do not overflow below.
const POSITION_MAX: u64 = 1 << 62;
/// More padding records than this in a row are a violation.
const PADDING_RUN_MAX: usize = 2;
/// The consumer tells the producer at the latest when it has read this share of the ring.
const RELEASE_SHARE: u64 = 8;
