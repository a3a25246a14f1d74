//! The receiving half of a connection.

use super::link::{Link, PeerCred};
use super::message::Message;
use super::readiness::Armed;
use crate::error::{CloseReason, RecvError, RecvTimeoutError, TryRecvError, Violation};
use crate::metrics::{ReceiveCounters, Stats};
use crate::ring::{Assembly, Consumer, Polled, Record, Step};
use crate::shm::{Peer, SharedWord};
use crate::wait::{Look, Parked, Sleeper, Spinner, Spun, Wait, Waker, pause};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The receiving half of a connection.
///
/// `Send`, not `Clone`: each message is received once. Whatever the peer writes into its memory, a message is copied
/// out completely or not delivered; a peer that breaks the protocol is disconnected and the reason says which rule.
///
/// Dropping it tells the peer that nobody will read any more.
#[must_use]
pub struct Receiver {
    pub(super) consumer: Consumer,
    pub(super) link: Arc<Link>,
    pub(super) parts: ReceiverParts,
    assembly: Assembly,
    /// The message taken last; private memory, reused.
    scratch: Vec<u8>,
    /// The record lent last: passed on from when the next is taken.
    lent: Option<Record>,
    /// The next record may be a message like most: nothing is lent, half assembled, or ended.
    plain: bool,
    /// Messages received when the ring was last found empty and waited for.
    seen_at_wait: u64,
    /// Looks in a row that found nothing, and messages received before them.
    misses: u32,
    seen_at_miss: u64,
    ended: Option<CloseReason>,
    /// A sleep was announced and nobody has looked at the doorbell since.
    pub(super) armed: bool,
}

/// What a receiver is made of beside ring and link.
pub(super) struct ReceiverParts {
    /// Wakes the peer's sender.
    pub(super) waker: Waker,
    /// Sleeps for data.
    pub(super) sleeper: Sleeper,
    pub(super) spinner: Spinner,
    pub(super) counters: ReceiveCounters,
    pub(super) patience: u32,
    pub(super) message_bytes_max: u64,
}

/// Where a message that was taken lies.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    Copied,
    Assembled,
    Lent(Record),
}

/// Why there is no message.
enum Nothing {
    Empty,
    Closed(CloseReason),
}

/// Why a wait ended without anything to look at.
pub(super) enum Stop {
    Timeout,
    Closed(CloseReason),
}

impl Receiver {
    pub(super) fn new(consumer: Consumer, link: Arc<Link>, parts: ReceiverParts) -> Self {
        let assembly = Assembly::new(parts.message_bytes_max);
        let mut receiver = Self {
            consumer,
            link,
            parts,
            assembly,
            scratch: Vec::new(),
            lent: None,
            plain: false,
            seen_at_wait: 0,
            misses: 0,
            seen_at_miss: 0,
            ended: None,
            armed: false,
        };
        receiver.plain = receiver.is_plain();
        receiver
    }

