//! The sending end of a route, or of one member of a channel.

mod claim;
mod fragments;
mod history;
mod parts;
mod readers;
mod readiness;
mod room;
mod stalls;

pub use claim::Claim;
#[cfg(feature = "tokio")]
pub(crate) use fragments::Part;
pub(crate) use parts::{NewReader, SenderNews};

use super::control::DESK;
use super::desk::Desk;
use super::membership::{Membership, Open, os};
use super::peer::MemberEvent;
use super::policy::{Policy, Sent};
use crate::connection::rings;
use crate::error::CloseReason;
use crate::error::broadcast::{JoinError, SendError, SendTimeoutError, TrySendError};
use crate::metrics::{SendCounters, Slot, Stats};
use crate::ring::{Kind, Mode, Producer, Reservation};
use crate::shm::Segment;
use crate::shm::layout::sleep;
use crate::wait::{self, Barrier, Look, Sleeper, Spinner};
use crate::{crash, sys};
use history::History;
use parts::Reader;
use room::Stop;
use stalls::Stalls;
use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The sending end of a route, or of one member of a channel.
///
/// `Send`, not `Clone`: a ring has one writer. A message is written once, however many receive it. That a send succeeded
/// means that the message is in the ring, in memory that outlives this process; not that anybody has read it.
///
/// Receivers join and leave between two messages, whenever a verb of this handle runs. Dropping it tells them that no more
/// will come; what was sent before is still delivered.
#[must_use]
pub struct Sender {
    producer: Producer,
    readers: Vec<Reader>,
    membership: Arc<Membership>,
    desk: Arc<Desk<SenderNews>>,
    owner: sys::ForkToken,
    policy: Policy,
    history: History,
    /// Sleeps for space.
    sleeper: Sleeper,
    spinner: Spinner,
    /// Some receiver needs a fence between a publish and the look at its sleep word.
    fences: bool,
    /// What a sleep for space waits for: the receivers' rings, and the desk.
    epoll: sys::Epoll,
    counters: SendCounters,
    /// Our own line in the tables.
    slot: Arc<Slot>,
    message_bytes_max: usize,
    stalls: Stalls,
    events: VecDeque<MemberEvent>,
    /// Fragments of a message were sent that will not be completed; receivers must be told first.
    owes_abandon: bool,
    ended: Option<CloseReason>,
    /// A sleep was announced and nobody has looked at the doorbells since.
    armed: bool,
}

impl Sender {
    pub(super) fn new(
        membership: Arc<Membership>,
        desk: Arc<Desk<SenderNews>>,
        open: &Open,
        segment: Segment,
        mode: Mode,
    ) -> Result<Self, JoinError> {
        let settings = membership.settings();
        let config = &settings.config;
        let epoll = sys::Epoll::new().map_err(|source| os("make the set of descriptors", source))?;
        epoll.watch(desk.alarm(), DESK).map_err(|source| os("watch the bell", source))?;
        // The barrier contains a fence, so it is right for receivers that fence for themselves too; all do if we sleep.
        let expedited = config.wants_barrier() && sys::is_barrier_known();
        let barrier = if expedited { Barrier::Expedited } else { Barrier::Fence };
        let slot = Arc::clone(&open.slot);
        Ok(Self {
            readers: Vec::new(),
            owner: sys::ForkToken::current().map_err(|source| os("set up the fork check", source))?,
            policy: settings.policy,
            history: History::new(settings.history.unwrap_or(0), segment.ring_bytes()),
            sleeper: Sleeper::new(segment.word(sleep::SPACE), barrier),
            spinner: Spinner::new(config.wait, wait::measure_wake_cost()),
            fences: false,
            epoll,
            counters: slot.send_counters(),
            message_bytes_max: config.message_bytes_max.min(usize::MAX as u64) as usize,
            stalls: Stalls::default(),
            events: VecDeque::new(),
            owes_abandon: false,
            ended: None,
            armed: false,
            producer: rings::producer(segment, mode),
            slot,
            desk,
            membership,
        })
    }

    /// Sends a message if there is room for it now. No receiver is ever harmed by it, whatever the policy.
    ///
    /// # Errors
    /// [`TrySendError::WouldBlock`]: no room, and because of whom; nothing of the message was taken. (With
    /// [`Policy::DropNewest`] that is no error but [`Sent::Dropped`].) [`TrySendError::TooLarge`]: longer than one record;
    /// [`send`](Self::send) takes it in fragments. [`TrySendError::Closed`]: this handle has left.
    /// # Cost
    /// One copy, and one load for each receiver of a line that does not change while it is awake. No allocation; no system
    /// call while all are awake, except a `fallocate` for at most every 64 KiB in the first lap of the ring, and what
    /// it takes to let a newcomer in.
    #[inline]
    pub fn try_send(&mut self, message: &[u8]) -> Result<Sent, TrySendError> {
        if self.append(message) {
            return Ok(self.publish(1, message.len()));
        }
        self.try_send_any(message)
    }

