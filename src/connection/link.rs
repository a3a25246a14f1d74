//! What the two halves of a connection share: sockets, what the kernel said of the peer, statistics.

use crate::error::CloseReason;
use crate::metrics::{Slot, Stats};
use crate::sys;
use crate::wait::{self, Parked};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// The user and process at the other end, as the kernel reported them with the peer's hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCred {
    /// Process id at that time: good for logs, never an identity, since numbers are reused.
    pub pid: u32,
    /// User id, mapped into our user namespace.
    pub uid: u32,
    /// Group id, mapped into our user namespace.
    pub gid: u32,
}

/// The parts of a link.
pub(super) struct LinkParts {
    /// Carried the handshake; now "there is data" is rung on it, and it tells of the peer's end.
    pub(super) socket: OwnedFd,
    /// "There is space" is rung on it.
    pub(super) space: OwnedFd,
    /// The process that sent the hello, where the kernel can say so: a forked child of the peer that holds the socket
    /// does not keep the peer alive.
    pub(super) pidfd: Option<OwnedFd>,
    pub(super) peer: PeerCred,
    pub(super) slot: Slot,
    /// Kept alive with the connection: the place in the listener's tables, say.
    pub(super) ticket: Option<Box<dyn Send + Sync>>,
}

/// What the two halves of a connection share.
pub(super) struct Link {
    parts: LinkParts,
    owner: sys::ForkToken,
    /// The peer's socket or process is known to be gone.
    hung_up: AtomicBool,
}

impl Link {
    pub(super) fn new(parts: LinkParts) -> io::Result<Self> {
        Ok(Self { parts, owner: sys::ForkToken::current()?, hung_up: AtomicBool::new(false) })
    }

    /// Says whether this process made the link; a child made by fork did not, and has no mappings.
    #[inline(always)]
    pub(super) fn is_ours(&self) -> bool {
        self.owner.is_current()
    }

    /// Says whether this process made the link and the peer is not known to be gone.
    #[inline(always)]
    pub(super) fn is_fit(&self) -> bool {
        self.is_ours() && !self.is_hung_up()
    }

    /// Says whether the peer is known to be gone.
    #[inline(always)]
    pub(super) fn is_hung_up(&self) -> bool {
        // Relaxed: the fact alone matters; what the peer had published before was made visible by the kernel when it
        // closed the socket, and each half looks at the ring once more.
        self.hung_up.load(Ordering::Relaxed)
    }

    pub(super) fn note_hung_up(&self) {
        self.hung_up.store(true, Ordering::Relaxed);
    }

    /// Ends the connection for both sides: the peer broke the protocol.
    pub(super) fn disconnect(&self) {
        self.note_hung_up();
        sys::shut_down(self.parts.socket.as_fd());
    }

    /// Asks the kernel, without waiting, whether the peer is gone.
    pub(super) fn look_after_peer(&self) {
        if wait::is_gone(self.parts.socket.as_fd(), self.pidfd()) {
            self.note_hung_up();
        }
    }

    /// Rings "there is data" at the peer.
    pub(super) fn ring_data(&self) {
        self.ring(self.parts.socket.as_fd());
    }

    /// Rings "there is space" at the peer.
    pub(super) fn ring_space(&self) {
        self.ring(self.parts.space.as_fd());
    }

    fn ring(&self, bell: BorrowedFd<'_>) {
        if matches!(sys::ring_doorbell(bell), sys::Rung::Gone) {
            self.note_hung_up();
        }
    }

    /// Sleeps until "there is data" rings, the peer is gone, or the deadline passes.
    pub(super) fn park_for_data(&self, deadline: Option<Instant>) -> io::Result<Parked> {
        self.park(self.parts.socket.as_fd(), deadline)
    }

    /// Sleeps until "there is space" rings, the peer is gone, or the deadline passes.
    pub(super) fn park_for_space(&self, deadline: Option<Instant>) -> io::Result<Parked> {
        self.park(self.parts.space.as_fd(), deadline)
    }

    /// Makes a descriptor that is readable when "there is data" rings or the peer is gone.
    pub(super) fn ready_set_for_data(&self) -> io::Result<sys::Epoll> {
        let set = self.ready_set_for_end()?;
        set.watch(self.parts.socket.as_fd(), 0)?;
        Ok(set)
    }

    /// Makes a descriptor that is readable when "there is space" rings or the peer is gone.
    pub(super) fn ready_set_for_space(&self) -> io::Result<sys::Epoll> {
        let set = self.ready_set_for_end()?;
        set.watch(self.parts.space.as_fd(), 0)?;
        // Data that the other half will take does not wake this one.
        set.watch_end(self.parts.socket.as_fd(), 0)?;
        Ok(set)
    }

    fn ready_set_for_end(&self) -> io::Result<sys::Epoll> {
        let set = sys::Epoll::new()?;
        if let Some(pidfd) = self.pidfd() {
            set.watch(pidfd, 0)?;
        }
        Ok(set)
    }

    fn park(&self, bell: BorrowedFd<'_>, deadline: Option<Instant>) -> io::Result<Parked> {
        let parked = wait::park(bell, self.parts.socket.as_fd(), self.pidfd(), deadline)?;
        if parked == Parked::HungUp {
            self.note_hung_up();
        }
        Ok(parked)
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.parts.socket.as_fd()
    }

    pub(super) fn space(&self) -> BorrowedFd<'_> {
        self.parts.space.as_fd()
    }

    pub(super) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.parts.pidfd.as_ref().map(AsFd::as_fd)
    }

    pub(super) fn peer(&self) -> PeerCred {
        self.parts.peer
    }

    pub(super) fn stats(&self) -> Stats {
        if self.is_ours() { self.parts.slot.snapshot() } else { Stats::default() }
    }

    /// The reason for an end that came without a good-bye.
    pub(super) fn died(&self) -> CloseReason {
        CloseReason::PeerDied { pid: self.parts.peer.pid }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // In a child made by fork the slot is not mapped, and it is the parent's to clear.
        if self.is_ours() {
            self.parts.slot.clear();
        } else {
            // So is the ticket, and its lock may have been held by another thread when the process forked.
            std::mem::forget(self.parts.ticket.take());
        }
    }
}
