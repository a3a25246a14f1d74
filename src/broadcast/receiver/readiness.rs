//! Waiting in somebody else's reactor.

use super::Receiver;
use crate::connection::{Armed, Readiness};
use std::io;
use std::time::Instant;

impl Receiver {
    /// Makes a descriptor to wait on for messages, and for who comes and goes, in a reactor of any kind.
    ///
    /// The contract is that of [`ringway::Receiver::readiness`](crate::Receiver::readiness): [`try_recv`](Self::try_recv)
    /// (or [`try_next`](Self::try_next)) until there is nothing, [`arm`](Self::arm), wait until the descriptor is readable,
    /// [`disarm`](Self::disarm), and again. It stands for senders that come later, too.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn readiness(&self) -> io::Result<Readiness> {
        self.epoll.share().map(Readiness)
    }

    /// Announces a sleep to all senders, and looks once more; see [`readiness`](Self::readiness).
    ///
    /// # Cost
    /// One store for each sender, and one system call (0.7 us; 8.6 with a busy sender), or a fence for
    /// [`Wait::Sleep`](crate::Wait::Sleep).
    pub fn arm(&mut self) -> Armed {
        if self.is_armed() {
            self.disarm();
        }
        if self.is_ready() {
            return Armed::Ready;
        }
        self.lie_down();
        self.barrier();
        if self.settle() {
            return Armed::Wait;
        }
        self.rise();
        Armed::Ready
    }

    /// Announces a sleep for senders that come and go; [`disarm`](Self::disarm) takes it back.
    #[cfg(feature = "tokio")]
    pub(crate) fn arm_for_news(&mut self) -> Armed {
        self.disarm();
        if !self.owner.is_current() || self.ended.is_some() || !self.desk.doze() {
            return Armed::Ready;
        }
        self.armed = true;
        Armed::Wait
    }

    /// Takes the announcement back and drains the doorbells; see [`readiness`](Self::readiness).
    ///
    /// # Cost
    /// One system call, and one for each sender that has rung; none of them waits.
    pub fn disarm(&mut self) {
        if self.owner.is_current() && self.is_armed() {
            // A reason to stop is kept and told by the next verb.
            let _ = self.sleep(Some(Instant::now()));
            self.rise();
        }
    }
}