    #[inline(never)]
    fn try_send_any(&mut self, message: &[u8]) -> Result<Sent, TrySendError> {
        match self.check().and_then(|()| self.stage(message)) {
            Ok(()) => Ok(self.publish(1, message.len())),
            Err(stop) => stop.into_result(),
        }
    }

    /// Sends a message, going by the policy when there is no room.
    ///
    /// A message longer than a record travels in fragments and is put together by each receiver; it is delivered whole
    /// or not at all.
    ///
    /// # Errors
    /// [`SendError::TooLarge`]: longer than [`message_bytes_max`](Self::message_bytes_max). [`SendError::Closed`]: this
    /// handle has left. That nobody receives is no error: [`Sent::NoReceivers`].
    /// # Cost
    /// As [`try_send`](Self::try_send) while there is room; then spins and sleeps as [`Wait`](crate::Wait) says, as long as
    /// the [`Policy`] has it.
    #[inline]
    pub fn send(&mut self, message: &[u8]) -> Result<Sent, SendError> {
        if self.append(message) {
            return Ok(self.publish(1, message.len()));
        }
        self.send_any(message)
    }

    #[inline(never)]
    fn send_any(&mut self, message: &[u8]) -> Result<Sent, SendError> {
        self.send_until(message, None).or_else(Stop::into_result)
    }

    /// Sends a message, going by the policy, but waiting for at most `timeout`.
    ///
    /// # Errors
    /// [`SendTimeoutError::Timeout`]: because of whom; nothing of the message will be delivered. Else as
    /// [`send`](Self::send).
    pub fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<Sent, SendTimeoutError> {
        // A time-out beyond the clock's range is none.
        let deadline = Instant::now().checked_add(timeout);
        self.send_until(message, deadline).or_else(Stop::into_result)
    }

    /// Sends a message, waiting until `deadline`; else as [`send_timeout`](Self::send_timeout).
    ///
    /// # Errors
    /// As [`send_timeout`](Self::send_timeout).
    pub fn send_deadline(&mut self, message: &[u8], deadline: Instant) -> Result<Sent, SendTimeoutError> {
        self.send_until(message, Some(deadline)).or_else(Stop::into_result)
    }

    /// Sends as many of `messages`, from the first on, as there is room for, and returns how many that were.
    ///
    /// They become visible at once, by one store.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send), if not even the first could be sent; with [`Policy::DropNewest`] that is `Ok(0)`.
    /// # Cost
    /// As [`try_send`](Self::try_send), but one look at each receiver for the whole batch.
    pub fn try_send_batch<M: AsRef<[u8]>>(&mut self, messages: &[M]) -> Result<usize, TrySendError> {
        let (mut count, mut bytes) = (0, 0);
        // Nobody joins in the middle of a batch.
        if let Err(stop) = self.check() {
            return stop.into_result().map(|_: Sent| 0);
        }
        for message in messages {
            let message = message.as_ref();
            if !self.append(message) {
                match self.stage(message) {
                    Ok(()) => {}
                    Err(stop) if count == 0 => return stop.into_result().map(|_: Sent| 0),
                    Err(_) => break,
                }
            }
            count += 1;
            bytes += message.len();
        }
        self.publish(count as u64, bytes);
        Ok(count)
    }

    /// Sends all of `messages`, in batches as large as there is room for, going by the policy when there is none. Returns how
    /// many were sent: all but those that the policy dropped.
    ///
    /// # Errors
    /// As [`send`](Self::send); the messages before the one that failed were sent.
    pub fn send_batch<M: AsRef<[u8]>>(&mut self, mut messages: &[M]) -> Result<usize, SendError> {
        let mut sent = 0;
        while let Some(first) = messages.first() {
            match self.try_send_batch(messages) {
                Ok(0) => {
                    // Counted as dropped; the next may be shorter.
                    messages = &messages[1..];
                }
                Ok(count) => {
                    sent += count;
                    messages = &messages[count..];
                }
                // Waits for room, or fragments.
                Err(TrySendError::WouldBlock { .. } | TrySendError::TooLarge { .. }) => {
                    sent += usize::from(!matches!(self.send(first.as_ref())?, Sent::Dropped { .. }));
                    messages = &messages[1..];
                }
                Err(TrySendError::NoMemory { errno }) => return Err(SendError::NoMemory { errno }),
                Err(TrySendError::Closed(reason)) => return Err(SendError::Closed(reason)),
            }
        }
        Ok(sent)
    }

    /// Returns the longest message that fits into one record, in bytes: a quarter of the ring less 8, or
    /// [`message_bytes_max`](Self::message_bytes_max) if that is less.
    pub fn record_bytes_max(&self) -> usize {
        self.producer.payload_bytes_max().min(self.message_bytes_max)
    }

    /// Returns the longest message that may be sent, in bytes: as our own configuration says. Who accepts less cannot join.
    pub fn message_bytes_max(&self) -> usize {
        self.message_bytes_max
    }

    /// Returns what this handle does about slow receivers.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Returns the path of the socket by which others find it.
    pub fn path(&self) -> PathBuf {
        self.membership.path()
    }

