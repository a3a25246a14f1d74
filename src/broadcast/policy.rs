//! What to do about slow receivers, and what became of a message.

use super::peer::Peer;
use std::time::Duration;

/// What a sender does when its ring is full because a receiver has not read on. Fixed when the sender is made.
///
/// Nothing of it is ever silent: the result of a send, the events and the statistics of both sides say what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// `send` waits until there is room: no message is lost. A receiver that has made no progress for `stall_max` while it
    /// was waited for is disconnected and told; with `None` it is waited for as long as it lives.
    Block {
        /// How long one receiver may hold all others up; 5 s by default.
        stall_max: Option<Duration>,
    },
    /// The new message is dropped, for all receivers, and the result says so. Who receives is never harmed.
    DropNewest,
    /// The oldest messages are overwritten. A receiver that was overtaken is told how many it has lost, and goes on.
    Overwrite,
    /// `send` disconnects, and tells, the receivers that are in the way; it never waits.
    Disconnect,
}

impl Default for Policy {
    /// Waits, and disconnects who stands still for 5 s.
    fn default() -> Self {
        Self::Block { stall_max: Some(STALL_MAX) }
    }
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is in the ring, for so many receivers.
    To {
        /// Receivers that have joined and will get it.
        receivers: usize,
    },
    /// Nobody receives. It is kept for those to come if there is a history, else it is gone.
    NoReceivers,
    /// [`Policy::DropNewest`]: there was no room because of this receiver, so nobody gets it.
    Dropped {
        /// The receiver that has read least.
        by: Peer,
    },
}

impl Sent {
    /// Returns how many receivers will get the message.
    pub fn receivers(self) -> usize {
        match self {
            Self::To { receivers } => receivers,
            Self::NoReceivers | Self::Dropped { .. } => 0,
        }
    }
}

const STALL_MAX: Duration = Duration::from_secs(5);
