//! Where others come in: a doorway, and first words heard side by side.

use super::doorway::Doorway;
use super::talk::{Talk, Trouble};
use crate::error::AcceptError;
use crate::proto::handshake::Message;
use crate::sys::{self, Suspect};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A doorway, and those who came in and have not said what they want.
///
/// Whoever is slow, dies, or lies holds nobody else up: all are heard side by side, each with a deadline, and there is a limit
/// for all of them and for those of one user.
pub(crate) struct Reception {
    doorway: Arc<Doorway>,
    guests: Vec<Guest>,
    /// What is waited for: the queue, and those who have not said what they want.
    epoll: sys::Epoll,
    handshake_timeout: Duration,
    /// More may wait in the queue than were let in at once.
    queue_left: bool,
    /// Descriptors ran out: leave the queue alone until then.
    resting_until: Option<Instant>,
    refused: u64,
}

/// A socket that was accepted.
struct Guest {
    talk: Talk,
    /// User that connected: for fairness among those who have not said what they want. Admission goes by what they say.
    uid: u32,
}

/// Somebody who has said what it wants, completely.
pub(crate) struct Visit {
    pub(crate) talk: Talk,
    pub(crate) message: Message,
    pub(crate) files: Vec<Suspect>,
}

impl Guest {
    fn new(socket: OwnedFd, deadline: Instant) -> Self {
        let uid = sys::socket_credentials(socket.as_fd()).map_or(u32::MAX, |cred| cred.uid);
        Self { talk: Talk::new(socket, deadline), uid }
    }
}

impl Reception {
    /// Makes one of a doorway.
    ///
    /// # Errors
    /// No descriptor is left, or no watch.
    pub(crate) fn new(doorway: Arc<Doorway>, handshake_timeout: Duration) -> io::Result<Self> {
        let epoll = sys::Epoll::new()?;
        epoll.watch(doorway.socket(), QUEUE)?;
        Ok(Self {
            doorway,
            guests: Vec::new(),
            epoll,
            handshake_timeout,
            queue_left: false,
            resting_until: None,
            refused: 0,
        })
    }

    pub(crate) fn doorway(&self) -> &Doorway {
        &self.doorway
    }

    /// Returns how many were refused or gave up before they had said what they want.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// Counts somebody who was refused for what it wants.
    pub(crate) fn note_refused(&mut self) {
        self.refused += 1;
    }

    /// Returns what is readable while there is something to [`drive`](Self::drive).
    pub(crate) fn set(&self) -> &sys::Epoll {
        &self.epoll
    }

    /// Says whether somebody may wait in the queue who is no news to a reactor.
    pub(crate) fn has_queue_left(&self) -> bool {
        self.queue_left
    }

    /// Some of those who were let in wait to be heard, who are no news to a reactor either.
    pub(crate) fn note_more(&mut self) {
        self.queue_left = true;
    }

