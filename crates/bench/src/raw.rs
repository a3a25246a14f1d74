//! What needs unsafe code: a page that two processes share, the accounts of the kernel, and trust. The raw ping-pongs
//! over such a page are the limits that a transport is held against.
#![allow(unsafe_code)]

use crate::timing::{self, Stopwatch};
use ringway::Config;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use rustix::thread::futex;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// What a process has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Processor time, of the program and of the kernel for it, in nanoseconds.
    pub cpu_nanos: u64,
    /// Voluntary context switches: how often a thread slept.
    pub sleeps: u64,
}

/// Returns what this process has used so far.
pub fn usage() -> Usage {
    usage_of(libc::RUSAGE_SELF)
}

/// Returns what all threads of this process but the calling one have used so far.
pub fn usage_of_others() -> Usage {
    let (own, all) = (usage_of(libc::RUSAGE_THREAD), usage());
    Usage { cpu_nanos: all.cpu_nanos.saturating_sub(own.cpu_nanos), sleeps: all.sleeps - own.sleeps }
}

fn usage_of(who: libc::c_int) -> Usage {
    // SAFETY: all-zero bytes are a valid `rusage`, which has integers only.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is valid for writes of one `rusage` for the length of the call.
    let result = unsafe { libc::getrusage(who, &raw mut usage) };
    assert_eq!(result, 0, "getrusage cannot fail for this process and a valid pointer");
    let nanos = |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1000;
    Usage { cpu_nanos: nanos(usage.ru_utime) + nanos(usage.ru_stime), sleeps: usage.ru_nvcsw as u64 }
}

/// Returns for each page of a mapping of this process whether there is memory behind it, touched by us or not.
pub fn allocated_pages(start: usize, bytes: usize) -> io::Result<Vec<bool>> {
    let mut pages = vec![0_u8; bytes.div_ceil(PAGE_BYTES)];
    // SAFETY: the kernel writes one byte for each page of the range, for which `pages` has room; it only looks at the
    // range itself, and refuses one that is not mapped.
    let result = unsafe { libc::mincore(ptr::without_provenance_mut(start), bytes, pages.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(pages.into_iter().map(|page| page & 1 == 1).collect())
}

/// Lets receivers read in place what the processes of a benchmark send each other.
pub fn trust_own_program(config: Config) -> Config {
    // SAFETY: the peer is this very program, started by the same benchmark in a private directory, and writes to its
    // ring by means of an unmodified ringway only.
    unsafe { config.trust_peer() }
}

/// A page of memory that two processes share.
pub struct Page {
    start: NonNull<u8>,
}

impl Page {
    /// Makes the file of a page.
    pub fn create(path: &Path) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.set_len(PAGE_BYTES as u64)
    }

    /// Maps the page behind a path.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice takes no memory that anybody uses.
        let start =
            unsafe { rustix::mm::mmap(ptr::null_mut(), PAGE_BYTES, protection, MapFlags::SHARED, &file, 0)? };
        Ok(Self { start: NonNull::new(start.cast()).ok_or(Errno::NOMEM)? })
    }

    /// Returns the word at the beginning of a line of 128 bytes.
    pub fn word(&self, line: usize) -> &AtomicU32 {
        assert!(line < PAGE_BYTES / LINE_BYTES, "line {line} is outside of the page");
        // SAFETY: the word lies within the page (checked just above), which stays mapped as long as `self`; it is
        // aligned, since lines are; both processes use atomics only.
        unsafe { AtomicU32::from_ptr(self.start.as_ptr().add(line * LINE_BYTES).cast()) }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: mapped in `open` with this length; words are borrowed from `self`, so none is left.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), PAGE_BYTES) };
    }
}

/// How a side of a raw ping-pong waits for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Looks again and again, in a plain loop.
    Look,
    /// Sleeps in the kernel until the other side calls.
    Sleep,
}

/// Plays ping for `nanos`, and records each round trip.
pub fn ping(ours: &AtomicU32, theirs: &AtomicU32, hold: Hold, nanos: u64, watch: &mut Stopwatch) -> u64 {
    let begin = watch.stamp();
    let mut number = 0;
    loop {
        number = after(number);
        let start = watch.stamp();
        store(ours, number, hold);
        await_change(theirs, number, hold);
        let end = watch.stamp();
        watch.record(watch.nanos(start, end));
        let elapsed = watch.nanos(begin, end);
        if elapsed >= nanos {
            store(ours, STOP, hold);
            return elapsed;
        }
    }
}

