//! Sleeping in `poll` until the doorbell rings or the peer is gone: no wake-ups while idle.

use crate::{crash, sys};
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// What ended a sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parked {
    /// Somebody rang; the bell is drained. `bytes` is 0 when another look showed nothing to drain.
    Rung { bytes: usize },
    /// The peer's socket is closed or its process has ended. What it committed before can still be read.
    HungUp,
    /// The deadline has passed.
    TimedOut,
}

/// Sleeps until `bell` is rung, `link` hangs up, the process behind `pidfd` ends, or the deadline passes.
///
/// `bell` is drained by this call alone, with one bounded read; `link` may be the same descriptor.
pub(crate) fn park(
    bell: BorrowedFd<'_>,
    link: BorrowedFd<'_>,
    pidfd: Option<BorrowedFd<'_>>,
    deadline: Option<Instant>,
) -> io::Result<Parked> {
    let timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    crash::point("sleeper.parked");
    let mut items = [
        sys::PollItem::readable(bell),
        sys::PollItem::hangup_only(link),
        pidfd.map_or(sys::PollItem::hangup_only(link), sys::PollItem::readable),
    ];
    let ready = sys::poll(&mut items, timeout)?;
    crash::point("sleeper.woken");
    if ready == 0 {
        return Ok(Parked::TimedOut);
    }
    if items[1].is_hung_up() || items[2].is_readable() || items[2].is_hung_up() {
        return Ok(Parked::HungUp);
    }
    Ok(match sys::drain_doorbell(bell) {
        sys::Drained::Bytes(bytes) => Parked::Rung { bytes },
        sys::Drained::Empty => Parked::Rung { bytes: 0 },
        sys::Drained::Gone => Parked::HungUp,
    })
}

/// Asks without waiting whether the peer is gone.
pub(crate) fn is_gone(link: BorrowedFd<'_>, pidfd: Option<BorrowedFd<'_>>) -> bool {
    let mut items = [
        sys::PollItem::hangup_only(link),
        pidfd.map_or(sys::PollItem::hangup_only(link), sys::PollItem::readable),
    ];
    let Ok(ready) = sys::poll(&mut items, Some(Duration::ZERO)) else { return false };
    ready > 0 && (items[0].is_hung_up() || items[1].is_readable() || items[1].is_hung_up())
}
