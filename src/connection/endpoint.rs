//! The tables of a listening process: slots for statistics, lines for workers, and who is connected.

use super::talk::{Talk, Trouble};
use crate::config::Config;
use crate::metrics::{Slot, SlotKind, Stats};
use crate::proto::handshake::{Message, Purpose, Terms};
use crate::shm::layout::{self, endpoint};
use crate::shm::{Own, Segment, SharedWord};
use crate::sys;
use std::collections::HashMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The endpoint segment of a listener and what stands in it.
pub(crate) struct Endpoint {
    segment: Segment,
    slots: usize,
    admitted: Mutex<Admitted>,
}

/// Who is connected now. Touched when connections come and go, never by a message.
#[derive(Default)]
struct Admitted {
    by_uid: HashMap<u32, Share>,
    bytes: u64,
    free_slots: Vec<usize>,
    slots_used: usize,
    connections: u64,
    workers: u64,
}

/// What the connections of one user have.
#[derive(Default)]
struct Share {
    connections: usize,
    bytes: u64,
}

/// What connections may have beside their places.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quota {
    pub(crate) connections_per_uid_max: usize,
    pub(crate) bytes_max: u64,
    pub(crate) bytes_per_uid_max: u64,
}

/// The place of one connection; dropping it gives the place back.
pub(crate) struct Ticket {
    endpoint: Arc<Endpoint>,
    uid: u32,
    bytes: u64,
    slot: usize,
    connection: u64,
}

impl Endpoint {
    /// Creates the segment for at most `slots` connections. Its pages are touched only as slots are used.
    pub(crate) fn new(slots: usize) -> io::Result<Self> {
        Ok(Self { segment: Segment::endpoint(slots)?, slots, admitted: Mutex::default() })
    }

    /// Gives a connection of user `uid`, whose two rings have `bytes`, a place, if there is one: in all, and for this user.
    pub(crate) fn admit(self: &Arc<Self>, uid: u32, bytes: u64, quota: Quota) -> Option<Ticket> {
        let mut admitted = self.admitted();
        let share = admitted.by_uid.get(&uid);
        let (connections, of_uid) = share.map_or((0, 0), |share| (share.connections, share.bytes));
        if connections >= quota.connections_per_uid_max
            || of_uid.saturating_add(bytes) > quota.bytes_per_uid_max
            || admitted.bytes.saturating_add(bytes) > quota.bytes_max
        {
            return None;
        }
        let slot = self.take_slot(&mut admitted)?;
        let share = admitted.by_uid.entry(uid).or_default();
        share.connections += 1;
        share.bytes += bytes;
        admitted.bytes += bytes;
        admitted.connections += 1;
        let connection = admitted.connections;
        Some(Ticket { endpoint: Arc::clone(self), uid, bytes, slot, connection })
    }

    /// Makes the slot of the owner itself, which takes one place and is no connection. `None` when all are taken.
    pub(crate) fn own_slot(&self) -> io::Result<Option<Slot>> {
        let mut admitted = self.admitted();
        let Some(number) = self.take_slot(&mut admitted) else { return Ok(None) };
        admitted.connections += 1;
        let start = self.prepare_slot(number)?;
        let slot = Slot::new(self.segment.words_from(start), admitted.connections, sys::pid(), sys::uid());
        slot.set_kind(SlotKind::Itself);
        Ok(Some(slot))
    }

    fn take_slot(&self, admitted: &mut Admitted) -> Option<usize> {
        if let Some(slot) = admitted.free_slots.pop() {
            return Some(slot);
        }
        let slot = admitted.slots_used;
        if slot >= self.slots {
            return None;
        }
        admitted.slots_used += 1;
        // One writer at a time: the lock is held.
        self.segment.word(endpoint::SLOTS_USED).store_relaxed(admitted.slots_used as u64);
        Some(slot)
    }

    /// Gives a slot memory and returns where it begins. The first touch of a page without memory would be a signal.
    fn prepare_slot(&self, slot: usize) -> io::Result<usize> {
        let start = slot_offset(slot);
        self.segment.allocate(start as u64, endpoint::SLOT_BYTES as u64)?;
        Ok(start)
    }

    /// Gives out the line of a worker that will sleep for several connections; `None` when all are taken.
    pub(crate) fn worker_line(&self) -> Option<(u64, SharedWord<Own>)> {
        let mut admitted = self.admitted();
        let number = admitted.workers;
        if number as usize >= endpoint::WORKERS_MAX {
            return None;
        }
        admitted.workers += 1;
        Some((number, self.segment.word(worker_line_offset(number))))
    }

