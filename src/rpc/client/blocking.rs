//! Waiting by threads; see `core` for the rules.

use super::ask::Ask;
use super::core::{Held, Line, Outlet, ROOM_INTERVAL};
use super::reading::MESSAGES_PER_LOOK;
use super::seats::Wake;
use crate::connection::Receiver;
use crate::error::call::CallError;
use crate::error::{CloseReason, RecvTimeoutError, SendTimeoutError, TrySendError};
use std::thread;
use std::time::Instant;

/// A call that was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    pub(crate) seat: usize,
    pub(crate) id: u64,
}

/// Why a request was not sent.
#[derive(Debug)]
pub(crate) enum Unsent {
    /// This connection takes no more; another may.
    Elsewhere(CloseReason),
    /// That is the outcome of the call.
    Error(CallError),
}

impl Unsent {
    fn timeout() -> Self {
        Self::Error(CallError::Timeout { sent: false })
    }
}

impl Line {
    /// Sends a request; returns with the lock, so that the answer can be waited for without locking anew.
    #[inline]
    pub(crate) fn send(&self, ask: &Ask, body: &[u8]) -> Result<(Held<'_>, Ticket), Unsent> {
        let mut core = self.hold();
        core.look_after_peer();
        let len = ask.frame_bytes(body);
        if len > core.message_bytes_max() {
            let max = core.message_bytes_max();
            return Err(Unsent::Error(CallError::TooLarge { len, max }));
        }
        let seat = core.seats.take();
        if !core.may_enter(ask) {
            core = self.pass_gate(core, seat, ask)?;
        }
        if len <= SHORT_BYTES {
            match core.post(ask, seat, body, len) {
                Ok(id) => {
                    core.call_next();
                    return Ok((core, Ticket { seat, id }));
                }
                Err(TrySendError::Full | TrySendError::TooLarge { .. }) => {}
                Err(error) => return Err(refuse(core, seat, error)),
            }
        }
        self.send_by_turn(core, seat, ask, body, len)
    }

    /// Waits at the gate.
    #[cold]
    fn pass_gate<'a>(&'a self, mut core: Held<'a>, seat: usize, ask: &Ask) -> Result<Held<'a>, Unsent> {
        core.queue(seat, ask);
        let (mut core, through) = self.wait(core, seat, ask.deadline, |core| core.is_through(seat));
        core.unqueue(seat);
        if through && core.is_open() {
            return Ok(core);
        }
        core.leave(seat);
        core.call_next();
        Err(if core.is_open() { Unsent::timeout() } else { Unsent::Elsewhere(core.why_shut()) })
    }