    /// Returns what this handle has done so far.
    pub fn stats(&self) -> Stats {
        if self.owner.is_current() { self.slot.snapshot() } else { Stats::default() }
    }

    /// Leaves: receivers get what was sent, then they are told; the name of a route is free. Sending is an error from now on,
    /// until [`reconnect`](Self::reconnect).
    pub fn disconnect(&mut self) {
        if !self.owner.is_current() || self.ended == Some(CloseReason::Disconnected) {
            return;
        }
        self.say_goodbye();
        self.ended = Some(CloseReason::Disconnected);
        self.membership.detach_sender();
    }

    /// Comes back under the same name after [`disconnect`](Self::disconnect), with a new ring: what was sent before is not
    /// heard by those who join now. Does nothing if this handle has not left.
    ///
    /// # Errors
    /// As [`Builder::sender`](super::Builder::sender). The handle stays as it was: try again.
    pub fn reconnect(&mut self) -> Result<(), JoinError> {
        if !self.owner.is_current() {
            return Err(JoinError::Forked);
        }
        if self.ended == Some(CloseReason::Disconnected) {
            let mut fresh = super::join::sender(&self.membership)?;
            // The set stays: descriptors of ours stand for it. Only the desk is in the fresh one yet.
            self.epoll.watch(fresh.desk.alarm(), DESK).map_err(|source| os("watch the bell", source))?;
            self.epoll.unwatch(self.desk.alarm());
            std::mem::swap(&mut self.epoll, &mut fresh.epoll);
            *self = fresh;
        }
        Ok(())
    }

    /// Says that no more will come; the same as dropping it.
    pub fn close(self) {}

    /// Writes a message behind what is staged, where that needs no look around; `false`: nothing was done.
    #[inline(always)]
    fn append(&mut self, message: &[u8]) -> bool {
        if !self.owner.is_current()
            || self.desk.has_news()
            || self.ended.is_some()
            || self.owes_abandon
            || self.readers.is_empty()
            || message.len() > self.message_bytes_max
        {
            return false;
        }
        let start = self.producer.staged();
        let appended = self.producer.append(message);
        if appended {
            self.history.note(start);
        }
        appended
    }

    /// Writes a message behind what is staged if there is room for it, and it is not dropped.
    fn stage(&mut self, message: &[u8]) -> Result<(), Stop> {
        if !self.is_wanted() {
            return Err(Stop::Settled(Sent::NoReceivers));
        }
        let found = match self.find_room(message.len(), 1) {
            Err(Stop::WouldBlock(by)) => Err(self.or_drop(by)),
            found => found,
        };
        let reservation = found?;
        self.producer.write(&reservation, message);
        self.stage_message(reservation, message.len());
        Ok(())
    }

    /// Chains a whole message that was written.
    fn stage_message(&mut self, reservation: Reservation, len: usize) {
        self.history.note(self.producer.staged());
        self.producer.stage(reservation, Kind::Data, len);
    }

    fn send_until(&mut self, message: &[u8], deadline: Option<Instant>) -> Result<Sent, Stop> {
        if message.len() > self.record_bytes_max() {
            return self.send_fragments(message, deadline);
        }
        self.check()?;
        if !self.is_wanted() {
            return Ok(Sent::NoReceivers);
        }
        let reservation = match self.policy {
            Policy::DropNewest => self.reserve_or_drop(message.len())?,
            _ => self.reserve_until(message.len(), 1, deadline)?,
        };
        self.producer.write(&reservation, message);
        self.stage_message(reservation, message.len());
        Ok(self.publish(1, message.len()))
    }

    /// Makes staged messages visible, wakes the receivers that sleep, and counts.
    #[inline(always)]
    fn publish(&mut self, messages: u64, bytes: usize) -> Sent {
        self.producer.count(messages);
        self.producer.publish();
        crash::point("broadcast.published");
        self.wake_readers();
        self.counters.messages.add(messages);
        self.counters.bytes.add(bytes as u64);
        self.counters.position.set(self.producer.tail());
        if self.readers.is_empty() { Sent::NoReceivers } else { Sent::To { receivers: self.readers.len() } }
    }

    /// Looks at the sleep word of each receiver, after a fence for all of them if one needs it.
    #[inline(always)]
    fn wake_readers(&mut self) {
        wait::before_peeks(self.fences);
        let mut closed = false;
        for reader in &mut self.readers {
            match reader.waker.peek() {
                Look::Awake => {}
                Look::Ring => {
                    self.counters.bells.add(1);
                    reader.link.ring();
                    crash::point("broadcast.rung");
                }
                Look::Closed => closed = true,
            }
        }
        if self.fences || closed {
            self.see_to_readers(closed);
        }
    }

    /// Finds out whether a fence is still our duty, and lets those go that said that they will never look again.
    fn see_to_readers(&mut self, closed: bool) {
        self.fences = self.readers.iter_mut().any(|reader| reader.waker.needs_fence());
        if closed {
            self.remove_closed();
        }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("path", &self.path())
            .field("policy", &self.policy)
            .field("receivers", &self.readers.len())
            .finish_non_exhaustive()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.disconnect();
    }
}
