//! Building a message in place.

use super::sender::Sender;
use crate::ring::Reservation;
use std::fmt;
use std::ops::{Deref, DerefMut};

/// Room for one message in the sender's ring, to be filled and committed.
///
/// Dropping it leaves no trace. It lies in memory that the peer has mapped but does not look at before the commit. A
/// claim must not be used in a child made by `fork`: the ring is not mapped there.
#[must_use = "a claim that is dropped sends nothing; call commit"]
pub struct Claim<'a> {
    sender: &'a mut Sender,
    reservation: Reservation,
}

impl<'a> Claim<'a> {
    pub(super) fn new(sender: &'a mut Sender, reservation: Reservation) -> Self {
        Self { sender, reservation }
    }

    /// Sends the message.
    ///
    /// # Cost
    /// Wait-free; no copy, no allocation; one system call if the receiver sleeps.
    pub fn commit(self) {
        let len = self.reservation.len();
        self.commit_len(len);
    }

    /// Sends the first `len` bytes as the message; the rest is given back.
    ///
    /// # Panics
    /// If `len` is more than was claimed.
    pub fn commit_len(self, len: usize) {
        let claimed = self.reservation.len();
        assert!(len <= claimed, "commit of {len} bytes but only {claimed} were claimed");
        self.sender.commit(self.reservation, len);
    }

    /// Gives the room back; the same as dropping the claim.
    pub fn abort(self) {}
}

impl Deref for Claim<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.sender.producer.claimed(&self.reservation)
    }
}

impl DerefMut for Claim<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.sender.producer.claimed_mut(&self.reservation)
    }
}

impl fmt::Debug for Claim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Claim({} bytes)", self.reservation.len())
    }
}
