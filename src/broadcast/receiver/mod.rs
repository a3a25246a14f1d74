//! The receiving end of a route, or of one member of a channel.

mod readiness;
mod source;
mod waiting;

pub(crate) use source::SourceParts;

use super::control::DESK;
use super::desk::Desk;
use super::link::Farewell;
use super::membership::{Membership, Open, os};
use super::message::Message;
use super::peer::{Event, Peer};
use crate::error::broadcast::{JoinError, RecvError, RecvTimeoutError, TryRecvError};
use crate::error::{CloseReason, Refusal};
use crate::metrics::{ReceiveCounters, Slot, Stats};
use crate::ring::Record;
use crate::sys;
use crate::wait::{self, Barrier, Spinner};
use source::{Found, Place, Source};
use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The receiving end of a route, or of one member of a channel: of any number of senders at a time.
///
/// `Send`, not `Clone`: each receiver gets each message once. Whatever a sender writes into its memory, a message is copied
/// out completely or not delivered; a sender that breaks the protocol is left, and [`next`](Self::next) says so.
///
/// It stays when senders come and go, and reads what those that ended or died have left. Dropping it tells the senders that
/// nobody will read any more.
#[must_use]
pub struct Receiver {
    sources: Vec<Source>,
    /// Senders of a route that have taken the place of one whose messages are not all read yet.
    heirs: Vec<Source>,
    /// The source that is read now.
    current: usize,
    /// How many more messages it may have before it is another's turn.
    turn: u32,
    /// The next record may be a message like most: nothing is lent, half assembled, to be told, or ended.
    plain: bool,
    /// The message taken last; private memory, reused.
    scratch: Vec<u8>,
    /// The record lent last, and the source whose it is: passed on from when the next is taken.
    lent: Option<(usize, Record)>,
    /// Comings and goings that are to be told.
    told_next: VecDeque<Quiet>,
    membership: Arc<Membership>,
    desk: Arc<Desk<ReceiverNews>>,
    owner: sys::ForkToken,
    /// Our own line in the tables.
    slot: Arc<Slot>,
    counters: ReceiveCounters,
    spinner: Spinner,
    patience: u32,
    barrier: Barrier,
    /// What a sleep waits for: the senders' rings, and the desk.
    epoll: sys::Epoll,
    /// Messages received when nothing was found and waited for.
    seen_at_wait: u64,
    ended: Option<CloseReason>,
    /// A sleep was announced and nobody has looked at the doorbells since.
    armed: bool,
}

/// What the control thread tells a receiver.
pub(crate) enum ReceiverNews {
    /// A sender has let us in.
    Source(Box<SourceParts>),
    /// The sender with this number has hung up or died, and said this last.
    Gone(u64, Farewell),
    /// A sender does not go together with us.
    Refused(Refusal),
}

/// What happens beside messages.
enum Quiet {
    Joined(Peer),
    Left(Peer, CloseReason),
    Refused(Refusal),
}

/// A message that was taken and not shown yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    source: usize,
    place: Place,
}

/// An event that was taken and not shown yet.
#[derive(Debug)]
pub(crate) enum TakenEvent {
    Message(Taken),
    Lagged { from: Peer, messages: u64 },
    Joined(Peer),
    Left(Peer, CloseReason),
    Refused(Refusal),
}

impl Receiver {
    pub(super) fn new(
        membership: Arc<Membership>,
        desk: Arc<Desk<ReceiverNews>>,
        open: &Open,
    ) -> Result<Self, JoinError> {
        let config = &membership.settings().config;
        let epoll = sys::Epoll::new().map_err(|source| os("make the set of descriptors", source))?;
        epoll.watch(desk.alarm(), DESK).map_err(|source| os("watch the bell", source))?;
        let slot = Arc::clone(&open.slot);
        Ok(Self {
            sources: Vec::new(),
            heirs: Vec::new(),
            current: 0,
            turn: TURN_MESSAGES,
            plain: false,
            scratch: Vec::new(),
            lent: None,
            told_next: VecDeque::new(),
            owner: sys::ForkToken::current().map_err(|source| os("set up the fork check", source))?,
            counters: slot.receive_counters(),
            spinner: Spinner::new(config.wait, wait::measure_wake_cost()),
            patience: config.patience.saturating_mul(PATIENCE_TIMES),
            barrier: Barrier::Fence,
            epoll,
            seen_at_wait: 0,
            ended: None,
            armed: false,
            slot,
            desk,
            membership,
        })
    }

