//! How a task waits: it spins in slices and gives way between them, for a bounded time, then it sleeps until the
//! descriptor of its half is readable.

use crate::connection::{Armed, Readiness, Receiver, Sender};
use crate::sys;
use crate::wait::{Sliced, Slices};
use std::io;
use std::task::{Context, Poll, ready};

/// What a task waits for: a message, or room.
pub(super) trait Awaited {
    fn readiness(&self) -> io::Result<Readiness>;
    fn arm(&mut self) -> Armed;
    fn disarm(&mut self);
    fn spin_slice(&mut self, slices: &mut Slices) -> Sliced;
}

/// The waiting of one half. It outlives the future that waits, so a future may be dropped at any time.
#[derive(Default)]
pub(super) struct Bell {
    /// Made for the first sleep, and kept.
    watched: Option<sys::Watched>,
    slices: Slices,
    asleep: bool,
}

impl Bell {
    /// Looks whether the sleep is over; afterwards the half may have news. `true`: still asleep, and the task will be
    /// woken.
    pub(super) fn poll_asleep(&mut self, cx: &mut Context<'_>, half: &mut impl Awaited) -> io::Result<bool> {
        if !self.asleep {
            return Ok(false);
        }
        // This forgets the readiness before the doorbell is drained: a ring after that is readiness again.
        if let Some(watched) = &self.watched
            && watched.poll_readable(cx)?.is_pending()
        {
            return Ok(true);
        }
        self.rise(half);
        Ok(false)
    }

    /// The half has nothing to offer: waits for a while. Ready: look again; and if it sleeps, see
    /// [`poll_asleep`](Self::poll_asleep).
    pub(super) fn poll_rest(
        &mut self,
        cx: &mut Context<'_>,
        half: &mut impl Awaited,
    ) -> Poll<io::Result<()>> {
        match half.spin_slice(&mut self.slices) {
            Sliced::Ready => return Poll::Ready(Ok(())),
            Sliced::Again => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Sliced::Exhausted => {}
        }
        if self.watched.is_none() {
            self.watched = Some(sys::Watched::new(half.readiness()?.0)?);
        }
        self.asleep = half.arm() == Armed::Wait;
        Poll::Ready(Ok(()))
    }

    /// The half had what the task waited for: the next wait begins anew.
    pub(super) fn rest_is_over(&mut self, half: &mut impl Awaited) {
        if self.asleep {
            self.rise(half);
        }
        self.slices.end();
    }

    fn rise(&mut self, half: &mut impl Awaited) {
        half.disarm();
        self.asleep = false;
    }
}

impl Awaited for Receiver {
    fn readiness(&self) -> io::Result<Readiness> {
        Self::readiness(self)
    }

    fn arm(&mut self) -> Armed {
        Self::arm(self)
    }

    fn disarm(&mut self) {
        Self::disarm(self);
    }

    fn spin_slice(&mut self, slices: &mut Slices) -> Sliced {
        Self::spin_slice(self, slices)
    }
}

/// Room for a message of so many bytes.
pub(super) struct Room<'a>(pub(super) &'a mut Sender, pub(super) usize);

impl Awaited for Room<'_> {
    fn readiness(&self) -> io::Result<Readiness> {
        self.0.readiness()
    }

    fn arm(&mut self) -> Armed {
        self.0.arm(self.1)
    }

    fn disarm(&mut self) {
        self.0.disarm();
    }

    fn spin_slice(&mut self, slices: &mut Slices) -> Sliced {
        self.0.spin_slice(self.1, slices)
    }
}

/// The error number of a reactor that failed.
pub(super) fn errno_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

/// Tries again and again and waits in between, as long as `attempt` says `None`.
pub(super) fn poll_until<H: Awaited, T>(
    bell: &mut Bell,
    cx: &mut Context<'_>,
    half: &mut H,
    mut attempt: impl FnMut(&mut H) -> Option<T>,
) -> Poll<io::Result<T>> {
    let coop = ready!(tokio::task::coop::poll_proceed(cx));
    loop {
        let asleep = bell.poll_asleep(cx, half)?;
        if let Some(outcome) = attempt(half) {
            bell.rest_is_over(half);
            coop.made_progress();
            return Poll::Ready(Ok(outcome));
        }
        if asleep {
            return Poll::Pending;
        }
        ready!(bell.poll_rest(cx, half))?;
    }
}
