//! Who reads, and what is done with what was read; see `core` for the rules.

use super::core::{Core, End, ROOM_INTERVAL};
use super::seats::Wake;
use crate::connection::Receiver;
use crate::error::{CloseReason, TryRecvError};
use crate::proto::call::{Due, Frame};
use std::time::Instant;

impl Core {
    /// Takes the baton, and with it the receiver, if nobody has it.
    #[inline]
    pub(crate) fn take_receiver(&mut self) -> Option<Box<Receiver>> {
        if self.end.is_some() || self.receiver.is_none() {
            return None;
        }
        if !self.baton.take() {
            #[cfg(feature = "tokio")]
            {
                self.tasks.driver_reads = false;
            }
        }
        self.receiver.take()
    }

    /// Lets the driver read, or go on reading, if no thread reads; the second value says whether it goes on.
    #[cfg(feature = "tokio")]
    pub(crate) fn drive(&mut self) -> Option<(Box<Receiver>, bool)> {
        let goes_on = self.tasks.driver_reads;
        if !goes_on && !self.baton.take() {
            return None;
        }
        self.tasks.driver_reads = true;
        self.receiver.take().map(|receiver| (receiver, goes_on))
    }

    /// Takes the receiver back from the driver between two of its polls. A thread that has sat down meanwhile may have it.
    #[cfg(feature = "tokio")]
    pub(crate) fn rest(&mut self, receiver: Box<Receiver>) {
        self.receiver = Some(receiver);
        self.retire_driver();
        if self.tasks.driver_reads {
            let thread = self.baton.any_seated();
            self.wakes.push(thread);
        }
    }

    /// Takes the baton from the driver if it has it and no task waits any more.
    #[cfg(feature = "tokio")]
    pub(crate) fn retire_driver(&mut self) {
        if self.tasks.waiting == 0 && self.tasks.driver_reads && self.receiver.is_some() {
            (self.tasks.driver_reads, self.tasks.driver_idles) = (false, true);
            let next = self.baton.put_back();
            self.pass_on(next);
        }
    }

    /// Brings baton and receiver back, and appoints who reads on.
    #[inline]
    pub(crate) fn bring_receiver(&mut self, receiver: Box<Receiver>) {
        if self.end.is_none() {
            self.receiver = Some(receiver);
        }
        #[cfg(feature = "tokio")]
        {
            self.tasks.driver_reads = false;
        }
        let next = self.baton.put_back();
        self.pass_on(next);
    }

    /// Wakes who reads next: a thread that sits on the bench, else the driver.
    #[inline]
    pub(super) fn pass_on(&mut self, next: Option<Wake>) {
        #[cfg(feature = "tokio")]
        if next.is_none()
            && self.tasks.waiting > 0
            && self.baton.is_at_home()
            && let Some(driver) = self.tasks.driver
        {
            self.notify(driver);
        }
        self.wakes.push(next);
    }

    /// Reads what is there, without waiting, unless somebody else reads.
    pub(crate) fn read_some(&mut self) {
        let Some(mut receiver) = self.take_receiver() else { return };
        for _ in 0..MESSAGES_PER_LOOK {
            if !self.hear_next(&mut receiver) {
                break;
            }
        }
        self.bring_receiver(receiver);
    }

    /// Takes one message that is there and hands it out; `false`: there was none.
    #[inline]
    pub(crate) fn hear_next(&mut self, receiver: &mut Receiver) -> bool {
        if self.end.is_some() || self.wakes.is_full() {
            return false;
        }
        match receiver.try_recv() {
            Ok(message) => self.hear(&message),
            Err(TryRecvError::Empty) => return false,
            Err(TryRecvError::Closed(reason)) => self.end(End::Closed(reason)),
        }
        true
    }

    /// Does what is due while somebody waits for room to send; `moved`: there was some since the last time.
    pub(super) fn wait_for_room(&mut self, moved: bool) {
        self.read_some();
        let now = Instant::now();
        self.session.wait_for_room(now, moved);
        self.tick(now);
    }

    /// Says until when whoever reads in this seat may sleep if nothing comes. Nobody can call one who reads from the gate,
    /// so it looks for itself.
    #[inline]
    pub(super) fn next_look_of(&mut self, seat: usize, deadline: Option<Instant>) -> Option<Instant> {
        if !self.is_queued(seat) {
            return self.next_look(deadline);
        }
        let soon = Instant::now() + ROOM_INTERVAL;
        self.next_look(Some(deadline.map_or(soon, |deadline| deadline.min(soon))))
    }

    /// Says until when whoever reads may sleep if nothing comes.
    #[inline]
    pub(crate) fn next_look(&mut self, deadline: Option<Instant>) -> Option<Instant> {
        if self.outbox.is_empty() && !self.session.has_pulse() {
            return deadline;
        }
        let now = Instant::now();
        let room = if self.outbox.is_empty() { None } else { Some(now + ROOM_INTERVAL) };
        [deadline, room, self.session.next_deadline(now)].into_iter().flatten().min()
    }

    /// Does what is due by the clock.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.retry();
        match self.session.handle_timeout(now) {
            Due::Ping => self.say(Frame::Ping { id: 0 }),
            Due::Dead => self.end(End::Closed(CloseReason::PeerSilent)),
            Due::Nothing => {}
        }
    }
}

/// Messages handed out at once at most.
pub(crate) const MESSAGES_PER_LOOK: usize = 16;