    /// Takes the outlet away to send something long, or to wait for room.
    #[cold]
    fn send_by_turn<'a>(
        &'a self,
        mut core: Held<'a>,
        seat: usize,
        ask: &Ask,
        body: &[u8],
        len: usize,
    ) -> Result<(Held<'a>, Ticket), Unsent> {
        let (mut outlet, id) = core.take_outlet(ask, seat, body, len);
        drop(core);
        let sent = self.push(&mut outlet, ask.deadline);
        let mut core = self.hold();
        if sent.is_err() {
            core.session.withdraw(id);
        }
        core.come_home(outlet);
        match sent {
            Ok(()) => Ok((core, Ticket { seat, id })),
            Err(SendTimeoutError::Timeout) => Err(refuse(core, seat, TrySendError::Full)),
            Err(SendTimeoutError::TooLarge { len, max }) => {
                Err(refuse(core, seat, TrySendError::TooLarge { len, max }))
            }
            Err(SendTimeoutError::NoMemory { errno }) => {
                Err(refuse(core, seat, TrySendError::NoMemory { errno }))
            }
            Err(SendTimeoutError::Closed(reason)) => Err(refuse(core, seat, TrySendError::Closed(reason))),
        }
    }

    /// Sends the frame in the outlet, waiting for room. From time to time it reads, if nobody else does: the server may
    /// need room for its answers before it makes room for this.
    fn push(&self, outlet: &mut Outlet, deadline: Option<Instant>) -> Result<(), SendTimeoutError> {
        let (mut sent, mut seen) = (0, 0);
        loop {
            let now = Instant::now();
            let until = deadline.map_or(now + ROOM_INTERVAL, |deadline| deadline.min(now + ROOM_INTERVAL));
            let error = match outlet.sender.send_on(&outlet.frame, &mut sent, until) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Timeout) if !is_over(deadline) => {
                    let mut core = self.hold();
                    core.wait_for_room(sent > std::mem::replace(&mut seen, sent));
                    if !core.is_over() {
                        continue;
                    }
                    SendTimeoutError::Closed(core.why_shut())
                }
                Err(error) => error,
            };
            outlet.sender.give_up(&outlet.frame, sent);
            return Err(error);
        }
    }

    /// Waits for the answer of a call and puts it into `out`.
    #[inline]
    pub(crate) fn collect(
        &self,
        core: Held<'_>,
        ticket: Ticket,
        deadline: Option<Instant>,
        out: &mut Vec<u8>,
    ) -> Result<(), CallError> {
        let (mut core, done) = self.wait(core, ticket.seat, deadline, |core| core.seats.is_done(ticket.seat));
        let outcome = if done {
            core.seats.collect(ticket.seat, out)
        } else {
            core.give_up(ticket.id);
            Err(CallError::Timeout { sent: true })
        };
        core.leave(ticket.seat);
        outcome
    }

    /// Waits until something is so that others bring about, or for the deadline; reads meanwhile, for all, if nobody
    /// else does. It must be so when the connection has ended.
    #[inline]
    pub(crate) fn wait<'a>(
        &'a self,
        mut core: Held<'a>,
        seat: usize,
        deadline: Option<Instant>,
        mut is_so: impl FnMut(&mut Held<'a>) -> bool,
    ) -> (Held<'a>, bool) {
        loop {
            if is_so(&mut core) {
                core.rise(seat);
                return (core, true);
            }
            if let Some(receiver) = core.take_receiver() {
                core.rise(seat);
                let late;
                (core, late) = self.read(core, receiver, (seat, deadline), &mut is_so);
                if late {
                    let so = is_so(&mut core);
                    return (core, so);
                }
                continue;
            }
            if is_over(deadline) {
                return (core, false);
            }
            core.baton.sit(seat, Wake::Thread(thread::current()));
            let until = core.next_try(deadline);
            drop(core);
            park(until);
            core = self.hold();
            core.retry();
        }
    }

    /// Reads for all until `is_so`, or the connection has ended, or, as the second value says, the time is up.
    #[inline]
    fn read<'a>(
        &'a self,
        mut core: Held<'a>,
        mut receiver: Box<Receiver>,
        (seat, deadline): (usize, Option<Instant>),
        is_so: &mut impl FnMut(&mut Held<'a>) -> bool,
    ) -> (Held<'a>, bool) {
        let mut late = false;
        loop {
            let until = core.next_look_of(seat, deadline);
            drop(core);
            let heard = match until {
                None => receiver.recv().map_err(|error| RecvTimeoutError::Closed(error.reason().clone())),
                Some(until) => receiver.recv_deadline(until),
            };
            core = self.hold();
            match heard {
                Ok(message) => {
                    core.hear(&message);
                    let mut more = 1;
                    while more < MESSAGES_PER_LOOK && !is_so(&mut core) && core.hear_next(&mut receiver) {
                        more += 1;
                    }
                    // Answers for others may keep coming.
                    late = !is_so(&mut core) && is_over(deadline);
                }
                Err(RecvTimeoutError::Timeout) => {
                    core.tick(Instant::now());
                    late = is_over(deadline);
                }
                Err(RecvTimeoutError::Closed(reason)) => core.close(reason),
            }
            if late || core.is_over() || is_so(&mut core) {
                core.bring_receiver(receiver);
                return (core, late);
            }
        }
    }
}

#[cold]
fn refuse(mut core: Held<'_>, seat: usize, error: TrySendError) -> Unsent {
    core.leave(seat);
    refusal(&mut core, error)
}

/// Says why a request was not sent; whoever waits at the gate is next.
#[cold]
pub(crate) fn refusal(core: &mut Held<'_>, error: TrySendError) -> Unsent {
    let unsent = match error {
        TrySendError::Full => Unsent::timeout(),
        TrySendError::TooLarge { len, max } => Unsent::Error(CallError::TooLarge { len, max }),
        TrySendError::NoMemory { errno } => Unsent::Error(CallError::NoMemory { errno }),
        TrySendError::Closed(reason) => {
            core.shut(reason.clone());
            Unsent::Elsewhere(reason)
        }
    };
    core.call_next();
    unsent
}

pub(crate) fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

/// Sleeps until somebody wakes this thread, or for no reason, or until the deadline.
fn park(deadline: Option<Instant>) {
    match deadline {
        None => thread::park(),
        Some(deadline) => thread::park_timeout(deadline.saturating_duration_since(Instant::now())),
    }
}

/// Frames up to this length are written under the lock.
const SHORT_BYTES: usize = 8 << 10;
