//! Waking a worker from other threads of its process.

use crate::sys;
use crate::wait::BellState;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// Wakes a worker of a [`Pool`](crate::Pool), or the thread of a [`Group`](crate::Group), from any thread of the process.
///
/// Everything written before [`ring`](Self::ring) is visible to what the worker does because of it. Rings that come
/// before the worker has looked are one.
#[derive(Clone)]
pub struct Bell {
    shared: Arc<Shared>,
}

struct Shared {
    state: BellState,
    alarm: sys::Alarm,
    owner: sys::ForkToken,
}

impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        let (alarm, owner) = (sys::Alarm::new()?, sys::ForkToken::current()?);
        Ok(Self { shared: Arc::new(Shared { state: BellState::new(), alarm, owner }) })
    }

    /// Wakes the worker. Nothing happens in a child made by fork, or when the worker has ended.
    ///
    /// # Cost
    /// One atomic swap while the worker is awake or was rung for already; one system call for each of its sleeps.
    pub fn ring(&self) {
        if self.shared.owner.is_current() && self.shared.state.ring() {
            self.shared.alarm.ring();
        }
    }

    /// Says whether it was rung since the last answer: a hint, without order.
    #[inline(always)]
    pub(crate) fn is_rung(&self) -> bool {
        self.shared.state.is_rung()
    }

    /// Says that the owner is about to sleep; `false`: it was rung, so it must not.
    pub(crate) fn doze(&self) -> bool {
        self.shared.state.doze()
    }

    /// Says that the owner is awake; `true`: it was rung since the last answer.
    pub(crate) fn answer(&self) -> bool {
        self.shared.state.answer()
    }

    /// Silences what woke the owner.
    pub(crate) fn clear(&self) {
        self.shared.alarm.clear();
    }

    pub(crate) fn alarm(&self) -> BorrowedFd<'_> {
        self.shared.alarm.as_fd()
    }
}

impl std::fmt::Debug for Bell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bell").field("rung", &self.is_rung()).finish_non_exhaustive()
    }
}
