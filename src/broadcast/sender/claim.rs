//! Building a message in place, once for all receivers.

use super::super::policy::Sent;
use super::Sender;
use crate::error::broadcast::{SendError, SendTimeoutError, TrySendError};
use crate::ring::Reservation;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

/// Room for one message in the sender's ring, to be filled and committed.
///
/// Dropping it leaves no trace. It must not be used in a child made by `fork`: the ring is not mapped there.
#[must_use = "a claim that is dropped sends nothing; call commit"]
pub struct Claim<'a> {
    sender: &'a mut Sender,
    reservation: Reservation,
}

impl Claim<'_> {
    /// Sends the message to all receivers, and returns to how many.
    ///
    /// # Cost
    /// No copy, no allocation; one load for each receiver, and one system call for each that sleeps.
    pub fn commit(self) -> Sent {
        let len = self.reservation.len();
        self.commit_len(len)
    }

    /// Sends the first `len` bytes as the message; the rest is given back.
    ///
    /// # Panics
    /// If `len` is more than was claimed.
    pub fn commit_len(self, len: usize) -> Sent {
        let claimed = self.reservation.len();
        assert!(len <= claimed, "commit of {len} bytes but only {claimed} were claimed");
        // A claim from before a fork ends here: the child has no mapping to write to.
        if !self.sender.owner.is_current() {
            return Sent::NoReceivers;
        }
        self.sender.stage_message(self.reservation, len);
        self.sender.publish(1, len)
    }

    /// Gives the room back; the same as dropping the claim.
    pub fn abort(self) {}
}

impl Sender {
    /// Claims room for a message of `len` bytes, to be built in place once and read by all.
    ///
    /// The message stays invisible until [`Claim::commit`]; dropping the claim leaves no trace. What the bytes hold before
    /// they are written is unspecified: zeros, or what was sent earlier.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send); [`TrySendError::WouldBlock`] also with [`Policy::DropNewest`](super::super::Policy).
    pub fn try_claim(&mut self, len: usize) -> Result<Claim<'_>, TrySendError> {
        self.try_claim_aligned(len, 1)
    }

    /// Claims room whose first byte lies at a multiple of `align`, for typed payloads read in place.
    ///
    /// # Panics
    /// If `align` is not a power of two of at most 64.
    /// # Errors
    /// As [`try_claim`](Self::try_claim).
    pub fn try_claim_aligned(&mut self, len: usize, align: usize) -> Result<Claim<'_>, TrySendError> {
        let allowed = align.is_power_of_two() && align as u64 <= CLAIM_ALIGN_MAX;
        assert!(allowed, "alignment {align} is not a power of two up to {CLAIM_ALIGN_MAX}");
        self.check()?;
        let reservation = self.find_room(len, align as u64)?;
        Ok(Claim { sender: self, reservation })
    }

    /// Claims room for a message of `len` bytes, going by the policy when there is none, but
    /// [`Policy::DropNewest`](super::super::Policy::DropNewest) waits: there is no message to drop yet.
    ///
    /// # Errors
    /// [`SendError::TooLarge`]: longer than one record; claims are not fragmented. [`SendError::Closed`].
    pub fn claim(&mut self, len: usize) -> Result<Claim<'_>, SendError> {
        let reservation = self.reserve_until(len, 1, None)?;
        Ok(Claim { sender: self, reservation })
    }

    /// Claims room for a message of `len` bytes, waiting for at most `timeout`; see [`claim`](Self::claim).
    ///
    /// # Errors
    /// [`SendTimeoutError::Timeout`], else as [`claim`](Self::claim).
    pub fn claim_timeout(&mut self, len: usize, timeout: Duration) -> Result<Claim<'_>, SendTimeoutError> {
        let reservation = self.reserve_until(len, 1, Instant::now().checked_add(timeout))?;
        Ok(Claim { sender: self, reservation })
    }

    /// Claims room going by the policy, without waiting.
    #[cfg(feature = "tokio")]
    pub(crate) fn try_claim_by_policy(&mut self, len: usize) -> Result<Reservation, TrySendError> {
        self.check()?;
        Ok(self.reserve_by_policy(len, 1)?)
    }

    /// Makes a claim of room that was found.
    #[cfg(feature = "tokio")]
    pub(crate) fn claim_of(&mut self, reservation: Reservation) -> Claim<'_> {
        Claim { sender: self, reservation }
    }
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

/// Of claims: a cache line.
const CLAIM_ALIGN_MAX: u64 = 64;
