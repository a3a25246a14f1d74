//! Sleeping for room: in a blocking verb, or in somebody else's reactor.

use super::super::control::DESK;
use super::Sender;
use crate::connection::{Armed, Readiness};
use crate::crash;
use crate::ring::NoRoom;
use crate::sys;
#[cfg(feature = "tokio")]
use crate::wait::Spinner;
use std::io;
use std::time::{Duration, Instant};

impl Sender {
    /// Makes a descriptor to wait on for room, in a reactor of any kind.
    ///
    /// The contract is that of [`ringway::Receiver::readiness`](crate::Receiver::readiness), with
    /// [`try_send`](Self::try_send) (or a claim) until it says `WouldBlock`, then [`arm`](Self::arm) with the length that
    /// there was no room for. Receivers that stand still are disconnected by the waiting verbs only.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn readiness(&self) -> io::Result<Readiness> {
        self.epoll.share().map(Readiness)
    }

    /// Announces a sleep for room for a message of `len` bytes, and looks once more; see [`readiness`](Self::readiness).
    ///
    /// # Cost
    /// One system call (0.7 us; 8.6 with a busy receiver), or a fence for [`Wait::Sleep`](crate::Wait::Sleep).
    pub fn arm(&mut self, len: usize) -> Armed {
        self.arm_for(len, 1)
    }

    /// Takes the announcement back and drains the doorbells; see [`readiness`](Self::readiness).
    ///
    /// # Cost
    /// Two system calls, and one for each receiver that has rung; none of them waits.
    pub fn disarm(&mut self) {
        if self.owner.is_current() && self.armed {
            let _ = self.sleep(Some(Instant::now()));
            self.rise();
        }
    }

    pub(super) fn arm_for(&mut self, len: usize, align: u64) -> Armed {
        self.disarm();
        if !self.owner.is_current() || self.ended.is_some() || self.desk.has_news() {
            return Armed::Ready;
        }
        self.sleeper.arm();
        if self.is_worth_a_try(len, align) || !self.desk.doze() {
            self.sleeper.disarm();
            return Armed::Ready;
        }
        self.counters.sleeps.add(1);
        self.armed = true;
        Armed::Wait
    }

    /// Announces a sleep for receivers that come and go; [`disarm`](Self::disarm) takes it back.
    #[cfg(feature = "tokio")]
    pub(crate) fn arm_for_news(&mut self) -> Armed {
        self.disarm();
        if !self.owner.is_current() || self.ended.is_some() || !self.desk.doze() {
            return Armed::Ready;
        }
        self.armed = true;
        Armed::Wait
    }

    /// Says whether there is room for `len` bytes, or an attempt would bring other news.
    pub(crate) fn is_worth_a_try(&mut self, len: usize, align: u64) -> bool {
        self.desk.has_news() || !matches!(self.producer.reserve(len, align), Err(NoRoom::Full))
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn spinner(&self) -> &Spinner {
        &self.spinner
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn set_spinner(&mut self, spinner: Spinner) {
        self.spinner = spinner;
    }

    /// Takes back what [`arm_for`](Self::arm_for) announced.
    pub(super) fn rise(&mut self) {
        self.sleeper.disarm();
        self.desk.wake();
        self.armed = false;
    }

    /// Sleeps until somebody rings or the deadline passes, and drains what rang.
    pub(super) fn sleep(&mut self, until: Option<Instant>) -> io::Result<()> {
        let timeout: Option<Duration> = until.map(|until| until.saturating_duration_since(Instant::now()));
        crash::point("sleeper.parked");
        let batch = self.epoll.wait(timeout)?;
        crash::point("sleeper.woken");
        for found in batch.iter() {
            if found.token == DESK {
                self.desk.silence();
                continue;
            }
            let Some(reader) = self.readers.iter().find(|reader| reader.peer.number() == found.token) else {
                continue;
            };
            if found.hung_up {
                // The control thread says why; until then it must not keep us awake.
                self.epoll.unwatch(reader.link.socket());
            } else {
                let _ = sys::drain_doorbell(reader.link.socket());
            }
        }
        Ok(())
    }
}