    /// Returns how many connections there are now.
    pub(crate) fn connections(&self) -> usize {
        self.admitted().by_uid.values().map(|share| share.connections).sum()
    }

    /// Adds what all connections of now have done to `sum`.
    pub(crate) fn add_to(&self, sum: &mut Stats) {
        // Held while reading, so that no slot passes to another connection meanwhile.
        let admitted = self.admitted();
        for slot in 0..admitted.slots_used {
            sum.add(&Stats::read(|offset| self.segment.word(slot_offset(slot) + offset).load_relaxed()));
        }
    }

    /// Shows the tables to a monitor that said hello, if its user may see them, and hangs up.
    pub(crate) fn show(&self, talk: Talk, config: &Config) -> Result<(), Trouble> {
        if let Err(refusal) = talk.admitted(config) {
            talk.refuse(refusal);
            return Err(refusal.into());
        }
        let terms = Terms { endpoint_slots: self.slots as u32, ..Terms::new(Purpose::Monitor) };
        talk.send(&Message::Welcome(terms), &[self.file()])
    }

    /// Returns the number of slots, which says how large the segment is.
    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.segment.file()
    }

    fn admitted(&self) -> MutexGuard<'_, Admitted> {
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Makes the statistics slot of this connection.
    pub(crate) fn slot(&self, peer_pid: u32) -> io::Result<Slot> {
        let start = self.endpoint.prepare_slot(self.slot)?;
        Ok(Slot::new(self.endpoint.segment.words_from(start), self.connection, peer_pid, self.uid))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut admitted = self.endpoint.admitted();
        if let Some(share) = admitted.by_uid.get_mut(&self.uid) {
            share.connections -= 1;
            share.bytes -= self.bytes;
            if share.connections == 0 {
                admitted.by_uid.remove(&self.uid);
            }
        }
        admitted.bytes -= self.bytes;
        admitted.free_slots.push(self.slot);
    }
}

/// Returns where a slot begins.
pub(super) fn slot_offset(slot: usize) -> usize {
    endpoint::SLOT_TABLE + slot * endpoint::SLOT_BYTES
}

/// Returns where the line of a worker begins.
pub(crate) const fn worker_line_offset(number: u64) -> usize {
    endpoint::WORKER_LINES + number as usize * layout::LINE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_in_all_and_per_user_and_come_back() {
        let endpoint = Arc::new(Endpoint::new(3).unwrap());
        let quota = Quota { connections_per_uid_max: 2, bytes_max: u64::MAX, bytes_per_uid_max: u64::MAX };
        let first = endpoint.admit(1, 1, quota).unwrap();
        let second = endpoint.admit(1, 1, quota).unwrap();
        assert!(endpoint.admit(1, 1, quota).is_none(), "third of one user");
        let third = endpoint.admit(2, 1, quota).unwrap();
        assert!(endpoint.admit(3, 1, quota).is_none(), "fourth in all");
        assert_eq!(endpoint.connections(), 3);
        drop(first);
        assert!(endpoint.admit(1, 1, quota).is_some());
        drop((second, third));
        assert_eq!(endpoint.connections(), 0);
    }

    #[test]
    fn bytes_are_limited_in_all_and_per_user_and_come_back() {
        let endpoint = Arc::new(Endpoint::new(9).unwrap());
        let quota = Quota { connections_per_uid_max: 9, bytes_max: 100, bytes_per_uid_max: 60 };
        let first = endpoint.admit(1, 60, quota).unwrap();
        assert!(endpoint.admit(1, 1, quota).is_none(), "too much for one user");
        assert!(endpoint.admit(2, 41, quota).is_none(), "too much in all");
        assert!(endpoint.admit(2, u64::MAX, quota).is_none(), "no sum of bytes wraps");
        let second = endpoint.admit(2, 40, quota).unwrap();
        assert!(endpoint.admit(3, 1, quota).is_none());
        drop((first, second));
        assert!(endpoint.admit(1, 60, quota).is_some());
    }

    #[test]
    fn there_is_a_line_for_each_of_64_workers() {
        let endpoint = Endpoint::new(1).unwrap();
        let numbers: Vec<u64> = (0..64).map(|_| endpoint.worker_line().unwrap().0).collect();
        assert_eq!(numbers, (0..64).collect::<Vec<_>>());
        assert!(endpoint.worker_line().is_none());
    }
}
