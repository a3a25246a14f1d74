//! What a sender is made of, and what the control thread tells it.

use super::super::link::Link;
use super::super::peer::Peer;
use super::super::seat::Seat;
use crate::error::CloseReason;
use crate::metrics::Counter;
use crate::shm::{Peer as PeerSide, SharedWord};
use crate::wait::Waker;
use std::sync::Arc;

/// A receiver that the control thread has let in.
pub(crate) struct NewReader {
    pub(in super::super) number: u64,
    pub(in super::super) link: Arc<Link>,
    /// How far it has read.
    pub(in super::super) consumed: SharedWord<PeerSide>,
    /// Wakes it.
    pub(in super::super) waker: Waker,
    /// Messages of the past that it wants at most.
    pub(in super::super) history: u32,
    /// Where it starts, for monitors.
    pub(in super::super) joined_at: Counter,
    /// Its place in our tables.
    pub(in super::super) seat: Seat,
}

/// What the control thread tells a sender.
pub(crate) enum SenderNews {
    /// Somebody wants to receive.
    Reader(Box<NewReader>),
    /// The receiver with this number has hung up or died.
    Gone(u64),
    /// Somebody came and went before we looked.
    Passed(Peer, CloseReason),
}

impl SenderNews {
    /// Returns what is left of a receiver that has gone before it was let in.
    pub(in super::super) fn passed(&self) -> Self {
        match self {
            Self::Reader(reader) => {
                let peer = Peer::new(reader.number, reader.link.cred());
                let closed = reader.waker.is_closed();
                Self::Passed(peer, if closed { CloseReason::PeerClosed } else { died(&peer) })
            }
            Self::Gone(number) => Self::Gone(*number),
            Self::Passed(peer, reason) => Self::Passed(*peer, reason.clone()),
        }
    }
}

/// The reason for an end that came without a good-bye.
pub(super) fn died(peer: &Peer) -> CloseReason {
    CloseReason::PeerDied { pid: peer.pid() }
}

/// A receiver that has joined.
pub(super) struct Reader {
    pub(super) waker: Waker,
    pub(super) link: Arc<Link>,
    pub(super) peer: Peer,
    /// Its place in our tables.
    pub(super) _seat: Seat,
}
