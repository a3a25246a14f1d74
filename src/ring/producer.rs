//! The writing end of a ring.

use super::Mode;
use super::record::{self, Kind};
use crate::crash;
use crate::error::Violation;
use crate::primitive::{Ordering, fence};
use crate::shm::{Own, Peer, SharedBytes, SharedWord};

/// Makes sure that ring bytes `0..end` have memory behind them; `Err` carries `errno`.
pub(crate) type Allocate = Box<dyn FnMut(u64) -> Result<(), i32> + Send>;

/// What a [`Producer`] is made of: its ring, its line, and how the ring was created.
pub(crate) struct ProducerParts {
    pub(crate) ring: SharedBytes<Own>,
    pub(crate) published: SharedWord<Own>,
    pub(crate) intent: SharedWord<Own>,
    pub(crate) close: SharedWord<Own>,
    pub(crate) messages: SharedWord<Own>,
    pub(crate) messages_after: SharedWord<Own>,
    pub(crate) mode: Mode,
    /// Largest record, header included, in bytes.
    pub(crate) record_bytes_max: u64,
    /// Allocates memory ahead of the first lap; `None` when all of it is there.
    pub(crate) allocate: Option<Allocate>,
}

/// The writing end of a ring: claims room, fills it, makes it visible.
///
/// Everything it needs on the path of a message is private: its own position, and how far the slowest reader had come
/// when it last looked. It looks again only when the ring seems full.
pub(crate) struct Producer {
    parts: ProducerParts,
    readers: Vec<Reader>,
    /// Bytes published.
    tail: u64,
    /// End of the records that are written but not yet published; `tail` when there are none.
    staged: u64,
    /// Header that will be stored at `tail` to publish them; 0 when there are none.
    first: u64,
    /// Nothing may be written at or after this position: the slowest reader as last seen, plus the ring.
    limit: u64,
    /// Ring bytes that have memory behind them; `u64::MAX` when all have.
    allocated: u64,
    /// Up to here records need no look at anything: in this lap, announced, with memory behind them.
    straight: u64,
    /// Up to here the ring may be overwritten: readers that check were warned. Never goes back: what a dropped claim wrote
    /// is overwritten too. Where the writer waits it is at most `limit`.
    announced: u64,
    /// End of the record for which there was no room last.
    refused: u64,
    /// Messages ever counted.
    messages: u64,
}

/// Room for one record that nobody can see yet.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub(crate) struct Reservation {
    record: u64,
    len: usize,
}

/// Tells why there is no room for a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// Not until a reader has read on.
    Full,
    /// Never: payloads have at most `max` bytes.
    TooLarge { max: usize },
    /// The operating system has no memory for this part of the ring.
    NoMemory { errno: i32 },
    /// The reader with this number wrote a position that it cannot have reached.
    Reader { number: u64, violation: Violation },
}

/// How far a reader had read when the producer last looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReaderAt {
    pub(crate) number: u64,
    pub(crate) position: u64,
}

/// What the producer knows of one reader.
struct Reader {
    number: u64,
    consumed: SharedWord<Peer>,
    /// Position at which it joined; its word counts from there.
    start: u64,
    /// How far it had read when we last looked, counted from `start`.
    seen: u64,
}

impl Reader {
    fn position(&self) -> u64 {
        self.start + self.seen
    }
}

impl Reservation {
    /// Returns the position of the payload.
    pub(crate) fn payload(&self) -> u64 {
        self.record + record::RECORD_HEADER_BYTES
    }

    /// Returns the payload bytes that were asked for.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Producer {
    /// Makes the writing end of a fresh ring. Without readers only a batch as long as the ring is ever too much.
    pub(crate) fn new(parts: ProducerParts) -> Self {
        let allocated = if parts.allocate.is_some() { 0 } else { u64::MAX };
        let mut producer = Self {
            parts,
            readers: Vec::new(),
            tail: 0,
            staged: 0,
            first: 0,
            limit: 0,
            allocated,
            straight: 0,
            announced: 0,
            refused: 0,
            messages: 0,
        };
        producer.limit = producer.fresh_limit();
        producer
    }

    /// Adds a reader and returns where it starts: at our own tail, which is a record boundary.
    ///
    /// `consumed` is the word in the reader's own segment that says how many bytes it has read since then.
    pub(crate) fn add_reader(&mut self, number: u64, consumed: SharedWord<Peer>) -> u64 {
        self.add_reader_at(number, consumed, self.tail);
        self.tail
    }

