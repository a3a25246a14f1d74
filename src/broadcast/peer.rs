//! Who is at the other end, and what happens to them.

use super::message::Message;
use crate::connection::PeerCred;
use crate::error::{CloseReason, Refusal};
use std::fmt;

/// Somebody at the other end: a receiver of ours, or a sender whom we hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    number: u64,
    cred: PeerCred,
}

impl Peer {
    pub(super) const fn new(number: u64, cred: PeerCred) -> Self {
        Self { number, cred }
    }

    /// Returns its number: counted from 1 by this handle, never used twice.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns who it is, as the kernel said at the handshake.
    pub fn cred(&self) -> PeerCred {
        self.cred
    }

    /// Returns its process id at that time: good for logs, never an identity.
    pub fn pid(&self) -> u32 {
        self.cred.pid
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "member {} (process {})", self.number, self.cred.pid)
    }
}

/// A receiver came or went; see [`Sender::try_event`](super::Sender::try_event).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemberEvent {
    /// It gets what is sent from now on (and what the history holds).
    Joined(Peer),
    /// It gets nothing more: it left ([`CloseReason::PeerClosed`]), died, was too slow, was disconnected by us, or broke the
    /// protocol.
    Left(Peer, CloseReason),
}

/// What a receiver sees, in the order in which it happens; see [`Receiver::next`](super::Receiver::next).
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Somebody sent this.
    Message(Message<'a>),
    /// Messages of this sender were overwritten before they were read. Reading goes on behind them.
    Lagged {
        /// Whose they were.
        from: Peer,
        /// How many.
        messages: u64,
    },
    /// This sender is heard from now on.
    Joined(Peer),
    /// This sender is not heard any more; everything that it sent before it closed or died was handed out.
    ///
    /// After [`CloseReason::TooSlow`] (it cut us off) we subscribe to it again by ourselves.
    Left(Peer, CloseReason),
    /// A sender is there, but does not go together with us.
    Refused(Refusal),
}
