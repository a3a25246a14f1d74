//! Waiting in somebody else's reactor instead of in a blocking verb.
//!
//! Each half has a descriptor for its doorbell and the peer's end, and the three steps of a sleep: arm, look once more,
//! disarm. The blocking verbs go by the same steps; only what they sleep in differs.

use super::listener::Listener;
use super::receiver::Receiver;
use super::sender::Sender;
use crate::error::AcceptError;
use crate::sys;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

/// A descriptor to wait on in a reactor: it is readable when a half, or a listener, that is armed should be tried again.
///
/// It borrows nothing, so it can be moved into the reactor while the half stays usable; it stands for nothing any more when
/// the half is dropped. It works with `poll`, `select` and `epoll`, level-triggered and edge-triggered. Nothing is ever
/// read from it or written to it.
#[derive(Debug)]
pub struct Readiness(pub(crate) sys::Epoll);

/// What the look after arming brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "waiting without need may last for ever"]
pub enum Armed {
    /// Do not wait: try again at once. Nothing is armed.
    Ready,
    /// The peer will ring: wait until the descriptor is readable, then disarm and try again.
    Wait,
}

impl AsFd for Readiness {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Readiness {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Receiver {
    /// Makes a descriptor to wait on for messages, in a reactor of any kind.
    ///
    /// The contract, for a reactor that reports what is readable:
    ///
    /// 1. [`try_recv`](Self::try_recv) until it says `Empty`.
    /// 2. [`arm`](Self::arm). If it says [`Armed::Ready`], go to 1.
    /// 3. Wait until the descriptor is readable, as long as it takes: it becomes readable for a message, for the end of
    ///    the stream, and for the death of the peer's process. (Edge-triggered: clear the readiness that the reactor keeps
    ///    *before* the next step.)
    /// 4. [`disarm`](Self::disarm), and go to 1. Now and then there is nothing: a late ring for an earlier sleep.
    ///
    /// In between any verb may be used, the blocking ones included, and step 3 may be given up at any time. The two
    /// halves of a connection have a descriptor each and may wait in two places.
    ///
    /// # Errors
    /// No descriptor is left, or no memory.
    /// # Cost
    /// Three to four system calls and one descriptor, to be made once and kept.
    /// # Examples
    /// ```
    /// use ringway::{Armed, TryRecvError};
    /// # fn wait_until_readable(_: &impl std::os::fd::AsFd) {}
    /// let (mut here, mut there) = ringway::pair(&ringway::Config::new())?;
    /// here.send(b"hello")?;
    /// let receiver = there.receiver();
    /// let readiness = receiver.readiness()?;
    /// let message = loop {
    ///     match receiver.try_recv() {
    ///         Ok(message) => break message.to_vec(),
    ///         Err(TryRecvError::Empty) => {}
    ///         Err(error) => return Err(error.into()),
    ///     }
    ///     if receiver.arm() == Armed::Wait {
    ///         wait_until_readable(&readiness);
    ///         receiver.disarm();
    ///     }
    /// };
    /// assert_eq!(message, b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn readiness(&self) -> io::Result<Readiness> {
        self.link.ready_set_for_data().map(Readiness)
    }

    /// Announces a sleep for messages, and looks once more; see [`readiness`](Self::readiness).
    ///
    /// # Cost
    /// One system call (0.7 us; 8.6 with a busy peer), or a fence for [`Wait::Sleep`](crate::Wait::Sleep) and peers of
    /// other users.
    pub fn arm(&mut self) -> Armed {
        // A wait that was given up left its ring; so many of them fill the socket, and no further ring would be an edge.
        if self.armed {
            self.disarm();
        }
        if !self.may_wait() {
            return Armed::Ready;
        }
        // Whoever waits for room must not wait for us meanwhile.
        self.release();
        self.parts.sleeper.arm();
        if self.is_ready() {
            self.parts.sleeper.disarm();
            return Armed::Ready;
        }
        self.parts.counters.sleeps.add(1);
        self.armed = true;
        Armed::Wait
    }

