//! Registration with the reactor of tokio.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::task::{Context, Poll};

use super::epoll::Epoll;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A set that a runtime watches.
pub(crate) struct Watched(AsyncFd<Registered>);

struct Registered(Epoll);

impl Watched {
    /// Has the current runtime watch a set.
    ///
    /// # Errors
    /// ENOMEM, ENOSPC at the limit of watches of this user; the runtime shuts down.
    ///
    /// # Panics
    /// Outside of a runtime, or when its input and output are not enabled.
    pub(crate) fn new(set: Epoll) -> io::Result<Self> {
        // SAFETY: `Registered` owns its descriptor, never replaces it, and its `as_raw_fd` returns that one every time; it
        // is closed when the `AsyncFd` drops it.
        let registered = unsafe { AsyncFd::register_with_interest(Registered(set), Interest::READABLE) };
        Ok(Self(registered.map_err(|error| error.into_parts().1)?))
    }

    /// Waits until the set was readable since the last time. What happens after this is readiness again.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read_ready(cx).map_ok(|mut guard| guard.clear_ready())
    }
}

impl AsRawFd for Registered {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}