    /// Adds a reader that starts at `start`: a record boundary that the ring still [holds](Self::holds).
    ///
    /// `consumed` as for [`add_reader`](Self::add_reader).
    pub(crate) fn add_reader_at(&mut self, number: u64, consumed: SharedWord<Peer>, start: u64) {
        assert!(self.staged == self.tail, "invariant: nobody joins inside a batch");
        assert!(
            start.is_multiple_of(8) && self.holds(start),
            "invariant: a start was looked up in this ring"
        );
        self.readers.push(Reader { number, consumed, start, seen: 0 });
        self.limit = self.fresh_limit();
        self.straight = self.fresh_straight();
    }

    /// Forgets a reader: it no longer holds anything up. One that still reads finds out by its checks, in a lossless ring
    /// not at all.
    pub(crate) fn remove_reader(&mut self, number: u64) {
        self.readers.retain(|reader| reader.number != number);
        self.limit = self.fresh_limit();
    }

    /// Returns all readers, and how far they had read when we last looked.
    pub(crate) fn readers(&self) -> impl Iterator<Item = ReaderAt> {
        self.readers.iter().map(|reader| ReaderAt { number: reader.number, position: reader.position() })
    }

    /// Returns those readers for which the last record had to wait that found the ring full.
    pub(crate) fn blockers(&self) -> impl Iterator<Item = ReaderAt> {
        let waits = self.parts.mode != Mode::Overwrite;
        let written = self.refused.saturating_sub(self.parts.ring.ring_bytes());
        self.readers().filter(move |reader| waits && reader.position < written)
    }

    /// Looks anew how far the readers have read.
    ///
    /// # Errors
    /// The number of a reader that wrote a position that it cannot have reached; those after it were not looked at.
    pub(crate) fn look(&mut self) -> Result<(), (u64, Violation)> {
        for reader in &mut self.readers {
            // Pairs with the store in `Consumer::release`: what the reader has copied out may be overwritten.
            let seen = reader.consumed.load_acquire();
            let published = self.tail - reader.start;
            if seen < reader.seen || seen > published || !seen.is_multiple_of(8) {
                return Err((reader.number, Violation::Position { seen, last: reader.seen, published }));
            }
            reader.seen = seen;
        }
        self.limit = self.fresh_limit();
        Ok(())
    }

    /// Returns the position of the next record to be published: all bytes ever published.
    pub(crate) fn tail(&self) -> u64 {
        self.tail
    }

    /// Says whether all that was published from `position` on is still in the ring, and will not be taken for lost.
    pub(crate) fn holds(&self, position: u64) -> bool {
        position <= self.tail && position + self.parts.ring.ring_bytes() >= self.announced
    }

    /// Counts messages that the next [`publish`](Self::publish) completes; readers of overwrite rings learn of them.
    #[inline(always)]
    pub(crate) fn count(&mut self, messages: u64) {
        self.messages += messages;
    }

    /// Returns how many messages were ever counted.
    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    /// Returns the end of what is written, published or not: a record boundary.
    pub(crate) fn staged(&self) -> u64 {
        self.staged
    }

    /// Returns the largest payload of one record, in bytes.
    pub(crate) fn payload_bytes_max(&self) -> usize {
        (self.parts.record_bytes_max - record::RECORD_HEADER_BYTES) as usize
    }

    /// Copies a message into the next room and chains it to what will be published next, where that takes no look at
    /// anything but private memory, as nearly always. `false`: nothing was done, go by [`reserve`](Self::reserve).
    #[inline(always)]
    pub(crate) fn append(&mut self, payload: &[u8]) -> bool {
        let next = self.staged + record::total_bytes(payload.len() as u64);
        if payload.len() > self.payload_bytes_max() || next > self.straight {
            return false;
        }
        crash::point("producer.reserved");
        self.parts.ring.copy_in(self.staged + record::RECORD_HEADER_BYTES, payload);
        crash::point("producer.payload_written");
        self.chain(self.staged, record::encode(Kind::Data, payload.len() as u32));
        self.staged = next;
        crash::point("producer.staged");
        true
    }

    /// Finds room for one record whose payload begins at a multiple of `align` (a power of two, at most 64).
    ///
    /// Wait-free; at most one load per reader, and only when the ring looks full. Writes nothing that readers of a
    /// lossless ring look at.
    #[inline]
    pub(crate) fn reserve(&mut self, len: usize, align: u64) -> Result<Reservation, NoRoom> {
        debug_assert!(align.is_power_of_two() && align <= 64);
        if len > self.payload_bytes_max() {
            return Err(NoRoom::TooLarge { max: self.payload_bytes_max() });
        }
        let record = self.place(record::total_bytes(len as u64), align);
        // The header after the record is zeroed when it is published, so it needs room too.
        let end = record + record::total_bytes(len as u64) + record::RECORD_HEADER_BYTES;
        if end > self.limit {
            self.look_for_room(end)?;
        }
        if end > self.allocated {
            self.allocate_ahead(end)?;
        }
        if end > self.announced {
            self.announce(end);
        }
        crash::point("producer.reserved");
        Ok(Reservation { record, len })
    }

