//! Where a member sits: its receiver, and how closely it is looked at.

use super::member::{Event, Member};
use super::receiver::Receiver;
use crate::error::{CloseReason, TryRecvError};
use crate::shm::{Peer, SharedWord};
use crate::sys;

/// A member with all that its worker knows of it.
pub(super) struct Seat {
    pub(super) member: Member,
    pub(super) receiver: Receiver,
    pub(super) place: Place,
    /// Sweeps in a row that found nothing here.
    pub(super) misses: u32,
    /// Its sender waits for room.
    pub(super) is_stuck: bool,
    /// The last event was handed out.
    pub(super) has_left: bool,
    /// It waits in the list of those whose wishes may have changed.
    pub(super) is_touched: bool,
    /// Its doorbells and its process are waited for.
    is_watched: bool,
    is_space_watched: bool,
}

/// How closely a ring is looked at, and where in the list of those like it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In every sweep: something came lately.
    Hot(usize),
    /// In some sweeps, and before every sleep.
    Cold(usize),
    /// Not at all.
    Paused,
}

/// A ring that nothing came from lately: all that a look needs, on as few cache lines as possible.
pub(super) struct Cold {
    header: SharedWord<Peer>,
    pub(super) seat: u32,
}

impl Cold {
    /// Says whether something has come. The end of a connection rings the doorbell, so it is not looked for here.
    #[inline(always)]
    pub(super) fn is_ready(&self) -> bool {
        self.header.load_relaxed() != 0
    }
}

/// What a descriptor of a member is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// Rings for data and tells of the end.
    Socket,
    /// Rings for space.
    Space,
    /// Tells of the end of the process.
    Process,
}

impl Door {
    /// Returns the number under which a door of a seat is waited for.
    pub(super) fn token(self, seat: u32) -> u64 {
        u64::from(seat) << 2 | self as u64
    }

    /// Returns the door and the seat of a number; `None` for numbers of something else.
    pub(super) fn of(token: u64) -> Option<(Self, u32)> {
        let door =
            [Self::Socket, Self::Space, Self::Process].into_iter().find(|door| *door as u64 == token & 3)?;
        Some((door, u32::try_from(token >> 2).ok()?))
    }
}

impl Seat {
    pub(super) fn new(member: Member, receiver: Receiver) -> Self {
        Self {
            member,
            receiver,
            place: Place::Paused,
            misses: 0,
            is_stuck: false,
            has_left: false,
            is_touched: false,
            is_watched: false,
            is_space_watched: false,
        }
    }

    /// Takes a bounded number of messages, so that one member cannot hold up the others; returns the number of events.
    pub(super) fn serve(&mut self, handle: &mut impl FnMut(&mut Member, Event<'_>)) -> usize {
        let (mut events, mut bytes) = (0, 0);
        while events < MESSAGES_PER_SWEEP && bytes < BYTES_PER_SWEEP && !self.is_held_back() {
            match self.receiver.try_recv() {
                Ok(message) => {
                    bytes += message.len();
                    events += 1;
                    handle(&mut self.member, Event::Message(&message));
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Closed(reason)) => {
                    events += 1;
                    self.leave(reason, handle);
                    break;
                }
            }
        }
        events
    }

    /// Hands out the last event.
    pub(super) fn leave(&mut self, reason: CloseReason, handle: &mut impl FnMut(&mut Member, Event<'_>)) {
        self.has_left = true;
        handle(&mut self.member, Event::Left(reason));
    }

    /// Says whether the handler wants nothing more of this member for now.
    #[inline(always)]
    fn is_held_back(&self) -> bool {
        let wishes = self.member.wishes;
        wishes.leave || wishes.pause && !self.receiver.link().is_hung_up()
    }

    /// Says whether the handler wishes something that was not granted yet.
    #[inline(always)]
    pub(super) fn has_wishes(&self) -> bool {
        let wishes = self.member.wishes;
        wishes.leave || wishes.pause != (self.place == Place::Paused) || wishes.room != self.is_stuck
    }

    /// Makes what a sweep looks at while this ring is cold.
    pub(super) fn cold(&self, number: u32) -> Cold {
        Cold { header: self.receiver.header_word(), seat: number }
    }

    /// Waits from now on for its doorbell and its end.
    pub(super) fn watch(&mut self, epoll: &sys::Epoll, number: u32) -> std::io::Result<()> {
        let link = self.receiver.link();
        epoll.watch(link.socket(), Door::Socket.token(number))?;
        self.is_watched = true;
        match link.pidfd() {
            Some(pidfd) => epoll.watch(pidfd, Door::Process.token(number)),
            None => Ok(()),
        }
    }

    /// Waits from now on for its space doorbell too.
    pub(super) fn watch_space(&mut self, epoll: &sys::Epoll, number: u32) -> std::io::Result<()> {
        if !self.is_space_watched && self.is_watched {
            epoll.watch(self.receiver.link().space(), Door::Space.token(number))?;
            self.is_space_watched = true;
        }
        Ok(())
    }

    /// Waits for nothing of it any more. Only in the process that waits: a child shares the set.
    pub(super) fn unwatch(&mut self, epoll: &sys::Epoll) {
        let link = self.receiver.link();
        if std::mem::take(&mut self.is_watched) {
            epoll.unwatch(link.socket());
            if let Some(pidfd) = link.pidfd() {
                epoll.unwatch(pidfd);
            }
        }
        if std::mem::take(&mut self.is_space_watched) {
            epoll.unwatch(link.space());
        }
    }
}

/// Messages that one member may have handled before it is the next one's turn.
const MESSAGES_PER_SWEEP: usize = 256;
const BYTES_PER_SWEEP: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_a_door_of_a_seat_and_nothing_else() {
        for door in [Door::Socket, Door::Space, Door::Process] {
            for seat in [0, 1, 65_535, u32::MAX] {
                assert_eq!(Door::of(door.token(seat)), Some((door, seat)));
            }
        }
        assert_eq!(Door::of(3), None);
        assert_eq!(Door::of(u64::MAX), None);
    }
}
