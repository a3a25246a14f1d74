//! The asking side of one connection: ids, calls in flight, windows of streams, and whether the server is alive.
//!
//! Ids count upwards from 1 and are never used twice. A call lies in the slot `id & mask`; an id whose slot is taken is
//! passed over, so finding a call is one look and nothing is ever hashed or searched. There are twice as many slots
//! as there may be calls.
//!
//! A call that was given up leaves its slot at once, since the server hears of it before it hears of the next request.
//! Its slot remembers the id until it is needed, so that an answer that was under way is told from one that nobody
//! asked for; of those forgotten only the number is known, and so many late answers are let pass.

use super::{CALLS_MAX_UNTOLD, Due, Frame, PART_BYTES_MIN, SILENT_INTERVALS, Settings};
use crate::error::call::FrameError;
use crate::proto::frame::{Codec, Header};
use std::time::{Duration, Instant};

/// One connection of a client. `T` is what the client keeps for a call in flight.
pub(crate) struct ClientSession<T> {
    codec: Codec,
    own: Settings,
    /// The server has said what it wants.
    settled: bool,
    going_away: bool,
    /// Calls that this side wants in flight at most.
    calls_max: u32,
    /// Calls that both sides want in flight at most, as far as known.
    limit: u32,
    live: u32,
    slots: Vec<Slot<T>>,
    next_id: u64,
    /// Calls that were given up and whose slot was needed since.
    forgotten: u64,
    late: u64,
    pulse: Option<Pulse>,
}

struct Slot<T> {
    /// 0: nothing was here, or nothing is expected any more.
    id: u64,
    /// `None`: given up.
    call: Option<T>,
    window: Option<Window>,
}

#[derive(Clone, Copy)]
struct Window {
    /// Bytes that it has when nothing is under way.
    bytes: u32,
    /// Bytes that the server may still send; a part may go beyond, the next one waits.
    left: i64,
    /// Bytes that were taken and not given back.
    owed: u32,
}

/// Watches over the server while calls are in flight.
struct Pulse {
    interval: Duration,
    due: Option<Instant>,
    heard: bool,
    silent: u32,
}

