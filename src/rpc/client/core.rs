//! What the callers of one connection share, under one lock.
//!
//! *The lock.* There is one, so there is no order of locks. It is held to send a short frame, to take or bring back the
//! right to read, and to hand out what was read; never while waiting, and never while foreign code runs. Who must be
//! woken is noted and woken when the lock is released.
//!
//! *Reading* is for whoever has the [`Baton`], and with it the receiver: a caller that waits takes it if nobody has it, and
//! reads for all until its own answer came or its time is up. A caller that leaves appoints the next; see there for why
//! nobody sleeps while nobody reads.
//!
//! *Sending* happens under the lock while there is room. Who finds none, or has much to send, takes the outlet away and
//! waits without the lock; meanwhile others queue at the gate, and what the protocol itself has to say waits in the
//! outbox. Whoever waits for room reads from time to time if nobody else does: a server that can answer no more because
//! its ring is full takes no more requests either.
//!
//! *The gate* is for those who cannot send yet: no room, or as many calls in flight as the server accepts. When
//! something becomes free one of those who could use it is called; it sends and calls the next, or leaves and calls the
//! next. Whoever comes while somebody queues, queues too, unless it has priority.

use super::ask::Ask;
use super::seats::{Seats, Wake, Wakes};
use crate::connection::{Receiver, Sender};
use crate::error::call::{CallError, FrameError};
use crate::error::{CloseReason, TrySendError};
use crate::proto::call::Frame;
use crate::proto::call::client::{ClientSession, Heard};
use crate::proto::frame::{Codec, HEADER_BYTES};
use crate::sys::{ForkToken, ticks};
use crate::wait::Baton;
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One connection of a client.
pub(crate) struct Line {
    core: Mutex<Core>,
    owner: ForkToken,
}

/// See the head of this file.
pub(crate) struct Core {
    pub(crate) session: ClientSession<usize>,
    pub(crate) seats: Seats,
    pub(crate) baton: Baton<Wake>,
    /// At home while nobody has the baton, and the connection lasts.
    pub(crate) receiver: Option<Box<Receiver>>,
    /// At home while nobody waits for room with it, and the connection lasts.
    pub(crate) outlet: Option<Box<Outlet>>,
    pub(super) outbox: VecDeque<Frame<'static>>,
    pub(super) gate: VecDeque<Queued>,
    pub(super) end: Option<End>,
    /// Nothing more can be sent, while answers may still come.
    shut: Option<CloseReason>,
    message_bytes_max: usize,
    /// On the clock of [`ticks`].
    idle_since: u64,
    #[cfg(feature = "tokio")]
    pub(crate) tasks: Tasks,
    pub(super) wakes: Wakes,
}

/// The tasks among those that wait.
#[cfg(feature = "tokio")]
#[derive(Default)]
pub(crate) struct Tasks {
    /// How many there are.
    pub(crate) waiting: usize,
    /// The seat of the task that reads for them.
    pub(crate) driver: Option<usize>,
    /// It has the baton. Between its polls the receiver lies at home nevertheless, and any thread may take both: a
    /// runtime that is not run for a while must hold up nobody else.
    pub(crate) driver_reads: bool,
    /// It found no task that waits, and sleeps until it is called.
    pub(crate) driver_idles: bool,
}

/// The sender, and room to write a frame before it is sent.
pub(crate) struct Outlet {
    pub(crate) sender: Sender,
    pub(crate) frame: Vec<u8>,
}

pub(crate) struct Queued {
    seat: usize,
    needs_place: bool,
    priority: bool,
    called: bool,
}

/// Why a connection ended.
#[derive(Debug, Clone)]
pub(crate) enum End {
    Closed(CloseReason),
    Protocol(FrameError),
}

impl End {
    fn error(&self) -> CallError {
        match self {
            Self::Closed(reason) => CallError::Lost { may_have_run: true, reason: reason.clone() },
            Self::Protocol(error) => CallError::Protocol(error.clone()),
        }
    }
}

/// The core while it is locked; wakes who must be woken when it is released.
pub(crate) struct Held<'a> {
    guard: Option<MutexGuard<'a, Core>>,
}

