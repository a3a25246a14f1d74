//! Finding room for a message, going by the policy.

use super::super::peer::Peer;
use super::super::policy::{Policy, Sent};
use super::Sender;
use super::fragments::REST_STALL_MAX;
use crate::connection::PeerCred;
use crate::error::CloseReason;
use crate::error::broadcast::{SendError, SendTimeoutError, TrySendError};
use crate::ring::{NoRoom, Reservation};
use crate::wait::{Spun, Wait};
use std::time::Instant;

/// Why a message is not in the ring.
pub(super) enum Stop {
    /// That is settled: nobody wants it, or the policy drops it.
    Settled(Sent),
    /// There is no room yet because of this receiver.
    WouldBlock(Peer),
    TooLarge {
        len: usize,
        max: usize,
    },
    NoMemory {
        errno: i32,
    },
    Closed(CloseReason),
}

impl Sender {
    /// Says whether sending makes sense at all, and sees to what the control thread has to say.
    pub(super) fn check(&mut self) -> Result<(), Stop> {
        if !self.owner.is_current() {
            return Err(Stop::Closed(CloseReason::Forked));
        }
        if let Some(reason) = &self.ended {
            return Err(Stop::Closed(reason.clone()));
        }
        if self.desk.has_news() {
            self.attend();
        }
        Ok(())
    }

    /// Says whether anybody will ever read a message that is sent now.
    pub(super) fn is_wanted(&self) -> bool {
        !self.readers.is_empty() || self.history.is_kept()
    }

    /// Finds room if there is some now, without harm to anybody who keeps to the protocol.
    pub(super) fn find_room(&mut self, len: usize, align: u64) -> Result<Reservation, Stop> {
        if len > self.record_bytes_max() {
            return Err(Stop::TooLarge { len, max: self.record_bytes_max() });
        }
        if self.owes_abandon {
            self.pay_abandon()?;
        }
        loop {
            match self.producer.reserve(len, align) {
                Ok(reservation) => {
                    self.stalls.clear();
                    return Ok(reservation);
                }
                Err(no_room) => self.refuse(no_room, len)?,
            }
        }
    }

    /// Turns a missing room into what the caller is told; `Ok`: it is worth another try.
    #[cold]
    pub(super) fn refuse(&mut self, no_room: NoRoom, len: usize) -> Result<(), Stop> {
        match no_room {
            NoRoom::Full => {
                self.counters.full.add(1);
                Err(Stop::WouldBlock(self.slowest()))
            }
            NoRoom::TooLarge { max } => Err(Stop::TooLarge { len, max: max.min(self.message_bytes_max) }),
            NoRoom::NoMemory { errno } => Err(Stop::NoMemory { errno }),
            NoRoom::Reader { number, violation } => {
                self.cut(number, CloseReason::Violation(violation));
                Ok(())
            }
        }
    }

    /// Finds room going by the policy, without waiting: whoever may be disconnected for it is.
    pub(super) fn reserve_by_policy(&mut self, len: usize, align: u64) -> Result<Reservation, Stop> {
        loop {
            match self.find_room(len, align) {
                Err(Stop::WouldBlock(by)) if !self.make_room() => return Err(Stop::WouldBlock(by)),
                Err(Stop::WouldBlock(_)) => {}
                outcome => return outcome,
            }
        }
    }

    /// Disconnects who is in the way, as far as the policy has it; says whether it is worth another try.
    fn make_room(&mut self) -> bool {
        match self.policy {
            Policy::Disconnect => {
                let in_the_way: Vec<u64> = self.producer.blockers().map(|reader| reader.number).collect();
                for number in &in_the_way {
                    self.cut(*number, CloseReason::TooSlow);
                }
                !in_the_way.is_empty()
            }
            Policy::Block { stall_max: Some(stall_max) } => {
                let now = Instant::now();
                self.note_stalls(now);
                let Some(number) = self.stalls.overdue(now, stall_max) else { return false };
                self.cut(number, CloseReason::TooSlow)
            }
            Policy::Block { stall_max: None } | Policy::DropNewest | Policy::Overwrite => {
                // Nobody is overdue for a message that begins; those of one that was given up are no reason to wake.
                self.stalls.clear();
                false
            }
        }
    }

    /// Takes note of who is in the way of what was refused last.
    pub(super) fn note_stalls(&mut self, now: Instant) {
        let blockers = self.producer.blockers().map(|reader| (reader.number, reader.position));
        self.stalls.note(now, blockers);
    }

