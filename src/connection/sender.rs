//! The sending half of a connection.

use super::claim::Claim;
use super::link::{Link, PeerCred};
use super::readiness::Armed;
use crate::crash;
use crate::error::{CloseReason, SendError, SendTimeoutError, TrySendError};
use crate::metrics::{SendCounters, Stats};
use crate::ring::{Kind, NoRoom, Producer, Reservation};
use crate::wait::{Look, Parked, Sleeper, Spinner, Spun, Wait, Waker};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The sending half of a connection.
///
/// `Send`, not `Clone`: a ring has one writer. A send that succeeded means that the message is in the ring, in memory
/// that outlives this process; it does not mean that the peer has read it.
///
/// Dropping it tells the peer that no more will come; what was sent before is still delivered.
#[must_use]
pub struct Sender {
    pub(super) producer: Producer,
    pub(super) link: Arc<Link>,
    pub(super) parts: SenderParts,
    /// Fragments of a message were sent that will not be completed; the receiver must be told first.
    pub(super) owes_abandon: bool,
    ended: Option<CloseReason>,
    /// A sleep was announced and nobody has looked at the doorbell since.
    pub(super) armed: bool,
    /// Length of the message for which there was no room last.
    refused_len: usize,
}

/// What a sender is made of beside ring and link.
pub(super) struct SenderParts {
    /// Wakes the peer's receiver.
    pub(super) waker: Waker,
    /// Sleeps for space.
    pub(super) sleeper: Sleeper,
    pub(super) spinner: Spinner,
    pub(super) counters: SendCounters,
    pub(super) message_bytes_max: usize,
}

/// Why a send that may wait gave up.
pub(super) enum Stop {
    Timeout,
    TooLarge { len: usize, max: usize },
    NoMemory { errno: i32 },
    Closed(CloseReason),
}

impl Sender {
    pub(super) fn new(producer: Producer, link: Arc<Link>, parts: SenderParts) -> Self {
        Self { producer, link, parts, owes_abandon: false, ended: None, armed: false, refused_len: 0 }
    }