impl Line {
    /// Begins to speak on a connection.
    pub(crate) fn new(
        (sender, receiver): (Sender, Receiver),
        session: ClientSession<usize>,
        owner: ForkToken,
    ) -> Self {
        let message_bytes_max = sender.message_bytes_max();
        let mut core = Core {
            seats: Seats::default(),
            baton: Baton::new(),
            receiver: Some(Box::new(receiver)),
            outlet: Some(Box::new(Outlet { sender, frame: Vec::new() })),
            outbox: VecDeque::new(),
            gate: VecDeque::new(),
            end: None,
            shut: None,
            message_bytes_max,
            idle_since: ticks(),
            #[cfg(feature = "tokio")]
            tasks: Tasks::default(),
            wakes: Wakes::default(),
            session,
        };
        core.say(core.session.settings());
        Self { core: Mutex::new(core), owner }
    }

    /// Says whether this process made the connection.
    pub(crate) fn is_ours(&self) -> bool {
        self.owner.is_current()
    }

    /// Locks the core.
    #[inline]
    pub(crate) fn hold(&self) -> Held<'_> {
        // What a panic left is whole: nothing here calls foreign code.
        Held { guard: Some(self.core.lock().unwrap_or_else(PoisonError::into_inner)) }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // The task that read for others ends; in a child made by fork it is not there.
        if self.is_ours() {
            let mut core = self.hold();
            core.notify_all();
        }
    }
}

impl Deref for Held<'_> {
    type Target = Core;

    #[inline]
    fn deref(&self) -> &Core {
        self.guard.as_deref().expect("invariant: held until dropped")
    }
}

impl DerefMut for Held<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Core {
        self.guard.as_deref_mut().expect("invariant: held until dropped")
    }
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.wakes.is_empty() {
            let wakes = std::mem::take(&mut self.wakes);
            self.guard = None;
            wakes.fire();
        }
    }
}