    /// Takes the next message if there is one.
    ///
    /// # Errors
    /// [`TryRecvError::Empty`]: nothing has arrived. [`TryRecvError::Closed`]: the connection has ended, and all that
    /// was committed before has been delivered.
    /// # Cost
    /// Wait-free: one load when there is nothing, one copy when there is (none after `trust_peer`). No system call
    /// while messages come (every 4,096th look in a row that finds nothing asks the kernel whether the peer lives). No
    /// allocation, unless a message is longer than any before, or came in fragments.
    #[inline]
    pub fn try_recv(&mut self) -> Result<Message<'_>, TryRecvError> {
        if self.take_plain() {
            return Ok(Message::copied(&self.scratch));
        }
        self.try_recv_any()
    }

    // Apart, so that the short path above is small enough to become part of the caller's loop: that is worth a third.
    #[inline(never)]
    fn try_recv_any(&mut self) -> Result<Message<'_>, TryRecvError> {
        let place = self.try_take_any()?;
        Ok(self.message(place))
    }

    /// Takes the next message, waiting as long as it takes.
    ///
    /// # Errors
    /// [`RecvError`]: the connection has ended, and all that was committed before has been delivered.
    /// # Cost
    /// As [`try_recv`](Self::try_recv) while messages come; then spins and sleeps as [`Wait`] says.
    #[inline]
    pub fn recv(&mut self) -> Result<Message<'_>, RecvError> {
        if self.take_plain() {
            return Ok(Message::copied(&self.scratch));
        }
        self.recv_any()
    }

    #[inline(never)]
    fn recv_any(&mut self) -> Result<Message<'_>, RecvError> {
        let place = self.take()?;
        Ok(self.message(place))
    }

    /// Takes the next message, waiting for at most `timeout`.
    ///
    /// # Errors
    /// [`RecvTimeoutError::Timeout`]: nothing came in time. [`RecvTimeoutError::Closed`] as for [`recv`](Self::recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Message<'_>, RecvTimeoutError> {
        // A time-out beyond the clock's range is none.
        self.recv_until(Instant::now().checked_add(timeout))
    }

    /// Takes the next message, waiting until `deadline`; else as [`recv_timeout`](Self::recv_timeout).
    ///
    /// # Errors
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<Message<'_>, RecvTimeoutError> {
        self.recv_until(Some(deadline))
    }

    /// Hands up to `messages_max` messages that are there now to `each`, and returns how many those were.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv), if there was not even one.
    /// # Cost
    /// As [`try_recv`](Self::try_recv).
    pub fn try_recv_batch(
        &mut self,
        messages_max: usize,
        mut each: impl FnMut(&[u8]),
    ) -> Result<usize, TryRecvError> {
        for count in 0..messages_max {
            match self.try_recv() {
                Ok(message) => each(&message),
                Err(error) if count == 0 => return Err(error),
                Err(_) => return Ok(count),
            }
        }
        Ok(messages_max)
    }

    /// Returns an iterator over owned messages that waits for each, and ends when the connection ends gracefully.
    ///
    /// Allocates a vector for each message; [`recv`](Self::recv) does not.
    pub fn messages(&mut self) -> Messages<'_> {
        Messages { receiver: self, ended: false }
    }

    /// Returns who is at the other end, as the kernel said at the handshake.
    pub fn peer_cred(&self) -> PeerCred {
        self.link.peer()
    }

    /// Returns what this side of the connection has done so far, both halves together.
    pub fn stats(&self) -> Stats {
        self.link.stats()
    }

    /// Says that nobody will read any more; the same as dropping it.
    pub fn close(self) {}

    fn recv_until(&mut self, deadline: Option<Instant>) -> Result<Message<'_>, RecvTimeoutError> {
        match self.next_until(deadline) {
            Ok(place) => Ok(self.message(place)),
            Err(Stop::Timeout) => Err(RecvTimeoutError::Timeout),
            Err(Stop::Closed(reason)) => Err(RecvTimeoutError::Closed(reason)),
        }
    }

    fn next_until(&mut self, deadline: Option<Instant>) -> Result<Place, Stop> {
        let mut waited = false;
        loop {
            if self.take_plain() {
                return Ok(Place::Copied);
            }
            match self.next() {
                Ok(place) => return Ok(place),
                Err(Nothing::Empty) => {
                    // Whatever woke us, records that make no message included, the deadline ends it.
                    if waited && deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        return Err(Stop::Timeout);
                    }
                    self.wait_for_data(deadline)?;
                    waited = true;
                }
                Err(Nothing::Closed(reason)) => return Err(Stop::Closed(reason)),
            }
        }
    }

    /// Takes the next message if there is one; [`message`](Self::message) shows it until the next is taken.
    #[cfg(feature = "tokio")]
    pub(crate) fn try_take(&mut self) -> Result<Place, TryRecvError> {
        if self.take_plain() {
            return Ok(Place::Copied);
        }
        self.try_take_any()
    }

    fn try_take_any(&mut self) -> Result<Place, TryRecvError> {
        self.next().map_err(|nothing| match nothing {
            Nothing::Empty => TryRecvError::Empty,
            Nothing::Closed(reason) => TryRecvError::Closed(reason),
        })
    }

    /// Takes the next message, waiting as long as it takes; see [`try_take`](Self::try_take).
    pub(crate) fn take(&mut self) -> Result<Place, RecvError> {
        self.next_until(None).map_err(|stop| match stop {
            Stop::Closed(reason) => RecvError(reason),
            Stop::Timeout => unreachable!("invariant: no deadline was given"),
        })
    }

    /// Shows the message that was taken last.
    #[inline]
    pub(crate) fn message(&self, place: Place) -> Message<'_> {
        match place {
            Place::Copied => Message::copied(&self.scratch),
            Place::Assembled => Message::copied(self.assembly.message()),
            Place::Lent(record) => Message::lent(self.consumer.borrow(&record).unwrap_or_default()),
        }
    }

    /// Copies the next record into the scratch where it is a message like most. `false`: nothing was done, go by
    /// [`next`](Self::next).
    #[inline(always)]
    fn take_plain(&mut self) -> bool {
        if !self.plain || !self.link.is_ours() {
            return false;
        }
        let Some(record) = self.consumer.poll_plain(self.parts.message_bytes_max) else { return false };
        self.scratch.clear();
        if !self.consumer.take_plain(record, &mut self.scratch) {
            return false;
        }
        self.release_if_owed();
        self.count(self.scratch.len());
        true
    }

    fn is_plain(&self) -> bool {
        !self.consumer.lends() && self.assembly.is_idle() && self.ended.is_none()
    }

    fn next(&mut self) -> Result<Place, Nothing> {
        let next = self.next_any();
        self.plain = self.is_plain();
        next
    }

    /// Takes records until a message is complete. Bounded: a peer that publishes for ever does not keep us here.
    fn next_any(&mut self) -> Result<Place, Nothing> {
        if !self.link.is_ours() {
            return Err(Nothing::Closed(CloseReason::Forked));
        }
        if let Some(reason) = &self.ended {
            return Err(Nothing::Closed(reason.clone()));
        }
        if let Some(record) = self.lent.take() {
            self.consumer.advance(record);
            self.release_if_owed();
        }
        for _ in 0..RECORDS_PER_CALL {
            match self.consumer.poll() {
                Ok(Polled::Record(record)) => {
                    let place = self.take_record(record).map_err(|violation| self.accuse(violation))?;
                    if let Some(place) = place {
                        return Ok(place);
                    }
                }
                Ok(Polled::Empty) => return Err(self.nothing()),
                Ok(Polled::Lagged(_) | Polled::Cut) => {
                    unreachable!("invariant: both rings of a connection wait for their reader")
                }
                Err(violation) => return Err(self.accuse(violation)),
            }
        }
        Err(Nothing::Empty)
    }

    fn take_record(&mut self, record: Record) -> Result<Option<Place>, Violation> {
        match self.assembly.step(record.kind, record.len)? {
            Step::Whole => Ok(self.take_whole(record)),
            Step::Part { last } => Ok(self.take_part(record, last)),
            Step::Void | Step::LostLast => {
                self.consumer.advance(record);
                Ok(None)
            }
        }
    }

    fn take_whole(&mut self, record: Record) -> Option<Place> {
        if self.consumer.borrow(&record).is_some() {
            self.count(record.len);
            self.lent = Some(record);
            return Some(Place::Lent(record));
        }
        self.scratch.clear();
        if !self.consumer.take(record, &mut self.scratch) {
            return None;
        }
        self.release_if_owed();
        self.count(record.len);
        Some(Place::Copied)
    }

    fn take_part(&mut self, record: Record, last: bool) -> Option<Place> {
        if !self.consumer.take(record, self.assembly.parts()) {
            return None;
        }
        self.release_if_owed();
        if !last {
            return None;
        }
        self.count(self.assembly.message().len());
        Some(Place::Assembled)
    }

    #[inline(always)]
    fn release_if_owed(&mut self) {
        if self.consumer.owes_release() {
            self.release();
        }
    }

    #[inline(always)]
    fn count(&mut self, bytes: usize) {
        self.parts.counters.messages.add(1);
        self.parts.counters.bytes.add(bytes as u64);
    }

    /// The ring is empty: tells the sender how far we are, and finds out whether this is the end.
    fn nothing(&mut self) -> Nothing {
        self.release();
        let seen = self.parts.counters.messages.get();
        self.misses = if seen == self.seen_at_miss { self.misses.wrapping_add(1) } else { 1 };
        self.seen_at_miss = seen;
        if self.misses.is_multiple_of(HEALTH_LOOKS) {
            self.link.look_after_peer();
        }
        // Read before the ring is looked at once more: what was committed before the end is delivered first.
        let closed = self.consumer.is_closed();
        if !closed && !self.link.is_hung_up() || self.consumer.is_ready() {
            return Nothing::Empty;
        }
        let reason = if closed { CloseReason::PeerClosed } else { self.link.died() };
        Nothing::Closed(self.ended.insert(reason).clone())
    }

    #[cold]
    fn accuse(&mut self, violation: Violation) -> Nothing {
        self.parts.counters.violations.add(1);
        self.link.disconnect();
        Nothing::Closed(self.ended.insert(CloseReason::Violation(violation)).clone())
    }

    #[inline(never)]
    pub(super) fn release(&mut self) {
        if self.consumer.release() && self.parts.waker.look() == Look::Ring {
            self.parts.counters.bells.add(1);
            self.link.ring_space();
        }
    }

    /// Says whether a look at the ring would bring news: a record, or the end.
    pub(super) fn is_ready(&self) -> bool {
        self.consumer.is_ready() || self.consumer.is_closed()
    }

    /// Says whether there is somebody to wait for: neither an end that was reported nor one that will be.
    pub(super) fn may_wait(&self) -> bool {
        self.link.is_fit() && self.ended.is_none()
    }

    /// Says whether the ring was found empty in the middle of a stream: then it is left alone for a while.
    fn ends_stream(&mut self) -> bool {
        let seen = self.parts.counters.messages.get();
        let streak = seen - std::mem::replace(&mut self.seen_at_wait, seen);
        streak >= STREAM_MESSAGES
    }

    fn wait_for_data(&mut self, deadline: Option<Instant>) -> Result<(), Stop> {
        let stream = self.ends_stream();
        if stream {
            pause(self.parts.patience);
        }
        let Self { consumer, link, parts, .. } = self;
        let ready = || consumer.is_ready() || consumer.is_closed();
        match parts.spinner.spin(deadline, stream, ready) {
            Spun::Ready => return Ok(()),
            Spun::TimedOut => return Err(Stop::Timeout),
            Spun::Exhausted if parts.spinner.wait() == Wait::Spin => {
                link.look_after_peer();
                return Ok(());
            }
            Spun::Exhausted => {}
        }
        if self.arm() == Armed::Ready {
            return Ok(());
        }
        let parked = self.link.park_for_data(deadline);
        self.parts.sleeper.disarm();
        self.armed = false;
        self.note(parked)
    }

    /// Takes note of what a look at the doorbell and the peer brought.
    pub(super) fn note(&mut self, parked: io::Result<Parked>) -> Result<(), Stop> {
        match parked {
            Ok(Parked::TimedOut) => Err(Stop::Timeout),
            Ok(Parked::Rung { bytes }) => {
                self.parts.counters.doorbell_bytes.add(bytes as u64);
                Ok(())
            }
            Ok(Parked::HungUp) => Ok(()),
            Err(error) => {
                let reason = CloseReason::Os { errno: error.raw_os_error().unwrap_or(0) };
                Err(Stop::Closed(self.ended.insert(reason).clone()))
            }
        }
    }

    /// Counts doorbell bytes that a worker drained for us.
    pub(super) fn count_doorbell(&mut self, bytes: usize) {
        self.parts.counters.doorbell_bytes.add(bytes as u64);
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// Leaves sleeping to a worker: the peer looks at the worker's line from now on.
    pub(super) fn delegate(&mut self, worker: u64) {
        self.parts.sleeper.delegate(worker);
    }

    /// Asks for no doorbell at all: nobody will look at the ring for a while.
    pub(super) fn look_away(&mut self) {
        self.parts.sleeper.disarm();
    }

    /// Views the word that changes when there is something to receive.
    pub(super) fn header_word(&self) -> SharedWord<Peer> {
        self.consumer.header_word()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if !self.link.is_ours() {
            return;
        }
        self.consumer.release();
        self.parts.sleeper.close();
        if !self.link.is_hung_up() {
            // Always: whoever sleeps for space must see that nobody will free any.
            self.link.ring_space();
        }
    }
}

/// Iterator over owned messages; see [`Receiver::messages`].
pub struct Messages<'a> {
    receiver: &'a mut Receiver,
    ended: bool,
}

impl Iterator for Messages<'_> {
    type Item = Result<Vec<u8>, RecvError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.receiver.recv() {
            Ok(message) => Some(Ok(message.to_vec())),
            Err(error) => {
                self.ended = true;
                (error.reason() != &CloseReason::PeerClosed).then_some(Err(error))
            }
        }
    }
}

/// Records taken by one call at most, so that fragments without end do not keep the caller.
const RECORDS_PER_CALL: usize = 64;
/// This many messages without a pause are a stream.
const STREAM_MESSAGES: u64 = 8;
/// Looks in a row that find nothing before the kernel is asked whether the peer lives.
const HEALTH_LOOKS: u32 = 4096;