    /// Returns when something must be done although nothing arrived.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.guests.iter().map(|guest| guest.talk.deadline()).chain(self.resting_until).min()
    }

    /// Takes in who waits in the queue and hears all; returns the first who has said what it wants.
    pub(crate) fn drive(&mut self) -> Result<Option<Visit>, AcceptError> {
        self.let_in()?;
        let now = Instant::now();
        let mut index = 0;
        while index < self.guests.len() {
            if self.guests[index].talk.is_expired(now) {
                self.take_guest(index);
                self.refused += 1;
                continue;
            }
            match self.guests[index].talk.receive() {
                Ok(None) => index += 1,
                Ok(Some((message, files))) => {
                    let guest = self.take_guest(index);
                    return Ok(Some(Visit { talk: guest.talk, message, files }));
                }
                Err(trouble) => {
                    let guest = self.take_guest(index);
                    self.refused += 1;
                    if let Trouble::Unacceptable(refusal) = trouble {
                        guest.talk.refuse(refusal);
                    }
                }
            }
        }
        Ok(None)
    }

    /// Accepts the sockets in the queue, a bounded number at a time.
    fn let_in(&mut self) -> Result<(), AcceptError> {
        let now = Instant::now();
        if self.resting_until.is_some_and(|until| now < until) {
            return Ok(());
        }
        if self.resting_until.take().is_some() {
            self.mute_queue(false)?;
        }
        self.queue_left = false;
        for _ in 0..LET_IN_AT_ONCE {
            if !self.has_room(now)? {
                return Ok(());
            }
            match sys::accept(self.doorway.socket()) {
                Ok(None) => return Ok(()),
                Ok(Some(socket)) => {
                    let guest = Guest::new(socket, now + self.handshake_timeout);
                    self.limit_half_open(guest.uid, now);
                    if self.epoll.watch(guest.talk.socket(), GUEST).is_err() {
                        // The user has no watches left. This client tries again, as after any hang-up.
                        self.refused += 1;
                        return self.rest_until(now + DESCRIPTOR_REST);
                    }
                    self.guests.push(guest);
                }
                Err(error) if sys::is_out_of_descriptors(&error) => {
                    return self.rest_until(now + DESCRIPTOR_REST);
                }
                Err(source) => return Err(AcceptError::Os { action: "accept a client", source }),
            }
        }
        self.queue_left = true;
        Ok(())
    }

    /// Says whether one more may come in: there is a place, or somebody who had time enough to say hello can go for it.
    fn has_room(&mut self, now: Instant) -> Result<bool, AcceptError> {
        let room = self.guests.len() < HALF_OPEN_MAX || self.turn_out(None, now);
        if !room {
            // They wait in the kernel's queue, which nobody can be turned out of.
            self.rest_until(now + HELLO_GRACE)?;
        }
        Ok(room)
    }

    /// Keeps one user from taking all places.
    fn limit_half_open(&mut self, uid: u32, now: Instant) {
        let of_uid = self.guests.iter().filter(|guest| guest.uid == uid).count();
        if of_uid >= HALF_OPEN_PER_UID_MAX {
            self.turn_out(Some(uid), now);
        }
    }

    /// Turns out the oldest half-open handshake, of one user or of all, if it had time enough: an honest client says
    /// hello within microseconds after it was scheduled.
    fn turn_out(&mut self, uid: Option<u32>, now: Instant) -> bool {
        let candidates =
            self.guests.iter().enumerate().filter(|(_, guest)| uid.is_none_or(|uid| guest.uid == uid));
        let oldest = candidates.min_by_key(|(_, guest)| guest.talk.deadline());
        let patience_left = self.handshake_timeout.saturating_sub(HELLO_GRACE);
        let Some((index, _)) = oldest.filter(|(_, guest)| guest.talk.deadline() <= now + patience_left)
        else {
            return false;
        };
        self.take_guest(index);
        self.refused += 1;
        true
    }

    fn take_guest(&mut self, index: usize) -> Guest {
        let guest = self.guests.swap_remove(index);
        self.epoll.unwatch(guest.talk.socket());
        guest
    }

    /// Leaves the queue alone until then.
    fn rest_until(&mut self, until: Instant) -> Result<(), AcceptError> {
        self.resting_until = Some(until);
        self.mute_queue(true)
    }

    fn mute_queue(&self, muted: bool) -> Result<(), AcceptError> {
        let changed = self.epoll.mute(self.doorway.socket(), QUEUE, muted);
        changed.map_err(|source| AcceptError::Os { action: "watch the queue of clients", source })
    }

    /// Leaves the queue alone for a moment: something failed there.
    pub(crate) fn back_off(&mut self) {
        // If not even that goes, the queue is looked at again at once.
        let _ = self.rest_until(Instant::now() + DESCRIPTOR_REST);
    }
}

/// Numbers in the set of descriptors.
const QUEUE: u64 = 0;
const GUEST: u64 = 1;
/// Handshakes that may be under way at one time: in all, and of one user.
const HALF_OPEN_MAX: usize = 256;
const HALF_OPEN_PER_UID_MAX: usize = 192;
/// How long a client certainly has for its hello, however many others there are.
const HELLO_GRACE: Duration = Duration::from_millis(10);
/// Well below the limits above, so that who was let in is heard before the next are.
const LET_IN_AT_ONCE: usize = 16;
/// How long to leave the queue alone when the process has no descriptors left.
const DESCRIPTOR_REST: Duration = Duration::from_millis(10);