    /// Returns when somebody who is in the way now will be disconnected for it.
    pub(crate) fn next_stall(&self) -> Option<Instant> {
        match self.policy {
            Policy::Block { stall_max: Some(stall_max) } => self.stalls.next(stall_max),
            Policy::DropNewest | Policy::Disconnect => self.stalls.next(REST_STALL_MAX),
            Policy::Block { stall_max: None } | Policy::Overwrite => None,
        }
    }

    pub(super) fn reserve_until(
        &mut self,
        len: usize,
        align: u64,
        deadline: Option<Instant>,
    ) -> Result<Reservation, Stop> {
        let mut waited = false;
        loop {
            self.check()?;
            match self.reserve_by_policy(len, align) {
                Err(Stop::WouldBlock(by)) => {
                    // Whatever woke us, false alarms included, the deadline ends it.
                    if waited && deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        // Nobody is waited for until the next send.
                        self.stalls.clear();
                        return Err(Stop::WouldBlock(by));
                    }
                    self.wait_for_room(len, align, deadline)?;
                    waited = true;
                }
                outcome => return outcome,
            }
        }
    }

    /// Waits until another try may succeed, `deadline` has passed, or somebody is overdue.
    pub(super) fn wait_for_room(
        &mut self,
        len: usize,
        align: u64,
        deadline: Option<Instant>,
    ) -> Result<(), Stop> {
        let until = self.next_stall().into_iter().chain(deadline).min();
        let Self { producer, desk, spinner, .. } = self;
        let ready = || desk.has_news() || !matches!(producer.reserve(len, align), Err(NoRoom::Full));
        match spinner.spin(until, true, ready) {
            Spun::Ready | Spun::TimedOut => return Ok(()),
            Spun::Exhausted if spinner.wait() == Wait::Spin => return Ok(()),
            Spun::Exhausted => {}
        }
        if self.arm_for(len, align) == crate::connection::Armed::Ready {
            return Ok(());
        }
        let slept = self.sleep(until);
        self.rise();
        slept.map_err(|error| {
            let reason = CloseReason::Os { errno: error.raw_os_error().unwrap_or(0) };
            Stop::Closed(self.ended.insert(reason).clone())
        })
    }

    /// Returns the receiver that has read least.
    fn slowest(&self) -> Peer {
        let slowest = self.producer.readers().min_by_key(|reader| reader.position);
        let found = slowest
            .and_then(|slowest| self.readers.iter().find(|reader| reader.peer.number() == slowest.number));
        found.map_or(NOBODY, |reader| reader.peer)
    }
}

impl Stop {
    /// Turns what stopped a message into what the caller is told.
    pub(super) fn into_result<E: From<Self>>(self) -> Result<Sent, E> {
        match self {
            Self::Settled(sent) => Ok(sent),
            stop => Err(stop.into()),
        }
    }
}

/// Stands for a receiver that is in the way and unknown, which never happens.
const NOBODY: Peer = Peer::new(0, PeerCred { pid: 0, uid: 0, gid: 0 });

impl From<Stop> for TrySendError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::WouldBlock(by) => Self::WouldBlock { receiver: by.number(), pid: by.pid() },
            Stop::TooLarge { len, max } => Self::TooLarge { len, max },
            Stop::NoMemory { errno } => Self::NoMemory { errno },
            Stop::Closed(reason) => Self::Closed(reason),
            Stop::Settled(_) => unreachable!("invariant: `into_result` took it"),
        }
    }
}

impl From<Stop> for SendError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::TooLarge { len, max } => Self::TooLarge { len, max },
            Stop::NoMemory { errno } => Self::NoMemory { errno },
            Stop::Closed(reason) => Self::Closed(reason),
            Stop::WouldBlock(_) => unreachable!("invariant: no deadline was given"),
            Stop::Settled(_) => unreachable!("invariant: `into_result` took it"),
        }
    }
}

impl From<Stop> for SendTimeoutError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::WouldBlock(by) => Self::Timeout { receiver: by.number(), pid: by.pid() },
            Stop::TooLarge { len, max } => Self::TooLarge { len, max },
            Stop::NoMemory { errno } => Self::NoMemory { errno },
            Stop::Closed(reason) => Self::Closed(reason),
            Stop::Settled(_) => unreachable!("invariant: `into_result` took it"),
        }
    }
}
