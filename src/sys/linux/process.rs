//! Facts about the running process.
#![allow(unsafe_code)]

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::SystemTime;

use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit};
use rustix::rand::GetRandomFlags;

/// Process id in our pid namespace. For people and logs; never an identity.
pub(crate) fn pid() -> u32 {
    rustix::process::getpid().as_raw_nonzero().get().unsigned_abs()
}

/// Effective user id, the one that file and socket permissions are checked against.
pub(crate) fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Start of this process in clock ticks since boot; 0 if `/proc` cannot be read.
///
/// Together with the pid it tells two processes apart that had the same pid in turn.
pub(crate) fn start_time() -> u64 {
    let own = pid();
    // Acquire: pairs with the Release store below, so that the time belongs to this pid. After a
    // fork the pid differs and the child reads its own time.
    if START_TIME_OF.load(Ordering::Acquire) == own {
        // Relaxed: ordered by the Acquire load above.
        return START_TIME.load(Ordering::Relaxed);
    }
    let ticks =
        std::fs::read_to_string("/proc/self/stat").ok().and_then(|stat| parse_start_time(&stat)).unwrap_or(0);
    START_TIME.store(ticks, Ordering::Relaxed);
    // Release: pairs with the Acquire load above; publishes `START_TIME`.
    START_TIME_OF.store(own, Ordering::Release);
    ticks
}

/// Returns a number that nobody else has and nobody can guess.
///
/// Where a sandbox denies that, it is only one that nobody else has.
pub(crate) fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    match retry_on_intr(|| rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty())) {
        Ok(8) => u64::from_ne_bytes(bytes),
        // The keys alone would be the same in a child made by fork.
        _ => RandomState::new().hash_one((pid(), SystemTime::now())),
    }
}

/// Opens a descriptor that becomes readable when process `pid` ends.
///
/// # Errors
/// ESRCH when there is no such process, ENOSYS before Linux 5.3, EINVAL for pid 0.
pub(crate) fn open_pidfd(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::INVAL)?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// Returns the soft and the hard limit of open descriptors; `u64::MAX` means none.
pub(crate) fn descriptor_limit() -> (u64, u64) {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX))
}

/// Raises the soft limit of open descriptors to the hard one; returns both afterwards.
pub fn raise_descriptor_limit() -> io::Result<(u64, u64)> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        rustix::process::setrlimit(Resource::Nofile, raised)?;
    }
    Ok(descriptor_limit())
}

/// Ends this process as `kill -9` would: no destructor, no buffer flush.
#[cfg(feature = "crash-points")]
pub(crate) fn kill_self() -> ! {
    loop {
        // SAFETY: `kill` takes two plain numbers; the pid is our own, so nobody else is hit.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
}

/// Field 22 of `/proc/PID/stat`. Field 2, the name, may hold spaces and parentheses itself.
fn parse_start_time(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

/// Pid for which `START_TIME` was read; 0 for none.
static START_TIME_OF: AtomicU32 = AtomicU32::new(0);
static START_TIME: AtomicU64 = AtomicU64::new(0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_start_time() {
        let fields: Vec<String> = (4..=30).map(|field| (field * 10).to_string()).collect();
        let stat = format!("7 (a) b) (c) S {}", fields.join(" "));
        assert_eq!(parse_start_time(&stat), Some(220));
        assert_eq!(parse_start_time("7 (cut"), None);
    }

    #[test]
    fn the_start_time_is_stable_and_not_zero() {
        assert_ne!(start_time(), 0);
        assert_eq!(start_time(), start_time());
    }

    #[test]
    fn random_numbers_differ() {
        let mut numbers: Vec<u64> = (0..1000).map(|_| random_u64()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 1000);
    }

    #[test]
    fn a_pidfd_needs_a_process() {
        assert!(open_pidfd(pid()).is_ok());
        assert_eq!(open_pidfd(0).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert_eq!(open_pidfd(u32::MAX).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn the_soft_descriptor_limit_reaches_the_hard_one() {
        let (soft, hard) = raise_descriptor_limit().unwrap();
        assert_eq!(soft, hard);
        assert_eq!(descriptor_limit(), (soft, hard));
    }
}