    /// Takes the next message of any sender if there is one. Who comes and goes is passed over; [`try_next`](Self::try_next)
    /// has that too.
    ///
    /// # Errors
    /// [`TryRecvError::Empty`]: nothing has arrived. [`TryRecvError::Lagged`]: messages were lost; the next call goes on.
    /// [`TryRecvError::Closed`]: a sender was lost with messages that were not read, or this handle has left.
    /// # Cost
    /// One load for each sender when there is nothing; one copy when there is (none where the sender waits for ever and is
    /// trusted). No system call and no allocation, unless somebody came or went, or a message is longer than any
    /// before, or came in fragments.
    #[inline]
    pub fn try_recv(&mut self) -> Result<Message<'_>, TryRecvError> {
        if let Some(len) = self.take_plain() {
            return Ok(self.copied(len));
        }
        self.try_recv_any()
    }

    // Apart, so that the short path above is small enough to become part of the caller's loop; and without a token in
    // between, which would go through memory.
    #[inline(never)]
    fn try_recv_any(&mut self) -> Result<Message<'_>, TryRecvError> {
        let taken = self.try_take_any()?;
        Ok(self.message(taken))
    }

    /// Takes the next message of any sender, waiting as long as it takes, for a sender too.
    ///
    /// # Errors
    /// [`RecvError::Lagged`], [`RecvError::Closed`]; see [`try_recv`](Self::try_recv).
    /// # Cost
    /// As [`try_recv`](Self::try_recv) while messages come; then spins and sleeps as [`Wait`](crate::Wait) says.
    #[inline]
    pub fn recv(&mut self) -> Result<Message<'_>, RecvError> {
        if let Some(len) = self.take_plain() {
            return Ok(self.copied(len));
        }
        self.recv_any()
    }

    #[inline(never)]
    fn recv_any(&mut self) -> Result<Message<'_>, RecvError> {
        let taken = self.take_until(None).map_err(|error| match error {
            RecvTimeoutError::Lagged(messages) => RecvError::Lagged(messages),
            RecvTimeoutError::Closed(reason) => RecvError::Closed(reason),
            RecvTimeoutError::Timeout => unreachable!("invariant: no deadline was given"),
        })?;
        Ok(self.message(taken))
    }

    /// Takes the next message, waiting for at most `timeout`.
    ///
    /// # Errors
    /// [`RecvTimeoutError::Timeout`]: nothing came in time. Else as [`recv`](Self::recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Message<'_>, RecvTimeoutError> {
        // A time-out beyond the clock's range is none.
        let taken = self.take_until(Instant::now().checked_add(timeout))?;
        Ok(self.message(taken))
    }

    /// Takes the next message, waiting until `deadline`; else as [`recv_timeout`](Self::recv_timeout).
    ///
    /// # Errors
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<Message<'_>, RecvTimeoutError> {
        let taken = self.take_until(Some(deadline))?;
        Ok(self.message(taken))
    }

    /// Hands up to `messages_max` messages that are there now to `each`, and returns how many those were. The fastest way to
    /// read: no result goes through memory for each message.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv), if there was not even one; else the error is kept for the next call.
    #[inline]
    pub fn try_recv_batch(
        &mut self,
        messages_max: usize,
        mut each: impl FnMut(Message<'_>),
    ) -> Result<usize, TryRecvError> {
        for count in 0..messages_max {
            if let Some(len) = self.take_plain() {
                each(self.copied(len));
                continue;
            }
            // What would be an error stays where it is.
            if count > 0 && !self.has_plain() {
                return Ok(count);
            }
            match self.try_take_any() {
                Ok(taken) => each(self.message(taken)),
                Err(TryRecvError::Empty) if count > 0 => return Ok(count),
                Err(error) => return Err(error),
            }
        }
        Ok(messages_max)
    }

    /// Returns what happens next, if anything has: messages, and who comes and goes, each in its place.
    ///
    /// # Errors
    /// This handle is of no more use: [`CloseReason::Forked`], [`CloseReason::Disconnected`], [`CloseReason::Os`].
    pub fn try_next(&mut self) -> Result<Option<Event<'_>>, CloseReason> {
        let taken = self.try_take_event()?;
        Ok(taken.map(|taken| self.event(taken)))
    }

    /// Returns what happens next, waiting as long as it takes.
    ///
    /// # Errors
    /// As [`try_next`](Self::try_next).
    #[expect(clippy::should_implement_trait, reason = "what it returns borrows the receiver")]
    #[inline]
    pub fn next(&mut self) -> Result<Event<'_>, CloseReason> {
        if let Some(len) = self.take_plain() {
            return Ok(Event::Message(self.copied(len)));
        }
        self.next_any()
    }

    #[inline(never)]
    fn next_any(&mut self) -> Result<Event<'_>, CloseReason> {
        match self.take_event_until(None)? {
            Some(taken) => Ok(self.event(taken)),
            None => unreachable!("invariant: no deadline was given"),
        }
    }

    /// Returns what happens next, waiting for at most `timeout`; `None`: nothing has.
    ///
    /// # Errors
    /// As [`try_next`](Self::try_next).
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Event<'_>>, CloseReason> {
        let taken = self.take_event_until(Instant::now().checked_add(timeout))?;
        Ok(taken.map(|taken| self.event(taken)))
    }

    /// Returns what happens next, waiting until `deadline`; `None`: nothing has.
    ///
    /// # Errors
    /// As [`try_next`](Self::try_next).
    pub fn next_deadline(&mut self, deadline: Instant) -> Result<Option<Event<'_>>, CloseReason> {
        let taken = self.take_event_until(Some(deadline))?;
        Ok(taken.map(|taken| self.event(taken)))
    }

    /// Returns how many senders are heard now.
    pub fn sender_count(&mut self) -> usize {
        let _ = self.check();
        self.sources.len()
    }

    /// Returns the senders that are heard now.
    ///
    /// # Cost
    /// Allocates.
    pub fn senders(&mut self) -> Vec<Peer> {
        let _ = self.check();
        self.sources.iter().map(|source| source.parts.peer).collect()
    }

    /// Returns the path of the socket by which senders find it.
    pub fn path(&self) -> PathBuf {
        self.membership.path()
    }

    /// Returns what this handle has done so far.
    pub fn stats(&self) -> Stats {
        if self.owner.is_current() { self.slot.snapshot() } else { Stats::default() }
    }

    /// Leaves: senders are told. Receiving is an error from now on, until [`reconnect`](Self::reconnect).
    pub fn disconnect(&mut self) {
        if !self.owner.is_current() || self.ended == Some(CloseReason::Disconnected) {
            return;
        }
        self.leave_all();
        self.ended = Some(CloseReason::Disconnected);
        self.plain = false;
        self.membership.detach_receiver();
    }

    /// Joins again after [`disconnect`](Self::disconnect). Does nothing if this handle has not left.
    ///
    /// # Errors
    /// As [`Builder::receiver`](super::Builder::receiver). The handle stays as it was: try again.
    pub fn reconnect(&mut self) -> Result<(), JoinError> {
        if !self.owner.is_current() {
            return Err(JoinError::Forked);
        }
        if self.ended == Some(CloseReason::Disconnected) {
            let mut fresh = super::join::receiver(&self.membership)?;
            // The set stays: a `Select` and descriptors of ours stand for it. Only the desk is in the fresh one yet.
            self.epoll.watch(fresh.desk.alarm(), DESK).map_err(|source| os("watch the bell", source))?;
            self.epoll.unwatch(self.desk.alarm());
            std::mem::swap(&mut self.epoll, &mut fresh.epoll);
            *self = fresh;
        }
        Ok(())
    }

    /// Says that nobody will read any more; the same as dropping it.
    pub fn close(self) {}

    /// Takes the next message if there is one; [`message`](Self::message) shows it until the next is taken.
    #[inline(always)]
    pub(crate) fn try_take(&mut self) -> Result<Taken, TryRecvError> {
        if self.take_plain().is_some() {
            return Ok(Taken { source: self.current, place: Place::Copied });
        }
        self.try_take_any()
    }

    // Apart, so that the short path above is small enough to become part of the caller's loop.
    #[inline(never)]
    fn try_take_any(&mut self) -> Result<Taken, TryRecvError> {
        loop {
            match self.try_take_event().map_err(TryRecvError::Closed)? {
                Some(TakenEvent::Message(taken)) => return Ok(taken),
                Some(TakenEvent::Lagged { messages, .. }) => return Err(TryRecvError::Lagged(messages)),
                Some(TakenEvent::Left(_, reason @ (CloseReason::TooSlow | CloseReason::Violation(_)))) => {
                    return Err(TryRecvError::Closed(reason));
                }
                Some(TakenEvent::Joined(_) | TakenEvent::Left(..) | TakenEvent::Refused(_)) => {}
                None => return Err(TryRecvError::Empty),
            }
        }
    }

    /// Shows the message that was taken last.
    #[inline(always)]
    pub(crate) fn message(&self, taken: Taken) -> Message<'_> {
        let source = &self.sources[taken.source];
        let borrowed = matches!(taken.place, Place::Lent(_));
        Message::new(source.bytes(taken.place, &self.scratch), &source.parts.peer, borrowed)
    }

    /// Shows the message that [`take_plain`](Self::take_plain) took.
    #[inline(always)]
    fn copied(&self, len: usize) -> Message<'_> {
        // By the length at hand: pointer and length read at once, right after the length was stored, would wait for it.
        Message::new(&self.scratch[..len], &self.sources[self.current].parts.peer, false)
    }

    /// Takes what happens next, if anything has; [`event`](Self::event) shows it until the next is taken.
    pub(crate) fn try_take_event(&mut self) -> Result<Option<TakenEvent>, CloseReason> {
        if self.take_plain().is_some() {
            return Ok(Some(TakenEvent::Message(Taken { source: self.current, place: Place::Copied })));
        }
        let taken = self.take_any();
        self.plain = self.is_plain();
        taken
    }

    /// Shows the event that was taken last.
    pub(crate) fn event(&self, taken: TakenEvent) -> Event<'_> {
        match taken {
            TakenEvent::Message(taken) => Event::Message(self.message(taken)),
            TakenEvent::Lagged { from, messages } => Event::Lagged { from, messages },
            TakenEvent::Joined(peer) => Event::Joined(peer),
            TakenEvent::Left(peer, reason) => Event::Left(peer, reason),
            TakenEvent::Refused(refusal) => Event::Refused(refusal),
        }
    }

    #[inline(always)]
    fn take_plain(&mut self) -> Option<usize> {
        if !self.plain || self.turn == 0 || self.desk.has_news() || !self.owner.is_current() {
            return None;
        }
        let source = self.sources.get_mut(self.current)?;
        let taken = source.take_plain(&mut self.scratch, &mut self.counters);
        self.turn -= u32::from(taken.is_some());
        taken
    }

    fn is_plain(&self) -> bool {
        self.lent.is_none()
            && self.told_next.is_empty()
            && self.ended.is_none()
            && self.sources.get(self.current).is_some_and(Source::is_plain)
    }

    /// Says whether the next thing to happen is a message at hand, so that nothing else is lost by taking it.
    fn has_plain(&self) -> bool {
        self.is_plain() && !self.desk.has_news() && self.sources.iter().any(Source::is_ready)
    }

    /// Says whether receiving makes sense at all, and sees to what the control thread has to say.
    fn check(&mut self) -> Result<(), CloseReason> {
        if !self.owner.is_current() {
            return Err(CloseReason::Forked);
        }
        if let Some(reason) = &self.ended {
            return Err(reason.clone());
        }
        if let Some((source, record)) = self.lent.take() {
            self.sources[source].give_back(record, &mut self.counters);
        }
        if self.desk.has_news() {
            self.attend();
        }
        Ok(())
    }

    /// Looks at each source once, the current one first.
    fn take_any(&mut self) -> Result<Option<TakenEvent>, CloseReason> {
        self.check()?;
        if let Some(quiet) = self.told_next.pop_front() {
            return Ok(Some(match quiet {
                Quiet::Joined(peer) => TakenEvent::Joined(peer),
                Quiet::Left(peer, reason) => TakenEvent::Left(peer, reason),
                Quiet::Refused(refusal) => TakenEvent::Refused(refusal),
            }));
        }
        if self.turn == 0 {
            self.pass_on();
        }
        for _ in 0..self.sources.len() {
            let source = &mut self.sources[self.current];
            let from = source.parts.peer;
            match source.next(&mut self.scratch, &mut self.counters) {
                Found::Message(place) => {
                    if let Place::Lent(record) = place {
                        self.lent = Some((self.current, record));
                    }
                    self.turn = self.turn.saturating_sub(1);
                    return Ok(Some(TakenEvent::Message(Taken { source: self.current, place })));
                }
                Found::Lagged(messages) => return Ok(Some(TakenEvent::Lagged { from, messages })),
                Found::Ended(reason) => {
                    self.lose(self.current, &reason);
                    return Ok(Some(TakenEvent::Left(from, reason)));
                }
                Found::Nothing => self.pass_on(),
            }
        }
        Ok(None)
    }

    /// It is the next source's turn.
    fn pass_on(&mut self) {
        self.current = if self.current + 1 < self.sources.len() { self.current + 1 } else { 0 };
        self.turn = TURN_MESSAGES;
    }

    /// Sees to what the control thread has to say.
    #[cold]
    fn attend(&mut self) {
        while let Some(news) = self.desk.take() {
            match news {
                ReceiverNews::Source(parts) => {
                    self.heirs.push(Source::new(*parts));
                    self.let_inherit();
                }
                ReceiverNews::Refused(refusal) => self.told_next.push_back(Quiet::Refused(refusal)),
                ReceiverNews::Gone(number, farewell) => {
                    let known = |source: &&mut Source| source.parts.peer.number() == number;
                    if let Some(source) = self.sources.iter_mut().chain(&mut self.heirs).find(known) {
                        source.note_gone(farewell);
                        self.epoll.unwatch(source.parts.link.socket());
                    }
                }
            }
        }
    }

    /// Reads new senders from now on. On a route the next one is heard when the one before has been, to its end.
    fn let_inherit(&mut self) {
        while !self.heirs.is_empty()
            && (self.membership.is_channel() || !self.sources.iter().any(Source::has_ended))
        {
            let source = self.heirs.remove(0);
            self.hear(source);
        }
    }

    /// Reads a sender from now on.
    fn hear(&mut self, mut source: Source) {
        let peer = source.parts.peer;
        if let Err(error) = self.epoll.watch(source.parts.link.socket(), peer.number()) {
            // Who cannot be waited for cannot be heard.
            let reason = CloseReason::Os { errno: error.raw_os_error().unwrap_or(0) };
            self.told_next.push_back(Quiet::Left(peer, reason));
            return source.leave();
        }
        self.barrier = self.barrier.max(source.parts.sleeper.barrier());
        self.sources.push(source);
        self.told_next.push_back(Quiet::Joined(peer));
    }

    /// Takes a source off the list.
    fn lose(&mut self, index: usize, reason: &CloseReason) {
        let mut source = self.sources.swap_remove(index);
        self.epoll.unwatch(source.parts.link.socket());
        source.leave();
        self.current = 0;
        self.turn = TURN_MESSAGES;
        // Whoever seems to have died may have cut us off without a word; if it has died, nobody answers.
        if matches!(reason, CloseReason::TooSlow | CloseReason::PeerDied { .. }) {
            self.membership.renew(source.parts.place, source.parts.peer.number());
        }
        self.let_inherit();
    }

    /// Tells all senders that nobody will read any more.
    fn leave_all(&mut self) {
        self.lent = None;
        for mut source in self.sources.drain(..).chain(self.heirs.drain(..)) {
            self.epoll.unwatch(source.parts.link.socket());
            source.leave();
        }
        while let Some(news) = self.desk.take() {
            if let ReceiverNews::Source(parts) = news {
                parts.leave();
            }
        }
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("path", &self.path())
            .field("senders", &self.sources.len())
            .finish_non_exhaustive()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.disconnect();
    }
}

/// A line that a receiver takes away costs all receivers of the sender, so each leaves the ring alone for longer than the one
/// receiver of a connection: streams of small messages run a quarter faster.
const PATIENCE_TIMES: u32 = 4;
/// Messages that one sender may have before it is the next one's turn.
const TURN_MESSAGES: u32 = 256;