/// What a message of the server means for the client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard<'a, T> {
    /// The response, or the end of a stream. The call has ended.
    Answer { call: T, body: &'a [u8] },
    /// The call failed and has ended.
    Failed { call: T, code: u32, text: &'a [u8] },
    /// A part of a stream.
    Part { call: T, body: &'a [u8] },
    /// Say this.
    Say(Frame<'static>),
    /// More calls may be in flight than before, or fewer.
    Limit,
    /// No new calls; those in flight are answered.
    GoingAway,
    /// Nothing to do.
    Nothing,
}

impl<T: Copy> ClientSession<T> {
    /// Begins a connection; say [`settings`](Self::settings) first. The server is pinged if it says nothing for a
    /// `heartbeat`.
    pub(crate) fn new(without_checksum: bool, calls_max: u32, heartbeat: Option<Duration>) -> Self {
        let mut session = Self {
            codec: Codec::new(),
            own: Settings { without_checksum, calls_max: 0 },
            settled: false,
            going_away: false,
            calls_max,
            limit: 0,
            live: 0,
            slots: Vec::new(),
            next_id: 1,
            forgotten: 0,
            late: 0,
            pulse: heartbeat.map(|interval| Pulse { interval, due: None, heard: false, silent: 0 }),
        };
        session.set_limit(CALLS_MAX_UNTOLD);
        session
    }

    /// Returns what to say first.
    pub(crate) fn settings(&self) -> Frame<'static> {
        Frame::Settings(self.own)
    }

    /// Returns how frames are written now.
    #[inline]
    pub(crate) fn codec(&self) -> Codec {
        self.codec
    }

    /// Says whether another call may begin now.
    #[inline]
    pub(crate) fn may_begin(&self) -> bool {
        self.live < self.limit && !self.going_away
    }

    /// Says whether no call is in flight.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.live == 0
    }

    /// Says whether the server takes no new calls.
    pub(crate) fn is_going_away(&self) -> bool {
        self.going_away
    }

    /// Returns how many answers came for calls that had been given up.
    #[cfg(test)]
    pub(crate) fn late(&self) -> u64 {
        self.late
    }

    /// Notes a call and returns its id. `window`: bytes of a streamed response that may come before credit is given.
    ///
    /// # Panics
    /// If [`may_begin`](Self::may_begin) does not allow it: a bug of the caller.
    #[inline]
    pub(crate) fn begin(&mut self, window: Option<u32>, call: T) -> u64 {
        assert!(self.may_begin(), "a call begins beyond the limit of {}", self.limit);
        let mask = self.mask();
        // Half of the slots are free at least, so this ends.
        loop {
            let id = self.next_id;
            self.next_id += 1;
            let slot = &mut self.slots[(id & mask) as usize];
            if slot.call.is_some() {
                continue;
            }
            self.forgotten += u64::from(slot.id != 0);
            let window = window.map(|bytes| Window { bytes, left: bytes.into(), owed: 0 });
            *slot = Slot { id, call: Some(call), window };
            self.live += 1;
            return id;
        }
    }

    /// Takes back a call whose request was not sent.
    pub(crate) fn withdraw(&mut self, id: u64) {
        if self.leave(id) {
            self.slot(id).id = 0;
        }
    }

    /// Gives a call up; `true`: it was in flight, say [`Frame::Cancel`].
    pub(crate) fn give_up(&mut self, id: u64) -> bool {
        self.leave(id)
    }

    /// Notes that a part of `bytes` bytes was taken; returns the credit to give back, in batches of half a window.
    pub(crate) fn took(&mut self, id: u64, bytes: usize) -> Option<Frame<'static>> {
        let slot = self.slot(id);
        let window = slot.window.as_mut().filter(|_| slot.id == id && slot.call.is_some())?;
        window.owed = window.owed.saturating_add(cost(bytes));
        if window.owed < (window.bytes / 2).max(1) {
            return None;
        }
        let bytes = std::mem::take(&mut window.owed);
        window.left += i64::from(bytes);
        Some(Frame::Credit { id, bytes })
    }

    /// Hands out every call in flight and ends it: the connection has ended.
    pub(crate) fn end_all(&mut self, mut each: impl FnMut(T)) {
        self.live = 0;
        self.slots.iter_mut().filter_map(|slot| slot.call.take()).for_each(&mut each);
    }

    /// Understands a message.
    ///
    /// # Errors
    /// [`FrameError`]: the server broke the protocol; close the connection.
    #[inline]
    pub(crate) fn hear<'a>(&mut self, message: &'a [u8]) -> Result<Heard<'a, T>, FrameError> {
        if let Some(pulse) = &mut self.pulse {
            pulse.heard = true;
        }
        let (header, payload) = self.codec.read(message)?;
        match Frame::parse(&header, payload)? {
            Frame::Response { id, last: true, body } => {
                if !body.is_empty() && self.streams(id) {
                    return Err(FrameError::Turn { id });
                }
                Ok(self.finish(id)?.map_or(Heard::Nothing, |call| Heard::Answer { call, body }))
            }
            Frame::Response { id, last: false, body } => {
                Ok(self.part(id, body.len())?.map_or(Heard::Nothing, |call| Heard::Part { call, body }))
            }
            Frame::Failed { id, code, text } => {
                Ok(self.finish(id)?.map_or(Heard::Nothing, |call| Heard::Failed { call, code, text }))
            }
            frame => self.hear_control(&header, &frame),
        }
    }

    #[cold]
    fn hear_control(&mut self, header: &Header, frame: &Frame<'_>) -> Result<Heard<'static, T>, FrameError> {
        match *frame {
            Frame::Settings(theirs) if !self.settled => {
                self.settled = true;
                self.codec.checksum = !(theirs.without_checksum && self.own.without_checksum);
                // A server that takes no calls at all would let everybody wait for ever.
                self.set_limit(theirs.calls_max.max(1));
                Ok(Heard::Limit)
            }
            Frame::Ping { id } => Ok(Heard::Say(Frame::Pong { id })),
            Frame::Pong { .. } => Ok(Heard::Nothing),
            Frame::GoingAway => {
                self.going_away = true;
                Ok(Heard::GoingAway)
            }
            // Only a client can say the others.
            _ => Err(FrameError::Turn { id: header.id }),
        }
    }

    /// Says when [`handle_timeout`](Self::handle_timeout) is due, if somebody waits for an answer from `now` on.
    pub(crate) fn next_deadline(&mut self, now: Instant) -> Option<Instant> {
        let pulse = self.pulse.as_mut()?;
        if pulse.due.is_none() {
            (pulse.heard, pulse.silent) = (false, 0);
            pulse.due = now.checked_add(pulse.interval);
        }
        pulse.due
    }

    /// Notes that somebody waits for room at `now`, and whether the server made some since the last time, which is a sign of
    /// life.
    pub(crate) fn wait_for_room(&mut self, now: Instant, moved: bool) {
        if self.live > 0 && self.next_deadline(now).is_some() {
            self.pulse.iter_mut().for_each(|pulse| pulse.heard |= moved);
        }
    }

    /// Says whether a heartbeat was asked for; else nobody need look at the clock.
    #[inline]
    pub(crate) fn has_pulse(&self) -> bool {
        self.pulse.is_some()
    }

    /// Finds out what to do at `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Due {
        let Some(pulse) = self.pulse.as_mut() else { return Due::Nothing };
        if pulse.due.is_none_or(|due| now < due) {
            return Due::Nothing;
        }
        pulse.due = now.checked_add(pulse.interval);
        if std::mem::take(&mut pulse.heard) {
            pulse.silent = 0;
            return Due::Nothing;
        }
        pulse.silent += 1;
        match pulse.silent {
            1 => Due::Ping,
            silent if silent < SILENT_INTERVALS => Due::Nothing,
            _ => Due::Dead,
        }
    }

    /// Ends a call that was answered; `None`: it had been given up.
    #[inline]
    fn finish(&mut self, id: u64) -> Result<Option<T>, FrameError> {
        let call = self.find(id)?;
        if call.is_some() {
            self.leave(id);
        }
        let slot = self.slot(id);
        if slot.id == id {
            slot.id = 0;
        } else {
            self.forgotten -= 1;
        }
        Ok(call)
    }

    /// Charges a part of a stream; `None`: the call had been given up.
    fn part(&mut self, id: u64, bytes: usize) -> Result<Option<T>, FrameError> {
        let Some(call) = self.find(id)? else { return Ok(None) };
        let window = self.slot(id).window.as_mut().ok_or(FrameError::Turn { id })?;
        if window.left <= 0 {
            return Err(FrameError::Turn { id });
        }
        window.left -= i64::from(cost(bytes));
        Ok(Some(call))
    }

    /// Says whether a response in parts was asked for.
    #[inline]
    fn streams(&mut self, id: u64) -> bool {
        let slot = self.slot(id);
        slot.id == id && slot.window.is_some()
    }

    /// Finds the call that an answer is for; `None`: it had been given up.
    #[inline]
    fn find(&mut self, id: u64) -> Result<Option<T>, FrameError> {
        if id == 0 || id >= self.next_id {
            return Err(FrameError::Turn { id });
        }
        let slot = self.slot(id);
        let (known, call) = (slot.id == id, slot.call);
        if known && call.is_some() {
            return Ok(call);
        }
        if !known && self.forgotten == 0 {
            return Err(FrameError::Turn { id });
        }
        self.late += 1;
        Ok(None)
    }

    /// Takes a call out of those in flight; its slot still has the id.
    #[inline]
    fn leave(&mut self, id: u64) -> bool {
        let slot = self.slot(id);
        if slot.id != id || slot.call.take().is_none() {
            return false;
        }
        self.live -= 1;
        if self.live == 0
            && let Some(pulse) = &mut self.pulse
        {
            pulse.due = None;
        }
        true
    }

    fn set_limit(&mut self, told: u32) {
        self.limit = told.min(self.calls_max);
        let wanted = (2 * self.limit as usize).next_power_of_two();
        if wanted > self.slots.len() {
            let empty = || Slot { id: 0, call: None, window: None };
            let slots = std::iter::repeat_with(empty).take(wanted).collect();
            let old = std::mem::replace(&mut self.slots, slots);
            for slot in old.into_iter().filter(|slot| slot.id != 0) {
                // Ids that differ in fewer bits differ in more.
                let id = slot.id;
                *self.slot(id) = slot;
            }
        }
    }

    #[inline]
    fn mask(&self) -> u64 {
        self.slots.len() as u64 - 1
    }

    #[inline]
    fn slot(&mut self, id: u64) -> &mut Slot<T> {
        let index = id & self.mask();
        &mut self.slots[index as usize]
    }
}

fn cost(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX).max(PART_BYTES_MIN)
}

#[cfg(test)]
mod tests;
