//! A memory barrier that one process runs on the processors of others (`membarrier`).
//!
//! It lets the waker, who acts on every message, do without a store-load fence: the sleeper pays
//! for both sides, once, when it really parks.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::thread;

use rustix::thread::{MembarrierCommand, MembarrierQuery};

use super::fork::ForkToken;

/// Makes this process a target of everybody's [`barrier_all`]; once per process and fork.
///
/// `true` means that this process is registered or soon will be; [`is_barrier_registered`] says
/// when. Any local process can then interrupt ours with it, so register for trusted peers only.
///
/// # Cost
/// One load once it is registered. In a process with several threads the kernel takes 10-30 ms for
/// it (a grace period), which nobody should wait for, so a thread of its own asks for it.
pub(crate) fn register_barrier() -> bool {
    let Ok(token) = ForkToken::current() else {
        return false;
    };
    let word = move |state: u64| token.number() << STATE_BITS | state;
    // Relaxed: the word is the whole answer.
    let known = REGISTRATION.load(Ordering::Relaxed);
    if known >> STATE_BITS == token.number() {
        return known != word(MISSING);
    }
    // Relaxed: as above; who loses the race leaves it to the winner.
    let claim = REGISTRATION.compare_exchange(known, word(PENDING), Ordering::Relaxed, Ordering::Relaxed);
    if claim.is_err() {
        return true;
    }
    let register = move || {
        let registered = is_barrier_known()
            && rustix::thread::membarrier(MembarrierCommand::RegisterGlobalExpedited).is_ok();
        REGISTRATION.store(word(if registered { REGISTERED } else { MISSING }), Ordering::Relaxed);
        registered
    };
    if thread_count() == Some(1) {
        return register();
    }
    let thread = thread::Builder::new().name("ringway-barrier".into()).spawn(register);
    if thread.is_err() {
        // Perhaps the next connection has more luck.
        REGISTRATION.store(0, Ordering::Relaxed);
    }
    thread.is_ok()
}

/// Says whether this process is registered: from now on it need not fence.
pub(crate) fn is_barrier_registered() -> bool {
    // Relaxed: the kernel had finished before the word was stored, and nothing else is read because of it.
    let known = REGISTRATION.load(Ordering::Relaxed);
    ForkToken::current().is_ok_and(|token| known == token.number() << STATE_BITS | REGISTERED)
}

/// Returns how many threads this process has, if `/proc` says so.
fn thread_count() -> Option<u64> {
    // A directory has a link from its parent, one from itself, and one from each directory in it.
    fs::metadata("/proc/self/task").ok()?.nlink().checked_sub(2)
}

/// Runs a full barrier on every running thread of every registered process, and on our own.
///
/// When it returns, each such thread has passed a point where all its earlier loads and stores
/// were visible before its later ones.
///
/// # Panics
/// Never. Where the kernel has no such barrier only our own thread passes one, so count on more
/// only if the peer said that its [`register_barrier`] returned `true`.
///
/// # Cost
/// One system call that interrupts those processors: 1-10 us.
pub(crate) fn barrier_all() {
    if rustix::thread::membarrier(MembarrierCommand::GlobalExpedited).is_err() {
        // ENOMEM is possible on machines with very many processors; the slow form (milliseconds)
        // allocates nothing. If it is missing too, nobody registered.
        let _ = rustix::thread::membarrier(MembarrierCommand::Global);
    }
    // SeqCst fence: our own half, also where the calls above are not to be had; pairs with the fence in
    // `wait::before_peeks`.
    fence(Ordering::SeqCst);
}

/// Tells whether the kernel has the barrier, without registering for it.
pub(crate) fn is_barrier_known() -> bool {
    let needed = MembarrierQuery::GLOBAL_EXPEDITED | MembarrierQuery::REGISTER_GLOBAL_EXPEDITED;
    rustix::thread::membarrier_query().contains(needed)
}

/// Fork token of the last registration, shifted left, and what became of it; 0: none.
static REGISTRATION: AtomicU64 = AtomicU64::new(0);
const STATE_BITS: u32 = 2;
const MISSING: u64 = 1;
const PENDING: u64 = 2;
const REGISTERED: u64 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn registration_comes_in_the_end_and_stays() {
        let until = Instant::now() + Duration::from_secs(30);
        while register_barrier() && !is_barrier_registered() {
            assert!(Instant::now() < until, "not registered");
            thread::yield_now();
        }
        assert_eq!(register_barrier(), is_barrier_known());
        assert_eq!(is_barrier_registered(), is_barrier_known());
        barrier_all();
    }

    #[test]
    fn threads_are_counted() {
        let before = thread_count().unwrap();
        let (stay, leave) = std::sync::mpsc::channel::<()>();
        let more = thread::spawn(move || leave.recv());
        // Other tests have threads too, which come and go.
        assert!(before >= 1 && thread_count().unwrap() >= 2);
        drop(stay);
        let _ = more.join();
    }
}