    /// Takes the announcement back, drains the doorbell, and notes if the peer is gone; see
    /// [`readiness`](Self::readiness). Whatever it finds, the next try tells.
    ///
    /// # Cost
    /// Two system calls, neither of which waits.
    pub fn disarm(&mut self) {
        if self.may_wait() {
            self.parts.sleeper.disarm();
            self.armed = false;
            let parked = self.link.park_for_data(Some(Instant::now()));
            // A reason to stop is kept and told by the next verb.
            let _ = self.note(parked);
        }
    }
}

impl Sender {
    /// Makes a descriptor to wait on for room, in a reactor of any kind.
    ///
    /// The contract is that of [`Receiver::readiness`], with [`try_send`](Self::try_send) (or a claim) until it says
    /// `Full`, then [`arm`](Self::arm) with the length that there was no room for.
    ///
    /// # Errors
    /// As [`Receiver::readiness`].
    /// # Cost
    /// As [`Receiver::readiness`].
    pub fn readiness(&self) -> io::Result<Readiness> {
        self.link.ready_set_for_space().map(Readiness)
    }

    /// Announces a sleep for room for a message of `len` bytes, and looks once more; see [`readiness`](Self::readiness).
    ///
    /// # Cost
    /// As [`Receiver::arm`].
    pub fn arm(&mut self, len: usize) -> Armed {
        let armed = self.arm_for(len, 1);
        if self.may_wait() {
            // A receiver that closed frees no more room; the next try says so.
            let _ = self.check_room();
        }
        armed
    }

    /// Takes the announcement back, drains the doorbell, and notes if the peer is gone; see
    /// [`readiness`](Self::readiness). Whatever it finds, the next try tells.
    ///
    /// # Cost
    /// Two system calls, neither of which waits.
    pub fn disarm(&mut self) {
        if self.may_wait() {
            self.parts.sleeper.disarm();
            self.armed = false;
            let parked = self.link.park_for_space(Some(Instant::now()));
            // A reason to stop is kept and told by the next verb.
            let _ = self.note(parked);
        }
    }
}

impl Listener {
    /// Makes a descriptor to wait on for clients, in a reactor of any kind.
    ///
    /// The contract: [`try_accept`](Self::try_accept) until it says `Timeout`, [`arm`](Self::arm), wait until the
    /// descriptor is readable, and again. It becomes readable for clients, for what half-open handshakes send, and when
    /// the time of one of them is up, so no clock needs to be watched. (Edge-triggered: clear the readiness that the
    /// reactor keeps *before* trying.)
    ///
    /// # Errors
    /// No descriptor is left, or no memory.
    pub fn readiness(&mut self) -> io::Result<Readiness> {
        if self.timer.is_none() {
            let timer = sys::Timer::new()?;
            self.watch_outside(timer.as_fd())?;
            self.timer = Some(timer);
        }
        self.share_set().map(Readiness)
    }

    /// Sees to it that the descriptor becomes readable when the time of a half-open handshake is up, and at once when
    /// more clients came than one try takes in; see [`readiness`](Self::readiness).
    ///
    /// # Errors
    /// [`AcceptError::Os`]: the timer cannot be set. [`AcceptError::Forked`].
    /// # Cost
    /// One system call; more if the segment for the next client is to be made.
    pub fn arm(&mut self) -> Result<(), AcceptError> {
        self.check_owner()?;
        self.prepare();
        let left = if self.has_queue_left() {
            // Who is left in the queue was an edge long ago.
            Some(Duration::ZERO)
        } else {
            self.next_deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()))
        };
        match (&self.timer, left) {
            (Some(timer), Some(left)) => timer.start(left).map_err(|source| AcceptError::Os {
                action: "set the timer for half-open handshakes",
                source,
            }),
            _ => Ok(()),
        }
    }
}