    /// Returns the position of the next record: behind what is staged, aligned, and not across the end of the ring.
    #[inline]
    fn place(&self, total: u64, align: u64) -> u64 {
        let ring_bytes = self.parts.ring.ring_bytes();
        let aligned = |at: u64| (at + record::RECORD_HEADER_BYTES).next_multiple_of(align.max(8)) - 8;
        let record = aligned(self.staged);
        let index = self.staged & (ring_bytes - 1);
        if index + (record - self.staged) + total <= ring_bytes {
            return record;
        }
        aligned(self.staged - index + ring_bytes)
    }

    /// Copies a payload into reserved room.
    #[inline]
    pub(crate) fn write(&mut self, reservation: &Reservation, payload: &[u8]) {
        self.parts.ring.copy_in(reservation.payload(), payload);
        crash::point("producer.payload_written");
    }

    /// Lends reserved room for building the payload in place.
    #[cfg(not(loom))]
    pub(crate) fn claimed_mut(&mut self, reservation: &Reservation) -> &mut [u8] {
        self.parts.ring.window_mut(reservation.payload(), reservation.len)
    }

    /// Lends reserved room for reading what was built there.
    #[cfg(not(loom))]
    pub(crate) fn claimed(&self, reservation: &Reservation) -> &[u8] {
        self.parts.ring.window(reservation.payload(), reservation.len)
    }

    /// Chains a filled record to what will be published next; `len` may be less than was reserved.
    #[inline]
    pub(crate) fn stage(&mut self, reservation: Reservation, kind: Kind, len: usize) {
        debug_assert!(len <= reservation.len);
        if reservation.record != self.staged {
            self.stage_padding(reservation.record);
        }
        self.chain(reservation.record, record::encode(kind, len as u32));
        self.staged = reservation.record + record::total_bytes(len as u64);
        self.straight = self.fresh_straight();
        crash::point("producer.staged");
    }

    /// Fills the gap before a record: up to the end of the ring, then up to the alignment asked for.
    fn stage_padding(&mut self, record: u64) {
        let ring_bytes = self.parts.ring.ring_bytes();
        let mut at = self.staged;
        while at < record {
            let lap_end = (at & !(ring_bytes - 1)) + ring_bytes;
            let next = record.min(lap_end);
            let len = (next - at - record::RECORD_HEADER_BYTES) as u32;
            self.chain(at, record::encode(Kind::Padding, len));
            at = next;
        }
    }

    #[inline(always)]
    fn chain(&mut self, position: u64, header: u64) {
        if position == self.tail && !cfg!(weaken = "batch_first_early") {
            self.first = header;
        } else {
            self.first = if position == self.tail { header } else { self.first };
            // Relaxed inside: readers come here only through the first header, which is released last.
            self.parts.ring.stage_header(position, header);
        }
    }

    /// Makes everything staged visible at once: zeroes the header after it, then releases the first.
    #[inline(always)]
    pub(crate) fn publish(&mut self) {
        if self.first == 0 {
            return;
        }
        if !cfg!(weaken = "zero_after_publish") {
            self.parts.ring.stage_header(self.staged, 0);
        }
        crash::point("producer.zeroed");
        self.parts.ring.publish_header(self.tail, self.first);
        if cfg!(weaken = "zero_after_publish") {
            self.parts.ring.stage_header(self.staged, 0);
        }
        crash::point("producer.published");
        self.tail = self.staged;
        self.first = 0;
        if self.parts.mode == Mode::Overwrite {
            self.tell_published();
        }
    }

    /// Tells readers that were overrun where to go on, and how many messages there were before.
    fn tell_published(&self) {
        // Relaxed: the store of `published` orders it.
        self.parts.messages.store_relaxed(self.messages);
        if cfg!(weaken = "published_relaxed") {
            self.parts.published.store_relaxed(self.tail);
        } else {
            // Pairs with the load in `Consumer::published_at_once`: an overrun reader finds a boundary here.
            self.parts.published.store_release(self.tail);
        }
        if cfg!(weaken = "count_relaxed") {
            self.parts.messages_after.store_relaxed(self.messages);
        } else {
            // Pairs with the load in `Consumer::published_at_once`: who sees this number sees that boundary or a later one.
            self.parts.messages_after.store_release(self.messages);
        }
    }

