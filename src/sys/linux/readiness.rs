//! One descriptor that stands for several, for the reactors of others.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags};

/// A descriptor that is readable as long as one of its members is ready, for `poll` and for `epoll` in both modes: what
/// happens to a member is an edge of the set too.
#[derive(Debug)]
pub(crate) struct ReadySet(OwnedFd);

impl ReadySet {
    /// Makes an empty set.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(CreateFlags::CLOEXEC)?))
    }

    /// Takes in a member that is ready when there are bytes, a connection or a dead process (pidfd), or it hangs up. If it
    /// is ready the set is, at once.
    ///
    /// # Errors
    /// EEXIST for a member, ENOMEM, ENOSPC at the limit of watches of this user.
    pub(crate) fn add_readable(&self, member: BorrowedFd<'_>) -> io::Result<()> {
        self.add(member, EventFlags::IN | EventFlags::RDHUP)
    }

    /// Takes in a member that is ready when it hangs up; bytes that somebody else will read do not count.
    ///
    /// # Errors
    /// As [`add_readable`](Self::add_readable).
    pub(crate) fn add_hangup_only(&self, member: BorrowedFd<'_>) -> io::Result<()> {
        self.add(member, EventFlags::RDHUP)
    }

    /// Takes a member out, whoever else holds its descriptor; what is none stays out.
    pub(crate) fn remove(&self, member: BorrowedFd<'_>) {
        // The only error there can be says that it is no member.
        let _ = epoll::delete(&self.0, member);
    }

    /// Makes another descriptor of the same set.
    ///
    /// # Errors
    /// EMFILE.
    pub(crate) fn share(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    fn add(&self, member: BorrowedFd<'_>, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.0, member, EventData::new_u64(0), flags)?)
    }
}

impl AsFd for ReadySet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A descriptor that is readable from a moment on.
#[derive(Debug)]
pub(crate) struct Timer(OwnedFd);

impl Timer {
    /// Makes a timer that is not set.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self(rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?))
    }

    /// Makes it readable when `after` has passed, or not any more.
    pub(crate) fn set(&self, after: Option<Duration>) -> io::Result<()> {
        // Zero would turn it off.
        let after = after.map_or(Duration::ZERO, |after| after.max(Duration::from_nanos(1)));
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec {
                tv_sec: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: after.subsec_nanos().into(),
            },
        };
        rustix::time::timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::super::poll::{PollItem, poll};
    use super::super::socket;
    use super::super::tests::no_forks;
    use super::*;

    fn is_readable(set: &ReadySet) -> bool {
        poll(&mut [PollItem::readable(set.as_fd())], Some(Duration::ZERO)).unwrap() == 1
    }

    #[test]
    fn a_set_is_readable_as_long_as_a_member_is() {
        let (ours, theirs) = socket::stream_pair().unwrap();
        let set = ReadySet::new().unwrap();
        set.add_readable(ours.as_fd()).unwrap();
        assert!(!is_readable(&set));
        socket::ring_doorbell(theirs.as_fd());
        assert!(is_readable(&set));
        socket::drain_doorbell(ours.as_fd());
        assert!(!is_readable(&set));
    }

    #[test]
    fn every_ring_is_an_edge_of_the_set_although_nobody_drained_the_last() {
        let (ours, theirs) = socket::stream_pair().unwrap();
        let set = ReadySet::new().unwrap();
        set.add_readable(ours.as_fd()).unwrap();
        let reactor = epoll::create(CreateFlags::CLOEXEC).unwrap();
        epoll::add(&reactor, &set, EventData::new_u64(7), EventFlags::IN | EventFlags::ET).unwrap();
        let edges = || {
            let mut events = Vec::with_capacity(4);
            let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
            epoll::wait(&reactor, rustix::buffer::spare_capacity(&mut events), Some(&no_wait)).unwrap()
        };
        assert_eq!(edges(), 0);
        for _ in 0..3 {
            socket::ring_doorbell(theirs.as_fd());
            assert_eq!((edges(), edges()), (1, 0));
        }
    }

    #[test]
    fn a_watcher_of_hang_ups_in_a_set_does_not_hear_the_bell() {
        let _quiet = no_forks();
        let (ours, theirs) = socket::stream_pair().unwrap();
        let set = ReadySet::new().unwrap();
        set.add_hangup_only(ours.as_fd()).unwrap();
        socket::ring_doorbell(theirs.as_fd());
        assert!(!is_readable(&set));
        drop(theirs);
        assert!(is_readable(&set));
    }

    #[test]
    fn members_come_and_go() {
        let (ours, theirs) = socket::stream_pair().unwrap();
        let set = ReadySet::new().unwrap();
        socket::ring_doorbell(theirs.as_fd());
        assert!(!is_readable(&set));
        set.add_readable(ours.as_fd()).unwrap();
        assert!(is_readable(&set) && is_readable(&set.share().unwrap()));
        set.remove(ours.as_fd());
        set.remove(ours.as_fd());
        assert!(!is_readable(&set));
    }

    #[test]
    fn a_timer_is_readable_when_its_time_has_come_and_not_when_it_is_set_anew() {
        let (late, due) = (Timer::new().unwrap(), Timer::new().unwrap());
        late.set(Some(Duration::from_secs(3600))).unwrap();
        due.set(Some(Duration::ZERO)).unwrap();
        let mut items = [PollItem::readable(late.as_fd()), PollItem::readable(due.as_fd())];
        assert_eq!(poll(&mut items, Some(Duration::from_secs(60))).unwrap(), 1);
        assert!(items[1].is_readable());
        due.set(None).unwrap();
        assert_eq!(poll(&mut items, Some(Duration::ZERO)).unwrap(), 0);
    }
}