    /// Sends a message if there is room for it now.
    ///
    /// # Errors
    /// [`TrySendError::Full`]: no room; nothing of the message was taken. [`TrySendError::TooLarge`]: longer than one
    /// record, `record_bytes_max`; [`send`](Self::send) takes it in fragments. [`TrySendError::Closed`].
    /// # Cost
    /// Wait-free. No allocation; no system call while the peer is awake, except a `fallocate` for at most every 64 KiB in
    /// the first lap of the ring. One copy.
    #[inline]
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), TrySendError> {
        if self.append(message) {
            self.publish(1, message.len());
            return Ok(());
        }
        self.try_send_any(message)
    }

    #[inline(never)]
    fn try_send_any(&mut self, message: &[u8]) -> Result<(), TrySendError> {
        self.stage(message)?;
        self.publish(1, message.len());
        Ok(())
    }

    /// Sends a message, waiting for room as long as it takes.
    ///
    /// A message longer than a record travels in fragments and is put together by the receiver; it is delivered whole
    /// or not at all.
    ///
    /// # Errors
    /// [`SendError::TooLarge`]: longer than the receiver accepts. [`SendError::Closed`]: the peer is gone, or does not
    /// read any more.
    /// # Cost
    /// As [`try_send`](Self::try_send) while there is room; then spins and sleeps as [`Wait`] says.
    #[inline]
    pub fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        if self.append(message) {
            self.publish(1, message.len());
            return Ok(());
        }
        self.send_any(message)
    }

    #[inline(never)]
    fn send_any(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.send_until(message, None).map_err(|stop| match stop {
            Stop::TooLarge { len, max } => SendError::TooLarge { len, max },
            Stop::NoMemory { errno } => SendError::NoMemory { errno },
            Stop::Closed(reason) => SendError::Closed(reason),
            Stop::Timeout => unreachable!("invariant: no deadline was given"),
        })
    }

    /// Sends a message, waiting for room for at most `timeout`.
    ///
    /// # Errors
    /// [`SendTimeoutError::Timeout`]: nothing of the message will be delivered. Else as [`send`](Self::send).
    pub fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<(), SendTimeoutError> {
        // A time-out beyond the clock's range is none.
        let deadline = Instant::now().checked_add(timeout);
        self.send_until(message, deadline).map_err(Stop::into_timeout_error)
    }

    /// Sends a message, waiting for room until `deadline`; else as [`send_timeout`](Self::send_timeout).
    ///
    /// # Errors
    /// As [`send_timeout`](Self::send_timeout).
    pub fn send_deadline(&mut self, message: &[u8], deadline: Instant) -> Result<(), SendTimeoutError> {
        self.send_until(message, Some(deadline)).map_err(Stop::into_timeout_error)
    }

    /// Sends as many of `messages`, from the first on, as there is room for, and returns how many that were.
    ///
    /// They become visible at once, by one store: twice as fast as one by one at 32-64 bytes.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send), if not even the first could be sent.
    /// # Cost
    /// As [`try_send`](Self::try_send), but one look at the peer for the whole batch.
    pub fn try_send_batch<M: AsRef<[u8]>>(&mut self, messages: &[M]) -> Result<usize, TrySendError> {
        let (mut count, mut bytes) = (0, 0);
        for message in messages {
            let message = message.as_ref();
            if !self.append(message) {
                match self.stage(message) {
                    Ok(()) => {}
                    Err(error) if count == 0 => return Err(error),
                    Err(_) => break,
                }
            }
            count += 1;
            bytes += message.len();
        }
        self.publish(count as u64, bytes);
        Ok(count)
    }

    /// Sends all of `messages`, in batches as large as there is room for, waiting as long as it takes.
    ///
    /// # Errors
    /// As [`send`](Self::send); the messages before the one that failed were sent.
    pub fn send_batch<M: AsRef<[u8]>>(&mut self, mut messages: &[M]) -> Result<(), SendError> {
        while let Some(first) = messages.first() {
            match self.try_send_batch(messages) {
                Ok(count) => messages = &messages[count..],
                // Waits for room, or fragments.
                Err(TrySendError::Full | TrySendError::TooLarge { .. }) => {
                    self.send(first.as_ref())?;
                    messages = &messages[1..];
                }
                Err(TrySendError::NoMemory { errno }) => return Err(SendError::NoMemory { errno }),
                Err(TrySendError::Closed(reason)) => return Err(SendError::Closed(reason)),
            }
        }
        Ok(())
    }

    /// Claims room for a message of `len` bytes, to be built in place.
    ///
    /// The message stays invisible until [`Claim::commit`]; dropping the claim leaves no trace. What the bytes hold
    /// before they are written is unspecified: zeros, or what this side sent earlier.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send).
    /// # Examples
    /// ```
    /// let (mut here, mut there) = ringway::pair(&ringway::Config::new())?;
    /// let mut claim = here.sender().try_claim(4)?;
    /// claim.copy_from_slice(b"four");
    /// claim.commit();
    /// assert_eq!(&*there.recv()?, b"four");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_claim(&mut self, len: usize) -> Result<Claim<'_>, TrySendError> {
        self.try_claim_aligned(len, 1)
    }

    /// Claims room whose first byte lies at a multiple of `align`, for typed payloads read in place.
    ///
    /// # Panics
    /// If `align` is not a power of two of at most 64.
    /// # Errors
    /// As [`try_send`](Self::try_send).
    pub fn try_claim_aligned(&mut self, len: usize, align: usize) -> Result<Claim<'_>, TrySendError> {
        let allowed = align.is_power_of_two() && align as u64 <= CLAIM_ALIGN_MAX;
        assert!(allowed, "alignment {align} is not a power of two up to {CLAIM_ALIGN_MAX}");
        let reservation = self.try_reserve(len, align as u64)?;
        Ok(Claim::new(self, reservation))
    }

    /// Claims room for a message of `len` bytes, waiting as long as it takes; see [`try_claim`](Self::try_claim).
    ///
    /// # Errors
    /// [`SendError::TooLarge`]: longer than one record; claims are not fragmented. [`SendError::Closed`].
    pub fn claim(&mut self, len: usize) -> Result<Claim<'_>, SendError> {
        let reservation = self.reserve_until(len, 1, None).map_err(|stop| match stop {
            Stop::TooLarge { len, max } => SendError::TooLarge { len, max },
            Stop::NoMemory { errno } => SendError::NoMemory { errno },
            Stop::Closed(reason) => SendError::Closed(reason),
            Stop::Timeout => unreachable!("invariant: no deadline was given"),
        })?;
        Ok(Claim::new(self, reservation))
    }

    /// Claims room for a message of `len` bytes, waiting for at most `timeout`; see [`try_claim`](Self::try_claim).
    ///
    /// # Errors
    /// [`SendTimeoutError::Timeout`], else as [`claim`](Self::claim).
    pub fn claim_timeout(&mut self, len: usize, timeout: Duration) -> Result<Claim<'_>, SendTimeoutError> {
        let deadline = Instant::now().checked_add(timeout);
        let reservation = self.reserve_until(len, 1, deadline).map_err(Stop::into_timeout_error)?;
        Ok(Claim::new(self, reservation))
    }

    /// Returns the longest message that fits into one record, in bytes: a quarter of the ring less 8, or what the
    /// receiver accepts if that is less.
    pub fn record_bytes_max(&self) -> usize {
        self.producer.payload_bytes_max().min(self.parts.message_bytes_max)
    }

    /// Returns the longest message that the receiver accepts, in bytes.
    pub fn message_bytes_max(&self) -> usize {
        self.parts.message_bytes_max
    }

    /// Returns who is at the other end, as the kernel said at the handshake.
    pub fn peer_cred(&self) -> PeerCred {
        self.link.peer()
    }

    /// Returns what this side of the connection has done so far, both halves together.
    pub fn stats(&self) -> Stats {
        self.link.stats()
    }

    /// Says that no more will come; the same as dropping it.
    pub fn close(self) {}

    /// Writes a message behind what is staged, where that needs no look around; `false`: nothing was done.
    #[inline(always)]
    fn append(&mut self, message: &[u8]) -> bool {
        self.link.is_fit()
            && self.ended.is_none()
            && !self.owes_abandon
            && message.len() <= self.parts.message_bytes_max
            && self.producer.append(message)
    }

    /// Writes a message behind what is staged if there is room for it.
    fn stage(&mut self, message: &[u8]) -> Result<(), TrySendError> {
        let reservation = self.try_reserve(message.len(), 1)?;
        self.producer.write(&reservation, message);
        self.producer.stage(reservation, Kind::Data, message.len());
        Ok(())
    }

    /// Returns how many messages were sent; 0 in a child made by fork, where the counter is not mapped.
    pub(super) fn sent_messages(&self) -> u64 {
        if self.link.is_ours() { self.parts.counters.messages.get() } else { 0 }
    }

    /// Allocates and touches the ring from this thread.
    pub(super) fn prefault(&mut self) {
        self.producer.prefault();
    }

    /// Says whether there is room now for the message that was refused last, or nobody left to make any.
    pub(super) fn has_room(&mut self) -> bool {
        // Aligned as far as any claim may ask for: what is reported as room must be enough.
        is_worth_a_try(&mut self.producer, &self.parts.waker, self.refused_len, CLAIM_ALIGN_MAX)
    }

    /// Asks the receiver to ring "there is space", unless it was asked already, and looks once more. `true`: there is
    /// room; else the space doorbell will ring.
    pub(super) fn await_room(&mut self) -> bool {
        if !self.parts.sleeper.is_armed() {
            self.parts.sleeper.arm();
        }
        self.has_room()
    }

    /// Takes back what [`await_room`](Self::await_room) asked for.
    pub(super) fn forget_room(&mut self) {
        self.parts.sleeper.disarm();
    }

    fn send_until(&mut self, message: &[u8], deadline: Option<Instant>) -> Result<(), Stop> {
        if message.len() > self.parts.message_bytes_max {
            return Err(Stop::TooLarge { len: message.len(), max: self.parts.message_bytes_max });
        }
        if message.len() > self.producer.payload_bytes_max() {
            return self.send_fragments(message, deadline);
        }
        let reservation = self.reserve_until(message.len(), 1, deadline)?;
        self.producer.write(&reservation, message);
        self.producer.stage(reservation, Kind::Data, message.len());
        self.publish(1, message.len());
        Ok(())
    }

    /// Asks whether sending makes sense, the kernel included.
    ///
    /// # Errors
    /// Why not.
    #[cfg(feature = "rpc")]
    pub(crate) fn look_after_peer(&mut self) -> Result<(), CloseReason> {
        self.link.look_after_peer();
        self.check_reader()
    }

    pub(super) fn try_reserve(&mut self, len: usize, align: u64) -> Result<Reservation, TrySendError> {
        self.check().map_err(TrySendError::Closed)?;
        if len > self.parts.message_bytes_max {
            return Err(TrySendError::TooLarge { len, max: self.record_bytes_max() });
        }
        if self.owes_abandon {
            if len > self.producer.payload_bytes_max() {
                return Err(TrySendError::TooLarge { len, max: self.record_bytes_max() });
            }
            self.pay_abandon()?;
        }
        self.producer.reserve(len, align).map_err(|no_room| self.refuse(no_room, len))
    }

    /// Turns a missing room into what the caller is told.
    #[cold]
    pub(super) fn refuse(&mut self, no_room: NoRoom, len: usize) -> TrySendError {
        match no_room {
            NoRoom::Full => {
                self.parts.counters.full.add(1);
                self.refused_len = len;
                TrySendError::Full
            }
            NoRoom::TooLarge { max } => {
                TrySendError::TooLarge { len, max: max.min(self.parts.message_bytes_max) }
            }
            NoRoom::NoMemory { errno } => TrySendError::NoMemory { errno },
            NoRoom::Reader { violation, .. } => {
                self.link.disconnect();
                TrySendError::Closed(self.end(CloseReason::Violation(violation)))
            }
        }
    }

    /// Sends the first `len` bytes of claimed room.
    pub(super) fn commit(&mut self, reservation: Reservation, len: usize) {
        // A claim from before a fork ends here: the child has no mapping to write to.
        if self.link.is_ours() {
            self.producer.stage(reservation, Kind::Data, len);
            self.publish(1, len);
        }
    }

    /// Makes staged messages visible, wakes the receiver if it sleeps, and counts.
    #[inline(always)]
    pub(super) fn publish(&mut self, messages: u64, bytes: usize) {
        self.producer.publish();
        match self.parts.waker.look() {
            Look::Awake => {}
            Look::Ring => self.ring(),
            Look::Closed => {
                self.end(CloseReason::PeerClosed);
            }
        }
        self.parts.counters.messages.add(messages);
        self.parts.counters.bytes.add(bytes as u64);
    }

    #[cold]
    fn ring(&mut self) {
        self.parts.counters.bells.add(1);
        self.link.ring_data();
        crash::point("producer.rung");
    }

    /// Says whether sending makes sense at all.
    fn check(&mut self) -> Result<(), CloseReason> {
        if !self.link.is_ours() {
            return Err(CloseReason::Forked);
        }
        if self.ended.is_some() || self.link.is_hung_up() {
            return Err(self.reason());
        }
        Ok(())
    }

    /// Says whether anybody will read, which a send by itself finds out only afterwards.
    pub(crate) fn check_reader(&mut self) -> Result<(), CloseReason> {
        self.check()?;
        if self.parts.waker.is_closed() {
            return Err(self.end(CloseReason::PeerClosed));
        }
        Ok(())
    }

    #[cold]
    fn reason(&mut self) -> CloseReason {
        if let Some(reason) = &self.ended {
            return reason.clone();
        }
        let graceful = self.parts.waker.is_closed();
        let reason = if graceful { CloseReason::PeerClosed } else { self.link.died() };
        self.end(reason)
    }

    fn end(&mut self, reason: CloseReason) -> CloseReason {
        self.ended.get_or_insert(reason).clone()
    }

    pub(super) fn reserve_until(
        &mut self,
        len: usize,
        align: u64,
        deadline: Option<Instant>,
    ) -> Result<Reservation, Stop> {
        let mut waited = false;
        loop {
            match self.try_reserve(len, align) {
                Ok(reservation) => return Ok(reservation),
                // Whatever woke us, false alarms included, the deadline ends it.
                Err(TrySendError::Full) if waited && is_over(deadline) => return Err(Stop::Timeout),
                Err(TrySendError::Full) => {
                    self.wait_for_room(len, align, deadline)?;
                    waited = true;
                }
                Err(TrySendError::TooLarge { len, max }) => return Err(Stop::TooLarge { len, max }),
                Err(TrySendError::NoMemory { errno }) => return Err(Stop::NoMemory { errno }),
                Err(TrySendError::Closed(reason)) => return Err(Stop::Closed(reason)),
            }
        }
    }

    fn wait_for_room(&mut self, len: usize, align: u64, deadline: Option<Instant>) -> Result<(), Stop> {
        let Self { producer, link, parts, .. } = self;
        let ready = || is_worth_a_try(producer, &parts.waker, len, align);
        match parts.spinner.spin(deadline, true, ready) {
            Spun::Ready => return self.check_room(),
            Spun::TimedOut => return Err(Stop::Timeout),
            Spun::Exhausted if parts.spinner.wait() == Wait::Spin => {
                link.look_after_peer();
                return Ok(());
            }
            Spun::Exhausted => {}
        }
        if self.arm_for(len, align) == Armed::Ready {
            return self.check_room();
        }
        let parked = self.link.park_for_space(deadline);
        self.parts.sleeper.disarm();
        self.armed = false;
        self.note(parked)
    }

    /// Says whether there is somebody to wait for: neither an end that was reported nor one that will be.
    pub(super) fn may_wait(&self) -> bool {
        self.link.is_fit() && self.ended.is_none()
    }

    /// Announces a sleep for room, and looks once more.
    pub(super) fn arm_for(&mut self, len: usize, align: u64) -> Armed {
        // A wait that was given up left its ring; so many of them fill the socket, and no further ring would be an edge.
        if self.armed {
            self.disarm();
        }
        if !self.may_wait() {
            return Armed::Ready;
        }
        self.parts.sleeper.arm();
        if is_worth_a_try(&mut self.producer, &self.parts.waker, len, align) {
            self.parts.sleeper.disarm();
            return Armed::Ready;
        }
        self.parts.counters.sleeps.add(1);
        self.armed = true;
        Armed::Wait
    }

    /// Takes note of what a look at the doorbell and the peer brought.
    pub(super) fn note(&mut self, parked: io::Result<Parked>) -> Result<(), Stop> {
        match parked {
            Ok(Parked::TimedOut) => Err(Stop::Timeout),
            Ok(_) => self.check_room(),
            Err(error) => {
                let reason = CloseReason::Os { errno: error.raw_os_error().unwrap_or(0) };
                Err(Stop::Closed(self.end(reason)))
            }
        }
    }

    /// After a wait: a receiver that closed frees no more room.
    pub(super) fn check_room(&mut self) -> Result<(), Stop> {
        if self.parts.waker.is_closed() {
            return Err(Stop::Closed(self.end(CloseReason::PeerClosed)));
        }
        Ok(())
    }
}

/// Says whether there is room for `len` bytes, or the attempt would bring other news.
pub(super) fn is_worth_a_try(producer: &mut Producer, waker: &Waker, len: usize, align: u64) -> bool {
    !matches!(producer.reserve(len, align), Err(NoRoom::Full)) || waker.is_closed()
}

/// Of claims: a cache line.
const CLAIM_ALIGN_MAX: u64 = 64;

fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

impl Stop {
    pub(super) fn into_timeout_error(self) -> SendTimeoutError {
        match self {
            Self::Timeout => SendTimeoutError::Timeout,
            Self::TooLarge { len, max } => SendTimeoutError::TooLarge { len, max },
            Self::NoMemory { errno } => SendTimeoutError::NoMemory { errno },
            Self::Closed(reason) => SendTimeoutError::Closed(reason),
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // In a child made by fork nothing is mapped: the descriptors close, and that is all.
        if !self.link.is_ours() {
            return;
        }
        self.producer.close();
        if !self.link.is_hung_up() {
            // Always: whoever sleeps for data must see the close word.
            self.link.ring_data();
        }
    }
}
