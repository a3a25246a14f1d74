//! Waiting for descriptors.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::BorrowedFd;
use std::slice;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

/// One descriptor to wait for, and what [`poll`] found there.
#[repr(transparent)]
#[derive(Clone, Debug)]
pub(crate) struct PollItem<'a>(PollFd<'a>);

impl<'a> PollItem<'a> {
    /// Waits for bytes, a connection or a dead process (pidfd), and for the peer's hang-up.
    pub(crate) fn readable(fd: BorrowedFd<'a>) -> PollItem<'a> {
        PollItem(PollFd::from_borrowed_fd(fd, PollFlags::IN | PollFlags::RDHUP))
    }

    /// Waits for the peer's hang-up only; bytes that somebody else will read do not wake us.
    pub(crate) fn hangup_only(fd: BorrowedFd<'a>) -> PollItem<'a> {
        PollItem(PollFd::from_borrowed_fd(fd, PollFlags::RDHUP))
    }

    /// Tells whether the last [`poll`] found something to read.
    pub(crate) fn is_readable(&self) -> bool {
        self.0.revents().contains(PollFlags::IN)
    }

    /// Tells whether the last [`poll`] found the other end gone or the descriptor unusable.
    pub(crate) fn is_hung_up(&self) -> bool {
        let gone = PollFlags::HUP | PollFlags::RDHUP | PollFlags::ERR | PollFlags::NVAL;
        self.0.revents().intersects(gone)
    }
}

/// Waits until an item is ready or `timeout` has passed; `None` waits for ever.
///
/// Returns the number of ready items, 0 after the time-out. A signal does not end the wait: it
/// goes on with the time that is left.
///
/// # Errors
/// EINVAL for more items than the descriptor limit, ENOMEM.
///
/// # Cost
/// One system call and no allocation; a blocking wait when nothing is ready.
pub(crate) fn poll(items: &mut [PollItem<'_>], timeout: Option<Duration>) -> io::Result<usize> {
    // SAFETY: `PollItem` is `repr(transparent)` over `PollFd`, so a slice of one has the layout
    // of a slice of the other with the same length; the exclusive borrow of `items` moves into
    // the new slice, and `items` is not used again below.
    let descriptors: &mut [PollFd<'_>] =
        unsafe { slice::from_raw_parts_mut(items.as_mut_ptr().cast(), items.len()) };
    // A deadline past the clock's range is no deadline.
    let deadline = timeout.and_then(|duration| Instant::now().checked_add(duration));
    let mut left = timeout.filter(|_| deadline.is_some());
    loop {
        let spec = left.map(|left| Timespec {
            // A deadline that fits the clock fits 63 bits of seconds too.
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        match rustix::event::poll(descriptors, spec.as_ref()) {
            Err(Errno::INTR) => {
                left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            }
            other => return Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::no_forks;
    use super::super::{process, socket};
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn nothing_ready_ends_with_the_time_out() {
        let (ours, _theirs) = socket::stream_pair().unwrap();
        let start = Instant::now();
        let mut items = [PollItem::readable(ours.as_fd())];
        assert_eq!(poll(&mut items, Some(Duration::from_millis(20))).unwrap(), 0);
        assert!(start.elapsed() >= Duration::from_millis(20));
        assert!(!items[0].is_readable() && !items[0].is_hung_up());
    }

    #[test]
    fn bytes_wake_a_reader_but_not_a_watcher_of_hang_ups() {
        let (ours, theirs) = socket::stream_pair().unwrap();
        assert!(matches!(socket::ring_doorbell(theirs.as_fd()), socket::Rung::Delivered));
        let mut items = [PollItem::hangup_only(ours.as_fd())];
        assert_eq!(poll(&mut items, Some(Duration::ZERO)).unwrap(), 0);
        let mut items = [PollItem::readable(ours.as_fd())];
        assert_eq!(poll(&mut items, Some(Duration::MAX)).unwrap(), 1);
        assert!(items[0].is_readable() && !items[0].is_hung_up());
    }

    #[test]
    fn a_closed_peer_is_a_hang_up_in_both_forms() {
        let _quiet = no_forks();
        let (ours, theirs) = socket::stream_pair().unwrap();
        drop(theirs);
        let mut items = [PollItem::hangup_only(ours.as_fd()), PollItem::readable(ours.as_fd())];
        assert_eq!(poll(&mut items, None).unwrap(), 2);
        assert!(items.iter().all(PollItem::is_hung_up));
    }

    #[test]
    fn a_live_process_is_not_readable() {
        let pidfd = process::open_pidfd(process::pid()).unwrap();
        let mut items = [PollItem::readable(pidfd.as_fd())];
        assert_eq!(poll(&mut items, Some(Duration::ZERO)).unwrap(), 0);
    }

    #[test]
    fn a_storm_of_signals_does_not_shorten_the_wait() {
        extern "C" fn ignore(_: libc::c_int) {}
        let handler: extern "C" fn(libc::c_int) = ignore;
        // SAFETY: the handler does nothing, so it is async-signal-safe; no SA_RESTART is set, and
        // no other test uses SIGUSR2. All-zero is a valid `sigaction`.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as usize;
            assert_eq!(libc::sigaction(libc::SIGUSR2, &action, std::ptr::null_mut()), 0);
        }
        // SAFETY: `pthread_self` has no preconditions.
        let waiter = unsafe { libc::pthread_self() };
        let (ours, _theirs) = socket::stream_pair().unwrap();
        let start = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for _ in 0..20 {
                    // SAFETY: the waiting thread outlives this scope, so its id is valid.
                    unsafe { libc::pthread_kill(waiter, libc::SIGUSR2) };
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
            let mut items = [PollItem::readable(ours.as_fd())];
            assert_eq!(poll(&mut items, Some(Duration::from_millis(60))).unwrap(), 0);
        });
        let waited = start.elapsed();
        assert!(waited >= Duration::from_millis(60) && waited < Duration::from_secs(5));
    }
}
