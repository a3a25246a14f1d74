//! Waiting for many descriptors, each registered once.
//!
//! A set is itself readable as long as one of its own is ready, for `poll` and for `epoll` in both modes: what happens to
//! one of its own is an edge of the set too. So it stands for all of them in the reactors of others.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::{Errno, retry_on_intr};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

/// A set of descriptors to wait for.
#[derive(Debug)]
pub(crate) struct Epoll {
    set: OwnedFd,
}

/// What [`Epoll::wait`] found at one descriptor.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Found {
    /// The number under which the descriptor was registered.
    pub(crate) token: u64,
    /// There is something to read.
    pub(crate) readable: bool,
    /// The other end is gone, or the descriptor is unusable.
    pub(crate) hung_up: bool,
}

/// What one [`Epoll::wait`] found: at most 64 descriptors, the others at the next call.
pub(crate) struct Batch {
    found: [Found; BATCH_MAX],
    count: usize,
}

impl Epoll {
    /// Makes an empty set.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { set: epoll::create(epoll::CreateFlags::CLOEXEC)? })
    }

    /// Waits from now on for something to read at `fd` and for its end. Nothing else may be registered for it.
    pub(crate) fn watch(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        Ok(epoll::add(&self.set, fd, epoll::EventData::new_u64(token), WANTED)?)
    }

    /// Waits from now on for the end of `fd` only; bytes that somebody else will read do not count.
    pub(crate) fn watch_end(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        Ok(epoll::add(&self.set, fd, epoll::EventData::new_u64(token), epoll::EventFlags::RDHUP)?)
    }

    /// Makes another descriptor of the same set.
    pub(crate) fn share(&self) -> io::Result<Self> {
        Ok(Self { set: self.set.try_clone()? })
    }

    /// Leaves `fd` alone, or waits for it again; it stays registered.
    pub(crate) fn mute(&self, fd: BorrowedFd<'_>, token: u64, muted: bool) -> io::Result<()> {
        let wanted = if muted { epoll::EventFlags::empty() } else { WANTED };
        Ok(epoll::modify(&self.set, fd, epoll::EventData::new_u64(token), wanted)?)
    }

    /// Forgets `fd`. Do it before closing: while a child made by fork holds a copy, closing alone does not.
    pub(crate) fn unwatch(&self, fd: BorrowedFd<'_>) {
        // An error means that it is not registered.
        let _ = epoll::delete(&self.set, fd);
    }

    /// Waits until something happens or `timeout` has passed, rounded up to milliseconds; `None` waits for ever.
    ///
    /// A signal, or a time-out of more than a day, ends the wait early with nothing found.
    ///
    /// # Cost
    /// One system call and no allocation; a blocking wait when nothing is ready.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> io::Result<Batch> {
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); BATCH_MAX];
        let timeout =
            timeout.map(|timeout| timeout.min(WAIT_MAX)).and_then(|left| Timespec::try_from(left).ok());
        let mut batch = Batch { found: [Found::default(); BATCH_MAX], count: 0 };
        let ready = match epoll::wait(&self.set, &mut events[..], timeout.as_ref()) {
            Ok((ready, _)) => ready,
            Err(Errno::INTR) => return Ok(batch),
            Err(errno) => return Err(errno.into()),
        };
        batch.count = ready.len();
        for (found, event) in batch.found.iter_mut().zip(ready) {
            let (flags, data) = (event.flags, event.data);
            *found = Found {
                token: data.u64(),
                readable: flags.contains(epoll::EventFlags::IN),
                hung_up: flags.intersects(GONE),
            };
        }
        Ok(batch)
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.set.as_fd()
    }
}

impl Batch {
    /// Says whether the wait ended without anything.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns what was found.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Found> + '_ {
        self.found[..self.count].iter().copied()
    }
}

/// A descriptor by which one thread wakes another of the same process. Never given to a peer, who could block us by it.
#[derive(Debug)]
pub(crate) struct Alarm {
    counter: OwnedFd,
}

impl Alarm {
    /// Makes one that is silent.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { counter: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)? })
    }

    /// Makes it readable, for whoever waits for it now or later.
    pub(crate) fn ring(&self) {
        // Only a full counter fails, and that is readable.
        let _ = retry_on_intr(|| rustix::io::write(&self.counter, &1_u64.to_ne_bytes()));
    }

    /// Silences it.
    pub(crate) fn clear(&self) {
        // Only a silent one fails.
        let _ = retry_on_intr(|| rustix::io::read(&self.counter, &mut [0_u8; 8]));
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.counter.as_fd()
    }
}

/// A descriptor that is readable from a time on.
#[derive(Debug)]
pub(crate) struct Timer {
    clock: OwnedFd,
}

impl Timer {
    /// Makes one that is stopped.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self { clock: timerfd_create(TimerfdClockId::Monotonic, flags)? })
    }

    /// Makes it readable when `after` has passed, and not before.
    pub(crate) fn start(&self, after: Duration) -> io::Result<()> {
        // Zero would stop it.
        let after = after.clamp(Duration::from_nanos(1), WAIT_MAX);
        self.set(Timespec::try_from(after).map_err(|_| Errno::INVAL)?)
    }

    /// Makes it unreadable.
    pub(crate) fn stop(&self) {
        // Only arguments that make no sense fail.
        let _ = self.set(ZERO);
    }

    fn set(&self, it_value: Timespec) -> io::Result<()> {
        let once = Itimerspec { it_interval: ZERO, it_value };
        timerfd_settime(&self.clock, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.clock.as_fd()
    }
}