    /// Says that nothing will be published any more. What is staged is dropped.
    pub(crate) fn close(&mut self) {
        self.first = 0;
        self.staged = self.tail;
        self.parts.published.store_relaxed(self.tail);
        // Pairs with the load in `Consumer::is_closed`: who sees it also sees every record before it.
        self.parts.close.store_release(1);
        crash::point("close.word_stored");
    }

    /// Announces what is about to be overwritten, before the first byte of it changes.
    ///
    /// Where the writer waits it does so in steps, so that readers mostly find the line unchanged, yet never beyond what
    /// it waits for: who is still waited for is not warned, who is not is warned before its bytes change.
    fn announce(&mut self, end: u64) {
        let ahead = end + self.parts.ring.ring_bytes() / ANNOUNCE_SHARE;
        self.announced = if self.parts.mode == Mode::Overwrite { end } else { self.limit.min(ahead) };
        if self.parts.mode == Mode::Lossless || cfg!(weaken = "cut_unannounced") {
            return;
        }
        if cfg!(weaken = "intent_relaxed") {
            self.parts.intent.store_relaxed(self.announced);
        } else {
            // Pairs with the load in `Consumer::overrun`: who is warned finds our last boundary in `published`.
            self.parts.intent.store_release(self.announced);
        }
        if !cfg!(weaken = "overrun_no_release") {
            // Release fence: pairs with the Acquire fence in `Consumer::overrun`; a reader that saw any byte
            // written after it also sees the intent.
            fence(Ordering::Release);
        }
    }

    #[cold]
    fn look_for_room(&mut self, end: u64) -> Result<(), NoRoom> {
        if self.parts.mode == Mode::Overwrite {
            self.limit = self.fresh_limit();
        } else {
            self.look().map_err(|(number, violation)| NoRoom::Reader { number, violation })?;
        }
        if end > self.limit {
            self.refused = end;
            return Err(NoRoom::Full);
        }
        Ok(())
    }

    fn fresh_limit(&self) -> u64 {
        let positions = self.readers.iter().map(Reader::position);
        let slowest = if cfg!(weaken = "waits_for_fastest") { positions.max() } else { positions.min() };
        // Who waits for nobody must still not pass itself within one batch.
        let oldest = slowest.filter(|_| self.parts.mode != Mode::Overwrite).unwrap_or(self.tail);
        oldest + self.parts.ring.ring_bytes()
    }

    fn fresh_straight(&self) -> u64 {
        if self.parts.mode == Mode::Overwrite {
            // Each record is announced before it is written.
            return 0;
        }
        let ring_bytes = self.parts.ring.ring_bytes();
        let lap_end = (self.staged & !(ring_bytes - 1)) + ring_bytes;
        // The header after the record is zeroed when it is published, so it needs room too.
        lap_end.min(self.announced.min(self.allocated).saturating_sub(record::RECORD_HEADER_BYTES))
    }

    /// Allocates and touches the whole ring from this thread, so near to its processor where the machine has several
    /// memory nodes. What fails now is tried again as the ring is written.
    #[cfg(not(loom))]
    pub(crate) fn prefault(&mut self) {
        let ring_bytes = self.parts.ring.ring_bytes();
        let Some(allocate) = &mut self.parts.allocate else { return };
        if allocate(ring_bytes).is_ok() {
            self.allocated = u64::MAX;
            self.parts.allocate = None;
            self.straight = self.fresh_straight();
            let _ = self.parts.ring.prefault();
        }
    }

    #[cold]
    fn allocate_ahead(&mut self, end: u64) -> Result<(), NoRoom> {
        let ring_bytes = self.parts.ring.ring_bytes();
        // Twice what is used, up to a limit: a first message should not wait for memory that others may never need.
        let ahead = end.clamp(ALLOCATE_STEP_BYTES, ALLOCATE_AHEAD_BYTES);
        let target = (end + ahead).next_multiple_of(ALLOCATE_STEP_BYTES).min(ring_bytes);
        if let Some(allocate) = &mut self.parts.allocate {
            allocate(target).map_err(|errno| NoRoom::NoMemory { errno })?;
        }
        self.allocated = target;
        if target == ring_bytes {
            self.allocated = u64::MAX;
            self.parts.allocate = None;
        }
        Ok(())
    }
}

/// During the first lap memory is made sure of at most this far ahead, so that its lack is an error and not a signal.
const ALLOCATE_AHEAD_BYTES: u64 = 64 << 10;
/// Memory comes in pages.
const ALLOCATE_STEP_BYTES: u64 = 4 << 10;
/// Where the writer waits, what is announced at once: less makes readers look more often, more leaves less of the past.
/// Modelled rings are too small to be shared out.
const ANNOUNCE_SHARE: u64 = if cfg!(loom) { 1 } else { 8 };