impl Core {
    /// Says whether new calls can be made on this connection, as far as known.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.end.is_none() && self.shut.is_none() && !self.session.is_going_away()
    }

    /// Says whether the connection has ended: nothing will come any more.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.end.is_some()
    }

    /// Says why new calls must be made elsewhere.
    pub(crate) fn why_shut(&self) -> CloseReason {
        match (&self.shut, &self.end) {
            (Some(reason), _) | (None, Some(End::Closed(reason))) => reason.clone(),
            // The server goes away, or broke the protocol.
            (None, _) => CloseReason::PeerClosed,
        }
    }

    /// After a pause asks the kernel whether the server still lives, so that a call is not sent to a dead one.
    #[inline]
    pub(crate) fn look_after_peer(&mut self) {
        if self.session.is_idle() {
            let now = ticks();
            if now.wrapping_sub(self.idle_since) > IDLE_TICKS {
                self.ask_for_peer();
            }
            self.idle_since = now;
        }
    }

    #[cold]
    fn ask_for_peer(&mut self) {
        if let Some(outlet) = &mut self.outlet
            && let Err(reason) = outlet.sender.look_after_peer()
        {
            self.shut(reason);
        }
    }

    /// Says how long a frame may be, in bytes.
    #[inline]
    pub(crate) fn message_bytes_max(&self) -> usize {
        self.message_bytes_max
    }

    /// Says whether this may be sent now by someone who has not queued.
    #[inline]
    pub(crate) fn may_enter(&mut self, ask: &Ask) -> bool {
        (self.gate.is_empty() || ask.priority) && self.has_room_for(ask.needs_place())
    }

    #[inline]
    fn has_room_for(&mut self, needs_place: bool) -> bool {
        self.outlet.is_some() && self.is_open() && self.flush() && (!needs_place || self.session.may_begin())
    }

    /// Queues at the gate.
    pub(crate) fn queue(&mut self, seat: usize, ask: &Ask) {
        let queued = Queued { seat, needs_place: ask.needs_place(), priority: ask.priority, called: false };
        // Behind those who have priority too.
        let place = self.gate.iter().position(|other| ask.priority && !other.priority);
        self.gate.insert(place.unwrap_or(self.gate.len()), queued);
    }

    /// Says whether the one in the queue need not wait any more: it may send, or never will here.
    pub(crate) fn is_through(&mut self, seat: usize) -> bool {
        if !self.is_open() {
            return true;
        }
        let Some(at) = self.gate.iter().position(|queued| queued.seat == seat) else { return true };
        let through = self.has_room_for(self.gate[at].needs_place);
        self.gate[at].called = through;
        through
    }

    /// Says whether someone is in the queue.
    #[inline]
    pub(crate) fn is_queued(&self, seat: usize) -> bool {
        self.gate.iter().any(|queued| queued.seat == seat)
    }

    /// Leaves the queue. After sending, or instead, [`call_next`](Self::call_next) is due.
    pub(crate) fn unqueue(&mut self, seat: usize) {
        self.gate.retain(|queued| queued.seat != seat);
    }

    /// Calls the first in the queue who could send now.
    #[inline]
    pub(crate) fn call_next(&mut self) {
        if !self.gate.is_empty() {
            self.call_first_able();
        }
    }

    fn call_first_able(&mut self) {
        for at in 0..self.gate.len() {
            if !self.gate[at].called && self.has_room_for(self.gate[at].needs_place) {
                self.gate[at].called = true;
                return self.notify(self.gate[at].seat);
            }
        }
    }

    /// Sends a request or a one-way message whose frame has `len` bytes, if there is room; returns the id of the call.
    #[inline]
    pub(crate) fn post(
        &mut self,
        ask: &Ask,
        seat: usize,
        body: &[u8],
        len: usize,
    ) -> Result<u64, TrySendError> {
        let Some(outlet) = &mut self.outlet else { return Err(TrySendError::Full) };
        let mut claim = outlet.sender.try_claim(len)?;
        let id = if ask.one_way { 0 } else { self.session.begin(ask.window, seat) };
        let (head, body) = ask.frame(id, body).head();
        self.session.codec().write(&mut claim, &head.header, head.prelude(), body);
        claim.commit();
        Ok(id)
    }

    /// Says something of the protocol itself, now or as soon as there is room.
    pub(crate) fn say(&mut self, frame: Frame<'static>) {
        let pongs = |frame: &Frame<'_>| matches!(frame, Frame::Pong { .. });
        if pongs(&frame) && self.outbox.iter().filter(|frame| pongs(frame)).count() >= PONGS_MAX {
            return;
        }
        self.outbox.push_back(frame);
        if !self.flush() {
            // Those that sleep do not look for room from time to time yet.
            self.notify_gate();
            #[cfg(feature = "tokio")]
            if let Some(driver) = self.tasks.driver {
                self.notify(driver);
            }
        }
    }

    /// Says until when one who does not read may sleep: while something waits for room, somebody looks for it.
    #[inline]
    pub(crate) fn next_try(&self, deadline: Option<Instant>) -> Option<Instant> {
        if self.outbox.is_empty() {
            return deadline;
        }
        let soon = Instant::now() + ROOM_INTERVAL;
        Some(deadline.map_or(soon, |deadline| deadline.min(soon)))
    }

    /// Sends what waits in the outbox; `false`: some of it still waits.
    #[inline]
    pub(super) fn flush(&mut self) -> bool {
        self.outbox.is_empty() || self.flush_some()
    }

    fn flush_some(&mut self) -> bool {
        let Some(outlet) = &mut self.outlet else { return false };
        while let Some(frame) = self.outbox.front() {
            match try_say(&mut outlet.sender, self.session.codec(), frame) {
                Ok(()) => drop(self.outbox.pop_front()),
                Err(TrySendError::Closed(reason)) => {
                    self.shut(reason);
                    return false;
                }
                Err(_) => return false,
            }
        }
        true
    }

    /// Tries again what found no room; call it when time has passed.
    pub(crate) fn retry(&mut self) {
        if self.flush() {
            self.call_next();
        }
    }

    /// Takes the outlet away, with the frame written into it; returns the id of the call too.
    ///
    /// # Panics
    /// If it is away, so whoever calls this has passed the gate.
    pub(crate) fn take_outlet(
        &mut self,
        ask: &Ask,
        seat: usize,
        body: &[u8],
        len: usize,
    ) -> (Box<Outlet>, u64) {
        let mut outlet = self.outlet.take().expect("invariant: whoever passed the gate finds the outlet");
        let id = if ask.one_way { 0 } else { self.session.begin(ask.window, seat) };
        outlet.frame.resize(len, 0);
        let (head, body) = ask.frame(id, body).head();
        self.session.codec().write(&mut outlet.frame, &head.header, head.prelude(), body);
        (outlet, id)
    }

    /// Brings the outlet back.
    pub(crate) fn come_home(&mut self, mut outlet: Box<Outlet>) {
        if outlet.frame.capacity() > KEPT_BYTES {
            outlet.frame = Vec::new();
        }
        if self.end.is_none() {
            self.outlet = Some(outlet);
            self.retry();
        }
    }

    /// Nothing more can be sent: those who wait for that go elsewhere.
    pub(crate) fn shut(&mut self, reason: CloseReason) {
        self.shut.get_or_insert(reason);
        self.outbox.clear();
        self.notify_gate();
    }

    /// Hands out a message of the server.
    #[inline]
    pub(crate) fn hear(&mut self, message: &[u8]) {
        match self.session.hear(message) {
            Ok(Heard::Answer { call: seat, body }) => {
                self.seats.answer(seat, body);
                self.notify(seat);
                self.call_next();
            }
            Ok(Heard::Part { call: seat, body }) => {
                self.seats.part(seat, body);
                self.notify(seat);
            }
            Ok(Heard::Failed { call: seat, code, text }) => {
                self.seats.fail(seat, super::response::failure(code, text));
                self.notify(seat);
                self.call_next();
            }
            Ok(Heard::Say(frame)) => self.say(frame),
            Ok(Heard::Limit) => (0..self.gate.len()).for_each(|_| self.call_next()),
            Ok(Heard::GoingAway) => self.notify_gate(),
            Ok(Heard::Nothing) => {}
            Err(error) => self.end(End::Protocol(error)),
        }
    }

    /// Ends the connection: every call in flight fails, whoever waits is woken.
    #[cold]
    pub(crate) fn close(&mut self, reason: CloseReason) {
        self.end(End::Closed(reason));
    }

    #[cold]
    pub(super) fn end(&mut self, end: End) {
        if self.end.is_some() {
            return;
        }
        let Self { session, seats, .. } = self;
        session.end_all(|seat| seats.fail(seat, end.error()));
        self.end = Some(end);
        self.outbox.clear();
        // Closing them tells the server; whoever has one of them away closes it when it comes back.
        self.outlet = None;
        self.receiver = None;
        self.notify_all();
    }

    /// Wakes everybody.
    pub(crate) fn notify_all(&mut self) {
        (0..self.seats.len()).for_each(|seat| self.notify(seat));
    }

    /// Stops to wait for the answer of a call.
    pub(crate) fn give_up(&mut self, id: u64) {
        if self.session.give_up(id) {
            self.say(Frame::Cancel { id });
            self.call_next();
        }
    }

    /// Gives a seat back; see [`Seats::release`].
    #[inline]
    pub(crate) fn leave(&mut self, seat: usize) {
        self.rise(seat);
        self.seats.release(seat);
    }

    /// Leaves the bench.
    #[inline]
    pub(crate) fn rise(&mut self, seat: usize) {
        let next = self.baton.rise(seat);
        self.pass_on(next);
    }

    /// Wakes whoever waits in this seat.
    #[inline]
    pub(crate) fn notify(&mut self, seat: usize) {
        let wake = self.baton.seated(seat).or_else(|| self.seats.take_waker(seat));
        self.wakes.push(wake);
    }

    fn notify_gate(&mut self) {
        for at in 0..self.gate.len() {
            self.notify(self.gate[at].seat);
        }
    }
}

fn try_say(sender: &mut Sender, codec: Codec, frame: &Frame<'_>) -> Result<(), TrySendError> {
    let (head, body) = frame.head();
    let mut claim = sender.try_claim(HEADER_BYTES + head.prelude().len() + body.len())?;
    codec.write(&mut claim, &head.header, head.prelude(), body);
    claim.commit();
    Ok(())
}

/// While something waits for room and nobody can be told of it, room is looked for this often.
pub(crate) const ROOM_INTERVAL: Duration = Duration::from_millis(1);
/// After such a pause, 50 to 250 us, the kernel is asked whether the server lives.
const IDLE_TICKS: u64 = 250_000;
/// Answers to pings that wait for room at most.
const PONGS_MAX: usize = 4;
/// Buffers beyond this are not kept.
pub(crate) const KEPT_BYTES: usize = 1 << 20;
