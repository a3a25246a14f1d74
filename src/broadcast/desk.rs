//! How the control thread hands news to a handle: a queue, and a bell that costs the handle one private load to look at.

use crate::connection::Bell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A queue of news for one thread.
pub(super) struct Desk<T> {
    queue: Mutex<VecDeque<T>>,
    bell: Bell,
}

impl<T> Desk<T> {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { queue: Mutex::default(), bell: Bell::new()? })
    }

    /// Puts news on the desk.
    pub(super) fn put(&self, news: T) {
        self.hold().push_back(news);
        self.bell.ring();
    }

    /// Says that news are coming, does what must be done before they are read, and puts them on the desk if that says so.
    ///
    /// Whoever looks at the desk after `before` has begun waits for its end: so what `before` tells a third party is true for
    /// everything that the owner of the desk does after the third party has heard it.
    pub(super) fn put_after<E>(&self, before: impl FnOnce() -> Result<T, E>) -> Result<(), E> {
        let mut queue = self.hold();
        self.bell.ring();
        queue.push_back(before()?);
        Ok(())
    }

    /// Says whether there may be news: one relaxed load of private memory.
    #[inline(always)]
    pub(super) fn has_news(&self) -> bool {
        self.bell.is_rung()
    }

    /// Takes the oldest news; `None` once there are none, and until the bell rings again.
    pub(super) fn take(&self) -> Option<T> {
        let mut queue = self.hold();
        if queue.is_empty() {
            self.bell.answer();
        }
        queue.pop_front()
    }

    /// Puts something shorter in the place of news that were not read yet; returns those, if they are there.
    ///
    /// Where there are very many already, nothing is put.
    pub(super) fn replace(&self, is_meant: impl Fn(&T) -> bool, by: impl FnOnce(&T) -> T) -> Option<T> {
        let mut queue = self.hold();
        let at = queue.iter().position(is_meant)?;
        if queue.len() > NEWS_MAX {
            return queue.remove(at);
        }
        let by = by(queue.get(at)?);
        queue.get_mut(at).map(|news| std::mem::replace(news, by))
    }

    /// Says that the owner is about to sleep; `false`: there are news, so it must not.
    pub(super) fn doze(&self) -> bool {
        self.bell.doze()
    }

    /// Says that the owner is awake. News stay announced.
    pub(super) fn wake(&self) {
        if self.bell.answer() {
            self.bell.ring();
        }
    }

    /// Silences the alarm; call it when that was readable.
    pub(super) fn silence(&self) {
        self.bell.clear();
    }

    /// Is readable when news come while the owner sleeps.
    pub(super) fn alarm(&self) -> BorrowedFd<'_> {
        self.bell.alarm()
    }

    fn hold(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// News that wait for an owner who looks at none of them.
const NEWS_MAX: usize = 4096;