const ZERO: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// Descriptors that one wait reports at most; the kernel takes turns among those that are ready.
const BATCH_MAX: usize = 64;
/// The kernel takes milliseconds in 31 bits.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);
const WANTED: epoll::EventFlags = epoll::EventFlags::IN.union(epoll::EventFlags::RDHUP);
const GONE: epoll::EventFlags =
    epoll::EventFlags::HUP.union(epoll::EventFlags::RDHUP).union(epoll::EventFlags::ERR);

#[cfg(test)]
mod tests {
    use super::super::poll::{PollItem, poll};
    use super::super::tests::no_forks;
    use super::super::{process, socket};
    use super::*;

    fn tokens(epoll: &Epoll) -> Vec<u64> {
        epoll.wait(Some(Duration::ZERO)).unwrap().iter().map(|found| found.token).collect()
    }

    #[test]
    fn only_what_is_ready_is_found() {
        let epoll = Epoll::new().unwrap();
        let (ours, theirs) = socket::stream_pair().unwrap();
        let (other, _idle) = socket::stream_pair().unwrap();
        epoll.watch(ours.as_fd(), 7).unwrap();
        epoll.watch(other.as_fd(), 8).unwrap();
        assert!(epoll.wait(Some(Duration::from_millis(1))).unwrap().is_empty());
        socket::ring_doorbell(theirs.as_fd());
        let found = epoll.wait(None).unwrap().iter().next().unwrap();
        assert!(found.token == 7 && found.readable && !found.hung_up, "{found:?}");
        epoll.mute(ours.as_fd(), 7, true).unwrap();
        assert!(tokens(&epoll).is_empty(), "muted");
        epoll.mute(ours.as_fd(), 7, false).unwrap();
        assert_eq!(tokens(&epoll), [7]);
        epoll.unwatch(ours.as_fd());
        assert!(tokens(&epoll).is_empty(), "forgotten");
    }

    #[test]
    fn a_closed_peer_is_a_hang_up_and_a_live_process_is_nothing() {
        let _quiet = no_forks();
        let epoll = Epoll::new().unwrap();
        let (ours, theirs) = socket::stream_pair().unwrap();
        let pidfd = process::open_pidfd(process::pid()).unwrap();
        epoll.watch(ours.as_fd(), 1).unwrap();
        epoll.watch(pidfd.as_fd(), 2).unwrap();
        assert!(tokens(&epoll).is_empty());
        drop(theirs);
        let found = epoll.wait(None).unwrap().iter().next().unwrap();
        assert!(found.token == 1 && found.hung_up, "{found:?}");
    }

    #[test]
    fn a_set_in_a_set_is_readable_while_one_of_its_own_is() {
        let (outer, inner) = (Epoll::new().unwrap(), Epoll::new().unwrap());
        let alarm = Alarm::new().unwrap();
        inner.watch(alarm.as_fd(), 1).unwrap();
        outer.watch(inner.as_fd(), 2).unwrap();
        assert!(tokens(&outer).is_empty());
        alarm.ring();
        alarm.ring();
        assert_eq!(tokens(&outer), [2]);
        alarm.clear();
        assert!(tokens(&outer).is_empty());
    }

    fn is_readable(set: &Epoll) -> bool {
        poll(&mut [PollItem::readable(set.as_fd())], Some(Duration::ZERO)).unwrap() == 1
    }

    #[test]
    fn a_set_is_readable_as_long_as_a_member_is() {
        let (ours, theirs) = socket::stream_pair().unwrap();
        let set = Epoll::new().unwrap();
        set.watch(ours.as_fd(), 1).unwrap();
        assert!(!is_readable(&set));
        socket::ring_doorbell(theirs.as_fd());
        assert!(is_readable(&set));
        socket::drain_doorbell(ours.as_fd());
        assert!(!is_readable(&set));
    }

    #[test]
    fn every_ring_is_an_edge_of_the_set_although_nobody_drained_the_last() {
        let (ours, theirs) = socket::stream_pair().unwrap();
        let set = Epoll::new().unwrap();
        set.watch(ours.as_fd(), 1).unwrap();
        let reactor = Epoll::new().unwrap();
        let edge = WANTED | epoll::EventFlags::ET;
        epoll::add(&reactor.set, &set, epoll::EventData::new_u64(7), edge).unwrap();
        let edges = || tokens(&reactor).len();
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
        let set = Epoll::new().unwrap();
        set.watch_end(ours.as_fd(), 1).unwrap();
        socket::ring_doorbell(theirs.as_fd());
        assert!(!is_readable(&set));
        drop(theirs);
        assert!(is_readable(&set));
    }

    #[test]
    fn a_timer_is_readable_from_its_time_on_until_it_is_stopped() {
        let set = Epoll::new().unwrap();
        let timer = Timer::new().unwrap();
        set.watch(timer.as_fd(), 5).unwrap();
        timer.start(Duration::from_secs(3600)).unwrap();
        assert!(tokens(&set).is_empty());
        timer.start(Duration::ZERO).unwrap();
        assert!(set.share().unwrap().wait(None).unwrap().iter().any(|found| found.token == 5));
        timer.stop();
        assert!(tokens(&set).is_empty());
    }
}
