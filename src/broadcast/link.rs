//! One subscription, as either side sees it: a socket that rings and tells of the end.

use crate::connection::PeerCred;
use crate::sys;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// One subscription: the sender rings "there is data" on its socket, the receiver "there is space", and each side drains
/// what it gets when it sleeps. The control thread watches for its end.
pub(super) struct Link {
    socket: OwnedFd,
    /// The peer's process, where the kernel can say so: a forked child that holds the socket does not keep it alive.
    pidfd: Option<OwnedFd>,
    cred: PeerCred,
}

/// What the last byte on a socket says: why the sender hung up. Rings are [`Ring`](Self::Ring).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Farewell {
    /// Nothing: the peer closed, or died.
    Ring = 1,
    /// The receiver was too slow for the sender's policy.
    TooSlow = 2,
    /// The sender's application wanted it so.
    Disconnected = 3,
}

impl Link {
    pub(super) fn new(socket: OwnedFd, pidfd: Option<OwnedFd>, cred: PeerCred) -> Self {
        Self { socket, pidfd, cred }
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    pub(super) fn cred(&self) -> PeerCred {
        self.cred
    }

    /// Wakes the peer. Whether it still lives is the control thread's business.
    pub(super) fn ring(&self) {
        let _ = sys::ring_doorbell(self.socket());
    }

    /// Ends the subscription, for both sides at once, and says why as far as there is room for a byte.
    pub(super) fn end(&self, farewell: Farewell) {
        sys::say_farewell(self.socket(), farewell as u8);
        sys::shut_down(self.socket());
    }

    /// Returns what the peer said last before it hung up.
    pub(super) fn farewell(&self) -> Farewell {
        sys::last_words(self.socket()).map_or(Farewell::Ring, Farewell::of)
    }
}

impl Farewell {
    /// Reads a byte that came; whatever has no meaning is a ring.
    pub(super) fn of(byte: u8) -> Self {
        match byte {
            2 => Self::TooSlow,
            3 => Self::Disconnected,
            _ => Self::Ring,
        }
    }
}