/// Plays ping for `nanos` at a fixed rate, and records each round trip from when it was due, looking only.
///
/// A ping that is late is sent at once, and its lateness counts. A few that are not timed come first: with them the
/// other side is awake, and both have the page.
pub fn ping_at_rate(
    ours: &AtomicU32,
    theirs: &AtomicU32,
    rate: u64,
    nanos: u64,
    watch: &mut Stopwatch,
) -> u64 {
    for number in 1..=UNTIMED_PINGS {
        store(ours, number, Hold::Look);
        await_change(theirs, number, Hold::Look);
    }
    let begin = watch.stamp();
    let (mut number, mut sent, mut due) = (UNTIMED_PINGS, 0, 0);
    loop {
        let now = watch.nanos(begin, watch.stamp());
        if now >= nanos {
            store(ours, STOP, Hold::Look);
            return now;
        }
        if now < due {
            continue;
        }
        number = after(number);
        store(ours, number, Hold::Look);
        await_change(theirs, number, Hold::Look);
        let end = watch.nanos(begin, watch.stamp());
        watch.record(end.saturating_sub(due));
        sent += 1;
        due = timing::due(sent, rate);
    }
}

/// Plays pong until the other side stops.
pub fn pong(ours: &AtomicU32, theirs: &AtomicU32, hold: Hold) {
    let mut last = 0;
    loop {
        // Acquire: pairs with the store of `ping`. Nothing else is read because of it, but real messages need it.
        let number = theirs.load(Ordering::Acquire);
        if number == STOP {
            return;
        }
        if number != last {
            store(ours, number, hold);
            last = number;
        } else if hold == Hold::Sleep {
            sleep_while(theirs, number);
        }
    }
}

/// The number of the next ping: neither 0, with which the page begins, nor the one that ends it all.
#[inline]
fn after(number: u32) -> u32 {
    if number == STOP - 1 { 1 } else { number + 1 }
}

#[inline]
fn store(word: &AtomicU32, number: u32, hold: Hold) {
    // Release: pairs with the loads of `await_change` and `pong`.
    word.store(number, Ordering::Release);
    if hold == Hold::Sleep {
        // A sleeper that misses the call looks again after a moment.
        let _ = futex::wake(word, futex::Flags::empty(), 1);
    }
}

#[inline]
fn await_change(word: &AtomicU32, number: u32, hold: Hold) {
    loop {
        // Acquire: pairs with the store of `pong`.
        let seen = word.load(Ordering::Acquire);
        if seen == number {
            return;
        }
        if hold == Hold::Sleep {
            sleep_while(word, seen);
        }
    }
}

/// Sleeps while the word has this value; may end early.
fn sleep_while(word: &AtomicU32, value: u32) {
    let limit = futex::Timespec::try_from(SLEEP_LIMIT).ok();
    let _ = futex::wait(word, futex::Flags::empty(), value, limit.as_ref());
}

/// Ends a ping-pong.
const STOP: u32 = u32::MAX;
const UNTIMED_PINGS: u32 = 1000;
/// Lines of the words of a shared page.
pub const PING_LINE: usize = 0;
/// See [`PING_LINE`].
pub const PONG_LINE: usize = 1;
/// Bytes of a page, of the processors that we measure on.
pub const PAGE_BYTES: usize = 4096;
/// Two cache lines: processors fetch them in pairs.
const LINE_BYTES: usize = 128;
const SLEEP_LIMIT: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_ping_pong_over_a_shared_page_ends_and_counts() {
        let path = std::env::temp_dir().join(format!("ringway-bench-page-{}", std::process::id()));
        for hold in [Hold::Look, Hold::Sleep] {
            Page::create(&path).unwrap();
            let here = Page::open(&path).unwrap();
            let mut watch = Stopwatch::new().unwrap();
            thread::scope(|scope| {
                scope.spawn(|| {
                    let there = Page::open(&path).unwrap();
                    pong(there.word(PONG_LINE), there.word(PING_LINE), hold);
                });
                ping(here.word(PING_LINE), here.word(PONG_LINE), hold, 2_000_000, &mut watch);
            });
            std::fs::remove_file(&path).unwrap();
            assert!(watch.count() > 0);
        }
    }

    #[test]
    fn a_ping_pong_at_a_rate_keeps_to_it() {
        let (ours, theirs) = (AtomicU32::new(0), AtomicU32::new(0));
        let mut watch = Stopwatch::new().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| pong(&theirs, &ours, Hold::Look));
            ping_at_rate(&ours, &theirs, 1000, 20_000_000, &mut watch);
        });
        // 20 are due; however late they are, none is sent before it is due.
        assert!((1..=20).contains(&watch.count()), "{}", watch.count());
    }

    #[test]
    fn usage_only_grows() {
        let before = usage();
        let mut sum = 0_u64;
        while usage().cpu_nanos == before.cpu_nanos {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(usage().cpu_nanos > before.cpu_nanos);
    }

    #[test]
    fn what_the_caller_does_is_not_the_others() {
        let before = usage_of(libc::RUSAGE_THREAD).sleeps;
        thread::scope(|scope| {
            let (wake, sleeper) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || sleeper.recv());
            thread::sleep(Duration::from_millis(1));
            drop(wake);
        });
        let (own, all, others) = (usage_of(libc::RUSAGE_THREAD), usage(), usage_of_others());
        assert!(own.sleeps > before);
        assert!(others.sleeps <= usage().sleeps - own.sleeps && all.sleeps >= own.sleeps);
    }
}
