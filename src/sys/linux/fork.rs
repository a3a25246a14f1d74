//! Tells a process from its forked children without a system call.
//!
//! A fork copies handles but not the segments behind them (`MADV_DONTFORK`), so every handle must
//! notice that it woke up in a child. One page per process is marked `MADV_WIPEONFORK`: the kernel
//! hands the child a zeroed copy. `getpid` is no substitute: it costs a system call, and a pid is
//! reused or equal in another pid namespace.
//!
//! The page is installed with a compare-and-swap and not with `OnceLock`: a fork while another
//! thread holds the lock's "initialising" state would leave the child waiting for ever.
#![allow(unsafe_code)]

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags};

/// Names one process between two forks; a token of the parent is never current in a child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ForkToken(u64);

impl ForkToken {
    /// Returns the token of the running process, created on the first call after a fork.
    ///
    /// # Errors
    /// The OS error of the page's `mmap` or `madvise`, on the process tree's first call only.
    pub(crate) fn current() -> io::Result<ForkToken> {
        let word = generation_word()?;
        // Relaxed: the word carries its whole meaning itself; nothing else is published with it.
        let seen = word.load(Ordering::Relaxed);
        if seen != 0 {
            return Ok(ForkToken(seen));
        }
        // Relaxed: only uniqueness counts, and the counter's modification order gives it. Fork
        // copies the counter, so it is at least every token an ancestor ever handed to us.
        let fresh = GENERATIONS_ISSUED.fetch_add(1, Ordering::Relaxed) + 1;
        match word.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => Ok(ForkToken(fresh)),
            Err(other_thread) => Ok(ForkToken(other_thread)),
        }
    }

    /// Tells whether the running process is the one that made this token.
    ///
    /// # Cost
    /// Two relaxed loads of lines that nobody writes after the first call.
    #[inline(always)]
    pub(crate) fn is_current(self) -> bool {
        // Relaxed: whoever holds a token got it after `current` had stored the pointer, and that
        // hand-over orders the two; a null pointer merely reads as "not current".
        let page = PAGE.load(Ordering::Relaxed);
        if page.is_null() {
            return false;
        }
        // SAFETY: a non-null `PAGE` is the page that `generation_word` mapped readable and
        // writable; it is never unmapped, fork keeps it (zeroed), and only atomics touch it.
        let word = unsafe { &*page };
        // Relaxed: see `current`; the kernel's wipe happened before the child's first instruction.
        word.load(Ordering::Relaxed) == self.0
    }

    /// The token as a number that is never zero, for keeping it in an atomic word.
    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

/// What a process has one of, made when it is first asked for and anew in a child made by fork.
///
/// For threads with their queues: a fork copies the value, but not the thread. No lock, for the reason given above.
pub(crate) struct PerProcess<T> {
    known: AtomicPtr<Owned<T>>,
}

/// A value and the process that made it. Never freed: a child must not drop what it merely has a copy of.
struct Owned<T> {
    owner: ForkToken,
    value: T,
}

impl<T: Send + Sync + 'static> PerProcess<T> {
    /// Makes it empty.
    pub(crate) const fn new() -> Self {
        Self { known: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Returns the value of this process, if it has been made.
    ///
    /// # Cost
    /// Three loads of lines that nobody writes.
    pub(crate) fn get(&'static self) -> Option<&'static T> {
        // Acquire: pairs with the Release side of the exchange in `get_or_make`; the value was written before.
        let known = self.known.load(Ordering::Acquire);
        // SAFETY: a non-null pointer came from `Box::into_raw` in `get_or_make`, and what was installed is never freed
        // or written again. It may be shared, since `T` is `Sync`.
        let owned = unsafe { known.as_ref() };
        owned.filter(|owned| owned.owner.is_current()).map(|owned| &owned.value)
    }

    /// Returns the value of this process, made now if there is none.
    ///
    /// Threads that come at the same time may each make one; all but one of them are dropped again.
    ///
    /// # Errors
    /// What `make` failed with, or the OS error of [`ForkToken::current`].
    pub(crate) fn get_or_make(&'static self, make: impl FnOnce() -> io::Result<T>) -> io::Result<&'static T> {
        if let Some(value) = self.get() {
            return Ok(value);
        }
        let mut fresh = Box::new(Owned { owner: ForkToken::current()?, value: make()? });
        loop {
            // Relaxed: the pointer is only compared; what lies behind it is read by `get`.
            let known = self.known.load(Ordering::Relaxed);
            if let Some(value) = self.get() {
                return Ok(value);
            }
            let raw = Box::into_raw(fresh);
            // Release: pairs with the Acquire load in `get`; publishes the value.
            match self.known.compare_exchange(known, raw, Ordering::Release, Ordering::Relaxed) {
                // SAFETY: just made by `Box::into_raw`, and from here on never freed or written.
                Ok(_) => return Ok(unsafe { &(*raw).value }),
                // SAFETY: just made by `Box::into_raw` and not installed, so nobody else knows it.
                Err(_) => fresh = unsafe { Box::from_raw(raw) },
            }
        }
    }
}

/// Finds the word on the wiped page; maps the page on the first call.
fn generation_word() -> io::Result<&'static AtomicU64> {
    // Acquire: pairs with the Release side of the compare_exchange below in another thread.
    let mut page = PAGE.load(Ordering::Acquire);
    if page.is_null() {
        let fresh = map_wiped_page()?;
        let installed = PAGE.compare_exchange(ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire);
        page = match installed {
            Ok(_) => fresh,
            Err(winner) => {
                // SAFETY: `fresh` is a page that only this call knows about; it lost the race, so
                // no pointer to it exists anywhere.
                unsafe { rustix::mm::munmap(fresh.cast(), rustix::param::page_size())? };
                winner
            }
        };
    }
    // SAFETY: `page` is non-null and was installed above by this or another thread: one readable
    // and writable page, page-aligned, never unmapped, accessed through atomics only.
    Ok(unsafe { &*page })
}

fn map_wiped_page() -> io::Result<*mut AtomicU64> {
    let bytes = rustix::param::page_size();
    // SAFETY: a null hint without MAP_FIXED lets the kernel choose free addresses, so no existing
    // memory is replaced.
    let page = unsafe {
        rustix::mm::mmap_anonymous(
            ptr::null_mut(),
            bytes,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )?
    };
    // SAFETY: the range is exactly the mapping made above; WIPEONFORK changes only what a child
    // of fork sees.
    let wiped = unsafe { rustix::mm::madvise(page, bytes, Advice::LinuxWipeOnFork) };
    if let Err(errno) = wiped {
        // SAFETY: the range is the mapping made above and nobody else knows its address.
        unsafe { rustix::mm::munmap(page, bytes)? };
        return Err(errno.into());
    }
    Ok(page.cast())
}

/// The page that fork zeroes; null until the first token is asked for.
static PAGE: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());

/// Generations issued so far by this process and its ancestors. Ordinary memory: fork copies it.
static GENERATIONS_ISSUED: AtomicU64 = AtomicU64::new(0);
